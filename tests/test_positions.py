"""attnbook.positions against closed forms, torch and its own laws, for NumPy arrays and torch tensors alike."""

import cmath
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import check, give, layouts, libraries, precisions, seeds
from test_package import HEAVY, after

from attnbook import functional as fn
from attnbook import masks, positions

pytestmark = pytest.mark.filterwarnings("error")
LAYOUTS = ("half", "interleaved")
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
lengths, offsets, pairs = st.integers(0, 7), st.integers(0, 1000), st.integers(1, 4)
bases = st.sampled_from([10_000, 500_000.0, 2.0])


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_they_do_not_load_torch():
    assert after("import attnbook.positions; attnbook.positions.sinusoidal(3, 4)")[0] & HEAVY == set()


# Sinusoidal and learned -------------------------------------------------------------------------------------------


@libraries
@precisions
@given(n=lengths, half=st.integers(0, 4), offset=offsets, base=bases)
def test_sinusoidal_is_the_formula_of_the_paper(library, dtype, n, half, offset, base):
    d = 2 * half
    want = np.zeros((n, d))
    for row in range(n):
        for i in range(half):
            angle = (offset + row) / base ** (2 * i / d)
            want[row, 2 * i], want[row, 2 * i + 1] = math.sin(angle), math.cos(angle)
    like = give(np.zeros(1, dtype), library)
    # float64: base ** (2i/d) can be rounded one way or the other, which an angle of a thousand multiplies.
    tolerance = 1e-12 if dtype == "float64" else None
    check(positions.sinusoidal(n, d, offset, base, like), torch.from_numpy(want.astype(dtype)), library, tolerance)


def test_a_shift_is_the_same_rotation_everywhere():
    # Vaswani et al., section 3.5: PE(pos + k) is a linear function of PE(pos), whatever pos.
    at, later = positions.sinusoidal(50, 8), positions.sinusoidal(50, 8, offset=5)
    matrix = np.linalg.lstsq(at, later, rcond=None)[0]
    np.testing.assert_allclose(at @ matrix, later, atol=1e-9)


@libraries
def test_angles_are_exact_far_out(library):
    like = give(np.zeros(1, np.float32), library)
    far = positions.angles(2, 4, offset=10**6, base=100)
    np.testing.assert_allclose(far, [[1e6, 1e5], [1e6 + 1, 1e5 + 0.1]], rtol=1e-15)
    want = [math.sin(1e6), math.cos(1e6), math.sin(1e5), math.cos(1e5)]
    np.testing.assert_allclose(positions.sinusoidal(1, 4, 10**6, 100, like)[0], want, rtol=1e-6)
    x = give(np.array([[1, 1, 0, 0]], np.float32), library)  # (1, 0) and (1, 0)
    np.testing.assert_allclose(positions.rope(x, 10**6, 100)[0], [want[1], want[3], want[0], want[2]], rtol=1e-6)


@libraries
def test_learned_is_a_look_up(library):
    table = give(normal(0, 6, 3), library)
    np.testing.assert_array_equal(positions.learned(table, 4), table[:4])
    np.testing.assert_array_equal(positions.learned(table, 2, offset=4), table[4:])
    assert tuple(positions.learned(table, 0, offset=6).shape) == (0, 3)


def test_learned_trains_the_rows_that_were_used():
    table = torch.zeros(5, 2, requires_grad=True)
    positions.learned(table, 2, offset=1).sum().backward()
    assert table.grad[:, 0].tolist() == [0, 1, 1, 0, 0]


# RoPE -------------------------------------------------------------------------------------------------------------


