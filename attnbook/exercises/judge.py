"""Try a function on an exercise's probes and say what came of it, in the order in which a helpful person would."""

import time
import warnings
from collections.abc import Callable

import numpy as np

from attnbook.exercises import compare, reading
from attnbook.exercises.answer import Answer, Grid, number
from attnbook.exercises.compare import fields, is_array, same
from attnbook.exercises.sandbox import call
from attnbook.exercises.table import Exercise, Probe, Wrong
from attnbook.exercises.trial import LIMIT, Trial, recognise, try_on

NOTHING = (type(None), type(...))  # what a stub returns
CALLS = 4  # so many times that for all the probes, and again for all the laws


def judge(exercise: Exercise, function: Callable, brief: bool = False, seconds: float = LIMIT) -> Answer:
    """Try `function` and say what is to be said; `brief` spares the search for the smallest input and the timing."""
    with np.errstate(all="warn", under="ignore"), warnings.catch_warnings():  # whatever the notebook has set
        warnings.simplefilter("ignore")
        return _judge(exercise, function, brief, seconds)


def _judge(exercise, function, brief, seconds) -> Answer:
    answer = Answer(f"{exercise}", "untouched", exercise.name)
    tree = reading.tree_of(function)
    if reading.is_untouched(tree, exercise.broken):
        return _untouched(exercise, answer)
    trials = _trials(exercise, function, seconds)
    if tree is None and all(not t.failed and t.outcome.value.__class__ in NOTHING for t in trials):
        return _untouched(exercise, answer)
    printed = trials[0].outcome.printed
    bad = sorted((t for t in trials if not t.right), key=_size)
    if bad:
        _find_fault(exercise, function, answer, trials, bad, seconds, brief)
    elif len(trials) < len(exercise.probes):
        answer.kind = "late"
        answer.say(f"It was stopped: what came is right, but {len(trials)} of {len(exercise.probes)} small inputs took "
                   f"more than {CALLS * seconds:g} s.")  # fmt: skip
    elif not _law_broken(exercise, function, answer, seconds, brief, strict=True) and not _warned(
        exercise, answer, trials
    ):
        _praise(exercise, function, answer, trials, tree, brief)
    if printed:
        answer.say("It printed:", ("code", printed[:2000].rstrip() + "…" * (len(printed) > 2000)))
    return answer


def _trials(exercise, function, seconds) -> list[Trial]:
    """The function on every probe, in the library of the probes; in the other one, if only that goes without error."""

    def run(library):
        trials = []
        for probe in exercise.probes:
            trials.append(try_on(exercise, function, probe, library=library, seconds=seconds))
            if trials[-1].outcome.late or sum(t.outcome.seconds for t in trials) > CALLS * seconds:
                break
        return trials

    trials = run("")
    if any(t.outcome.error for t in trials) and reading.torch_is_loaded():
        other = run({"numpy": "torch", "torch": "numpy"}[compare.library_of(trials[0].args)])
        if len(other) == len(exercise.probes) and not any(t.failed for t in other):
            return other
    return trials


def _size(trial: Trial) -> int:
    return sum(getattr(np.asarray(compare.plain(x)), "size", 1) for x in trial.args)


def _untouched(exercise, answer) -> Answer:
    what = "Repair" if exercise.broken else "Write"
    how = "Its cell still holds the code as it was given: change" if exercise.broken else "In its cell, replace"
    it = "that" if exercise.broken else "the `...`"
    return answer.say(
        f"Not attempted yet. {what} `{exercise.signature}`: {exercise.task}",
        f"{how} {it} and run the cell again. `hint(\"{exercise.name}\")` helps.",
    )


# What is wrong ---------------------------------------------------------------------------------------------------


