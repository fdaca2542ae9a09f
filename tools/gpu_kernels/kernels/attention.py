"""Attention over a tree: a block of neighbouring nodes of one run and head, and all nodes that they see.

Nodes are in depth-first order, so that node k is seen by q if k <= q < ends[k], the end of k's subtree, and within the window.
Sums over keys run in order of nodes, what is not seen adding nothing: a row's bits do not depend on who shares its tile. Hence two
passes where keys are more than one block, the first for the highest score, and totals as products.
"""
import triton
import triton.language as tl

from .common import put


@triton.jit
def read(plain, own, source, delta, at_delta, nodes, known, width, col, mask, has_delta, put):
    """Heads of `nodes` where `known`: the run's own x + d (put 0), the plain run's at their `source` (3), otherwise zeros."""
    if put == 0:
        value = tl.load(plain + own[:, None] * width + col[None, :], mask=mask, other=0.0)
        if has_delta != 0:
            value += tl.load(delta + at_delta[:, None] * width + col[None, :], mask=mask, other=0.0)
    elif put == 3:
        row = tl.load(source + nodes, mask=known, other=0).to(tl.int64)
        value = tl.load(plain + row[:, None] * width + col[None, :], mask=mask, other=0.0)
    else:
        value = tl.zeros(mask.shape, dtype=tl.float32)
    return value


