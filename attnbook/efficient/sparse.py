"""Sparse attention: each query sees a few of the keys, chosen beforehand, and what it does not see is not computed.

A processor works on whole blocks of cells, so a pattern is laid out in blocks: a *layout* is a boolean array with a
row for each block of queries and a column for each block of keys, True = this block is computed. The builders lay
out the bricks of `attnbook.masks`, with numbers that count blocks; `|` puts them together:

    local_blocks(n, n, 64, window=3) | global_blocks(n, n, 64, n_global=1)     Longformer (Beltagy et al., 2020)
    bigbird_blocks(n, n, 64)                                                   BigBird (Zaheer et al., 2020)
    masks.kept_blocks(mask, 64)                                                what a mask of single cells needs

`block_sparse_attention` computes the kept blocks and no other, `window_attention` the sliding window, and `reach`
says who has heard whom when layers are stacked.
"""

import math
from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float

from attnbook import functional, masks
from attnbook.functional import _broadcast, _check_batch, _check_matrix, _namespace, _number, _same_library, _shape
from attnbook.masks import _boolean, _integer

Array = Any
WINDOW_BLOCK = 128  # rows that are computed together in a sliding window: many enough to be worth a call

# Layouts: which blocks are computed -----------------------------------------------------------------------------------


def local_blocks(n_q: int, n_kv: int, block: int, window: int = 2) -> Bool[np.ndarray, "rows cols"]:
    """Blocks less than `window` blocks away, before and after (Beltagy et al., 2020, section 3.1).

    Shape (⌈n_q / block⌉, ⌈n_kv / block⌉), aligned at the end as `masks.local` is. As in all builders a length, a
    block or a number below 1 raises ValueError.
    """
    return masks.local(*_grid(n_q, n_kv, block), window)


def dilated_blocks(
    n_q: int, n_kv: int, block: int, window: int = 2, step: int = 2
) -> Bool[np.ndarray, "rows cols"]:
    """Every `step`-th block, fewer than `window` of them each way, its own included (Beltagy et al., 2020, 3.1)."""
    return masks.dilated(*_grid(n_q, n_kv, block), window, step)


def strided_blocks(n_q: int, n_kv: int, block: int, stride: int = 4) -> Bool[np.ndarray, "rows cols"]:
    """Every `stride`-th block counted from its own, near and far (Child et al., 2019, section 4.3)."""
    rows, cols = _grid(n_q, n_kv, block)
    stride = _integer("stride", stride, 1)
    return (np.arange(rows)[:, None] + (cols - rows) - np.arange(cols)) % stride == 0


def diagonal_blocks(n_q: int, n_kv: int, block: int, size: int = 1) -> Bool[np.ndarray, "rows cols"]:
    """Groups of `size` blocks that see one another and nobody else (Qiu et al., 2020, the identity permutation)."""
    rows, cols = _grid(n_q, n_kv, block)
    size = _integer("size", size, 1)
    return (np.arange(rows)[:, None] + (cols - rows)) // size == np.arange(cols) // size


def global_blocks(n_q: int, n_kv: int, block: int, n_global: int = 1) -> Bool[np.ndarray, "rows cols"]:
    """The first `n_global` blocks see all and are seen by all (Beltagy et al., 2020, section 3.1)."""
    return masks.globally(*_grid(n_q, n_kv, block), _integer("n_global", n_global, 1))


def random_blocks(n_q: int, n_kv: int, block: int, per_row: int = 2, seed: int = 0) -> Bool[np.ndarray, "rows cols"]:
    """`per_row` blocks drawn at random for each row, the same for the same seed (Zaheer et al., 2020, section 2)."""
    return masks.random(*_grid(n_q, n_kv, block), _integer("per_row", per_row, 1), seed)


def bigbird_blocks(
    n_q: int, n_kv: int, block: int, window: int = 2, n_global: int = 1, per_row: int = 2, seed: int = 0
) -> Bool[np.ndarray, "rows cols"]:
    """Near blocks, global ones and random ones together (Zaheer et al., 2020, section 2)."""
    near = local_blocks(n_q, n_kv, block, window)
    return near | global_blocks(n_q, n_kv, block, n_global) | random_blocks(n_q, n_kv, block, per_row, seed)


