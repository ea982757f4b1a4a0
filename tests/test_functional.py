"""attnbook.functional against torch and against its own laws, for NumPy arrays and torch tensors alike.

Its shape annotations are checked during all of these (see conftest.py), and a warning is a failure.
"""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Problem, check, give, layouts, libraries, precisions, problems, rows, seeds, temperatures, torch_attention
)  # fmt: skip

from attnbook import functional as fn
from attnbook import masks

pytestmark = pytest.mark.filterwarnings("error")

# softmax and log-sum-exp ----------------------------------------------------------------------------------------


@libraries
@precisions
@given(data=st.data())
def test_softmax_and_logsumexp_equal_torch(library, dtype, data):
    x, axis = data.draw(rows(dtype))
    # A power of two divides exactly, so that float32 has no rounding of x / temperature to disagree about.
    temperature = data.draw(st.sampled_from([0.25, 1.0, 8.0]))
    given_x, want = give(x, library, data.draw(layouts(library))), torch.from_numpy(x)
    check(fn.softmax(given_x, axis, temperature), torch.softmax(want / temperature, axis), library)
    check(fn.logsumexp(given_x, axis), torch.logsumexp(want, axis), library)


@libraries
@given(case=rows(), temperature=temperatures)
def test_temperature_divides_the_logits(library, case, temperature):
    got = fn.softmax(give(case.x, library), case.axis, temperature)
    check(got, torch.softmax(torch.from_numpy(case.x) / temperature, case.axis), library)


@libraries
@precisions
@given(size=st.sampled_from([1e2, 1e4, 2.0**100]), data=st.data())
def test_logits_too_large_to_exponentiate(library, dtype, size, data):
    x, axis = data.draw(rows(dtype, size))
    got = fn.softmax(give(x, library), axis)
    check(got, torch.softmax(torch.from_numpy(x), axis), library)
    check(fn.logsumexp(give(x, library), axis), torch.logsumexp(torch.from_numpy(x), axis), library)


@libraries
def test_close_calls_far_from_zero(library):
    for offset in (1e4, -1e4):
        x = np.array([offset, offset + 1, offset + 3], np.float32)
        want = torch.softmax(torch.tensor([0.0, 1.0, 3.0]), -1)
        check(fn.softmax(give(x, library)), want, library)
    x = np.array([-80, 0, 79, 80], np.float16)
    check(fn.softmax(give(x, library)), torch.softmax(torch.from_numpy(x), -1), library, 1e-3)
    check(fn.logsumexp(give(x, library)), torch.tensor(80.3125, dtype=torch.float16), library, 1e-3)


@libraries
def test_many_half_precision_terms(library):
    ones = give(np.zeros(70_000, np.float16), library)
    assert float(fn.softmax(ones)[0]) == pytest.approx(1 / 70_000, rel=0.01)
    assert float(fn.logsumexp(ones)) == pytest.approx(math.log(70_000), rel=1e-3)


@libraries
@given(case=rows(min_side=1), temperature=temperatures, shift=st.floats(-1e3, 1e3))
def test_softmax_laws(library, case, temperature, shift):
    x, axis = give(case.x, library), case.axis
    weights = np.asarray(fn.softmax(x, axis, temperature))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis), 1, rtol=1e-12)
    np.testing.assert_allclose(fn.softmax(x + shift, axis, temperature), weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fn.logsumexp(x + shift, axis), fn.logsumexp(x, axis) + shift, rtol=1e-12, atol=1e-9)
    # log-sum-exp is softmax's normaliser.
    normaliser = np.expand_dims(np.asarray(fn.logsumexp(x, axis)), axis)
    np.testing.assert_allclose(np.exp(np.asarray(x) - normaliser), fn.softmax(x, axis), rtol=1e-12, atol=1e-12)


@libraries
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("tiny", [1e-6, 1e-30, 1e-46, 5e-324])
def test_temperature_to_zero_is_the_arg_max(library, dtype, tiny):
    x = give(np.array([1, 3, -math.inf, 3, 2], dtype), library)
    np.testing.assert_array_equal(fn.softmax(x, temperature=tiny), [0, 0.5, 0, 0.5, 0])


@libraries
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("huge", [1e9, 1e39, 1e308])
def test_temperature_to_infinity_is_uniform_over_what_is_allowed(library, dtype, huge):
    x = give(np.array([1, 3, -math.inf, -7, 2], dtype), library)
    np.testing.assert_allclose(fn.softmax(x, temperature=huge), [0.25, 0.25, 0, 0.25, 0.25], rtol=1e-7)


