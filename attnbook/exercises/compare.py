"""Is what came what was expected, and if not, in which way? Values are arrays, numbers, or tuples and dicts of them."""

import math
import sys
from fractions import Fraction

import numpy as np


def plain(value):
    """Tensors as NumPy arrays, lists as tuples, numbers as arrays without axes; the rest as it is."""
    try:
        return _plain(value)
    except RecursionError:  # a list that holds itself
        return value


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if is_tensor(value):
        try:
            value = value.detach().cpu().resolve_conj().resolve_neg()
            return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        except (RuntimeError, TypeError, NotImplementedError):  # sparse, quantised, without numbers, …
            return value
    if isinstance(value, Fraction):
        return np.asarray(float(value))
    if isinstance(value, (bool, int, float, np.generic)):
        return np.asarray(value)
    return value


def is_tensor(value) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def fields(value) -> dict:
    """The parts of a plain value, by key or by place; a single value is its own only part."""
    return value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, tuple) else {"": value}


def same(got, want, tolerance: float) -> bool:
    """Both plain. NaN equals NaN here: two that are wrong in the same way are the same."""
    if isinstance(want, (tuple, dict)):
        alike = type(got) is type(want) and fields(got).keys() == fields(want).keys()
        return alike and all(same(part, fields(want)[key], tolerance) for key, part in fields(got).items())
    if is_array(got) and is_array(want):
        return got.shape == want.shape and bool(np.all(near(got, want, tolerance)))
    return type(got) is type(want) and not is_array(want) and bool(np.all(got == want))


def near(got: np.ndarray, want: np.ndarray, tolerance: float) -> np.ndarray:
    """Element by element, for arrays of one shape; a small number is compared on the scale of the largest."""
    if "b" in got.dtype.kind + want.dtype.kind:
        return got == want
    got, want = got.astype(float), want.astype(float)
    scale = max(np.abs(want[np.isfinite(want)]).max(initial=0), 1e-3)
    with np.errstate(invalid="ignore"):
        return (got == want) | (np.abs(got - want) <= tolerance * scale) | (np.isnan(got) & np.isnan(want))


def finite(value) -> bool:
    return all(not is_array(part) or bool(np.isfinite(part).all()) for part in fields(value).values())


def precision(value) -> int:
    """Bits of the least precise floating part: 16, 32 or 64."""
    floating = [part for part in fields(value).values() if is_array(part) and part.dtype.kind == "f"]
    return min((part.dtype.itemsize * 8 for part in floating), default=64)


def as_library(args: tuple, library: str, single: bool = False) -> tuple:
    """The arrays among the arguments as NumPy arrays or torch tensors; with `single`, floating ones in float32."""

    def convert(x):
        if isinstance(x, (tuple, list)):
            return type(x)(map(convert, x))
        if isinstance(x, dict):
            return {key: convert(part) for key, part in x.items()}
        if isinstance(x, np.ndarray) or hasattr(x, "detach"):
            x = np.array(plain(x))
            x = x.astype(np.float32) if single and x.dtype == np.float64 else x
            return sys.modules["torch"].from_numpy(x) if library == "torch" else x
        return x

    return convert(tuple(args))


def library_of(args: tuple) -> str:
    return "torch" if any(hasattr(x, "detach") for x in args) else "numpy"


def text_for_numbers(got, want) -> str:
    """A sentence about the parts of a prediction that are text where numbers are wanted, else nothing."""
    parts = {key: part for key, part in fields(want).items() if _holds_text(fields(got).get(key, 0))}
    parts = {key: part for key, part in parts.items() if not _holds_text(part)}
    names = [str(key + 1) if isinstance(want, tuple) else repr(key) for key in parts]
    if not names:
        return ""
    who = f"Part {names[0]} is" if len(names) == 1 else f"Parts {', '.join(names[:-1])} and {names[-1]} are"
    who = "It is" if names == ["''"] else who
    boolean = all(is_array(part) and part.dtype == bool for part in parts.values())
    return f"{who} text. Write {'True or False' if boolean else 'numbers'} there, without quotation marks."


def _holds_text(value) -> bool:
    if isinstance(value, (tuple, dict)):
        return any(map(_holds_text, fields(value).values()))
    return isinstance(value, (str, bytes)) or getattr(getattr(value, "dtype", None), "kind", "") in ("S", "U")


def shape_in_words(shape: tuple, sizes: dict) -> str:
    """(2, 3) as "(2, 3) = (n_q, n_kv)" where the sizes tell which is which."""
    names = [[name for name, size in sizes.items() if size == n and not isinstance(size, bool)] for n in shape]
    if not shape or any(len(found) != 1 for found in names) or len({found[0] for found in names}) < len(shape):
        return str(shape)  # a size that two axes share says nothing
    return f"{shape} = ({', '.join(found[0] for found in names)}{',' * (len(shape) == 1)})"