def rope_by_hand(x, offset, base, layout):
    """Each pair as a complex number, multiplied by exp(i · angle): equation 16 of the paper written out."""
    want, d = np.empty_like(x), x.shape[-1]
    for *place, row, i in np.ndindex(*x.shape[:-1], d // 2):
        a, b = (i, i + d // 2) if layout == "half" else (2 * i, 2 * i + 1)
        z = complex(x[(*place, row, a)], x[(*place, row, b)])
        z *= cmath.exp(1j * (offset + row) * base ** (-2 * i / d))
        want[(*place, row, a)], want[(*place, row, b)] = z.real, z.imag
    return want


@libraries
@both_layouts
@given(data=st.data(), n=lengths, half=pairs, offset=offsets, base=bases, seed=seeds)
def test_rope_turns_each_pair_by_the_angle_of_its_position(library, layout, data, n, half, offset, base, seed):
    x = normal(seed, *data.draw(st.sampled_from([(), (2,), (2, 3)])), n, 2 * half)
    got = positions.rope(give(x, library, data.draw(layouts(library))), offset, base, layout)
    check(got, torch.from_numpy(rope_by_hand(x, offset, base, layout)), library, 1e-11)


@both_layouts
@given(half=pairs, i=offsets, j=offsets, shift=offsets, seed=seeds)
def test_scores_depend_on_the_difference_of_positions_alone(layout, half, i, j, shift, seed):
    q, k = normal(seed, 2, 1, 2 * half)
    score = [
        fn.dot_scores(positions.rope(q, i + s, layout=layout), positions.rope(k, j + s, layout=layout)).item()
        for s in (0, shift)
    ]
    assert score[0] == pytest.approx(score[1], abs=1e-11)
    # And on nothing less: the closed form of the score at distance i - j.
    turned = rope_by_hand(q, max(i - j, 0), 1e4, layout) @ rope_by_hand(k, max(j - i, 0), 1e4, layout).T
    assert score[0] == pytest.approx(turned.item(), abs=1e-11)


@both_layouts
@given(n=lengths, cut=lengths, half=pairs, seed=seeds)
def test_an_offset_goes_on_where_the_first_part_stopped(layout, n, cut, half, seed):
    x = normal(seed, n, 2 * half)
    cut = min(cut, n)
    parts = [positions.rope(x[:cut], layout=layout), positions.rope(x[cut:], offset=cut, layout=layout)]
    np.testing.assert_allclose(np.concat(parts), positions.rope(x, layout=layout), atol=1e-14)


@libraries
@given(half=pairs, n=lengths, offset=offsets, seed=seeds)
def test_the_layouts_are_one_rotation_in_two_orders(library, half, n, offset, seed):
    x = give(normal(seed, n, 2 * half), library)
    mixed = positions.rope(x, offset, layout="interleaved")
    ordered = positions.rope(positions.to_half(x), offset, layout="half")
    np.testing.assert_allclose(positions.to_half(mixed), ordered, atol=1e-14)
    np.testing.assert_allclose(positions.to_interleaved(ordered), mixed, atol=1e-14)
    np.testing.assert_array_equal(positions.rope(x, offset), positions.rope(x, offset, layout="half"))  # the default


@libraries
def test_orders_by_eye(library):
    np.testing.assert_array_equal(positions.to_half(give(np.arange(6.0), library)), [0, 2, 4, 1, 3, 5])
    np.testing.assert_array_equal(positions.to_interleaved(give(np.arange(6.0), library)), [0, 3, 1, 4, 2, 5])


@libraries
@given(data=st.data(), seed=seeds)
def test_the_conversions_undo_each_other_along_any_axis(library, data, seed):
    x = give(normal(seed, 4, 6, 2), library)
    axis = data.draw(st.integers(-3, 2))
    np.testing.assert_array_equal(positions.to_half(positions.to_interleaved(x, axis), axis), x)
    np.testing.assert_array_equal(positions.to_interleaved(positions.to_half(x, axis), axis), x)
    if axis in (1, -2):
        np.testing.assert_array_equal(positions.to_half(x, axis), np.asarray(x)[:, [0, 2, 4, 1, 3, 5]])


def test_rope_leaves_lengths_and_position_zero_alone():
    x = normal(0, 5, 6)
    turned = positions.rope(x)
    np.testing.assert_array_equal(turned[0], x[0])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-14)


@both_layouts
def test_gradients_of_rope(layout):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: positions.rope(t, 7, layout=layout), x)
    assert torch.autograd.gradcheck(lambda t: positions.to_half(positions.to_interleaved(t, 1), -1) * t, x[:, :2])


# ALiBi ------------------------------------------------------------------------------------------------------------


def test_slopes_of_the_paper():
    np.testing.assert_array_equal(positions.alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(positions.alibi_slopes(16), [2.0 ** (-i / 2) for i in range(1, 17)], rtol=1e-15)
    np.testing.assert_array_equal(positions.alibi_slopes(1), [2.0**-8])
    # 12 heads, as the authors' get_slopes(12): those of 8, then every other one of 16.
    odd = [2.0 ** (-i / 2) for i in (1, 3, 5, 7)]
    np.testing.assert_allclose(positions.alibi_slopes(12), [2.0**-i for i in range(1, 9)] + odd, rtol=1e-15)


@libraries
@given(n_heads=st.integers(1, 9), n_q=lengths, n_kv=lengths)
def test_alibi_is_slope_times_distance(library, n_heads, n_q, n_kv):
    like = give(np.zeros(1, np.float32), library)
    slopes = np.asarray(positions.alibi_slopes(n_heads))
    want = [[[-m * abs(j - (i + n_kv - n_q)) for j in range(n_kv)] for i in range(n_q)] for m in slopes]
    want = torch.tensor(want, dtype=torch.float32).reshape(n_heads, n_q, n_kv)
    check(positions.alibi(n_heads, n_q, n_kv, like), want, library)


def test_alibi_in_attention_is_an_additive_mask_of_torchs():
    q, k, v = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    bias, mask = positions.alibi(4, 5, like=q), masks.causal(5, like=q)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=bias + masks.to_additive(mask, like=q))
    ours = fn.softmax(fn.masked(fn.scaled_scores(q, k) + bias, mask)) @ v
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(positions.alibi(4, 2, 5), positions.alibi(4, 5)[:, -2:])  # the last of a cache


# Kind, dtype and innocence ----------------------------------------------------------------------------------------

