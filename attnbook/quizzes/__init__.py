"""The book's quizzes, one file a chapter: `quiz("03.shapes")` shows the quiz `shapes` of ch03.py.

A quiz is a function without arguments that returns a `Quiz`. Their text is prose, and their answers would stand above
the question if they were written in the notebook. Numbers are computed where the question asks for one.
"""

import pkgutil
from importlib import import_module
from inspect import getmembers, isfunction


def quiz(name: str):
    """The quiz called `name`, "NN.name". Raises ValueError that says which there are."""
    there = names()
    if name not in there:
        raise ValueError(f"there is no quiz {name!r}; there are {', '.join(there)}")
    number, _, label = name.partition(".")
    return getattr(import_module(f"{__name__}.ch{number}"), label)()


def names() -> list[str]:
    """All the quizzes, by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return [f"{m.__name__[-2:]}.{label}" for m in modules for label, f in getmembers(m, isfunction) if _is_quiz(m, f)]


def _is_quiz(module, function) -> bool:
    return function.__module__ == module.__name__ and not function.__name__.startswith("_")
