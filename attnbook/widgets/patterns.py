"""The pattern explorer: compose a sparse pattern, or paint one; see what it costs and who hears whom after k layers.

The page does its own arithmetic (patterns.js); Python recomputes `kept`, `cost`, `density`, `hops`, `reach` and
`connected` with `attnbook.masks` whenever the pattern, the block or the number of layers changes.
"""

import re

import numpy as np
from traitlets import Bool, TraitError, observe

from attnbook import masks

from ._base import Array, Count, Explorer, Name, Result, _Input, _short

SHORTEST, LONGEST, LARGEST_BLOCK, MOST_LAYERS = 2, 32, 8, 8
# The parts that a pattern is made of, each with its numbers: (name, least, most, start).
PARTS = {
    "local": (("window", 1, 16, 2),),
    "dilated": (("window", 1, 8, 3), ("step", 1, 8, 2)),
    "strided": (("stride", 1, 16, 4),),
    "block": (("size", 1, 16, 4),),
    "global": (("tokens", 1, 8, 1),),
    "random": (("per_row", 1, 8, 2), ("seed", 0, 99, 0)),
}
KNOWN = {
    "longformer": "local 3 + global 1",  # Beltagy et al. (2020), section 3.1
    "bigbird": "local 2 + global 1 + random 2",  # Zaheer et al. (2020), section 2
    "sparse transformer": "local 4 + strided 4",  # Child et al. (2019), section 4.2; theirs is causal
}
PAINTED = "painted"
INSTEAD = "mask, patterns, causal, unit, block or layers"


def part_mask(name: str, numbers: tuple[int, ...], n: int) -> np.ndarray:
    """One part of a pattern as a boolean mask (n, n), True = may attend."""
    distance = np.abs(np.arange(n)[:, None] - np.arange(n))
    chunk = np.arange(n) // numbers[0]
    return {
        "local": lambda: masks.local(n, n, *numbers),
        "dilated": lambda: masks.dilated(n, n, *numbers),
        "strided": lambda: distance % numbers[0] == 0,
        "block": lambda: chunk[:, None] == chunk,
        "global": lambda: masks.globally(n, n, *numbers),
        "random": lambda: masks.random(n, n, *numbers),
    }[name]()


