"""What `attnbook bench gpu` will do on a GPU, here on the CPU: points on small arrays, figures on made-up points.

Nothing is measured here. Kernels are interpreted, and where a backend refuses a CPU, that is recorded as it will be on
a GPU that it does not know.
"""

import json
import math
import subprocess
import sys

import pytest
import torch
from attnbook import bench, cli
from attnbook.efficient import gpu_candidates, measurements
from attnbook.efficient import gpu_measurements as gpu
from attnbook.efficient.measurements import Figure, Part

import triton_help  # noqa: F401  kernels are interpreted

pytestmark = pytest.mark.filterwarnings("ignore")  # FlexAttention says that it is not compiled


@pytest.fixture
def small(monkeypatch):
    """All sizes small, one round each, and FlexAttention with gradients, which on a CPU it has only if not asked."""
    from torch.nn.attention import flex_attention

    monkeypatch.setattr(flex_attention, "_validate_device", lambda *arrays: None)
    sizes = {"TOKENS": 64, "WIDTH": 128, "SIZES": (64, 32), "CACHES": (64, 32), "MEMORY_SIZES": (64, 128, 256),
             "WINDOWS": (8, 16), "LADDER": 64, "COPIED": 2**12,
             "DECODED": (2, 4, 2, 16)}  # fmt: skip
    for name, value in sizes.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu_candidates, "HOW", {"repeats": 1, "seconds": 1.0})
    monkeypatch.setattr(gpu_candidates, "PRODUCT", 64)
    monkeypatch.setattr(gpu_candidates, "CHECKED", (24, 40))
    gpu_candidates.start()


def measured(name: str, keep=lambda point: True) -> tuple[dict, list[Figure]]:
    part = gpu.PARTS[name]
    found = {point: function() for point, function in part.points().items() if keep(point)}
    return found, part.summary(found)


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


# Every part on small arrays


def test_the_checks_pass_the_kernels_and_fail_wrong_ones(small, monkeypatch):
    def few(point):
        return point.startswith("float16") and "d128 c" not in point and point != "float16 d128"

    found, figures = measured("correct", few)
    assert {point.split(" ", 2)[-1] for point in found} >= {"causal", "causal, window 100", "decode", "linear"}
    assert figures and all(figure.holds for figure in figures), figures
    attend = gpu_candidates.ours(True)
    monkeypatch.setattr(gpu_candidates, "ours", lambda causal, window=None: lambda q, k, v: attend(q, k, v) * 1.01)
    figures = by_name(measured("correct", lambda point: point == "float16 d64 causal")[1])
    assert figures["float16 d64 causal: error ÷ the naive version's"].holds is False
    monkeypatch.setattr(gpu_candidates, "ours", lambda causal, window=None: lambda q, k, v: attend(q, k, v) * math.nan)
    figures = by_name(measured("correct", lambda point: point == "float16 d64 causal")[1])
    assert figures["float16 d64 causal: numbers that are not finite"].holds is False
    monkeypatch.setattr(gpu_candidates, "ours", lambda causal, window=None: lambda q, k, v: 1 / 0)
    (figure,) = measured("correct", lambda point: point == "float16 d64 causal")[1]
    assert figure.value is None and "ZeroDivisionError" in figure.note


def test_both_dtypes_and_every_kernel_are_checked():
    checks = list(gpu_candidates.checks())
    for dtype in ("bfloat16", "float16"):
        for what in ("d128", "d64", "d128 causal", "d64 causal, window 100", "d128 decode", "d128 linear"):
            assert f"{dtype} {what}" in checks


def test_attention_forward_and_backward_beside_the_others(small):
    found, figures = measured("attention", lambda point: point in ("128, False, 64", "128, False, 32", "128, True, 64"))
    for point in found.values():
        for way in ("forward", "backward"):
            for name in ("ours", "SDPA-FLASH", "MATH", "FlexAttention"):
                assert point[f"{way} {name}, s, median"] > 0, point
            assert point[f"{way} cuDNN, refused"]
        assert point["GEMM, s, median"] > 0
        assert point["backward, FLOPs"] == 2.5 * point["forward, FLOPs"]
    figures = by_name(figures)
    ratio = figures["forward d128, n = 64: ours ÷ SDPA-FLASH"]
    assert ratio.holds is False and ratio.note.startswith("32: "), "interpreted, and faster than compiled code?"
    refused = figures["backward d128 causal, n = 64: ours ÷ cuDNN"]
    assert refused.value is None and refused.holds is None and "backward cuDNN refused: " in refused.note
    assert figures["forward d64, n = 64: ours ÷ MATH"].note == "this point is missing"
    assert "NOT MEASURED" in measurements.table([refused])


