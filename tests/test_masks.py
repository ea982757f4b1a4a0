"""attnbook.masks: who may attend to whom, in NumPy and in torch, and how the conventions of torch relate to ours."""

import math

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


# Local, and masks combined ----------------------------------------------------------------------------------------


def test_local_by_eye():
    np.testing.assert_array_equal(masks.local(4, None, 2), [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(masks.local(1, 4, 2), [[0, 0, 1, 1]])  # the last query of four
    np.testing.assert_array_equal(masks.local(3, None, 1), np.eye(3))


@libraries
@given(n_q=lengths, n_kv=lengths, window=st.integers(1, 11))
def test_local_is_less_than_window_away(library, n_q, n_kv, window):
    mask = masks.local(n_q, n_kv, window, like=give(np.ones(1), library))
    want = [[abs((n_kv - 1 - j) - (n_q - 1 - i)) < window for j in range(n_kv)] for i in range(n_q)]
    np.testing.assert_array_equal(mask, np.array(want, bool).reshape(n_q, n_kv))


@libraries
def test_masks_combine_and_broadcast(library):
    like = give(np.ones(1), library)
    sliding = masks.causal(5, like=like) & masks.local(5, None, 3, like=like)
    np.testing.assert_array_equal(sliding, np.tri(5) - np.tri(5, k=-3))  # the 3 latest, oneself included
    np.testing.assert_array_equal(np.asarray(sliding).sum(-1), [1, 2, 3, 3, 3])

    prefix = masks.causal(4, like=like) | masks.padding(2, 4, like=like)
    np.testing.assert_array_equal(prefix, [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])

    both = masks.causal(3, like=like) & masks.padding([1, 3], 3, like=like)
    np.testing.assert_array_equal(both, [[[1, 0, 0], [1, 0, 0], [1, 0, 0]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]])
    each = masks.causal(3, like=like) | masks.padding([0, 2], 3, like=like)
    np.testing.assert_array_equal(each, [np.tri(3), [[1, 1, 0], [1, 1, 0], [1, 1, 1]]])


# To torch and back ------------------------------------------------------------------------------------------------


@st.composite
def book_masks(draw, n_heads=3):
    """Masks of every shape that the layers take, for a batch of 2, with 3 queries and 4 keys."""
    heads = draw(st.sampled_from([1, n_heads]))
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4), (2, 1, 4), (2, heads, 3, 4), (2, 1, 1, 4)]))
    return np.random.default_rng(draw(st.integers(0, 99))).random(shape) < 0.6


@libraries
@given(mask=book_masks())
def test_every_conversion_can_be_undone(library, mask):
    given_mask, kind = give(mask, library), torch.Tensor if library == "torch" else np.ndarray
    full = np.broadcast_to(mask[:, None] if mask.ndim == 3 else mask, (2, 3, *mask.shape[-2:]))

    sdpa = masks.to_sdpa(given_mask)
    np.testing.assert_array_equal(np.broadcast_to(sdpa, full.shape), full)  # True = may attend
    np.testing.assert_array_equal(masks.from_sdpa(sdpa), sdpa)

    ignore = masks.to_attn_mask(given_mask, 3)
    if mask.ndim == 2:
        np.testing.assert_array_equal(ignore, ~mask)
        np.testing.assert_array_equal(masks.from_attn_mask(ignore, 3), mask)
    else:
        assert tuple(ignore.shape) == (6, *mask.shape[-2:])  # sequence 0's heads first
        np.testing.assert_array_equal(ignore[4], ~full[1, 1])
        np.testing.assert_array_equal(masks.from_attn_mask(ignore, 3), full)

    bias = masks.to_additive(given_mask)
    np.testing.assert_array_equal(bias, np.where(mask, 0.0, -math.inf))
    np.testing.assert_array_equal(masks.from_additive(bias), mask)
    # torch takes additive floats wherever it takes booleans.
    np.testing.assert_array_equal(masks.from_sdpa(bias), mask)
    np.testing.assert_array_equal(masks.from_attn_mask(masks.to_additive(~ignore), 3), masks.from_attn_mask(ignore, 3))
    assert isinstance(sdpa, kind) and isinstance(ignore, kind) and isinstance(bias, kind)


