"""Attention a tile at a time: exact, and never with the whole table of scores in memory.

The softmax of a row needs the maximum of the whole row and the sum of the whole row, so it seems that the row must be
there. It need not: `absorb` takes some of the keys at a time, and carries along for each query a running maximum m, a
running sum l and a running output o, all three corrected when a larger score turns up (Milakov and Gimelshein, 2018).
`tiled_attention` runs it over blocks of queries and keys, and its backward pass computes each tile of weights anew
instead of having kept them (FlashAttention: Dao et al., 2022, algorithms 1 and 4).

Works on NumPy arrays and on torch tensors, there with gradients.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Bool, Float

from attnbook.functional import (
    _broadcast, _check_matrix, _check_q_k, _namespace, _number, _same_library, _shape, _widen, softmax,
)  # fmt: skip
from attnbook.masks import _integer

Array = Any

# Chosen by measurement. A tile of scores should stay in the cache until the exponential and the second product have
# read it again, and still be large enough that the work on it hides the cost of calling NumPy or torch.
TILES = {"numpy": (256, 1024), "torch": (512, 1024)}


class Running(NamedTuple):
    """What a query must remember of the keys it has seen: maximum, sum and output, the last two relative to m."""

    m: Float[Array, "*rows"]  # the largest score so far; -inf before the first
    l: Float[Array, "*rows"]  # noqa: E741  Σ exp(score - m)
    o: Float[Array, "*rows d_v"]  # Σ exp(score - m) · value, not divided by l yet

    def result(self) -> tuple[Float[Array, "*rows d_v"], Float[Array, "*rows"]]:
        """out = o / l and lse = m + log l; a query that has seen nothing gets zeros and -inf."""
        xp = array_api_compat.array_namespace(self.o)
        total = xp.where(self.l == 0, xp.ones_like(self.l), self.l)
        return self.o / total[..., None], self.m + xp.log(total)


def absorb(running: Running, scores: Float[Array, "*rows n"], v: Float[Array, "*batch n d_v"]) -> Running:
    """`running` after some more keys, whose scores (..., rows, n) and values (..., n, d_v) these are.

    What was summed so far was relative to the old maximum: times exp(old - new) it is relative to the new one. The
    scores are overwritten. (Dao et al., 2022, algorithm 1, lines 10 to 12, with the division left for the end.)
    """
    xp = array_api_compat.array_namespace(scores)
    m = xp.maximum(running.m, xp.max(scores, axis=-1))
    old, base = running.m, _finite(xp, m)
    scores -= base[..., None]
    weights = xp.exp(scores, out=scores)
    correction = xp.exp(old - base)
    total = running.l * correction + xp.sum(weights, axis=-1)
    out = running.o * correction[..., None]
    out += xp.matmul(weights, v)
    return Running(m, total, out)


def merge(one: Running, other: Running) -> Running:
    """What a query knows that has seen the keys of both: any split of the keys, in any order, gives the same.

    Takes (m, l, o) as tuples or as `Running`. So the keys of one query can be shared out over workers or devices.
    """
    one, other = Running(*one), Running(*other)
    xp = _namespace(m=one.m, l=one.l, o=one.o, m2=other.m, l2=other.l, o2=other.o)
    m = xp.maximum(one.m, other.m)
    parts = [(part, xp.exp(part.m - _finite(xp, m))) for part in (one, other)]
    total = sum(part.l * correction for part, correction in parts)
    return Running(m, total, sum(part.o * correction[..., None] for part, correction in parts))


def online_softmax(x: Float[Array, "*rows n"], block: int = 256) -> Float[Array, "*rows n"]:
    """softmax over the last axis, reading it twice instead of three times: maximum and sum come from one pass.

    `block` numbers at a time. Raises TypeError (not a floating array) or ValueError (no axis, block below 1).
    (Milakov and Gimelshein, 2018, algorithm 3.)
    """
    xp = _namespace(x=x)
    block = _integer("block", block, 1)
    if x.ndim == 0:
        raise ValueError(f"x must have at least one axis, got shape {_shape(x)}")
    if x.shape[-1] == 0:
        return softmax(x)
    wide = _widen(xp, x)
    m = xp.full_like(wide[..., 0], -math.inf)
    total = xp.zeros_like(m)
    for start in range(0, x.shape[-1], block):
        part = wide[..., start : start + block]
        larger = xp.maximum(m, xp.max(part, axis=-1))
        base = _finite(xp, larger)
        total = total * xp.exp(m - base) + xp.sum(xp.exp(part - base[..., None]), axis=-1)
        m = larger
    total = xp.where(total == 0, xp.ones_like(total), total)
    return xp.astype(xp.exp(wide - _finite(xp, m)[..., None]) / total[..., None], x.dtype)


def tiled_attention(
    q: Float[Array, "*#batch n_heads n_q d_k"],
    k: Float[Array, "*#batch n_kv_heads n_kv d_k"],
    v: Float[Array, "*#batch n_kv_heads n_kv d_v"],
    mask: Bool[Array, "*#mask"] | None = None,
    causal: bool = False,
    scale: float | None = None,
    block_q: int | None = None,
    block_kv: int | None = None,
    return_lse: bool = False,
) -> Float[Array, "*b n_heads n_q d_v"] | tuple[Float[Array, "*b n_heads n_q d_v"], Float[Array, "*b n_heads n_q"]]:
    """softmax(Q Kᵀ · scale) V as `functional.attention` has it, `block_q` queries by `block_kv` keys at a time.

    q (..., n_heads, n_q, d_k), k and v (..., n_kv_heads, n_kv, ·), or without the heads; leading dimensions broadcast.
    n_heads is a multiple of n_kv_heads: neighbouring heads share keys and values (Ainslie et al., 2023, section 2.2).
    `mask` is boolean, True = may attend, and broadcasts to (..., n_heads, n_q, n_kv). `causal` aligns the last query
    with the last key, and tiles of the future are never computed. Blocks may have any size; None takes one that
    suits the library. Float16 and bfloat16 are computed in float32 and rounded once.

    Returns out (..., n_heads, n_q, d_v) in the dtype of q, and with `return_lse` also the log-sum-exp of each row,
    float32 at least. A query that may attend to nothing gets zeros and -inf, and gradients of zero. With torch both
    are differentiable, once: the backward pass keeps out and lse and computes the weights anew, tile by tile.

    Raises TypeError or ValueError as `functional.attention` does, and ValueError for a block below 1.
    (Dao et al., 2022, algorithms 1 and 4; Dao, 2023, section 3.1.)
    """
    xp = _namespace(q=q, k=k, v=v)
    if not isinstance(causal, bool):
        raise TypeError(f"causal must be True or False, got {causal!r}")
    heads = _heads(q, k, v)
    plan = Plan(
        causal=causal,
        scale=_scale(q, scale),
        block_q=_block("block_q", block_q, xp, 0),
        block_kv=_block("block_kv", block_kv, xp, 1),
        mask=None if mask is None else _mask(q, mask, heads, q.shape[-2], k.shape[-2]),
    )
    q, k, v = heads.fold(xp, q, k, v)
    run = _function().apply if array_api_compat.is_torch_namespace(xp) else forward
    out, lse = run(q, k, v, plan)
    shape = (*heads.batch, heads.n_kv * heads.group, q.shape[2])[heads.dropped :]
    out, lse = xp.reshape(out, (*shape, v.shape[-1])), xp.reshape(lse, shape)
    return (out, lse) if return_lse else out


class Plan(NamedTuple):
    """How the tiles are run over, once heads are folded; see `forward`."""

    causal: bool
    scale: float
    block_q: int
    block_kv: int
    mask: Array | None  # (*batch, n_kv_heads, group, n_q, n_kv): a view that is copied a tile at a time, if at all

    def rows(self, n_q: int) -> Iterator[slice]:
        """The blocks of queries; the last may be smaller."""
        return (slice(i, min(i + self.block_q, n_q)) for i in range(0, n_q, self.block_q))

    def columns(self, rows: slice, n_q: int, n_kv: int) -> Iterator[slice]:
        """The blocks of keys that these queries need: if causal, none that lies in the future of all of them."""
        end = min(n_kv, rows.stop + n_kv - n_q) if self.causal else n_kv
        return (slice(j, min(j + self.block_kv, end)) for j in range(0, end, self.block_kv))

    def hide(self, xp, scores, rows: slice, columns: slice, n_q: int, n_kv: int) -> None:
        """Put -inf into the tile of scores, (n, group * rows, columns), wherever a look is forbidden."""
        if self.mask is not None:
            scores[~xp.reshape(self.mask[..., rows, columns], scores.shape)] = -math.inf
        # A tile wholly in the past needs no comparison: only those that the diagonal cuts.
        if self.causal and columns.stop - 1 > rows.start + n_kv - n_q:
            device = array_api_compat.device(scores)
            position = xp.arange(rows.start, rows.stop, device=device)[:, None] + (n_kv - n_q)
            future = xp.arange(columns.start, columns.stop, device=device) > position
            group = scores.shape[1] // (rows.stop - rows.start)
            each_head = xp.reshape(scores, (scores.shape[0], group, *future.shape))  # a view
            each_head[xp.broadcast_to(future, each_head.shape)] = -math.inf


def forward(q, k, v, plan: Plan):
    """out (n, group, n_q, d_v) and lse (n, group, n_q) of q (n, group, n_q, d_k), k (n, n_kv, d_k), v (n, n_kv, d_v).

    n counts sequences and their key heads. The `group` of query heads that share a key head are more rows of a tile.
    """
    xp = array_api_compat.array_namespace(q)
    n, group, n_q, _ = q.shape
    n_kv, d_v = v.shape[-2:]
    kind = {"dtype": _widen(xp, q[:0]).dtype, "device": array_api_compat.device(q)}
    out = xp.empty((n, group, n_q, d_v), dtype=q.dtype, device=kind["device"])
    lse = xp.empty((n, group, n_q), **kind)
    tile = Scratch(xp, n * group * min(plan.block_q, n_q) * min(plan.block_kv, n_kv), **kind)
    for rows in plan.rows(n_q):
        q_rows = _rows(xp, q, rows) * plan.scale
        size = (n, q_rows.shape[1])
        running = Running(xp.full(size, -math.inf, **kind), xp.zeros(size, **kind), xp.zeros((*size, d_v), **kind))
        for columns in plan.columns(rows, n_q, n_kv):
            k_tile, v_tile = (_widen(xp, x[:, columns]) for x in (k, v))
            scores = tile.product(q_rows, xp.matrix_transpose(k_tile))
            plan.hide(xp, scores, rows, columns, n_q, n_kv)
            running = absorb(running, scores, v_tile)
        out_rows, lse_rows = running.result()
        out[:, :, rows] = xp.astype(xp.reshape(out_rows, out[:, :, rows].shape), q.dtype)
        lse[:, :, rows] = xp.reshape(lse_rows, lse[:, :, rows].shape)
    return out, lse


def backward(q, k, v, out, lse, d_out, plan: Plan, d_lse=None):
    """The gradients of `forward`, (dq, dk, dv) in the shapes of q, k, v, from what it returned.

    The weights are not kept: exp(score - lse) gives each tile of them again. With D = Σ d_out ∘ out, a row's share of
    the softmax's Jacobian, d_score = weight · (d_weight - D). (Dao et al., 2022, algorithm 4 and appendix B.2.)
    """
    xp = array_api_compat.array_namespace(q)
    n, group, n_q, _ = q.shape
    n_kv = k.shape[-2]
    kind = {"dtype": lse.dtype, "device": array_api_compat.device(q)}
    dq = xp.empty(q.shape, dtype=q.dtype, device=kind["device"])
    dk, dv = xp.zeros(k.shape, **kind), xp.zeros(v.shape, **kind)  # every block of queries adds to them
    size = n * group * min(plan.block_q, n_q) * min(plan.block_kv, n_kv)
    tile, d_tile = Scratch(xp, size, **kind), Scratch(xp, size, **kind)
    for rows in plan.rows(n_q):
        q_rows, d_out_rows, out_rows = (_rows(xp, x, rows) for x in (q, d_out, out))
        q_rows = q_rows * plan.scale
        # Where nothing was seen lse is -inf: +inf in its place makes every weight 0.
        lse_rows = _rows(xp, lse[..., None], rows)
        lse_rows = xp.where(lse_rows == -math.inf, xp.full_like(lse_rows, math.inf), lse_rows)
        share = xp.sum(d_out_rows * out_rows, axis=-1, keepdims=True)
        if d_lse is not None:  # the slope of lse in a score is the weight
            share = share - _rows(xp, d_lse[..., None], rows)
        dq_rows = xp.zeros_like(q_rows)
        for columns in plan.columns(rows, n_q, n_kv):
            k_tile, v_tile = (_widen(xp, x[:, columns]) for x in (k, v))
            weights = tile.product(q_rows, xp.matrix_transpose(k_tile))
            plan.hide(xp, weights, rows, columns, n_q, n_kv)
            weights -= lse_rows
            xp.exp(weights, out=weights)
            dv[:, columns] += xp.matmul(xp.matrix_transpose(weights), d_out_rows)
            d_scores = d_tile.product(d_out_rows, xp.matrix_transpose(v_tile))
            d_scores -= share
            d_scores *= weights
            dq_rows += xp.matmul(d_scores, k_tile)
            dk[:, columns] += xp.matmul(xp.matrix_transpose(d_scores), q_rows)
        dq[:, :, rows] = xp.astype(xp.reshape(dq_rows * plan.scale, dq[:, :, rows].shape), q.dtype)
    return dq, xp.astype(dk, k.dtype), xp.astype(dv, v.dtype)


class Scratch:
    """Memory for one tile, used again for each: to ask for it anew every time costs more than to fill it."""

    def __init__(self, xp, size: int, **kind):
        self.xp, self.flat = xp, xp.empty((size,), **kind)

    def product(self, a: Float[Array, "n rows d"], b: Float[Array, "n d cols"]) -> Float[Array, "n rows cols"]:
        shape = (*a.shape[:2], b.shape[-1])
        return self.xp.matmul(a, b, out=self.xp.reshape(self.flat[: math.prod(shape)], shape))


@functools.cache
def _function():
    """`forward` and `backward` as one function of torch; made at first use, so that NumPy needs no torch."""
    import torch

    class TiledAttention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, plan):
            out, lse = forward(q, k, v, plan)
            ctx.save_for_backward(q, k, v, out, lse)
            ctx.plan = plan
            return out, lse

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, d_out, d_lse):
            return *backward(*ctx.saved_tensors, d_out, ctx.plan, d_lse), None

    return TiledAttention


# Heads and what is checked ------------------------------------------------------------------------------------------


class Heads(NamedTuple):
    """How the leading dimensions of q, k and v fit together."""

    batch: tuple[int, ...]
    n_kv: int
    group: int  # query heads for each key head
    dropped: int  # 1 where q, k and v came without an axis for heads

    def fold(self, xp, q, k, v):
        """q (n, group, n_q, d_k), k (n, n_kv, d_k), v (n, n_kv, d_v), n = sequences · key heads; views where it can."""
        n = math.prod(self.batch) * self.n_kv
        wide = xp.broadcast_to(q, (*self.batch, self.n_kv * self.group, *q.shape[-2:]))
        k, v = (xp.broadcast_to(x, (*self.batch, self.n_kv, *x.shape[-2:])) for x in (k, v))
        q = xp.reshape(wide, (n, self.group, *q.shape[-2:]))
        return q, *(xp.reshape(x, (n, *x.shape[-2:])) for x in (k, v))


def _heads(q, k, v) -> Heads:
    _check_matrix(q=q, k=k, v=v)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k must have the width of q, d_k = {q.shape[-1]}, got shape {_shape(k)}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have one row for each of the {k.shape[-2]} keys in k, got shape {_shape(v)}")
    leading = [tuple(x.shape[:-2]) for x in (q, k, v)]
    dropped = int(not any(leading))
    (*batch_q, n_heads), (*batch_k, heads_k), (*batch_v, heads_v) = [lead or (1,) for lead in leading]
    if heads_v != heads_k and 1 not in (heads_k, heads_v):
        raise ValueError(f"v must have the heads of k, n_kv_heads = {heads_k}, got shape {_shape(v)}")
    n_kv = heads_v if heads_k == 1 else heads_k
    if 0 in (n_heads, n_kv) and n_heads + n_kv <= 1:  # no heads at all, or none against one
        n_heads = n_kv = 0
    elif n_heads != 1 and (n_kv == 0 or n_heads % n_kv):
        raise ValueError(f"q must have a multiple of the {n_kv} heads of k and v, (..., n_heads, n_q, d_k), "
                         f"got shape {_shape(q)}")  # fmt: skip
    batch = _broadcast(batch_q, batch_k)
    if batch is None:
        raise ValueError(f"k must have leading dimensions that broadcast to {tuple(batch_q)}, got {_shape(k)}")
    whole = _broadcast(batch, batch_v)
    if whole is None:
        raise ValueError(f"v must have leading dimensions that broadcast to {batch}, got {_shape(v)}")
    return Heads(whole, n_kv, max(n_heads // max(n_kv, 1), 1), dropped)


def _mask(q, mask, heads: Heads, n_q: int, n_kv: int):
    """The mask as a view of shape (*batch, n_kv_heads, group, n_q, n_kv)."""
    if not array_api_compat.is_array_api_obj(mask):
        raise TypeError(f"mask must be an array of booleans (True = may attend), got {type(mask).__name__}")
    xp = _same_library(q=q, mask=mask)
    if not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"mask must be boolean (True = may attend), got dtype {mask.dtype}")
    shape = (*heads.batch, heads.n_kv * heads.group, n_q, n_kv)
    if mask.ndim > len(shape) - heads.dropped or _broadcast(shape, mask.shape) != shape:
        raise ValueError(f"mask must broadcast to the scores' shape {shape[heads.dropped:]}, got {_shape(mask)}")
    view = xp.broadcast_to(mask, shape)
    return xp.reshape(view, (*heads.batch, heads.n_kv, heads.group, n_q, n_kv))


def _scale(q, scale) -> float:
    if scale is not None:
        return _number("scale", scale)
    if q.shape[-1] == 0:
        raise ValueError(f"q must have d_k of at least 1 for the scale 1/√d_k, got shape {_shape(q)}")
    return 1 / math.sqrt(q.shape[-1])


def _block(name: str, block, xp, side: int) -> int:
    library = "torch" if array_api_compat.is_torch_namespace(xp) else "numpy"
    return TILES[library][side] if block is None else _integer(name, block, 1)


def _rows(xp, x, rows: slice):
    """A block of rows of x (n, group, n_q, d), those of all heads of a group one below the other."""
    part = _widen(xp, x[:, :, rows])
    return xp.reshape(part, (x.shape[0], part.shape[1] * part.shape[2], x.shape[-1]))


def _finite(xp, m):
    """m, or 0 where it is -inf: -inf minus -inf would be NaN."""
    return xp.where(m == -math.inf, xp.zeros_like(m), m)
