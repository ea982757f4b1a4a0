"""The Python side of the multi-head explorer: the layer's own numbers, switches, given arrays, errors with names."""

import hashlib
import json

import numpy as np
import pytest
import torch
from traitlets import TraitError

from attnbook import masks
from attnbook.layers import MultiHeadAttention
from attnbook.widgets import MultiHeadExplorer
from attnbook.widgets.multihead import GIVEN, INPUTS, made_up

RESULTS = ("weights", "heads_out", "out", "moved")


@pytest.fixture
def explorer():
    return MultiHeadExplorer()


def arrays_of(explorer):
    if explorer.made_up:
        return made_up(explorer.tokens, explorer.n_heads, explorer.d_k)
    return {name: getattr(explorer, name) for name in GIVEN}


def assert_results_are_the_layers(explorer):
    """The whole thing is one MultiHeadAttention layer, with the heads that are off left out of W_O."""
    x, w_q, w_k, w_v, w_o = (np.array(arrays_of(explorer)[name]) for name in GIVEN)
    h, d_k = explorer.n_heads, explorer.d_k
    outs = []
    for on in (explorer.on, (True,) * h):
        out = 0
        for i in range(h):
            part = slice(i * d_k, (i + 1) * d_k)
            scores = (x @ w_q[:, part]) @ (x @ w_k[:, part]).T / np.sqrt(d_k)
            exps = np.where(explorer.mask, np.exp(scores - scores.max()), 0)
            weights = exps / np.maximum(exps.sum(axis=-1, keepdims=True), 1e-300)
            heads_out = weights @ (x @ w_v[:, part])
            np.testing.assert_allclose(explorer.weights[i], weights, atol=1e-9)
            np.testing.assert_allclose(explorer.heads_out[i], heads_out, atol=1e-9)
            out = out + on[i] * (heads_out @ w_o[part])
        outs.append(out)
    np.testing.assert_allclose(explorer.out, outs[0], atol=1e-9)
    np.testing.assert_allclose(explorer.moved, np.linalg.norm(outs[0] - outs[1], axis=1), atol=1e-9)


def snapshot(explorer):
    return {name: getattr(explorer, name) for name in (*INPUTS, *RESULTS)}


def assert_unchanged(explorer, before):
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(explorer, name), value, err_msg=name)


def trained(tokens="a b c", n_heads=2, d_model=8, **options):
    torch.manual_seed(0)
    layer = MultiHeadAttention(d_model, n_heads, bias=False)
    x = torch.randn(len(tokens.split()), d_model)
    matrices = {name: getattr(layer, name).weight.T for name in GIVEN[1:]}
    return layer, x, MultiHeadExplorer(tokens, n_heads=n_heads, x=x, **matrices, **options)


# Where it starts -------------------------------------------------------------------------------------------------


def test_it_starts_with_the_sentence_of_the_book(explorer):
    assert explorer.tokens == ("the", "cat", "sat", "on", "the", "mat")
    assert repr(explorer) == "MultiHeadExplorer(6 tokens, n_heads=4, d_k=4)"
    assert explorer.on == (True,) * 4 and explorer.mask.all() and explorer.made_up
    assert explorer.weights.shape == (4, 6, 6) and explorer.heads_out.shape == (4, 6, 4)
    assert explorer.out.shape == (6, 16) and (explorer.moved == 0).all()
    assert_results_are_the_layers(explorer)


def test_the_first_heads_look_for_what_they_are_said_to(explorer):
    explorer.tokens = " ".join(f"w{i}" for i in range(16))
    back, same, ahead, farthest = explorer.weights
    assert (np.diag(back, -1) > 0.9).all() and (np.diag(ahead, 1) > 0.9).all()
    assert (farthest.argmax(axis=1) == np.where(np.arange(16) < 8, 15, 0)).all()
    explorer.tokens = "the cat sat on the mat"
    alike = np.equal.outer(explorer.tokens, explorer.tokens)
    assert ((explorer.weights[1] * alike).sum(axis=1) > 0.8).all()


def test_the_made_up_numbers_never_change():
    """Notebooks store numbers that come from them, and multihead.js makes the same."""
    arrays = made_up(["the", "Größe", "🙂", "the"], 12, 8)
    digest = hashlib.sha256(json.dumps([arrays[name].tolist() for name in GIVEN]).encode()).hexdigest()
    assert digest == "9f04082fbefbc1d9945769c293d9be5fbf7592a1f9d4982284146448ae0241db"


