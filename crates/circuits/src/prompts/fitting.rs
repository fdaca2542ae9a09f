//! Names for the twins and reference prompts of the published form, with as many tokens as the prompt's own name at each position.
//!
//! A name of the published study can be several tokens, and the study may have no other names of that length, so further
//! names are used if its own are too few. They are never answers: the candidate answers stay those of the task.

use super::draw::Draw;
use super::tokenize::{Tokenize, encode};
use super::{Prompt, PromptError};
use crate::task::{Names, Order, Pattern};

/// Names of one, two and three tokens in the usual vocabularies.
#[rustfmt::skip]
const FURTHER: [&str; 140] = [
    "Nadia", "Farah", "Ravi", "Anika", "Bianca", "Yusuf", "Priya", "Kenji", "Sofia", "Elena", "Marta", "Lena", "Nina", "Dina",
    "Tina", "Rina", "Mina", "Gina", "Lara", "Mara", "Tara", "Zara", "Kira", "Mira", "Vera", "Nora", "Dora", "Cora", "Thora",
    "Freya", "Ingrid", "Astrid", "Sven", "Lars", "Bjorn", "Magnus", "Olaf", "Katya", "Tanya", "Sonya", "Anya", "Vanya", "Misha",
    "Sasha", "Dasha", "Natasha", "Irina", "Galina", "Polina", "Karina", "Marina", "Darina", "Yuki", "Akira", "Haruka", "Sakura",
    "Hiro", "Taro", "Jiro", "Mei", "Wei", "Ling", "Jing", "Xiu", "Bao", "Rohan", "Arjun", "Kiran", "Varun", "Tarun", "Deepa",
    "Meera", "Leela", "Asha", "Usha", "Nisha", "Rekha", "Fatima", "Aisha", "Zainab", "Khadija", "Amina", "Samira", "Leila",
    "Layla", "Yasmin", "Jamila", "Kofi", "Kwame", "Ama", "Abena", "Chidi", "Ngozi", "Emeka", "Hattie", "Lottie", "Dottie",
    "Gretel", "Heinrich", "Wolfgang", "Dieter", "Gunther", "Ulrich", "Siobhan", "Niamh", "Aoife", "Ciaran", "Padraig", "Eoin",
    "Roisin", "Benedetta", "Giulia", "Alessia", "Ottavia", "Lorenzo", "Matteo", "Alessandro", "Francesca", "Chiara", "Beatriz",
    "Joaquim", "Catarina", "Thiago", "Tiago", "Rafaela", "Mateus", "Mallory", "Heidi", "Lina", "Mia", "Judy", "Ivan", "Liam",
    "Raj", "Omar", "Chen", "Sara", "Ivy", "Noah", "Zoe",
];

/// Maximum number of draws of names for one twin or reference prompt; nearly always one fits.
const MAX_TRIES: usize = 100;

/// Whether a name is one of the further names.
pub(super) fn is_further(name: &str) -> bool {
    FURTHER.contains(&name)
}

/// The names that fit at each position of a published form.
pub(super) struct Fitting<'a> {
    tokenizers: &'a [&'a dyn Tokenize],
    /// The form's own names, then the task's others and further ones.
    names: Vec<&'a str>,
    n_own: usize,
    /// Tokens of the form in each tokenizer with each name at `{first}`, `{second}`, `{repeated}` and fixed names at the
    /// other positions: equal for names of equal length. `[3][n_names][n_tokenizers]`
    lengths: [Vec<Vec<usize>>; 3],
}

impl<'a> Fitting<'a> {
    pub fn new(
        pattern: &Pattern,
        own: &'a [String],
        others: &'a Names,
        tokenizers: &'a [&'a dyn Tokenize],
    ) -> Result<Self, PromptError> {
        let mut names: Vec<&str> = own.iter().map(String::as_str).collect();
        for name in others.all().chain(FURTHER) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut lengths = [vec![], vec![], vec![]];
        for (place, lengths) in lengths.iter_mut().enumerate() {
            for name in &names {
                let mut at = [0, 1, 2].map(|i| own.get(i % own.len().max(1)).map_or("", String::as_str));
                at[place] = name;
                let text =
                    pattern.render(at[0], at[1], at[2], &Default::default()).map(|rendered| rendered.text);
                lengths.push(lengths_of(tokenizers, &text.unwrap_or_default())?);
            }
        }
        Ok(Self { tokenizers, names, n_own: own.len(), lengths })
    }

    /// The result of `make` for names that fit a prompt, all different and none of them the prompt's; each of `roles`
    /// lists the positions of one name. The form's own names are used if enough of them have the right length.
    ///
    /// # Errors
    /// If a tokenizer fails.
    pub fn draw<T>(
        &self,
        draw: &mut Draw,
        prompt: &Prompt,
        roles: &[&[usize]],
        make: impl Fn(&[&str]) -> Option<(T, String)>,
    ) -> Result<Option<T>, PromptError> {
        let order = prompt.order.unwrap_or(Order::First);
        let (repeated, _) = order.repeated_and_other(&prompt.first, &prompt.second);
        let wanted = [prompt.first.as_str(), prompt.second.as_str(), repeated];
        let own_length = lengths_of(self.tokenizers, &prompt.text)?;
        let candidates: Vec<Vec<&str>> = (roles.iter())
            .map(|places| {
                let own = self.candidates(self.n_own, places, wanted);
                if own.len() < roles.len() { self.candidates(self.names.len(), places, wanted) } else { own }
            })
            .collect();
        for _ in 0..MAX_TRIES {
            let mut drawn: Vec<&str> = Vec::new();
            for names in &candidates {
                let free: Vec<&str> = names.iter().copied().filter(|name| !drawn.contains(name)).collect();
                drawn.extend(free.get(draw.below(free.len())));
            }
            if drawn.len() < roles.len() {
                continue;
            }
            let Some((made, text)) = make(&drawn) else { break };
            if lengths_of(self.tokenizers, &text)? == own_length {
                return Ok(Some(made));
            }
        }
        Ok(None)
    }

    /// Those of the first `n_names` names that are as long as the prompt's at all given positions.
    fn candidates(&self, n_names: usize, places: &[usize], prompt: [&str; 3]) -> Vec<&'a str> {
        let fits = |&at: &usize| {
            let as_long = |&place: &usize| {
                let of =
                    |name: &str| self.names.iter().position(|n| *n == name).map(|n| &self.lengths[place][n]);
                of(prompt[place]) == Some(&self.lengths[place][at])
            };
            !prompt.contains(&self.names[at]) && places.iter().all(as_long)
        };
        (0..n_names).filter(fits).map(|at| self.names[at]).collect()
    }
}

/// Tokens of a text in each tokenizer.
fn lengths_of(tokenizers: &[&dyn Tokenize], text: &str) -> Result<Vec<usize>, PromptError> {
    tokenizers.iter().map(|tokenizer| Ok(encode(*tokenizer, text)?.len())).collect()
}
