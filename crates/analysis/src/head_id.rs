//! A head by layer and index, written `L9H6`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An attention head of a model: `L9H6` in text and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeadId {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
}

impl HeadId {
    /// All heads of a model, ordered by layer and head.
    pub fn all(n_layers: u32, n_heads: u32) -> impl Iterator<Item = Self> {
        (0..n_layers).flat_map(move |layer| (0..n_heads).map(move |head| Self { layer, head }))
    }
}

impl fmt::Display for HeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}H{}", self.layer, self.head)
    }
}

impl FromStr for HeadId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (layer, head) = text.strip_prefix(['L', 'l'])?.split_once(['H', 'h'])?;
            let number =
                |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
            Some(Self { layer: number(layer)?, head: number(head)? })
        };
        parse()
            .ok_or_else(|| format!("`{text}` is not a head: write layer and head, both from 0, as in L9H6"))
    }
}

impl TryFrom<String> for HeadId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HeadId> for String {
    fn from(id: HeadId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, layer, head) in [("L0H0", 0, 0), ("l9h6", 9, 6), ("L31H11", 31, 11)] {
            assert_eq!(text.parse(), Ok(HeadId { layer, head }));
            assert_eq!(HeadId { layer, head }.to_string(), text.to_uppercase());
        }
        for bad in ["", "9.6", "L9", "LH", "L9H", "L-1H2", "L1H+2", "L1H2H3", "L99999999999H0", "L1 H2"] {
            assert!(bad.parse::<HeadId>().is_err(), "{bad}");
        }
        assert_eq!(HeadId::all(2, 3).count(), 6);
    }
}