PATTERNS = {
    "local": local_blocks,
    "dilated": dilated_blocks,
    "strided": strided_blocks,
    "block": diagonal_blocks,
    "global": global_blocks,
    "random": random_blocks,
    "bigbird": bigbird_blocks,
}


def pattern(name: str, n_q: int, n_kv: int, block: int, **numbers: int) -> Bool[np.ndarray, "rows cols"]:
    """The layout of the pattern called `name`, one of PATTERNS; `numbers` are its own, such as window=3.

    Raises ValueError (no such pattern, a length or a number below 1) or TypeError (a number it does not take).
    """
    if name not in PATTERNS:
        raise ValueError(f"name must be one of the patterns {', '.join(PATTERNS)}, got {name!r}")
    return PATTERNS[name](n_q, n_kv, block, **numbers)


def block_mask(
    layout: Bool[Array, "rows cols"], block: int, n_q: int, n_kv: int
) -> Bool[Array, "n_q n_kv"]:
    """The layout cell by cell: True where a kept block lies. Shape (n_q, n_kv).

    Raises TypeError (layout not boolean) or ValueError (its shape is not ⌈n_q / block⌉, ⌈n_kv / block⌉).
    """
    xp, _ = _boolean(layout), _check_layout(layout, block, n_q, n_kv)
    return xp.repeat(xp.repeat(layout, block, axis=0), block, axis=1)[:n_q, :n_kv]


# Attention over the kept blocks ---------------------------------------------------------------------------------------


def block_sparse_attention(
    q: Float[Array, "*#batch n_q d_k"],
    k: Float[Array, "*#batch n_kv d_k"],
    v: Float[Array, "*#batch n_kv d_v"],
    layout: Bool[Array, "rows cols"],
    block: int,
    causal: bool = False,
    mask: Bool[Array, "*#mask"] | Callable | None = None,
    scale: float | None = None,
) -> Float[Array, "*b n_q d_v"]:
    """Attention in which each block of queries sees the blocks of keys that `layout` keeps; others are never read.

    q (..., n_q, d_k), k (..., n_kv, d_k), v (..., n_kv, d_v) of NumPy or torch, one floating dtype, leading
    dimensions broadcast. `layout` (⌈n_q / block⌉, ⌈n_kv / block⌉) holds for all of them; the last blocks may be
    smaller. `causal` (aligned at the end) and `mask` forbid single cells within the kept blocks. `mask` is an array
    that broadcasts to (..., n_q, n_kv), True = may attend, or a function of positions, mask(i, j), that is given a
    column of query positions and a row of key positions and says for each pair whether it may.
    Equal to `functional.attention` with `block_mask(layout, …) & causal & mask`; differentiable in torch. Time and
    memory grow with the kept blocks (Child et al., 2019, section 5.5). A query that sees nothing gets zeros.

    Raises TypeError or ValueError, naming the argument: sizes that do not fit, no tokens, block below 1.
    """
    xp = _check(q, k, v)
    n_q, n_kv = q.shape[-2], k.shape[-2]
    _check_layout(layout, block, n_q, n_kv)
    if not isinstance(causal, bool):
        raise TypeError(f"causal must be True or False, got {causal!r}")
    scale = None if scale is None else _number("scale", scale)
    allowed = _rules(xp, q, k, causal, mask)
    kept = np.asarray(layout.cpu() if hasattr(layout, "cpu") else layout)
    if causal:
        kept = kept & kept_by_causal(n_q, n_kv, block)
    batch, q, k, v = _folded(xp, q, k, v)
    queries, keys, values = (_Blocks(xp, x, block) for x in (q, k, v))
    out = []
    for i, row in enumerate(kept):
        seen = np.flatnonzero(row)
        # One softmax over all that this block of queries sees: the kept keys are put side by side.
        out.append(_dense(xp, queries[[i]], keys[seen], values[seen], allowed(i, seen, block), scale))
    return xp.reshape(xp.concat(out, axis=-2), (*batch, n_q, v.shape[-1]))


