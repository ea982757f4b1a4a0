"""The Python side of the position explorer: the package's scores under each scheme, and errors with names."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from attnbook import positions
from attnbook.widgets import PositionExplorer
from attnbook.widgets.position import FARTHEST, SCHEMES, TABLE, content, scores_by_distance, untrained_table

INPUTS = ("scheme", "distance", "base", "d", "shift", "head")
SETTINGS = st.fixed_dictionaries(
    dict(
        scheme=st.sampled_from(SCHEMES), distance=st.integers(0, 64), base=st.floats(1, 1e9),
        d=st.integers(1, 64).map(lambda pairs: 2 * pairs), shift=st.integers(0, 200), head=st.integers(1, 8),
    )
)  # fmt: skip


@pytest.fixture
def explorer():
    return PositionExplorer()


def by_hand(scheme, base, d, shift, head):
    """Each score from its definition, one distance at a time."""
    x, scores = content(d), []
    for distance in range(FARTHEST + 1):
        query, key = shift + FARTHEST, shift + FARTHEST - distance
        theta = base ** (-np.arange(0, d, 2) / d)
        if scheme == "sinusoidal":
            q, k = (x + np.ravel(np.column_stack([np.sin(p * theta), np.cos(p * theta)])) for p in (query, key))
        elif scheme == "learned":
            q, k = (x + untrained_table()[p, :d] if p < TABLE else np.full(d, np.nan) for p in (query, key))
        elif scheme == "rope":
            pairs = x[: d // 2] + 1j * x[d // 2 :]
            q, k = (np.hstack([turned.real, turned.imag]) for turned in (
                pairs * np.exp(1j * p * theta) for p in (query, key)))  # fmt: skip
        else:
            q = k = x
        scores.append(q @ k / np.sqrt(d) - (2.0**-head * distance if scheme == "alibi" else 0))
    return np.array(scores)


@given(SETTINGS)
def test_scores_are_those_of_the_definition(settings):
    explorer = PositionExplorer(**settings)
    expected = by_hand(*(settings[name] for name in ("scheme", "base", "d", "shift", "head")))
    np.testing.assert_allclose(explorer.scores, expected, atol=1e-9)
    np.testing.assert_array_equal(explorer.score, explorer.scores[settings["distance"]])


def test_it_starts_with_rope(explorer):
    assert repr(explorer) == "PositionExplorer(rope, distance=8, base=10000, d=32, shift=0)"
    assert explorer.scores.shape == (65,) and explorer.score == explorer.scores[8]
    assert explorer.scores.argmax() == 0


def test_what_a_shift_moves_and_what_not():
    for scheme in SCHEMES:
        here, there = (PositionExplorer(scheme, shift=shift).scores for shift in (0, 40))
        assert (np.abs(here - there).max() < 1e-9) == (scheme in ("none", "rope", "alibi")), scheme


def test_all_schemes_but_the_added_ones_agree_at_distance_0():
    plain = PositionExplorer("none").score
    for scheme in ("rope", "alibi"):
        assert PositionExplorer(scheme).scores[0] == pytest.approx(plain)


def test_a_learned_table_ends():
    last = TABLE - 1 - FARTHEST
    assert np.isfinite(PositionExplorer("learned", shift=last).scores).all()
    beyond = PositionExplorer("learned", shift=last + 1)
    assert np.isnan(beyond.scores).all() and np.isnan(beyond.score)


def test_alibi_has_the_slopes_of_the_package(explorer):
    for head in range(1, 9):
        explorer.set_state({"scheme": "alibi", "head": head})
        assert explorer.slope == positions.alibi_slopes(8)[head - 1] == 2.0**-head
        np.testing.assert_allclose(np.diff(explorer.scores), -explorer.slope)


def test_the_made_up_numbers_never_change():
    """Notebooks store numbers that come from them, and position.js makes the same."""
    digest = hashlib.sha256(json.dumps([content(128).tolist(), untrained_table().tolist()]).encode()).hexdigest()
    assert digest == "3e771b34c8dddad454bec6ff6ada20349c2eddb9af6e4cc783696bbc7468618b"
    np.testing.assert_array_equal(content(6), content(128)[:6])
    assert untrained_table().shape == (TABLE, 128) and abs(untrained_table().var() - 1) < 0.02


def test_results_follow_every_input(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=["scores", "score"])
    for name, value in (("scheme", "alibi"), ("head", 2), ("scheme", "sinusoidal"), ("base", 100), ("d", 4),
                        ("shift", 7), ("distance", 64)):  # fmt: skip
        heard.clear()
        setattr(explorer, name, value)
        assert "score" in heard, name
        expected = scores_by_distance(*(getattr(explorer, each) for each in ("scheme", "base", "d", "shift", "head")))
        np.testing.assert_array_equal(explorer.scores, expected)
        assert explorer.score == expected[explorer.distance]


def test_numbers_of_every_kind_go_in_and_scores_are_read_only(explorer):
    explorer.distance, explorer.d, explorer.base = np.int64(3), 8.0, np.float32(500)
    assert (explorer.distance, explorer.d, explorer.base) == (3, 8, 500.0) and isinstance(explorer.d, int)
    with pytest.raises(ValueError, match="read-only"):
        explorer.scores[0] = 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scheme", "RoPE", "scheme must be none, sinusoidal, learned, rope or alibi, got 'RoPE'"),
        ("scheme", None, "scheme must be none, .*got None"),
        ("distance", 65, "distance must be an integer from 0 to 64, got 65"),
        ("distance", 2.5, "distance must be an integer from 0 to 64, got 2.5"),
        ("distance", True, "distance must be an integer .*got True"),
        ("d", 3, "d must be an even integer from 2 to 128, got 3"),
        ("d", 130, "d must be an even integer from 2 to 128, got 130"),
        ("base", 0.5, r"base must be a finite number at least 1 and at most 1e\+09, got 0.5"),
        ("base", "many", "base must be a finite number .*got 'many'"),
        ("shift", -1, "shift must be an integer from 0 to 200, got -1"),
        ("head", 9, "head must be an integer from 1 to 8, got 9"),
        ("scores", [1], "scores is computed .* set scheme, distance, base, d, shift or head instead"),
        ("score", 1.0, "score is computed .* set scheme"),
    ],
)
def test_a_bad_value_is_named_and_changes_nothing(explorer, name, value, message):
    before = explorer.get_state(), explorer.scores
    with pytest.raises(TraitError, match=message):
        setattr(explorer, name, value)
    assert explorer.get_state() == before[0] and explorer.scores is before[1]
    if name in INPUTS:
        with pytest.raises(TraitError, match=message):
            PositionExplorer(**{name: value})


def test_state_is_plain_json_and_comes_back(explorer):
    explorer.set_state(json.loads(json.dumps(dict(scheme="sinusoidal", distance=5, base=123, d=6, shift=9, head=1))))
    other = PositionExplorer()
    other.set_state(json.loads(json.dumps({name: explorer.get_state()[name] for name in INPUTS})))
    np.testing.assert_array_equal(other.scores, explorer.scores)
    assert "scores" not in explorer.get_state()
