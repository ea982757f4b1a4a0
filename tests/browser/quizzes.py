"""A quiz answered as a reader without a pointer does it: each question wrong first, then right, the feedback read."""


def plain(text: str) -> str:
    return text.replace("`", "")


def answer_by_keyboard(quiz) -> None:
    """Drive a quiz (the locator of its root), and hold the page to what its questions say."""
    page = quiz.page
    questions = state(quiz)["questions"]
    fields = quiz.locator("fieldset")
    assert fields.count() == len(questions) > 0
    for i, question in enumerate(questions):
        field = fields.nth(i)
        said = field.get_by_role("status")
        show = field.get_by_role("button", name="Show the answer")
        assert said.inner_text() == "" and not show.is_visible()
        assert plain(question["text"]) in field.locator("legend").inner_text()

        expected = WRONG[question["kind"]](page, field, question)
        assert state(quiz)["correct"][i] is False
        assert "Not yet." in said.inner_text() and plain(expected) in said.inner_text()
        assert show.is_visible()

        RIGHT[question["kind"]](page, field, question)
        assert state(quiz)["correct"][i] is True, f"question {i + 1} is not right: {said.inner_text()}"
        assert "Right." in said.inner_text() and plain(question["why"]) in said.inner_text()
        assert not show.is_visible()
        assert field.locator(":focus").count() == 1, "the focus stays in the question"
    assert f"{len(questions)} of {len(questions)} right" in quiz.inner_text()


def state(quiz) -> dict:
    return quiz.evaluate("e => (e.explorer.flush(), e.explorer.state())")


def choose(page, field, wanted: list[int]):
    boxes = field.locator("input")
    radio = boxes.first.get_attribute("type") == "radio"  # goes out when another is chosen
    for i in range(boxes.count()):
        if boxes.nth(i).is_checked() != (i in wanted) and not (radio and i not in wanted):
            boxes.nth(i).focus()
            page.keyboard.press("Space")
    page.keyboard.press("Enter")


def choose_wrong(page, field, question) -> str:
    wrong = next(i for i, option in enumerate(question["options"]) if option["why"])
    choose(page, field, [wrong])
    return question["options"][wrong]["why"]


def choose_right(page, field, question):
    choose(page, field, [i for i, option in enumerate(question["options"]) if option["why"] is None])


def type_in(page, field, text: str):
    field.get_by_role("textbox").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def type_wrong(page, field, question) -> str:
    far = 3 * abs(question["answer"]) + 100
    number, sentence = question["wrong"][0] if question["wrong"] else (question["answer"] + far, "Too large")
    type_in(page, field, repr(number))
    return sentence


def type_right(page, field, question):
    text = repr(question["answer"])
    type_in(page, field, text if "e" in text else text.replace(".", ","))


def order_wrong(page, field, question) -> str:
    field.get_by_role("button", name="Check").press("Enter")
    said = field.get_by_role("status").inner_text()
    return next((sentence for *_, sentence in question["wrong"] if plain(sentence) in said), "comes too early")


def order_right(page, field, question):
    for place, step in enumerate(question["right"]):
        name = f"Move down: {plain(question['steps'][step])}"
        field.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Home")
        for _ in range(place):
            page.keyboard.press("ArrowDown")
    field.get_by_role("button", name="Check").press("Enter")


WRONG = {"choice": choose_wrong, "number": type_wrong, "order": order_wrong}
RIGHT = {"choice": choose_right, "number": type_right, "order": order_right}
