//! Models on a fake GPU (`crates/cuda/fake_driver`), whose kernels are plain loops on the CPU: every buffer, offset and
//! argument is what a real GPU would get. Results must equal those of the delta form without a GPU.
//!
//! A driver is opened once per process, so every case runs in its own process: this test program again.

mod checkpoints;
mod effects;
mod fake_card;

use std::ops::ControlFlow;

use checkpoints::{Expected, decoder, heads, loaded, names};
use cs_engine::decoder::Decoder;
use cs_engine::device::devices;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::{
    Compute, DeviceChoice, DeviceError, EngineError, Options, Precision, Progress, Prompt, Reading, Readings,
    Receiver,
};
use effects::{apart, effects, experiments, of_plain_run};
use fake_card::again;

fn card(precision: Precision) -> Result<Compute, DeviceError> {
    Compute::choose(&"cuda".parse::<DeviceChoice>().expect("a device"), Some(precision))
}

fn on_card(name: &str, precision: Precision) -> Decoder {
    loaded(name, &card(precision).expect("the fake card"))
}

#[test]
fn effects_on_every_checkpoint_are_those_without_a_card() {
    again("effects_split", &[]);
}

#[test]
#[ignore = "run by `effects_on_every_checkpoint_are_those_without_a_card`"]
fn effects_split() {
    names().iter().for_each(|name| compare(name, Precision::Split));
}

/// float32 products, and single halves, which otherwise work like split ones: on checkpoints with every kind of
/// block.
#[test]
fn effects_in_other_precisions_are_those_without_a_card() {
    again("effects_others", &[]);
}

#[test]
#[ignore = "run by `effects_in_other_precisions_are_those_without_a_card`"]
fn effects_others() {
    let some = ["gpt2-default", "gpt2-bf16", "gemma2-default", "llama-3-rotary", "gptj-default", "gpt2-f16"];
    for name in some {
        [Precision::F32, Precision::Half].into_iter().for_each(|precision| compare(name, precision));
    }
}

/// What the fake card's results are of.
fn kind(precision: Precision) -> String {
    let kernels = cs_cuda::Manifest::carried().unwrap().version();
    format!("cuda Fake card (driver for CUDA 12.8, kernels {kernels}), {precision}")
}

fn compare(name: &str, precision: Precision) {
    let host = loaded(name, &Compute::delta(precision));
    let card = on_card(name, precision);
    assert_eq!(card.compute().kind(), kind(precision));
    let prompts = Expected::read(name).prompts();
    let n_in = |group| prompts.iter().filter(|prompt| prompt.group == group).count();
    let with_others: Vec<Prompt> = prompts.iter().filter(|p| n_in(p.group) > 1).cloned().collect();
    // Sums in float32 and in float64 differ more if a difference is a single half.
    let bound = if precision == Precision::Half { 5e-3 } else { 1e-5 };
    let mut worst = 0.0;
    for (what, branches) in experiments(&host) {
        let prompts = if what.ends_with("others") { &with_others } else { &prompts };
        let (expected, found) = (effects(&host, prompts, &branches), effects(&card, prompts, &branches));
        let (most, _) = apart(&expected, &found);
        assert!(most <= bound, "{name}, {precision}, {what}: {most:.1e} of the largest effect");
        worst = f64::max(worst, most);
    }
    println!("{name:28} {precision:6} {worst:.1e}");
}

#[test]
fn so_is_what_is_read_of_the_plain_run() {
    again("plain_run", &[]);
}

#[test]
#[ignore = "run by `so_is_what_is_read_of_the_plain_run`"]
fn plain_run() {
    for name in names() {
        let prompts = Expected::read(&name).prompts();
        let expected = of_plain_run(&loaded(&name, &Compute::delta(Precision::Split)), &prompts);
        let found = of_plain_run(&on_card(&name, Precision::Split), &prompts);
        for ((what, expected), (_, found)) in expected.iter().zip(&found) {
            let is_close = expected.is_empty() || apart(expected, found).0 < 1e-5;
            assert!(is_close && expected.len() == found.len(), "{name}, {what}");
        }
    }
}

/// The goldens on a real GPU of this machine, against the CPU's numbers.
#[test]
fn effects_on_a_real_card_are_the_processors() {
    let compute = Compute::choose(&DeviceChoice::Auto, None).expect("some device");
    if compute == Compute::cpu() {
        println!("skipped: there is no GPU");
        return;
    }
    for name in names() {
        let (cpu, card) = (decoder(&name), loaded(&name, &compute));
        let prompts = Expected::read(&name).prompts();
        let mut worst = 0.0;
        for (what, branches) in experiments(&cpu).into_iter().filter(|(what, _)| !what.ends_with("others")) {
            let (expected, found) = (effects(&cpu, &prompts, &branches), effects(&card, &prompts, &branches));
            let (most, _) = apart(&expected, &found);
            assert!(most <= 2e-5, "{name}, {what}: {most:.1e} of the largest effect");
            worst = f64::max(worst, most);
        }
        println!("{name:28} on a card: {worst:.1e} of the largest effect");
    }
}

