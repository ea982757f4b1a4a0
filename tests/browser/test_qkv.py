"""The Q/K/V explorer in a real browser: every number it shows is attnbook.functional's, whatever moves it."""

import re
import statistics
from pathlib import Path

import numpy as np
import pytest
import stage as stages

from attnbook import functional, masks
from attnbook.widgets import QKVExplorer
from attnbook.widgets.qkv import default_vectors

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
HTML = "<img src=x onerror=window.hacked=1>"
LONG = [f"word{i % 40}" for i in range(64)]


def check(stage):
    """Its state is what the package computes, and the arithmetic on the page is its state's."""
    state = stage.state()
    q, k, v = (np.array(state[name], float) for name in "qkv")
    scores = functional.scaled_scores(q, k, None if state["scaled"] else 1.0)
    mask, heat = np.array(state["mask"]), state["temperature"]
    weights = functional.softmax(functional.masked(scores, mask), temperature=heat)
    for name, ours in (("scores", scores), ("weights", weights), ("out", weights @ v)):
        np.testing.assert_allclose(state[name], ours, rtol=0, atol=1e-6, err_msg=name)
    i = state["selected"]
    *rows, total = shown(stage)
    close = dict(rtol=1e-3, atol=5.1e-4)
    exps = np.exp((np.where(mask[i], scores[i], -np.inf) - scores[i][mask[i]].max(initial=-1e9)) / heat)
    assert [row["name"] for row in rows] == list(state["tokens"])
    np.testing.assert_allclose([row["dot"][-1] for row in rows], q[i] @ k.T, **close)
    np.testing.assert_allclose([row["exp"][-1] for row in rows], exps, **close)
    np.testing.assert_allclose([row["weight"][-1] for row in rows], weights[i], **close)
    np.testing.assert_allclose([row["part"][-1] for row in rows], weights[i] * v[:, -1], **close)
    if state["scaled"]:
        np.testing.assert_allclose([row["scale"][-1] for row in rows], scores[i], **close)
    if heat != 1:
        np.testing.assert_allclose([row["heat"][-1] for row in rows], scores[i] / heat, **close)
    np.testing.assert_allclose([total["exp"][-1], total["weight"][-1]], [exps.sum(), weights[i].sum()], **close)
    np.testing.assert_allclose(total["part"][-1], (weights @ v)[i, -1], **close)
    return state


def shown(stage) -> list[dict]:
    """The arithmetic's rows: the key's name, and the numbers in each cell."""
    rows = stage.page.evaluate(
        """() => [...document.querySelectorAll(".qkv-row")].map((row) => Object.fromEntries(
          [...row.children].map((cell) => [cell.className.slice("qkv-".length), cell.firstChild.textContent +
            (cell.className === "qkv-name" ? "" : cell.lastChild.textContent)])))"""
    )
    number = re.compile(r"[-−]?\d+(?:\.\d+)?(?:e[+−-]?\d+)?")
    read = lambda text: [float(found.replace("−", "-")) for found in number.findall(text)]  # noqa: E731
    return [{cell: text if cell == "name" else read(text) for cell, text in row.items()} for row in rows]


def plane(stage, name):
    return stage.page.get_by_role("group", name=name, exact=True)


def arrow(stage, which, name):
    return plane(stage, which).get_by_role("slider", name=re.compile(rf"^{re.escape(name)} ")).first


# The arithmetic follows every control --------------------------------------------------------------------------


@pytest.mark.parametrize("d_k", [1, 2, 7])
def test_every_slider_by_keyboard(show, d_k):
    with show(QKVExplorer(d_k=d_k, mask="padding", temperature=2.0)) as stage:
        check(stage)
        visible = [slider for slider in stage.ranges() if slider.is_visible()]
        assert len(visible) == (6 if d_k == 1 else 9), "q, k, v in one or two components, and n, d_k, T"
        for slider in visible:
            before = stage.state()
            for key in ("ArrowRight", "PageUp", "ArrowLeft", "ArrowLeft", "Home", "End", "PageDown", "ArrowUp"):
                slider.press(key)
                check(stage)
            assert stage.state() != before
        stage.pull()
        check_python(stage)


