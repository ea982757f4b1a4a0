"""attnbook.efficient.linear: the three forms are one, the state is all there is, the recall has its limits."""

import numpy as np
import pytest
import torch

from attnbook import functional
from attnbook.efficient import linear
from attnbook.efficient.linear import State, delta_rule, linear_attention

FORMS = ("chunked", "recurrent", "quadratic")
SHAPE = (2, 3, 37, 6)
MAPS = {"elu1": linear.elu1, "relu": linear.relu, "taylor": linear.taylor, "hedgehog": linear.hedgehog,
        "performer": linear.performer(6, 20, seed=1)}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def decays():
    share = torch.sigmoid(random(*SHAPE, seed=9))
    return {"none": None, "number": 0.9, "RetNet": share[0, :, :1, :1], "Mamba-2": share[..., :1], "GLA": share**3,
            "harsh": torch.full(SHAPE, 1e-30, dtype=torch.float64)}


@pytest.fixture
def qkv():
    return [random(*SHAPE, seed=i).requires_grad_() for i in range(3)]


def with_gradients(out, state, inputs):
    parts = [out, state.kv, *([] if state.norm is None else [state.norm])]
    loss = sum((part * torch.cos(part.detach())).sum() for part in parts)
    return [*parts, *torch.autograd.grad(loss, inputs, retain_graph=True)]


def assert_one(results, tolerance=1e-10):
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.isfinite(a).all() and (a - b).abs().max() <= tolerance * max(1, b.abs().max())


# The forms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", decays())
@pytest.mark.parametrize("normalise", [True, False])
def test_three_forms_are_one_with_their_gradients(qkv, name, normalise):
    options = {"decay": decays()[name], "normalise": normalise, "return_state": True}
    forms = [("recurrent", 1), ("quadratic", 1), *(("chunked", c) for c in (1, 4, 10, 37, 64))]
    assert_one([with_gradients(*linear_attention(*qkv, form=form, chunk=c, **options), qkv) for form, c in forms])


@pytest.mark.parametrize("feature", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("causal", [True, False])
def test_every_map_in_every_form(qkv, feature, causal):
    options = {"feature": feature, "causal": causal, "return_state": True}
    assert_one([with_gradients(*linear_attention(*qkv, form=form, chunk=10, **options), qkv) for form in FORMS])


def test_the_delta_rule_in_every_form(qkv):
    q, k, v = qkv
    key, beta = torch.nn.functional.normalize(k, dim=-1), torch.sigmoid(random(*SHAPE[:-1], 1, seed=5)).requires_grad_()
    forms = [("recurrent", 1), ("quadratic", 1), *(("chunked", c) for c in (1, 10, 37, 64))]
    inputs = [*qkv, beta]
    assert_one([with_gradients(*delta_rule(q, key, v, beta, form, c, return_state=True), inputs) for form, c in forms])


@pytest.mark.parametrize("causal", [True, False])
def test_it_is_attention_with_other_weights(qkv, causal):
    """Written down once more, with the table of weights in full and a decay by hand."""
    q, k, v = (x.detach() for x in qkv)
    weights = linear.elu1(q) @ linear.elu1(k).mT
    fade = 1.0
    if causal:
        distance = (torch.arange(37)[:, None] - torch.arange(37)).double()
        fade = torch.where(distance >= 0, 0.8 ** distance.clamp(min=0), 0)
    weights = weights * fade
    want = (weights / weights.sum(-1, keepdim=True)) @ v
    out = linear_attention(q, k, v, causal=causal, decay=0.8 if causal else None, chunk=8)
    torch.testing.assert_close(out, want, atol=1e-12, rtol=1e-12)


def test_gradcheck(qkv):
    small = [x[:1, :1, :5, :3].detach().requires_grad_() for x in qkv]
    gate = torch.sigmoid(random(1, 1, 5, 3, seed=4)).requires_grad_()
    for form in FORMS:
        call = lambda q, k, v, a: linear_attention(q, k, v, decay=a, form=form, chunk=2)  # noqa: B023,E731
        assert torch.autograd.gradcheck(call, [*small, gate])


@pytest.mark.parametrize("form", FORMS)
def test_numpy_gives_what_torch_gives(qkv, form):
    arrays = [x.detach().numpy() for x in qkv]
    decay = decays()["GLA"]
    out = linear_attention(*arrays, decay=decay.numpy(), form=form, chunk=8)
    assert isinstance(out, np.ndarray)
    np.testing.assert_allclose(out, linear_attention(*qkv, decay=decay, form=form).detach(), atol=1e-12)
    np.testing.assert_allclose(delta_rule(*arrays, 0.1, form=form), delta_rule(*qkv, 0.1).detach(), atol=1e-10)


def test_half_precision_and_leading_dimensions():
    q, k, v = (random(2, 4, 50, 8, seed=i).float() for i in range(3))
    half = linear_attention(*(x.bfloat16() for x in (q, k, v)))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), linear_attention(q, k, v), atol=0.03, rtol=0.03)
    shared = linear_attention(q, k[:, :1], v[:1, :1])
    full = linear_attention(q, k[:, :1].expand_as(q), v[:1, :1].expand_as(q))
    torch.testing.assert_close(shared, full)
    torch.testing.assert_close(delta_rule(q, k[:, :1] / 9, v), delta_rule(q, k[:, :1].expand_as(q) / 9, v))


