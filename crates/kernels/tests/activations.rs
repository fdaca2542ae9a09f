//! Activations, gates and soft caps against float64 on every instruction set. With `--ignored`, all floats are tested.

use cs_kernels::{
    Isa, gelu_erf_gate_with, gelu_erf_with, gelu_tanh_gate_with, gelu_tanh_with, relu_gate_with, relu_with,
    silu_gate_with, silu_with, softcap_with,
};

type Kernel = fn(Isa, &mut [f32]);

fn gelu_erf(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn gelu_tanh(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    x / (1.0 + (-2.0 * u).exp())
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

type Reference = fn(f64) -> f64;

const SMOOTH: [(&str, Kernel, Reference); 3] = [
    ("gelu_erf", gelu_erf_with, gelu_erf),
    ("gelu_tanh", gelu_tanh_with, gelu_tanh),
    ("silu", silu_with, silu),
];

type Gate = fn(Isa, &mut [f32], &[f32]);

const GATES: [(&str, Gate, Kernel); 4] = [
    ("gelu_erf", gelu_erf_gate_with, gelu_erf_with),
    ("gelu_tanh", gelu_tanh_gate_with, gelu_tanh_with),
    ("relu", relu_gate_with, relu_with),
    ("silu", silu_gate_with, silu_with),
];

/// Gemma 2's soft caps for scores and logits, and one that is not a round number.
const CAPS: [(f32, Kernel, Reference); 3] = [
    (50.0, |isa, x| softcap_with(isa, x, 50.0), |x| 50.0 * (x / 50.0).tanh()),
    (30.0, |isa, x| softcap_with(isa, x, 30.0), |x| 30.0 * (x / 30.0).tanh()),
    (0.37, |isa, x| softcap_with(isa, x, 0.37), |x| f64::from(0.37f32) * (x / f64::from(0.37f32)).tanh()),
];

/// The worst relative error over normal results, and where; subnormal results must be correct to one ulp.
fn worst(kernel: Kernel, reference: fn(f64) -> f64, isa: Isa, bits: impl Iterator<Item = u32>) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = bits.peekable();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    while bits.peek().is_some() {
        x.clear();
        x.extend(bits.by_ref().take(4096).map(f32::from_bits));
        y.clone_from(&x);
        kernel(isa, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let exact = reference(f64::from(x));
            let error = (f64::from(y) - exact).abs();
            if exact.abs() >= f64::from(f32::MIN_POSITIVE) {
                let relative = error / exact.abs();
                if relative > worst.0 || relative.is_nan() {
                    worst = (error / exact.abs(), x);
                }
            } else {
                let step = f64::from(f32::from_bits(1));
                assert!(
                    error <= 2e-7 * exact.abs() + step,
                    "{isa:?}, subnormal: f({x:e}) = {y:e}, not {exact:e}"
                );
            }
        }
    }
    worst
}

/// Finite floats of both signs, every `step`-th.
fn floats(step: usize) -> impl Iterator<Item = u32> {
    let positive = (0..f32::INFINITY.to_bits()).step_by(step);
    positive.flat_map(|bits| [bits, bits | 1 << 31])
}

#[test]
fn relative_error_is_at_most_2e_7() {
    for isa in Isa::available() {
        for (name, kernel, reference) in SMOOTH {
            // The interesting range densely, the rest sparsely.
            let dense = (1e-3f32.to_bits()..20f32.to_bits()).step_by(61).flat_map(|b| [b, b | 1 << 31]);
            let (error, x) = worst(kernel, reference, isa, floats(4999).chain(dense));
            println!("{name}, {isa:?}: {error:.3e} at {x}");
            assert!(error <= 2e-7, "{name}, {isa:?}: relative error {error:e} at {x}");
        }
    }
}

#[test]
#[ignore = "takes minutes: all finite floats"]
fn relative_error_for_every_float() {
    // `gelu_tanh` comes to 2.002e-7 at -2.741564; on AVX2, `gelu_erf` to 1.895e-7.
    let isa = Isa::best();
    for (name, kernel, reference) in SMOOTH {
        let (error, x) = worst(kernel, reference, isa, floats(1));
        println!("{name}, {isa:?}: {error:.3e} at {x}");
        assert!(error <= 2.01e-7, "{name}, {isa:?}: relative error {error:e} at {x}");
    }
}

#[test]
fn nan_and_infinity_propagate() {
    for isa in Isa::available() {
        for (name, kernel, _) in SMOOTH {
            let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN];
            kernel(isa, &mut x);
            // As in PyTorch, where negative infinity is multiplied by zero.
            assert!(x[0].is_nan() && x[2].is_nan(), "{name}, {isa:?}: {x:?}");
            assert_eq!(
                (x[1], x[3], x[4], x[5], x[6]),
                (f32::INFINITY, 0.0, 0.0, f32::MAX, 0.0),
                "{name}, {isa:?}"
            );
        }
        let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 2.0];
        relu_with(isa, &mut x);
        assert!(x[0].is_nan());
        assert_eq!(x[1..], [f32::INFINITY, 0.0, 0.0, 2.0]);
    }
}

