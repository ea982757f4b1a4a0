"""`flash_attention`: exact attention in memory O(n), by a Triton kernel on a GPU, tile by tile in torch elsewhere.

    flash_attention(q, k, v, causal=True)                       whichever suits
    choose(q, k, v)                                             which one that is, and why
    flash_attention(q, k, v, backend="triton")                  the kernel or an error that says why not
    flash_attention(q, k, v, backend="triton", fallback=True)   the kernel, or a warning and the other

Without a GPU the kernel runs in Triton's interpreter, slowly, if TRITON_INTERPRET=1 is set before it is first used.
"""

import importlib.util
import math
import warnings
from typing import Any, NamedTuple

import torch
from jaxtyping import Float

from attnbook import masks
from attnbook.efficient import tiled
from attnbook.functional import _namespace
from attnbook.masks import _integer

Array = Any
BACKENDS = ("triton", "tiled")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PLAYED = (9, 0)  # the compute capability of the GPU that the interpreter plays
WIDEST = 256  # of a head: a tile must fit into the memory that a program has to itself


class Choice(NamedTuple):
    """Which version computes, and why that one."""

    backend: str
    reason: str


def flash_attention(
    q: Float[Array, "*#batch n_heads n_q d_k"],
    k: Float[Array, "*#batch n_kv_heads n_kv d_k"],
    v: Float[Array, "*#batch n_kv_heads n_kv d_v"],
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    backend: str | None = None,
    fallback: bool = False,
) -> Float[Array, "*b n_heads n_q d_v"] | tuple[Float[Array, "*b n_heads n_q d_v"], Float[Array, "*b n_heads n_q"]]:
    """softmax(Q Kᵀ · scale) V as `functional.attention` has it, without the table of scores in memory.

    q (..., n_heads, n_q, d_k), k and v (..., n_kv_heads, n_kv, ·), or without the heads; leading dimensions broadcast.
    n_heads is a multiple of n_kv_heads: neighbouring heads share keys and values, and dk and dv are summed over them.
    `causal` aligns the last query with the last key. With `window` a query sees the keys less than `window` places
    away, its own included: both ways as `masks.local`, or only back, if causal. `scale` replaces 1/√d_k.

    Returns out (..., n_heads, n_q, d_v) in the dtype of q, and with `return_lse` also the log-sum-exp of each row, in
    float32 at least. A query that may attend to nothing gets zeros and -inf, and gradients of zero. Both can be
    differentiated once. Float16 and bfloat16 are multiplied as they are and summed in float32.

    `backend` is "triton", "tiled" or None, which takes "triton" for tensors on a GPU that has it and "tiled" otherwise;
    see `choose`. What the kernel cannot do raises ValueError, or with `fallback` a warning, and "tiled" does it.

    Raises TypeError or ValueError as `tiled_attention` does. (Dao et al., 2022, algorithms 1 and 4; Dao, 2023.)
    """
    choice = choose(q, k, v, backend, fallback)
    if not isinstance(causal, bool):
        raise TypeError(f"causal must be True or False, got {causal!r}")
    n_q, n_kv = q.shape[-2], k.shape[-2]
    if window is not None:
        window = min(_integer("window", window, 1), n_q + n_kv)  # wider than wide would overflow a kernel's integers
    if choice.backend == "triton":
        out, lse = _by_kernel(q, k, v, causal, window, scale)
        return (out, lse) if return_lse else out
    mask = None if window is None else masks.local(n_q, n_kv, window, like=q)
    return tiled.tiled_attention(q, k, v, mask, causal, scale, return_lse=return_lse)


