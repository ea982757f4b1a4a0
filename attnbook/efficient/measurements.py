"""The book's measurements of efficient attention: `attnbook bench` runs them, `benchmarks/results/` keeps them.

A part is a set of points, {name: function that measures it}, and a summary of them, the figures that the chapters
claim. Candidates whose ratio is claimed are timed in turns at one point, so a ratio always comes from one run. And
all sizes are gone through several times, round after round: a machine that is slow for a minute then spoils a round of
each size instead of all that is known of one, and the median over the rounds passes it by.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from attnbook import bench

D_K, N_HEADS = 64, 8
LARGEST = 8192
ROUNDS = 5
SIZES = (1024, 1448, 2048, 2896, 4096, 5792, LARGEST)  # steps of √2: enough points for an interval
# From 2,048 on: a program that works in tiles computes those on the diagonal whole, and in a short text they are many.
CAUSAL_SIZES = (2048, 2896, 4096, 5792, LARGEST, 11584, 16384)


@dataclass(frozen=True)
class Figure:
    """A number of which is claimed: `low` ≤ value ≤ `high`, with None for no bound; `note` says how sure it is.

    A value of None could not be measured, and `note` says why.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the claim is true; None where nothing is claimed or nothing was measured."""
        if self.value is None or (self.low is None and self.high is None):
            return None
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def claim(self) -> str:
        low, high = ("" if bound is None else f"{bound:g}" for bound in (self.low, self.high))
        return f"{low} to {high}" if low and high else f"≥ {low}" if low else f"≤ {high}" if high else ""


@dataclass(frozen=True)
class Part:
    """`points()` says what to measure, {name: function}; `summary(found)` what follows, as Figures."""

    points: Callable[[], dict[str, Callable[[], dict]]]
    summary: Callable[[dict[str, dict]], list[Figure]]


def measure(names: list[str], path: str | Path | None, progress: Callable | None = None,
            parts: dict[str, Part] | None = None) -> Iterator[tuple]:
    """Measure the parts of these names and yield (name, list of Figures) as each is done.

    With a path, points and figures are kept there (see `bench.collect`). `progress(points, name)` wraps the points
    that are left, as tqdm(points, desc=name) does. `parts` are PARTS unless given. Raises ValueError for an unknown
    name, before anything is measured.
    """
    parts = PARTS if parts is None else parts
    for name in names:
        if name not in parts:
            raise ValueError(f"part must be one of {', '.join(parts)}, got {name!r}")
    for name in names:
        wrap = (lambda points: points) if progress is None else partial(progress, name=name)
        figures = parts[name].summary(bench.collect(parts[name].points(), path, name, wrap))
        if path is not None:
            results = bench.read_results(path)
            results[name]["figures"] = {figure.name: figure.value for figure in figures}
            results[name]["notes"] = {figure.name: figure.note for figure in figures if figure.note}
            bench.write_results(path, results)
        yield name, figures


def table(figures: list[Figure]) -> str:
    """A line for each figure: its name, its value, what is claimed of it, whether that holds, and the note."""
    width = max((len(figure.name) for figure in figures), default=0)
    marks = {None: "", True: "holds", False: "DOES NOT HOLD"}
    lines = []
    for f in figures:
        value = f"{'—':>9}" if f.value is None else f"{f.value:9.4g}"
        mark = "NOT MEASURED" if f.value is None else marks[f.holds]
        lines.append(f"  {f.name:<{width}} {value}  {f.claim:>12}  {mark:13}  {f.note}".rstrip())
    return "\n".join(lines)


# What is compared, on random numbers of one shape ---------------------------------------------------------------------


def _compared(functions: dict[str, Callable[[], object]], kind: str, memory: bool, **how) -> dict:
    """Times of each, measured in turns; and memory, in bytes beyond the inputs and also beyond the output.

    `how` goes to `bench.time_all`.

    "s" is the fastest of a few calls: others who use the machine only ever add to the time, and they add more to a
    program of many small steps, in which two threads wait for each other, than to one of a few large ones.
    """
    timings = bench.time_all(functions, **({"repeats": 5, "seconds": 6} | how))
    figures = {}
    for name, function in functions.items():
        timing = timings[name]
        figures[f"{name}, s"] = timing.best
        figures[f"{name}, s, median"] = timing.median
        figures[f"{name}, s, quartiles"] = [timing.q25, timing.q75]
        figures[f"{name}, repeats"] = timing.repeats
        if not memory:
            continue
        figures[f"{name}, bytes"] = bench.extra_memory(function, kind)
        figures[f"{name}, bytes beyond the output"] = figures[f"{name}, bytes"] - function().nbytes
    return figures


def _random(n: int, n_heads: int = N_HEADS):
    import torch

    generator = torch.Generator().manual_seed(n)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tuple(torch.randn(1, n_heads, n, D_K, generator=generator).to(device) for _ in range(3))


def _machine() -> dict:
    import torch

    machine = bench.roofline("cuda" if torch.cuda.is_available() else "cpu")
    return {"name": machine.name, "FLOP/s": machine.flops, "bytes/s": machine.bandwidth, "source": machine.source}


def _numpy(n: int, memory: bool = True) -> dict:
    from attnbook import functional
    from attnbook.efficient.tiled import tiled_attention

    q, k, v = np.random.default_rng(n).standard_normal((3, n, D_K), dtype=np.float32)
    functions = {
        "naive": lambda: plain_numpy(q, k, v),
        "as the book writes it": lambda: functional.attention(q, k, v),
        "tiled": lambda: tiled_attention(q, k, v),
    }
    return _compared(functions, "numpy", memory)


def plain_numpy(q, k, v):
    """Attention as one writes it down, scores and then weights; two tables, and no third that could be helped."""
    scores = (q / math.sqrt(q.shape[-1])) @ k.T
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v


def _dense(n: int, memory: bool = True) -> dict:
    import torch

    from attnbook.efficient.tiled import tiled_attention

    q, k, v = _random(n)
    functions = {
        "SDPA": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
        "tiled": lambda: tiled_attention(q, k, v),
    }
    if 2 * N_HEADS * n**2 * 4 < _memory() / 2:  # its two tables must not push the machine into swapping
        functions["naive"] = lambda: torch.softmax(q @ k.mT / math.sqrt(D_K), dim=-1) @ v
    return _compared(functions, "torch", memory)


def _causal(n: int, memory: bool = True) -> dict:
    import torch

    from attnbook.efficient.linear import linear_attention
    from attnbook.efficient.sparse import window_attention

    q, k, v = _random(n)
    functions = {
        "causal SDPA": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        "window 256": lambda: window_attention(q, k, v, 256),
        "chunked linear": lambda: linear_attention(q, k, v, causal=True, form="chunked"),
    }
    return _compared(functions, "torch", memory)


def _sparse(kept: float, memory: bool = True, block: int = 128) -> dict:
    from attnbook.efficient.sparse import block_sparse_attention
    from attnbook.efficient.tiled import tiled_attention

    q, k, v = _random(LARGEST)
    n_blocks = LARGEST // block
    order = np.argsort(np.random.default_rng(0).random((n_blocks, n_blocks)), axis=-1)
    layout = order < round(kept * n_blocks)  # as many kept blocks in each row, at random places
    functions = {
        "dense tiled": lambda: tiled_attention(q, k, v),
        "block-sparse": lambda: block_sparse_attention(q, k, v, layout, block),
    }
    return _compared(functions, "torch", memory) | {"kept": float(layout.mean())}


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


# What follows from it -------------------------------------------------------------------------------------------------


def _points(measure_one: Callable[[float, bool], dict], values) -> dict[str, Callable[[], dict]]:
    """Round after round through the values. Memory is the same in every round, so it is measured in the first."""
    return {f"{value}, round {round_}": partial(measure_one, value, round_ == 1)
            for round_ in range(1, ROUNDS + 1) for value in values}  # fmt: skip


def _rounds(found: dict[str, dict]) -> dict[float, list[dict]]:
    """The figures of each value, one dict a round."""
    rounds: dict[float, list[dict]] = {}
    for point, figures in found.items():
        rounds.setdefault(float(point.split(",")[0]), []).append(figures)
    return rounds


def _exponent(rounds: dict[float, list[dict]], name: str, low: float | None = None, high: float | None = None):
    """The exponent of one program's "s" or "bytes …", medians over the rounds, over all the sizes that have it."""
    values = {n: [figures[name] for figures in of_n if name in figures] for n, of_n in rounds.items()}
    fit = bench.fit_exponent(*zip(*((n, statistics.median(of_n)) for n, of_n in values.items() if of_n)))
    what = "time" if name.endswith(", s") else "extra memory"
    return Figure(f"{name.split(',')[0]}: exponent of {what}", fit.exponent, low, high, note=str(fit))


