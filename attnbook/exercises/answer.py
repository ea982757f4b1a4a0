"""What the reader sees: paragraphs, a line of code, heat maps; as HTML in a notebook and as text in a terminal.

Everything that comes from the reader is escaped. The colours are translucent, so that light and dark pages both work.
"""

import html
import re
import textwrap
from dataclasses import dataclass, field

import numpy as np

LOOK = {  # kind of answer: mark, colour of the bar
    "right": ("✓", "#2e9e6b"), "untouched": ("○", "#8a8f98"), "note": ("·", "#8a8f98"), "wrong": ("✗", "#d9822b"),
}  # fmt: skip
ROW = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:1em;overflow-x:auto"
CELL = "padding:2px 6px;text-align:right;font-variant-numeric:tabular-nums;"
WRONG = "outline:2px solid #d9822b;outline-offset:-2px;font-weight:bold"
SHOWN = 8  # rows and columns of a heat map


@dataclass
class Grid:
    """A small array under a heading; `bad` marks the cells that are wrong."""

    title: str
    array: np.ndarray
    bad: np.ndarray | None = None
    digits: int = 4

    def window(self):
        """The rows to show as text, with their colours and marks, and whether more were left out."""
        array, bad = np.asarray(self.array), self.bad
        bad = np.zeros(array.shape, bool) if bad is None else bad
        left = array.size
        while array.ndim > 2:  # of a batch, the first matrix with a wrong cell
            first = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            array, bad = array[first], bad[first]
        array, bad = np.atleast_2d(array), np.atleast_2d(bad)
        first_bad = [int(places[0]) if len(places) else 0 for places in np.nonzero(bad)]
        top, start = (max(0, min(i - SHOWN // 2, n - SHOWN)) for i, n in zip(first_bad, array.shape))
        array, bad = (x[top : top + SHOWN, start : start + SHOWN] for x in (array, bad))
        return array, bad, left > array.size

    def html(self) -> str:
        array, bad, more = self.window()
        with np.errstate(invalid="ignore"):
            sizes = np.abs(np.where(np.isfinite(array.astype(float)), array.astype(float), 0))
            shades = 0.5 * sizes / max(sizes.max(initial=0), 1e-12)
        rows = ""
        for values, marks, shade in zip(array, bad, shades):
            cells = (
                f'<td style="{CELL}background:rgba({"217,130,43" if float(value) < 0 else "64,132,214"},{depth:.2f});'
                f'{WRONG if mark else ""}">{number(value, self.digits)}</td>'
                for value, mark, depth in zip(values, marks, shade)
            )
            rows += f"<tr>{''.join(cells)}</tr>"
        title = marked_up(self.title) + " (a part)" * more
        caption = f'<caption style="text-align:left;caption-side:top">{title}</caption>'
        return f'<table style="border-collapse:collapse;margin:0">{caption}<tbody>{rows}</tbody></table>'

    def lines(self) -> list[str]:
        array, bad, more = self.window()
        cells = [[number(v, self.digits) + ("*" if mark else " ") for v, mark in zip(*row)] for row in zip(array, bad)]
        width = max((len(cell) for row in cells for cell in row), default=1)
        return [self.title + " (a part)" * more, *(" ".join(f"{cell:>{width}}" for cell in row) for row in cells)]


def number(value, digits: int = 4) -> str:
    if isinstance(value, (bool, np.bool_)) or getattr(value, "dtype", None) == bool:
        return str(bool(value))
    return "0" if value == 0 else f"{value:.{digits}g}"


def marked_up(text: str) -> str:
    """Escaped, with `code` and *emphasis*."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", text)


@dataclass
class Answer:
    """What an exercise answered. `kind` is right, untouched, raised, late, type, shape, dtype, device, nan, changed,
    misconception, law, wrong, warned, or note for what is no verdict; `misconception` is its name if one was
    recognised, whatever the kind."""

    title: str
    kind: str
    name: str = ""
    misconception: str | None = None
    blocks: list = field(default_factory=list)  # str, ("code", text), or a list of Grids to stand side by side

    @property
    def passed(self) -> bool:
        return self.kind == "right"

    def __bool__(self) -> bool:
        return self.passed

    def say(self, *blocks) -> "Answer":
        self.blocks += [block for block in blocks if block]
        return self

    def __repr__(self) -> str:
        mark, _ = LOOK.get(self.kind, LOOK["wrong"])
        lines = [f"{mark} {self.title}"]
        for block in self.blocks:
            match block:
                case str():
                    lines += textwrap.wrap(block, 96)
                case ("code", text):
                    lines += textwrap.indent(text, "    ").splitlines()
                case grids:
                    lines += [f"  {line}" for grid in grids for line in grid.lines()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        mark, colour = LOOK.get(self.kind, LOOK["wrong"])
        parts = [f'<p style="margin:0 0 .4em"><strong>{mark} {marked_up(self.title)}</strong></p>']
        for block in self.blocks:
            match block:
                case str():
                    parts.append(f'<p style="margin:.4em 0">{marked_up(block)}</p>')
                case ("code", text):
                    parts.append(f'<pre style="margin:.4em 0;overflow-x:auto">{html.escape(text)}</pre>')
                case grids:
                    tables = "".join(grid.html() for grid in grids)
                    parts.append(f'<div style="margin:.4em 0;{ROW}">{tables}</div>')
        style = f"border-left:4px solid {colour};padding:.4em .8em;max-width:46em"
        return f'<div class="attnbook-answer" style="{style}">{"".join(parts)}</div>'
