"""Attention over a tree: a block of neighbouring nodes of one run and head, and all nodes that they see.

Nodes are in depth-first order, so that node k is seen by q if k <= q < ends[k], the end of k's subtree, and within the window.
Sums over keys run in order of nodes, what is not seen adding nothing: a row's bits do not depend on who shares its tile. Hence two
passes, the first for the highest score, and totals as products.
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
def scores(query, key, q_node, q_position, mq, k_node, mk, ends, positions, window, scale, cap):
    """Scores of what is seen, -1e30 elsewhere."""
    score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    if cap > 0.0:
        score = cap * (1.0 - 2.0 / (tl.exp(2.0 * score / cap) + 1.0))
    end = tl.load(ends + k_node, mask=mk, other=0)
    back = q_position[:, None] - tl.load(positions + k_node, mask=mk, other=0)[None, :]
    seen = mq[:, None] & mk[None, :] & (k_node[None, :] <= q_node[:, None]) & (q_node[:, None] < end[None, :]) & (back < window)
    return tl.where(seen, score, -1e30)


@triton.jit
def attend(out, hi, lo, q, kv, z, dq, dkv, q_rows, nodes, key_from, key_count, keys, ends, positions, own, per_run, n_nodes, d_head, group,
           d_attn, d_kv, ld_out, scale, cap, window, has_delta, full, mode, sites, source, bias, BQ: tl.constexpr, BK: tl.constexpr,
           BH: tl.constexpr, AGAIN: tl.constexpr):
    """z(x + d) - z(x), or z(x + d) itself if `full`; program (tile, head, run), or (tile, site) if AGAIN.

    q, kv, z: the plain run's [n_base, .]; dq [runs * per_run, d_attn], dkv [runs * n_nodes, 2 d_kv]: differences. A tile is
    q_rows [BQ], rows of a run (-1: none), and key_count nodes of `keys` from key_from on. cap 0: none.
    sites [., 5]: run, head, and for q, k and v what is read: 0 the run's own, 1 zeros, 2 `bias`, 3 the plain run's at `source`.
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
    iq, ik, ih = tl.arange(0, BQ), tl.arange(0, BK), tl.arange(0, BH)
    in_head = ih < d_head
    col = head * d_head + ih
    kv_col = (head // group) * d_head + ih
    row = tl.load(q_rows + tile * BQ + iq)
    mq = row >= 0
    q_node = tl.load(nodes + row, mask=mq, other=0)
    mine = tl.load(own + q_node, mask=mq, other=0).to(tl.int64)
    q2 = mq[:, None] & in_head[None, :]
    out_row = run * per_run + row
    query = read(q, mine, source, dq, out_row, q_node, mq, d_attn, col, q2, has_delta, put_q)
    q_position = tl.load(positions + q_node, mask=mq, other=0)

    first, count = tl.load(key_from + tile), tl.load(key_count + tile)
    top = tl.full((BQ,), -1e30, dtype=tl.float32)
    for k in range(0, count, BK):
        mk = k + ik < count
        k_node = tl.load(keys + first + k + ik, mask=mk, other=0)
        k_own = tl.load(own + k_node, mask=mk, other=0).to(tl.int64)
        k2 = mk[:, None] & in_head[None, :]
        key = read(kv, k_own, source, dkv, run * n_nodes + k_node, k_node, mk, 2 * d_kv, kv_col, k2, has_delta, put_k)
        score = scores(query, key, q_node, q_position, mq, k_node, mk, ends, positions, window, scale, cap)
        top = tl.maximum(top, tl.max(score, 1))
    total = tl.zeros((BQ, 16), dtype=tl.float32)
    acc = tl.zeros((BQ, BH), dtype=tl.float32)
    for k in range(0, count, BK):
        mk = k + ik < count
        k_node = tl.load(keys + first + k + ik, mask=mk, other=0)
        k_own = tl.load(own + k_node, mask=mk, other=0).to(tl.int64)
        k2 = mk[:, None] & in_head[None, :]
        key = read(kv, k_own, source, dkv, run * n_nodes + k_node, k_node, mk, 2 * d_kv, kv_col, k2, has_delta, put_k)
        score = scores(query, key, q_node, q_position, mq, k_node, mk, ends, positions, window, scale, cap)
        share = tl.where(score > -1e30, tl.exp(score - top[:, None]), 0.0)
        value = read(kv, k_own, source, dkv, run * n_nodes + k_node, k_node, mk, 2 * d_kv, d_kv + kv_col, k2, has_delta, put_v)
        if AGAIN:
            if put_v == 2:
                value += tl.load(bias + col, mask=in_head, other=0.0)[None, :]
        total = tl.dot(share, tl.full((BK, 16), 1.0, dtype=tl.float32), total, input_precision="ieee")
        acc = tl.dot(share, value, acc, input_precision="ieee")
    new = acc / tl.maximum(tl.max(total, 1), 1e-30)[:, None]
    if full == 0:
        new -= tl.load(z + mine[:, None] * d_attn + col[None, :], mask=q2, other=0.0)
    put(out, hi, lo, out_row[:, None] * ld_out + col[None, :], new, q2, mode)
