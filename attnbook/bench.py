"""Measure what a function costs: time, extra memory, the exponent of its growth; and what the machine could do.

The same on a CPU and on CUDA. Counting by formula is in `costs`, whose chief names are here too. Nothing is thrown
away: `collect` writes each point as it is measured, an interrupt keeps them, and a rerun goes on.
"""

import contextlib
import gc
import importlib.metadata
import json
import math
import os
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np

from attnbook.costs import Cost, Machine, attention_cost, roofline_time
from attnbook.functional import _number
from attnbook.masks import _integer

__all__ = [
    "Cost", "Fit", "Machine", "Timing", "attention_cost", "collect", "extra_memory", "fit_exponent", "provenance",
    "read_results", "roofline", "roofline_time", "time_all", "write_results",
]


@dataclass(frozen=True)
class Timing:
    """Seconds that one call took: the median, the quartiles around it, of how many calls, and the fastest of them."""

    median: float
    q25: float
    q75: float
    repeats: int
    best: float

    def __str__(self) -> str:
        return f"{1e3 * self.median:.3g} ms ({1e3 * self.q25:.3g} to {1e3 * self.q75:.3g}, {self.repeats} repeats)"


def time_all(
    functions: Mapping[str, Callable[[], object]], repeats: int = 7, warm_up: int = 1, seconds: float | None = None,
    clock: str = "wall",
) -> dict[str, Timing]:  # fmt: skip
    """Call each of {name: function} in turn, `repeats` rounds long, and return {name: Timing}.

    Taking turns is what makes the ratios fair: whatever slows the machine for a while slows all of them. The first
    `warm_up` rounds do not count, and no round is begun once `seconds` have passed, as long as one counts. On CUDA
    each call is waited for.

    clock   "wall": what passes; "cpu": what the processor spends on this process, all threads together. With one
            thread, on an idle machine, the two are the same; on a busy one "cpu" leaves out the turns of others.
            (Windows counts these in steps of 16 ms: there "cpu" is "wall".)
            "cuda": what the GPU works on it, by its own events, with a cold cache and without Python's time to launch

    Raises TypeError or ValueError that names the argument; what a function raises comes through, with its name.
    """
    if not isinstance(functions, Mapping) or not functions:
        raise ValueError(f"functions must be a mapping {{name: function}} with at least one entry, got {functions!r}")
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"functions must hold functions without arguments, got {function!r} for {name!r}")
    repeats, warm_up = _integer("repeats", repeats, 1), _integer("warm_up", warm_up, 0)
    if seconds is not None and _number("seconds", seconds) <= 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    read = _clock(clock)
    taken: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for round_ in range(-warm_up, repeats):
        if round_ > 0 and seconds is not None and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            try:
                once = _gpu_seconds(function) if clock == "cuda" else _seconds(function, read)
            except Exception as error:
                error.add_note(f"while timing {name!r}")
                raise
            if round_ >= 0:
                taken[name].append(once)
    return {name: _timing(times) for name, times in taken.items()}


def _clock(name: str) -> Callable[[], float]:
    if name not in ("wall", "cpu", "cuda"):
        raise ValueError(f"clock must be 'wall' or 'cpu', or 'cuda' for the time on a GPU, got {name!r}")
    return time.process_time if name == "cpu" and sys.platform != "win32" else time.perf_counter


def _seconds(function, read=time.perf_counter) -> float:
    wait = _wait_for_cuda()
    collecting = gc.isenabled()
    gc.disable()
    try:
        wait()
        start = read()
        result = function()
        wait()
        end = read()
    finally:
        if collecting:
            gc.enable()
    del result  # outside the clock
    return end - start


