"""The gradients of attnbook.functional: torch's, the hand-written Jacobian's, and zero where nothing is attended to."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Problem, check, give, libraries, problems, rows, seeds, temperatures, torch_attention

from attnbook import functional as fn
from attnbook import masks

# torch's own, when it first differentiates forwards and when it looks for NaN.
pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning"),
]


@libraries
@given(case=rows(min_side=1), temperature=temperatures, seed=seeds)
def test_softmax_jvp_equals_autograd_forwards_and_backwards(library, case, temperature, seed):
    x = torch.from_numpy(case.x)
    direction = np.random.default_rng(seed).normal(size=case.x.shape)
    step = torch.from_numpy(direction)
    weights, want = torch.func.jvp(lambda t: torch.softmax(t / temperature, case.axis), (x,), (step,))
    got = fn.softmax_jvp(give(weights.numpy(), library), give(direction, library), case.axis, temperature)
    check(got, want, library)
    _, pull_back = torch.func.vjp(lambda t: fn.softmax(t, case.axis, temperature), x)
    check(got, pull_back(step)[0], library, 1e-11)
    _, forwards = torch.func.jvp(lambda t: fn.softmax(t, case.axis, temperature), (x,), (step,))
    check(got, forwards, library, 1e-11)


@libraries
@given(x=hnp.arrays(float, st.integers(1, 6), elements=st.floats(-5, 5)), temperature=temperatures)
def test_softmax_jvp_equals_the_explicit_jacobian(library, x, temperature):
    weights = np.asarray(fn.softmax(x, temperature=temperature))
    jacobian = (np.diag(weights) - np.outer(weights, weights)) / temperature
    for column, direction in zip(jacobian.T, np.eye(len(x))):
        got = fn.softmax_jvp(give(weights, library), give(direction, library), temperature=temperature)
        np.testing.assert_allclose(got, column, rtol=1e-12, atol=1e-12)


@libraries
@given(problem=problems(masked=True, min_side=1))
@example(Problem(*np.ones((3, 2, 2)), np.array([[False, False], [True, False]]), None))
def test_fully_masked_rows_are_zeros(library, problem):
    q, k, v, mask, scale = problem.to(library)
    out, weights = fn.attention(q, k, v, mask, scale, return_weights=True)
    scores = fn.masked(fn.scaled_scores(q, k, scale), mask)
    nothing = ~np.broadcast_to(problem.mask, scores.shape).any(-1)
    assert (np.asarray(weights)[nothing] == 0).all()
    assert (np.asarray(out)[np.broadcast_to(nothing, out.shape[:-1])] == 0).all()
    lse = np.asarray(fn.logsumexp(scores))
    assert (lse[nothing] == -math.inf).all() and np.isfinite(lse[~nothing]).all()


@given(problem=problems(masked=True, min_side=1))
@example(Problem(*np.ones((3, 2, 2)), np.array([[False, False], [True, False]]), None))
@example(Problem(*np.ones((3, 2, 2)), np.array(False), None))
def test_gradients_of_fully_masked_rows_are_zeros(problem):
    q, k, v, mask, scale = problem.to("torch")
    for t in (q, k, v):
        t.requires_grad_()
    # Anomaly detection stops at a NaN on the way, even where a later product with 0 would hide it.
    with torch.autograd.detect_anomaly(check_nan=True):
        out = fn.attention(q, k, v, mask, scale)
        (out * torch.randn_like(out)).sum().backward()
        scores = fn.masked(fn.scaled_scores(q.detach(), k.detach(), scale), mask).requires_grad_()
        fn.logsumexp(scores).sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v, scores))
    allowed = mask.expand(scores.shape)
    assert (scores.grad[~allowed] == 0).all()
    unused_keys = ~allowed.any(-2)
    for t in (k, v):
        # A key's row is shared where the batch broadcasts: it is unused only if every copy is.
        unused = _reduced_to(unused_keys, torch.broadcast_shapes(unused_keys.shape[:-1], out.shape[:-2]), t.shape[:-1])
        assert (t.grad[unused] == 0).all()
    nothing = ~allowed.any(-1)
    empty = _reduced_to(nothing, torch.broadcast_shapes(nothing.shape[:-1], out.shape[:-2]), q.shape[:-1])
    assert (q.grad[empty] == 0).all()


def _reduced_to(flags, batch, shape):
    """Of flags that broadcast over `batch`, those of `shape` that are True for every copy."""
    flags = flags.expand(*batch, flags.shape[-1])
    for _ in range(flags.ndim - len(shape)):
        flags = flags.all(0)
    for axis, n in enumerate(shape[:-1]):
        if n == 1:
            flags = flags.all(axis, keepdim=True)
    return flags


@given(case=rows(min_side=1), seed=seeds)
def test_gradients_equal_torch(case, seed):
    upstream = torch.from_numpy(np.random.default_rng(seed).normal(size=case.x.shape))
    _, ours = torch.func.vjp(lambda t: fn.softmax(t, case.axis), torch.from_numpy(case.x))
    _, torchs = torch.func.vjp(lambda t: torch.softmax(t, case.axis), torch.from_numpy(case.x))
    torch.testing.assert_close(ours(upstream), torchs(upstream), rtol=1e-11, atol=1e-12)
    upstream = upstream.select(case.axis, 0)
    _, ours = torch.func.vjp(lambda t: fn.logsumexp(t, case.axis), torch.from_numpy(case.x))
    _, torchs = torch.func.vjp(lambda t: torch.logsumexp(t, case.axis), torch.from_numpy(case.x))
    torch.testing.assert_close(ours(upstream), torchs(upstream), rtol=1e-11, atol=1e-12)


@given(problem=problems(masked=False, min_side=1))
def test_attention_gradients_equal_torch(problem):
    q, k, v, _, scale = problem.to("torch")
    mask = masks.causal(q.shape[-2], k.shape[-2], like=q)
    # torch's gradient of an empty row is its own affair; ours is tested above.
    mask = mask | ~mask.any(-1, keepdim=True)
    out, ours = torch.func.vjp(lambda *t: fn.attention(*t, mask, scale), q, k, v)
    _, torchs = torch.func.vjp(lambda *t: torch_attention(*t, mask, scale), q, k, v)
    upstream = torch.randn_like(out)
    torch.testing.assert_close(ours(upstream), torchs(upstream), rtol=1e-11, atol=1e-12)


def test_gradcheck():
    def leaf(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    q, k, v = leaf(2, 1, 3, 4), leaf(3, 5, 4), leaf(5, 2)
    mask = torch.rand(3, 5) < 0.5
    mask[0] = False
    check_gradient = torch.autograd.gradcheck
    assert check_gradient(lambda *t: fn.attention(*t, mask, return_weights=True), (q, k, v))
    assert torch.autograd.gradgradcheck(lambda *t: fn.attention(*t, mask), (q, k, v))
    assert check_gradient(lambda t: fn.softmax(t, 0, 0.7), (leaf(4, 3),))
    assert check_gradient(lambda t: fn.logsumexp(t, 0), (leaf(4, 3),))
    assert check_gradient(lambda t: fn.entropy(fn.softmax(t)), (leaf(4, 3),))
    assert check_gradient(fn.softmax_jvp, (leaf(4, 3), leaf(4, 3)))
    assert check_gradient(fn.additive_scores, (leaf(3, 2), leaf(4, 5), leaf(2, 6), leaf(5, 6), leaf(6)))
