"""The state explorer's Python object: what is read is linear attention's, and what does not fit is refused by name."""

import numpy as np
import pytest
from traitlets import TraitError

from attnbook.widgets import StateExplorer
from attnbook.widgets.states import DIRECTIONS, ROUNDS, RULES, key_vectors, value_vectors

RESULTS = ("state", "read", "errors", "parts")


def vectors(explorer):
    keys = key_vectors(explorer.pairs, explorer.d, explorer.directions, explorer.seed)
    return keys, value_vectors(explorer.pairs, explorer.seed)


def check_results(explorer):
    """The sums written out, without the package's state."""
    keys, values = vectors(explorer)
    state = np.zeros((explorer.d, 4))
    for time in range(explorer.written):
        k, v = keys[time % explorer.pairs], values[time % explorer.pairs]
        if explorer.rule == "decay":
            state = explorer.decay * state
        state = state + np.outer(k, explorer.beta * (v - k @ state) if explorer.rule == "delta" else v)
    np.testing.assert_allclose(explorer.state, state, atol=1e-12)
    np.testing.assert_allclose(explorer.read, keys[explorer.query] @ state, atol=1e-12)
    np.testing.assert_allclose(explorer.parts.sum(axis=0), explorer.read, atol=1e-12)
    known = min(explorer.written, explorer.pairs)
    errors = np.linalg.norm(keys @ state - values, axis=1) / np.linalg.norm(values, axis=1)
    np.testing.assert_allclose(explorer.errors, errors[:known], atol=1e-12)


def test_it_starts_empty():
    explorer = StateExplorer()
    assert repr(explorer) == "StateExplorer(6 pairs, d=4, random keys, rule=sum, 0 written)"
    assert not explorer.state.any() and not explorer.read.any() and len(explorer.errors) == 0
    assert repr(StateExplorer(rule="delta", beta=0.5)).endswith("rule=delta 0.5, 0 written)")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("directions", DIRECTIONS)
def test_every_write(rule, directions):
    explorer = StateExplorer(5, d=3, rule=rule, directions=directions, decay=0.7, beta=0.8, query=2, seed=3)
    for written in range(ROUNDS * 5 + 1):
        explorer.written = written
        check_results(explorer)


def test_keys_have_length_one_and_values_are_there():
    for seed in range(1000):
        assert np.linalg.norm(value_vectors(12, seed), axis=1).min() > 0.1
        for d in (2, 16):
            for directions in DIRECTIONS:
                keys = key_vectors(12, d, directions, seed)
                np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("rule", ["sum", "delta"])
def test_keys_at_right_angles_do_not_disturb_each_other(rule):
    explorer = StateExplorer(4, d=4, rule=rule, directions="one-hot", written=4)
    np.testing.assert_allclose(explorer.errors, 0, atol=1e-12)
    assert not np.delete(explorer.parts, explorer.query, axis=0).any()


def test_an_old_value_under_the_same_key_is_added_to_or_replaced():
    explorer = StateExplorer(3, d=2, directions="one-hot", written=3, query=2)
    _, values = vectors(explorer)
    np.testing.assert_allclose(explorer.read, values[0] + values[2])
    explorer.rule = "delta"
    np.testing.assert_allclose(explorer.read, values[2])
    assert explorer.errors[2] < 1e-12 < 0.1 < explorer.errors[0], "A is gone: C has its place"


def test_decay_prefers_what_is_new_and_delta_learns_in_rounds():
    explorer = StateExplorer(4, d=4, rule="decay", directions="one-hot", decay=0.5, written=4)
    np.testing.assert_allclose(explorer.errors, [0.875, 0.75, 0.5, 0], atol=1e-12)
    explorer = StateExplorer(4, d=8, rule="delta")
    means = []
    for written in (4, 8, 12, 16):
        explorer.written = written
        means.append(explorer.errors.mean())
    assert means == sorted(means, reverse=True) and means[-1] < 0.1
    explorer.rule = "sum"
    assert explorer.errors.min() > 1, "the sum only grows"


def test_fewer_pairs_take_the_rest_along():
    explorer = StateExplorer(6, written=24, query=5)
    explorer.pairs = 2
    assert (explorer.written, explorer.query) == (8, 1)
    check_results(explorer)
    explorer.set(pairs=9, written=30, query=8, rule="delta")
    check_results(explorer)


def test_results_follow_and_are_heard():
    explorer = StateExplorer(written=3)
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=list(RESULTS))
    for change in (dict(d=7), dict(rule="decay"), dict(decay=0.5), dict(rule="delta"), dict(beta=0.25), dict(seed=9),
                   dict(directions="similar"), dict(query=2), dict(written=4), dict(pairs=8)):  # fmt: skip
        explorer.set(**change)
        check_results(explorer)
    assert set(heard) == set(RESULTS)
    for name in RESULTS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(explorer, name)[0] = 1


def test_what_the_browser_sends_comes_back_the_same():
    explorer = StateExplorer(7, d=5, rule="decay", decay=0.8, directions="similar", written=11, query=6, seed=4)
    other = StateExplorer()
    other.set_state(explorer.get_state(list(StateExplorer.inputs)))
    assert repr(other) == repr(explorer)
    for name in RESULTS:
        np.testing.assert_array_equal(getattr(other, name), getattr(explorer, name))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pairs": 0}, "pairs must be an integer from 1 to 12, got 0"),
        ({"pairs": "A B"}, "pairs must be an integer from 1 to 12, got 'A B'"),
        ({"d": 17}, "d must be an integer from 2 to 16, got 17"),
        ({"rule": "mean"}, "rule must be sum, decay or delta, got 'mean'"),
        ({"directions": 2}, "directions must be one-hot, random or similar, got 2"),
        ({"decay": 0}, "decay must be a finite number above 0 and at most 1, got 0"),
        ({"beta": 2.1}, "beta must be a finite number at least 0 and at most 2, got 2.1"),
        ({"written": 25}, "written must be an integer from 0 to 24, 4 rounds, got 25"),
        ({"query": 6}, "query must be an integer from 0 to 5, got 6"),
        ({"seed": -1}, "seed must be an integer from 0 to 999, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(TraitError, match=message):
        StateExplorer(**given)


def test_a_refused_value_changes_nothing_and_results_cannot_be_set():
    explorer = StateExplorer(written=2)
    before = explorer.state
    for name, wrong in (("rule", "other"), ("d", 1), ("written", 99), ("query", 12), ("beta", -1)):
        with pytest.raises(TraitError):
            setattr(explorer, name, wrong)
    for name in RESULTS:
        with pytest.raises(TraitError, match=f"{name} is computed .* set pairs, d, .* instead"):
            setattr(explorer, name, 0)
    np.testing.assert_array_equal(explorer.state, before)
    check_results(explorer)
