"""A student's notebook, run for a teacher: in a real kernel, where the reader's code has no file."""

import csv
import io
import json
import os
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from exercises_help import ROOT

from attnbook import cli
from attnbook.exercises import find, grade, record
from attnbook.exercises.table import chapter, chapters


def stub(name, source):
    return new_code_cell(source, metadata={"exercise": name, "tags": ["exercise"]})


CELLS = [
    new_code_cell("import math\nimport numpy as np\nfrom attnbook.exercises import check"),
    stub("03.scores", "def scores_of(q, k):\n    return q @ np.swapaxes(k, -1, -2)"),
    new_code_cell("1 / 0  # and on it goes"),
    new_markdown_cell("some prose"),
    stub("03.shapes", "def shapes():\n    ..."),
    stub("03.values", "def prediction():\n    return (False, True, True, True)\n\ncheck('03.values', prediction)"),
    stub("03.repair", "def repaired(q, k, v):\n    scores = q @ k.mT\n    return missing(scores)\n\nrepaired(1, 2, 3)"),
    new_code_cell("def twice(:"),
]


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    nbformat.write(new_notebook(cells=CELLS), folder / "=student.ipynb")
    before = (folder / "=student.ipynb").read_bytes()
    mp = pytest.MonkeyPatch()
    mp.setenv("ATTNBOOK_HOME", str(folder / "teacher"))
    rows = grade.grade(folder / "=student.ipynb")
    assert (folder / "=student.ipynb").read_bytes() == before, "the student's file is not changed"
    assert os.environ["ATTNBOOK_HOME"] == str(folder / "teacher") and not (folder / "teacher").exists()
    mp.undo()
    return rows


def test_every_exercise_has_a_row_whatever_fails_between(student):
    assert {row["exercise"]: (row["result"], row["shows"]) for row in student} == {
        "03.scores": ("failed", "not scaled"),
        "03.shapes": ("not attempted", ""),
        "03.values": ("passed", ""),
        "03.repair": ("not attempted", ""),  # its cell stopped before its check
        "03.attention": ("not attempted", ""),
    }


def test_the_three_forms(student):
    table = grade.written(student, "table")
    assert "03.scores     failed         not scaled\n" in table and table.endswith("1 of 5 passed\n")
    assert table.startswith("exercise") and "notebook" not in table
    assert "notebook" in grade.written([*student, {**student[0], "notebook": "other"}], "table")
    assert json.loads(grade.written(student, "json"))["results"] == student
    rows = list(csv.DictReader(io.StringIO(grade.written(student, "csv"))))
    assert [row["exercise"] for row in rows] == [row["exercise"] for row in student]
    assert rows[0]["notebook"] == "'=student.ipynb", "no formula for a spreadsheet"


def test_a_cell_that_defines_no_function_is_left_alone():
    for source in ("x = 1", "def f(:", "%matplotlib inline", "def f():\n    ...\ncheck('03.values', f)"):
        cell = stub("03.values", source)
        grade.ask(cell)
        assert cell.source == source
    markdown = new_markdown_cell("def f(): ...", metadata={"exercise": "03.values"})
    grade.ask(markdown)
    assert "check" not in markdown.source


def test_which_function_is_checked():
    helper = "def helper(q):\n    return 8\n"
    for source, asked in ((helper + "def scores_of(q, k):\n    return 1", "scores_of"),
                          ("def scores_of(q, k):\n    return 1\n" + helper, "scores_of"),
                          ("# check(\nscores_of = lambda q, k: 1", "scores_of"),
                          (helper + "def mine(q, k):\n    return self_check(q)", "mine")):  # fmt: skip
        cell = stub("03.scores", source)
        grade.ask(cell)
        assert cell.source.endswith(f"_check('03.scores', {asked})"), cell.source