@pytest.mark.parametrize("causal, window", [(False, None), (True, None), (True, 8)])
def test_candidates_compute_the_same(small, causal, window):
    leaves = [x.requires_grad_() for x in gpu_candidates.random_arrays(*[(1, 2, 64, 16)] * 3, dtype=torch.float32)]
    (d_out,) = gpu_candidates.random_arrays((1, 2, 64, 16), dtype=torch.float32)
    candidates = gpu._candidates(causal, 64, window)
    assert len(candidates) == (5 if window is None else 2)
    outcomes = {}
    for name, attend in candidates.items():
        if name != "cuDNN":  # not on a CPU
            outcomes[name] = [attend(*leaves), *gpu_candidates.gradients(attend, leaves, d_out)()]
    for found in outcomes.values():
        for x, want in zip(found, outcomes["ours"]):
            torch.testing.assert_close(x, want, rtol=1e-4, atol=1e-5)


def test_the_backward_pass_is_timed_alone():
    calls = []

    def attend(q):
        calls.append(1)
        return q * q

    q = torch.ones(3, requires_grad=True)
    backward = gpu_candidates.gradients(attend, [q], torch.ones(3))
    assert [backward()[0].tolist() for _ in range(3)] == [[2.0] * 3] * 3 and len(calls) == 1


@pytest.mark.parametrize("name", ["decode", "linear", "memory", "window", "machine"])
def test_the_other_parts_run(small, name):
    found, figures = measured(name)
    refusals = {key for point in found.values() for key in point if key.endswith("refused")}
    assert all("cuDNN" in key or (name, key) == ("decode", "SDPA-FLASH, refused") for key in refusals), found
    assert figures and any(figure.value is not None for figure in figures)
    for figure in figures:
        assert figure.value is None or math.isfinite(figure.value)
    if name == "memory":
        ours = by_name(figures)["ours forward: exponent of extra memory"]
        assert ours.holds and ours.value == pytest.approx(1, abs=0.05)
        assert by_name(figures)["MATH forward: exponent of extra memory"].value > 1.2  # quadratic, beside linear parts


def test_every_rung_computes_attention(small, monkeypatch):
    found, figures = measured("ladder", lambda point: point == "d 64")
    (point,) = found.values()
    names = ["naive", *(rung.name for rung in gpu.RUNGS)]
    assert not {key: point[key] for key in point if key.endswith("refused")}
    assert all(f"{name}, s, median" in point for name in names)
    assert [figure.name.split(": ")[1] for figure in figures[:-1]] == [f"{name}, TFLOP/s" for name in names]
    assert figures[-1].holds and figures[-1].high == 0.04
    gpu._specialised.cache_clear()
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # the changed kernel is new to Triton
    found, figures = measured("specialised", lambda point: point == "d 64")
    gpu._specialised.cache_clear()
    assert "warp specialisation, TFLOP/s" in figures[1].name and figures[1].value > 0, figures[1]
    assert figures[-1].holds and figures[-1].name.startswith("ladder d64, 2 rungs")


def test_each_rung_is_one_step():
    for before, after in zip(gpu.RUNGS, (*gpu.RUNGS[1:], gpu.SPECIALISED)):
        differences = [set(before.steps) != set(after.steps), *(x != y for x, y in zip(before[2:], after[2:]))]
        assert sum(differences) == 1 and len(set(before.steps) - set(after.steps)) <= 1, after


_COMPILED = """
import json, torch
from attnbook.efficient import gpu_measurements as gpu
q, k, v, out = (torch.empty(2, 16, 8192, 128, dtype=torch.bfloat16, device="meta") for _ in range(4))
lse = torch.empty(2, 16, 8192, device="meta")
for rung in (gpu.RUNGS[0], gpu.RUNGS[-1], gpu.SPECIALISED):
    print(json.dumps(gpu._built(gpu._rung(rung, 128, [q, k, v, out, lse]))))
"""


def test_what_the_compiler_made_of_a_rung():
    """For an absent H200, in a process that does not interpret kernels."""
    run = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, last, specialised = (json.loads(line) for line in run.stdout.splitlines())
    assert first["wgmma"] < last["wgmma"] and last["stack"] == 0 and specialised["registers"] > 0