def test_a_head_stays_itself_among_more_heads_and_when_it_widens(explorer):
    before = explorer.weights, explorer.heads_out
    explorer.n_heads = 12
    np.testing.assert_allclose(explorer.weights[:4], before[0], atol=1e-12)
    np.testing.assert_allclose(explorer.heads_out[:4], before[1], atol=1e-12)
    narrow, wide = made_up("ab", 2, 3), made_up("ab", 2, 5)
    np.testing.assert_array_equal(narrow["w_v"][:, :3], wide["w_v"][:, :3])
    np.testing.assert_array_equal(narrow["w_o"][3:], wide["w_o"][5:8])


# Setting and observing -------------------------------------------------------------------------------------------


def test_results_follow_every_input(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.name))
    for name, value in (
        ("tokens", "now five words are here"), ("n_heads", 12), ("d_k", 1), ("on", [False] * 12), ("mask", "causal"),
        ("mask", None), ("tokens", "one"), ("d_k", 8), ("n_heads", 1), ("tokens", "a b " * 8),
        ("mask", masks.local(16, 16, 2)), ("n_heads", 3), ("mask", np.zeros((16, 16), bool)),
    ):  # fmt: skip
        heard.clear()
        setattr(explorer, name, value)
        assert name in heard and set(heard) & set(RESULTS), name
        assert_results_are_the_layers(explorer)


def test_switching_a_head_off_takes_away_what_it_adds(explorer):
    whole, w_o = explorer.out, made_up(explorer.tokens, 4, 4)["w_o"]
    explorer.on = (True, False, True, True)
    missing = explorer.heads_out[1] @ w_o[4:8]
    np.testing.assert_allclose(explorer.out, whole - missing, atol=1e-12)
    np.testing.assert_allclose(explorer.moved, np.linalg.norm(missing, axis=1), atol=1e-12)
    explorer.on = [False] * 4
    assert (explorer.out == 0).all()
    np.testing.assert_allclose(explorer.moved, np.linalg.norm(whole, axis=1))
    explorer.on = np.ones(4, bool)
    np.testing.assert_array_equal(explorer.out, whole)


def test_switches_and_mask_follow_the_sizes(explorer):
    explorer.on, explorer.mask = (True, False, True, False), "causal"
    explorer.n_heads = 6
    assert explorer.on == (True, False, True, False, True, True)
    explorer.n_heads = 2
    assert explorer.on == (True, False)
    explorer.tokens = "a much longer sentence than it was before"
    np.testing.assert_array_equal(explorer.mask, masks.causal(8))
    with explorer.hold_trait_notifications():
        explorer.on = (False, True, False)
        explorer.n_heads = 3
    assert explorer.on == (False, True, False)
    assert_results_are_the_layers(explorer)


def test_arrays_come_out_read_only(explorer):
    for name in ("mask", *RESULTS):
        with pytest.raises(ValueError, match="read-only"):
            getattr(explorer, name)[0] = 1


# A trained layer's arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_given_arrays_give_what_the_layer_gives(mask):
    layer, x, explorer = trained("a b c d", n_heads=4, d_model=12, mask=mask)
    may = torch.as_tensor(np.array(explorer.mask))
    out, weights = layer(x[None], mask=may, return_weights=True)
    np.testing.assert_allclose(explorer.out, out[0].detach(), atol=1e-6)
    np.testing.assert_allclose(explorer.weights, weights[0].detach(), atol=1e-6)
    assert explorer.d_k == 3 and not explorer.made_up
    assert_results_are_the_layers(explorer)
    explorer.on = (False, True, True, False)
    assert_results_are_the_layers(explorer)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_heads", 3, "n_heads must fit the given x and weights, 2, got 3"),
        ("d_k", 2, "d_k must fit the given x and weights, 4, got 2"),
        ("tokens", "a b", "tokens must fit the given x and weights, 3, got 2"),
        ("x", np.zeros((3, 7)), r"x must keep its shape, \(3, 8\), got \(3, 7\) now"),
        ("w_q", None, r"w_q must keep its shape, \(8, 8\), got None now"),
    ],
)
def test_given_arrays_fix_the_sizes(name, value, message):
    _, _, explorer = trained()
    before = snapshot(explorer)
    with pytest.raises(TraitError, match=message):
        setattr(explorer, name, value)
    assert_unchanged(explorer, before)
    explorer.tokens, explorer.w_v = "x y z", np.zeros((8, 8))
    assert (explorer.out == 0).all()