def _gpu_seconds(function) -> float:
    """Seconds between two events around the call, as `triton.testing.do_bench` takes them."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _cold_cache(torch).zero_()
    torch.cuda._sleep(2_000_000)  # cycles: a millisecond, in which Python gets ahead of the GPU
    start.record()
    result = function()
    end.record()
    end.synchronize()
    del result
    return start.elapsed_time(end) / 1e3


@cache
def _cold_cache(torch):
    """Larger than any cache of a GPU: writing it leaves nothing else there."""
    return torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")


def _timing(times: list[float]) -> Timing:
    q25, median, q75 = np.percentile(times, [25, 50, 75]).tolist()
    return Timing(median, q25, q75, len(times), min(times))


def _wait_for_cuda() -> Callable[[], None]:
    torch = sys.modules.get("torch")
    return torch.cuda.synchronize if torch and torch.cuda.is_initialized() else lambda: None


# Memory -------------------------------------------------------------------------------------------------------------


def extra_memory(function: Callable[[], object], kind: str = "torch") -> int:
    """Bytes held at the peak of one call beyond those held before it, the result included.

    kind    "torch": what torch's allocator gave out, from the profiler's memory events, or from CUDA's own counter
            "numpy": what NumPy and Python gave out, by `tracemalloc`, which does not see torch
            "process": how far a process of its own grew while it made the call; sees everything, in pages. The
            function has to come from an importable module, and the system has to be Linux or macOS

    The first two give the same number at every call. Raises ValueError for another kind, TypeError if function is
    none, and RuntimeError if the process fails.
    """
    kinds = {"torch": _torch_memory, "numpy": _numpy_memory, "process": _process_memory}
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(map(repr, kinds))}, got {kind!r}")
    if not callable(function):
        raise TypeError(f"function must be a function without arguments, got {function!r}")
    gc.collect()  # what is freed during the call would hide what it takes
    return kinds[kind](function)


def _torch_memory(function) -> int:
    # The profiler's own messages carry the time of day, and would end up in a notebook.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        result = function()
    on_gpu = torch.cuda.max_memory_allocated() - before if torch.cuda.is_initialized() else 0
    del result
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.device_type() == torch.autograd.DeviceType.CPU:
            held += event.nbytes()
            peak = max(peak, held)
    return max(peak, on_gpu)


def _numpy_memory(function) -> int:
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = function()
        _, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        if not traced:
            tracemalloc.stop()
    return peak - before


def _process_memory(function) -> int:
    if sys.platform not in ("linux", "darwin"):
        raise RuntimeError(f"kind='process' needs Linux or macOS, this is {sys.platform}")
    if getattr(getattr(function, "func", function), "__module__", None) == "__main__":
        raise ValueError("function must come from an importable module: a process of its own cannot see a notebook's")
    try:
        call = pickle.dumps(function)
    except Exception as error:
        raise ValueError(f"function cannot be sent to a process of its own: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "bytes"
        code = "import sys; from attnbook import bench; bench._grown(sys.argv[1])"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", code, str(answer)]
        done = subprocess.run(command, input=call, capture_output=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"the process that measures failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
        return int(answer.read_text())


def _grown(answer: str) -> None:
    """Run the pickled function on standard input, and write by how many bytes the peak of this process rose."""
    function = pickle.load(sys.stdin.buffer)
    with contextlib.suppress(OSError):  # Linux can forget the peak so far, so that imports do not count
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    result = function()
    Path(answer).write_text(str(_peak() - before))
    del result


def _peak() -> int:
    """The most bytes that this process has held."""
    import resource

    try:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# Growth -------------------------------------------------------------------------------------------------------------

_T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # Student's t, 1 to 10 degrees of freedom


@dataclass(frozen=True)
class Fit:
    """value ≈ scale · n^exponent from n = start on; `low` to `high` is the 95 % interval of the exponent."""

    exponent: float
    low: float
    high: float
    start: float
    scale: float

    def at(self, n: float) -> float:
        """What the law says for n."""
        return self.scale * n**self.exponent

    def __str__(self) -> str:
        return f"n^{self.exponent:.2f} (95 % {self.low:.2f} to {self.high:.2f}, from n = {self.start:,.0f} on)"


def fit_exponent(n: Sequence[float], values: Sequence[float], start: float | None = None) -> Fit:
    """The exponent p of value ≈ scale · n^p: the slope of the least-squares line through the logarithms.

    Small sizes measure other things than the law: the cost of a call, the allocator. So points below `start` are left
    out. Where it is not given, the smallest size is dropped as long as the points bend: as long as the slope of a
    parabola through them changes by more than 0.25, and surely so, and more than four are left. The fit says where
    it starts.

    Raises ValueError if the lengths differ, fewer than three points are left, or a number is not positive and finite.
    """
    x, y = np.asarray(n, dtype=float), np.asarray(values, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"values must have one number for each of the {x.size} in n, got shape {y.shape}")
    for name, numbers in (("n", x), ("values", y)):
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            raise ValueError(f"{name} must be positive and finite to have logarithms, got {numbers.tolist()}")
    order = np.argsort(x)
    x, y = x[order], y[order]
    if start is not None:
        x, y = x[x >= start], y[x >= start]
    if len(np.unique(x)) < 3:
        raise ValueError(f"n must hold at least three different sizes for a fit, got {x.tolist()} from start={start}")
    log_x, log_y = np.log(x), np.log(y)
    if start is None:
        start = next(least for least in np.unique(x) if not _bends(log_x[x >= least], log_y[x >= least]))
    kept = x >= start
    slope, offset, reach = _line(log_x[kept], log_y[kept])
    return Fit(slope, slope - reach, slope + reach, float(x[kept][0]), math.exp(offset))


def _line(x, y) -> tuple[float, float, float]:
    """Least squares: slope, offset, and how far the 95 % interval of the slope reaches to either side."""
    (offset, slope), (_, reach) = _least_squares([np.ones_like(x), x], y)
    return slope, offset, reach


def _bends(x, y) -> bool:
    if len(np.unique(x)) <= 4:
        return False
    x = x - x.mean()
    (_, _, bend), (_, _, reach) = _least_squares([np.ones_like(x), x, x**2], y)
    return abs(bend) > reach and 2 * abs(bend) * (x.max() - x.min()) > 0.25


def _least_squares(columns, y) -> tuple[list[float], list[float]]:
    """The coefficients of the columns, and how far the 95 % interval of each reaches to either side."""
    matrix = np.stack(columns, axis=-1)
    inverse = np.linalg.inv(matrix.T @ matrix)
    found = inverse @ matrix.T @ y
    freedom = len(y) - len(columns)
    variance = ((y - matrix @ found) ** 2).sum() / freedom
    t = _T95[freedom - 1] if freedom <= 10 else 1.96 + 2.6 / freedom
    return found.tolist(), (t * np.sqrt(variance * np.diag(inverse))).tolist()


# The machine --------------------------------------------------------------------------------------------------------


def roofline(device: str = "cpu", dtype: str = "float32", size: int | None = None, megabytes: int = 128,
             repeats: int = 7, clock: str = "wall") -> Machine:
    """What this machine reaches: FLOP/s in a product of two square matrices, bytes/s in a copy.

    size        rows of the matrices: 1536 on a CPU, 8192 on CUDA
    megabytes   of the array that is copied; larger than any cache, or it is the cache that is measured

    clock       as in `time_all`; "cpu" makes sense with one thread

    The best of `repeats`, for it is a ceiling that is sought (Williams, Waterman and Patterson, 2009). Raises
    TypeError or ValueError that names the argument.
    """
    import torch

    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype must name a floating dtype of torch, such as 'float32', got {dtype!r}")
    size = _integer("size", size if size is not None else 8192 if "cuda" in device else 1536, 1)
    megabytes, repeats = _integer("megabytes", megabytes, 1), _integer("repeats", repeats, 1)
    a, b, c = (torch.ones(size, size, dtype=kind, device=device) for _ in range(3))
    source = torch.ones(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    tasks = {"product": lambda: torch.mm(a, b, out=c), "copy": lambda: target.copy_(source)}
    best = {name: min(_seconds(task, _clock(clock)) for _ in range(repeats + 1)) for name, task in tasks.items()}
    flops, bandwidth = 2 * size**3 / best["product"], 2 * source.numel() / best["copy"]  # a copy reads and writes
    name = torch.cuda.get_device_name(device) if "cuda" in device else f"{_cpu()}, {torch.get_num_threads()} threads"
    return Machine(name, flops, bandwidth, f"measured here: a {dtype} product of {size}², a copy of {megabytes} MiB")


def _cpu() -> str:
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine() or "this machine"


# Results that stay --------------------------------------------------------------------------------------------------


def provenance() -> dict:
    """Where a measurement comes from: date, commit ("+" where files differ from it), machine, threads, versions."""
    versions = {name: importlib.metadata.version(name) for name in ("attnbook", "numpy", "torch")}
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "cpu": _cpu(),
        "gpu": gpu,
        "threads": torch.get_num_threads() if torch else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _commit() -> str | None:
    if not (Path(__file__).parents[1] / "book.yml").is_file():
        return None  # installed: the repository around it, if any, is another
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def read_results(path: str | Path) -> dict:
    """What `write_results` wrote; {} if there is no such file. Raises ValueError if it holds something else."""
    path = Path(path)
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no results: {error}") from None
    if not isinstance(results, dict) or not all(isinstance(part, dict) for part in results.values()):
        raise ValueError(f"{path} must hold a JSON object of objects, {{part: {{…}}}}, got {str(results)[:60]}")
    return results


def write_results(path: str | Path, results: Mapping) -> None:
    """Write results as JSON, all or nothing: whenever it is interrupted, `path` holds the old ones or the new ones.

    Raises TypeError or ValueError if JSON cannot say them (NaN among them), OSError if the folder cannot be written.
    """
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path = Path(path)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def collect(
    points: Mapping[str, Callable[[], dict]],
    path: str | Path | None = None,
    part: str = "points",
    progress: Callable = lambda points: points,
) -> dict[str, dict]:
    """Measure each of {name: function that returns its figures}; return {name: figures}.

    With a `path`, each point is in that file, under `part`, as soon as it is measured. If the run is interrupted, the
    points so far stay there, and the next call goes on from them, if machine, versions and commit are the same. A
    part that was complete is measured anew. `progress` wraps the names that are left, as `tqdm` does.
    """
    if not isinstance(points, Mapping) or not points:
        raise ValueError(f"points must be a mapping {{name: function}} with at least one entry, got {points!r}")
    here = provenance()
    old = read_results(path).get(part, {}) if path is not None else {}
    same = {**old.get("provenance", {}), "date": here["date"]} == here and not old.get("complete", True)
    done = {name: figures for name, figures in old.get("points", {}).items() if same and name in points}
    for name in progress([name for name in points if name not in done]):
        done[name] = points[name]()
        if path is not None:  # read again: another part may have been written since
            complete = len(done) == len(points)
            entry = {"points": done, "complete": complete, "provenance": here}
            write_results(path, read_results(path) | {part: entry})
    return {name: done[name] for name in points}
