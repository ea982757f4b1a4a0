"""The quiz of the first page."""

from attnbook.widgets.quiz import Choice, Number, Quiz


def shares():
    n, twice = 1000, 2000
    return Quiz(
        Choice(
            "In the widget at the top you raise one score and leave the others alone. What do"
            " the other weights do?",
            {
                "They all shrink": True,
                "They stay as they are":
                    "Then all six together would be more than 1. They share one whole.",
                "Only the smallest one shrinks":
                    "They all give up something, in proportion to their size. Watch the bars.",
                "They grow too":
                    "One grows. There is only one whole to share, so the others have to give.",
            },
            why="What one weight gains, the others lose.",
        ),
        Number(
            "A sentence gets twice as long. How many times as many scores are there?",
            twice**2 / n**2,
            wrong={
                2: "Twice as many words ask, and each of them asks twice as many words.",
                2**3: "The scores have two axes, who asks and who is asked. Each is doubled.",
            },
            why="n × n scores: twice as many rows, and twice as many columns.",
        ),
        title="Try a quiz",
    )
