#!/usr/bin/env python3
"""Derive the float32 coefficients used in src/math.rs.

    pip install mpmath
    python3 minimax.py

For each function f it finds the polynomial p that minimises max |p/f - 1| on an interval (Remez exchange in 60 digits),
then rounds the coefficients to float32 one by one, lowest order first, refitting the ones still free after each rounding.
Prints Rust constants and the error of the rounded polynomial in exact arithmetic.
"""

import struct

from mpmath import mp, mpf, chebyt, cos, erfc, exp, findroot, log, lu_solve, matrix, pi, sqrt, linspace

mp.dps = 60


def f32(x):
    """x rounded to the nearest float32."""
    return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def evaluate(coefficients, t):
    total = mpf(0)
    for c in reversed(coefficients):
        total = total * t + c
    return total


def remez(f, low, high, fixed, free):
    """Best relative fit of `fixed` lowest coefficients plus `free` higher ones; returns the free ones and the error."""
    low, high, start = mpf(low), mpf(high), len(fixed)
    points = [(low + high) / 2 - (high - low) / 2 * cos(pi * (i + mpf(1) / 2) / (free + 1)) for i in range(free + 1)]
    grid = [(low + high) / 2 - (high - low) / 2 * cos(pi * i / 1500) for i in range(1501)]
    values = [f(t) for t in grid]
    for _ in range(60):
        rows = matrix(free + 1, free + 1)
        right = matrix(free + 1, 1)
        for i, t in enumerate(points):
            y = f(t)
            for j in range(free):
                rows[i, j] = t ** (start + j) / y
            rows[i, free] = (-1) ** i
            right[i] = 1 - evaluate(fixed, t) / y
        solution = lu_solve(rows, right)
        coefficients = fixed + [solution[j] for j in range(free)]
        level = abs(solution[free])
        errors = [evaluate(coefficients, t) / y - 1 for t, y in zip(grid, values)]
        # One extremum per run of equal sign; keep the best alternating stretch of `free + 1`.
        extrema = []
        for t, e in zip(grid, errors):
            if extrema and (e > 0) == (extrema[-1][1] > 0):
                if abs(e) > abs(extrema[-1][1]):
                    extrema[-1] = (t, e)
            else:
                extrema.append((t, e))
        while len(extrema) > free + 1:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        worst = max(abs(e) for e in errors)
        if len(extrema) < free + 1 or worst < level * mpf("1.001"):
            return coefficients[start:], worst
        points = [t for t, _ in extrema]
    return coefficients[start:], worst


def fit(name, f, low, high, degree, first=None):
    """Coefficients of degree 0 to `degree`, rounded to float32; `first` fixes the constant term."""
    fixed = [] if first is None else [mpf(first)]
    _, ideal = remez(f, low, high, fixed, degree + 1 - len(fixed))
    while len(fixed) <= degree:
        free, _ = remez(f, low, high, fixed, degree + 1 - len(fixed))
        fixed.append(f32(free[0]))
    grid = [low + (high - low) * mpf(i) / 4000 for i in range(4001)]
    worst = max(abs(evaluate(fixed, t) / f(t) - 1) for t in grid)
    print(f"/// {name}; relative error {mp.nstr(worst, 2)} (before rounding {mp.nstr(ideal, 2)}).")
    print("&[" + ", ".join(repr_f32(c) for c in fixed) + "]")


def repr_f32(x):
    """Shortest decimal that reads back as the same float32."""
    for digits in range(1, 12):
        text = f"{float(x):.{digits}e}"
        if f32(mpf(text)) == x:
            return text
    raise ValueError(x)


def split(name, x, bits):
    """x as a sum of two float32, the first with `bits` significant bits so that small multiples of it are exact."""
    scale = mpf(2) ** (bits - 1 - mp.floor(log(x, 2)))
    high = mp.nint(x * scale) / scale
    print(f"{name}: high {repr_f32(high)} low {repr_f32(f32(x - high))}")


if __name__ == "__main__":
    ln2 = log(mpf(2))
    half = ln2 / 2 * mpf("1.0001")
    # exp(r), r in half an octave either way.
    fit("exp(r)", exp, -half, half, 6, first=1)
    split("ln 2", ln2, 14)
    print("1 / ln 2:", repr_f32(f32(1 / ln2)))

    # GELU with erf: x < 0 gives -a Q(a), a = |x|, Q(a) = erfc(a / sqrt 2) / 2 = exp(-a^2 / 2) R(a).
    fit("exp(-s / 2)", lambda s: exp(-s / 2), -2 * half, 2 * half, 6, first=1)
    split("2 ln 2", 2 * ln2, 14)
    print("1 / (2 ln 2):", repr_f32(f32(1 / (2 * ln2))))

    def erfcx(z):
        return exp(z * z) * erfc(z)

    # With w = a / (a + k), a R(a) = w P(w - 1/2): P(v) = R(a) (a + k) is smooth and between 0.4 and k / 2.
    k = mpf("2.5")

    def p(v):
        w = v + mpf(1) / 2
        a = k * w / (1 - w)
        return erfcx(a / sqrt(mpf(2))) / 2 * (a + k)

    fit("P(v)", p, -mpf(1) / 2, mpf("14.6") / (mpf("14.6") + k) - mpf(1) / 2, 9)

    # GELU with tanh: 2 u = c x (x^2 + K), c = 2 sqrt(2 / pi) 0.044715, K = 1 / 0.044715.
    for root in (sqrt(2 / pi), mpf("0.7978845608")):
        c = 2 * root * mpf("0.044715")
        fit("exp(-c y)", lambda y: exp(-c * y), -half / c, half / c, 6, first=1)
        split("ln 2 / c", ln2 / c, 14)
        print("c / ln 2:", repr_f32(f32(c / ln2)))
    split("K", 1 / mpf("0.044715"), 15)
