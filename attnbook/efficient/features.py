"""Feature maps φ for linear attention: vectors whose dot products φ(q) · φ(k) stand in for exp(q · k / √d_k).

Each takes (..., n, d_k) and returns (..., n, d_feature), NumPy or torch. All of these are marked `positive`: their dot
products are never negative, so the weights can be divided by their sum.
"""

import math
from collections.abc import Callable

import array_api_compat
import numpy as np
from jaxtyping import Float

from attnbook.functional import Array, _namespace, _shape
from attnbook.masks import _integer


def positive(feature: Callable) -> Callable:
    """Mark a feature map whose dot products are never negative, so that `linear_attention` need not look."""
    feature.positive = True
    return feature


@positive
def elu1(x: Float[Array, "*batch n d_k"]) -> Float[Array, "*batch n d_k"]:
    """elu(x) + 1: x + 1 above 0, exp(x) below; positive and smooth (Katharopoulos et al., 2020, equation 7)."""
    xp = _namespace(x=x)
    if array_api_compat.is_torch_array(x):
        return x.clamp(max=0).exp_() + xp.nn.functional.relu(x)  # as below, with fewer arrays; the slope at 0 is 1
    return xp.exp(xp.minimum(x, 0.0)) + xp.maximum(x, 0.0)


@positive
def relu(x: Float[Array, "*batch n d_k"]) -> Float[Array, "*batch n d_k"]:
    """max(x, 0): many features are exactly 0 (Kasai et al., 2021, section 2.2)."""
    xp = _namespace(x=x)
    return xp.maximum(x, xp.zeros((), dtype=x.dtype, device=x.device))


@positive
def taylor(x: Float[Array, "*batch n d_k"]) -> Float[Array, "*batch n d_feature"]:
    """1 + s + s²/2 of s = q · k / √d_k, the start of exp(s); never below ½ (Arora et al., 2024, section 4).

    d_feature = 1 + d_k + d_k²: 1, x, and all products of two entries of x, each scaled.
    """
    xp = _namespace(x=x)
    x = x / x.shape[-1] ** 0.25
    pairs = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], -1) / math.sqrt(2)
    return xp.concat([xp.ones_like(x[..., :1]), x, pairs], axis=-1)


@positive
def hedgehog(x: Float[Array, "*batch n d_k"]) -> Float[Array, "*batch n d_feature"]:
    """softmax over the channels of x and of -x, side by side: d_feature = 2 d_k, spiky where x is large.

    Hedgehog's map with the identity for its learned matrix (Zhang et al., 2024, section 4.2); apply one before it.
    """
    from attnbook.functional import softmax

    return _namespace(x=x).concat([softmax(x), softmax(-x)], axis=-1)


def performer(d_k: int, n_features: int = 128, seed: int = 0) -> Callable:
    """A map with φ(q) · φ(k) ≈ exp(q · k / √d_k), from n_features random directions (d_k,), drawn with `seed`.

    φ(x) = exp(w · x - |x|²/2) / √m for x divided by d_k^¼: positive, and right on average (Choromanski et al., 2021,
    lemma 1). Directions are orthogonal within groups of d_k, which lowers the variance (theorem 2). No maximum is
    subtracted, so entries much larger than 10 overflow.
    Raises TypeError or ValueError if a number is not a positive integer, and the map if x has another width.
    """
    d_k, m = _integer("d_k", d_k, 1), _integer("n_features", n_features, 1)
    rng = np.random.default_rng(_integer("seed", seed, 0))
    groups = [np.linalg.qr(rng.standard_normal((d_k, d_k)))[0] for _ in range(-(-m // d_k))]
    lengths = np.linalg.norm(rng.standard_normal((m, d_k)), axis=-1, keepdims=True)
    directions = np.concatenate(groups)[:m] * lengths

    @positive
    def feature(x):
        xp = _namespace(x=x)
        if x.shape[-1] != d_k:
            raise ValueError(f"x must have the width of this map, d_k = {d_k}, got shape {_shape(x)}")
        x = x / d_k**0.25
        w = xp.asarray(directions, dtype=x.dtype, device=x.device)
        return xp.exp(x @ w.T - xp.sum(x * x, axis=-1, keepdims=True) / 2) / math.sqrt(m)

    return feature
