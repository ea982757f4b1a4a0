"""The tile stepper in a real browser: stepped, played and set by keyboard; its numbers are Python's."""

import numpy as np
import pytest
import stage as stages

from attnbook.widgets import TileExplorer

SLIDERS = ["tiles done", "n, tokens", "block_q", "block_kv", "row that is watched"]




def check(stage):
    """What the page says is what Python computes from the same inputs."""
    stage.pull()
    state, widget = stage.state(), stage.widget
    for name in (*TileExplorer.inputs, "steps", "fast", "bytes_tiled", "bytes_naive"):
        assert state[name] == getattr(widget, name), name
    place = widget.tile and [[part.start, part.stop] for part in widget.tile]
    assert state["tile"] == place
    for name, value in widget.running.items():
        np.testing.assert_allclose(state[name], value, atol=1e-12, err_msg=name)
    after = stage.page.locator(".tiles-table td:nth-child(5)").all_text_contents()
    forward, backward = ("m", "l", "o"), ("lse", "share", "dq")
    numbers = np.hstack([widget.running[name] for name in (backward if widget.backward else forward)])
    shown = [float(text.replace("−", "-").replace("∞", "inf")) for text in after]
    np.testing.assert_allclose(shown, numbers, atol=0.5e-3 + 1e-9)
    moved = stage.page.locator(".tiles-bar > :last-child").all_text_contents()
    expected = [widget.bytes_tiled, state["bytes_all"], widget.bytes_naive]
    assert moved == [f"{count:,} bytes" for count in expected]
    return state


def slider(stage, name):
    return stage.page.get_by_role("slider", name=name)


def button(stage, name):
    return stage.page.get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"backward": True}, {"causal": True, "backward": True}])
def test_every_slider_by_keyboard(show, options):
    with show(TileExplorer(9, 4, 2, **options)) as stage:
        for name in SLIDERS:
            for key in ("ArrowRight", "ArrowUp", "PageUp", "End", "ArrowLeft", "PageDown", "Home", "ArrowRight"):
                slider(stage, name).press(key)
                check(stage)
        assert stage.state()["n"] == 3


def test_step_and_back_through_all_tiles(show):
    with show(TileExplorer(6, 2, 4, causal=True)) as stage:
        seen = [check(stage)]
        for _ in range(stage.widget.steps):
            button(stage, "Step").press("Enter")
            seen.append(check(stage))
        assert [state["step"] for state in seen] == list(range(5))
        assert [state["row"] for state in seen] == [0, 0, 2, 4, 4], "the row comes along"
        assert seen[-1]["bytes_tiled"] == seen[-1]["bytes_all"]
        button(stage, "Step").press("Enter")  # there is no further one
        assert check(stage) == seen[-1]
        assert button(stage, "Step").evaluate("e => e === document.activeElement"), "the focus stays"
        for expected in seen[-2::-1]:
            button(stage, "Back").press("Enter")
            assert check(stage)["step"] == expected["step"]
        button(stage, "Back").press("Enter")
        assert check(stage)["step"] == 0
        slider(stage, "tiles done").press("End")
        button(stage, "Start over").press("Enter")
        assert check(stage)["step"] == 0


@pytest.mark.parametrize("reduced_motion", ["no-preference", "reduce"])
def test_play_goes_on_by_itself_and_stops(show, reduced_motion):
    with show(TileExplorer(4), reduced_motion=reduced_motion) as stage:
        stage.page.wait_for_timeout(1100)
        assert stage.state()["step"] == 0, "nothing moves before it is asked to"
        button(stage, "Play").press("Enter")
        assert stage.state()["step"] == 1
        stage.page.wait_for_function("model.get('step') === 2")
        button(stage, "Pause").press("Enter")
        stage.page.wait_for_timeout(1100)
        assert check(stage)["step"] == 2
        button(stage, "Play").press("Enter")
        stage.page.wait_for_function("model.get('step') === 4")
        assert button(stage, "Play").is_visible(), "at the end it stops"
        button(stage, "Play").press("Enter")
        assert stage.state()["step"] == 0, "from the end it begins anew"
        button(stage, "Step").press("Enter")
        assert button(stage, "Play").is_visible(), "a step by hand stops it"
        check(stage)


def test_switches_and_the_words(show):
    with show(TileExplorer(8, step=16)) as stage:
        stage.page.get_by_role("switch", name="causal").press("Space")
        assert check(stage)["step"] == 0 and stage.widget.steps == 10
        text = stage.page.locator(".attnbook").inner_text
        slider(stage, "tiles done").press("ArrowRight")
        assert "there is nothing to correct yet" in text()
        slider(stage, "row that is watched").press("End")
        assert "Row 7 waits for its turn." in text()
        slider(stage, "tiles done").press("End")
        slider(stage, "row that is watched").press("Home")
        assert "Row 0 is finished" in text()
        stage.page.get_by_role("switch", name="backward").press("Space")
        slider(stage, "tiles done").press("ArrowRight")
        assert "computed anew" in text() and check(stage)["backward"]


def test_tiles_that_are_too_small_are_told(show):
    with show(TileExplorer(8, 1, 1)) as stage:
        assert "times as much as the naive way" in stage.page.locator(".attnbook").inner_text()
        assert check(stage)["bytes_all"] > stage.widget.bytes_naive


def test_a_click_goes_to_the_tile(show):
    with show(TileExplorer(8)) as stage:
        box = stage.page.locator("canvas").bounding_box()
        cell = (box["height"] - 52) / 8
        stage.page.mouse.click(box["x"] + 46 + 4.5 * cell, box["y"] + 50 + 3.5 * cell)
        state = check(stage)
        assert (state["step"], state["row"], state["tile"]) == (7, 3, [[2, 4], [4, 6]])


def test_python_is_heard(show):
    with show(TileExplorer(8)) as stage:
        stage.widget.set(n=10, block_q=3, step=9, row=5, causal=True)
        stage.push()
        check(stage)
        stage.widget.step = 2
        stage.push()
        assert check(stage)["row"] == 5, "who sets the step in Python watches the row that they chose"


def test_an_exact_entry_and_what_is_wrong_with_one(show):
    with show(TileExplorer(8)) as stage:
        box = stage.page.get_by_role("textbox", name="tiles done, exact value")
        box.fill("12")
        box.press("Enter")
        assert check(stage)["step"] == 12
        box.fill("99")
        box.press("Enter")
        assert check(stage)["step"] == 16, "no further than there are tiles"
        box.fill("many")
        box.press("Enter")
        assert "“many” is not a number" in stage.page.locator(".attnbook").inner_text()
        assert check(stage)["step"] == 16


def test_leaving_stops_the_clock_and_the_listening(show):
    with show(TileExplorer(8)) as stage:
        button(stage, "Play").press("Enter")
        stage.page.evaluate("leave()")
        stage.page.wait_for_timeout(1100)
        assert stage.page.evaluate("[model.get('step'), model.listening()]") == [1, 0]


@pytest.mark.parametrize("width", [360, 700, 1280])
@pytest.mark.parametrize("backward", [False, True])
def test_the_largest_fits_and_moves_within_a_frame(show, width, backward):
    with show(TileExplorer(24, 1, 1, step=300, backward=backward), width=width) as stage:
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        inside = stage.page.evaluate("""() => [...document.querySelectorAll(".tiles-panel")].every((panel) =>
          panel.scrollWidth <= panel.clientWidth)""")
        assert inside
        times = stages.frame_times(stage)
        assert times["handled_median_ms"] <= 16, times
