"""The position explorer in a real browser: every number it shows is attnbook.positions', whatever moves it."""

import re
from pathlib import Path

import numpy as np
import pytest
import stage as stages

from attnbook.widgets import PositionExplorer
from attnbook.widgets.position import SCHEMES, scores_by_distance

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
KEYS = ("ArrowRight", "PageUp", "ArrowLeft", "Home", "End", "PageDown", "ArrowUp")
SLIDERS = {
    "none": ["distance", "shift", "dimension"],
    "sinusoidal": ["distance", "shift", "dimension", "base"],
    "learned": ["distance", "shift", "dimension"],
    "rope": ["distance", "shift", "dimension", "base"],
    "alibi": ["distance", "shift", "dimension", "head"],
}


def numbers(text: str) -> list[float]:
    return [float(found.replace("−", "-")) for found in re.findall(r"−?\d+\.\d+", text)]


def check(stage):
    """Its state is what the package computes, and the sum on the page is its state's."""
    state = stage.state()
    scores = scores_by_distance(*(state[name] for name in ("scheme", "base", "d", "shift", "head")))
    np.testing.assert_allclose(state["scores"], scores, atol=1e-9)
    np.testing.assert_allclose(state["score"], scores[state["distance"]], atol=1e-9)
    pieces = stage.page.locator(".position-piece").all_inner_texts()
    if np.isnan(state["score"]):
        assert pieces[-1].split("\n")[1] == "none"
        assert stage.page.locator(".position-curve").get_attribute("d") == ""
        return state
    terms = [(-1 if piece.startswith("−\n") else 1) * numbers(piece)[0] for piece in pieces]
    np.testing.assert_allclose(terms[-1], state["score"], atol=5.1e-4)
    np.testing.assert_allclose(sum(terms[:-1]), state["score"], atol=2.1e-3)
    assert numbers(stage.page.locator(".position-score").text_content()) == [pytest.approx(state["score"], abs=5.1e-4)]
    return state


def check_python(stage):
    """Python has what the page shows, and has recomputed the same."""
    stage.pull()
    state = stage.state()
    for name in ("scheme", "distance", "base", "d", "shift", "head"):
        assert getattr(stage.widget, name) == state[name]
    np.testing.assert_allclose(stage.widget.scores, state["scores"], atol=1e-9)
    np.testing.assert_allclose(stage.widget.score, state["score"], atol=1e-9)


def slider(stage, name):
    return stage.page.get_by_role("slider", name=re.compile(f"^{name}"))


# Numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_slider_by_keyboard(show, scheme):
    with show(PositionExplorer(scheme)) as stage:
        check(stage)
        assert sum(each.is_visible() for each in stage.ranges()) == len(SLIDERS[scheme])
        for name in SLIDERS[scheme]:
            before = stage.state()
            for key in KEYS:
                slider(stage, name).press(key)
                check(stage)
            assert stage.state() != before, name
            check_python(stage)


def test_every_scheme_is_chosen(show):
    with show(PositionExplorer("none", shift=30)) as stage:
        radios = stage.page.get_by_role("radio")
        for i, scheme in enumerate(SCHEMES):
            radios.nth(i).check()
            assert check(stage)["scheme"] == scheme
            assert stage.page.locator(".position-clocks").is_visible() == (scheme in ("sinusoidal", "rope"))
            assert stage.page.locator(".ab-bars").is_visible() == (scheme == "alibi")
            check_python(stage)
        radios.last.press("ArrowLeft")
        assert check(stage)["scheme"] == "rope"


def test_numbers_are_typed(show):
    with show(PositionExplorer()) as stage:
        for name, typed, kept in (
            ("distance", "13", 13), ("distance", "2.6", 3), ("dimension", "7", 8), ("base", "1", 1),
            ("base", "500000000", 5e8), ("shift", "123", 123),
        ):  # fmt: skip
            box = stage.page.get_by_role("textbox", name=re.compile(f"^{name}"))
            box.fill(typed)
            box.press("Enter")
            state = check(stage)
            assert state["d" if name == "dimension" else name] == kept
            assert float(box.input_value()) == kept
        box = stage.page.get_by_role("textbox", name=re.compile("^distance"))
        box.fill("65")
        box.press("Enter")
        assert "is not a number from 0 to 64" in stage.page.get_by_role("alert").filter(has_text="65").inner_text()
        assert check(stage)["distance"] == 3
        check_python(stage)


