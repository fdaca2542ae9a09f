//! Rotary embeddings in both notations: Transformers 4's `rope_theta` with `rope_scaling`, and 5's `rope_parameters`.
//!
//! Versions differ in which of several keys wins, so keys that are present must agree. Defaults are those of
//! `modeling_rope_utils.py`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::common::Result;
use crate::keys::{Keys, shorten};
use crate::spec::{Rotary, RotaryFrequencies, RotaryPairing, RotaryScaling};

/// A family's keys for the rotary embedding, and its defaults.
pub(super) struct Spelling {
    /// Top-level keys of the base.
    pub(super) base_keys: &'static [&'static str],
    /// The default base.
    pub(super) base: f64,
    /// Top-level keys of the fraction of a head's coordinates that are rotated.
    pub(super) share_keys: &'static [&'static str],
    /// The default fraction.
    pub(super) share: f64,
    /// Whether the architecture supports rotating only some coordinates.
    pub(super) partial: bool,
    /// Aliases of scaling kinds.
    pub(super) aliases: &'static [(&'static str, &'static str)],
    /// The default of `original_max_position_embeddings`, if the family has one.
    pub(super) original_n_ctx: Option<usize>,
}

impl Spelling {
    /// Llama's, which most families share.
    pub(super) const STANDARD: Self = Self {
        base_keys: &["rope_theta"],
        base: 10_000.0,
        share_keys: &["partial_rotary_factor"],
        share: 1.0,
        partial: false,
        aliases: &[],
        original_n_ctx: None,
    };
}

/// Sizes that rotary embeddings depend on.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) n_layers: usize,
    pub(super) d_head: usize,
    /// `max_position_embeddings`
    pub(super) n_ctx: usize,
}

/// One rotary embedding for all layers, and the number of tokens up to which it is valid.
pub(super) fn rotary(keys: &Keys, spelling: &Spelling, shape: Shape) -> Result<(Rotary, usize)> {
    let mut settings = Settings::new(keys);
    settings.add_top_level("base", spelling.base_keys)?;
    settings.add_top_level("share", spelling.share_keys)?;
    for group in ["rope_parameters", "rope_scaling"] {
        if let Some(parameters) = object(keys, group)? {
            settings.add_group(group, group, parameters)?;
        }
    }
    settings.add_original(keys, spelling)?;
    let (n_dims, frequencies, n_ctx) = settings.finish(spelling, shape)?;
    let rotary = Rotary {
        n_dims,
        pairing: RotaryPairing::Halves,
        frequencies: vec![frequencies],
        of_layer: vec![0; shape.n_layers],
    };
    Ok((rotary, n_ctx))
}

/// One rotary embedding for the full layers and one for the windowed layers (Gemma 3): `rope_scaling` applies only to
/// the full layers, and `rope_parameters` has an object for each kind of layer.
pub(super) fn rotary_by_layer_type(
    keys: &Keys,
    full: &Spelling,
    sliding: &Spelling,
    is_sliding: &[bool],
    shape: Shape,
) -> Result<(Rotary, usize)> {
    const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
    let parameters = object(keys, "rope_parameters")?;
    if let Some((key, value)) = parameters
        .and_then(|p| p.iter().find(|(key, value)| !KINDS.contains(&key.as_str()) && !value.is_null()))
    {
        return Err(keys.error(
            "rope_parameters",
            &format!("sets {key:?} to {}, which is not part of a kind of layer", shorten(value)),
            "put it into \"full_attention\" or \"sliding_attention\"",
        ));
    }
    let mut frequencies = Vec::new();
    let (mut n_dims, mut n_ctx) = (shape.d_head, shape.n_ctx);
    for (kind, spelling) in KINDS.into_iter().zip([full, sliding]) {
        let mut settings = Settings::new(keys);
        settings.add_top_level("base", spelling.base_keys)?;
        settings.add_top_level("share", spelling.share_keys)?;
        match parameters.and_then(|p| p.get(kind)) {
            None | Some(Value::Null) => {}
            Some(Value::Object(own)) => {
                settings.add_group("rope_parameters", &format!("rope_parameters.{kind}"), own)?;
            }
            Some(_) => {
                let problem = format!("sets {kind} to a value that is not a JSON object");
                return Err(keys.error("rope_parameters", &problem, "correct it or remove it"));
            }
        }
        if kind == KINDS[0]
            && let Some(scaling) = object(keys, "rope_scaling")?
        {
            settings.add_group("rope_scaling", "rope_scaling", scaling)?;
        }
        settings.add_original(keys, spelling)?;
        let own;
        (n_dims, own, n_ctx) = settings.finish(spelling, Shape { n_ctx, ..shape })?;
        frequencies.push(own);
    }
    let of_layer = is_sliding.iter().map(|&is_sliding| usize::from(is_sliding)).collect();
    Ok((Rotary { n_dims, pairing: RotaryPairing::Halves, frequencies, of_layer }, n_ctx))
}