def pattern_mask(patterns: str, n: int, *, causal: bool = False, unit: str = "token", block: int = 2) -> np.ndarray:
    """All parts of a pattern, joined by "either may", as a boolean mask (n, n).

    With unit="block" the numbers count blocks: the pattern is laid out on ⌈n / block⌉ of them, each whole.
    """
    side = block if unit == "block" else 1
    rows = -(-n // side)
    mask = np.zeros((rows, rows), dtype=bool)
    for name, numbers in parse(patterns):
        mask |= part_mask(name, numbers, rows)
    mask = np.kron(mask, np.ones((side, side), dtype=bool))[:n, :n]
    return mask & masks.causal(n) if causal else mask


def parse(patterns: str) -> list[tuple[str, tuple[int, ...]]]:
    """The parts of "local 3 + global 1" with their numbers, in the order of PARTS; a number left out is the start's.

    Raises ValueError (an unknown part, or numbers that it does not take).
    """
    found = {}
    text = KNOWN.get(patterns.strip().lower(), patterns)
    for piece in filter(None, (piece.strip() for piece in text.split("+"))):
        name, *numbers = piece.lower().split()
        if name not in PARTS:
            raise ValueError(f"an unknown part {_short(name)}")
        wanted = PARTS[name]
        if len(numbers) > len(wanted) or not all(re.fullmatch(r"\d{1,2}", number) for number in numbers):
            raise ValueError(f"{_short(piece)}, where {name} takes {' and '.join(each[0] for each in wanted)}")
        values = [int(number) for number in numbers] + [start for *_, start in wanted[len(numbers) :]]
        for value, (number, least, most, _) in zip(values, wanted, strict=True):
            if not least <= value <= most:
                raise ValueError(f"{_short(piece)}, where the {number} of {name} is from {least} to {most}")
        if name in found:
            raise ValueError(f"{name} twice")
        found[name] = tuple(values)
    return [(name, found[name]) for name in PARTS if name in found]


def spell(parts) -> str:
    return " + ".join(" ".join(map(str, (name, *numbers))) for name, numbers in parts)


def hops_of(mask: np.ndarray) -> np.ndarray:
    """In how many layers what is at key j gets to query i: 0 for its own (the residual stream), -1 for never."""
    n = len(mask)
    step = mask | np.eye(n, dtype=bool)
    hops = np.where(np.eye(n, dtype=bool), 0, -1)
    heard = np.eye(n, dtype=bool)
    for layer in range(1, n + 1):
        heard = step.astype(int) @ heard > 0
        hops[heard & (hops < 0)] = layer
    return hops


class _Mask(Array):
    def __init__(self, help: str):
        sizes = ((SHORTEST, LONGEST),) * 2
        super().__init__(pattern_mask("local", SHORTEST), sizes=sizes, dtype=bool, help=help)

    def validate(self, obj, value):
        if "bool" not in str(getattr(value, "dtype", "bool")):
            raise self.refuse(self._expected(), f"dtype {value.dtype}")
        mask = super().validate(obj, value)
        if mask.shape[0] != mask.shape[1]:
            raise self.refuse(self._expected(), f"shape {mask.shape}")
        return mask

    def _expected(self) -> str:
        return f"booleans (n, n), n from {SHORTEST} to {LONGEST}, True = may attend"


class _Patterns(_Input):
    """Parts joined by "+", spelled with all their numbers, or "painted"."""

    def validate(self, obj, value):
        names = f"parts such as 'local 3 + global 1' ({', '.join(PARTS)}), {', '.join(KNOWN)} or {PAINTED}"
        if not isinstance(value, str):
            raise self.refuse(names, _short(value))
        if value.strip() == PAINTED:
            return PAINTED
        try:
            return spell(parse(value))
        except ValueError as problem:
            raise self.refuse(names, problem) from None


class PatternExplorer(Explorer):
    """A sparse self-attention pattern of up to 32 tokens: made of parts or painted, its cost, and its reach in layers.

    n          how many tokens, 2 to 32
    patterns   parts joined by "+", each with its numbers (or without, for usual ones): "local w" (nearer than w),
               "dilated w step", "strided s" (every s-th), "block b" (chunks of b), "global g" (the first g tokens),
               "random r seed"; or "longformer", "bigbird", "sparse transformer"
    block      the side of the blocks that a block-wise kernel computes or skips, 1 to 8
    layers     how many layers are stacked, 1 to 8
    causal     whether nobody may attend to later tokens
    unit       "token", or "block": the patterns' numbers then count blocks, and whole blocks are kept
    mask       booleans (n, n) instead of patterns, True = may attend; rows are queries, columns are keys

    All but n can be set and observed. A mask that is set makes `patterns` "painted". From them follow

    kept       boolean (⌈n / block⌉, ⌈n / block⌉): blocks with at least one True, which have to be computed
    cost       the share of the dense FLOPs that a block-wise kernel does in a layer, 0 to 1
    density    the share of the cells that are True, 0 to 1
    hops       integers (n, n): in how many layers what is at key j reaches query i; 0 for its own, -1 for never
    reach      boolean (n, n): who has heard whom after `layers` layers with residual connections
    connected  after how many layers each query has heard all tokens (causal: all up to itself), or None

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "patterns"
    inputs = ("mask", "patterns", "causal", "unit", "block", "layers")

    mask = _Mask("who may attend to whom in one layer (n, n), True = may attend")
    patterns = _Patterns("local 2", help="the parts of the pattern, or painted")
    causal = Bool(False, help="nobody attends to later tokens").tag(sync=True)
    unit = Name(("token", "block"), help="what the patterns' numbers count: token or block")
    block = Count(2, low=1, high=LARGEST_BLOCK, help="the side of a block of a block-wise kernel")
    layers = Count(1, low=1, high=MOST_LAYERS, help="how many layers are stacked")

    kept = Result(INSTEAD, "which blocks have to be computed")
    cost = Result(INSTEAD, "the share of the dense FLOPs that a block-wise kernel does")
    density = Result(INSTEAD, "the share of the cells that are True")
    hops = Result(INSTEAD, "in how many layers a key reaches a query")
    reach = Result(INSTEAD, "who has heard whom after so many layers")
    connected = Result(INSTEAD, "after how many layers all is heard")

    def __init__(self, n=None, patterns=None, block=2, layers=1, causal=False, unit="token", mask=None, **kwargs):
        given = dict(block=block, layers=layers, causal=causal, unit=unit)
        if mask is None:
            n = _length(16 if n is None else n)
            patterns = PatternExplorer.patterns.validate(self, "local 3 + global 1" if patterns is None else patterns)
            if patterns == PAINTED:
                raise TraitError("mask must be given where patterns is 'painted'")
            block = PatternExplorer.block.validate(self, block)
            unit = PatternExplorer.unit.validate(self, unit)
            mask = pattern_mask(patterns, n, causal=bool(causal), unit=unit, block=block)
        elif patterns is not None or n is not None:
            raise TraitError("mask comes without n and patterns: they say what the mask already says")
        super().__init__(mask=mask, patterns=PAINTED if patterns is None else patterns, **given, **kwargs)
        self._compute()

    def _made(self) -> np.ndarray:
        """The mask that the other inputs ask for."""
        if self.patterns == PAINTED:
            return self.mask & masks.causal(len(self.mask)) if self.causal else self.mask
        return pattern_mask(self.patterns, len(self.mask), causal=self.causal, unit=self.unit, block=self.block)

    @observe("mask")
    def _mask_is_painted(self, _change):
        """A mask from Python is taken as it is; what else was asked for gives way."""
        if self.causal and (self.mask & ~masks.causal(len(self.mask))).any():
            self.set(causal=False, patterns=PAINTED)
        elif not np.array_equal(self.mask, self._made()):
            self.patterns = PAINTED
        self._compute()

    @observe("patterns", "causal", "unit", "block")
    def _mask_follows(self, _change):
        made = self._made()
        if np.array_equal(made, self.mask):
            self._compute()
        else:
            self.mask = made

    @observe("layers")
    def _compute(self, _change=None):
        mask, n = self.mask, len(self.mask)
        kept = masks.kept_blocks(mask, self.block)
        computed = np.kron(kept, np.ones((self.block, self.block), dtype=bool))[:n, :n]  # at the edge blocks are cut
        hops = hops_of(mask)
        wanted = hops[masks.causal(n)] if self.causal else hops
        self._publish(
            kept=kept,
            cost=float(computed.mean()),
            density=float(mask.mean()),
            hops=hops,
            reach=(hops >= 0) & (hops <= self.layers),
            connected=None if (wanted < 0).any() else int(wanted.max()),
        )

    def _summary(self) -> str:
        made = f"{self.patterns or 'nothing'}{', causal' if self.causal else ''}"
        return f"{len(self.mask)} tokens, {made}, unit={self.unit!r}, block={self.block}, layers={self.layers}"


def _length(n) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not SHORTEST <= n <= LONGEST:
        raise TraitError(f"n must be an integer from {SHORTEST} to {LONGEST}, got {_short(n)}")
    return int(n)