@libraries
def test_key_padding_mask_can_be_undone(library):
    like = give(np.ones(1), library)
    mask = masks.padding([1, 3], 3, like=like)
    ignore = masks.to_key_padding_mask(mask)
    np.testing.assert_array_equal(ignore, [[False, True, True], [False, False, False]])
    np.testing.assert_array_equal(masks.from_key_padding_mask(ignore), mask)
    np.testing.assert_array_equal(masks.from_key_padding_mask(masks.to_additive(~ignore)), mask)
    one = masks.padding(2, 3, like=like)  # a sequence by itself
    np.testing.assert_array_equal(masks.to_key_padding_mask(one), [False, False, True])
    np.testing.assert_array_equal(masks.from_key_padding_mask(masks.to_key_padding_mask(one)), one)


@given(mask=book_masks())
def test_torchs_attention_agrees_with_each_form(mask):
    mask = torch.from_numpy(mask)
    q, k, v = (torch.randn(2, 3, n, 2, dtype=torch.float64) for n in (3, 4, 4))
    want = fn.attention(q, k, v, mask=masks.to_sdpa(mask))
    for attn_mask in (masks.to_sdpa(mask), masks.to_additive(masks.to_sdpa(mask), like=q)):
        got = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_a_batch_of_masks_is_not_a_mask_for_each_head():
    # As many sequences as heads: nothing would complain, and sequence 0 would be masked like sequence 1.
    q, k, v = torch.randn(3, 2, 2, 3, 4)
    mask = masks.padding([1, 3], 3, like=q)
    torch.testing.assert_close(fn.attention(q, k, v, masks.to_sdpa(mask))[0], v[0, :, :1].expand(2, 3, 4))
    assert not torch.allclose(fn.attention(q, k, v, mask)[0, 1], v[0, 1, :1].expand(3, 4))


def test_additive_gets_the_dtype_of_the_queries():
    mask = masks.causal(2, like=torch.ones(1))
    assert masks.to_additive(mask).dtype == torch.float32
    assert masks.to_additive(mask, like=torch.ones(1, dtype=torch.float16)).dtype == torch.float16
    assert masks.to_additive(masks.causal(2), like=np.ones(1, np.float32)).dtype == np.float32
    assert masks.to_additive(mask.to("meta")).device.type == "meta"


MAKERS = [
    lambda like: masks.causal(2, 3, like=like),
    lambda like: masks.padding([1], 3, like),
    lambda like: masks.local(2, 3, 1, like),
]


@pytest.mark.parametrize("make", MAKERS)
def test_like_decides_library_and_device(make):
    assert isinstance(make(None), np.ndarray) and make(None).dtype == bool
    assert isinstance(make(np.ones(2, np.float32)), np.ndarray)
    for device in ("cpu", "meta"):
        mask = make(torch.ones(2, dtype=torch.float16, device=device))
        assert isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and mask.device.type == device