# The state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_text_in_two_parts_is_the_text(qkv, form):
    q, k, v = (x.detach() for x in qkv)
    for call in (lambda *a, **o: linear_attention(*a, decay=0.9, **o), lambda *a, **o: delta_rule(*a, 0.2, **o)):
        want, end = call(q, k, v, return_state=True)
        first, state = call(*(x[..., :15, :] for x in (q, k, v)), form=form, return_state=True)
        second, last = call(*(x[..., 15:, :] for x in (q, k, v)), form=form, state=state, return_state=True)
        torch.testing.assert_close(torch.cat([first, second], dim=-2), want, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(last.kv, end.kv, atol=1e-10, rtol=1e-10)


def test_decoding_one_token_at_a_time_in_constant_memory(qkv):
    q, k, v = (linear.elu1(qkv[0].detach()), linear.elu1(qkv[1].detach()), qkv[2].detach())
    want = linear_attention(qkv[0], qkv[1], qkv[2]).detach()
    state = State.empty(6, 6, batch=(2, 3), like=q)
    empty = state.n_bytes
    for i in range(37):
        state = state.write(k[..., i, :], v[..., i, :])
        torch.testing.assert_close(state.read(q[..., i, :]), want[..., i, :], atol=1e-12, rtol=1e-12)
    assert state.n_bytes == empty == 2 * 3 * (36 + 6) * 8


def test_the_delta_rule_replaces_and_the_sum_piles_up():
    key, one, two = np.array([0.6, 0.8]), np.array([1.0, 2.0]), np.array([5.0, -1.0])
    start = State.empty(2, 2)
    delta = start.write(key, one, beta=1).write(key, two, beta=1)
    np.testing.assert_allclose(delta.read(key), two, atol=1e-12)
    np.testing.assert_allclose(start.write(key, one).write(key, two).read(key, normalise=False), one + two)
    assert np.all(start.kv == 0), "states are never changed"
    assert np.all(start.read(key) == 0), "nothing written, nothing found"


def test_decay_of_the_state_is_decay_of_the_attention():
    k, v = np.random.default_rng(0).random((2, 4, 3))
    state = State.empty(3, 3)
    for i in range(4):
        state = state.write(k[i], v[i], decay=np.array([0.5, 1, 0.9]))
    _, want = linear_attention(k, k, v, feature=None, decay=np.array([[0.5, 1, 0.9]]), return_state=True)
    np.testing.assert_allclose(state.kv, want.kv, atol=1e-12)
    np.testing.assert_allclose(state.norm, want.norm, atol=1e-12)


def test_orthogonal_keys_are_recalled_exactly_up_to_the_width():
    k, v = np.eye(8), np.random.default_rng(1).standard_normal((8, 5))
    _, state = linear_attention(k, k, v, feature=None, return_state=True, normalise=False)
    np.testing.assert_allclose([state.read(key, normalise=False) for key in k], v, atol=1e-12)


# The maps ---------------------------------------------------------------------------------------------------------


def test_performer_comes_close_to_the_exponential_and_taylor_too():
    x = 0.5 * np.random.default_rng(0).standard_normal((2, 40, 16))
    exact = np.exp(x[0] @ x[1].T / 4)
    errors = []
    for m in (64, 4096):
        feature = linear.performer(16, m, seed=0)
        assert np.all(feature(x[0]) > 0)
        errors.append(np.abs(feature(x[0]) @ feature(x[1]).T / exact - 1).mean())
    assert errors[1] < 0.07 and errors[1] < errors[0] / 3
    s = x[0] @ x[1].T / 4
    np.testing.assert_allclose(linear.taylor(x[0]) @ linear.taylor(x[1]).T, 1 + s + s**2 / 2, atol=1e-12)


def test_maps_on_numbers():
    x = np.array([[-2.0, 0.0, 3.0]])
    np.testing.assert_allclose(linear.elu1(x), [[np.exp(-2), 1, 4]])
    np.testing.assert_array_equal(linear.relu(x), [[0, 0, 3]])
    np.testing.assert_allclose(linear.hedgehog(x), np.concatenate([functional.softmax(x), functional.softmax(-x)], -1))
    assert linear.taylor(x).shape == (1, 13)


def test_a_query_without_weights_gets_zeros():
    q, k, v = -np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2))
    for form in FORMS:
        assert np.all(linear_attention(q, k, v, feature=linear.relu, form=form) == 0)


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_batch_has_an_empty_answer(form):
    q = torch.ones(0, 37, 6)
    for options in ({}, {"decay": 0.9}):
        out, state = linear_attention(q, q, q, form=form, chunk=10, return_state=True, **options)
        assert out.shape == (0, 37, 6) and state.kv.shape == (0, 6, 6)


