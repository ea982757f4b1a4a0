"""What the engine says, in which order, and what it does not let happen."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from exercises_help import make_exercise, typed, vectors

from attnbook import exercises, functional
from attnbook.exercises import Exercise, Law, Probe, board, check, close, hint, progress, record, sandbox, solution
from attnbook.exercises.answer import Answer, Grid
from attnbook.exercises.judge import judge, shrink


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNBOOK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def exercise():
    return make_exercise()


def said(answer):
    return " ".join(repr(answer).split())


# The order of the answer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["...", "pass", '"""Documented."""', '"""Documented."""\n    ...',
                                  "gap = ...\n    return 2 * gap", "return 2 * (x - ...)", "return ..."])  # fmt: skip
def test_not_attempted(exercise, body):
    answer = judge(exercise, typed(f"def doubled(x, y):\n    {body}\n"))
    assert answer.kind == "untouched" and not answer
    assert "Not attempted yet. Write `doubled(x, y)`: twice the difference." in said(answer)
    assert answer.title == "Exercise 0.1 · Doubled"


def test_dots_that_are_no_gap(exercise):
    body = "    z = x[..., :]\n    return 2 * (z - y[...])\n    ...\n"
    assert judge(exercise, typed("def doubled(x, y, more=...):\n" + body))


def test_without_a_source_nothing_returned_is_not_attempted(exercise):
    assert judge(exercise, eval("lambda x, y: None")).kind == "untouched"


def test_a_repair_is_untouched_as_long_as_the_code_is_what_was_given():
    def broken(x, y):
        return 2 * x - y

    repair = make_exercise(broken=broken)
    given = "def repaired(x, y):\n    # what is wrong?\n    return 2 * x - y\n"
    assert judge(repair, typed(given)).kind == "untouched"
    assert judge(repair, typed(given.replace("- y", "- 1 * y"))).kind == "law"
    assert judge(repair, typed(given.replace("- y", "- 2 * y")))


def test_an_error_shows_the_readers_own_line_and_what_it_means(exercise):
    helper = "import numpy as np\ndef helper(x):\n    return np.swapaxes(x, 0, 5)\n"
    source = helper + "\ndef doubled(x, y):\n    return helper(x)\n"
    answer = judge(exercise, typed(source))
    assert answer.kind == "raised"
    assert "It stops with an error in line 3 of its cell: return np.swapaxes(x, 0, 5)" in said(answer)
    assert "AxisError" in said(answer) and "Count axes from the end" in said(answer) and "`x` (4,)" in said(answer)


@pytest.mark.parametrize("line, meaning", [
    ("return undefined", "is its cell not run yet"),
    ("return x @ np.ones((9, 2))", "last axis on the left"),
    ("return x + np.ones(5)", "lined up from the last one"),
    ("return doubled(x, y)", "calls itself without end"),
    ("return np.ones((10**6, 10**6))", "more memory than it may have"),
    ("return x.soft(-1)", "no such method"),
    ("if x: pass\n    return x", "whole array"),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("return x.reshape(1000, 2)", "another number of elements"),
])  # fmt: skip
def test_what_errors_mean(exercise, line, meaning):
    answer = judge(exercise, typed(f"def doubled(x, y):\n    {line}\n"))
    assert answer.kind == "raised" and meaning in said(answer)


def test_wrong_number_of_arguments(exercise):
    answer = judge(exercise, typed("def doubled(x):\n    return x\n"))
    assert "cannot be called as the exercise calls it, `doubled(x, y)`" in said(answer)
    for more in ("x, y, *, z", "x, y, z"):
        answer = judge(exercise, typed(f"def doubled({more}):\n    return x\n"))
        assert "does not take the arguments that the exercise gives it" in said(answer)


def test_functions_that_are_not_the_readers_own(exercise):
    answer = judge(exercise, np.linalg.multi_dot)
    assert "cannot be called as" in said(answer)
    assert "It stops with an error: ValueError: matmul" in said(judge(exercise, np.matmul))
    scope = {}
    exec("def doubled(x, y): return x @ x.reshape(1, -1)", scope)
    assert "in line 1 of its cell. ValueError" in said(judge(exercise, scope["doubled"]))


@pytest.mark.parametrize("result, kind, words", [
    ("None", "type", "nothing (None); expected an array of shape (4,). Is a `return` missing?"),
    ("(x, y)", "type", "a tuple; expected an array"),
    ("list(2 * (x - y))", "type", "a list"),
    ("(x - y).sum()", "shape", "the shape (); expected (4,) = (n,)"),
    ("2 * (x - y)[..., None]", "shape", "There is one axis too many"),
    ("(x - y).astype(int)", "dtype", "int64; expected floating numbers"),
    ("(2 * (x - y)).astype(np.float16)", "dtype", "float16, which keeps no more than three digits"),
    ("(2 * (x - y)).astype(object)", "dtype", "holds object; expected numbers such as float64"),
    ("(2 * (x - y)).astype(complex)", "dtype", "holds complex128"),
    ("(_ for _ in x)", "type", "a generator; expected an array of shape (4,). A `yield` makes a generator"),
    ("2 * (x - y) * (1 + 1e-5)", "wrong", "Every number is 1.00001 times what it should be"),
    ("2 * (x - y) + np.random.rand()", "wrong", "it does not give the same twice"),
    ("calls.append(1) or 2 * (x - y) + (len(calls) < 5)", "wrong", "it does not give the same twice"),
    ("2 * (x - y) / np.where(x > 0, 0, 1)", "nan", "There is infinity in the result on this input: a vector (n = 4)"),
    ("np.sqrt(x - y)", "nan", "There is NaN"),
    ("-2 * (x - y)", "wrong", "Every number has the wrong sign."),
    ("8 * (x - y) / 3", "wrong", "Every number is 1.333 times what it should be"),
    ("4 * (x - y)", "wrong", "which is √n"),
    ("2 * (x - y)[..., ::-1]", "wrong", "right numbers in the wrong places"),
    ("2 * x - y", "law", "A law does not hold: y taken from y is 0."),
    ("x - y", "misconception", "It is not doubled. Read again: “Build it”."),
])  # fmt: skip
def test_what_is_wrong(exercise, result, kind, words):
    body = f"    with np.errstate(all='ignore'):\n        return {result}\n"
    answer = judge(exercise, typed("def doubled(x, y):\n" + body, calls=[]))
    assert answer.kind == kind and words in said(answer), answer
    assert not answer.passed and (answer.misconception == "not doubled") == (kind == "misconception")


@pytest.mark.parametrize("result, kind, words", [
    ("z.bfloat16()", "dtype", "holds bfloat16"),
    ("z.to('meta')", "device", "on meta, where tensors have no numbers"),
    ("z.to_sparse()", "dtype", "torch.float64, sparse"),
    ("z.to(torch.complex64).conj()", "dtype", "complex64"),
    ("z.to(torch.float8_e4m3fn)", "dtype", "float8"),
    ("torch.quantize_per_tensor(z.float(), 0.1, 0, torch.qint8)", "dtype", "qint8"),
    ("torch._neg_view(-z)", "right", "Right"),
    ("z.requires_grad_()", "right", "Right"),
])  # fmt: skip
def test_tensors_of_every_kind(exercise, result, kind, words):
    source = f"def doubled(x, y):\n    z = torch.as_tensor(2 * (x - y))\n    return {result}\n"
    answer = judge(exercise, typed(source, torch=torch))
    assert answer.kind == kind and words in said(answer), answer


@pytest.mark.parametrize("body, kind, words", [
    ("z = []\n    z.append(z)\n    return z", "type", "is a list"),
    ("import sys\n    sys.stdout.close()\n    return 2 * (x - y)", "right", "Right"),
    ("class E(Exception):\n        def __str__(self): 1 / 0\n    raise E", "raised", "E: no message"),
    ("raise ValueError('z' * 10**6)", "raised", "z…"),
])  # fmt: skip
def test_what_would_break_a_careless_engine(exercise, body, kind, words):
    answer = judge(exercise, typed(f"def doubled(x, y):\n    {body}\n"))
    assert answer.kind == kind and words in said(answer) and len(answer._repr_html_()) < 5000


def test_what_the_notebook_has_set_does_not_matter(exercise):
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = Probe("large", lambda rng, n: (1e300 * np.ones(n), np.full(n, np.inf)), n=3)
        large = make_exercise(probes=[numbers], laws=[])
        assert judge(exercise, typed("def doubled(x, y):\n    return 2 * (x - y) + np.exp(-1e9)\n"))
        assert judge(large, typed("def doubled(x, y):\n    return 2 * (x - y)\n"))


def test_a_slow_one_is_not_praised_for_what_was_not_tried(exercise):
    slow = typed("def doubled(x, y):\n    time.sleep(0.1)\n    return 2 * (x - y)\n", time=time)
    many = make_exercise(probes=[Probe(f"vector {i}", vectors, n=4) for i in range(30)])
    answer = judge(many, slow, seconds=0.5)
    assert answer.kind == "late" and re.search(r"what came is right, but \d+ of 30 small inputs", said(answer))
    laws = [Law(f"law {i}", lambda f, x, y: close(f(x, y), 2 * (x - y))) for i in range(20)]
    answer = judge(make_exercise(laws=laws), slow, seconds=0.5)
    assert answer.kind == "late" and "trying the laws took more than 2 s" in said(answer)


def test_a_law_that_makes_it_fail_is_not_held_to_hold(exercise):
    law = Law("nine times as much is nine times as much", lambda f, x, y: close(f(9 * x, 9 * y), 18 * (x - y)))
    source = "def doubled(x, y):\n    if abs(x).max() > 5:\n        raise ValueError('large')\n    return 2 * (x - y)\n"
    answer = judge(make_exercise(laws=[law]), typed(source))
    assert answer.kind == "raised" and "not done on those of a law: nine times" in said(answer), answer
    assert "line 3 of its cell" in said(answer)


def test_exchanged_axes_are_named_by_their_sizes():
    tables = Probe("a table", lambda rng, n, m: (np.ones((n, m)), np.ones((n, m))), n=2, m=3)
    table = make_exercise(probes=[tables], laws=[])
    answer = judge(table, typed("def doubled(x, y):\n    return (x - y).T\n"))
    assert "the shape (3, 2) = (m, n); expected (2, 3) = (n, m). Two axes are exchanged." in said(answer)


def test_a_changed_argument_is_told_and_recognised(exercise):
    answer = judge(exercise, typed("def doubled(x, y):\n    y -= x\n    return -2 * y\n"))
    assert answer.kind == "changed" and "changes its argument `y` in place" in said(answer) and not answer.misconception
    answer = judge(exercise, typed("def doubled(x, y):\n    x -= y\n    return 2 * x\n"))
    assert answer.kind == "changed" and answer.misconception == "in place" and "“Build it” in chapter 1" in said(answer)


def test_two_mistakes_at_once_are_both_told():
    attention = exercises.find("03.attention")

    def two(q, k, v, scale=None):
        scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
        exps = np.exp(scores - scores.max())
        return exps / exps.sum(-1, keepdims=True) @ v

    assert judge(attention, two, brief=True).misconception == "zero as none, one maximum for all"


def test_an_error_can_be_a_misconception_too(exercise):
    @exercise.wrong("That is no product of matrices.", "Build it")
    def at(x, y):
        return x @ y.reshape(1, -1)

    answer = judge(exercise, typed("def doubled(x, y):\n    z = y[None].reshape(1, -1)\n    return np.matmul(x, z)\n"))
    assert answer.kind == "raised" and answer.misconception == "at"


def test_the_smallest_input_is_looked_for(exercise):
    answer = judge(exercise, typed("def doubled(x, y):\n    return 2 * (x - y) + (np.arange(x.shape[-1]) > 1)\n"))
    assert "n = 3 (made smaller from “a vector”)" in said(answer)
    calls = []
    smallest = shrink(Probe("", vectors, n=9, m=5, flag=True), lambda sizes: calls.append(sizes) or sizes["n"] >= 4)
    assert smallest == {"n": 4, "m": 1, "flag": True}
    assert len(calls) < 60


def test_a_law_is_tried_on_what_passes_the_probes():
    law = Law("twice as much gives twice as much", lambda f, x, y: close(f(9 * x, 9 * y), 9 * f(x, y)))
    lawful = make_exercise(laws=[law])
    answer = judge(lawful, typed("def doubled(x, y):\n    return 2 * (x - y) if abs(x).max() < 5 else x\n"))
    assert answer.kind == "law" and "twice as much" in said(answer)


def test_a_warning_counts_where_the_task_says_so():
    body = "def doubled(x, y):\n    np.log(0 * x)\n    return 2 * (x - y)\n"
    assert judge(make_exercise(), typed(body)).passed
    answer = judge(make_exercise(silent=True), typed(body))
    assert answer.kind == "warned" and "in line 2 of the cell" in said(answer)


def test_right(exercise):
    answer = judge(exercise, typed("def doubled(x, y):\n    return x - y + x - y\n"))
    assert answer.passed and answer
    assert "✓ Exercise 0.1 · Doubled" in said(answer)
    assert "Right on 3 inputs: a vector; a longer one; a batch." in said(answer)
    assert "these laws hold: y taken from y is 0." in said(answer)


@pytest.mark.parametrize("result", [
    "torch.as_tensor(x) * 2 - torch.as_tensor(y) * 2",
    "(2 * (x - y)).astype(np.float32)",
    "2 * (x.astype(np.float32) - y.astype(np.float32))",
    "(torch.from_numpy(x).float() - torch.from_numpy(y).float()) * 2",
    "x.sub(y).mul(2)",                  # works with tensors alone
    "np.array([2 * (a - b) for a, b in zip(x, y)])",
])  # fmt: skip
def test_the_same_in_another_way_is_right(exercise, result):
    answer = judge(exercise, typed(f"def doubled(x, y):\n    return {result}\n", torch=torch))
    assert answer.passed, answer


def test_a_loop_is_noticed_and_its_line_named():
    slow = make_exercise(large=Probe("", vectors, n=100_000), product="`x - y` does it.")
    batch = "def doubled(x, y):\n    if x.ndim > 1:\n        return 2 * (x - y)\n"
    answer = judge(slow, typed(batch + "    return np.array([2 * (a - b) for a, b in zip(x, y)])\n"))
    assert answer.passed and re.search(r"times slower: the loop in line 4 .* `x - y` does it\.", said(answer))
    assert "slower" not in said(judge(slow, typed("def doubled(x, y):\n    return 2 * (x - y)\n")))


# Predictions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def prediction():
    def shapes():
        return {"a": (2, 3), "b": (3, 4), "c": (2, 4)}

    guess = Exercise("00.shapes", "Guess", task="three shapes.", solution=shapes, hints=["…"])

    @guess.wrong("Rows of a are not columns.", "Build it")
    def a_transposed():
        return shapes() | {"a": (3, 2)}

    @guess.wrong("b or c is the wrong way round.", "Build it")
    def either_transposed():
        yield shapes() | {"b": (4, 3)}
        yield shapes() | {"c": (4, 2)}

    return guess


@pytest.mark.parametrize("value, kind, names", [
    ("{'a': (2, 3), 'b': [3, 4], 'c': torch.Size([2, 4])}", "right", None),
    ("{'c': (2, 4), 'b': (3, 4), 'a': (3, 2)}", "misconception", "a transposed"),
    ("{'a': (3, 2), 'b': (9, 9), 'c': (4, 2)}", "misconception", "a transposed, either transposed"),
    ("{'a': (7, 3), 'b': (3, 4), 'c': (2, 4)}", "wrong", None),
    ("{'a': (2, 3, 1), 'b': (3, 4), 'c': (2, 4)}", "wrong", None),
    ("((2, 3), (3, 4), (2, 4))", "type", None),
    ("{'a': (2, 3)}", "type", None),
])  # fmt: skip
def test_predictions(prediction, value, kind, names):
    answer = judge(prediction, typed(f"def shapes():\n    return {value}\n", torch=torch))
    assert (answer.kind, answer.misconception) == (kind, names), answer
    if kind == "wrong":
        assert "Right so far: b, c (2 of 3)." in said(answer)
        assert "2, 3" not in said(answer), "the right answer is not given away"


# Safety ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    "while True: pass",
    "time.sleep(1e6)",
    "while True:\n        try:\n            while True: pass\n        except Exception: pass",
    "while True:\n        try:\n            while True: pass\n        except: pass",
    "while True: np.ones(10).sum()",
    "while True:\n        try:\n            while True: time.sleep(0.01)\n        except BaseException: continue",
    "while True:\n        with contextlib.suppress(BaseException):\n            while True: pass",
    "while True: print('x' * 10**6)",
])  # fmt: skip
@pytest.mark.parametrize("thread", [False, True])
def test_nothing_hangs(exercise, body, thread):
    if thread and any(word in body for word in ("sleep", "except:", "suppress", "print")):
        pytest.skip("without signals these are left behind")
    function, answers = typed(f"def doubled(x, y):\n    {body}\n", time=time, contextlib=contextlib), []
    before, start = threading.active_count(), time.monotonic()
    if thread:
        worker = threading.Thread(target=lambda: answers.append(judge(exercise, function, seconds=0.3)))
        worker.start()
        worker.join(20)
    else:
        answers.append(judge(exercise, function, seconds=0.3))
    assert time.monotonic() - start < 10
    assert answers[0].kind == "late" and "after 0.3 s it had not returned" in said(answers[0])
    assert threading.active_count() == before and sys.gettrace() is None


def test_a_timer_that_ran_before_runs_again():
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    old = signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        sandbox.call(lambda: time.sleep(0.1), (), 5)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.45
        time.sleep(0.6)
        assert rung
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *old)


def test_ctrl_c_gets_through(exercise):
    def interrupted(x, y):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        judge(exercise, interrupted)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
@pytest.mark.parametrize("result", ["np.ones(10**10)", "torch.ones(10**10)", "[0] * 10**10", "bytearray(10**11)"])
def test_memory_is_limited_and_given_back(exercise, result):
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    answer = judge(exercise, typed(f"def doubled(x, y):\n    return {result}\n", torch=torch))
    assert answer.kind == "raised" and "more memory than it may have here" in said(answer)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_the_engines_arrays_are_safe():
    kept = []
    probe = Probe("one array, kept", lambda rng, n: (kept[0] if kept else kept.append(rng.random(n)) or kept[0],), n=3)
    outcome = sandbox.call(lambda x: x.fill(7), probe.args(), 1)
    assert outcome.changed == [0] and not np.any(kept[0] == 7)
    nested = ([np.zeros(2)], {"k": torch.zeros(2)})
    assert sandbox.call(lambda a, b: (a[0].fill(1), b["k"].fill_(1)), nested, 1).changed == [0, 1]
    assert sandbox.call(lambda x: x, (np.array([np.nan]),), 1).changed == []


def test_printing_is_kept_and_shown_once(exercise, capsys):
    answer = judge(exercise, typed("def doubled(x, y):\n    print('seen', x.shape)\n    return 2 * (x - y)\n"))
    assert repr(answer).count("seen") == 1 and "seen (4,)" in repr(answer)
    assert capsys.readouterr().out == ""


def test_only_the_function_is_called(exercise):
    calls = []

    def doubled(x, y):
        calls.append(x.shape)
        return 2 * (x - y)

    cell = "def unrelated():\n    raise AssertionError\n\ndef doubled(x, y):\n    return f(x, y)\n"
    assert judge(exercise, typed(cell, f=doubled)).passed and calls


# What it looks like ----------------------------------------------------------------------------------------------


def test_what_the_reader_wrote_is_text(exercise):
    evil = "<script>alert(1)</script>"
    source = f"def doubled(x, y):\n    print('{evil}')\n    raise ValueError('{evil}')  # {evil}\n"
    page = judge(exercise, typed(source))._repr_html_()
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


def test_html_and_text_say_the_same(exercise):
    source = "def doubled(x, y):\n    return 2 * x - y * 2.5\n"
    answer = judge(exercise, typed(source))
    text = re.sub(r"<[^>]+>", " ", answer._repr_html_())
    for words in re.findall(r"[\w.-]+", re.sub(r"[`*“”]", " ", repr(answer))):
        assert words in text
    assert answer._repr_html_() == judge(exercise, typed(source))._repr_html_()


def test_grids():
    grid = Grid("a", np.array([[1.0, -2.0], [np.nan, 0.0]]), np.array([[False, True], [False, False]]))
    assert grid.lines() == ["a", "  1   -2*", "nan    0 "]
    assert "outline" in grid.html() and "nan" in grid.html()
    bad = np.zeros((3, 30, 30), bool)
    bad[1, 20, 25] = True
    lines = Grid("big", np.arange(2700.0).reshape(3, 30, 30), bad).lines()
    assert len(lines) == 9 and lines[0] == "big (a part)" and "1525*" in " ".join(lines)
    for array in (np.array(1.5), np.arange(3), np.array([True]), np.ones((2, 2, 2, 2)), np.zeros((0, 3))):
        assert Grid("x", array).lines() and Grid("x", array).html()


def test_marks_of_emphasis():
    answer = Answer("t", "note").say("Use `a*b*c`, *really*, not 2*3*4 or <b>.")
    assert "<code>a*b*c</code>, <em>really</em>, not 2*3*4 or &lt;b&gt;." in answer._repr_html_()


# check, hint, solution, progress -------------------------------------------------------------------------------


def scores_of(q, k):
    return q @ np.swapaxes(k, -1, -2)


def test_check_keeps_what_came_of_it(home):
    assert not check("03.scores", typed("def scores_of(q, k):\n    ...\n"))
    assert not home.exists(), "an untouched stub leaves no trace"
    assert check("03.scores", scores_of).misconception == "not scaled"
    kept = {"tries": 1, "passed": False, "hints": 0, "last": "misconception", "misconception": "not scaled"}
    assert record.read()[0]["03.scores"] == kept
    assert check("03.scores", lambda q, k: scores_of(q, k) / q.shape[-1] ** 0.5)
    check("03.scores", scores_of)
    assert record.read()[0]["03.scores"]["passed"] and record.read()[0]["03.scores"]["tries"] == 3


def test_check_says_what_it_cannot_check():
    with pytest.raises(ValueError, match="no exercise '03.score'; did you mean '03.scores'"):
        check("03.score", scores_of)
    with pytest.raises(ValueError, match="no exercise '77.x'; there are chapters 00, 01, "):
        check("77.x", scores_of)
    with pytest.raises(TypeError, match=r"write check\('03.scores', scores_of\), without \(\)"):
        check("03.scores", np.ones(3))
    assert check("03.values", (False, True, True, True)).passed


def test_hints_come_one_by_one_and_the_solution_is_asked_for_twice(monkeypatch):
    monkeypatch.setattr(exercises, "_asked", set())
    first, second, third = (said(hint("03.scores")) for _ in range(3))
    assert "hint 1 of 2" in first and "2." not in first
    assert "hint 2 of 2" in second and "That was the last one." in second and second == third
    assert "shall I show" in said(solution("03.scores")) and "def scores_of" not in said(solution("03.values"))
    assert "def scores_of(q, k): return q @" in said(solution("03.scores"))
    monkeypatch.setattr(exercises, "_asked", set())
    check("03.scores", exercises.find("03.scores").solution)
    assert "def scores_of" in said(solution("03.scores"))


def test_progress_is_a_table():
    check("03.scores", scores_of)
    check("03.values", lambda: (False, True, True, True))
    hint("03.repair")
    table = repr(progress())
    assert re.search(r"✗ Exercise 3.1 · One line +03.scores +1 try, the last: not scaled", table)
    assert re.search(r"✓ Exercise 3.3 · Read the picture +03.values +1 try", table)
    assert re.search(r"○ Exercise 3.4 · Repair it +03.repair +a hint seen", table)
    assert f"1 of {len(exercises.everything())} exercises done" in table
    assert "<table>" in progress()._repr_html_()
    assert exercises.progress is progress, "no module of this name hides the function"


def test_progress_survives_other_versions_of_the_book(home):
    home.mkdir()
    old = {"88.gone": {"tries": 3, "passed": True, "new key": 1}, "03.scores": {"passed": True, "tries": 1}}
    (home / "progress.json").write_text(json.dumps({"version": 7, "exercises": old}))
    check("03.scores", scores_of)
    kept = json.loads((home / "progress.json").read_text())["exercises"]
    assert kept["88.gone"]["new key"] == 1 and kept["03.scores"]["passed"] and kept["03.scores"]["tries"] == 2
    assert "88.gone" not in repr(progress())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"exercises": 3}', '{"exercises": {"03.scores": 5}}', "\x00\xff", "[" * 100_000,
             '{"exercises": {"03.scores": {"tries": null}}}'],
    ids=range(8),
)  # fmt: skip
def test_a_damaged_file_is_set_aside(home, text):
    home.mkdir()
    (home / "progress.json").write_text(text, encoding="latin-1")
    answer = check("03.scores", scores_of)
    assert "The file with your progress was damaged. It is kept as" in said(answer)
    (aside,) = home.glob("progress.json.damaged-*")
    assert aside.read_text(encoding="latin-1") == text
    assert record.read()[0]["03.scores"]["tries"] == 1 and record.read()[1] == ""
    assert {p.name for p in home.iterdir()} - {"progress.lock"} == {"progress.json", aside.name}


@pytest.mark.parametrize("call", [hint, solution])
def test_hints_and_solutions_say_so_too(home, call, monkeypatch):
    monkeypatch.setattr(exercises, "_asked", set())
    home.mkdir()
    (home / "progress.json").write_text("{")
    assert "It is kept as" in said(call("03.scores"))


def test_two_notebooks_at_once_lose_nothing(home):
    names = [f"99.n{i}" for i in range(20)]
    workers = [threading.Thread(target=record.update, args=(name,), kwargs={"passed": True}) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(record.read()[0]) == sorted(names)
    assert {p.name for p in home.iterdir()} - {"progress.lock"} == {"progress.json"}


def test_another_who_holds_on_to_the_file_holds_nobody_up_for_long(home):
    home.mkdir()
    with filelock.FileLock(home / "progress.lock"):
        start = time.monotonic()
        assert record.update("03.scores", passed=True) == "" and time.monotonic() - start < 4
    assert record.read()[0]["03.scores"]["passed"]


def test_progress_that_cannot_be_kept_is_no_disaster(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTNBOOK_HOME", str(tmp_path / "file" / "folder"))
    assert "Your progress could not be kept in" in said(check("03.scores", scores_of))
    assert repr(progress())


def test_where_the_file_is(monkeypatch):
    monkeypatch.delenv("ATTNBOOK_HOME")
    assert record.folder().name == "attnbook" and record.folder().is_absolute()
    monkeypatch.setenv("ATTNBOOK_HOME", "/somewhere/else")
    assert record.folder() == Path("/somewhere/else")
    assert board.state(None) == ("○", "")


def test_the_engine_loads_little():
    code = "import sys, attnbook.exercises; print({'torch', 'matplotlib', 'IPython', 'nbclient'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_text_where_a_truth_value_is_asked_for_is_called_text():
    answer = check("03.values", lambda: ("no", True, True, True))
    assert not answer and "Part 1 is text. Write True or False there" in said(answer)


def test_an_error_is_a_misconceptions_own_only_if_it_says_the_same():
    listed = check("00.floats", lambda scores: functional.softmax(scores))
    whole = check("00.floats", lambda scores: functional.softmax(np.array(scores)))
    other = check("00.floats", lambda scores: functional.softmax(None))
    assert "A list is not an array yet" in said(listed) and "still whole" not in said(listed)
    assert "still whole" in said(whole)
    assert other.misconception is None and "It stops with an error" in said(other)