def _find_fault(exercise, function, answer, trials, bad, seconds, brief) -> None:
    """The first of the faults that applies; a misconception's sentence beside it whenever one is recognised."""
    found = recognise(exercise, trials)
    answer.misconception = ", ".join(w.name for w in found) or None
    late = [t for t in bad if t.outcome.late]
    raised = [t for t in bad if t.outcome.error]
    odd = [(t, *c) for t in bad if not t.failed for c in [_complaint(t)] if c]
    odd.sort(key=lambda o: ("type", "shape", "dtype", "device").index(o[1]))
    infinite = [t for t in bad if not t.failed and compare.finite(t.want) and not compare.finite(t.got)]
    changed = [t for t in bad if t.outcome.changed]
    if late:
        answer.kind = "late"
        answer.say(f"It was stopped: after {seconds:g} s it had not returned, on {late[0]}.",
                   "Is there a loop without an end?")  # fmt: skip
    elif raised:
        answer.kind = "raised"
        _explain_error(exercise, function, answer, raised[0])
    elif odd:
        trial, answer.kind, sentence = odd[0]
        answer.say(sentence, f"The input: {trial}." if trial.probe.label else "")
    elif infinite:
        answer.kind = "nan"
        kind = "NaN" if any(np.isnan(p).any() for p in fields(infinite[0].got).values() if is_array(p)) else "infinity"
        where = f" on this input: {infinite[0]}" if infinite[0].args else ""
        answer.say(f"There is {kind} in the result{where}.")
    elif changed:
        answer.kind = "changed"
        names = " and ".join(f"`{exercise.parameters[i]}`" for i in changed[0].outcome.changed)
        answer.say(f"It changes its argument {names} in place. Whoever called it still needs that array: make a new "
                   "one (`x = x - 1` does, `x -= 1` and `out=x` do not).")  # fmt: skip
    elif found:
        answer.kind = "misconception"
    for wrong in found:
        answer.say(wrong.says, _reread(exercise, wrong))
    if answer.kind in ("late", "raised", "changed", "type", "shape", "dtype", "device"):
        return
    if exercise.is_prediction:
        text = compare.text_for_numbers(trials[0].got, trials[0].want)
        answer.kind = "misconception" if found else "type" if text else "wrong"
        answer.say(text, _which_fields(trials[0]))
    elif _another_time(exercise, function, answer, bad[0], seconds):
        answer.kind = "wrong"
    elif found or answer.kind == "nan" or not _law_broken(exercise, function, answer, seconds, brief):
        answer.kind = "wrong" if answer.kind == "untouched" else answer.kind
        _show_smallest(exercise, function, answer, bad[0], seconds, brief)


def _another_time(exercise, function, answer, trial, seconds) -> bool:
    """Does it give something else for the same input when it is called again?"""
    again = try_on(exercise, function, trial.probe, {}, compare.library_of(trial.outcome.args), seconds)
    if not again.failed and same(again.got, trial.got, trial.tolerance):
        return False
    return _unsteady(answer, trial)


def _unsteady(answer, trial) -> bool:
    answer.say(f"Called twice with the same input, {trial}, it does not give the same twice. Does it draw random "
               "numbers, or change something outside of itself that it reads again?")  # fmt: skip
    return True


def _complaint(trial: Trial):
    if not trial.args and isinstance(trial.want, (tuple, dict)) and type(trial.got) is type(trial.want):
        same_parts = fields(trial.got).keys() == fields(trial.want).keys()
        if same_parts:  # a prediction: what its parts should be is not to be given away
            return None
    return compare.complaint(trial.got, trial.want, trial.outcome.value, trial.sizes)


def _reread(exercise, wrong: Wrong) -> str:
    number, dot, heading = wrong.reread.rpartition(" · ")
    again = "ahead" if dot and int(number) > int(exercise.name[:2]) else "again"
    return f"Read {again}: “{heading}”{f' in chapter {number}' if dot else ''}." if heading else ""


def _explain_error(exercise, function, answer, trial) -> None:
    error = trial.outcome.error
    line = reading.own_line(error, function)
    if line:
        answer.say(f"It stops with an error in line {line[0]} of its cell{':' if line[1] else '.'}",
                   ("code", line[1]) if line[1] else "")  # fmt: skip
    elif not isinstance(error, TypeError):
        answer.say("It stops with an error:")
    else:
        answer.say(f"It cannot be called as the exercise calls it, `{exercise.signature}`.")
    answer.say(reading.in_words(error))
    if not answer.misconception:  # whose sentence says more
        answer.say(reading.meaning(error))
    arrays = [f"`{name}` {tuple(x.shape)}" for name, x in zip(exercise.parameters, trial.args) if hasattr(x, "shape")]
    if arrays:
        answer.say(f"The input was {', '.join(arrays)}: {trial.probe.label}.")


