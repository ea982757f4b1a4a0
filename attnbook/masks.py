"""Who may attend to whom: boolean masks, True = may attend, rows are queries and columns are keys.

The same convention as `torch.nn.functional.scaled_dot_product_attention`, and the opposite of the
`key_padding_mask` of `torch.nn.MultiheadAttention`, where True means "ignore".
"""

from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Bool

Array = Any


def causal(n_q: int, n_kv: int | None = None, like: Array | None = None) -> Bool[Array, "n_q n_kv"]:
    """Each query sees the keys up to its own position; shape (n_q, n_kv).

    With n_q ≠ n_kv the two are aligned at the end (bottom-right): the last query sees every key, as a decoder
    that holds older keys in a cache needs. torch's `is_causal` aligns them at the start instead.
    `like` is an array whose library and device the mask gets; NumPy without it.
    Raises ValueError if a length is negative or not an integer.
    """
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    xp, device = _library(like)
    position = xp.arange(n_q, device=device)[:, None] + (n_kv - n_q)
    return xp.arange(n_kv, device=device)[None, :] <= position


def padding(lengths: Any, n_kv: int, like: Array | None = None) -> Bool[Array, "*batch 1 n_kv"]:
    """The first `lengths[b]` keys of sequence b are real, the rest is filler; shape (*batch, 1, n_kv).

    The 1 stands for the queries: the mask hides *keys*. Raises ValueError if a length is not in 0…n_kv.
    """
    _length("n_kv", n_kv)
    given = np.asarray(lengths)
    if given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() > n_kv):
        raise ValueError(f"lengths must be integers from 0 to n_kv = {n_kv}, got {given.tolist()}")
    xp, device = _library(like)
    real = xp.asarray(given.astype(np.int64), device=device)[..., None, None]
    return xp.arange(n_kv, device=device) < real


def _library(like):
    if like is None:
        return array_api_compat.array_namespace(np.empty(0)), "cpu"
    if not array_api_compat.is_array_api_obj(like):
        raise TypeError(f"like must be a NumPy array or a torch tensor, got {type(like).__name__}")
    return array_api_compat.array_namespace(like), array_api_compat.device(like)


def _length(name: str, n) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"{name} must be a length, an integer of at least 0, got {n!r}")
    return int(n)
