//! The circuits: heads with known jobs, and the effects on both tasks that follow.
//!
//! IO is the name to answer, S the repeated one; S1 and S2 are its two places. Both tasks end in a word of their own
//! (" to", " with"), so a head that looks for this word in its queries works on one task alone. A head with nothing
//! to do attends to BOS, whose value is zero.
//!
//! A head's Δ is a sum over the heads that end up saying something else: with IO's logit raised by `m` by a mover,
//! ablating what its choice of IO rests on leaves it attending to IO, S1 and S2 alike, and its share of the logit
//! difference goes from `m` to `m/3 − 2m/3 = −m/3`.

use cs_analysis::categories::Category::{self, OnlyA, OnlyB, Shared, Weak};

use super::features::{Feature, N_CTX};
use super::world::World;
use Feature::{Answer, Constant, Duplicate, Inhibited, IsName, Position, Previous, Token};

/// A planted head: its job, and what a scan must say of it.
pub struct Role {
    /// Its name in messages.
    pub name: &'static str,
    /// Heads that must stand in earlier layers, since this one reads what they write.
    pub after: &'static [&'static str],
    /// Its category at τ = 0.05.
    pub category: Category,
    /// Its Δ on IOI and on anti-repeat.
    pub delta: [f64; 2],
    /// What does the job.
    pub wiring: Wiring,
}

/// A head's weights, in terms of features.
#[derive(Default)]
pub struct Wiring {
    /// (f, g, w): where a query position says f and a key position g, the attention score grows by w.
    pub attend: Vec<(Feature, Feature, f64)>,
    /// (f, g, w): a position that says f is copied as w times g.
    pub copy: Vec<(Feature, Feature, f64)>,
    /// (g, w): w times g is part of every value, by the value bias. The output bias takes it away again.
    pub value_bias: Vec<(Feature, f64)>,
}

/// Attention score that settles a softmax: e^(−SURE/2) is 5·10⁻⁵.
const SURE: f64 = 20.0;
/// Logits per unit of [`Answer`].
pub const LOGITS: f64 = 4.0;

/// Heads of every category and sign, on both tasks: previous-token, duplicate-token and S-inhibition heads, movers of
/// IO, suppressors of S, and heads that do harm.
///
/// Logit differences without ablation: 3 − 0.8 + 1.6 + 0.4 − 0.6 = 3.6 on IOI, from `ioi_mover`,
/// `ioi_negative_mover`, `ioi_suppressor`, `two_faced` and `repeater`; 2 + 1.2 − 0.4 − 0.6 = 2.2 on anti-repeat, from
/// `anti_mover`, `anti_suppressor`, `two_faced` and `repeater`.
pub fn full_circuit(world: &World) -> Vec<Role> {
    let (to, with) = (Token(world.id(" to")), Token(world.id(" with")));
    let stop = Previous(world.id("."));
    let half = world.names().filter(|name| name % 2 == 0);
    #[rustfmt::skip]
    let table = [
        // Marks S2 as a name that stood there before. Without it nothing is inhibited: the movers' shares become
        // −1/3 of themselves, `ioi_suppressor`, `repeater` and `two_faced` on IOI have nothing to attend to, and
        // `two_faced` on anti-repeat turns from −0.4 to +0.4/3.
        role("duplicate", &[], Shared, [-1.0 + 0.8 / 3.0 - 3.6, -2.0 / 3.0 + 1.2 + 0.4 / 3.0 - 2.2], duplicate(world)),
        // Tells each position the token before it: only `anti_suppressor` asks.
        role("previous", &[], OnlyB, [0.0, -1.2], previous(world)),
        // Attends to S2, and tells the last position not to answer S.
        role("s_inhibition", &["duplicate"], Shared,
            [(-3.0 + 0.8) / 3.0 - 2.2, (-2.0 + 0.4) / 3.0 - 1.6], s_inhibition(world, Constant, Duplicate)),
        // Attends from " to" to the name that is not inhibited, and answers it.
        // `bias` stands before it and `anti_mover`, so that taking the bias away would show.
        role("ioi_mover", &["s_inhibition", "bias"], OnlyA, [-3.0, 0.0], mover(world, to, 3.0)),
        // The same, but speaks against it: harm.
        role("ioi_negative_mover", &["s_inhibition"], OnlyA, [0.8, 0.0], mover(world, to, -0.8)),
        // Attends from " to" to S2, and speaks against it.
        role("ioi_suppressor", &["duplicate"], OnlyA, [-1.6, 0.0], suppressor(world, to, Duplicate, 1.6)),
        role("anti_mover", &["s_inhibition", "bias"], OnlyB, [0.0, -2.0], mover(world, with, 2.0)),
        // Attends from " with" to the name after the full stop, and speaks against it.
        role("anti_suppressor", &["previous"], OnlyB, [0.0, -1.2], suppressor(world, with, stop, 1.2)),
        // Attends to S2 and answers it: harm on both tasks.
        role("repeater", &["duplicate"], Shared, [0.6, 0.6], suppressor(world, Constant, Duplicate, -0.6)),
        // Speaks against S on IOI, which helps, and against IO on anti-repeat, which harms.
        role("two_faced", &["s_inhibition"], Shared, [-0.4, 0.4], two_faced(world, to, with, 0.4)),
        // Writes the same whatever the input, as much as would inhibit half of the names: no head's doing, where
        // value biases count with the output bias; much, where they count with the head.
        role("bias", &[], Weak, [0.0, 0.0], Wiring {
            value_bias: half.map(|name| (Inhibited(name), -1.0)).collect(),
            ..Wiring::default()
        }),
    ];
    Vec::from(table)
}