def test_the_curve_is_dragged(show):
    with show(PositionExplorer()) as stage:
        plot = stage.page.locator(".position-plot").bounding_box()
        at = lambda distance: plot["x"] + 44 + distance / 64 * (plot["width"] - 58)  # noqa: E731
        stage.page.mouse.move(at(8), plot["y"] + 100)
        stage.page.mouse.down()
        stage.page.mouse.move(at(41), plot["y"] + 60, steps=4)
        assert check(stage)["distance"] == 41
        stage.page.mouse.move(at(99), plot["y"] + 60, steps=2)
        stage.page.mouse.up()
        assert check(stage)["distance"] == 64
        stage.page.mouse.move(at(20), plot["y"] + 60)
        assert check(stage)["distance"] == 64, "the line was let go"


def test_a_cell_of_the_map_sets_the_distance(show):
    with show(PositionExplorer(), height=1600) as stage:
        grid = stage.page.get_by_role("grid", name=re.compile("^cos"))
        box = grid.bounding_box()
        stage.page.mouse.click(box["x"] + box["width"] * 30.5 / 65, box["y"] + 3)
        assert check(stage)["distance"] == 30
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            stage.page.keyboard.press(key)
        assert check(stage)["distance"] == 31


def test_the_shift_leaves_a_ghost(show):
    with show(PositionExplorer("sinusoidal")) as stage:
        ghost, curve = (stage.page.locator(f".position-{kind}") for kind in ("ghost", "curve"))
        unshifted = curve.get_attribute("d")
        assert ghost.get_attribute("d") == ""
        slider(stage, "shift").press("End")
        check(stage)
        assert ghost.get_attribute("d") == unshifted != curve.get_attribute("d")
        stage.page.get_by_role("radio", name="RoPE").check()
        check(stage)
        assert ghost.get_attribute("d") == curve.get_attribute("d"), "RoPE does not see the shift"


def test_the_axis_stays_put_under_shift_and_distance(show):
    for scheme in SCHEMES:
        with show(PositionExplorer(scheme)) as stage:
            ticks = stage.page.locator(".position-plot .ab-tick").all_text_contents
            before = ticks()
            for name in ("shift", "distance"):
                for key in ("End", "PageDown", "PageDown"):
                    slider(stage, name).press(key)
                    check(stage)
                    assert ticks() == before


def test_a_learned_table_ends(show):
    with show(PositionExplorer("learned", shift=63)) as stage:
        check(stage)
        assert "untrained" in stage.page.locator(".position-says").inner_text()
        assert stage.page.locator(".position-none").text_content() == ""
        assert stage.page.locator(".position-end").get_attribute("display") is None
        slider(stage, "shift").press("ArrowRight")
        check(stage)
        assert stage.page.locator(".position-none").text_content() == "no row 128 in a table of 128"
        assert "ends at position 127" in stage.page.locator(".position-arithmetic").inner_text()
        assert "NaN" not in stage.page.locator("section").inner_html()
        check_python(stage)


# Clocks ------------------------------------------------------------------------------------------------------------


SOME = [1, 5, 9, 14, 18, 22, 26, 30, 35, 39, 43, 47, 51, 56, 60, 64]


@pytest.mark.parametrize(("d", "base", "shown"), [(2, 1e4, [1]), (32, 100, range(1, 17)), (128, 1e6, SOME)])
def test_the_hands_stand_where_the_angles_are(show, d, base, shown):
    with show(PositionExplorer(d=d, base=base, distance=5, shift=17)) as stage:
        check(stage)
        dials = stage.page.locator(".position-dial")
        assert [int(text.split()[1]) for text in dials.locator(".position-pair").all_inner_texts()] == list(shown)
        for kind, position in (("query", 81), ("key", 76)):
            hands = dials.locator(f".position-hand-{kind}").evaluate_all(
                "all => all.map((e) => [e.getAttribute('x2'), e.getAttribute('y2')].map(Number))"
            )
            turn = position * base ** (-2 * (np.array(list(shown)) - 1) / d)
            x, y = np.array(hands).T
            np.testing.assert_allclose(np.column_stack([x, -y]) / np.hypot(x, y)[:, None],
                                       np.column_stack([np.cos(turn), np.sin(turn)]), atol=2e-3)  # fmt: skip
        said = stage.page.get_by_role("img", name="pair 1:").get_attribute("aria-label")
        assert said == f"pair 1: the query is {np.degrees(5):.0f}° ahead of the key"


