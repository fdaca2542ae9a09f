//! Attention over a tree, and heads with a replaced `z`.

use cs_cuda::{Arguments, Array};

use super::arrays::{Floats, Ints, Target};
use super::rows::fitting;
use super::{Card, DeltaHeads, PlainHeads, PutZ, Recompute, Result, Scores, Values, Z, missing};
use crate::forest::Forest;
use crate::machine::Rows;

/// Number of neighbouring queries in a tile.
const QUERIES: usize = 16;
/// Head widths that kernels are compiled for.
const HEAD_WIDTHS: [usize; 4] = [32, 64, 128, 256];
/// The same for attention of all heads, which takes most of the time.
const ATTENTION_WIDTHS: [usize; 5] = [32, 64, 80, 128, 256];
/// Maximum number of blocks of a grid in its second and third dimension.
const GRID: usize = 65_535;

/// Queries at some rows of a run, in tiles, and the keys of each tile.
pub(crate) struct Tree {
    queries: usize,
    n_nodes: usize,
    n_tiles: usize,
    window: usize,
    arrays: Option<Arrays>,
}

struct Arrays {
    /// Rows of a run, -1 beyond the last. `[n_tiles, QUERIES]`
    q_rows: Array<i32>,
    /// The node of each row of a run. `[queries]`
    nodes: Array<u32>,
    /// The start of each tile's keys in `keys`, and their number. `[n_tiles]`
    key_from: Array<u32>,
    key_count: Array<u32>,
    /// The keys' nodes in order, tile by tile.
    keys: Array<u32>,
    /// The end of each node's subtree. `[n_nodes]`
    ends: Array<u32>,
    /// `[n_nodes]`
    positions: Array<u32>,
    /// The plain run's row of each node. `[n_nodes]`
    own: Array<u32>,
}

/// One launch of attention.
struct Attention<'a> {
    tree: &'a Tree,
    scores: Scores,
    q: &'a Floats,
    kv: &'a Floats,
    /// The plain run's `z`, which is subtracted; `None`: nothing is subtracted.
    z: Option<&'a Floats>,
    delta: Option<&'a DeltaHeads<Card>>,
    target: Target<'a>,
    sites: Option<(&'a Array<u32>, &'a Values<'a, Card>)>,
}

impl Card {
    pub(super) fn new_tree(
        &mut self,
        forest: &Forest,
        queries: Rows<'_>,
        window: Option<usize>,
        own: &[u32],
    ) -> Tree {
        let (n_queries, n_nodes) = (queries.per_run(), forest.n_nodes());
        let (mut q_rows, mut key_from, mut key_count) = (vec![], vec![], vec![]);
        let (mut keys, mut path): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
        for first in (0..n_queries).step_by(QUERIES) {
            let rows = first..n_queries.min(first + QUERIES);
            let mut seen = std::collections::BTreeSet::new();
            for row in rows.clone() {
                forest.path_into(queries.node(row) as u32, window, &mut path);
                seen.extend(path.iter().copied());
            }
            let padding = std::iter::repeat_n(-1, QUERIES - rows.len());
            q_rows.extend(rows.map(|row| row as i32).chain(padding));
            key_from.push(keys.len() as u32);
            key_count.push(seen.len() as u32);
            keys.extend(seen);
        }
        let nodes: Vec<u32> = (0..n_queries).map(|row| queries.node(row) as u32).collect();
        let ends = subtree_ends(forest);
        let arrays = self.attempt(|card| {
            let upload = |values: &[u32]| card.context.upload(values);
            Ok(Arrays {
                q_rows: card.context.upload(&q_rows)?,
                nodes: upload(&nodes)?,
                key_from: upload(&key_from)?,
                key_count: upload(&key_count)?,
                keys: upload(&keys)?,
                ends: upload(&ends)?,
                positions: upload(forest.positions())?,
                own: upload(own)?,
            })
        });
        // Positions are 32-bit integers on the GPU.
        let window = window.unwrap_or(usize::MAX).min(i32::MAX as usize);
        Tree { queries: n_queries, n_nodes, n_tiles: key_from.len(), window, arrays }
    }

