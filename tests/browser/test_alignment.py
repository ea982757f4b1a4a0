"""The alignment explorer in a real browser: between two texts and over a picture, its numbers are attnbook's."""

import io
import re

import numpy as np
import pytest
import stage as stages
from PIL import Image

from attnbook.widgets import AlignmentExplorer

HTML = "<img src=x onerror=window.hacked=1>"
SOURCE, TARGET = "saturday the third of march 1998".split(), list("1998-03-03")
GOLD = [5, 5, 5, 5, -1, 4, 4, -1, 2, 2]
RNG = np.random.default_rng(5)
HEADS = RNG.dirichlet(np.ones(6), size=(3, 10))
PATCHES = RNG.dirichlet(np.full(12, 0.3), size=4)
IMAGE = RNG.random((6, 8, 3))


def texts(**given):
    return AlignmentExplorer(HEADS, **{"source": SOURCE, "target": TARGET, "expected": GOLD, "selected": 5, **given})


def scene(**given):
    return AlignmentExplorer(
        PATCHES, **{"target": ["what", "is", "it", "?"], "image": IMAGE, "grid": (3, 4), "expected": [{0, 1}, 5, -1, 2],
                    "selected": 1, **given})  # fmt: skip


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def check(stage) -> dict:
    """What the page says is what Python computes; returns the explorer's state."""
    stage.pull()
    state, widget, page = stage.state(), stage.widget, stage.page
    np.testing.assert_allclose(state["shown"], widget.shown, atol=1e-6)
    assert (state["selected"], state["head"]) == (widget.selected, widget.head)
    active = state["active"]
    told = page.locator(".alignment-told").first.inner_text()
    said = [number(found) for found in re.findall(r"\b\d\.\d{3}\b", told)]
    if active["side"] == "target":
        numbers = np.sort(widget.shown[active["index"]])[::-1]
    else:
        numbers = np.sort(widget.shown[:, active["index"]])[::-1]
        assert said.pop() == pytest.approx(numbers.sum(), abs=0.5e-3 + 1e-6)
    assert said and said == pytest.approx(numbers[: len(said)].tolist(), abs=0.5e-3 + 1e-6)
    if widget.expected is not None:
        np.testing.assert_allclose(state["mass"], widget.mass, atol=1e-6)
        i = active["index"] if active["side"] == "target" else state["selected"]
        shown = page.locator("[data-read=mass]").inner_text()
        if np.isnan(widget.mass[i]):
            assert shown == "none is marked"
        else:
            assert number(shown) == pytest.approx(widget.mass[i], abs=0.5e-3 + 1e-6)
        mean = number(page.locator("[data-read=mean-mass]").inner_text())
        assert mean == pytest.approx(np.nanmean(widget.mass), abs=0.5e-3 + 1e-6)
    return state


def lane(stage, which):
    return stage.page.get_by_role("listbox", name=re.compile(f"^{which}"))


def weights_beside(stage, which) -> dict[int, float]:
    """The weights that the tokens of a lane say, for a screen reader in full."""
    labels = [chip.get_attribute("aria-label") for chip in lane(stage, which).get_by_role("option").all()]
    found = [re.search(r"weight (\S+?)(,|$)", label) for label in labels]
    return {i: number(match[1]) for i, match in enumerate(found) if match}


# Choosing --------------------------------------------------------------------------------------------------------


def test_targets_by_keyboard(show):
    with show(texts()) as stage:
        lane(stage, "Targets").get_by_role("option", selected=True).focus()
        moves = {"ArrowRight": 6, "End": 9, "ArrowUp": 8, "Home": 0, "ArrowDown": 1, "ArrowLeft": 0}
        for key, index in moves.items():
            stage.page.keyboard.press(key)
            state = check(stage)
            assert state["selected"] == stage.widget.selected == index
            beside = weights_beside(stage, "Sources")
            assert list(beside.values()) == pytest.approx(stage.widget.shown[index].tolist(), abs=0.5e-3 + 1e-6)
        assert weights_beside(stage, "Targets") == {}


