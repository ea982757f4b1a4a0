"""The quiz in a real browser: by keyboard, pointer and finger, each wrong answer told why, Python hearing it all."""

from pathlib import Path

import numpy as np
import pytest
from quizzes import answer_by_keyboard, choose, plain

from attnbook.widgets.quiz import Choice, Number, Order, Quiz

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
HTML = "<img src=x onerror=window.hacked=1>"
STEPS = ["scores", "scale", "mask", "softmax", "weighted sum"]


def axis():
    wrong = {"queries": "Then a column would sum to 1.", "both": "Then the whole of `weights` would sum to 1."}
    return Choice("Which axis of `scores` does the softmax run over?", {"keys": True} | wrong, why="A row sums to 1.")


def unmoved():
    options = {"adding 5 to a row": True, "permuting `d_k`": True, "doubling `q`": "Scores double.", "k = 0": "No."}
    return Choice("Which leave the weights as they are?", options, why="Differences matter.")


def root(**options):
    wrong = {64: "That is d_k itself.", 4096: "That is its square.", 0.0183156: "That is e⁻⁴."}
    return Number("d_k = 64: what are the scores divided by?", np.sqrt(64), wrong=wrong, why="√64 = 8", **options)


def steps():
    wrong = {("softmax", "mask"): "Rows would no longer sum to 1.", ("weighted sum", "softmax"): "Weights come first."}
    return Order("Put the steps in order", STEPS, wrong=wrong, either=[("scale", "mask")], why="Scale or mask first.")


def quiz():
    return Quiz(axis(), unmoved(), root(), steps(), title="Before you go on")


def said(on, i=0) -> str:
    return on.page.get_by_role("status").nth(i).inner_text()


def button(on, name, i=0):
    return on.page.locator("fieldset").nth(i).get_by_role("button", name=name, exact=True)


def agree(on):
    """The page and Python judge alike."""
    on.pull()
    assert on.state()["correct"] == list(on.widget.correct)


def test_every_question_by_keyboard(theatre):
    with theatre.show(quiz()) as on:
        answer_by_keyboard(on.page.locator(".attnbook"))
        agree(on)
        assert on.widget.answers == ("keys", ("adding 5 to a row", "permuting `d_k`"), 8.0, tuple(STEPS))
        assert on.widget.correct == (True,) * 4
        assert on.widget.tries == (2,) * 4
        assert on.page.evaluate("saved") > 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_accessibility_violation(theatre, theme):
    with theatre.show(quiz(), theme=theme) as on:
        on.page.add_script_tag(path=AXE)
        for stage in ("fresh", "wrong", "shown"):
            for i, field in enumerate(on.page.locator("fieldset").all() if stage != "fresh" else []):
                if stage == "wrong" and i < 2:
                    choose(on.page, field, [0])
                elif stage == "wrong":
                    field.locator("input").fill("64") if i == 2 else None
                    button(on, "Check", i).press("Enter")
                elif button(on, "Show the answer", i).is_visible():
                    button(on, "Show the answer", i).press("Enter")
            found = on.page.evaluate("async () => (await axe.run('.attnbook')).violations")
            assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == [], stage


def test_questions_are_told_to_a_screen_reader(theatre):
    with theatre.show(quiz()) as on:
        fields = on.page.locator("fieldset")
        assert [fields.nth(0).get_by_role(role).count() for role in ("radio", "checkbox")] == [3, 0]
        assert [fields.nth(1).get_by_role(role).count() for role in ("radio", "checkbox")] == [0, 4]
        group = on.page.get_by_role("group", name="1. Which axis of scores does the softmax run over?")
        assert group.count() == 1
        feedback = fields.nth(0).get_by_role("status").get_attribute("id")
        assert fields.nth(0).get_attribute("aria-describedby") == feedback
        box = on.page.get_by_role("textbox", name="Your answer")
        described = box.get_attribute("aria-describedby").split()
        assert fields.nth(2).get_by_role("status").get_attribute("id") in described
        assert on.page.get_by_role("heading", name="Before you go on").count() == 1
        assert fields.nth(3).get_by_role("list").get_by_role("listitem").count() == 5
        choose(on.page, fields.nth(0), [0])
        name, mark = fields.nth(0).locator("label").nth(0).inner_text(), ["both", "keys", "queries"]
        assert any(name.startswith(text) for text in mark) and "(wrong)" in name


