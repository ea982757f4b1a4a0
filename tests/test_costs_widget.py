"""The Python side of the cost calculator: attnbook.costs' numbers under any setting, and errors with names."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from attnbook import costs
from attnbook.widgets import CostExplorer
from attnbook.widgets.costs import LONGEST, MEASURES, OPTIONS, SIZES

SETTINGS = st.fixed_dictionaries(
    dict(
        n=st.integers(16, LONGEST), d_k=st.integers(1, 256), n_heads=st.integers(1, 64), n_layers=st.integers(1, 64),
        batch=st.integers(1, 64), bytes_per=st.sampled_from([1, 2, 4]), machine=st.sampled_from(list(costs.MACHINES)),
        causal=st.booleans(), fused=st.booleans(), window=st.integers(1, LONGEST), kept=st.floats(1e-3, 1),
        chunk=st.integers(1, 4096), measure=st.sampled_from(MEASURES),
    )
)  # fmt: skip


@given(SETTINGS)
def test_results_are_the_packages(settings):
    explorer = CostExplorer(**settings)
    sizes = {name: settings[name] for name in SIZES if name not in ("n", "d_k")}
    options = {name: settings[name] for name in OPTIONS}
    machine = costs.MACHINES[settings["machine"]]
    for kind in costs.KINDS:
        layer = costs.layer_cost(
            settings["n"], settings["d_k"] * settings["n_heads"], **sizes, kind=kind, **options)  # fmt: skip
        assert explorer.costs[kind] == layer.attention
        assert explorer.times[kind] == costs.roofline_time(layer.attention, machine)
    assert explorer.costs["rest"] == layer.rest
    full, rest = explorer.costs["full"], explorer.costs["rest"]
    assert explorer.share["flops"] == full.flops / (full.flops + rest.flops)
    check_crossover(explorer)


def check_crossover(explorer):
    def excess(n):
        found = CostExplorer(**{**{name: getattr(explorer, name) for name in explorer.inputs}, "n": n})
        if explorer.measure == "time":
            return found.times["full"].seconds - found.times["rest"].seconds
        return getattr(found.costs["full"], explorer.measure) - getattr(found.costs["rest"], explorer.measure)

    if explorer.crossover is None:
        assert excess(LONGEST) <= 0
        return
    if explorer.crossover >= 16:
        assert excess(explorer.crossover) <= 0
    assert excess(max(16, explorer.crossover + 1)) > 0


def test_it_starts_where_attention_is_less_than_half():
    explorer = CostExplorer()
    text = "CostExplorer(n=4096, d_k=64, n_heads=16, n_layers=24, batch=1, bytes_per=2, H100 SXM)"
    assert repr(explorer) == text
    assert explorer.crossover == costs.crossover_length(16 * 64) == 6144
    assert explorer.share["flops"] == pytest.approx(0.4)
    assert explorer.times["full"].bound == "compute"


def test_results_follow_and_are_heard():
    explorer = CostExplorer()
    heard = []
    explorer.observe(lambda change: heard.append(change.name))
    explorer.n = 2**20
    assert {"n", "costs", "times", "share"} <= set(heard) and "crossover" not in heard
    explorer.causal = True
    assert explorer.crossover == costs.crossover_length(1024, causal=True)
    explorer.measure = "bytes"
    assert explorer.crossover is None, "fused, attention carries less than the projections at every n"
    explorer.set(fused=False, measure="time", machine="A100 SXM")
    assert explorer.times["full"].bound == "memory"
    check_crossover(explorer)


def test_a_machine_of_ones_own():
    mine = costs.Machine("mine", 1e12, 1e10, "measured here")
    explorer = CostExplorer(machine=mine)
    assert explorer.machine == mine
    state = json.loads(json.dumps(explorer.get_state(["machine", "n", "causal", "kept"])))
    other = CostExplorer()
    other.set_state(state)
    assert other.machine == mine and other.times == explorer.times


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 8}, "n must be an integer from 16 to 16777216, got 8"),
        ({"n": 20.5}, "n must be an integer from 16 to 16777216, got 20.5"),
        ({"d_k": 0}, "d_k must be an integer from 1 to 1024, got 0"),
        ({"n_heads": True}, "n_heads must be an integer from 1 to 256, got True"),
        ({"n_layers": 257}, "n_layers must be an integer from 1 to 256, got 257"),
        ({"batch": "1"}, "batch must be an integer from 1 to 1024, got '1'"),
        ({"bytes_per": 3}, "bytes_per must be 1, 2 or 4, got 3"),
        ({"bytes_per": 8}, "bytes_per must be 1, 2 or 4, got 8"),
        ({"window": 0}, "window must be an integer from 1 to"),
        ({"kept": 0}, "kept must be a finite number above 0 and at most 1, got 0"),
        ({"chunk": 5000}, "chunk must be an integer from 1 to 4096, got 5000"),
        ({"causal": 1}, "causal must be True or False, got 1"),
        ({"measure": "watts"}, "measure must be flops, bytes, memory or time, got 'watts'"),
        ({"machine": "H101"}, "machine must be H100 SXM, H200 SXM, A100 SXM, laptop CPU or a Machine, got 'H101'"),
        ({"machine": costs.Machine("slow", 0, 1, "")}, "machine must be a Machine with a name, and speeds from 1"),
        ({"machine": costs.Machine("odd", math.nan, 1, "")}, "machine must be a Machine with a name, and speeds"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(TraitError, match=message):
        CostExplorer(**given)


def test_a_refused_value_changes_nothing_and_results_cannot_be_set():
    explorer = CostExplorer()
    with pytest.raises(TraitError):
        explorer.n = 0
    assert explorer.n == 4096
    for name in ("costs", "times", "share", "crossover"):
        with pytest.raises(TraitError, match=f"{name} is computed .* instead"):
            setattr(explorer, name, None)
    with pytest.raises(TypeError):
        explorer.costs["full"] = None
    with pytest.raises(TypeError, match="set takes n, .* got 'd_v'"):
        explorer.set(d_v=3)
