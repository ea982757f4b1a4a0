"""A reader's Triton kernel as a function of arrays, which is what the exercises can try.

    @launched
    def by_rows(x):                      # how the kernel is launched on these arrays
        return Launch(out=x.shape, programs=len(x), sizes=(x.shape[1],), constants={"BLOCK": 16})

    @by_rows
    def softmax_kernel(x, out, n, BLOCK: tl.constexpr):      # called with arrays it returns `out`
        ...

Kernels run in Triton's interpreter on the CPU; where Triton compiles, for a GPU, they run there. All arrays lie in
memory of their own with other numbers around, as in real life: what is read beyond an end gets in, and what is written
there is noticed. What is not written to `out` is NaN. Triton is absent from some systems, so nothing here
imports it before a kernel is called.
"""

import functools
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

GUARD = 2**16  # numbers before and after an array


class Launch(NamedTuple):
    """A kernel is called as kernel[programs](*inputs, out, *sizes, **constants)."""

    out: tuple[int, ...]
    programs: int
    sizes: tuple = ()
    constants: dict = {}
    gap: int = 0  # numbers between the end of a row of a matrix and the next row; one more in `out`


def launched(plan: Callable[..., Launch]) -> Callable:
    """Decorator that makes of `plan`, which says how to launch, a decorator for kernels.

    The decorated kernel takes the arguments of `plan` and returns `out`, a tensor of float32. It raises what the kernel
    raises, IndexError if something was written before or after an array, ImportError if there is no Triton, and
    RuntimeError if Triton has been imported to compile and there is no GPU.
    """

    def decorate(body: Callable) -> Callable:
        run = _run

        def on_arrays(*args):
            return run(body, plan(*args), args)

        # As if it stood where the kernel stands: a slip of the pen is tried with the names that are known there.
        on_arrays = types.FunctionType(on_arrays.__code__, body.__globals__, None, None, on_arrays.__closure__)
        functools.update_wrapper(on_arrays, body)
        parameters = inspect.signature(body).parameters.values()
        bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
        on_arrays.__signature__ = inspect.Signature(bare)  # an exercise shows it: `tl.constexpr` prints as an address
        return on_arrays

    return decorate


def language():
    """(triton, triton.language), imported to interpret unless there is a GPU or somebody was first."""
    import torch

    if "triton" in sys.modules or torch.cuda.is_available():
        import triton
        import triton.language as tl
    else:
        with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
            import triton
            import triton.language as tl
    return triton, tl


def jit(body: Callable):
    """`triton.jit` for what kernels call, whatever the environment says at this moment; without Triton, `body`."""
    if not importlib.util.find_spec("triton"):
        return body
    triton, tl = language()
    return _jit(body, not isinstance(tl.sum, triton.JITFunction))


def _run(body, launch: Launch, args: tuple):
    import torch

    triton, tl = language()
    interpreted = not isinstance(tl.sum, triton.JITFunction)
    if not interpreted and not torch.cuda.is_available():
        raise RuntimeError("Triton was imported before it was told to interpret kernels; restart the kernel of the "
                           "notebook and run its cells from the top")  # fmt: skip
    device = "cpu" if interpreted else "cuda"
    arrays = [_Guarded(x.shape, launch.gap, device) if hasattr(x, "shape") else x for x in args]
    for array, x in zip(arrays, args):
        if isinstance(array, _Guarded):
            array.inside.copy_(torch.as_tensor(x))
    out = _Guarded(launch.out, launch.gap + 1 if launch.gap else 0, device)
    operands = [x.inside if isinstance(x, _Guarded) else x for x in (*arrays, out)]
    _jit(body, interpreted)[(launch.programs,)](*operands, *launch.sizes, **launch.constants)
    for array in (*arrays, out):
        if isinstance(array, _Guarded):
            array.check()
    return out.inside.cpu().clone()


def _jit(body, interpreted: bool):
    """`triton.jit`, whatever the environment says at this moment."""
    if not interpreted:
        import triton

        return triton.jit(body)
    from triton.runtime.errors import InterpreterError
    from triton.runtime.interpreter import InterpretedFunction

    class Kernel(InterpretedFunction):
        def run(self, *args, **kwargs):
            try:
                return super().run(*args, **kwargs)
            except InterpreterError as error:  # what happened in the reader's own line is its cause
                raise (error.__cause__ or error) from None

    return Kernel(body)


class _Guarded:
    """An array of NaN with other numbers before, after and between its rows."""

    def __init__(self, shape, gap: int, device: str):
        import torch

        rows, width = (shape[0], shape[1] + gap) if len(shape) == 2 else (1, shape[0])
        self.all = 5 + 3 * torch.arange(2 * GUARD + rows * width, device=device).sin()
        self.before = self.all.clone()
        self.used = torch.zeros_like(self.all, dtype=torch.bool)
        self.inside, used = (self._cut(x, shape, rows, width) for x in (self.all, self.used))
        used.fill_(True)
        self.inside.fill_(torch.nan)

    @staticmethod
    def _cut(memory, shape, rows, width):
        middle = memory[GUARD : GUARD + rows * width]
        return middle.view(rows, width)[:, : shape[1]] if len(shape) == 2 else middle

    def check(self):
        written = ((self.all != self.before) & ~self.used).nonzero()[:, 0]
        if len(written):
            place = int(written[0]) - GUARD
            raise IndexError(f"the kernel has written {len(written)} numbers outside the array, the first of them "
                             f"{place} places from its beginning: a mask is missing or "
                             "wrong, or the address is")  # fmt: skip
