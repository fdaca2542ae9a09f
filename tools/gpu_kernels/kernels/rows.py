"""Kernels that read and write rows: norms, rotary embedding, cutting up, activations, edits of z, gathers, logits."""
import triton
import triton.language as tl

from .common import activation, put


@triton.jit
def norm(out, x, gain, bias, width, ld, centred, eps, has_gain, has_bias, BD: tl.constexpr):
    """The norm of `width` neighbouring values: program (row, head) has those from head * width on. `out` may be `x`."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.arange(0, BD)
    m = i < width
    v = tl.load(x + row * ld + head * width + i, mask=m, other=0.0)
    if centred != 0:
        v = tl.where(m, v - tl.sum(v) / width, 0.0)
    y = v * (1.0 / tl.sqrt(tl.sum(v * v) / width + eps))
    if has_gain != 0:
        y = y * tl.load(gain + i, mask=m, other=0.0)
    if has_bias != 0:
        y = y + tl.load(bias + i, mask=m, other=0.0)
    tl.store(out + row * ld + head * width + i, y, mask=m)


@triton.jit
def norm_delta(out, hi, lo, plain, plain_of, delta, source, gain, per_run, width, ld_plain, ld_delta, ld_out, centred, eps, has_gain,
               has_source, to, add, mode, BD: tl.constexpr):
    """norm(x + d) - norm(x); program (row, head) as in `norm`. With `to` the delta is the changed x itself, which may be small
    beside x: the difference of two norms. Otherwise, with c, d centred, gain (c (s' - s) + d s'),
    s' - s = -mean(d (2 c + d)) s^2 s'^2 / (s + s'), whose rounding is relative to d.

    Padding up to ld_out becomes zeros where there is one head; `add`: to float32 that is there.
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.arange(0, BD)
    m = i < width
    of_plain = tl.load(plain_of + row % per_run).to(tl.int64)
    of_delta = row
    if has_source != 0:
        of_delta = tl.load(source + row).to(tl.int64)
    c = tl.load(plain + of_plain * ld_plain + head * width + i, mask=m, other=0.0)
    d = tl.load(delta + of_delta * ld_delta + head * width + i, mask=m, other=0.0)
    if centred != 0:
        c = tl.where(m, c - tl.sum(c) / width, 0.0)
        d = tl.where(m, d - tl.sum(d) / width, 0.0)
    changed = d
    if to == 0:
        changed = c + d
    before = 1.0 / tl.sqrt(tl.sum(c * c) / width + eps)
    after = 1.0 / tl.sqrt(tl.sum(changed * changed) / width + eps)
    y = changed * after - c * before
    if to == 0:
        change = -(tl.sum(d * (2.0 * c + d)) / width) * before * before * after * after / (before + after)
        y = c * change + d * after
    if has_gain != 0:
        y = y * tl.load(gain + i, mask=m, other=0.0)
    at = row * ld_out + head * width + i
    if add != 0:
        y = y + tl.load(out + at, mask=m, other=0.0)
    padded = m
    if mode != 0:
        padded = i < ld_out
    put(out, hi, lo, at, tl.where(m, y, 0.0), padded, mode)


@triton.jit
def rotate(x, cos, sin, position, per_run, pairs, d_head, ld, half, interleaved, B: tl.constexpr):
    """Turns the first 2 * half columns of heads, in place; program (row, block of its `pairs` of columns)."""
    row = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * B + tl.arange(0, B)
    m = pair < pairs
    i = pair % half
    at = tl.load(position + row % per_run).to(tl.int64) * half + i
    c, s = tl.load(cos + at, mask=m, other=0.0), tl.load(sin + at, mask=m, other=0.0)
    first, second = i, i + half
    if interleaved != 0:
        first, second = 2 * i, 2 * i + 1
    base = x + row * ld + (pair // half) * d_head
    a, b = tl.load(base + first, mask=m, other=0.0), tl.load(base + second, mask=m, other=0.0)
    tl.store(base + first, a * c - b * s, mask=m)
    tl.store(base + second, b * c + a * s, mask=m)


@triton.jit
def cut(out, hi, lo, delta, source, width, ld_out, has_source, mode, B: tl.constexpr):
    """Rows of `delta` [., width] cut up; program (row, block of columns)."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * B + tl.arange(0, B)
    of_delta = row
    if has_source != 0:
        of_delta = tl.load(source + row).to(tl.int64)
    d = tl.load(delta + of_delta * width + i, mask=i < width, other=0.0)
    put(out, hi, lo, row * ld_out + i, d, i < ld_out, mode)


@triton.jit
def activate(out, x, up, n, a, b, has_up, ERF: tl.constexpr, B: tl.constexpr):
    """act(x), or act(x) * up, of n values."""
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    y = activation(tl.load(x + i, mask=i < n, other=0.0), a, b, ERF)
    if has_up != 0:
        y = y * tl.load(up + i, mask=i < n, other=0.0)
    tl.store(out + i, y, mask=i < n)


@triton.jit
def activate_delta(out, plain, plain_of, delta, plain_up, up, n, width, per_run, a, b, has_up, ERF: tl.constexpr, B: tl.constexpr):
    """act(x + d) - act(x), or act(g + d) (u + up) - act(g) u, of n values in rows of `width`; float32."""
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    m = i < n
    row = tl.load(plain_of + (i // width) % per_run, mask=m, other=0).to(tl.int64)
    at = row * width + i % width
    x = tl.load(plain + at, mask=m, other=0.0)
    before = activation(x, a, b, ERF)
    after = activation(x + tl.load(delta + i, mask=m, other=0.0), a, b, ERF)
    d = after - before
    if has_up != 0:
        d = d * tl.load(plain_up + at, mask=m, other=0.0) + after * tl.load(up + i, mask=m, other=0.0)
    tl.store(out + i, d, mask=m)


@triton.jit
def add(x, y, n, B: tl.constexpr):
    """x += y, of n values."""
    i = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    tl.store(x + i, tl.load(x + i, mask=i < n, other=0.0) + tl.load(y + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def gather(out, x, source, width, B: tl.constexpr):
    """Rows of 32-bit words [., width] at `source`; program (row, block of columns)."""
    row = tl.program_id(0)
    i = tl.program_id(1) * B + tl.arange(0, B)
    of = tl.load(source + row).to(tl.int64)
    tl.store(out + row.to(tl.int64) * width + i, tl.load(x + of * width + i, mask=i < width, other=0), mask=i < width)


@triton.jit
def put_z(out, hi, lo, z, nodes, own, source, bias, means, mean_row, mean_step, sites, per_run, d_head, d_attn, ld_out, full, mode,
          BR: tl.constexpr, BH: tl.constexpr):
    """Writes heads' z over; program (block of rows, site). sites [., 3]: run, head, by (1 zeros, 2 bias, 3 source, 4 mean, 5 the others' mean).

    z [n_base, d_attn] is the plain run's; `nodes` [per_run] are rows' nodes, `own` and `source` [n_nodes] their plain rows.
    """
    site = tl.program_id(1)
    run, head, by = tl.load(sites + 3 * site), tl.load(sites + 3 * site + 1), tl.load(sites + 3 * site + 2)
    r = tl.program_id(0) * BR + tl.arange(0, BR)
    i = tl.arange(0, BH)
    mask = (r < per_run)[:, None] & (i < d_head)[None, :]
    col = head * d_head + i
    node = tl.load(nodes + r, mask=r < per_run, other=0)
    mine = tl.load(own + node, mask=r < per_run, other=0).to(tl.int64)
    before = tl.load(z + mine[:, None] * d_attn + col[None, :], mask=mask, other=0.0)
    value = tl.zeros((BR, BH), dtype=tl.float32)
    if by == 2:
        value += tl.load(bias + col, mask=i < d_head, other=0.0)[None, :]
    elif by == 3:
        from_row = tl.load(source + node, mask=r < per_run, other=0).to(tl.int64)
        value += tl.load(z + from_row[:, None] * d_attn + col[None, :], mask=mask, other=0.0)
    elif by >= 4:
        mean_at = tl.load(mean_row + node, mask=r < per_run, other=0).to(tl.int64)
        mean = tl.load(means + mean_at[:, None] * d_attn + col[None, :], mask=mask, other=0.0)
        value += mean
        if by == 5:
            step = tl.load(mean_step + node, mask=r < per_run, other=0.0)
            value += step[:, None] * (mean - before)
    if full == 0:
        value = value - before
    at = (run.to(tl.int64) * per_run + r)[:, None] * ld_out + col[None, :]
    put(out, hi, lo, at, value, mask, mode)


@triton.jit
def dots(out, x, table, rows, entries, per_run, width, n_pairs, B: tl.constexpr):
    """x[run * per_run + rows[pair]] . table[entries[pair]] in float64; program (pair, run)."""
    pair, run = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = run * per_run + tl.load(rows + pair)
    entry = tl.load(entries + pair).to(tl.int64)
    total = tl.zeros((B,), dtype=tl.float64)
    for k in range(0, width, B):
        i = k + tl.arange(0, B)
        a = tl.load(x + row * width + i, mask=i < width, other=0.0).to(tl.float64)
        total += a * tl.load(table + entry * width + i, mask=i < width, other=0.0).to(tl.float64)
    tl.store(out + run * n_pairs + pair, tl.sum(total))