/// A key that holds a JSON object, `null`, or nothing.
fn object<'a>(keys: &Keys<'a>, key: &'static str) -> Result<Option<&'a Map<String, Value>>> {
    match keys.optional(&[key])? {
        None => Ok(None),
        Some((_, Value::Object(object))) => Ok(Some(object)),
        Some(_) => Err(keys.error(key, "is not a JSON object", "correct it or remove it")),
    }
}

/// What a group may set: the key's name, and the setting's name here.
const GROUP_KEYS: [(&str, &str); 16] = [
    ("rope_theta", "base"),
    ("partial_rotary_factor", "share"),
    ("rope_type", "kind"),
    ("type", "kind"),
    ("factor", "factor"),
    ("original_max_position_embeddings", "original"),
    ("attention_factor", "attention_factor"),
    ("beta_fast", "beta_fast"),
    ("beta_slow", "beta_slow"),
    ("mscale", "mscale"),
    ("mscale_all_dim", "mscale_all_dim"),
    ("truncate", "truncate"),
    ("low_freq_factor", "low_freq_factor"),
    ("high_freq_factor", "high_freq_factor"),
    ("short_factor", "short_factor"),
    ("long_factor", "long_factor"),
];

/// One setting, and where it was found.
struct Setting<'a> {
    /// The top-level key.
    key: &'static str,
    /// Its full name, `rope_scaling.factor`.
    name: String,
    value: &'a Value,
}

/// The settings of one rotary embedding; one given more than once must have equal values.
struct Settings<'k, 'a> {
    keys: &'k Keys<'a>,
    found: BTreeMap<&'static str, Setting<'a>>,
    /// Whether some came from a group in Transformers 4's notation.
    scaling_of_4: bool,
}

impl<'k, 'a> Settings<'k, 'a> {
    fn new(keys: &'k Keys<'a>) -> Self {
        Self { keys, found: BTreeMap::new(), scaling_of_4: false }
    }