def test_given_arrays_must_fit_each_other():
    rng = np.random.default_rng(0)
    fitting = {"x": rng.normal(size=(3, 8)), "w_o": rng.normal(size=(6, 8))}
    fitting |= {name: rng.normal(size=(8, 6)) for name in ("w_q", "w_k", "w_v")}
    for changes, message in (
        ({"w_o": None, "x": None}, "must be given together, got no x, w_o"),
        ({"x": np.zeros((4, 8))}, r"x must have one row for each of the 3 tokens, got shape \(4, 8\)"),
        ({"w_k": np.zeros((6, 8))}, r"w_k must have shape \(8, 6\), \(d_model, n_heads · d_k\), got \(6, 8\)"),
        ({"w_o": np.zeros((8, 6))}, r"w_o must have shape \(6, 8\), \(n_heads · d_k, d_model\), got \(8, 6\)"),
        ({"w_q": np.zeros((8, 5))}, r"w_q must have n_heads · d_k columns, a multiple of 2, got \(8, 5\)"),
        ({"x": np.zeros((3, 129))}, "x must be 1…128 × 1…128 finite numbers"),
        ({"w_v": np.full((8, 6), np.nan)}, "w_v must be .* finite numbers"),
    ):
        with pytest.raises(TraitError, match=message):
            MultiHeadExplorer("a b c", n_heads=2, **(fitting | changes))


# What does not fit -----------------------------------------------------------------------------------------------

BAD = [
    ("tokens", "", "tokens must be 1 to 16 words, got 0"),
    ("tokens", "a " * 17, "tokens must be 1 to 16 words, got 17"),
    ("tokens", ["a", ""], "tokens must be words, none of them empty"),
    ("tokens", ["a", "New York"], "none of them empty or with white space in it"),
    ("tokens", 5, "tokens must be .*got 5"),
    ("n_heads", 0, "n_heads must be an integer from 1 to 12, got 0"),
    ("n_heads", 13, "n_heads must be an integer from 1 to 12, got 13"),
    ("n_heads", "four", "n_heads must be an integer from 1 to 12, got 'four'"),
    ("d_k", 9, "d_k must be an integer from 1 to 8 with made-up weights, got 9"),
    ("d_k", 0, "d_k must be an integer from 1"),
    ("mask", "local", "mask must be None, none, causal, padding or booleans of shape .*got 'local'"),
    ("mask", np.ones((6, 6)), "mask must be .*got dtype float64"),
    ("mask", np.ones((5, 5), bool), r"mask must have shape \(n, n\) = \(6, 6\) or broadcast to it, got \(5, 5\)"),
    ("on", (True,), "on must be a boolean for each of the 4 heads, got 1"),
    ("on", (1, 0, 1, 0), r"on must be a boolean for each head, got \(1, 0, 1, 0\)"),
    ("on", True, "on must be a boolean for each head, got True"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_named_and_changes_nothing(explorer, name, value, message):
    before = snapshot(explorer)
    with pytest.raises(TraitError, match=message):
        setattr(explorer, name, value)
    assert_unchanged(explorer, before)
    explorer.n_heads = 5
    assert_results_are_the_layers(explorer)
    with pytest.raises(TraitError, match=message):
        MultiHeadExplorer(**{name: value})


@pytest.mark.parametrize("name", RESULTS)
def test_results_cannot_be_set(explorer, name):
    with pytest.raises(TraitError, match=f"{name} is computed .* set tokens, n_heads, d_k, mask or on instead"):
        setattr(explorer, name, 1)


def test_weights_are_given_at_the_start_or_never(explorer):
    with pytest.raises(TraitError, match=r"x must be given when the explorer is made, got \(6, 16\) now"):
        explorer.x = np.zeros((6, 16))
    assert explorer.made_up


# The wire --------------------------------------------------------------------------------------------------------


def test_state_is_plain_json_and_comes_back(explorer):
    explorer.on, explorer.mask, explorer.d_k = (True, False, True, True), "causal", 3
    state = {name: explorer.get_state()[name] for name in INPUTS}
    assert all(name not in explorer.get_state() for name in RESULTS)
    other = MultiHeadExplorer("x", n_heads=1)
    other.set_state(json.loads(json.dumps(state)))
    assert_unchanged(other, snapshot(explorer))
    _, _, given = trained()
    given.set_state(json.loads(json.dumps({"on": [True, False], "x": given.get_state()["x"]})))
    assert_results_are_the_layers(given)


def test_the_browser_may_change_everything_in_one_message(explorer):
    heard = []
    explorer.observe(lambda change: heard.append(change.new.shape), names="out")
    explorer.set_state(dict(on=[True, False], mask=[[True, False], [True, True]], n_heads=2, tokens=["a", "b"], d_k=2))
    assert explorer.on == (True, False) and heard == [(2, 16)]
    assert_results_are_the_layers(explorer)
