"""The Python side of the Q/K/V explorer: traits that settle each other, errors with names, the package's results."""

import hashlib
import json

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook import functional, masks
from attnbook.widgets import QKVExplorer
from attnbook.widgets.qkv import INPUTS, default_vectors, mask_kind, named_mask

RESULTS = ("scores", "weights", "out")


@pytest.fixture
def explorer():
    return QKVExplorer()


def snapshot(explorer):
    return {name: getattr(explorer, name) for name in (*INPUTS, *RESULTS)}


def assert_unchanged(explorer, before):
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(explorer, name), value, err_msg=name)


def assert_results_are_the_packages(explorer):
    scale = None if explorer.scaled else 1.0
    scores = functional.scaled_scores(explorer.q, explorer.k, scale)
    np.testing.assert_array_equal(explorer.scores, scores)
    weights = functional.softmax(functional.masked(scores, explorer.mask), temperature=explorer.temperature)
    np.testing.assert_array_equal(explorer.weights, weights)
    np.testing.assert_array_equal(explorer.out, weights @ explorer.v)
    if explorer.temperature == 1:
        out, weights = functional.attention(
            explorer.q, explorer.k, explorer.v, np.array(explorer.mask), scale, return_weights=True
        )
        np.testing.assert_allclose(explorer.weights, weights, atol=1e-15)
        np.testing.assert_allclose(explorer.out, out, atol=1e-14)


# Where it starts -----------------------------------------------------------------------------------------------


def test_it_starts_with_the_sentence_of_the_book(explorer):
    assert explorer.tokens == ("the", "cat", "sat", "on", "the", "mat")
    assert repr(explorer) == "QKVExplorer(6 tokens, d_k=2)"
    assert explorer.mask.all() and explorer.scaled and explorer.temperature == 1
    assert_results_are_the_packages(explorer)
    the, cat, sat, on, mat = (explorer.weights[i] for i in (0, 1, 2, 3, 5))
    assert the[1] > 0.4 and the[5] > 0.4, "an article looks for its nouns"
    assert cat.argmax() == 2 and set(np.argsort(sat)[-2:]) == {1, 5} and on.argmax() == 5 and mat.argmax() == 3


def test_equal_words_get_equal_vectors_and_other_seeds_others(explorer):
    for rows in (explorer.q, explorer.k, explorer.v):
        np.testing.assert_array_equal(rows[0], rows[4])
    assert not np.array_equal(explorer.q, explorer.k)
    assert not np.array_equal(explorer.q, QKVExplorer(seed=1).q)
    np.testing.assert_array_equal(explorer.q, QKVExplorer().q)


def test_default_vectors_never_change():
    """Notebooks store numbers that come from them: the rule is pinned, on text of every kind."""
    rows = default_vectors(["the", "Größe", "東京", "🙂", "<img src=x>", ""], 64, "v", 4294967295)
    digest = hashlib.sha256(json.dumps(rows.tolist()).encode()).hexdigest()
    assert digest == "f4894f7e16a1eea8e59f9df898abcd287e1901c1fd0a7222f7ff5865d98d2df9"


def test_default_vectors_have_unit_variance_and_more_components_keep_the_first():
    rows = default_vectors([f"word{i}" for i in range(500)], 64, "q")
    assert abs(rows.mean()) < 0.02 and abs(rows.var() - 1) < 0.02 and np.abs(rows).max() <= 3
    np.testing.assert_array_equal(rows, np.round(rows, 1))
    np.testing.assert_array_equal(default_vectors(["cat"], 5, "q"), default_vectors(["cat"], 9, "q")[:, :5])
    correlation = np.corrcoef(rows.T) - np.eye(64)
    assert np.abs(correlation).max() < 0.25


