//! A scan divided by heads, as between machines, and joined again.

mod common;

use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::ScanMeta;

/// The heads of a scan from one to another, as `scan --heads` gives them.
fn piece(whole: &PerPromptScan, from: usize, to: usize) -> PerPromptScan {
    let n = whole.n_distinct();
    let rows = |values: &[f32]| values[from * n..to * n].to_vec();
    let heads = whole.meta.scanned_heads()[from..to].to_vec();
    PerPromptScan {
        meta: ScanMeta { only_heads: Some(heads), ..whole.meta.clone() },
        ablated: rows(&whole.ablated),
        direct: whole.direct.as_deref().map(rows),
        ..whole.clone()
    }
}

#[test]
fn pieces_of_a_scan_are_the_scan_whatever_the_cut() {
    let whole = common::scan(common::meta("gpt2", "m", "ioi", 3, 4), 20, 0.1, 1);
    let without = PerPromptScan { direct: None, ..whole.clone() };
    for whole in [whole, without] {
        for cuts in [&[0, 12][..], &[0, 1, 12], &[0, 4, 5, 11, 12]] {
            let pieces: Vec<PerPromptScan> =
                cuts.windows(2).map(|cut| piece(&whole, cut[0], cut[1])).collect();
            assert_eq!(PerPromptScan::join(&pieces).as_ref(), Some(&whole), "{cuts:?}");
        }
    }
}

#[test]
fn what_does_not_fit_together_is_no_scan() {
    let whole = common::scan(common::meta("gpt2", "m", "ioi", 2, 4), 20, 0.1, 1);
    let pieces = || vec![piece(&whole, 0, 3), piece(&whole, 3, 8)];
    assert!(PerPromptScan::join(&pieces()).is_some());
    assert!(PerPromptScan::join(&[]).is_none());
    assert!(PerPromptScan::join(&pieces()[..1]).is_none(), "a head is missing");
    assert!(PerPromptScan::join(&[piece(&whole, 3, 8), piece(&whole, 0, 3)]).is_none(), "out of order");
    assert!(
        PerPromptScan::join(&[piece(&whole, 0, 4), piece(&whole, 3, 8)]).is_none(),
        "a head is there twice"
    );
    type Change = fn(&mut PerPromptScan);
    let changes: [Change; 6] = [
        |scan| scan.base[3] += 1e-6,
        |scan| scan.weight[0] += 1,
        |scan| scan.template[0] += 1,
        |scan| scan.direct = None,
        |scan| scan.meta.provenance.weight_hash.push('0'),
        |scan| scan.meta.seed += 1,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut other = pieces();
        change(&mut other[1]);
        assert!(PerPromptScan::join(&other).is_none(), "change {at}");
    }
}