    /// The target of `z`, and whether it is written in full.
    fn z_target<'a>(&self, z: &'a Z<Self>, d_attn: usize) -> Result<(Target<'a>, bool)> {
        Ok(match z {
            Z::Full(floats) => (Target::floats(floats.get()?, d_attn), true),
            Z::Delta(split) => (self.target(split)?, false),
        })
    }

    /// One program per tile, and per `second` and `third`: heads and runs, or sites.
    fn launch_attention(&self, what: &Attention<'_>, (second, third): (usize, usize)) -> Result<()> {
        let Attention { tree, scores, q, kv, z, delta, target, sites } = what;
        let arrays = tree.arrays.as_ref().ok_or_else(missing)?;
        let (kind, widths) = match sites {
            Some(_) => ("again_", &HEAD_WIDTHS[..]),
            // Unaligned heads.
            None if !scores.d_head.is_multiple_of(4) => ("odd_", &HEAD_WIDTHS[..]),
            None => ("", &ATTENTION_WIDTHS[..]),
        };
        let kernel = self.kernel(&format!("attend_{kind}{}", fitting(widths, scores.d_head)))?;
        assert_eq!(kernel.shape.bq, QUERIES, "queries of a tile");
        let z = z.map(Floats::get).transpose()?;
        let dq = delta.map(|delta| delta.q.get()).transpose()?;
        let dkv = delta.map(|delta| delta.kv.get()).transpose()?;
        let arguments = Arguments::new().array(target.floats).array(target.hi).array(target.lo);
        let arguments = arguments.array(q.get()?).array(kv.get()?).array(z).array(dq).array(dkv);
        let arguments = arguments.array(&arrays.q_rows).array(&arrays.nodes).array(&arrays.key_from);
        let arguments = arguments.array(&arrays.key_count).array(&arrays.keys).array(&arrays.ends);
        let arguments = arguments.array(&arrays.positions).array(&arrays.own);
        let Scores { scale, softcap, n_heads, n_kv_heads, d_head } = *scores;
        let (d_attn, d_kv) = (n_heads * d_head, n_kv_heads * d_head);
        let arguments = arguments.ints([tree.queries, tree.n_nodes, d_head, n_heads / n_kv_heads]);
        let arguments =
            arguments.ints([d_attn, d_kv, target.width]).float(scale).float(softcap.unwrap_or(0.0));
        let arguments = arguments.int(tree.window).flag(delta.is_some()).flag(z.is_none()).int(target.mode);
        let arguments = match sites {
            None => {
                arguments.array(None::<&Array<u32>>).array(None::<&Array<u32>>).array(None::<&Array<f32>>)
            }
            Some((sites, values)) => {
                arguments.array(*sites).array(values.source.get()?).array(values.bias.get()?)
            }
        };
        kernel.launch([tree.n_tiles, second, third], arguments)
    }

    pub(super) fn attend_plain(
        &self,
        tree: &Tree,
        scores: Scores,
        q: &Floats,
        kv: &Floats,
        z: &Floats,
    ) -> Result<()> {
        let target = Target::floats(z.get()?, scores.n_heads * scores.d_head);
        let what = Attention { tree, scores, q, kv, z: None, delta: None, target, sites: None };
        self.launch_attention(&what, (scores.n_heads, 1))
    }

    pub(super) fn attend_stack(
        &self,
        n_runs: usize,
        tree: &Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &Z<Self>,
    ) -> Result<()> {
        let (target, is_full) = self.z_target(out, scores.n_heads * scores.d_head)?;
        let z = (!is_full).then_some(&plain.z);
        let what = Attention {
            tree,
            scores,
            q: &plain.q,
            kv: &plain.kv,
            z,
            delta: Some(delta),
            target,
            sites: None,
        };
        self.launch_attention(&what, (scores.n_heads, n_runs))
    }

    pub(super) fn attend_sites(
        &self,
        tree: &Tree,
        scores: Scores,
        sites: &[Recompute],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &Z<Self>,
    ) -> Result<()> {
        let PlainHeads { q, kv, z } = values.plain;
        for sites in sites.chunks(GRID) {
            let of_site =
                |site: &Recompute| [site.run, site.head, site.q as u32, site.k as u32, site.v as u32];
            let on_card = self.context.upload(&sites.iter().flat_map(of_site).collect::<Vec<u32>>())?;
            let (target, is_full) = self.z_target(out, scores.n_heads * scores.d_head)?;
            let (z, sites_on) = ((!is_full).then_some(z), Some((&on_card, values)));
            let what = Attention { tree, scores, q, kv, z, delta, target, sites: sites_on };
            self.launch_attention(&what, (sites.len(), 1))?;
        }
        Ok(())
    }

    pub(super) fn put_values(
        &self,
        tree: &Tree,
        d_head: usize,
        sites: &[PutZ],
        values: &Values<'_, Self>,
        out: &Z<Self>,
    ) -> Result<()> {
        let arrays = tree.arrays.as_ref().ok_or_else(missing)?;
        let d_attn = values.bias.len;
        let kernel = self.kernel(&format!("put_z_{}", fitting(&HEAD_WIDTHS, d_head)))?;
        let means = values.means.as_ref();
        let mean_z = means.map(|means| means.z.get()).transpose()?;
        let mean_row = means.map(|means| Ints::get(means.row)).transpose()?;
        let mean_step = means.map(|means| means.step.get()).transpose()?;
        for sites in sites.chunks(GRID) {
            let of_site = |site: &PutZ| [site.run, site.head, site.by as u32];
            let on_card = self.context.upload(&sites.iter().flat_map(of_site).collect::<Vec<u32>>())?;
            let (target, is_full) = self.z_target(out, d_attn)?;
            let arguments = Arguments::new().array(target.floats).array(target.hi).array(target.lo);
            let arguments = arguments.array(values.plain.z.get()?).array(&arrays.nodes).array(&arrays.own);
            let arguments = arguments.array(values.source.get()?).array(values.bias.get()?);
            let arguments = arguments.array(mean_z).array(mean_row).array(mean_step).array(&on_card);
            let arguments = arguments.ints([tree.queries, d_head, d_attn, target.width]);
            let blocks = tree.queries.div_ceil(kernel.shape.br);
            kernel.launch([blocks, sites.len(), 1], arguments.flag(is_full).int(target.mode))?;
        }
        Ok(())
    }
}

/// The end of each node's subtree: nodes are in depth-first order.
fn subtree_ends(forest: &Forest) -> Vec<u32> {
    let mut ends: Vec<u32> = (1..=forest.n_nodes() as u32).collect();
    for node in (0..forest.n_nodes()).rev() {
        if let Some(parent) = forest.parent(node as u32) {
            ends[parent as usize] = ends[parent as usize].max(ends[node]);
        }
    }
    ends
}
