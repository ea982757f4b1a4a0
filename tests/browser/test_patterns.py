"""The pattern explorer in a real browser: composed, painted, undone; its numbers are Python's, and ways can be seen."""

import re

import numpy as np
import pytest
import stage as stages

from attnbook import masks
from attnbook.widgets import PatternExplorer
from attnbook.widgets.patterns import KNOWN, PARTS, pattern_mask


def check(stage) -> np.ndarray:
    """What the page says is what Python computes from the same inputs; returns the mask."""
    before = stage.page.evaluate("model.all()")
    stage.pull()
    state, widget = stage.state(), stage.widget
    for name in ("mask", "kept", "hops", "reach"):
        np.testing.assert_array_equal(state[name], getattr(widget, name), err_msg=name)
    for name in ("patterns", "causal", "unit", "block", "layers", "connected"):
        assert state[name] == getattr(widget, name), name
    assert state["patterns"] == before["patterns"], "Python takes the pattern as the page spells it"
    assert state["cost"] == pytest.approx(widget.cost, abs=1e-12)
    assert state["density"] == pytest.approx(widget.density, abs=1e-12)
    said = stage.page.locator(".patterns-bar > :last-child").all_text_contents()
    shares = [100, 100 * widget.cost, 100 * widget.density]
    assert [float(text.removesuffix(" %")) for text in said] == pytest.approx(shares, abs=0.05 + 1e-9)
    text = stage.page.locator(".attnbook").inner_text()
    assert f"Kept: {widget.kept.sum()} of {widget.kept.size} blocks" in text
    assert f"for {widget.mask.sum()} of {widget.mask.size} pairs" in text
    may = masks.causal(len(widget.mask)) if widget.causal else np.ones_like(widget.mask)
    assert f"{(widget.reach & may).sum()} of {may.sum()} pairs are heard by then" in text
    late = "some are never heard" if widget.connected is None else f"All is heard after {widget.connected} layer"
    assert late in text
    return widget.mask


def slider(stage, name):
    return stage.page.get_by_role("slider", name=name)


def switch(stage, name):
    return stage.page.get_by_role("switch", name=re.compile(f"^{name}:"))


def button(stage, name):
    return stage.page.get_by_role("button", name=name, exact=True)


def centre(stage, row, col):
    box = stage.page.get_by_role("grid").bounding_box()
    n = len(stage.widget.mask)
    return box["x"] + (col + 0.5) * box["width"] / n, box["y"] + (row + 0.5) * box["height"] / n


@pytest.mark.parametrize("name", PARTS)
def test_every_part_and_its_sliders_by_keyboard(show, name):
    with show(PatternExplorer(11, "", block=3)) as stage:
        assert not check(stage).any()
        switch(stage, name).press("Space")
        np.testing.assert_array_equal(check(stage), pattern_mask(name, 11))
        knobs = stage.page.locator(".patterns-knobs input[type=range]:visible").all()
        assert len(knobs) == len(PARTS[name])
        for knob in knobs:
            seen = set()
            for key in ("ArrowRight", "ArrowUp", "Home", "End", "ArrowLeft", "ArrowDown"):
                knob.press(key)
                seen.add(check(stage).tobytes())
            assert len(seen) >= 2, knob.get_attribute("aria-valuetext")
        switch(stage, name).press("Space")
        assert not check(stage).any()


def test_parts_join(show):
    with show(PatternExplorer(12, "")) as stage:
        expected = np.zeros((12, 12), bool)
        for name in PARTS:
            switch(stage, name).press("Space")
            expected |= pattern_mask(name, 12)
            np.testing.assert_array_equal(check(stage), expected)
        button(stage, "Clear").press("Enter")
        assert not check(stage).any()


def test_known_patterns(show):
    with show(PatternExplorer(14)) as stage:
        for label in ("Longformer", "BigBird", "Sparse Transformer", "Sliding window"):
            button(stage, label).press("Enter")
            causal = label.startswith("S")
            parts = KNOWN.get(label.lower(), "local 4")
            np.testing.assert_array_equal(check(stage), pattern_mask(parts, 14, causal=causal))