def test_what_is_given_is_kept_and_decides_the_width():
    q, v = np.arange(8.0).reshape(4, 2) / 10, np.ones((4, 7))
    explorer = QKVExplorer("a b c d", d_k=5, q=q, v=v, mask="causal", scaled=False, temperature=0.5)
    np.testing.assert_array_equal(explorer.q, q)
    assert explorer.d_k == 2 and explorer.k.shape == (4, 2) and explorer.out.shape == (4, 7)
    np.testing.assert_array_equal(explorer.mask, masks.causal(4))
    assert_results_are_the_packages(explorer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": "a b"}, "tokens must be 3 to 64 words, got 2"),
        ({"d_k": 0}, "d_k must be an integer from 1 to 64, got 0"),
        ({"d_k": 65}, "d_k must be an integer from 1 to 64, got 65"),
        ({"d_k": 2.5}, "d_k must be an integer"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"q": np.zeros((5, 2))}, "q must have one row for each of the 6 tokens"),
        ({"q": np.zeros((6, 2)), "k": np.zeros((6, 3))}, "as wide as"),
        ({"mask": "sliding"}, "mask must be none, causal, padding"),
        ({"temperature": 0}, "temperature must be a finite number above 0"),
    ],
)
def test_it_does_not_start_with_what_does_not_fit(given, message):
    with pytest.raises(TraitError, match=message):
        QKVExplorer(**given)


# Setting and observing -----------------------------------------------------------------------------------------


def test_results_follow_every_input(explorer):
    rng = np.random.default_rng(0)
    changes = [
        ("q", rng.normal(size=(6, 2))), ("k", rng.normal(size=(6, 2))), ("v", rng.normal(size=(6, 3))),
        ("mask", "causal"), ("mask", rng.random((6, 6)) < 0.5), ("scaled", False), ("temperature", 0.3),
        ("tokens", "now another sentence of seven words here"), ("mask", "padding"), ("mask", "none"),
    ]  # fmt: skip
    heard = []
    explorer.observe(lambda change: heard.append(change.name))
    for name, value in changes:
        heard.clear()
        setattr(explorer, name, value)
        assert name in heard and set(heard) & set(RESULTS), name
        assert_results_are_the_packages(explorer)


def test_a_result_that_does_not_change_is_not_announced(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=RESULTS)
    explorer.v = explorer.v + 1
    assert heard == ["out"]


def test_arrays_of_every_kind_go_in_and_float64_comes_out(explorer):
    for rows in ([[1, 2]] * 6, np.ones((6, 2), np.float32), np.ones((6, 2), int), torch.ones(6, 2, requires_grad=True)):
        explorer.q = rows
        assert isinstance(explorer.q, np.ndarray) and explorer.q.dtype == np.float64
    for name in ("q", "k", "v", "mask", *RESULTS):
        with pytest.raises(ValueError, match="read-only"):
            getattr(explorer, name)[0, 0] = 1


def test_what_was_given_can_be_changed_without_harm(explorer):
    rows = np.ones((6, 2))
    explorer.q = rows
    rows[0, 0] = 9
    assert explorer.q[0, 0] == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", np.ones((6, 6), bool)),
        ("causal", masks.causal(6)),
        ("padding", np.tile(np.arange(6) < 4, (6, 1))),
        (masks.padding(2, 6), np.tile(np.arange(6) < 2, (6, 1))),
        (masks.causal(6).tolist(), masks.causal(6)),
        (torch.eye(6, dtype=torch.bool), np.eye(6, dtype=bool)),
        (np.zeros((6, 6), bool), np.zeros((6, 6), bool)),
    ],
)
def test_masks(explorer, given, expected):
    explorer.mask = given
    assert explorer.mask.dtype == bool and not explorer.mask.flags.writeable
    np.testing.assert_array_equal(explorer.mask, expected)
    assert (explorer.weights[~expected] == 0).all() and np.isfinite(explorer.out).all()
    assert_results_are_the_packages(explorer)


def test_masks_answer_to_their_names():
    for n in (3, 6, 64):
        for kind in ("none", "causal", "padding"):
            assert mask_kind(named_mask(kind, n)) == kind
        assert mask_kind(np.eye(n, dtype=bool)) == mask_kind(np.zeros((n, n), bool)) == "custom"


