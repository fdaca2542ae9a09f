//! `status`: the state of a study's parts, from its folder alone.

use cs_analysis::words::counted;
use std::fmt::Write;

use super::super::plan::duration;
use super::plan::{Part, Plan, part_folder};
use super::state::{State, ranges};
use crate::args::StatusArgs;
use crate::error::CliError;

/// Counts parts, lists those that are neither done nor waiting, and estimates the remaining
/// time.
pub fn status(args: &StatusArgs) -> Result<String, CliError> {
    let out = &args.study.out;
    let plan = Plan::read(out)?;
    let wave = plan.wave(out)?;
    let parts: Vec<(&Part, State)> = wave
        .parts
        .iter()
        .filter(|part| !part.units.is_empty())
        .map(|part| (part, State::read(&part_folder(out, wave.kind, part.part))))
        .collect();
    let of = |is: fn(&State) -> bool| -> Vec<usize> {
        parts.iter().filter(|(_, state)| is(state)).map(|(part, _)| part.part).collect()
    };
    let mut text = format!(
        "wave {} ({}): {}\n",
        plan.waves.len(),
        wave.kind.name(),
        counted(parts.len(), "part", "parts")
    );
    for (word, parts) in [
        ("done", of(|s| matches!(s, State::Done(_)))),
        ("running", of(|s| matches!(s, State::Running(..)))),
        ("stopped", of(|s| matches!(s, State::Stopped(..)))),
        ("failed", of(|s| matches!(s, State::Failed(_)))),
        ("waiting", of(|s| matches!(s, State::Waiting))),
    ] {
        if !parts.is_empty() {
            let _ = writeln!(text, "  {word:8} {:5}   {}", parts.len(), ranges(&parts));
        }
    }
    for (part, state) in &parts {
        if !matches!(state, State::Done(_) | State::Waiting) {
            let _ = writeln!(text, "part {}: {}", part.part, state.describe());
        }
    }
    let n_running = of(|s| matches!(s, State::Running(..))).len();
    let is_over = parts.iter().all(|(_, state)| matches!(state, State::Done(_)));
    let _ = match left(&parts) {
        _ if is_over => writeln!(text, "Join them: circuit-scaling gather --out {}", out.display()),
        None => writeln!(text, "the remaining time is known once one part is done"),
        Some(seconds) if n_running == 0 => {
            writeln!(text, "{} of work for one machine left", duration(seconds))
        }
        Some(seconds) => writeln!(
            text,
            "{} of work left, about {} for the {n_running} running",
            duration(seconds),
            duration(seconds / n_running as f64)
        ),
    };
    Ok(text)
}

/// The remaining work in seconds, at the pace of finished parts, or as planned if there are
/// none.
fn left(parts: &[(&Part, State)]) -> Option<f64> {
    let done = parts.iter().filter_map(|(part, state)| match state {
        State::Done(seconds) => Some((part.tflop, *seconds)),
        _ => None,
    });
    let (work, taken) = done.fold((0.0, 0.0), |(w, t), (work, taken)| (w + work, t + taken));
    let seconds = |part: &Part| if work > 0.0 { Some(part.tflop * taken / work) } else { part.seconds };
    parts.iter().map(|(part, state)| Some(seconds(part)? * (1.0 - state.share()))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_on_at_the_pace_of_what_is_done() {
        let part = Part { seconds: Some(10.0), tflop: 3.0, ..Part::default() };
        let of = |states: Vec<State>| left(&states.into_iter().map(|s| (&part, s)).collect::<Vec<_>>());
        assert_eq!(of(vec![State::Waiting, State::Waiting]), Some(20.0));
        // A machine that took twice as long as expected will do so again.
        assert_eq!(of(vec![State::Done(20.0), State::Waiting]), Some(20.0));
        assert_eq!(of(vec![State::Done(20.0)]), Some(0.0));
        // Planned on a machine without the device: estimated from finished parts.
        let part = Part { tflop: 3.0, ..Part::default() };
        let of = |states: Vec<State>| left(&states.into_iter().map(|s| (&part, s)).collect::<Vec<_>>());
        assert_eq!(of(vec![State::Waiting, State::Waiting]), None);
        assert_eq!(of(vec![State::Done(20.0), State::Waiting]), Some(20.0));
    }
}
