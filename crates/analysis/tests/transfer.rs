//! Transfer between models with a known relation.

mod common;

use std::path::Path;

use common::normal;
use cs_analysis::categories::classify;
use cs_analysis::contrast::Side;
use cs_analysis::joint::{self, JointTable};
use cs_analysis::transfer::{PairTransfer, Pairs, tables, transfers};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

type Head = (u32, u32, f64, f64);

fn table(models: &[(&str, &str, Vec<Head>)]) -> JointTable {
    let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti\n");
    for (family, model, heads) in models {
        for (layer, head, ioi, anti) in heads {
            csv += &format!("{family},{model},{layer},{head},{ioi},{anti}\n");
        }
    }
    let path = Path::new("joint.csv");
    joint::import_reader(csv.as_bytes(), path, 10_000).unwrap().into_table(path).unwrap()
}

/// A model with independent effects.
fn random(seed: u64, n_layers: u32, n_heads: u32) -> Vec<Head> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let place = move |i: u32| (i / n_heads, i % n_heads);
    (0..n_layers * n_heads)
        .map(|i| (place(i).0, place(i).1, 0.3 * normal(&mut rng).powi(3), 0.3 * normal(&mut rng).powi(3)))
        .collect()
}

fn follow(models: &[(&str, &str, Vec<Head>)]) -> Vec<PairTransfer> {
    let joint = table(models);
    let classified = classify(&joint, 0.05).unwrap();
    transfers(&joint, &classified, &Pairs::Neighbours).unwrap()
}

#[test]
fn a_copy_transfers_perfectly_and_a_stranger_does_not() {
    let base = random(1, 12, 12);
    let copy = follow(&[("f", "a", base.clone()), ("f", "b", base.clone())]);
    for t in &copy {
        let ranks: Vec<usize> = t.by_index.heads.iter().map(|h| h.target_rank.unwrap()).collect();
        assert_eq!(ranks, (0..20).collect::<Vec<_>>(), "the strongest heads are the strongest heads");
        assert!(t.by_index.p_value.unwrap() < 0.001 && t.by_index.p_value_within_layer.unwrap() < 0.001);
        assert_eq!(t.by_profile.mean_cost, Some(0.0));
        assert!(t.by_profile.matches.iter().all(|m| m.base == m.target));
        assert!(t.by_profile.p_value.unwrap() < 0.01);
    }
    let strangers = follow(&[("f", "a", base), ("f", "b", random(2, 12, 12))]);
    for t in &strangers {
        assert!(t.by_index.p_value.unwrap() > 0.01, "{:?}", t.by_index.p_value);
        assert!(t.by_profile.p_value.unwrap() > 0.01, "{:?}", t.by_profile.p_value);
    }
}

#[test]
fn heads_that_only_moved_within_their_layer_are_found_by_profile() {
    let mut p_values = Vec::new();
    for seed in 0..20 {
        let base = random(seed, 12, 12);
        // Head h of every layer becomes head 11 − h: same layer, same effects, another index.
        let moved: Vec<Head> = base.iter().map(|&(l, h, ioi, anti)| (l, 11 - h, ioi, anti)).collect();
        for t in follow(&[("f", "a", base), ("f", "b", moved)]) {
            assert_eq!(t.by_profile.mean_cost, Some(0.0));
            assert!(t.by_profile.matches.iter().all(|m| m.target.0.head == 11 - m.base.0.head));
            p_values.push(t.by_index.p_value_within_layer.unwrap());
        }
    }
    // The index is not informative here, so one p-value in twenty may be below 0.05.
    let below = p_values.iter().filter(|&&p| p < 0.05).count();
    assert!(below <= 6, "{below} of {}", p_values.len());
}

#[test]
fn tests_of_transfer_hold_their_level_between_strangers() {
    let mut below = [0, 0, 0];
    for seed in 0..100 {
        for t in follow(&[("f", "a", random(seed, 6, 8)), ("f", "b", random(1_000 + seed, 6, 8))]) {
            let p = [t.by_index.p_value, t.by_index.p_value_within_layer, t.by_profile.p_value];
            for (below, p) in below.iter_mut().zip(p) {
                *below += usize::from(p.unwrap() <= 0.05);
            }
        }
    }
    // 200 tests at 5%: 10 expected, more than 21 once in a thousand times.
    assert!(below.iter().all(|&b| b <= 21), "{below:?}");
}

#[test]
fn ranks_and_missing_heads() {
    let a = vec![(0, 0, 0.5, 0.0), (0, 1, -0.9, 0.0), (1, 0, 0.01, 0.0), (1, 1, 0.06, 0.2)];
    let b = vec![(0, 0, 0.1, 0.0), (0, 1, -0.2, 0.0), (1, 0, 0.2, 0.0)];
    let joint = table(&[("f", "a", a), ("g", "b", b)]);
    let classified = classify(&joint, 0.05).unwrap();
    let pairs = Pairs::Named(vec![("A".into(), "b".into())]);
    let found = transfers(&joint, &classified, &pairs).unwrap();
    let csv = tables(&joint, &found)[0].to_csv();
    let lines: Vec<&str> = csv.lines().skip(1).collect();
    // Equal |Δ| of 0.2: the earlier head ranks first.
    assert_eq!(
        lines,
        [
            "f,a,g,b,0,1,0.9,0.2,0,0.3333333333333333,false,chosen",
            "f,a,g,b,0,0,0.5,0.1,2,1,false,chosen",
            "f,a,g,b,1,1,0.06,,,,true,chosen",
        ]
    );
    assert_eq!(found[0].side, Side::A);
    assert_eq!(found[0].by_index.mean_frac_rank, Some(2.0 / 3.0));
    assert_eq!(found[0].by_index.chance_frac_rank, Some(2.0 / 3.0));
}

#[test]
fn a_base_without_strong_heads_and_a_tiny_target() {
    let weak: Vec<Head> = (0..4).map(|i| (0, i, 0.0, 0.0)).collect();
    let found = follow(&[("f", "a", weak), ("f", "b", random(4, 2, 2))]);
    assert!(found.iter().all(|t| t.by_index.heads.is_empty() && t.by_profile.matches.is_empty()));
    assert!(found.iter().all(|t| t.by_index.p_value.is_none() && t.by_profile.p_value.is_none()));
    let tiny = follow(&[("f", "a", random(5, 12, 12)), ("f", "b", random(6, 1, 3))]);
    assert!(tiny.iter().all(|t| t.by_profile.matches.len() <= 3));
}

#[test]
fn pairs_from_the_command_line() {
    assert_eq!(Pairs::parse::<&str>(&[]).unwrap(), Pairs::Neighbours);
    assert_eq!(Pairs::parse(&["all"]).unwrap(), Pairs::All);
    assert_eq!(Pairs::parse(&["a:b"]).unwrap(), Pairs::Named(vec![("a".into(), "b".into())]));
    for bad in ["a", "a:", ":b"] {
        assert!(Pairs::parse(&[bad]).unwrap_err().to_string().contains("BASE:TARGET"));
    }
    let joint = table(&[("f", "a", random(1, 1, 3)), ("f", "b", random(2, 1, 3))]);
    let refused =
        |a: &str, b: &str| Pairs::Named(vec![(a.into(), b.into())]).resolve(&joint).unwrap_err().to_string();
    assert!(refused("a", "c").contains("no model `c`"));
    assert!(refused("a", "a").contains("with itself"));
    assert_eq!(Pairs::All.resolve(&joint).unwrap().len(), 2);
}