    fn add(&mut self, setting: &'static str, new: Setting<'a>) -> Result<()> {
        let same = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        };
        match self.found.get(setting) {
            Some(earlier) if !same(earlier.value, new.value) => Err(self.keys.error(
                new.key,
                &format!(
                    "sets {} to {}, but {} is {}, which is the same setting",
                    new.name,
                    shorten(new.value),
                    earlier.name,
                    shorten(earlier.value)
                ),
                "keep the one that the checkpoint was trained with",
            )),
            Some(_) => Ok(()),
            None => {
                self.found.insert(setting, new);
                Ok(())
            }
        }
    }

    fn add_top_level(&mut self, setting: &'static str, names: &[&'static str]) -> Result<()> {
        for &key in names {
            if let Some(value) = self.keys.raw(key) {
                self.add(setting, Setting { key, name: key.to_owned(), value })?;
            }
        }
        Ok(())
    }

    fn add_group(&mut self, key: &'static str, name: &str, group: &'a Map<String, Value>) -> Result<()> {
        self.scaling_of_4 |= key == "rope_scaling";
        for (inner, value) in group.iter().filter(|(_, value)| !value.is_null()) {
            // A marker of YaRN's authors without effect.
            if inner == "finetuned" {
                continue;
            }
            let Some((_, setting)) = GROUP_KEYS.iter().find(|(name, _)| name == inner) else {
                let problem = format!("sets {inner:?} to {}, which is not supported", shorten(value));
                return Err(self.keys.error(key, &problem, "use a checkpoint without it"));
            };
            self.add(setting, Setting { key, name: format!("{name}.{inner}"), value })?;
        }
        Ok(())
    }

    /// The original training length, which may be given at the top level, in the group, or both.
    fn add_original(&mut self, keys: &Keys<'a>, spelling: &Spelling) -> Result<()> {
        const KEY: &str = "original_max_position_embeddings";
        let in_group = self.found.contains_key("original");
        let top = keys.optional(&[KEY])?;
        if let Some((key, value)) = top {
            self.add("original", Setting { key, name: KEY.to_owned(), value })?;
        }
        let n_ctx = || keys.raw("max_position_embeddings");
        let differs = self.found.get("original").is_some_and(|original| Some(original.value) != n_ctx());
        let one_sided = match self.kind(spelling)? {
            "yarn" | "llama3" => top.is_some() && !in_group,
            "longrope" => in_group && top.is_none(),
            _ => false,
        };
        if self.scaling_of_4 && one_sided && differs {
            return Err(keys.error(
                "rope_scaling",
                &format!("and the top level do not both set {KEY}, and Transformers 4 and 5 differ then"),
                &format!("write {KEY} into both"),
            ));
        }
        Ok(())
    }

    fn error(&self, setting: &str, problem: &str) -> crate::error::ConfigError {
        let (key, name) = match self.found.get(setting) {
            Some(found) => (found.key, found.name.as_str()),
            None => ("rope_scaling", setting),
        };
        self.keys.error(key, &format!("sets {name} to {problem}"), "correct it")
    }

    fn kind(&self, spelling: &Spelling) -> Result<&'a str> {
        let Some(setting) = self.found.get("kind") else { return Ok("default") };
        let Some(kind) = setting.value.as_str() else { return Err(self.error("kind", "no text")) };
        Ok(spelling.aliases.iter().find(|(alias, _)| *alias == kind).map_or(kind, |(_, kind)| kind))
    }

    /// A finite number above 0.
    fn number(&self, setting: &str) -> Result<Option<f64>> {
        let Some(found) = self.found.get(setting) else { return Ok(None) };
        match found.value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(x) => Ok(Some(x)),
            None => Err(self.error(setting, "a value that is not a number above 0")),
        }
    }

    fn required(&self, setting: &'static str, kind: &str) -> Result<f64> {
        self.number(setting)?.ok_or_else(|| {
            let key = self.found.get("kind").map_or("rope_scaling", |kind| kind.key);
            let problem = format!("is of type {kind}, which needs {setting:?}");
            self.keys.error(key, &problem, "add it as the checkpoint was trained")
        })
    }

    /// The divisor of the frequencies, at least 1.
    fn factor(&self, kind: &str) -> Result<f64> {
        match self.required("factor", kind)? {
            factor if factor < 1.0 => Err(self.error("factor", "a number below 1")),
            factor => Ok(factor),
        }
    }

    fn original(&self, default: usize) -> Result<usize> {
        match self.number("original")? {
            None => Ok(default),
            Some(n) if n.fract() == 0.0 && n <= f64::from(1 << 24) => Ok(n as usize),
            Some(_) => Err(self.error("original", "a value that is not a valid length")),
        }
    }

    /// Divisors, one per pair of coordinates.
    fn divisors(&self, setting: &'static str, n_pairs: usize) -> Result<Vec<f64>> {
        let list = self.found.get(setting).and_then(|found| found.value.as_array());
        let numbers = list.map(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
        match numbers.flatten() {
            Some(numbers)
                if numbers.len() == n_pairs && numbers.iter().all(|x| x.is_finite() && *x > 0.0) =>
            {
                Ok(numbers)
            }
            _ => {
                Err(self.error(setting, &format!("a value that is not a list of {n_pairs} numbers above 0")))
            }
        }
    }

    /// Rotated coordinates per head, frequencies, and the number of tokens up to which they are valid.
    fn finish(&self, spelling: &Spelling, shape: Shape) -> Result<(usize, RotaryFrequencies, usize)> {
        let Shape { d_head, n_ctx, .. } = shape;
        let base = self.number("base")?.unwrap_or(spelling.base);
        let share = self.number("share")?.unwrap_or(spelling.share);
        let n_dims = (d_head as f64 * share) as usize; // rounded down, as int() does
        let is_possible = n_dims > 0 && n_dims <= d_head && n_dims.is_multiple_of(2);
        if !is_possible || (n_dims < d_head && !spelling.partial) {
            let key = self.found.get("share").map_or("head_dim", |found| found.key);
            let fix = if spelling.partial {
                "the number must be even, above 0, and at most the head's width"
            } else {
                "the number must be even, and this architecture rotates all"
            };
            let problem = format!("rotates {n_dims} of {d_head} coordinates per head");
            return Err(self.keys.error(key, &problem, fix));
        }
        let kind = self.kind(spelling)?;
        let mut n_ctx_held = n_ctx;
        let (scaling, used): (RotaryScaling, &[&str]) = match kind {
            "default" => (RotaryScaling::None, &[]),
            // Unscaled up to `max_position_embeddings`.
            "dynamic" => {
                self.factor(kind)?;
                (RotaryScaling::None, &["factor"])
            }
            "linear" => (RotaryScaling::Linear { factor: self.factor(kind)? }, &["factor"]),
            "yarn" => (self.yarn(n_ctx)?, YARN),
            "llama3" => (self.llama3(n_ctx)?, &["factor", "low_freq_factor", "high_freq_factor"]),
            "longrope" => {
                let original = self.original(spelling.original_n_ctx.unwrap_or(n_ctx))?;
                n_ctx_held = n_ctx.min(original);
                let used: &[&str] = &["factor", "attention_factor", "short_factor", "long_factor"];
                (self.longrope(original, n_ctx, n_dims / 2)?, used)
            }
            _ => {
                return Err(self.error(
                    "kind",
                    &format!(
                        "{kind:?}, which is not supported; supported are default, linear, dynamic, yarn, llama3 and longrope"
                    ),
                ));
            }
        };
        let everywhere = ["base", "share", "kind", "original"];
        let has_place = |setting: &&str| everywhere.contains(setting) || used.contains(setting);
        if let Some(setting) = self.found.keys().find(|setting| !has_place(setting)) {
            let value = shorten(self.found[setting].value);
            return Err(self.error(setting, &format!("{value}, which does not apply to type {kind:?}")));
        }
        Ok((n_dims, RotaryFrequencies { base, scaling }, n_ctx_held))
    }

    fn yarn(&self, n_ctx: usize) -> Result<RotaryScaling> {
        let factor = self.factor("yarn")?;
        let mscale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let attention_factor = match (self.number("attention_factor")?, self.optional("mscale")?) {
            (Some(given), _) => given,
            (None, Some(m)) => match self.optional("mscale_all_dim")? {
                Some(all) => mscale(m) / mscale(all),
                None => mscale(1.0),
            },
            (None, None) => mscale(1.0),
        };
        let truncate = match self.found.get("truncate") {
            None => true,
            Some(found) => found
                .value
                .as_bool()
                .ok_or_else(|| self.error("truncate", "a value that is neither true nor false"))?,
        };
        Ok(RotaryScaling::Yarn {
            factor,
            attention_factor,
            beta_fast: self.optional("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional("beta_slow")?.unwrap_or(1.0),
            original_n_ctx: self.original(n_ctx)?,
            truncate,
        })
    }

    /// Like [`Settings::number`], with 0 treated as absent.
    fn optional(&self, setting: &str) -> Result<Option<f64>> {
        match self.found.get(setting) {
            Some(found) if found.value.as_f64() == Some(0.0) => Ok(None),
            _ => self.number(setting),
        }
    }

    fn llama3(&self, n_ctx: usize) -> Result<RotaryScaling> {
        let low_freq_factor = self.required("low_freq_factor", "llama3")?;
        let high_freq_factor = self.required("high_freq_factor", "llama3")?;
        if high_freq_factor <= low_freq_factor {
            return Err(self.error("high_freq_factor", "a number that is not above low_freq_factor"));
        }
        Ok(RotaryScaling::Llama3 {
            factor: self.factor("llama3")?,
            low_freq_factor,
            high_freq_factor,
            original_n_ctx: self.original(n_ctx)?,
        })
    }

    fn longrope(&self, original: usize, n_ctx: usize, n_pairs: usize) -> Result<RotaryScaling> {
        let short_factor = self.divisors("short_factor", n_pairs)?;
        self.divisors("long_factor", n_pairs)?;
        let ratio = n_ctx as f64 / original as f64;
        let attention_factor = match (self.number("attention_factor")?, self.number("factor")?) {
            (Some(given), _) => given,
            // If both are given, Transformers 4 uses the ratio of the two lengths, and 5 the factor.
            (None, Some(factor)) if factor != ratio && original != n_ctx => {
                let problem =
                    format!("{factor}, but the lengths' ratio is {ratio}: Transformers 4 and 5 differ");
                return Err(self.error("factor", &problem));
            }
            (None, factor) => match factor.unwrap_or(ratio) {
                factor if factor <= 1.0 => 1.0,
                factor => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            },
        };
        Ok(RotaryScaling::LongRope { short_factor, attention_factor })
    }
}

/// The settings of `yarn`.
const YARN: &[&str] =
    &["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"];
