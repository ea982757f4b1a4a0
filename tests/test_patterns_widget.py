"""The pattern explorer's Python object: patterns are attnbook.masks', and what does not fit is refused by name."""

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook import masks
from attnbook.efficient import sparse
from attnbook.widgets import PatternExplorer
from attnbook.widgets.patterns import KNOWN, PARTS

RESULTS = ("kept", "cost", "density", "hops", "reach", "connected")


def check_results(explorer):
    mask, block, n = explorer.mask, explorer.block, len(explorer.mask)
    kept = masks.kept_blocks(mask, block)
    np.testing.assert_array_equal(explorer.kept, kept)
    side = lambda b: min(block, n - b * block)  # noqa: E731
    computed = sum(side(b) * side(c) for b, c in zip(*np.nonzero(kept), strict=True))
    assert explorer.cost == pytest.approx(computed / n**2, abs=1e-12)
    assert explorer.density == pytest.approx(mask.sum() / n**2, abs=1e-12)
    np.testing.assert_array_equal(explorer.reach, sparse.reach(mask, explorer.layers))
    np.testing.assert_array_equal(explorer.hops == 0, np.eye(n))
    np.testing.assert_array_equal(explorer.hops == 1, mask & ~np.eye(n, dtype=bool))
    wanted = masks.causal(n) if explorer.causal else np.ones((n, n), bool)
    heard = explorer.hops[wanted]
    assert explorer.connected == (None if (heard < 0).any() else heard.max())


def test_it_starts_as_a_longformer():
    explorer = PatternExplorer()
    np.testing.assert_array_equal(explorer.mask, masks.local(16, 16, 3) | masks.globally(16, 16, 1))
    assert (explorer.patterns, explorer.connected) == ("local 3 + global 1", 2)
    wanted = "PatternExplorer(16 tokens, local 3 + global 1, unit='token', block=2, layers=1)"
    assert repr(explorer) == wanted
    check_results(explorer)


MADE = {
    "local 3": masks.local(10, 10, 3),
    "dilated 3 2": masks.dilated(10, 10, 3, 2),
    "global 2": masks.globally(10, 10, 2),
    "random 3 5": masks.random(10, 10, 3, seed=5),
    "strided 4": (np.arange(10)[:, None] - np.arange(10)) % 4 == 0,
    "block 4": np.arange(10)[:, None] // 4 == np.arange(10) // 4,
    "": np.zeros((10, 10), bool),
}


@pytest.mark.parametrize("patterns", MADE)
def test_each_part(patterns):
    explorer = PatternExplorer(10, patterns, block=3)
    np.testing.assert_array_equal(explorer.mask, MADE[patterns])
    assert explorer.patterns == patterns
    check_results(explorer)
    explorer.causal = True
    np.testing.assert_array_equal(explorer.mask, MADE[patterns] & masks.causal(10))
    check_results(explorer)


def test_parts_join_and_are_spelled_out():
    explorer = PatternExplorer(10, "global+ LOCAL 3")
    assert explorer.patterns == "local 3 + global 1"
    np.testing.assert_array_equal(explorer.mask, masks.local(10, 10, 3) | masks.globally(10, 10, 1))
    for name, parts in KNOWN.items():
        explorer.patterns = name
        assert explorer.patterns.startswith(parts)
        check_results(explorer)
    assert set(PARTS) == {"local", "dilated", "strided", "block", "global", "random"}