def check_python(stage):
    """Python has what the page shows, and has recomputed the same."""
    state = stage.state()
    for name in ("q", "k", "v", "mask", "scores", "weights", "out"):
        np.testing.assert_allclose(getattr(stage.widget, name), state[name], rtol=0, atol=1e-9, err_msg=name)
    assert list(stage.widget.tokens) == state["tokens"]
    assert (stage.widget.scaled, stage.widget.temperature) == (state["scaled"], state["temperature"])


def test_exact_numbers_are_typed(show):
    with show(QKVExplorer()) as stage:
        box = stage.page.get_by_role("textbox", name="q₂, exact value")
        box.fill("−1.23456789")
        box.press("Enter")
        assert check(stage)["q"][2] == [0.9, -1.23456789]
        box.fill("much")
        box.press("Enter")
        assert "is not a number" in stage.page.get_by_role("alert").filter(has_text="much").inner_text()
        assert check(stage)["q"][2] == [0.9, -1.23456789]


def test_sliders_span_what_they_did_again_after_a_large_number(show):
    with show(QKVExplorer()) as stage:
        slider = stage.page.get_by_role("slider", name="q₁")
        ends = lambda: (slider.get_attribute("min"), slider.get_attribute("max"))  # noqa: E731
        box = stage.page.get_by_role("textbox", name="q₁, exact value")
        box.fill("90")
        box.press("Enter")
        assert check(stage)["q"][2][0] == 90 and ends() == ("-3", "90")
        stage.page.get_by_role("option").nth(1).click()
        assert ends() == ("-3", "3"), "another token's slider"
        stage.page.get_by_role("option").nth(2).click()
        assert ends() == ("-3", "90")
        stage.page.get_by_role("button", name="Reset all vectors").click()
        assert check(stage)["q"][2][0] == stage.widget.q[2, 0] and ends() == ("-3", "3")


def test_a_slider_keeps_its_ends_while_it_is_dragged(show):
    with show(QKVExplorer()) as stage:
        stage.page.get_by_role("textbox", name="q₁, exact value").fill("90")
        stage.page.keyboard.press("Enter")
        stage.state()
        slider = stage.page.get_by_role("slider", name="q₁")
        box = slider.bounding_box()
        stage.page.mouse.move(box["x"] + box["width"] - 9, box["y"] + box["height"] / 2)
        stage.page.mouse.down()
        stage.page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2, steps=4)
        assert abs(check(stage)["q"][2][0]) <= 3
        assert slider.get_attribute("max") == "90"
        stage.page.mouse.up()


def test_a_smaller_d_k_forgets_no_edited_component(show):
    with show(QKVExplorer(d_k=3)) as stage:
        stage.page.get_by_role("slider", name="q₂").press("End")
        width = stage.page.get_by_role("slider", name="d_k, numbers in each vector")
        before = check(stage)
        for key in ("ArrowLeft", "ArrowLeft"):
            width.press(key)
        assert len(check(stage)["q"][2]) == 1
        stage.page.get_by_role("slider", name="q₁").press("Home")
        for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
            width.press(key)
        after = check(stage)
        assert after["q"][2][:3] == [-3, 3, before["q"][2][2]]
        assert [row[:3] for row in after["v"]] == before["v"]
        stage.page.get_by_role("button", name="Reset all vectors").click()
        width.press("Home")
        width.press("ArrowRight")
        np.testing.assert_array_equal(check(stage)["q"], default_vectors(stage.widget.tokens, 2, "q"))


