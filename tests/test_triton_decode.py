"""The decoding kernel, interpreted, against `functional.attention` in float64: ragged, grouped, strided, in any splits.

The interpreter computes bfloat16 wrongly: float16 and float32 stand for it, and `flash_decode` hands bfloat16 to the
interpreter as float32.
"""

import math
import random

import pytest
import torch

from attnbook import functional
from attnbook.efficient.tiled import Running, merge
from triton_help import compiled, far_apart, poisoned, triton_decode  # noqa: F401

flash_decode = triton_decode.flash_decode

KINDS = ("plain", "ragged", "grouped", "strides", "huge logits", "odd widths", "nothing", "many splits")
CASES = 8  # for each kind
pytestmark = pytest.mark.usefixtures("poisoned")


def draw(kind: str, random: random.Random):
    """(q, k, v), arguments: in k and v, what lies beyond a length is NaN."""
    one_of, dtype = random.choice, random.choice([torch.float16, torch.float32])
    batch, n_kv_heads, group = one_of([(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1)])
    n_kv, d_k = random.randint(1, 100), one_of([8, 16, 32])
    d_v, size, splits = one_of([d_k, 16]), 1.0, one_of([None, 1, 2, 3])
    if kind == "ragged":
        batch = random.randint(2, 4)
    if kind == "grouped":
        batch, n_kv_heads, group = one_of([(1, 1, 20), (1, 2, 3), (2, 2, 2), (1, 1, 70)])
        n_kv = random.randint(1, 50)
    if kind == "huge logits":
        size = 50.0  # scores of 1e4
    if kind == "odd widths":
        d_k, d_v = random.randint(1, 40), random.randint(1, 40)
    if kind == "nothing":
        batch, n_kv = one_of([(0, 3), (2, 0), (2, 1)])
    if kind == "many splits":
        n_kv, splits = random.randint(150, 700), random.randint(5, 20)
    generator = torch.Generator().manual_seed(random.randrange(2**31))

    def array(heads, n, d, size=1.0):
        layout = one_of(["bhnd", "bnhd", "wide", "step", "turned"]) if kind == "strides" else "bhnd"
        shape = {"bnhd": (batch, n, heads, d), "wide": (batch, heads, n + 3, 2 * d + 5), "turned": (batch, heads, d, n),
                 "step": (batch, heads, n, 2 * d)}.get(layout, (batch, heads, n, d))  # fmt: skip
        x = (torch.randn(shape, generator=generator, dtype=torch.float64) * size).to(dtype)
        return {"bnhd": lambda: x.transpose(1, 2), "wide": lambda: x[:, :, 2 : n + 2, 3 : d + 3],
                "turned": lambda: x.mT, "step": lambda: x[..., ::2]}.get(layout, lambda: x)()  # fmt: skip

    q, k = array(n_kv_heads * group, 1, d_k, size), array(n_kv_heads, n_kv, d_k, size)
    v, lengths = array(n_kv_heads, n_kv, d_v), None
    if kind in ("ragged", "many splits", "nothing", "strides"):
        dtype = one_of([torch.int32, torch.int64])
        lengths = torch.randint(0, n_kv + 1, (2 * batch,), generator=generator, dtype=dtype)[::2]
        lengths[:1] = 0 if kind == "nothing" else n_kv
        for i, length in enumerate(lengths.tolist()):
            k[i, :, length:] = v[i, :, length:] = math.nan
    scale = one_of([None, None, 0.3, -0.2, 0.0]) if kind != "huge logits" else None
    return (q, k, v), {"lengths": lengths, "scale": scale, "splits": splits}


