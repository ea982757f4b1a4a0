"""FlashAttention backward on a GPU: `tiled.backward` as two Triton kernels.

There one loop fills dq, dk and dv. Here many programs run side by side, and two that add to the same place would have
to wait for each other. So one kernel works through the keys of a block of queries, for dq, and another through the
queries of a block of keys, for dk and dv. Each computes the weights anew. (Dao et al., 2022, algorithm 4; Dao, 2023,
section 3.1.)
"""

import triton
import triton.language as tl

from attnbook.efficient.triton_common import LOG2_E, NEVER, PRECISION, between, load, my_share, sight, store, tiles

@triton.jit
def dq_kernel(
    q, k, v, out, d_out, dq,  # (batch, heads, n, d), each a TensorDescriptor or Strided
    lse, d_lse, share,  # pointers, (batch, n_heads, n_q); d_lse may be None; `share` is written
    n_heads, group, n_q, n_kv, back, ahead, scale,  # as in `forward_kernel`
    D_K: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr,
):  # fmt: skip
    batch, head, start = my_share(n_q, n_heads, BLOCK_Q, LAST_FIRST=ahead is not None)
    q_tile = load(q, batch, head, start, BLOCK_Q, D_K)
    d_out_tile = load(d_out, batch, head, start, BLOCK_Q, D_V)
    rows = start + tl.arange(0, BLOCK_Q)
    first_row = (batch * n_heads + head).to(tl.int64) * n_q
    # A row's share of the softmax's Jacobian, D in the paper. The kernel for dk and dv reads it.
    product = d_out_tile.to(tl.float32) * load(out, batch, head, start, BLOCK_Q, D_V).to(tl.float32)
    share_rows = tl.sum(product, axis=1)
    if d_lse is not None:  # the slope of lse in a score is the weight
        share_rows -= tl.load(d_lse + first_row + rows, mask=rows < n_q, other=0.0)
    tl.store(share + first_row + rows, share_rows, mask=rows < n_q)
    lse_rows = lse_base_2(lse + first_row, rows, n_q)

    offset = n_kv - n_q
    first, last = sight(rows + offset, n_kv, back, ahead)
    low, high = start + offset, tl.minimum(start + BLOCK_Q, n_q) - 1 + offset
    begin, full, part, end = tiles(low, high, n_kv, back, ahead, BLOCK_KV)
    dq_tile = tl.zeros([BLOCK_Q, D_K], tl.float32)
    if back is not None:
        dq_tile = add_keys(dq_tile, q_tile, d_out_tile, lse_rows, share_rows, k, v, batch, head // group,
                           begin, full, first, last, scale, MASKED=True, BLOCK_KV=BLOCK_KV)  # fmt: skip
    dq_tile = add_keys(dq_tile, q_tile, d_out_tile, lse_rows, share_rows, k, v, batch, head // group,
                       full, part, first, last, scale, MASKED=False, BLOCK_KV=BLOCK_KV)  # fmt: skip
    dq_tile = add_keys(dq_tile, q_tile, d_out_tile, lse_rows, share_rows, k, v, batch, head // group,
                       part, end, first, last, scale, MASKED=True, BLOCK_KV=BLOCK_KV)  # fmt: skip
    store(dq, batch, head, start, dq_tile * scale, BLOCK_Q, D_K)


@triton.jit
def add_keys(
    dq_tile, q_tile, d_out_tile, lse_rows, share_rows, k, v, batch, kv_head,
    begin, end, first, last, scale, MASKED: tl.constexpr, BLOCK_KV: tl.constexpr,
):  # fmt: skip
    """dq of a block of queries with what the keys from begin to end add to it."""
    for start in tl.range(begin, end, BLOCK_KV):
        k_tile = load(k, batch, kv_head, start, BLOCK_KV, q_tile.shape[1])
        v_tile = load(v, batch, kv_head, start, BLOCK_KV, d_out_tile.shape[1])
        scores = tl.dot(q_tile, k_tile.T, input_precision=PRECISION)
        weights = tl.exp2(scores * (scale * LOG2_E) - lse_rows[:, None])
        if MASKED:
            keys = start + tl.arange(0, BLOCK_KV)
            weights = tl.where(between(keys[None, :], first[:, None], last[:, None]), weights, 0.0)
        d_weights = tl.dot(d_out_tile, v_tile.T, input_precision=PRECISION)
        d_scores = weights * (d_weights - share_rows[:, None])
        dq_tile = tl.dot(d_scores.to(k_tile.dtype), k_tile, dq_tile, input_precision=PRECISION)
    return dq_tile


