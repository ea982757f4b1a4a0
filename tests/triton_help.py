"""Triton's kernels in its interpreter, for every test of them.

Triton decides when it is imported whether kernels will be interpreted, its own little functions such as `tl.sum`
among them. So this must come before whatever else imports Triton, as torch does in corners: tests/conftest.py sees to
it. Afterwards the variable is gone again, so that the processes which tests start know nothing of it.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

if "triton" in sys.modules and not hasattr(sys.modules["triton"], "interpreted_for_tests"):
    raise RuntimeError("something imported triton before tests/triton_help.py: its kernels cannot be interpreted now")
with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
    import triton
    import triton.experimental.gluon  # noqa: F401  Triton imports it at the first launch, and it wants the variable too
    from triton.runtime.interpreter import InterpretedFunction

    from attnbook.efficient import triton_attention, triton_decode, triton_linear

triton.interpreted_for_tests = True
assert triton_attention.INTERPRETED and triton_decode.INTERPRETED and triton_linear.INTERPRETED

# Before each call of one function by another Triton prepares the language anew: half of all the time.
_prepared, _call = set(), InterpretedFunction.__call__


def _call_prepared(self, *args, **kwargs):
    module = self.fn.__module__
    if module in _prepared:
        return self.rewrite()(*args, **kwargs)
    _prepared.add(module)
    return _call(self, *args, **kwargs)


InterpretedFunction.__call__ = _call_prepared

_COMPILE = """
import importlib, json, sys, torch
from triton.runtime.driver import driver
module = importlib.import_module(f"attnbook.efficient.{sys.argv[1]}")
assert driver._active is None and driver._default is None and not torch.cuda.is_initialized(), "a driver was asked for"
from attnbook.efficient.triton_compile import build
for head, launch in module.shipped():
    if head["d_k"] == int(sys.argv[2]):
        print(json.dumps({**head, **build(launch)._asdict()}))
"""


def compiled(module: str, d_k: int) -> list[dict]:
    """The rows of `triton_compile`'s table for one module and width, from a process that does not interpret kernels."""
    command = [sys.executable, "-c", _COMPILE, module, str(d_k)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def far_apart(n: int, step: int, d: int, folder: Path):
    """Random float16 (1, 1, n, d), rows `step` numbers apart: in a file with holes, not in memory."""
    torch = triton_attention.torch
    memory = torch.from_file(str(folder / "holes"), shared=True, size=(n - 1) * step + d, dtype=torch.float16)
    return memory.as_strided((1, 1, n, d), (1, 1, step, 1)).copy_(torch.rand(1, 1, n, d))


@pytest.fixture
def poisoned(monkeypatch):
    """What a kernel reads and nobody wrote is NaN."""
    tensor = triton_attention.torch.Tensor
    new_empty = tensor.new_empty

    def new_nan(*args, **kwargs):
        x = new_empty(*args, **kwargs)
        return x.fill_(math.nan) if x.is_floating_point() else x

    monkeypatch.setattr(tensor, "new_empty", new_nan)
