"""Four ways to tell attention the order of its tokens, which by itself it does not see.

    sinusoidal, learned    a vector for each position, added to the token's vector before Q, K and V are made
    rope                   a rotation of each query and key by an angle that grows with its position
    alibi                  a penalty on each score that grows with the distance from query to key

Plain functions of NumPy arrays or torch tensors (autograd included), as in `attnbook.functional`. A position is
`offset` + row, so that a decoder with a cache can go on where it stopped. `attnbook.layers.LearnedPositions`
is the torch module around `learned`. Every angle is computed in float64, then rounded to the dtype asked for:
at position 100,000 a float32 angle is already off by a thousandth.
"""

from typing import Any, Literal

import array_api_compat
import numpy as np
from jaxtyping import Float

from attnbook.functional import _axis, _check_matrix, _namespace, _number, _shape, _widen
from attnbook.masks import _integer, _length

Array = Any  # a NumPy array or a torch tensor
Layout = Literal["half", "interleaved"]


def angles(
    n: int, d: int, offset: int = 0, base: float = 10_000.0, like: Array | None = None
) -> Float[Array, "n d_half"]:
    """position · base^(-2i/d) for position = offset … offset + n - 1 and i = 0 … d/2 - 1; shape (n, d/2).

    Hands of a clock: the first turns by one radian a token, each next one more slowly, the last once in
    2π · base^(1 - 2/d) tokens. `sinusoidal` writes them down, `rope` turns by them. `like` is a floating array whose
    library, dtype and device the result gets; NumPy's float64 without it.

    Raises ValueError (n or offset negative, d odd, base not positive) or TypeError (like not a floating array).
    """
    return _as(_angles(n, "d", d, offset, base), like)


def sinusoidal(
    n: int, d_model: int, offset: int = 0, base: float = 10_000.0, like: Array | None = None
) -> Float[Array, "n d_model"]:
    """sin and cos of the `angles` in turn, one row a position; shape (n, d_model).

    PE(pos, 2i) = sin(pos / base^(2i/d_model)) and PE(pos, 2i+1) its cosine (Vaswani et al., 2017, section 3.5).
    Add it to the token vectors. `like` and what is raised as in `angles`.
    """
    angle = _angles(n, "d_model", d_model, offset, base)
    return _as(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(n, d_model), like)


def learned(table: Float[Array, "n_max d_model"], n: int, offset: int = 0) -> Float[Array, "n d_model"]:
    """Rows offset … offset + n - 1 of `table`, a parameter trained with the rest; shape (n, d_model).

    Gehring et al. (2017), section 3.1; BERT and GPT-2. Beyond the table's last row nothing was learned.
    Raises ValueError if the table does not reach that far.
    """
    _namespace(table=table)
    n, offset = _length("n", n), _integer("offset", offset, 0)
    if table.ndim != 2:
        raise ValueError(f"table must have two dimensions, (n_max, d_model), got shape {_shape(table)}")
    if offset + n > table.shape[0]:
        raise ValueError(f"table must have a row for each of {offset + n} positions, offset + n, got {_shape(table)}")
    return table[offset : offset + n, :]