#[test]
fn memory_does_not_change_a_bit_and_empty_edits_have_no_effect() {
    again("exact", &[]);
}

#[test]
#[ignore = "run by `memory_does_not_change_a_bit_and_empty_edits_have_no_effect`"]
fn exact() {
    for name in ["gpt2-default", "llama-3-rotary", "gemma2-default", "neox-full-rotary"] {
        let card = on_card(name, Precision::Split);
        let mut prompts = Expected::read(name).prompts();
        let all = Branch::ablate(heads(&card), Replacement::ValueBias);
        let one = |head| Branch::ablate([head], Replacement::ValueBias);
        let branches: Vec<Branch> = heads(&card).into_iter().map(one).chain([all]).collect();
        let run =
            |prompts: &[Prompt]| Readings::collect(&card, prompts, &branches, Options::default()).unwrap();
        let together = run(&prompts);
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = run(std::slice::from_ref(prompt));
            assert_eq!(alone.plain(0), together.plain(i), "{name}, prompt {i}");
            (0..branches.len()).for_each(|b| assert_eq!(alone.branch(b, 0), together.branch(b, i), "{name}"));
        }
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        for (_, branches) in experiments(&card).into_iter().filter(|(what, _)| what.ends_with(" source")) {
            assert!(effects(&card, &prompts, &branches).iter().all(|&x| x == 0.0), "{name}");
        }
    }
}

/// Results do not depend, to the bit, on the number of GPUs or the GPU that runs a branch.
#[test]
fn several_cards_give_what_one_gives() {
    again("several", &[("FAKE_CUDA_DEVICES", "3")]);
}

#[test]
#[ignore = "run by `several_cards_give_what_one_gives`"]
fn several() {
    let some = ["gpt2-default", "llama-3-rotary", "gemma2-default"];
    for name in some {
        let on = |cards: &str| {
            let compute = Compute::choose(&cards.parse().expect("a device"), None).expect("the fake cards");
            assert_eq!(compute.kind(), kind(Precision::Split), "as of one card");
            loaded(name, &compute)
        };
        let (one, several) = (on("cuda:1"), [on("cuda:0,cuda:1"), on("cuda:2,cuda:0,cuda:1")]);
        let prompts = Expected::read(name).prompts();
        for (what, branches) in experiments(&one).into_iter().filter(|(what, _)| !what.ends_with("others")) {
            // Fewer branches than GPUs, one that changes nothing, and a duplicate.
            let mut with_others = branches.clone();
            with_others.extend([Branch::new([]), branches[0].clone()]);
            for branches in [&branches[..1], &branches[..2], &with_others] {
                let run = |on: &Decoder| {
                    Readings::collect(on, &prompts, branches, Options::default()).expect("a run")
                };
                let expected = run(&one);
                for cards in &several {
                    assert_eq!(run(cards), expected, "{name}, {what}, {}", cards.compute().device());
                }
            }
        }
    }
}

/// Known results are not run again, whichever GPU they belong to; and a receiver that stops the run stops all
/// GPUs.
#[test]
fn several_cards_have_one_receiver() {
    again("one_receiver", &[("FAKE_CUDA_DEVICES", "2")]);
}

struct Counting {
    n_branches: usize,
    known: usize,
    stop_at: f64,
    read: Vec<usize>,
    shares: Vec<f64>,
}