def naive(qkv, dtype, lengths=None, scale=None, splits=None):
    """out and lse by `functional.attention`, in another precision, and how large the numbers were that out sums."""
    q, k, v = (x.to(dtype).nan_to_num() for x in qkv)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    mask = torch.ones(len(q), 1, 1, k.shape[2], dtype=torch.bool)
    if lengths is not None:
        mask &= torch.arange(k.shape[2]) < lengths[:, None, None, None]
    lse = functional.logsumexp(functional.masked(functional.scaled_scores(q, k, scale), mask))
    return functional.attention(q, k, v, mask, scale), lse, functional.attention(q, k, v.abs(), mask, scale)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_at_most_twice_as_far_off_as_the_naive_version(kind):
    for number in range(CASES):
        qkv, arguments = draw(kind, random.Random(f"{kind} {number}"))
        label = ([(tuple(x.shape), x.stride(), x.dtype) for x in qkv], arguments)
        *exact, summed = naive(qkv, torch.float64, **arguments)
        *rough, _ = naive(qkv, qkv[0].dtype, **arguments)
        got = flash_decode(*qkv, **arguments, return_lse=True)
        assert got[0].dtype == qkv[0].dtype and got[1].dtype == torch.float32
        for result, want, other, scale in zip(got, exact, rough, (summed, exact[1].abs() + 1)):
            assert result.shape == want.shape and not result.isnan().any(), label
            seen = want != -math.inf
            assert torch.equal(result != -math.inf, seen), label
            if seen.any():
                check((x[seen].double() for x in (result, want, other, scale)), qkv[0].dtype, label)


def check(results, dtype, label):
    """However lucky the naive version was with so few numbers: scores, weights and what is summed are rounded."""
    result, want, other, summed = results
    eps = max(torch.finfo(dtype).eps, 2**-22)
    for size in (lambda x: x.abs().max(), lambda x: x.square().mean().sqrt()):
        assert size(result - want) <= max(2 * size(other - want), eps * size(summed)), label


def test_splits_and_merge_are_those_of_chapter_17():
    """The parts that the first kernel leaves, merged by `tiled.merge`, are what the second kernel returns."""
    q, k, v = torch.randn(1, 4, 1, 16), torch.randn(1, 2, 150, 16), torch.randn(1, 2, 150, 8)
    out, lse = torch.empty(1, 4, 1, 8), torch.empty(1, 4, 1)
    split, second = triton_decode.launches(q, k, v, None, out, lse, 0.25, 4)
    split.run(), second.run()
    m, l, o = (split.arguments[f"{name}_parts"] for name in "mlo")
    m = m / math.log2(math.e)  # the kernels count in units of ln 2
    parts = [Running(m[:, i], l[:, i], o.first[:, i]) for i in range(m.shape[1])]
    assert len(parts) == 3  # 150 keys in 4 parts of whole tiles of 32 would be 64 each
    together = parts[0]
    for part in parts[1:]:
        together = merge(together, part)
    want, want_lse = together.result()
    torch.testing.assert_close(out.view(2, 2, 8), want)
    torch.testing.assert_close(lse.view(2, 2), want_lse)
    torch.testing.assert_close(out, naive((q, k, v), torch.float32)[0])


