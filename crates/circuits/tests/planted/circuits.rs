//! The circuits: heads with known functions, and their effects on both tasks.
//!
//! IO is the correct name, S the repeated one; S1 and S2 are its two positions. Each task ends in its own word ("
//! to", " with"), so a head whose queries look for this word works on only one task. An idle head attends to BOS,
//! whose value is zero.
//!
//! A head's Δ is a sum over the heads whose output changes: if a mover raises IO's logit by `m`, ablating the
//! input that its choice of IO depends on makes it attend to IO, S1 and S2 equally, and its share of the logit
//! difference goes from `m` to `m/3 − 2m/3 = −m/3`.

use cs_analysis::categories::Category::{self, OnlyA, OnlyB, Shared, Weak};

use super::features::{Feature, N_CTX};
use super::world::World;
use Feature::{Answer, Constant, Duplicate, Inhibited, IsName, Position, Previous, Token};

/// A planted head: its function, and the expected result of a scan.
pub struct Role {
    /// Its name in messages.
    pub name: &'static str,
    /// Heads that must be in earlier layers, since this one reads their output.
    pub after: &'static [&'static str],
    /// Its category at τ = 0.05.
    pub category: Category,
    /// Its Δ on IOI and on anti-repeat.
    pub delta: [f64; 2],
    /// Its weights.
    pub wiring: Wiring,
}

/// A head's weights, in terms of features.
#[derive(Default)]
pub struct Wiring {
    /// (f, g, w): if the query position has feature f and the key position g, the attention score increases
    /// by w.
    pub attend: Vec<(Feature, Feature, f64)>,
    /// (f, g, w): feature f is copied as w times g.
    pub copy: Vec<(Feature, Feature, f64)>,
    /// (g, w): w times g is added to every value by the value bias. The output bias removes it again.
    pub value_bias: Vec<(Feature, f64)>,
}

/// Attention score that saturates a softmax: e^(−SURE/2) is 5·10⁻⁵.
const SURE: f64 = 20.0;
/// Logits per unit of [`Answer`].
pub const LOGITS: f64 = 4.0;

/// Heads of every category and sign, on both tasks: previous-token, duplicate-token and S-inhibition heads, movers of
/// IO, suppressors of S, and harmful heads.
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
        // Marks S2 as a repeated name. Without it nothing is inhibited: the movers' shares become
        // −1/3 of themselves, `ioi_suppressor`, `repeater` and `two_faced` on IOI have nothing to attend to, and
        // `two_faced` on anti-repeat turns from −0.4 to +0.4/3.
        role("duplicate", &[], Shared, [-1.0 + 0.8 / 3.0 - 3.6, -2.0 / 3.0 + 1.2 + 0.4 / 3.0 - 2.2], duplicate(world)),
        // Writes the previous token at each position: only `anti_suppressor` reads it.
        role("previous", &[], OnlyB, [0.0, -1.2], previous(world)),
        // Attends to S2, and inhibits S at the last position.
        role("s_inhibition", &["duplicate"], Shared,
            [(-3.0 + 0.8) / 3.0 - 2.2, (-2.0 + 0.4) / 3.0 - 1.6], s_inhibition(world, Constant, Duplicate)),
        // Attends from " to" to the name that is not inhibited, and answers it.
        // `bias` is before it and `anti_mover`, so that removing the bias would be visible.
        role("ioi_mover", &["s_inhibition", "bias"], OnlyA, [-3.0, 0.0], mover(world, to, 3.0)),
        // The same, but suppresses it: harmful.
        role("ioi_negative_mover", &["s_inhibition"], OnlyA, [0.8, 0.0], mover(world, to, -0.8)),
        // Attends from " to" to S2, and suppresses it.
        role("ioi_suppressor", &["duplicate"], OnlyA, [-1.6, 0.0], suppressor(world, to, Duplicate, 1.6)),
        role("anti_mover", &["s_inhibition", "bias"], OnlyB, [0.0, -2.0], mover(world, with, 2.0)),
        // Attends from " with" to the name after the full stop, and suppresses it.
        role("anti_suppressor", &["previous"], OnlyB, [0.0, -1.2], suppressor(world, with, stop, 1.2)),
        // Attends to S2 and promotes it: harmful on both tasks.
        role("repeater", &["duplicate"], Shared, [0.6, 0.6], suppressor(world, Constant, Duplicate, -0.6)),
        // Suppresses S on IOI, which helps, and IO on anti-repeat, which is harmful.
        role("two_faced", &["s_inhibition"], Shared, [-0.4, 0.4], two_faced(world, to, with, 0.4)),
        // Writes a constant that would inhibit half of the names: no effect if value biases count as part of the
        // output bias, and a large one if they count as part of the head.
        role("bias", &[], Weak, [0.0, 0.0], Wiring {
            value_bias: half.map(|name| (Inhibited(name), -1.0)).collect(),
            ..Wiring::default()
        }),
    ];
    Vec::from(table)
}

