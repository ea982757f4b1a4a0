"""The tile stepper's Python object: what a row remembers is attention's, and its bytes are those of a count by hand."""

import math

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook import functional, masks
from attnbook.widgets import TileExplorer
from attnbook.widgets.tiles import BYTES, WIDTH, vectors

RESULTS = ("running", "tile", "steps", "fast", "bytes_tiled", "bytes_naive")
SIZES = [(8, 2, 2), (7, 3, 2), (5, 2, 4), (2, 1, 1), (24, 7, 5), (6, 24, 24)]


def finished(*sizes, **options) -> TileExplorer:
    explorer = TileExplorer(*sizes, **options)
    explorer.step = explorer.steps
    return explorer


def test_it_starts_before_the_first_tile():
    explorer = TileExplorer()
    assert (explorer.step, explorer.steps, explorer.tile, explorer.fast, explorer.bytes_tiled) == (0, 16, None, 0, 0)
    assert explorer.running["m"] == -math.inf and explorer.running["l"] == 0
    np.testing.assert_array_equal(explorer.running["out"], np.zeros(WIDTH))
    assert repr(explorer) == "TileExplorer(n=8, tiles of 2 × 2, forward, step 0 of 16)"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_after_the_last_tile_every_row_has_the_output_of_attention(sizes, causal):
    q, k, v, _ = vectors(sizes[0])
    mask = masks.causal(sizes[0]) if causal else None
    out = functional.attention(q, k, v, mask=mask)
    explorer = finished(*sizes, causal=causal)
    for row in range(sizes[0]):
        explorer.row = row
        np.testing.assert_allclose(explorer.running["out"], out[row], atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_after_the_last_tile_backward_every_row_has_its_gradient(sizes, causal):
    q, k, v, d_out = map(torch.tensor, vectors(sizes[0]))
    q.requires_grad_()
    scores = q @ k.mT / math.sqrt(WIDTH)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
    (scores.softmax(-1) @ v).backward(d_out)
    explorer = finished(*sizes, causal=causal, backward=True)
    for row in range(sizes[0]):
        explorer.row = row
        np.testing.assert_allclose(explorer.running["dq"], q.grad[row], atol=1e-12)
        assert explorer.running["lse"] == pytest.approx(torch.logsumexp(scores[row], -1).item(), abs=1e-12)


def test_between_tiles_a_row_has_seen_the_keys_so_far():
    q, k, v, _ = vectors(8)
    explorer = TileExplorer(row=1)
    for step in range(1, 5):
        explorer.step = step
        assert explorer.tile == (slice(0, 2), slice(2 * step - 2, 2 * step))
        seen = slice(0, 2 * step)
        scores = k[seen] @ q[1] / 2
        assert explorer.running["m"] == scores.max()
        assert explorer.running["l"] == pytest.approx(np.exp(scores - scores.max()).sum())
        np.testing.assert_allclose(explorer.running["out"], functional.softmax(scores) @ v[seen])
    last = explorer.running
    explorer.step = 5  # the next block of queries
    np.testing.assert_array_equal(explorer.running["o"], last["o"])


def test_bytes_by_hand():
    # forward: Q, out and lse once; K and V once for each of four blocks of queries
    assert finished(8).bytes_tiled == BYTES * (8 * 4 + 8 * 4 + 8 + 4 * 2 * 8 * 4)
    assert TileExplorer(8).bytes_naive == BYTES * (4 * 8 * 8 + 4 * 8 * 4)
    assert TileExplorer(8, step=1).bytes_tiled == BYTES * (2 * 4 + 2 * 2 * 4)
    assert TileExplorer(8, step=1).fast == BYTES * (2 * (4 + 4 + 1 + 1) + 2 * 2 * 4 + 2 * 2)
    # causal: blocks of queries read 2, 4, 6 and 8 keys
    assert finished(8, causal=True).bytes_tiled == BYTES * (8 * 4 + 8 * 4 + 8 + 2 * 4 * (2 + 4 + 6 + 8))
    # backward: Q, dO, out, lse and dQ once; K and V read, dK and dV written four times, and read three times
    assert finished(8, backward=True).bytes_tiled == BYTES * (8 * 17 + 8 * 4 * (4 * 4 + 2 * 3))
    assert TileExplorer(8, backward=True).bytes_naive == BYTES * (7 * 8 * 8 + 8 * 8 * 4)
    assert finished(8, causal=True, backward=True).bytes_tiled == BYTES * (8 * 17 + 4 * (4 * 20 + 2 * 12))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_larger_blocks_of_queries_move_less(causal, backward):
    moved = [finished(24, size, 4, causal, backward=backward).bytes_tiled for size in (1, 2, 4, 8, 24)]
    assert moved == sorted(moved, reverse=True) and moved[-1] < moved[0] / 3


def test_bytes_never_shrink_from_step_to_step():
    explorer = TileExplorer(7, 3, 2, causal=True)
    moved = []
    for step in range(explorer.steps + 1):
        explorer.step = step
        moved.append(explorer.bytes_tiled)
    assert moved == sorted(set(moved))


def test_fewer_tiles_take_the_step_and_the_row_back():
    explorer = TileExplorer(8, step=16, row=7)
    explorer.n = 4
    assert (explorer.step, explorer.steps, explorer.row) == (4, 4, 3)
    explorer.block_kv = 4
    assert (explorer.step, explorer.steps) == (2, 2)
    explorer.set(n=8, block_q=1, block_kv=1, step=64, row=7)
    explorer.causal = True
    assert (explorer.step, explorer.steps) == (36, 36)


def test_results_follow_are_heard_and_cannot_be_set():
    explorer = TileExplorer()
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=list(RESULTS))
    explorer.step = 3
    assert {"running", "tile", "fast", "bytes_tiled"} <= set(heard)
    for name in RESULTS:
        with pytest.raises(TraitError, match=f"{name} is computed .* instead"):
            setattr(explorer, name, 0)


