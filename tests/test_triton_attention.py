"""The attention kernels, interpreted: never much less exact than the naive version, whatever the shapes and the logits.

The interpreter runs a kernel on the CPU, number for number but without bfloat16, which it computes wrongly: float16 and
float32 stand for it here, and `flash_attention` turns bfloat16 into float32 before the interpreter sees it.
"""

import importlib
import math
import random
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch

from attnbook import functional, masks
from attnbook.efficient import flash
from attnbook.efficient.flash import choose, flash_attention
from attnbook.efficient.tiled import tiled_attention
from triton_help import triton_attention

# For keys beyond the end a kernel computes what it likes, infinity too: those rows are never stored.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
HOPPER, AMPERE = (9, 0), (8, 0)  # whose tiles are fetched, and whose are addressed
CASES = 21  # for each kind and seed


class Case(NamedTuple):
    """Arrays and arguments, drawn at random."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    d_out: torch.Tensor
    causal: bool
    window: int | None
    scale: float | None
    capability: tuple[int, int]
    blocks: tuple[int, int]

    def arguments(self):
        return {"causal": self.causal, "window": self.window, "scale": self.scale}

    def __repr__(self):
        shapes = ", ".join(f"{name} {tuple(x.shape)} {x.stride()}" for name, x in zip("qkv", self[:3]))
        return f"{shapes}, {self.q.dtype}, {self.arguments()}, {self.capability}, {self.blocks}"


def draw(kind: str, random: random.Random) -> Case:
    one_of = random.choice
    dtype = one_of([torch.float16, torch.float32])
    batch, n_kv_heads, group = one_of([(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1)])
    n_q, n_kv = random.randint(1, 40), random.randint(1, 40)
    d_k = one_of([8, 16, 16, 24, 32, 40])
    d_v = one_of([d_k, d_k, 16])
    window, size = None, 1.0
    if kind == "long":
        batch, n_kv_heads, group, n_q, n_kv = 1, 1, 1, random.randint(49, 70), random.randint(49, 70)
    if kind == "square":
        n_q = n_kv = one_of([16, 31, 32, 33])
    if kind == "grouped":
        batch, n_kv_heads, group = one_of([(1, 1, 3), (1, 2, 2), (2, 1, 2)])
        n_q, n_kv = random.randint(1, 24), random.randint(1, 24)
    if kind == "window":
        window = random.randint(1, 40)
    if kind == "no row sees a key":
        n_q, n_kv, window = random.randint(24, 64), random.randint(1, 16), one_of([None, 3])
        batch, n_kv_heads, group = 1, 1, one_of([1, 2])
    if kind == "huge logits":
        size = 50.0  # scores of 1e4
    if kind == "odd widths":
        d_k, d_v = random.randint(1, 19), random.randint(1, 19)
    if kind == "nothing":
        n_q, n_kv = one_of([(0, 5), (5, 0), (0, 0), (1, 1)])
    generator = torch.Generator().manual_seed(random.randrange(2**31))

    def array(heads, n, d, size=1.0):
        # Heads before or after the tokens, as they come from a projection; or a part of something wider.
        layout = one_of(["bhnd", "bnhd", "wide", "step", "turned"]) if kind == "strides" else "bhnd"
        shape = {"bnhd": (batch, n, heads, d), "wide": (batch, heads, n + 3, 2 * d + 5), "turned": (batch, heads, d, n),
                 "step": (batch, heads, n, 2 * d)}.get(layout, (batch, heads, n, d))  # fmt: skip
        x = (torch.randn(shape, generator=generator, dtype=torch.float64) * size).to(dtype)
        return {"bnhd": lambda: x.transpose(1, 2), "wide": lambda: x[:, :, 2 : n + 2, 3 : d + 3],
                "turned": lambda: x.mT, "step": lambda: x[..., ::2]}.get(layout, lambda: x)()  # fmt: skip

    q, k = array(n_kv_heads * group, n_q, d_k, size), array(n_kv_heads, n_kv, d_k, size)
    v, d_out = array(n_kv_heads, n_kv, d_v), array(n_kv_heads * group, n_q, d_v)
    causal = kind == "no row sees a key" or random.random() < 0.5
    scale = one_of([None, None, None, 0.3, -0.2, 0.0]) if kind not in ("huge logits", "grouped") else None
    blocks = one_of([(32, 32), (32, 32), (32, 32), (16, 32), (32, 16)])
    return Case(q, k, v, d_out, causal, window, scale, one_of([HOPPER, HOPPER, AMPERE]), blocks)


def by_kernel(case: Case, monkeypatch) -> list[torch.Tensor]:
    config = triton_attention.Config(*case.blocks, 1, 1)
    monkeypatch.setattr(flash, "PLAYED", case.capability)
    monkeypatch.setattr(triton_attention, "INTERPRETER", dict.fromkeys(triton_attention.INTERPRETER, config))
    leaves = [x.detach().requires_grad_() for x in case[:3]]
    out, lse = flash_attention(*leaves, **case.arguments(), return_lse=True, backend="triton")
    return [out.detach(), lse.detach(), *torch.autograd.grad(out, leaves, case.d_out)]


def naive(case: Case, dtype: torch.dtype) -> list[torch.Tensor]:
    """The same by `functional.attention`, in another precision."""
    leaves = [x.to(dtype).requires_grad_() for x in case[:3]]
    q, k, v = written_out(case, *leaves)
    out = functional.attention(q, k, v, visible(case), case.scale)
    lse = functional.logsumexp(functional.masked(functional.scaled_scores(q, k, case.scale), visible(case)))
    return [x.detach() for x in (out, lse, *torch.autograd.grad(out, leaves, case.d_out.to(dtype)))]


def roundings(case: Case) -> list[float]:
    """What one rounding of each term does to out, lse, dq, dk and dv: no sum can be expected to be more exact.

    A term is rounded to the dtype of q. Before that it was a weight, and the exponential of a score that float32 knows
    to some digits only: one of 1e4 to the third after the point. (For a softmax with a single weight of 1 the naive
    version is exact all the same, and for sums whose terms cancel.)
    """
    d_out = case.d_out.double().abs()
    q, k, v = written_out(case, *(x.double() for x in case[:3]))
    scale = abs(1 / math.sqrt(q.shape[-1]) if case.scale is None else case.scale)
    scores = functional.scaled_scores(q, k, case.scale)
    weights = functional.softmax(functional.masked(scores, visible(case)))
    d_weights = d_out @ v.mT.abs()
    d_scores = scale * weights * (d_weights + (weights * d_weights).sum(-1, keepdim=True))
    sums = weights @ v.abs(), scores.abs(), d_scores @ k.abs(), d_scores.mT @ q.abs(), weights.mT @ d_out
    largest = scores.abs().max().item() if scores.numel() else 0.0
    rounding = torch.finfo(case.q.dtype).eps + torch.finfo(torch.float32).eps * largest
    return [rounding * x.max().item() if x.numel() else 0.0 for x in sums]


def written_out(case: Case, q, k, v):
    group = q.shape[1] // k.shape[1]
    return q, k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)


def visible(case: Case) -> torch.Tensor:
    n_q, n_kv = case.q.shape[2], case.k.shape[2]
    mask = torch.ones(n_q, n_kv, dtype=torch.bool)
    if case.causal:
        mask &= masks.causal(n_q, n_kv, like=case.q)
    if case.window is not None:
        mask &= masks.local(n_q, n_kv, case.window, like=case.q)
    return mask


KINDS = ("plain", "long", "square", "grouped", "window", "no row sees a key", "huge logits", "odd widths", "strides",
         "nothing")  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_at_most_twice_as_far_off_as_the_naive_version(kind, seed, monkeypatch):
    for number in range(CASES):
        case = draw(kind, random.Random(f"{kind} {seed} {number}"))
        exact, rough = naive(case, torch.float64), naive(case, case.q.dtype)
        for name, got, want, other, rounding in zip(
            ("out", "lse", "dq", "dk", "dv"), by_kernel(case, monkeypatch), exact, rough, roundings(case)
        ):
            assert got.shape == want.shape and got.dtype == (torch.float32 if name == "lse" else case.q.dtype)
            assert not got.isnan().any(), (name, case)
            if name == "lse":
                assert torch.equal(got == -math.inf, want == -math.inf), case
                got, want, other = (x[want != -math.inf] for x in (got, want, other))
            for measure in (largest, root_mean_square):
                error, naive_error = measure(got.double() - want), measure(other.double() - want)
                assert error <= max(2 * naive_error, rounding), (name, measure, error, naive_error, rounding, case)


def largest(x):
    return x.abs().max().item() if x.numel() else 0.0


def root_mean_square(x):
    return x.square().mean().sqrt().item() if x.numel() else 0.0


def test_arrays_that_32_bits_cannot_address(monkeypatch):
    monkeypatch.setattr(flash, "PLAYED", AMPERE)  # the one whose addresses are our own
    q, near, d_out = torch.randn(2, 1, 20, 16), torch.randn(2, 1, 20, 16), torch.randn(2, 1, 20, 16)
    far = torch.empty(2**31 + 400).as_strided(near.shape, (2**31, 320, 16, 1))  # only what is touched takes memory
    far.copy_(near)
    results = []
    for k in (far, near):
        leaves = [x.detach().requires_grad_() for x in (q, k, k)]
        out = flash_attention(*leaves, causal=True, backend="triton")
        results.append([out, *torch.autograd.grad(out, leaves, d_out)])
    assert all(torch.equal(*pair) for pair in zip(*results))


@pytest.mark.parametrize("shapes", [
    [(5, 8), (7, 8), (7, 3)],
    [(2, 5, 8), (1, 7, 8), (1, 7, 8)],
    [(3, 1, 4, 5, 8), (2, 2, 7, 8), (1, 2, 7, 8)],
    [(0, 4, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8)],
])  # fmt: skip
@pytest.mark.parametrize("arguments", [{}, {"causal": True, "window": 3}, {"window": 2**40, "scale": -0.5}])
def test_both_backends_agree_on_any_leading_dimensions(shapes, arguments):
    leaves = [torch.randn(shape, requires_grad=True) for shape in shapes]
    results = []
    for backend in ("triton", "tiled"):
        out, lse = flash_attention(*leaves, **arguments, return_lse=True, backend=backend)
        loss = (out * out).sum() + lse[lse != -math.inf].sin().sum()
        results.append([out, lse, *torch.autograd.grad(loss, leaves)])
    for got, want in zip(*results):
        torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)


def test_bfloat16_is_interpreted_in_float32_and_rounded_once():
    q, k, v = (torch.randn(2, 9, 16, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    out = flash_attention(q, k, v, causal=True, backend="triton")
    wide = flash_attention(q.float(), k.float(), v.float(), causal=True, backend="triton")
    assert out.dtype == torch.bfloat16 and torch.equal(out, wide.bfloat16())
    assert all(x.dtype == torch.bfloat16 for x in torch.autograd.grad(out.sum(), (q, k, v)))


def test_tiles_in_which_nothing_may_be_seen_are_never_read():
    q, k, v = (torch.randn(1, 1, 128, 16, requires_grad=True) for _ in range(3))
    with torch.no_grad():
        for x in (k, v):
            x[:, :, :32], x[:, :, 96:] = torch.nan, torch.nan
    out = flash_attention(q, k, v, causal=True, window=10, backend="triton")[:, :, 64:96]
    (dq,) = torch.autograd.grad(out.sum(), q)
    assert out.isfinite().all() and dq[:, :, 64:96].isfinite().all()


@pytest.mark.parametrize("step", ["SKIP", "SPLIT", "BASE_2"])
@pytest.mark.parametrize("back, ahead", [(None, None), (None, 0), (9, 0), (4, 4)])
def test_each_step_of_the_ladder_computes_the_same(step, back, ahead):
    q, k, v = torch.randn(1, 4, 50, 16), torch.randn(1, 2, 41, 16), torch.randn(1, 2, 41, 16)
    plan = triton_attention.Plan(back, ahead, 0.25, AMPERE, triton_attention.INTERPRETER)
    want, want_lse = triton_attention.forward(q, k, v, plan)
    out, lse = torch.empty_like(want), torch.empty_like(want_lse)
    triton_attention.launch_forward(q, k, v, out, lse, plan, **{step: False}).run()
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse, want_lse, rtol=1e-5, atol=1e-6)


def test_it_can_be_differentiated_once_only():
    q = torch.randn(1, 4, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(flash_attention(q, q, q, backend="triton").square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# The choice of the backend -----------------------------------------------------------------------------------------


def test_on_a_cpu_the_tiled_version_computes_unless_told_otherwise(monkeypatch):
    q = torch.randn(2, 5, 8)
    assert choose(q, q, q).backend == "tiled" and "cpu" in choose(q, q, q).reason
    assert choose(q, q, q, backend="triton").backend == "triton"
    assert choose(q, q, q, backend="tiled") == ("tiled", "asked for")
    assert torch.equal(flash_attention(q, q, q, causal=True), tiled_attention(q, q, q, causal=True))
    a = np.random.default_rng(0).standard_normal((2, 5, 8))
    assert choose(a, a, a).backend == "tiled" and isinstance(flash_attention(a, a, a, window=2), np.ndarray)
    monkeypatch.setattr(triton_attention, "INTERPRETED", False)
    with pytest.raises(ValueError, match="q must be on an NVIDIA GPU, got device cpu.*TRITON_INTERPRET"):
        flash_attention(q, q, q, backend="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton is not installed"):
        choose(q, q, q, backend="triton")


@pytest.mark.parametrize("make, message", [
    (lambda: torch.randn(2, 5, 8, dtype=torch.float64), "q must be float16, bfloat16 or float32, got torch.float64"),
    (lambda: torch.randn(2, 5, 257), r"q must have d_k from 1 to 256, got shape \(2, 5, 257\)"),
    (lambda: np.zeros((2, 5, 8)), "q must be a torch tensor, got numpy.ndarray"),
])  # fmt: skip
def test_what_the_kernel_cannot_do_is_named_and_done_otherwise_only_if_told_so(make, message):
    q = make()
    with pytest.raises(ValueError, match=message):
        flash_attention(q, q, q, backend="triton")
    with pytest.warns(UserWarning, match=message):
        out = flash_attention(q, q, q, causal=True, backend="triton", fallback=True)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(tiled_attention(q, q, q, causal=True)))


@pytest.mark.parametrize("backend", ["triton", "tiled"])
@pytest.mark.parametrize("change, error, message", [
    ({"window": 0}, ValueError, "window must be"),
    ({"window": 2.5}, ValueError, "window must be"),
    ({"causal": 1}, TypeError, "causal must be True or False, got 1"),
    ({"scale": math.nan}, ValueError, "scale must be finite"),
    ({"k": torch.zeros(2, 5, 9)}, ValueError, "k must have the width of q, d_k = 8"),
    ({"k": torch.zeros(3, 5, 8)}, ValueError, "v must have the heads of k"),
    ({"v": torch.zeros(2, 5, 8).half()}, TypeError, "v must have the dtype of q"),
])  # fmt: skip
def test_wrong_arguments_are_named(backend, change, error, message):
    arguments = dict.fromkeys("qkv", torch.zeros(2, 5, 8)) | change
    with pytest.raises(error, match=message):
        flash_attention(**arguments, backend=backend)


def test_an_unknown_backend_is_named():
    q = torch.zeros(2, 5, 8)
    with pytest.raises(ValueError, match="backend must be None or one of 'triton', 'tiled', got 'cuda'"):
        choose(q, q, q, backend="cuda")


def test_importing_asks_for_no_gpu():
    code = """
import attnbook.efficient.flash, sys
assert "triton" not in sys.modules, "Triton is imported before it is used"
import attnbook.efficient.triton_attention
from triton.runtime.driver import driver
assert driver._active is None and driver._default is None, "the driver of the GPU was asked for"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