#[test]
fn a_value_does_not_depend_on_its_position() {
    let values: Vec<f32> = (0..70).map(|i| (i as f32 - 35.0) * 0.37).collect();
    for isa in Isa::available() {
        for (name, kernel, _) in SMOOTH {
            let mut whole = values.clone();
            kernel(isa, &mut whole);
            for start in 0..values.len() {
                for len in 0..(values.len() - start).min(34) {
                    let mut part = values[start..start + len].to_vec();
                    kernel(isa, &mut part);
                    assert_eq!(part, whole[start..start + len], "{name}, {isa:?}: {len} from {start}");
                }
            }
        }
    }
}

#[test]
fn soft_caps_are_right_to_3e_7() {
    // Quotients `x / c` that are normal numbers.
    let normal = |bits: &u32| f32::from_bits(*bits).abs() > 100.0 * f32::MIN_POSITIVE;
    for isa in Isa::available() {
        for (c, kernel, reference) in CAPS {
            let dense = (1e-3f32.to_bits()..1e3f32.to_bits()).step_by(101).flat_map(|b| [b, b | 1 << 31]);
            let (error, x) = worst(kernel, reference, isa, floats(4999).filter(normal).chain(dense));
            println!("cap {c}, {isa:?}: {error:.3e} at {x}");
            assert!(error <= 3e-7, "cap {c}, {isa:?}: relative error {error:e} at {x}");
            let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0, -0.0];
            kernel(isa, &mut x);
            assert!(x[0].is_nan());
            assert_eq!(x[1..], [c, -c, c, 0.0, 0.0], "{isa:?}");
        }
    }
}

#[test]
fn a_gate_is_its_activation_times_the_other_branch() {
    for isa in Isa::available() {
        for (name, gate, activation) in GATES {
            for n in 0..70 {
                let x: Vec<f32> = (0..n).map(|i| (i as f32 - 31.0) * 0.37).collect();
                let mut up: Vec<f32> = (0..n).map(|i| (i as f32).sin() * 3.0).collect();
                if let Some(last) = up.last_mut() {
                    *last = f32::NAN;
                }
                let (mut found, mut expected) = (x.clone(), x);
                gate(isa, &mut found, &up);
                activation(isa, &mut expected);
                expected.iter_mut().zip(&up).for_each(|(x, up)| *x *= up);
                let bits = |x: &[f32]| {
                    x.iter().map(|x| if x.is_nan() { None } else { Some(x.to_bits()) }).collect::<Vec<_>>()
                };
                assert_eq!(bits(&found), bits(&expected), "{name}, {isa:?}, {n} values");
            }
        }
    }
}
