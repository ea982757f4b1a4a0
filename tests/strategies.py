"""What the tests of attnbook's functions draw from: arrays laid out in every way, masks and shapes that broadcast."""

from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
LIBRARIES = ("numpy", "torch")
libraries = pytest.mark.parametrize("library", LIBRARIES)
precisions = pytest.mark.parametrize("dtype", TOLERANCE)
seeds = st.integers(0, 2**32 - 1)
temperatures = st.floats(0.05, 50)


def lay_out(array, layout):
    """The same numbers elsewhere in memory: none of these but "c" is contiguous (where there is room not to be)."""
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    if layout == "strided":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
        wide[..., 1::2] = array
        return wide[..., 1::2]
    if layout == "reversed":
        return np.flip(np.flip(array, -1).copy(), -1)
    return array


def give(array, library, layout="c"):
    """`array` as an array of `library`. NumPy's are read-only, so a function that writes to its input fails."""
    array = lay_out(array, layout)
    if library == "torch":
        return torch.from_numpy(array.copy() if layout == "reversed" else array)
    array = array.view()
    array.flags.writeable = False
    return array


def layouts(library):
    # torch has no negative strides.
    return st.sampled_from(["c", "transposed", "strided"] + ["reversed"] * (library == "numpy"))


def check(got, want, library, tolerance=None):
    """`got` is an array of `library` with the dtype, shape and values of the tensor `want`."""
    assert isinstance(got, torch.Tensor if library == "torch" else np.ndarray | np.generic)
    got = torch.as_tensor(np.array(got)) if library == "numpy" else got.detach()
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    tolerance = tolerance or TOLERANCE[str(want.dtype).removeprefix("torch.")]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)


class Rows(NamedTuple):
    """An array to normalise along `axis`."""

    x: np.ndarray
    axis: int


@st.composite
def rows(draw, dtype="float64", size=30.0, min_side=0):
    x = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=min_side, max_side=5),
                        elements=st.floats(-size, size, width=32)))  # fmt: skip
    return Rows(x, draw(st.integers(-x.ndim, x.ndim - 1)))


class Problem(NamedTuple):
    """What attention takes, as NumPy arrays."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    mask: np.ndarray | None
    scale: float | None

    def to(self, library, layout="c"):
        q, k, v = (give(a, library, layout) for a in (self.q, self.k, self.v))
        return q, k, v, None if self.mask is None else give(self.mask, library), self.scale


@st.composite
def problems(draw, dtype="float64", masked=None, min_side=0, max_dims=2):
    """Sizes drawn one by one, empty and single axes included; batch dimensions that broadcast; any mask that does."""
    batch = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=min_side, max_side=3, max_dims=max_dims))
    n_q, n_kv, d_v = (draw(st.integers(min_side, 5)) for _ in range(3))
    d_k = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(seeds))
    shapes = [(n_q, d_k), (n_kv, d_k), (n_kv, d_v)]
    q, k, v = (rng.uniform(-2, 2, b + s).astype(dtype) for b, s in zip(batch.input_shapes, shapes))
    mask = None
    if draw(st.booleans()) if masked is None else masked:
        scores = (*np.broadcast_shapes(*batch.input_shapes[:2]), n_q, n_kv)
        shape = [draw(st.sampled_from([n, 1])) for n in scores][draw(st.integers(0, len(scores))) :]
        mask = np.asarray(rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])))
    return Problem(q, k, v, mask, draw(st.sampled_from([None, 0.3, 1.0, -2.0])))


def torch_attention(q, k, v, mask=None, scale=None):
    """torch's own, with the leading dimensions spelt out: it does not broadcast them in every backend."""
    batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (t.expand(*batch, *t.shape[-2:]) for t in (q, k, v))
    mask = None if mask is None else mask.expand(*batch, q.shape[-2], k.shape[-2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
