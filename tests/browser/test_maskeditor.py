"""The mask explorer in a real browser: painted, combined, undone; its numbers and its code are attnbook.masks'."""

import re

import numpy as np
import pytest
import stage as stages
import torch
import torch.nn.functional as F  # noqa: F401 (the code on the page calls it so)

from attnbook import masks
from attnbook.widgets import MaskExplorer
from attnbook.widgets.maskeditor import PRESETS

HTML = "<img src=x onerror=window.hacked=1>"


def check(stage) -> np.ndarray:
    """What the page says is what Python computes from the same mask; returns the mask."""
    stage.pull()
    state, widget, page = stage.state(), stage.widget, stage.page
    np.testing.assert_array_equal(state["mask"], widget.mask)
    np.testing.assert_array_equal(state["kept"], widget.kept)
    assert state["block"] == widget.block and tuple(state["empty_rows"]) == widget.empty_rows
    assert state["saved"] == pytest.approx(widget.saved, abs=1e-12)
    assert state["density"] == pytest.approx(widget.density, abs=1e-12)
    said = page.locator(".maskeditor-bar > :last-child").all_text_contents()
    shares = [100, 100 * (1 - widget.saved), 100 * widget.density]
    assert [float(text.removesuffix(" %")) for text in said] == pytest.approx(shares, abs=0.05 + 1e-9)
    sums = page.locator(".maskeditor-bar").locator("xpath=../following-sibling::p").first.inner_text()
    assert sums.startswith(f"{widget.mask.sum()} of {widget.mask.size} pairs may attend. "
                           f"Kept: {widget.kept.sum()} of {widget.kept.size} blocks")  # fmt: skip
    np.testing.assert_array_equal(run(state["code"])["mask"], widget.mask, err_msg=state["code"])
    empty = page.locator("[data-read=empty]").inner_text()
    assert ("nothing" in empty) == bool(widget.empty_rows)
    assert [int(found) for found in re.findall(r"\b(\d+)\b", empty.split("may")[0])] == list(widget.empty_rows)
    return widget.mask


def run(code: str) -> dict:
    """The page's code as a cell would run it, up to the calls of torch."""
    names = {"np": np, "masks": masks, "torch": torch}
    exec(code.split("\n")[0], names)
    return names


def radio(stage, group, name):
    return stage.page.get_by_role("radiogroup", name=group).get_by_role("radio", name=name)


def slider(stage, name):
    return stage.page.get_by_role("slider", name=name)


def centre(stage, row, col):
    box = stage.page.get_by_role("grid").bounding_box()
    n_q, n_kv = stage.widget.mask.shape
    return box["x"] + (col + 0.5) * box["width"] / n_kv, box["y"] + (row + 0.5) * box["height"] / n_q


# What it shows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PRESETS)
@pytest.mark.parametrize(("n", "n_kv"), [(12, 12), (5, 9), (9, 5), (32, 32), (1, 3)])
def test_every_preset_is_found_again(show, kind, n, n_kv):
    with show(MaskExplorer(n, kind, n_kv=n_kv, block=3)) as stage:
        np.testing.assert_array_equal(check(stage), PRESETS[kind](n, n_kv))
        assert "np.array" not in stage.state()["code"], "the code says how the mask is made"


def test_sliding_windows_are_found_again(show):
    mask = masks.causal(10) & masks.local(10, 10, 4)
    with show(MaskExplorer(mask=mask)) as stage:
        check(stage)
        assert stage.state()["code"].startswith("mask = masks.causal(10, 10) & masks.local(10, 10, 4)\n")
        assert radio(stage, "With a second", "both must").is_checked()


@pytest.mark.parametrize("kind", [kind for kind in PRESETS if kind not in ("full", "causal")])
def test_every_preset_slider_by_keyboard(show, kind):
    with show(MaskExplorer(6, n_kv=9, block=2)) as stage:
        radio(stage, "Start from", kind).check()
        np.testing.assert_array_equal(check(stage), PRESETS[kind](6, 9))
        knobs = stage.page.locator(".maskeditor-part input[type=range]:visible").all()
        assert len(knobs) == (2 if kind in ("dilated", "random") else 1)
        for knob in knobs:
            seen = set()
            for key in ("ArrowRight", "ArrowUp", "Home", "End", "ArrowLeft", "ArrowDown"):
                knob.press(key)
                seen.add(check(stage).tobytes())
            assert len(seen) >= 3, f"{kind}: {knob.get_attribute('aria-valuetext')}"


