"""What the explorers share in Python: how the module is put together, and the kinds of traits they have.

An explorer's inputs are `Array`, `Number`, `Count`, `Name` and `Labels` traits, which travel to the browser and back.
Its results are `Result` traits: computed here from the inputs, observable, and never set by hand.
"""

import math
import re
from contextlib import contextmanager
from pathlib import Path

import anywidget
import numpy as np
from traitlets import TraitError, TraitType

HERE = Path(__file__).parent
_KIT_IMPORT = re.compile(r'^import \{[^}]*\} from "\./kit\.js";\n', re.MULTILINE)


def bundle(module: str) -> str:
    """One ES module, as anywidget wants it: the kit, then the explorer without its import of the kit."""
    own, imports = _KIT_IMPORT.subn("", (HERE / f"{module}.js").read_text(encoding="utf-8"))
    if imports != 1:
        raise ValueError(f'{module}.js must have one import {{…}} from "./kit.js", found {imports}')
    return (HERE / "kit.js").read_text(encoding="utf-8") + "\n" + own


class Explorer(anywidget.AnyWidget):
    """A widget whose front end is the module named by the class attribute `module`.

    A subclass says in `_summary` what its repr shows: nbval compares it, so nothing that changes from run to run; and
    in `inputs` the traits that `set` takes, where some have to change together.
    """

    inputs = ()

    def __init_subclass__(cls, **kwargs):
        if "module" in vars(cls):
            cls._esm = bundle(cls.module)
            cls._css = (HERE / "kit.css").read_text(encoding="utf-8")
        super().__init_subclass__(**kwargs)

    def set(self, **traits):
        """Set several traits in one step; they are checked together, and either all change or none does."""
        for name in traits:
            if name not in self.inputs:
                raise TypeError(f"set takes {', '.join(self.inputs)}, got {name!r}")
        with self.hold_trait_notifications():
            for name, value in traits.items():
                setattr(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary()})"

    def _summary(self) -> str:
        return ""

    @contextmanager
    def hold_trait_notifications(self):
        """Changes made within are checked together, and reach the browser in one message, so never half of them."""
        with self.hold_sync(), super().hold_trait_notifications():
            yield

    def _publish(self, **results):
        """Set Result traits; arrays go out read-only, so that nobody edits a result in place."""
        for name, value in results.items():
            self.set_trait(name, _frozen(value) if isinstance(value, np.ndarray) else value)


class Result(TraitType):
    """Something that the explorer computes. Setting it is an error that says what to set instead."""

    def __init__(self, instead: str, help: str):
        super().__init__(default_value=None, allow_none=True, help=help)
        self.instead = instead

    def __set__(self, obj, value):
        raise TraitError(f"{self.name} is computed from the inputs and cannot be set; set {self.instead} instead")


class _Input(TraitType):
    """A trait that travels to the browser, and whose errors name it, what came and what was expected."""

    def __init__(self, default_value, *, help: str, allow_none: bool = False):
        super().__init__(default_value, help=help, allow_none=allow_none)
        self.tag(sync=True)

    def refuse(self, expected: str, came) -> TraitError:
        return TraitError(f"{self.name} must be {expected}, got {came}")


