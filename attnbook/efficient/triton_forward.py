"""FlashAttention forward on a GPU: `tiled.forward` as a Triton kernel.

What was the outer loop there, over blocks of queries, are here programs that run side by side, one for each block of
each head. The inner loop, over blocks of keys, is the same, and so is `absorb`. (Dao et al., 2022, algorithm 1; Dao,
2023, section 3.1.)
"""

import triton
import triton.language as tl

from attnbook.efficient.triton_common import (
    LN_2, LOG2_E, NEVER, PRECISION, between, load, my_share, sight, store, tiles,
)  # fmt: skip


@triton.jit
def forward_kernel(
    q, k, v, out,  # (batch, heads, n, d), each a TensorDescriptor or Strided
    lse,  # pointer, (batch, n_heads, n_q)
    n_heads, group, n_q, n_kv,  # `group` neighbouring heads share keys and values
    back, ahead,  # how many keys back and ahead a query may look; None = to the end
    scale,  # not negative
    D_K: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr,
    SKIP: tl.constexpr = True, SPLIT: tl.constexpr = True, BASE_2: tl.constexpr = True,  # chapter 18 turns them off
):  # fmt: skip
    batch, head, start = my_share(n_q, n_heads, BLOCK_Q, LAST_FIRST=ahead is not None)
    q_tile = load(q, batch, head, start, BLOCK_Q, D_K)
    rows = start + tl.arange(0, BLOCK_Q)
    m = tl.full([BLOCK_Q], NEVER, tl.float32)
    l = tl.zeros([BLOCK_Q], tl.float32)  # noqa: E741
    o = tl.zeros([BLOCK_Q, D_V], tl.float32)

    offset = n_kv - n_q  # aligned at the end: the last query stands at the last key
    first, last = sight(rows + offset, n_kv, back, ahead)
    begin, full, part, end = 0, 0, 0, n_kv
    if SKIP:
        low, high = start + offset, tl.minimum(start + BLOCK_Q, n_q) - 1 + offset
        begin, full, part, end = tiles(low, high, n_kv, back, ahead, BLOCK_KV)
    if SPLIT:
        if back is not None:
            m, l, o = absorb(m, l, o, q_tile, k, v, batch, head // group, begin, full, first, last, scale,
                             MASKED=True, BASE_2=BASE_2, BLOCK_KV=BLOCK_KV)  # fmt: skip
        m, l, o = absorb(m, l, o, q_tile, k, v, batch, head // group, full, part, first, last, scale,
                         MASKED=False, BASE_2=BASE_2, BLOCK_KV=BLOCK_KV)  # fmt: skip
        begin = part
    m, l, o = absorb(m, l, o, q_tile, k, v, batch, head // group, begin, end, first, last, scale,
                     MASKED=True, BASE_2=BASE_2, BLOCK_KV=BLOCK_KV)  # fmt: skip

    total = tl.where(l == 0, 1.0, l)  # a query that has seen nothing: zeros and -inf
    store(out, batch, head, start, o / total[:, None], BLOCK_Q, D_V)
    lse_rows = (m * LN_2 if BASE_2 else m) + tl.log(total)
    tl.store(lse + (batch * n_heads + head).to(tl.int64) * n_q + rows, lse_rows, mask=rows < n_q)


@triton.jit
def absorb(
    m, l, o, q_tile, k, v, batch, kv_head, begin, end,  # noqa: E741
    first, last, scale, MASKED: tl.constexpr, BASE_2: tl.constexpr, BLOCK_KV: tl.constexpr,
):  # fmt: skip
    """The running maximum, sum and output after the keys from begin to end: `tiled.absorb`, in a loop.

    With BASE_2 scores and m are counted in units of ln 2: exp(x) is exp2(x · log2 e), and a GPU has only exp2. The
    factor goes into the scale.
    """
    if BASE_2:
        scale *= LOG2_E
    for start in tl.range(begin, end, BLOCK_KV):
        k_tile = load(k, batch, kv_head, start, BLOCK_KV, q_tile.shape[1])
        scores = tl.dot(q_tile, k_tile.T, input_precision=PRECISION)
        if MASKED:
            keys = start + tl.arange(0, BLOCK_KV)
            scores = tl.where(between(keys[None, :], first[:, None], last[:, None]), scores, NEVER)
        larger = tl.maximum(m, tl.max(scores, axis=1) * scale)
        # -inf minus -inf would be NaN. Without a mask there is always something to see.
        base = tl.where(larger == NEVER, 0.0, larger) if MASKED else larger
        if BASE_2:
            weights, correction = tl.exp2(scores * scale - base[:, None]), tl.exp2(m - base)
        else:
            weights, correction = tl.exp(scores * scale - base[:, None]), tl.exp(m - base)
        l = l * correction + tl.sum(weights, axis=1)  # noqa: E741
        v_tile = load(v, batch, kv_head, start, BLOCK_KV, o.shape[1])
        o = tl.dot(weights.to(v_tile.dtype), v_tile, o * correction[:, None], input_precision=PRECISION)
        m = larger
    return m, l, o
