"""What attention costs, by formula: FLOPs, bytes that move, bytes that are alive; and what a machine makes of them.

Counted are the products of matrices, a multiplication and an addition each (2 FLOPs); softmax, masks and norms are
left out, a few per cent. Every number is counted by hand in chapter 16. Plain arithmetic: integers stay integers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from operator import index
from typing import NamedTuple

KINDS = ("full", "window", "sparse", "linear")
BACKWARD = 2.5  # five products backward (one of them the scores, computed anew) against two forward
LONGEST = 2**30  # how far `crossing` looks


@dataclass(frozen=True)
class Cost:
    """FLOPs, bytes carried to and from slow memory, and bytes alive at the peak beyond inputs and output."""

    flops: float
    bytes: float
    memory: float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte carried (Williams, Waterman and Patterson, 2009)."""
        return self.flops / self.bytes

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other: work adds up, and what is alive is the larger of the two."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes, max(self.memory, other.memory))


@dataclass(frozen=True)
class Machine:
    """A machine's two speeds: `flops`, FLOPs a second at most, and `bandwidth`, bytes a second to slow memory."""

    name: str
    flops: float
    bandwidth: float
    source: str

    @property
    def ridge(self) -> float:
        """The intensity at which computing and carrying take equally long."""
        return self.flops / self.bandwidth


