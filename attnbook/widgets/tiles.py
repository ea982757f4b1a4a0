"""The tile stepper: tiled attention one tile at a time, what a row remembers, and the bytes moved to get there.

The page does its own arithmetic (tiles.js); Python recomputes `running`, `tile`, `steps`, `fast`, `bytes_tiled` and
`bytes_naive` with `attnbook.efficient.tiled` whenever an input changes. Queries, keys and values are made up.
"""

import math

import numpy as np
from traitlets import Bool, TraitError, observe, validate

from attnbook.efficient.tiled import Plan, Running, absorb

from ._base import Count, Explorer, Result, _short
from .qkv import default_vectors

SHORTEST, LONGEST = 2, 24
WIDTH = 4  # d_k and d_v
BYTES = 4  # of a float32
INSTEAD = "n, block_q, block_kv, causal, backward, step or row"


class TileExplorer(Explorer):
    """Attention of one head, d_k = d_v = 4, computed a tile of queries and keys at a time: forward or backward.

    n          how many tokens, 2 to 24: as many queries as keys
    block_q    how many queries a tile has, 1 to 24; the last tile may have fewer
    block_kv   how many keys
    causal     whether nobody may attend to later tokens; tiles of the future are skipped
    backward   whether the tiles are those of the backward pass, whose weights are computed anew
    step       how many tiles are done; 0 is before the first. Where there are fewer, it falls back to the last
    row        the query that is watched

    All of them can be set and observed; those that belong together by `set`. From them follow

    running      what is in fast memory of the row that is watched: a dict with the maximum "m", the sum "l" and the
                 output "o" (all relative to m, o not divided yet), and "out" = o / l; backward with the
                 log-sum-exp "lse", "share" = Σ d_out ∘ out, and the gradient "dq" so far
    tile         the tile that the last step read, (rows, columns) as slices; None at step 0
    steps        how many tiles there are
    fast         bytes in fast memory during that tile, of float32
    bytes_tiled  bytes that went to and from slow memory by now
    bytes_naive  bytes that the naive way moves in all, which writes and reads the whole table of scores

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    (Dao et al., 2022, algorithms 1 and 4, with the queries in the outer loop.)
    """

    module = "tiles"
    inputs = ("n", "block_q", "block_kv", "causal", "backward", "step", "row")

    n = Count(8, low=SHORTEST, high=LONGEST, help="how many queries and keys")
    block_q = Count(2, low=1, high=LONGEST, help="queries of a tile")
    block_kv = Count(2, low=1, high=LONGEST, help="keys of a tile")
    causal = Bool(False, help="nobody attends to later tokens").tag(sync=True)
    backward = Bool(False, help="the backward pass").tag(sync=True)
    step = Count(0, low=0, high=LONGEST**2, help="how many tiles are done")
    row = Count(0, low=0, high=LONGEST - 1, help="the query that is watched")

    running = Result(INSTEAD, "what is in fast memory of the row that is watched")
    tile = Result(INSTEAD, "the tile that the last step read")
    steps = Result(INSTEAD, "how many tiles there are")
    fast = Result(INSTEAD, "bytes in fast memory")
    bytes_tiled = Result(INSTEAD, "bytes moved so far")
    bytes_naive = Result(INSTEAD, "bytes that the naive way moves in all")

    def __init__(self, n=8, block_q=2, block_kv=2, causal=False, step=0, backward=False, row=0, **kwargs):
        given = dict(n=n, block_q=block_q, block_kv=block_kv, causal=causal, step=step, backward=backward, row=row)
        super().__init__(**given, **kwargs)
        self._compute()

    def _tiles(self) -> list[tuple[slice, slice]]:
        plan = Plan(self.causal, 1.0, self.block_q, self.block_kv, None)
        return [(rows, columns) for rows in plan.rows(self.n) for columns in plan.columns(rows, self.n, self.n)]

    @validate("step")
    def _step_is_there(self, proposal):
        most = len(self._tiles())
        if proposal["value"] > most:
            raise TraitError(f"step must be an integer from 0 to {most}, the number of tiles, got {proposal['value']}")
        return proposal["value"]

    @validate("row")
    def _row_is_there(self, proposal):
        if proposal["value"] >= self.n:
            raise TraitError(f"row must be an integer from 0 to {self.n - 1}, got {_short(proposal['value'])}")
        return proposal["value"]

    @observe("n", "block_q", "block_kv", "causal", "backward", "step", "row")
    def _compute(self, _change=None):
        tiles, n = self._tiles(), self.n
        if self.step > len(tiles) or self.row >= n:  # fewer than there were
            self.set(step=min(self.step, len(tiles)), row=min(self.row, n - 1))
            return
        done = tiles[: self.step]
        tile = done[-1] if done else None
        self._publish(
            running=self._backward_row(done) if self.backward else self._forward_row(done),
            tile=tile,
            steps=len(tiles),
            fast=BYTES * (held(tile, self.backward) if tile else 0),
            bytes_tiled=BYTES * sum(traffic(tiles, self.backward)[: self.step]),
            bytes_naive=BYTES * naive_traffic(n, self.backward),
        )

    def _scores(self, columns: slice) -> np.ndarray:
        """Of the watched query and these keys (1, columns), -inf in its future."""
        q, k, _, _ = vectors(self.n)
        scores = q[[self.row]] @ k[columns].T / math.sqrt(WIDTH)
        future = np.arange(columns.start, columns.stop) > self.row
        return np.where(future & self.causal, -math.inf, scores)

    def _forward_row(self, done) -> dict:
        _, _, v, _ = vectors(self.n)
        running = Running(np.full(1, -math.inf), np.zeros(1), np.zeros((1, WIDTH)))
        for rows, columns in done:
            if rows.start <= self.row < rows.stop:
                running = absorb(running, self._scores(columns), v[columns])
        total = running.l if running.l > 0 else 1.0
        return {"m": float(running.m[0]), "l": float(running.l[0]), "o": running.o[0], "out": running.o[0] / total}

    def _backward_row(self, done) -> dict:
        q, k, v, d_out = vectors(self.n)
        scores = self._scores(slice(0, self.n))[0]
        lse = float(np.log(np.exp(scores - scores.max()).sum()) + scores.max())
        weights = np.exp(scores - lse)
        share = float(d_out[self.row] @ (weights @ v))
        dq = np.zeros(WIDTH)
        for rows, columns in done:
            if rows.start <= self.row < rows.stop:
                d_scores = weights[columns] * (v[columns] @ d_out[self.row] - share)
                dq = dq + d_scores @ k[columns] / math.sqrt(WIDTH)
        return {"lse": lse, "share": share, "dq": dq}

    def _summary(self) -> str:
        way = f"{'causal ' if self.causal else ''}{'backward' if self.backward else 'forward'}"
        return f"n={self.n}, tiles of {self.block_q} × {self.block_kv}, {way}, step {self.step} of {self.steps}"


