"""Who may attend to whom: boolean masks, True = may attend, rows are queries and columns are keys.

The same convention as `torch.nn.functional.scaled_dot_product_attention`, and the opposite of the
`key_padding_mask` of `torch.nn.MultiheadAttention`, where True means "ignore".

Masks are plain boolean arrays, (n_q, n_kv) or (batch, n_q, n_kv), where a 1 stands for "all alike". Combine
them with `&` (both must allow) and `|` (either may); a few useful ones:

    causal(n) & padding(lengths, n)      a padded batch of texts that are read from left to right
    causal(n) & local(n, n, window)      sliding window: the last `window` tokens, oneself included
    causal(n) | padding(n_prefix, n)     prefix: everyone sees the first n_prefix tokens, the rest is causal
    local(n, n, window) | globally(n, n, 1)   Longformer: near tokens, and one that everybody talks to

`leaks` finds out who a whole model listens to, whatever masks it says it uses.
"""

import math
from collections.abc import Callable
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
    window = _integer("window", window, 1)
    return _distance(n_q, n_kv, like) < window


def dilated(n_q: int, n_kv: int | None, window: int, step: int, like: Array | None = None) -> Bool[Array, "n_q n_kv"]:
    """Each query sees every `step`-th key, fewer than `window` of them each way, oneself included; shape (n_q, n_kv).

    Nearly as far as `local` with a window of `window * step`, for the price of one with `window`, and with gaps
    (Beltagy et al., 2020, section 3.1). Aligned at the end. Raises ValueError as `local` does, and if step is below 1.
    """
    window, step = _integer("window", window, 1), _integer("step", step, 1)
    distance = _distance(n_q, n_kv, like)
    return (distance < window * step) & (distance % step == 0)


def globally(n_q: int, n_kv: int | None, n_global: int, like: Array | None = None) -> Bool[Array, "n_q n_kv"]:
    """The first `n_global` tokens see everyone and are seen by everyone, the others nobody else; shape (n_q, n_kv).

    To be combined with another mask by `|` (Beltagy et al., 2020, section 3.1; Zaheer et al., 2020, section 2).
    Where there are more keys than queries, the first tokens are the oldest keys. Raises ValueError if a length or
    n_global is negative or not an integer.
    """
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    n_global = _length("n_global", n_global)
    xp, device = _library(like)
    position = xp.arange(n_q, device=device)[:, None] + (n_kv - n_q)
    first = (position >= 0) & (position < n_global)  # with fewer keys than queries some queries stand before them all
    return first | (xp.arange(n_kv, device=device)[None, :] < n_global)


def random(
    n_q: int, n_kv: int | None, per_row: int, seed: int = 0, like: Array | None = None
) -> Bool[Array, "n_q n_kv"]:
    """Each query sees `per_row` keys drawn at random, or all of them if there are fewer; shape (n_q, n_kv).

    One part of BigBird (Zaheer et al., 2020, section 2). The draw is a hash of seed, query and key, so it is the same
    on every machine, and a key once drawn stays in when `per_row` grows.
    Raises ValueError if a length or per_row is negative or not an integer, or seed is not in 0…2³² - 1.
    """
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    per_row, seed = _length("per_row", per_row), _length("seed", seed)
    if seed >= 2**32:
        raise ValueError(f"seed must be below 2³², got {seed}")
    row, column = np.arange(n_q, dtype=np.uint32)[:, None], np.arange(n_kv, dtype=np.uint32)[None, :]
    lots = _scramble(_scramble(_scramble(np.uint32(seed)) + row) + column * np.uint32(0x9E3779B9))
    rank = np.argsort(np.argsort(lots, axis=-1, kind="stable"), axis=-1)
    xp, device = _library(like)
    return xp.asarray(rank < per_row, device=device)