def test_another_text_keeps_the_vectors_of_the_words_that_stay(explorer):
    edited = explorer.k + 0
    edited[1] = [9, 9]
    explorer.set(k=edited, mask="causal")
    heard = []
    explorer.observe(lambda change: heard.append((change.name, np.shape(change.new))), names=[*INPUTS, *RESULTS])
    explorer.tokens = "a cat on the mat saw the cat"
    assert {name for name, _ in heard} == {"tokens", "q", "k", "v", "mask", *RESULTS}
    np.testing.assert_array_equal(explorer.k[[1, 7]], [[9, 9], [9, 9]])
    np.testing.assert_array_equal(explorer.k[[0, 5]], default_vectors(["a", "saw"], 2, "k"))
    np.testing.assert_array_equal(explorer.mask, masks.causal(8))
    assert_results_are_the_packages(explorer)


def test_a_custom_mask_keeps_its_corner(explorer):
    explorer.mask = np.eye(6, dtype=bool)
    explorer.tokens = "the cat sat on the mat again"
    np.testing.assert_array_equal(explorer.mask[:6, :6], np.eye(6, dtype=bool))
    assert explorer.mask[6].all() and explorer.mask[:, 6].all()
    explorer.mask = masks.padding(5, 7)
    explorer.tokens = "the cat sat"
    assert explorer.mask.all()