@libraries
def test_nothing_to_sum(library):
    x = give(np.array([[-math.inf, -math.inf], [0, -math.inf]]), library)
    np.testing.assert_array_equal(fn.softmax(x), [[0, 0], [1, 0]])
    np.testing.assert_array_equal(fn.logsumexp(x), [-math.inf, 0])
    assert tuple(fn.softmax(x[:, :0]).shape) == (2, 0)
    np.testing.assert_array_equal(fn.logsumexp(x[:, :0]), [-math.inf, -math.inf])
    np.testing.assert_array_equal(fn.entropy(x[:, :0]), [0, 0])


@libraries
def test_nan_is_passed_on_to_its_own_row_only(library):
    x = give(np.array([[0.0, math.nan], [0.0, 0.0]]), library)
    np.testing.assert_array_equal(fn.softmax(x), [[math.nan, math.nan], [0.5, 0.5]])
    np.testing.assert_array_equal(fn.logsumexp(x), [math.nan, math.log(2)])


# Entropy ----------------------------------------------------------------------------------------------------------


@libraries
@precisions
@given(data=st.data())
def test_entropy_equals_torch(library, dtype, data):
    x, axis = data.draw(rows(dtype, size=200.0))
    weights = torch.softmax(torch.from_numpy(x), axis)
    check(fn.entropy(give(weights.numpy(), library), axis), torch.special.entr(weights).sum(axis), library)


@libraries
@pytest.mark.parametrize("n", [1, 2, 10])
def test_entropy_from_none_to_all(library, n):
    np.testing.assert_array_equal(fn.entropy(give(np.eye(n), library)), np.zeros(n))
    np.testing.assert_allclose(fn.entropy(give(np.full((2, n), 1 / n), library)), np.log([n, n]), rtol=1e-14)


# Scores ---------------------------------------------------------------------------------------------------------


@libraries
@precisions
@given(data=st.data())
def test_scores_equal_einsum(library, dtype, data):
    problem = data.draw(problems(dtype, masked=False))
    q, k, _, _, scale = problem.to(library, data.draw(layouts(library)))
    want = torch.from_numpy(np.einsum("...qd,...kd->...qk", problem.q, problem.k))
    check(fn.dot_scores(q, k), want, library)
    check(fn.scaled_scores(q, k, scale), want * (scale or 1 / math.sqrt(q.shape[-1])), library)


@libraries
def test_scaling_comes_before_the_product(library):
    q = give(np.full((1, 256), 32, np.float16), library)
    assert float(fn.scaled_scores(q, q)[0, 0]) == 256 * 32 * 32 / 16  # unscaled: 262,144, beyond float16


@libraries
@given(problem=problems(masked=False), d_q=st.integers(0, 4), d_hidden=st.integers(0, 4), seed=seeds)
def test_additive_scores_equal_a_loop(library, problem, d_q, d_hidden, seed):
    rng = np.random.default_rng(seed)
    k, d_k = problem.k, problem.k.shape[-1]
    q = rng.normal(size=(*problem.q.shape[:-1], d_q))
    w_q, w_k, v_a = rng.normal(size=(d_q, d_hidden)), rng.normal(size=(d_k, d_hidden)), rng.normal(size=d_hidden)
    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    want = np.zeros((*batch, q.shape[-2], k.shape[-2]))
    spread_q, spread_k = (np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in (q, k))
    for *b, i, j in np.ndindex(want.shape):
        hidden = np.tanh(spread_q[(*b, i)] @ w_q + spread_k[(*b, j)] @ w_k)
        want[(*b, i, j)] = sum(a * h for a, h in zip(v_a, hidden))
    got = fn.additive_scores(*(give(a, library) for a in (q, k, w_q, w_k, v_a)))
    check(got, torch.from_numpy(want), library)


# Attention ------------------------------------------------------------------------------------------------------


@libraries
@precisions
@given(data=st.data())
def test_attention_equals_torch(library, dtype, data):
    problem = data.draw(problems(dtype))
    arguments = problem.to(library, data.draw(layouts(library)))
    out, weights = fn.attention(*arguments, return_weights=True)
    check(out, torch_attention(*problem.to("torch")), library)
    check(fn.attention(*arguments), torch_attention(*problem.to("torch")), library)
    # The weights are torch's too: what its attention makes of one-hot values.
    one_hot = torch.eye(problem.k.shape[-2], dtype=getattr(torch, dtype))
    q, k, _, mask, scale = problem.to("torch")
    check(weights, torch_attention(q, k, one_hot, mask, scale), library)