def test_the_right_answer_is_not_given_away(theatre):
    with theatre.show(quiz()) as on:
        for i in range(4):
            assert not button(on, "Show the answer", i).is_visible()
        choose(on.page, on.page.locator("fieldset").nth(0), [0])
        text = on.page.locator("fieldset").nth(0).inner_text()
        assert "✓" not in text and "A row sums to 1." not in text and said(on).count("Then") == 1
        assert button(on, "Show the answer").is_visible()
        button(on, "Show the answer").press("Enter")
        assert said(on) == "The answer: keys\n\nA row sums to 1."
        assert button(on, "Show the answer").get_attribute("aria-disabled") == "true"
        assert on.page.evaluate("document.activeElement.textContent") == "Show the answer"
        text = on.page.locator("fieldset").nth(0).inner_text()
        assert "✓" in text and text.count("Then") == 2, "now each wrong one is explained"
        agree(on)
        assert on.widget.correct[0] is False
        before = on.state()
        button(on, "Check").press("Enter")
        choose(on.page, on.page.locator("fieldset").nth(0), [1])
        assert on.state() == before, "what is settled stays"


def test_solved_and_shown_answers_cannot_be_changed(theatre):
    with theatre.show(quiz()) as on:
        answer_by_keyboard(on.page.locator(".attnbook"))
        before = on.state()
        for field in on.page.locator("fieldset").all():
            for control in field.locator("input, button:visible").all():
                control.focus()
                for key in ("Space", "ArrowDown", "ArrowUp", "7", "Enter"):
                    on.page.keyboard.press(key)
        assert {**on.state(), "title": ""} == {**before, "title": ""}


def test_several_right_options(theatre):
    with theatre.show(Quiz(unmoved())) as on:
        texts = [option["text"] for option in on.state()["questions"][0]["options"]]

        def pick(*wanted):
            choose(on.page, on.page.locator("fieldset"), [texts.index(text) for text in wanted])

        pick("permuting `d_k`")
        assert said(on).endswith("All that you chose is right, but there is more.")
        pick("permuting `d_k`", "doubling `q`", "k = 0")
        for part in ("doubling q: Scores double.", "k = 0: No.", "And something that is right is not chosen yet."):
            assert part in said(on)
        pick("permuting `d_k`", "adding 5 to a row", "k = 0")
        assert "something" not in said(on) and "k = 0: No." in said(on)
        agree(on)
        assert on.widget.answers == (("adding 5 to a row", "permuting `d_k`", "k = 0"),)
        pick("permuting `d_k`", "adding 5 to a row")
        agree(on)
        assert (on.widget.correct, on.widget.tries) == ((True,), (4,))


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("8", {}, None),
        (" 8.0 ", {}, None),
        ("8,0", {}, None),
        ("16/2", {}, None),
        ("8e0", {}, None),
        ("8 bytes", {"unit": "bytes"}, None),
        ("64", {}, "That is d_k itself."),
        ("4 096", {}, "That is its square."),
        ("4,096", {}, "That is its square."),
        ("0.0183156", {}, "That is e⁻⁴."),
        ("0.018", {}, "That is e⁻⁴."),
        ("−8", {}, "Right but for the sign."),
        ("-3", {}, "It cannot be negative."),
        ("0", {}, "It is not zero."),
        ("9", {}, "One too many."),
        ("7", {}, "One too few."),
        ("8.2", {}, "Too large, but close: check the arithmetic and the rounding."),
        ("16", {}, "Too large by a factor of 2."),
        ("2", {}, "Too small by a factor of 4."),
        ("8000", {}, "Too large by a factor of 1000. Check the unit and the decimal point."),
        ("0.125", {}, "Too small by a factor of 64."),
        ("19", {}, "Too large."),
        ("0.1", {"answer": 0}, "Too large."),
        ("0,37", {"answer": np.exp(-1), "tolerance": 5e-4}, "Right as far as it goes, but rounded too much: give 3"),
        ("0.4", {"answer": np.exp(-1), "tolerance": 5e-2}, None),
        ("0.368", {"answer": np.exp(-1), "tolerance": 5e-4}, None),
        ("2.718281828", {"answer": np.exp(-1), "tolerance": 5e-4}, "That is 1 divided by it."),
        ("1/3", {"answer": 1 / 3}, None),
        ("−1/3", {"answer": -1 / 3}, None),
        ("1/2", {"answer": -1 / 3}, "It is negative."),
        ("1,048,576", {"answer": 2**20}, None),
        ("1 048 576", {"answer": 2**20}, None),
        ("1_048_576", {"answer": 2**20}, None),
        ("1,024", {"answer": 1024}, None),
        ("1,024", {"answer": 1.024}, None),
    ],
)
def test_numbers_are_read_and_answered(theatre, text, question, answer):
    options = {"wrong": root().wrong if not question.get("answer") else {}} | question
    with theatre.show(Quiz(Number("How many?", options.pop("answer", 8), **options, why="√64"))) as on:
        box = on.page.get_by_role("textbox")
        box.fill(text)
        box.press("Enter")
        agree(on)
        assert on.widget.correct == (answer is None,)
        assert answer in said(on) if answer else said(on).endswith("Right.\n\n√64")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "Type a number first.")]
    + [(text, f"“{text}” is not a number.") for text in ("eight", "1/0", "1/2/3", "1,2,3", "0x8", HTML)],
)
def test_what_is_no_number_is_no_try(theatre, text, problem):
    with theatre.show(Quiz(root())) as on:
        box = on.page.get_by_role("textbox")
        box.fill(text)
        button(on, "Check").press("Enter")
        assert on.page.locator(".ab-problem").inner_text() == problem
        assert box.get_attribute("aria-invalid") == "true"
        assert on.page.evaluate("document.activeElement.type") == "text"
        agree(on)
        assert on.widget.correct == (None,)
        box.fill("8")
        assert on.page.locator(".ab-problem").inner_text() == "" and box.get_attribute("aria-invalid") is None