/// One circuit per task, without shared heads.
///
/// In each task S2 is found by the token before it, which the other task does not have. Logit differences
/// without ablation: 2 + 1.6 on IOI, 2.4 + 1.2 on anti-repeat.
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

/// One circuit for both tasks: every head has the same Δ on both. Logit difference 2 + 1.6.
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

/// A mover with a backup in a later layer: Δ of both is 0, although the mover contributes the whole logit difference of 2 on both
/// tasks, and the backup none.
pub fn backup_circuit(world: &World) -> Vec<Role> {
    #[rustfmt::skip]
    let table = [
        // Without it the mover promotes IO, S1 and S2 equally: 2/3 − 4/3 instead of 2. The backup stays idle whatever the answer.
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

/// Writes [`Duplicate`] at repeated names: attends to the same name elsewhere.
fn duplicate(world: &World) -> Wiring {
    let same_name = world.names().map(|name| (Token(name), Token(name), SURE));
    let not_itself = (0..N_CTX).map(|p| (Position(p), Position(p), -SURE));
    Wiring {
        attend: same_name.chain(not_itself).chain([rest(world)]).collect(),
        copy: vec![(IsName, Duplicate, 1.0)],
        ..Wiring::default()
    }
}

/// Writes [`Previous`] for every token.
fn previous(world: &World) -> Wiring {
    Wiring {
        attend: one_back(),
        copy: (0..world.d_vocab()).map(|token| (Token(token), Previous(token), 1.0)).collect(),
        ..Wiring::default()
    }
}

/// Writes [`Previous`] for only one token.
fn previous_mark(token: usize) -> Wiring {
    Wiring { attend: one_back(), copy: vec![(Token(token), Previous(token), 1.0)], ..Wiring::default() }
}

fn one_back() -> Vec<(Feature, Feature, f64)> {
    (1..N_CTX).map(|p| (Position(p), Position(p - 1), SURE)).collect()
}

/// At positions with feature `at`, writes [`Inhibited`] for the token at positions with `mark`.
fn s_inhibition(world: &World, at: Feature, mark: Feature) -> Wiring {
    Wiring {
        attend: vec![(at, mark, SURE), rest(world)],
        copy: world.names().map(|name| (Token(name), Inhibited(name), 1.0)).collect(),
        ..Wiring::default()
    }
}

/// At positions with feature `at`, raises the names that are not inhibited by `logits`.
fn mover(world: &World, at: Feature, logits: f64) -> Wiring {
    let not_inhibited = world.names().map(|name| (Inhibited(name), Token(name), -SURE));
    Wiring {
        attend: not_inhibited.chain([(at, IsName, SURE), rest(world)]).collect(),
        copy: answers(world, logits),
        ..Wiring::default()
    }
}

/// A [`mover`] that attends to BOS if some name has already been raised by `logits`.
fn backup(world: &World, logits: f64) -> Wiring {
    let answered = world.names().map(|name| (Answer(name), Token(world.bos()), 2.0 * SURE * LOGITS / logits));
    let mut wiring = mover(world, Constant, logits);
    wiring.attend.extend(answered);
    wiring
}

/// At positions with feature `at`, lowers the name at positions with `mark` by `logits`.
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

/// Attention to BOS if there is nothing else to attend to.
fn rest(world: &World) -> (Feature, Feature, f64) {
    (Constant, Token(world.bos()), SURE / 2.0)
}