MACHINES = {
    machine.name: machine
    for machine in (
        Machine("H100 SXM", 990e12, 3.35e12, "NVIDIA's data sheet: bfloat16, half of the 1,979 with sparsity; HBM3"),
        Machine("H200 SXM", 990e12, 4.8e12, "NVIDIA's data sheet: bfloat16, half of the 1,979 with sparsity; HBM3e"),
        Machine("A100 SXM", 312e12, 2.039e12, "NVIDIA's data sheet, 80 GB: bfloat16, dense; HBM2e"),
        Machine("laptop CPU", 384e9, 51.2e9,
                "assumed: 4 cores at 3 GHz, 32 float32 FLOPs a cycle each (AVX2); two channels of DDR4-3200"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What a Transformer layer costs: attention, the four projections around it, and the MLP behind it."""

    attention: Cost
    projections: Cost
    mlp: Cost

    @property
    def rest(self) -> Cost:
        """Projections and MLP: what grows like n, and what attention has to outgrow."""
        return self.projections + self.mlp

    @property
    def total(self) -> Cost:
        return self.attention + self.rest


class Time(NamedTuple):
    """Seconds at least, and what decides: bound is "compute" or "memory"."""

    seconds: float
    bound: str


def attention_cost(
    n: int, d_k: int, n_heads: int = 1, batch: int = 1, n_layers: int = 1, bytes_per: int = 2, kind: str = "full",
    causal: bool = False, window: int = 256, kept: float = 0.1, chunk: int = 64, fused: bool = True,
    backward: bool = False,
) -> Cost:  # fmt: skip
    """What attention over n tokens costs, with q, k, v and out of shape (batch, n_heads, n, d_k) in each layer.

    bytes_per   bytes of a number: 1, 2 or 4 in practice
    kind        "full"; "window": the `window` nearest keys, each way or, causal, up to oneself; "sparse": the share
                `kept` of the cells, in blocks; "linear": queries meet a state of d_k × d_k, in chunks if causal
    causal      FLOPs of the cells that count alone: n(n + 1)/2 of the n² of "full"
    fused       the tables stay in fast memory, and q, k, v and out are carried once, which is the least there can be;
                otherwise scores and weights are written and read (of "full" even the masked cells)
    backward    the backward pass alone: 2.5 times the FLOPs (Dao, 2023, section 4.1)

    `memory` is that of one layer. Fused, it is a float32 log-sum-exp a row ("linear": a state a head).
    Raises TypeError or ValueError that names the argument.
    """
    n, d_k, heads = _count("n", n), _count("d_k", d_k), _count("n_heads", n_heads) * _count("batch", batch)
    n_layers, bytes_per = _count("n_layers", n_layers), _count("bytes_per", bytes_per)
    cells = _cells(kind, n, causal, _count("window", window), _share("kept", kept), _count("chunk", chunk))
    rows = n * d_k  # numbers in q, in k, in v, in out
    if kind == "linear":
        n_states = math.ceil(n / chunk) if causal else 1
        flops = 4 * cells * d_k + 4 * rows * d_k
        stored, states = 2 * cells if causal else 0, n_states * d_k**2
        alive = d_k**2 * bytes_per if fused else (stored + states) * bytes_per
    else:
        flops, stored, states = 4 * cells * d_k, n**2 if kind == "full" else cells, 0
        alive = 4 * n if fused else 2 * stored * bytes_per
    if not backward:
        carried = 4 * rows + (0 if fused else 4 * stored + 2 * states)
        lse = 0
    else:  # reads q, k, v, out, d_out, writes d_q, d_k, d_v; reads A twice, dA once, dS twice, writes dA and dS
        carried = 8 * rows + (0 if fused else 7 * stored + 4 * states)
        flops, lse = BACKWARD * flops, 4 * n if fused and kind != "linear" else 0
        alive = 2 * alive if fused else 1.5 * alive
    moved = carried * bytes_per + lse
    return Cost(n_layers * heads * flops, n_layers * heads * moved, heads * alive)


def _cells(kind: str, n: int, causal: bool, window: int, kept: float, chunk: int) -> float:
    """The cells of one head's table that are computed."""
    square = n * (n + 1) // 2 if causal else n**2
    if kind == "full":
        return square
    if kind == "sparse":
        return kept * square
    if kind == "window":
        width = min(window, n)
        below = n * width - width * (width - 1) // 2  # row i has min(i + 1, width)
        return below if causal else 2 * below - n
    if kind == "linear":  # causal: the lower triangle of each chunk, and of what is left at the end
        last = n % chunk
        return (n // chunk) * (chunk * (chunk + 1) // 2) + last * (last + 1) // 2 if causal else 0
    raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def layer_cost(
    n: int, d_model: int, n_heads: int = 1, batch: int = 1, n_layers: int = 1, bytes_per: int = 2,
    mlp_ratio: float = 4, backward: bool = False, **attention,
) -> Layer:  # fmt: skip
    """What the layers of a Transformer cost: attention (with d_k = d_model / n_heads), projections and MLP.

    mlp_ratio   the MLP is mlp_ratio · d_model wide
    attention   more for `attention_cost`: kind, causal, window, kept, chunk, fused

    The projections are 4 matrices of d_model², 8·n·d_model² FLOPs; the MLP has 2 · mlp_ratio of them. Each product
    carries its matrix and what goes in and comes out, once; backward has two products for one, hence twice both.
    Raises TypeError or ValueError that names the argument.
    """
    n, d_model, n_heads = _count("n", n), _count("d_model", d_model), _count("n_heads", n_heads)
    if d_model % n_heads:
        raise ValueError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
    sizes = {"n_heads": n_heads, "batch": batch, "n_layers": n_layers, "bytes_per": bytes_per}
    inside = attention_cost(n, d_model // n_heads, **sizes, backward=backward, **attention)
    ratio = _positive("mlp_ratio", mlp_ratio)
    times = n_layers * (2 if backward else 1)

    def products(matrices: float, numbers: float, memory: float) -> Cost:
        """`matrices` of d_model² weights, `numbers` · d_model for each token in and out."""
        flops = 2 * batch * n * matrices * d_model**2
        moved = (matrices * d_model**2 + batch * n * numbers * d_model) * bytes_per
        return Cost(times * flops, times * moved, memory)

    wide = batch * n * d_model * bytes_per
    # In and out of each matrix: 4 · (1 + 1) for the projections, 1 + ratio and ratio + 1 for the MLP.
    return Layer(inside, products(4, 8, 3 * wide), products(2 * ratio, 2 * (1 + ratio), ratio * wide))


def crossover_length(d_model: int, mlp_ratio: float = 4, causal: bool = False) -> float:
    """The n from which attention's FLOPs exceed those of the projections and the MLP: 6·d_model at the usual ratio 4.

    There 4·n²·d_model = (8 + 4·mlp_ratio)·n·d_model², so n = (2 + mlp_ratio)·d_model; causal, where
    n + 1 stands for 2n, it is twice that less 1. The number of heads does not matter. Raises as `layer_cost` does.
    """
    n = (2 + _positive("mlp_ratio", mlp_ratio)) * _count("d_model", d_model)
    return 2 * n - 1 if causal else n


def crossing(above: Callable[[int], float], below: Callable[[int], float], low: int = 1, high: int = LONGEST):
    """The least n from `low` to `high` at which above(n) > below(n), or None if there is none up to `high`.

    By halving; so it has to stay above from there on, as what grows faster does.
    """
    if not above(high) > below(high):
        return None
    low -= 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if above(middle) > below(middle) else (middle, high)
    return high


def roofline_time(cost: Cost, machine: Machine) -> Time:
    """The least time the machine can take: it computes and carries at once, and the slower one decides.

    max(FLOPs / peak, bytes / bandwidth), the roofline of Williams, Waterman and Patterson (2009); both at once count
    as "compute". Returns Time(seconds, bound). Raises TypeError if `cost` or `machine` is none.
    """
    for name, value, wanted in (("cost", cost, Cost), ("machine", machine, Machine)):
        if not isinstance(value, wanted):
            raise TypeError(f"{name} must be a {wanted.__name__}, got {value!r}")
    computing, carrying = cost.flops / machine.flops, cost.bytes / machine.bandwidth
    return Time(computing, "compute") if computing >= carrying else Time(carrying, "memory")


def _count(name: str, value) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return number


def _positive(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
    return value


def _share(name: str, value) -> float:
    if _positive(name, value) > 1:
        raise ValueError(f"{name} must be a share, above 0 and at most 1, got {value!r}")
    return value