class Array(_Input):
    """Numbers (or booleans) from a list, a tuple, NumPy or torch; held as a read-only NumPy array.

    `sizes` gives (fewest, most) for each axis, `within` how large the numbers may be. Read-only, because an element
    set in place could not be seen: the browser would keep showing the old one. Assign a new array instead.
    """

    def __init__(self, default_value, *, sizes, help: str, dtype: type = float, within: float = math.inf, **options):
        default = None if default_value is None else _frozen(np.array(default_value, dtype=dtype))
        super().__init__(default, help=help, **options)
        self.sizes, self.dtype, self.within = sizes, dtype, within
        self.tag(to_json=_array_to_json, from_json=lambda value, _: value)

    def validate(self, obj, value):
        if hasattr(value, "detach"):  # a torch tensor, wherever it lives and whether or not it tracks gradients
            value = value.detach().cpu()
            value = (value.double() if value.is_floating_point() else value).numpy()  # NumPy knows no bfloat16
        try:
            array = np.array(value)
        except (TypeError, ValueError):
            raise self.refuse(self._expected(), f"rows of different lengths or kinds: {_short(value)}") from None
        if array.dtype.kind not in ("b" if self.dtype is bool else "iuf"):
            raise self.refuse(self._expected(), _short(value))
        if array.ndim != len(self.sizes) or not all(
            low <= n <= high for n, (low, high) in zip(array.shape, self.sizes)
        ):
            raise self.refuse(self._expected(), f"shape {array.shape}")
        with np.errstate(over="ignore"):
            array = array.astype(self.dtype)
        if not np.isfinite(array).all():
            raise self.refuse(self._expected(), _short(value))
        if np.abs(array).max() > self.within:
            raise self.refuse(f"within ±{self.within:,.0f}", f"{array.flat[np.abs(array).argmax()]:g}")
        return _frozen(array)

    def _expected(self) -> str:
        kind = "booleans" if self.dtype is bool else "finite numbers"
        return f"{' × '.join(f'{low}…{high}' for low, high in self.sizes)} {kind}"


class Number(_Input):
    """A finite float in a range; `above` is a bound that itself is not allowed, `low` and `high` are."""

    def __init__(self, default_value, *, help: str, above=None, low=-math.inf, high=math.inf, allow_none=False):
        super().__init__(default_value, help=help, allow_none=allow_none)
        self.above, self.low, self.high = above, low, high

    def validate(self, obj, value):
        number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise self.refuse(self._expected(), _short(value))
        try:
            number = float(number)
        except OverflowError:
            raise self.refuse(self._expected(), "an integer beyond every float") from None
        inside = self.low <= number <= self.high and (self.above is None or number > self.above)
        if not (math.isfinite(number) and inside):
            raise self.refuse(self._expected(), _short(value))
        return number

    def _expected(self) -> str:
        bounds = [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"at least {self.low:g}"] if math.isfinite(self.low) else []
        bounds += [f"at most {self.high:g}"] if math.isfinite(self.high) else []
        return " ".join(["a finite number", " and ".join(bounds)]).strip()


class Count(Number):
    """An integer in a range; with `step`, a multiple of it."""

    def __init__(self, default_value, *, low, high, help: str, step: int = 1):
        super().__init__(default_value, low=low, high=high, help=help)
        self.step = step

    def validate(self, obj, value):
        number = super().validate(obj, value)
        if number % self.step:
            raise self.refuse(self._expected(), _short(value))
        return int(number)

    def _expected(self) -> str:
        return f"an {'even ' if self.step == 2 else ''}integer from {self.low} to {self.high}"


class Name(_Input):
    """One of a few strings, the first unless another is given."""

    def __init__(self, names, default_value=None, *, help: str):
        super().__init__(default_value or names[0], help=help)
        self.names = tuple(names)

    def validate(self, obj, value):
        if not isinstance(value, str) or value not in self.names:
            raise self.refuse(f"{', '.join(self.names[:-1])} or {self.names[-1]}", _short(value))
        return value


class Labels(_Input):
    """Strings, held as a tuple; shown as text whatever they hold."""

    def __init__(self, default_value=(), *, help: str, most: int = 64):
        super().__init__(tuple(default_value), help=help)
        self.most = most
        self.tag(to_json=lambda value, _: list(value), from_json=lambda value, _: value)

    def validate(self, obj, value):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise self.refuse("a list of strings", _short(value))
        labels = tuple(value)
        if len(labels) > self.most or not all(isinstance(label, str) for label in labels):
            raise self.refuse(f"a list of at most {self.most} strings", _short(value))
        if any("\ud800" <= letter <= "\udfff" for label in labels for letter in label):
            raise self.refuse("strings without lone surrogates, which no message can carry", _short(value))
        return labels


def _array_to_json(value, _widget):
    return None if value is None else value.tolist()


def _frozen(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
