//! The prefix forest: every distinct (prefix, token) pair of a batch of prompts, once.
//!
//! Under a causal mask the activations at a token depend only on the tokens up to it, so prompts with a common prefix
//! share its activations. A [`Forest`] is the trie of all prompts: node `i` is one token after one prefix. Linear
//! layers then run on one packed matrix of all nodes, `[n_nodes, d_model]`, without padding, and attention at a node
//! reads the node and its ancestors.
//!
//! Some interventions make prompts differ even if their tokens agree (for example, a value taken from *this* prompt's
//! source). [`Forest::keyed`] then distinguishes nodes by a key in addition to the token.
//!
//! ```
//! use cs_engine::forest::Forest;
//!
//! let forest = Forest::new(&[&[0, 5, 7][..], &[0, 5, 9], &[0, 5, 7]])?;
//! assert_eq!(forest.n_nodes(), 4); // 0, 0 5, 0 5 7, 0 5 9
//! assert_eq!(forest.end(0), forest.end(2));
//! assert_eq!(forest.path(forest.end(1)), [0, 1, 3]);
//! # Ok::<(), cs_engine::forest::ForestError>(())
//! ```

/// Marks "no parent" in [`Forest`]'s array of parents.
const ROOT: u32 = u32::MAX;

/// Why a forest cannot be built from prompts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForestError {
    /// A prompt without tokens has no last token.
    #[error("prompt {index} has no tokens: every prompt needs at least its BOS token")]
    EmptyPrompt {
        /// Index of the prompt.
        index: usize,
    },
    /// There must be one key per token.
    #[error("prompt {index} has {n_tokens} tokens but {n_keys} keys: give one key per token")]
    KeyLength {
        /// Index of the prompt.
        index: usize,
        /// Number of tokens.
        n_tokens: usize,
        /// Number of keys.
        n_keys: usize,
    },
    /// Node indices are `u32`.
    #[error("{total} tokens are more than a forest can number: give fewer or shorter prompts")]
    TooLarge {
        /// Total number of tokens.
        total: usize,
    },
}

/// A trie of prompts. Parents have smaller numbers than their children, and a node's descendants follow it directly
/// (depth-first order), so neighbours in memory share most of their ancestors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forest {
    tokens: Vec<u32>,    // [n_nodes]
    parents: Vec<u32>,   // [n_nodes], ROOT where there is none
    positions: Vec<u32>, // [n_nodes]
    ends: Vec<u32>,      // [n_prompts]
}

impl Forest {
    /// The forest of `prompts`, each a list of token ids starting with BOS.
    ///
    /// # Errors
    /// If a prompt is empty, or there are more than `u32::MAX` tokens in total.
    pub fn new<P: AsRef<[u32]>>(prompts: &[P]) -> Result<Self, ForestError> {
        Self::build(prompts, |_, _| 0)
    }

    /// As [`Forest::new`], but prompts share a node only where tokens *and* keys agree up to it.
    ///
    /// # Errors
    /// As [`Forest::new`]; also if a prompt does not have one key per token.
    pub fn keyed<P: AsRef<[u32]>, K: AsRef<[u32]>>(prompts: &[P], keys: &[K]) -> Result<Self, ForestError> {
        for (index, prompt) in prompts.iter().enumerate() {
            let n_tokens = prompt.as_ref().len();
            let n_keys = keys.get(index).map_or(0, |k| k.as_ref().len());
            if n_keys != n_tokens {
                return Err(ForestError::KeyLength { index, n_tokens, n_keys });
            }
        }
        Self::build(prompts, |prompt, position| keys[prompt].as_ref()[position])
    }

    fn build<P: AsRef<[u32]>>(prompts: &[P], key: impl Fn(usize, usize) -> u32) -> Result<Self, ForestError> {
        let total: usize = prompts.iter().map(|p| p.as_ref().len()).sum();
        if total >= ROOT as usize {
            return Err(ForestError::TooLarge { total });
        }
        if let Some(index) = prompts.iter().position(|p| p.as_ref().is_empty()) {
            return Err(ForestError::EmptyPrompt { index });
        }
        // In sorted order a prompt shares its longest known prefix with its predecessor, and nodes are
        // created depth-first.
        let symbol = |i: usize, p: usize| (prompts[i].as_ref()[p], key(i, p));
        let symbols = |i: usize| (0..prompts[i].as_ref().len()).map(move |p| symbol(i, p));
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by(|&a, &b| symbols(a).cmp(symbols(b)));

        let mut forest =
            Forest { tokens: vec![], parents: vec![], positions: vec![], ends: vec![ROOT; prompts.len()] };
        let mut path: Vec<u32> = Vec::new(); // nodes of the prompt before
        let mut previous: Option<usize> = None;
        for &i in &order {
            let shared = previous
                .map_or(0, |before| symbols(before).zip(symbols(i)).take_while(|(a, b)| a == b).count());
            path.truncate(shared);
            for (position, &token) in prompts[i].as_ref().iter().enumerate().skip(shared) {
                let node = forest.tokens.len() as u32;
                forest.tokens.push(token);
                forest.parents.push(path.last().copied().unwrap_or(ROOT));
                forest.positions.push(position as u32);
                path.push(node);
            }
            forest.ends[i] = path[path.len() - 1];
            previous = Some(i);
        }
        Ok(forest)
    }

