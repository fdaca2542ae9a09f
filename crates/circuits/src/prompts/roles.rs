//! The role of each token of a prompt: a name or an answer, the token after it, BOS, …

use cs_analysis::attention::TokenRole;

use super::tokenize::{Tokenize, encode, with_bos};
use super::{Prompt, PromptError, PromptSet, TokenizedPrompt, TokenizedPrompts};
use crate::task::{Mention, Role, whole_words};

impl PromptSet {
    /// The role of every token (including BOS) of every prompt in `tokenized`, which must be this set's prompts in the
    /// tokens of `tokenizer`.
    ///
    /// # Errors
    /// [`PromptError::Template`] for prompts that are not in this set, [`PromptError::OneToken`] if a prompt's tokens do not
    /// determine the positions of its names, or a tokenizer error.
    pub fn token_roles(
        &self,
        tokenizer: &dyn Tokenize,
        tokenized: &TokenizedPrompts,
    ) -> Result<Vec<Vec<TokenRole>>, PromptError> {
        let mut own = self.prompts.iter();
        let roles = tokenized.prompts.iter().map(|prompt| {
            // Both lists have the same order, but `tokenized` may omit a split.
            let of_set = own.find(|p| p.text == prompt.text).ok_or_else(|| self.no_such(prompt))?;
            self.roles_of(tokenizer, of_set, prompt)
        });
        roles.collect()
    }

    fn no_such(&self, prompt: &TokenizedPrompt) -> PromptError {
        PromptError::Template { task: self.task.name().to_owned(), template: prompt.template.clone() }
    }

    fn roles_of(
        &self,
        tokenizer: &dyn Tokenize,
        prompt: &Prompt,
        tokenized: &TokenizedPrompt,
    ) -> Result<Vec<TokenRole>, PromptError> {
        let mut rendered = self.texts(prompt).ok_or_else(|| self.no_such(tokenized))?.clean;
        if self.task.names().is_none() {
            rendered.mentions = mentions_of_answers(prompt);
        }
        let broken_rule = |reason: String| PromptError::OneToken {
            task: self.task.name().to_owned(),
            model: tokenizer.model().to_owned(),
            text: prompt.text.clone(),
            reason,
            fix: "use the tokenizer that the model was trained with".to_owned(),
        };
        let tokens = encode(tokenizer, &rendered.text)?;
        let ids = &tokenized.token_ids;
        if with_bos(tokenizer, &tokens) != *ids {
            return Err(broken_rule("its tokens are no longer those that were recorded".to_owned()));
        }
        // Tokens before the prompt's own: BOS.
        let n_before = ids.len() - tokens.len();

        let mut names = vec![None; ids.len()];
        let mut after = vec![None; ids.len()];
        let mut mentioned: Vec<&str> = Vec::new();
        for mention in &rendered.mentions {
            let name = rendered.text[mention.span.clone()].trim_start();
            let (role, role_after) = match (mentioned.contains(&name), name == prompt.correct) {
                (true, _) => (TokenRole::Repeated, TokenRole::AfterRepeated),
                (false, true) => (TokenRole::Correct, TokenRole::AfterCorrect),
                (false, false) => (TokenRole::Distractor, TokenRole::AfterDistractor),
            };
            mentioned.push(name);
            // The tokens that contain part of the name itself, without the space before it.
            let start = mention.span.end - name.len();
            let holds = |&k: &usize| {
                let span = &tokens[k].span;
                span.start < mention.span.end && start < span.end
            };
            let own = (0..tokens.len()).filter(holds).map(|k| k + n_before);
            let Some(last) = own.inspect(|&k| names[k] = Some(role)).last() else {
                return Err(broken_rule(format!("no token of it holds '{name}'")));
            };
            if let Some(next) = after.get_mut(last + 1) {
                *next = Some(role_after);
            }
        }
        let role = |k: usize| match names[k] {
            Some(name) => name,
            None if k < n_before => TokenRole::Bos,
            None if k + 1 == ids.len() => TokenRole::Last,
            None if k + 2 == ids.len() => TokenRole::Previous,
            None => after[k].unwrap_or(TokenRole::Other),
        };
        Ok((0..ids.len()).map(role).collect())
    }
}

/// The positions of the answers as whole words in a prompt without names, in order.
fn mentions_of_answers(prompt: &Prompt) -> Vec<Mention> {
    let mut mentions: Vec<Mention> = [(Role::First, &prompt.correct), (Role::Second, &prompt.distractor)]
        .into_iter()
        .flat_map(|(role, answer)| {
            let answer = answer.trim();
            whole_words(&prompt.text, answer)
                .map(move |start| Mention { role, span: start..start + answer.len() })
        })
        .collect();
    mentions.sort_by_key(|mention| mention.span.start);
    mentions
}