def test_random_is_masks_random(show):
    with show(MaskExplorer(7, n_kv=20, mask="random")) as stage:
        for _ in range(5):
            slider(stage, "seed").press("ArrowRight")
        slider(stage, "keys drawn for each query").press("ArrowRight")
        np.testing.assert_array_equal(check(stage), masks.random(7, 20, 4, seed=5))


def test_sizes_and_block_by_keyboard(show):
    with show(MaskExplorer(3, n_kv=5)) as stage:
        for name in ("n_q, queries", "n_kv, keys", "block of a block-wise kernel"):
            for key in ("ArrowRight", "End", "ArrowLeft", "Home", "ArrowUp", "PageUp"):
                before = stage.state()
                slider(stage, name).press(key)
                mask = check(stage)
                assert stage.state() != before
                if "block" not in name:
                    np.testing.assert_array_equal(mask, masks.causal(*mask.shape))
        stage.page.get_by_role("switch", name="self-attention").press("Space")
        mask = check(stage)
        assert mask.shape[0] == mask.shape[1] and not slider(stage, "n_kv, keys").is_visible()
        slider(stage, "n, tokens").press("Home")
        assert check(stage).shape == (1, 1)


def test_both_alignments(show):
    with show(MaskExplorer(3, n_kv=7)) as stage:
        switch = stage.page.get_by_role("switch", name="aligned at the start")
        assert stage.page.get_by_text("The last query stands at the last key").first.is_visible()
        switch.press("Space")
        expected = torch.ones(3, 7, dtype=torch.bool).tril()
        np.testing.assert_array_equal(check(stage), expected)
        q, k = torch.randn(3, 4), torch.randn(7, 4)
        theirs = F.scaled_dot_product_attention(q, k, torch.eye(7), is_causal=True)
        np.testing.assert_array_equal(check(stage), theirs > 0)


def test_combinations(show):
    with show(MaskExplorer(8, n_kv=10)) as stage:
        assert not stage.page.get_by_role("radiogroup", name="The second").is_visible()
        for first, second in (("causal", "local"), ("padding", "padding"), ("prefix", "global"), ("full", "dilated")):
            radio(stage, "Start from", first).check()
            for op, combine in (("both must", np.logical_and), ("either may", np.logical_or)):
                radio(stage, "With a second", op).check()
                radio(stage, "The second", second).check()
                np.testing.assert_array_equal(check(stage), combine(PRESETS[first](8, 10), PRESETS[second](8, 10)))
        radio(stage, "With a second", "no").check()
        np.testing.assert_array_equal(check(stage), PRESETS["full"](8, 10))


# Painting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drag_paints_the_opposite_of_its_first_cell_and_is_undone_as_one(show, theme):
    with show(MaskExplorer(8), theme=theme) as stage:
        before = check(stage).copy()
        stage.page.mouse.move(*centre(stage, 5, 1))
        stage.page.mouse.down()
        stage.page.mouse.move(*centre(stage, 5, 6))  # at one go: no cell between is left out
        stage.page.mouse.move(*centre(stage, 7, 6), steps=3)
        stage.page.mouse.up()
        expected = before.copy()
        expected[5, 1:7] = False
        expected[5:8, 6] = False
        np.testing.assert_array_equal(check(stage), expected)
        stage.page.mouse.move(*centre(stage, 0, 0))
        np.testing.assert_array_equal(check(stage), expected)
        assert radio(stage, "Start from", "painted").is_checked()
        stage.page.get_by_role("button", name="Undo").click()
        np.testing.assert_array_equal(check(stage), before)
        assert radio(stage, "Start from", "causal").is_checked()
        assert stage.page.get_by_role("button", name="Undo").is_disabled()


