"""What is measured is what is there, what is fitted is what was put in, and what was measured stays."""

import functools
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from attnbook import bench, book, cli, functional
from attnbook.bench import collect, extra_memory, fit_exponent, read_results, time_all, write_results
from attnbook.efficient import measurements
from attnbook.efficient.measurements import Figure, Part

MIB = 2**20


# Time


def test_the_median_and_the_quartiles_are_those_of_the_calls(monkeypatch):
    clock = iter([0.0, 5.0, *(x for i in range(5) for x in (100.0 * i, 100.0 * i + 1 + i))])
    monkeypatch.setattr(bench, "_seconds", lambda f, read: -next(clock) + next(clock))
    timing = time_all({"f": print}, repeats=5, warm_up=1)["f"]
    assert timing == bench.Timing(median=3, q25=2, q75=4, repeats=5, best=1)


def test_candidates_take_turns_and_the_warm_up_does_not_count():
    calls = []
    timings = time_all({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: t.repeats for name, t in timings.items()} == {"a": 3, "b": 3}


def test_a_longer_wait_takes_longer():
    timings = time_all({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.02)}, repeats=3)
    assert timings["long"].median >= 0.02 and timings["long"].median > 2 * timings["short"].median
    assert timings["long"].q25 <= timings["long"].median <= timings["long"].q75
    assert str(timings["long"]).endswith("3 repeats)")


@pytest.mark.skipif(sys.platform == "win32", reason="counts in steps of 16 ms")
def test_the_clock_of_the_processor_does_not_count_waiting():
    def work():
        return sum(range(200_000))

    functions = {"sleep": lambda: time.sleep(0.05), "work": work}
    cpu, wall = (time_all(functions, repeats=3, clock=clock) for clock in ("cpu", "wall"))
    assert cpu["sleep"].best < 0.01 and wall["sleep"].best >= 0.05
    assert 0.0005 < cpu["work"].best <= 3 * wall["work"].median


def test_the_limit_of_seconds_ends_the_rounds_but_leaves_one():
    assert time_all({"f": lambda: time.sleep(0.02)}, repeats=1000, seconds=0.1)["f"].repeats < 20
    assert time_all({"f": lambda: time.sleep(0.02)}, repeats=1000, seconds=1e-9)["f"].repeats == 1


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (({},), ValueError, "functions .* at least one"),
        (([print],), ValueError, "functions must be a mapping"),
        (({"f": 3},), TypeError, "got 3 for 'f'"),
        (({"f": print}, 0), ValueError, "repeats"),
        (({"f": print}, 2.5), ValueError, "repeats"),
        (({"f": print}, 1, -1), ValueError, "warm_up"),
        (({"f": print}, 1, 0, 0), ValueError, "seconds must be positive"),
        (({"f": print}, 1, 0, "1"), TypeError, "seconds must be a number"),
        (({"f": print}, 1, 0, None, "gpu"), ValueError, "clock must be 'wall' or 'cpu'"),
    ],
)
def test_time_all_names_what_is_wrong(arguments, error, words):
    with pytest.raises(error, match=words):
        time_all(*arguments)


def test_an_error_says_which_candidate_raised_it():
    with pytest.raises(ZeroDivisionError) as caught:
        time_all({"good": lambda: 1, "bad": lambda: 1 / 0})
    assert caught.value.__notes__ == ["while timing 'bad'"]


# Memory


def test_numpy_memory_is_that_of_the_arrays():
    def peak_of_three_result_of_one():
        a = np.ones(MIB, dtype=np.uint8)
        return np.concatenate([a, a])[:10]

    assert extra_memory(peak_of_three_result_of_one, "numpy") == pytest.approx(3 * MIB, rel=0.01)
    before = np.ones(8 * MIB, dtype=np.uint8)
    assert extra_memory(lambda: before.sum(), "numpy") < 0.1 * MIB


