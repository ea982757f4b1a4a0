"""Exercises of chapter 4, self-attention and position: repair it."""

import math

import numpy as np
import torch

from attnbook import positions
from attnbook.exercises import Exercise, Law, Probe, close

ROPE, CLOCK = "The third way: turn the query and the key (RoPE)", "The first way: sinusoidal"
OFFSET, LAYOUTS, BASE = "The offset forgotten", "Two layouts", "The base"


# 4.5 Repair it ----------------------------------------------------------------------------------------------------

def repaired(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    angle = (offset + np.arange(n))[:, None] * base ** (-np.arange(0, d, 2) / d)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    turned = [a * np.cos(angle) - b * np.sin(angle),
              a * np.sin(angle) + b * np.cos(angle)]  # fmt: skip
    return np.concatenate(turned, axis=-1)

def broken_repaired(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    angle = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / d)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    turned = [a * np.cos(angle) - b * np.sin(angle),
              b * np.cos(angle) - a * np.sin(angle)]  # fmt: skip
    return np.concatenate(turned, axis=-1)

def rows(rng, n, d_k, offset=0, base=10_000.0, batch=(), stretch=1.0):
    return stretch * rng.standard_normal((*batch, n, d_k)), offset, base

def rows_alone(rng, n, d_k):
    return (rng.standard_normal((n, d_k)),)

def dots(x):
    return x @ np.swapaxes(x, -1, -2)

repair = Exercise(
    "04.repair",
    "Repair it",
    task="RoPE in the half-split layout, with its two mistakes repaired.",
    solution=repaired,
    answer=positions.rope,
    broken=broken_repaired,
    probes=[
        Probe("the first four positions", rows_alone, n=4, d_k=6),
        Probe("from position 9 on", rows, n=4, d_k=6, offset=9),
        Probe("one word at position 0", rows, n=1, d_k=4),
        Probe("one word at position 7", rows, n=1, d_k=4, offset=7),
        Probe("one pair", rows, n=3, d_k=2, offset=2),
        Probe("as many positions as components", rows, n=4, d_k=4, offset=1),
        Probe("another base", rows, n=3, d_k=8, base=100.0),
        Probe("a batch of heads", rows, n=3, d_k=4, offset=5, batch=(2, 6)),
        Probe("large numbers, from position 300 on", rows, n=3, d_k=6, offset=300, stretch=100.0),
    ],
    laws=[
        Law("the length of each row is kept",
            lambda f, x, *at: close(np.linalg.norm(f(x, *at), axis=-1), np.linalg.norm(x, axis=-1))),
        Law("all rows moved on by 7 places: the same dot products",
            lambda f, x, at=0, *base: close(dots(f(x, at, *base)), dots(f(x, at + 7, *base)))),
    ],
    large=Probe("", rows, n=512, d_k=64),
    product="`np.arange(n)[:, None]` times the frequencies is all the angles.",
    hints=[
        "A rotation keeps the length of every pair: compare with `turn` above, sign by sign.",
        "The other mistake is in what is *not* there: read the arguments and find the one that is never used.",
    ],
)  # fmt: skip

COS_SIN = (np.cos, np.sin, np.sin, np.cos)  # of a and b in the first line, of a and b in the second

def turned(x, offset, base, signs=(1, -1, 1, 1), angle=None, trig=COS_SIN, axis=-1):
    """RoPE as the exercise has it, with something changed: a sign of the four terms, the angles, a function."""
    n, d = x.shape[-2:]
    angle = (offset + np.arange(n))[:, None] * frequency(d, base) if angle is None else angle
    a, b = x[..., : d // 2], x[..., d // 2 :]
    terms = [sign * part * f(angle) for sign, part, f in zip(signs, (a, b, a, b), trig)]
    return np.concatenate([terms[0] + terms[1], terms[2] + terms[3]], axis=axis)

def frequency(d, base):
    return base ** (-np.arange(0, d, 2) / d)

@repair.wrong("It does what it did before: both mistakes are still there.", ROPE)
def as_it_was(x, offset=0, base=10_000.0):
    return broken_repaired(x, offset, base)

@repair.wrong(
    "The rotation is repaired. One mistake is left: one of the arguments is not used, and a word that comes alone at "
    "position 7 is turned as if it stood at 0.", OFFSET
)
def offset_not_used(x, offset=0, base=10_000.0):
    return turned(x, 0, base)

@repair.wrong(
    "The offset counts now. One mistake is left: this is no rotation, for it stretches some pairs and squeezes "
    "others. Compare the lengths before and after.", ROPE
)
def no_rotation(x, offset=0, base=10_000.0):
    return turned(x, offset, base, signs=(1, -1, -1, 1))

@repair.wrong(
    "A rotation now, but clockwise: you changed the sign in the *other* line. Scores within one program would be as "
    "good; next to `rope` and to trained weights they are wrong.", ROPE
)
def clockwise(x, offset=0, base=10_000.0):
    return turned(x, offset, base, signs=(1, 1, -1, 1))

@repair.wrong(
    "A rotation now, but clockwise: you changed the sign in the other line. And one argument is still not used.", OFFSET
)
def clockwise_without_offset(x, offset=0, base=10_000.0):
    return turned(x, 0, base, signs=(1, 1, -1, 1))

@repair.wrong(
    "With a plus in both lines it is no rotation either: one of the two sines has a minus. Compare the lengths before "
    "and after.", ROPE
)
def plus_in_both_lines(x, offset=0, base=10_000.0):
    return turned(x, offset, base, signs=(1, 1, 1, 1))

@repair.wrong(
    "With a plus in both lines it is no rotation either, and one of the arguments is still not used.", ROPE
)
def plus_in_both_without_offset(x, offset=0, base=10_000.0):
    return turned(x, 0, base, signs=(1, 1, 1, 1))

@repair.wrong(
    "The offset is added to the *angle*. It is a number of positions: add it to the position, before that is "
    "multiplied with the frequencies.", OFFSET
)
def offset_added_to_the_angle(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=offset + np.arange(n)[:, None] * frequency(d, base))

@repair.wrong("The offset multiplies. The first row stands at `offset`, the next one place further.", OFFSET)
def offset_multiplies(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=offset * np.arange(n)[:, None] * frequency(d, base))

@repair.wrong("The offset is taken off. The first row stands at `offset`, further on in the text.", OFFSET)
def offset_taken_off(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(np.arange(n) - offset)[:, None] * frequency(d, base))

@repair.wrong("Every row is turned by the position of the first. Each stands one place further on.", OFFSET)
def all_rows_at_the_offset(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=np.full((n, 1), offset) * frequency(d, base))

@repair.wrong(
    "You count from `offset` up to n, so that an offset takes places away: `np.arange(9, 4)` is empty. There are n "
    "rows wherever the first one stands.", OFFSET
)
def counted_up_to_n(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=np.arange(offset, n)[:, None] * frequency(d, base))

@repair.wrong("Positions are counted from 1 in yours. The first row stands at `offset`, and without one at 0.", OFFSET)
def counted_from_1(x, offset=0, base=10_000.0):
    return turned(x, offset + 1, base)

@repair.wrong(
    "Position and frequency are added. A hand turns by its frequency at *each* step: they are multiplied.", CLOCK
)
def position_plus_frequency(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset + np.arange(n))[:, None] + frequency(d, base))

@repair.wrong(
    "You turn neighbours: the interleaved layout. The code was half-split, and its pairs are right as they were.",
    LAYOUTS
)
def interleaved(x, offset=0, base=10_000.0):
    return positions.rope(x, offset, base, layout="interleaved")

@repair.wrong("The base is not used any more: 10,000 is its default, not its only value.", BASE)
def base_not_used(x, offset=0, base=10_000.0):
    return turned(x, offset, 10_000.0)

@repair.wrong(
    "The frequencies are those of another width: the exponent falls from 0 towards -1 in d/2 steps, so it counts by "
    "twos. In the first line of the broken code that was right.", CLOCK
)
def frequencies_half_as_fast(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset + np.arange(n))[:, None] * base ** (-np.arange(d // 2) / d))

@repair.wrong(
    "The frequencies grow from hand to hand: the minus in the exponent is lost. Each hand is slower than the one "
    "before.", CLOCK
)
def frequencies_that_grow(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset + np.arange(n))[:, None] * base ** (np.arange(0, d, 2) / d))

@repair.wrong("The two halves come back exchanged: what is made of `a cos - b sin` goes first.", ROPE)
def halves_exchanged(x, offset=0, base=10_000.0):
    return np.roll(turned(x, offset, base), x.shape[-1] // 2, axis=-1)

@repair.wrong("Sine and cosine are exchanged: at position 0 nothing should turn, and yours turns by a quarter.", ROPE)
def sine_for_cosine(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    angle = (offset + np.arange(n))[:, None] * frequency(d, base)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.concatenate([a * np.sin(angle) - b * np.cos(angle), a * np.cos(angle) + b * np.sin(angle)], axis=-1)

@repair.wrong(
    "The second half is made from a first half that is turned already. Both lines need `a` and `b` as they were.", ROPE
)
def already_turned(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    angle = (offset + np.arange(n))[:, None] * frequency(d, base)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    a = a * np.cos(angle) - b * np.sin(angle)
    b = a * np.sin(angle) + b * np.cos(angle)
    return np.concatenate([a, b], axis=-1)

@repair.wrong("This mirrors the pairs and does not turn them: `b cos` comes with a plus in the second line.", ROPE)
def mirrored(x, offset=0, base=10_000.0):
    return turned(x, offset, base, signs=(1, -1, 1, -1))

@repair.wrong("Both signs of the first line are the wrong way round: row 0 should come back as it was.", ROPE)
def first_line_negated(x, offset=0, base=10_000.0):
    return turned(x, offset, base, signs=(-1, 1, 1, 1))

@repair.wrong("Positions are counted *backwards* from the offset. Each row stands one place further on.", OFFSET)
def counted_backwards(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset - np.arange(n))[:, None] * frequency(d, base))

def with_another(place, function):
    """In one of the four terms there is another function of the angle."""
    trig = (*COS_SIN[:place], function, *COS_SIN[place + 1 :])
    return lambda x, offset=0, base=10_000.0: turned(x, offset, base, trig=trig)

for place, (part, line) in enumerate((part, line) for line in ("first", "second") for part in "ab"):
    exchanged, names = (np.sin, ("cosine", "sine")) if place in (0, 3) else (np.cos, ("sine", "cosine"))
    for slip, function, says in (
        ("not_turned", np.ones_like, f"is not turned: its {names[0]} is missing."),
        ("missing", np.zeros_like, "is missing: each of the new components is made of both old ones."),
        ("times_the_angle", lambda angle: angle, f"is multiplied with the angle itself, not with its {names[0]}."),
        (f"with_a_{names[1]}", exchanged, f"has a {names[1]} where a {names[0]} belongs. Row 0 should not change."),
    ):
        mistaken = with_another(place, function)
        mistaken.__name__ = f"{part}_of_the_{line}_line_{slip}"
        repair.wrong(f"In the {line} line `{part}` {says}", ROPE)(mistaken)

@repair.wrong("The two halves are joined along the wrong axis: the width becomes d_k again, the last one.", ROPE)
def joined_along_another_axis(x, offset=0, base=10_000.0):
    return turned(x, offset, base, axis=0)

@repair.wrong("This is a list of two halves. `np.concatenate` joins them.", ROPE)
def halves_not_joined(x, offset=0, base=10_000.0):
    return np.split(turned(x, offset, base), 2, axis=-1)

@repair.wrong("All the hands turn at the same speed, a radian a word. The frequencies are missing.", CLOCK)
def one_speed(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset + np.arange(n))[:, None] * np.ones(d // 2))

@repair.wrong("The exponents are not divided by the width: the second hand stands nearly still already.", CLOCK)
def exponent_not_divided(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=(offset + np.arange(n))[:, None] * base ** -np.arange(0.0, d, 2))

@repair.wrong("Position does not matter: every row is turned by the frequencies themselves.", CLOCK)
def position_not_used(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    return turned(x, offset, base, angle=np.ones((n, 1)) * frequency(d, base))

@repair.right
def with_complex_numbers(x, offset=0, base=10_000.0):
    n, d = x.shape[-2:]
    angle = (offset + np.arange(n))[:, None] * frequency(d, base)
    arrow = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * np.exp(1j * angle)
    return np.concatenate([arrow.real, arrow.imag], axis=-1)

@repair.right
def with_torch(x, offset=0, base=10_000.0):
    x = torch.as_tensor(x)
    n, d = x.shape[-2:]
    angle = torch.outer(torch.arange(offset, offset + n).double(), base ** (-torch.arange(0, d, 2).double() / d))
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin

@repair.right
def row_by_row(x, offset=0, base=10_000.0):
    out, d = np.empty_like(x), x.shape[-1]
    for p in range(x.shape[-2]):
        for r in range(d // 2):
            angle = (offset + p) * base ** (-2 * r / d)
            a, b = x[..., p, r], x[..., p, r + d // 2]
            out[..., p, r] = a * math.cos(angle) - b * math.sin(angle)
            out[..., p, r + d // 2] = a * math.sin(angle) + b * math.cos(angle)
    return out

@repair.right
def in_float32(x, offset=0, base=10_000.0):
    return repaired(np.float32(x), offset, base).astype(np.float32)
