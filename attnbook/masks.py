"""Who may attend to whom: boolean masks, True = may attend, rows are queries and columns are keys.

The same convention as `torch.nn.functional.scaled_dot_product_attention`, and the opposite of the
`key_padding_mask` of `torch.nn.MultiheadAttention`, where True means "ignore".

Masks are plain boolean arrays, (n_q, n_kv) or (batch, n_q, n_kv), where a 1 stands for "all alike". Combine
them with `&` (both must allow) and `|` (either may); a few useful ones:

    causal(n) & padding(lengths, n)      a padded batch of texts that are read from left to right
    causal(n) & local(n, n, window)      sliding window: the last `window` tokens, oneself included
    causal(n) | padding(n_prefix, n)     prefix: everyone sees the first n_prefix tokens, the rest is causal
"""

import math
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float

from attnbook.functional import _namespace, _same_library, _shape

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
    try:
        given = np.asarray(lengths)
    except ValueError:
        raise ValueError(f"lengths must be an array of integers, got rows of different lengths: {lengths}") from None
    if given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() > n_kv):
        raise ValueError(f"lengths must be integers from 0 to n_kv = {n_kv}, got {given.tolist()}")
    xp, device = _library(like)
    real = xp.asarray(given.astype(np.int64), device=device)[..., None, None]
    return xp.arange(n_kv, device=device) < real


def local(n_q: int, n_kv: int | None, window: int, like: Array | None = None) -> Bool[Array, "n_q n_kv"]:
    """Each query sees the keys less than `window` positions away, before and after; shape (n_q, n_kv).

    Aligned at the end, as `causal` is. Both together are the sliding window of Child et al. (2019) and of
    Mistral: the `window` latest tokens. Longformer (Beltagy et al., 2020, section 3.1) looks both ways.
    Raises ValueError if a length is negative or not an integer, or `window` is less than 1.
    """
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    window = _integer("window", window, 1)
    xp, device = _library(like)
    position = xp.arange(n_q, device=device)[:, None] + (n_kv - n_q)
    return xp.abs(xp.arange(n_kv, device=device)[None, :] - position) < window


# To torch and back -----------------------------------------------------------------------------------------------
#
#                                    boolean True means   shapes
#   attnbook                         may attend           (n_q, n_kv), (batch, n_q, n_kv), (batch, heads, n_q, n_kv)
#   scaled_dot_product_attention     may attend           (n_q, n_kv), (batch, heads, n_q, n_kv)
#   MultiheadAttention, attn_mask    ignore               (n_q, n_kv), (batch * heads, n_q, n_kv)
#   ... key_padding_mask             ignore               (batch, n_kv)
#
# Each of torch's may also be additive: floats that are added to the scores, 0 = may attend, -inf = ignore.


def to_sdpa(mask: Bool[Array, "*mask"]) -> Bool[Array, "*sdpa"]:
    """For `scaled_dot_product_attention(attn_mask=...)`: True = may attend there too, the heads need their axis.

    (batch, n_q, n_kv) becomes (batch, 1, n_q, n_kv). Left as it was it would broadcast against the *heads*, and
    where there are as many heads as sequences nothing would complain.
    Raises TypeError if `mask` is not a boolean array, ValueError if it has more than 4 axes.
    """
    _boolean(mask)
    if mask.ndim > 4:
        raise ValueError(f"mask must have at most 4 axes, (batch, heads, n_q, n_kv), got shape {_shape(mask)}")
    return mask[:, None, :, :] if mask.ndim == 3 else mask


def from_sdpa(attn_mask: Array) -> Bool[Array, "*mask"]:
    """From the `attn_mask` of `scaled_dot_product_attention`, boolean (True = may attend) or additive."""
    return _allowed("attn_mask", attn_mask, true_means_ignore=False)


def to_attn_mask(mask: Bool[Array, "*mask"], n_heads: int) -> Bool[Array, "*torch"]:
    """For `MultiheadAttention(...)(attn_mask=...)`, where True = ignore and 3 axes are (batch * heads, n_q, n_kv).

    Raises TypeError (not a boolean array) or ValueError (not 2 to 4 axes, or its heads are not `n_heads`).
    """
    xp = _boolean(mask)
    n_heads = _integer("n_heads", n_heads, 1)
    if not 2 <= mask.ndim <= 4:
        raise ValueError(f"mask must have 2 to 4 axes, (batch, heads, n_q, n_kv) at most, got shape {_shape(mask)}")
    if mask.ndim == 2:
        return ~mask
    batch, heads, n_q, n_kv = to_sdpa(mask).shape
    if heads not in (1, n_heads):
        raise ValueError(f"mask must have n_heads = {n_heads} or 1 on its heads' axis, got shape {_shape(mask)}")
    each = xp.broadcast_to(to_sdpa(mask), (batch, n_heads, n_q, n_kv))
    return ~xp.reshape(each, (batch * n_heads, n_q, n_kv))


