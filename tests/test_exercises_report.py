"""How many wrong answers are caught and named: printed here, and kept in benchmarks/results/exercises.json."""

import json
import sys

import pytest
from exercises_help import ROOT, make_exercise, one_thread, typed  # noqa: F401

sys.path.insert(0, str(ROOT / "tools"))
import exercise_report  # noqa: E402

from attnbook.exercises import everything  # noqa: E402


@pytest.mark.alone
@pytest.mark.usefixtures("one_thread")
def test_every_wrong_answer_is_caught_and_most_are_named(capsys):
    results, notes = exercise_report.report(everything())
    with capsys.disabled():
        print(f"\n{exercise_report.as_table(results)}")
    for name, row in results["exercises"].items():
        for kind in ("misconceptions", "mutants"):
            missed = [note for note in notes if note.startswith(name) and note.endswith("PASSES")]
            assert row[kind]["caught"] == row[kind]["wrong"], f"{name}, not caught: {missed}"
        assert row["misconceptions"]["named"] == row["misconceptions"]["wrong"]
    total = results["all"]
    assert total["named"] >= 0.8 * total["wrong"]
    kept = json.loads(exercise_report.RESULTS.read_text())
    # What is slow or rounds differently on another machine may be told in another way; nothing else may differ.
    counts = [{name: [row[kind]["wrong"] for kind in ("misconceptions", "mutants")] for name, row in r["exercises"].items()}
              for r in (kept, results)]  # fmt: skip
    assert counts[0] == counts[1], "the tables have changed: run `python tools/exercise_report.py`"
    assert abs(kept["all"]["named"] - total["named"]) <= 0.01 * total["wrong"]


def test_slips():
    exercise = make_exercise()
    words = [word for word, _ in exercise_report.mutants(exercise)]
    assert len(words) == len(set(words)) or len(words) > 5
    assert {"line 2: Mult → Div", "line 2: sides exchanged", "line 2: Sub → Add", "line 2: y for x"} <= set(words)
    functions = dict(exercise_report.mutants(exercise))
    assert functions["line 2: Sub → Add"](3.0, 1.0) == 8.0
    assert functions["line 2: sides exchanged"](3.0, 1.0) == -4.0


@pytest.mark.parametrize("result, equivalent", [("2 * x - 2 * y", True), ("2 * (x - y) + (x.shape[-1] == 6)", False)])
def test_equivalent_mutants_are_found_on_other_inputs(result, equivalent):
    function = typed(f"def doubled(x, y):\n    return {result}\n")
    assert exercise_report.is_equivalent(make_exercise(), function) == equivalent