def test_scaling_and_temperature(show):
    with show(QKVExplorer(d_k=16)) as stage:
        stage.page.get_by_label("divide by √d_k").press("Space")
        assert check(stage)["scaled"] is False
        assert "q·k" in stage.page.locator(".qkv-formula").first.inner_text()
        stage.page.get_by_role("slider", name="temperature T").press("Home")
        assert check(stage)["temperature"] == 0.1
        assert "softmax(row / 0.10)" in stage.page.locator(".qkv-formula").nth(1).inner_text()
        stage.page.get_by_role("slider", name="temperature T").press("End")
        assert check(stage)["temperature"] == 10


@pytest.mark.parametrize(
    ("which", "name", "role", "row"),
    [
        ("Queries and keys", "q", "q", 2),
        ("Queries and keys", "on", "k", 3),
        ("Values, and their weighted sum", "mat", "v", 5),
    ],
)
@pytest.mark.parametrize("d_k", [2, 5])
def test_arrows_are_dragged_and_moved_by_keys(show, which, name, role, row, d_k):
    with show(QKVExplorer(d_k=d_k)) as stage:
        if d_k > 2:  # two of the components are shown: choose others
            stage.page.get_by_label(f"component of {'v' if role == 'v' else 'q'} drawn across").select_option("4")
            stage.page.get_by_label(f"component of {'v' if role == 'v' else 'q'} drawn up").select_option("1")
        x, y = (3, 0) if d_k > 2 else (0, 1)
        head = arrow(stage, which, name)
        box, whole = head.bounding_box(), plane(stage, which).bounding_box()
        stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        stage.page.mouse.down()
        stage.page.mouse.move(whole["x"] + whole["width"] * 0.75, whole["y"] + whole["height"] * 0.25, steps=5)
        stage.page.mouse.up()
        state = check(stage)
        np.testing.assert_allclose([state[role][row][x], state[role][row][y]], [1.5, 1.5], atol=0.05)
        head.press("ArrowLeft")
        head.press("Shift+ArrowDown")
        moved = check(stage)
        np.testing.assert_allclose(moved[role][row][x], state[role][row][x] - 0.1)
        np.testing.assert_allclose(moved[role][row][y], state[role][row][y] - 1)
        others = [c for c in range(d_k) if c not in (x, y)]
        np.testing.assert_array_equal(np.array(moved[role])[row, others], getattr(stage.widget, role)[row, others])


# Masks ---------------------------------------------------------------------------------------------------------


def test_every_mask(show):
    with show(QKVExplorer()) as stage:
        radio = lambda kind: stage.page.get_by_role("radio", name=kind)  # noqa: E731
        radio("causal").check()
        np.testing.assert_array_equal(check(stage)["mask"], masks.causal(6))
        radio("causal").press("ArrowRight")
        assert check(stage)["mask"] == [[True] * 4 + [False] * 2] * 6
        length = stage.page.get_by_role("slider", name="real tokens, the rest is padding")
        length.press("Home")
        assert check(stage)["mask"] == [[True] + [False] * 5] * 6
        length.press("End")
        assert np.all(check(stage)["mask"]) and radio("padding").is_checked() and length.is_visible()
        radio("none").check()
        assert np.all(check(stage)["mask"]) and not length.is_visible()
        radio("custom").check()
        assert np.all(check(stage)["mask"])


def test_a_cell_is_masked_by_click_and_by_enter(show):
    with show(QKVExplorer(), height=1300) as stage:
        scores = stage.page.get_by_role("grid", name=re.compile("^scores"))
        box = scores.bounding_box()
        stage.page.mouse.click(box["x"] + box["width"] * 1.5 / 6, box["y"] + box["height"] * 2.5 / 6)
        expected = np.ones((6, 6), bool)
        expected[2, 1] = False
        np.testing.assert_array_equal(check(stage)["mask"], expected)
        assert stage.page.get_by_role("radio", name="custom").is_checked()
        assert "masked" in scores.get_by_role("gridcell").inner_text()
        stage.page.keyboard.press("ArrowRight")
        stage.page.keyboard.press("Enter")
        expected[2, 2] = False
        np.testing.assert_array_equal(check(stage)["mask"], expected)
        weights = stage.page.get_by_role("grid", name=re.compile("^weights"))
        weights.get_by_role("gridcell").focus()
        for key in ("Control+Home", "ArrowDown", "ArrowDown", "ArrowRight", "Space"):
            stage.page.keyboard.press(key)
        expected[2, 1] = True
        np.testing.assert_array_equal(check(stage)["mask"], expected)
        stage.pull()
        check_python(stage)