def test_half_precision_keeps_its_state_in_float32_and_a_number_may_be_numpys():
    q, k, v = (random(2, 20, 4, seed=i).half() for i in range(3))
    _, state = linear_attention(q, k, v, decay=np.float64(0.9), return_state=True)
    _, wide = linear_attention(q.float(), k.float(), v.float(), decay=0.9, return_state=True)
    assert state.kv.dtype == state.norm.dtype == torch.float32
    torch.testing.assert_close(state.kv, wide.kv)


# What is refused --------------------------------------------------------------------------------------------------

X = np.ones((2, 5, 4))


@pytest.mark.parametrize("call, named", [
    (lambda: linear_attention(X[:, :0], X[:, :0], X[:, :0]), "q must have at least one token"),
    (lambda: linear_attention(X[:, :1], X, X), "q must have a query for each of the 5 keys.*state"),
    (lambda: linear_attention(X, X, X[:, :3]), "v must have one row for each of the 5 keys"),
    (lambda: linear_attention(X, X[..., :2], X), "k must have the width of q"),
    (lambda: linear_attention(X, X, X, form="fast"), "form must be one of 'chunked'.*'fast'"),
    (lambda: linear_attention(X, X, X, chunk=0), "chunk must be an integer of at least 1, got 0"),
    (lambda: linear_attention(X, X, X, feature=np.sin(4)), "feature must be a function"),
    (lambda: linear_attention(X, -X, X, feature=None), "feature must give no negative values.*-1 for k"),
    (lambda: linear_attention(X, X, X, feature=lambda x: x[..., 0]), "feature must turn k"),
    (lambda: linear_attention(X, X, X, feature=linear.performer(3)), "x must have the width of this map, d_k = 3"),
    (lambda: linear_attention(X, X, X, decay=1.5), r"decay must be in \(0, 1\].*1.5"),
    (lambda: linear_attention(X, X, X, decay=0), r"decay must be in \(0, 1\]"),
    (lambda: linear_attention(X, X, X, decay=np.ones(5)), r"decay must be a number or broadcast to \(..., 5, 4\)"),
    (lambda: linear_attention(X, X, X, decay=0.9, causal=False), "decay needs causal=True"),
    (lambda: linear_attention(X, X, X, state=State.empty(3, 4)), r"state.kv must have shape \(2, 4, 4\)"),
    (lambda: linear_attention(X, X, X, state=State(np.ones((4, 4)))), "state must have a norm"),
    (lambda: linear_attention(X, X, X, state=X), "state must be a State"),
    (lambda: delta_rule(X, X, X, state=State.empty(4, 3)), r"state.kv must have shape \(2, 4, 4\)"),
    (lambda: delta_rule(X, X, X, beta=np.ones((2, 5, 4))), r"beta must be a number or broadcast to \(..., 5, 1\)"),
    (lambda: delta_rule(X, X, X, beta="all"), "beta must be a number"),
    (lambda: State.empty(0, 3), "d_feature must be an integer of at least 1"),
    (lambda: State.empty(4, 4).write(np.ones(3), np.ones(4)), "k must have 4 numbers"),
    (lambda: State.empty(4, 3).read(np.ones(3)), "q must have 4 numbers"),
    (lambda: State.empty(3, 4).write(np.ones(3), np.ones(4), decay="0.5"), "decay must be a NumPy array"),
    (lambda: linear_attention(X, X, X, causal=1), "causal must be True or False, got 1"),
    (lambda: linear_attention(X, X, X, decay=torch.full((5, 1), 0.5)), "decay must come from the same library as k"),
    (lambda: delta_rule(X, X, X, beta=np.ones((5, 1), dtype=int)), "beta must have a floating dtype"),
    (lambda: linear_attention(X, X, X, state=State(np.ones((4, 4)), torch.ones(4))), "state.norm must come from"),
    (lambda: linear_attention(X, X, X, state=State(np.ones((4, 4)), -np.ones(4))), "state.norm must not be negative"),
    (lambda: linear.performer(4, 0), "n_features must be an integer of at least 1"),
])
def test_what_is_wrong_is_named(call, named):
    with pytest.raises((ValueError, TypeError), match=named):
        call()


def test_memory_of_the_chunked_form_does_not_grow_like_n_squared():
    from attnbook.bench import extra_memory

    taken = []
    for n in (1024, 4096):
        q, k, v = (random(2, n, 32, seed=i).float() for i in range(3))
        taken.append(extra_memory(lambda: linear_attention(q, k, v)))  # noqa: B023
    assert taken[1] < 4.5 * taken[0]
