//! Counts in sentences, with nouns that agree in number.

/// A whole number with commas between thousands.
#[must_use]
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun in the singular or plural.
#[must_use]
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_nouns() {
        let heads = |n| counted(n, "head", "heads");
        assert_eq!([0, 1, 2, 1_200].map(heads), ["0 heads", "1 head", "2 heads", "1,200 heads"]);
    }
}