def complaint(got, want, raw, sizes: dict, name: str = "The result") -> tuple[str, str] | None:
    """What disagrees before a number is looked at: (kind, sentence), the kind being type, shape, dtype or device."""
    if isinstance(want, (tuple, dict)):
        parts = fields(want)
        if type(got) is not type(want):
            which = f"with the keys {', '.join(map(repr, parts))}" if isinstance(want, dict) else f"of {len(parts)}"
            return "type", f"{name} is {a(raw)}; expected {a(want)} {which}."
        if fields(got).keys() != parts.keys():
            return "type", f"{name} has the parts {list(fields(got))}; expected {list(parts)}."
        for key, part in parts.items():
            found = complaint(fields(got)[key], part, raw[key], sizes, f"Part {key!r} of the result")
            if found:
                return found
        return None
    if not is_array(want):
        return None if type(got) is type(want) else ("type", f"{name} is {a(raw)}; expected {a(want)}.")
    if not is_array(got):
        if hasattr(got, "dtype"):  # an array or a tensor, but not of numbers that can be looked at
            if str(getattr(got, "device", "cpu")) == "meta":
                return "device", f"{name} is on meta, where tensors have no numbers; the arguments were on cpu."
            sparse = ", sparse" * ("sparse" in str(getattr(got, "layout", "")))
            return "dtype", f"{name} holds {got.dtype}{sparse}; expected numbers such as {want.dtype}."
        missing = " Is a `return` missing?" if got is None else ""
        missing = " A `yield` makes a generator: write `return`." if type(got).__name__ == "generator" else missing
        missing = " `async def` makes one: write `def`." if type(got).__name__ == "coroutine" else missing
        return "type", f"{name} is {a(raw)}; expected {a(want)} of shape {want.shape}.{missing}"
    if got.shape != want.shape:
        found, expected = (shape_in_words(shape, sizes) for shape in (got.shape, want.shape))
        hint = " Two axes are exchanged." if sorted(got.shape) == sorted(want.shape) else ""
        hint = " There is one axis too many." if got.ndim == want.ndim + 1 and 1 in got.shape else hint
        return "shape", f"{name} has the shape {found}; expected {expected}.{hint}"
    kinds = {"b": "booleans", "i": "integers", "u": "integers", "f": "floating numbers"}
    dtype = str(raw.dtype).removeprefix("torch.") if hasattr(raw, "dtype") else str(got.dtype)  # bfloat16 too
    if kinds[got.dtype.kind] != kinds[want.dtype.kind] or dtype in ("float16", "bfloat16"):
        few = ", which keeps no more than three digits" if "float16" in dtype else ""
        return "dtype", f"{name} holds {dtype}{few}; expected {kinds[want.dtype.kind]} such as {want.dtype}."
    device = str(getattr(raw, "device", "cpu"))
    return None if device == "cpu" else ("device", f"{name} is on {device}; the arguments were on cpu.")


def a(value) -> str:
    kind = {"ndarray": "array", "Tensor": "tensor", "NoneType": "nothing (None)"}.get(type(value).__name__)
    kind = "number" if kind == "array" and not value.shape else kind or type(value).__name__
    return kind if kind.startswith("nothing") else f"a{'n' * (kind[0] in 'aeiou')} {kind}"


def pattern(got, want, sizes: dict) -> str:
    """A sentence where the wrong numbers have a simple relation to the right ones, else nothing."""
    if not (is_array(got) and is_array(want)) or got.dtype.kind != "f" or want.size < 3:
        return ""
    if not finite(got) or not finite(want):
        return ""
    if want.ndim >= 2 and want.shape[-1] == want.shape[-2] and same(np.swapaxes(got, -1, -2), want, 1e-6):
        return "It is the right result transposed: rows and columns are exchanged."
    factor = float((got * want).sum() / (want * want).sum()) if np.any(want) else 0
    if factor and same(got, factor * want, 1e-6):
        if math.isclose(factor, -1, rel_tol=1e-6):
            return "Every number has the wrong sign."
        known = {s: n for n, size in sizes.items() if isinstance(size, int) and size > 1 for s, n in
                 ((size, n), (1 / size, f"1/{n}"), (size**0.5, f"√{n}"), (size**-0.5, f"1/√{n}"))}
        names = [name for size, name in known.items() if math.isclose(size, factor, rel_tol=1e-6)]
        factor = f"{factor:.4g}" if abs(factor - 1) > 1e-3 else f"{factor:.8g}"
        return f"Every number is {factor} times what it should be{f', which is {names[0]}' if names else ''}."
    if same(got, want + float((got - want).mean()), 1e-6):
        return f"Every number is off by the same amount, {float((got - want).mean()):.4g}."
    if same(np.sort(got, axis=None), np.sort(want, axis=None), 1e-6):
        return "These are the right numbers in the wrong places."
    return ""
