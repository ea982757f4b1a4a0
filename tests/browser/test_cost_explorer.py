"""The cost calculator in a real browser: every number it makes is attnbook.costs', whatever moves it."""

import math
import random
import re

import numpy as np
import pytest
import stage as stages

from attnbook.costs import KINDS, MACHINES, Machine
from attnbook.widgets import CostExplorer
from attnbook.widgets.costs import MEASURES, OPTIONS, SIZES

ROWS = (*KINDS, "rest")
KEYS = ("ArrowRight", "PageUp", "ArrowLeft", "End", "PageDown", "Home", "ArrowUp")
SLIDERS = ["width of a head", "heads", "layers", "batch", "window", "sparse", "linear", "tokens"]
POWERS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
BYTES = {f"{prefix}B" if not prefix else f"{prefix}iB": 1024**i for i, prefix in enumerate(["", *"KMGTPE"])}
SECONDS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86400}
UNITS = (POWERS, BYTES, BYTES, SECONDS)


def figures(explorer):
    """FLOPs, bytes, memory and seconds of each kind, as Python has them."""
    found = ((explorer.costs[kind], explorer.times[kind]) for kind in ROWS)
    return [[float(x) for x in (cost.flops, cost.bytes, cost.memory, time.seconds)] for cost, time in found]