def choose(q: Array, k: Array, v: Array, backend: str | None = None, fallback: bool = False) -> Choice:
    """Which version `flash_attention` takes for these arrays, and why.

    Raises ValueError if the kernel is to run and cannot, saying which argument is in its way, or with `fallback` warns
    and names the other; ValueError too if `backend` is no backend, TypeError or ValueError if q, k, v do not match.
    """
    if backend not in (None, *BACKENDS):
        raise ValueError(f"backend must be None or one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    _namespace(q=q, k=k, v=v)
    tiled._heads(q, k, v)
    if backend == "tiled":
        return Choice("tiled", "asked for")
    missing = _missing(q)
    if backend is None and (missing or not q.is_cuda):
        return Choice("tiled", missing or f"q is on {q.device}, where the kernel runs interpreted, and slowly")
    reason = missing or _unsupported(q, v)
    if reason is None:
        return Choice("triton", "asked for" if backend else f"q is on {q.device}, and Triton is there")
    if not fallback:
        raise ValueError(f"the Triton kernel cannot compute this: {reason}; backend='tiled' can, and so does "
                         "fallback=True")  # fmt: skip
    warnings.warn(f"flash_attention is computed by tiled_attention: {reason}", stacklevel=3)
    return Choice("tiled", reason)


def _missing(q) -> str | None:
    """What is not there that the kernel runs on."""
    if not isinstance(q, torch.Tensor):
        return f"q must be a torch tensor, got {type(q).__module__}.{type(q).__name__}"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed; torch brings it along on Linux"
    if q.is_cuda:
        return "q is on a GPU of AMD, where the kernel is untested" if torch.version.hip else None
    if q.device.type == "cpu" and _launcher().INTERPRETED:
        return None
    return (f"q must be on an NVIDIA GPU, got device {q.device}; on a CPU the kernel runs interpreted if "
            "TRITON_INTERPRET=1 is set before it is first used")  # fmt: skip


def _unsupported(q, v) -> str | None:
    """What the kernel cannot do, though it could run."""
    if q.is_cuda and torch.cuda.get_device_capability(q.device) < (8, 0):
        have = ".".join(map(str, torch.cuda.get_device_capability(q.device)))
        return f"q must be on a GPU of compute capability 8.0 or more, got {have}"
    if q.dtype not in DTYPES:
        return f"q must be float16, bfloat16 or float32, got {q.dtype}"
    for name, width, x in (("q", "d_k", q), ("v", "d_v", v)):
        if not 1 <= x.shape[-1] <= WIDEST:
            return f"{name} must have {width} from 1 to {WIDEST}, got shape {tuple(x.shape)}"
    return None


def _by_kernel(q, k, v, causal, window, scale):
    """The kernel on arrays of any number of axes and any scale."""
    launcher = _launcher()
    dtype, heads, scale = q.dtype, tiled._heads(q, k, v), tiled._scale(q, scale)
    if scale < torch.finfo(torch.float32).tiny:
        # The kernel multiplies the maximum by the scale, and -inf too, so it must be positive. The sign goes to q.
        q, scale = (-q, -scale) if scale < -torch.finfo(torch.float32).tiny else (q * 0, 1.0)
    if launcher.INTERPRETED and dtype == torch.bfloat16:
        q, k, v = q.float(), k.float(), v.float()  # the interpreter has no bfloat16, and computes nonsense
    n_heads = (heads.n_kv * heads.group, heads.n_kv, heads.n_kv)
    shapes = [(*heads.batch, n, *x.shape[-2:]) for n, x in zip(n_heads, (q, k, v))]
    q, k, v = (x.expand(shape).reshape(math.prod(heads.batch), *shape[-3:]) for shape, x in zip(shapes, (q, k, v)))
    back = None if window is None else window - 1
    capability = torch.cuda.get_device_capability(q.device) if q.is_cuda else PLAYED
    configs = launcher.INTERPRETER if launcher.INTERPRETED else {}
    plan = launcher.Plan(back, 0 if causal else back, scale, capability, configs)
    with torch.cuda.device_of(q):  # Triton launches on the current GPU
        out, lse = launcher.TritonAttention.apply(q, k, v, plan)
    shape = shapes[0][heads.dropped : -1]
    return out.to(dtype).reshape(*shape, out.shape[-1]), lse.reshape(shape)


def _launcher():
    from attnbook.efficient import triton_attention  # at first use: it takes a second, and Triton need not be there

    return triton_attention