def test_set_changes_all_at_once(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.new.shape), names="out")
    explorer.set(tokens="x y z", q=np.ones((3, 4)), k=np.ones((3, 4)), v=np.eye(3), mask="causal")
    assert heard == [(3, 3)]
    np.testing.assert_allclose(explorer.out, [[1, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3])
    with pytest.raises(TypeError, match="set takes tokens, q, k, v, mask, scaled, temperature, got 'weights'"):
        explorer.set(weights=1)


def test_hold_trait_notifications_does_too_in_any_order(explorer):
    with explorer.hold_trait_notifications():
        explorer.v = np.eye(4)
        explorer.k = np.zeros((4, 3))
        explorer.q = np.zeros((4, 3))
        explorer.tokens = ["w", "x", "y", "z"]
        explorer.mask = "causal"
    assert explorer.d_k == 3
    np.testing.assert_allclose(explorer.out[3], [0.25] * 4)


BAD = [
    ("q", np.zeros((5, 2)), r"q must have one row for each of the 6 tokens, got shape \(5, 2\).*set\(tokens="),
    ("q", np.zeros((6, 3)), r"q must be as wide as k, d_k = 2, got shape \(6, 3\).*set\(q="),
    ("k", np.zeros((6, 1)), r"k must be as wide as q, d_k = 2, got shape \(6, 1\)"),
    ("v", np.zeros((7, 2)), r"v must have one row for each of the 6 tokens, got shape \(7, 2\)"),
    ("v", np.zeros((6, 65)), r"v must be .*1…64 finite numbers, got shape \(6, 65\)"),
    ("v", np.zeros((6, 0)), r"v must be .*got shape \(6, 0\)"),
    ("v", np.zeros(6), r"v must be .*got shape \(6,\)"),
    ("q", np.full((6, 2), np.nan), "q must be .*finite numbers, got .*nan"),
    ("q", np.full((6, 2), np.inf), "q must be .*finite numbers"),
    ("q", np.full((6, 2), -2e6), "q must be within ±1,000,000, got -2e"),
    ("k", [[1, 2], [3]], "k must be .*different lengths"),
    ("k", [["a", "b"]] * 6, "k must be .*finite numbers, got"),
    ("k", None, "k must be .*got None"),
    ("mask", "causa", "mask must be none, causal, padding or booleans of shape .*got 'causa'"),
    ("mask", np.ones((6, 6)), "mask must be .*booleans.*got dtype float64"),
    ("mask", [[1, 0, 1, 0, 1, 0]] * 6, "mask must be .*booleans"),
    ("mask", np.ones((5, 6), bool), r"mask must have shape \(n, n\) = \(6, 6\) or broadcast to it, got \(5, 6\)"),
    ("mask", np.ones((2, 6, 6), bool), r"mask must be .*got shape \(2, 6, 6\)"),
    ("temperature", 0, "temperature must be a finite number above 0, got 0"),
    ("temperature", -1.0, "temperature must be .*got -1.0"),
    ("temperature", float("nan"), "temperature must be .*got nan"),
    ("temperature", "hot", "temperature must be .*got 'hot'"),
    ("scaled", 2, "'scaled' trait .* expected a boolean"),
    ("tokens", "only two", "tokens must be 3 to 64 words, got 2"),
    ("tokens", ["a"] * 65, "tokens must be 3 to 64 words, got 65"),
    ("tokens", ["a", "b", " "], "tokens must be words, none of them empty"),
    ("tokens", ["a", "b", ""], "tokens must be words, none of them empty"),
    ("tokens", ["a", "b", "New York"], r"none of them empty or with white space in it, got .*'New York'"),
    ("tokens", ["a", "b", "c\u00a0d"], "tokens must be words, none of them empty or with white space"),
    ("tokens", ["a", "b", "c\ufeffd"], "tokens must be words, none of them empty or with white space"),
    ("tokens", ["a", "b", "\ud83d"], "tokens must be strings without lone surrogates"),
    ("tokens", ["a", "b", 3], "tokens must be .*strings"),
    ("tokens", 5, "tokens must be .*got 5"),
    ("scores", np.zeros((6, 6)), "scores is computed .*; set tokens, q, k, v, mask, scaled or temperature instead"),
    ("weights", np.zeros((6, 6)), "weights is computed .*; set tokens, q, k, v"),
    ("out", None, "out is computed .*; set tokens, q, k, v"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_named_and_changes_nothing(explorer, name, value, message):
    before = snapshot(explorer)
    heard = []
    explorer.observe(lambda change: heard.append(change.name))
    with pytest.raises(TraitError, match=message):
        setattr(explorer, name, value)
    assert_unchanged(explorer, before)
    assert heard == []
    explorer.tokens = "it still works after that"
    assert_results_are_the_packages(explorer)


def test_set_changes_nothing_when_one_part_is_bad(explorer):
    before = snapshot(explorer)
    for parts in (
        dict(tokens="x y z", q=np.zeros((4, 2))),
        dict(q=np.zeros((6, 5))),
        dict(scaled=False, temperature=2.0, mask="nonsense"),
        dict(tokens="x y z w", mask=np.ones((3, 3), bool)),
    ):
        with pytest.raises(TraitError):
            explorer.set(**parts)
        assert_unchanged(explorer, before)
    explorer.tokens = "the cat and the dog"
    np.testing.assert_array_equal(explorer.q[:2], before["q"][:2])
    assert_results_are_the_packages(explorer)


# The wire ------------------------------------------------------------------------------------------------------


def test_state_is_plain_json_and_comes_back_to_the_last_bit(explorer):
    explorer.q = np.random.default_rng(0).normal(size=(6, 2)) * 1e-7
    state = {name: explorer.get_state()[name] for name in (*INPUTS, "seed")}
    assert all(name not in explorer.get_state() for name in RESULTS)
    other = QKVExplorer("x y z")
    other.set_state(json.loads(json.dumps(state)))
    assert_unchanged(other, snapshot(explorer))


def test_the_browser_may_change_everything_in_one_message(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.new.shape), names="out")
    explorer.set_state(
        dict(q=[[1, 2, 3]] * 4, mask=[[True] * 4] * 4, k=[[0, 0, 1]] * 4, v=[[1], [2], [3], [4.5]], tokens=list("abcd"))
    )
    assert explorer.tokens == ("a", "b", "c", "d") and heard == [(4, 1)]
    np.testing.assert_allclose(explorer.out, [[2.625]] * 4)
