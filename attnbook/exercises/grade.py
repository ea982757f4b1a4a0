"""For a teacher: run a student's notebook and collect what each exercise answers. Behind `attnbook check`.

The notebook runs as it is, errors and all, in a kernel of its own and with a progress file of its own; it is not
changed. A cell that does not end or takes the kernel down is left out, and the rest runs again. It is the student's
code, and it runs with your rights: run it where you would run it by hand. Who wants to cheat can: look at who passes.
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


CHECK = r"""\bcheck\(\s*["']([^"']+)"""


def grade(path: Path, cell_seconds: int = 300) -> list[dict]:
    """A row for each exercise of the notebook's chapter.

    Raises OSError (no such file) or ValueError (not a notebook, no exercises in it).
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if isinstance(cell.source, str)]
    except (OSError, MemoryError):
        raise
    except Exception as error:  # nbformat has many ways to stumble over what is no notebook
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
            stopped = run(notebook, path.parent, cell_seconds)
        finally:
            os.environ.pop("ATTNBOOK_HOME") if before is None else os.environ.update(ATTNBOOK_HOME=before)
        file = Path(home) / "progress.json"
        known = json.loads(file.read_text(encoding="utf-8"))["exercises"] if file.exists() else {}
    for name, why in stopped.items():  # what it answered before it did that does not count
        known[name] = {"last": why}
    return [row(path, table.find(name), known.get(name)) for name in names]


def run(notebook, folder: Path, cell_seconds: int, most: int = 5) -> dict[str, str]:
    """Run the cells; returns what became of the exercises whose cells did not end or ended the kernel."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    stopped, at = {}, []
    settings = {"allow_errors": True, "timeout": cell_seconds, "shutdown_kernel": "immediate"}
    settings["resources"] = {"metadata": {"path": str(folder)}}
    for _ in range(most):
        client = NotebookClient(notebook, km=own_kernel(), on_cell_start=lambda cell, **_: at.append(cell), **settings)
        try:
            client.execute(cleanup_kc=True)
            break
        except (CellTimeoutError, DeadKernelError) as error:
            why = "late" if isinstance(error, CellTimeoutError) else "ended the kernel"
            leaves = [cell for cell in at if re.search(r"\b(exit|quit)\(", cell.source)]  # it ends after its cell
            cell = leaves[-1] if leaves and why != "late" else at[-1]
            stopped |= dict.fromkeys(asked(cell), why)
            cell.source = ""
    return stopped


def own_kernel():
    """A kernel of this Python, whatever kernel the student's notebook names."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class Own(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(["--log-level=ERROR"]))

    return AsyncKernelManager(kernel_spec_manager=Own())


def asked(cell) -> set[str]:
    """The names of the exercises that a cell checks, or is the place of."""
    names = {cell.metadata.get("exercise"), *re.findall(CHECK, cell.source)}
    return {name for name in names if isinstance(name, str)}


def exercises_of(notebook, path: Path) -> list[str]:
    """The exercises of the chapters that the notebook's cells name; else of the one that its name begins with."""
    known = {exercise.name for exercise in table.everything()}
    there = {name for cell in notebook.cells if cell.cell_type == "code" for name in asked(cell)}
    chapters = {name[:2] for name in there & known} or {path.name[:2]}
    return [exercise.name for number in sorted(chapters) for exercise in table.chapter(number).values()]


def ask(cell) -> None:
    """Let an exercise's cell end in its check, if it does not have one."""
    name = cell.metadata.get("exercise")
    if cell.cell_type != "code" or not name:
        return
    try:
        tree = ast.parse(cell.source)
    except (SyntaxError, ValueError):
        return
    calls = [ast.unparse(node.func).split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if "check" in calls:
        return
    functions = [statement.name for statement in tree.body if isinstance(statement, ast.FunctionDef)]
    values = [ast.unparse(target) for statement in tree.body if isinstance(statement, ast.Assign)
              for target in statement.targets]  # fmt: skip
    try:
        expected = table.find(name).solution.__name__
    except ValueError:
        return
    answers = [found for found in functions + values if found == expected] or functions[-1:]
    if answers:
        cell.source += f"\nfrom attnbook.exercises import check as _check\n_check({name!r}, {answers[0]})"


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
        formula = tuple("=+-@\t\r")
        writer.writerows({key: "'" * value.startswith(formula) + value for key, value in r.items()} for r in rows)
        return text.getvalue()
    columns = ["notebook", "exercise", "result", "shows"]
    columns = columns[len({r["notebook"] for r in rows}) == 1 :]
    widths = {c: max(len(c), *(len(r[c]) for r in rows)) for c in columns}
    lines = ["  ".join(f"{r[c]:<{widths[c]}}" for c in columns).rstrip() for r in [dict(zip(columns, columns)), *rows]]
    passed = sum(r["result"] == "passed" for r in rows)
    return "\n".join([*lines, f"{passed} of {len(rows)} passed"]) + "\n"
