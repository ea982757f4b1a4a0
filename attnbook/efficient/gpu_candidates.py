"""What is measured on a GPU: our kernels and those that people run, on the same arrays; and whether ours are right.

A candidate that refuses (a backend that does not know the shape, a compiler that fails, too little memory) is recorded
with its reason. Without a GPU all runs on the CPU, the kernels in Triton's interpreter: right, and no measurement.
"""

import functools
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbook import bench, functional, masks
from attnbook.efficient import measurements

Tensor = torch.Tensor
CHECKED = (528, 720)  # queries and keys where kernels are checked: no multiples of a block
PRODUCT = 8192  # rows of the matrices whose product says what the tensor cores can do
HOW = {"repeats": 40, "seconds": 1.0}  # for each set of candidates
LATE = 390  # seconds after which torch compiles nothing more, so that all ends within 480
BACKENDS = {
    "SDPA-FLASH": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION, "MATH": SDPBackend.MATH,
}  # fmt: skip
FLEX = "FlexAttention"
_started = time.monotonic()


def start() -> None:
    """From now on the seconds count."""
    global _started
    _started = time.monotonic()


def on_gpu() -> bool:
    return torch.cuda.is_available()


def random_arrays(*shapes, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> list[Tensor]:
    """Normal numbers of these shapes, each its own, and the same at every call with the same seed."""
    device = "cuda" if on_gpu() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    return [torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes]


def raced(functions: dict[str, Callable[[], object]]) -> dict:
    """Each of them called once, which compiles it; those that run timed in turns; of the others, why they do not."""
    figures, willing = {}, {}
    for name, function in functions.items():
        with warnings.catch_warnings(record=True) as said:  # in which torch says what a backend does not like
            warnings.simplefilter("always")
            try:
                function()
                bench._wait_for_cuda()()
                willing[name] = function
            except Exception as error:
                reasons = [*(str(warning.message) for warning in said), f"{type(error).__name__}: {error}"]
                figures[f"{name}, refused"] = " ".join(" ".join(reasons).split())[:400]
    clock = "cuda" if on_gpu() else "wall"
    return figures | (measurements._compared(willing, "torch", False, clock=clock, **HOW) if willing else {})


def ours(causal: bool, window: int | None = None) -> Callable:
    """`flash_attention` by the kernel."""
    from attnbook.efficient.flash import flash_attention

    return partial(flash_attention, causal=causal, window=window, backend="triton")


def sdpa(backend: SDPBackend, **how) -> Callable:
    """torch's attention by one backend and no other; MATH only where its tables leave room for the other candidates."""

    def attend(q, k, v):
        tables = 16 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]  # four of float32, forward and backward
        if backend == SDPBackend.MATH and on_gpu() and tables > torch.cuda.get_device_properties(0).total_memory / 2:
            raise MemoryError(f"left out: its tables would take some {tables / 1e9:.0f} GB")
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, **how)

    return attend


def flex(n: int, mask_mod: Callable | None) -> Callable:
    """FlexAttention compiled for this shape, its table of blocks made once and not timed; on a CPU as it is."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    @functools.cache
    def ready():
        taken = time.monotonic() - _started
        if taken > LATE:
            raise TimeoutError(f"left out: {taken:.0f} s had passed, and compiling takes long")
        device = "cuda" if on_gpu() else "cpu"
        mask = None if mask_mod is None else create_block_mask(mask_mod, None, None, n, n, device=device)
        torch._dynamo.reset()  # or after a few shapes it would no longer be compiled, in silence
        run = torch.compile(flex_attention, dynamic=False) if on_gpu() else flex_attention
        return partial(run, block_mask=mask)

    return lambda q, k, v: ready()(q, k, v)


def gradients(attend: Callable, leaves: list[Tensor], d_out: Tensor) -> Callable:
    """The backward pass alone: the first call goes forward, and what that keeps serves all."""
    outs = []

    def call():
        if not outs:
            outs.append(attend(*leaves))
        return torch.autograd.grad(outs[0], leaves, d_out, retain_graph=True)

    return call


def product() -> Callable:
    """A product of two matrices, as fast as it goes."""
    a, b = random_arrays((PRODUCT, PRODUCT), (PRODUCT, PRODUCT))
    return partial(torch.mm, a, b, out=torch.empty_like(a))


# Right first ----------------------------------------------------------------------------------------------------------


def naive(mask: Tensor | None) -> Callable:
    """The book's attention, table and all, in the dtype of its arrays."""

    def attend(q, k, v):
        group = q.shape[1] // k.shape[1]
        return functional.attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), mask)

    return attend