def test_the_cache_is_cut_so_that_a_gpu_is_busy():
    cpu = torch.device("cpu")
    for programs, n_kv in ((4, 65536), (32, 65536), (256, 4096), (2000, 65536), (1, 100), (1, 0)):
        splits = triton_decode._splits(programs, n_kv, cpu)
        full = triton_decode.MULTIPROCESSORS * triton_decode.PROGRAMS
        assert splits == 1 or (programs * splits <= full and n_kv / splits >= triton_decode.MIN_KEYS)
        assert splits == max(1, n_kv // triton_decode.MIN_KEYS) or programs * (splits + 1) > full


def test_bfloat16_is_rounded_once_by_the_interpreter():
    q, k, v = (torch.randn(1, 2, n, 16).bfloat16() for n in (1, 40, 40))
    got, want = flash_decode(q, k, v), functional.attention(q.double(), k.double(), v.double())
    assert got.dtype == torch.bfloat16
    assert (got - want).abs().max() <= want.abs().max() * 2**-8


def test_no_offset_is_cut_to_32_bits(tmp_path):
    k = far_apart(17, 2**27, 16, tmp_path)  # the last begins at 2³¹
    q = torch.randn(1, 2, 1, 16).half()
    torch.testing.assert_close(flash_decode(q, k, k, splits=1), functional.attention(q, k, k), atol=2e-3, rtol=2e-3)


GOOD = {"q": torch.randn(2, 4, 1, 8), "k": torch.randn(2, 2, 5, 8), "v": torch.randn(2, 2, 5, 3)}


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ({"q": [1.0]}, TypeError, "q must be a torch tensor, got list"),
        ({"q": GOOD["q"].numpy()}, TypeError, "q must be a torch tensor, got ndarray"),
        ({"k": GOOD["k"].half()}, TypeError, "k must have the dtype of q, torch.float32, got torch.float16"),
        ({n: x.double() for n, x in GOOD.items()}, TypeError, "q must be float16, bfloat16 or float32, got .*float64"),
        ({"v": GOOD["v"][0]}, ValueError, r"v must have 4 dimensions, .* got shape \(2, 5, 3\)"),
        ({"q": GOOD["q"].expand(2, 4, 2, 8)}, ValueError, r"q must have one query a head, .* got shape \(2, 4, 2, 8\)"),
        ({"q": GOOD["q"][:, :3]}, ValueError, r"q must have a multiple of the 2 heads of k and v, got shape \(2, 3, 1"),
        ({"k": GOOD["k"][:1]}, ValueError, r"k must have shape .* with batch = 2 and d_k = 8, got \(1, 2, 5, 8\)"),
        ({"k": GOOD["k"][..., :7]}, ValueError, r"k must have shape .* d_k = 8, got \(2, 2, 5, 7\)"),
        ({"v": GOOD["v"][:, :, :4]}, ValueError, r"v must have shape \(2, 2, 5, 'd_v'\), as k has, got \(2, 2, 4, 3\)"),
        ({"v": torch.randn(2, 2, 5, 257)}, ValueError, r"v must be 1 to 256 wide, got shape \(2, 2, 5, 257\)"),
        ({"q": GOOD["q"].clone().requires_grad_()}, ValueError, "q must not require a gradient"),
        ({"scale": math.nan}, ValueError, "scale must be finite"),
        ({"splits": 0}, ValueError, "splits must be an integer of at least 1, got 0"),
        ({"lengths": [5, 5]}, TypeError, "lengths must be a tensor of int32 or int64, got list"),
        ({"lengths": torch.ones(2)}, TypeError, "lengths must be a tensor of int32 or int64, got torch.float32"),
        ({"lengths": torch.ones(3).long()}, ValueError, r"lengths must have shape \(2,\), on cpu, got \(3,\), cpu"),
        ({"lengths": torch.tensor([6, 0])}, ValueError, r"lengths must be from 0 to n_kv = 5, got \[6, 0\]"),
        ({"lengths": torch.tensor([1, -1])}, ValueError, r"lengths must be from 0 to n_kv = 5, got \[1, -1\]"),
    ],
)
def test_a_wrong_argument_is_named(bad, error, message):
    with pytest.raises(error, match=message):
        flash_decode(**{**GOOD, **bad})


def test_a_length_beyond_the_cache_is_cut_where_it_is_not_looked_at():
    """As on a GPU, whose lengths nobody waits for."""
    q, k, v = GOOD.values()
    out, lse = torch.empty(2, 4, 1, 3), torch.empty(2, 4, 1)
    for launch in triton_decode.launches(q, k, v, torch.tensor([9, -3]), out, lse, 8**-0.5, 2):
        launch.run()
    want, want_lse, _ = naive((q, k, v), torch.float32, torch.tensor([5, 0]))
    torch.testing.assert_close((out, lse), (want, want_lse))


def test_it_compiles_for_sm_90_and_spills_nothing():
    rows = compiled("triton_decode", 128)
    assert {row["kernel"] for row in rows} == {"decode split", "decode merge"} and len(rows) == 8
    assert not [row for row in rows if row["stack"]]
