"""The explorers' Python side: traits that say what was wrong, results that follow, one module each for the lab."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from attnbook import functional
from attnbook.widgets import LookupExplorer, SoftmaxExplorer, _base

MODULES = sorted(path.stem for path in _base.HERE.glob("*.js") if path.stem != "kit")
finite = st.floats(-50, 50)


@pytest.fixture
def softmax():
    return SoftmaxExplorer([2.0, 1.0, 0.1], labels=["cat", "dog", "bird"])


@pytest.fixture
def lookup():
    return LookupExplorer([0.0, 1.0, 3.0], [1.0, -1.0, 2.0], query=0.8, bandwidth=0.5)


# The package ---------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_no_widget_library():
    code = "import sys, attnbook.widgets; print('anywidget' in sys.modules, dir(attnbook.widgets))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    kinds = "Alignment Cost Lookup Mask MultiHead Pattern Position QKV Softmax State Tile".split()
    assert out.strip() == f"False {sorted(['Quiz', *(f'{kind}Explorer' for kind in kinds)])}"


def test_an_unknown_explorer_is_named():
    import attnbook.widgets

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'; it has AlignmentExplorer, CostExplorer"):
        attnbook.widgets.Nonsense


@pytest.mark.parametrize("module", MODULES)
def test_the_lab_gets_one_module_without_imports_or_clashing_names(module):
    esm = _base.bundle(module)
    assert not re.search(r"^\s*import\b|\bimport\(", esm, re.MULTILINE)
    assert len(re.findall(r"^export default", esm, re.MULTILINE)) == 1
    node = Path(sys.executable).with_name("node")
    checked = subprocess.run([node, "--check", "--input-type=module"], input=esm, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr  # two declarations of a name are a syntax error in a module


def test_a_module_must_import_the_kit_once(tmp_path, monkeypatch):
    (tmp_path / "kit.js").write_text("export const one = 1;\n")
    (tmp_path / "odd.js").write_text('import { one } from "./elsewhere.js";\n')
    monkeypatch.setattr(_base, "HERE", tmp_path)
    with pytest.raises(ValueError, match="odd.js must have one import"):
        _base.bundle("odd")


def test_the_page_finds_the_module_by_the_widgets_id(softmax, lookup):
    assert softmax._anywidget_id == "attnbook.widgets.softmax.SoftmaxExplorer"
    assert lookup._anywidget_id == "attnbook.widgets.lookup.LookupExplorer"


def test_repr_says_the_same_in_every_run(softmax, lookup):
    assert repr(softmax) == "SoftmaxExplorer(3 logits, temperature=1)"
    assert repr(lookup) == "LookupExplorer(3 points, query=0.8, bandwidth=0.5)"


# Softmax -------------------------------------------------------------------------------------------------------


@given(st.lists(finite, min_size=2, max_size=10), st.floats(0.05, 10))
def test_softmax_results_are_the_packages(logits, temperature):
    explorer = SoftmaxExplorer(logits, temperature=temperature)
    weights = functional.softmax(np.array(logits), temperature=temperature)
    np.testing.assert_array_equal(explorer.weights, weights)
    assert explorer.entropy == float(functional.entropy(weights))


def test_softmax_results_follow_every_input(softmax):
    seen = []
    softmax.observe(lambda change: seen.append((change.name, softmax.entropy)), ["weights", "temperature"])
    softmax.temperature = 1e6
    np.testing.assert_allclose(softmax.weights, 1 / 3, atol=1e-6)
    softmax.logits = [0, 100, 0]
    np.testing.assert_allclose(softmax.weights, 1 / 3, atol=1e-4)
    assert [name for name, _ in seen] == ["weights", "temperature", "weights"]
    assert seen[1][1] == pytest.approx(np.log(3)), "an observer of an input finds the results up to date"


@pytest.mark.parametrize("logits", [(1, 2, 3), np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)])
def test_logits_may_be_any_kind_of_array(logits):
    explorer = SoftmaxExplorer(logits)
    assert explorer.logits.tolist() == [1.0, 2.0, 3.0]
    assert explorer.get_state("logits") == {"logits": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_tensors_of_every_type_are_taken(dtype):
    assert SoftmaxExplorer(torch.tensor([1, 2, 3], dtype=dtype)).logits.tolist() == [1.0, 2.0, 3.0]


def test_labels_are_all_given_or_none():
    with pytest.raises(TraitError, match="labels must be one string for each of the 2 logits, got 1"):
        SoftmaxExplorer([1, 2], labels=["a"])


def test_labels_follow_the_number_of_logits(softmax):
    softmax.logits = [1, 2, 3, 4]
    assert softmax.labels == ("cat", "dog", "bird", "z₄")
    softmax.logits = [1, 2]
    assert softmax.labels == ("cat", "dog")
    assert SoftmaxExplorer().labels == ("z₁", "z₂", "z₃")


def test_the_browser_may_change_logits_and_labels_together(softmax):
    softmax.set_state({"logits": [1, 2, 3, 4], "labels": ["a", "b", "c", "d"], "temperature": 2})
    assert softmax.labels == ("a", "b", "c", "d")
    assert softmax.temperature == 2.0
    np.testing.assert_array_equal(softmax.weights, functional.softmax(np.array([1.0, 2, 3, 4]), temperature=2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logits", [1.0], r"logits must be 2…10 finite numbers, got shape \(1,\)"),
        ("logits", [[1.0, 2.0]], r"logits must be 2…10 finite numbers, got shape \(1, 2\)"),
        ("logits", list(range(11)), r"logits must be 2…10 finite numbers, got shape \(11,\)"),
        ("logits", [1.0, float("nan")], r"logits must be 2…10 finite numbers, got \[1.0, nan\]"),
        ("logits", ["1", "2"], r"logits must be 2…10 finite numbers, got \['1', '2'\]"),
        ("logits", [[1], [2, 3]], "logits must be 2…10 finite numbers, got rows of different lengths"),
        ("logits", [True, False], r"logits must be 2…10 finite numbers, got \[True, False\]"),
        ("logits", None, "logits must be 2…10 finite numbers, got None"),
        ("labels", ["a", "b"], "labels must be one string for each of the 3 logits, got 2"),
        ("labels", "abc", "labels must be a list of strings, got 'abc'"),
        ("labels", ["a", "b", 3], r"labels must be a list of at most 10 strings, got \['a', 'b', 3\]"),
        ("temperature", 0, "temperature must be a finite number above 0, got 0"),
        ("temperature", float("inf"), "temperature must be a finite number above 0, got inf"),
        ("temperature", "warm", "temperature must be a finite number above 0, got 'warm'"),
        ("temperature", 10**400, "temperature must be a finite number above 0, got an integer beyond every float"),
        ("labels", ["a", "b", "\ud800"], r"labels must be strings without lone surrogates.*got .*'\\ud800'"),
        ("temperature", True, "temperature must be a finite number above 0, got True"),
        ("weights", [1, 0, 0], "weights is computed .* set logits or temperature instead"),
        ("entropy", 0.0, "entropy is computed .* set logits or temperature instead"),
    ],
)
def test_softmax_says_what_is_wrong_and_keeps_what_it_had(softmax, name, value, message):
    before = softmax.get_state()
    with pytest.raises(TraitError, match=message):
        setattr(softmax, name, value)
    assert softmax.get_state() == before


@pytest.mark.parametrize("name", ["logits", "weights"])
def test_arrays_cannot_be_edited_in_place(softmax, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(softmax, name)[0] = 1.0


def test_an_array_given_is_not_held(softmax):
    mine = np.array([1.0, 2.0, 3.0])
    softmax.logits = mine
    mine[0] = 99
    assert softmax.logits.tolist() == [1.0, 2.0, 3.0]


# Lookup --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=30), finite, st.floats(0.01, 20))
def test_lookup_results_are_attention_over_distances(points, query, bandwidth):
    keys, values = (np.array(column) for column in zip(*points))
    explorer = LookupExplorer(keys, values, query=query, bandwidth=bandwidth)
    weights = functional.softmax(-(((query - keys) / bandwidth) ** 2) / 2)
    np.testing.assert_array_equal(explorer.weights, weights)
    assert explorer.out == float(weights @ values)


def test_lookup_starts_in_the_middle(lookup):
    explorer = LookupExplorer([0, 10], [1, 2])
    assert (explorer.query, explorer.bandwidth, explorer.out) == (5.0, 1.0, 1.5)
    assert LookupExplorer([3, 3], [1, 2]).bandwidth == 1.0


@given(st.floats(-1e15, 1e15), st.floats(0, 1e15))
def test_lookup_starts_between_its_keys(low, distance):
    high = min(low + distance, 1e15)
    explorer = LookupExplorer([high, low], [1, 1])
    assert low <= explorer.query <= high
    assert np.isfinite([explorer.bandwidth, explorer.out]).all()


def test_lookup_starts_at_a_number_that_a_person_might_have_typed():
    assert LookupExplorer([2012, 2024], [0, 1]).query == 2018
    assert LookupExplorer([0.0, 6.2], [0, 1]).query == 3.1
    assert LookupExplorer([1.7e9, 1.7e9 + 86400], [0, 1]).query == 1.7e9 + 43000


def test_lookup_stays_finite_at_its_bounds():
    for bandwidth in (1e-12, 1e15):
        explorer = LookupExplorer([-1e15, 1e15, 1e15], [-1e15, 1e15, 1e15], query=-2e15, bandwidth=bandwidth)
        assert np.isfinite(explorer.weights).all() and np.isfinite(explorer.out)


def test_lookup_tends_to_the_nearest_key(lookup):
    lookup.bandwidth = 1e-9
    assert lookup.out == -1.0
    lookup.query = 2.9
    assert lookup.out == 2.0


def test_the_number_of_points_changes_in_one_step(lookup):
    with lookup.hold_trait_notifications():
        lookup.keys_ = [0.0, 1.0]
        lookup.values = [5.0, 5.0]
    assert lookup.out == 5.0
    assert lookup.weights.shape == (2,)


def test_what_changes_in_one_step_is_one_message(softmax, lookup, monkeypatch):
    for explorer, changes in (
        (lookup, {"keys_": [0.0, 1.0], "values": [5.0, 5.0]}),
        (softmax, {"logits": [1.0, 2.0], "labels": ["a", "b"]}),
    ):
        sent = []
        monkeypatch.setattr(explorer, "_send", lambda message, buffers=None: sent.append(message["state"]))
        with explorer.hold_trait_notifications():
            for name, value in changes.items():
                setattr(explorer, name, value)
        assert sent == [changes]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keys_", [1.0, 2.0], "keys_ must be as many as values, 3, got 2; to change the number of both"),
        ("values", [1.0, 2.0], "values must be as many as keys_, 3, got 2; to change the number of both"),
        ("keys_", [1.0], r"keys_ must be 2…200 finite numbers, got shape \(1,\)"),
        ("query", None, r"query must be a finite number at least -2e\+15 and at most 2e\+15, got None"),
        ("query", 1e200, "query must be a finite number at least .*got 1e\\+200"),
        ("query", 10**400, "query must be a finite number .*got an integer beyond every float"),
        ("keys_", [0.0, 1.0, 1e308], r"keys_ must be within ±1,000,000,000,000,000, got 1e\+308"),
        ("values", [0.0, -1e308, 1.0], r"values must be within ±1,000,000,000,000,000, got -1e\+308"),
        ("bandwidth", 1e-200, "bandwidth must be a finite number at least 1e-12 .*got 1e-200"),
        ("bandwidth", 1e200, r"bandwidth must be .*at most 1e\+15, got 1e\+200"),
        ("bandwidth", -1, r"bandwidth must be a finite number at least 1e-12 and at most 1e\+15, got -1"),
        ("weights", [1, 0, 0], "weights is computed .* set keys_, query or bandwidth instead"),
        ("out", 1.0, "out is computed .* set keys_, values, query or bandwidth instead"),
    ],
)
def test_lookup_says_what_is_wrong_and_keeps_what_it_had(lookup, name, value, message):
    before = lookup.get_state()
    with pytest.raises(TraitError, match=message):
        setattr(lookup, name, value)
    assert lookup.get_state() == before


def test_a_number_names_both_its_bounds():
    share = _base.Number(0.5, low=0, high=1, help="a share")
    share.name = "share"
    with pytest.raises(TraitError, match="share must be a finite number at least 0 and at most 1, got 2"):
        share.validate(None, 2)
    assert share.validate(None, np.float32(0.25)) == 0.25
