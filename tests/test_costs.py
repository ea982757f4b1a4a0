"""attnbook.costs: the counts, against masks counted cell by cell, torch's own counter, and numbers by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from attnbook import costs, masks
from attnbook.costs import Cost, Machine, attention_cost

H100 = costs.MACHINES["H100 SXM"]
small = st.integers(1, 40)


def test_by_hand():
    assert attention_cost(3, 2) == Cost(flops=4 * 9 * 2, bytes=4 * 3 * 2 * 2, memory=3 * 4)
    naive = attention_cost(3, 2, fused=False)
    assert naive == Cost(flops=72, bytes=(4 * 9 + 4 * 6) * 2, memory=2 * 9 * 2)
    assert attention_cost(3, 2, causal=True).flops == 4 * 6 * 2
    assert attention_cost(3, 2, backward=True).flops == 2.5 * 72
    assert attention_cost(3, 2, backward=True).bytes == 8 * 6 * 2 + 3 * 4
    assert attention_cost(3, 2, fused=False, backward=True).bytes == (8 * 6 + 7 * 9) * 2


@given(n=small, window=small, causal=st.booleans())
def test_the_cells_of_a_window_are_those_of_its_mask(n, window, causal):
    mask = masks.local(n, n, window) & (masks.causal(n) if causal else True)
    assert attention_cost(n, 5, kind="window", window=window, causal=causal).flops == 4 * 5 * mask.sum()


@given(n=small, chunk=small)
def test_linear_counts_the_triangles_of_its_chunks_and_two_products_with_the_state(n, chunk):
    same_chunk = np.arange(n)[:, None] // chunk == np.arange(n) // chunk
    inside = (same_chunk & masks.causal(n)).sum()
    cost = attention_cost(n, 3, kind="linear", chunk=chunk, causal=True)
    assert cost.flops == 4 * inside * 3 + 4 * n * 9
    assert attention_cost(n, 3, kind="linear", chunk=chunk).flops == 4 * n * 9


@given(n=small, kept=st.floats(0.01, 1), causal=st.booleans())
def test_sparse_is_the_kept_share_of_full(n, kept, causal):
    full, sparse = (attention_cost(n, 8, causal=causal, kind=kind, kept=kept) for kind in ("full", "sparse"))
    assert sparse.flops == pytest.approx(kept * full.flops)
    assert (sparse.bytes, sparse.memory) == (full.bytes, full.memory)


@given(n=small, kind=st.sampled_from(costs.KINDS), causal=st.booleans(), fused=st.booleans(), backward=st.booleans())
def test_heads_batch_and_layers_are_factors(n, kind, causal, fused, backward):
    options = {"kind": kind, "causal": causal, "fused": fused, "backward": backward, "window": 7, "chunk": 4}
    one = attention_cost(n, 8, **options)
    many = attention_cost(n, 8, n_heads=3, batch=2, n_layers=5, **options)
    assert many.flops == pytest.approx(30 * one.flops)
    assert many.bytes == pytest.approx(30 * one.bytes)
    assert many.memory == pytest.approx(6 * one.memory), "layers run one after another"
    assert one.flops > 0 and one.bytes > 0 and one.memory > 0


def test_exponents():
    def exponent(kind, what="flops", **options):
        at = [getattr(attention_cost(n, 64, kind=kind, **options), what) for n in (2**16, 2**17)]
        return math.log2(at[1] / at[0])

    assert exponent("full") == exponent("sparse") == 2
    assert exponent("full", "bytes") == exponent("full", "memory") == 1
    assert exponent("full", "memory", fused=False) == 2
    assert exponent("window", causal=True) == pytest.approx(1, abs=0.01)
    assert exponent("linear", causal=True) == 1
    assert exponent("linear", "memory") == 0


def test_torch_counts_the_same():
    q, k, v = torch.randn(3, 2, 4, 50, 8)
    with FlopCounterMode(display=False) as counter:
        torch.softmax(q @ k.mT, dim=-1) @ v
    assert counter.get_total_flops() == attention_cost(50, 8, n_heads=4, batch=2).flops

    x, w, up, down = torch.randn(2, 50, 32), torch.randn(4, 32, 32), torch.randn(32, 128), torch.randn(128, 32)
    with FlopCounterMode(display=False) as counter:
        for matrix in w:
            x @ matrix
        x @ up @ down
    layer = costs.layer_cost(50, 32, n_heads=4, batch=2)
    assert counter.get_total_flops() == layer.rest.flops
    assert layer.attention == attention_cost(50, 8, n_heads=4, batch=2)
    weights, tokens = 12 * 32**2, 2 * 50 * 32
    assert layer.rest.bytes == (weights + tokens * (4 * 2 + 2 * (1 + 4))) * 2
    assert layer.total.flops == layer.attention.flops + layer.projections.flops + layer.mlp.flops


def test_where_attention_overtakes_the_rest():
    assert costs.crossover_length(4096) == 6 * 4096
    assert costs.crossover_length(100, mlp_ratio=8) == 1000
    for causal in (False, True):
        n = costs.crossover_length(768, causal=causal)
        at = [costs.layer_cost(m, 768, n_heads=12, causal=causal) for m in (n, n + 1)]
        assert at[0].attention.flops == at[0].rest.flops
        assert at[1].attention.flops > at[1].rest.flops
        found = costs.crossing(
            lambda m: costs.layer_cost(m, 768, causal=causal).attention.flops,  # noqa: B023
            lambda m: costs.layer_cost(m, 768, causal=causal).rest.flops,  # noqa: B023
        )
        assert found == n + 1


@given(n=st.integers(1, 1000))
def test_crossing_is_the_first(n):
    assert costs.crossing(lambda m: m, lambda m: n - 0.5) == n
    assert costs.crossing(lambda m: m, lambda m: n, high=n) is None


def test_the_roofline():
    assert H100.ridge == pytest.approx(295.5, abs=0.1)
    machine = Machine("toy", flops=10, bandwidth=2, source="made up")
    assert costs.roofline_time(Cost(100, 10, 0), machine) == (10, "compute")
    assert costs.roofline_time(Cost(10, 10, 0), machine) == (5, "memory")
    assert costs.roofline_time(Cost(50, 10, 0), machine) == (5, "compute"), "at the ridge"
    assert costs.roofline_time(attention_cost(8192, 64, fused=False), H100).bound == "memory"
    assert costs.roofline_time(attention_cost(8192, 64), H100).bound == "compute"
    for name, each in costs.MACHINES.items():
        assert each.name == name and each.source and each.ridge > 1


def test_costs_add_up():
    assert Cost(1, 2, 3) + Cost(10, 20, 1) == Cost(11, 22, 3)
    assert Cost(6, 2, 0).intensity == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n must be an integer of at least 1, got 0"),
        ({"n": 2.0}, "n must be an integer of at least 1, got 2.0"),
        ({"n": True}, "n must be .* got True"),
        ({"d_k": -1}, "d_k must be .* got -1"),
        ({"n_heads": 0}, "n_heads must be"),
        ({"batch": "2"}, "batch must be .* got '2'"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"bytes_per": 0.5}, "bytes_per must be"),
        ({"kind": "dense"}, "kind must be one of full, window, sparse, linear, got 'dense'"),
        ({"kind": "window", "window": 0}, "window must be an integer of at least 1, got 0"),
        ({"kind": "sparse", "kept": 0}, "kept must be above 0 and finite, got 0"),
        ({"kind": "sparse", "kept": 1.5}, "kept must be a share, above 0 and at most 1, got 1.5"),
        ({"kind": "linear", "chunk": 0}, "chunk must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        attention_cost(**{"n": 4, "d_k": 2, **given})


def test_bad_input_of_the_others():
    with pytest.raises(ValueError, match="d_model must be a multiple of n_heads = 3, got 32"):
        costs.layer_cost(8, 32, n_heads=3)
    with pytest.raises(ValueError, match="batch must be an integer of at least 1, got 0"):
        costs.layer_cost(8, 32, batch=0)
    with pytest.raises(ValueError, match="mlp_ratio must be above 0 and finite, got -1"):
        costs.crossover_length(32, mlp_ratio=-1)
    with pytest.raises(TypeError, match="kept must be a number, got '1'"):
        attention_cost(4, 2, kind="sparse", kept="1")
    with pytest.raises(TypeError, match="machine must be a Machine, got 'H100'"):
        costs.roofline_time(Cost(1, 1, 1), "H100")
    with pytest.raises(TypeError, match="cost must be a Cost, got 5"):
        costs.roofline_time(5, H100)


def test_nothing_heavy_is_imported():
    code = "import sys, attnbook.costs; print(sorted({'numpy', 'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
