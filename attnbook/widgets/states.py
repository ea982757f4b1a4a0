"""The state explorer: pairs of key and value written into one matrix, one by one, and read back with interference.

The page does its own arithmetic (states.js); Python recomputes `state`, `read`, `errors` and `parts` with `State` of
attnbook.efficient.linear whenever an input changes. Keys and values are made up.
"""

import numpy as np
from traitlets import TraitError, observe, validate

from attnbook.efficient.linear import State

from ._base import Count, Explorer, Name, Number, Result
from .qkv import default_vectors

LETTERS = "ABCDEFGHIJKL"
MOST_PAIRS = len(LETTERS)
WIDEST = 16  # d
WIDTH = 4  # d_v
ROUNDS = 4  # how often each pair can be written
RULES = ("sum", "decay", "delta")
DIRECTIONS = ("one-hot", "random", "similar")
INSTEAD = "pairs, d, directions, rule, decay, beta, written, query or seed"


class StateExplorer(Explorer):
    """A state S (d, 4) of linear attention without feature map or normaliser, into which pairs are written.

    pairs        how many pairs of key and value there are, 1 to 12, called A, B, C …
    d            the width of the keys, 2 to 16; values have 4 numbers. All keys have length 1
    rule         how a pair is written: "sum", S + k vᵀ; "decay", decay · S + k vᵀ; "delta", S + β k (v - kᵀS)ᵀ
    decay        what is kept of the past at each write, in (0, 1]; counts if rule is "decay"
    beta         the strength of the correction, 0 to 2; counts if rule is "delta"
    directions   the keys: "one-hot" (at right angles while pairs ≤ d, then they come again), "random" or "similar",
                 which share a direction
    written      how many writes are done. After the last pair the first is written again, in up to 4 rounds
    query        the pair whose key is asked for, by index
    seed         other random keys and other values, 0 to 999

    All of them can be set and observed; those that belong together by `set`. From them follow

    state    S (d, 4) after these writes
    read     what the asked key finds, kᵀS (4,)
    errors   |kᵀS - v| / |v| of every pair that was written, in their order: 0 is a perfect memory
    parts    (pairs, 4): what each pair's writes add to `read`, which is their sum

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    (Schlag et al., 2021, sections 3.2 and 4.)
    """

    module = "states"
    inputs = ("pairs", "d", "rule", "decay", "beta", "directions", "written", "query", "seed")

    pairs = Count(6, low=1, high=MOST_PAIRS, help="how many pairs of key and value")
    d = Count(4, low=2, high=WIDEST, help="the width of a key")
    rule = Name(RULES, help="how a pair is written")
    decay = Number(0.9, above=0, high=1, help="what is kept of the past at each write")
    beta = Number(1.0, low=0, high=2, help="the strength of the correction")
    directions = Name(DIRECTIONS, help="how the keys lie to each other")
    written = Count(0, low=0, high=ROUNDS * MOST_PAIRS, help="how many writes are done")
    query = Count(0, low=0, high=MOST_PAIRS - 1, help="the pair whose key is asked for")
    seed = Count(0, low=0, high=999, help="other keys and values")

    state = Result(INSTEAD, "the state after these writes")
    read = Result(INSTEAD, "what the asked key finds")
    errors = Result(INSTEAD, "the error of every pair that was written")
    parts = Result(INSTEAD, "what each pair adds to what is read")

    def __init__(
        self, pairs=6, d=4, rule="sum", decay=0.9, beta=1.0, directions="random", written=0, query=0, seed=0, **kwargs
    ):
        given = dict(pairs=pairs, d=d, rule=rule, decay=decay, beta=beta, directions=directions, written=written)
        super().__init__(**given, query=query, seed=seed, **kwargs)
        self._compute()

    @validate("written")
    def _pairs_are_there(self, proposal):
        most = ROUNDS * self.pairs
        if proposal["value"] > most:
            raise TraitError(f"written must be an integer from 0 to {most}, {ROUNDS} rounds, got {proposal['value']}")
        return proposal["value"]

    @validate("query")
    def _query_is_there(self, proposal):
        if proposal["value"] >= self.pairs:
            raise TraitError(f"query must be an integer from 0 to {self.pairs - 1}, got {proposal['value']}")
        return proposal["value"]

    @observe(*inputs)
    def _compute(self, _change=None):
        if self.written > ROUNDS * self.pairs or self.query >= self.pairs:  # fewer pairs than there were
            self.set(written=min(self.written, ROUNDS * self.pairs), query=min(self.query, self.pairs - 1))
            return
        keys, values = key_vectors(self.pairs, self.d, self.directions, self.seed), value_vectors(self.pairs, self.seed)
        kept = self.decay if self.rule == "decay" else None
        beta = self.beta if self.rule == "delta" else None
        state = State.empty(self.d, WIDTH)
        parts = np.zeros((self.pairs, WIDTH))
        for time in range(self.written):
            pair = time % self.pairs
            before = state.kv * (kept or 1)
            state = state.write(keys[pair], values[pair], decay=kept, beta=beta)
            parts = parts * (kept or 1)
            parts[pair] += keys[self.query] @ (state.kv - before)
        read = lambda key: state.read(key, normalise=False)  # noqa: E731
        known = min(self.written, self.pairs)
        off = np.array([read(key) for key in keys[:known]]).reshape(known, WIDTH) - values[:known]
        self._publish(
            state=state.kv,
            read=read(keys[self.query]),
            errors=np.linalg.norm(off, axis=1) / np.linalg.norm(values[:known], axis=1),
            parts=parts,
        )

    def _summary(self) -> str:
        number = {"decay": f" {self.decay:g}", "delta": f" {self.beta:g}"}.get(self.rule, "")
        return (f"{self.pairs} pairs, d={self.d}, {self.directions} keys, rule={self.rule}{number}, "
                f"{self.written} written")  # fmt: skip


def key_vectors(pairs: int, d: int, directions: str, seed: int = 0) -> np.ndarray:
    """The keys (pairs, d), each of length 1; the same on the page."""
    if directions == "one-hot":
        return np.eye(d)[np.arange(pairs) % d]
    keys = _unit(default_vectors(list(LETTERS[:pairs]), d, "k", seed=seed))
    return keys if directions == "random" else _unit(keys + np.full(d, d**-0.5))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; one of zeros points along the first axis."""
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return np.where(length > 1e-9, x / np.where(length > 1e-9, length, 1), np.eye(x.shape[1])[0])


def value_vectors(pairs: int, seed: int = 0) -> np.ndarray:
    """The values (pairs, 4); the same on the page."""
    return default_vectors(list(LETTERS[:pairs]), WIDTH, "v", seed=seed)
