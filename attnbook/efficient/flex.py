"""The same patterns for `torch.nn.attention.flex_attention` (Dong et al., 2024): small functions of positions.

A *mask_mod* (b, h, q_idx, kv_idx) says whether query q_idx may attend to key kv_idx in head h of sequence b; a
*score_mod* (score, b, h, q_idx, kv_idx) changes the score. torch compiles either into a fused kernel that skips the
blocks in which nothing is allowed. Where there is no compiler it runs them as they are: right, and slow.

    flex(q, k, v, both(causal(), local(256)))                            sliding window
    flex(q, k, v, from_layout(bigbird_blocks(n, n, 64), 64))             any layout of `attnbook.efficient.sparse`
    flex(q, k, v, both(causal(), documents(ids)))                        several texts in one sequence

Positions count from the start of q and of k; with fewer queries than keys pass offset = n_kv - n_q to align them at
the end, as everywhere in the book.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.attention.flex_attention import and_masks, create_block_mask, flex_attention, or_masks

from attnbook.masks import _integer

both, either = and_masks, or_masks  # of any number of mask_mods


def causal(offset: int = 0) -> Callable:
    """mask_mod of `masks.causal`: keys up to the query's own position."""
    return lambda b, h, i, j: j <= i + offset


def local(window: int, offset: int = 0) -> Callable:
    """mask_mod of `masks.local`: keys less than `window` away. Raises ValueError if window is below 1."""
    window = _integer("window", window, 1)
    return lambda b, h, i, j: (i + offset - j).abs() < window


def dilated(window: int, step: int, offset: int = 0) -> Callable:
    """mask_mod of `masks.dilated`: every `step`-th key, fewer than `window` each way."""
    window, step = _integer("window", window, 1), _integer("step", step, 1)

    def mod(b, h, i, j):
        distance = (i + offset - j).abs()
        return (distance < window * step) & (distance % step == 0)

    return mod


def strided(stride: int, offset: int = 0) -> Callable:
    """mask_mod of every `stride`-th key, counted from the query's own position."""
    stride = _integer("stride", stride, 1)
    return lambda b, h, i, j: (i + offset - j).abs() % stride == 0


def globally(n_global: int, offset: int = 0) -> Callable:
    """mask_mod of `masks.globally`: the first `n_global` tokens see all and are seen by all."""
    n_global = _integer("n_global", n_global, 1)
    return lambda b, h, i, j: ((i + offset >= 0) & (i + offset < n_global)) | (j < n_global)


def documents(ids: Int[torch.Tensor, "n"]) -> Callable:
    """mask_mod that keeps texts apart that were packed into one sequence: ids (n,) says which text a token is of."""
    ids = torch.as_tensor(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids must have one axis, (n,), got shape {tuple(ids.shape)}")
    return lambda b, h, i, j: ids[i] == ids[j]


def from_layout(layout, block: int, device="cpu") -> Callable:
    """mask_mod of any layout of blocks, such as a random one: it is looked up."""
    table, block = torch.as_tensor(np.asarray(layout), device=device), _integer("block", block, 1)
    if table.dtype != torch.bool or table.ndim != 2:
        raise ValueError(f"layout must be boolean (rows, cols), got {table.dtype} of shape {tuple(table.shape)}")
    return lambda b, h, i, j: table[i // block, j // block]


def score_mod(mask_mod: Callable) -> Callable:
    """The same as a score_mod: -inf where mask_mod says no. Right, but no block is skipped for it."""
    return lambda score, b, h, i, j: torch.where(mask_mod(b, h, i, j), score, -torch.inf)


def flex(
    q: Float[torch.Tensor, "batch heads n_q d_k"],
    k: Float[torch.Tensor, "batch heads n_kv d_k"],
    v: Float[torch.Tensor, "batch heads n_kv d_v"],
    mask_mod: Callable | None = None,
    score_mod: Callable | None = None,
    scale: float | None = None,
    compiled: bool | None = None,
) -> Float[torch.Tensor, "batch heads n_q d_v"]:
    """torch's flex_attention with a mask_mod, a score_mod, or both; compiled if there is a compiler, unless told.

    The first compilation takes tens of seconds on a CPU, and on a CPU goes forward only: where a gradient is asked
    for, it runs as it is. Raises ValueError if the arrays have not four axes or no tokens.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4 or 0 in x.shape:
            raise ValueError(f"{name} must have shape (batch, heads, n, d), none of them 0, got {tuple(x.shape)}")
    if compiled is None:
        needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        compiled = compiler_present(q.device.type) and not (q.device.type == "cpu" and needs_gradient)
    run = _compiled() if compiled else flex_attention
    block_mask = None
    if mask_mod is not None:
        block_mask = create_block_mask(mask_mod, None, None, q.shape[-2], k.shape[-2], device=q.device)
    return run(q, k, v, score_mod=score_mod, block_mask=block_mask, scale=scale)


def compiler_present(device: str = "cpu") -> bool:
    """Whether torch.compile can work here: a C++ compiler for the CPU, Triton for a GPU."""
    if device == "cpu":
        return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
    from torch.utils._triton import has_triton

    return has_triton()


@cache
def _compiled():
    return torch.compile(flex_attention, dynamic=False)