def _which_fields(trial) -> str:
    """For a prediction: which parts are right, without saying what the others should be."""
    got, want = fields(trial.got), fields(trial.want)
    right = [key for key, part in want.items() if key in got and same(got[key], part, trial.tolerance)]
    places = isinstance(trial.want, (tuple, list))  # people count from 1; the keys of a dict are names
    names = [str(key + 1) if places else str(key) for key in right]
    if len(want) == 1 or not right:
        return "That is not it yet." if len(want) == 1 else "None of the parts is right yet."
    return f"Right so far: {', '.join(names)} ({len(right)} of {len(want)})."


def shrink(probe: Probe, fails: Callable[[dict], bool], tries: int = 60) -> dict:
    """The sizes of `probe`, made smaller one by one as long as it `fails`."""
    sizes, again = dict(probe.sizes), True
    while again:
        again = False
        for name, size in list(sizes.items()):
            if isinstance(size, bool) or not isinstance(size, int):
                continue
            for smaller in dict.fromkeys((1, 2, size - 1)):
                if 1 <= smaller < size and tries > 0:
                    tries -= 1
                    if fails(sizes | {name: smaller}):
                        sizes[name], again = smaller, True
                        break
    return sizes


def _show_smallest(exercise, function, answer, trial, seconds, brief) -> None:
    """Expected and got, side by side, on the smallest input found that still goes wrong."""
    library, end = compare.library_of(trial.outcome.args), time.monotonic() + seconds

    def fails(sizes):
        if time.monotonic() > end:
            return False
        try:
            smaller = try_on(exercise, function, trial.probe, sizes, library, min(seconds, 1))
        except Exception:  # a size that the probe or the right answer cannot do
            return False
        return not smaller.failed and not smaller.right and not _complaint(smaller)

    smallest = trial if brief else try_on(exercise, function, trial.probe, shrink(trial.probe, fails), library, seconds)
    got, want = fields(smallest.got), fields(smallest.want)
    if smallest.failed or smallest.right or got.keys() != want.keys():
        _unsteady(answer, trial)
        return
    for key in [key for key in want if not same(got[key], want[key], smallest.tolerance)][:1]:
        part = f", part {key!r}" if key != "" else ""
        if not answer.misconception:
            answer.say(compare.pattern(fields(trial.got)[key], fields(trial.want)[key], trial.sizes))
        answer.say(f"The smallest input found that goes wrong{part}: {smallest}.")
        inputs = [Grid(name, np.asarray(x)) for name, x in zip(exercise.parameters, map(compare.plain, smallest.args))
                  if is_array(x) and x.size and x.size <= 16]  # fmt: skip
        answer.say(inputs)
        if is_array(want[key]) and is_array(got[key]):
            bad = ~compare.near(got[key], want[key], smallest.tolerance)
            digits = _digits(got[key][bad][:100], want[key][bad][:100])
            answer.say([Grid("expected", want[key], digits=digits), Grid("yours", got[key], bad, digits)])
        else:
            answer.say(f"Expected {want[key]}, got {got[key]}.")


def _digits(got, want) -> int:
    """So many that what differs looks different: 4 unless that is too few."""
    alike = lambda digits: any(number(a, digits) == number(b, digits) for a, b in zip(got, want))
    return next((digits for digits in (4, 6, 8) if not alike(digits)), 10)


class _Failed(Exception):
    """Inside a law the function failed: no verdict about the law."""


