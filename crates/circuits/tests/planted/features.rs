//! The features in the residual stream of a planted model, and their directions.

use super::random::Random;
use super::world::World;

/// A feature at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A constant, much larger than everything else: see [`Basis`].
    Constant,
    /// The token is a name.
    IsName,
    /// The token.
    Token(usize),
    /// The position.
    Position(usize),
    /// The token occurred earlier in the prompt.
    Duplicate,
    /// The previous token.
    Previous(usize),
    /// This name is inhibited.
    Inhibited(usize),
    /// This name is the answer.
    Answer(usize),
}

/// Longest prompt, BOS included.
pub const N_CTX: usize = 16;

/// Size of the constant.
const CONSTANT: f64 = 24.0;

/// A random orthonormal direction for each feature, all orthogonal to the vector of ones.
///
/// So layer norm's mean is zero, and since the constant dominates everything else, its standard deviation is nearly
/// that of the constant, whatever heads write: layer norm multiplies by a known number.
pub struct Basis {
    d_vocab: usize,
    directions: Vec<Vec<f64>>, // [n_features][d_model]
}

impl Basis {
    pub fn new(world: &World, random: &mut Random) -> Self {
        let d_vocab = world.d_vocab();
        let n_features = 3 + 4 * d_vocab + N_CTX;
        let d_model = n_features + 1;
        // Gram–Schmidt, the vector of ones first.
        let mut directions = vec![vec![1.0 / (d_model as f64).sqrt(); d_model]];
        while directions.len() <= n_features {
            let mut new: Vec<f64> = (0..d_model).map(|_| random.normal()).collect();
            // Twice, for orthogonality to the last bits.
            for other in directions.iter().chain(&directions) {
                let along = dot(&new, other);
                new.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
            let norm = dot(&new, &new).sqrt();
            new.iter_mut().for_each(|x| *x /= norm);
            directions.push(new);
        }
        directions.remove(0);
        Self { d_vocab, directions }
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.directions.len() + 1
    }

    /// The vector of `feature` with this strength. `[d_model]`
    pub fn write(&self, feature: Feature, strength: f64) -> Vec<f64> {
        let size = if feature == Feature::Constant { CONSTANT } else { 1.0 };
        self.directions[self.index(feature)].iter().map(|x| strength * size * x).collect()
    }

    /// The vector whose product with the *normed* residual stream is the strength of `feature`. `[d_model]`
    pub fn read(&self, feature: Feature) -> Vec<f64> {
        let size = if feature == Feature::Constant { CONSTANT } else { 1.0 };
        // Constant, token, position.
        let squared_norm = CONSTANT * CONSTANT + 2.0;
        let layer_norm = (self.d_model() as f64 / squared_norm).sqrt();
        self.directions[self.index(feature)].iter().map(|x| x / (size * layer_norm)).collect()
    }

    fn index(&self, feature: Feature) -> usize {
        let of_token = |kind: usize, token: usize| 3 + kind * self.d_vocab + token;
        match feature {
            Feature::Constant => 0,
            Feature::IsName => 1,
            Feature::Duplicate => 2,
            Feature::Token(token) => of_token(0, token),
            Feature::Previous(token) => of_token(1, token),
            Feature::Inhibited(token) => of_token(2, token),
            Feature::Answer(token) => of_token(3, token),
            Feature::Position(position) => of_token(4, 0) + position,
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