@triton.jit
def dkdv_kernel(
    q, k, v, d_out, dk, dv,  # (batch, heads, n, d), each a TensorDescriptor or Strided
    lse, share,  # pointers, (batch, n_heads, n_q)
    n_heads, group, n_q, n_kv, back, ahead, scale,  # as in `forward_kernel`
    D_K: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr,
):  # fmt: skip
    batch, kv_head, start = my_share(n_kv, n_heads // group, BLOCK_KV, LAST_FIRST=False)
    k_tile = load(k, batch, kv_head, start, BLOCK_KV, D_K)
    v_tile = load(v, batch, kv_head, start, BLOCK_KV, D_V)
    keys = start + tl.arange(0, BLOCK_KV)
    # From a key to its queries the same distances count the other way round.
    offset = n_q - n_kv
    first, last = sight(keys + offset, n_q, ahead, back)
    low, high = start + offset, tl.minimum(start + BLOCK_KV, n_kv) - 1 + offset
    begin, full, part, end = tiles(low, high, n_q, ahead, back, BLOCK_Q)
    if back is None:
        part = end  # the end of the queries needs no mask: `lse_base_2` gives no weight to a query that is not there
    dk_tile = tl.zeros([BLOCK_KV, D_K], tl.float32)
    dv_tile = tl.zeros([BLOCK_KV, D_V], tl.float32)
    for member in range(group):
        head = kv_head * group + member
        row = (batch * n_heads + head).to(tl.int64) * n_q
        if ahead is not None:
            dk_tile, dv_tile = add_queries(
                dk_tile, dv_tile, k_tile, v_tile, q, d_out, lse + row, share + row, batch, head, n_q,
                begin, full, first, last, scale, MASKED=True, BLOCK_Q=BLOCK_Q)  # fmt: skip
        dk_tile, dv_tile = add_queries(
            dk_tile, dv_tile, k_tile, v_tile, q, d_out, lse + row, share + row, batch, head, n_q,
            full, part, first, last, scale, MASKED=False, BLOCK_Q=BLOCK_Q)  # fmt: skip
        if back is not None:
            dk_tile, dv_tile = add_queries(
                dk_tile, dv_tile, k_tile, v_tile, q, d_out, lse + row, share + row, batch, head, n_q,
                part, end, first, last, scale, MASKED=True, BLOCK_Q=BLOCK_Q)  # fmt: skip
    store(dk, batch, kv_head, start, dk_tile * scale, BLOCK_KV, D_K)
    store(dv, batch, kv_head, start, dv_tile, BLOCK_KV, D_V)


@triton.jit
def add_queries(
    dk_tile, dv_tile, k_tile, v_tile, q, d_out, lse, share, batch, head, n_q,
    begin, end, first, last, scale, MASKED: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """dk and dv of a block of keys with what the queries from begin to end add to them."""
    for start in tl.range(begin, end, BLOCK_Q):
        q_tile = load(q, batch, head, start, BLOCK_Q, k_tile.shape[1])
        d_out_tile = load(d_out, batch, head, start, BLOCK_Q, v_tile.shape[1])
        rows = start + tl.arange(0, BLOCK_Q)
        # Transposed, a row for each key: then the weights lie as the next product wants them.
        scores = tl.dot(k_tile, q_tile.T, input_precision=PRECISION)
        weights = tl.exp2(scores * (scale * LOG2_E) - lse_base_2(lse, rows, n_q)[None, :])
        if MASKED:
            weights = tl.where(between(rows[None, :], first[:, None], last[:, None]), weights, 0.0)
        dv_tile = tl.dot(weights.to(d_out_tile.dtype), d_out_tile, dv_tile, input_precision=PRECISION)
        d_weights = tl.dot(v_tile, d_out_tile.T, input_precision=PRECISION)
        d_scores = weights * (d_weights - tl.load(share + rows, mask=rows < n_q, other=0.0)[None, :])
        dk_tile = tl.dot(d_scores.to(q_tile.dtype), q_tile, dk_tile, input_precision=PRECISION)
    return dk_tile, dv_tile


@triton.jit
def lse_base_2(lse, rows, n_q):
    """lse · log2 e; +inf where a query saw nothing or there is no query, so that its weights become 0."""
    lse_rows = tl.load(lse + rows, mask=rows < n_q, other=NEVER)
    return tl.where(lse_rows == NEVER, -NEVER, lse_rows * LOG2_E)
