"""What the tests of the exercises share."""

import ast
import itertools
import json
import linecache
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

ROOT = Path(__file__).resolve().parent.parent
_numbers = itertools.count()


def typed(source: str, **names):
    """The last function of `source`, as if it had been typed into a cell of a notebook: its lines can be looked up."""
    filename = f"<cell {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope = {"np": np, "math": math, "functional": functional} | names
    exec(compile(source, filename, "exec"), scope)
    name = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)][-1]
    return scope[name]


@pytest.fixture(scope="module")
def one_thread():
    """The products are so small that more threads would only wait for each other, on a busy machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def notebook(chapter: str) -> dict | None:
    found = sorted((ROOT / "notebooks").glob(f"{chapter}-*.ipynb"))
    return json.loads(found[0].read_text()) if found else None


def vectors(rng, n, batch=()):
    return rng.standard_normal((*batch, n)), rng.standard_normal((*batch, n))


PROBES = [
    Probe("a vector", vectors, n=4), Probe("a longer one", vectors, n=7), Probe("a batch", vectors, n=3, batch=(2,)),
]  # fmt: skip


def make_exercise(**settings) -> Exercise:
    """A small one: the difference of two vectors, doubled."""

    def doubled(x, y):
        return 2 * (x - y)

    exercise = Exercise(
        "00.doubled", "Doubled", task="twice the difference.", solution=doubled, hints=["Subtract.", "Double."],
        **{"probes": PROBES, "laws": [Law("y taken from y is 0", lambda f, x, y: close(f(y, y), 0 * y))]} | settings,
    )  # fmt: skip
    exercise.number = "0.1"

    @exercise.wrong("It is not doubled.", "Build it")
    def not_doubled(x, y):
        return x - y

    @exercise.wrong("It changes x.", "1 · Build it")
    def in_place(x, y):
        x -= y
        return 2 * x

    return exercise