def test_an_option_must_be_chosen_first(theatre):
    with theatre.show(Quiz(axis())) as on:
        button(on, "Check").press("Enter")
        assert on.page.locator(".ab-problem").inner_text() == "Choose an answer first."
        assert on.page.evaluate("document.activeElement.type") == "radio"
        on.page.keyboard.press("ArrowDown")
        assert on.page.locator(".ab-problem").inner_text() == ""
        assert said(on) == "", "arrows choose, they do not answer"


def test_the_same_answer_twice_is_one_try(theatre):
    with theatre.show(Quiz(root())) as on:
        on.page.get_by_role("textbox").fill("64")
        for _ in range(3):
            button(on, "Check").press("Enter")
        agree(on)
        assert on.widget.tries == (1,)


def order(on) -> list[str]:
    return [row.inner_text().split("\n")[1] for row in on.page.get_by_role("listitem").all()]


def test_steps_move_by_buttons_and_arrows(theatre):
    with theatre.show(Quiz(steps())) as on:
        first, *others = start = order(on)
        assert sorted(start) == sorted(STEPS) and start != STEPS
        button(on, f"Move down: {first}").focus()
        on.page.keyboard.press("Enter")
        assert order(on) == [others[0], first, *others[1:]]
        assert on.page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Move down: {first}"
        on.page.keyboard.press("End")
        assert order(on) == [*others, first]
        on.page.keyboard.press("ArrowDown")
        assert order(on) == [*others, first]
        on.page.keyboard.press("ArrowUp")
        assert order(on) == [*others[:-1], first, others[-1]]
        on.page.keyboard.press("Home")
        assert order(on) == start
        assert button(on, f"Move up: {first}").get_attribute("aria-disabled") == "true"
        assert on.page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Move down: {first}"
        on.page.wait_for_timeout(600)
        assert on.page.locator(".ab-announce").inner_text() == f"{first}: 1 of 5"
        on.pull()
        assert on.widget.answers == (None,), "moving is not answering"


def centre(row):
    box = row.bounding_box()
    return box["x"] + 14, box["y"] + box["height"] / 2


def test_a_step_is_dragged(theatre):
    with theatre.show(Quiz(steps())) as on:
        first, second, third, *rest = order(on)
        rows = on.page.get_by_role("listitem")
        on.page.mouse.move(*centre(rows.nth(0)))
        on.page.mouse.down()
        on.page.mouse.move(*centre(rows.nth(1)), steps=5)
        x, y = centre(rows.nth(2))
        on.page.mouse.move(x + 90, y + 4, steps=5)
        assert order(on) == [second, third, first, *rest]
        assert on.page.locator("[data-held]").count() == 1
        on.page.mouse.move(x, y - 500, steps=5)
        assert order(on) == [first, second, third, *rest]
        on.page.mouse.move(x, y + 500, steps=5)
        on.page.mouse.up()
        assert on.page.locator("[data-held]").count() == 0
        on.page.mouse.move(0, 0)
        assert order(on) == [second, third, *rest, first]


