//! Documents and comments name only existing files: relative links and paths in backticks resolve.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders of a user's study that share their names with folders of the repository.
const OF_STUDIES: [&str; 2] = ["parts", "results"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file and folder of the repository, relative to its root, with the text of files that have prose; `None` for folders.
fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, Option<String>>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == "target" || name == "__pycache__" || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        let path = folder.join(&name);
        if root.join(&path).join(".circuit-scaling").exists() {
            continue; // a study, such as the README's first command leaves
        }
        if entry.file_type().unwrap().is_dir() {
            found.insert(path.clone(), None);
            walk(root, &path, found);
        } else {
            let has_prose = name.ends_with(".md") || name.ends_with(".rs");
            let text = has_prose.then(|| fs::read_to_string(root.join(&path)).unwrap());
            found.insert(path, Some(text.unwrap_or_default()));
        }
    }
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// A document without its code blocks, or the comments of a source file.
fn prose(path: &Path, text: &str) -> Option<String> {
    match path.extension()?.to_str()? {
        "md" => Some(text.split("```").step_by(2).collect()),
        "rs" => {
            let comments = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
            Some(comments.collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    }
}

/// Whether a code span looks like a path without placeholders.
fn is_path(span: &str) -> bool {
    span.contains('/') && span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

#[test]
fn links_and_paths_in_documents_resolve() {
    let mut found = BTreeMap::new();
    walk(&root(), Path::new(""), &mut found);
    let folders: BTreeSet<_> = found
        .iter()
        .filter(|(_, text)| text.is_none())
        .filter_map(|(path, _)| path.file_name()?.to_str())
        .filter(|name| !OF_STUDIES.contains(name))
        .collect();
    // Leading folders may be left out: `engine/src/reference`.
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        found.keys().any(|p| p.ends_with(path) || p.with_extension("").ends_with(path))
    };
    let mut problems = Vec::new();
    let mut checked = [0, 0];
    for (file, text) in &found {
        let Some(text) = text.as_deref().and_then(|text| prose(file, text)) else { continue };
        if file.extension().is_some_and(|e| e == "md") {
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = link.split('#').next().unwrap_or_default();
                if target.is_empty() || link.contains(':') {
                    continue;
                }
                checked[0] += 1;
                let target = normal(&file.with_file_name(target));
                if !found.contains_key(&target) {
                    problems.push(format!("{}: link to {link}", file.display()));
                }
            }
        }
        for line in text.lines() {
            for span in line.split('`').skip(1).step_by(2).filter(|span| is_path(span)) {
                if span.split('/').next().is_some_and(|first| folders.contains(first)) {
                    checked[1] += 1;
                    if !exists(span) {
                        problems.push(format!("{}: `{span}`", file.display()));
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked[0] > 40 && checked[1] > 60, "{checked:?}: are links and paths still found?");
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() < 90);
}
