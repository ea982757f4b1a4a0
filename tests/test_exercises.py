"""Every exercise of every chapter: a new table is tested by being there."""

import re

import numpy as np
import pytest
from exercises_help import notebook, one_thread, typed  # noqa: F401

from attnbook.exercises import everything, judge, reading, trial
from attnbook.exercises.compare import is_array
from attnbook.exercises.table import chapter, chapters

pytestmark = pytest.mark.usefixtures("one_thread")
EXERCISES = everything()
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
every_chapter = pytest.mark.parametrize("number", chapters())


def ask(exercise, function):
    return judge.judge(exercise, function, brief=True)


def test_there_are_exercises():
    assert {"01.stable", "03.attention"} <= {e.name for e in EXERCISES}
    assert len({e.name for e in EXERCISES}) == len(EXERCISES)


@every_exercise
def test_the_solution_passes(exercise):
    answer = judge.judge(exercise, exercise.solution)
    assert answer.passed, answer


@every_exercise
def test_three_other_right_answers_pass(exercise):
    assert len(exercise.rights) >= 3
    for function in exercise.rights:
        answer = ask(exercise, function)
        assert answer.passed, f"{function.__name__}\n{answer}"


@every_exercise
def test_every_misconception_gets_its_own_sentence(exercise):
    assert len({wrong.name for wrong in exercise.wrongs}) == len(exercise.wrongs) >= 3
    for wrong in exercise.wrongs:
        for function in wrong.functions:
            answer = ask(exercise, function)
            assert not answer.passed, f"{wrong.name} passes"
            assert wrong.name in str(answer.misconception).split(", "), f"{wrong.name} is taken for:\n{answer}"
            assert wrong.says in answer.blocks
            if not exercise.is_prediction:
                assert answer.misconception == wrong.name


@every_exercise
def test_the_probes_tell_the_misconceptions_apart(exercise):
    """Not by the order of the table: no two of them give the same on every probe."""
    if exercise.is_prediction:
        return
    trials = [trial.wrong_trials(exercise, wrong) for wrong in exercise.wrongs]
    for i, mine in enumerate(trials):
        assert not all(trial.right for trial in mine), exercise.wrongs[i].name
        for j, its in enumerate(trials[:i]):
            names = f"{exercise.wrongs[i].name} = {exercise.wrongs[j].name}"
            assert not all(map(trial._alike, mine, its)), names


@every_exercise
def test_a_table_is_complete(exercise):
    assert re.fullmatch(r"\d\d\.\w+", exercise.name) and exercise.title and exercise.task.endswith(".")
    assert exercise.hints and re.match(r"(@\w+\n)?def ", exercise.source)
    for sentence in [exercise.task, *exercise.hints, *(w.says for w in exercise.wrongs)]:
        assert sentence == sentence.strip() and sentence[-1] in ".?!)", sentence
    for probe in exercise.probes:
        for once, again in zip(probe.args(), probe.args()):
            assert not is_array(once) or np.array_equal(once, again, equal_nan=True), "the same at every call"


@every_chapter
def test_what_is_to_be_read_again_is_a_heading(number):
    for exercise in chapter(number).values():
        for wrong in exercise.wrongs:
            other, dot, heading = wrong.reread.rpartition(" · ")
            book = notebook(f"{int(other):02}" if dot else number)
            if book is not None:
                prose = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "markdown")
                headings = re.findall(r"^#{2,4} (.+?)\s*$", prose, flags=re.M)
                assert heading in headings, f"{exercise.name}, {wrong.name}: no heading {heading!r} in {headings}"


@every_chapter
def test_untouched_stubs_of_the_notebook_are_not_attempted(number):
    book = notebook(number)
    if book is None:
        pytest.skip("the chapter is not written yet")
    stubs = {c["metadata"]["exercise"]: "".join(c["source"]) for c in book["cells"] if "exercise" in c["metadata"]}
    table = chapter(number)
    assert list(stubs) == list(table), "the table follows the notebook"
    for name, source in stubs.items():
        code = re.search(r"^(@\w+\n)?def .*?(?=^\S|\Z)", source, flags=re.M | re.S)[0]
        stub = typed(code, **table[name].solution.__globals__)  # a kernel's decorator is imported from the table
        assert stub.__name__ == table[name].solution.__name__
        assert len(reading.tree_of(stub).args.args) == len(table[name].parameters)
        answer = ask(table[name], stub)
        assert answer.kind == "untouched", f"{name}\n{answer}"
        assert f"{answer!r}" == f"{ask(table[name], stub)!r}"
