"""The attention kernels compiled for GPUs that are not here, by the compiler and assembler in the Triton package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECORD = Path(__file__).parent.parent / "benchmarks" / "results" / "triton_sm90.json"
KERNELS = ("forward", "dq", "dkdv")
KEY = ("kernel", "dtype", "d_k", "edges")
FEW = 64  # bytes of spilled registers that a backward kernel may have

# In a process of its own, where kernels are not interpreted: a fingerprint of the sources, all cases with their blocks,
# and some of them compiled anew.
SCRIPT = """
import itertools, json, sys
from attnbook.efficient import triton_compile as compiler

shipped = [{**head, **launch.config._asdict()} for head, launch in compiler.shipped()]
some = [compiler.Case(kernel, *which) for kernel in compiler.KERNELS for which in [
    ("bfloat16", 64, "none"), ("bfloat16", 128, "causal"), ("float16", 64, "window"), ("float16", 128, "window"),
    ("float32", 64, "causal")]]
built = [{**case._asdict(), **compiler.build(case.launch())._asdict()} for case in some]
elsewhere = [
    [capability, case, compiler.build(case.launch(capability), capability)]
    for capability in ((8, 0), (10, 0), (12, 0))
    for case in (compiler.Case(kernel, "bfloat16", 128, "causal") for kernel in compiler.KERNELS)
]
json.dump({"source": compiler.source(), "shipped": shipped, "built": built, "elsewhere": elsewhere}, sys.stdout)
"""


@pytest.fixture(scope="module")
def now():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text())


def key(row):
    return tuple(row[name] for name in KEY)


def test_the_record_is_of_these_kernels_and_has_every_shipped_configuration(now, record):
    assert record["source"] == now["source"], (
        f"the kernels have changed since the table was made; run: python -m attnbook.efficient.triton_compile {RECORD}"
    )
    made = ("registers", "stack", "wgmma", "shared")
    assert [{name: row[name] for name in row if name not in made} for row in record["rows"]] == now["shipped"]


def test_what_is_compiled_now_is_what_the_record_says(now, record):
    recorded = {key(row): row for row in record["rows"]}
    for row in now["built"]:
        assert {name: recorded[key(row)][name] for name in row} == row


def test_forward_multiplies_on_tensor_cores_and_spills_nothing(record):
    rows = [row for row in record["rows"] if row["kernel"] == "forward" and row["dtype"] != "float32"]
    assert len(rows) == 2 * 5 * 3
    assert all(row["wgmma"] > 0 and row["stack"] == 0 for row in rows)


def test_backward_multiplies_on_tensor_cores_and_spills_next_to_nothing(record):
    rows = [row for row in record["rows"] if row["kernel"] in KERNELS[1:] and row["dtype"] != "float32"]
    assert len(rows) == 2 * 2 * 5 * 3
    assert all(row["wgmma"] > 0 and row["stack"] <= FEW for row in rows)


def test_float32_spills_next_to_nothing_up_to_a_width_of_64(record):
    """Beyond that it does: without tensor cores each thread holds whole rows of both operands. The table says so."""
    rows = [row for row in record["rows"] if row["dtype"] == "float32" and row["d_k"] <= 64 and row["kernel"] in KERNELS]
    assert len(rows) == 3 * 3 * 3
    assert all(row["stack"] <= FEW for row in rows)


def test_tiles_fit_into_the_memory_of_a_program(now, record):
    assert all(row["shared"] <= 227 * 1024 for row in record["rows"])
    room = {8: 99, 10: 227, 12: 99}  # KiB: the smallest GPU of each generation that the table of blocks is for
    for (major, _), case, (_, stack, _, shared) in now["elsewhere"]:
        assert shared <= room[major] * 1024, case
        assert major == 10 or stack <= FEW, case


def test_kernels_that_are_interpreted_are_not_compiled():
    script = "from attnbook.efficient.triton_compile import *; build(Case('forward', 'float16', 64, 'none').launch())"
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"TRITON_INTERPRET": "1"},
                          capture_output=True, text=True)  # fmt: skip
    assert "RuntimeError: kernels are interpreted in this process" in done.stderr