def vectors(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """q, k, v and d_out of tokens 0 to n - 1, each (n, WIDTH); the same on the page."""
    names = [str(i) for i in range(n)]
    return *(default_vectors(names, WIDTH, role) for role in "qkv"), default_vectors(names, WIDTH, "q", seed=1)


def held(tile: tuple[slice, slice], backward: bool) -> int:
    """How many numbers are in fast memory during a tile: its vectors, its table or two, and what the rows remember."""
    rows, cols = (part.stop - part.start for part in tile)
    if backward:  # q, d_out, dq, lse, share; k, v, dk, dv; weights, d_scores
        return rows * (3 * WIDTH + 2) + 4 * cols * WIDTH + 2 * rows * cols
    return rows * (2 * WIDTH + 2) + 2 * cols * WIDTH + rows * cols  # q, o, m, l; k, v; scores


def traffic(tiles: list[tuple[slice, slice]], backward: bool) -> list[int]:
    """How many numbers each tile moves to or from slow memory.

    A block of queries is read with its first tile and its results are written with its last; keys and values are read
    for every tile. Backward, dk and dv are written back each time, and read before unless they are still zero.
    """
    moved, touched = [], 0
    for i, (rows, columns) in enumerate(tiles):
        size, cols = rows.stop - rows.start, columns.stop - columns.start
        first = i == 0 or tiles[i - 1][0] != rows
        last = i + 1 == len(tiles) or tiles[i + 1][0] != rows
        if backward:
            seen = max(0, min(columns.stop, touched) - columns.start)
            numbers = 4 * cols * WIDTH + 2 * seen * WIDTH + first * size * (3 * WIDTH + 1) + last * size * WIDTH
            touched = max(touched, columns.stop)
        else:
            numbers = 2 * cols * WIDTH + first * size * WIDTH + last * size * (WIDTH + 1)
        moved.append(numbers)
    return moved


def naive_traffic(n: int, backward: bool) -> int:
    """The numbers that go to or from slow memory if each product and the softmax is a pass of its own.

    Forward: scores are written and read, then the weights. Backward: d_v, d_weights, d_scores, d_q and d_k.
    """
    return 7 * n * n + 8 * n * WIDTH if backward else 4 * n * n + 4 * n * WIDTH