def test_painting_by_keyboard(show):
    with show(MaskExplorer(6, mask=np.zeros((6, 6), bool).tolist())) as stage:
        stage.page.get_by_role("gridcell").focus()
        for key in ("ArrowDown", "ArrowRight", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown",
                    "ArrowLeft", "Control+End", "Enter"):  # fmt: skip
            stage.page.keyboard.press(key)
        expected = np.zeros((6, 6), bool)
        expected[1, 1:4] = expected[2, 3] = expected[5, 5] = True
        np.testing.assert_array_equal(check(stage), expected)
        assert stage.page.get_by_role("gridcell").inner_text() == "query 5, key 5: may attend"
        said = stage.page.locator(".maskeditor-said").inner_text()
        assert said == "mask[5, 5] · query 5, key 5: may attend", "the cell in hand stays in view, as it now is"
        assert stage.page.locator(".maskeditor-value").all_inner_texts()[2] == "[5, 5] = 0"
        stage.page.keyboard.press("Control+z")
        stage.page.keyboard.press("Control+z")
        expected[5, 5] = expected[1, 2:4] = expected[2, 3] = False
        np.testing.assert_array_equal(check(stage), expected)
        assert stage.page.locator(":focus").get_attribute("role") == "gridcell"


def test_buttons(show):
    with show(MaskExplorer(5)) as stage:
        press = lambda name: stage.page.get_by_role("button", name=name, exact=True).press("Enter")  # noqa: E731
        press("Invert")
        np.testing.assert_array_equal(check(stage), ~masks.causal(5))
        press("None")
        assert not check(stage).any() and stage.widget.saved == 1
        press("All")
        assert check(stage).all()
        for _ in range(3):
            press("Undo")
        np.testing.assert_array_equal(check(stage), masks.causal(5))


def test_a_painted_mask_combines_and_keeps_its_corner(show):
    painted = np.random.default_rng(0).random((6, 6)) < 0.5
    with show(MaskExplorer(mask=painted)) as stage:
        assert radio(stage, "Start from", "painted").is_checked()
        radio(stage, "With a second", "both must").check()
        np.testing.assert_array_equal(check(stage), painted & masks.local(6, 6, 3))
        slider(stage, "window").press("End")
        np.testing.assert_array_equal(check(stage), painted)
        slider(stage, "n, tokens").press("ArrowRight")
        stage.state()  # the window's slider now goes to 7
        slider(stage, "window").press("End")
        mask = check(stage)
        np.testing.assert_array_equal(mask[:6, :6], painted)
        assert mask[6].all() and mask[:, 6].all()


def test_a_sliders_way_is_undone_as_one(show):
    with show(MaskExplorer(9, mask="local")) as stage:
        for _ in range(4):
            slider(stage, "window").press("ArrowRight")
        np.testing.assert_array_equal(check(stage), masks.local(9, 9, 7))
        stage.page.get_by_role("button", name="Undo").press("Enter")
        np.testing.assert_array_equal(check(stage), masks.local(9, 9, 3))


# Conventions -----------------------------------------------------------------------------------------------------


def test_a_cell_in_all_three_conventions(show):
    with show(MaskExplorer(4)) as stage:
        for (row, col), values in {(1, 2): ["False", "True", "−∞"], (2, 1): ["True", "False", "0"]}.items():
            stage.page.mouse.move(*centre(stage, row, col))
            stage.state()
            said = stage.page.locator(".maskeditor-value").all_inner_texts()
            assert said == [f"[{row}, {col}] = {value}" for value in values]
            assert stage.page.locator(".maskeditor-spot:visible").count() == 3
        labels = [e.get_attribute("aria-label") for e in stage.page.get_by_role("img").all()]
        assert [re.search(r"\d+ of 16 cells are .*", label)[0] for label in labels] == [
            "10 of 16 cells are True", "6 of 16 cells are True", "10 of 16 cells are 0"]  # fmt: skip


@pytest.mark.parametrize("mask", ["causal", "padding"])
def test_the_code_runs_and_both_conventions_give_one_answer(show, mask):
    with show(MaskExplorer(5, n_kv=7, mask=mask)) as stage:
        code = stage.state()["code"]
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    q, k = torch.randn(1, 5, 8), torch.randn(1, 7, 8)
    names = {"np": np, "masks": masks, "torch": torch, "F": F, "q": q, "k": k, "v": k, "layer": layer}
    names["nn"] = type("nn", (), {"MultiheadAttention": lambda *_: lambda *a, **b: layer(*a, **b)})
    names |= {"d_model": 8, "n_heads": 2}
    lines = [line for line in code.split("\n") if line]
    answers = []
    for line in lines:
        if line.startswith(("F.", "nn.")):
            answers.append(eval(line, names))
        else:
            exec(line, names)
    torch.testing.assert_close(answers[0], answers[2])
    sound = layer(q, k, k, attn_mask=masks.to_attn_mask(names["allowed"], 2))
    torch.testing.assert_close(answers[1][0], sound[0])


