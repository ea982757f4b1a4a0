"""Attention as plain functions: the reference that everything else in the book is tested against.

Written once against the Python array API, so that NumPy arrays and torch tensors (autograd included) both
work, and the result is of the kind that came in. Notation (design.md, section 3): rows are queries, columns
are keys; a mask says who *may* attend; a row with nothing to attend to gives zeros, never NaN.
"""

import math
import numbers
from typing import Any

import array_api_compat
from jaxtyping import Bool, Float

Array = Any  # a NumPy array or a torch tensor


def softmax(x: Float[Array, "*shape"], axis: int = -1, temperature: float = 1.0) -> Float[Array, "*shape"]:
    """exp(x / temperature), normalised to sum to 1 along `axis`.

    The maximum is subtracted first, so that no logit is too large to exponentiate. A slice that is -inf
    throughout gives zeros. Half-precision input is summed in float32.

    Raises TypeError (not a floating array) or ValueError (no such axis, temperature not positive and finite).
    Temperature as in Hinton, Vinyals and Dean (2015), section 2.
    """
    xp = _namespace(x=x)
    axis = _axis(x, axis)
    temperature = _number("temperature", temperature)
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}; its limit at 0 is the arg-max")
    if x.shape[axis] == 0:
        return x
    wide = _widen(xp, x)
    # A temperature that rounds to 0 or to infinity in the dtype of x would make 0/0 or inf/inf of the differences.
    limits = xp.finfo(wide.dtype)
    temperature = min(max(temperature, float(limits.smallest_normal)), float(limits.max))
    exps = xp.exp((wide - _finite_max(xp, wide, axis)) / temperature)
    total = xp.sum(exps, axis=axis, keepdims=True)
    return xp.astype(exps / _ones_where(xp, total == 0, total), x.dtype)


