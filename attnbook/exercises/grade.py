"""For a teacher: run a student's notebook and collect what each exercise answers. Behind `attnbook check`.

The notebook runs as it is, errors and all, in a kernel of its own and with a progress file of its own; it is not
changed. It is the student's code, and it runs with your rights: run it where you would run it by hand.
"""

import ast
import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path

from attnbook.exercises import table
from attnbook.exercises.record import NEW, VERSION


def grade(path: Path, cell_seconds: int = 300) -> list[dict]:
    """A row for each exercise of the notebook's chapter.

    Raises OSError (no such file) or ValueError (not a notebook, no exercises in it).
    """
    import nbformat
    from nbclient import NotebookClient

    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not a notebook: {type(error).__name__}") from None
    names = exercises_of(notebook, path)
    if not names:
        raise ValueError(f"{path} has no exercises that this version of the book knows")
    for cell in notebook.cells:
        ask(cell)
    with tempfile.TemporaryDirectory() as home:
        before = os.environ.get("ATTNBOOK_HOME")
        os.environ["ATTNBOOK_HOME"] = home  # the kernel inherits it
        try:
            settings = {"allow_errors": True, "timeout": cell_seconds, "interrupt_on_timeout": True}
            NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **settings).execute()
        finally:
            os.environ.pop("ATTNBOOK_HOME") if before is None else os.environ.update(ATTNBOOK_HOME=before)
        file = Path(home) / "progress.json"
        known = json.loads(file.read_text(encoding="utf-8"))["exercises"] if file.exists() else {}
    return [row(path, table.find(name), known.get(name)) for name in names]


def exercises_of(notebook, path: Path) -> list[str]:
    """The exercises of the chapters that the notebook's cells name; else of the one that its name begins with."""
    known = {exercise.name for exercise in table.everything()}
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    there = set(re.findall(r"""check\(\s*["']([^"']+)""", text))
    there |= {cell.metadata.get("exercise") for cell in notebook.cells}
    chapters = {name[:2] for name in there & known} or {path.name[:2]}
    return [exercise.name for number in sorted(chapters) for exercise in table.chapter(number).values()]


def ask(cell) -> None:
    """Let an exercise's cell end in its check, if it does not have one."""
    name = cell.metadata.get("exercise")
    if cell.cell_type != "code" or not name or "check(" in cell.source:
        return
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError:
        return
    functions = [statement.name for statement in statements if isinstance(statement, ast.FunctionDef)]
    if functions:
        cell.source += f"\nfrom attnbook.exercises import check as _check\n_check({name!r}, {functions[0]})"


def row(path: Path, exercise: table.Exercise, entry: dict | None) -> dict:
    entry = NEW | (entry or {})
    return {
        "notebook": path.name, "exercise": exercise.name, "title": exercise.title,
        "result": {"right": "passed", "": "not attempted"}.get(entry["last"], "failed"),
        "shows": "" if entry["last"] == "right" else entry["misconception"] or entry["last"],
    }  # fmt: skip


def written(rows: list[dict], form: str) -> str:
    """The rows as a table to read, as JSON or as CSV."""
    if form == "json":
        return json.dumps({"version": VERSION, "results": rows}, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        text = io.StringIO()
        # A spreadsheet takes a cell that begins with = + - @ for a formula; a file's name is the student's choice.
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        formula = tuple("=+-@\t")
        writer.writerows({key: "'" * value.startswith(formula) + value for key, value in r.items()} for r in rows)
        return text.getvalue()
    columns = ["notebook", "exercise", "result", "shows"]
    columns = columns[len({r["notebook"] for r in rows}) == 1 :]
    widths = {c: max(len(c), *(len(r[c]) for r in rows)) for c in columns}
    lines = ["  ".join(f"{r[c]:<{widths[c]}}" for c in columns).rstrip() for r in [dict(zip(columns, columns)), *rows]]
    passed = sum(r["result"] == "passed" for r in rows)
    return "\n".join([*lines, f"{passed} of {len(rows)} passed"]) + "\n"
