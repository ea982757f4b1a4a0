"""Dates as people write them, to be turned into ISO dates: "the third of march 1998" → "1998-03-03".

A toy translation whose alignment is known: each digit of the ISO date is decided by one word of the source, and
nothing decides the hyphens. The words come in a different order in each written form, so that the right word cannot
be found by its place. Source tokens are words, target tokens are characters.

Every fifth day is held out: its date is never in a training batch, in no form, though each of its words is.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attnbook.masks import _integer

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)

MONTHS = "january february march april may june july august september october november december".split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
TO_NINTH = "first second third fourth fifth sixth seventh eighth ninth".split()
TO_NINETEENTH = ("tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth "
                 "nineteenth").split()
NTH = [*TO_NINTH, *TO_NINETEENTH, "twentieth", *(f"twenty-{nth}" for nth in TO_NINTH), "thirtieth", "thirty-first"]

FORMS = (
    "{day} {month} {year}",
    "{month} {day} , {year}",
    "{mon} {day} {year}",
    "{weekday} , {day} {mon} {year}",
    "the {nth} of {month} {year}",
    "{weekday} the {nth} of {month} {year}",
    "in {year} , on {month} the {nth}",
    "on the {nth} of {month} in {year}",
)
DECIDES = {"year": "year", "month": "month", "mon": "month", "day": "day", "nth": "day"}  # field of a form → part
PARTS = ["year"] * 4 + [None] + ["month"] * 2 + [None] + ["day"] * 2  # which part each character of the ISO date tells

PAD = 0  # the source token that fills a batch up
SOURCE = ["·", ",", "the", "of", "in", "on", *WEEKDAYS, *MONTHS, *(m[:3] for m in MONTHS if m != "may"),
          *NTH, *map(str, range(1, 32)), *map(str, range(FIRST.year, LAST.year + 1))]
TARGET = [*"0123456789-", "▸"]
START = TARGET.index("▸")  # what the decoder is given before it has written anything

_FIELDS = [[piece.strip("{}") for piece in form.split()] for form in FORMS]
_FIELDS = [(fields, [DECIDES.get(field) for field in fields]) for fields in _FIELDS]
_SOURCE_ID = {word: i for i, word in enumerate(SOURCE)}
_TARGET_ID = {character: i for i, character in enumerate(TARGET)}


class Written(NamedTuple):
    """One date: its words, its ISO date, and for each character of that the indices of the words that decide it."""

    source: list[str]
    target: str
    gold: list[set[int]]


class Batch(NamedTuple):
    """Dates as tensors. `gold` is True where word j decides character i; a hyphen's row is all False."""

    source: Int[Tensor, "batch n_source"]
    lengths: Int[Tensor, "batch"]
    target: Int[Tensor, "batch 10"]
    gold: Bool[Tensor, "batch 10 n_source"]


def write(day: date, form: int = 0) -> Written:
    """`day` in the written form FORMS[form]. Raises ValueError if the day or the form is not one of this task's."""
    if type(day) is not date or not FIRST <= day <= LAST:
        raise ValueError(f"day must be a date from {FIRST} to {LAST}, got {day!r}")
    if _integer("form", form, 0) >= len(FORMS):
        raise ValueError(f"form must be an index of the {len(FORMS)} forms, got {form}")
    month = MONTHS[day.month - 1]
    words = {"day": str(day.day), "nth": NTH[day.day - 1], "month": month, "mon": month[:3], "year": str(day.year),
             "weekday": WEEKDAYS[day.weekday()]}
    fields, told = _FIELDS[form]
    gold = [{i for i, part in enumerate(told) if part and part == wanted} for wanted in PARTS]
    return Written([words.get(field, field) for field in fields], day.isoformat(), gold)


def is_held_out(day: date) -> bool:
    """Whether `day` is kept from training."""
    return day.toordinal() % 5 == 0


def collate(written: Sequence[Written]) -> Batch:
    """Several dates as one batch, filled up with PAD to the longest. Raises ValueError if there are none."""
    if not written:
        raise ValueError("written must hold at least one date, got none")
    lengths = [len(w.source) for w in written]
    longest = max(lengths)
    source = [[*_ids("source", w.source, _SOURCE_ID), *[PAD] * (longest - n)] for w, n in zip(written, lengths)]
    target = [_ids("target", w.target, _TARGET_ID) for w in written]
    gold = [[[j in decided_by for j in range(longest)] for decided_by in w.gold] for w in written]
    return Batch(*map(torch.tensor, (source, lengths, target, gold)))


def batch(n: int, generator: torch.Generator, held_out: bool = False) -> Batch:
    """`n` days drawn with `generator`, each in a form drawn at random; `held_out` draws the days kept from training.

    The same generator state gives the same batch on every machine. Raises ValueError if n is below 1.
    """
    days = _days(held_out)
    n = _integer("n", n, 1)
    picks = torch.randint(len(days), (n,), generator=generator).tolist()
    forms = torch.randint(len(FORMS), (n,), generator=generator).tolist()
    return collate([write(days[pick], form) for pick, form in zip(picks, forms)])


def source_ids(words: Sequence[str]) -> Int[Tensor, "n"]:
    """The words' indices in SOURCE. Raises ValueError naming the first that is not there."""
    return torch.tensor(_ids("words", words, _SOURCE_ID), dtype=torch.long)


def target_ids(characters: Sequence[str]) -> Int[Tensor, "n"]:
    """The characters' indices in TARGET. Raises ValueError naming the first that is not there."""
    return torch.tensor(_ids("characters", characters, _TARGET_ID), dtype=torch.long)


def words(ids: Int[Tensor, "n"]) -> list[str]:
    """The source words that `ids` stand for, filler included."""
    return [SOURCE[i] for i in ids.tolist()]


def characters(ids: Int[Tensor, "n"]) -> str:
    """The target text that `ids` stand for."""
    return "".join(TARGET[i] for i in ids.tolist())


@cache
def _days(held_out: bool) -> list[date]:
    every = [FIRST + timedelta(days) for days in range((LAST - FIRST).days + 1)]
    return [day for day in every if is_held_out(day) == held_out]


def _ids(name: str, tokens: Sequence[str], table: dict[str, int]) -> list[int]:
    for token in tokens:
        if token not in table:
            raise ValueError(f"{name} must be of this task's {len(table)} tokens, got {token!r}")
    return [table[token] for token in tokens]