def logsumexp(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*reduced"]:
    """log(sum(exp(x))) along `axis`, in nats, without overflow; -inf where there is nothing to sum.

    Raises TypeError or ValueError as `softmax` does.
    """
    xp = _namespace(x=x)
    axis = _axis(x, axis)
    wide = _widen(xp, x)
    if x.shape[axis] == 0:
        return xp.astype(xp.sum(wide, axis=axis) - math.inf, x.dtype)
    top = _finite_max(xp, wide, axis)
    total = xp.sum(xp.exp(wide - top), axis=axis)
    # log(0) has an infinite slope: where a row is empty it is replaced before the log, so gradients stay finite.
    lse = xp.log(_ones_where(xp, total == 0, total)) + xp.squeeze(top, axis=axis)
    return xp.astype(xp.where(total == 0, xp.full_like(lse, -math.inf), lse), x.dtype)


def softmax_jvp(
    weights: Float[Array, "*shape"], direction: Float[Array, "*shape"], axis: int = -1, temperature: float = 1.0
) -> Float[Array, "*shape"]:
    """How softmax's output moves when its input moves along `direction`: J @ direction.

    `weights` is softmax's output, the only thing that its Jacobian J = (diag(w) - w wᵀ) / temperature needs.
    J is symmetric, so this is the backward pass too: pass the gradient of the output as `direction`.

    Raises TypeError or ValueError as `softmax` does, and ValueError if the two shapes differ.
    """
    xp = _namespace(weights=weights, direction=direction)
    axis = _axis(weights, axis)
    if weights.shape != direction.shape:
        raise ValueError(f"direction must have the shape of weights, {_shape(weights)}, got {_shape(direction)}")
    temperature = _number("temperature", temperature)
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    mean = xp.sum(weights * direction, axis=axis, keepdims=True)
    return weights * (direction - mean) / temperature


def entropy(weights: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*reduced"]:
    """-sum(w log w) along `axis`, in nats: 0 when one weight has everything, log(n) when n share it equally."""
    xp = _namespace(weights=weights)
    axis = _axis(weights, axis)
    safe = _ones_where(xp, weights == 0, weights)
    return -xp.sum(weights * xp.log(safe), axis=axis)


def dot_scores(q: Float[Array, "*#batch n_q d_k"], k: Float[Array, "*#batch n_kv d_k"]) -> Float[Array, "*b n_q n_kv"]:
    """Q Kᵀ: the dot product of every query with every key (Luong et al., 2015, section 3.1, "dot")."""
    xp = _namespace(q=q, k=k)
    _check_q_k(q, k)
    return xp.matmul(q, xp.matrix_transpose(k))


def scaled_scores(
    q: Float[Array, "*#batch n_q d_k"], k: Float[Array, "*#batch n_kv d_k"], scale: float | None = None
) -> Float[Array, "*b n_q n_kv"]:
    """Q Kᵀ · scale, where scale is 1/√d_k unless given (Vaswani et al., 2017, section 3.2.1)."""
    _namespace(q=q, k=k)
    _check_q_k(q, k)
    if scale is None:
        if q.shape[-1] == 0:
            raise ValueError(f"q must have d_k of at least 1 for the scale 1/√d_k, got shape {_shape(q)}")
        scale = 1 / math.sqrt(q.shape[-1])
    # The scale goes on q, before the product: in half precision q·k itself can overflow.
    return dot_scores(q * _number("scale", scale), k)


def additive_scores(
    q: Float[Array, "*#batch n_q d_q"],
    k: Float[Array, "*#batch n_kv d_k"],
    w_q: Float[Array, "d_q d_hidden"],
    w_k: Float[Array, "d_k d_hidden"],
    v_a: Float[Array, "d_hidden"],
) -> Float[Array, "*b n_q n_kv"]:
    """v_aᵀ tanh(q W_q + k W_k) for every pair: a small network scores it (Bahdanau et al., 2015, appendix A.1.2).

    Queries and keys may differ in width. Raises TypeError or ValueError that names the argument.
    """
    xp = _namespace(q=q, k=k, w_q=w_q, w_k=w_k, v_a=v_a)
    _check_matrix(q=q, k=k)
    _check_batch(q=q, k=k)
    if v_a.ndim != 1:
        raise ValueError(f"v_a must have one dimension, (d_hidden,), got shape {_shape(v_a)}")
    for name, given, width in (("w_q", w_q, q.shape[-1]), ("w_k", w_k, k.shape[-1])):
        want = (width, v_a.shape[0])
        if _shape(given) != want:
            raise ValueError(f"{name} must have shape {want}, (width of its input, length of v_a), got {_shape(given)}")
    hidden = xp.tanh(xp.matmul(q, w_q)[..., :, None, :] + xp.matmul(k, w_k)[..., None, :, :])
    return xp.matmul(hidden, v_a)


def attention(
    q: Float[Array, "*#batch n_q d_k"],
    k: Float[Array, "*#batch n_kv d_k"],
    v: Float[Array, "*#batch n_kv d_v"],
    mask: Bool[Array, "*#mask"] | None = None,
    scale: float | None = None,
    return_weights: bool = False,
) -> Float[Array, "*b n_q d_v"] | tuple[Float[Array, "*b n_q d_v"], Float[Array, "*w n_q n_kv"]]:
    """softmax(Q Kᵀ / √d_k) V: scaled dot-product attention (Vaswani et al., 2017, equation 1).

    q (..., n_q, d_k), k (..., n_kv, d_k), v (..., n_kv, d_v), all of one floating dtype; leading dimensions
    broadcast. `mask` is boolean, True = may attend, and broadcasts to the scores (..., n_q, n_kv). `scale`
    replaces 1/√d_k. Returns out (..., n_q, d_v), and with `return_weights` also weights (..., n_q, n_kv).
    A query that may attend to nothing gets zeros, in the output and in every gradient.

    Raises TypeError (NumPy mixed with torch, integer arrays, mixed dtypes, a mask that is not boolean) or
    ValueError (sizes that do not fit, scale not finite), naming the argument.
    """
    xp = _namespace(q=q, k=k, v=v)
    _check_matrix(q=q, k=k, v=v)
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have one row for each of the {k.shape[-2]} keys in k, got shape {_shape(v)}")
    _check_batch(q=q, k=k, v=v)
    scores = scaled_scores(q, k, scale)
    if mask is not None:
        scores = masked(scores, mask)
    weights = softmax(scores)
    out = xp.matmul(weights, v)
    return (out, weights) if return_weights else out


def masked(scores: Float[Array, "*batch n_q n_kv"], mask: Bool[Array, "*#mask"]) -> Float[Array, "*batch n_q n_kv"]:
    """The scores with -inf where `mask` is False, so that softmax gives those places a weight of exactly 0.

    Raises TypeError (mask not boolean or not of the scores' library) or ValueError (shape does not broadcast).
    """
    xp = _namespace(scores=scores)
    if not array_api_compat.is_array_api_obj(mask):
        raise TypeError(f"mask must be an array of booleans (True = may attend), got {type(mask).__name__}")
    _same_library(scores=scores, mask=mask)
    if not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"mask must be boolean (True = may attend), got dtype {mask.dtype}")
    if _broadcast(scores.shape, mask.shape) != tuple(scores.shape):
        raise ValueError(f"mask must broadcast to the scores' shape {_shape(scores)}, got {_shape(mask)}")
    return xp.where(mask, scores, xp.full_like(scores, -math.inf))


# What is checked, and how a wrong argument is named -----------------------------------------------------------


def _namespace(**arrays):
    """The array library that all the arguments share; they must be floating arrays of one dtype."""
    for name, array in arrays.items():
        if not array_api_compat.is_array_api_obj(array):
            raise TypeError(f"{name} must be a NumPy array or a torch tensor, got {type(array).__name__}")
    xp = _same_library(**arrays)
    (first, reference), *rest = arrays.items()
    for name, array in arrays.items():
        if not xp.isdtype(array.dtype, "real floating"):
            raise TypeError(f"{name} must have a floating dtype, got {array.dtype}; convert it, e.g. to float32")
    for name, array in rest:
        if array.dtype != reference.dtype:
            raise TypeError(f"{name} must have the dtype of {first}, {reference.dtype}, got {array.dtype}")
    return xp


def _same_library(**arrays):
    (first, reference), *rest = arrays.items()
    for name, array in rest:
        if array_api_compat.array_namespace(array) is not array_api_compat.array_namespace(reference):
            kind, want = type(array), type(reference)
            raise TypeError(
                f"{name} must come from the same library as {first} ({want.__module__}.{want.__name__}), "
                f"got {kind.__module__}.{kind.__name__}"
            )
        if array_api_compat.device(array) != array_api_compat.device(reference):
            here, there = array_api_compat.device(reference), array_api_compat.device(array)
            raise ValueError(f"{name} must be on the device of {first}, {here}, got {there}")
    return array_api_compat.array_namespace(reference)


def _number(name: str, value) -> float:
    # Not float(value): it would take the string "2", and cut a tensor off from its gradient.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the floats
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number


def _axis(x, axis) -> int:
    if isinstance(axis, bool) or not isinstance(axis, numbers.Integral):
        raise TypeError(f"axis must be an integer, got {axis!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be one of the {x.ndim} axes of shape {_shape(x)}, got {axis}")
    return int(axis) % x.ndim


def _check_matrix(**arrays):
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(f"{name} must have at least 2 dimensions, (..., n, d), got shape {_shape(array)}")


def _check_q_k(q, k):
    _check_matrix(q=q, k=k)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k must have the width of q, d_k = {q.shape[-1]}, got shape {_shape(k)}")
    _check_batch(q=q, k=k)


def _check_batch(**arrays):
    (first, reference), *rest = arrays.items()
    batch = tuple(reference.shape[:-2])
    for name, array in rest:
        joined = _broadcast(batch, array.shape[:-2])
        if joined is None:
            raise ValueError(f"{name} must have leading dimensions that broadcast to {batch}, got {_shape(array)}")
        batch = joined


def _broadcast(a, b):
    """The shape that `a` and `b` broadcast to, or None."""
    longest = max(len(a), len(b))
    a, b = ((1,) * (longest - len(s)) + tuple(s) for s in (a, b))
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b)):
        return None
    return tuple(n if m == 1 else m for m, n in zip(a, b))


def _shape(array) -> tuple:
    return tuple(array.shape)


def _widen(xp, x):
    """Half precision becomes float32, as torch does inside its own softmax: 65,505 ones overflow a float16 sum."""
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits == 16 else x


def _finite_max(xp, x, axis):
    """The maximum along `axis`, or 0 where it is infinite: -inf minus -inf would be NaN."""
    top = xp.max(x, axis=axis, keepdims=True)
    return xp.where(xp.isfinite(top), top, xp.zeros_like(top))


def _ones_where(xp, condition, x):
    return xp.where(condition, xp.ones_like(x), x)