def test_the_code_is_copied_or_selected(show):
    with show(MaskExplorer(4)) as stage:
        stage.page.get_by_role("button", name="Copy").press("Enter")
        told = stage.page.locator(".maskeditor-copy [role=status]")
        stage.page.wait_for_function("document.querySelector('.maskeditor-copy [role=status]').textContent")
        assert told.inner_text() in ("copied", "selected: press Ctrl+C")


# Both directions, and text that is only text ----------------------------------------------------------------------


def test_it_shows_what_python_sets(show):
    with show(MaskExplorer(6)) as stage:
        mask = masks.causal(4, 9)
        mask[2] = False
        stage.widget.mask, stage.widget.block = mask, 3
        stage.push()
        check(stage)
        assert "Query 2 may attend to nothing" in stage.page.locator("[data-read=empty]").inner_text()
        stage.widget.mask = "local"
        stage.push()
        assert radio(stage, "Start from", "local").is_checked()
        check(stage)
        stage.page.get_by_role("button", name="Undo").press("Enter")
        np.testing.assert_array_equal(check(stage), mask)


def test_names_are_text(show):
    with show(MaskExplorer(tokens=[HTML, "</script>", "b", "<b>c"], mask=np.zeros((3, 4), bool))) as stage:
        assert "0 ‘</script>’, 1 ‘b’ and 2 ‘<b>c’ may attend" in stage.page.locator("[data-read=empty]").inner_text()
        stage.page.mouse.move(*centre(stage, 0, 0))
        assert HTML in stage.page.locator(".maskeditor-said").inner_text()
        assert stage.page.evaluate("[document.images.length, window.hacked]") == [0, None]


def test_changes_are_announced(show):
    with show(MaskExplorer(4, block=2)) as stage:
        stage.page.get_by_role("button", name="Invert").press("Enter")
        stage.state()
        stage.page.wait_for_timeout(600)
        said = stage.page.locator(".ab-announce").inner_text()
        assert said.startswith("6 of 16 may attend, 3 of 4 blocks kept, ∅ Query 3 may attend to nothing")


def test_a_mask_from_python_is_read_within_a_few_frames(show):
    """Another view of the same explorer gets each painted cell in this way."""
    rows = (np.random.default_rng(0).random((32, 32)) < 0.5).tolist()
    with show(MaskExplorer(32)) as stage:
        times = stage.page.evaluate("""(rows) => Array.from({ length: 15 }, (_, i) => {
          rows[0][i] = !rows[0][i];
          const start = performance.now();
          model.set("mask", structuredClone(rows));
          document.querySelector(".attnbook").explorer.flush();
          return performance.now() - start;
        })""", rows)
        assert sorted(times)[7] <= 50, times


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_the_largest_fits_and_moves_within_a_frame(show, width):
    with show(MaskExplorer(32, mask="random", block=5, tokens=[f"token{i}" for i in range(32)]), width=width) as stage:
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        board = stage.page.locator(".maskeditor-board canvas").bounding_box()
        assert board["x"] >= 0 and board["x"] + board["width"] <= width
        times = stages.frame_times(stage)
        assert times["handled_median_ms"] <= 16, times


def test_a_finger_paints_and_does_not_scroll(show):
    with show(MaskExplorer(8), width=360, height=600, has_touch=True) as stage:
        touch = stage.page.context.new_cdp_session(stage.page)
        kinds = ["touchStart", "touchMove", "touchMove", "touchMove", "touchEnd"]
        for kind, row in zip(kinds, [7, 6, 5, 4, None]):
            at = [] if row is None else [dict(zip("xy", centre(stage, row, 2)))]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        expected = masks.causal(8)
        expected[4:, 2] = False
        np.testing.assert_array_equal(check(stage), expected)
        assert stage.page.evaluate("scrollY") == 0
