"""Linear attention: without the softmax the brackets of (Q Kᵀ) V may be moved to Q (Kᵀ V), and n² is gone.

What is left of the past is one matrix, Σ φ(k) vᵀ, of the same size after a thousand tokens as after ten: the `State`.
Three forms give the same numbers. "quadratic" writes the table of weights out; "recurrent" goes token by token and
updates the state; "chunked" does the first inside a chunk and the second between chunks, and is the fast one
(Katharopoulos et al., 2020, section 3; Yang et al., 2024, sections 2.2 and 4.2).

`linear_attention` adds to the state, and may let it fade (`decay`); `delta_rule` corrects it. The feature maps φ are
in `features`. NumPy arrays and torch tensors both work, with gradients.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Float

from attnbook.efficient.features import elu1, hedgehog, performer, relu, taylor
from attnbook.functional import (
    _broadcast, _check_matrix, _check_q_k, _check_batch, _namespace, _number, _ones_where, _same_library,
    _shape, _widen,
)  # fmt: skip
from attnbook.masks import _integer

__all__ = ["State", "delta_rule", "elu1", "hedgehog", "linear_attention", "performer", "relu", "taylor"]

Array = Any
FORMS = ("chunked", "recurrent", "quadratic")
_AT_A_TIME = 8  # chunks: enough for each call to be worth its cost, and all of it stays in the cache
_LEAF = 8  # a block of so many tokens with a decay for each channel is computed pair by pair


@dataclass(frozen=True)
class State:
    """All that linear attention keeps of the past, however long it was.

    kv (..., d_feature, d_v) is Σ φ(k) vᵀ, and norm (..., d_feature) is Σ φ(k), by which a reading is divided; the
    delta rule has none. States are never changed: `write` returns a new one, so gradients flow through.
    """

    kv: Float[Array, "*batch d_feature d_v"]
    norm: Float[Array, "*batch d_feature"] | None = None

    @classmethod
    def empty(cls, d_feature: int, d_v: int, batch: tuple = (), like: Array | None = None) -> "State":
        """A state that nothing was written to, of the library, dtype and device of `like` (NumPy, float64 without)."""
        d_feature, d_v = _integer("d_feature", d_feature, 1), _integer("d_v", d_v, 1)
        if like is None:
            import numpy

            like = numpy.zeros(1)
        xp = array_api_compat.array_namespace(like)
        kind = {"dtype": like.dtype, "device": array_api_compat.device(like)}
        return cls(xp.zeros((*batch, d_feature, d_v), **kind), xp.zeros((*batch, d_feature), **kind))

    @property
    def n_bytes(self) -> int:
        """The memory it takes."""
        return sum(math.prod(part.shape) * part.itemsize for part in (self.kv, self.norm) if part is not None)

    def write(
        self, k: Float[Array, "*batch d_feature"], v: Float[Array, "*batch d_v"], decay=None, beta=None
    ) -> "State":
        """The state after one more token with features k (..., d_feature) and value v (..., d_v).

        decay   what is there is first multiplied by it: a number, or an array that broadcasts to (..., d_feature)
        beta    the delta rule: instead of v, add `beta` times the difference between v and what k reads now
                (Widrow and Hoff, 1960; Schlag et al., 2021, equation 24). A number or an array (..., 1)
        Raises TypeError or ValueError if k or v do not fit.
        """
        self._check(k=k, v=v)
        for name, factor in (("decay", decay), ("beta", beta)):
            if factor is not None and not _is_number(factor):
                _namespace(kv=self.kv, **{name: factor})
        kv, norm = self.kv, self.norm
        if decay is not None:
            kv = kv * (decay if _is_number(decay) else decay[..., None])
            norm = None if norm is None else norm * decay
        if beta is not None:
            v, norm = (v - _read(k, kv)) * beta, None
        return State(kv + k[..., :, None] * v[..., None, :], None if norm is None else norm + k)

    def read(self, q: Float[Array, "*batch d_feature"], normalise: bool = True) -> Float[Array, "*batch d_v"]:
        """What a query with features q (..., d_feature) finds: q · kv, divided by q · norm if `normalise`.

        A query whose features meet nothing gets zeros. A state without a norm is read as it is.
        """
        self._check(q=q)
        out = _read(q, self.kv)
        if not normalise or self.norm is None:
            return out
        xp = array_api_compat.array_namespace(q)
        return _divide(xp, out, xp.sum(q * self.norm, axis=-1, keepdims=True))

    def _check(self, **arrays):
        _namespace(kv=self.kv, **arrays)
        for name, array in arrays.items():
            width = self.kv.shape[-1] if name == "v" else self.kv.shape[-2]
            if array.ndim < 1 or array.shape[-1] != width:
                raise ValueError(f"{name} must have {width} numbers for a state of shape {_shape(self.kv)}, "
                                 f"got shape {_shape(array)}")


def linear_attention(
    q: Float[Array, "*#batch n_q d_k"],
    k: Float[Array, "*#batch n_kv d_k"],
    v: Float[Array, "*#batch n_kv d_v"],
    feature: Callable | None = elu1,
    causal: bool = True,
    form: str = "chunked",
    chunk: int = 64,
    decay: float | Array | None = None,
    state: State | None = None,
    return_state: bool = False,
    normalise: bool = True,
) -> Float[Array, "*b n_q d_v"] | tuple[Float[Array, "*b n_q d_v"], State]:
    """out_i = Σ_j w_ij v_j / Σ_j w_ij with w_ij = φ(q_i) · φ(k_j), over j ≤ i if `causal`, else over all j.

    q (..., n_q, d_k), k (..., n_kv, d_k), v (..., n_kv, d_v), of one floating dtype; leading dimensions broadcast.

    feature     φ, from `features` or a function of your own (..., n, d_k) → (..., n, d_feature), each token by
                itself; None for none
    form        "chunked" (O(n · (chunk + d)), few large products), "recurrent" (O(n · d), n small ones) or
                "quadratic" (O(n²)): the same numbers
    decay       causal only: what is older fades, w_ij = Σ_c φ(q_i)_c φ(k_j)_c Π_{j<t≤i} decay_tc. A number in
                (0, 1], or an array that broadcasts to (..., n, d_feature): (heads, 1, 1) for each head its own
                (RetNet: Sun et al., 2023), (..., n, 1) for each token (Mamba-2: Dao and Gu, 2024), all of it for each
                token and channel (GLA: Yang et al., 2024)
    state       what came before: goes on from there. With `return_state` the state at the end is returned too
    normalise   divide by the sum of the weights, so that they sum to 1. The models with a decay leave that to a norm
                layer. Weights must not be negative then

    A query whose weights are all 0 gets zeros. Half precision is computed in float32 and rounded once.
    Raises TypeError or ValueError that names the argument (sizes that do not fit, n = 0, a state of the wrong shape,
    negative features where the sum divides, a decay outside (0, 1] or without `causal`).
    """
    xp = _check(q, k, v, form, causal)
    chunk, dtype = _integer("chunk", chunk, 1), q.dtype
    q, k, v = (_widen(xp, x) for x in (q, k, v))
    features = _Features(feature, normalise)
    first = features("k", k[..., :1, :])
    log_decay = _log_decay(xp, decay, first, k.shape[-2], causal)
    state = _started(xp, state, first, v, normalise)
    state = xp.concat([state.kv, state.norm[..., None]], axis=-1) if normalise else state.kv
    if not causal:
        forward = _all_at_once if form == "quadratic" else _all_by_state
    elif form == "chunked":
        forward = partial(_in_chunks, chunk)
    else:
        forward = partial(_in_chunks, q.shape[-2]) if form == "quadratic" else _token_by_token
    forward = partial(_mapped, features, partial(_divided, forward) if normalise else forward)
    if causal and form == "chunked":
        forward = partial(_in_parts, forward, _AT_A_TIME * chunk)
    out, state = forward(xp, q, k, v, log_decay, state)
    state = State(state[..., :-1], state[..., -1]) if normalise else State(state)
    out = xp.astype(out, dtype)
    return (out, state) if return_state else out


def delta_rule(
    q: Float[Array, "*#batch n d_k"],
    k: Float[Array, "*#batch n d_k"],
    v: Float[Array, "*#batch n d_v"],
    beta: float | Array = 1.0,
    form: str = "chunked",
    chunk: int = 64,
    state: State | None = None,
    return_state: bool = False,
) -> Float[Array, "*b n d_v"] | tuple[Float[Array, "*b n d_v"], State]:
    """out_i = q_i S_i with S_i = S_{i-1} + β_i k_i (v_i - k_i S_{i-1})ᵀ: write only what the key does not say yet.

    Shapes as in `linear_attention`, causal. `beta` is a number or broadcasts to (..., n, 1), in [0, 1] as a rule; 1
    replaces what a key of length 1 said before. Keys are taken as they are: for a state that stays bounded they need
    length 1 (β |k|² ≤ 2). No feature map and no norm. The chunked form solves one triangular system a chunk
    (rule: Schlag et al., 2021, section 4.2; chunks: Yang et al., 2024b, section 3).

    Raises TypeError or ValueError that names the argument.
    """
    xp = _check(q, k, v, form, True)
    chunk, dtype, n = _integer("chunk", chunk, 1), q.dtype, q.shape[-2]
    q, k, v = (_widen(xp, x) for x in (q, k, v))
    beta = _spread(xp, "beta", beta, k, n, 1)
    state = _started(xp, state, k, v, False).kv
    if form == "recurrent":
        out = []
        for i in range(n):
            now = State(state).write(k[..., i, :], v[..., i, :], beta=beta[..., i, :])
            state = now.kv
            out.append(now.read(q[..., i, :])[..., None, :])
        out = xp.concat(out, axis=-2)
    else:
        out, state = _corrected(xp, q, k, v, beta, state, n if form == "quadratic" else chunk)
    out = xp.astype(out, dtype)
    return (out, State(state)) if return_state else out


# The forms ------------------------------------------------------------------------------------------------------------


# Each takes q, k, v, the logarithm of the decay or None, and the state; and gives out and the state after.


def _mapped(features, forward, xp, q, k, v, log_decay, state):
    return forward(xp, features("q", q), features("k", k), v, log_decay, state)


def _divided(forward, xp, q, k, v, log_decay, state):
    """Divided by Σ w, which is what a value of 1 would give: one more column of v, and of the state its norm."""
    v = xp.concat([v, xp.ones_like(v[..., :1])], axis=-1)
    out, state = forward(xp, q, k, v, log_decay, state)
    return _divide(xp, out[..., :-1], out[..., -1:]), state


def _in_parts(forward, size, xp, q, k, v, log_decay, state):
    """`size` tokens at a time; each part sees all that came before it as a state."""
    out = []
    for part in _parts(q.shape[-2], size):
        fade = None if log_decay is None else log_decay[..., part, :]
        one, state = forward(xp, *(x[..., part, :] for x in (q, k, v)), fade, state)
        out.append(one)
    return (out[0] if len(out) == 1 else xp.concat(out, axis=-2)), state


def _all_at_once(xp, q, k, v, log_decay, state):
    """Not causal, the table written out."""
    return (q @ k.mT) @ v + q @ state, state + k.mT @ v


def _all_by_state(xp, q, k, v, log_decay, state):
    """Not causal: every query reads the same state, that of the end."""
    state = state + k.mT @ v
    return q @ state, state


def _token_by_token(xp, q, k, v, log_decay, state):
    out = []
    for i in range(q.shape[-2]):
        if log_decay is not None:
            state = state * xp.exp(log_decay[..., i, :])[..., None]
        state = state + k[..., i, :, None] * v[..., i, None, :]
        out.append(_read(q[..., i, :], state)[..., None, :])
    return xp.concat(out, axis=-2), state


def _in_chunks(chunk, xp, q, k, v, log_decay, state):
    """Inside a chunk the table of weights, between chunks the state. One chunk is the quadratic form."""
    n = q.shape[-2]
    q, k, v = (_cut(xp, x, chunk) for x in (q, k, v))
    if log_decay is None:
        inside = _earlier(xp, q @ k.mT) @ v
        states, state = _running(xp, k.mT @ v, None, state)
    else:
        log_decay = xp.cumulative_sum(_cut(xp, log_decay, chunk), axis=-2)  # since the start of the chunk
        total = log_decay[..., -1:, :]
        inside = _faded_scores(xp, q, k, log_decay) @ v
        states, state = _running(xp, (k * xp.exp(total - log_decay)).mT @ v, xp.exp(total).mT, state)
        q = q * xp.exp(log_decay)
    out = inside + q @ states
    whole = out.reshape(*out.shape[:-3], out.shape[-3] * out.shape[-2], out.shape[-1])
    return whole[..., :n, :], state


def _running(xp, added, decays, state):
    """The state before each chunk (..., n_chunks, d_feature, d_v), and after the last."""
    state = xp.broadcast_to(state, (*_broadcast(added.shape[:-3], state.shape[:-2]), *state.shape[-2:]))
    before = []
    for i in range(added.shape[-3]):
        before.append(state[..., None, :, :])
        state = (state if decays is None else state * decays[..., i, :, :]) + added[..., i, :, :]
    return xp.concat(before, axis=-3), state


def _faded_scores(xp, q, k, log_decay):
    """Causal scores, each product faded by exp(log_decay_i - log_decay_j) ≤ 1: nothing here can overflow.

    With one decay for all channels the factor goes on the scores. With a decay for each channel it has to go on q and
    k, and exp(-log_decay_j) alone may overflow. So the block is halved: between the halves both factors are relative
    to the boundary and at most 1, and each half is a smaller block (Yang et al., 2024, section 4.3, "secondary").
    """
    n = q.shape[-2]
    if log_decay.shape[-1] == 1:
        fade = _earlier(xp, log_decay - log_decay.mT, -math.inf)
        return (q @ k.mT) * xp.exp(fade)
    if n <= _LEAF:
        fade = log_decay[..., :, None, :] - log_decay[..., None, :, :]
        fade = xp.where(_causal(xp, fade, n)[..., None], fade, xp.full_like(fade, -math.inf))
        return xp.sum(q[..., :, None, :] * k[..., None, :, :] * xp.exp(fade), axis=-1)
    old, new = slice(0, n // 2), slice(n // 2, n)
    boundary = log_decay[..., n // 2 - 1, None, :]
    parts = [_faded_scores(xp, *(x[..., half, :] for x in (q, k, log_decay))) for half in (old, new)]
    q_new = q[..., new, :] * xp.exp(log_decay[..., new, :] - boundary)
    k_old = k[..., old, :] * xp.exp(boundary - log_decay[..., old, :])
    across = q_new @ k_old.mT
    upper = xp.concat([parts[0], xp.zeros_like(across.mT)], axis=-1)
    return xp.concat([upper, xp.concat([across, parts[1]], axis=-1)], axis=-2)


def _corrected(xp, q, k, v, beta, state, chunk):
    """The delta rule in chunks: what each token of a chunk really adds is the solution of a triangular system.

    Token i adds k_i u_iᵀ with u_i = β_i (v_i - k_i S_0 - Σ_{j<i} (k_i · k_j) u_j), so (1 + A) U = β (V - K S_0).
    """
    out = []
    for part in _parts(q.shape[-2], chunk):
        q_in, k_in, v_in, beta_in = (x[..., part, :] for x in (q, k, v, beta))
        among = beta_in * (k_in @ k_in.mT)
        among = xp.where(_causal(xp, among, among.shape[-1], -1), among, xp.zeros_like(among))
        unit = xp.eye(among.shape[-1], dtype=among.dtype, device=array_api_compat.device(among))
        added = xp.linalg.solve(unit + among, beta_in * (v_in - k_in @ state))
        out.append(_earlier(xp, q_in @ k_in.mT) @ added + q_in @ state)
        state = state + k_in.mT @ added
    return xp.concat(out, axis=-2), state


# Small things they share ----------------------------------------------------------------------------------------------


def _read(q, kv):
    return (q[..., None, :] @ kv)[..., 0, :]


def _divide(xp, out, total):
    """out / total, and zeros where nothing had a weight."""
    return out / _ones_where(xp, total == 0, total)


def _cut(xp, x, chunk):
    """(..., n, d) → (..., n_chunks, chunk, d), the last chunk filled up with zeros: a key of zeros adds nothing."""
    n, width = x.shape[-2:]
    chunk = min(chunk, n)
    if n % chunk:
        filler = xp.zeros((*x.shape[:-2], -n % chunk, width), dtype=x.dtype, device=array_api_compat.device(x))
        x = xp.concat([x, filler], axis=-2)
    return x.reshape(*x.shape[:-2], x.shape[-2] // chunk, chunk, width)


def _parts(n, size):
    """The n tokens, `size` at a time; the last part may be shorter."""
    return [slice(start, start + size) for start in range(0, n, size)]


def _causal(xp, like, n, offset=0):
    position = xp.arange(n, device=array_api_compat.device(like))
    return position[None, :] <= position[:, None] + offset


def _earlier(xp, scores, other=0.0):
    """The scores where the key is not later than the query, `other` elsewhere."""
    if other == 0:
        return xp.tril(scores)
    return xp.where(_causal(xp, scores, scores.shape[-1]), scores, xp.full_like(scores, other))


# What is checked ------------------------------------------------------------------------------------------------------


def _check(q, k, v, form, causal):
    xp = _namespace(q=q, k=k, v=v)
    _check_matrix(q=q, k=k, v=v)
    _check_q_k(q, k)
    _check_batch(q=q, k=k, v=v)
    if not isinstance(causal, bool):
        raise TypeError(f"causal must be True or False, got {causal!r}")
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(map(repr, FORMS))}, got {form!r}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have one row for each of the {k.shape[-2]} keys in k, got shape {_shape(v)}")
    for name, array in (("q", q), ("k", k)):
        if array.shape[-2] == 0:
            raise ValueError(f"{name} must have at least one token, n ≥ 1, got shape {_shape(array)}")
    if causal and q.shape[-2] != k.shape[-2]:
        raise ValueError(f"q must have a query for each of the {k.shape[-2]} keys if causal, got shape {_shape(q)}; "
                         "what came before the first query goes in as `state`")
    return xp


class _Features(NamedTuple):
    """φ, checked: one row of features a token, and none of them negative if the sum of the weights is to divide."""

    feature: Callable | None
    normalise: bool

    def __call__(self, name, x):
        if self.feature is not None and not callable(self.feature):
            raise TypeError(f"feature must be a function, such as linear.elu1, or None, got {self.feature!r}")
        made = x if self.feature is None else self.feature(x)
        xp = _namespace(**{name: x, f"φ_{name}": made})
        if made.ndim != x.ndim or made.shape[:-1] != x.shape[:-1]:
            raise ValueError(f"feature must turn {name}, {_shape(x)}, into (..., n, d_feature), got {_shape(made)}")
        if self.normalise and not getattr(self.feature, "positive", False) and bool(xp.any(made < 0)):
            raise ValueError(f"feature must give no negative values, for the sum of the weights divides, and could be "
                             f"0; got {float(xp.min(made)):.3g} for {name} (or pass normalise=False)")
        return made


def _log_decay(xp, decay, keys, n, causal):
    if decay is None:
        return None
    if not causal:
        raise ValueError("decay needs causal=True: it makes what is older fade, and without order nothing is older")
    decay = _spread(xp, "decay", decay, keys, n, keys.shape[-1])
    if not bool(xp.all((decay > 0) & (decay <= 1))):
        raise ValueError(f"decay must be in (0, 1], got values from {float(xp.min(decay))} to {float(xp.max(decay))}")
    return xp.log(decay)


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real)


def _spread(xp, name, value, keys, n, width):
    """`value`, a number or an array, as (..., n, 1) or (..., n, width) beside n keys (..., d_feature)."""
    if _is_number(value) or not array_api_compat.is_array_api_obj(value):
        value = xp.full((n, 1), _number(name, value), dtype=keys.dtype, device=array_api_compat.device(keys))
    _same_library(k=keys, **{name: value})
    value = _widen(xp, value) if xp.isdtype(value.dtype, "real floating") else value
    _namespace(k=keys, **{name: value})
    fits = value.ndim >= 2 and value.shape[-2] in (1, n) and value.shape[-1] in (1, width)
    if not fits or _broadcast(value.shape[:-2], keys.shape[:-2]) is None:
        shape = f"(..., {n}, {width})"
        raise ValueError(f"{name} must be a number or broadcast to {shape} beside keys "
                         f"{(*keys.shape[:-2], n, keys.shape[-1])}, got shape {_shape(value)}")
    return xp.broadcast_to(value, (*value.shape[:-2], n, value.shape[-1]))


def _started(xp, state, keys, v, normalise) -> State:
    """The state to start from, empty unless given."""
    batch, want = _broadcast(keys.shape[:-2], v.shape[:-2]), (keys.shape[-1], v.shape[-1])
    if state is None:
        return State.empty(*want, batch=batch, like=keys)
    if not isinstance(state, State):
        raise TypeError(f"state must be a State, as return_state=True gives, got {type(state).__name__}")
    _namespace(k=keys, **{f"state.{name}": part for name, part in vars(state).items() if part is not None})
    for name, part, shape in (("kv", state.kv, want), ("norm", state.norm, want[:1])):
        if part is None and not normalise:
            continue
        if part is None:
            raise ValueError("state must have a norm, for the sum of the weights divides; or pass normalise=False")
        lead, tail = part.shape[: -len(shape)], part.shape[-len(shape) :]
        if tuple(tail) != shape or _broadcast(lead, batch) is None:
            raise ValueError(f"state.{name} must have shape {(*batch, *shape)}, got {_shape(part)}")
    if normalise and bool(xp.any(state.norm < 0)):
        raise ValueError(f"state.norm must not be negative, for it divides, got {float(xp.min(state.norm)):.3g}")
    return state
