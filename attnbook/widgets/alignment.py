"""The alignment explorer: which source each target attends to, in a text or in a picture.

It is given weights, never a model. The page sharpens and draws them (alignment.js); Python recomputes `shown` and
`mass` with `attnbook.functional`.
"""

import base64

import numpy as np
from traitlets import TraitError, observe, validate

from attnbook import functional

from ._base import Array, Explorer, Labels, Number, Result, _Input, _short

MOST_HEADS, MOST_TARGETS, MOST_SOURCES, LARGEST_IMAGE = 16, 64, 256, 128
SLACK = 0.01  # a row in half precision does not sum to exactly 1
INPUTS = (
    "weights", "source", "target", "image", "grid", "expected", "selected", "head", "threshold", "sharpness",
)  # fmt: skip
INSTEAD = "weights, head, sharpness or expected"


# To the browser and back -----------------------------------------------------------------------------------------


def _seven_digits(value, _widget):
    """What a page can show, at half the length; significant digits, since sharpening may raise the smallest."""
    rows = np.array([float(f"{x:.7g}") for x in value.flat]).reshape(value.shape)
    return rows.tolist()


def _pixels_to_json(value, _widget):
    if value is None:
        return None
    height, width, _ = value.shape
    data = base64.b64encode(np.round(value * 255).astype(np.uint8).tobytes()).decode("ascii")
    return {"height": height, "width": width, "data": data}


def _pixels_from_json(value, _widget):
    if not isinstance(value, dict):
        return value
    pixels = np.frombuffer(base64.b64decode(value["data"]), np.uint8)
    return pixels.reshape(value["height"], value["width"], 3) / 255


# Traits ------------------------------------------------------------------------------------------------------


class _Weights(Array):
    """(n_target, n_source) or (n_heads, n_target, n_source); rows share out 1, or are all 0."""

    def __init__(self, help: str):
        sizes = ((1, MOST_HEADS), (1, MOST_TARGETS), (1, MOST_SOURCES))
        super().__init__([[1.0]], sizes=sizes, help=help)
        self.tag(to_json=_seven_digits)

    def validate(self, obj, value):
        matrix = _axes(value) == 2
        rows = super().validate(obj, (value[None] if hasattr(value, "ndim") else [value]) if matrix else value)
        if rows.min() < 0:
            raise self.refuse("at least 0 everywhere", f"{rows.min():g}")
        sums = rows.sum(axis=-1)
        wrong = (np.abs(sums - 1) > SLACK) & (sums != 0)
        if wrong.any():
            expected = "rows over the sources that each sum to 1, or to 0 where there is nothing to attend to"
            raise self.refuse(expected, f"a row that sums to {sums[wrong][0]:.4g}")
        return rows[0] if matrix else rows

    def _expected(self) -> str:
        most = f"at most {MOST_HEADS}, {MOST_TARGETS}, {MOST_SOURCES}"
        return f"finite numbers of shape (n_target, n_source) or (n_heads, n_target, n_source), {most}"


def _axes(value) -> int:
    try:
        return value.ndim if hasattr(value, "ndim") else np.ndim(value)
    except ValueError:  # rows of different lengths, which Array has words for
        return 0


class _Image(Array):
    """Travels as bytes, 0…255, in base64: a tenth of what the numbers would take."""

    def __init__(self, help: str):
        sizes = ((1, LARGEST_IMAGE), (1, LARGEST_IMAGE), (3, 3))
        super().__init__(None, sizes=sizes, help=help, allow_none=True)
        self.tag(to_json=_pixels_to_json, from_json=_pixels_from_json)

    def validate(self, obj, value):
        pixels = super().validate(obj, value)
        if pixels.min() < 0 or pixels.max() > 1:
            raise self.refuse("numbers from 0 to 1 (bytes: divide by 255)", f"{pixels.min():g} to {pixels.max():g}")
        return pixels

    def _expected(self) -> str:
        return f"a picture (height, width, 3) of at most {LARGEST_IMAGE} × {LARGEST_IMAGE} pixels, 0 to 1"


