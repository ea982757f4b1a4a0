"""The state explorer in a real browser: written, read back, played; its numbers are Python's."""

import re

import numpy as np
import pytest

from attnbook.widgets import StateExplorer

RESULTS = ("state", "read", "errors", "parts")


def check(stage):
    """What the page says is what Python computes from the same inputs."""
    stage.pull()
    state, widget = stage.state(), stage.widget
    for name in StateExplorer.inputs:
        assert state[name] == getattr(widget, name), name
    for name in RESULTS:
        np.testing.assert_allclose(np.reshape(state[name], getattr(widget, name).shape), getattr(widget, name),
                                   atol=1e-12, err_msg=name)  # fmt: skip
    bars = stage.page.locator(".ab-value").all_text_contents()
    assert [float(text) for text in bars] == pytest.approx(widget.errors.tolist(), abs=0.005 + 1e-9)
    text = stage.page.locator(".attnbook").inner_text()
    if widget.written:
        clean, mean = (widget.errors < 0.005).sum(), widget.errors.mean()
        assert f"Read back without error: {clean} of {len(widget.errors)} written." in text
        assert float(re.search(r"Mean error: ([\d.]+)\.", text)[1]) == pytest.approx(mean, abs=0.0005 + 1e-9)
    if widget.query < len(widget.errors):
        error = float(re.search(r"Asked for \w: error ([\d.]+)\.", text)[1])
        assert error == pytest.approx(widget.errors[widget.query], abs=0.0005 + 1e-9)
    return widget


def slider(stage, name):
    return stage.page.get_by_role("slider", name=name, exact=True)


def button(stage, name):
    return stage.page.get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pairs_are_written_one_by_one_and_taken_back(show, theme):
    with show(StateExplorer(3), theme=theme) as stage:
        assert "Nothing is written yet" in stage.page.locator(".attnbook").inner_text()
        for written in range(1, 13):
            button(stage, "Write next").press("Enter")
            assert check(stage).written == written
            assert stage.widget.query == min(written - 1, 2), "what is new is asked for"
        assert "in round 4" in stage.page.locator(".attnbook").inner_text()
        button(stage, "Write next").press("Enter")
        assert check(stage).written == 12
        assert button(stage, "Write next").get_attribute("aria-disabled") == "true"
        button(stage, "Back").press("Space")
        assert check(stage).written == 11
        button(stage, "Clear").press("Enter")
        assert check(stage).written == 0


@pytest.mark.parametrize("rule", ["sum", "sum with decay", "delta rule"])
def test_every_rule_and_slider_by_keyboard(show, rule):
    with show(StateExplorer(5, written=5, query=1)) as stage:
        stage.page.get_by_role("radio", name=rule, exact=True).check()
        check(stage)
        knobs = [knob for knob in stage.ranges() if knob.is_visible()]
        assert len(knobs) == (3 if rule == "sum" else 4)
        for knob in knobs:
            seen = set()
            for key in ("ArrowRight", "End", "ArrowLeft", "PageDown", "Home", "ArrowUp"):
                knob.press(key)
                widget = check(stage)
                seen.add(str([getattr(widget, name) for name in StateExplorer.inputs]))
            assert len(seen) >= 4, knob.get_attribute("aria-valuetext")


def test_a_key_is_asked_for_by_keyboard_and_by_click(show):
    with show(StateExplorer(4, written=3)) as stage:
        stage.page.get_by_role("option", name="A", exact=True).press("ArrowRight")
        assert check(stage).query == 1
        stage.page.get_by_role("option", name="D", exact=True).click()
        assert check(stage).query == 3
        assert "D was never written: all that is read is interference." in stage.page.locator(".attnbook").inner_text()


def test_the_delta_rule_replaces_where_the_sum_adds(show):
    with show(StateExplorer(5, directions="one-hot", written=5, query=4)) as stage:
        assert check(stage).errors[4] > 0.5
        said = "Loudest of the others: A, whose key has a cosine of 1.00 with it."
        assert said in stage.page.locator(".attnbook").inner_text()
        stage.page.get_by_role("radio", name="delta rule").check()
        assert check(stage).errors[4] < 1e-12
        assert stage.page.get_by_role("slider", name="β, strength").is_visible()
        assert not stage.page.get_by_role("slider", name="decay, what is kept").is_visible()


def test_keys_of_each_kind_and_other_vectors(show):
    with show(StateExplorer(8, d=4, written=8)) as stage:
        for directions in ("similar", "one-hot", "random"):
            stage.page.get_by_role("radio", name=directions).check()
            assert check(stage).directions == directions
            before = stage.widget.state
            button(stage, "Other vectors").press("Enter")
            assert not np.array_equal(check(stage).state, before)


def test_it_plays_through_a_round_and_stops(show):
    with show(StateExplorer(3)) as stage:
        stage.page.clock.install()
        button(stage, "Play").press("Enter")
        assert check(stage).written == 1
        stage.page.clock.run_for(1000)
        assert check(stage).written == 2
        button(stage, "Pause").press("Enter")
        stage.page.clock.run_for(5000)
        assert check(stage).written == 2
        button(stage, "Play").press("Enter")
        stage.page.clock.run_for(9000)
        assert check(stage).written == 3
        assert button(stage, "Play").count() == 1
        button(stage, "Play").press("Enter")
        stage.page.clock.run_for(500)
        stage.page.evaluate("leave()")
        stage.page.clock.run_for(9000)
        assert stage.page.evaluate("model.get('written')") == 4, "who has left plays no more"


def test_what_python_sets_is_shown(show):
    with show(StateExplorer()) as stage:
        for change in (dict(written=6, rule="delta", beta=0.5), dict(pairs=12, d=16, written=48, query=11),
                       dict(pairs=1), dict(directions="similar", seed=77, rule="decay", decay=0.31)):  # fmt: skip
            stage.widget.set(**change)
            stage.push()
            check(stage)


def test_a_frame_between_two_traits_is_drawn_whole(show):
    """Python may set the pairs in one message and the writes in the next."""
    with show(StateExplorer(12, written=48, query=11)) as stage:
        stage.page.evaluate("model.set('pairs', 2)")
        assert (stage.state()["written"], stage.state()["query"]) == (8, 1)
        assert "undefined" not in stage.page.locator(".attnbook").inner_text()


def test_moves_are_announced(show):
    with show(StateExplorer(2, directions="one-hot")) as stage:
        button(stage, "Write next").press("Enter")
        stage.page.wait_for_timeout(600)
        said = stage.page.locator("[aria-live=polite]").inner_text()
        assert said == ("Writes done: 1. A was written: k vᵀ was added, whatever was there under its key. Asked for A: "
                        "error 0.000. No other pair is heard.")  # fmt: skip


@pytest.mark.parametrize("pairs", [1, 12])
def test_it_fits_a_phone(show, pairs):
    with show(StateExplorer(pairs, d=16, rule="delta", written=pairs), width=360, height=740) as stage:
        check(stage)
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= 360
