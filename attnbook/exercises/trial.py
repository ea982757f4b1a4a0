"""What a function made of a probe, and which misconceptions that shows."""

import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np

from attnbook.exercises import compare, reading
from attnbook.exercises.compare import fields, is_array, same
from attnbook.exercises.sandbox import Outcome, call
from attnbook.exercises.table import Exercise, Probe, Wrong

LIMIT = 5.0  # seconds for one call


@dataclass
class Trial:
    """A probe, what is right on it, and what the function made of it."""

    probe: Probe
    sizes: dict
    args: tuple
    want: object  # plain
    outcome: Outcome
    tolerance: float

    @cached_property
    def got(self):
        return compare.plain(self.outcome.value)

    @property
    def failed(self) -> bool:
        return self.outcome.late or self.outcome.error is not None

    def complains(self, sizes: bool) -> tuple:
        """The type of the error and what its message says: words without quoted names, and the numbers if asked for."""
        words, numbers = self._complaint
        return words, numbers if sizes else ()

    @cached_property
    def _complaint(self) -> tuple:
        error = self.outcome.error
        if error is None:
            return (), ()
        message = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\btorch\.", " ", reading.in_words(error)[:500])
        return (type(error), *re.findall(r"[^\W\d]{3,}", message)), tuple(re.findall(r"\d+", message))

    @cached_property
    def right(self) -> bool:
        return not self.failed and not self.outcome.changed and same(self.got, self.want, self.tolerance)

    def __str__(self):
        sizes = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        if not self.probe.label:
            return sizes
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
    for wrong in pairs:
        if all(_alike(mine, its, sizes=False) for mine, its in pairs[wrong]):
            return [wrong]
    # Written in another way it may fail differently where it fails. It must be right on the same probes, and on one
    # at least give the very numbers of the misconception.
    loose = [w for w in pairs if all(mine.right == its.right for mine, its in pairs[w])]
    shared = {w: sum(_same_numbers(mine, its) for mine, its in pairs[w]) for w in loose}
    best = max(shared, key=shared.get, default=None)
    if best and shared[best]:
        return [best]
    # Two mistakes at once: each shows as it is where the other does no harm.
    whole = [w for w in pairs if all(_alike(mine, its, sizes=False) for mine, its in pairs[w] if not its.right)]
    harm = {w: {i for i, (_, its) in enumerate(pairs[w]) if not its.right} for w in whole}
    all_harm = {i for i, mine in enumerate(trials) if not mine.right}
    both = [(one, other) for i, other in enumerate(whole) for one in whole[:i] if harm[one] | harm[other] == all_harm]
    return list(both[0]) if both else []


@cache
def wrong_trials(exercise: Exercise, wrong: Wrong) -> list[Trial]:
    return [try_on(exercise, function, probe) for function in wrong.functions for probe in exercise.probes]


def _alike(mine: Trial, its: Trial, sizes: bool = True) -> bool:
    """The same result; or the same kind of error with the same message, whatever names and, unless `sizes`, numbers."""
    if mine.failed or its.failed:
        if mine.outcome.late or its.outcome.late:
            return mine.outcome.late and its.outcome.late
        return mine.complains(sizes) == its.complains(sizes)
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