NOT_A_LENGTH, NO_ARRAY = "must be a length, an integer of at least 0", "like must be a NumPy array or a torch tensor"
NOT_LENGTHS = "lengths must be integers from 0 to n_kv = 3"
YES, TWO, ONES = np.ones((1, 1, 1), bool), np.ones((2, 1, 1), bool), np.ones((1, 2))
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
    "ragged lengths": (ValueError, ("lengths must be .* rows of different",), lambda m: m.padding([[1], [1, 2]], 3)),
    "no lengths": (ValueError, (NOT_LENGTHS, "got None"), lambda m: m.padding(None, 3)),
    "local, negative n_q": (ValueError, (f"n_q {NOT_A_LENGTH}", "got -1"), lambda m: m.local(-1, None, 1)),
    "local, n_kv a float": (ValueError, (f"n_kv {NOT_A_LENGTH}", "got 2.0"), lambda m: m.local(1, 2.0, 1)),
    "window of nothing": (ValueError, ("window must be an integer of at least 1", "got 0"), lambda m: m.local(2, 2, 0)),
    "window a float": (ValueError, ("window must be an integer", "got 1.5"), lambda m: m.local(2, 2, 1.5)),
    "window a bool": (ValueError, ("window must be an integer", "got True"), lambda m: m.local(2, 2, True)),
    "sdpa of a list": (TypeError, ("mask must be a NumPy array", "got list"), lambda m: m.to_sdpa([True])),
    "sdpa of floats": (TypeError, (r"mask must be boolean \(True = may", "float64"), lambda m: m.to_sdpa(np.ones(2))),
    "sdpa of 5 axes": (ValueError, ("mask must have at most 4", r"1, 1\)"), lambda m: m.to_sdpa(YES.reshape([1] * 5))),
    "sdpa, numbers": (TypeError, ("attn_mask must have a floating", "int"), lambda m: m.from_sdpa(np.ones(2, int))),
    "from sdpa, a list": (TypeError, ("attn_mask must be a NumPy", "list"), lambda m: m.from_sdpa([True])),
    "attn_mask of floats": (TypeError, ("mask must be boolean", "float64"), lambda m: m.to_attn_mask(ONES, 2)),
    "attn_mask of 1 axis": (ValueError, ("mask must have 2 to 4", r"\(1,\)"), lambda m: m.to_attn_mask(YES[0, 0], 2)),
    "other heads": (ValueError, ("n_heads = 3", r"\(1, 2, 1, 1\)"), lambda m: m.to_attn_mask(TWO[None], 3)),
    "no heads": (ValueError, ("n_heads must be an integer of at least 1", "got 0"), lambda m: m.to_attn_mask(YES, 0)),
    "batch of no heads": (ValueError, (r"batch \* 3", r"got \(2, 1, 1\)"), lambda m: m.from_attn_mask(TWO, 3)),
    "attn_mask of 4 axes": (ValueError, ("attn_mask must have", "got"), lambda m: m.from_attn_mask(TWO[None], 1)),
    "from no heads": (ValueError, ("n_heads must be an integer", "got -1"), lambda m: m.from_attn_mask(TWO, -1)),
    "padding per query": (ValueError, ("same for every", r"\(3, 3\)"), lambda m: m.to_key_padding_mask(m.causal(3))),
    "padding per head": (ValueError, ("same for every", "got"), lambda m: m.to_key_padding_mask(YES[None])),
    "padding of floats": (TypeError, ("mask must be boolean", "float"), lambda m: m.to_key_padding_mask(ONES)),
    "from padding, 3 axes": (
        ValueError, ("key_padding_mask must have shape", r"\(1, 1, 1\)"), lambda m: m.from_key_padding_mask(YES)
    ),
    "from padding, list": (TypeError, ("key_padding_mask must", "list"), lambda m: m.from_key_padding_mask([1])),
    "additive of floats": (TypeError, ("mask must be boolean", "float64"), lambda m: m.to_additive(np.ones(2))),
    "additive like ints": (TypeError, ("like must have a floating", "int"), lambda m: m.to_additive(YES, np.array(1))),
    "additive like torch": (TypeError, ("like must come from the", "got"), lambda m: m.to_additive(YES, torch.ones(1))),
    "additive -1e9": (ValueError, ("bias must hold 0", "got -1000000000"), lambda m: m.from_additive(ONES * -1e9)),
    "additive +inf": (ValueError, ("bias must hold 0", "got inf"), lambda m: m.from_additive(torch.tensor([math.inf]))),
    "additive nan": (ValueError, ("bias must hold 0", "got nan"), lambda m: m.from_additive(np.array([math.nan]))),
    "additive booleans": (TypeError, ("bias must have a floating dtype", "bool"), lambda m: m.from_additive(YES)),
    "attn_mask -1e9": (ValueError, ("attn_mask must hold 0", "got -5"), lambda m: m.from_sdpa(np.float32([[-5.0]]))),
    "padding like a string": (TypeError, (NO_ARRAY, "got str"), lambda m: m.padding([1], 3, like="x")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(plain_masks, case):
    error, parts, call = CASES[case]
    for part in parts:
        with pytest.raises(error, match=part) as caught:
            call(plain_masks)
        assert caught.type is error


# Patterns ---------------------------------------------------------------------------------------------------------


def places(mask):
    """Who sees whom, as a set of (query, key), for comparison by eye."""
    return {(int(i), int(j)) for i, j in np.argwhere(np.asarray(mask))}


@libraries
@given(n_q=lengths, n_kv=lengths, window=st.integers(1, 4), step=st.integers(1, 4))
def test_dilated_sees_every_step_th_key(library, n_q, n_kv, window, step):
    like = give(np.ones(1), library)
    mask = masks.dilated(n_q, n_kv, window, step, like=like)
    near = [(i, i + n_kv - n_q + s * step * k) for i in range(n_q) for k in range(window) for s in (1, -1)]
    assert places(mask) == {(i, j) for i, j in near if 0 <= j < n_kv}
    assert mask.shape == (n_q, n_kv)
    if step == 1:
        np.testing.assert_array_equal(mask, masks.local(n_q, n_kv, window))


@libraries
@given(n_q=lengths, n_kv=lengths, n_global=st.integers(0, 9))
def test_globally_sees_and_is_seen(library, n_q, n_kv, n_global):
    mask = masks.globally(n_q, n_kv, n_global, like=give(np.ones(1), library))
    everyone = ((i, j) for i in range(n_q) for j in range(n_kv))
    assert places(mask) == {(i, j) for i, j in everyone if j < n_global or 0 <= i + n_kv - n_q < n_global}


def test_globally_leaves_out_queries_that_stand_before_all_keys():
    assert not masks.globally(6, 4, 0).any(), "no token is global"
    assert places(masks.globally(4, 2, 1)) == {(i, 0) for i in range(4)} | {(2, 1)}


@libraries
@given(n_q=lengths, n_kv=lengths, per_row=st.integers(0, 9), seed=st.integers(0, 2**32 - 1))
def test_random_draws_as_many_as_asked_and_keeps_them(library, n_q, n_kv, per_row, seed):
    like = give(np.ones(1), library)
    mask = np.asarray(masks.random(n_q, n_kv, per_row, seed, like=like))
    assert mask.shape == (n_q, n_kv) and (mask.sum(-1) == min(per_row, n_kv)).all()
    assert places(mask) <= places(masks.random(n_q, n_kv, per_row + 1, seed))
    np.testing.assert_array_equal(mask, masks.random(n_q, n_kv, per_row, seed))


def test_random_is_the_same_on_every_machine_and_fair():
    assert places(masks.random(3, 5, 2, seed=7)) == {(0, 0), (0, 4), (1, 0), (1, 3), (2, 3), (2, 4)}
    drawn = np.mean([masks.random(16, 16, 4, seed) for seed in range(400)], axis=0)
    assert abs(drawn - 4 / 16).max() < 0.1  # 4.6 standard deviations of 400 draws
    first, second = masks.random(64, 64, 8, 0), masks.random(64, 64, 8, 1)
    assert 0.05 < (first & second).sum() / first.sum() < 0.25  # unrelated: 8/64 of the places agree by chance


@libraries
@given(data=st.data(), n_q=lengths, n_kv=lengths, block=st.integers(1, 5))
def test_kept_blocks_are_those_with_someone_in_them(library, data, n_q, n_kv, block):
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((2, n_q, n_kv)) < 0.15
    kept = masks.kept_blocks(give(mask, library), block)
    assert kept.shape == (2, -(-n_q // block), -(-n_kv // block))
    want = np.zeros(kept.shape, bool)
    for b, i, j in np.argwhere(mask):
        want[b, i // block, j // block] = True
    np.testing.assert_array_equal(kept, want)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.dilated(4, 4, 0, 1), "window must be an integer of at least 1, got 0"),
        (lambda m: m.dilated(4, 4, 1, 0), "step must be an integer of at least 1, got 0"),
        (lambda m: m.globally(4, 4, -1), "n_global must be a length, an integer of at least 0, got -1"),
        (lambda m: m.random(4, 4, 1.5), "per_row must be a length, an integer of at least 0, got 1.5"),
        (lambda m: m.random(4, 4, 1, 2**32), r"seed must be below 2³², got 4294967296"),
        (lambda m: m.kept_blocks(np.ones(3, bool), 2), r"mask must have at least 2 axes, \(n_q, n_kv\), got shape \(3,\)"),
        (lambda m: m.kept_blocks(np.ones((3, 3), bool), 0), "block must be an integer of at least 1, got 0"),
        (lambda m: m.kept_blocks(np.ones((3, 3)), 2), "mask must be boolean"),
    ],
)
def test_patterns_say_what_is_wrong(plain_masks, call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(plain_masks)


# Who a model listens to ---------------------------------------------------------------------------------------------


def model_with(mask, library="numpy"):
    """Attention of x to itself under `mask`, as a function of x."""
    return lambda x: fn.attention(x, x, x, mask=give(mask, library))


@libraries
@given(n=st.integers(1, 6), seed=st.integers(0, 99))
def test_influence_is_the_mask_of_a_layer(library, n, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((n, n)) < 0.5
    x = give(rng.standard_normal((2, n, 3)), library)
    heard = masks.influence(model_with(mask, library), x)
    # A token listens to itself through its query too, unless it listens to at most one: then the weight is 1 or 0.
    own = np.eye(n, dtype=bool)
    np.testing.assert_array_equal(heard & ~own, mask & ~own)
    assert not (heard & own & ~mask & (mask.sum(-1) <= 1)[:, None]).any()
    np.testing.assert_array_equal(heard, np.asarray(masks.influence(model_with(mask, library), x)))


def test_leaks_finds_what_looks_ahead_and_nothing_else():
    x = np.random.default_rng(0).standard_normal((1, 5, 4))
    assert not masks.leaks(model_with(masks.causal(5)), x).any()
    shifted = np.tril(np.ones((5, 5), bool), 1)
    assert places(masks.leaks(model_with(shifted), x)) == {(0, 1), (1, 2), (2, 3), (3, 4)}
    # The mask after the softmax: each weight was divided by a sum that had heard the future.
    after = lambda x: np.where(masks.causal(5), fn.softmax(fn.scaled_scores(x, x)), 0) @ x  # noqa: E731
    assert places(masks.leaks(after, x)) == {(i, j) for i in range(5) for j in range(i + 1, 5)}
    windowed = masks.leaks(model_with(masks.causal(5)), x, allowed=masks.causal(5) & masks.local(5, 5, 2))
    assert places(windowed) == {(i, j) for i in range(5) for j in range(i - 1)}


def test_leaks_takes_token_ids_and_a_model_of_torch():
    torch.manual_seed(0)
    embed = torch.nn.Embedding(10, 4)
    model = lambda ids: fn.attention(*[embed(ids)] * 3, mask=masks.causal(4, like=embed.weight))  # noqa: E731
    ids = torch.tensor([[1, 2, 3, 4]])
    assert not masks.leaks(model, ids, other=(ids + 5) % 10).any()
    assert masks.influence(model, ids, other=(ids + 5) % 10)[3].all()


def test_influence_counts_in_whichever_text_of_the_batch_and_component_it_shows():
    def second_backwards(x):
        return np.stack([x[0], x[1, ::-1] * [0, 0, 1]])

    same = np.eye(4, dtype=bool)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    assert (masks.influence(second_backwards, x) == same | same[::-1]).all()


def test_influence_is_seen_through_a_layer_norm():
    x = torch.randn(1, 4, 6)
    norm = torch.nn.LayerNorm(6)
    assert (masks.influence(norm, x) == np.eye(4, dtype=bool)).all()


@pytest.mark.parametrize(
    ("f", "x", "options", "message"),
    [
        (None, [[1.0]], {}, "x must be a NumPy array or a torch tensor, got list"),
        (None, np.ones(3), {}, r"x must have shape \(batch, n, …\) with at least one token, got \(3,\)"),
        (None, np.ones((1, 0, 2)), {}, "with at least one token"),
        (lambda x: x, np.ones((1, 2), int), {}, "other must be given where x is not floating, got dtype int64"),
        (lambda x: x, np.full((1, 2), 1e20), {}, r"other must be given where x is so large that x \+ 1 = x"),
        (lambda x: x, np.ones((1, 2)), {"other": np.zeros((1, 3))}, r"other must have the shape of x, \(1, 2\), got"),
        (lambda x: x, np.ones((1, 2)), {"other": np.array([[0.0, 1.0]])}, "differ from x at every token, .* token 1"),
        (lambda x: x * np.random.rand(), np.ones((1, 2)), {}, "f must give the same output for the same x"),
        (lambda x: x * np.nan, np.ones((1, 2)), {}, "f must return finite numbers, got nan"),
        (lambda x: 3.0, np.ones((1, 2)), {}, "f must return an array, got float"),
        (lambda x: x[0], np.ones((1, 2)), {}, r"f must return an array of shape \(batch, n_out, …\), got \(2,\)"),
        (lambda x: x, np.ones((1, 2)), {"allowed": np.ones((3, 3), bool)}, r"allowed must be booleans of shape \(2, 2\)"),
    ],
)
def test_leaks_says_what_is_wrong(plain_masks, f, x, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plain_masks.leaks(f, x, **options)