/// A circuit for each task, without a common head.
///
/// In each task S2 is found by the mark before it, which the other task does not have. Logit differences without
/// ablation: 2 + 1.6 on IOI, 2.4 + 1.2 on anti-repeat.
pub fn separate_circuit(world: &World) -> Vec<Role> {
    let (to, with) = (Token(world.id(" to")), Token(world.id(" with")));
    let (comma, stop) = (world.id(","), world.id("."));
    #[rustfmt::skip]
    let table = [
        role("ioi_previous", &[], OnlyA, [-2.0 / 3.0 - 3.6, 0.0], previous_mark(comma)),
        role("ioi_inhibition", &["ioi_previous"], OnlyA, [-2.0 / 3.0 - 2.0, 0.0],
            s_inhibition(world, to, Previous(comma))),
        role("ioi_mover", &["ioi_inhibition"], OnlyA, [-2.0, 0.0], mover(world, to, 2.0)),
        role("ioi_suppressor", &["ioi_previous"], OnlyA, [-1.6, 0.0], suppressor(world, to, Previous(comma), 1.6)),
        role("anti_previous", &[], OnlyB, [0.0, -2.4 / 3.0 - 3.6], previous_mark(stop)),
        role("anti_inhibition", &["anti_previous"], OnlyB, [0.0, -2.4 / 3.0 - 2.4],
            s_inhibition(world, with, Previous(stop))),
        role("anti_mover", &["anti_inhibition"], OnlyB, [0.0, -2.4], mover(world, with, 2.4)),
        role("anti_suppressor", &["anti_previous"], OnlyB, [0.0, -1.2],
            suppressor(world, with, Previous(stop), 1.2)),
    ];
    Vec::from(table)
}

/// One circuit that does both tasks alike: every head has the same Δ on both. Logit difference 2 + 1.6.
pub fn shared_circuit(world: &World) -> Vec<Role> {
    #[rustfmt::skip]
    let table = [
        role("duplicate", &[], Shared, [-2.0 / 3.0 - 3.6; 2], duplicate(world)),
        role("s_inhibition", &["duplicate"], Shared, [-2.0 / 3.0 - 2.0; 2], s_inhibition(world, Constant, Duplicate)),
        role("mover", &["s_inhibition"], Shared, [-2.0; 2], mover(world, Constant, 2.0)),
        role("suppressor", &["duplicate"], Shared, [-1.6; 2], suppressor(world, Constant, Duplicate, 1.6)),
    ];
    Vec::from(table)
}

/// A mover whose work a later head does once it is gone: Δ of both is 0, though the mover gives the whole logit difference of 2 on
/// both tasks, and the backup none of it.
pub fn backup_circuit(world: &World) -> Vec<Role> {
    #[rustfmt::skip]
    let table = [
        // Without it the mover answers IO, S1 and S2 alike: 2/3 − 4/3 in place of 2. The backup is content with any answer.
        role("duplicate", &[], Shared, [-2.0 / 3.0 - 2.0; 2], duplicate(world)),
        role("s_inhibition", &["duplicate"], Shared, [-2.0 / 3.0 - 2.0; 2], s_inhibition(world, Constant, Duplicate)),
        role("mover", &["s_inhibition"], Weak, [0.0; 2], mover(world, Constant, 2.0)),
        role("backup", &["mover"], Weak, [0.0; 2], backup(world, 2.0)),
    ];
    Vec::from(table)
}

