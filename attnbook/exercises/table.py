"""What an exercise is. Those of chapter NN stand in chNN.py, and chNNb.py where that gets long."""

import difflib
import inspect
import pkgutil
import re
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np


class Probe:
    """Inputs to try a function on: `make(rng, **sizes)` returns the tuple of its arguments, the same ones each time.

    Integers among the sizes may be made smaller (never below 1) in the search for the smallest input that fails.
    """

    def __init__(self, label: str, make: Callable, **sizes):
        self.label, self.make, self.sizes = label, make, sizes

    def args(self, seed: int = 0, **sizes) -> tuple:
        rng = np.random.default_rng([zlib.crc32(self.label.encode()), seed])
        return tuple(self.make(rng, **self.sizes | sizes))


@dataclass(frozen=True)
class Law:
    """What must hold whatever the input: `holds(f, *args)` is true for the right f. Its f returns NumPy arrays.

    It is tried on the probes of the exercise, or on `probe` alone if that is given.
    """

    says: str
    holds: Callable
    probe: Probe | None = None


@dataclass(frozen=True)
class Wrong:
    """A misconception: an implementation that has it, what to say to its author, and the heading to read again."""

    function: Callable
    says: str
    reread: str

    @property
    def name(self) -> str:
        return self.function.__name__.strip("_").replace("_", " ")

    @property
    def functions(self) -> list[Callable]:
        """The implementation; several, if it is a generator of wrong predictions that all show the misconception."""
        if inspect.isgeneratorfunction(self.function):
            return [lambda value=value: value for value in self.function()]
        return [self.function]


@dataclass(eq=False)
class Exercise:
    """One exercise; `attnbook.exercises` says how to write one."""

    name: str  # "03.scores": the chapter, and the name in the metadata of the stub's cell
    title: str
    task: str  # completes "Write `scores_of(q, k)`: …"
    solution: Callable  # named as the stub; its source is what `solution()` shows
    hints: list[str]
    answer: Callable = None  # what is right, from the package where it has it; the solution unless given
    probes: list[Probe] = field(default_factory=list)  # none: a prediction, a function without arguments
    laws: list[Law] = field(default_factory=list)
    broken: Callable | None = None  # for a repair: the function as the reader finds it
    large: Probe | None = None  # what to time on
    product: str = ""  # what to write instead of a loop
    silent: bool = False  # a warning of NumPy counts as a mistake
    tolerance: float = 1e-6  # relative to the largest number expected
    number: str = field(default="", init=False)  # "3.1": set when the chapter is loaded
    wrongs: list[Wrong] = field(default_factory=list, init=False)
    rights: list[Callable] = field(default_factory=list, init=False)

    def __post_init__(self):
        self.answer = self.answer or self.solution
        self.is_prediction = not self.probes
        self.probes = self.probes or [Probe("", lambda rng: ())]

    def wrong(self, says: str, reread: str) -> Callable:
        """Decorator: the function is a misconception, its name is the misconception's name."""
        return lambda function: self.wrongs.append(Wrong(function, says, reread)) or function

    def slip(self, name: str, changes: dict[str, str], says: str, reread: str) -> None:
        """A misconception that is the solution but for a slip or two: see `rewritten`."""
        function = self.rewritten(changes)
        function.__name__ = name
        self.wrong(says, reread)(function)

    def rewritten(self, changes: dict[str, str]) -> Callable:
        """The solution with each key of `changes` replaced in its text, wherever it stands; it warns of nothing.

        Raises ValueError for a key that does not stand there.
        """
        text, name, made = self.source, self.solution.__name__, {}
        for old, new in changes.items():
            if old not in text:
                raise ValueError(f"changes must name what stands in {name}, got {old!r}")
            text = text.replace(old, new)
        exec(text, self.solution.__globals__, made)  # the table's own text, never a reader's

        def function(*args):
            with np.errstate(all="ignore"):
                return made[name](*args)

        return function

    def but(self, part: str, *values) -> Iterator[dict]:
        """For a misconception about a prediction: right answers but for one part, which is each of `values` in turn."""
        return (self.solution() | {part: value} for value in values)

    def right(self, function: Callable) -> Callable:
        """Decorator: the function is another right answer. (Tests alone use it.)"""
        self.rights.append(function)
        return function

    def right_in_other_forms(self) -> None:
        """A prediction of numbers, a dict, is right too as floats, as arrays, and in another order."""
        self.right(lambda: {part: float(value) for part, value in self.solution().items()})
        self.right(lambda: {part: np.array(value) for part, value in self.solution().items()})
        self.right(lambda: dict(reversed(self.solution().items())))

    @property
    def signature(self) -> str:
        return f"{self.solution.__name__}{inspect.signature(self.solution)}"

    @property
    def source(self) -> str:
        return textwrap.dedent(inspect.getsource(self.solution))

    @property
    def parameters(self) -> list[str]:
        return list(inspect.signature(self.solution).parameters)

    def __str__(self):
        return f"Exercise {self.number} · {self.title}"


@cache
def chapter(number: str) -> dict[str, Exercise]:
    """The exercises of chapter "03", in order, by name; none if it has no table."""
    parts = [vars(import_module(f"attnbook.exercises.{module}")) for module in _modules() if module[2:4] == number]
    table = {x.name: x for part in parts for x in part.values() if isinstance(x, Exercise)}
    for place, exercise in enumerate(table.values(), 1):
        exercise.number = f"{int(number)}.{place}"
    return table


def chapters() -> list[str]:
    """The chapters that have a table: ["01", "03", …]."""
    return sorted({module[2:4] for module in _modules()})


def _modules() -> list[str]:
    names = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in names if re.fullmatch(r"ch\d\d[a-z]?", name))


def everything() -> list[Exercise]:
    return [exercise for number in chapters() for exercise in chapter(number).values()]


def find(name: str) -> Exercise:
    """The exercise called `name`. Raises ValueError that says what there is."""
    number = str(name).partition(".")[0]
    table = chapter(number)
    if name in table:
        return table[name]
    close = difflib.get_close_matches(str(name), table or [e.name for e in everything()], n=1)
    there = f"there are {', '.join(table) or 'chapters ' + ', '.join(chapters())}"
    there = f"did you mean {close[0]!r}?" if close else there
    raise ValueError(f"there is no exercise {name!r}; {there}")
