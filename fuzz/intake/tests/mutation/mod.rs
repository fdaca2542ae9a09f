//! Mutations of valid files, the same ones every time.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Snippets that parsers may stumble over, inserted anywhere.
const DICTIONARY: [&[u8]; 28] = [
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b"\"\"",
    b"99999999999999999999",
    b"18446744073709551615",
    b"4294967296",
    b"\0",
    b"\n",
    b"\r\n",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\xff",
    b"\xc3\x28",
    b"../",
    b"true",
    b"[[",
    b"{\"a\":",
    b"=",
    b"\xef\xbb\xbf",
    b"9223372036854775807",
];

/// Mutations of `good`, one after the other.
pub fn mutants(good: &[u8], n: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..n).map(move |seed| mutant(good, seed))
}

/// The mutation with this number.
fn mutant(good: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let mut bytes = good.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        let end = bytes.len().min(at + 1 + below(40));
        match below(7) {
            0 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => bytes.truncate(at),
            5 => {
                let word = DICTIONARY[below(DICTIONARY.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                // Replaces a whole number, or whatever else is there.
                let word = DICTIONARY[below(DICTIONARY.len())];
                let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.';
                let start = (0..at).rev().find(|&i| !is_word(&bytes[i])).map_or(0, |i| i + 1);
                let stop = (at..bytes.len()).find(|&i| !is_word(&bytes[i])).unwrap_or(bytes.len());
                bytes.splice(start..stop, word.iter().copied());
            }
        }
    }
    bytes
}
