"""Pictures of coloured shapes and a question about one of them: "what colour is the circle ?" → "blue".

A toy world for text that attends to an image. A picture is a grid of 4 × 4 cells with two to four things in it: no
two of one shape, no two of one colour, each in a cell of its own. Cut along the cells, the picture becomes a
sequence of 16 patches, row by row, and the patch that holds the answer is known.

Scenes whose occupied cells have numbers that add up to a multiple of 5 are held out: none is in a training batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnbook.masks import _integer

GRID, CELL = 4, 8  # cells a side, pixels a side of a cell
N_PATCHES, PATCH_WIDTH = GRID**2, 3 * CELL**2
PAPER = (0.93, 0.93, 0.93)
COLOURS = {"black": (0.1, 0.1, 0.1), "blue": (0.0, 0.45, 0.7), "green": (0.0, 0.62, 0.45), "orange": (0.9, 0.62, 0.0),
           "pink": (0.8, 0.47, 0.65), "red": (0.75, 0.15, 0.05)}

_y, _x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2  # from the middle of a cell, in pixels
SHAPES = {
    "circle": _x**2 + _y**2 < 3.2**2,
    "square": np.maximum(abs(_x), abs(_y)) < 3,
    "triangle": (abs(_y) < 3) & (abs(_x) < (_y + 4) / 2),
    "cross": (np.minimum(abs(_x), abs(_y)) < 1) & (np.maximum(abs(_x), abs(_y)) < 3),
}

ANSWERS = [*COLOURS]
WORDS = ["what", "colour", "is", "the", "?", *SHAPES]
ASKED = 4  # the place of the shape's word in the question


class Thing(NamedTuple):
    """A shape of some colour in a cell; cells are numbered from 0, row by row."""

    shape: str
    colour: str
    cell: int


class Batch(NamedTuple):
    """Scenes as tensors. `gold` is True at the patch that holds the answer."""

    image: Float[Tensor, "batch 32 32 3"]
    question: Int[Tensor, "batch 6"]
    answer: Int[Tensor, "batch"]
    gold: Bool[Tensor, "batch 16"]


def draw(things: Sequence[Thing]) -> Float[Tensor, "32 32 3"]:
    """The picture of the things, red, green and blue from 0 to 1; float32.

    Raises ValueError if a thing is not of this task, or two of them share a cell.
    """
    cells = [thing.cell for thing in things]
    if len(set(cells)) < len(cells):
        raise ValueError(f"things must be in cells of their own, got cells {cells}")
    image = np.full((GRID * CELL, GRID * CELL, 3), PAPER, dtype=np.float32)
    for thing in things:
        if thing.shape not in SHAPES or thing.colour not in COLOURS or not 0 <= thing.cell < N_PATCHES:
            raise ValueError(f"things must have a shape of {[*SHAPES]}, a colour of {ANSWERS} and a cell "
                             f"of 0…{N_PATCHES - 1}, got {thing}")
        top, left = (CELL * i for i in divmod(thing.cell, GRID))
        image[top : top + CELL, left : left + CELL][SHAPES[thing.shape]] = COLOURS[thing.colour]
    return torch.from_numpy(image)


def patches(image: Float[Tensor, "*batch 32 32 3"]) -> Float[Tensor, "*batch 16 192"]:
    """The picture cut along its cells: one row of 8 · 8 · 3 numbers for each cell, cells row by row.

    Raises ValueError if the image is not of this task's size.
    """
    if image.ndim < 3 or image.shape[-3:] != (GRID * CELL, GRID * CELL, 3):
        raise ValueError(f"image must have shape (…, {GRID * CELL}, {GRID * CELL}, 3), got {tuple(image.shape)}")
    cut = image.unflatten(-2, (GRID, CELL)).unflatten(-4, (GRID, CELL))  # (…, row, y, column, x, 3)
    return cut.transpose(-4, -3).reshape(*image.shape[:-3], N_PATCHES, PATCH_WIDTH)


def is_held_out(things: Sequence[Thing]) -> bool:
    """Whether this scene is kept from training."""
    return sum(thing.cell for thing in things) % 5 == 0


def scene(generator: torch.Generator, held_out: bool = False) -> list[Thing]:
    """Two to four things drawn with `generator`; the same on every machine."""
    while True:
        n = 2 + _below(3, generator)
        drawn = [_some(n, kind, generator) for kind in (SHAPES, COLOURS, range(N_PATCHES))]
        things = [Thing(*parts) for parts in zip(*drawn)]
        if is_held_out(things) == held_out:
            return things


def ask(shape: str) -> Int[Tensor, "6"]:
    """The question about the colour of `shape`, as indices in WORDS. Raises ValueError if there is no such shape."""
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {[*SHAPES]}, got {shape!r}")
    return torch.tensor([WORDS.index(word) for word in ("what", "colour", "is", "the", shape, "?")])


def batch(n: int, generator: torch.Generator, held_out: bool = False) -> Batch:
    """`n` scenes drawn with `generator`, each with a question about one thing in it. Raises ValueError if n < 1."""
    scenes = [scene(generator, held_out) for _ in range(_integer("n", n, 1))]
    asked = [things[_below(len(things), generator)] for things in scenes]
    gold = torch.tensor([thing.cell for thing in asked])[:, None] == torch.arange(N_PATCHES)
    answer = torch.tensor([ANSWERS.index(thing.colour) for thing in asked])
    images = torch.stack([draw(things) for things in scenes])
    return Batch(images, torch.stack([ask(thing.shape) for thing in asked]), answer, gold)


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _some(n: int, of, generator: torch.Generator) -> list:
    """`n` different ones of `of`, in random order."""
    left = [*of]
    return [left.pop(_below(len(left), generator)) for _ in range(n)]