def test_a_step_is_dragged_by_a_finger(theatre):
    with theatre.show(Quiz(steps()), width=360, height=740, has_touch=True) as on:
        first, second, third, *rest = order(on)
        rows = on.page.get_by_role("listitem")
        (x, y), (_, below) = centre(rows.nth(0)), centre(rows.nth(2))
        cdp = on.page.context.new_cdp_session(on.page)

        def touch(kind, *points):
            points = [{"x": px, "y": py} for px, py in points]
            cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (x, y))
        for part in np.linspace(0, 1, 8):
            touch("touchMove", (x, y + part * (below + 4 - y)))
        touch("touchEnd")
        assert order(on) == [second, third, first, *rest]


def test_orders_are_told_why(theatre):
    with theatre.show(Quiz(steps())) as on:
        for wanted, answer in (
            (["scores", "scale", "softmax", "mask", "weighted sum"], "Rows would no longer sum to 1."),
            (["scores", "scale", "mask", "weighted sum", "softmax"], "Weights come first."),
            (["scale", "scores", "mask", "softmax", "weighted sum"], "“scale” comes too early: “scores” has to"),
            (["scores", "mask", "scale", "softmax", "weighted sum"], "Scale or mask first."),
        ):
            for step in reversed(wanted):
                button(on, f"Move down: {step}").press("Home")
            assert order(on) == wanted
            button(on, "Check").press("Enter")
            assert answer in said(on)
            agree(on)
            assert on.widget.answers == (tuple(wanted),)
        assert on.widget.correct == (True,)


def test_start_again(theatre):
    with theatre.show(quiz()) as on:
        fresh = on.page.locator(".quiz-list").inner_text()
        again = on.page.get_by_role("button", name="Start again")
        assert not again.is_visible()
        answer_by_keyboard(on.page.locator(".attnbook"))
        again.press("Enter")
        assert on.page.locator(".quiz-list").inner_text() == fresh
        assert on.page.evaluate("document.activeElement.type") == "radio"
        agree(on)
        assert on.widget.answers == on.widget.correct == (None,) * 4
        on.page.wait_for_timeout(600)
        assert on.page.locator(".ab-announce").inner_text() == "All answers are cleared."
        answer_by_keyboard(on.page.locator(".attnbook"))


def test_python_resets_and_sets(theatre):
    with theatre.show(quiz()) as on:
        answer_by_keyboard(on.page.locator(".attnbook"))
        on.pull()
        on.widget.reset()
        on.widget.title = "Anew"
        on.push()
        assert on.state()["correct"] == [None] * 4
        assert on.page.get_by_role("heading").inner_text() == "Anew"
        on.widget.questions = [root(), axis()]
        on.push()
        assert on.page.locator("fieldset").count() == 2
        answer_by_keyboard(on.page.locator(".attnbook"))


def test_a_frame_between_two_traits_waits(theatre):
    with theatre.show(quiz()) as on:
        before = on.page.locator(".attnbook").inner_html()
        on.page.evaluate("model.set('questions', model.get('questions').slice(0, 2))")
        on.page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        assert on.page.locator(".attnbook").inner_html() == before
        on.page.evaluate("model.set('record', model.get('record').slice(0, 2))")
        assert len(on.state()["correct"]) == on.page.locator("fieldset").count() == 2


def test_a_stored_answer_is_shown_at_once(theatre):
    widget = quiz()
    with theatre.show(widget) as on:
        answer_by_keyboard(on.page.locator(".attnbook"))
        on.pull()
        seen = on.page.locator(".attnbook").inner_text()
    with theatre.show(widget) as on:
        assert on.page.locator(".attnbook").inner_text() == seen


def test_text_is_text(theatre):
    bad = Quiz(
        Choice(HTML, {f"right {HTML}": True, f"`{HTML}`": HTML}, why=HTML),
        Number(HTML, 1, wrong={2: HTML}, unit=HTML, why=HTML),
        Order(HTML, [HTML, "b"], wrong={("b", HTML): HTML}, why=HTML),
        title=f"</script>{HTML}",
    )
    with theatre.show(bad) as on:
        answer_by_keyboard(on.page.locator(".attnbook"))
        assert on.page.locator("fieldset").nth(0).locator("code").inner_text() == HTML
        on.page.wait_for_timeout(300)
        assert on.page.evaluate("[document.images.length, window.hacked]") == [0, None]
        assert plain(on.page.get_by_role("heading").inner_text()) == f"</script>{HTML}"


