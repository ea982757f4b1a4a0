"""The softmax and lookup explorers in a real browser: every slider by keyboard, the numbers read back, Python asked."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import stage
from PIL import Image

from attnbook import functional
from attnbook.widgets import (
    AlignmentExplorer,
    CostExplorer,
    LookupExplorer,
    MaskExplorer,
    MultiHeadExplorer,
    PatternExplorer,
    PositionExplorer,
    QKVExplorer,
    SoftmaxExplorer,
    StateExplorer,
    TileExplorer,
)

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
HTML = "<img src=x onerror=window.hacked=1>"
KEYS = ["ArrowRight", "ArrowUp", "PageUp", "End", "ArrowLeft", "PageDown", "Home", "ArrowRight"]


def softmax_explorer():
    return SoftmaxExplorer([2.0, 1.0, 0.1], labels=["cat", "dog", "bird"])


def lookup_explorer():
    keys = np.array([0.0, 0.4, 1.1, 1.9, 2.4, 3.3, 4.1, 4.8, 5.5, 6.2])
    return LookupExplorer(keys, np.sin(keys), query=2.8, bandwidth=0.5)


def mask_explorer():
    return MaskExplorer(5, n_kv=8, mask=np.arange(40).reshape(5, 8) % 3 > np.array([[0], [1], [2], [0], [1]]))


def alignment_explorer():
    weights = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 3))
    return AlignmentExplorer(weights, list("abcd"), list("xyz"), expected=[0, {1, 2}, -1])


def picture_explorer():
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=3)
    image = np.random.default_rng(0).random((4, 6, 3))
    return AlignmentExplorer(weights, target=["what", "is", "it"], image=image, grid=(2, 3), expected=[0, 1, 5])


def state_explorer():
    return StateExplorer(7, d=5, rule="delta", beta=0.9, written=9, query=3)


EXPLORERS = [
    softmax_explorer,
    lookup_explorer,
    PositionExplorer,
    MultiHeadExplorer,
    mask_explorer,
    alignment_explorer,
    picture_explorer,
    CostExplorer,
    PatternExplorer,
    TileExplorer,
    state_explorer,
]


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("∞", "inf"))


def shown(locator) -> list[float]:
    return [number(text) for text in locator.all_text_contents()]


def displayed(value):
    """Equal to what three decimals can tell."""
    return pytest.approx(value, abs=0.5e-3 + 1e-9)


# What every explorer keeps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("explorer", EXPLORERS)
def test_no_accessibility_violation(theatre, explorer, theme):
    with theatre.show(explorer(), theme=theme) as on:
        for details in on.page.locator("summary").all():
            details.click()
        on.page.add_script_tag(path=AXE)
        found = on.page.evaluate("async () => (await axe.run('.attnbook')).violations")
        serious = [(v["id"], [n["html"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
        assert serious == []


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_no_sideways_scroll_on_a_phone(theatre, explorer):
    with theatre.show(explorer(), width=360, height=740, has_touch=True) as on:
        assert on.page.evaluate("document.documentElement.scrollWidth") <= 360
        small = on.page.evaluate("""() => [...document.querySelectorAll(
          ".attnbook :is(button, input, summary, [role=button])")]
          .map((e) => [e.outerHTML, (e.closest("label") ?? e).getBoundingClientRect()])
          .filter(([_, box]) => box.width && Math.min(box.width, box.height) < 24).map(([html]) => html)""")
        assert small == [], "targets are at least 24 px"


COLOURS = """(selectors) => selectors.flatMap((selector) => [...document.querySelectorAll(selector)].map((e) => {
  const look = getComputedStyle(e);
  return [look.backgroundColor, look.backgroundImage, look.outlineStyle].join("; ");
}))"""


def test_high_contrast_keeps_what_is_told_by_colour(theatre):
    """Forced colours drop every background; what is chosen, switched on, filled or masked must still be seen."""
    qkv = ["[aria-selected=true], [aria-selected=false]", ".ab-strip span", ".ab-toggle input"]
    with theatre.show(QKVExplorer(mask="causal", scaled=False), forced_colors="active") as on:
        for pair in ((qkv[0],), (qkv[1],)):
            looks = on.page.evaluate(COLOURS, list(pair))
            assert len(set(looks)) == 2, "one looks unlike all others"
        (off,) = on.page.evaluate(COLOURS, [qkv[2]])
        on.page.get_by_role("switch").press("Space")
        assert on.page.evaluate(COLOURS, [qkv[2]]) != [off]
        assert all("gradient" in look for look in on.page.evaluate(COLOURS, [".ab-ramp", ".ab-hatch"]))
        assert len(set(pixels(on, ".ab-range"))) > 2, "the slider has a track and a thumb"
    with theatre.show(softmax_explorer(), forced_colors="active") as on:
        full, empty = on.page.evaluate(COLOURS, [".ab-meter-fill", ".ab-meter"])
        assert full != empty
        assert len(set(pixels(on, ".ab-range"))) > 2


def pixels(on, selector) -> list:
    """The colours in the middle row of an element's picture."""
    picture = Image.open(io.BytesIO(on.page.locator(selector).first.screenshot())).convert("RGB")
    return [picture.getpixel((x, picture.height // 2)) for x in range(picture.width)]


def test_a_dark_page_is_printed_light(theatre):
    with theatre.show(QKVExplorer(), theme="dark") as on:
        drawn = "document.querySelector('.ab-plate canvas').toDataURL()"
        dark = on.page.evaluate(drawn)
        on.page.emulate_media(media="print")
        on.page.wait_for_function(f"before => {drawn} !== before", arg=dark)
        assert on.page.locator(".attnbook").evaluate("e => getComputedStyle(e).colorScheme") == "light"


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_leaving_takes_everything_along(theatre, explorer):
    with theatre.show(explorer()) as on:
        on.page.evaluate("leave()")
        assert on.page.evaluate("[model.listening(), document.querySelectorAll('.attnbook').length]") == [0, 0]


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_keys_are_the_explorers_own_in_the_lab(theatre, explorer):
    """JupyterLab takes arrows and Enter before the page sees them, unless the element with the focus says no."""
    with theatre.show(explorer()) as on:
        for slider in filter(lambda slider: slider.is_visible(), on.ranges()):
            slider.focus()
            assert on.page.locator(":focus[data-lm-suppress-shortcuts]").count() == 1


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_every_control_is_reached_by_tab_and_seen(theatre, explorer):
    with theatre.show(explorer()) as on:
        controls = "input:not([type=radio]), input:checked, button:enabled, summary, [role=button][tabindex='0']"
        wanted = on.page.locator(f".attnbook :is({controls}):visible").count()
        met = set()
        for _ in range(wanted + 3):
            on.page.keyboard.press("Tab")
            met.add(on.page.evaluate("[...document.querySelectorAll('.attnbook *')].indexOf(document.activeElement)"))
            ring = on.page.evaluate("""() => {
              const seen = (e) => {
                const s = getComputedStyle(e);
                const outlined = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2;
                return outlined || parseFloat(s.strokeWidth) >= 2.5;
              };
              const at = document.activeElement;
              return at === document.body || [at, ...at.children, at.nextElementSibling].some((e) => e && seen(e));
            }""")
            assert ring, on.page.evaluate("document.activeElement.outerHTML")
        assert len(met - {-1}) >= wanted


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_a_slider_move_is_drawn_within_one_frame(theatre, explorer):
    with theatre.show(explorer()) as on:
        times = stage.frame_times(on)
        assert times["handled_median_ms"] <= 16, times


# Softmax ----------------------------------------------------------------------------------------------------------


def check_softmax(on):
    """What the page shows is what Python computes from the same inputs."""
    on.pull()
    explorer, page = on.widget, on.page
    weights = functional.softmax(np.array(explorer.logits), temperature=explorer.temperature)
    assert shown(page.locator(".ab-value")) == displayed(weights.tolist())
    assert page.locator(".ab-name").count() == len(explorer.labels)
    assert number(page.locator("[data-read=entropy]").inner_text()) == displayed(float(functional.entropy(weights)))
    assert page.locator("[data-read=max-entropy]").inner_text().endswith(f"= {math.log(len(weights)):.3f}")
    assert page.get_by_role("meter").get_attribute("aria-valuetext").startswith(
        page.locator("[data-read=entropy]").inner_text())  # fmt: skip
    state = on.state()
    assert state["weights"] == pytest.approx(explorer.weights.tolist(), abs=1e-12)
    assert state["entropy"] == pytest.approx(explorer.entropy, abs=1e-12)


def test_softmax_sliders_by_keyboard(theatre):
    with theatre.show(softmax_explorer()) as on:
        check_softmax(on)
        sliders = on.ranges()
        assert len(sliders) == 4
        for which, slider in enumerate(sliders, start=-1):
            slider.focus()
            for key in KEYS:
                before = on.state()
                on.page.keyboard.press(key)
                assert on.state() != before, f"{key} moved nothing"
                check_softmax(on)
            assert which < 0 or on.widget.logits[which] == -4.9
        assert on.widget.temperature == pytest.approx(0.0531, abs=1e-3)


def test_softmax_values_are_typed(theatre):
    with theatre.show(softmax_explorer()) as on:
        on.page.get_by_label("Logit of dog, exact value").fill("−3.25")
        on.page.keyboard.press("Enter")
        on.page.get_by_label("Temperature T, exact value").fill("0.3")
        on.page.keyboard.press("Tab")
        check_softmax(on)
        assert (on.widget.logits[1], on.widget.temperature) == (-3.25, 0.3)
        on.page.get_by_label("Logit of cat, exact value").fill("10000")
        on.page.keyboard.press("Enter")
        check_softmax(on)
        assert on.widget.weights.tolist() == [1, 0, 0]
        on.page.get_by_label("Temperature T, exact value").fill("0")
        on.page.keyboard.press("Enter")
        assert on.page.get_by_role("alert").inner_text() == "“0” is not a number from 0.001 to 1000"
        check_softmax(on)
        assert on.widget.temperature == 0.3


def test_softmax_shift_changes_nothing_and_reset_returns(theatre):
    with theatre.show(softmax_explorer()) as on:
        before = on.page.locator(".ab-value").all_text_contents()
        places = [slider.evaluate("e => e.value - e.min") for slider in on.ranges()]
        on.page.get_by_role("button", name="Shift all by +100").press("Enter")
        check_softmax(on)
        assert on.widget.logits.tolist() == [102, 101, 100.1]
        assert on.page.locator(".ab-value").all_text_contents() == before
        assert [slider.evaluate("e => e.value - e.min") for slider in on.ranges()] == pytest.approx(places)
        assert on.page.get_by_text("no probability changed").first.is_visible()
        on.page.get_by_role("button", name="Reset").press("Space")
        check_softmax(on)
        assert on.widget.logits.tolist() == [2, 1, 0.1]


def test_softmax_from_2_to_10_logits(theatre):
    with theatre.show(softmax_explorer(), width=360) as on:
        add = on.page.get_by_role("button", name="Add a logit")
        for n in range(4, 11):
            add.press("Enter")
            check_softmax(on)
            assert len(on.widget.logits) == n
            focused = on.page.evaluate("document.activeElement.labels[0].textContent")
            assert focused == f"Logit of {on.widget.labels[-1]}"
        assert add.is_disabled()
        assert len(set(on.widget.labels)) == 10
        assert on.page.evaluate("document.documentElement.scrollWidth") <= 360
        remove = on.page.get_by_role("button", name="Remove")
        for n in range(9, 1, -1):
            remove.nth(0).press("Enter")
            check_softmax(on)
            assert len(on.widget.logits) == n
        assert not remove.nth(0).is_enabled()
        assert on.widget.labels == ("z₉", "z₁₀")


def test_softmax_marks_the_limits(theatre):
    with theatre.show(softmax_explorer()) as on:
        limits = on.page.locator(".ab-limits")
        cold, warm = limits.inner_text().split("\n")
        assert (cold, warm) == ("T → 0: everything on the arg-max, ‘cat’", "T → ∞: 1/3 = 0.333 each")
        assert on.page.locator(".ab-marked .ab-name").text_content() == "cat"
        on.widget.logits = [1, 3, 3]
        on.push()
        assert limits.inner_text().split("\n")[0] == "T → 0: 0.500 each on ‘dog’, ‘bird’, tied at the top"
        assert on.page.locator(".ab-marked").count() == 0
        on.widget.temperature = 0.001
        on.push()
        check_softmax(on)
        assert on.widget.weights.tolist() == [0, 0.5, 0.5]


def test_softmax_shows_what_python_sets(theatre):
    with theatre.show(softmax_explorer()) as on:
        on.widget.logits = [0.5, -0.5, 7.25, 3.0]
        on.widget.labels = ["a", "b", "c", "d"]
        on.widget.temperature = 2.5
        on.push()
        check_softmax(on)
        boxes = on.page.get_by_label("exact value")
        assert [number(box.input_value()) for box in boxes.all()] == [2.5, 0.5, -0.5, 7.25, 3]
        assert [box.input_value() for box in on.page.get_by_label("Name of logit").all()] == ["a", "b", "c", "d"]


def drawn(on) -> str:
    """What the explorer shows, less the words for a screen reader: those wait for a hand at rest."""
    parts = on.page.locator(".attnbook > :not(.ab-announce)")
    return parts.evaluate_all("parts => parts.map((part) => part.outerHTML).join('')")


@pytest.mark.parametrize("explorer", [softmax_explorer, lookup_explorer])
def test_a_frame_between_two_traits_waits(theatre, explorer):
    """Python may set the one now and the other in the next message: nothing is drawn until they fit."""
    with theatre.show(explorer()) as on:
        before = drawn(on)
        short, other, result = ("values", "keys_", ".ab-point") if explorer is lookup_explorer else (
            "labels", "logits", ".ab-bar")  # fmt: skip
        for name in (short, other):
            rows = on.page.evaluate("([name]) => model.get(name)", [name])
            assert drawn(on) == before
            on.page.evaluate("([name, rows]) => model.set(name, rows)", [name, rows[:2]])
            on.page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        assert on.page.locator(result).count() == 2
        assert "undefined" not in on.page.locator(".attnbook").inner_html()


def test_moves_are_announced(theatre):
    for explorer, said in (
        (softmax_explorer, lambda on: "cat {:.2f}, dog {:.2f}, bird {:.2f}".format(*on.widget.weights)),
        (lookup_explorer, lambda on: f"query 6.6, bandwidth 0.5, out {on.widget.out:.3f}".replace("-", "−")),
    ):
        with theatre.show(explorer()) as on:
            on.ranges()[0].press("End")
            on.pull()
            on.page.wait_for_timeout(600)
            assert on.page.locator("[aria-live=polite]").inner_text() == said(on)


def test_softmax_saves_what_the_reader_does(theatre):
    with theatre.show(softmax_explorer()) as on:
        assert on.page.evaluate("saved") == 0
        on.ranges()[1].press("End")
        on.page.wait_for_function("saved === 1")


def test_a_label_is_text_whatever_is_typed(theatre):
    with theatre.show(softmax_explorer()) as on:
        on.page.get_by_label("Name of logit 1").fill(HTML)
        check_softmax(on)
        assert on.widget.labels[0] == HTML
        assert on.page.locator(".ab-limits").inner_text().startswith(f"T → 0: everything on the arg-max, ‘{HTML}’")
        assert HTML.startswith(on.page.locator(".ab-name").first.text_content().rstrip("…"))
        on.page.wait_for_timeout(500)
        assert on.page.evaluate("[document.images.length, window.hacked]") == [0, None]


def test_a_label_from_python_is_text_too(theatre):
    with theatre.show(SoftmaxExplorer([1, 2], labels=[HTML, "</script><b>x"])) as on:
        check_softmax(on)
        assert on.page.locator(".ab-name").last.text_content() == "</script><b>x"
        assert on.page.evaluate("[document.images.length, window.hacked]") == [0, None]


# Lookup -----------------------------------------------------------------------------------------------------------


def check_lookup(on):
    on.pull()
    explorer, page = on.widget, on.page
    weights = functional.softmax(-((explorer.query - explorer.keys_) ** 2) / (2 * explorer.bandwidth**2))
    said = [point.get_attribute("aria-label") for point in page.locator(".ab-point").all()]
    assert [number(text.split("weight ")[1].split(";")[0]) for text in said] == displayed(weights.tolist())
    assert number(page.locator("[data-read=out]").inner_text()) == displayed(float(weights @ explorer.values))
    nearest = np.abs(explorer.keys_ - explorer.query)
    limit = explorer.values[nearest == nearest.min()].mean()
    assert number(page.locator("[data-read=nearest]").inner_text()) == displayed(limit)
    reach = float(np.exp(functional.entropy(weights)))
    assert number(page.locator("[data-read=reach]").inner_text()) == pytest.approx(reach, abs=0.05 + 1e-9)
    radii = page.locator(".ab-dot").evaluate_all("es => es.map((e) => Number(e.getAttribute('r')))")
    np.testing.assert_allclose(radii, 3 + 10 * np.sqrt(weights), atol=0.01)
    for text in page.locator(".ab-weight:visible").all_text_contents():
        assert np.abs(weights - number(text)).min() <= 0.5e-3 + 1e-9
    assert on.state()["weights"] == pytest.approx(explorer.weights.tolist(), abs=1e-12)
    assert on.state()["out"] == pytest.approx(explorer.out, abs=1e-12)


def test_lookup_sliders_by_keyboard(theatre):
    with theatre.show(lookup_explorer()) as on:
        check_lookup(on)
        sliders = on.ranges()
        assert len(sliders) == 2
        for slider in sliders:
            slider.focus()
            for key in KEYS:
                before = on.state()
                on.page.keyboard.press(key)
                assert on.state() != before, f"{key} moved nothing"
                check_lookup(on)


def test_lookup_query_by_drag(theatre):
    with theatre.show(lookup_explorer()) as on:
        line = on.page.locator(".ab-query-line").bounding_box()
        on.page.mouse.move(line["x"], line["y"] + 60)
        on.page.mouse.down()
        on.page.mouse.move(line["x"] + 200, line["y"] + 90, steps=5)
        on.page.mouse.up()
        check_lookup(on)
        moved = on.page.locator(".ab-query-line").bounding_box()["x"] - line["x"]
        assert moved == pytest.approx(200, abs=2)
        assert on.widget.query > 3.5
        on.page.mouse.move(0, 0)
        after = on.widget.query
        check_lookup(on)
        assert on.widget.query == after, "the line was let go"


def test_lookup_points_are_walked_and_take_the_query(theatre):
    with theatre.show(lookup_explorer()) as on:
        on.page.locator(".ab-point").first.focus()
        said = []
        for key in ("ArrowRight", "ArrowRight", "End", "ArrowRight", "ArrowLeft", "Home"):
            on.page.keyboard.press(key)
            said.append(on.page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert [text.split(":")[0].split()[1] for text in said] == ["2", "3", "10", "10", "9", "1"]
        assert said[1].startswith("point 3 of 10: key 1.1, value 0.8912, weight 0.00")
        assert on.page.locator(".ab-point[tabindex='0']").count() == 1
        on.page.keyboard.press("Enter")
        check_lookup(on)
        assert on.widget.query == 0.0


def test_lookup_shows_what_python_sets(theatre):
    with theatre.show(lookup_explorer()) as on:
        with on.widget.hold_trait_notifications():
            on.widget.keys_ = [10, -10, 0, 0]
            on.widget.values = [1, 2, 3, 5]
        on.widget.query, on.widget.bandwidth = 25.0, 0.002
        on.push()
        check_lookup(on)
        assert on.page.locator(".ab-point").count() == 4
        on.widget.query = 0
        on.push()
        check_lookup(on)
        assert on.widget.out == 4.0


def test_lookup_arithmetic_adds_up(theatre):
    with theatre.show(lookup_explorer()) as on:
        on.page.locator("summary").click()
        on.page.wait_for_function("document.querySelectorAll('tbody tr').length === 11")
        rows = [row.split("\t") for row in on.page.locator("tbody").inner_text().split("\n")]
        weights, products = ([number(row[c]) for row in rows[:-1]] for c in (3, 4))
        assert weights == displayed(on.widget.weights.tolist())
        assert products == displayed((on.widget.weights * on.widget.values).tolist())
        assert number(rows[-1][4]) == displayed(on.widget.out)


RANGES = [
    ([1, 1], [2, 2]),
    ([0, 1e-3], [1e-4, -1e-4]),
    ([0, 1e-3], [1e5, -3e5]),
    (range(2012, 2025), range(1012, 1025)),
    ([1.7e9 + 3600 * hour for hour in range(24)], [1012, 1013, 1014] * 8),
    ([1.7e12, 1.7e12 + 1], [1.7e12, 1.7e12]),
    ([-1e15, 1e15], [1e15, -1e15]),
    ([1e15, 1e15], [0.1 + 0.2, 0.3]),
    ([0, 5e-324], [1e-300, 2e-300]),
]


@pytest.mark.parametrize(("keys", "values"), RANGES)
def test_lookup_draws_any_range(theatre, keys, values):
    with theatre.show(LookupExplorer(list(keys), list(values))) as on:
        check_finite(on)
        low, high = min(keys), max(keys)
        assert low <= on.widget.query <= high
        plot = on.page.locator(".ab-lookup").bounding_box()
        for dot in on.page.locator(".ab-dot").all():
            x, y = (float(dot.get_attribute(name)) for name in ("cx", "cy"))
            assert 40 <= x <= plot["width"] - 14 and 12 <= y <= 12 + 230
        cut = [text.text_content() for text in on.page.locator(".ab-tick").all()
               if text.bounding_box()["x"] < plot["x"] - 1]  # fmt: skip
        assert cut == []
        on.page.locator(".ab-point").first.press("Enter")
        for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
            on.ranges()[0].press(key)
        check_finite(on)


def check_finite(on):
    """The plot holds numbers only, and what the page computes is what Python computes."""
    on.pull()
    markup = on.page.locator(".attnbook").inner_html()
    assert "NaN" not in markup and "Infinity" not in markup and "not a number" not in markup
    assert on.page.locator(".ab-curve").get_attribute("d").startswith("M")
    assert on.state()["out"] == pytest.approx(on.widget.out, rel=1e-9, abs=1e-12)


def test_lookup_query_moves_in_steps_of_its_range(theatre):
    for keys, step in (([0, 1e-3], 1e-5), ([0, 20], 0.2), ([2012, 2024], 0.1), ([0, 86400], 500)):
        with theatre.show(LookupExplorer(keys, [0, 1])) as on:
            slider = on.ranges()[0]
            assert float(slider.get_attribute("step")) == step
            slider.press("Home")
            slider.press("ArrowRight")
            assert on.state()["query"] == pytest.approx(float(slider.get_attribute("min")) + step, rel=1e-12)
            assert on.state()["query"] / step == pytest.approx(round(on.state()["query"] / step), abs=1e-9)