def test_a_source_shows_who_uses_it(show):
    with show(texts()) as stage:
        march = lane(stage, "Sources").get_by_role("option").nth(4)
        march.click()
        state = check(stage)
        assert state["chosen"] == {"side": "source", "index": 4} and stage.widget.selected == 5
        beside = weights_beside(stage, "Targets")
        assert list(beside.values()) == pytest.approx(stage.widget.shown[:, 4].tolist(), abs=0.5e-3 + 1e-6)
        right = [i for i, chip in enumerate(lane(stage, "Targets").get_by_role("option").all())
                 if "expected" in chip.get_attribute("aria-label")]  # fmt: skip
        assert right == [5, 6]
        march.press("ArrowLeft")
        assert check(stage)["chosen"] == {"side": "source", "index": 3}
        stage.page.mouse.move(0, 0)
        stage.page.get_by_role("button", name="Back to the target").press("Enter")
        assert check(stage)["chosen"] == {"side": "target", "index": 5}


def test_pointing_shows_without_choosing(show):
    with show(texts()) as stage:
        lane(stage, "Targets").get_by_role("option").nth(8).hover()
        assert check(stage)["active"] == {"side": "target", "index": 8}
        lane(stage, "Sources").get_by_role("option").nth(2).hover()
        assert check(stage)["active"] == {"side": "source", "index": 2}
        stage.page.mouse.move(0, 0)
        state = check(stage)
        assert state["active"] == state["chosen"] == {"side": "target", "index": 5}
        assert stage.widget.selected == 5


def test_the_heat_map_chooses_too(show):
    with show(texts(), height=1200) as stage:
        grid = stage.page.get_by_role("grid")
        box = grid.bounding_box()
        stage.page.mouse.click(box["x"] + 5, box["y"] + 7.5 * box["height"] / 10)
        assert check(stage)["selected"] == 7
        stage.page.keyboard.press("ArrowDown")
        stage.page.keyboard.press("Enter")
        assert check(stage)["selected"] == 8


def test_every_slider_by_keyboard(show):
    for explorer in (texts(), scene()):
        with show(explorer) as stage:
            for name in ("hide weights below", "sharpness γ, on this page only"):
                for key in ("ArrowRight", "PageUp", "End", "ArrowLeft", "Home", "ArrowUp"):
                    before = check(stage)
                    stage.page.get_by_role("slider", name=name).press(key)
                    state = check(stage)
                    assert state != before
            assert (stage.widget.threshold, state["threshold"]) == (0.01, 0.01)
            assert "Not the model's own weights" in stage.page.locator(".alignment-note").inner_text()
            stage.page.get_by_role("button", name="γ = 1").press("Enter")
            assert check(stage)["sharpness"] == 1
            assert stage.page.locator(".alignment-note").inner_text() == "The weights as they came."


def test_heads(show):
    with show(texts()) as stage:
        for head in (0, 2, 1):
            stage.page.get_by_role("radio", name=str(head)).check()
            check(stage)
            np.testing.assert_allclose(stage.widget.shown, HEADS[head], atol=1e-6)
        stage.page.get_by_role("radio", name="mean").check()
        check(stage)
        np.testing.assert_allclose(stage.widget.shown, HEADS.mean(axis=0), atol=1e-6)
    with show(AlignmentExplorer(HEADS[0])) as stage:
        check(stage)
        assert stage.page.get_by_role("radio").count() == 0 or not stage.page.get_by_role("radio").first.is_visible()
        assert not stage.page.locator("[data-read=mass]").is_visible()


def test_weights_below_the_threshold_have_no_line_and_no_number(show):
    weights = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 0.0]])
    with show(AlignmentExplorer(weights, threshold=0.15)) as stage:
        chips = lane(stage, "Sources").locator(".alignment-number")
        assert chips.all_text_contents() == [".70", ".20", ""]
        lit = pixels_between(stage)
        stage.widget.threshold = 0.75
        stage.push()
        assert chips.all_text_contents() == ["", "", ""]
        assert pixels_between(stage) < lit, "no line is left"
        lane(stage, "Targets").get_by_role("option").nth(1).click()
        assert "looks at nothing: all its weights are 0" in stage.page.locator(".alignment-told").first.inner_text()