class _Grid(_Input):
    """(rows, cols), held as a tuple."""

    def validate(self, obj, value):
        pair = tuple(value) if hasattr(value, "__iter__") else ()
        if len(pair) != 2 or not all(_is_index(n, 1, MOST_SOURCES) for n in pair):
            raise self.refuse("(rows, cols), two integers of at least 1", _short(value))
        return tuple(int(n) for n in pair)


class _Expected(_Input):
    """The right sources of each target, held as a tuple of indices for each."""

    def __init__(self, help: str):
        super().__init__(None, help=help, allow_none=True)
        self.tag(to_json=lambda value, _: None if value is None else [list(each) for each in value])

    def validate(self, obj, value):
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        rows = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(rows, (str, bytes)) or not hasattr(rows, "__iter__"):
            raise self.refuse(self._wanted, _short(value))
        return tuple(self._indices(row, value) for row in rows)

    def _indices(self, row, value) -> tuple[int, ...]:
        if row is None or _is_index(row, -1, MOST_SOURCES):
            return () if row is None or row < 0 else (int(row),)
        row = list(row) if hasattr(row, "__iter__") and not isinstance(row, str) else [None]
        if row and all(isinstance(right, (bool, np.bool_)) for right in row):
            return tuple(np.flatnonzero(row).tolist())
        if not all(_is_index(j, 0, MOST_SOURCES) for j in row):
            raise self.refuse(self._wanted, _short(value))
        return tuple(sorted({int(j) for j in row}))

    _wanted = "an index for each target (-1: none), a set of indices for each, or booleans (n_target, n_source)"


class _Index(_Input):
    def validate(self, obj, value):
        if not _is_index(value, 0, MOST_SOURCES):
            raise self.refuse("an index, an integer of at least 0" + (" or None" * self.allow_none), _short(value))
        return int(value)


