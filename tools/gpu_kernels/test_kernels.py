"""Every kernel in Triton's interpreter against torch in float64: odd sizes, masks, outputs full of NaN. Needs no card.

    python test_kernels.py
"""
import math
import os
import unittest

os.environ["TRITON_INTERPRET"] = "1"
import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

from kernels import attention, common, product, rows  # noqa: E402

NOTHING = torch.zeros(1)
NO_ROWS = torch.zeros(1, dtype=torch.int32)
HALF = {common.F16: (torch.float16, 2.0**11), common.BF16: (torch.bfloat16, 1.0)}
# Largest errors of two parts. The interpreter cuts bfloat16 off where a card rounds.
GRADE = {common.F16: 2e-6, common.BF16: 4e-5}
TILE = dict(BM=32, BN=32, BK=32, GROUP=2)
PARTS = TILE | dict(PIECES=2)
SIG = dict(gelu=(2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715), silu=(1.0, 0.0), relu=(1e30, 0.0))


def setUpModule():
    torch.manual_seed(0)
    # The interpreter multiplies bfloat16's bit patterns as integers, and sums over as much of K as a tile has at once: instructions
    # of tensor cores take 16 of it.
    builder, dot = interpreter.InterpreterBuilder, interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        is_brain = handle.dtype.scalar == tl.bfloat16
        return (handle.data.astype(np.uint32) << 16).view(np.float32) if is_brain else handle.data

    def of_instructions(self, a, b, sum, *rest):
        if a.dtype.scalar == tl.float32:
            return dot(self, a, b, sum, *rest)
        left, right, total = widened(a).astype(np.float64), widened(b).astype(np.float64), sum.data
        for k in range(0, left.shape[1], 16):
            total = (total + left[:, k:k + 16] @ right[k:k + 16]).astype(np.float32)
        return interpreter.TensorHandle(total, tl.float32)

    builder.create_dot = of_instructions