fn role(
    name: &'static str,
    after: &'static [&'static str],
    category: Category,
    delta: [f64; 2],
    wiring: Wiring,
) -> Role {
    Role { name, after, category, delta, wiring }
}

/// Says [`Duplicate`] where a name stood before: attends to the same name elsewhere.
fn duplicate(world: &World) -> Wiring {
    let same_name = world.names().map(|name| (Token(name), Token(name), SURE));
    let not_itself = (0..N_CTX).map(|p| (Position(p), Position(p), -SURE));
    Wiring {
        attend: same_name.chain(not_itself).chain([rest(world)]).collect(),
        copy: vec![(IsName, Duplicate, 1.0)],
        ..Wiring::default()
    }
}

/// Says [`Previous`] of every token.
fn previous(world: &World) -> Wiring {
    Wiring {
        attend: one_back(),
        copy: (0..world.d_vocab()).map(|token| (Token(token), Previous(token), 1.0)).collect(),
        ..Wiring::default()
    }
}

/// Says [`Previous`] of one token alone.
fn previous_mark(token: usize) -> Wiring {
    Wiring { attend: one_back(), copy: vec![(Token(token), Previous(token), 1.0)], ..Wiring::default() }
}

fn one_back() -> Vec<(Feature, Feature, f64)> {
    (1..N_CTX).map(|p| (Position(p), Position(p - 1), SURE)).collect()
}

/// From where `at` is said, says [`Inhibited`] of the token at which `mark` is said.
fn s_inhibition(world: &World, at: Feature, mark: Feature) -> Wiring {
    Wiring {
        attend: vec![(at, mark, SURE), rest(world)],
        copy: world.names().map(|name| (Token(name), Inhibited(name), 1.0)).collect(),
        ..Wiring::default()
    }
}

/// From where `at` is said, raises the names that are not inhibited by `logits`.
fn mover(world: &World, at: Feature, logits: f64) -> Wiring {
    let not_inhibited = world.names().map(|name| (Inhibited(name), Token(name), -SURE));
    Wiring {
        attend: not_inhibited.chain([(at, IsName, SURE), rest(world)]).collect(),
        copy: answers(world, logits),
        ..Wiring::default()
    }
}

/// A [`mover`] that attends to BOS where some name is answered already, by as many `logits`.
fn backup(world: &World, logits: f64) -> Wiring {
    let answered = world.names().map(|name| (Answer(name), Token(world.bos()), 2.0 * SURE * LOGITS / logits));
    let mut wiring = mover(world, Constant, logits);
    wiring.attend.extend(answered);
    wiring
}

/// From where `at` is said, lowers the name at which `mark` is said by `logits`.
fn suppressor(world: &World, at: Feature, mark: Feature, logits: f64) -> Wiring {
    Wiring { attend: vec![(at, mark, SURE), rest(world)], copy: answers(world, -logits), ..Wiring::default() }
}

/// Lowers a name by `logits`: from `to` the repeated one, from `with` the one that is not inhibited.
fn two_faced(world: &World, to: Feature, with: Feature, logits: f64) -> Wiring {
    let not_inhibited = world.names().map(|name| (Inhibited(name), Token(name), -SURE));
    // Twice SURE, as S is inhibited on both tasks.
    let scores = [(to, Duplicate, 2.0 * SURE), (with, IsName, SURE), rest(world)];
    Wiring {
        attend: not_inhibited.chain(scores).collect(),
        copy: answers(world, -logits),
        ..Wiring::default()
    }
}

fn answers(world: &World, logits: f64) -> Vec<(Feature, Feature, f64)> {
    world.names().map(|name| (Token(name), Answer(name), logits / LOGITS)).collect()
}

/// Attention to BOS where there is nothing else to attend to.
fn rest(world: &World) -> (Feature, Feature, f64) {
    (Constant, Token(world.bos()), SURE / 2.0)
}
