"""Coefficients of `ERFCX` in src/activation.rs: erfcx(z) = exp(z^2) erfc(z) = t p(t) with t = 1 / (1 + 0.4 z),
0 <= z <= 10.2, p of degree 9, relative error close to minimax (iteratively reweighted least squares). Needs numpy, scipy."""
import numpy as np
from scipy.special import erfcx

A, DEGREE, N = 0.4, 9, 4000
t_min = 1 / (1 + A * 10.2)
t = t_min + (1 - t_min) * (np.cos(np.pi * (np.arange(N) + 0.5) / N) + 1) / 2
target = erfcx((1 / t - 1) / A) / t
basis = np.vander(t, DEGREE + 1, increasing=True)
weight = np.ones(N)
for _ in range(60):
    c, *_ = np.linalg.lstsq(basis * (weight / target)[:, None], weight, rcond=None)
    error = abs(basis @ c / target - 1)
    weight *= (error / error.max()) ** 0.3 + 1e-3
    weight /= weight.max()
print(f"relative error {error.max():.1e}")
print("\n".join(f"{x:.9e}" for x in c))