impl Receiver for Counting {
    fn reading(&mut self, reading: Reading<'_>) {
        self.read[reading.branch.unwrap_or(self.n_branches)] += reading.prompts.len();
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.shares.push(progress.done as f64 / progress.total as f64);
        if self.shares.last() >= Some(&self.stop_at) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn is_known(&self, branch: usize, _: &[usize]) -> bool {
        branch % 5 == self.known
    }
}

#[test]
#[ignore = "run by `several_cards_have_one_receiver`"]
fn one_receiver() {
    let compute = Compute::choose(&"cuda:0,cuda:1".parse().expect("a device"), None).expect("two cards");
    let cards = loaded("gpt2-default", &compute);
    let prompts = Expected::read("gpt2-default").prompts();
    let one = |head| Branch::ablate([head], Replacement::ValueBias);
    let branches: Vec<Branch> = heads(&cards).into_iter().map(one).collect();
    let n = branches.len();
    let run = |known, stop_at| {
        let mut receiver = Counting { n_branches: n, known, stop_at, read: vec![0; n + 1], shares: vec![] };
        (cs_engine::run(&cards, &prompts, &branches, Options::default(), &mut receiver), receiver)
    };
    let (result, all) = run(usize::MAX, 2.0);
    result.expect("a run");
    assert_eq!(all.read, vec![prompts.len(); n + 1], "every branch and the plain run, once");
    assert!(all.shares.is_sorted() && all.shares.last() == Some(&1.0), "{:?}", all.shares);
    let (result, some) = run(1, 2.0);
    result.expect("a run");
    for (branch, read) in some.read.iter().enumerate() {
        assert_eq!(*read, if branch < n && branch % 5 == 1 { 0 } else { prompts.len() }, "branch {branch}");
    }
    let (result, stopped) = run(usize::MAX, 0.2);
    assert!(matches!(result, Err(EngineError::Stopped)), "{result:?}");
    assert!(stopped.read.contains(&0), "the rest was left out");
}

#[test]
fn what_goes_wrong_on_a_card_is_one_line() {
    again("lost", &[("FAKE_CUDA_LOST_AFTER", "3000")]);
    again(
        "one_of_two_lost",
        &[("FAKE_CUDA_DEVICES", "2"), ("FAKE_CUDA_LOST_AFTER", "900"), ("FAKE_CUDA_LOST_CARD", "1")],
    );
    again("mixed", &[("FAKE_CUDA_DEVICES", "2"), ("FAKE_CUDA_MIXED", "1")]);
    again("full", &[("FAKE_CUDA_MEMORY", "20000")]);
    again("wrong", &[("FAKE_CUDA_WRONG", "1")]);
    again("old", &[("FAKE_CUDA_VERSION", "11080")]);
    again("none", &[("FAKE_CUDA_DEVICES", "0")]);
    again("hidden", &[("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1")]);
}

fn problem(error: &EngineError) -> String {
    let text = error.to_string();
    assert!(matches!(error, EngineError::Device { .. }) && !text.contains('\n'), "{text}");
    text
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn lost() {
    let card = on_card("gpt2-default", Precision::Split);
    let (prompts, branches) =
        (Expected::read("gpt2-default").prompts(), [Branch::ablate([(0, 0)], Replacement::Zero)]);
    let run = || Readings::collect(&card, &prompts, &branches, Options::default());
    let error = (0..1000).find_map(|_| run().err()).expect("lost after some launches");
    assert!(problem(&error).contains("was lost during the run"), "{error}");
    assert_eq!(run().err().map(|e| e.to_string()), Some(error.to_string()), "and stays so");
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn one_of_two_lost() {
    let compute = Compute::choose(&"cuda:0,cuda:1".parse().expect("a device"), None).expect("two cards");
    let cards = loaded("gpt2-default", &compute);
    let prompts = Expected::read("gpt2-default").prompts();
    let one = |head| Branch::ablate([head], Replacement::Zero);
    let branches: Vec<Branch> = heads(&cards).into_iter().map(one).collect();
    let run = || Readings::collect(&cards, &prompts, &branches, Options::default());
    let error = (0..1000).find_map(|_| run().err()).expect("lost after some launches");
    let said = problem(&error);
    assert!(said.starts_with("cuda:1 (Fake card): the GPU was lost during the run"), "{said}");
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn mixed() {
    let choose = |cards: &str| Compute::choose(&cards.parse().expect("a device"), None);
    let error = choose("cuda:0,cuda:1").expect_err("two models").to_string();
    assert!(error.contains("cuda:1 is cuda Fake card 1") && !error.contains('\n'), "{error}");
    assert!(choose("cuda:1").is_ok());
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn full() {
    unusable("of GPU memory are available");
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn wrong() {
    unusable("its results differ from the CPU's by");
    assert!(devices().0[1].why_not.is_some());
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn old() {
    unusable("supports CUDA 11.8, but the kernels need CUDA 12.0");
    let (found, _) = devices();
    assert_eq!(found[1].word, "cuda:0");
    assert!(found[1].why_not.as_ref().is_some_and(|why| why.contains("update the driver")), "{found:?}");
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn none() {
    unusable("finds no GPU");
}

#[test]
#[ignore = "run by `what_goes_wrong_on_a_card_is_one_line`"]
fn hidden() {
    unusable("no NVIDIA driver was found");
    let (found, why) = devices();
    assert_eq!(found.len(), 1);
    assert!(why.is_some_and(|why| why.contains("no NVIDIA driver was found")));
}

/// No GPU is available, which `auto` accepts and `cuda` does not.
fn unusable(why: &str) {
    let error = card(Precision::Split).expect_err("no card").to_string();
    assert!(error.contains(why) && !error.contains('\n'), "{error}");
    assert_eq!(Compute::choose(&DeviceChoice::Auto, None), Ok(Compute::cpu()));
}
