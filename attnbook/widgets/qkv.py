"""The Q/K/V explorer: every number of scaled dot-product attention, to drag, switch and read.

The page computes for itself (qkv.js); Python recomputes `scores`, `weights` and `out` with
`attnbook.functional` whenever an input changes, so a notebook cell reads what the reader has just dragged.
"""

import re

import numpy as np
from traitlets import Bool, Int, TraitError, observe, validate

from attnbook import functional, masks
from attnbook.masks import _scramble

from ._base import Array, Explorer, Labels, Number, Result

SHORTEST, LONGEST, WIDEST, LARGEST = 3, 64, 64, 1e6
INPUTS = ("tokens", "q", "k", "v", "mask", "scaled", "temperature")
INSTEAD = "tokens, q, k, v, mask, scaled or temperature"
MASKS = ("none", "causal", "padding")
# Where the hash of each role starts. Any number would do: these were searched for, so that in the book's first
# sentence "the" looks for its nouns, "cat" for its verb, "on" for its place.
ROLES = {"q": 1553713, "k": 1987661, "v": 16109}
_BREAKS = re.compile(r"[\s\ufeff]")  # where the page splits a text, to the browser's idea of white space


def default_vectors(tokens: list[str], width: int, role: str, seed: int = 0) -> np.ndarray:
    """The vectors that tokens start with, shape (n, width): made up, not learned, the same on every machine.

    Each word is hashed (FNV-1a), so equal words get equal vectors; component c is the sum of three uniform
    numbers on -1…1, which has variance 1 and stays within ±3, rounded to one decimal so that a reader can follow
    the sums in the head. `madeUpVector` in kit.js follows the same rule to the last bit.
    """
    start = _scramble(np.uint32((ROLES[role] + seed * 0x9E3779B9) % 2**32))
    counter = np.arange(1, 3 * width + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    rows = np.empty((len(tokens), width))
    for row, word in zip(rows, tokens):
        state = int(start)
        for byte in word.encode("utf-8", "replace"):
            state = ((state ^ byte) * 16777619) % 2**32
        uniform = _scramble(np.uint32(state) + counter) / 2**32
        row[:] = np.floor((2 * uniform.reshape(width, 3).sum(axis=1) - 3) * 10 + 0.5) / 10
    return rows


def named_mask(kind: str, n: int, length: int | None = None) -> np.ndarray:
    """The (n, n) mask that a name stands for; "padding" keeps `length` tokens, all but the last two without it."""
    if kind == "causal":
        return masks.causal(n)
    if kind == "padding":
        return np.broadcast_to(masks.padding(max(1, n - 2) if length is None else min(length, n), n), (n, n))
    return np.ones((n, n), dtype=bool)


def spread_mask(mask: str | np.ndarray, n: int) -> np.ndarray:
    """A mask by name, or one that broadcasts, as a read-only (n, n) array. Raises TraitError."""
    mask = named_mask(mask, n) if isinstance(mask, str) else mask
    try:
        spread = np.array(np.broadcast_to(mask, (n, n)))
    except ValueError:
        raise TraitError(f"mask must have shape (n, n) = ({n}, {n}) or broadcast to it, got {mask.shape}") from None
    spread.setflags(write=False)
    return spread


def mask_kind(mask: np.ndarray) -> str:
    """Which name a mask answers to: one of "none", "causal", "padding", or "custom"."""
    if mask.all():
        return "none"
    if (mask == masks.causal(len(mask))).all():
        return "causal"
    length = int(mask[0].sum())
    return "padding" if length and (mask == masks.padding(length, len(mask))).all() else "custom"


# Traits ------------------------------------------------------------------------------------------------------


class _Rows(Array):
    """One row of numbers for each token. Rows that already fitted come through untouched (`_settled` tells)."""

    def __init__(self, help: str):
        super().__init__(np.zeros((SHORTEST, 1)), sizes=((SHORTEST, LONGEST), (1, WIDEST)), within=LARGEST, help=help)

    def validate(self, obj, value):
        if obj._settled and value is obj._settled[self.name]:
            return value
        return super().validate(obj, value)


class _Mask(Array):
    """A name, until the number of tokens is known; then a boolean (n, n) array."""

    def __init__(self, help: str):
        super().__init__(np.ones((SHORTEST, SHORTEST)), sizes=((1, LONGEST),) * 2, dtype=bool, help=help)
        self.tag(to_json=lambda value, _: value if isinstance(value, str) else value.tolist())

    def validate(self, obj, value):
        if obj._settled and value is obj._settled["mask"]:
            return value
        if isinstance(value, str):
            if value not in MASKS:
                raise self.refuse(self._expected(), repr(value))
            return value
        if "bool" not in str(getattr(value, "dtype", "bool")):  # a float mask is a common mistake: say so shortly
            raise self.refuse(self._expected(), f"dtype {value.dtype}")
        return super().validate(obj, value)

    def _expected(self) -> str:
        return f"{', '.join(MASKS)} or booleans of shape (n, n), True = may attend"


class _Tokens(Labels):
    """Words, or one text to split on spaces. Setting them settles the other traits in the same step."""

    def __init__(self, help: str):
        super().__init__(("a", "b", "c"), help=help, most=LONGEST)

    def set(self, obj, value):
        with obj.hold_trait_notifications():
            super().set(obj, value)

    def validate(self, obj, value):
        words = value.split() if isinstance(value, str) else value
        if isinstance(words, (list, tuple)) and not SHORTEST <= len(words) <= LONGEST:
            raise self.refuse(f"{SHORTEST} to {LONGEST} words", f"{len(words)}")
        words = super().validate(obj, words)
        if not all(words) or any(_BREAKS.search(word) for word in words):
            raise self.refuse("words, none of them empty or with white space in it", repr(words))
        return words


class QKVExplorer(Explorer):
    """Scaled dot-product attention over 3 to 64 tokens, every part of it movable.

    `tokens` (a text, split on spaces, or a list of words), `q`, `k` (n, d_k) and `v` (n, d_v), `mask` ("none",
    "causal", "padding", or booleans that broadcast to (n, n), True = may attend), `scaled` (divide by √d_k?) and
    `temperature` can be set and observed; `scores` (before mask and temperature), `weights` and `out` follow.
    Arrays come out as read-only float64: assign a new one to change something. Traits that must change together
    go through `set`. What is not given starts from `default_vectors`; a given q or k decides d_k.

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "qkv"
    inputs = INPUTS

    tokens = _Tokens("the words: rows are their queries, columns their keys")
    q = _Rows("queries (n, d_k): what each token looks for")
    k = _Rows("keys (n, d_k): what each token offers")
    v = _Rows("values (n, d_v): what each token hands over")
    mask = _Mask("who may attend to whom (n, n)")
    scaled = Bool(True, help="divide the scores by √d_k?").tag(sync=True)
    temperature = Number(1.0, above=0, help="the scores are divided by it before softmax")
    seed = Int(0, min=0, max=2**32 - 1, help="where the vectors of new words come from").tag(sync=True)

    scores = Result(INSTEAD, "q kᵀ / √d_k, or q kᵀ when not scaled; before mask and temperature")
    weights = Result(INSTEAD, "softmax of the masked scores; each row shares out 1")
    out = Result(INSTEAD, "weights @ v")

    _settled = None  # the inputs as they last fitted each other

    def __init__(
        self, tokens="the cat sat on the mat", d_k=2, q=None, k=None, v=None, mask="none", scaled=True,
        temperature=1.0, seed=0, **kwargs,
    ):  # fmt: skip
        if isinstance(d_k, bool) or not isinstance(d_k, (int, np.integer)) or not 1 <= d_k <= WIDEST:
            raise TraitError(f"d_k must be an integer from 1 to {WIDEST}, got {d_k!r}")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise TraitError(f"seed must be an integer from 0 to 2³² - 1, got {seed!r}")
        words = list(QKVExplorer.tokens.validate(self, tokens))
        given = {role: x for role, x in (("q", q), ("k", k), ("v", v)) if x is not None}
        rows = {role: getattr(QKVExplorer, role).validate(self, x) for role, x in given.items()}
        width = next((rows[role].shape[1] for role in "qk" if role in rows), d_k)
        for role in ROLES:
            if role not in rows:
                rows[role] = default_vectors(words, width, role, int(seed))
        super().__init__(
            tokens=words, mask=mask, scaled=scaled, temperature=temperature, seed=int(seed), **rows, **kwargs
        )

    @property
    def d_k(self) -> int:
        """The width of a query or key."""
        return self.q.shape[1]

    def _summary(self) -> str:
        return f"{len(self.tokens)} tokens, d_k={self.d_k}"

    @validate("tokens")
    def _bring_along(self, proposal):
        """What was not set together with the tokens keeps the rows of the words that stay."""
        before, words = self._settled, list(proposal.value)
        for role in ROLES if before else ():
            if getattr(self, role) is before[role]:
                self.set_trait(role, _carried(list(before["tokens"]), before[role], words, role, self.seed))
        if before and self.mask is before["mask"]:
            self.set_trait("mask", _carried_mask(before["mask"], len(words)))
        return proposal.value

    @validate("q", "k", "v")
    def _fits(self, proposal):
        name, rows = proposal.trait.name, proposal.value
        if len(rows) != len(self.tokens):
            raise TraitError(
                f"{name} must have one row for each of the {len(self.tokens)} tokens, got shape {rows.shape}; "
                f"to change the number of tokens too, use set(tokens=…, q=…, k=…, v=…)"
            )
        other = {"q": self.k, "k": self.q}.get(name)
        if other is not None and rows.shape[1] != other.shape[1]:
            raise TraitError(
                f"{name} must be as wide as {'k' if name == 'q' else 'q'}, d_k = {other.shape[1]}, got shape "
                f"{rows.shape}; to change d_k, use set(q=…, k=…)"
            )
        return rows

    @validate("mask")
    def _spread(self, proposal):
        return spread_mask(proposal.value, len(self.tokens))

    @observe(*INPUTS)
    def _follow(self, change):
        self._settled = {name: getattr(self, name) for name in ("tokens", "mask", *ROLES)}
        scores = functional.scaled_scores(self.q, self.k, None if self.scaled else 1.0)
        weights = functional.softmax(functional.masked(scores, self.mask), temperature=self.temperature)
        results = {"scores": scores, "weights": weights, "out": weights @ self.v}
        self._publish(**{n: x for n, x in results.items() if not np.array_equal(getattr(self, n), x)})


def _carried(before: list[str], rows: np.ndarray, words: list[str], role: str, seed: int) -> np.ndarray:
    """Rows for new words: the row at its place for a word that stayed there, else its first row, else its default."""
    carried = default_vectors(words, rows.shape[1], role, seed)
    for i, word in enumerate(words):
        if word in before:
            carried[i] = rows[i if before[i : i + 1] == [word] else before.index(word)]
    return carried


def _carried_mask(mask: np.ndarray, n: int) -> np.ndarray:
    """The mask for another number of tokens: a named one of the same name, a custom one with new places open."""
    kind = mask_kind(mask)
    if kind != "custom":
        return named_mask(kind, n, int(mask[0].sum()) if kind == "padding" else None)
    carried = np.ones((n, n), dtype=bool)
    kept = min(n, len(mask))
    carried[:kept, :kept] = mask[:kept, :kept]
    return carried

