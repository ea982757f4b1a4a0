"""The mask explorer's Python object: its results are attnbook.masks', and what does not fit is refused by name."""

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook import masks
from attnbook.widgets import MaskExplorer
from attnbook.widgets.maskeditor import PRESETS

RESULTS = ("empty_rows", "kept", "saved", "density")


def check_results(explorer):
    mask, block = explorer.mask, explorer.block
    n_q, n_kv = mask.shape
    kept = masks.kept_blocks(mask, block)
    np.testing.assert_array_equal(explorer.kept, kept)
    computed = sum(
        min(block, n_q - b * block) * min(block, n_kv - c * block) for b, c in zip(*np.nonzero(kept), strict=True)
    )
    assert explorer.saved == pytest.approx(1 - computed / mask.size, abs=1e-12)
    assert explorer.density == pytest.approx(mask.sum() / mask.size, abs=1e-12)
    assert explorer.empty_rows == tuple(i for i in range(n_q) if not any(mask[i]))
    assert 0 <= explorer.saved <= 1 - explorer.density <= 1, "what a kernel skips is ignored by all"


def test_it_starts_causal():
    explorer = MaskExplorer()
    np.testing.assert_array_equal(explorer.mask, masks.causal(12))
    assert (explorer.block, explorer.tokens, explorer.empty_rows) == (4, (), ())
    assert explorer.saved == pytest.approx(1 / 3) and explorer.density == pytest.approx(78 / 144)
    assert repr(explorer) == "MaskExplorer(12 queries, 12 keys, block=4)"
    check_results(explorer)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("n", "n_kv"), [(1, 1), (2, 2), (12, 12), (3, 9), (9, 3), (32, 32), (1, 32)])
def test_presets(name, n, n_kv):
    explorer = MaskExplorer(n=n, n_kv=n_kv, mask=name, block=5)
    np.testing.assert_array_equal(explorer.mask, PRESETS[name](n, n_kv))
    check_results(explorer)
    explorer.mask = "full"
    explorer.mask = name
    np.testing.assert_array_equal(explorer.mask, PRESETS[name](n, n_kv))


def test_presets_are_the_packages():
    for name, expected in {
        "causal": masks.causal(4, 7), "local": masks.local(4, 7, 3), "dilated": masks.dilated(4, 7, 3, 2),
        "global": masks.globally(4, 7, 1), "random": masks.random(4, 7, 3), "prefix": masks.causal(4, 7) |
        masks.padding(3, 7), "padding": np.tile(np.arange(7) < 4, (4, 1)), "full": np.ones((4, 7), bool),
    }.items():  # fmt: skip
        np.testing.assert_array_equal(MaskExplorer(4, name, n_kv=7).mask, expected, err_msg=name)


def test_lengths_come_from_n_the_tokens_or_the_mask():
    assert MaskExplorer(5).mask.shape == (5, 5)
    assert MaskExplorer(n_kv=5).mask.shape == (5, 5)
    assert MaskExplorer(2, n_kv=5).mask.shape == (2, 5)
    assert MaskExplorer(tokens="a b c").mask.shape == (3, 3)
    assert MaskExplorer(1, tokens=["a", "b", "c"]).mask.shape == (1, 3)
    assert MaskExplorer(mask=np.ones((2, 6), bool)).mask.shape == (2, 6)
    assert MaskExplorer(2, np.ones((2, 6), bool)).mask.shape == (2, 6)


@pytest.mark.parametrize("given", [np.eye(4, dtype=bool), np.eye(4, dtype=bool).tolist(), torch.eye(4).bool()])
def test_masks_of_every_kind_go_in_and_numpy_comes_out(given):
    explorer = MaskExplorer(mask=given)
    assert isinstance(explorer.mask, np.ndarray) and explorer.mask.dtype == bool
    np.testing.assert_array_equal(explorer.mask, np.eye(4))
    for name in ("mask", "kept"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(explorer, name)[0, 0] = True
    check_results(explorer)


def test_results_follow_and_are_heard():
    explorer = MaskExplorer()
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=["mask", "block", *RESULTS])
    mask = masks.causal(12) & masks.local(12, 12, 2)
    mask[[3, 7]] = False
    explorer.mask = mask
    assert {"mask", "kept", "saved", "density", "empty_rows"} <= set(heard)
    assert explorer.empty_rows == (3, 7)
    check_results(explorer)
    explorer.block = 1
    assert explorer.saved == pytest.approx(1 - explorer.density), "blocks of one cell skip all that is ignored"
    for block in range(1, 17):
        explorer.block = block
        check_results(explorer)


def test_another_size_may_be_set():
    explorer = MaskExplorer(tokens="a b c d")
    explorer.mask = np.ones((3, 7), bool)
    assert explorer.tokens == ("a", "b", "c", "d") and explorer.kept.shape == (1, 2)
    explorer.mask = "causal"
    np.testing.assert_array_equal(explorer.mask, masks.causal(3, 7))


def test_what_the_browser_sends_comes_back_the_same():
    explorer = MaskExplorer(n=3, n_kv=5, mask="random", tokens=list("abcde"))
    other = MaskExplorer()
    other.set_state(explorer.get_state(["mask", "block", "tokens"]))
    np.testing.assert_array_equal(other.mask, explorer.mask)
    assert (other.block, other.tokens) == (explorer.block, explorer.tokens)
    check_results(other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": "sliding"}, "mask must be full, causal, padding, .* got 'sliding'"),
        ({"mask": np.ones((3, 3))}, "mask must be .* True = may attend, got dtype float64"),
        ({"mask": [[1, 0], [1, 1]]}, "mask must be .* booleans"),
        ({"mask": np.ones((3, 33), bool)}, r"got shape \(3, 33\)"),
        ({"mask": np.ones(3, bool)}, r"got shape \(3,\)"),
        ({"mask": np.ones((0, 3), bool)}, r"got shape \(0, 3\)"),
        ({"mask": np.ones((3, 3), bool), "n": 4}, r"n and n_kv must be left out or fit the mask, of shape \(3, 3\)"),
        ({"n": 0}, "n must be an integer from 1 to 32, got 0"),
        ({"n": 33}, "n must be an integer from 1 to 32, got 33"),
        ({"n_kv": 2.0}, "n_kv must be an integer from 1 to 32, got 2.0"),
        ({"n": True}, "n must be an integer from 1 to 32, got True"),
        ({"block": 0}, "block must be an integer from 1 to 16, got 0"),
        ({"block": 2.5}, "block must be an integer from 1 to 16, got 2.5"),
        ({"tokens": "a b c", "n_kv": 4}, "tokens must be one for each of the 4 keys, got 3"),
        ({"tokens": ["a"] * 33}, "tokens must be a list of at most 32 strings"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(TraitError, match=message):
        MaskExplorer(**given)


def test_a_refused_mask_changes_nothing_and_results_cannot_be_set():
    explorer = MaskExplorer(n=3)
    for wrong in ("other", np.ones((3, 3)), [[True], [True, False]]):
        with pytest.raises(TraitError, match="mask must be"):
            explorer.mask = wrong
    for name in RESULTS:
        with pytest.raises(TraitError, match=f"{name} is computed .* set mask or block instead"):
            setattr(explorer, name, 0)
    np.testing.assert_array_equal(explorer.mask, masks.causal(3))