def window_attention(
    q: Float[Array, "*#batch n d_k"], k: Float[Array, "*#batch n_kv d_k"], v: Float[Array, "*#batch n_kv d_v"],
    window: int, scale: float | None = None,
) -> Float[Array, "*b n d_v"]:
    """Causal attention to the `window` latest tokens, oneself included, in time and memory O(n · window).

    Equal to `functional.attention` with `masks.causal(n_q, n_kv) & masks.local(n_q, n_kv, window)`; arguments and
    errors as in `block_sparse_attention`. The sliding window of Child et al. (2019) and Mistral (Jiang et al., 2023).
    """
    _check(q, k, v)
    window = _integer("window", window, 1)
    n_q, n_kv = q.shape[-2], k.shape[-2]
    block = min(WINDOW_BLOCK, max(16, window))
    rows, cols = _grid(n_q, n_kv, block)
    oldest = np.arange(rows) * block + (n_kv - n_q) - window + 1  # what the first query of each block sees
    layout = np.arange(1, cols + 1) * block > oldest[:, None]
    return block_sparse_attention(q, k, v, layout, block, True, lambda i, j: j > i - window, scale)


def kept_by_causal(n_q: int, n_kv: int, block: int) -> Bool[np.ndarray, "rows cols"]:
    """The layout of the causal mask, aligned at the end: blocks with a key no later than the last of their queries."""
    rows, cols = _grid(n_q, n_kv, block)
    last_query = np.minimum(np.arange(1, rows + 1) * block, n_q) - 1 + (n_kv - n_q)
    return np.arange(cols) * block <= last_query[:, None]


def reach(mask: Bool[Array, "n n"], n_layers: int) -> Bool[Array, "n n"]:
    """Who has heard whom after `n_layers` layers with residual connections: a path of looks, or a stay at each layer.

    mask (n, n), True = may attend: rows are queries. True at (i, j) of the result if what token i has become can
    depend on token j: `mask | identity` to the n_layers-th boolean power. After 0 layers each knows itself.
    Raises TypeError (not a boolean array) or ValueError (not square, no token, n_layers negative).
    """
    xp = _boolean(mask)
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1] or not mask.shape[0]:
        raise ValueError(f"mask must be square with at least one token, (n, n), got shape {_shape(mask)}")
    n_layers = _integer("n_layers", n_layers, 0)
    stay = xp.eye(mask.shape[0], dtype=xp.bool, device=array_api_compat.device(mask))
    step, heard = xp.astype(mask | stay, xp.float32), stay
    for _ in range(n_layers):
        further = step @ xp.astype(heard, xp.float32) > 0  # whether there is a path, not how many
        if xp.all(further == heard):
            break
        heard = further
    return heard


# How a row of blocks is computed --------------------------------------------------------------------------------------


def _dense(xp, q, k, v, may, scale):
    """Dense attention of one block of queries to the keys put side by side; torch brings a fused one."""
    if not array_api_compat.is_torch_namespace(xp) or not k.shape[-2]:
        return functional.attention(q, k, v, may, scale)
    from torch.nn.functional import scaled_dot_product_attention

    if may is None:
        return scaled_dot_product_attention(q, k, v, scale=scale)
    some = xp.any(may, axis=-1, keepdims=True)
    if xp.all(some):
        return scaled_dot_product_attention(q, k, v, may, scale=scale)
    # Whoever may see nothing sees everything for now, so that nothing becomes NaN, and is set to 0 afterwards.
    out = scaled_dot_product_attention(q, k, v, may | ~some, scale=scale)
    return xp.where(some, out, xp.zeros_like(out))


def _rules(xp, q, k, causal, mask):
    """A function of (block of queries, kept blocks of keys, block): which of those cells may be, None if all."""
    n_q, n_kv = q.shape[-2], k.shape[-2]
    device = array_api_compat.device(q)
    if mask is not None and not callable(mask):
        mask = _spread(xp, q, k, mask)

    def allowed(i, seen, block):
        if not len(seen):
            return None
        rows = np.arange(i * block, min((i + 1) * block, n_q))
        cols = np.concatenate([np.arange(j * block, min((j + 1) * block, n_kv)) for j in seen])
        at = rows[:, None] + (n_kv - n_q)
        may = None
        if callable(mask):
            may = xp.asarray(_asked(mask, at, cols[None, :]), device=device)
        elif mask is not None:
            may = mask[..., rows[0] : rows[-1] + 1, :][..., cols]
        if causal and cols[-1] > at[0, 0]:
            past = xp.asarray(cols[None, :] <= at, device=device)
            may = past if may is None else may & past
        return may

    return allowed