def test_whole_blocks_are_kept_whole():
    explorer = PatternExplorer(10, "local 1", block=3, unit="block")
    np.testing.assert_array_equal(explorer.mask, np.arange(10)[:, None] // 3 == np.arange(10) // 3)
    assert explorer.cost == explorer.density
    explorer.block = 5
    np.testing.assert_array_equal(explorer.mask, np.arange(10)[:, None] // 5 == np.arange(10) // 5)
    check_results(explorer)
    explorer.unit = "token"
    np.testing.assert_array_equal(explorer.mask, np.eye(10))
    assert explorer.connected is None
    check_results(explorer)


def test_a_mask_that_is_set_is_painted():
    explorer = PatternExplorer(8, "local 2", causal=True)
    explorer.mask = masks.causal(8) & masks.local(8, 8, 2)
    assert explorer.patterns == "local 2", "it is the pattern's own"
    explorer.mask = torch.eye(8).bool()
    assert explorer.patterns == "painted" and explorer.causal
    explorer.mask = np.ones((5, 5), bool)
    assert not explorer.causal and explorer.mask.all(), "what was asked for last counts"
    check_results(explorer)
    explorer.causal = True
    np.testing.assert_array_equal(explorer.mask, masks.causal(5))
    explorer.patterns = "strided 2"
    assert explorer.mask.shape == (5, 5) and explorer.causal
    check_results(explorer)
    for name in ("mask", "kept", "hops", "reach"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(explorer, name)[0, 0] = True


def test_results_follow_and_are_heard():
    explorer = PatternExplorer(12, "local 2")
    assert (explorer.connected, explorer.reach[11].sum()) == (11, 2)
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=list(RESULTS))
    for layers in range(1, 9):
        explorer.layers = layers
        assert explorer.reach[11].sum() == layers + 1
        check_results(explorer)
    explorer.set(patterns="global 1", causal=True, layers=2)
    assert explorer.connected is None, "causally, nobody but token 0 itself passes anything on"
    assert set(heard) == {"kept", "cost", "density", "hops", "reach", "connected"}
    check_results(explorer)


def test_what_the_browser_sends_comes_back_the_same():
    explorer = PatternExplorer(9, "random 2 7", causal=True, unit="block", block=2, layers=3)
    other = PatternExplorer()
    names = ["mask", "patterns", "causal", "unit", "block", "layers"]
    other.set_state(explorer.get_state(names))
    np.testing.assert_array_equal(other.mask, explorer.mask)
    assert all(getattr(other, name) == getattr(explorer, name) for name in names[1:])
    check_results(other)


@pytest.mark.parametrize("patterns", ["local 3", "dilated 2 2", "strided 3", "global 1", "random 2 4", "block 2"])
def test_whole_blocks_are_the_packages_layouts(patterns):
    name, *numbers = patterns.split()
    names = {"random": ("per_row", "seed"), "dilated": ("window", "step"), "global": ("n_global",),
             "local": ("window",), "strided": ("stride",), "block": ("size",)}[name]  # fmt: skip
    layout = sparse.pattern(name, 14, 14, 3, **dict(zip(names, map(int, numbers), strict=True)))
    explorer = PatternExplorer(14, patterns, unit="block", block=3)
    np.testing.assert_array_equal(explorer.mask, sparse.block_mask(layout, 3, 14, 14))
    np.testing.assert_array_equal(explorer.kept, layout)
    check_results(explorer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patterns": "sliding"}, "patterns must be parts such as .* got an unknown part 'sliding'"),
        ({"patterns": "local 0"}, "patterns must be .* the window of local is from 1 to 16"),
        ({"patterns": "local -1"}, "patterns must be .* local takes window"),
        ({"patterns": "local 2 3"}, "patterns must be .* local takes window"),
        ({"patterns": "local + local"}, "patterns must be .* local twice"),
        ({"patterns": "painted"}, "mask must be given where patterns is 'painted'"),
        ({"patterns": 3}, "patterns must be .* got 3"),
        ({"n": 1}, "n must be an integer from 2 to 32, got 1"),
        ({"n": 33}, "n must be an integer from 2 to 32, got 33"),
        ({"n": 4.0}, "n must be an integer from 2 to 32, got 4.0"),
        ({"n": 4, "mask": np.eye(4) > 0}, "mask comes without n and patterns"),
        ({"mask": np.ones((3, 4), bool)}, r"mask must be booleans \(n, n\).* got shape \(3, 4\)"),
        ({"mask": np.ones((3, 3))}, "mask must be .* True = may attend, got dtype float64"),
        ({"block": 0}, "block must be an integer from 1 to 8, got 0"),
        ({"layers": 9}, "layers must be an integer from 1 to 8, got 9"),
        ({"unit": "tile"}, "unit must be token or block, got 'tile'"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(TraitError, match=message):
        PatternExplorer(**given)


def test_a_refused_value_changes_nothing_and_results_cannot_be_set():
    explorer = PatternExplorer(6)
    before = explorer.mask
    for name, wrong in (("mask", np.ones((2, 3), bool)), ("patterns", "other"), ("unit", 2), ("causal", "yes")):
        with pytest.raises(TraitError):
            setattr(explorer, name, wrong)
    for name in RESULTS:
        with pytest.raises(TraitError, match=f"{name} is computed .* set mask, patterns, .* instead"):
            setattr(explorer, name, 0)
    np.testing.assert_array_equal(explorer.mask, before)
    check_results(explorer)
