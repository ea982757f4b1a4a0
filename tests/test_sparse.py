"""Sparse attention: layouts, attention over the kept blocks only, and who hears whom through layers."""

import itertools

import numpy as np
import pytest
import torch

from attnbook import functional, masks
from attnbook.efficient import sparse

rng = np.random.default_rng(19)
NUMBERS = {"bigbird": {"per_row": 1}, "dilated": {"window": 2, "step": 3}, "strided": {"stride": 3}}


def arrays(library, n_q=37, n_kv=37, batch=(2, 3), d_k=5, d_v=4):
    made = [rng.standard_normal((*batch, *size)) for size in ((n_q, d_k), (n_kv, d_k), (n_kv, d_v))]
    return made if library == "numpy" else [torch.tensor(x) for x in made]


def like(x, mask):
    return torch.tensor(mask) if isinstance(x, torch.Tensor) else mask


@pytest.mark.parametrize("name", sparse.PATTERNS)
@pytest.mark.parametrize("sizes", [(37, 37, 8), (16, 64, 8), (1, 1, 4), (5, 40, 16)])
def test_a_layout_has_a_cell_for_each_block(name, sizes):
    n_q, n_kv, block = sizes
    layout = sparse.pattern(name, n_q, n_kv, block, **NUMBERS.get(name, {}))
    assert layout.dtype == bool and layout.shape == (-(-n_q // block), -(-n_kv // block))


def test_layouts_are_the_masks_of_blocks():
    assert np.array_equal(sparse.local_blocks(64, 64, 8, 2), masks.local(8, 8, 2))
    assert np.array_equal(sparse.dilated_blocks(64, 64, 8, 2, 3), masks.dilated(8, 8, 2, 3))
    assert np.array_equal(sparse.global_blocks(64, 64, 8, 1), masks.globally(8, 8, 1))
    assert np.array_equal(sparse.random_blocks(64, 64, 8, 2, 5), masks.random(8, 8, 2, 5))
    distance = np.abs(np.arange(8)[:, None] - np.arange(8))
    assert np.array_equal(sparse.strided_blocks(64, 64, 8, 3), distance % 3 == 0)
    assert np.array_equal(sparse.diagonal_blocks(64, 64, 8, 4), np.kron(np.eye(2), np.ones((4, 4))) > 0)
    parts = masks.local(8, 8, 2) | masks.globally(8, 8, 1) | masks.random(8, 8, 2, 0)
    assert np.array_equal(sparse.bigbird_blocks(64, 64, 8), parts)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", sparse.PATTERNS)
def test_equal_to_masked_dense_attention(library, name):
    for n_q, n_kv, causal in itertools.product((37, 16), (37, 41), (False, True)):
        q, k, v = arrays(library, n_q, n_kv)
        layout = sparse.pattern(name, n_q, n_kv, 8, **NUMBERS.get(name, {}))
        cells = sparse.block_mask(layout, 8, n_q, n_kv) & (masks.causal(n_q, n_kv) | (not causal))
        out = sparse.block_sparse_attention(q, k, v, like(q, layout), 8, causal)
        assert out.dtype == q.dtype
        np.testing.assert_allclose(out, functional.attention(q, k, v, like(q, cells)), atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("shape", [(37, 37), (3, 37, 37), (1, 37), (2, 1, 1, 37), (2, 3, 37, 37), (2, 1, 37, 37)])
def test_a_mask_of_cells_within_the_blocks(library, shape):
    q, k, v = arrays(library)
    mask, layout = rng.random(shape) < 0.6, sparse.bigbird_blocks(37, 37, 8)
    cells = mask & sparse.block_mask(layout, 8, 37, 37) & masks.causal(37)
    out = sparse.block_sparse_attention(q, k, v, layout, 8, causal=True, mask=like(q, mask), scale=0.3)
    np.testing.assert_allclose(out, functional.attention(q, k, v, like(q, cells), scale=0.3), atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_mask_may_be_a_function_of_positions(library):
    q, k, v = arrays(library, 16, 37)
    layout = np.ones((2, 5), dtype=bool)
    out = sparse.block_sparse_attention(q, k, v, layout, 8, mask=lambda i, j: (i - j) % 3 == 0)
    cells = (np.arange(16)[:, None] + 21 - np.arange(37)) % 3 == 0
    np.testing.assert_allclose(out, functional.attention(q, k, v, like(q, cells)), atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_leading_dimensions_broadcast(library):
    q, k, v = arrays(library)
    layout = sparse.local_blocks(37, 37, 8)
    for one, two, three in ((q, k[:1], v[0, 0]), (q[0], k, v), (q[0, 0], k[0, 0], v[0, 0])):
        out = sparse.block_sparse_attention(one, two, three, layout, 8)
        dense = functional.attention(one, two, three, like(q, sparse.block_mask(layout, 8, 37, 37)))
        assert out.shape == dense.shape
        np.testing.assert_allclose(out, dense, atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("window", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("sizes", [(37, 37), (1, 300), (300, 300), (200, 330), (9, 5)])
def test_the_window_is_the_masked_one(library, window, sizes):
    q, k, v = arrays(library, *sizes)
    cells = masks.causal(*sizes) & masks.local(*sizes, window)
    dense = functional.attention(q, k, v, like(q, cells))
    np.testing.assert_allclose(sparse.window_attention(q, k, v, window), dense, atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_skipped_blocks_are_not_read_and_empty_rows_are_zero(library):
    q, k, v = arrays(library, 24, 24)
    k[..., 8:16, :] = v[..., 8:16, :] = np.nan
    layout = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 1]], dtype=bool)
    out = sparse.block_sparse_attention(q, k, v, layout, 8)
    assert np.isfinite(np.asarray(out)).all() and not np.asarray(out)[..., 8:16, :].any()
    never = like(q, np.zeros((24, 24), dtype=bool))
    assert not np.asarray(sparse.block_sparse_attention(q, k, v, layout & False, 8)).any()
    q, k, v = arrays(library, 24, 24)
    assert not np.asarray(sparse.block_sparse_attention(q, k, v, ~(layout & False), 8, mask=never)).any()
    earlier = sparse.block_sparse_attention(*arrays(library, 24, 8), np.ones((3, 1), bool), 8, causal=True)
    assert not np.asarray(earlier)[..., :16, :].any() and np.asarray(earlier)[..., 16:, :].any()


def test_gradients_are_those_of_masked_dense_attention():
    q, k, v = (x.requires_grad_() for x in arrays("torch", 21, 21, batch=(2,)))
    layout = sparse.bigbird_blocks(21, 21, 4, per_row=1)
    mask = torch.tensor(rng.random((21, 21)) < 0.4)
    mask[5] = False
    cells = mask & torch.tensor(sparse.block_mask(layout, 4, 21, 21) & masks.causal(21))
    ours = sparse.block_sparse_attention(q, k, v, layout, 4, causal=True, mask=mask)
    ones = torch.cos(torch.arange(ours.numel(), dtype=q.dtype)).view_as(ours)
    dense = functional.attention(q, k, v, cells)
    pairs = zip(*(torch.autograd.grad(out, (q, k, v), ones) for out in (ours, dense)))
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in pairs)
    assert torch.autograd.gradcheck(lambda *qkv: sparse.window_attention(*qkv, 5), (q, k, v))
    skipped = sparse.block_sparse_attention(q, k, v, layout & False, 4)
    assert not any(grad.any() for grad in torch.autograd.grad(skipped.sum(), (q, k, v)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_smaller_dtypes(dtype):
    q, k, v = (x.to(dtype) for x in arrays("torch", 64, 64, d_v=5))
    wide = functional.attention(*(x.double() for x in (q, k, v)), masks.causal(64, like=q) & masks.local(64, 64, 9, like=q))
    out = sparse.window_attention(q, k, v, 9)
    assert out.dtype == dtype and (out - wide).abs().max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_blocks_of_the_future_are_not_read(library):
    q, k, v = arrays(library, 24, 24)
    k[..., 16:, :] = v[..., 16:, :] = np.nan
    out = np.asarray(sparse.block_sparse_attention(q, k, v, np.ones((3, 3), dtype=bool), 8, causal=True))
    assert np.isfinite(out[..., :16, :]).all() and np.isnan(out[..., 16:, :]).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_what_a_mask_function_gives_is_checked(library):
    q, k, v = arrays(library, 24, 24)
    layout = np.ones((3, 3), dtype=bool)
    everywhere = sparse.block_sparse_attention(q, k, v, layout, 8, mask=lambda i, j: np.True_)
    np.testing.assert_allclose(everywhere, sparse.block_sparse_attention(q, k, v, layout, 8), atol=1e-12)
    for mask in (lambda i, j: i - j, lambda i, j: None, lambda i, j: np.ones((2, 3), dtype=bool)):
        with pytest.raises(ValueError, match="mask must give True or False for each pair"):
            sparse.block_sparse_attention(q, k, v, layout, 8, mask=mask)
    with pytest.raises(TypeError, match="causal must be True or False, got 'no'"):
        sparse.block_sparse_attention(q, k, v, layout, 8, causal="no")
    assert sparse.block_sparse_attention(q, k, v[..., :0], layout, 8).shape[-1] == 0


def test_reach_is_the_boolean_power_with_residuals():
    mask = rng.random((12, 12)) < 0.15
    step = mask | np.eye(12, dtype=bool)
    for n_layers in range(5):
        paths = np.linalg.matrix_power(step.astype(object), n_layers) > 0
        assert np.array_equal(sparse.reach(mask, n_layers), paths)
        assert np.array_equal(sparse.reach(torch.tensor(mask), n_layers), paths)
    window = masks.causal(30) & masks.local(30, 30, 4)
    assert np.array_equal(sparse.reach(window, 3), masks.causal(30) & masks.local(30, 30, 1 + 3 * 3))
    assert sparse.reach(np.ones((4, 4), dtype=bool), 200).all()
    assert np.array_equal(sparse.reach(np.eye(5, k=-1, dtype=bool), 2), np.tri(5) - np.tri(5, k=-3))
    assert np.array_equal(sparse.reach(np.eye(5, k=-1, dtype=bool), 4), np.tri(5))


def test_wrong_arguments_are_named():
    q, k, v = arrays("numpy", batch=())
    layout = np.ones((5, 5), dtype=bool)
    attend = sparse.block_sparse_attention
    for match, call in {
        "name must be one of the patterns local": lambda: sparse.pattern("diagonal", 8, 8, 2),
        "block must be an integer of at least 1, got 0": lambda: sparse.local_blocks(8, 8, 0),
        "block must be an integer of at least 1, got -8": lambda: attend(q, k, v, layout, -8),
        "n_q must be an integer of at least 1, got 0": lambda: sparse.global_blocks(0, 8, 2),
        "n_kv must be an integer": lambda: sparse.bigbird_blocks(8, 0, 2),
        "stride must be": lambda: sparse.strided_blocks(8, 8, 2, 0),
        "per_row must be": lambda: sparse.random_blocks(8, 8, 2, 0),
        "n_global must be": lambda: sparse.global_blocks(8, 8, 2, 0),
        "size must be": lambda: sparse.diagonal_blocks(8, 8, 2, 0),
        "window must be": lambda: sparse.window_attention(q, k, v, 0),
        "q must have at least one token": lambda: attend(q[:0], k, v, layout, 8),
        "k must have at least one token": lambda: sparse.window_attention(q, k[:0], v[:0], 8),
        "layout must have a row and a column": lambda: attend(q, k, v, layout[:4], 8),
        "v must have one row": lambda: attend(q, k, v[:3], layout, 8),
        "k must have the width of q": lambda: attend(q, k[:, :2], v, layout, 8),
        "mask must broadcast": lambda: attend(q, k, v, layout, 8, mask=np.ones((3, 37), bool)),
        "mask must be square": lambda: sparse.reach(layout[:3], 2),
        "n_layers must be": lambda: sparse.reach(layout, -1),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    for match, call in {
        "layout must be boolean": lambda: attend(q, k, v, layout.astype(int), 8),
        "mask must be a boolean array": lambda: attend(q, k, v, layout, 8, mask=[[True]]),
        "mask must be boolean": lambda: attend(q, k, v, layout, 8, mask=np.ones((37, 37))),
        "k must come from the same library": lambda: attend(q, torch.tensor(k), v, layout, 8),
        "mask must be boolean ": lambda: sparse.reach(layout.astype(int), 1),
    }.items():
        with pytest.raises(TypeError, match=match):
            call()


# The same patterns for torch's flex_attention ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def flex():
    from attnbook.efficient import flex

    return flex


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_says_the_same_eagerly(flex):
    n = 40
    q, k, v = arrays("torch", n, n, d_v=5)
    ids = torch.arange(n) // 13
    layout = sparse.random_blocks(n, n, 8, 2)
    chunk = ids.numpy()
    distance = np.abs(np.arange(n)[:, None] - np.arange(n))
    for mod, cells in (
        (flex.causal(), masks.causal(n)),
        (flex.local(5), masks.local(n, n, 5)),
        (flex.both(flex.causal(), flex.local(5)), masks.causal(n) & masks.local(n, n, 5)),
        (flex.dilated(3, 4), masks.dilated(n, n, 3, 4)),
        (flex.either(flex.strided(6), flex.globally(2)), (distance % 6 == 0) | masks.globally(n, n, 2)),
        (flex.both(flex.causal(), flex.documents(ids)), masks.causal(n) & (chunk[:, None] == chunk)),
        (flex.from_layout(layout, 8), sparse.block_mask(layout, 8, n, n)),
    ):
        dense = functional.attention(q, k, v, torch.tensor(cells))
        assert torch.allclose(flex.flex(q, k, v, mod, compiled=False), dense, atol=1e-12)
        scored = flex.flex(q, k, v, score_mod=flex.score_mod(mod), compiled=False)
        assert torch.allclose(scored, dense, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_aligns_at_the_end_when_told_and_gives_zeros_to_empty_rows(flex):
    q, k, v = arrays("torch", 6, 20, d_v=5)
    for mod, cells in (
        (flex.both(flex.causal(14), flex.local(3, 14)), masks.causal(6, 20) & masks.local(6, 20, 3)),
        (flex.dilated(2, 3, 14), masks.dilated(6, 20, 2, 3)),
        (flex.globally(16, 14), masks.globally(6, 20, 16)),
        (flex.both(flex.causal(), flex.local(1, 14)), np.zeros((6, 20), dtype=bool)),
    ):
        out = flex.flex(q, k, v, mod, compiled=False)
        assert torch.allclose(out, functional.attention(q, k, v, torch.tensor(cells)), atol=1e-12)


def test_flex_names_wrong_arguments(flex):
    q, k, v = arrays("torch", 6, 6)
    with pytest.raises(ValueError, match="q must have shape"):
        flex.flex(q[0], k, v, compiled=False)
    with pytest.raises(ValueError, match="window must be an integer of at least 1, got 0"):
        flex.local(0)
    with pytest.raises(ValueError, match="layout must be boolean"):
        flex.from_layout(np.ones((2, 2)), 4)
    with pytest.raises(ValueError, match="ids must have one axis"):
        flex.documents(torch.zeros(2, 2))


def test_a_compiler_is_looked_for(flex, monkeypatch):
    monkeypatch.setattr(flex.shutil, "which", lambda name: None)
    assert not flex.compiler_present()
    monkeypatch.setattr(flex.shutil, "which", lambda name: "/usr/bin/" + name)
    assert flex.compiler_present()