def _ratio(rounds: list[dict], over: str, under: str, what: str = "s") -> float:
    """The median of the rounds' ratios."""
    over, under = f"{over}, {what}", f"{under}, {what}"
    return statistics.median(figures[over] / figures[under] for figures in rounds if over in figures)


def _of_machine(found: dict[str, dict]) -> list[Figure]:
    (machine,) = found.values()
    return [Figure("peak, GFLOP/s", machine["FLOP/s"] / 1e9), Figure("bandwidth, GB/s", machine["bytes/s"] / 1e9)]


def _of_numpy(found: dict[str, dict]) -> list[Figure]:
    last, where = _rounds(found)[LARGEST], "NumPy, one head, n = 8192"
    book, more = "as the book writes it", "bytes beyond the output"
    return [
        Figure(f"{where}: memory beyond the output, naive ÷ tiled", _ratio(last, "naive", "tiled", more), low=100),
        Figure(f"{where}: memory of the book's attention ÷ tiled", _ratio(last, book, "tiled", "bytes"), low=100),
        Figure(f"{where}: time of tiled ÷ naive", _ratio(last, "tiled", "naive"), high=1),
    ]


def _of_dense(found: dict[str, dict]) -> list[Figure]:
    rounds = _rounds(found)
    last = rounds[LARGEST]
    counts = {name: sum(f"{name}, s" in of_n[0] for of_n in rounds.values()) for name in ("naive", "SDPA", "tiled")}
    names = [name for name, count in counts.items() if count > 2]  # what a fit needs
    figures = [Figure("n = 8192: time of tiled ÷ SDPA", _ratio(last, "tiled", "SDPA"), high=2)]
    if "naive, s" in last[0]:
        figures += [Figure("n = 8192: memory of naive ÷ tiled", _ratio(last, "naive", "tiled", "bytes")),
                    Figure("n = 8192: time of naive ÷ SDPA", _ratio(last, "naive", "SDPA"))]
    for name in names:  # nothing is claimed of the naive one's time: its tables outgrow the cache on the way
        figures.append(_exponent(rounds, f"{name}, s", *(() if name == "naive" else (1.85, 2.15))))
    for name in names:
        high = 0.3 if name == "tiled" else None
        figures.append(_exponent(rounds, f"{name}, bytes beyond the output", high=high))
    return figures


