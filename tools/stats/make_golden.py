"""Golden values of the statistics, from scipy and statsmodels.

    python -m venv venv && venv/bin/pip install -r tools/stats/requirements.txt
    venv/bin/python tools/stats/make_golden.py crates/analysis/tests/golden/statistics.json

The inputs are drawn here with a fixed seed, rounded, and stored with the results, so the Rust tests need no Python.
"""

import json
import sys
from types import SimpleNamespace

import numpy as np
import statsmodels.api as sm
import statsmodels.formula.api as smf
from pandas import DataFrame
from scipy import optimize, stats

rng = np.random.default_rng(20240517)


def rounded(x, digits=4):
    return np.round(np.asarray(x, dtype=float), digits)


def correlations():
    cases = []
    for n, ties, slope in [(3, False, 1.0), (12, False, 0.3), (144, False, -0.2), (60, True, 0.5), (60, True, 0.0)]:
        x = rng.standard_normal(n)
        y = slope * x + rng.standard_normal(n)
        # One decimal makes many ties.
        x, y = rounded(x, 1 if ties else 4), rounded(y, 1 if ties else 4)
        cases.append(
            {
                "x": x.tolist(),
                "y": y.tolist(),
                "pearson": stats.pearsonr(x, y).statistic,
                "spearman": stats.spearmanr(x, y).statistic,
                "ranks_x": stats.rankdata(x).tolist(),
            }
        )
    return cases


def false_discovery():
    cases = []
    for p in [rng.uniform(size=40), np.concatenate([rng.uniform(size=30), rng.uniform(0, 0.002, 10)]), [0.04], [0.5, 0.5, 0.01]]:
        p = rounded(p, 6)
        q = stats.false_discovery_control(p)
        rejected, q_sm, _, _ = sm.stats.multipletests(p, alpha=0.05, method="fdr_bh")
        assert np.allclose(q, q_sm)
        cases.append({"p": p.tolist(), "q": q.tolist()})
    return cases


def lines():
    cases = []
    for n, level in [(4, 0.95), (6, 0.95), (17, 0.9)]:
        x = rounded(np.sort(rng.uniform(1.8, 3.5, n)))
        y = rounded(0.3 - 0.1 * x + 0.05 * rng.standard_normal(n))
        fit = sm.OLS(y, sm.add_constant(x)).fit()
        intercept, slope = fit.params
        (intercept_low, intercept_high), (slope_low, slope_high) = fit.conf_int(1 - level)
        cases.append(
            {
                "x": x.tolist(), "y": y.tolist(), "level": level,
                "slope": slope, "slope_low": slope_low, "slope_high": slope_high,
                "intercept": intercept, "intercept_low": intercept_low, "intercept_high": intercept_high,
                "p_value": fit.pvalues[1], "r_squared": fit.rsquared,
            }
        )
    return cases


def pooled_lines():
    cases = []
    for sizes in [(4, 6, 4, 3), (5, 1, 2)]:
        groups = np.repeat(np.arange(len(sizes)), sizes)
        x = rounded(rng.uniform(1.8, 3.5, len(groups)))
        y = rounded(0.2 * groups - 0.1 * x + 0.05 * rng.standard_normal(len(groups)))
        fit = smf.ols("y ~ x + C(group)", DataFrame({"x": x, "y": y, "group": groups})).fit()
        low, high = fit.conf_int(0.05).loc["x"]
        cases.append(
            {
                "x": x.tolist(), "y": y.tolist(), "groups": groups.tolist(),
                "slope": fit.params["x"], "slope_low": low, "slope_high": high,
                "p_value": fit.pvalues["x"], "r_squared": fit.rsquared,
            }
        )
    return cases


def assignments():
    cases = []
    for rows, columns in [(1, 1), (5, 5), (6, 15)]:
        costs = rounded(rng.uniform(-1, 3, (rows, columns)))
        chosen_rows, chosen = optimize.linear_sum_assignment(costs)
        cases.append(
            {
                "costs": costs.ravel().tolist(), "columns": columns,
                "assigned": chosen.tolist(), "total": float(costs[chosen_rows, chosen].sum()),
            }
        )
    return cases


def bca_intervals():
    """BCa from a stored bootstrap distribution, which scipy takes as an earlier result."""
    cases = []
    for n, skewed in [(15, False), (40, True)]:
        sample = rounded(rng.exponential(size=n) if skewed else rng.standard_normal(n))
        distribution = np.sort(rounded([rng.choice(sample, n).mean() for _ in range(600)], 5))
        earlier = SimpleNamespace(bootstrap_distribution=distribution)
        result = stats.bootstrap(
            (sample,), np.mean, n_resamples=0, bootstrap_result=earlier, method="BCa", confidence_level=0.95
        )
        jackknife = (sample.sum() - sample) / (n - 1)
        deviation = jackknife.mean() - jackknife
        acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
        low, high = result.confidence_interval
        # The same distribution with the quantile widened for small samples (Hesterberg 2015).
        share = stats.percentileofscore(distribution, sample.mean(), "mean") / 100
        bias = stats.norm.ppf(share)
        z = stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
        ends = [stats.norm.cdf(bias + (bias + s * z) / (1 - acceleration * (bias + s * z))) for s in (-1, 1)]
        expanded = np.quantile(distribution, ends)
        cases.append(
            {
                "sample": sample.tolist(), "distribution": distribution.tolist(), "acceleration": acceleration,
                "low": low, "high": high, "expanded_low": expanded[0], "expanded_high": expanded[1],
            }
        )
    return cases


def bootstraps():
    """The whole bootstrap of a mean, scipy's with many resamples; agreement is up to the resampling."""
    sample = rounded(rng.exponential(size=60))
    result = stats.bootstrap((sample,), np.mean, n_resamples=100_000, method="BCa", rng=rng)
    low, high = result.confidence_interval
    return [{"sample": sample.tolist(), "low": low, "high": high}]


def sign_flips():
    """Exact p-values over all 2^n flips."""
    cases = []
    for n, shift in [(9, 0.0), (12, 0.4), (12, 1.0)]:
        sample = rounded(rng.standard_normal(n) + shift)
        result = stats.permutation_test(
            (sample,), lambda x, axis: np.abs(np.sum(x, axis=axis)), permutation_type="samples",
            alternative="greater", n_resamples=np.inf,
        )
        cases.append({"sample": sample.tolist(), "p_value": result.pvalue})
    return cases


def student():
    return [
        {"p": p, "df": df, "quantile": stats.t.ppf(p, df), "t": t, "p_value": 2 * stats.t.sf(abs(t), df)}
        for p, df, t in [(0.975, 1, 3.0), (0.975, 2, -0.5), (0.95, 13, 2.2), (0.025, 143, 1.0), (0.995, 399, 5.0)]
    ]


if __name__ == "__main__":
    golden = {
        name: function()
        for name, function in [
            ("correlations", correlations),
            ("false_discovery", false_discovery),
            ("lines", lines),
            ("pooled_lines", pooled_lines),
            ("assignments", assignments),
            ("bca_intervals", bca_intervals),
            ("bootstraps", bootstraps),
            ("sign_flips", sign_flips),
            ("student", student),
        ]
    }
    with open(sys.argv[1], "w") as file:
        # One case per line keeps the file small and its changes readable.
        body = ",\n".join(
            f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in golden.items()
        )
        file.write("{\n" + body + "\n}\n")