def test_a_token_that_may_attend_to_nothing_gets_zeros(show):
    mask = np.ones((6, 6), bool)
    mask[2] = False
    with show(QKVExplorer(mask=mask)) as stage:
        state = check(stage)
        assert state["weights"][2] == [0] * 6 and state["out"][2] == [0, 0]
        assert "may attend to nothing" in stage.page.locator(".qkv-sums").inner_text()
        assert "NaN" not in stage.page.locator("section").inner_html()


# The reader's own text -----------------------------------------------------------------------------------------


def text_box(stage):
    return stage.page.get_by_label("Your own text, 3 to 64 words")


def test_new_words_get_the_vectors_that_python_gives_them(show):
    words = ["Größe", "東京", "🙂", "the", HTML.split()[0], "cat’s", "a"] + [f"w{i}" for i in range(57)]
    with show(QKVExplorer("b c d", d_k=64, seed=3_000_000_000)) as stage:
        text_box(stage).fill("  " + "   ".join(words) + " ")
        state = check(stage)
        assert state["tokens"] == words
        for role in "qkv":
            np.testing.assert_array_equal(state[role], default_vectors(words, 64, role, 3_000_000_000))
        stage.pull()
        check_python(stage)
        fresh = QKVExplorer(" ".join(words), d_k=64, seed=3_000_000_000)
        np.testing.assert_allclose(state["out"], fresh.out, atol=1e-9)


def test_words_that_stay_keep_their_vectors_while_others_are_typed(show):
    with show(QKVExplorer(mask="causal")) as stage:
        stage.page.get_by_role("slider", name="q₁").press("End")
        text_box(stage).click()
        stage.page.keyboard.press("End")
        for _ in "sat on the mat":
            stage.page.keyboard.press("Backspace")
        stage.page.keyboard.type("dog sat")
        state = check(stage)
        assert state["tokens"] == ["the", "cat", "dog", "sat"] and state["q"][3][0] == 3
        np.testing.assert_array_equal(state["mask"], masks.causal(4))
        python = QKVExplorer(mask="causal", q=np.where(np.arange(12).reshape(6, 2) == 4, 3, QKVExplorer().q))
        python.tokens = state["tokens"]
        np.testing.assert_array_equal(python.q, state["q"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("two words", "2 words: the explorer needs at least 3"), ("", "0 words: the explorer needs at least 3"),
     ("one", "1 word: the explorer needs at least 3"), ("a " * 65, "65 words: the explorer takes at most 64")],
)  # fmt: skip
def test_too_few_or_too_many_words(show, text, message):
    with show(QKVExplorer()) as stage:
        before = stage.state()
        text_box(stage).fill(text)
        assert message in stage.page.get_by_role("alert").filter(has_text="word").inner_text()
        assert text_box(stage).get_attribute("aria-invalid") == "true"
        assert check(stage) == before
        text_box(stage).fill("now it fits again")
        assert text_box(stage).get_attribute("aria-invalid") is None
        assert check(stage)["tokens"] == ["now", "it", "fits", "again"]


def test_tokens_are_text_whatever_they_hold(show):
    with show(QKVExplorer([HTML.replace(" ", "/"), "<script>window.hacked=1</script>", "&amp;"])) as stage:
        check(stage)
        assert stage.page.get_by_role("option").all_inner_texts() == list(stage.widget.tokens)
        text_box(stage).fill("<b>bold</b> <img/src=x/onerror=window.hacked=1> \"'`")
        assert check(stage)["tokens"][1] == "<img/src=x/onerror=window.hacked=1>"
        for cell in stage.page.get_by_role("grid").all()[:3]:
            box = cell.bounding_box()
            stage.page.mouse.move(box["x"] + 3, box["y"] + 3)
        assert stage.page.locator("section :is(img, script)").count() == 0
        assert stage.page.evaluate("window.hacked") is None


