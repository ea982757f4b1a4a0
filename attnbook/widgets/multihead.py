"""The multi-head explorer: every head's map, what each head adds to the output, and what is missing without it.

The page computes for itself (multihead.js); Python recomputes `weights`, `heads_out`, `out` and `moved` with
`attnbook.functional` whenever an input changes.
"""

import functools

import numpy as np
from traitlets import TraitError, observe, validate

from attnbook import functional

from ._base import Array, Count, Explorer, Labels, Result, _Input, _short
from .qkv import _BREAKS, MASKS, _carried_mask, default_vectors, spread_mask

LONGEST, MOST_HEADS, WIDEST, D_MODEL, MADE_UP_D_K = 16, 12, 128, 16, 8
GIVEN = ("x", "w_q", "w_k", "w_v", "w_o")
INPUTS = ("tokens", "n_heads", "d_k", "mask", "on", *GIVEN)
INSTEAD = "tokens, n_heads, d_k, mask or on"
# How fast the four pairs of position components turn, in radians a token. The first two together are alike at no
# other distance up to 15, the last falls all the way.
ANGLES = np.array([1.5, 0.35, 0.7, 0.2])
# What the first heads are made to look for; the others are random.
LOOKS_FOR = ("one back", "same word", "one ahead", "farthest")


# Made-up tokens and weights: the same in multihead.js, to the last bit -------------------------------------------