def test_torch_memory_is_that_of_the_tensors_and_the_same_at_every_call():
    x = torch.ones(MIB // 4)  # one MiB that was there before

    def two_at_once():
        return (x + 1) + 1

    assert extra_memory(two_at_once) == pytest.approx(2 * MIB, rel=1e-3)  # and a few bytes for each "1"
    assert extra_memory(lambda: x.sum()) < 1000
    q = torch.randn(1, 256, 16)
    counts = {extra_memory(lambda: functional.attention(q, q, q)) for _ in range(3)}
    assert len(counts) == 1 and counts.pop() >= 2 * 256 * 256 * 4


def test_what_is_freed_and_taken_again_counts_once():
    def in_turn():
        for _ in range(5):
            torch.ones(MIB // 4)

    assert extra_memory(in_turn) == pytest.approx(MIB, rel=1e-3)


def test_the_backward_pass_counts_too():
    x = torch.ones(MIB // 4, requires_grad=True)

    def step():
        x.grad = None
        (x * 2).exp().sum().backward()

    assert extra_memory(step) >= 2 * MIB


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs resource")
def test_a_process_of_its_own_sees_everything():
    grown = extra_memory(functools.partial(np.ones, 64 * MIB // 8), "process")
    assert grown == pytest.approx(64 * MIB, rel=0.1)


def test_extra_memory_names_what_is_wrong():
    with pytest.raises(ValueError, match="kind must be one of 'torch', 'numpy', 'process', got 'gpu'"):
        extra_memory(print, "gpu")
    with pytest.raises(TypeError, match="function"):
        extra_memory(3)
    with pytest.raises(ValueError, match="cannot be sent"):
        extra_memory(lambda: 1, "process")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        extra_memory(functools.partial(divmod, 1, 0), "process")


def test_a_failure_leaves_the_tracing_as_it_was():
    import tracemalloc

    with pytest.raises(ZeroDivisionError):
        extra_memory(lambda: 1 / 0, "numpy")
    assert not tracemalloc.is_tracing()


# Exponents


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0, 2.0, 3.0])
def test_a_pure_power_comes_back(exponent):
    n = [512, 1024, 2048, 4096]
    fit = fit_exponent(n, [3 * x**exponent for x in n])
    assert fit.exponent == pytest.approx(exponent) and fit.low == pytest.approx(fit.high) and fit.start == 512
    assert fit.at(10**6) == pytest.approx(3 * 1e6**exponent)
    assert str(fit).startswith(f"n^{abs(fit.exponent):.2f}") or exponent == 0


def test_an_overhead_is_left_out_and_the_fit_says_so():
    n = [2**i for i in range(5, 14)]
    values = [1e5 + x**2 for x in n]  # the overhead is as large as the law at n = 316
    fit = fit_exponent(n, values)
    assert fit.start >= 512 and fit.exponent == pytest.approx(2, abs=0.2)
    assert fit_exponent(n, values, start=32).exponent < 1.6
    assert "from n = " in str(fit)


def test_the_order_does_not_matter_and_a_given_start_holds():
    n, values = [4096, 512, 1024, 2048], [16.0, 0.9, 1.0, 4.0]
    assert fit_exponent(n, values, start=1024).exponent == pytest.approx(2)
    assert fit_exponent(n, values, start=1024).start == 1024
    assert fit_exponent(sorted(n), sorted(values), start=1) == fit_exponent(n[1:] + n[:1], values[1:] + values[:1], 1)


@pytest.mark.parametrize("n_points", [4, 6, 12, 30])
def test_the_interval_holds_the_true_exponent_as_often_as_it_says(n_points):
    rng = np.random.default_rng(1)
    n = np.geomspace(500, 8000, n_points)
    held = 0
    for _ in range(400):
        fit = fit_exponent(n, n**2 * np.exp(0.1 * rng.standard_normal(n_points)), start=1)
        held += fit.low <= 2 <= fit.high
    assert 0.91 <= held / 400 <= 0.985


@pytest.mark.parametrize(
    "n, values, start, words",
    [
        ([1, 2], [1, 2], None, "at least three"),
        ([1, 1, 1], [1, 2, 3], None, "at least three different"),
        ([1, 2, 3], [1, 2, 3], 2, "from start=2"),
        ([1, 2, 3], [1, 2], None, "values must have one number for each of the 3"),
        ([1, 2, 0], [1, 2, 3], None, "n must be positive"),
        ([1, 2, 3], [1, 0, 3], None, "values must be positive"),
        ([1, 2, 3], [1, math.nan, 3], None, "values must be positive"),
        ([], [], None, "at least three"),
    ],
)
def test_a_fit_names_what_is_wrong(n, values, start, words):
    with pytest.raises(ValueError, match=words):
        fit_exponent(n, values, start)


# The machine


def test_the_roofline_of_this_machine():
    machine = bench.roofline(size=256, megabytes=8, repeats=3)
    assert machine.flops > 1e8 and machine.bandwidth > 1e8
    assert "float32 product of 256²" in machine.source and "threads" in machine.name
    for bad in ("int64", "float31", "nn", 3):
        with pytest.raises(ValueError, match="dtype must name a floating dtype"):
            bench.roofline(dtype=bad)
    with pytest.raises(ValueError, match="size"):
        bench.roofline(size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_measured_alike():
    x = torch.ones(MIB // 4, device="cuda")
    assert extra_memory(lambda: (x + 1) + 1) >= 2 * MIB
    big = torch.ones(8192, 8192, device="cuda")
    timings = time_all({"product": lambda: big @ big, "nothing": lambda: None}, repeats=3)
    assert timings["product"].median > 10 * timings["nothing"].median
    assert bench.roofline("cuda", "bfloat16").flops > 1e12


# Results


def test_results_come_back_and_say_where_they_are_from(tmp_path):
    path = tmp_path / "r.json"
    assert read_results(path) == {}
    results = {"naïve": {"points": {"n": 1.5}, "provenance": bench.provenance()}}
    write_results(path, results)
    assert read_results(path) == results
    assert {"date", "commit", "cpu", "gpu", "threads", "system", "python", "packages"} == set(bench.provenance())
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_failed_write_leaves_the_old_results(tmp_path):
    path = tmp_path / "r.json"
    write_results(path, {"a": {}})
    for bad, error in (({"a": math.nan}, ValueError), ({"a": {1, 2}}, TypeError)):
        with pytest.raises(error):
            write_results(path, bad)
    assert read_results(path) == {"a": {}}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "\udcff"])
def test_a_file_that_is_something_else_is_named(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match="r.json"):
        read_results(path)


def test_an_interrupt_keeps_the_points_and_a_rerun_goes_on(tmp_path):
    path, calls = tmp_path / "r.json", []

    def point(name, fails=False):
        def measure():
            calls.append(name)
            if fails:
                raise KeyboardInterrupt
            return {"s": len(calls)}

        return measure

    write_results(path, {"other": {"points": {}}})
    with pytest.raises(KeyboardInterrupt):
        collect({"a": point("a"), "b": point("b", fails=True), "c": point("c")}, path, "part")
    kept = read_results(path)
    assert kept["part"]["points"] == {"a": {"s": 1}} and not kept["part"]["complete"] and "other" in kept
    seen = []
    points = {"a": point("a"), "b": point("b"), "c": point("c")}
    found = collect(points, path, "part", progress=lambda names: seen.extend(names) or names)
    assert found == {"a": {"s": 1}, "b": {"s": 3}, "c": {"s": 4}} and seen == ["b", "c"]
    assert read_results(path)["part"]["complete"]
    assert collect(points, path, "part")["a"] == {"s": 5}  # complete: measured anew


def test_points_of_another_machine_are_measured_anew(tmp_path):
    path = tmp_path / "r.json"
    foreign = bench.provenance() | {"cpu": "another"}
    write_results(path, {"part": {"points": {"a": {"s": 0}}, "complete": False, "provenance": foreign}})
    assert collect({"a": lambda: {"s": 1}}, path, "part") == {"a": {"s": 1}}


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert collect({"a": lambda: {"s": 1}}) == {"a": {"s": 1}}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="points must be a mapping"):
        collect({})


def test_a_real_ctrl_c_in_the_middle_of_a_long_run(tmp_path):
    path = tmp_path / "r.json"
    code = (
        "import sys, time; from attnbook import bench\n"
        "bench.collect({str(i): lambda i=i: time.sleep(0.05 if i < 3 else 60) or {'i': i} for i in range(9)},"
        " sys.argv[1])"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(read_results(path).get("points", {}).get("points", {})) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGINT)
    run.wait(30)
    assert list(json.loads(path.read_text())["points"]["points"]) == ["0", "1", "2"]


# The book's own measurements, and the command that runs them


@pytest.fixture
def small_parts(monkeypatch):
    """Two parts that are measured in no time, and what was measured, in order."""
    measured = []

    def points():
        return {f"{n}, round 1": lambda n=n: measured.append(n) or {"t, s": float(n**2)} for n in (1, 2, 4)}

    def summary(found):
        return [measurements._exponent(measurements._rounds(found), "t, s", 1.9, 2.1), Figure("largest", 16.0)]

    parts = {"quick": Part(points, summary), "false": Part(points, lambda found: [Figure("ratio", 2.0, low=5)])}
    monkeypatch.setattr(measurements, "PARTS", parts)
    return measured


def test_the_command_measures_prints_and_keeps(small_parts, tmp_path, capsys):
    path = tmp_path / "r.json"
    assert cli.main(["bench", "quick", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert "exponent" in said and "1.9 to 2.1  holds" in said and "largest" in said and str(path) in said
    assert small_parts == [1, 2, 4]
    kept = read_results(path)["quick"]
    assert kept["points"]["4, round 1"] == {"t, s": 16.0} and kept["figures"]["t: exponent of time"] == pytest.approx(2)
    assert kept["notes"] == {"t: exponent of time": "n^2.00 (95 % 2.00 to 2.00, from n = 1 on)"}
    assert kept["provenance"]["packages"]["torch"] == torch.__version__
    assert cli.main(["bench", "-o", str(path)]) == 0
    assert set(read_results(path)) == {"quick", "false"} and "DOES NOT HOLD" in capsys.readouterr().out


def test_the_command_names_what_is_wrong(small_parts, tmp_path, capsys):
    assert cli.main(["bench", "quick", "slow", "-o", str(tmp_path / "r.json")]) == 2
    assert "no part 'slow'" in capsys.readouterr().err and small_parts == []
    assert cli.main(["bench", "-o", str(tmp_path / "nowhere" / "r.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "r.json").write_text("{")
    assert cli.main(["bench", "-o", str(tmp_path / "r.json")]) == 2
    assert "r.json holds no results" in capsys.readouterr().err and small_parts == []


def test_the_command_says_how_to_go_on_after_an_interrupt(small_parts, tmp_path, monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    points = measurements.PARTS["quick"].points()
    monkeypatch.setitem(measurements.PARTS, "quick", Part(lambda: points | {"4, round 1": stopped}, lambda found: []))
    path = tmp_path / "r.json"
    assert cli.main(["bench", "quick", "-o", str(path)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert list(read_results(path)["quick"]["points"]) == ["1, round 1", "2, round 1"]


def test_a_claim_holds_within_its_bounds():
    assert [Figure("f", x, 1, 2).holds for x in (0.9, 1, 2, 2.1)] == [False, True, True, False]
    assert Figure("f", 3, low=2).holds and not Figure("f", 3, high=2).holds and Figure("f", 3).holds is None
    assert [Figure("f", 1, *c).claim for c in ((), (2,), (None, 3), (2, 3))] == ["", "≥ 2", "≤ 3", "2 to 3"]


@pytest.mark.parametrize("name", ["numpy", "dense", "causal", "sparse"])
def test_every_part_runs_on_a_small_size(name, monkeypatch):
    """Not a measurement: that the functions are there, take what they are given, and yield what is claimed."""
    monkeypatch.setattr(measurements, "LARGEST", 256)
    part = measurements.PARTS[name]
    measure_one = functools.partial(measurements._sparse, block=32) if name == "sparse" else getattr(measurements, f"_{name}")
    points = measurements._points(measure_one, (0.5,) if name == "sparse" else (64, 128, 256))
    found = {point: measure() for point, measure in points.items()}
    figures = part.summary(found)
    assert figures and all(math.isfinite(figure.value) for figure in figures)


def test_what_is_recorded_is_what_is_claimed():
    """The recorded figures are those of the parts as they are now, with where they come from."""
    recorded = read_results(book.find_root() / "benchmarks/results/efficient.json")
    assert set(recorded) == set(measurements.PARTS)
    for name, part in measurements.PARTS.items():
        assert recorded[name]["complete"] and recorded[name]["provenance"]["commit"]
        figures = {figure.name: figure.value for figure in part.summary(recorded[name]["points"])}
        assert recorded[name]["figures"] == pytest.approx(figures)


def test_measuring_loads_torch_only_when_it_is_used():
    code = "import sys; from attnbook import bench; bench.fit_exponent([1, 2, 4], [1, 2, 4]); print(sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'attnbook.bench'" in run.stdout and "'torch'" not in run.stdout
