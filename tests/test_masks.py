"""attnbook.masks: who may attend to whom, in NumPy and in torch, and how the conventions of torch relate to ours."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import give, libraries

from attnbook import functional as fn
from attnbook import masks

lengths = st.integers(0, 9)


def test_causal_by_eye():
    yes, no = True, False
    np.testing.assert_array_equal(masks.causal(3), [[yes, no, no], [yes, yes, no], [yes, yes, yes]])
    np.testing.assert_array_equal(masks.causal(2, 4), [[yes, yes, yes, no], [yes, yes, yes, yes]])
    # More queries than keys: the first ones come before every key.
    np.testing.assert_array_equal(masks.causal(3, 1), [[no], [no], [yes]])


@libraries
@given(n_q=lengths, n_kv=lengths)
def test_causal_is_aligned_at_the_end(library, n_q, n_kv):
    mask = masks.causal(n_q, n_kv, like=give(np.ones(1), library))
    assert mask.shape == (n_q, n_kv)
    want = [[n_kv - 1 - j >= n_q - 1 - i for j in range(n_kv)] for i in range(n_q)]
    np.testing.assert_array_equal(mask, np.array(want, bool).reshape(n_q, n_kv))
    if n_q and n_kv:
        assert mask[-1].all()  # the last query sees every key


@given(n_q=lengths, n_kv=lengths)
def test_causal_is_the_lower_right_of_torch(n_q, n_kv):
    ours = masks.causal(n_q, n_kv, like=torch.empty(0))
    assert torch.equal(ours, torch.ones(n_q, n_kv, dtype=torch.bool).tril(n_kv - n_q))


def test_causal_is_torchs_is_causal_where_the_lengths_agree():
    q, k, v = torch.randn(3, 4, 2, dtype=torch.float64)
    ours = fn.attention(q, k, v, mask=masks.causal(4, like=q))
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, is_causal=True), rtol=1e-12, atol=1e-12)
    # With one query and a cache of four keys torch's is_causal sees the first key, ours all of them.
    torchs = F.scaled_dot_product_attention(q[-1:], k, v, is_causal=True)
    torch.testing.assert_close(torchs, v[:1], rtol=1e-12, atol=1e-12)
    last = fn.attention(q[-1:], k, v, mask=masks.causal(1, 4, like=q))
    torch.testing.assert_close(last, fn.attention(q[-1:], k, v), rtol=1e-12, atol=1e-12)


@libraries
def test_numpy_integers_are_lengths(plain_masks, library):
    like = give(np.ones(1), library)
    small = plain_masks.causal(np.uint8(5), np.uint8(3), like=like)  # 3 - 5 does not fit into a uint8
    np.testing.assert_array_equal(small, masks.causal(5, 3))
    np.testing.assert_array_equal(plain_masks.causal(np.uint8(3), 200, like=like), masks.causal(3, 200))
    np.testing.assert_array_equal(plain_masks.padding(np.uint8([1, 200]), np.int64(255), like=like)[0, 0, :2], [1, 0])


@libraries
@given(data=st.data(), n_kv=lengths)
def test_padding_hides_the_keys_after_each_length(library, data, n_kv):
    shape = data.draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)]))
    size = int(np.prod(shape))
    given_lengths = np.reshape(data.draw(st.lists(st.integers(0, n_kv), min_size=size, max_size=size)), shape)
    mask = masks.padding(given_lengths.astype(int).tolist(), n_kv, like=give(np.ones(1), library))
    assert mask.shape == (*shape, 1, n_kv)
    np.testing.assert_array_equal(np.asarray(mask).sum(-1)[..., 0], given_lengths)
    assert (np.diff(np.asarray(mask).astype(int), axis=-1) <= 0).all()  # the real ones come first


@libraries
def test_padded_keys_do_not_matter(library):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, n, 3)) for n in (4, 5, 5))
    mask = masks.padding([2, 5], 5, like=give(q, library))
    out = fn.attention(*(give(a, library) for a in (q, k, v)), mask=mask)
    short = fn.attention(q[0], k[0, :2], v[0, :2])
    np.testing.assert_allclose(out[0], short, rtol=1e-12)
    np.testing.assert_allclose(out[1], fn.attention(q[1], k[1], v[1]), rtol=1e-12)
    both = mask & masks.causal(4, 5, like=give(q, library))
    assert tuple(both.shape) == (2, 4, 5)


def test_padding_is_the_opposite_of_key_padding_mask():
    layer = torch.nn.MultiheadAttention(4, 1, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    mask = masks.padding([3, 5], 5, like=x)
    theirs, _ = layer(x, x, x, key_padding_mask=~mask[:, 0])
    q, k, v = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    torch.testing.assert_close(layer.out_proj(fn.attention(q, k, v, mask=mask)), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [lambda like: masks.causal(2, 3, like=like), lambda like: masks.padding([1], 3, like)])
def test_like_decides_library_and_device(make):
    assert isinstance(make(None), np.ndarray) and make(None).dtype == bool
    assert isinstance(make(np.ones(2, np.float32)), np.ndarray)
    for device in ("cpu", "meta"):
        mask = make(torch.ones(2, dtype=torch.float16, device=device))
        assert isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and mask.device.type == device


NOT_A_LENGTH, NO_ARRAY = "must be a length, an integer of at least 0", "like must be a NumPy array or a torch tensor"
NOT_LENGTHS = "lengths must be integers from 0 to n_kv = 3"
CASES = {
    "negative n_q": (ValueError, (f"n_q {NOT_A_LENGTH}", "got -1"), lambda m: m.causal(-1)),
    "negative n_kv": (ValueError, (f"n_kv {NOT_A_LENGTH}", "got -2"), lambda m: m.causal(1, -2)),
    "n_q a float": (ValueError, (f"n_q {NOT_A_LENGTH}", "got 2.0"), lambda m: m.causal(2.0)),
    "n_kv a float": (ValueError, (f"n_kv {NOT_A_LENGTH}", "got 2.5"), lambda m: m.causal(2, 2.5)),
    "n_q a bool": (ValueError, (f"n_q {NOT_A_LENGTH}", "got True"), lambda m: m.causal(True)),
    "n_q a string": (ValueError, (f"n_q {NOT_A_LENGTH}", "got '3'"), lambda m: m.causal("3")),
    "like a list": (TypeError, (NO_ARRAY, "got list"), lambda m: m.causal(2, like=[])),
    "padding to a negative n_kv": (ValueError, (f"n_kv {NOT_A_LENGTH}", "got -3"), lambda m: m.padding([1], -3)),
    "padding to a float": (ValueError, (f"n_kv {NOT_A_LENGTH}", "got 3.0"), lambda m: m.padding([1], 3.0)),
    "length beyond n_kv": (ValueError, (NOT_LENGTHS, r"got \[4, 1\]"), lambda m: m.padding([4, 1], 3)),
    "negative length": (ValueError, (NOT_LENGTHS, r"got \[-1\]"), lambda m: m.padding([-1], 3)),
    "lengths as floats": (ValueError, (NOT_LENGTHS, r"got \[1.5\]"), lambda m: m.padding([1.5], 3)),
    "lengths as a mask": (ValueError, (NOT_LENGTHS, r"got \[True\]"), lambda m: m.padding([True], 3)),
    "no lengths": (ValueError, (NOT_LENGTHS, "got None"), lambda m: m.padding(None, 3)),
    "padding like a string": (TypeError, (NO_ARRAY, "got str"), lambda m: m.padding([1], 3, like="x")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_lengths_are_named(plain_masks, case):
    error, parts, call = CASES[case]
    for part in parts:
        with pytest.raises(error, match=part) as caught:
            call(plain_masks)
        assert caught.type is error
