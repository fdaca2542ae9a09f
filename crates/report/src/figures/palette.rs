//! Colours and markers: one colour per category and per task, one marker and colour per family, in every figure.
//!
//! Categories and tasks take their colours from Okabe and Ito's palette, families from Paul Tol's "muted": both remain
//! distinguishable with common colour-vision deficiencies, and no colour has two meanings.

use cs_analysis::contrast::{Category, Contrast, IOI, Side};
use cs_analysis::known_models::family_rank;
use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Secondary text.
pub const QUIET: RGBColor = RGBColor(0x55, 0x55, 0x55);
/// Ticks, frames and guide lines.
pub const FAINT: RGBColor = RGBColor(0x8a, 0x8a, 0x8a);
/// Background of panel titles.
pub const STRIP: RGBColor = RGBColor(0xf0, 0xf0, 0xf0);
/// Background, such as cells without a value.
pub const GROUND: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

/// The colour of a category.
#[must_use]
pub fn category_color(category: Category) -> RGBColor {
    match category {
        Category::OnlyB => RGBColor(0xd5, 0x5e, 0x00),
        Category::OnlyA => RGBColor(0x00, 0x72, 0xb2),
        Category::Shared => RGBColor(0xcc, 0x79, 0xa7),
        Category::Weak => RGBColor(0x99, 0x99, 0x99),
    }
}

/// The marker of a category in figures without families' markers.
#[must_use]
pub fn category_marker(category: Category) -> Marker {
    match category {
        Category::OnlyA => side_marker(Side::A),
        Category::OnlyB => side_marker(Side::B),
        Category::Shared => Marker::Square,
        Category::Weak => Marker::Plus,
    }
}

/// The marker of a task in its contrast.
#[must_use]
pub fn side_marker(side: Side) -> Marker {
    match side {
        Side::A => Marker::Circle,
        Side::B => Marker::Diamond,
    }
}

/// Categories in the order of legends.
pub const IN_LEGENDS: [Category; 4] = [Category::Shared, Category::OnlyA, Category::OnlyB, Category::Weak];

/// The name of a contrast's category in figures, notes and the page.
#[must_use]
pub fn category_label(contrast: &Contrast, category: Category) -> String {
    match category.only() {
        // The published pair's short names.
        Some(Side::B) if contrast.is_published() => "anti-only".to_owned(),
        Some(side) => format!("{}-only", side_label(contrast, side)),
        None if category == Category::Shared => "shared".to_owned(),
        None => "weak".to_owned(),
    }
}

/// The colour of a task in its contrast, which is that of the heads that only work on it.
#[must_use]
pub fn side_color(side: Side) -> RGBColor {
    match side {
        Side::A => category_color(Category::OnlyA),
        Side::B => category_color(Category::OnlyB),
    }
}

/// The name of a contrast's task in figures, notes and the page.
#[must_use]
pub fn side_label(contrast: &Contrast, side: Side) -> String {
    task_label(contrast.task(side))
}

/// The name of a task in figures, notes and the page, given its name in files.
#[must_use]
pub fn task_label(task: &str) -> String {
    if task == IOI { "IOI".to_owned() } else { task.replace('_', "-") }
}

/// Colours of single tasks: Okabe and Ito's, in an order in which neighbours are easy to distinguish.
const TASK_COLORS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
];

/// The colour of a study's task, by its index.
#[must_use]
pub fn task_color(place: usize) -> RGBColor {
    TASK_COLORS[place % TASK_COLORS.len()]
}

/// A marker's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// ●
    Circle,
    /// ▲
    Triangle,
    /// ■
    Square,
    /// ◆
    Diamond,
    /// ▼
    TriangleDown,
    /// ✚
    Plus,
    /// ★
    Star,
    /// A regular hexagon.
    Hexagon,
}

impl Marker {
    const ALL: [Self; 8] = [
        Self::Circle,
        Self::Triangle,
        Self::Square,
        Self::Diamond,
        Self::TriangleDown,
        Self::Plus,
        Self::Star,
        Self::Hexagon,
    ];