def test_what_cannot_be_compiled_is_recorded(small, monkeypatch):
    def broken(launch):
        raise RuntimeError("PassManager::run failed")

    monkeypatch.setattr(gpu, "_built", broken)
    figures = measured("specialised", lambda point: point == "d 64")[1]
    assert all(figure.value is None and figure.note == "RuntimeError: PassManager::run failed" for figure in figures)


# The summaries, on made-up points


def attention_point(**seconds) -> dict:
    return {"d": 128, "causal": False, "n": 16384, "window": None, "forward, FLOPs": 6e12, "backward, FLOPs": 15e12,
            "GEMM, FLOPs": 1e12,
            **{f"{name.replace('_', ' ')}, s, median": s for name, s in seconds.items()}}  # fmt: skip


def of_attention(point: dict) -> dict[str, Figure]:
    return by_name(gpu.PARTS["attention"].summary({"128, False, 16384": point}))


def test_goals_are_ratios_of_throughput():
    seconds = {"forward_ours": 0.01, "forward_cuDNN": 0.0081, "backward_ours": 0.02, "backward_cuDNN": 0.01}
    point = attention_point(**seconds, GEMM=0.001) | {"forward SDPA-FLASH, s, median": 0.0129}
    figures = of_attention(point)
    where = "forward d128, n = 16,384"
    assert figures[f"{where}: ours, TFLOP/s"].value == pytest.approx(600)
    assert figures[f"{where}: ours ÷ cuDNN"].holds and figures[f"{where}: ours ÷ cuDNN"].value == pytest.approx(0.81)
    assert figures[f"{where}: ours ÷ SDPA-FLASH"].holds is False
    assert figures[f"{where}: ours ÷ GEMM"].holds and figures[f"{where}: ours ÷ GEMM"].value == pytest.approx(0.6)
    assert figures["backward d128, n = 16,384: ours ÷ cuDNN"].holds is False
    assert figures[f"{where}: ours ÷ FlexAttention"].value is None


def test_the_goals_are_those_of_the_book():
    bounds = {figure.name: figure.low for figure in of_attention(attention_point()).values() if figure.low is not None}
    where = "d{}, n = 16,384: ours ÷ {}".format
    assert bounds[f"forward {where(128, 'SDPA-FLASH')}"] == 1.3 and bounds[f"forward {where(128, 'cuDNN')}"] == 0.8
    assert bounds[f"forward {where('128 causal', 'cuDNN')}"] == 0.75 and bounds[f"forward {where(64, 'cuDNN')}"] == 0.8
    assert bounds[f"forward {where(128, 'GEMM')}"] == 0.58
    for d in (64, "64 causal", 128, "128 causal"):
        lows = [bounds[f"backward {where(d, who)}"] for who in ("FlexAttention", "SDPA-FLASH", "cuDNN")]
        assert lows == [1.1, 0.9, 0.65]


def test_a_refusal_is_a_reason_and_no_number():
    figures = of_attention(attention_point(forward_ours=0.01) | {"forward cuDNN, refused": "no engine"})
    figure = figures["forward d128, n = 16,384: ours ÷ cuDNN"]
    assert figure.value is None and figure.holds is None and figure.note == "forward cuDNN refused: no engine"


def decode_points(share: float) -> dict:
    return {str(n): {"n": n, "bytes": share * n, "copy, bytes": n, "ours, s, median": 1.0, "copy, s, median": 1.0}
            for n in gpu.CACHES}  # fmt: skip


@pytest.mark.parametrize("name, good, bad", [
    ("decode", decode_points(0.76), decode_points(0.74)),
    ("linear", *({"16384": {"n": 16384, "ours, s, median": 1.0, "cuDNN, s, median": ratio}} for ratio in (3.1, 2.9))),
    ("window", *({str((d, w)): attention_point(forward_ours=1.0, backward_ours=1.0, forward_FlexAttention=ratio,
                                               backward_FlexAttention=ratio) | {"d": d, "window": w, "causal": True}
                  for d in (64, 128) for w in gpu.WINDOWS} for ratio in (1.01, 0.99))),
    ("memory", *({str(n): {"n": n, "ours forward, bytes": n**p, "ours forward and backward, bytes": n**p}
                  for n in gpu.MEMORY_SIZES} for p in (1.0, 1.1))),
])  # fmt: skip
def test_a_goal_holds_or_does_not_and_without_points_neither(name, good, bad):
    for found, holds in ((good, True), (bad, False), ({}, None)):
        claimed = [figure for figure in gpu.PARTS[name].summary(found) if figure.claim]
        assert claimed and {figure.holds for figure in claimed} == {holds}
        assert holds is not None or all(figure.value is None and figure.note for figure in claimed)


