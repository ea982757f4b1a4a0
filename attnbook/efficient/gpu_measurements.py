"""The kernels measured on a GPU, beside those that people run: `attnbook bench gpu`, in under 8 minutes.

Before anything is timed, the kernels have to be right on this device. Then candidates are timed in turns on the same
random numbers, by the GPU's own clock, and the medians compared, all within one run. A candidate that refuses (a
backend that does not know the shape, a compiler that fails, too little memory) is recorded with its reason. Goals are
bounds of Figures; what could not be measured has no number.

Arrays hold TOKENS tokens and heads of WIDTH numbers in all, whatever n and d: the work for each token grows with n.
"""

import functools
import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend

from attnbook import bench, masks
from attnbook.costs import attention_cost
from attnbook.efficient import flex, gpu_candidates, measurements
from attnbook.efficient.gpu_candidates import BACKENDS, FLEX, gradients, naive, on_gpu, raced, random_arrays
from attnbook.efficient.measurements import Figure, Part

TOKENS, WIDTH = 16384, 2048
SIZES = (16384, 8192, 4096, 2048, 1024, 512)  # the largest first: the goals are about it
CACHES = (65536, 32768, 16384, 8192, 4096)
MEMORY_SIZES = (1024, 2048, 4096, 8192, 16384)
WINDOWS = (256, 1024)
LADDER = 8192
DECODED = (16, 32, 8, 128)  # sequences, heads, key heads, d
COPIED = 2**30  # bytes


class WrongKernels(Exception):
    """What a kernel computes on this device is not attention, so how fast it is does not matter."""


def missing() -> str | None:
    """What is not here that the measurement needs, in a sentence."""
    if not torch.cuda.is_available():
        return f"it needs an NVIDIA GPU, and torch {torch.__version__} finds none here"
    if torch.version.hip:
        return "it needs an NVIDIA GPU, and this is one of AMD"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed; torch brings it along on Linux"
    return None


def file_name() -> str:
    """Of the file for this GPU: "NVIDIA H200" has nvidia_h200.json."""
    return re.sub(r"[^a-z0-9]+", "_", torch.cuda.get_device_name().lower()).strip("_") + ".json"


def measure(names: list[str], path, progress: Callable | None = None) -> Iterator[tuple]:
    """`measurements.measure` for the parts here, all of them if none is named; "correct" always and first.

    Raises ValueError for an unknown name, and WrongKernels after "correct" if a kernel is wrong on this device.
    """
    gpu_candidates.start()
    if unknown := [name for name in names if name not in PARTS]:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {unknown[0]!r}")
    order = [name for name in PARTS if name == "correct" or not names or name in names]
    for name, figures in measurements.measure(order, path, progress, PARTS):
        yield name, figures
        if wrong := [figure.name for figure in figures if name == "correct" and figure.holds is not True]:
            raise WrongKernels(f"not measured, because kernels are wrong on this device: {'; '.join(wrong)}")


# Points ---------------------------------------------------------------------------------------------------------------


def _shape(d: int, n: int) -> tuple[int, int, int, int]:
    return TOKENS // n, WIDTH // d, n, d


def _candidates(causal: bool, n: int, window: int | None = None) -> dict[str, Callable]:
    ours = gpu_candidates.ours(causal, window)
    if window is not None:
        return {"ours": ours, FLEX: gpu_candidates.flex(n, flex.both(flex.causal(), flex.local(window)))}
    return {"ours": ours, **_backends(causal), FLEX: gpu_candidates.flex(n, flex.causal() if causal else None)}


def _backends(causal: bool) -> dict[str, Callable]:
    return {name: gpu_candidates.sdpa(backend, is_causal=causal) for name, backend in BACKENDS.items()}


def _attention(d: int, causal: bool, n: int, window: int | None = None) -> dict:
    """All candidates forward, with the product of matrices, and backward; what they are asked is kept beside it."""
    from torch._functorch import config  # not before it is needed: it loads half of the compiler

    batch, n_heads, _, _ = shape = _shape(d, n)
    *leaves, d_out = random_arrays(*[shape] * 4)
    leaves = [x.requires_grad_() for x in leaves]
    candidates = _candidates(causal, n, window)
    forward = {f"forward {name}": partial(attend, *leaves) for name, attend in candidates.items()}
    backward = {f"backward {name}": gradients(attend, leaves, d_out) for name, attend in candidates.items()}
    kind = {"kind": "full" if window is None else "window", **({} if window is None else {"window": window})}
    costs = (attention_cost(n, d, n_heads, batch, causal=causal, backward=back, **kind) for back in (False, True))
    flops = {f"{name}, FLOPs": cost.flops for name, cost in zip(("forward", "backward"), costs)}
    # Compiled with donated buffers, a graph could be gone through once only.
    with config.patch(donated_buffer=False):
        found = raced(forward | {"GEMM": gpu_candidates.product()}) | raced(backward)
    flops["GEMM, FLOPs"] = 2 * gpu_candidates.PRODUCT**3
    return {"d": d, "causal": causal, "n": n, "window": window, **flops, **found}