# Seeing, and going without a mouse ------------------------------------------------------------------------------


def test_pointing_links_row_column_arrow_and_arithmetic(show):
    with show(QKVExplorer(), height=1400) as stage:
        page = stage.page
        box = page.get_by_role("grid", name=re.compile("^weights")).bounding_box()
        page.mouse.move(box["x"] + box["width"] * 5.5 / 6, box["y"] + box["height"] * 0.5 / 6)
        assert "Query ‘the’, key ‘mat’: score 2.058, weight 0.450" in page.locator(".qkv-told").inner_text()
        assert page.locator(".qkv-row[data-lit] .qkv-name").inner_text() == "mat"
        assert page.locator(".ab-token[data-lit]").inner_text() == "the"
        assert page.locator(".qkv-plane").first.locator(".ab-vector[data-lit] text").text_content() == "mat"
        assert page.locator(".qkv-plane").nth(1).locator(".ab-vector[data-lit]").count() == 1
        assert page.locator(".qkv-maps .ab-band").evaluate_all("all => all.filter((e) => e.offsetWidth).length") == 5
        page.locator(".qkv-row").nth(1).hover()
        assert "Query ‘sat’, key ‘cat’" in page.locator(".qkv-told").inner_text()
        arrow(stage, "Queries and keys", "on").focus()
        assert "key ‘on’" in page.locator(".qkv-told").inner_text()
        check(stage)


def test_all_products_are_written_out_on_demand(show):
    with show(QKVExplorer(d_k=9)) as stage:
        row = stage.page.locator(".qkv-row").nth(3)
        assert row.locator(".qkv-terms").text_content().count("×") == 3
        row.focus()
        row.press("Enter")
        terms = stage.page.locator(".qkv-full p").first.inner_text()
        assert terms.count("×") == 9 and row.get_by_role("button").get_attribute("aria-expanded") == "true"
        products = re.findall(r"\((\S+)\s×\s(\S+)\)", terms)
        total = sum(float(a.replace("−", "-")) * float(b.replace("−", "-")) for a, b in products)
        np.testing.assert_allclose(total, stage.widget.q[2] @ stage.widget.k[3], atol=1e-9)
        stage.page.get_by_role("slider", name="q₁").press("End")
        stage.state()
        assert stage.page.locator(".qkv-full p").first.inner_text().startswith("q·k = (3.00\xa0×")
        row.get_by_role("button").click()
        assert stage.page.locator(".qkv-full").count() == 0


def test_a_reader_without_a_mouse_reaches_everything(show):
    with show(QKVExplorer(d_k=5, mask="padding")) as stage:
        page, stops = stage.page, []
        for _ in range(80):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                "() => { const e = document.activeElement; return e === document.body ? null : "
                "[e.getAttribute('role') ?? e.type ?? e.tagName, e.className.baseVal ?? e.className].join(' ') }"
            )
            if stop is None:
                break
            stops.append(stop)
            assert page.evaluate(
                "() => { const e = document.activeElement, s = getComputedStyle(e), sibling = e.nextElementSibling;"
                "const ring = (s) => s.outlineStyle !== 'none' || s.boxShadow !== 'none' || s.stroke !== 'none';"
                "return ring(s) || (sibling && ring(getComputedStyle(sibling))) }"
            ), f"focus is not visible on {stop}"
        expected = {"option": 1, "slider": 13, "range": 9, "number": 9, "select": 4, "gridcell": 3, "row": 1}
        assert {kind: sum(kind in stop for stop in stops) for kind in expected} == expected, stops
        page.get_by_role("option").nth(2).focus()
        page.keyboard.press("End")
        assert check(stage)["selected"] == 5
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        assert check(stage)["selected"] == 0
        page.locator(".qkv-row").first.focus()
        page.keyboard.press("ArrowDown")
        assert "key ‘cat’" in page.locator(".qkv-told").inner_text()
        page.get_by_role("button", name="Reset all vectors").press("Enter")
        check(stage)