TAKING = {
    "rope": lambda a: positions.rope(a, 3),
    "rope, interleaved": lambda a: positions.rope(a, 3, layout="interleaved"),
    "to_half": lambda a: positions.to_half(a),
    "to_interleaved": lambda a: positions.to_interleaved(a),
    "learned": lambda a: positions.learned(a, 2),
    "angles": lambda a: positions.angles(2, 4, like=a),
    "sinusoidal": lambda a: positions.sinusoidal(2, 4, like=a),
    "alibi": lambda a: positions.alibi(2, 3, like=a),
    "alibi_slopes": lambda a: positions.alibi_slopes(3, like=a),
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("call", TAKING)
def test_kind_and_dtype_are_those_that_came_in(call, dtype):
    t = torch.rand(2, 4, dtype=getattr(torch, dtype))
    before = t.clone()
    got = TAKING[call](t)
    assert isinstance(got, torch.Tensor) and got.dtype == t.dtype and torch.equal(t, before)
    assert TAKING[call](t.to("meta")).device.type == "meta"
    if dtype != "bfloat16":
        a = give(t.numpy(), "numpy")
        assert isinstance(TAKING[call](a), np.ndarray) and TAKING[call](a).dtype == dtype


def test_half_precision_is_turned_in_float32():
    x = torch.randn(300, 8).bfloat16()
    assert torch.equal(positions.rope(x, 5000), positions.rope(x.float(), 5000).bfloat16())


# What is wrong is named -------------------------------------------------------------------------------------------

EVEN, WHOLE, ONE = "must be even", "must be an integer of at least 0", np.ones((3, 4))
CASES = {
    "sinusoidal, odd": (ValueError, ("d_model " + EVEN, "got 5"), lambda p: p.sinusoidal(2, 5)),
    "angles, odd": (ValueError, ("d " + EVEN, "got 3"), lambda p: p.angles(2, 3)),
    "angles, width": (ValueError, ("d " + WHOLE, "got 4.0"), lambda p: p.angles(2, 4.0)),
    "length": (ValueError, ("n must be a length", "got -1"), lambda p: p.sinusoidal(-1, 4)),
    "offset": (ValueError, ("offset " + WHOLE, "got -2"), lambda p: p.sinusoidal(2, 4, offset=-2)),
    "rope, offset": (ValueError, ("offset " + WHOLE, "got 1.5"), lambda p: p.rope(ONE, 1.5)),
    "base 0": (ValueError, ("base must be positive", "got 0"), lambda p: p.rope(ONE, base=0)),
    "base a string": (TypeError, ("base must be a number", "got '10'"), lambda p: p.sinusoidal(2, 4, base="10")),
    "like integers": (TypeError, ("like must have a floating", "int64"), lambda p: p.angles(2, 4, like=np.arange(3))),
    "like a list": (TypeError, ("like must be a NumPy array", "got list"), lambda p: p.alibi(2, 4, like=[1.0])),
    "rope, odd": (ValueError, ("x must have an even width", r"\(3, 5\)"), lambda p: p.rope(np.ones((3, 5)))),
    "rope, one axis": (ValueError, ("x must have at least 2", r"\(4,\)"), lambda p: p.rope(ONE[0])),
    "rope, integers": (TypeError, ("x must have a floating", "int64"), lambda p: p.rope(np.ones((3, 4), int))),
    "layout": (ValueError, ('layout must be "half" or "inter', "got 'neox'"), lambda p: p.rope(ONE, layout="neox")),
    "to_half, odd": (ValueError, ("x must have an even length along axis 0", "got"), lambda p: p.to_half(ONE, 0)),
    "to_half, axis": (ValueError, ("axis must be one of the 2", "got 2"), lambda p: p.to_half(ONE, 2)),
    "to_interleaved, odd": (ValueError, ("x must have an even", "3"), lambda p: p.to_interleaved(ONE[:, :3])),
    "table too short": (ValueError, ("table must have .* 5 positions", r"\(3, 4\)"), lambda p: p.learned(ONE, 2, 3)),
    "table of one axis": (ValueError, ("table must have two", r"\(4,\)"), lambda p: p.learned(ONE[0], 1)),
    "table, offset": (ValueError, ("offset " + WHOLE, "got -1"), lambda p: p.learned(ONE, 1, -1)),
    "table, n": (ValueError, ("n must be a length", "got None"), lambda p: p.learned(ONE, None)),
    "table a list": (TypeError, ("table must be a NumPy array", "list"), lambda p: p.learned([[1.0]], 1)),
    "no heads": (ValueError, ("n_heads must be an integer of at least 1", "got 0"), lambda p: p.alibi_slopes(0)),
    "alibi, n_q": (ValueError, ("n_q must be a length", "got -3"), lambda p: p.alibi(2, -3)),
    "alibi, n_kv": (ValueError, ("n_kv must be a length", "got '2'"), lambda p: p.alibi(2, 3, "2")),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(plain_positions, case):
    error, parts, call = CASES[case]
    for part in parts:
        with pytest.raises(error, match=part) as caught:
            call(plain_positions)
        assert caught.type is error