@triton.jit
def scores(q, kv, source, dq, dkv, mine, out_row, q_node, mq, keys, at, count, own, ends, positions, window, scale, cap, run, n_nodes,
           head, group, d_head, d_attn, d_kv, has_delta, put_q, put_k, BQ: tl.constexpr, BK: tl.constexpr,
           BC: tl.constexpr):
    """Scores of the keys from `at` on that are seen, -1e30 elsewhere; in columns of BC, which keeps few of them in registers."""
    ik = tl.arange(0, BK)
    mk = ik < count
    k_node = tl.load(keys + at + ik, mask=mk, other=0)
    k_own = tl.load(own + k_node, mask=mk, other=0).to(tl.int64)
    score = tl.zeros((BQ, BK), dtype=tl.float32)
    for c in range(0, d_head, BC):
        ih = c + tl.arange(0, BC)
        q2, k2 = mq[:, None] & (ih < d_head)[None, :], mk[:, None] & (ih < d_head)[None, :]
        query = read(q, mine, source, dq, out_row, q_node, mq, d_attn, head * d_head + ih, q2, has_delta, put_q)
        key = read(kv, k_own, source, dkv, run * n_nodes + k_node, k_node, mk, 2 * d_kv, (head // group) * d_head + ih, k2, has_delta, put_k)
        score = tl.dot(query, tl.trans(key), score, input_precision="ieee")
    score = score * scale
    if cap > 0.0:
        score = cap * (1.0 - 2.0 / (tl.exp(2.0 * score / cap) + 1.0))
    end = tl.load(ends + k_node, mask=mk, other=0)
    q_position = tl.load(positions + q_node, mask=mq, other=0)
    back = q_position[:, None] - tl.load(positions + k_node, mask=mk, other=0)[None, :]
    seen = mq[:, None] & mk[None, :] & (k_node[None, :] <= q_node[:, None]) & (q_node[:, None] < end[None, :]) & (back < window)
    return tl.where(seen, score, -1e30)


@triton.jit
def values(kv, source, dkv, bias, k_own, k_node, mk, run, n_nodes, head, group, d_head, d_kv, has_delta, put_v, first: tl.constexpr,
           WIDTH: tl.constexpr, AGAIN: tl.constexpr):
    """Columns of values from `first` on."""
    ih = first + tl.arange(0, WIDTH)
    in_head = ih < d_head
    value = read(kv, k_own, source, dkv, run * n_nodes + k_node, k_node, mk, 2 * d_kv, d_kv + (head // group) * d_head + ih,
                 mk[:, None] & in_head[None, :], has_delta, put_v)
    if AGAIN:
        if put_v == 2:
            value += tl.load(bias + head * d_head + ih, mask=in_head, other=0.0)[None, :]
    return value


@triton.jit
def gather(acc, tail, total, score, top, kv, source, dkv, bias, keys, at, count, own, run, n_nodes, head, group, d_head, d_kv, has_delta,
           put_v, BK: tl.constexpr, BH: tl.constexpr, TAIL: tl.constexpr, AGAIN: tl.constexpr):
    """Adds values by their shares, and the shares, both from the first key to the last."""
    ik = tl.arange(0, BK)
    mk = ik < count
    k_node = tl.load(keys + at + ik, mask=mk, other=0)
    k_own = tl.load(own + k_node, mask=mk, other=0).to(tl.int64)
    # Values are read before what they are multiplied by is computed: half the registers.
    value = values(kv, source, dkv, bias, k_own, k_node, mk, run, n_nodes, head, group, d_head, d_kv, has_delta, put_v, 0, BH, AGAIN)
    if TAIL > 0:
        rest = values(kv, source, dkv, bias, k_own, k_node, mk, run, n_nodes, head, group, d_head, d_kv, has_delta, put_v, BH, TAIL, AGAIN)
    share = tl.where(score > -1e30, tl.exp(score - top[:, None]), 0.0)
    total = tl.dot(share, tl.full((BK, total.shape[1]), 1.0, dtype=tl.float32), total, input_precision="ieee")
    acc = tl.dot(share, value, acc, input_precision="ieee")
    if TAIL > 0:
        tail = tl.dot(share, rest, tail, input_precision="ieee")
    return acc, tail, total


@triton.jit
def write(out, hi, lo, z, acc, total, mine, out_row, mq, head, d_head, d_attn, ld_out, full, mode, first: tl.constexpr):
    """Columns of z from `first` on."""
    ih = first + tl.arange(0, acc.shape[1])
    q2 = mq[:, None] & (ih < d_head)[None, :]
    new = acc / tl.maximum(tl.max(total, 1), 1e-30)[:, None]
    if full == 0:
        new -= tl.load(z + mine[:, None] * d_attn + head * d_head + ih[None, :], mask=q2, other=0.0)
    put(out, hi, lo, out_row[:, None] * ld_out + head * d_head + ih[None, :], new, q2, mode)


@triton.jit
def attend(out, hi, lo, q, kv, z, dq, dkv, q_rows, nodes, key_from, key_count, keys, ends, positions, own, per_run, n_nodes, d_head, group,
           d_attn, d_kv, ld_out, scale, cap, window, has_delta, full, mode, sites, source, bias, BQ: tl.constexpr, BK: tl.constexpr,
           BH: tl.constexpr, TAIL: tl.constexpr, BC: tl.constexpr, AGAIN: tl.constexpr):
    """z(x + d) - z(x), or z(x + d) itself if `full`; program (tile, head, run), or (tile, site) if AGAIN.

    q, kv, z: the plain run's [n_base, .]; dq [runs * per_run, d_attn], dkv [runs * n_nodes, 2 d_kv]: differences. A tile is
    q_rows [BQ], rows of a run (-1: none), and key_count nodes of `keys` from key_from on. cap 0: none.
    Heads are at most BH + TAIL wide. sites [., 5]: run, head, and for q, k and v what is read: 0 the run's own, 1 zeros, 2 `bias`,
    3 the plain run's at `source`.
    """
    tile = tl.program_id(0)
    if AGAIN:
        site = sites + 5 * tl.program_id(1)
        run, head = tl.load(site).to(tl.int64), tl.load(site + 1)
        put_q, put_k, put_v = tl.load(site + 2), tl.load(site + 3), tl.load(site + 4)
    else:
        head, run = tl.program_id(1), tl.program_id(2).to(tl.int64)
        put_q: tl.constexpr = 0
        put_k: tl.constexpr = 0
        put_v: tl.constexpr = 0
    row = tl.load(q_rows + tile * BQ + tl.arange(0, BQ))
    mq = row >= 0
    q_node = tl.load(nodes + row, mask=mq, other=0)
    mine = tl.load(own + q_node, mask=mq, other=0).to(tl.int64)
    out_row = run * per_run + row
    first, count = tl.load(key_from + tile), tl.load(key_count + tile)
    acc = tl.zeros((BQ, BH), dtype=tl.float32)
    tail = tl.zeros((BQ, TAIL if TAIL > 0 else 1), dtype=tl.float32)
    total = tl.zeros((BQ, 1), dtype=tl.float32)
    score = scores(q, kv, source, dq, dkv, mine, out_row, q_node, mq, keys, first, count, own, ends, positions, window, scale, cap, run,
                   n_nodes, head, group, d_head, d_attn, d_kv, has_delta, put_q, put_k, BQ, BK, BC)
    top = tl.max(score, 1)
    for k in range(BK, count, BK):
        later = scores(q, kv, source, dq, dkv, mine, out_row, q_node, mq, keys, first + k, count - k, own, ends, positions, window, scale,
                       cap, run, n_nodes, head, group, d_head, d_attn, d_kv, has_delta, put_q, put_k, BQ, BK, BC)
        top = tl.maximum(top, tl.max(later, 1))
    acc, tail, total = gather(acc, tail, total, score, top, kv, source, dkv, bias, keys, first, count, own, run, n_nodes, head, group, d_head,
                              d_kv, has_delta, put_v, BK, BH, TAIL, AGAIN)
    for k in range(BK, count, BK):
        later = scores(q, kv, source, dq, dkv, mine, out_row, q_node, mq, keys, first + k, count - k, own, ends, positions, window, scale,
                       cap, run, n_nodes, head, group, d_head, d_attn, d_kv, has_delta, put_q, put_k, BQ, BK, BC)
        acc, tail, total = gather(acc, tail, total, later, top, kv, source, dkv, bias, keys, first + k, count - k, own, run, n_nodes, head,
                                  group, d_head, d_kv, has_delta, put_v, BK, BH, TAIL, AGAIN)
    write(out, hi, lo, z, acc, total, mine, out_row, mq, head, d_head, d_attn, ld_out, full, mode, 0)
    if TAIL > 0:
        write(out, hi, lo, z, tail, total, mine, out_row, mq, head, d_head, d_attn, ld_out, full, mode, BH)
