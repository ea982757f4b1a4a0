"""How many wrong answers the exercises catch, and how many they call by name: benchmarks/results/exercises.json.

    python tools/exercise_report.py            all exercises: print the table and write the file
    python tools/exercise_report.py 03 04.rope  only these: print each mutant and what is said to it, and the table

The wrong answers are the misconceptions of the tables, and mutants: the solution with one slip in its syntax tree. A
mutant that gives what is right on a large set of other inputs is no mistake; such are counted and left out.
A wrong answer is

    caught   if it does not pass
    named    if the answer has a misconception's sentence
    told     if it is named, or the answer says what is wrong in another definite way: the line that fails, the shape,
             NaN and for which input, the argument that was changed, the law that is broken, a factor or a sign
"""

import ast
import contextlib
import copy
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np

from attnbook.exercises import everything, judge
from attnbook.exercises.answer import Answer
from attnbook.exercises.table import Exercise
from attnbook.exercises.trial import try_on

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks/results/exercises.json"
DEFINITE = {"raised", "late", "type", "shape", "dtype", "device", "nan", "changed", "law", "warned"}
SWAPS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.MatMult: [ast.Mult],
    ast.Pow: [ast.Mult], ast.Mod: [ast.FloorDiv], ast.FloorDiv: [ast.Mod],
    ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip
METHODS = {
    "max": ["min"], "amax": ["amin"], "min": ["max"], "sum": ["mean", "max"], "mean": ["sum"],
    "sin": ["cos"], "cos": ["sin"],
    "triu": ["tril"], "tril": ["triu"], "repeat": ["tile"], "tile": ["repeat"], "repeat_interleave": ["repeat"],
    "cumsum": ["sum"], "ones": ["zeros"], "zeros": ["ones"], "any": ["all"], "all": ["any"],
}  # fmt: skip
MOVES = {"transpose", "swapaxes", "permute", "matrix_transpose"}  # dropped with their first argument kept
LIBRARIES = {"np", "math", "torch", "functional", "masks", "positions", "layers", "F"}


def slips(node: ast.AST, alike: dict[str, list[str]], prediction: bool):
    """The nodes that `node` could have been after one slip of the pen, with a word for it."""
    if prediction:  # a number that is off by one is no slip that can be told from any other
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield "boolean flipped", ast.Constant(not node.value)
        elif isinstance(node, (ast.Tuple, ast.List)):
            for i in range(len(node.elts) - 1):
                exchanged = node.elts[:i] + [node.elts[i + 1], node.elts[i]] + node.elts[i + 2 :]
                yield "neighbours exchanged", type(node)(exchanged, ast.Load())
        return
    if isinstance(node, ast.BinOp):
        for operator in SWAPS.get(type(node.op), []):
            yield f"{type(node.op).__name__} → {operator.__name__}", ast.BinOp(node.left, operator(), node.right)
        if not isinstance(node.op, ast.MatMult):
            yield "right side dropped", node.left
        if isinstance(node.op, (ast.Sub, ast.MatMult)):
            yield "sides exchanged", ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield f"{type(node.op).__name__} dropped", node.operand
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand.value, int):
        yield "one axis before", ast.UnaryOp(ast.USub(), ast.Constant(node.operand.value + 1))
        yield "one axis after", ast.Constant(1 - node.operand.value) if node.operand.value < 2 else ast.UnaryOp(
            ast.USub(), ast.Constant(node.operand.value - 1))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for operator in SWAPS.get(type(node.ops[0]), []):
            yield "comparison changed", ast.Compare(node.left, [operator()], node.comparators)
    elif isinstance(node, ast.IfExp):
        yield "if and else exchanged", ast.IfExp(node.test, node.orelse, node.body)
        yield "if ignored", node.body
        yield "else ignored", node.orelse
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "boolean flipped", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "one more", ast.Constant(node.value + 1)
        if node.value > 0:
            yield "one less", ast.Constant(node.value - 1)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield "transpose dropped", node.value
    elif isinstance(node, ast.Call):
        yield from _slips_of_a_call(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in alike:
        for other in alike[node.id]:
            yield f"{other} for {node.id}", ast.Name(other, ast.Load())


def _slips_of_a_call(node: ast.Call):
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    method = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") not in LIBRARIES
    for other in METHODS.get(called, []):
        yield f"{called} → {other}", ast.Call(_renamed(node.func, other), node.args, node.keywords)
    for i, keyword in enumerate(node.keywords):
        yield f"{keyword.arg} dropped", ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
    for i in range(len(node.args) - 1 if called not in MOVES else 0):  # which do not mind the order
        exchanged = [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]]
        yield "arguments exchanged", ast.Call(node.func, exchanged, node.keywords)
    if called in MOVES or called in ("contiguous", "copy"):
        yield f"{called} dropped", node.func.value if method else node.args[0]
    elif not method and node.args and len(node.args) == 1:
        yield f"{called} dropped", node.args[0]
    elif not method and called in ("where", "softmax", "masked"):
        yield f"{called} dropped", node.args[1 if called == "where" else 0]


def _renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, ast.Load())
    return ast.Name(name, ast.Load())


