"""The book's figures: one style, safe for colour-blind readers and in greyscale, on a light page and a dark one.

Each function draws on `ax`, or on a figure of its own, and returns the Axes; `show` puts the figure into the
notebook as one SVG with its description for readers who cannot see it. Ink and paper have colours of their own
(`INK`, `PAPER`), which the site replaces by those of the page, so that a figure follows the reader's theme.
"""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

INK = "#1a1c20"
PAPER = "#fffffe"
# Okabe and Ito's palette, darkest first so that neighbours differ in greyscale too; each line has its own dash.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
DASHES = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2))]
HATCHES = ["", "//", "..", "xx"]

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS, linestyle=DASHES),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#8888884d",
    "legend.frameon": False,
    "lines.linewidth": 2,
    "savefig.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "attnbook",
    **{name: INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
}


def figure(
    rows: int = 1, cols: int = 1, width: float = 5.8, height: float = 3.2, **options
) -> tuple[Figure, np.ndarray]:
    """A figure in the book's style and its array of Axes, (rows, cols); sizes in inches for the whole figure.

    `options` go to `Figure.subplots` (sharex, width_ratios…).
    """
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        return fig, fig.subplots(rows, cols, squeeze=False, **options)


def heatmap(
    array,
    rows: Sequence[str] | None = None,
    cols: Sequence[str] | None = None,
    title: str = "",
    xlabel: str = "key",
    ylabel: str = "query",
    signed: bool = False,
    vmax: float | None = None,
    numbers: bool | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A matrix (n_rows, n_cols) as a picture: rows down, columns across, labelled by `rows` and `cols`.

    Weights (not `signed`) run from 0 to `vmax`, dark to bright; signed values are drawn around 0. Cells of NaN or
    -inf are left blank and marked ×. `numbers` writes the values in the cells: a format such as ".2f", True for
    ".2f", False for none, or None to decide by size.
    Raises ValueError if the array is not a matrix or the labels do not fit it.
    """
    values = _numpy(array)
    if values.ndim != 2:
        raise ValueError(f"array must be a matrix, (n_rows, n_cols), got shape {values.shape}")
    for name, labels, n in (("rows", rows, values.shape[0]), ("cols", cols, values.shape[1])):
        if labels is not None and len(labels) != n:
            raise ValueError(f"{name} must have a label for each of the {n}, got {len(labels)}")
    with matplotlib.rc_context(STYLE):
        ax = _axes(ax, 1.6 + 0.5 * values.shape[1], 1.2 + 0.42 * values.shape[0])
        finite = np.where(np.isfinite(values), values, np.nan)
        top = vmax or float(np.nanmax(np.abs(finite), initial=0)) or 1.0
        norm = TwoSlopeNorm(0, -top, top) if signed else Normalize(0, top)
        image = ax.imshow(finite, cmap="PuOr_r" if signed else "cividis", norm=norm, aspect="auto")
        ax.figure.colorbar(image, ax=ax, shrink=0.85).outline.set_visible(False)
        _ticks(ax.xaxis, cols, values.shape[1])
        _ticks(ax.yaxis, rows, values.shape[0])
        if cols is not None and 0.09 * max(map(len, cols)) > _inches(ax) / len(cols):
            ax.tick_params(axis="x", rotation=40)
        ax.spines[:].set_visible(False)
        ax.grid(False)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if numbers or (numbers is None and values.size <= 100):
            spec = numbers if isinstance(numbers, str) else ".2f"
            _write_numbers(ax, image, values, spec)
            lines = [", ".join(_spell(value, spec) for value in row) for row in values]
            _say(ax, [f"{name}: {line}" for name, line in zip(rows or range(len(lines)), lines)])
    return ax


def bars(
    values,
    labels: Sequence[str] | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One bar a value with its number on top; `values` is a vector, or {series name: vector} for groups of bars."""
    series = {k: _numpy(v) for k, v in values.items()} if isinstance(values, Mapping) else {None: _numpy(values)}
    if not series:
        raise ValueError("values must hold at least one series, got an empty mapping")
    n = len(next(iter(series.values())))
    with matplotlib.rc_context(STYLE):
        ax = _axes(ax)
        width = 0.8 / len(series)
        for i, (name, heights) in enumerate(series.items()):
            at = np.arange(n) + (i - (len(series) - 1) / 2) * width
            look = {"color": COLOURS[i % len(COLOURS)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "#ffffff"}
            drawn = ax.bar(at, heights, width * 0.92, label=name, linewidth=0, **look)
            if n * len(series) <= 20:
                ax.bar_label(drawn, fmt="%.2g", fontsize=8, padding=2)
        names = labels if labels is not None else [str(i) for i in range(n)]
        ax.set_xticks(range(n), names)
        for name, heights in series.items():
            said = ", ".join(f"{label} {value:.2g}" for label, value in zip(names, heights))
            _say(ax, [f"{name}: {said}" if name else said] if n <= 20 else [])
        ax.grid(axis="x", visible=False)
        ax.margins(y=0.1)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if None not in series:
            ax.legend()
    return ax


def curve(
    x,
    lines: Mapping[str, Sequence[float]],
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    points: tuple | None = None,
    marker: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Lines over a shared x, {name: y}: each has its own colour and dash; "" as the only name draws no legend.

    A line may be shorter than x: that of a training that was stopped ends where it ended. `log` is "", "x", "y" or
    "xy"; `points` is (x, y) of data points to draw underneath. Raises ValueError if a line is longer than x.
    """
    with matplotlib.rc_context(STYLE):
        ax = _axes(ax)
        if points is not None:
            ax.scatter(_numpy(points[0]), _numpy(points[1]), s=26, color=INK, zorder=3, label="data")
        for i, (name, y) in enumerate(lines.items()):
            if len(y) > len(x):
                raise ValueError(f"lines must be no longer than x, {len(x)} points, got {len(y)} for {name!r}")
            ax.plot(_numpy(x)[: len(y)], _numpy(y), label=name or None, marker=marker, markersize=4,
                    color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)])
        if "x" in log:
            ax.set_xscale("log", base=2 if _powers_of_two(x) else 10)
            ax.xaxis.set_major_formatter("{x:,.4g}")
        if "y" in log:
            ax.set_yscale("log")
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if any(lines):
            ax.legend()
    return ax


class Plot:
    """A figure on its way into a notebook: an SVG, its description, and that description as the text form."""

    def __init__(self, svg: str, alt: str):
        self.svg, self.alt = svg, alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/svg+xml": self.svg, "text/plain": f"Figure: {self.alt}"}

    def __repr__(self):
        return f"Figure: {self.alt}"


def show(drawn: Axes | Figure, alt: str) -> Plot:
    """The figure of `drawn` as the cell's output; `alt` says in words what it shows. Raises ValueError without it.

    The numbers that are written into bars and heat maps are added to it, so that `alt` need not repeat them.
    """
    if not alt.strip():
        raise ValueError("alt must describe the figure for a reader who cannot see it, got an empty string")
    fig = drawn if isinstance(drawn, Figure) else drawn.figure
    said = [f"{ax.get_title(loc='left')}: {'; '.join(ax.said)}" for ax in fig.axes if getattr(ax, "said", None)]
    alt = " ".join(f"{part.strip().rstrip('.')}." for part in [alt, *said]).replace("\n", " ")
    for legend in filter(None, (ax.get_legend() for ax in fig.axes)):  # a cell's own is black, also on a dark page
        for text in legend.get_texts():
            text.set_color(INK)
    out = io.StringIO()
    with matplotlib.rc_context(STYLE):
        # Without a date and with salted ids the same figure is the same text at every run.
        FigureCanvasSVG(fig).print_svg(out, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()[out.getvalue().index("<svg"):]
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    # A hundredth of a point is finer than any screen, and half the size of a page is decimals.
    svg = re.sub(r'(?<= )d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", " ".join(path[0].split())), svg)
    svg = re.sub(r">\s+<", "><", svg)
    return Plot(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1), alt)


def _axes(ax, width: float = 5.8, height: float = 3.2):
    return ax if ax is not None else figure(width=min(max(width, 4.2), 7.2), height=min(max(height, 2.4), 6.4))[1][0, 0]


def _inches(ax) -> float:
    """The width of `ax` within its figure, roughly: colour bar and margins are not laid out yet."""
    return 0.7 * ax.get_position().width * ax.figure.get_figwidth()


def _numpy(array) -> np.ndarray:
    # NumPy knows no bfloat16, so a tensor is widened on its own side.
    return np.asarray(array.detach().cpu().double() if hasattr(array, "detach") else array, dtype=float)


def _ticks(axis, labels, n):
    axis.set_ticks(range(n) if labels is not None or n <= 16 else range(0, n, 8))
    if labels is not None:
        axis.set_ticklabels(labels, parse_math=False)  # a token may hold a dollar sign
    axis.set_tick_params(length=0)


def _write_numbers(ax, image, values, spec):
    for (i, j), value in np.ndenumerate(values):
        ink = "#ffffff" if _luminance(image.cmap(image.norm(value if np.isfinite(value) else 0))) < 0.179 else "#000000"
        ink = ink if np.isfinite(value) else INK
        ax.text(j, i, _spell(value, spec), ha="center", va="center", fontsize=8, color=ink)


def _spell(value: float, spec: str) -> str:
    return "×" if not np.isfinite(value) else "0" if value == 0 else format(value, spec).replace("-", "−")


def _say(ax: Axes, lines: list[str]):
    """Remember, for `show`, the numbers that a reader sees in `ax`."""
    ax.said = [*getattr(ax, "said", []), *lines]


def _luminance(rgba) -> float:
    """Relative luminance (WCAG 2.2): against 0.179 black and white contrast equally."""
    rgb = np.array(rgba[:3])
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def _powers_of_two(x) -> bool:
    values = _numpy(x)
    return bool(len(values) > 1 and (values > 0).all() and np.allclose(np.log2(values) % 1, 0))
