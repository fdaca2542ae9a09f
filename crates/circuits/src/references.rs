//! Checks whether prompts can be ablated as requested, and if not, what to request instead.

use crate::prompts::{
    MAX_PROMPTS, PromptError, PromptOptions, PromptSet, Protocol, Reference, Split, Tokenize,
};
use crate::scan::{ScanOptions, require_references};
use crate::task::Task;

/// The maximum number of prompts to try before reporting that no number helps: by then all of a task's pairs of names
/// have occurred.
const MOST_TRIED: usize = 16_384;

/// Rejects prompts that cannot be ablated as requested in some tokenizer, before any of them is recorded. The error's advice
/// has been tested.
///
/// # Errors
/// Those of [`PromptSet::resolve`], [`PromptError::NoReference`] and [`PromptError::NothingToAverage`].
pub fn check_references(
    task: &Task,
    options: &PromptOptions,
    tokenizers: &[&dyn Tokenize],
    scan: ScanOptions,
) -> Result<(), PromptError> {
    let check = |options: &PromptOptions, scan: ScanOptions| -> Result<(), PromptError> {
        let set = PromptSet::resolve(task, options, tokenizers)?;
        let tokenized = tokenizers.iter().map(|&tokenizer| set.tokenize(tokenizer));
        tokenized.into_iter().try_for_each(|prompts| require_references(&prompts?, Split::All, scan))
    };
    let Err(mut error) = check(options, scan) else { return Ok(()) };
    let now = match &error {
        PromptError::NothingToAverage { prompts, .. } => Some(*prompts),
        PromptError::NoReference { .. } => None,
        _ => return Err(error),
    };
    let (mut ways, mut before) = (Vec::new(), "");
    if let (Some(now), Some(numbers)) = (now, now.and_then(|now| numbers_to_try(task, options.protocol, now)))
    {
        let with = |n: usize| PromptOptions { n_prompts: Some(n), ..options.clone() };
        match numbers.into_iter().find(|&n| check(&with(n), scan).is_ok()) {
            Some(n) => ways.push(format!("ask for {n} prompts instead of {now} (--prompts)")),
            None => before = "no number of prompts helps: ",
        }
    }
    let other = match scan.reference {
        Reference::Abc => Reference::Same,
        Reference::Same => Reference::Abc,
    };
    if check(options, ScanOptions { reference: other, ..scan }).is_ok() {
        ways.push(format!("use --reference {other}"));
    }
    let standard = PromptOptions { protocol: Protocol::Standard, n_prompts: None, ..options.clone() };
    if options.protocol == Protocol::Published && check(&standard, scan).is_ok() {
        ways.push("use --protocol standard".to_owned());
    }
    if let PromptError::NothingToAverage { fix, .. } | PromptError::NoReference { fix, .. } = &mut error {
        // Rows of a file can be corrected in the file.
        let last = if matches!(task, Task::Rows(_)) { &**fix } else { "use --ablation zero" };
        ways.push(last.to_owned());
        *fix = format!("{before}{}", ways.join(", or ")).into();
    }
    Err(error)
}

/// Numbers of prompts above `now`, ascending: two for each template and split, which is enough if a template's prompts
/// are equally long, then more and more. `None` for a file, whose number of prompts is fixed.
fn numbers_to_try(task: &Task, protocol: Protocol, now: u64) -> Option<Vec<usize>> {
    let n_templates = match task {
        Task::Names(task) => task.templates.len(),
        Task::Words(task) => task.templates.len(),
        Task::Rows(_) => return None,
    };
    let now = usize::try_from(now).unwrap_or(MAX_PROMPTS);
    let two_each = if protocol == Protocol::Standard { 4 * n_templates } else { 2 };
    let doubled = std::iter::successors(Some(2 * now.max(1)), |n| Some(2 * n));
    let first = Some(two_each).filter(|&n| n > now);
    Some(first.into_iter().chain(doubled.take_while(|&n| n <= MOST_TRIED)).collect())
}