def test_what_the_browser_sends_comes_back_the_same():
    explorer = TileExplorer(9, 4, 2, True, 8, True, 5)
    other = TileExplorer()
    other.set_state(explorer.get_state(list(TileExplorer.inputs)))
    assert repr(other) == repr(explorer) == "TileExplorer(n=9, tiles of 4 × 2, causal backward, step 8 of 11)"
    np.testing.assert_array_equal(other.running["dq"], explorer.running["dq"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 1}, "n must be an integer from 2 to 24, got 1"),
        ({"n": 25}, "n must be an integer from 2 to 24, got 25"),
        ({"n": 4.0}, None),
        ({"n": True}, "n must be an integer from 2 to 24, got True"),
        ({"block_q": 0}, "block_q must be an integer from 1 to 24, got 0"),
        ({"block_kv": -1}, "block_kv must be an integer from 1 to 24, got -1"),
        ({"block_kv": 2.5}, "block_kv must be an integer from 1 to 24, got 2.5"),
        ({"causal": "yes"}, "causal"),
        ({"step": 17}, "step must be an integer from 0 to 16, the number of tiles, got 17"),
        ({"step": -1}, "step must be an integer from 0 to 576, got -1"),
        ({"row": 8}, "row must be an integer from 0 to 7, got 8"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    if message is None:  # a whole number, however it is written
        assert TileExplorer(**given).n == 4
        return
    with pytest.raises(TraitError, match=message):
        TileExplorer(**given)


def test_a_refused_value_changes_nothing():
    explorer = TileExplorer(step=3)
    for wrong in ({"step": 17}, {"step": 2, "n": 99}, {"row": 8}):
        with pytest.raises(TraitError):
            explorer.set(**wrong)
        assert repr(explorer) == "TileExplorer(n=8, tiles of 2 × 2, forward, step 3 of 16)"
    with pytest.raises(TypeError, match="set takes n, block_q"):
        explorer.set(size=3)