def from_attn_mask(attn_mask: Array, n_heads: int) -> Bool[Array, "*mask"]:
    """From the `attn_mask` of `MultiheadAttention`, boolean (True = ignore) or additive.

    (n_q, n_kv) stays, (batch * heads, n_q, n_kv) becomes (batch, heads, n_q, n_kv).
    Raises TypeError or ValueError as `from_additive` does, and ValueError if the first axis is no multiple of n_heads.
    """
    mask = _allowed("attn_mask", attn_mask, true_means_ignore=True)
    n_heads = _integer("n_heads", n_heads, 1)
    if mask.ndim == 2:
        return mask
    if mask.ndim != 3 or mask.shape[0] % n_heads:
        want = f"(n_q, n_kv) or (batch * {n_heads}, n_q, n_kv)"
        raise ValueError(f"attn_mask must have shape {want}, got {_shape(mask)}")
    return _same_library(mask=mask).reshape(mask, (mask.shape[0] // n_heads, n_heads, *mask.shape[1:]))


def to_key_padding_mask(mask: Bool[Array, "*mask"]) -> Bool[Array, "*batch n_kv"]:
    """For `MultiheadAttention(...)(key_padding_mask=...)`: (batch, 1, n_kv) becomes (batch, n_kv), True = ignore.

    Raises TypeError (not a boolean array) or ValueError (it does not say the same for every query).
    """
    _boolean(mask)
    if mask.ndim not in (2, 3) or mask.shape[-2] != 1:
        raise ValueError(f"mask must be the same for every query, of shape (batch, 1, n_kv), got {_shape(mask)}")
    return ~mask[..., 0, :]


def from_key_padding_mask(key_padding_mask: Array) -> Bool[Array, "*batch 1 n_kv"]:
    """From the `key_padding_mask` of `MultiheadAttention`, boolean (True = ignore) or additive, to (batch, 1, n_kv).

    Raises TypeError or ValueError as `from_additive` does, and ValueError if it has not 1 or 2 axes.
    """
    mask = _allowed("key_padding_mask", key_padding_mask, true_means_ignore=True)
    if mask.ndim not in (1, 2):
        raise ValueError(f"key_padding_mask must have shape (batch, n_kv), got {_shape(mask)}")
    return mask[..., None, :]


def to_additive(mask: Bool[Array, "*mask"], like: Array | None = None) -> Float[Array, "*mask"]:
    """0 where `mask` is True and -inf where it is False: what is added to the scores before the softmax.

    The dtype is that of `like`, say of the queries; without it, the library's usual one.
    Raises TypeError if `mask` is not a boolean array or `like` not a floating one of the same library.
    """
    xp = _boolean(mask)
    if like is not None:
        _namespace(like=like)
        _same_library(mask=mask, like=like)
    zero = xp.zeros(mask.shape, dtype=None if like is None else like.dtype, device=array_api_compat.device(mask))
    return xp.where(mask, zero, xp.full_like(zero, -math.inf))


def from_additive(bias: Float[Array, "*mask"]) -> Bool[Array, "*mask"]:
    """True where `bias` is 0, False where it is -inf.

    Raises TypeError if `bias` is not a floating array, and ValueError at any other number: -1e9, say, hides a key
    only as long as no score comes near it and there is another key, and a bias such as ALiBi's is no mask at all.
    """
    return _from_additive("bias", bias)


# What is checked, and how a wrong argument is named -----------------------------------------------------------


def _from_additive(name, bias):
    xp = _namespace(**{name: bias})
    other = (bias != 0) & (bias != -math.inf)
    if xp.any(other):
        found = float(bias[other][0])
        raise ValueError(f"{name} must hold 0 (may attend) and -inf (ignore) only, got {found}")
    return bias == 0


def _allowed(name, mask, true_means_ignore):
    if array_api_compat.is_array_api_obj(mask) and not _same_library(mask=mask).isdtype(mask.dtype, "bool"):
        return _from_additive(name, mask)
    _boolean(mask, name)
    return ~mask if true_means_ignore else mask


def _boolean(mask, name="mask"):
    if not array_api_compat.is_array_api_obj(mask):
        raise TypeError(f"{name} must be a NumPy array or a torch tensor, got {type(mask).__name__}")
    xp = array_api_compat.array_namespace(mask)
    if not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"{name} must be boolean (True = may attend), got dtype {mask.dtype}")
    return xp


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


def _integer(name: str, n, least: int) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {n!r}")
    return int(n)