def padded(n):
    return -(-n // 64) * 64


def nan(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan")).to(dtype)


def split(d, mode, width=None):
    """A difference in parts, padded by zeros."""
    half, scale = HALF[mode]
    full = torch.zeros(d.shape[0], width or padded(d.shape[1]))
    full[:, :d.shape[1]] = d
    hi = full.to(half)
    return hi, ((full - hi.float()) * scale).to(half)


def joined(hi, lo, mode):
    return hi.double() + lo.double() / HALF[mode][1]


def bits(t):
    return t.view(torch.int16)


def weights(k, n, mode):
    """Weights that the half type holds exactly, padded by zeros; and without padding in float64."""
    w = torch.randn(k, n).to(HALF[mode][0])
    full = torch.zeros(padded(k), padded(n), dtype=w.dtype)
    full[:k, :n] = w
    return full, w.double()


def act(name, x):
    x = x.double()
    if name == "erf":
        return torch.nn.functional.gelu(x)
    return dict(gelu=lambda x: torch.nn.functional.gelu(x, approximate="tanh"), silu=torch.nn.functional.silu, relu=torch.relu)[name](x)


def near(case, got, want, relative=3e-6):
    got, want = got.double(), want.double()
    case.assertFalse(got.isnan().any(), "NaN was left")
    error = float((got - want).abs().max() / want.abs().max().clamp(min=1e-30))
    case.assertLess(error, relative)


class Products(unittest.TestCase):
    def product(self, hi, lo, w, w_lo, M, N, K, mode, two=1, pair=0, scale=1.0, residual=None, source=None, source_of=0):
        out = nan(M, N)
        grid = (triton.cdiv(M, TILE["BM"]) * triton.cdiv(N, TILE["BN"]),)
        product.product[grid](hi, lo, w, w_lo, out, NOTHING if residual is None else residual, NO_ROWS if source is None else source,
                              M, N, hi.shape[1], two, pair, scale, w.shape[1], N, int(residual is not None), source_of,
                              LO=1 / HALF[mode][1], **PARTS)
        return out

    def test_two_parts_are_float32_grade_and_rows_stand_alone(self):
        for mode, relative in GRADE.items():
            for M, K, N in ((37, 96, 40), (1, 33, 4), (70, 64, 132)):
                d, (w, exact) = torch.randn(M, K) * 3, weights(K, N, mode)
                hi, lo = split(d, mode)
                out = self.product(hi, lo, w, w, M, N, K, mode)
                near(self, out, d.double() @ exact, relative)
                one = self.product(hi[:1].contiguous(), lo[:1].contiguous(), w, w, 1, N, K, mode)
                self.assertTrue(torch.equal(out[:1], one))

    def test_bits_are_those_of_every_tile(self):
        M, K, N, nodes = 70, 96, 136, 5
        for mode in GRADE:
            (hi, lo), (w, _) = split(torch.randn(M, K), mode), weights(K, N, mode)
            w_lo = (torch.randn(*w.shape) * 2**-11).to(w.dtype)
            residual, source = torch.randn(M, N), torch.randint(0, M, (M,), dtype=torch.int32)
            x, u, up = torch.randn(nodes, N), torch.randn(nodes, N), torch.randn(M, N)
            plain_of, ld = torch.randint(0, nodes, (11,), dtype=torch.int32), padded(N)
            results = []
            for BM, BN, BK, pieces in ((32, 32, 32, 1), (64, 32, 64, 2), (16, 128, 32, 4), (32, 64, 64, 1)):
                tile = dict(LO=1 / HALF[mode][1], BM=BM, BN=BN, BK=BK, GROUP=2, PIECES=pieces)
                out = nan(M, N)
                grid = (triton.cdiv(M, BM) * triton.cdiv(N, BN),)
                product.product[grid](hi, lo, w, w_lo, out, residual, source, M, N, hi.shape[1], 1, 1, 0.5, ld, N, 1, 2, **tile)
                halves, grid = [nan(M, ld, dtype=hi.dtype) for _ in range(4)], (triton.cdiv(M, BM) * triton.cdiv(ld, BN),)
                sizes = (M, N, hi.shape[1], 1, 1, 0.5, ld, N, ld, 11, *SIG["gelu"])
                product.product_act[grid](hi, lo, w, w_lo, *halves[:2], x, plain_of, *sizes, ERF=False, **tile)
                product.product_gate[grid](hi, lo, w, w_lo, *halves[2:], x, plain_of, u, up, *sizes, ERF=False, **tile)
                results.append([out, *map(bits, halves)])
            for others in results[1:]:
                self.assertTrue(all(map(torch.equal, results[0], others)))

    def test_one_part_is_the_first(self):
        d, (w, exact) = torch.randn(20, 40), weights(40, 24, common.F16)
        hi, lo = split(d, common.F16)
        out = self.product(hi, torch.full_like(lo, float("nan")), w, w, 20, 24, 40, common.F16, two=0)
        near(self, out, hi[:, :40].double() @ exact, 1e-6)

    def test_float32_weights_in_two_parts_and_residuals(self):
        M, K, N = 33, 50, 36
        d, w, scale = torch.randn(M, K), torch.randn(K, N) * 0.02, 2.0**19
        w_hi, w_lo = split(torch.cat([w * scale, torch.zeros(padded(K) - K, N)]), common.F16)
        hi, lo = split(d, common.F16)
        residual, source = torch.randn(80, N), torch.randint(0, 80, (M,), dtype=torch.int32)
        out = self.product(hi, lo, w_hi, w_lo, M, N, K, common.F16, pair=1, scale=1 / scale, residual=residual, source=source, source_of=2)
        near(self, out, residual[source.long()].double() + d.double() @ w.double(), 5e-7)
        picked = torch.randint(0, M, (M,), dtype=torch.int32)
        out = self.product(hi, lo, w_hi, w_lo, M, N, K, common.F16, pair=1, scale=1 / scale, source=picked, source_of=1)
        near(self, out, d[picked.long()].double() @ w.double(), 5e-7)

    def test_ranges_of_the_halves(self):
        (w, exact) = weights(64, 16, common.F16)
        for size in (1e-9, 1e-4, 1.0, 6e4):
            d = torch.randn(5, 64).clamp(-1, 1) * size
            out = self.product(*split(d, common.F16), w, w, 5, 16, 64, common.F16)
            want = d.double() @ exact
            self.assertLess(float((out.double() - want).abs().max()), 4e-6 * float(want.abs().max()) + 2.0**-36 * 64)
        over = torch.full((1, 64), 7e4)
        self.assertFalse(self.product(*split(over, common.F16), w, w, 1, 16, 64, common.F16).isfinite().any())
        (w, exact) = weights(64, 16, common.BF16)
        d = torch.randn(5, 64) * 1e6
        near(self, self.product(*split(d, common.BF16), w, w, 5, 16, 64, common.BF16), d.double() @ exact, GRADE[common.BF16])

    def test_activations_and_gates(self):
        M, K, N, nodes = 37, 40, 72, 5
        for mode, relative in GRADE.items():
            for name in ("gelu", "silu", "relu", "erf"):
                a, b = SIG.get(name, (0.0, 0.0))
                d, (w, exact) = torch.randn(M, K) * 0.3, weights(K, N, mode)
                plain_of, per_run = torch.randint(0, nodes, (11,), dtype=torch.int32), 11
                x, u, up = torch.randn(nodes, N), torch.randn(nodes, N), torch.randn(M, N)
                rows_of = plain_of.long()[torch.arange(M) % per_run]
                change = d.double() @ exact
                kinds = dict(LO=1 / HALF[mode][1], ERF=name == "erf", **PARTS)
                grid = (triton.cdiv(M, 32) * triton.cdiv(padded(N), 32),)
                out = [nan(M, padded(N), dtype=HALF[mode][0]) for _ in range(2)]
                product.product_act[grid](*split(d, mode), w, w, *out, x, plain_of, M, N, padded(K), 1, 0, 1.0, padded(N), N, padded(N), per_run, a, b, **kinds)
                got = joined(*out, mode)
                near(self, got[:, :N], act(name, x[rows_of] + change) - act(name, x[rows_of]), relative)
                self.assertFalse(got[:, N:].any())
                product.product_gate[grid](*split(d, mode), w, w, *out, x, plain_of, u, up, M, N, padded(K), 1, 0, 1.0, padded(N), N, padded(N), per_run, a, b, **kinds)
                got, g = joined(*out, mode), x[rows_of]
                near(self, got[:, :N], act(name, g + change) * (u[rows_of] + up).double() - act(name, g) * u[rows_of].double(), relative)
                self.assertFalse(got[:, N:].any())

    def test_float32(self):
        for M, K, N in ((37, 33, 40), (1, 7, 3), (70, 64, 65)):
            x, bias, residual = torch.randn(M, K), torch.randn(N), torch.randn(9, N)
            source = torch.randint(0, 9, (M,), dtype=torch.int32)
            grid = (triton.cdiv(M, 32) * triton.cdiv(N, 32),)
            exact = torch.randn(K, N)
            for pair, dtype in ((False, torch.float32), (False, torch.float16), (False, torch.bfloat16), (True, torch.float16)):
                w = torch.zeros(padded(K), padded(N))
                w[:K, :N] = exact
                hi = w.to(dtype)
                lo = ((w - hi.float()) * 2048).to(dtype)
                used = (hi.double() + lo.double() / 2048 if pair else hi.double())[:K, :N]
                out = nan(M, N)
                product.product_f32[grid](x, hi, lo, bias, out, residual, source, M, N, K, 0.5, padded(N), 1, 1, 2, PAIR=pair, **TILE)
                near(self, out, 0.5 * (x.double() @ used) + bias.double() + residual[source.long()].double(), 1e-6)
                picked = torch.randint(0, M, (M,), dtype=torch.int32)
                product.product_f32[grid](x, hi, lo, bias, out, residual, picked, M, N, K, 1.0, padded(N), 0, 0, 1, PAIR=pair, **TILE)
                near(self, out, x[picked.long()].double() @ used, 1e-6)


class Rows(unittest.TestCase):
    def test_norms(self):
        for width, heads, centred, gained in ((40, 1, 1, 1), (12, 3, 0, 1), (7, 2, 1, 0)):
            x = torch.randn(9, heads * width + 5) * 4 + 1
            gain, bias = torch.randn(width), torch.randn(width)
            out = nan(*x.shape)
            rows.norm[(9, heads)](out, x, gain, bias, width, x.shape[1], centred, 1e-5, gained, gained, BD=64)
            part = x[:, :heads * width].reshape(9, heads, width).double()
            part = part - part.mean(-1, keepdim=True) * centred
            want = part / (part.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            if gained:
                want = want * gain + bias
            near(self, out[:, :heads * width], want.reshape(9, -1))

    def test_differences_of_norms_keep_small_differences(self):
        nodes, per_run, M, width = 6, 4, 10, 50
        plain, plain_of = torch.randn(nodes, width) * 3 + 2, torch.randint(0, nodes, (per_run,), dtype=torch.int32)
        source = torch.randint(0, 20, (M,), dtype=torch.int32)
        gain = torch.randn(width)
        x = plain[plain_of.long()[torch.arange(M) % per_run]].double()

        def normed(x, centred):
            x = x - x.mean(-1, keepdim=True) * centred
            return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain.double()

        for size in (1.0, 1e-4):
            delta = torch.randn(20, width) * size
            for centred in (0, 1):
                want = normed(x + delta[source.long()].double(), centred) - normed(x, centred)
                out = nan(M, width)
                args = (plain, plain_of, delta, source, gain, per_run, width, width, width)
                rows.norm_delta[(M, 1)](out, bits(NOTHING.half()), bits(NOTHING.half()), *args, width, centred, 1e-5, 1, 1, 0, 0, common.F32, BD=64)
                near(self, out, want)
                rows.norm_delta[(M, 1)](out, bits(NOTHING.half()), bits(NOTHING.half()), *args, width, centred, 1e-5, 1, 1, 0, 1, common.F32, BD=64)
                near(self, out, 2 * want)
                for mode, relative in GRADE.items():
                    hi, lo = (nan(M, 64, dtype=HALF[mode][0]) for _ in range(2))
                    rows.norm_delta[(M, 1)](out, bits(hi), bits(lo), *args, 64, centred, 1e-5, 1, 1, 0, 0, mode, BD=64)
                    near(self, joined(hi, lo, mode)[:, :width], want, relative)
                    self.assertFalse(joined(hi, lo, mode)[:, width:].any())
                    one = nan(M, 64, dtype=HALF[mode][0])
                    rows.norm_delta[(M, 1)](out, bits(one), bits(lo), *args, 64, centred, 1e-5, 1, 1, 0, 0, mode + 2, BD=64)
                    self.assertTrue(torch.equal(one, hi))
        changed = (x.repeat(2, 1)[:20] + torch.randn(20, width)).float()
        out = nan(M, width)
        rows.norm_delta[(M, 1)](out, bits(NOTHING.half()), bits(NOTHING.half()), plain, plain_of, changed, source, gain, per_run, width, width, width,
                                width, 1, 1e-5, 1, 1, 1, 0, common.F32, BD=64)
        near(self, out, normed(changed[source.long()].double(), 1) - normed(x, 1))
        # What is left of x may be next to nothing, and a difference of nothing is 0.
        for changed in (torch.randn(20, width) * 1e-3, plain[plain_of.long()[torch.arange(20) % per_run]]):
            rows.norm_delta[(M, 1)](out, bits(NOTHING.half()), bits(NOTHING.half()), plain, plain_of, changed, torch.arange(M, dtype=torch.int32), gain, per_run,
                                    width, width, width, width, 0, 1e-5, 1, 1, 1, 0, common.F32, BD=64)
            near(self, out, normed(changed[:M].double(), 0) - normed(x, 0))

    def test_rotation(self):
        M, heads, d_head, half, per_run = 7, 3, 10, 4, 3
        position = torch.tensor([0, 2, 5], dtype=torch.int32)
        angle = torch.randn(6, half)
        for interleaved in (0, 1):
            x = torch.randn(M, heads * d_head + 4)
            turned = x.clone()
            rows.rotate[(M, 2)](turned, angle.cos(), angle.sin(), position, per_run, heads * half, d_head, x.shape[1], half, interleaved, B=8)
            want = x.double().clone()
            a = angle[position.long()[torch.arange(M) % per_run]].double()
            for h in range(heads):
                for i in range(half):
                    p, q = (h * d_head + 2 * i, h * d_head + 2 * i + 1) if interleaved else (h * d_head + i, h * d_head + i + half)
                    want[:, p] = x[:, p] * a[:, i].cos() - x[:, q] * a[:, i].sin()
                    want[:, q] = x[:, q] * a[:, i].cos() + x[:, p] * a[:, i].sin()
            near(self, turned, want)

    def test_cuts_gathers_and_sums(self):
        x, source = torch.randn(9, 70), torch.randint(0, 9, (5,), dtype=torch.int32)
        for mode, relative in GRADE.items():
            hi, lo = (nan(5, 128, dtype=HALF[mode][0]) for _ in range(2))
            rows.cut[(5, 2)](NOTHING, bits(hi), bits(lo), x, source, 70, 128, 1, mode, B=64)
            # Columns beyond the width are read as zeros.
            near(self, joined(hi, lo, mode)[:, :70], x[source.long()], relative)
            self.assertFalse(joined(hi, lo, mode)[:, 70:].any())
        out = nan(5, 70)
        rows.gather[(5, 2)](out.view(torch.int32), x.view(torch.int32), source, 70, B=64)
        self.assertTrue(torch.equal(out, x[source.long()]))
        y, total = torch.randn(9, 70), x.clone()
        rows.add[(10,)](total, y, 630, B=64)
        self.assertTrue(torch.equal(total, x + y))

    def test_activations(self):
        n, width, per_run, nodes = 6 * 30, 30, 4, 5
        plain_of = torch.randint(0, nodes, (per_run,), dtype=torch.int32)
        rows_of = plain_of.long()[torch.arange(6) % per_run]
        x, u, d, up = torch.randn(nodes, width) * 3, torch.randn(nodes, width), torch.randn(6, width), torch.randn(6, width)
        for name in ("gelu", "silu", "relu", "erf"):
            a, b = SIG.get(name, (0.0, 0.0))
            for gated in (0, 1):
                out = nan(nodes, width)
                rows.activate[(3,)](out, x, u, nodes * width, a, b, gated, ERF=name == "erf", B=64)
                near(self, out, act(name, x) * (u if gated else 1))
                out = nan(6, width)
                rows.activate_delta[(3,)](out, x, plain_of, d, u, up, n, width, per_run, a, b, gated, ERF=name == "erf", B=64)
                g = x[rows_of]
                want = act(name, g + d) * ((u[rows_of] + up) if gated else 1) - act(name, g) * (u[rows_of] if gated else 1)
                near(self, out, want)

    def test_logits_are_summed_in_float64(self):
        runs, per_run, width = 2, 3, 700
        x, table = torch.randn(runs * per_run, width), torch.randn(11, width)
        at, entry = torch.tensor([0, 2, 2, 1], dtype=torch.int32), torch.tensor([10, 0, 3, 3], dtype=torch.int32)
        out = torch.full((runs, 4), float("nan"), dtype=torch.float64)
        rows.dots[(4, runs)](out, x, table, at, entry, per_run, width, 4, B=512)
        want = torch.stack([(x[r * per_run + at.long()].double() * table[entry.long()].double()).sum(-1) for r in range(runs)])
        near(self, out, want, 1e-14)

    def test_heads_written_over(self):
        nodes_n, base, per_run, d_head, heads, runs = 6, 8, 5, 5, 3, 2
        d_attn = heads * d_head
        z, means, bias, step = torch.randn(base, d_attn), torch.randn(4, d_attn), torch.randn(d_attn), torch.rand(nodes_n)
        own, source = (torch.randint(0, base, (nodes_n,), dtype=torch.int32) for _ in range(2))
        mean_row = torch.randint(0, 4, (nodes_n,), dtype=torch.int32)
        nodes = torch.tensor([0, 2, 3, 4, 5], dtype=torch.int32)
        sites = torch.tensor([[0, 1, 1], [1, 0, 2], [1, 2, 3], [0, 0, 4], [0, 2, 5]], dtype=torch.int32)
        for full in (0, 1):
            for mode in (common.F32, common.F16):
                ld = 64 if mode else d_attn
                start = torch.randn(runs * per_run, ld)
                out, (hi, lo) = start.clone(), split(start, common.F16, ld)
                rows.put_z[(1, len(sites))](out, bits(hi), bits(lo), z, nodes, own, source, bias, means, mean_row, step, sites, per_run, d_head, d_attn,
                                            ld, full, mode, BR=16, BH=8)
                got, want = (joined(hi, lo, common.F16) if mode else out.double()), start.double().clone()
                for run, head, by in sites.tolist():
                    for r, node in enumerate(nodes.tolist()):
                        c = slice(head * d_head, (head + 1) * d_head)
                        before, mean = z[own[node].long(), c], means[mean_row[node].long(), c]
                        value = {1: torch.zeros(d_head), 2: bias[c], 3: z[source[node].long(), c], 4: mean, 5: mean + step[node] * (mean - before)}[by]
                        want[run * per_run + r, c] = (value - (0 if full else before)).double()
                near(self, got, want)


class Attention(unittest.TestCase):
    def forest(self, n=24):
        """A random tree in depth-first order: parents, ends of subtrees, positions."""
        parents = [-1]
        for i in range(1, n):
            path, at = [i - 1], parents[i - 1]
            while at >= 0:
                path.append(at)
                at = parents[at]
            parents.append(path[int(torch.randint(0, min(3, len(path)), (1,)))])
        paths = [[0]]
        for i in range(1, n):
            paths.append(paths[parents[i]] + [i])
        ends = [max(j for j in range(n) if i in paths[j]) + 1 for i in range(n)]
        return paths, torch.tensor(ends, dtype=torch.int32), torch.tensor([len(p) - 1 for p in paths], dtype=torch.int32)

    def test_trees(self):
        for window, cap, kv_heads, wanted, again in ((99, 0.0, 2, None, False), (3, 5.0, 4, None, False), (99, 0.0, 1, [3, 7, 20, 23], False),
                                                     (99, 0.0, 2, None, True), (4, 3.0, 2, [1, 9, 23], True)):
            self.tree(window, cap, kv_heads, wanted, again)

    def tree(self, window, cap, kv_heads, wanted, again):
        n, base, heads, d_head, runs, BQ = 24, 30, 4, 6, 3, 16
        paths, ends, positions = self.forest(n)
        wanted = list(range(n)) if wanted is None else wanted
        per_run, d_attn, d_kv, group = len(wanted), heads * d_head, kv_heads * d_head, heads // kv_heads
        own, source = (torch.randint(0, base, (n,), dtype=torch.int32) for _ in range(2))
        q, kv, z = torch.randn(base, d_attn), torch.randn(base, 2 * d_kv), torch.randn(base, d_attn)
        dq, dkv, bias = torch.randn(runs * per_run, d_attn), torch.randn(runs * n, 2 * d_kv), torch.randn(d_attn)
        tiles = [list(range(s, min(s + BQ, per_run))) for s in range(0, per_run, BQ)]
        seen = [sorted({k for r in t for k in paths[wanted[r]][-window:]}) for t in tiles]
        q_rows = torch.tensor([r for t in tiles for r in t + [-1] * (BQ - len(t))], dtype=torch.int32)
        counts = torch.tensor([len(s) for s in seen], dtype=torch.int32)
        firsts = torch.tensor([sum(map(len, seen[:i])) for i in range(len(seen))], dtype=torch.int32)
        keys = torch.tensor([k for s in seen for k in s], dtype=torch.int32)
        # run, head, then what q, k and v read.
        sites = [(0, 1, 0, 1, 0), (1, 2, 3, 3, 0), (2, 3, 1, 0, 2), (2, 0, 0, 0, 3), (0, 3, 3, 0, 1)] if again else [(r, h, 0, 0, 0) for r in range(runs) for h in range(heads)]
        for has_delta, full, mode in ((1, 0, common.F32), (0, 1, common.F32), (1, 0, common.F16), (1, 1, common.BF16)):
            ld = 64 if mode else d_attn
            half = HALF[mode or common.F16][0]
            out, hi, lo = nan(runs * per_run, ld), nan(runs * per_run, ld, dtype=half), nan(runs * per_run, ld, dtype=half)
            grid = (len(tiles), len(sites)) if again else (len(tiles), heads, runs)
            attention.attend[grid](out, bits(hi), bits(lo), q, kv, z, dq, dkv, q_rows, torch.tensor(wanted, dtype=torch.int32), firsts, counts, keys, ends,
                                   positions, own, per_run, n, d_head, group, d_attn, d_kv, ld, 0.3, cap, window, has_delta, full, mode,
                                   torch.tensor(sites, dtype=torch.int32), source, bias, BQ=BQ, BK=16, AGAIN=again, BC=4, **(dict(BH=8, TAIL=0) if again else dict(BH=4, TAIL=2)))
            got = joined(hi, lo, mode) if mode else out.double()
            for run, head, put_q, put_k, put_v in sites:
                c, g = slice(head * d_head, (head + 1) * d_head), slice(head // group * d_head, (head // group + 1) * d_head)
                gv = slice(d_kv + g.start, d_kv + g.stop)
                for r, node in enumerate(wanted):
                    path = paths[node][-window:]
                    mine, of = own[path].long(), source[path].long()
                    at = run * n + torch.tensor(path)
                    query = {0: q[own[node].long(), c] + has_delta * dq[run * per_run + r, c], 1: torch.zeros(d_head), 3: q[source[node].long(), c]}[put_q].double()
                    key = {0: kv[mine, g] + has_delta * dkv[at, g], 1: torch.zeros(len(path), d_head), 3: kv[of, g]}[put_k].double()
                    value = {0: kv[mine, gv] + has_delta * dkv[at, gv], 1: torch.zeros(len(path), d_head), 2: bias[c].expand(len(path), -1), 3: kv[of, gv]}[put_v].double()
                    score = key @ query * 0.3
                    score = cap * torch.tanh(score / cap) if cap else score
                    want = score.softmax(0) @ value - (0 if full else z[own[node].long(), c].double())
                    near(self, got[run * per_run + r, c], want, GRADE[common.BF16] if mode == common.BF16 else 5e-6)
            if again:
                # Heads without a site are as they were.
                untouched = (out if mode == 0 else hi.float()).view(runs, per_run, ld)[1, :, :d_head]
                self.assertTrue(untouched.isnan().all())


if __name__ == "__main__":
    unittest.main()
