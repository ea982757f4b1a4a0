"""The quizzes of the chapters: that each can be asked, and is asked in more than one way."""

import pytest

from attnbook import quizzes
from attnbook.widgets.quiz import Choice, Number, Order

CHAPTERS = sorted({name[:2] for name in quizzes.names()})


@pytest.mark.parametrize("name", quizzes.names())
def test_a_quiz_is_made_anew_each_time_and_shows_no_markup(name):
    quiz = quizzes.quiz(name)
    assert 2 <= len(quiz.questions) <= 4
    assert quizzes.quiz(name) is not quiz and quiz.correct == (None,) * len(quiz.questions)
    for text in strings([question.page() for question in quiz.questions]):
        assert "*" not in text.replace(" * ", "").replace("**", ""), f"shown as it stands: {text!r}"


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_asks_in_more_than_one_way(chapter):
    asked = [q for name in quizzes.names() if name[:2] == chapter for q in quizzes.quiz(name).questions]
    assert len({type(question) for question in asked} & {Choice, Number, Order}) >= 2


def test_an_unknown_quiz_is_named():
    with pytest.raises(ValueError, match=r"there is no quiz '03.shape'; there are .*03.shapes"):
        quizzes.quiz("03.shape")