def _naive_linear(q, k, v):
    weights = (q @ k.mT).tril()
    return weights @ v / weights.sum(-1, keepdim=True)


def _check_attention(dtype: torch.dtype, d: int, causal: bool, window: int | None = None, group: int = 1) -> dict:
    n_q, n_kv = CHECKED
    if group > 1:
        n_q, n_kv = n_q - 1, n_kv - 3
    q, k, v = random_arrays((2, 2 * group, n_q, d), *[(2, 2, n_kv, d)] * 2, dtype=dtype)
    mask = masks.causal(n_q, n_kv, like=q) if causal else None
    if window is not None:
        mask = mask & masks.local(n_q, n_kv, window, like=q)
    return _errors(ours(causal, window), naive(mask), [q, k, v], backward=True)


def _check_decode(dtype: torch.dtype, d: int) -> dict:
    from attnbook.efficient.triton_decode import flash_decode

    arrays = random_arrays((2, 8, 1, d), *[(2, 2, CHECKED[1], d)] * 2, dtype=dtype)
    return _errors(flash_decode, naive(None), arrays, backward=False)


def _check_linear(dtype: torch.dtype, d: int) -> dict:
    from attnbook.efficient.triton_linear import chunked_linear_attention

    q, k, v = random_arrays(*[(1, 2, CHECKED[1], d)] * 3, dtype=dtype)
    return _errors(chunked_linear_attention, _naive_linear, [q.abs(), k.abs(), v], backward=False)


def _errors(kernel, reference, arrays: list[Tensor], backward: bool) -> dict:
    """How far ours and the naive version are from float64, at most and root mean square: output and gradients."""
    dtype = arrays[0].dtype
    (d_out,) = random_arrays((*arrays[0].shape[:3], arrays[2].shape[3]), dtype=dtype, seed=1)

    def outcome(function, dtype):
        leaves = [x.to(dtype).detach().requires_grad_(backward) for x in arrays]
        out = function(*leaves)
        gradients = torch.autograd.grad(out, leaves, d_out.to(dtype)) if backward else ()
        return [x.detach().double() for x in (out, *gradients)]

    figures = {"eps": torch.finfo(dtype).eps}
    try:
        got = outcome(kernel, dtype)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}
    exacts, roughs = outcome(reference, torch.float64), outcome(reference, dtype)
    for name, x, exact, rough in zip(("out", "dq", "dk", "dv"), got, exacts, roughs):
        finite = x.isfinite()
        figures[f"{name}, not finite"] = int((~finite).sum())
        for who, found in (("ours", torch.where(finite, x, 0.0)), ("naive", rough)):
            error = found - exact
            figures[f"{name}, {who}"] = [error.abs().max().item(), error.square().mean().sqrt().item()]
    return figures


def checks() -> dict[str, Callable[[], dict]]:
    """{what: function that compares a kernel with float64}: every kernel in both dtypes of 16 bits."""
    checks = {}
    for dtype in (torch.bfloat16, torch.float16):
        short = str(dtype).removeprefix("torch.")
        for d in (128, 64):
            for name, how in {"": {"causal": False}, " causal": {"causal": True},
                              " causal, window 100": {"causal": True, "window": 100},
                              " causal, 3 heads to a key": {"causal": True, "group": 3}}.items():  # fmt: skip
                checks[f"{short} d{d}{name}"] = partial(_check_attention, dtype, d, **how)
        checks |= {f"{short} d128 decode": partial(_check_decode, dtype, 128),
                   f"{short} d128 linear": partial(_check_linear, dtype, 128)}  # fmt: skip
    return checks