@libraries
@given(problem=problems())
def test_attention_equals_its_definition(library, problem):
    q, k, v, mask, scale = problem
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * np.einsum("...qd,...kd->...qk", q, k)
    mask = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.zeros(scores.shape)
    for place in np.ndindex(scores.shape[:-1]):
        allowed = [math.exp(s) if may else 0.0 for s, may in zip(scores[place], mask[place])]
        weights[place] = [e / sum(allowed) if sum(allowed) else 0.0 for e in allowed]
    out, got_weights = fn.attention(*problem.to(library), return_weights=True)
    check(got_weights, torch.from_numpy(weights), library)
    check(out, torch.from_numpy(np.einsum("...qk,...kv->...qv", weights, v)), library)
    assert (np.asarray(got_weights)[~mask] == 0).all()


@libraries
@precisions
@given(seed=seeds)
def test_attention_with_huge_logits(library, dtype, seed):
    # Small integers: every q·k is exact, in whatever order it is summed, up to 4 · 50 · 50 = 1e4.
    rng = np.random.default_rng(seed)
    q, k = rng.integers(-50, 51, (2, 3, 4)).astype(dtype), rng.integers(-50, 51, (2, 5, 4)).astype(dtype)
    k[..., 1, :] = k[..., 0, :] + [0, 0, 0, 1]  # near enough to the first for both to count
    q[..., -1] = rng.integers(-1, 2, (2, 3))
    problem = Problem(q, k, rng.uniform(-1, 1, (2, 5, 2)).astype(dtype), None, 1.0)
    check(fn.attention(*problem.to(library)), torch_attention(*problem.to("torch")), library)


@libraries
def test_attention_with_large_logits_in_float16(library):
    q = np.array([[16.0], [-16.0]], np.float16)
    k = np.array([[5.0], [4.875], [-5.0]], np.float16)  # logits ±80 and ±78
    v = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], np.float16)
    problem = Problem(q, k, v, None, 1.0)
    wide = [torch.from_numpy(a).double() for a in (q, k, v)]
    check(fn.attention(*problem.to(library)), torch_attention(*wide, scale=1.0).half(), library, 1e-3)


@libraries
@given(problem=problems(min_side=1), seed=seeds)
def test_attention_laws(library, problem, seed):
    q, k, v, mask, scale = problem
    out, weights = (np.asarray(a) for a in fn.attention(*problem.to(library), return_weights=True))
    row_sums = weights.sum(-1)
    empty = np.isclose(row_sums, 0)
    np.testing.assert_allclose(row_sums[~empty], 1, rtol=1e-12)

    # An average lies between the least and the greatest of what it averages.
    low, high = v.min(-2, keepdims=True), v.max(-2, keepdims=True)
    inside = (low - 1e-12 <= out) & (out <= high + 1e-12)
    assert (inside | np.broadcast_to(empty[..., None], inside.shape)).all()

    # Keys are a set: shuffled with their values (and their columns of the mask) they give the same.
    order = np.random.default_rng(seed).permutation(k.shape[-2])
    if mask is not None and mask.ndim and mask.shape[-1] > 1:
        mask = mask[..., order]
    shuffled = Problem(q, k[..., order, :], v[..., order, :], mask, scale)
    np.testing.assert_allclose(fn.attention(*shuffled.to(library)), out, rtol=1e-12, atol=1e-12)


@libraries
@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (2, 0, 2, 4), (2, 3, 2, 0), (1, 1, 1, 1)])
def test_empty_and_single_axes(library, shape):
    n_q, n_kv, d_k, d_v = shape
    q, k, v = (give(np.ones(s), library) for s in ((n_q, d_k), (n_kv, d_k), (n_kv, d_v)))
    out, weights = fn.attention(q, k, v, return_weights=True)
    np.testing.assert_array_equal(out, np.full((n_q, d_v), 1.0 if n_kv else 0.0))
    np.testing.assert_array_equal(weights, np.full((n_q, n_kv), 1 / max(n_kv, 1)))