def test_the_map_shows_every_pair(show):
    with show(PositionExplorer(d=128)) as stage:
        grid = stage.page.get_by_role("grid", name=re.compile("^cos"))
        assert (grid.get_attribute("aria-rowcount"), grid.get_attribute("aria-colcount")) == ("64", "65")
        slider(stage, "dimension").press("Home")
        check(stage)
        assert grid.get_attribute("aria-rowcount") == "1"


# Everywhere --------------------------------------------------------------------------------------------------------


def test_what_python_sets_is_shown(show):
    with show(PositionExplorer()) as stage:
        for changes in (
            dict(scheme="sinusoidal", d=6, base=200.0), dict(shift=77, distance=0), dict(scheme="alibi", head=1),
        ):  # fmt: skip
            with stage.widget.hold_trait_notifications():
                for name, value in changes.items():
                    setattr(stage.widget, name, value)
            stage.push()
            state = check(stage)
            assert changes.items() <= state.items()
            np.testing.assert_allclose(stage.widget.scores, state["scores"], atol=1e-9)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_accessibility_rules(show, scheme, theme):
    with show(PositionExplorer(scheme, shift=90), theme=theme) as stage:
        stage.page.add_script_tag(path=AXE)
        found = stage.page.evaluate("() => axe.run('section')")
        bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert not bad, [(v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in bad]


@pytest.mark.parametrize("width", [320, 360, 720, 1100])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_width_scrolls_sideways(show, width, scheme):
    with show(PositionExplorer(scheme, shift=200, d=128), width=width) as stage:
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        outside = """() => [...document.querySelectorAll("section *")].filter((e) => e.getClientRects().length &&
          !e.closest("svg, .ab-hidden") && e.getBoundingClientRect().right > innerWidth).map((e) => e.className)"""
        assert stage.page.evaluate(outside) == []
        cut = """() => [...document.querySelectorAll(".position-line text, .position-plot text")].filter((e) => {
          const box = e.getBoundingClientRect();
          const room = e.closest("div").getBoundingClientRect();
          return e.textContent && (box.left < room.left - 1 || box.right > room.right + 1);
        }).map((e) => e.textContent)"""
        assert stage.page.evaluate(cut) == []


def test_forced_colours_keep_the_two_hands_apart(show):
    with show(PositionExplorer(), forced_colors="active") as stage:
        look = "(e) => { const s = getComputedStyle(e); return [s.stroke, s.strokeDasharray] }"
        query, key = (stage.page.locator(f".position-hand-{kind}").first.evaluate(look) for kind in ("query", "key"))
        assert query != key


def test_a_move_is_announced(show):
    with show(PositionExplorer()) as stage:
        slider(stage, "distance").press("Home")
        score = check(stage)["score"]
        stage.page.wait_for_function("document.querySelector('[aria-live=polite]')?.textContent")
        assert stage.page.locator("[aria-live=polite]").inner_text() == f"RoPE, distance 0: score {score:.3f}"


def test_it_leaves_nothing_behind(show):
    with show(PositionExplorer()) as stage:
        stage.page.evaluate("leave()")
        assert stage.page.evaluate("[model.listening(), document.querySelector('section')]") == [0, None]


@pytest.mark.parametrize("scheme", ["sinusoidal", "learned", "rope"])
def test_a_move_takes_less_than_a_frame(show, scheme):
    with show(PositionExplorer(scheme, d=128)) as stage:
        medians = [stages.frame_times(stage)["handled_median_ms"] for _ in range(3)]
        assert min(medians) <= 16, medians  # the least of three: other work on the machine only ever adds
