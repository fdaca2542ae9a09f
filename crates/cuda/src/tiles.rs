//! The choice of tiles for products: `carried/tiles.csv`, which the example `tiles` writes on a GPU.
//!
//! | column | what |
//! |---|---|
//! | `architecture` | of the kernels' part in the archive |
//! | `kernel` | the product's name without the tile |
//! | `rows`, `inner`, `columns` | the shape: rows, summed dimension, columns |
//! | `tile` | the fastest: rows x columns x K |
//! | `tflops` | operations of one float32 product of the shape per second, in 10^12; empty if the tile was chosen without a GPU |
//!
//! All tiles of a product give the same bits.

use std::collections::HashMap;

const TABLE: &str = include_str!("../carried/tiles.csv");

/// Sizes of a product: rows, summed dimension, columns.
pub type ProductShape = [usize; 3];

/// The tiles for one architecture.
pub(crate) struct Tiles {
    /// By kernel: timed shapes, and the kernel with the fastest tile.
    timed: HashMap<String, Vec<(ProductShape, String)>>,
}

/// One line of the table.
pub(crate) struct Line<'t> {
    pub architecture: u32,
    pub kernel: &'t str,
    pub shape: ProductShape,
    pub tile: &'t str,
}

/// The table's lines; invalid ones are skipped, and a test checks that there are none.
pub(crate) fn lines() -> impl Iterator<Item = Line<'static>> {
    let of = |line: &'static str| {
        let cells: [&str; 7] = line.split(',').collect::<Vec<_>>().try_into().ok()?;
        let [architecture, kernel, rows, inner, columns, tile, _] = cells;
        let shape = [rows.parse().ok()?, inner.parse().ok()?, columns.parse().ok()?];
        Some(Line { architecture: architecture.parse().ok()?, kernel, shape, tile })
    };
    TABLE.lines().skip(1).filter_map(of)
}

/// A hash of the kernels and tiles.
pub(crate) fn fingerprint(archive: &str) -> u32 {
    // FNV-1a, folded.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = archive.bytes().chain(TABLE.bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 32)) as u32
}

impl Tiles {
    /// The tiles for an architecture with the kernels `names`; products that are not in the table use their first
    /// tile.
    pub fn new<'n>(architecture: u32, names: impl Iterator<Item = &'n str>) -> Self {
        let mut timed: HashMap<String, Vec<(ProductShape, String)>> = HashMap::new();
        let mut carried = std::collections::HashSet::new();
        for name in names {
            if let Some((kernel, _)) = name.rsplit_once('_').filter(|(_, tile)| is_tile(tile)) {
                timed.entry(kernel.to_owned()).or_insert_with(|| vec![([1; 3], name.to_owned())]);
                carried.insert(name.to_owned());
            }
        }
        let mut of_table: HashMap<String, Vec<(ProductShape, String)>> = HashMap::new();
        for line in lines().filter(|line| line.architecture == architecture) {
            let name = format!("{}_{}", line.kernel, line.tile);
            if carried.contains(&name) {
                of_table.entry(line.kernel.to_owned()).or_default().push((line.shape, name));
            }
        }
        timed.extend(of_table);
        Self { timed }
    }

    /// The kernel for a product: that of the nearest shape in the table, by ratios.
    pub fn nearest(&self, kernel: &str, shape: ProductShape) -> Option<&str> {
        let distance = |other: &ProductShape| {
            let ratio = |(&a, &b): (&usize, &usize)| (a.max(1) as f64 / b.max(1) as f64).ln().abs();
            shape.iter().zip(other).map(ratio).sum::<f64>()
        };
        let nearer = |a: &&(ProductShape, String), b: &&(ProductShape, String)| {
            distance(&a.0).total_cmp(&distance(&b.0))
        };
        self.timed.get(kernel)?.iter().min_by(nearer).map(|(_, name)| name.as_str())
    }
}

/// Whether the end of a kernel's name is a tile's.
pub(crate) fn is_tile(end: &str) -> bool {
    let sizes: Vec<&str> = end.split('x').collect();
    sizes.len() == 3 && sizes.iter().all(|size| size.parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Manifest;

    #[test]
    fn the_nearest_shape_decides() {
        let line = |shape, name: &str| (shape, name.to_owned());
        let timed = vec![
            line([1024, 768, 768], "few"),
            line([32768, 768, 768], "many"),
            line([32768, 768, 1600], "wide"),
        ];
        let tiles = Tiles { timed: HashMap::from([("product".to_owned(), timed)]) };
        assert_eq!(tiles.nearest("product", [1, 64, 64]), Some("few"));
        assert_eq!(tiles.nearest("product", [20_000, 768, 768]), Some("many"));
        assert_eq!(tiles.nearest("product", [20_000, 1600, 1600]), Some("wide"));
        assert_eq!(tiles.nearest("norm", [1, 1, 1]), None);
    }

    #[test]
    fn without_a_line_the_first_tile_is_used() {
        let names = ["product_f16_128x64x32", "product_f16_64x64x32", "product_f16_odd", "add"];
        let tiles = Tiles::new(1, names.into_iter());
        assert_eq!(tiles.nearest("product_f16", [9, 9, 9]), Some("product_f16_128x64x32"));
        assert_eq!(tiles.timed.len(), 1);
    }

    #[test]
    fn every_line_names_a_tile_that_is_carried() {
        assert_eq!(TABLE.lines().next(), Some("architecture,kernel,rows,inner,columns,tile,tflops"));
        assert_eq!(lines().count(), TABLE.lines().count() - 1);
        let manifest = Manifest::carried().unwrap();
        for line in lines() {
            let mut parts = manifest.parts.iter().filter(|part| !part.ptx);
            let part =
                parts.find(|part| part.architecture == line.architecture).expect("a known architecture");
            let name = format!("{}_{}", line.kernel, line.tile);
            assert!(part.kernels.iter().any(|shape| shape.name == name), "{name} on {}", line.architecture);
            assert!(line.shape.iter().all(|&size| size > 0), "{name}");
        }
    }

    #[test]
    fn kernels_and_tiles_have_a_fingerprint() {
        assert_ne!(fingerprint("a"), fingerprint("b"));
        assert_eq!(Manifest::carried().unwrap().version().len(), 8);
    }
}