class AlignmentExplorer(Explorer):
    """Who looks where: point at a target and its sources light up, or at a source and the targets that use it.

    weights    (n_target, n_source), or a head each: (n_heads, n_target, n_source); each row sums to 1
    source     names of the sources, in a text; without a picture and without names they go by their indices
    target     names of the targets
    image      a picture (H, W, 3), 0 to 1, whose patches are the sources, row by row
    grid       (rows, cols): how many patches the picture has down and across
    expected   the index of each target's right source, -1 where there is none; or, where several are right, a set
               of indices for each target, or booleans (n_target, n_source). Reads as a tuple of indices for each
    selected   the target in view
    head       which head is shown; None is the mean over them
    threshold  weights below it are not drawn
    sharpness  γ: shown are weights**γ, renormalised, as if the model's softmax had the temperature 1/γ. 1 shows what
               came

    All of them can be set and observed; `set(weights=…, source=…)` sets several in one step. From them follow

    shown      (n_target, n_source): the chosen head's weights after sharpening
    mass       (n_target,): how much of `shown` lies on the right source, NaN where there is none; None without expected

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "alignment"
    inputs = INPUTS

    weights = _Weights("(n_target, n_source) or (n_heads, n_target, n_source)")
    source = Labels(help="names of the sources", most=MOST_SOURCES)
    target = Labels(help="names of the targets", most=MOST_TARGETS)
    image = _Image("a picture (H, W, 3) whose patches are the sources")
    grid = _Grid(None, allow_none=True, help="(rows, cols) of patches")
    expected = _Expected("each target's right source")
    selected = _Index(0, help="the target in view")
    head = _Index(None, allow_none=True, help="which head is shown; None is the mean")
    threshold = Number(0.05, low=0, high=1, help="weights below it are not drawn")
    sharpness = Number(1.0, above=0, high=100, help="the power that the shown weights are raised to")

    shown = Result(INSTEAD, "the chosen head's weights after sharpening (n_target, n_source)")
    mass = Result(INSTEAD, "how much of shown lies on the right source (n_target,)")

    def __init__(
        self, weights, source=None, target=None, image=None, grid=None, expected=None, selected=0, head=None,
        threshold=0.05, sharpness=1.0, **kwargs,
    ):  # fmt: skip
        rows = AlignmentExplorer.weights.validate(self, weights)
        n_target, n_source = rows.shape[-2:]
        if target is None:
            target = [str(i) for i in range(n_target)]
        if source is None:
            source = [] if image is not None else [str(j) for j in range(n_source)]
        super().__init__(
            weights=rows, source=source, target=target, image=image, grid=grid, expected=expected, selected=selected,
            head=head, threshold=threshold, sharpness=sharpness, **kwargs,
        )  # fmt: skip
        self._compute()

    @validate("weights", "source", "target", "image", "grid", "expected", "selected", "head")
    def _fits(self, proposal):
        now = {name: getattr(self, name) for name in INPUTS} | {proposal.trait.name: proposal.value}
        _check(now)
        return proposal.value

    @observe("weights", "head", "sharpness", "expected")
    def _compute(self, _change=None):
        weights = self.weights
        if weights.ndim == 3:
            weights = weights.mean(axis=0) if self.head is None else weights[self.head]
        with np.errstate(divide="ignore"):
            shown = functional.softmax(np.log(weights), temperature=1 / self.sharpness)
        self._publish(shown=shown, mass=_mass(shown, self.expected))

    def _summary(self) -> str:
        n_target, n_source = self.weights.shape[-2:]
        heads = f"{len(self.weights)} heads, " if self.weights.ndim == 3 else ""
        return f"{heads}{n_target} targets, {n_source} {'sources' if self.image is None else 'patches'}"


# How the inputs fit each other ---------------------------------------------------------------------------------


def _check(now: dict):
    """Raises TraitError if the explorer's inputs do not fit each other."""
    *heads, n_target, n_source = now["weights"].shape

    def insist(fits, name, expected, came):
        if not fits:
            raise TraitError(
                f"{name} must be {expected}, got {came}; to change several inputs at once, use set({name}=…, …)"
            )

    shape = f"weights of shape {now['weights'].shape}"
    insist(len(now["target"]) == n_target, "target", f"a name for each of the {n_target} targets of {shape}",
           len(now["target"]))  # fmt: skip
    insist(now["image"] is not None or n_source <= MOST_TARGETS, "weights",
           f"over at most {MOST_TARGETS} sources where there is no picture", n_source)  # fmt: skip
    nameless = now["image"] is not None and not now["source"]
    insist(nameless or len(now["source"]) == n_source, "source",
           f"a name for each of the {n_source} sources of {shape}", len(now["source"]))  # fmt: skip
    if now["image"] is not None:
        grid = now["grid"]
        insist(grid and grid[0] * grid[1] == n_source, "grid",
               f"(rows, cols) with rows × cols = {n_source}, the sources of {shape}", grid)  # fmt: skip
    insist(now["selected"] < n_target, "selected", f"below {n_target}, the targets of {shape}", now["selected"])
    which = f"None or below {heads[0]}, the heads of {shape}" if heads else f"None, since {shape} have one head only"
    insist(now["head"] is None or heads and now["head"] < heads[0], "head", which, now["head"])
    right = now["expected"]
    if right is not None:
        insist(len(right) == n_target, "expected", f"the right source of each of the {n_target} targets", len(right))
        largest = max((j for row in right for j in row), default=0)
        insist(largest < n_source, "expected", f"indices below {n_source}, the sources of {shape}", largest)


def _mass(shown: np.ndarray, expected) -> np.ndarray | None:
    if expected is None:
        return None
    return np.array([row[list(right)].sum() if right else np.nan for row, right in zip(shown, expected)])


def _is_index(value, low, high) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and low <= value <= high
