"""What the compiler makes of the attention kernels for a GPU that need not be there.

    python -m attnbook.efficient.triton_compile                                            the table for sm_90
    python -m attnbook.efficient.triton_compile benchmarks/results/triton_sm90.json        the same, kept

Triton brings its own compiler and assembler along, so all but the running can be checked on any machine: that a kernel
compiles, how many registers a thread takes, how many bytes of them had to be kept in memory instead (spills), and how
many matrix products are left to the tensor cores (`wgmma`, since Hopper, a product of a whole group of 4 warps).
"""

import ast
import hashlib
import inspect
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attnbook.efficient import (
    triton_attention, triton_backward, triton_common, triton_decode, triton_forward, triton_linear,
)  # fmt: skip
from attnbook.efficient.triton_attention import Launch, Plan

KERNELS = ("forward", "dq", "dkdv")
WIDTHS = (16, 32, 64, 128, 256)
EDGES = {"none": (None, None), "causal": (None, 0), "window": (255, 0)}  # how far a query looks back and ahead
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Case(NamedTuple):
    """A kernel as it is shipped for one kind of input."""

    kernel: str
    dtype: str
    d_k: int
    edges: str

    def launch(self, capability: tuple[int, int] = (9, 0), n: int = 4096) -> Launch:
        """The launch that `flash_attention` makes, with arrays that have a shape and no memory; 4 heads share a key."""

        def array(heads, *shape, dtype=DTYPES[self.dtype]):
            return torch.empty(2, heads, *shape, dtype=dtype, device="meta")

        q, out, d_out, dq = (array(8, n, self.d_k) for _ in range(4))
        k, v, dk, dv = (array(2, n, self.d_k) for _ in range(4))
        lse, share = (array(8, n, dtype=torch.float32) for _ in range(2))
        plan = Plan(*EDGES[self.edges], self.d_k**-0.5, capability)
        if self.kernel == "forward":
            return triton_attention.launch_forward(q, k, v, out, lse, plan)
        if self.kernel == "dq":
            return triton_attention.launch_dq(q, k, v, out, d_out, dq, lse, None, share, plan)
        return triton_attention.launch_dkdv(q, k, v, d_out, dk, dv, lse, share, plan)


class Built(NamedTuple):
    """What the compiler made of a kernel."""

    registers: int  # of a thread; there are 255 at most
    stack: int  # bytes of memory that a thread uses in place of registers
    wgmma: int  # products on tensor cores, as often as they stand in the code
    shared: int  # bytes of the memory that a program has to itself


def cases() -> Iterator[Case]:
    """The kernels of `flash_attention`, each for every input that has a configuration or a code of its own."""
    return (Case(*case) for case in itertools.product(KERNELS, DTYPES, WIDTHS, EDGES))


def shipped() -> Iterator[tuple[dict, Launch]]:
    """Every kernel that is shipped: how its row of the table begins, and the launch."""
    of_attention = ((case._asdict(), case.launch()) for case in cases())
    return itertools.chain(of_attention, triton_decode.shipped(), triton_linear.shipped())


def build(launch: Launch, capability: tuple[int, int] = (9, 0)) -> Built:
    """Compile for a GPU of this capability, in a process of its own: Triton takes it for the machine's from then on.

    Raises RuntimeError if kernels are interpreted in this process, or what Triton raises if it cannot compile.
    """
    if triton_attention.INTERPRETED:
        raise RuntimeError("kernels are interpreted in this process; compile in one without TRITON_INTERPRET")
    driver.set_active(AbsentGPU(capability))
    kernel = launch.compile()
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    return Built(registers, stack, kernel.asm["ptx"].count("wgmma.mma_async"), kernel.metadata.shared)


class AbsentGPU:
    """As much of a driver of Triton as compiling takes."""

    def __init__(self, capability: tuple[int, int]):
        self.target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch  # Triton keeps what it compiled by device

    def get_current_stream(self, device: int) -> int:
        return 0


def source() -> str:
    """A fingerprint of the kernels and of the tables of blocks, comments aside: a table belongs to one of them."""
    modules = (triton_common, triton_forward, triton_backward, triton_attention, triton_decode, triton_linear)
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return hashlib.sha256("".join(map(ast.dump, trees)).encode()).hexdigest()[:16]


def table() -> dict:
    """All cases compiled, as it is kept in benchmarks/results."""
    rows = []
    for head, launch in shipped():
        rows.append({**head, **launch.config._asdict(), **build(launch)._asdict()})
        print(*rows[-1].values(), sep="\t", flush=True)
    versions = {"triton": triton.__version__, "torch": torch.__version__}
    return {"target": "sm_90", "date": date.today().isoformat(), "versions": versions, "source": source(), "rows": rows}


def main(path: str | None = None) -> None:
    print(*Case._fields, *triton_attention.Config._fields, *Built._fields, sep="\t")
    found = table()
    if path is not None:
        rows = ",\n  ".join(json.dumps(row) for row in found.pop("rows"))
        head = json.dumps(found, indent=1)[:-2]
        Path(path).write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:2])
