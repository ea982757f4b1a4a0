"""The mask explorer: paint who may attend to whom, and see what each convention and a block-wise kernel make of it.

The page does its own arithmetic (maskeditor.js); Python recomputes `empty_rows`, `kept`, `saved` and `density` with
`attnbook.masks` whenever the mask or the block changes.
"""

import numpy as np
from traitlets import TraitError, observe

from attnbook import masks

from ._base import Array, Count, Explorer, Labels, Result, _short

LONGEST, LARGEST_BLOCK = 32, 16
# The masks that go by a name, with the numbers that the explorer starts them with. `recognised` in maskeditor.js
# finds the name again from the mask alone, so none travels.
PRESETS = {
    "full": lambda n_q, n_kv: np.ones((n_q, n_kv), dtype=bool),
    "causal": masks.causal,
    "padding": lambda n_q, n_kv: np.broadcast_to(masks.padding(max(1, n_kv - 3), n_kv), (n_q, n_kv)),
    "prefix": lambda n_q, n_kv: masks.causal(n_q, n_kv) | masks.padding(min(3, n_kv), n_kv),
    "local": lambda n_q, n_kv: masks.local(n_q, n_kv, 3),
    "dilated": lambda n_q, n_kv: masks.dilated(n_q, n_kv, 3, 2),
    "global": lambda n_q, n_kv: masks.globally(n_q, n_kv, 1),
    "random": lambda n_q, n_kv: masks.random(n_q, n_kv, min(3, n_kv)),
}
INSTEAD = "mask or block"


class _Mask(Array):
    """A preset's name, which takes the present shape, or booleans."""

    def __init__(self, help: str):
        super().__init__(masks.causal(2), sizes=((1, LONGEST),) * 2, dtype=bool, help=help)

    def validate(self, obj, value):
        if isinstance(value, str):
            if value not in PRESETS:
                raise self.refuse(self._expected(), repr(value))
            value = PRESETS[value](*obj.mask.shape)
        elif "bool" not in str(getattr(value, "dtype", "bool")):  # a float mask is a common mistake: say so shortly
            raise self.refuse(self._expected(), f"dtype {value.dtype}")
        return super().validate(obj, value)

    def _expected(self) -> str:
        return f"{', '.join(PRESETS)} or booleans (n_q, n_kv), 1 to {LONGEST} each way, True = may attend"


class MaskExplorer(Explorer):
    """A mask of up to 32 × 32 cells to paint, start from a preset, combine, and read in every convention.

    mask       a preset's name ("full", "causal", "padding", "prefix", "local", "dilated", "global", "random") or
               booleans (n_q, n_kv), True = may attend; rows are queries, columns are keys
    n, n_kv    how many queries and keys a preset gets; 12 and as many unless given
    block      the side of the blocks that a block-wise kernel computes or skips, 1 to 16
    tokens     names for the keys and, where the ends are aligned, for the queries; a list, or a text to split on spaces

    `.mask` (also by a name, which keeps the shape), `.block` and `.tokens` can be set and observed. From them follow

    empty_rows   the queries that may attend to nothing, a tuple of their indices
    kept         boolean (⌈n_q / block⌉, ⌈n_kv / block⌉): blocks with at least one True, which have to be computed
    saved        the share of the dense FLOPs that a kernel saves by skipping the other blocks, 0 to 1
    density      the share of the cells that are True, 0 to 1: what is left if not a cell is computed in vain

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "maskeditor"

    mask = _Mask("who may attend to whom (n_q, n_kv), True = may attend")
    block = Count(4, low=1, high=LARGEST_BLOCK, help="the side of a block of a block-wise kernel")
    tokens = Labels(help="names for the keys; a token without a name goes by its index", most=LONGEST)

    empty_rows = Result(INSTEAD, "the queries that may attend to nothing")
    kept = Result(INSTEAD, "which blocks have to be computed")
    saved = Result(INSTEAD, "the share of the dense FLOPs that skipping blocks saves")
    density = Result(INSTEAD, "the share of the cells that are True")

    def __init__(self, n=None, mask="causal", block=4, tokens=None, n_kv=None, **kwargs):
        names = [] if tokens is None else tokens.split() if isinstance(tokens, str) else tokens
        names = MaskExplorer.tokens.validate(self, names)
        if isinstance(mask, str):
            n_kv = _length("n_kv", n_kv, len(names) or _length("n", n, 12))
            n_q = _length("n", n, n_kv)
            mask = PRESETS[mask](n_q, n_kv) if mask in PRESETS else mask
        elif n is not None or n_kv is not None:
            shape = np.shape(mask)
            if shape != (n if n is not None else shape[0], n_kv if n_kv is not None else shape[-1]):
                raise TraitError(f"n and n_kv must be left out or fit the mask, of shape {shape}, got {n} and {n_kv}")
        super().__init__(mask=mask, block=block, tokens=names, **kwargs)
        if names and len(names) != self.mask.shape[1]:
            raise TraitError(f"tokens must be one for each of the {self.mask.shape[1]} keys, got {len(names)}")
        self._compute()

    @observe("mask", "block")
    def _compute(self, _change=None):
        kept = masks.kept_blocks(self.mask, self.block)
        computed = np.kron(kept, np.ones((self.block, self.block), dtype=bool))
        computed = computed[: self.mask.shape[0], : self.mask.shape[1]]  # blocks at the edge may be smaller
        self._publish(
            empty_rows=tuple(np.flatnonzero(~self.mask.any(axis=1)).tolist()),
            kept=kept,
            saved=float((~computed).mean()),
            density=float(self.mask.mean()),
        )

    def _summary(self) -> str:
        n_q, n_kv = self.mask.shape
        return f"{n_q} queries, {n_kv} keys, block={self.block}"


def _length(name: str, n, default: int) -> int:
    if n is None:
        return default
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= LONGEST:
        raise TraitError(f"{name} must be an integer from 1 to {LONGEST}, got {_short(n)}")
    return int(n)