def pixels_between(stage) -> int:
    """How many pixels of the lines' canvas are drawn on."""
    return stage.page.evaluate("""() => {
      const canvas = document.querySelector(".alignment-lines");
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      copy.drawImage(canvas, 0, 0);
      const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, i) => i % 4 === 3 && value > 0).length;
    }""")


# Layouts ---------------------------------------------------------------------------------------------------------


def test_texts_that_do_not_fit_side_by_side_stand_in_columns(show):
    long = dict(source=[f"word{i}" for i in range(40)], target=[f"t{i}" for i in range(30)], expected=None, selected=3)
    weights = RNG.dirichlet(np.ones(40), size=30)
    for width in (360, 1000):
        with show(AlignmentExplorer(weights, **{k: v for k, v in long.items() if v is not None}), width=width) as stage:
            assert stage.page.locator(".alignment-scene").get_attribute("data-flow") == "down"
            assert lane(stage, "Targets").get_attribute("aria-orientation") == "vertical"
            assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
            lane(stage, "Targets").get_by_role("option", selected=True).press("ArrowDown")
            assert check(stage)["selected"] == 4
    with show(texts(), width=360) as stage:
        assert stage.page.locator(".alignment-scene").get_attribute("data-flow") == "tight"
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= 360
    with show(texts()) as stage:
        assert stage.page.locator(".alignment-scene").get_attribute("data-flow") == "across"


def test_lines_end_at_their_tokens(show):
    """All weight on one source: what is drawn lies between the two tokens, in every layout."""
    for width, count in ((1000, 6), (360, 9), (360, 24)):
        weights = np.zeros((count, count))
        weights[:, -1] = 1
        with show(AlignmentExplorer(weights, threshold=0.5), width=width) as stage:
            first = lane(stage, "Targets").get_by_role("option").first.bounding_box()
            last = lane(stage, "Sources").get_by_role("option").last.bounding_box()
            canvas = stage.page.locator(".alignment-lines").bounding_box()
            middle = [(first[x] + first[w] / 2 + last[x] + last[w] / 2) / 2 - canvas[x] for x, w in
                      (("x", "width"), ("y", "height"))]  # fmt: skip
            near = stage.page.evaluate("""([x, y]) => {
              const pen = document.querySelector(".alignment-lines").getContext("2d");
              return Math.max(...pen.getImageData(x - 12, y - 12, 24, 24).data.filter((_, i) => i % 4 === 3));
            }""", middle)  # fmt: skip
            assert near > 200, (width, count)


# The picture -----------------------------------------------------------------------------------------------------


def canvas_of(stage) -> Image.Image:
    return Image.open(io.BytesIO(stage.page.locator(".alignment-picture").screenshot())).convert("RGB")


def test_the_picture_is_the_one_that_was_given(show):
    with show(scene()) as stage:
        stage.page.get_by_role("switch", name="attention over the picture").press("Space")
        stage.page.mouse.move(0, 0)
        seen = canvas_of(stage)
        for row in range(6):
            for col in range(8):
                at = (int((col + 0.5) * seen.width / 8), int((row + 0.5) * seen.height / 6))
                np.testing.assert_allclose(seen.getpixel(at), IMAGE[row, col] * 255, atol=4)


def test_a_patch_is_the_darker_the_less_it_is_looked_at(show):
    weights = np.array([[0.6, 0.2, 0.2, 0.0]])
    white = np.ones((8, 8, 3))
    with show(AlignmentExplorer(weights, image=white, grid=(2, 2), threshold=1)) as stage:
        seen = canvas_of(stage).convert("L")
        middle = lambda r, c: (int((0.25 + c / 2) * seen.width), int((0.25 + r / 2) * seen.height))  # noqa: E731
        quarters = [seen.getpixel(middle(row, col)) for row in (0, 1) for col in (0, 1)]
        assert quarters[0] == 255 and quarters[1] == quarters[2] and 255 > quarters[1] > quarters[3] + 20


