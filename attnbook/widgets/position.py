"""The position explorer: what each way of telling attention the order does to one score, distance by distance.

The page computes for itself (position.js); Python recomputes `scores` with `attnbook.positions` whenever an input
changes.
"""

import functools

import numpy as np
from traitlets import observe

from attnbook import functional, positions

from ._base import Count, Explorer, Name, Number, Result
from .qkv import default_vectors

SCHEMES = ("none", "sinusoidal", "learned", "rope", "alibi")
FARTHEST, LARGEST_SHIFT, WIDEST, N_HEADS = 64, 200, 128, 8
WORD = "cat"
TABLE = 128  # rows of the learned table
INSTEAD = "scheme, distance, base, d, shift or head"


def content(d: int) -> np.ndarray:
    """The vector of the one word that every position holds, (d,): made up, and its first components at a smaller d."""
    return default_vectors([WORD], d, "k")[0]


@functools.cache
def untrained_table() -> np.ndarray:
    """What a learned table holds before it has learned: random rows, as long as the word's vector; (128, 128)."""
    return default_vectors([f"position {p}" for p in range(TABLE)], WIDEST, "v")


def scores_by_distance(scheme: str, base: float, d: int, shift: int, head: int) -> np.ndarray:
    """The score of a query at position shift + 64 with the same word at each distance 0 … 64 before it; shape (65,).

    W_Q and W_K are left out, so that nothing but the scheme makes the scores differ: the query and every key are
    the same vector x, with its position's vector added or turned by its position's angles. NaN where a learned
    table has no row for the query or the key.
    """
    x = np.tile(content(d), (FARTHEST + 1, 1))  # row r stands at position shift + r; the query is the last
    if scheme == "sinusoidal":
        x = x + positions.sinusoidal(FARTHEST + 1, d, shift, base)
    elif scheme == "learned":
        x = x + _learned(d, shift)
    elif scheme == "rope":
        x = positions.rope(x, shift, base)
    scores = functional.scaled_scores(x[-1:], x)[0]
    if scheme == "alibi":
        scores = scores + positions.alibi(N_HEADS, 1, FARTHEST + 1)[head - 1, 0]
    return scores[::-1]


def _learned(d, shift):
    rows = np.full((FARTHEST + 1, d), np.nan)
    n = min(max(TABLE - shift, 0), len(rows))
    rows[:n] = positions.learned(untrained_table()[:, :d], n, min(shift, TABLE))
    return rows


class PositionExplorer(Explorer):
    """One word at every position; the score of a query with the key at each distance, under five schemes.

    scheme     "none", "sinusoidal", "learned" (an untrained table of 128 rows), "rope" (half-split pairs) or "alibi"
    distance   how far before the query the key in view stands, 0 to 64
    base       the slowest angle is base^(2/d - 1), about 1 / base at large d: 1 to 1e9; sinusoidal and rope use it
    d          the width of query and key, even, 2 to 128
    shift      moves query and keys together: the query stands at position shift + 64; 0 to 200
    head       which of ALiBi's 8 heads, 1 to 8: its slope is 2^-head

    All can be set and observed. From them follow `.scores` (65,), the score at each distance 0 … 64, NaN where the
    learned table has no row, and `.score`, the one at `distance`.

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "position"

    scheme = Name(SCHEMES, "rope", help="how positions are told apart")
    distance = Count(8, low=0, high=FARTHEST, help="how far before the query the key stands")
    base = Number(10_000.0, low=1.0, high=1e9, help="the slowest pair of components turns by base^(2/d - 1) a token")
    d = Count(32, low=2, high=WIDEST, step=2, help="the width of query and key")
    shift = Count(0, low=0, high=LARGEST_SHIFT, help="moves query and keys together")
    head = Count(4, low=1, high=N_HEADS, help="which of ALiBi's heads")

    scores = Result(INSTEAD, "the score at each distance 0 … 64")
    score = Result(INSTEAD, "the score at the chosen distance")

    def __init__(self, scheme="rope", distance=8, base=10_000.0, d=32, shift=0, head=4, **kwargs):
        super().__init__(scheme=scheme, distance=distance, base=base, d=d, shift=shift, head=head, **kwargs)
        self._compute()

    @property
    def slope(self) -> float:
        """What ALiBi's head takes off the score for each token of distance."""
        return float(positions.alibi_slopes(N_HEADS)[self.head - 1])

    @observe("scheme", "distance", "base", "d", "shift", "head")
    def _compute(self, _change=None):
        scores = scores_by_distance(self.scheme, self.base, self.d, self.shift, self.head)
        if self.scores is None or not np.array_equal(scores, self.scores, equal_nan=True):
            self._publish(scores=scores)
        self._publish(score=float(scores[self.distance]))

    def _summary(self) -> str:
        return f"{self.scheme}, distance={self.distance}, base={self.base:g}, d={self.d}, shift={self.shift}"