def _of_causal(found: dict[str, dict]) -> list[Figure]:
    rounds = _rounds(found)
    last = rounds[LARGEST]
    return [
        Figure("n = 8192: time of causal SDPA ÷ window 256", _ratio(last, "causal SDPA", "window 256"), low=5),
        Figure("n = 8192: time of causal SDPA ÷ chunked linear", _ratio(last, "causal SDPA", "chunked linear"), low=8),
        _exponent(rounds, "causal SDPA, s", 1.85, 2.15),
        _exponent(rounds, "window 256, s", 0.7, 1.3),
        _exponent(rounds, "chunked linear, s", 0.7, 1.3),
    ]


def _of_sparse(found: dict[str, dict]) -> list[Figure]:
    figures = []
    for rounds in _rounds(found).values():
        kept = rounds[0]["kept"]
        ratio = _ratio(rounds, "block-sparse", "dense tiled") / kept
        high = 1.3 if 0.08 < kept < 0.12 else None
        name = f"n = 8192, {kept:.0%} kept: time of block-sparse ÷ (dense tiled · kept)"
        figures.append(Figure(name, ratio, high=high))
    return figures


PARTS = {
    "machine": Part(lambda: {"roofline": _machine}, _of_machine),
    "numpy": Part(lambda: _points(_numpy, (2048, LARGEST)), _of_numpy),
    "dense": Part(lambda: _points(_dense, SIZES), _of_dense),
    "causal": Part(lambda: _points(_causal, CAUSAL_SIZES), _of_causal),
    "sparse": Part(lambda: _points(_sparse, (0.05, 0.1, 0.2, 0.5)), _of_sparse),
}