    /// Number of distinct (prefix, token) pairs.
    pub fn n_nodes(&self) -> usize {
        self.tokens.len()
    }

    /// Number of prompts, including duplicates.
    pub fn n_prompts(&self) -> usize {
        self.ends.len()
    }

    /// Token id of every node, `[n_nodes]`.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of every node in its prompts, BOS at 0, `[n_nodes]`.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The node of a prompt's last token.
    pub fn end(&self, prompt: usize) -> u32 {
        self.ends[prompt]
    }

    /// Nodes of all prompts' last tokens, `[n_prompts]`.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The preceding node, or `None` at a prompt's first token.
    pub fn parent(&self, node: u32) -> Option<u32> {
        Some(self.parents[node as usize]).filter(|&p| p != ROOT)
    }

    /// Length of the longest prompt, in tokens.
    pub fn max_len(&self) -> usize {
        self.positions.iter().max().map_or(0, |&p| p as usize + 1)
    }

    /// From the first token's node down to `node` itself.
    pub fn path(&self, node: u32) -> Vec<u32> {
        let mut path = Vec::new();
        self.path_into(node, None, &mut path);
        path
    }

    /// Writes into `path` the nodes that a query at `node` attends to, in order of position: itself and its
    /// ancestors, or the last `window` of them.
    pub fn path_into(&self, node: u32, window: Option<usize>, path: &mut Vec<u32>) {
        path.clear();
        let len = self.positions[node as usize] as usize + 1;
        let seen = window.map_or(len, |w| w.min(len));
        path.resize(seen, node);
        let mut at = node;
        for slot in path.iter_mut().rev() {
            *slot = at;
            at = self.parents[at as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_prefixes_are_stored_once() {
        let prompts = [vec![1, 2, 3], vec![1, 2], vec![4], vec![1, 2, 3], vec![1, 5]];
        let forest = Forest::new(&prompts).unwrap();
        assert_eq!(forest.n_nodes(), 5);
        for (i, prompt) in prompts.iter().enumerate() {
            let path = forest.path(forest.end(i));
            let tokens: Vec<u32> = path.iter().map(|&n| forest.tokens()[n as usize]).collect();
            assert_eq!(&tokens, prompt);
            let positions: Vec<u32> = path.iter().map(|&n| forest.positions()[n as usize]).collect();
            assert_eq!(positions, (0..prompt.len() as u32).collect::<Vec<_>>());
        }
        assert_eq!(forest.end(0), forest.end(3));
        assert_eq!(forest.max_len(), 3);
    }

    #[test]
    fn keys_tell_nodes_apart() {
        let prompts = [vec![1, 2], vec![1, 2]];
        let forest = Forest::keyed(&prompts, &[vec![0, 0], vec![0, 1]]).unwrap();
        assert_eq!(forest.n_nodes(), 3);
        assert_ne!(forest.end(0), forest.end(1));
        assert_eq!(forest.parent(forest.end(0)), forest.parent(forest.end(1)));
    }

    #[test]
    fn windows_keep_the_nearest() {
        let forest = Forest::new(&[vec![1, 2, 3, 4]]).unwrap();
        let mut path = Vec::new();
        forest.path_into(3, Some(2), &mut path);
        assert_eq!(path, [2, 3]);
        forest.path_into(1, Some(9), &mut path);
        assert_eq!(path, [0, 1]);
    }

    #[test]
    fn errors_name_the_prompt() {
        let none: [Vec<u32>; 2] = [vec![1], vec![]];
        assert_eq!(Forest::new(&none), Err(ForestError::EmptyPrompt { index: 1 }));
        let keys = Forest::keyed(&[vec![1, 2]], &[vec![0]]);
        assert_eq!(keys, Err(ForestError::KeyLength { index: 0, n_tokens: 2, n_keys: 1 }));
    }
}