def test_patches_by_keyboard_and_pointer(show):
    with show(scene()) as stage:
        grid = stage.page.get_by_role("grid")
        assert (grid.get_attribute("aria-rowcount"), grid.get_attribute("aria-colcount")) == ("3", "4")
        grid.get_by_role("gridcell").focus()
        for key in ("ArrowDown", "ArrowRight"):
            stage.page.keyboard.press(key)
        state = check(stage)
        assert state["chosen"] == {"side": "source", "index": 5}
        beside = weights_beside(stage, "Targets")
        assert list(beside.values()) == pytest.approx(stage.widget.shown[:, 5].tolist(), abs=0.5e-3 + 1e-6)
        told = stage.page.locator(".alignment-told").first.inner_text()
        assert told.startswith("Patch 5 (row 1, column 1) is looked at")
        lane(stage, "Targets").get_by_role("option").nth(1).click()
        assert grid.get_by_role("gridcell").inner_text() == (
            f"patch 5 (row 1, column 1), weight {stage.widget.shown[1, 5]:.3f}, expected")  # fmt: skip
        box = grid.bounding_box()
        stage.page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.95 * box["height"])
        assert check(stage)["active"] == {"side": "source", "index": 11}
        stage.page.mouse.down()
        stage.page.mouse.up()
        assert check(stage)["chosen"] == {"side": "source", "index": 11}


# Both directions, and text that is only text ----------------------------------------------------------------------


def test_it_shows_what_python_sets(show):
    with show(texts()) as stage:
        weights = RNG.dirichlet(np.ones(3), size=2)
        stage.widget.set(weights=weights, source=["a", "b", "c"], target=["x", "y"], expected=[0, -1], selected=1)
        stage.push()
        check(stage)
        assert lane(stage, "Sources").get_by_role("option").count() == 3
        stage.widget.set(weights=PATCHES, source=[], target=list("wxyz"), image=IMAGE, grid=(3, 4), expected=None)
        stage.push()
        check(stage)
        assert stage.page.locator(".alignment-picture").is_visible() and not lane(stage, "Sources").is_visible()
        stage.widget.set(weights=HEADS, source=SOURCE, target=TARGET, image=None, grid=None, head=2, sharpness=3)
        stage.push()
        check(stage)
        assert lane(stage, "Sources").is_visible()


def test_names_are_text(show):
    weights = np.full((2, 2), 0.5)
    with show(AlignmentExplorer(weights, source=[HTML, "</script>"], target=["<b>x", " "], expected=[0, 1])) as stage:
        check(stage)
        assert f"0 ‘{HTML}’" in stage.page.locator(".alignment-told").first.inner_text()
        assert lane(stage, "Sources").locator(".alignment-name").first.text_content() == HTML
        assert stage.page.evaluate("[document.images.length, window.hacked]") == [0, None]


def test_a_name_from_right_to_left_leaves_the_numbers_in_order(show):
    with show(AlignmentExplorer([[0.75, 0.25]], source=["שלום", "a"], target=["مرحبا"])) as stage:
        told = stage.page.locator(".alignment-told").first.inner_text()
        assert told == "Target 0 ‘\u2068مرحبا\u2069’ looks at 0 ‘\u2068שלום\u2069’ 0.750, 1 ‘a’ 0.250."


def test_choices_are_announced(show):
    with show(texts()) as stage:
        lane(stage, "Targets").get_by_role("option").nth(2).click()
        stage.page.mouse.move(0, 0)
        stage.state()
        stage.page.wait_for_timeout(600)
        assert stage.page.locator(".ab-announce").inner_text().startswith("Target 2 ‘9’ looks at ")


LARGEST = {
    "texts": lambda: AlignmentExplorer(RNG.dirichlet(np.ones(64), size=(16, 64)), threshold=0),
    "picture": lambda: AlignmentExplorer(RNG.dirichlet(np.ones(256), size=(16, 64)), image=RNG.random((128, 128, 3)),
                                         grid=(16, 16)),
}  # fmt: skip


@pytest.mark.parametrize("largest", LARGEST)
@pytest.mark.parametrize("width", [360, 1280])
def test_the_largest_fits_and_moves_within_a_frame(show, largest, width):
    with show(LARGEST[largest](), width=width) as stage:
        check(stage)
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        times = stages.frame_times(stage)
        assert times["handled_median_ms"] <= 16, times
