//! Names of models and tasks as parts of file names.

use sha2::{Digest, Sha256};

/// A model's or a task's name as part of a file name: Hugging Face ids and paths contain characters that file names
/// must not.
///
/// `/` becomes `--`. If that could make two names equal, or if anything else had to be replaced or truncated, eight
/// hex digits of the name's SHA-256 follow, so that different models never share a file.
#[must_use]
pub fn file_safe_name(model: &str) -> String {
    const LONGEST: usize = 100;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '=' | '+');
    let mut safe: String =
        model.replace('/', "--").chars().map(|c| if is_plain(c) { c } else { '_' }).take(LONGEST).collect();
    let unambiguous = model.chars().all(|c| is_plain(c) || c == '/')
        && !model.contains("--")
        && !model.contains("-/")
        && !model.contains("/-")
        && !model.starts_with(['.', '/', '-'])
        && model.len() <= LONGEST / 2
        && !model.is_empty();
    if !unambiguous {
        let digest = Sha256::digest(model.as_bytes());
        let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        safe = format!("{}-{hex}", safe.trim_start_matches(['.', '-']));
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_models_never_share_a_file() {
        assert_eq!(file_safe_name("pythia-1.4b"), "pythia-1.4b");
        assert_eq!(file_safe_name("EleutherAI/pythia-70m"), "EleutherAI--pythia-70m");
        assert_eq!(file_safe_name("pythia-70m@step1000"), "pythia-70m@step1000");
        assert_eq!(file_safe_name("lr=1e-3+wd"), "lr=1e-3+wd");
        let awkward = [
            "a/b",
            "a--b",
            "a-/-b",
            "a/-b",
            "a-/b",
            "/a/b",
            "./a/b",
            "../a/b",
            "a b",
            "a\\b",
            "a_b",
            "",
            "é",
            "è",
            "..",
            "-a",
            "модель 1",
            "模型",
            "a@b",
            "a=b",
            "a+b",
            "a\nb",
        ];
        let mut names: Vec<String> = awkward.iter().map(|n| file_safe_name(n)).collect();
        names.push(file_safe_name(&"x".repeat(300)));
        names.push(file_safe_name(&"x".repeat(301)));
        for name in &names {
            assert!(name.len() <= 110 && !name.starts_with('.') && !name.contains(['/', '\\']), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), awkward.len() + 2);
    }
}
