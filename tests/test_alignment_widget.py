"""The alignment explorer's Python object: what is shown, how much lies on the right source, and what is refused."""

import json

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook.widgets import AlignmentExplorer
from attnbook.widgets.alignment import INPUTS

RNG = np.random.default_rng(3)
HEADS = RNG.dirichlet(np.ones(5), size=(2, 4))  # 2 heads, 4 targets, 5 sources
IMAGE = RNG.random((8, 12, 3))


def check_results(explorer):
    weights = explorer.weights
    if weights.ndim == 3:
        weights = weights.mean(axis=0) if explorer.head is None else weights[explorer.head]
    powers = weights**explorer.sharpness
    sums = powers.sum(axis=1, keepdims=True)
    expected = np.divide(powers, sums, out=np.zeros_like(powers), where=sums > 0)
    np.testing.assert_allclose(explorer.shown, expected, atol=1e-12)
    if explorer.expected is None:
        assert explorer.mass is None
    else:
        expected = [explorer.shown[i, list(right)].sum() if right else np.nan for i, right in
                    enumerate(explorer.expected)]  # fmt: skip
        np.testing.assert_allclose(explorer.mass, expected)


def test_weights_alone_are_enough():
    explorer = AlignmentExplorer(HEADS[0])
    assert explorer.source == tuple("01234") and explorer.target == tuple("0123")
    np.testing.assert_allclose(explorer.shown, HEADS[0])
    assert (explorer.selected, explorer.head, explorer.sharpness, explorer.mass) == (0, None, 1, None)
    assert repr(explorer) == "AlignmentExplorer(4 targets, 5 sources)"
    assert repr(AlignmentExplorer(HEADS)) == "AlignmentExplorer(2 heads, 4 targets, 5 sources)"


@pytest.mark.parametrize("given", [HEADS, HEADS.tolist(), torch.tensor(HEADS), torch.tensor(HEADS).half()])
def test_arrays_of_every_kind_go_in(given):
    explorer = AlignmentExplorer(given)
    assert isinstance(explorer.weights, np.ndarray) and explorer.weights.shape == (2, 4, 5)
    np.testing.assert_allclose(explorer.weights, HEADS, atol=1e-3)
    assert not explorer.weights.flags.writeable and not explorer.shown.flags.writeable
    assert AlignmentExplorer(given[0]).weights.shape == (4, 5)


def test_head_and_sharpness():
    explorer = AlignmentExplorer(HEADS, expected=[0, -1, 2, 4])
    for head in (None, 0, 1):
        for sharpness in (0.1, 1, 3, 100):
            explorer.set(head=head, sharpness=sharpness)
            check_results(explorer)
    assert explorer.shown.max(axis=1) == pytest.approx(1, abs=0.05), "at γ = 100 the largest takes nearly all"


def test_an_empty_row_stays_empty():
    weights = np.array([[0.5, 0.5, 0], [0, 0, 0]])
    explorer = AlignmentExplorer(weights, sharpness=2, expected=[0, 1])
    np.testing.assert_array_equal(explorer.shown, weights)
    np.testing.assert_array_equal(explorer.mass, [0.5, 0])


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ([0, -1, 2, 4], ((0,), (), (2,), (4,))),
        ([0, None, 2, 4], ((0,), (), (2,), (4,))),
        (np.array([0, -1, 2, 4]), ((0,), (), (2,), (4,))),
        (torch.tensor([0, -1, 2, 4]), ((0,), (), (2,), (4,))),
        ([{0, 3}, set(), {2}, {4}], ((0, 3), (), (2,), (4,))),
        (np.eye(4, 5, dtype=bool), ((0,), (1,), (2,), (3,))),
        (torch.eye(5)[:4].bool(), ((0,), (1,), (2,), (3,))),
        (np.ones((4, 5), dtype=bool), (tuple(range(5)),) * 4),
        (None, None),
    ],
)
def test_expected_in_every_form(given, held):
    explorer = AlignmentExplorer(HEADS, expected=given)
    assert explorer.expected == held
    check_results(explorer)
    explorer.set_state(json.loads(json.dumps(explorer.get_state(["expected"]))))
    assert explorer.expected == held


def test_a_picture():
    weights = RNG.dirichlet(np.ones(6), size=3)
    explorer = AlignmentExplorer(weights, target=["what", "is", "it"], image=IMAGE, grid=(2, 3), expected=[0, 1, 5])
    assert explorer.source == () and explorer.grid == (2, 3)
    assert repr(explorer) == "AlignmentExplorer(3 targets, 6 patches)"
    check_results(explorer)
    sent = explorer.get_state(["image"])["image"]
    assert (sent["height"], sent["width"]) == (8, 12) and len(sent["data"]) == 8 * 12 * 3 * 4 // 3
    explorer.set_state({"image": sent})
    np.testing.assert_allclose(explorer.image, IMAGE, atol=0.5 / 255 + 1e-9)
    assert AlignmentExplorer(weights, image=torch.tensor(IMAGE), grid=[3, 2]).grid == (3, 2)