def made_up(tokens: list[str], n_heads: int, d_k: int) -> dict[str, np.ndarray]:
    """x (n, 16), w_q, w_k, w_v (16, n_heads · d_k) and w_o (n_heads · d_k, 16): made up, the same on every machine.

    A token's first 8 components are its word's (equal words, equal components), the last 8 the sines and cosines
    of its position. Head i is the same however many there are, and a wider head keeps its first columns.
    """
    heads = [_head(i) for i in range(n_heads)]
    word = default_vectors(list(tokens), D_MODEL // 2, "k")
    columns = {name: np.hstack([head[name][:, :d_k] for head in heads]) for name in ("w_q", "w_k", "w_v")}
    w_o = np.vstack([head["w_o"][:d_k] for head in heads])
    return {"x": np.hstack([word, _places(len(tokens))]), **columns, "w_o": w_o}


def _hundredths(numbers):
    return np.floor(numbers * 100 + 0.5) / 100


def _places(n):
    angle = np.arange(n)[:, None] * ANGLES
    return _hundredths(np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(n, D_MODEL // 2))


@functools.cache
def _head(i):
    """All four matrices of head i at its widest."""
    rows, depth = [f"head {i + 1} row {r + 1}" for r in range(D_MODEL)], range(MADE_UP_D_K)
    head = {
        "w_q": default_vectors(rows, MADE_UP_D_K, "q") / 2,
        "w_k": default_vectors(rows, MADE_UP_D_K, "k") / 4,
        "w_v": default_vectors(rows, MADE_UP_D_K, "v") / 4,
        "w_o": default_vectors([f"head {i + 1} out {c + 1}" for c in depth], D_MODEL, "v") / 4,
    }
    if i < len(LOOKS_FOR):
        head["w_q"], head["w_k"] = {
            "one back": lambda: (_turned(-1), _turned(0)),
            "same word": lambda: (1.5 * np.eye(D_MODEL, MADE_UP_D_K),) * 2,
            "one ahead": lambda: (_turned(1), _turned(0)),
            "farthest": lambda: (_slowest(-3), _slowest(3)),
        }[LOOKS_FOR[i]]()
    return head


def _turned(steps):
    """Reads the position components, each pair turned by its angle of so many steps: what stands there."""
    w = np.zeros((D_MODEL, MADE_UP_D_K))
    for pair, angle in enumerate(steps * ANGLES):
        at = D_MODEL // 2 + 2 * pair
        cos, sin = np.cos(angle), np.sin(angle)
        w[at : at + 2, 2 * pair : 2 * pair + 2] = _hundredths(3 * np.array([[cos, sin], [-sin, cos]]))
    return w


def _slowest(gain):
    w = np.zeros((D_MODEL, MADE_UP_D_K))
    w[-2, 0] = w[-1, 1] = gain
    return w


# Traits ----------------------------------------------------------------------------------------------------------


class _Words(Labels):
    """Words, or one text to split on spaces. Setting them settles the mask in the same step."""

    def __init__(self, help: str):
        super().__init__(("a",), help=help, most=LONGEST)

    def set(self, obj, value):
        with obj.hold_trait_notifications():
            super().set(obj, value)

    def validate(self, obj, value):
        words = value.split() if isinstance(value, str) else value
        if isinstance(words, (list, tuple)) and not 1 <= len(words) <= LONGEST:
            raise self.refuse(f"1 to {LONGEST} words", f"{len(words)}")
        words = super().validate(obj, words)
        if not all(words) or any(_BREAKS.search(word) for word in words):
            raise self.refuse("words, none of them empty or with white space in it", repr(words))
        return words


class _Heads(Count):
    """Setting the number of heads settles which are on in the same step."""

    def set(self, obj, value):
        with obj.hold_trait_notifications():
            super().set(obj, value)


class _Mask(Array):
    """A name, until the number of tokens is known; then a boolean (n, n) array."""

    def __init__(self, help: str):
        super().__init__(np.ones((1, 1)), sizes=((1, LONGEST),) * 2, dtype=bool, help=help)
        self.tag(to_json=lambda value, _: value if isinstance(value, str) else value.tolist())

    def validate(self, obj, value):
        if value is None:
            return "none"
        if isinstance(value, str):
            if value not in MASKS:
                raise self.refuse(self._expected(), repr(value))
            return value
        if "bool" not in str(getattr(value, "dtype", "bool")):  # a float mask is a common mistake: say so shortly
            raise self.refuse(self._expected(), f"dtype {value.dtype}")
        if obj._settled and value is obj._settled["mask"]:
            return value
        return super().validate(obj, value)

    def _expected(self) -> str:
        return f"None, {', '.join(MASKS)} or booleans of shape (n, n), True = may attend"


class _Switches(_Input):
    """A boolean for each head, held as a tuple."""

    def __init__(self, help: str):
        super().__init__((True,), help=help)
        self.tag(to_json=lambda value, _: list(value), from_json=lambda value, _: value)

    def validate(self, obj, value):
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, bool) for each in value):
            raise self.refuse("a boolean for each head", _short(value))
        return tuple(value)


class _Given(Array):
    """A trained layer's array, or None; given when the explorer is made, and of that shape ever after."""

    def __init__(self, help: str):
        super().__init__(None, sizes=((1, WIDEST),) * 2, within=1e6, allow_none=True, help=help)

    def _validate(self, obj, value):  # `validate` is not asked about None
        before = obj._settled and obj._settled[self.name]
        value = super()._validate(obj, value)
        if obj._settled and np.shape(value) != np.shape(before):
            kept = "be given when the explorer is made" if before is None else f"keep its shape, {before.shape}"
            raise TraitError(f"{self.name} must {kept}, got {'None' if value is None else value.shape} now")
        return value


class MultiHeadExplorer(Explorer):
    """Up to 12 heads over 1 to 16 tokens: each one's map, what it adds to the output, and the output without it.

    tokens     words, or a text to split on spaces
    n_heads    1 to 12
    d_k        the width of a head's queries, keys and values
    mask       "none", "causal", "padding", or booleans that broadcast to (n, n), True = may attend
    x, w_q, w_k, w_v, w_o
               a trained layer's arrays, all five or none: (n, d_model), three of (d_model, n_heads · d_k) and
               (n_heads · d_k, d_model), widths up to 128, no biases. (A torch Linear keeps the transpose of its
               matrix: pass `layer.w_q.weight.T`.) The number of tokens, of heads and d_k are then fixed.
               Without them everything is `made_up`, d_model is 16, and d_k is 1 to 8.

    `.on`, a boolean for each head, says which heads the output is made of. All can be set and observed; from them
    follow, as read-only arrays,

    weights    (n_heads, n, n): each head's attention weights, whether it is on or not
    heads_out  (n_heads, n, d_k): each head's weighted values, whether it is on or not
    out        (n, d_model): the sum of heads_out @ its rows of w_o over the heads that are on
    moved      (n,): for each token the length of out - out with all heads on

    Raises TraitError, naming the trait, what came and what was expected; the explorer then stays as it was.
    """

    module = "multihead"

    tokens = _Words("the words: rows are their queries, columns their keys")
    n_heads = _Heads(1, low=1, high=MOST_HEADS, help="how many heads")
    d_k = Count(1, low=1, high=WIDEST, help="the width of a head's queries, keys and values")
    mask = _Mask("who may attend to whom (n, n)")
    on = _Switches("which heads the output is made of")
    x = _Given("the tokens' vectors (n, d_model), or None: made up")
    w_q = _Given("(d_model, n_heads · d_k), or None: made up")
    w_k = _Given("(d_model, n_heads · d_k), or None: made up")
    w_v = _Given("(d_model, n_heads · d_k), or None: made up")
    w_o = _Given("(n_heads · d_k, d_model), or None: made up")

    weights = Result(INSTEAD, "each head's attention weights (n_heads, n, n)")
    heads_out = Result(INSTEAD, "each head's weighted values (n_heads, n, d_k)")
    out = Result(INSTEAD, "the output (n, d_model)")
    moved = Result(INSTEAD, "how far each token's output is from the one with all heads on (n,)")

    _settled = None  # the inputs as they last fitted each other

    def __init__(
        self, tokens="the cat sat on the mat", n_heads=4, d_k=4, x=None, w_q=None, w_k=None, w_v=None, w_o=None,
        mask="none", on=None, **kwargs,
    ):  # fmt: skip
        cls = MultiHeadExplorer
        words, n_heads = cls.tokens.validate(self, tokens), cls.n_heads.validate(self, n_heads)
        given = _checked(dict(zip(GIVEN, (x, w_q, w_k, w_v, w_o))), len(words), n_heads, self)
        d_k = given["w_o"].shape[0] // n_heads if given else cls.d_k.validate(self, d_k)
        on = (True,) * n_heads if on is None else on
        super().__init__(tokens=words, n_heads=n_heads, d_k=d_k, mask=mask, on=on, **given, **kwargs)
        self._follow()

    @property
    def made_up(self) -> bool:
        """Whether tokens and weights are made up, or those that were given."""
        return self.x is None

    def _summary(self) -> str:
        return f"{len(self.tokens)} tokens, n_heads={self.n_heads}, d_k={self.d_k}"

    @validate("tokens", "n_heads", "d_k")
    def _fits(self, proposal):
        """Given arrays fix the sizes; without them the mask and the switches follow the sizes."""
        name, value, before = proposal.trait.name, proposal.value, self._settled
        if name == "d_k" and self.made_up and value > MADE_UP_D_K:
            raise TraitError(f"d_k must be an integer from 1 to {MADE_UP_D_K} with made-up weights, got {value}")
        if not before:
            return value
        if not self.made_up:
            size, fixed = (len(value), len(before["tokens"])) if name == "tokens" else (value, before[name])
            if size != fixed:
                raise TraitError(f"{name} must fit the given x and weights, {fixed}, got {size}")
        if name == "tokens" and self.mask is before["mask"]:
            self.set_trait("mask", _carried_mask(before["mask"], len(value)))
        if name == "n_heads" and self.on is before["on"]:
            self.set_trait("on", (*before["on"], *(True,) * MOST_HEADS)[:value])
        return value

    @validate("on")
    def _one_each(self, proposal):
        if len(proposal.value) != self.n_heads:
            raise TraitError(f"on must be a boolean for each of the {self.n_heads} heads, got {len(proposal.value)}")
        return proposal.value

    @validate("mask")
    def _spread(self, proposal):
        return spread_mask(proposal.value, len(self.tokens))

    @observe(*INPUTS)
    def _follow(self, _change=None):
        self._settled = {name: getattr(self, name) for name in INPUTS}
        arrays = made_up(self.tokens, self.n_heads, self.d_k) if self.made_up else self._settled
        x, w_o = arrays["x"], arrays["w_o"].reshape(self.n_heads, self.d_k, -1)
        q, k, v = (_split(x @ arrays[name], self.n_heads) for name in ("w_q", "w_k", "w_v"))
        heads_out, weights = functional.attention(q, k, v, np.array(self.mask), return_weights=True)
        added = heads_out @ w_o  # (n_heads, n, d_model): what each head adds to the output
        out = added[np.array(self.on)].sum(axis=0)
        moved = np.linalg.norm(added[~np.array(self.on)].sum(axis=0), axis=-1)
        results = {"weights": weights, "heads_out": heads_out, "out": out, "moved": moved}
        self._publish(**{name: rows for name, rows in results.items() if not np.array_equal(getattr(self, name), rows)})


def _split(rows, n_heads):
    """(n, n_heads · d_k) into (n_heads, n, d_k)."""
    return rows.reshape(len(rows), n_heads, -1).swapaxes(0, 1)


def _checked(arrays: dict, n: int, n_heads: int, explorer) -> dict:
    """The given arrays as NumPy has them, or none. Raises TraitError where they do not fit each other."""
    missing = [name for name in GIVEN if arrays[name] is None]
    if len(missing) == len(GIVEN):
        return {}
    if missing:
        raise TraitError(f"x, w_q, w_k, w_v and w_o must be given together, got no {', '.join(missing)}")
    arrays = {name: getattr(MultiHeadExplorer, name).validate(explorer, value) for name, value in arrays.items()}
    rows, d_model = arrays["x"].shape
    if rows != n:
        raise TraitError(f"x must have one row for each of the {n} tokens, got shape {arrays['x'].shape}")
    width = arrays["w_q"].shape[1]
    if width % n_heads:
        raise TraitError(f"w_q must have n_heads · d_k columns, a multiple of {n_heads}, got {arrays['w_q'].shape}")
    for name, want in (("w_q", (d_model, width)), ("w_k", (d_model, width)), ("w_v", (d_model, width)),
                       ("w_o", (width, d_model))):  # fmt: skip
        if arrays[name].shape != want:
            what = "(n_heads · d_k, d_model)" if name == "w_o" else "(d_model, n_heads · d_k)"
            raise TraitError(f"{name} must have shape {want}, {what}, got {arrays[name].shape}")
    return arrays
