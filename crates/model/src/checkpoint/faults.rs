//! Messages for invalid weight files.

use safetensors::SafeTensorError;

use super::torch::{PickleError, TorchError};
use crate::error::LoadError;

/// Recognizes common files that are not weights at all.
fn not_weights(label: &str, bytes: &[u8]) -> Option<LoadError> {
    if !bytes.starts_with(b"version https://git-lfs") {
        return None;
    }
    Some(LoadError::Malformed {
        file: label.to_owned(),
        problem: "is a Git LFS pointer, not the weights themselves".to_owned(),
        fix: "run `git lfs pull`".to_owned(),
    })
}

pub(super) fn torch_error(label: &str, bytes: &[u8], error: &TorchError) -> LoadError {
    not_weights(label, bytes).unwrap_or_else(|| LoadError::Malformed {
        file: label.to_owned(),
        problem: error.to_string(),
        fix: match error {
            TorchError::Pickle(PickleError::Global(_) | PickleError::Opcode { .. }) => {
                "do not open it with torch.load either, unless you trust its author"
            }
            TorchError::NoStateDict(_) => "save model.state_dict() itself",
            _ => "fetch it again, or save it again as model.safetensors",
        }
        .to_owned(),
    })
}

/// The message for a broken header, with what is known about the file.
pub(super) fn header_error(label: &str, bytes: &[u8], error: &SafeTensorError) -> LoadError {
    let malformed = |problem: String, fix: &str| LoadError::Malformed {
        file: label.to_owned(),
        problem,
        fix: fix.to_owned(),
    };
    if let Some(error) = not_weights(label, bytes) {
        return error;
    }
    let len = bytes.len();
    let problem = match error {
        SafeTensorError::HeaderTooSmall => {
            format!("is truncated: {len} bytes are too few for a safetensors header")
        }
        SafeTensorError::InvalidHeaderLength => {
            format!("is truncated or not a safetensors file: its header would be longer than its {len} bytes")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("is truncated or damaged: its header does not match its {len} bytes")
        }
        SafeTensorError::InvalidOffset(name) => {
            format!(
                "is damaged: the offsets of tensor {name:?} overlap others, leave a gap, or run backwards"
            )
        }
        SafeTensorError::TensorInvalidInfo => {
            "is damaged: a tensor's offsets disagree with its shape and type".to_owned()
        }
        SafeTensorError::HeaderTooLarge => {
            "is not a safetensors file: its header would be over 100 MB".to_owned()
        }
        other => format!("has a broken safetensors header ({other})"),
    };
    malformed(problem, "fetch it again")
}