def _asked(mask, i, j):
    """mask(i, j), checked."""
    may = np.asarray(mask(i, j))
    wanted = np.broadcast_shapes(i.shape, j.shape)
    if may.dtype != bool or _broadcast(wanted, may.shape) != wanted:
        raise ValueError(f"mask must give True or False for each pair of positions, of shape {wanted} here, "
                         f"got {may.dtype} of shape {may.shape}")
    return np.ones(wanted, dtype=bool) & may


def _spread(xp, q, k, mask):
    """The mask as a view of shape (1, all that is in the batch, n_q, n_kv), or (1, 1, …) where it is one for all."""
    if not array_api_compat.is_array_api_obj(mask):
        raise TypeError(f"mask must be a boolean array or a function of positions, got {type(mask).__name__}")
    _same_library(q=q, mask=mask)
    _boolean(mask)
    batch = _broadcast(q.shape[:-2], k.shape[:-2])
    full = (*batch, q.shape[-2], k.shape[-2])
    if _broadcast(full, mask.shape) != full:
        raise ValueError(f"mask must broadcast to the scores' shape {full}, got {_shape(mask)}")
    if all(size == 1 for size in mask.shape[:-2]):
        return xp.broadcast_to(mask, (1, 1, *full[-2:]) if mask.ndim <= 4 else (*mask.shape[:-2], *full[-2:]))
    return xp.reshape(xp.broadcast_to(mask, full), (1, -1, *full[-2:]))


def _folded(xp, q, k, v):
    """The leading dimensions, and q, k, v with two of them, as torch's fused kernels want it: (1, batch, n, d)."""
    batch = ()
    for x in (q, k, v):
        batch = _broadcast(batch, x.shape[:-2])
    each = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (q, k, v))
    return batch, *(xp.reshape(x, (1, math.prod(batch), *x.shape[-2:])) for x in each)


class _Blocks:
    """The rows of x (..., n, d) in blocks; blocks[[2, 3, 7]] puts some of them side by side."""

    def __init__(self, xp, x, block: int):
        self.xp, self.x, self.block = xp, x, block
        # A slice hands back a gradient as large as x, a split only its own piece: with n / block slices that is n².
        self.pieces = x.split(block, dim=-2) if getattr(x, "requires_grad", False) else None

    def __getitem__(self, chosen):
        if not len(chosen):
            return self.x[..., :0, :]
        if self.pieces is not None:
            return self.xp.concat([self.pieces[j] for j in chosen], axis=-2)
        first, last = chosen[0], chosen[-1]
        if last - first + 1 == len(chosen):  # neighbours lie side by side already
            return self._rows(first, last)
        return self.xp.concat([self._rows(j, j) for j in chosen], axis=-2)

    def _rows(self, first, last):
        return self.x[..., int(first) * self.block : (int(last) + 1) * self.block, :]


# What is checked, and how a wrong argument is named -------------------------------------------------------------------


def _grid(n_q, n_kv, block) -> tuple[int, int]:
    block = _integer("block", block, 1)
    return -(-_integer("n_q", n_q, 1) // block), -(-_integer("n_kv", n_kv, 1) // block)


def _check_layout(layout, block, n_q, n_kv):
    wanted = _grid(n_q, n_kv, block)
    _boolean(layout, "layout")
    if _shape(layout) != wanted:
        spelled = f"(⌈{n_q} / {block}⌉, ⌈{n_kv} / {block}⌉) = {wanted}"
        raise ValueError(f"layout must have a row and a column for each block, {spelled}, got shape {_shape(layout)}")


def _check(q, k, v):
    xp = _namespace(q=q, k=k, v=v)
    _check_matrix(q=q, k=k, v=v)
    if q.shape[-1] != k.shape[-1] or not q.shape[-1]:
        raise ValueError(f"k must have the width of q, at least 1, got shapes {_shape(q)} and {_shape(k)}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have one row for each of the {k.shape[-2]} keys in k, got shape {_shape(v)}")
    for name, x in (("q", q), ("k", k)):
        if 0 in x.shape[:-1]:
            raise ValueError(f"{name} must have at least one token in each sequence, got shape {_shape(x)}")
    _check_batch(q=q, k=k, v=v)
    return xp
