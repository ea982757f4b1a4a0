"""The kernels of chunked linear attention, interpreted, against `linear.linear_attention` in float64.

The interpreter computes bfloat16 wrongly: float16 and float32 stand for it, and `chunked_linear_attention` hands
bfloat16 to the interpreter as float32. There a chunk has 32 tokens, so that a few tokens are a few chunks.
"""

import math
import random

import pytest
import torch

from attnbook.efficient.linear import elu1, linear_attention, taylor
from triton_help import compiled, far_apart, poisoned, triton_linear  # noqa: F401

chunked_linear_attention = triton_linear.chunked_linear_attention
KINDS = ("plain", "decay", "not normalised", "strides", "many chunks", "huge", "odd widths", "zeros", "nothing")
CASES = 6  # for each kind
pytestmark = pytest.mark.usefixtures("poisoned")


def draw(kind: str, random: random.Random):
    """(q, k, v), arguments"""
    one_of, dtype = random.choice, random.choice([torch.float16, torch.float32])
    (batch, n_heads), n = one_of([(1, 1), (2, 1), (1, 2)]), random.randint(1, 90)
    d_k, d_v, size = one_of([8, 16, 32]), one_of([8, 16, 24]), 1.0
    decay, normalise = None, kind != "not normalised"
    if kind == "decay":
        normalise = one_of([True, False])
        shares = 10 ** torch.linspace(-random.randint(0, 30), 0, n_heads, dtype=torch.float64)  # from 1e-30 to 1
        decay = one_of([0.9, 1.0, shares.view(n_heads, 1, 1)])
    if kind == "many chunks":
        batch, n_heads, n, decay = 1, 1, random.randint(200, 400), one_of([None, 0.999])
    if kind == "huge":
        size = 300.0  # products of 1e5 and sums of more: beyond float16, which ends at 65504
    if kind == "odd widths":
        d_k, d_v = random.randint(1, 40), random.randint(1, 40)
    if kind == "nothing":
        (batch, n_heads), n = one_of([(0, 1), (1, 0), (1, 1)]), one_of([0, 1])
    generator = torch.Generator().manual_seed(random.randrange(2**31))

    def array(d, feature=lambda x: x):
        layout = one_of(["bhnd", "bnhd", "wide", "step", "turned", "shared"]) if kind == "strides" else "bhnd"
        shape = {"bnhd": (batch, n, n_heads, d), "wide": (batch, n_heads, n + 3, 2 * d + 5),
                 "turned": (batch, n_heads, d, n), "step": (batch, n_heads, n, 2 * d),
                 "shared": (batch, 1, n, d)}.get(layout, (batch, n_heads, n, d))  # fmt: skip
        x = (feature(torch.randn(shape, generator=generator, dtype=torch.float64)) * size).to(dtype)
        return {"bnhd": lambda: x.transpose(1, 2), "wide": lambda: x[:, :, 2 : n + 2, 3 : d + 3],
                "turned": lambda: x.mT, "step": lambda: x[..., ::2],
                "shared": lambda: x.expand(batch, n_heads, n, d)}.get(layout, lambda: x)()  # fmt: skip

    feature = elu1 if normalise else lambda x: x
    q, k, v = array(d_k, feature), array(d_k, feature), array(d_v)
    if kind == "zeros":  # what sees nothing: the first queries, and some in between
        k[..., : random.randint(1, n), :], q[..., ::5, :] = 0, 0
    return (q, k, v), {"decay": decay, "normalise": normalise}


def exact(qkv, **arguments):
    q, k, v = (x.double() for x in qkv)
    return linear_attention(q, k, v, feature=None, form="quadratic", **arguments) if v.numel() else torch.zeros_like(v)


def naive(qkv, decay, normalise):
    """The table of weights, written out in the precision of q."""
    q, k, v = qkv
    ago = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
    weights = (q @ k.mT).tril()
    if decay is not None:
        weights = (weights * (torch.as_tensor(decay, dtype=torch.float64) ** ago.clamp(min=0))).to(q.dtype)
    total = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(total == 0, 1, total) if normalise else weights @ v


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_at_most_twice_as_far_off_as_the_naive_version(kind):
    for number in range(CASES):
        qkv, arguments = draw(kind, random.Random(f"{kind} {number}"))
        label = ([(tuple(x.shape), x.stride(), x.dtype) for x in qkv], arguments)
        got, want = chunked_linear_attention(*qkv, **arguments), exact(qkv, **arguments)
        assert got.dtype == qkv[0].dtype and got.shape == want.shape, label
        assert got.isfinite().all(), label
        if not want.numel():
            continue
        other = naive(qkv, **arguments).double()
        # What float16 cannot hold at all is no measure.
        other = torch.where(other.isfinite(), other, want)
        summed = exact((*(x.abs() for x in qkv),), **arguments)
        eps = max(torch.finfo(qkv[0].dtype).eps, 2**-22)
        for size in (lambda x: x.abs().max(), lambda x: x.square().mean().sqrt()):
            assert size(got.double() - want) <= max(2 * size(other - want), eps * size(summed)), label


