'''Exercises that answer back.

    from attnbook.exercises import check, hint, progress, solution

    check("03.scores", scores_of)    what is right or wrong with the reader's function, and why
    hint("03.scores")                one more hint at each call
    solution("03.scores")            the solution, when asked twice
    progress()                       what is done so far

How to write an exercise. The exercises of chapter NN stand in chNN.py, in the order of the notebook, and where that
grows beyond 450 lines in chNNb.py and so on. Each is an `Exercise`, followed by its misconceptions and by other right
answers, all of them plain functions:

    def scores_of(q, k):                                         # the solution, named as in the notebook's stub
        return q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])

    def queries_keys(rng, n_q, n_kv, d_k, batch=()):             # makes the arguments; rng is seeded
        return rng.standard_normal((*batch, n_q, d_k)), rng.standard_normal((*batch, n_kv, d_k))

    scores = Exercise(
        "03.scores", "One line", task="the scaled scores of every query with every key.",
        solution=scores_of, answer=functional.scaled_scores,     # what is right comes from the package
        probes=[Probe("one query and one key", queries_keys, n_q=1, n_kv=1, d_k=4),
                Probe("a batch", queries_keys, n_q=2, n_kv=3, d_k=5, batch=(4,))],
        laws=[Law("twice the query gives twice the score", lambda f, q, k: close(f(2 * q, k), 2 * f(q, k)))],
        large=Probe("", queries_keys, n_q=300, n_kv=300, d_k=64), product="`q @ k.mT` is all the dot products.",
        hints=["…", "…"],
    )

    @scores.wrong("Your scores are √d_k times too large: the division is missing.", "Make the scores smaller")
    def not_scaled(q, k):                                        # the name is the misconception's name
        return q @ np.swapaxes(k, -1, -2)

    @scores.right
    def with_einsum(q, k):
        return np.einsum("...id,...jd->...ij", q, k) / q.shape[-1] ** 0.5

Probes must tell the misconceptions apart from what is right and from each other (tests/test_exercises.py looks):
sizes that all differ and sizes that are all alike (where no shape can clash), a batch, large scores, a single token.
`wrong` takes the sentence for the person who wrote it (what is off and how to see it, not the solution) and a heading
of the chapter to read again, or "1 · Many plates at once" for one of another chapter. A misconception may raise, give
NaN, a wrong shape, or change its argument: what counts is that it fails as the reader's function would (with the same
type of error, and the same message but for names in quotation marks and, if nothing fits better, numbers). It is
recognised if it is right on the same probes as the reader's and gives the same wrong numbers on one at least.

One that is the solution but for a slip of the pen may be written as that slip, in the solution's own text:

    scores.slip("multiplied", {" / math": " * math"}, "You multiply by √d_k: divide.", "Make the scores smaller")

`broken=` makes a repair: the function as the notebook has it. No `probes` make a prediction, a function without
arguments, whose parts (of a tuple or a dict) are judged one by one: a misconception returns the right parts and a
wrong one, or is a generator of several such answers (`yield from shape_of.but("q", (4, 10), (10, 4))`, where
`shape_of` is the exercise). `silent=True` forbids warnings. A reader may answer in NumPy or torch, in float64 or
float32. Arguments of probes may be anything that `copy.deepcopy` copies, modules included.

`python tools/exercise_report.py 03` lists mutants of the solution, one slip of the pen each, and what is said to them:
those that are not named are misconceptions still to be written. Without arguments it writes the book's figures.
'''

from attnbook.exercises.table import Exercise, Law, Probe, chapters, everything, find

__all__ = ["check", "hint", "solution", "progress", "Exercise", "Law", "Probe", "close"]

_asked = set()  # the solutions that were asked for once, in this kernel


def close(a, b, tolerance: float = 1e-5) -> bool:
    """For laws: two arrays agree, as closely as float32 would."""
    from attnbook.exercises.compare import plain, same

    return same(plain(a), plain(b), tolerance)


def check(name: str, function):
    """What the book has to say about `function`, the reader's answer to the exercise `name`, e.g. "03.scores".

    Returns an answer to look at, which is true if the exercise is passed. Raises ValueError (no such exercise) or
    TypeError (not a function).
    """
    from attnbook.exercises import record
    from attnbook.exercises.judge import judge

    exercise = find(name)
    if not callable(function):
        if not exercise.is_prediction:
            call = f"check({name!r}, {exercise.solution.__name__})"
            raise TypeError(f"function must be a function, got {type(function).__name__}; write {call}, without ()")
        value = function
        function = lambda: value  # noqa: E731  a prediction may be given as it is
    answer = judge(exercise, function)
    if answer.kind != "untouched":
        changes = {"last": answer.kind, "misconception": answer.misconception}
        answer.say(record.update(name, tries=lambda n: n + 1, passed=lambda was: was or answer.passed, **changes))
    return answer


def hint(name: str):
    """The hints of an exercise: one more at each call, those before it too."""
    from attnbook.exercises import record
    from attnbook.exercises.answer import Answer

    exercise = find(name)
    known, damaged = record.read()
    seen = min(known.get(name, record.NEW)["hints"] + 1, len(exercise.hints))
    note = record.update(name, hints=seen) or damaged
    answer = Answer(f"{exercise}: hint {seen} of {len(exercise.hints)}", "note", name)
    answer.say(*(f"{i}. {text}" for i, text in enumerate(exercise.hints[:seen], 1)))
    last = f"That was the last one. `solution({name!r})` shows a solution."
    return answer.say(last if seen == len(exercise.hints) else "", note)


def solution(name: str):
    """The solution of an exercise; it asks once whether you mean it, unless the exercise is passed."""
    from attnbook.exercises import record
    from attnbook.exercises.answer import Answer

    exercise = find(name)
    known, damaged = record.read()
    if name not in _asked and not known.get(name, record.NEW)["passed"]:
        _asked.add(name)
        answer = Answer(f"{exercise}: shall I show the solution?", "note", name)
        return answer.say(f"Once seen, it cannot be unseen. `hint({name!r})` says less; the same call again shows it.",
                          damaged)  # fmt: skip
    return Answer(f"{exercise}: a solution", "note", name).say(("code", exercise.source.rstrip()), damaged)


def progress():
    """A small table of what is done."""
    from attnbook.exercises.board import Progress

    return Progress()