def value(text, units):
    """What a cell of the table says: 155 G, 50.3 MiB, 3.1·10²⁵."""
    if found := re.fullmatch(r"([\d.,]+)·10([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text):
        return float(found[1]) * 10.0 ** int("".join(str("⁰¹²³⁴⁵⁶⁷⁸⁹".index(digit)) for digit in found[2]))
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * units[unit]


def check(stage):
    """The page's numbers are those that Python makes of the same inputs, and the table shows them."""
    state = stage.state()
    inputs = {name: state[name] for name in (*SIZES, *OPTIONS, "measure")}
    python = CostExplorer(machine=Machine(**state["machine"]), **inputs)
    made = np.array(state["figures"], dtype=float)  # beyond 2⁶³ the browser's numbers arrive as integers
    np.testing.assert_allclose(made, figures(python), rtol=1e-9, atol=0)
    np.testing.assert_allclose(state["share"], list(python.share.values()), rtol=1e-9, atol=0)
    assert state["bounds"] == [python.times[kind].bound for kind in ROWS]
    assert state["crossover"] == python.crossover
    table = stage.page.locator(".costs-table tbody tr").all()
    for row, expected in zip(table[:-1], figures(python), strict=True):
        cells = row.locator("td > span:first-child").all_text_contents()
        shown = [value(text, units) for text, units in zip(cells, UNITS, strict=True)]
        np.testing.assert_allclose(shown, expected, rtol=5.1e-3)
    shares = [float(text) for text in table[-1].locator("td").all_text_contents() if text != "–"]
    np.testing.assert_allclose(shares, state["share"], atol=5.1e-4)
    return state


def check_python(stage):
    """Python has what the page shows, and has recomputed the same."""
    stage.pull()
    state = stage.state()
    for name in (*SIZES, *OPTIONS, "measure"):
        assert getattr(stage.widget, name) == state[name]
    np.testing.assert_allclose(figures(stage.widget), np.array(state["figures"], dtype=float), rtol=1e-9, atol=0)
    assert stage.widget.crossover == state["crossover"]


def slider(stage, name):
    return stage.page.get_by_role("slider", name=re.compile(f"^{name}"))


def test_every_slider_by_keyboard(show):
    with show(CostExplorer(n=100_000, causal=True)) as stage:
        check(stage)
        assert len(stage.ranges()) == len(SLIDERS)
        for name in SLIDERS:
            before = stage.state()
            for key in KEYS:
                slider(stage, name).press(key)
                check(stage)
            assert stage.state()["figures"] != before["figures"], name
            check_python(stage)


def test_every_choice_and_switch(show):
    with show(CostExplorer()) as stage:
        for label, name, values in (
            ("A number has", "bytes_per", [1, 2, 4]),
            ("Machine", "machine", list(MACHINES)),
            ("Show", "measure", list(MEASURES)),
        ):
            radios = stage.page.get_by_role("radiogroup", name=label).get_by_role("radio")
            assert radios.count() == len(values)
            for i, each in enumerate(values):
                radios.nth(i).check()
                state = check(stage)
                assert (state[name]["name"] if name == "machine" else state[name]) == each
                check_python(stage)
        for switch in stage.page.get_by_role("switch").all():
            for _ in range(2):
                switch.press("Space")
                check(stage)
                check_python(stage)
        for machine in MACHINES.values():
            stage.widget.machine = machine
            stage.push()
            about = stage.page.locator(".costs-note").inner_text()
            assert machine.source in about and f"ridge at {machine.ridge:.3g} " in about


def test_random_settings_from_python(show):
    """Both directions: what Python sets, the page computes to the ninth digit."""
    pick = random.Random(0)
    with show(CostExplorer()) as stage:
        for _ in range(40):
            stage.widget.set(
                n=round(2 ** pick.uniform(4, 24)), d_k=pick.randint(1, 256), n_heads=pick.randint(1, 64),
                n_layers=pick.randint(1, 99), batch=pick.randint(1, 64), bytes_per=pick.choice([1, 2, 4]),
                causal=pick.random() < 0.5, fused=pick.random() < 0.5, window=round(2 ** pick.uniform(0, 24)),
                kept=pick.uniform(1e-3, 1), chunk=pick.randint(1, 4096), measure=pick.choice(MEASURES),
                machine=pick.choice(list(MACHINES)),
            )  # fmt: skip
            stage.push()
            check(stage)


def test_a_machine_of_ones_own_stays_to_be_chosen(show):
    mine = Machine("my machine <b>", 2e11, 1e10, "measured here")
    with show(CostExplorer(machine=mine)) as stage:
        radios = stage.page.get_by_role("radiogroup", name="Machine").get_by_role("radio")
        assert radios.count() == 5 and radios.last.is_checked()
        check(stage)
        radios.first.check()
        assert check(stage)["machine"]["name"] == "H100 SXM"
        radios.last.check()
        assert check(stage)["machine"]["name"] == mine.name
        stage.pull()
        assert stage.widget.machine == mine


def test_numbers_are_typed(show):
    with show(CostExplorer()) as stage:
        for name, typed, trait, kept in (
            ("tokens", "1000000", "n", 10**6), ("tokens", "16.4", "n", 16), ("width", "100", "d_k", 100),
            ("batch", "1024", "batch", 1024), ("sparse", "0,05", "kept", 0.05), ("window", "1", "window", 1),
        ):  # fmt: skip
            box = stage.page.get_by_role("textbox", name=re.compile(f"^{name}"))
            box.fill(typed)
            box.press("Enter")
            assert check(stage)[trait] == kept
        box = stage.page.get_by_role("textbox", name=re.compile("^tokens"))
        box.fill("8")
        box.press("Enter")
        assert "is not a number from 16 to" in stage.page.get_by_role("alert").filter(has_text="8").inner_text()
        assert check(stage)["n"] == 16
        check_python(stage)


def test_the_picture_is_dragged(show):
    with show(CostExplorer()) as stage:
        plot = stage.page.locator(".costs-plot").bounding_box()
        at = lambda n: plot["x"] + 46 + math.log2(n / 16) / 20 * (plot["width"] - 60)  # noqa: E731
        stage.page.mouse.move(at(4096), plot["y"] + 100)
        stage.page.mouse.down()
        stage.page.mouse.move(at(2**18), plot["y"] + 60, steps=4)
        assert check(stage)["n"] == pytest.approx(2**18, rel=0.03)
        stage.page.mouse.move(plot["x"] + plot["width"] + 50, plot["y"] + 60)
        stage.page.mouse.up()
        n = check(stage)["n"]
        assert n == pytest.approx(2**24, rel=0.01)
        stage.page.mouse.move(at(100), plot["y"] + 60)
        assert check(stage)["n"] == n, "it was let go"


def test_slopes_and_the_crossover_are_drawn(show):
    with show(CostExplorer(causal=True)) as stage:
        def points(kind):
            path = stage.page.locator(f".costs-plot .costs-{kind}").get_attribute("d")
            return np.array([[float(x) for x in each.split()] for each in path[1:].split("L")])

        def slope(kind):
            (x0, y0), (x1, y1) = points(kind)[[-20, -1]]
            return (y1 - y0) / (x1 - x0)

        for kind, exponent in (("full", 2), ("sparse", 2), ("window", 1), ("linear", 1)):
            assert slope(kind) / slope("rest") == pytest.approx(exponent, abs=0.02)
        ring = stage.page.locator(".costs-ring")
        assert "crossover at 12,287" in stage.page.locator(".costs-mark").text_content()
        x, y = (float(ring.get_attribute(name)) for name in ("cx", "cy"))
        for kind in ("full", "rest"):
            assert np.interp(x, *points(kind).T) == pytest.approx(y, abs=0.5)
        assert "above" not in stage.page.locator(".costs-verdict").inner_text()
        stage.page.get_by_role("radio", name="bytes moved").check()
        stage.state()
        assert not ring.is_visible()
        assert "never overtakes" in stage.page.locator(".costs-verdict").inner_text()


def test_changes_are_announced(show):
    with show(CostExplorer()) as stage:
        slider(stage, "tokens").press("ArrowRight")
        stage.page.wait_for_timeout(600)
        said = stage.page.locator(".ab-announce").text_content()
        assert said.startswith("n 4,220: full attention ") and "compute-bound" in said
        label = stage.page.locator(".costs-plot").get_attribute("aria-label")
        assert label.startswith("FLOPs over length, logarithmic: at n = 4,220 full ")


@pytest.mark.parametrize("width", [360, 560, 1280])
def test_the_table_fits(show, width):
    largest = dict(n=2**24, d_k=256, n_heads=128, n_layers=128, batch=64, fused=False, machine="laptop CPU")
    with show(CostExplorer(**largest), width=width) as stage:
        check(stage)
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        wide = stage.page.evaluate("""[...document.querySelectorAll(".costs-table :is(td span, th)")]
          .filter((e) => e.scrollWidth > e.parentElement.clientWidth + 1).map((e) => e.textContent)""")
        assert wide == []


def test_it_leaves_nothing_behind(show):
    with show(CostExplorer()) as stage:
        stage.page.evaluate("leave()")
        assert stage.page.evaluate("[model.listening(), document.querySelector('section')]") == [0, None]


@pytest.mark.alone
def test_a_move_takes_less_than_a_frame(show):
    with show(CostExplorer(causal=True)) as stage:
        assert min(stages.frame_times(stage)["handled_median_ms"] for _ in range(3)) <= 16
