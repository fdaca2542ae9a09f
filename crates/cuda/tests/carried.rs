//! The embedded kernels match the sources in `tools/gpu_kernels`, fit their GPUs, and do not spill registers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs_cuda::Manifest;
use sha2::{Digest, Sha256};

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/gpu_kernels")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn kernels_are_of_their_sources() {
    let manifest = Manifest::carried().unwrap();
    let python = |folder: PathBuf| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "py")).collect::<Vec<PathBuf>>()
    };
    let mut sources = BTreeMap::new();
    for path in python(tools().join("kernels"))
        .into_iter()
        .chain(["variants.py", "compile.py"].map(|f| tools().join(f)))
    {
        let name = path.strip_prefix(tools()).unwrap().to_string_lossy().replace('\\', "/");
        sources.insert(name, hash(&std::fs::read(&path).unwrap()));
    }
    let of_manifest: BTreeMap<String, String> = manifest.sources.into_iter().collect();
    assert_eq!(sources, of_manifest, "run tools/gpu_kernels/make: a kernel's source has changed");
    let archive = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("carried/kernels.zst")).unwrap();
    assert_eq!(hash(&archive), manifest.archive);
    assert!(archive.len() < 6 << 20, "{} bytes", archive.len());
}

#[test]
fn every_architecture_has_all_kernels() {
    let manifest = Manifest::carried().unwrap();
    let of_parts: Vec<(u32, bool)> =
        manifest.parts.iter().map(|part| (part.architecture, part.ptx)).collect();
    let cubins = [80, 86, 89, 90, 100, 120].map(|architecture| (architecture, false));
    assert_eq!(of_parts, [&cubins[..], &[(80, true)]].concat());
    // All parts have the same kernels, except for the tiles of products, which are chosen per architecture.
    let without_tile = |name: &str| match name.rsplit_once('_') {
        Some((name, tile)) if tile.contains('x') => name.to_owned(),
        _ => name.to_owned(),
    };
    let names = |part: &cs_cuda::Part| {
        let names = part.kernels.iter().map(|shape| without_tile(&shape.name));
        names.collect::<BTreeSet<String>>()
    };
    for part in &manifest.parts {
        assert_eq!(names(part), names(&manifest.parts[0]), "{}", part.architecture);
        for (shape, image) in part.images().unwrap() {
            if part.ptx {
                let text = std::str::from_utf8(&image).unwrap();
                assert!(
                    text.ends_with('\0') && text.contains(&format!(".entry {}(", shape.name)),
                    "{}",
                    shape.name
                );
                // The version that a CUDA 12.0 driver can read.
                assert!(text.contains(".version 8.0") && text.contains(".target sm_80"), "{}", shape.name);
            } else {
                assert!(image.starts_with(b"\x7fELF"), "{}", shape.name);
                // The architecture is in the flags of the ELF header: in their first byte, or in their second from sm_100 on.
                let architecture = image[if image[8] < 8 { 48 } else { 49 }];
                assert_eq!(u32::from(architecture), part.architecture, "{}", shape.name);
            }
        }
    }
}

/// Registers per multiprocessor, and maximum shared memory per block, by architecture.
const CARDS: [(u32, u32, u32); 6] = [
    (80, 65_536, 163 << 10),
    (86, 65_536, 99 << 10),
    (89, 65_536, 99 << 10),
    (90, 65_536, 227 << 10),
    (100, 65_536, 227 << 10),
    (120, 65_536, 99 << 10),
];

#[test]
fn nothing_spills_and_everything_fits() {
    let table =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("carried/resources.csv")).unwrap();
    let manifest = Manifest::carried().unwrap();
    let mut rows = table.lines();
    assert_eq!(rows.next(), Some("architecture,kernel,threads,registers,stack,shared"));
    let mut n = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(',').collect();
        let number = |i: usize| cells[i].parse::<u32>().unwrap();
        let (architecture, threads, registers, stack, shared) =
            (number(0), number(2), number(3), number(4), number(5));
        let (_, of_card, most_shared) = CARDS.into_iter().find(|card| card.0 == architecture).unwrap();
        assert_eq!(stack, 0, "spills: {row}");
        assert!(threads * registers <= of_card && shared <= most_shared, "{row}");
        n += 1;
    }
    let cubins = manifest.parts.iter().filter(|part| !part.ptx);
    assert_eq!(n, cubins.map(|part| part.kernels.len()).sum::<usize>());
}