def kept_blocks(mask: Bool[Array, "*batch n_q n_kv"], block: int) -> Bool[Array, "*batch rows cols"]:
    """Which blocks of `block` × `block` hold at least one True: those that a block-wise kernel has to compute.

    The last row and column of blocks may be smaller. Shape (..., ⌈n_q / block⌉, ⌈n_kv / block⌉).
    Raises TypeError if `mask` is not a boolean array, ValueError if it is not a matrix or block is below 1.
    """
    xp = _boolean(mask)
    block = _integer("block", block, 1)
    if mask.ndim < 2:
        raise ValueError(f"mask must have at least 2 axes, (n_q, n_kv), got shape {_shape(mask)}")
    for axis in (-1, -2):
        filler = [*mask.shape]
        filler[axis] = -mask.shape[axis] % block
        nobody = xp.zeros(tuple(filler), dtype=xp.bool, device=array_api_compat.device(mask))
        mask = xp.concat([mask, nobody], axis=axis)
    *batch, n_q, n_kv = mask.shape
    tiles = xp.reshape(mask, (*batch, n_q // block, block, n_kv // block, block))
    return xp.any(xp.any(tiles, axis=-1), axis=-2)


# Who a model listens to ------------------------------------------------------------------------------------------


def influence(f: Callable, x: Array, other: Array | None = None) -> Bool[np.ndarray, "n_out n_in"]:
    """True where output i of `f` changes when token j of `x` is replaced; rows are outputs, columns are inputs.

    f          a model or layer: takes x (batch, n, …) and returns (batch, n_out, …)
    other      shaped like x and different from it at every token: what the tokens are replaced by. Made from x if x
               is floating; to be given where x holds token ids.

    It asks the model itself, so it finds what a mask forgot. What it finds is there; where it finds nothing, another
    input might still show something. A change counts from a millionth of the largest output on.
    Raises TypeError or ValueError (x without tokens; other does not fit or equals x somewhere; f answers the same
    question differently, or with NaN or infinity).
    """
    if not array_api_compat.is_array_api_obj(x):
        raise TypeError(f"x must be a NumPy array or a torch tensor, got {type(x).__name__}")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x must have shape (batch, n, …) with at least one token, got {_shape(x)}")
    xp = array_api_compat.array_namespace(x)
    other = _replacement(xp, x, other)
    before = _answer(f, x)
    if not np.array_equal(before, _answer(f, x)):
        raise ValueError("f must give the same output for the same x, got two that differ: is dropout on? try f.eval()")
    columns = []
    for j in range(x.shape[1]):
        replaced = xp.concat([x[:, :j], other[:, j : j + 1], x[:, j + 1 :]], axis=1)
        change = np.abs(_answer(f, replaced) - before)
        columns.append(change.max(axis=(0, *range(2, before.ndim))) > 1e-6 * np.abs(before).max())
    return np.stack(columns, axis=-1)


def leaks(
    f: Callable, x: Array, allowed: Bool[Array, "n_out n_in"] | None = None, other: Array | None = None
) -> Bool[np.ndarray, "n_out n_in"]:
    """True where output i of `f` listens to a token j that `allowed` forbids; all False means that no leak was found.

    `allowed` is `causal` unless given: no output may depend on a later token. With fewer outputs than tokens it is
    aligned at the end, as everywhere, so a model that cuts off its last output needs an `allowed` of its own.
    Arguments and errors as in `influence`.
    """
    heard = influence(f, x, other)
    may = causal(*heard.shape) if allowed is None else np.asarray(allowed)
    if may.dtype != bool or may.shape != heard.shape:
        raise ValueError(f"allowed must be booleans of shape {heard.shape}, got {may.dtype} of shape {may.shape}")
    return heard & ~may


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


# What several of them need ---------------------------------------------------------------------------------------


def _distance(n_q, n_kv, like):
    """How many positions lie between query and key, aligned at the end."""
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    xp, device = _library(like)
    position = xp.arange(n_q, device=device)[:, None] + (n_kv - n_q)
    return xp.abs(xp.arange(n_kv, device=device)[None, :] - position)


def _scramble(x):
    """MurmurHash3's finaliser on 32-bit integers: neighbours in, unrelated numbers out."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _answer(f, x):
    """f(x) as a NumPy array of floats, (batch, n_out, …), without a gradient."""
    out = f(x)
    if not array_api_compat.is_array_api_obj(out):
        raise TypeError(f"f must return an array, got {type(out).__name__}")
    out = np.asarray(out.detach().cpu().double() if hasattr(out, "detach") else out, dtype=float)
    if out.ndim < 2 or 0 in out.shape:
        raise ValueError(f"f must return an array of shape (batch, n_out, …), got {out.shape}")
    if not np.isfinite(out).all():
        raise ValueError(f"f must return finite numbers, got {out[~np.isfinite(out)][0]}")
    return out


def _replacement(xp, x, other):
    if other is None:
        if not xp.isdtype(x.dtype, "real floating"):
            raise ValueError(f"other must be given where x is not floating, got dtype {x.dtype} and no other")
        # Not x plus or times a number: after a layer norm that would be the same token again.
        wave = np.cos(np.arange(math.prod(x.shape))).reshape(x.shape)
        made = x + xp.asarray(wave + np.sign(wave), dtype=x.dtype, device=array_api_compat.device(x))
        if xp.any(_alike(xp, x, made)):
            raise ValueError(f"other must be given where x is so large that x + 1 = x in {x.dtype}, got no other")
        return made
    _same_library(x=x, other=other)
    if _shape(other) != _shape(x):
        raise ValueError(f"other must have the shape of x, {_shape(x)}, got {_shape(other)}")
    alike = _alike(xp, x, other)
    if xp.any(alike):
        raise ValueError(f"other must differ from x at every token, got the same at token {_first(xp, alike)}")
    return other


def _alike(xp, x, other):
    """(batch, n): True where a token is the same in both."""
    return xp.all(xp.reshape(other == x, (x.shape[0], x.shape[1], -1)), axis=-1)


def _first(xp, flags):
    """Where the first True stands along the last axis, in any row."""
    return int(xp.argmax(xp.astype(xp.any(flags, axis=0), xp.int8)))


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