def test_units_causal_and_sizes_by_keyboard(show):
    with show(PatternExplorer(13, "bigbird")) as stage:
        for name in ("n, tokens", "block of a block-wise kernel", "layers"):
            for key in ("ArrowRight", "End", "ArrowLeft", "Home", "ArrowUp", "PageUp"):
                before = stage.state()
                slider(stage, name).press(key)
                check(stage)
                assert stage.state() != before
        stage.page.get_by_role("radio", name="whole blocks").check()
        check(stage)
        assert stage.widget.unit == "block" and stage.widget.cost == stage.widget.density
        slider(stage, "block of a block-wise kernel").press("ArrowLeft")
        check(stage)
        assert stage.widget.cost == stage.widget.density
        switch(stage, "causal").press("Space")
        assert not np.triu(check(stage), 1).any()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drag_paints_and_is_undone_as_one(show, theme):
    with show(PatternExplorer(8, "local 2"), theme=theme) as stage:
        before = check(stage).copy()
        stage.page.mouse.move(*centre(stage, 6, 0))
        stage.page.mouse.down()
        stage.page.mouse.move(*centre(stage, 6, 4))
        stage.page.mouse.up()
        expected = before.copy()
        expected[6, :5] = True
        np.testing.assert_array_equal(check(stage), expected)
        assert stage.widget.patterns == "painted"
        slider(stage, "n, tokens").press("ArrowRight")
        mask = check(stage)
        np.testing.assert_array_equal(mask[:8, :8], expected)
        assert not mask[8].any() and not mask[:, 8].any()
        for _ in range(2):
            button(stage, "Undo").press("Enter")
        np.testing.assert_array_equal(check(stage), before)
        assert stage.widget.patterns == "local 2" and button(stage, "Undo").is_disabled()


def test_painting_by_keyboard_stays_causal(show):
    with show(PatternExplorer(6, "", causal=True)) as stage:
        stage.page.get_by_role("gridcell").focus()
        for key in ("Space", "ArrowDown", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Control+End", "Enter"):
            stage.page.keyboard.press(key)
        expected = np.zeros((6, 6), bool)
        expected[0, 0] = expected[1, 0] = expected[1, 1] = expected[5, 5] = True
        np.testing.assert_array_equal(check(stage), expected)
        stage.page.keyboard.press("Control+z")
        expected[5, 5] = False
        np.testing.assert_array_equal(check(stage), expected)


def test_a_part_after_painting_starts_afresh(show):
    with show(PatternExplorer(mask=np.eye(7, dtype=bool)[::-1].tolist())) as stage:
        painted = check(stage).copy()
        assert "Painted by hand" in stage.page.locator(".patterns-note").inner_text()
        switch(stage, "global").press("Space")
        np.testing.assert_array_equal(check(stage), masks.globally(7, 7, 1))
        button(stage, "Undo").press("Enter")
        np.testing.assert_array_equal(check(stage), painted)


def test_the_way_through_the_layers_is_shown(show):
    with show(PatternExplorer(16, "longformer", layers=2)) as stage:
        stage.page.mouse.move(*centre(stage, 12, 3))
        stage.state()
        said = stage.page.locator(".patterns-said").inner_text()
        assert said == "query 12, key 3: ignored, skipped with its block; heard after 2 layers (12 ← 0 ← 3)"
        assert stage.page.locator(".patterns-spot:visible").count() == 2
        assert stage.page.locator(".patterns-field").inner_text() == "Query 12 has heard 16 of 16 tokens by now."
        switch(stage, "global").press("Space")
        stage.page.mouse.move(*centre(stage, 12, 0))
        stage.state()
        said = stage.page.locator(".patterns-said").inner_text()
        way = [int(token) for token in re.search(r"\((.*)\)", said)[1].split(" ← ")]
        assert (way[0], way[-1], len(way)) == (12, 0, 7)
        assert all(stage.widget.mask[i, j] for i, j in zip(way, way[1:], strict=False))


def test_both_directions(show):
    with show(PatternExplorer(6)) as stage:
        stage.widget.set(patterns="random 2 3", causal=True, layers=4, block=3)
        stage.push()
        check(stage)
        assert switch(stage, "random").is_checked() and switch(stage, "causal").is_checked()
        assert slider(stage, "layers").get_attribute("aria-valuetext") == "4"
        stage.widget.mask = np.eye(9, dtype=bool)[::-1]
        stage.push()
        check(stage)
        assert stage.widget.patterns == "painted" and not switch(stage, "causal").is_checked()


def test_changes_are_announced(show):
    with show(PatternExplorer(6, "local 2", block=3)) as stage:
        slider(stage, "layers").press("ArrowRight")
        stage.state()
        stage.page.wait_for_timeout(600)
        said = stage.page.locator(".ab-announce").inner_text()
        assert said == "4 of 4 blocks kept, 24 of 36 pairs heard after 2 layers"


@pytest.mark.alone
@pytest.mark.parametrize("width", [360, 700, 1280])
def test_the_largest_fits_and_moves_within_a_frame(show, width):
    with show(PatternExplorer(32, "local 2 + random 2", layers=3), width=width) as stage:
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        for canvas in stage.page.locator("canvas").all():
            box = canvas.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        times = stages.frame_times(stage)
        assert times["handled_median_ms"] <= 16, times
