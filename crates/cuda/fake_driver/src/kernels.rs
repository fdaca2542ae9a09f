//! The kernels of the program's manifest, by name.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use serde_json::Value;

use crate::launch::Launch;
use crate::memory::Memory;
use crate::{attention, product, rows};

type Run = fn(&mut Launch<'_>);

/// Functions by prefix of the kernel's name, longer prefixes first.
const FUNCTIONS: [(&str, Run); 18] = [
    ("product_act_", product::activated),
    ("product_gate_", product::gated),
    ("product_f32_", product::float32),
    ("product_", product::parts),
    ("norm_delta_", rows::norm_delta),
    ("norm_", rows::norm),
    ("rotate", rows::rotate),
    ("cut", rows::cut),
    ("activate_delta_", rows::activate_delta),
    ("activate_", rows::activate),
    ("add", rows::add),
    ("gather", rows::gather),
    ("put_z_", rows::put_z),
    ("dots", rows::dots),
    ("attend_again_", attention::again),
    ("attend_odd_", attention::odd),
    ("attend_", attention::all),
    ("", |launch| panic!("no kernel {}", launch.variant)),
];

fn shapes() -> &'static [Value] {
    static SHAPES: OnceLock<Vec<Value>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let manifest: Value =
            serde_json::from_str(include_str!("../../carried/manifest.json")).expect("JSON");
        let parts = manifest["parts"].as_array().expect("a list of parts");
        let capability = crate::setting("FAKE_CUDA_CAPABILITY").unwrap_or(crate::CAPABILITY);
        let own = parts.iter().find(|part| part["architecture"] == capability && part["ptx"] == false);
        let part =
            own.or_else(|| parts.iter().find(|part| part["ptx"] == true)).expect("a part for the card");
        part["kernels"].as_array().expect("a list of kernels").clone()
    })
}

pub fn index(name: &str) -> Option<usize> {
    shapes().iter().position(|shape| shape["name"] == name)
}

/// Runs a kernel; `false` if it failed.
///
/// # Safety
/// `arguments` must have one element per parameter of the kernel.
pub unsafe fn run(
    index: usize,
    grid: [usize; 3],
    (threads, shared): (u32, u32),
    arguments: *mut *mut c_void,
    memory: &Memory,
) -> bool {
    let shape = &shapes()[index];
    let name = shape["name"].as_str().expect("a name");
    let (prefix, run) =
        FUNCTIONS.into_iter().find(|(prefix, _)| name.starts_with(prefix)).expect("the last fits all");
    // SAFETY: the caller's.
    let mut launch = unsafe { Launch::new(grid, shape, &name[prefix.len()..], arguments, memory) };
    let body = || {
        assert_eq!(u64::from(threads), 32 * shape["warps"].as_u64().expect("warps"), "threads of {name}");
        assert_eq!(
            u64::from(shared),
            shape["shared"].as_u64().expect("shared memory"),
            "shared memory of {name}"
        );
        run(&mut launch);
    };
    catch_unwind(AssertUnwindSafe(body)).is_ok()
}