def test_what_the_browser_sends_comes_back_the_same():
    explorer = AlignmentExplorer(HEADS, source=list("abcde"), target=list("wxyz"), expected=[1, 0, -1, 2], selected=2,
                                 head=1, threshold=0.2, sharpness=2)  # fmt: skip
    state = json.loads(json.dumps(explorer.get_state(list(INPUTS))))
    other = AlignmentExplorer(HEADS)
    other.set_state(state)
    np.testing.assert_allclose(other.shown, explorer.shown, rtol=1e-6)
    for name in ("source", "target", "expected", "selected", "head", "threshold", "sharpness"):
        assert getattr(other, name) == getattr(explorer, name)


def test_other_weights_in_one_step():
    explorer = AlignmentExplorer(HEADS, expected=[0, 0, 0, 0], selected=3, head=1)
    heard = []
    explorer.observe(lambda change: heard.append(change.name), names=["shown", "mass"])
    weights = RNG.dirichlet(np.ones(2), size=3)
    explorer.set(weights=weights, source=["a", "b"], target=["x", "y", "z"], expected=[1, 1, 1], selected=0, head=None)
    check_results(explorer)
    assert set(heard) == {"shown", "mass"}
    before = explorer.shown
    with pytest.raises(TraitError, match="source must be a name for each of the 2 sources"):
        explorer.set(source=["a"], sharpness=2)
    assert explorer.source == ("a", "b") and explorer.sharpness == 1
    np.testing.assert_array_equal(explorer.shown, before)
    with pytest.raises(TypeError, match="set takes weights, .* got 'colour'"):
        explorer.set(colour=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": 2 * HEADS}, "weights must be rows .* sum to 1, or to 0 .* got a row that sums to 2"),
        ({"weights": -HEADS}, "weights must be at least 0 everywhere, got -0."),
        ({"weights": [[0.5, 0.5], [1.0]]}, "weights must be finite numbers of shape .* rows of different lengths"),
        ({"weights": "none"}, "weights must be finite numbers"),
        ({"weights": [0.5, 0.5]}, r"weights must be finite numbers of shape .* got shape \(2,\)"),
        ({"weights": [[np.nan, 1]]}, "weights must be finite"),
        ({"weights": np.full((1, 65), 1 / 65)}, "over at most 64 sources where there is no picture, got 65"),
        ({"source": ["a"]}, r"source must be a name for each of the 5 sources of weights of shape \(2, 4, 5\), got 1"),
        ({"source": "abcde"}, "source must be a list of strings"),
        ({"target": ["a"]}, "target must be a name for each of the 4 targets"),
        ({"selected": 4}, "selected must be below 4"),
        ({"selected": -1}, "selected must be an index, an integer of at least 0, got -1"),
        ({"head": 2}, "head must be None or below 2"),
        ({"weights": HEADS[0], "head": 0}, "head must be None, since weights .* one head only"),
        ({"expected": [0, 1]}, "expected must be the right source of each of the 4 targets, got 2"),
        ({"expected": [0, 1, 2, 5]}, "expected must be indices below 5, .* got 5"),
        ({"expected": [0, 1, 2, 0.5]}, "expected must be an index for each target"),
        ({"expected": [0, 1, 2, -2]}, "expected must be an index for each target"),
        ({"expected": "abcd"}, "expected must be an index for each target"),
        ({"image": np.ones((4, 4)), "grid": (1, 5)}, "image must be a picture .* got shape"),
        ({"image": np.full((4, 5, 3), 255), "grid": (1, 5)}, "image must be numbers from 0 to 1 .*divide by 255"),
        ({"image": np.ones((4, 5, 3))}, r"grid must be \(rows, cols\) with rows × cols = 5, .* got None"),
        ({"image": np.ones((4, 5, 3)), "grid": (2, 3)}, r"rows × cols = 5, .* got \(2, 3\)"),
        ({"grid": (0, 5)}, r"grid must be \(rows, cols\), two integers of at least 1"),
        ({"sharpness": 0}, "sharpness must be a finite number above 0"),
        ({"threshold": 1.5}, "threshold must be a finite number at least 0 and at most 1"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(TraitError, match=message):
        AlignmentExplorer(**{"weights": HEADS, **given})


def test_results_cannot_be_set():
    explorer = AlignmentExplorer(HEADS)
    for name in ("shown", "mass"):
        with pytest.raises(TraitError, match=f"{name} is computed .* instead"):
            setattr(explorer, name, 0)
