"""Read the reader's own code: is it still the stub, where did it fail and what does that mean, where does it loop?"""

import ast
import inspect
import linecache
import os
import re
import sys
import sysconfig
import textwrap
from pathlib import Path

PACKAGE = str(Path(__file__).resolve().parents[1])
FOLDERS = (PACKAGE, *{sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")})
LIBRARIES = tuple(folder + os.sep for folder in FOLDERS)
LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)

# What an error says → what it means here. The first that fits is taken.
MEANINGS = [
    (r"core dimension|mat1 and mat2|batch1|batch2|size mismatch|inconsistent tensor size|not aligned",
     "In a product of matrices the last axis on the left must be as long as the second to last on the right. "
     "`k.T` turns *all* the axes of a batch round; `np.swapaxes(k, -1, -2)` or `k.mT` turns the last two."),
    (r"could not be broadcast|must match the size of tensor|not broadcastable",
     "Two arrays meet whose axes, lined up from the last one, are neither equally long nor 1. After a sum or a "
     "maximum `keepdims=True` keeps the axis in place."),
    (r"view size is not compatible",
     "`view` needs the numbers in memory in the order in which it reads them, and a transpose changes that order. "
     "`reshape` copies where it has to."),
    (r"axes don't match array|repeated axis in transpose",
     "NumPy's `transpose` wants the new order of *all* the axes. To exchange two, use `np.swapaxes`."),
    (r"shape .* is invalid for input of size|cannot reshape",
     "The new shape holds another number of elements than the old one."),
    (r"out of bounds|out of range",
     "An axis or an index that this input does not have. Count axes from the end: -1 is the last."),
    (r"name '(\w+)' is not defined",
     "Nothing has this name where the function runs: is it misspelt, or is its cell not run yet?"),
    (r"cannot access local variable|referenced before assignment",
     "The name gets its value only further down, or on a path that was not taken."),
    (r"takes (no|\d+|from) .*argument|missing \d+ required",
     "The function does not take the arguments that the exercise gives it."),
    (r"'ellipsis'",
     "A `...` is still in the way: it stands for what you are to write."),
    (r"'NoneType'",
     "Something is None that should be an array: a function without `return`, or an assignment from one that "
     "works in place."),
    (r"has no attribute",
     "This kind of array has no such method: NumPy and torch name some of them differently."),
    (r"expected .* to have the same dtype|expected scalar type|must have the dtype",
     "Two arrays of different number formats meet: give new arrays the dtype of the input."),
    (r"unexpected keyword|invalid keyword|got an unexpected",
     "The function that is called has no such argument. NumPy says `axis` and `keepdims`, torch says `dim` and "
     "`keepdim`."),
    (r"maximum recursion",
     "The function calls itself without end."),
    (r"allocate|not enough memory|MemoryError",
     "It asks for more memory than it may have here: is there an array that need not exist?"),
    (r"truth value of an",
     "An `if` or `or` was asked about a whole array. Compare with `is None`, or choose with `np.where`."),
    (r"object is not (callable|subscriptable|iterable)",
     "A value is used as something that it is not: are there parentheses or brackets too many?"),
]  # fmt: skip


def tree_of(function) -> ast.FunctionDef | None:
    """The syntax tree of a function, with the line numbers of its file; None where the source is not to be had."""
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(function))
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    ast.increment_lineno(tree, max(first - 1, 0))
    return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)


def body(tree: ast.FunctionDef) -> list[ast.stmt]:
    """What the function does: its statements without the docstring."""
    documented = ast.get_docstring(tree, clean=False) is not None
    return tree.body[documented:]


def is_untouched(tree: ast.FunctionDef | None, broken=None) -> bool:
    """Is it still a stub: nothing but `...`, or a `...` where a value should be, or the broken code as it was given?"""
    if tree is None:
        return False
    if broken is not None:
        given = tree_of(broken)
        return given is not None and list(map(ast.dump, body(tree))) == list(map(ast.dump, body(given)))
    if all(isinstance(node, ast.Pass) or _is_dots(getattr(node, "value", None)) for node in body(tree)):
        return True
    # x[..., 0] is no gap, nor is a `...` left below the work, nor a default
    inside = {ast.Subscript, ast.List, ast.Tuple, ast.Expr, ast.arguments}
    return any(
        _is_dots(child) for node in ast.walk(tree) if type(node) not in inside for child in ast.iter_child_nodes(node)
    )


def _is_dots(node) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def torch_is_loaded() -> bool:
    """Nobody answers in torch who has not imported it."""
    return "torch" in sys.modules


def loop_line(tree: ast.FunctionDef | None) -> int | None:
    """The number, within its cell, of the first line that loops."""
    loops = [node.lineno for node in ast.walk(tree) if isinstance(node, LOOPS)] if tree else []
    return min(loops) if loops else None


def own_line(error: BaseException, function) -> tuple[int, str] | None:
    """The innermost line of the reader's own code on the way to the error: its number in the cell and its text."""
    home, found, trace = getattr(getattr(function, "__code__", None), "co_filename", None), None, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name == home or not name.startswith((*LIBRARIES, "<frozen", "<__array_function__")):
            found = (trace.tb_lineno, linecache.getline(name, trace.tb_lineno).strip())
        trace = trace.tb_next
    return found


def in_words(error: BaseException, most: int = 1000) -> str:
    """Its type and its message, which is the reader's own and may be long, or fail."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text[:most] + '…' * (len(text) > most) or 'no message'}"


def meaning(error: BaseException) -> str:
    text = in_words(error)
    return next((means for pattern, means in MEANINGS if re.search(pattern, text)), "")
