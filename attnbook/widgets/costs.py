"""The cost calculator: what attention of four kinds costs, beside the rest of the model, at any length of text.

The page computes for itself (costs.js); Python recomputes `costs`, `times`, `share` and `crossover` with
`attnbook.costs` whenever an input changes.
"""

from dataclasses import asdict
from types import MappingProxyType

from traitlets import observe

from attnbook.costs import KINDS, MACHINES, Machine, attention_cost, crossing, layer_cost, roofline_time

from ._base import Count, Explorer, Name, Number, Result, _Input, _short

LONGEST = 2**24
MEASURES = ("flops", "bytes", "memory", "time")
SIZES = ("n", "d_k", "n_heads", "n_layers", "batch", "bytes_per")
OPTIONS = ("causal", "fused", "window", "kept", "chunk")
INSTEAD = "n, d_k, n_heads, n_layers, batch, bytes_per, causal, fused, window, kept, chunk, machine or measure"


class _Switch(_Input):
    """True or False."""

    def validate(self, obj, value):
        if not isinstance(value, bool):
            raise self.refuse("True or False", _short(value))
        return value


class _Width(Count):
    """The bytes of a number."""

    def __init__(self, default_value, *, help: str):
        super().__init__(default_value, low=1, high=4, help=help)

    def validate(self, obj, value):
        number = super().validate(obj, value)
        if number == 3:
            raise self.refuse(self._expected(), _short(value))
        return number

    def _expected(self) -> str:
        return "1, 2 or 4"


class _Machine(_Input):
    """A name of attnbook.costs.MACHINES, or a Machine of one's own; the browser gets and sends its fields."""

    def __init__(self, help: str):
        super().__init__(MACHINES["H100 SXM"], help=help)
        self.tag(to_json=lambda machine, _: asdict(machine), from_json=lambda fields, _: fields)

    def validate(self, obj, value):
        if isinstance(value, str) and value in MACHINES:
            return MACHINES[value]
        fields = asdict(value) if isinstance(value, Machine) else value
        if not isinstance(fields, dict) or set(fields) != {"name", "flops", "bandwidth", "source"}:
            raise self.refuse(f"{', '.join(MACHINES)} or a Machine", _short(value))
        speeds = [fields["flops"], fields["bandwidth"]]
        right = [isinstance(x, (int, float)) and not isinstance(x, bool) and 1 <= x <= 1e24 for x in speeds]
        if not (all(right) and isinstance(fields["name"], str) and isinstance(fields["source"], str)):
            raise self.refuse("a Machine with a name, and speeds from 1 to 1e24 a second", _short(value))
        return Machine(**fields)


class CostExplorer(Explorer):
    """FLOPs, bytes and time of full, window, sparse and linear attention, and of projections and MLP beside them.

    n           tokens, 16 to 2²⁴
    d_k         the width of a head, 1 to 1024; d_model is n_heads · d_k
    n_heads     1 to 256;  n_layers 1 to 256;  batch 1 to 1024
    bytes_per   bytes of a number: 1, 2 or 4
    machine     "H100 SXM", "H200 SXM", "A100 SXM", "laptop CPU", or a Machine, as `attnbook.bench.roofline` measures
    causal, fused, window, kept, chunk   as in `attnbook.costs.attention_cost`
    measure     what the picture shows: "flops", "bytes" (moved), "memory" (of tables and the like) or "time"

    All can be set and observed. From them follow

    costs       {"full", "window", "sparse", "linear", "rest": Cost}; "rest" is the projections and the MLP
    times       {the same: Time(seconds, bound)} on the machine, by the roofline
    share       what part of full attention and the rest together is full attention: {"flops", "bytes", "time"}
    crossover   up to this n full attention costs no more of `measure` than the rest; None if at every n that can be

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "costs"
    inputs = (*SIZES, *OPTIONS, "machine", "measure")

    n = Count(4096, low=16, high=LONGEST, help="tokens")
    d_k = Count(64, low=1, high=1024, help="the width of a head")
    n_heads = Count(16, low=1, high=256, help="heads")
    n_layers = Count(24, low=1, high=256, help="layers")
    batch = Count(1, low=1, high=1024, help="texts at once")
    bytes_per = _Width(2, help="bytes of a number")
    causal = _Switch(False, help="whether a token sees itself and earlier ones alone")
    fused = _Switch(True, help="whether the tables stay in fast memory")
    window = Count(256, low=1, high=LONGEST, help="how many of the nearest keys window attention sees")
    kept = Number(0.1, above=0, high=1, help="the share of the cells that sparse attention computes")
    chunk = Count(64, low=1, high=4096, help="tokens in a chunk of causal linear attention")
    machine = _Machine(help="what it runs on")
    measure = Name(MEASURES, help="what the picture shows")

    costs = Result(INSTEAD, "what each kind of attention and the rest cost")
    times = Result(INSTEAD, "how long each takes at least, and what decides")
    share = Result(INSTEAD, "full attention's part of the whole layer")
    crossover = Result(INSTEAD, "the n up to which full attention costs no more than the rest")

    def __init__(self, n=4096, d_k=64, n_heads=16, n_layers=24, batch=1, bytes_per=2, machine="H100 SXM", **kwargs):
        sizes = {"n": n, "d_k": d_k, "n_heads": n_heads, "n_layers": n_layers, "batch": batch, "bytes_per": bytes_per}
        super().__init__(**sizes, machine=machine, **kwargs)
        self._compute()

    @observe(*inputs)
    def _compute(self, _change=None):
        found = {kind: self._cost(kind, self.n) for kind in (*KINDS, "rest")}
        times = {kind: roofline_time(cost, self.machine) for kind, cost in found.items()}
        full, rest = found["full"], found["rest"]
        share = {name: getattr(full, name) / (getattr(full, name) + getattr(rest, name)) for name in ("flops", "bytes")}
        share["time"] = times["full"].seconds / (times["full"].seconds + times["rest"].seconds)
        first = crossing(lambda n: self._of_measure("full", n), lambda n: self._of_measure("rest", n), high=LONGEST)
        self._publish(
            costs=MappingProxyType(found),
            times=MappingProxyType(times),
            share=MappingProxyType(share),
            crossover=None if first is None else first - 1,
        )

    def _cost(self, kind: str, n: int):
        sizes = {name: getattr(self, name) for name in SIZES if name not in ("n", "d_k")}
        if kind == "rest":
            return layer_cost(n, self.n_heads * self.d_k, **sizes).rest
        return attention_cost(n, self.d_k, kind=kind, **sizes, **{name: getattr(self, name) for name in OPTIONS})

    def _of_measure(self, kind: str, n: int) -> float:
        cost = self._cost(kind, n)
        return roofline_time(cost, self.machine).seconds if self.measure == "time" else getattr(cost, self.measure)

    def _summary(self) -> str:
        sizes = f"n={self.n}, d_k={self.d_k}, n_heads={self.n_heads}, n_layers={self.n_layers}, batch={self.batch}"
        return f"{sizes}, bytes_per={self.bytes_per}, {self.machine.name}"