def _decode(n: int) -> dict:
    from attnbook.efficient.triton_decode import flash_decode

    batch, n_heads, n_kv_heads, d = DECODED
    q, k, v = random_arrays((batch, n_heads, 1, d), *[(batch, n_kv_heads, n, d)] * 2)
    (source,) = random_arrays((COPIED // 2,))
    target = torch.empty_like(source)
    functions = {
        "ours": partial(flash_decode, q, k, v),
        "SDPA-FLASH": partial(gpu_candidates.sdpa(SDPBackend.FLASH_ATTENTION, enable_gqa=True), q, k, v),
        "copy": lambda: target.copy_(source),
    }
    return {"n": n, "bytes": k.nbytes + v.nbytes, "copy, bytes": 2 * source.nbytes, **raced(functions)}


def _linear(n: int, d: int = 128) -> dict:
    """Forward, causal; q and k are the features already."""
    from attnbook.efficient.triton_linear import chunked_linear_attention

    q, k, v = random_arrays(*[_shape(d, n)] * 3)
    functions = {
        "ours": partial(chunked_linear_attention, q.abs(), k.abs(), v),
        "cuDNN": partial(gpu_candidates.sdpa(SDPBackend.CUDNN_ATTENTION, is_causal=True), q, k, v),
        "flash_attention": partial(gpu_candidates.ours(True), q, k, v),
    }
    return {"n": n, **raced(functions)}


def _memory(n: int, d: int = 128) -> dict:
    """Bytes at the peak beyond the inputs, results included, for one sequence."""
    *leaves, d_out = random_arrays(*[(1, WIDTH // d, n, d)] * 4)
    leaves = [x.requires_grad_() for x in leaves]
    figures = {"n": n}
    for name, attend in {"ours": gpu_candidates.ours(True), **_backends(True)}.items():
        def both(attend=attend):
            return torch.autograd.grad(attend(*leaves), leaves, d_out)

        try:
            both()  # what is set up once does not count
            figures[f"{name} forward, bytes"] = bench.extra_memory(partial(attend, *leaves))
            figures[f"{name} forward and backward, bytes"] = bench.extra_memory(both)
        except Exception as error:
            figures[f"{name}, refused"] = f"{type(error).__name__}: {error}"[:400]
    return figures


def _machine() -> dict:
    from triton import __version__ as triton

    how = {"device": "cuda", "dtype": "bfloat16", "megabytes": 1024} if on_gpu() else {"size": 256, "megabytes": 8}
    machine = bench.roofline(**how)
    versions = {"triton": triton, "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    return {"name": machine.name, "FLOP/s": machine.flops, "bytes/s": machine.bandwidth, "source": machine.source,
            "capability": list(_capability()) if on_gpu() else None, "versions": versions}  # fmt: skip


# The ladder -----------------------------------------------------------------------------------------------------------


class Rung(NamedTuple):
    """One step more than the rung before it."""

    name: str
    steps: dict[str, bool]  # what `forward_kernel` still leaves out
    small: bool  # blocks of 64 by 64 with 4 warps, one tile at a time; or those that are shipped
    tma: bool
    specialised: bool = False


PLAIN = {"SKIP": False, "SPLIT": False, "BASE_2": False}
RUNGS = (
    Rung("fused", PLAIN, True, False),
    Rung("skip masked blocks", {"SPLIT": False, "BASE_2": False}, True, False),
    Rung("block sizes and warps", {"SPLIT": False, "BASE_2": False}, False, False),
    Rung("exp2, scale folded in", {"SPLIT": False}, False, False),
    Rung("split loops", {}, False, False),
    Rung("tensor descriptors", {}, False, True),
)
SPECIALISED = Rung("warp specialisation", {}, False, True, True)


def _rung(rung: Rung, d: int, arrays: list[torch.Tensor]) -> Any:
    """The launch of a rung, causal; arrays are q, k, v, out and lse."""
    from attnbook.efficient import triton_attention

    shipped = triton_attention.FETCHED["forward"][triton_attention.padded(d)]
    config = triton_attention.Config(64, 64, 4, 1) if rung.small else shipped
    if triton_attention.INTERPRETED:
        config = triton_attention.INTERPRETER["forward"]
    capability = _capability()
    plan = triton_attention.Plan(None, 0, d**-0.5, capability if rung.tma else (8, 0), {"forward": config})
    if plan.tma != rung.tma:
        raise ValueError(f"a GPU of compute capability {capability} does not fetch tiles by itself")
    launch = triton_attention.launch_forward(*arrays, plan, **rung.steps)
    return launch._replace(kernel=_specialised()) if rung.specialised else launch


def _capability() -> tuple[int, int]:
    from attnbook.efficient.flash import PLAYED

    return torch.cuda.get_device_capability() if on_gpu() else PLAYED


@functools.cache
def _specialised():
    """`forward_kernel` with one word more in its loop: let some warps fetch while others compute."""
    import inspect
    import linecache

    from attnbook.efficient import triton_forward

    text, loop = inspect.getsource(triton_forward), "tl.range(begin, end, BLOCK_KV)"
    assert text.count(loop) == 1, "the loop over the keys is written differently now"
    text = text.replace(loop, loop[:-1] + ", warp_specialize=True)")
    name = "attnbook.efficient.triton_forward_specialised"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=f"<{name}>")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # Triton compiles the text of a kernel, and this is where it looks the text up.
    linecache.cache[spec.origin] = len(text), None, text.splitlines(keepends=True), spec.origin
    module.__file__ = spec.origin
    exec(compile(text, spec.origin, "exec"), module.__dict__)
    return module.forward_kernel


def _built(launch) -> dict:
    """Registers, spills and products of a launch as the compiler made it; nothing where kernels are interpreted."""
    from triton.runtime.driver import driver

    from attnbook.efficient import triton_attention, triton_compile

    if triton_attention.INTERPRETED:
        return {}
    try:
        return triton_compile.build(launch, _capability())._asdict()
    finally:
        if on_gpu():
            driver.reset_active()


def _ladder(rungs: tuple[Rung, ...], d: int, from_naive: bool) -> dict:
    """The rungs in turns, causal; how far each is from `flash_attention`, and what the compiler made of it."""
    n = LADDER
    batch, n_heads, _, _ = shape = _shape(d, n)
    q, k, v = random_arrays(*[shape] * 3, dtype=torch.bfloat16 if on_gpu() else torch.float16)
    lse = q.new_empty(shape[:3], dtype=torch.float32)
    mask = masks.causal(n, n, like=q)
    want = gpu_candidates.ours(True)(q, k, v)
    figures = {"d": d, "n": n, "FLOPs": attention_cost(n, d, n_heads, batch, causal=True).flops, "built": {}}
    functions = {"naive": lambda: naive(mask)(q, k, v)} if from_naive else {}
    for rung in rungs:
        try:
            out = torch.empty_like(q)
            launch = _rung(rung, d, [q, k, v, out, lse])
            figures["built"][rung.name] = _built(launch)
            launch.run()
            figures[f"{rung.name}, difference"] = (out - want).abs().max().nan_to_num(1e9).item()
            functions[rung.name] = launch.run
        except Exception as error:
            figures[f"{rung.name}, refused"] = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return figures | raced(functions)


# What follows from it -------------------------------------------------------------------------------------------------

GOALS = {  # (direction, d, causal, theirs): throughput of ours ÷ theirs, at least
    ("forward", 128, False, "SDPA-FLASH"): 1.3,
    ("forward", 128, False, "cuDNN"): 0.8,
    ("forward", 128, True, "cuDNN"): 0.75,
    ("forward", 64, False, "cuDNN"): 0.8,
    **{("backward", d, causal, theirs): low for d in (128, 64) for causal in (False, True)
       for theirs, low in {FLEX: 1.1, "SDPA-FLASH": 0.9, "cuDNN": 0.65}.items()},
}  # fmt: skip


def _quotient(point: dict | None, over: str, under: str) -> float | None:
    """The median time of one candidate ÷ that of another; None unless both were measured."""
    times = [(point or {}).get(f"{name}, s, median") for name in (over, under)]
    return None if None in times else times[0] / times[1]


def _throughput(point: dict | None, name: str, amount: str) -> float | None:
    seconds = (point or {}).get(f"{name}, s, median")
    return None if seconds is None else point[amount] / seconds


def _figure(name: str, points: dict[Any, dict], at: Any, value: Callable, names: tuple, low=None) -> Figure:
    """The value at one of the points; the note has those at the others, or why there is none."""
    values = {key: value(point) for key, point in points.items()}
    reasons = [f"{key.removesuffix(', refused')} refused: {reason}" for key, reason in points.get(at, {}).items()
               if key in [f"{name}, refused" for name in names]]  # fmt: skip
    others = [f"{key:,}: {'—' if x is None else format(x, '.3g')}" for key, x in values.items() if key != at]
    note = "; ".join([*reasons, *others]) if at in points else "; ".join(["this point is missing", *others])
    return Figure(name, values.get(at), low, note=note)


def _by_n(found: dict[str, dict], **wanted) -> dict[int, dict]:
    points = (point for point in found.values() if all(point[name] == value for name, value in wanted.items()))
    return {point["n"]: point for point in points}


def _of_checks(found: dict[str, dict]) -> list[Figure]:
    figures = []
    for what, point in found.items():
        name = f"{what}: error ÷ the naive version's"
        if "refused" in point:
            figures.append(Figure(name, None, high=2, note=point["refused"]))
            continue
        names = [key.split(",")[0] for key in point if key.endswith(", ours")]
        ratios = {f"{name}, {kind}": mine / (rough or point["eps"]) for name in names for kind, mine, rough in
                  zip(("largest", "RMS"), point[f"{name}, ours"], point[f"{name}, naive"])}  # fmt: skip
        worst = max(ratios, key=ratios.get)
        figures += [Figure(name, ratios[worst], high=2, note=f"the worst of {len(ratios)}: {worst}"),
                    Figure(f"{what}: numbers that are not finite", sum(point[f"{name}, not finite"] for name in names),
                           high=0)]  # fmt: skip
    return figures


def _of_machine(found: dict[str, dict]) -> list[Figure]:
    (machine,) = found.values()
    return [Figure("product of matrices, TFLOP/s", machine["FLOP/s"] / 1e12, note=machine["source"]),
            Figure("copy, GB/s", machine["bytes/s"] / 1e9)]  # fmt: skip


def _rate(point: dict | None, name: str, amount: str) -> float | None:
    """TFLOP/s."""
    throughput = _throughput(point, name, amount)
    return None if throughput is None else throughput / 1e12


def _of_attention(found: dict[str, dict]) -> list[Figure]:
    figures, at = [], SIZES[0]
    for way, d, causal in itertools.product(("forward", "backward"), (128, 64), (False, True)):
        points = _by_n(found, d=d, causal=causal)
        where = f"{way} d{d}{' causal' if causal else ''}, n = {at:,}"
        for who in ("ours", *BACKENDS, FLEX):
            rate = partial(_rate, name=f"{way} {who}", amount=f"{way}, FLOPs")
            figures.append(_figure(f"{where}: {who}, TFLOP/s", points, at, rate, (f"{way} {who}",)))
        for who in (*BACKENDS, FLEX):
            mine, theirs = f"{way} ours", f"{way} {who}"
            ratio = partial(_quotient, over=theirs, under=mine)
            low = GOALS.get((way, d, causal, who))
            figures.append(_figure(f"{where}: ours ÷ {who}", points, at, ratio, (mine, theirs), low))
        if way == "forward":
            low, names = 0.58 if (d, causal) == (128, False) else None, ("forward ours", "GEMM")
            figures.append(_figure(f"{where}: ours ÷ GEMM", points, at, _share_of_product, names, low))
    return figures


def _share_of_product(point: dict) -> float | None:
    mine, product = _throughput(point, "forward ours", "forward, FLOPs"), _throughput(point, "GEMM", "GEMM, FLOPs")
    return None if None in (mine, product) else mine / product


def _of_window(found: dict[str, dict]) -> list[Figure]:
    figures = []
    for d, window, way in itertools.product((128, 64), WINDOWS, ("forward", "backward")):
        points, names = _by_n(found, d=d, window=window), (f"{way} {FLEX}", f"{way} ours")
        ratio = partial(_quotient, over=names[0], under=names[1])
        name = f"{way} d{d}, window {window}, n = {SIZES[0]:,}: ours ÷ {FLEX}"
        figures.append(_figure(name, points, SIZES[0], ratio, names, 1.0))
    return figures


def _of_decode(found: dict[str, dict]) -> list[Figure]:
    def share(point):
        mine, copy = _throughput(point, "ours", "bytes"), _throughput(point, "copy", "copy, bytes")
        return None if None in (mine, copy) else mine / copy

    points, figures = _by_n(found), []
    for n in CACHES:
        of_n = {n: points[n]} if n in points else {}
        figures.append(_figure(f"decode, cache {n:,}: bandwidth ÷ copy", of_n, n, share, ("ours", "copy"), 0.75))
    at, ratio = CACHES[0], partial(_quotient, over="SDPA-FLASH", under="ours")
    return [*figures, _figure(f"decode, cache {at:,}: ours ÷ SDPA-FLASH", points, at, ratio, ("ours", "SDPA-FLASH"))]


def _of_linear(found: dict[str, dict]) -> list[Figure]:
    points = _by_n(found)
    figures, at = [], SIZES[0]
    for who, low in {"cuDNN": 3.0, "flash_attention": None}.items():
        name, ratio = f"chunked linear, n = {at:,}: time of {who} ÷ ours", partial(_quotient, over=who, under="ours")
        figures.append(_figure(name, points, at, ratio, (who, "ours"), low))
    return figures


def _of_memory(found: dict[str, dict]) -> list[Figure]:
    rounds, figures = {n: [point] for n, point in _by_n(found).items()}, []
    for way in ("forward", "forward and backward"):
        for who in ("ours", *BACKENDS):
            name, high = f"{who} {way}", 1.05 if who == "ours" else None
            if sum(f"{name}, bytes" in point for (point,) in rounds.values()) >= 3:
                figures.append(measurements._exponent(rounds, f"{name}, bytes", high=high))
                continue
            reasons = {point[key] for (point,) in rounds.values() if (key := f"{who}, refused") in point}
            note = "; ".join(["fewer than three sizes", *sorted(reasons)])
            figures.append(Figure(f"{name}: exponent of extra memory", None, high=high, note=note))
    return figures


def _of_ladder(found: dict[str, dict]) -> list[Figure]:
    """TFLOP/s of each rung; nothing is claimed of them, but that they compute the same."""
    figures = []
    for point in found.values():
        names = [name for name in ("naive", *(rung.name for rung in (*RUNGS, SPECIALISED)))
                 if f"{name}, s, median" in point or f"{name}, refused" in point]  # fmt: skip
        for name in names:
            rate, built = _rate(point, name, "FLOPs"), point["built"].get(name)
            note = [point[f"{name}, refused"]] if f"{name}, refused" in point else []
            if built:
                note.append("{registers} registers, {stack} bytes spilled, {wgmma} wgmma".format(**built))
            if name == SPECIALISED.name and built and built == point["built"].get(RUNGS[-1].name):
                note.append("the compiler makes the same of it: it specialises nothing here")
            where = f"ladder d{point['d']} causal, n = {point['n']:,}: {name}"
            figures.append(Figure(f"{where}, TFLOP/s", rate, note="; ".join(note)))
        far = [point[key] for key in point if key.endswith(", difference")]
        if far:
            name = f"ladder d{point['d']}, {len(far)} rungs: largest difference from the kernel as shipped"
            figures.append(Figure(name, max(far), high=0.04))  # bfloat16 has steps of 0.03 above 4
    return figures


def _grid(function: Callable, *axes) -> dict[str, Callable[[], dict]]:
    return {", ".join(map(str, values)): partial(function, *values) for values in itertools.product(*axes)}


# What may end too early, or never, comes last: one compiles for long, and nobody has run what the other compiles to.
PARTS = {
    "correct": Part(gpu_candidates.checks, _of_checks),
    "machine": Part(lambda: {"roofline": _machine}, _of_machine),
    "ladder": Part(lambda: {f"d {d}": partial(_ladder, RUNGS, d, True) for d in (128, 64)}, _of_ladder),
    "decode": Part(lambda: _grid(_decode, CACHES), _of_decode),
    "linear": Part(lambda: _grid(_linear, SIZES), _of_linear),
    "memory": Part(lambda: _grid(_memory, MEMORY_SIZES), _of_memory),
    "window": Part(lambda: _grid(_attention, (128, 64), (True,), SIZES[:1], WINDOWS), _of_window),
    "attention": Part(lambda: {", ".join(map(str, (d, causal, n))): partial(_attention, d, causal, n)
                               for n, d, causal in itertools.product(SIZES, (128, 64), (False, True))}, _of_attention),
    "specialised": Part(lambda: {f"d {d}": partial(_ladder, (RUNGS[-1], SPECIALISED), d, False) for d in (128, 64)},
                        _of_ladder),
}  # fmt: skip