def test_what_sees_nothing_gets_zeros():
    q, k, v = torch.rand(3, 1, 1, 70, 16)
    k[:, :, :40] = 0
    out = chunked_linear_attention(q, k, v)
    assert (out[:, :, :40] == 0).all() and (out[:, :, 40:] != 0).all()


def test_sums_beyond_float16_do_not_overflow():
    """The state, the weights and their sum are all far beyond 65504; the mean is not."""
    q = k = torch.full((1, 1, 70, 16), 1000.0, dtype=torch.float16)
    v = torch.full((1, 1, 70, 16), 60000.0, dtype=torch.float16)
    assert (chunked_linear_attention(q, k, v) == 60000).all()
    v[..., 1] = 1e-5  # a channel as small beside one as large keeps its precision
    small = chunked_linear_attention(q, k, v)[..., 1]
    torch.testing.assert_close(small, v[..., 1], rtol=1e-2, atol=1e-7)


def test_features_of_any_width():
    """Taylor's features of 16 channels are 273; the kernel takes them a block at a time."""
    q, k, v = torch.randn(3, 1, 1, 40, 16)
    got = chunked_linear_attention(taylor(q), taylor(k), v)
    torch.testing.assert_close(got, linear_attention(q, k, v, feature=taylor))


def test_the_same_call_as_the_torch_version_with_a_decay_for_each_head():
    q, k, v = (elu1(torch.randn(2, 3, 50, 16)) for _ in range(3))
    decay = torch.tensor([0.5, 0.9, 1.0]).view(3, 1, 1)
    want = linear_attention(q, k, v, feature=None, decay=decay)
    torch.testing.assert_close(chunked_linear_attention(q, k, v, decay=decay), want)


def test_one_chunk_needs_no_states():
    q = torch.randn(1, 1, 32, 16)
    assert len(triton_linear.launches(q, q, q, None, torch.empty_like(q), True)) == 1
    q = torch.randn(1, 1, 33, 16)
    assert len(triton_linear.launches(q, q, q, None, torch.empty_like(q), True)) == 2


def test_bfloat16_is_rounded_once_by_the_interpreter():
    q, k, v = (elu1(torch.randn(1, 1, 40, 16)).bfloat16() for _ in range(3))
    got, want = chunked_linear_attention(q, k, v), exact((q, k, v))
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().max() <= want.abs().max() * 2**-8


def test_no_offset_is_cut_to_32_bits(tmp_path):
    x = far_apart(40, 2**26, 16, tmp_path)  # the last begins after 2³¹
    assert (chunked_linear_attention(x, x, x) - exact((x, x, x))).abs().max() < 2e-3


GOOD = {"q": torch.rand(1, 2, 5, 8), "k": torch.rand(1, 2, 5, 8), "v": torch.rand(1, 2, 5, 3)}


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ({"q": [1.0]}, TypeError, "q must be a torch tensor, got list"),
        ({"q": GOOD["q"].half()}, TypeError, "k must have the dtype of q, torch.float16, got torch.float32"),
        ({n: x.double() for n, x in GOOD.items()}, TypeError, "q must be float16, bfloat16 or float32, got .*float64"),
        ({"v": GOOD["v"][0]}, ValueError, r"v must have 4 dimensions, .* got shape \(2, 5, 3\)"),
        ({"k": GOOD["k"][:, :1]}, ValueError, r"k must have shape \(1, 2, 5, 8\), beside q .*, got \(1, 1, 5, 8\)"),
        ({"k": GOOD["k"][..., 1:]}, ValueError, r"k must have shape \(1, 2, 5, 8\), beside q .*, got \(1, 2, 5, 7\)"),
        ({"v": GOOD["v"][:, :, :4]}, ValueError, r"v must have shape \(1, 2, 5, 'd_v'\), .*, got \(1, 2, 4, 3\)"),
        ({"k": GOOD["k"].clone().requires_grad_()}, ValueError, "k must not require a gradient"),
        ({"normalise": 1}, TypeError, "normalise must be True or False, got 1"),
        ({"decay": "0.9"}, TypeError, "decay must be a number, got '0.9' of type str"),
        ({"decay": 0.0}, ValueError, r"decay must be in \(0, 1\], got values from 0.0 to 0.0"),
        ({"decay": math.nan}, ValueError, "decay must be finite, got nan"),
        ({"decay": torch.tensor([[[0.5]], [[1.5]]])}, ValueError, r"decay must be in \(0, 1\], got .* 0.5 to 1.5"),
        ({"decay": torch.ones(2)}, ValueError, r"decay must be a number, or one for each head, \(2, 1, 1\), got shape"),
        ({"decay": torch.ones(2, 1, 1).long()}, TypeError, "decay must be a number or a floating tensor, got .*int64"),
    ],
)
def test_a_wrong_argument_is_named(bad, error, message):
    with pytest.raises(error, match=message):
        chunked_linear_attention(**{**GOOD, **bad})


def test_it_compiles_for_sm_90_onto_tensor_cores_and_spills_nothing():
    rows = compiled("triton_linear", 128)
    assert {row["kernel"] for row in rows} == {"linear state", "linear chunk"} and len(rows) == 12
    assert not [row for row in rows if row["stack"]]
    assert all(row["wgmma"] for row in rows if row["dtype"] != "float32")