def rope(
    x: Float[Array, "*batch n d_k"], offset: int = 0, base: float = 10_000.0, layout: Layout = "half"
) -> Float[Array, "*batch n d_k"]:
    """Queries or keys, each pair of components turned by the angle of its position (Su et al., 2021, section 3.2.2).

    Turn q and k alike, not v: q·k then depends on the tokens and on the *difference* of their positions alone.
    `layout` says which components make a pair, and checkpoints differ:

        "half"          i and i + d_k/2: GPT-NeoX and Llama as most libraries store it; the book's default
        "interleaved"   2i and 2i + 1: the paper, GPT-J, and Llama as it was first published

    The wrong one raises nothing and only makes a trained model worse: see `to_half`. Half-precision input is
    turned in float32. Raises TypeError (not a floating array) or ValueError (d_k odd, offset negative, base not
    positive, no such layout).
    """
    xp = _namespace(x=x)
    _check_matrix(x=x)
    _check_layout("layout", layout)
    n, d_k = x.shape[-2:]
    if d_k % 2:
        raise ValueError(f"x must have an even width d_k, to be turned in pairs, got shape {_shape(x)}")
    wide = _widen(xp, x)
    angle = _angles(n, "d_k", d_k, offset, base)
    cos, sin = _as(np.cos(angle), wide), _as(np.sin(angle), wide)
    half = layout == "half"
    a, b = (wide[..., : d_k // 2], wide[..., d_k // 2 :]) if half else (wide[..., 0::2], wide[..., 1::2])
    turned = [a * cos - b * sin, a * sin + b * cos]
    joined = xp.concat(turned, axis=-1) if half else xp.reshape(xp.stack(turned, axis=-1), x.shape)
    return xp.astype(joined, x.dtype)


def to_half(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Components in interleaved order put into half-split order: first the even ones, then the odd ones.

    to_half(rope(x, layout="interleaved")) = rope(to_half(x), layout="half"). To convert a checkpoint, do it to the
    rows of W_q and W_k (and their biases) *of each head*: reshape to (n_heads, d_k, d_model), then axis=1.
    q·k does not change when both are reordered alike. Raises ValueError if the axis has an odd length.
    """
    return _reorder(x, axis, lambda d: np.r_[0:d:2, 1:d:2])


def to_interleaved(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Components in half-split order put into interleaved order: the inverse of `to_half`."""
    return _reorder(x, axis, lambda d: np.arange(d).reshape(2, d // 2).T.ravel())


def alibi_slopes(n_heads: int, like: Array | None = None) -> Float[Array, "n_heads"]:
    """How steeply each head penalises distance: 2^(-8/h), 2^(-16/h), … 2^-8 (Press et al., 2022, section 3).

    Where h is not a power of 2, the authors' code takes the slopes of the power below, then every other one of
    the power above. `like` as in `angles`. Raises ValueError if n_heads is not an integer of at least 1.
    """
    n_heads = _integer("n_heads", n_heads, 1)
    power = 1 << (n_heads.bit_length() - 1)
    below = np.arange(1, power + 1) / power
    between = np.arange(1, 2 * power, 2) / (2 * power)
    return _as(2.0 ** (-8 * np.concat([below, between[: n_heads - power]])), like)


def alibi(
    n_heads: int, n_q: int, n_kv: int | None = None, like: Array | None = None
) -> Float[Array, "n_heads n_q n_kv"]:
    """-slope · distance for each head, to be added to the scaled scores; shape (n_heads, n_q, n_kv).

    With n_q ≠ n_kv aligned at the end, as `masks.causal` is. The paper is causal; here keys after the query are
    penalised by their distance too, so that without a causal mask it tells apart near and far.
    `like` as in `angles`. Raises ValueError if a length is negative or n_heads is less than 1.
    """
    n_q = _length("n_q", n_q)
    n_kv = n_q if n_kv is None else _length("n_kv", n_kv)
    distance = np.abs(np.arange(n_kv)[None, :] - (np.arange(n_q)[:, None] + (n_kv - n_q)))
    # 0 - and not a minus sign: -0.0 at distance 0 would print as such.
    return _as(0 - alibi_slopes(n_heads)[:, None, None] * distance, like)


# What is checked, and how a wrong argument is named -----------------------------------------------------------


def _angles(n, width, d, offset, base):
    n, offset, d = _length("n", n), _integer("offset", offset, 0), _integer(width, d, 0)
    if d % 2:
        raise ValueError(f"{width} must be even, a sine and a cosine for each angle, got {d}")
    base = _number("base", base)
    if base <= 0:
        raise ValueError(f"base must be positive, got {base}")
    frequency = base ** (-np.arange(0, d, 2) / max(d, 1))
    return (offset + np.arange(n))[:, None] * frequency


def _as(array, like):
    if like is None:
        return array
    xp = _namespace(like=like)
    return xp.asarray(array, dtype=like.dtype, device=array_api_compat.device(like))


def _reorder(x, axis, order):
    xp = _namespace(x=x)
    axis = _axis(x, axis)
    if x.shape[axis] % 2:
        raise ValueError(f"x must have an even length along axis {axis}, to be taken in pairs, got shape {_shape(x)}")
    return xp.take(x, xp.asarray(order(x.shape[axis]), device=array_api_compat.device(x)), axis=axis)


def _check_layout(name, layout):
    if layout not in ("half", "interleaved"):
        raise ValueError(f'{name} must be "half" or "interleaved", got {layout!r}')