def test_reset(show):
    with show(QKVExplorer(q=np.ones((6, 3)))) as stage:
        stage.page.get_by_role("button", name="Reset all vectors").click()
        np.testing.assert_array_equal(check(stage)["q"], default_vectors(stage.widget.tokens, 3, "q"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("many", [False, True])
def test_accessibility_rules(show, theme, many):
    widget = QKVExplorer(LONG, d_k=64, mask="causal") if many else QKVExplorer(mask="padding", temperature=0.5)
    with show(widget, theme=theme) as stage:
        stage.page.add_script_tag(path=AXE)
        found = stage.page.evaluate("() => axe.run('section')")
        bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert not bad, [(v["id"], [node["html"][:200] for node in v["nodes"][:3]]) for v in bad]


@pytest.mark.parametrize("width", [320, 360, 720, 1100])
@pytest.mark.parametrize("tokens", ["the cat sat on the mat", " ".join(LONG), "a" * 80 + " b c"])
def test_no_width_scrolls_sideways(show, width, tokens):
    with show(QKVExplorer(tokens, d_k=4), width=width) as stage:
        assert stage.page.evaluate("document.documentElement.scrollWidth") <= width
        outside = """() => [...document.querySelectorAll("section *")].filter((e) => e.getClientRects().length &&
          !e.closest("svg, .ab-hidden") && e.getBoundingClientRect().right > innerWidth).map((e) => e.className)"""
        assert stage.page.evaluate(outside) == []


def test_reduced_motion(show):
    with show(QKVExplorer(), reduced_motion="reduce") as stage:
        stage.page.get_by_label("divide by √d_k").press("Space")
        assert stage.page.evaluate("document.getAnimations().length") == 0


# Python at the other end ---------------------------------------------------------------------------------------


def test_what_python_sets_is_shown(show):
    rng = np.random.default_rng(0)
    with show(QKVExplorer()) as stage:
        stage.widget.set(
            tokens="x y z", q=rng.normal(size=(3, 4)) * 10, k=rng.normal(size=(3, 4)), v=rng.normal(size=(3, 1)),
            mask=np.eye(3, dtype=bool), scaled=False, temperature=0.05,
        )  # fmt: skip
        stage.push()
        assert check(stage)["tokens"] == ["x", "y", "z"] and text_box(stage).input_value() == "x y z"
        assert stage.page.get_by_role("radio", name="custom").is_checked()
        check_python(stage)
        stage.widget.tokens = "one two three four five"
        stage.widget.mask = "causal"
        stage.push()
        check(stage)
        assert stage.page.get_by_role("radio", name="causal").is_checked()
        check_python(stage)


def test_a_move_is_announced(show):
    with show(QKVExplorer()) as stage:
        stage.page.get_by_role("slider", name="q₁").press("End")
        state = check(stage)
        weights = state["weights"][2]
        most = int(np.argmax(weights))
        said = f"sat attends most to {state['tokens'][most]}, weight {weights[most]:.2f}"
        stage.page.wait_for_function("document.querySelector('[aria-live=polite]')?.textContent")
        assert stage.page.locator("[aria-live=polite]").inner_text() == said


def test_many_moves_within_a_frame_are_drawn_once(show):
    with show(QKVExplorer(LONG, d_k=64)) as stage:
        drawn = stage.page.evaluate(
            """async () => {
              const root = document.querySelector(".attnbook"), told = root.querySelector(".qkv-total .qkv-part");
              const ranges = [...root.querySelectorAll("input[type=range]")].filter((range) => range.offsetWidth);
              let drawn = 0;
              new MutationObserver(() => drawn++).observe(told, { characterData: true, subtree: true });
              for (let i = 0; i < 300; i++) {
                const range = ranges[i % ranges.length];
                range.value = Number(range.min) + (range.max - range.min) * (0.5 + 0.5 * Math.sin(i));
                range.dispatchEvent(new Event("input", { bubbles: true }));
                await null; // a redraw here would be observed by itself
              }
              await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              return drawn;
            }"""
        )
        assert drawn == 1
        check(stage)


def test_moves_are_saved_and_the_last_always(show):
    with show(QKVExplorer()) as stage:
        slider = stage.page.get_by_role("slider", name="v₁")
        for _ in range(20):
            slider.press("ArrowRight")
        stage.page.wait_for_timeout(150)
        assert 1 <= stage.page.evaluate("saved") <= 20
        stage.pull()
        check_python(stage)


def test_it_leaves_nothing_behind(show):
    with show(QKVExplorer()) as stage:
        stage.page.evaluate("leave()")
        assert stage.page.evaluate("[model.listening(), document.querySelector('section')]") == [0, None]


# Speed ---------------------------------------------------------------------------------------------------------

SLIDES = """async (moves) => {
  const root = document.querySelector(".attnbook");
  const ranges = [...root.querySelectorAll(".qkv-knobs input[type=range]")].filter((range) => range.offsetWidth);
  ranges.push([...root.querySelectorAll(".qkv-settings input[type=range]")].at(-1)); // the temperature
  const step = (i) => {
    const range = ranges[i % ranges.length];
    const start = performance.now();
    range.value = Number(range.min) + (range.max - range.min) * (0.5 + 0.45 * Math.sin(i * 1.7));
    range.dispatchEvent(new Event("input", { bubbles: true }));
    root.explorer.flush();
    root.offsetHeight;
    return start;
  };
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = done;
    port2.postMessage(null);
  }));
  const times = { handled: [], painted: [] };
  for (let i = 0; i < moves + 10; i++) {
    const start = step(i);
    const handled = performance.now() - start;
    await painted();
    if (i < 10) continue; // the compiler is still warming up
    times.handled.push(handled);
    times.painted.push(performance.now() - start);
  }
  return times;
}"""


def frame_times(browser, n=64, d_k=64, moves=70, width=760) -> dict:
    """Milliseconds of a move of one component or of the temperature, at n tokens: until all is computed, written and
    laid out, and until the frame that shows it is painted. Nothing is left to a later frame.
    """
    widget = QKVExplorer([f"w{i}" for i in range(n)], d_k=d_k)
    with stages.theatre(browser) as theatre, theatre.show(widget, width=width) as stage:
        times = stage.page.evaluate(SLIDES, moves)
    figures = {"moves": moves}
    for name, all_times in times.items():
        figures[f"{name}_median_ms"] = round(statistics.median(all_times), 2)
        figures[f"{name}_worst_ms"] = round(max(all_times), 2)
    return {f"qkv, {n} tokens, d_k {d_k}": figures}


def test_a_move_takes_less_than_a_frame(browser):
    medians = []
    for _ in range(3):  # the least of three: other work on the machine only ever adds
        (figures,) = frame_times(browser).values()
        medians.append(figures["handled_median_ms"])
    assert min(medians) <= 16, medians


def test_a_move_builds_nothing(show):
    with show(QKVExplorer(LONG, d_k=64)) as stage:
        changed = stage.page.evaluate(
            """async () => {
              const root = document.querySelector(".attnbook"), records = [];
              new MutationObserver((all) => records.push(...all)).observe(root, { childList: true, subtree: true });
              for (const range of root.querySelectorAll(".qkv-knobs input[type=range]")) {
                range.value = 1;
                range.dispatchEvent(new Event("input", { bubbles: true }));
                root.explorer.flush();
              }
              await new Promise((done) => setTimeout(done));
              const built = records.filter((record) => [...record.addedNodes].some((node) => node.nodeType === 1));
              return built.map((record) => record.target.className);
            }"""
        )
        assert [name for name in changed if name != "ab-legend"] in ([], ["attnbook"])  # the live region, at first