def _law_broken(exercise, function, answer, seconds, brief, strict=False) -> bool:
    """Look for a law that does not hold, and say so with the smallest input found.

    Where a law's inputs are too much for the function, no verdict is given; if `strict` that counts as broken.
    """
    library, end, failed = compare.library_of(exercise.probes[0].args()), time.monotonic() + CALLS * seconds, []

    def f(*args):
        outcome = call(function, args, seconds)
        if (outcome.error or outcome.late) and reading.torch_is_loaded():
            outcome = call(function, compare.as_library(args, "torch" if library == "numpy" else "numpy"), seconds)
        if outcome.error or outcome.late:
            failed.append(outcome)
            raise _Failed
        return compare.plain(outcome.value)

    def breaks(law, probe, sizes):
        if time.monotonic() > end:
            return False
        try:
            with np.errstate(all="ignore"):
                return not law.holds(f, *probe.args(**sizes))
        except Exception:
            return False

    for law in exercise.laws:
        for probe in [law.probe] if law.probe else exercise.probes:
            if breaks(law, probe, {}):
                answer.kind = "law"
                sizes = probe.sizes if brief else shrink(probe, lambda sizes: breaks(law, probe, sizes))
                shown = Trial(probe, sizes, probe.args(**sizes), None, None, 0)
                answer.say(f"A law does not hold: {law.says}.", f"The smallest input found that breaks it: {shown}.")
                arrays = [(n, compare.plain(x)) for n, x in zip(exercise.parameters, shown.args)]
                answer.say([Grid(name, x) for name, x in arrays if is_array(x) and 0 < x.size <= 64])
                try:
                    got = f(*shown.args)
                    answer.say([Grid("yours", x) for x in fields(got).values() if is_array(x) and x.size])
                except _Failed:
                    pass
                return True
            if failed and strict:
                answer.say(f"It is right on the inputs of the exercise, but not done on those of a law: {law.says}.")
                if failed[0].late:
                    answer.kind = "late"
                    answer.say(f"It was stopped after {seconds:g} s.")
                else:
                    answer.kind = "raised"
                    shown = Trial(probe, probe.sizes, failed[0].args, None, failed[0], 0)
                    _explain_error(exercise, function, answer, shown)
                return True
    if strict and time.monotonic() > end:
        answer.kind = "late"
        answer.say(f"It was stopped: it is right on the inputs of the exercise, but trying the laws took more than "
                   f"{CALLS * seconds:g} s.")  # fmt: skip
        return True
    return False


def _warned(exercise, answer, trials) -> bool:
    if not exercise.silent:
        return False
    for trial in trials:
        for warning in trial.outcome.warned:
            if issubclass(warning.category, RuntimeWarning):
                answer.kind = "warned"
                answer.say("The numbers are right, but on the way NumPy warns, and the task asks for no warning: "
                           f"“{warning.message}” in line {warning.lineno} of the cell, on {trial}.")  # fmt: skip
                return True
    return False


# What is right ---------------------------------------------------------------------------------------------------


def _praise(exercise, function, answer, trials, tree, brief) -> None:
    answer.kind = "right"
    if exercise.is_prediction:
        answer.say("Right, all of it." if len(fields(trials[0].want)) > 1 else "Right.")
        return
    shown = "; ".join(dict.fromkeys(t.probe.label for t in trials))
    answer.say(f"Right on {len(trials)} inputs: {shown}.")
    if exercise.laws:
        answer.say(f"And these laws hold: {'; '.join(law.says for law in exercise.laws)}.")
    if exercise.large and not brief:
        _compare_speed(exercise, function, answer, trials, tree)


def _compare_speed(exercise, function, answer, trials, tree) -> None:
    args = exercise.large.args()
    args = compare.as_library(args, compare.library_of(trials[0].outcome.args))
    theirs = min(call(exercise.answer, exercise.large.args()).seconds for _ in range(5))
    outcome = call(function, args, LIMIT)
    if outcome.late:
        ours = LIMIT
    elif outcome.error:
        return
    else:
        ours = min([outcome.seconds, *(call(function, args, LIMIT).seconds for _ in range(4) if outcome.seconds < 0.5)])
    sizes = ", ".join(f"{name} = {size}" for name, size in exercise.large.sizes.items())
    more = "more than " * outcome.late
    answer.say(f"On {sizes} it takes {more}{1000 * ours:.3g} ms, the book's own {1000 * theirs:.3g} ms.")
    line = reading.loop_line(tree)
    if ours > 20 * theirs and line:
        answer.say(f"It is right, and {more}{ours / theirs:.0f} times slower: the loop in line {line} does step by "
                   f"step what arrays do at once. {exercise.product}".rstrip())  # fmt: skip