def mutants(exercise: Exercise):
    """Pairs of a description and a function: each distinct slip in the solution, once."""
    solution = exercise.solution
    tree, alike = ast.parse(exercise.source).body[0], parameters_alike(exercise)
    seen = {ast.dump(tree)}
    sites = [(parent, name, i) for parent in ast.walk(tree) for name, value in ast.iter_fields(parent)
             for i in (range(len(value)) if isinstance(value, list) else [None])]  # fmt: skip
    for parent, name, i in sites:
        node = getattr(parent, name) if i is None else getattr(parent, name)[i]
        if not isinstance(node, ast.expr) or isinstance(parent, ast.arguments):
            continue
        for word, other in slips(node, alike, exercise.is_prediction):
            _put(parent, name, i, other)
            changed = copy.deepcopy(tree)
            _put(parent, name, i, node)
            if ast.dump(changed) not in seen:
                seen.add(ast.dump(changed))
                text = ast.unparse(ast.fix_missing_locations(changed))
                scope = {}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    exec(compile(text, f"<mutant of {exercise.name}>", "exec"), solution.__globals__ | {}, scope)
                yield f"line {node.lineno}: {word}", scope[solution.__name__]


def parameters_alike(exercise: Exercise) -> dict[str, list[str]]:
    """For each parameter, those that can be taken for it: of the same kind, and arrays of as many axes."""
    args = dict(zip(exercise.parameters, exercise.probes[0].args()))
    kind = {name: (type(x).__name__, getattr(x, "ndim", 0)) for name, x in args.items()}
    return {name: [other for other in args if other != name and kind[other] == kind[name]] for name in args}


def _put(parent, name, i, node):
    if i is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[i] = node


def is_equivalent(exercise: Exercise, function, draws: int = 6) -> bool:
    """Does it give what is right, on inputs with other numbers and other sizes too?"""
    rng = np.random.default_rng(0)
    for probe in exercise.probes:
        for seed in range(draws):
            sizes = {name: int(rng.integers(1, 7)) for name, size in probe.sizes.items()
                     if seed % 2 and type(size) is int and size > 1}  # fmt: skip
            try:
                trial = try_on(exercise, function, probe, sizes, seconds=1, seed=seed)
            except Exception:  # sizes that do not go together
                continue
            if not trial.right or (exercise.silent and trial.outcome.warned):
                return False
    return True


def is_definite(answer: Answer) -> bool:
    relations = ("Every number", "It is the right", "These are the right")
    related = any(isinstance(block, str) and block.startswith(relations) for block in answer.blocks)
    return bool(answer.misconception) or answer.kind in DEFINITE or related


def examine(exercise: Exercise) -> tuple[dict, list[str]]:
    """The counts for one exercise, and a line about each mutant."""
    hand = [judge.judge(exercise, f, brief=True, seconds=1) for wrong in exercise.wrongs for f in wrong.functions]
    made, equivalent, notes = [], 0, []
    for word, function in mutants(exercise):
        answer = judge.judge(exercise, function, brief=True, seconds=1)
        if answer.passed and is_equivalent(exercise, function):
            equivalent += 1
            continue
        made.append(answer)
        said = answer.misconception or "PASSES" * answer.passed or f"not named ({answer.kind})"
        notes.append(f"{exercise.name:16} {word:32} {said}")
    count = lambda answers: {
        "wrong": len(answers), "caught": sum(not a.passed for a in answers),
        "named": sum(bool(a.misconception) for a in answers),
        "told": sum(is_definite(a) for a in answers if not a.passed),
    }  # fmt: skip
    return {"misconceptions": count(hand), "mutants": count(made), "equivalent mutants": equivalent,
            "right answers": 1 + len(exercise.rights)}, notes  # fmt: skip


def report(exercises: list[Exercise]) -> tuple[dict, list[str]]:
    """Counts by exercise and in all, and the notes."""
    results, notes = {}, []
    for exercise in exercises:
        with contextlib.redirect_stderr(io.StringIO()):
            results[exercise.name], more = examine(exercise)
        notes += more
    total = {key: sum(r[kind][key] for r in results.values() for kind in ("misconceptions", "mutants"))
             for key in ("wrong", "caught", "named", "told")}  # fmt: skip
    return {"exercises": results, "all": total}, notes


def as_table(results: dict) -> str:
    keys, kinds = ("wrong", "caught", "named", "told"), ("misconceptions", "mutants")
    heads = "".join(f"{key:>8}" for key in keys)
    lines = [f"{'':16}{'misconceptions':>32}   {'mutants':>32}", f"{'':16}{heads}   {heads}"]
    for name, row in results["exercises"].items():
        lines.append(f"{name:16}" + "   ".join("".join(f"{row[kind][key]:8}" for key in keys) for kind in kinds))
    total = results["all"]
    caught, named, told = (f"{100 * total[key] / max(total['wrong'], 1):.1f} %" for key in keys[1:])
    lines.append(f"{total['wrong']} wrong answers: {caught} caught, {named} named, {told} told in a definite way")
    return "\n".join(lines)


def write(results: dict) -> None:
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    asked = tuple(sys.argv[1:])
    results, notes = report([e for e in everything() if e.name.startswith(asked or "")])
    print(*(notes if asked else []), as_table(results), sep="\n")
    if not asked:
        write(results)