    /// Corners around the origin, y down, for a marker with about the area of a circle of radius 1; empty for the
    /// circle itself.
    #[must_use]
    pub fn corners(self) -> Vec<(f64, f64)> {
        let around = |n: usize, start: f64, radius: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
            (0..n)
                .map(|i| {
                    let angle = start + std::f64::consts::TAU * i as f64 / n as f64;
                    (radius(i) * angle.cos(), radius(i) * angle.sin())
                })
                .collect()
        };
        let up = -std::f64::consts::FRAC_PI_2;
        match self {
            Self::Circle => Vec::new(),
            Self::Triangle => around(3, up, &|_| 1.35),
            Self::TriangleDown => around(3, -up, &|_| 1.35),
            Self::Square => around(4, up / 2.0, &|_| 1.25),
            Self::Diamond => around(4, up, &|_| 1.3),
            Self::Hexagon => around(6, up, &|_| 1.1),
            Self::Star => around(10, up, &|i| if i % 2 == 0 { 1.45 } else { 0.65 }),
            Self::Plus => {
                let (long, thin) = (1.25, 0.42);
                vec![
                    (-thin, -long),
                    (thin, -long),
                    (thin, -thin),
                    (long, -thin),
                    (long, thin),
                    (thin, thin),
                    (thin, long),
                    (-thin, long),
                    (-thin, thin),
                    (-long, thin),
                    (-long, -thin),
                    (-thin, -thin),
                ]
            }
        }
    }
}

const FAMILY_COLORS: [RGBColor; 8] = [
    RGBColor(0x33, 0x22, 0x88),
    RGBColor(0x44, 0xaa, 0x99),
    RGBColor(0x88, 0x22, 0x55),
    RGBColor(0x99, 0x99, 0x33),
    RGBColor(0xcc, 0x66, 0x77),
    RGBColor(0x11, 0x77, 0x33),
    RGBColor(0x88, 0xcc, 0xee),
    RGBColor(0xdd, 0xcc, 0x77),
];

/// The families of a study, each with its marker and colour. The four known families have the same in every study;
/// others take the next free ones in the study's order, and markers repeat beyond eight families.
#[derive(Debug, Clone)]
pub struct Families {
    names: Vec<String>,
}

impl Families {
    /// The families of these models, in the study's order, each once.
    pub fn new<'a>(families: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for family in families {
            if !names.iter().any(|n| n == family) {
                names.push(family.to_owned());
            }
        }
        Self { names }
    }

    /// The families, in the study's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Number of families.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn slot(&self, family: &str) -> usize {
        let rank = family_rank(family);
        let unknown = self.names.iter().filter(|n| family_rank(n) == rank);
        // Known families have fixed ranks; the others follow after the last.
        (rank + unknown.take_while(|n| *n != family).count()) % Marker::ALL.len()
    }

    /// The marker of a family.
    #[must_use]
    pub fn marker(&self, family: &str) -> Marker {
        Marker::ALL[self.slot(family)]
    }

    /// The colour of a family.
    #[must_use]
    pub fn color(&self, family: &str) -> RGBColor {
        FAMILY_COLORS[self.slot(family)]
    }
}

/// Blue (−1) over white (0) to red (+1): ColorBrewer's RdBu, interpolated.
#[must_use]
pub fn diverging(value: f64) -> RGBColor {
    const STOPS: [[u8; 3]; 9] = [
        [0x21, 0x66, 0xac],
        [0x43, 0x93, 0xc3],
        [0x92, 0xc5, 0xde],
        [0xd1, 0xe5, 0xf0],
        [0xff, 0xff, 0xff],
        [0xfd, 0xdb, 0xc7],
        [0xf4, 0xa5, 0x82],
        [0xd6, 0x60, 0x4d],
        [0xb2, 0x18, 0x2b],
    ];
    let place = (value.clamp(-1.0, 1.0) + 1.0) / 2.0 * (STOPS.len() - 1) as f64;
    let below = (place.floor() as usize).min(STOPS.len() - 2);
    let share = place - below as f64;
    let mix = |i: usize| {
        let [a, b] = [below, below + 1].map(|stop| f64::from(STOPS[stop][i]));
        (a + share * (b - a)).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_keep_their_markers() {
        let all = Families::new(["gpt2", "pythia", "opt", "gpt-neo", "mine", "yours"]);
        let alone = Families::new(["opt", "mine"]);
        assert_eq!(all.marker("opt"), alone.marker("opt"));
        assert_eq!(all.marker("mine"), alone.marker("mine"));
        let mut seen: Vec<Marker> = Vec::new();
        for name in all.names() {
            assert!(!seen.contains(&all.marker(name)), "{name}");
            seen.push(all.marker(name));
        }
    }

    #[test]
    fn diverging_is_white_in_the_middle_and_clamped_at_its_ends() {
        assert_eq!(diverging(0.0), RGBColor(255, 255, 255));
        assert_eq!(diverging(-7.0), diverging(-1.0));
        assert_ne!(diverging(-1.0), diverging(1.0));
    }
}
