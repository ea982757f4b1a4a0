"""The quiz: questions that answer back, with a sentence of its own for each wrong answer.

The page judges for itself (quiz.js), with or without a kernel; Python judges again what the reader has answered, so
that a notebook cell can read it.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import traitlets

from ._base import Explorer, Result, _Input, _short

FEWEST, MOST = 2, 12  # options of a choice, steps of an order
BLANK = {"draft": None, "answer": None, "tried": [], "shown": False}


# Questions ------------------------------------------------------------------------------------------------------
#
# Each knows how it is told to the page (`page`), what an answer from there means (`reads`), and whether that is
# right (`accepts`). A text may hold `code` in backticks; it is never HTML.


@dataclass(frozen=True)
class Choice:
    """One of several answers, or several of them: `options` maps each text to True or to why it is wrong.

    With one right option the reader picks one, with more the reader ticks all that are right. The order on the page
    is shuffled, the same everywhere and always. `why` is said once the answer is right.
    Raises ValueError naming the option that is neither True nor explained.
    """

    question: str
    options: Mapping[str, bool | str]
    why: str = ""

    def __post_init__(self):
        _text("question", self.question)
        _text("why", self.why, may_be_empty=True)
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a dict, text → True or why it is wrong, got {_short(self.options)}")
        _texts("options", self.options)
        tidy = {}
        for text, truth in self.options.items():
            explained = isinstance(truth, str) and truth.strip()
            if not explained and not (isinstance(truth, (bool, np.bool_)) and truth):
                raise ValueError(f"option {text!r} must be True or the sentence that says why not, got {_short(truth)}")
            tidy[text] = _text(f"option {text!r}", truth) if explained else True
        object.__setattr__(self, "options", tidy)
        if not self.right:
            raise ValueError(f"one of the options must be True, got none: {_short(list(tidy))}")

    @property
    def right(self) -> tuple[str, ...]:
        return tuple(text for text, truth in self.options.items() if truth is True)

    def page(self) -> dict:
        shown = [(text, self.options[text]) for text in _shuffled(self.question, self.options)]
        options = [{"text": text, "why": None if truth is True else truth} for text, truth in shown]
        several = len(self.right) > 1
        return {"kind": "choice", "text": self.question, "why": self.why, "options": options, "several": several}

    def reads(self, answer) -> str | tuple[str, ...]:
        shown = _shuffled(self.question, self.options)
        chosen = {shown[i] for i in _places(answer, len(shown))}
        if not chosen or (len(self.right) == 1 and len(chosen) > 1):
            raise ValueError("one option" if len(self.right) == 1 else "one option or more")
        texts = tuple(text for text in self.options if text in chosen)
        return texts[0] if len(self.right) == 1 else texts

    def accepts(self, answer) -> bool:
        return answer == (self.right[0] if len(self.right) == 1 else self.right)


@dataclass(frozen=True)
class Number:
    """A number to type; the answer and the keys of `wrong` may be computed (NumPy and torch scalars too).

    An answer is right within `tolerance` (an absolute distance; without one, a millionth of the answer). `wrong` maps
    numbers that a misunderstanding leads to, to what to say; a rounded one is recognised too. For all others the page
    says what can be said of any number: its sign, a factor, its rounding. The reader may write a decimal comma, a
    fraction such as 1/3, thousands apart, and the `unit` behind. `why` is said once the answer is right.
    Raises ValueError naming what is not a finite number, or a wrong number that would be right.
    """

    question: str
    answer: float
    wrong: Mapping[float, str] = field(default_factory=dict)
    tolerance: float | None = None
    unit: str = ""
    why: str = ""

    def __post_init__(self):
        _text("question", self.question)
        _text("why", self.why, may_be_empty=True)
        _text("unit", self.unit, may_be_empty=True)
        answer = _number("answer", self.answer)
        near = 1e-6 * (abs(answer) or 1) if self.tolerance is None else _number("tolerance", self.tolerance)
        if near < 0:
            raise ValueError(f"tolerance must be at least 0, got {near:g}")
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "tolerance", near)
        if not isinstance(self.wrong, Mapping):
            raise ValueError(f"wrong must be a dict, number → what to say, got {_short(self.wrong)}")
        tidy = {_number("wrong", x): _text(f"wrong[{x}]", sentence) for x, sentence in self.wrong.items()}
        for x in tidy:
            if self.accepts(x):
                raise ValueError(f"wrong[{x:g}] is right: it is within {near:g} of the answer {answer:g}")
        object.__setattr__(self, "wrong", tidy)

    def page(self) -> dict:
        wrong = [[x, sentence] for x, sentence in self.wrong.items()]
        return {
            "kind": "number", "text": self.question, "why": self.why, "answer": self.answer, "wrong": wrong,
            "tolerance": self.tolerance, "unit": self.unit,
        }  # fmt: skip

    def reads(self, answer) -> float:
        return _number("answer", answer)

    def accepts(self, answer) -> bool:
        # Room for a double's last digits, so that a tolerance of 0.1 takes 0.4 for 0.3.
        return abs(answer - self.answer) <= self.tolerance * (1 + 1e-9) + 1e-12 * abs(self.answer)


@dataclass(frozen=True)
class Order:
    """Steps to bring into order: `steps` are given in the right one, and shown shuffled, never in it.

    `wrong` maps pairs (earlier, later), as a reader may wrongly have them, to why that is wrong; other mistakes are
    told by the nearest pair the wrong way round. `either` lists pairs that may stand either way. `why` is said once
    the order is right.
    Raises ValueError naming a pair of unknown steps, or one that is not the wrong way round.
    """

    question: str
    steps: Iterable[str]
    wrong: Mapping[tuple[str, str], str] = field(default_factory=dict)
    either: Iterable[tuple[str, str]] = ()
    why: str = ""

    def __post_init__(self):
        _text("question", self.question)
        _text("why", self.why, may_be_empty=True)
        object.__setattr__(self, "steps", _texts("steps", self.steps))
        object.__setattr__(self, "either", tuple(self._pair("either", pair) for pair in self.either))
        if not isinstance(self.wrong, Mapping):
            raise ValueError(f"wrong must be a dict, (earlier, later) → why not, got {_short(self.wrong)}")
        tidy = {self._pair("wrong", pair): _text(f"wrong[{pair}]", why) for pair, why in self.wrong.items()}
        for early, late in tidy:
            if not self._inverted(early, late):
                raise ValueError(f"wrong[{early!r}, {late!r}] is right: {early!r} may stand before {late!r}")
        object.__setattr__(self, "wrong", tidy)
        if not any(self._inverted(late, early) for i, early in enumerate(self.steps) for late in self.steps[i:]):
            raise ValueError("either leaves no pair of steps whose order matters")

    def _pair(self, name: str, pair) -> tuple[str, str]:
        if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(self.steps):
            raise ValueError(f"{name} must have pairs of two of the steps {list(self.steps)}, got {_short(pair)}")
        return pair

    def _inverted(self, early: str, late: str) -> bool:
        """Is it wrong that `early` stands before `late`?"""
        free = (early, late) in self.either or (late, early) in self.either
        return not free and self.steps.index(early) > self.steps.index(late)

    @property
    def shown(self) -> tuple[str, ...]:
        shuffled = tuple(_shuffled(self.question, self.steps))
        return shuffled[::-1] if self.accepts(shuffled) else shuffled

    def page(self) -> dict:
        at = self.shown.index
        return {
            "kind": "order", "text": self.question, "why": self.why, "steps": list(self.shown),
            "right": [at(step) for step in self.steps], "either": [[at(a), at(b)] for a, b in self.either],
            "wrong": [[at(a), at(b), sentence] for (a, b), sentence in self.wrong.items()],
        }  # fmt: skip

    def reads(self, answer) -> tuple[str, ...]:
        shown = self.shown
        places = _places(answer, len(shown))
        if len(places) != len(shown):
            raise ValueError(f"an order of all {len(shown)} steps")
        return tuple(shown[i] for i in places)

    def accepts(self, answer) -> bool:
        pairs = ((early, late) for i, early in enumerate(answer) for late in answer[i + 1 :])
        return not any(self._inverted(early, late) for early, late in pairs)


QUESTIONS = (Choice, Number, Order)


def _text(name: str, text, may_be_empty: bool = False) -> str:
    if not isinstance(text, str) or not (may_be_empty or text.strip()):
        raise ValueError(f"{name} must be a text, got {_short(text)}")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{name} must be without lone surrogates, which no message can carry, got {_short(text)}")
    return text


def _texts(name: str, texts) -> tuple[str, ...]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ValueError(f"{name} must be texts, got {_short(texts)}")
    texts = tuple(_text(f"each of the {name}", text) for text in texts)
    if not FEWEST <= len(texts) <= MOST or len(set(texts)) < len(texts):
        raise ValueError(f"{name} must be {FEWEST} to {MOST} different texts, got {_short(list(texts))}")
    return texts


def _number(name: str, value) -> float:
    number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {_short(value)}")
    return float(number)


def _places(answer, count: int) -> list[int]:
    """Different places in a list of `count`, as the page sends them."""
    whole = isinstance(answer, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in answer)
    if not whole or len(set(answer)) < len(answer) or not all(0 <= i < count for i in answer):
        raise ValueError(f"different places from 0 to {count - 1}")
    return answer


def _shuffled(question: str, texts: Iterable[str]) -> list[str]:
    """By a hash of each text with the question: the same on every machine, and not by the place it had."""
    return sorted(texts, key=lambda text: hashlib.blake2b(f"{question}\n{text}".encode(), digest_size=8).digest())


# The quiz ---------------------------------------------------------------------------------------------------------


class _Questions(_Input):
    """Questions travel to the browser only: what it sends back for them is not heard."""

    def __init__(self, help: str):
        super().__init__((), help=help)
        self.tag(to_json=lambda value, _: [question.page() for question in value])
        self.tag(from_json=lambda _, quiz: quiz.questions)

    def validate(self, obj, value):
        questions = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
        odd = next((each for each in questions if not isinstance(each, QUESTIONS)), None)
        if not questions or odd is not None:
            expected = "one question or more, each a Choice, a Number or an Order"
            raise self.refuse(expected, "none" if odd is None else _short(odd))
        return questions


class _Record(_Input):
    """For each question: the draft, the answer last checked, the wrong ones before, and whether it was shown."""

    def __init__(self, help: str):
        super().__init__((), help=help)
        self.tag(to_json=lambda value, _: [dict(entry) for entry in value], from_json=lambda value, _: value)

    def validate(self, obj, value):
        if not isinstance(value, (list, tuple)) or not all(
            isinstance(entry, dict)
            and entry.keys() == BLANK.keys()
            and (entry["draft"] is None or isinstance(entry["draft"], (str, list)))
            and isinstance(entry["tried"], list)
            and isinstance(entry["shown"], bool)
            for entry in value
        ):
            raise self.refuse(f"one {{{', '.join(BLANK)}}} for each question", _short(value))
        return tuple(dict(entry) for entry in value)


class Quiz(Explorer):
    """Questions with feedback at once: `Quiz(Choice(…), Number(…), Order(…), title="…")`.

    After an answer, `.answers` has for each question what the reader last checked (a text or several, a number, the
    steps in the reader's order; None before), `.correct` whether that is right (None before; False for one that was
    given up and shown), and `.tries` how many answers were checked. All can be observed. `reset()` starts again.
    """

    module = "quiz"

    title = traitlets.Unicode("Check yourself", help="what stands above").tag(sync=True)
    questions = _Questions("Choice, Number and Order questions")
    record = _Record("what the reader has done, as the page keeps it")
    answers = Result("record", "the answer last checked to each question, or None")
    correct = Result("record", "is that answer right? None before there is one")
    tries = Result("record", "how many answers to each question were checked")

    def __init__(self, *questions, title="Check yourself", **kwargs):
        super().__init__(questions=questions, title=title, **kwargs)

    def reset(self):
        """Forget what the reader answered."""
        self.record = [dict(BLANK) for _ in self.questions]

    @traitlets.observe("questions")
    def _begin(self, _change=None):
        self.reset()

    @traitlets.validate("record")
    def _readable(self, proposal):
        if len(proposal.value) != len(self.questions):
            raise traitlets.TraitError(
                f"record must be one entry for each of the {len(self.questions)} questions, got {len(proposal.value)}"
            )
        for question, entry in zip(self.questions, proposal.value):
            for answer in [*entry["tried"], *([] if entry["answer"] is None else [entry["answer"]])]:
                try:
                    question.reads(answer)
                except ValueError as expected:
                    raise traitlets.TraitError(
                        f"record must hold answers to {_short(question.question)}: {expected}, got {_short(answer)}"
                    ) from None
        return proposal.value

    @traitlets.observe("record")
    def _judge(self, _change=None):
        answers, correct, tries = [], [], []
        for question, entry in zip(self.questions, self.record):
            answer = None if entry["answer"] is None else question.reads(entry["answer"])
            right = answer is not None and question.accepts(answer)
            answers.append(answer)
            correct.append(right if answer is not None or entry["shown"] else None)
            tries.append(len(entry["tried"]) + right)
        self._publish(answers=tuple(answers), correct=tuple(correct), tries=tuple(tries))

    def _summary(self) -> str:
        n = len(self.questions)
        return f"{self.title!r}, {n} question{'s' * (n != 1)}"