def test_fits_a_phone_with_targets_for_fingers(theatre):
    long = Choice("What of `" + "x" * 80 + "`?", {"w" * 90: True, "an ordinary answer": "n" * 120})
    with theatre.show(Quiz(axis(), unmoved(), root(unit="bytes"), steps(), long), width=360, height=740) as on:
        for answered in (False, True):
            if answered:
                answer_by_keyboard(on.page.locator(".attnbook"))
            assert on.page.evaluate("document.documentElement.scrollWidth") <= 360
            small = on.page.evaluate("""() => [...document.querySelectorAll(
              ".attnbook :is(button, input, label, .quiz-grip)")].filter((e) => !e.matches(".ab-label"))
              .map((e) => [e.outerHTML, e.getBoundingClientRect()])
              .filter(([_, box]) => box.width && Math.min(box.width, box.height) < 24).map(([html]) => html)""")
            assert small == []


def test_every_control_is_reached_by_tab_and_seen(theatre):
    with theatre.show(quiz()) as on:
        met = []
        for _ in range(1 + 4 + 1 + 10 + 4 + 3):
            on.page.keyboard.press("Tab")
            at = on.page.evaluate("""() => {
              const { activeElement: at } = document;
              const ring = getComputedStyle(at);
              const seen = ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2;
              const own = at.closest("[data-lm-suppress-shortcuts]") !== null;
              return at === document.body ? null : [at.tagName, at.type, seen, own];
            }""")
            met += [at] if at else []
        assert all(seen and own for *_, seen, own in met)
        kinds = [kind for _, kind, *_ in met]
        assert {kind: kinds.count(kind) >= n for kind, n in dict(radio=1, checkbox=4, text=1, button=14).items()} == (
            dict.fromkeys(["radio", "checkbox", "text", "button"], True)
        )


LOOKS = """(selector) => [...document.querySelectorAll(selector)].map((e) => {
  const look = getComputedStyle(e, e.matches("input") ? "::before" : null);
  return [look.backgroundColor, look.borderTopWidth, look.borderTopStyle, look.color].join("; ");
})"""


def test_high_contrast_keeps_what_is_told_by_colour(theatre):
    with theatre.show(Quiz(axis(), unmoved()), forced_colors="active") as on:
        for i in range(2):
            choose(on.page, on.page.locator("fieldset").nth(i), [0])
            looks = on.page.evaluate(LOOKS, f"fieldset:nth-child({i + 1}) input")
            assert len(set(looks)) == 2 and looks.count(looks[0]) == 1, "the chosen one looks unlike the others"
        before = on.page.evaluate(LOOKS, "fieldset:first-child .ab-button")
        button(on, "Show the answer").press("Enter")
        assert on.page.evaluate(LOOKS, "fieldset:first-child .ab-button") != before


def test_prints_light_and_without_buttons(theatre):
    with theatre.show(quiz(), theme="dark") as on:
        on.page.emulate_media(media="print")
        assert on.page.locator(".attnbook").evaluate("e => getComputedStyle(e).colorScheme") == "light"
        assert on.page.locator("fieldset button:visible").count() == 0
        assert on.page.locator("label:visible").count() == 3 + 4 + 1


def test_leaving_takes_everything_along(theatre):
    with theatre.show(quiz()) as on:
        on.page.evaluate("leave()")
        assert on.page.evaluate("[model.listening(), document.querySelectorAll('.attnbook').length]") == [0, 0]


def test_an_answer_is_drawn_within_one_frame(theatre):
    questions = [*(axis() for _ in range(10)), *(unmoved() for _ in range(5)), *(steps() for _ in range(5))]
    with theatre.show(Quiz(*questions)) as on:
        times = on.page.evaluate("""() => {
          const root = document.querySelector(".attnbook");
          const times = [];
          for (const each of root.querySelectorAll("input, button[aria-label]")) {
            const start = performance.now();
            each.click();
            root.explorer.flush();
            root.offsetHeight;
            times.push(performance.now() - start);
          }
          return times;
        }""")
        assert np.median(times) <= 16, times
