"""Try a function on an exercise's probes and say what came of it, in the order in which a helpful person would."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from attnbook.exercises import compare, reading
from attnbook.exercises.answer import Answer, Grid
from attnbook.exercises.compare import fields, is_array, same
from attnbook.exercises.sandbox import Outcome, call
from attnbook.exercises.table import Exercise, Probe, Wrong

NOTHING = (type(None), type(...))  # what a stub returns
LIMIT = 5.0  # seconds for one call; a check takes no more than four times that


@dataclass
class Trial:
    """A probe, what is right on it, and what the function made of it."""

    probe: Probe
    sizes: dict
    args: tuple
    want: object  # plain
    outcome: Outcome
    tolerance: float

    @property
    def got(self):
        return compare.plain(self.outcome.value)

    @property
    def failed(self) -> bool:
        return self.outcome.late or self.outcome.error is not None

    @property
    def right(self) -> bool:
        return not self.failed and not self.outcome.changed and same(self.got, self.want, self.tolerance)

    def __str__(self):
        sizes = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        if self.sizes != self.probe.sizes:
            return f"{sizes} (made smaller from “{self.probe.label}”)"
        return f"{self.probe.label} ({sizes})" if sizes else self.probe.label


def try_on(exercise: Exercise, function, probe: Probe, sizes: dict = {}, library="", seconds=LIMIT, seed=0) -> Trial:
    args, want, inexact = _case(exercise, probe, tuple(sizes.items()), seed)
    if library not in ("", compare.library_of(args)):
        args = compare.as_library(args, library)
    outcome = call(function, args, seconds)
    single = compare.precision(compare.plain(outcome.value)) == 32 and compare.precision(want) == 64
    tolerance = max(exercise.tolerance, 1e-4, 8 * inexact) if single else exercise.tolerance
    return Trial(probe, probe.sizes | sizes, args, want, outcome, tolerance)


@lru_cache(maxsize=1000)
def _case(exercise: Exercise, probe: Probe, sizes: tuple, seed: int) -> tuple:
    """Arguments, what is right, and how far the right answer itself is off in float32."""
    args = probe.args(seed, **dict(sizes))
    with np.errstate(all="ignore"):
        want = compare.plain(exercise.answer(*args))
        single = compare.as_library(args, compare.library_of(args), single=True)
        return args, want, _distance(compare.plain(exercise.answer(*single)), want)


def _distance(got, want) -> float:
    """The largest difference between two plain values, relative to the largest number."""
    far = 0.0
    for key, part in fields(want).items():
        if is_array(part) and part.dtype.kind == "f":
            scale = max(np.abs(part[np.isfinite(part)]).max(initial=0), 1e-3)
            far = max(far, float(np.nan_to_num(np.abs(fields(got)[key] - part)).max(initial=0)) / scale)
    return far


def judge(exercise: Exercise, function: Callable, brief: bool = False, seconds: float = LIMIT) -> Answer:
    """Try `function` and say what is to be said; `brief` spares the search for the smallest input and the timing."""
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
    elif not _law_broken(exercise, function, answer, seconds, brief) and not _warned(exercise, answer, trials):
        _praise(exercise, function, answer, trials, tree, brief)
    if printed:
        answer.say("It printed:", ("code", printed[:2000].rstrip()))
    return answer


def _trials(exercise, function, seconds) -> list[Trial]:
    """The function on every probe, in the library of the probes; in the other one, if only that goes without error."""

    def run(library):
        trials, end = [], time.monotonic() + 4 * seconds
        for probe in exercise.probes:
            trials.append(try_on(exercise, function, probe, library=library, seconds=seconds))
            if trials[-1].outcome.late or time.monotonic() > end:
                break
        return trials

    trials = run("")
    if any(t.outcome.error for t in trials) and reading.torch_is_loaded():
        other = run({"numpy": "torch", "torch": "numpy"}[compare.library_of(trials[0].args)])
        if not any(t.failed for t in other):
            return other
    return trials


def _size(trial: Trial) -> int:
    return sum(getattr(np.asarray(compare.plain(x)), "size", 1) for x in trial.args)


def _untouched(exercise, answer) -> Answer:
    what = "Repair" if exercise.broken else "Write"
    where = "the code is still as it was given" if exercise.broken else "replace the `...`"
    return answer.say(
        f"Not attempted yet. {what} `{exercise.signature}`: {exercise.task}",
        f"In its cell {where}, then run that cell and this check again. `hint(\"{exercise.name}\")` helps.",
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
        answer.say(f"There is {kind} in the result on this input: {infinite[0]}.")
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
        answer.kind = "misconception" if found else "wrong"
        answer.say(_which_fields(trials[0]))
    elif found or answer.kind == "nan" or not _law_broken(exercise, function, answer, seconds, brief):
        answer.kind = "wrong" if answer.kind == "untouched" else answer.kind
        _show_smallest(exercise, function, answer, bad[0], seconds, brief)


def _complaint(trial: Trial):
    if not trial.args and isinstance(trial.want, (tuple, dict)) and type(trial.got) is type(trial.want):
        same_parts = fields(trial.got).keys() == fields(trial.want).keys()
        if same_parts:  # a prediction: what its parts should be is not to be given away
            return None
    return compare.complaint(trial.got, trial.want, trial.outcome.value, trial.sizes)


def _reread(exercise, wrong: Wrong) -> str:
    number, dot, heading = wrong.reread.rpartition(" · ")
    return f"Read again: “{heading}” in chapter {number}." if dot else f"Read again: “{heading}”." if heading else ""


def _explain_error(exercise, function, answer, trial) -> None:
    error = trial.outcome.error
    line = reading.own_line(error, function)
    if line:
        answer.say(f"It stops with an error in line {line[0]} of its cell:", ("code", line[1]))
    else:
        answer.say(f"It cannot be called as the exercise calls it, `{exercise.signature}`.")
    answer.say(f"{type(error).__name__}: {str(error) or 'no message'}")
    if not answer.misconception:  # whose sentence says more
        answer.say(reading.meaning(error))
    arrays = [f"`{name}` {tuple(x.shape)}" for name, x in zip(exercise.parameters, trial.args) if hasattr(x, "shape")]
    if arrays:
        answer.say(f"The input was {', '.join(arrays)}: {trial.probe.label}.")


def _which_fields(trial) -> str:
    """For a prediction: which parts are right, without saying what the others should be."""
    got, want = fields(trial.got), fields(trial.want)
    right = [key for key, part in want.items() if key in got and same(got[key], part, trial.tolerance)]
    names = [str(key + 1) if isinstance(key, int) else str(key) for key in right]
    if len(want) == 1 or not right:
        return "That is not it yet." if len(want) == 1 else "None of the parts is right yet."
    return f"Right so far: {', '.join(names)} ({len(right)} of {len(want)})."


def recognise(exercise: Exercise, trials: list[Trial]) -> list[Wrong]:
    """The misconceptions that the trials show: several of a prediction, whose parts are judged one by one."""
    if exercise.is_prediction:
        return [w for w in exercise.wrongs if any(_predicts(trials[0], its) for its in wrong_trials(exercise, w))]
    if len(trials) < len(exercise.probes):  # it was stopped
        return []
    pairs = {w: list(zip(trials, wrong_trials(exercise, w))) for w in exercise.wrongs}
    for wrong in pairs:
        if all(_alike(mine, its) for mine, its in pairs[wrong]):
            return [wrong]
    # Written in another way it may fail differently where it fails. It must be right on the same probes, and on one
    # at least give the very numbers of the misconception.
    loose = [w for w in pairs if all(mine.right == its.right for mine, its in pairs[w])]
    shared = {w: sum(_same_numbers(mine, its) for mine, its in pairs[w]) for w in loose}
    best = max(shared, key=shared.get, default=None)
    if best and shared[best]:
        return [best]
    # Two mistakes at once: each shows as it is where the other does no harm.
    whole = [w for w in pairs if all(_alike(mine, its) for mine, its in pairs[w] if not its.right)]
    harm = {w: {i for i, (_, its) in enumerate(pairs[w]) if not its.right} for w in whole}
    all_harm = {i for i, mine in enumerate(trials) if not mine.right}
    both = [(one, other) for i, other in enumerate(whole) for one in whole[:i] if harm[one] | harm[other] == all_harm]
    return list(both[0]) if both else []


@cache
def wrong_trials(exercise: Exercise, wrong: Wrong) -> list[Trial]:
    return [try_on(exercise, function, probe) for function in wrong.functions for probe in exercise.probes]


def _alike(mine: Trial, its: Trial) -> bool:
    if mine.failed or its.failed:
        return mine.outcome.late == its.outcome.late and type(mine.outcome.error) is type(its.outcome.error)
    return mine.outcome.changed == its.outcome.changed and same(mine.got, its.got, mine.tolerance)


def _same_numbers(mine: Trial, its: Trial) -> bool:
    """The very numbers of the misconception, and wrong ones: no NaN, not what is right but for a changed argument."""
    if mine.right or mine.failed or its.failed or not compare.finite(its.got) or same(its.got, its.want, its.tolerance):
        return False
    return same(mine.got, its.got, mine.tolerance)


def _predicts(mine: Trial, its: Trial) -> bool:
    if mine.failed or its.failed or type(mine.got) is not type(its.want):
        return False
    wrong = {k: part for k, part in fields(its.got).items() if not same(part, fields(its.want).get(k), its.tolerance)}
    return all(k in fields(mine.got) and same(fields(mine.got)[k], part, mine.tolerance) for k, part in wrong.items())


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
    library = compare.library_of((trial.outcome.args))

    def fails(sizes):
        try:
            smaller = try_on(exercise, function, trial.probe, sizes, library, min(seconds, 1))
        except Exception:  # a size that the probe or the right answer cannot do
            return False
        return not smaller.failed and not smaller.right and not _complaint(smaller)

    smallest = trial if brief else try_on(exercise, function, trial.probe, shrink(trial.probe, fails), library, seconds)
    got, want = fields(smallest.got), fields(smallest.want)
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
            answer.say([Grid("expected", want[key]), Grid("yours", got[key], bad)])
        else:
            answer.say(f"Expected {want[key]}, got {got[key]}.")


class _Failed(Exception):
    """Inside a law the function failed: no verdict about the law."""


def _law_broken(exercise, function, answer, seconds, brief) -> bool:
    """Look for a law that does not hold, and say so with the smallest input found."""
    library = compare.library_of(exercise.probes[0].args())

    def f(*args):
        outcome = call(function, args, seconds)
        if (outcome.error or outcome.late) and reading.torch_is_loaded():
            outcome = call(function, compare.as_library(args, "torch" if library == "numpy" else "numpy"), seconds)
        if outcome.error or outcome.late:
            raise _Failed
        return compare.plain(outcome.value)

    def breaks(law, probe, sizes):
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
