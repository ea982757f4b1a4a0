"""Tiled attention is attention: forward, log-sum-exp, gradients and rounding, whatever the tiles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook import bench, functional, masks
from attnbook.efficient.tiled import TILES, Running, absorb, merge, online_softmax, tiled_attention
from strategies import check, give, libraries, precisions, problems, rows, seeds

blocks = st.integers(1, 7)


def draw(*shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def reference(q, k, v, mask=None, scale=None, causal=False):
    """`functional.attention` with the grouped heads written out, and the log-sum-exp of its scores."""
    group = q.shape[-3] // k.shape[-3] if q.ndim > 2 and k.ndim > 2 and k.shape[-3] > 1 else 1
    k, v = (x.repeat_interleave(group, dim=-3) if group > 1 else x for x in (k, v))
    if causal:
        past = masks.causal(q.shape[-2], k.shape[-2], like=q)
        mask = past if mask is None else mask & past
    scores = functional.scaled_scores(q, k, scale)
    scores = scores if mask is None else functional.masked(scores, mask)
    return functional.attention(q, k, v, mask, scale), functional.logsumexp(scores)


@libraries
@precisions
def test_it_equals_the_reference_for_any_sizes_masks_and_blocks(library, dtype):
    @given(problems(dtype), st.booleans(), blocks, blocks)
    def check_one(problem, causal, block_q, block_kv):
        want, want_lse = reference(*problem.to("torch"), causal=causal)
        q, k, v, mask, scale = problem.to(library)
        got, lse = tiled_attention(q, k, v, mask, causal, scale, block_q, block_kv, return_lse=True)
        check(got, want, library)
        # The reference's lse knows nothing of the values' batch dimensions.
        check(lse, want_lse.expand(want.shape[:-1]), library)

    check_one()


@libraries
@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_heads_share_keys_and_values(library, n_kv_heads, masked):
    q, k, v = draw((2, 6, 11, 4), (2, n_kv_heads, 13, 4), (2, n_kv_heads, 13, 5))
    mask = torch.rand(2, 6, 11, 13, generator=torch.Generator().manual_seed(1)) < 0.6 if masked else None
    want, want_lse = reference(q, k, v, mask, causal=True)
    given_mask = None if mask is None else give(mask.numpy(), library)
    arrays = [give(x.numpy(), library) for x in (q, k, v)]
    got, lse = tiled_attention(*arrays, given_mask, causal=True, block_q=3, block_kv=4, return_lse=True)
    check(got, want, library)
    check(lse, want_lse, library)


@libraries
@pytest.mark.parametrize("layout", ["c", "transposed", "strided"])
def test_any_layout_in_memory_and_the_input_is_left_as_it_was(library, layout):
    q, k, v = draw((7, 4), (9, 4), (9, 4))
    arrays = [give(x.numpy(), library, layout) for x in (q, k, v)]
    before = [np.asarray(x).copy() for x in arrays]
    check(tiled_attention(*arrays, block_q=2, block_kv=5), functional.attention(q, k, v), library)
    assert all(np.array_equal(np.asarray(x), y) for x, y in zip(arrays, before))


@libraries
@pytest.mark.parametrize("n_q, n_kv", [(0, 5), (5, 0), (0, 0), (1, 1), (9, 2)])
def test_no_tokens_and_more_queries_than_keys(library, n_q, n_kv):
    q, k, v = draw((2, n_q, 4), (2, n_kv, 4), (2, n_kv, 3))
    for causal in (False, True):
        want, want_lse = reference(q, k, v, causal=causal)
        arrays = [give(x.numpy(), library) for x in (q, k, v)]
        got, lse = tiled_attention(*arrays, causal=causal, return_lse=True, block_q=2, block_kv=2)
        check(got, want, library)
        check(lse, want_lse, library)


@libraries
def test_an_empty_row_gives_zeros_and_minus_infinity(library):
    q, k, v = (give(x.numpy(), library) for x in draw((4, 3), (4, 3), (4, 3)))
    mask = np.ones((4, 4), dtype=bool)
    mask[1] = False
    out, lse = tiled_attention(q, k, v, give(mask, library), block_q=3, block_kv=2, return_lse=True)
    assert (np.asarray(out)[1] == 0).all() and np.asarray(lse)[1] == -math.inf
    assert np.isfinite(np.asarray(out)).all()


def test_tiles_of_the_future_are_never_computed():
    q, k, v = (np.random.default_rng(0).standard_normal((8, 2)) for _ in range(3))
    k[6:], v[6:] = np.nan, np.nan
    out = tiled_attention(q, k, v, causal=True, block_q=2, block_kv=2)
    assert np.isfinite(out[:6]).all()


@pytest.mark.parametrize("block_q, block_kv", [(1, 1), (2, 3), (5, 2), (64, 64)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_gradients_are_those_of_finite_differences(block_q, block_kv, causal, masked, n_kv_heads):
    q, k, v = (x.requires_grad_() for x in draw((4, 5, 3), (n_kv_heads, 4, 3), (n_kv_heads, 4, 2)))
    mask = torch.rand(4, 5, 4, generator=torch.Generator().manual_seed(3)) < 0.6 if masked else None
    if masked:
        mask[:, 2] = False  # an empty row

    def run(q, k, v):
        return tiled_attention(q, k, v, mask, causal, block_q=block_q, block_kv=block_kv)

    assert torch.autograd.gradcheck(run, (q, k, v))


def test_gradients_through_the_log_sum_exp():
    q, k, v = (x.requires_grad_() for x in draw((2, 5, 3), (2, 6, 3), (2, 6, 3)))
    assert torch.autograd.gradcheck(lambda *a: tiled_attention(*a, return_lse=True, block_q=2, block_kv=4), (q, k, v))


@given(problems(min_side=1), st.booleans(), blocks, blocks)
def test_gradients_equal_the_reference(problem, causal, block_q, block_kv):
    q, k, v, mask, scale = problem.to("torch")
    gradients = []
    for run in (lambda *a: tiled_attention(*a, mask, causal, scale, block_q, block_kv),
                lambda *a: reference(*a, mask, scale, causal)[0]):  # fmt: skip
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = run(*leaves)
        (out * torch.cos(torch.arange(out.numel(), dtype=out.dtype)).reshape(out.shape)).sum().backward()
        gradients.append([x.grad for x in leaves])
    for got, want in zip(*gradients):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_it_rounds_no_worse_than_twice_the_naive_version(dtype, causal):
    exact = draw((2, 300, 32), (2, 300, 32), (2, 300, 32), (2, 300, 32))
    past = masks.causal(300, like=exact[0]) if causal else torch.ones(300, 300, dtype=torch.bool)

    def run(f, kind):
        leaves = [x.to(dtype).to(kind).requires_grad_() for x in exact[:3]]
        out = f(*leaves)
        out.backward(exact[3].to(dtype).to(kind))
        return [x.detach().double() for x in (out, *(leaf.grad for leaf in leaves))]

    def naive(q, k, v):
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~past, -math.inf)
        return torch.softmax(scores, dim=-1) @ v

    want = run(naive, torch.float64)
    plain, tiled = run(naive, dtype), run(lambda *a: tiled_attention(*a, causal=causal, block_q=64, block_kv=48), dtype)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), want, plain, tiled):
        assert (c - a).abs().max() <= 2 * (b - a).abs().max(), name


def test_scores_beyond_the_largest_float_that_exp_takes():
    q, k, v = (100 * x.float() for x in draw((6, 4), (6, 4), (6, 4)))
    got = tiled_attention(q, k, v, scale=1.0, block_q=2, block_kv=2)
    torch.testing.assert_close(got, functional.attention(q, k, v, scale=1.0))


@libraries
@given(seeds, st.permutations(range(9)), st.integers(0, 9))
def test_any_split_of_the_keys_merges_to_the_whole(library, seed, order, cut):
    rng = np.random.default_rng(seed)
    scores, v = rng.normal(0, 20, (3, 9)), rng.normal(size=(9, 2))
    scores[0, : rng.integers(0, 10)] = -math.inf

    def part(columns):
        nothing = (np.full(3, -math.inf), np.zeros(3), np.zeros((3, 2)))
        start = Running(*(give(x, library) for x in nothing))
        if len(columns) == 0:
            return start
        chosen = scores[:, columns]  # a copy, which absorb may overwrite
        chosen = torch.from_numpy(chosen) if library == "torch" else chosen
        return absorb(start, chosen, give(v[columns], library))

    out, lse = merge(part(order[:cut]), tuple(part(order[cut:]))).result()
    check(out, torch.from_numpy(functional.softmax(scores) @ v), library)
    check(lse, functional.logsumexp(torch.from_numpy(scores)), library)


@libraries
@given(rows(size=300.0), blocks)
def test_online_softmax_is_softmax(library, example, block):
    x = give(example.x, library)
    check(online_softmax(x, block), functional.softmax(torch.from_numpy(example.x.copy())), library)


def test_online_softmax_of_nothing_and_of_half_precision():
    assert (online_softmax(np.full(5, -np.inf), 2) == 0).all()
    assert online_softmax(np.zeros((3, 0))).shape == (3, 0)
    x = torch.zeros(70_000, dtype=torch.float16)  # their sum is beyond float16
    assert online_softmax(x).sum() > 0


GOOD = dict(zip("qkv", draw((4, 5, 3), (2, 6, 3), (2, 6, 2))))


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ({"block_q": 0}, ValueError, "block_q must be an integer of at least 1, got 0"),
        ({"block_kv": -3}, ValueError, "block_kv must be an integer of at least 1, got -3"),
        ({"block_kv": 2.0}, ValueError, "block_kv must be an integer of at least 1, got 2.0"),
        ({"causal": 1}, TypeError, "causal must be True or False, got 1"),
        ({"scale": math.inf}, ValueError, "scale must be finite, got inf"),
        ({"q": GOOD["q"][0, 0]}, ValueError, r"q must have at least 2 dimensions, \(..., n, d\), got shape \(3,\)"),
        ({"q": GOOD["q"][:3]}, ValueError, r"q must have a multiple of the 2 heads of k and v.* got shape \(3, 5, 3\)"),
        ({"k": GOOD["k"][..., :2]}, ValueError, r"k must have the width of q, d_k = 3, got shape \(2, 6, 2\)"),
        ({"v": GOOD["v"][:, :4]}, ValueError, r"v must have one row for each of the 6 keys in k, got shape"),
        ({"v": GOOD["v"].expand(3, 1, 2, 6, 2)[:, :, [0, 1, 1]]}, ValueError, "v must have the heads of k"),
        ({"v": GOOD["v"].float()}, TypeError, "v must have the dtype of q, torch.float64, got torch.float32"),
        ({"k": GOOD["k"].numpy()}, TypeError, "k must come from the same library as q"),
        ({"mask": torch.ones(5, 6)}, TypeError, r"mask must be boolean \(True = may attend\), got dtype torch.float32"),
        ({"mask": torch.ones(5, 5) > 0}, ValueError, r"mask must broadcast to .* \(4, 5, 6\), got \(5, 5\)"),
        ({"mask": [[True]]}, TypeError, "mask must be an array of booleans"),
    ],
)
def test_a_wrong_argument_is_named(bad, error, message):
    with pytest.raises(error, match=message):
        tiled_attention(**{**GOOD, **bad})


def test_online_softmax_names_a_wrong_argument():
    with pytest.raises(ValueError, match="block must be an integer of at least 1, got 0"):
        online_softmax(np.zeros(3), 0)
    with pytest.raises(ValueError, match="x must have at least one axis"):
        online_softmax(np.array(1.0))


def test_second_derivatives_are_refused():
    q, k, v = (x.clone().requires_grad_() for x in (GOOD["q"], GOOD["k"], GOOD["v"]))
    (dq,) = torch.autograd.grad(tiled_attention(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def test_numpy_memory_is_the_output_and_one_tile():
    q, k, v = np.random.default_rng(0).standard_normal((3, 4096, 64), dtype=np.float32)
    tiled = bench.extra_memory(lambda: tiled_attention(q, k, v), "numpy")
    assert tiled < q.nbytes + 1.5 * 4 * math.prod(TILES["numpy"])
    assert bench.extra_memory(lambda: functional.attention(q, k, v), "numpy") > 80 * tiled


def test_torch_memory_beyond_the_output_hardly_grows():
    def beyond(n):
        q, k, v = draw(*[(8, n, 64)] * 3, dtype=torch.float32)
        return bench.extra_memory(lambda: tiled_attention(q, k, v), "torch") - q.nbytes

    assert math.log2(beyond(4096) / beyond(2048)) < 0.3