def test_an_unchanged_kernel_is_not_called_specialised():
    built = {"registers": 138, "stack": 0, "wgmma": 24, "shared": 1}
    names = ("tensor descriptors", "warp specialisation")
    point = {"d": 128, "n": 8192, "FLOPs": 1e12, "built": dict.fromkeys(names, built)}
    point |= {f"{name}, s, median": 0.002 for name in names}
    first, second = gpu.PARTS["specialised"].summary({"d 128": point})
    assert first.value == 500 and first.note == "138 registers, 0 bytes spilled, 24 wgmma"
    assert "specialises nothing" in second.note


# The clock, the limit of time, the command


def test_late_in_the_run_nothing_more_is_compiled(small, monkeypatch):
    monkeypatch.setattr(gpu_candidates, "LATE", -1)
    point = gpu._attention(64, True, 64)
    assert "left out" in point["forward FlexAttention, refused"] and point["forward ours, s, median"] > 0


def test_all_that_the_issue_names_is_measured():
    points = gpu.PARTS["attention"].points()
    assert len(points) == 24 and list(points)[0] == "128, False, 16384"
    assert len(gpu.PARTS["decode"].points()) == 5 and len(gpu.PARTS["window"].points()) == 4
    assert gpu._shape(128, 512) == (32, 16, 512, 128) and gpu._shape(64, 16384) == (1, 32, 16384, 64)
    assert list(gpu.PARTS)[0] == "correct"


def test_the_gpu_has_a_clock_of_its_own(monkeypatch):
    monkeypatch.setattr(bench, "_gpu_seconds", lambda function: 0.25)
    assert bench.time_all({"f": print}, repeats=3, clock="cuda")["f"].median == 0.25


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["bench", "gpu"]) == 1
    assert "needs an NVIDIA GPU, and torch" in capsys.readouterr().err


@pytest.fixture
def pretended(monkeypatch):
    """A GPU that is not there, and two parts measured in no time; returns the figure of the first."""
    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA GeForce RTX 4090/D")
    right = [Figure("error", 1.0, high=2)]
    parts = {"correct": Part(lambda: {"a": lambda: {"x": 1}}, lambda found: list(right)),
             "quick": Part(lambda: {"b": lambda: {"x": 2}},
                           lambda found: [Figure("goal", None, 1, note="refused")])}  # fmt: skip
    monkeypatch.setattr(gpu, "PARTS", parts)
    return right


def test_the_command_checks_first_and_writes_the_file_of_the_gpu(pretended, tmp_path, monkeypatch, capsys):
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    monkeypatch.setattr(cli.book, "find_root", lambda: tmp_path)
    assert cli.main(["bench", "gpu", "quick"]) == 0
    path = tmp_path / "benchmarks/results/nvidia_geforce_rtx_4090_d.json"
    kept = bench.read_results(path)
    assert list(kept) == ["correct", "quick"] and kept["quick"]["provenance"]["packages"]["torch"]
    assert kept["quick"]["figures"] == {"goal": None} and kept["quick"]["notes"] == {"goal": "refused"}
    said = capsys.readouterr().out
    assert "NOT MEASURED   refused" in said and str(path) in said
    assert cli.main(["bench", "gpu", "slow"]) == 2
    assert "no part 'slow' to measure; there is correct, quick" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [Figure("error", 3.0, high=2), Figure("error", None, high=2, note="refused")])
def test_wrong_kernels_are_not_timed(pretended, tmp_path, wrong, capsys):
    pretended[:] = [wrong]
    assert cli.main(["bench", "gpu", "-o", str(tmp_path / "r.json")]) == 1
    assert "kernels are wrong on this device: error" in capsys.readouterr().err
    assert list(bench.read_results(tmp_path / "r.json")) == ["correct"]


def test_an_unknown_part_is_named_before_anything_is_measured():
    with pytest.raises(ValueError, match="part must be one of correct, .*, got 'fast'"):
        next(gpu.measure(["fast"], None))
