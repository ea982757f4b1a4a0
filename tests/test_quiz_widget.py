"""The quiz's Python side: authors' mistakes are named, the reader's answers are read and judged as on the page."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from attnbook.widgets.quiz import BLANK, Choice, Number, Order, Quiz

AXIS = Choice("Which axis?", {"keys": True, "queries": "Then a column would sum to 1.", "both": "No."}, why="Rows.")
SAME = Choice("Which leave the weights alone?", {"a shift": True, "a swap": True, "a factor": "It heats."})
ROOT = Number("d_k = 64: divided by?", 8, wrong={64: "That is d_k itself.", 4096: "That is its square."}, why="√64 = 8")
STEPS = Order(
    "In order?", ["scores", "scale", "mask", "softmax", "sum"], wrong={("softmax", "mask"): "Rows would not sum to 1."},
    either=[("mask", "scale")],
)  # fmt: skip


@pytest.fixture
def quiz():
    return Quiz(AXIS, SAME, ROOT, STEPS, title="Before you go on")


def say(quiz, i, answer, tried=(), shown=False):
    """What the page sends when question i has been answered."""
    record = [dict(entry) for entry in quiz.record]
    record[i] = {"draft": None, "answer": answer, "tried": list(tried), "shown": shown}
    quiz.set_state({"record": record})


def places(question, *texts):
    shown = question.page().get("steps") or [option["text"] for option in question.page()["options"]]
    return [shown.index(text) for text in texts]


def test_repr_says_the_same_in_every_run(quiz):
    assert repr(quiz) == "Quiz('Before you go on', 4 questions)"
    assert repr(Quiz(ROOT)) == "Quiz('Check yourself', 1 question)"
    assert quiz._anywidget_id == "attnbook.widgets.quiz.Quiz"


def test_nothing_is_answered_at_first(quiz):
    assert quiz.answers == quiz.correct == (None,) * 4
    assert quiz.tries == (0,) * 4


def test_answers_are_read_in_the_authors_words(quiz):
    say(quiz, 0, places(AXIS, "both"), tried=[places(AXIS, "queries"), places(AXIS, "both")])
    say(quiz, 1, places(SAME, "a swap", "a shift"))
    say(quiz, 2, 64, tried=[64])
    say(quiz, 3, places(STEPS, "scores", "mask", "scale", "softmax", "sum"))
    assert quiz.answers == ("both", ("a shift", "a swap"), 64.0, ("scores", "mask", "scale", "softmax", "sum"))
    assert quiz.correct == (False, True, False, True)
    assert quiz.tries == (2, 1, 1, 1)
    say(quiz, 2, 8.0000001, tried=[64])
    assert (quiz.correct[2], quiz.tries[2]) == (True, 2)


def test_a_question_that_was_given_up_is_not_right(quiz):
    say(quiz, 2, 64, tried=[64], shown=True)
    assert quiz.correct[2] is False


def test_results_can_be_observed_and_reset(quiz):
    seen = []
    quiz.observe(lambda change: seen.append(change.new), "correct")
    say(quiz, 2, 8)
    quiz.reset()
    assert seen == [(None, None, True, None), (None,) * 4]
    assert quiz.record == (BLANK,) * 4


def test_new_questions_start_again(quiz):
    say(quiz, 2, 8)
    quiz.questions = [ROOT]
    assert (quiz.answers, quiz.record) == ((None,), (BLANK,))
    quiz.questions = STEPS
    assert quiz.questions == (STEPS,)


def test_the_page_cannot_change_the_questions(quiz):
    quiz.set_state({"questions": [{"kind": "number"}], "title": "mine"})
    assert quiz.questions == (AXIS, SAME, ROOT, STEPS)
    assert quiz.title == "mine"


def test_the_state_is_json_and_the_same_in_every_process(quiz):
    state = json.loads(json.dumps({name: quiz.get_state()[name] for name in ("questions", "record", "title")}))
    assert [option["text"] for option in state["questions"][0]["options"]] == ["both", "keys", "queries"]
    assert state["questions"][2]["wrong"] == [[64.0, "That is d_k itself."], [4096.0, "That is its square."]]
    steps = state["questions"][3]
    assert [steps["steps"][i] for i in steps["right"]] == list(STEPS.steps)


def test_the_right_one_is_not_always_first():
    options = {"a": True, "b": "no", "c": "no"}
    first = [Choice(f"Question {i}?", options).page()["options"][0]["text"] for i in range(60)]
    assert {text: 10 <= first.count(text) <= 30 for text in "abc"} == {text: True for text in "abc"}


@given(st.lists(st.text("abcdef", min_size=1), min_size=2, max_size=7, unique=True), st.text("xyz", min_size=1))
def test_an_order_never_starts_right(steps, question):
    order = Order(question, steps)
    assert sorted(order.shown) == sorted(steps)
    assert not order.accepts(order.shown)
    assert order.accepts(order.steps)


def test_an_order_is_right_but_for_the_pairs_that_may_stand_either_way():
    right = [each for each in itertools.permutations(STEPS.steps) if STEPS.accepts(each)]
    assert right == [("scores", "scale", "mask", "softmax", "sum"), ("scores", "mask", "scale", "softmax", "sum")]


@pytest.mark.parametrize("eight", [8, 8.0, np.float32(8), np.int64(8), np.array(8.0), torch.tensor(8)])
def test_numbers_may_be_computed(eight):
    question = Number("?", eight, wrong={eight * 8: "no"}, tolerance=eight * 0)
    assert question == Number("?", 8.0, wrong={64.0: "no"}, tolerance=0.0)
    assert json.dumps(question.page())


def test_the_tolerance():
    assert Number("?", 1e-9).accepts(1.0000005e-9) and not Number("?", 1e-9).accepts(0)
    assert Number("?", 0).accepts(1e-7)
    assert Number("?", 0.3, tolerance=0.1).accepts(0.4) and not Number("?", 0.3, tolerance=0.1).accepts(0.41)


CHOICE, STEP = {"a": True, "b": "no"}, ["a", "b", "c"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice("?", {"a": True, "b": ""}), "option 'b' must be True or the sentence .* why not, got ''"),
        (lambda: Choice("?", {"a": True, "b": False}), "option 'b' must be True or the sentence .*, got False"),
        (lambda: Choice("?", {"a": True, "b": 1}), "option 'b' must be True or the sentence .*, got 1"),
        (lambda: Choice("?", {"a": "no", "b": "no"}), r"one of the options must be True, got none: \['a', 'b'\]"),
        (lambda: Choice("?", {"a": True}), r"options must be 2 to 12 different texts, got \['a'\]"),
        (lambda: Choice("?", {"a": True, 8: "no"}), "each of the options must be a text, got 8"),
        (lambda: Choice("?", ["a", "b"]), "options must be a dict"),
        (lambda: Choice(" ", CHOICE), "question must be a text, got ' '"),
        (lambda: Choice("\ud800", CHOICE), "question must be without lone surrogates"),
        (lambda: Choice("?", CHOICE, why=None), "why must be a text, got None"),
        (lambda: Number("?", "8"), "answer must be a finite number, got '8'"),
        (lambda: Number("?", True), "answer must be a finite number, got True"),
        (lambda: Number("?", np.inf), "answer must be a finite number, got inf"),
        (lambda: Number("?", [8]), r"answer must be a finite number, got \[8\]"),
        (lambda: Number("?", 8, wrong={8.0000001: "no"}), r"wrong\[8\] is right: it is within 8e-06 of the answer 8"),
        (lambda: Number("?", 8, wrong={9: ""}), r"wrong\[9\] must be a text, got ''"),
        (lambda: Number("?", 8, wrong=[9]), "wrong must be a dict, number"),
        (lambda: Number("?", 8, tolerance=-1), "tolerance must be at least 0, got -1"),
        (lambda: Number("?", 8, unit=None), "unit must be a text, got None"),
        (lambda: Order("?", "abc"), "steps must be texts, got 'abc'"),
        (lambda: Order("?", ["a", "b", "a"]), "steps must be 2 to 12 different texts"),
        (lambda: Order("?", STEP, wrong={("a", "b"): "no"}), "wrong.* is right: 'a' may stand before 'b'"),
        (lambda: Order("?", STEP, wrong={("b", "a"): "no"}, either=[("a", "b")]), "'b' may stand before 'a'"),
        (lambda: Order("?", STEP, wrong={("b", "z"): "no"}), r"wrong must have pairs of two of the steps .*'z'\)"),
        (lambda: Order("?", STEP, wrong={"ba": "no"}), "wrong must have pairs of two of the steps .*, got 'ba'"),
        (lambda: Order("?", STEP, either=["ab"]), "either must have pairs of two of the steps"),
        (lambda: Order("?", ["a", "b"], either=[("a", "b")]), "either leaves no pair of steps whose order matters"),
    ],
)
def test_an_authors_mistake_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("questions", [], "questions must be one question or more, each a Choice, a Number or an Order, got none"),
        ("questions", [ROOT, "more"], "questions must be .*, got 'more'"),
        ("questions", "more", "questions must be .*, got 'more'"),
        ("record", [BLANK], "record must be one entry for each of the 4 questions, got 1"),
        ("record", [{}] * 4, "record must be one {draft, answer, tried, shown} for each question"),
        ("record", [BLANK | {"answer": [7]}, *[BLANK] * 3], "answers to 'Which axis.': different places .*, got .7."),
        ("record", [BLANK | {"answer": []}, *[BLANK] * 3], "answers to 'Which axis.': one option, got"),
        ("record", [BLANK | {"tried": [[0, 1]]}, *[BLANK] * 3], "answers to 'Which axis.': one option, got"),
        ("record", [*[BLANK] * 3, BLANK | {"answer": [0, 1]}], "answers to 'In order.': an order of all 5 steps"),
        ("record", [*[BLANK] * 2, BLANK | {"answer": "8"}, BLANK], "answers to 'd_k.*got '8'"),
        ("answers", (1, 2, 3, 4), "answers is computed .*; set record instead"),
        ("correct", (True,) * 4, "correct is computed"),
        ("tries", (1,) * 4, "tries is computed"),
    ],
)
def test_the_quiz_says_what_is_wrong_and_keeps_what_it_had(quiz, name, value, message):
    say(quiz, 2, 8)
    before = quiz.get_state()
    with pytest.raises(TraitError, match=message):
        setattr(quiz, name, value)
    assert quiz.get_state() == before


def test_a_quiz_needs_a_question():
    with pytest.raises(TraitError, match="questions must be one question or more"):
        Quiz()