@libraries
def test_keys_of_no_width_score_alike_once_a_scale_is_given(library):
    v = give(np.array([[1.0], [3.0]]), library)
    out = fn.attention(give(np.ones((1, 0)), library), give(np.ones((2, 0)), library), v, scale=1.0)
    np.testing.assert_array_equal(out, [[2.0]])


@libraries
def test_decoding_sees_the_whole_cache(library):
    # One query against five cached keys is the last row of the full causal computation.
    q, k, v = (give(np.random.default_rng(0).normal(size=(5, 3)), library) for _ in range(3))
    full = fn.attention(q, k, v, mask=masks.causal(5, like=q))
    step = fn.attention(q[-1:], k, v, mask=masks.causal(1, 5, like=q))
    np.testing.assert_allclose(step, full[-1:], rtol=1e-12)


@libraries
def test_broadcast_views_are_as_good_as_copies(library):
    row = give(np.arange(3.0), library)
    spread = np.broadcast_to(row, (4, 5, 3)) if library == "numpy" else row.expand(4, 5, 3)
    np.testing.assert_allclose(fn.attention(spread, spread, spread), spread, rtol=1e-12)


# Kind, dtype and innocence ------------------------------------------------------------------------------------------

CALLS = {
    "softmax": lambda a: fn.softmax(a),
    "softmax, empty axis": lambda a: fn.softmax(a[..., :0]),
    "logsumexp": lambda a: fn.logsumexp(a),
    "logsumexp, empty axis": lambda a: fn.logsumexp(a[..., :0]),
    "softmax_jvp": lambda a: fn.softmax_jvp(a, a, temperature=2),
    "entropy": lambda a: fn.entropy(a),
    "dot_scores": lambda a: fn.dot_scores(a, a),
    "scaled_scores": lambda a: fn.scaled_scores(a, a, 2),
    "additive_scores": lambda a: fn.additive_scores(a, a, a.T, a.T, a[:, 0]),
    "masked": lambda a: fn.masked(a, a > 0.5),
    "attention": lambda a: fn.attention(a, a, a),
    "attention, masked": lambda a: fn.attention(a, a, a, mask=a[:, :2] > 0.5, scale=0.5),
    "weights": lambda a: fn.attention(a, a, a, return_weights=True)[1],
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("call", CALLS)
def test_torch_in_torch_out_nothing_changed(call, dtype):
    a = torch.rand(2, 3, dtype=getattr(torch, dtype))
    before, version = a.clone(), a._version
    got = CALLS[call](a)
    assert isinstance(got, torch.Tensor) and got.dtype == a.dtype and got.device == a.device
    assert a._version == version and torch.equal(a, before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("call", CALLS)
def test_numpy_in_numpy_out_nothing_changed(call, dtype):
    a = np.random.default_rng(0).random((2, 3)).astype(dtype)
    before = a.copy()
    got = CALLS[call](a)
    assert isinstance(got, np.ndarray) and got.dtype == a.dtype
    np.testing.assert_array_equal(a, before)


def test_bfloat16_is_normalised_in_float32():
    x = torch.randn(3, 300, dtype=torch.bfloat16)
    torch.testing.assert_close(fn.softmax(x), torch.softmax(x, -1), rtol=2**-8, atol=0)
    torch.testing.assert_close(fn.logsumexp(x), torch.logsumexp(x.float(), -1).bfloat16(), rtol=2**-8, atol=0)


def test_annotations_are_checked():
    q, k = np.ones((2, 3)), np.ones((4, 5))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'k'"):
        fn.dot_scores(q, k)
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'v'"):
        fn.attention(q, np.ones((4, 3)), np.ones((5, 1)))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'mask'"):
        fn.masked(q, np.ones((2, 3)))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'like'|parameter 'n_q'"):
        masks.causal("3")


def test_annotated_results_are_checked(monkeypatch):
    q, k, v = np.ones((2, 3)), np.ones((4, 3)), np.ones((4, 5))
    with monkeypatch.context() as patch, pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        patch.setattr(fn, "_finite_max", lambda xp, x, axis: xp.zeros((7, *x.shape)))
        fn.softmax(q)
    for return_weights in (False, True):
        with monkeypatch.context() as patch, pytest.raises(jaxtyping.TypeCheckError, match="return value"):
            patch.setattr(fn, "softmax", lambda scores: scores[:1])  # one query's weights for two queries
            fn.attention(q, k, v, return_weights=return_weights)