def test_a_notebook_that_does_not_end_or_ends_its_kernel(tmp_path):
    """Nor does it matter which kernel it names, or what stands in cells that are no exercise."""
    cells = [
        *CELLS[:1],
        new_code_cell("import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException: pass"),
        stub("03.repair", "def repaired(q, k, v):\n    import os\n    os._exit(3)\ncheck('03.repair', repaired)"),
        *CELLS[1:2],
    ]
    kernel = {"kernelspec": {"name": "nosuchkernel", "display_name": "x", "language": "julia"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "endless.ipynb")
    rows = {row["exercise"]: row["shows"] for row in grade.grade(tmp_path / "endless.ipynb", cell_seconds=15)}
    assert rows["03.repair"] == "ended the kernel" and rows["03.scores"] == "not scaled"


def test_one_bad_file_does_not_take_the_others_results_away(tmp_path, monkeypatch, capsys, student):
    for name in ("ann", "bob", "eve"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "03.ipynb").write_text("{" if name == "bob" else "{}")
    read = grade.grade
    monkeypatch.setattr(grade, "grade", lambda path: read(path) if path.parent.name == "bob" else student)
    names = [str(tmp_path / name / "03.ipynb") for name in ("ann", "bob", "eve")]
    assert cli.main(["check", *names, "--format", "json"]) == 2
    out, err = capsys.readouterr()
    told_apart = {row["notebook"] for row in json.loads(out)["results"]}
    assert told_apart == {names[0], names[2]}
    assert "bob/03.ipynb is not a notebook" in err
    assert cli.main(["check", names[0], "-o", str(tmp_path / "none" / "marks.csv")]) == 2
    assert "must be a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[1]", "3", "null", "{}", "\x00", '{"nbformat": 9, "metadata": {}, "cells": []}'])
def test_files_of_every_kind(tmp_path, text):
    (tmp_path / "03.ipynb").write_text(text)
    with pytest.raises(ValueError, match="03.ipynb is not a notebook"):
        grade.grade(tmp_path / "03.ipynb")


def test_what_is_no_notebook(tmp_path, capsys):
    (tmp_path / "bad.ipynb").write_text("{")
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "none.ipynb")
    assert cli.main(["check", str(tmp_path / "bad.ipynb")]) == 2
    assert "bad.ipynb is not a notebook" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "none.ipynb")]) == 2
    assert "has no exercises" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "missing.ipynb")]) == 2
    assert "neither a file nor the number of a chapter" in capsys.readouterr().err


def test_the_commands(monkeypatch, tmp_path, capsys, student):
    monkeypatch.setenv("ATTNBOOK_HOME", str(tmp_path))
    asked = []
    monkeypatch.setattr(grade, "grade", lambda path: asked.append(path.name) or student)
    assert cli.main(["check", "3"]) == 1
    assert asked == ["03-scaled-dot-product.ipynb"] and "1 of 5 passed" in capsys.readouterr().out
    assert cli.main(["check", "03", "--format", "csv", "-o", str(tmp_path / "marks.csv")]) == 1
    assert (tmp_path / "marks.csv").read_text().startswith("notebook,exercise") and capsys.readouterr().out == ""
    monkeypatch.setattr(grade, "grade", lambda path: [student[2]])
    assert cli.main(["check", "03"]) == 0
    assert cli.main(["progress"]) == 0
    assert "exercises done" in capsys.readouterr().out
    assert record.read()[0] == {}


@pytest.mark.parametrize("number", chapters())
def test_a_chapter_with_the_solutions_filled_in_passes_every_check(number, tmp_path):
    """What `solution()` shows works where the reader will paste it, with what the cells above it define."""
    found = sorted((ROOT / "notebooks").glob(f"{number}-*.ipynb"))
    if not found:
        pytest.skip("the chapter is not written yet")
    book = nbformat.read(found[0], as_version=4)
    for cell in book.cells:
        name = cell.metadata.get("exercise")
        if name in chapter(number):
            filled = find(name).source + "\n"
            cell.source = re.sub(r"^def .*?(?=^\S|\Z)", lambda _: filled, cell.source, count=1, flags=re.M | re.S)
    nbformat.write(book, tmp_path / found[0].name)
    assert [(r["exercise"], r["result"], r["shows"]) for r in grade.grade(tmp_path / found[0].name)] == [
        (name, "passed", "") for name in chapter(number)
    ]
