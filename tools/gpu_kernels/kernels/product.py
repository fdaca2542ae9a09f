"""Products of differences in half-precision parts on tensor cores, with what follows them; and the plain run's in float32.

A difference is hi + lo / 2^11 in float16, hi + lo in bfloat16; a weight W, or (W + W_lo / 2^11) where float32 weights are two
float16 parts. Small terms are summed first. Sums over K run in the same order for every shape of tile, and a row's sum
reads that row alone. Widths of halves and weights are padded to multiples of 64 by zeros, so that K needs no mask.
"""
import triton
import triton.language as tl

from .common import activation


@triton.jit
def tile(M, N, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr):
    """Rows, and the first column, of this program's tile of the output: GROUP tiles of rows share their columns of W in the cache."""
    pid = tl.program_id(0)
    n_m, n_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = (pid // (GROUP * n_n)) * GROUP
    size = tl.minimum(n_m - first, GROUP)
    inside = pid % (GROUP * n_n)
    return (first + inside % size) * BM + tl.arange(0, BM), (inside // size) * BN


@triton.jit
def halved(acc):
    """The left and the right half of a tile."""
    halves = tl.reshape(acc, (acc.shape[0], 2, acc.shape[1] // 2))
    return tl.split(tl.permute(halves, (0, 2, 1)))


@triton.jit
def sum_of_parts(hi, lo, w, w_lo, source, mm, first, N, K, two, pair, ld_w, LO: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """lo @ W and hi @ W_lo, times LO, then hi @ W; parts [., K], their rows at `source`, W [K, ld_w], columns below N.

    `two`: whether differences have a second part; `pair`: whether weights have. One loop for all three terms, so that there is
    one such loop to find registers for.
    """
    rn, rk = first + tl.arange(0, BN), tl.arange(0, BK)
    at_a = source[:, None] * K + rk[None, :]
    at_b = rk[:, None] * ld_w + rn[None, :]
    mn = (rn < tl.cdiv(N, 8) * 8)[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for term in range(3):
        a = tl.where(term == 0, lo, hi) + at_a
        b = tl.where(term == 1, w_lo, w) + at_b
        used = K
        if term == 0:
            used = K * two
        if term == 1:
            used = K * pair
        if term == 2:
            acc = acc * LO
        for _ in range(0, used, BK):
            acc = tl.dot(tl.load(a, mask=mm, other=0.0), tl.load(b, mask=mn, other=0.0), acc)
            a += BK
            b += BK * ld_w
    return acc


@triton.jit
def split_store(hi, lo, at, d, mask, two, LO: tl.constexpr):
    """Writes `d` in parts of the type that `hi` points to."""
    h = d.to(hi.dtype.element_ty)
    tl.store(hi + at, h, mask=mask)
    if two != 0:
        rest = ((d - h.to(tl.float32)) * (1.0 / LO)).to(lo.dtype.element_ty)
        tl.store(lo + at, rest, mask=mask)


@triton.jit
def add_and_store(acc, out, residual, rm, picked, first, M, N, ld_out, has_residual, PIECES: tl.constexpr):
    """residual + acc to `out`, PIECES parts of the columns one after the other: a whole tile's addresses would not fit the registers."""
    if PIECES > 1:
        left, right = halved(acc)
        add_and_store(left, out, residual, rm, picked, first, M, N, ld_out, has_residual, PIECES // 2)
        add_and_store(right, out, residual, rm, picked, first + left.shape[1], M, N, ld_out, has_residual, PIECES // 2)
    else:
        rn = first + tl.arange(0, acc.shape[1])
        mask = (rm < M)[:, None] & (rn < N)[None, :]
        if has_residual != 0:
            acc += tl.load(residual + picked[:, None] * ld_out + rn[None, :], mask=mask, other=0.0)
        tl.store(out + rm.to(tl.int64)[:, None] * ld_out + rn[None, :], acc, mask=mask)


@triton.jit
def product(hi, lo, w, w_lo, out, residual, source, M, N, K, two, pair, scale, ld_w, ld_out, has_residual, source_of,
            LO: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PIECES: tl.constexpr):
    """out[M, N] = residual + scale * (parts @ W), float32; `source` has the rows of the parts (source_of 1) or the residual (2)."""
    rm, first = tile(M, N, BM, BN, GROUP)
    rows = rm.to(tl.int64)
    picked = rows
    if source_of != 0:
        picked = tl.load(source + rm, mask=rm < M, other=0).to(tl.int64)
    of_parts = tl.where(source_of == 1, picked, rows)
    of_residual = tl.where(source_of == 2, picked, rows)
    acc = sum_of_parts(hi, lo, w, w_lo, of_parts, (rm < M)[:, None], first, N, K, two, pair, ld_w, LO, BM, BN, BK) * scale
    add_and_store(acc, out, residual, rm, of_residual, first, M, N, ld_out, has_residual, PIECES)


@triton.jit
def change_of_activation(acc, out_hi, out_lo, plain, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO: tl.constexpr,
                         ERF: tl.constexpr, PIECES: tl.constexpr):
    """act(x + acc) - act(x), cut up, in PIECES parts of the columns."""
    if PIECES > 1:
        left, right = halved(acc)
        change_of_activation(left, out_hi, out_lo, plain, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO, ERF, PIECES // 2)
        change_of_activation(right, out_hi, out_lo, plain, row, rm, first + left.shape[1], M, N, ld_plain, ld_out, two, a, b, LO, ERF,
                             PIECES // 2)
    else:
        rn = first + tl.arange(0, acc.shape[1])
        inside = (rm < M)[:, None] & (rn < N)[None, :]
        x = tl.load(plain + row[:, None] * ld_plain + rn[None, :], mask=inside, other=0.0)
        d = activation(x + acc, a, b, ERF) - activation(x, a, b, ERF)
        d = tl.where(inside, d, 0.0)
        at = rm.to(tl.int64)[:, None] * ld_out + rn[None, :]
        split_store(out_hi, out_lo, at, d, (rm < M)[:, None] & (rn < ld_out)[None, :], two, LO)


@triton.jit
def product_act(hi, lo, w, w_lo, out_hi, out_lo, plain, plain_of, M, N, K, two, pair, scale, ld_w, ld_plain, ld_out, per_run, a, b,
                LO: tl.constexpr, ERF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
                PIECES: tl.constexpr):
    """act(x + d) - act(x), cut up, with d = parts @ W and x the plain run's [., N]; padding up to ld_out becomes zeros."""
    rm, first = tile(M, ld_out, BM, BN, GROUP)
    acc = sum_of_parts(hi, lo, w, w_lo, rm.to(tl.int64), (rm < M)[:, None], first, ld_w, K, two, pair, ld_w, LO, BM, BN, BK) * scale
    row = tl.load(plain_of + rm % per_run, mask=rm < M, other=0).to(tl.int64)
    change_of_activation(acc, out_hi, out_lo, plain, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO, ERF, PIECES)


@triton.jit
def change_of_gate(acc, out_hi, out_lo, plain, plain_up, up, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO: tl.constexpr,
                   ERF: tl.constexpr, PIECES: tl.constexpr):
    """act(g + acc) (u + up) - act(g) u, cut up, in PIECES parts of the columns."""
    if PIECES > 1:
        left, right = halved(acc)
        change_of_gate(left, out_hi, out_lo, plain, plain_up, up, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO, ERF, PIECES // 2)
        change_of_gate(right, out_hi, out_lo, plain, plain_up, up, row, rm, first + left.shape[1], M, N, ld_plain, ld_out, two, a, b, LO,
                       ERF, PIECES // 2)
    else:
        rn = first + tl.arange(0, acc.shape[1])
        inside = (rm < M)[:, None] & (rn < N)[None, :]
        at_plain = row[:, None] * ld_plain + rn[None, :]
        g = tl.load(plain + at_plain, mask=inside, other=0.0)
        before = activation(g, a, b, ERF)
        after = activation(g + acc, a, b, ERF)
        u = tl.load(plain_up + at_plain, mask=inside, other=0.0)
        du = tl.load(up + rm.to(tl.int64)[:, None] * ld_plain + rn[None, :], mask=inside, other=0.0)
        d = tl.where(inside, (after - before) * u + after * du, 0.0)
        at = rm.to(tl.int64)[:, None] * ld_out + rn[None, :]
        split_store(out_hi, out_lo, at, d, (rm < M)[:, None] & (rn < ld_out)[None, :], two, LO)


@triton.jit
def product_gate(hi, lo, w, w_lo, out_hi, out_lo, plain, plain_of, plain_up, up, M, N, K, two, pair, scale, ld_w, ld_plain, ld_out, per_run,
                 a, b, LO: tl.constexpr, ERF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
                 PIECES: tl.constexpr):
    """act(g + d) (u + up) - act(g) u, cut up, with d = parts @ W_gate; g, u the plain run's [., N], up [M, N] the difference of u."""
    rm, first = tile(M, ld_out, BM, BN, GROUP)
    acc = sum_of_parts(hi, lo, w, w_lo, rm.to(tl.int64), (rm < M)[:, None], first, ld_w, K, two, pair, ld_w, LO, BM, BN, BK) * scale
    row = tl.load(plain_of + rm % per_run, mask=rm < M, other=0).to(tl.int64)
    change_of_gate(acc, out_hi, out_lo, plain, plain_up, up, row, rm, first, M, N, ld_plain, ld_out, two, a, b, LO, ERF, PIECES)


@triton.jit
def product_f32(x, w, w_lo, bias, out, residual, source, M, N, K, scale, ld_w, has_bias, has_residual, source_of,
                PAIR: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """out[M, N] = residual + scale * (x @ W) + bias in float32 multiply-adds; W in any format, PAIR if in two parts; `source` as above."""
    rm, first = tile(M, N, BM, BN, GROUP)
    rn, rk = first + tl.arange(0, BN), tl.arange(0, BK)
    mm, mn = (rm < M)[:, None], (rn < N)[None, :]
    rows = rm.to(tl.int64)
    picked = rows
    if source_of != 0:
        picked = tl.load(source + rm, mask=rm < M, other=0).to(tl.int64)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    at_x = x + tl.where(source_of == 1, picked, rows)[:, None] * K + rk[None, :]
    at_w = rk[:, None] * ld_w + rn[None, :]
    for k in range(0, K, BK):
        inside = rk < K - k
        left = tl.load(at_x, mask=mm & inside[None, :], other=0.0)
        right = tl.load(w + at_w, mask=mn & inside[:, None], other=0.0).to(tl.float32)
        if PAIR:
            right += tl.load(w_lo + at_w, mask=mn & inside[:, None], other=0.0).to(tl.float32) * 0.00048828125
        acc = tl.dot(left, right, acc, input_precision="ieee")
        at_x += BK
        w += BK * ld_w
        if PAIR:
            w_lo += BK * ld_w
    acc = acc * scale
    if has_bias != 0:
        acc += tl.load(bias + rn, mask=rn < N, other=0.0)[None, :]
    if has_residual != 0:
        of_residual = tl.where(source_of == 2, picked, rows)
        acc += tl.load(residual + of_residual[:, None] * N + rn[None, :], mask=mm & mn, other=0.0)
    tl.store(out + rows[:, None] * N + rn[None, :], acc, mask=mm & mn)
