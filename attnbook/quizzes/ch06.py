"""Quizzes of chapter 6: masking."""

import numpy as np

from attnbook import functional, masks
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def who_may_see():
    forbid = "Put −∞ in the place of each forbidden score"
    return Quiz(
        Order(
            "From scores to output, with a mask: in which order?",
            [
                forbid,
                "Take the exponential of every score",
                "Divide each row by its sum",
                "Mix the values with these weights",
            ],
            wrong={
                ("Take the exponential of every score", forbid):
                    "It is e to the power of −∞ that is 0. Put −∞ in after the exponentials,"
                    " and the sum of the row is −∞.",
                ("Divide each row by its sum", forbid):
                    "Then the forbidden keys have been part of the sum, and have taken"
                    " something from the others.",
                ("Divide each row by its sum", "Take the exponential of every score"):
                    "It is exponentials that are shared out. The sum of bare scores can be"
                    " anything, 0 too.",
                ("Mix the values with these weights", "Divide each row by its sum"):
                    "The weights are shares, and shares come from the division.",
            },
            why="The mask comes first: a forbidden key takes no part in the sharing at all.",
        ),
        Number(
            "The keys of 10 words are there, and the last 3 of the words ask. How many keys may"
            " the first of these three see under a causal mask?",
            masks.causal(3, 10)[0].sum(),
            wrong={
                1: "That is the mask aligned at the start. The first of the three stands at"
                   " position 7, not 0.",
                3: "Not the three new words: it may see the old ones, and of the new ones only"
                   " itself.",
                7: "Those are the words before it. It may see itself, too.",
                9: "The second of the three sees so many.",
                10: "Only the last one sees all ten. The first would see two words of its"
                    " future.",
            },
            why="Query 0 stands at position 0 + 10 − 3 = 7, and sees the keys 0 to 7.",
        ),
        Choice(
            "The mask `padding([4, 2], 4)` has the shape (2, 1, 4). What does the 1 say?",
            {
                "The same keys are hidden from every query": True,
                "There is one head":
                    "This mask knows nothing of heads. Its axes: sentences, queries and keys.",
                "Only the first query is masked":
                    "An axis of length 1 broadcasts: it counts for all the queries alike.",
                "One query asks at a time":
                    "All the queries ask at once, and every one of them meets the same row.",
            },
            why="Filler is hidden as a key, as a column, whoever asks.",
        ),
        Choice(
            "A row of the mask is False throughout. What are its weights in this book?",
            {
                "All 0": True,
                "All equal, so that they sum to 1":
                    "That is what a finite number such as −1e9 gives. Forbidden to see anyone,"
                    " the query would see everyone.",
                "NaN":
                    "That is what a plain softmax makes of −∞ throughout. Ours has a line for"
                    " it.",
                "1 for the query's own key":
                    "The mask forbids that key, too: nothing in the row is True.",
            },
            why="A query that may attend to nothing picks up nothing: its output is 0 as well.",
        ),
        title="Who may see whom",
    )


def what_gets_through():
    def weights_times_mask(x):
        weights = functional.softmax(functional.scaled_scores(x, x))
        return weights * masks.causal(6) @ x

    x = np.random.default_rng(6).standard_normal((1, 6, 4))
    scores = np.array([0, 20_000], dtype=np.float16)
    hidden = functional.softmax(scores + np.array([0, -10_000], dtype=np.float16))[1]
    return Quiz(
        Choice(
            "You pass a mask of this book to each of these as it is. Where does its True mean"
            " the opposite?",
            {
                "`nn.MultiheadAttention`, as `attn_mask`": True,
                "`nn.MultiheadAttention`, as `key_padding_mask`": True,
                "`scaled_dot_product_attention`, as `attn_mask`":
                    "There True means “may attend”, as here. What it may lack is an axis for"
                    " heads.",
                "`functional.attention`, as `mask`":
                    "That is the book's own: it takes the book's masks.",
            },
            why="PyTorch's layer asks whom to ignore, its function asks who may attend.",
        ),
        Number(
            "Six tokens, and the weights are multiplied by the causal mask after the softmax."
            " For how many pairs of an output and a later token does the output still change?",
            masks.leaks(weights_times_mask, x).sum(),
            wrong={
                0: "No value gets in from the future. But its scores were in the sum that the"
                   " row was divided by.",
                5: "That is one for each row but the last, as with `k=1`. Here all of the"
                   " future was in the sum.",
                21: "That is with the diagonal. A token's own place is no leak.",
                36: "That is the whole table. The past and the token itself are no leaks.",
                30: "That is both triangles. The past may be heard.",
            },
            why="Every place above the diagonal, n (n − 1) / 2 of them, all through the"
                " denominator.",
        ),
        Choice(
            "Which of these let something from the future through?",
            {
                "`np.tril(…, k=1)` as a mask": True,
                "The inputs are shifted by one, as well as the targets": True,
                "Beside the attention, a mean over all the tokens is subtracted": True,
                "`np.tril(…, k=-1)` as a mask":
                    "It hides a word from itself. That is too much, and no leak.",
                "`is_causal=True` for two queries and six keys":
                    "Aligned at the start, it hides nearly everything: blindness, and no leak.",
            },
            why="A mask can be right and the model leak all the same. So ask the model.",
        ),
        Number(
            "In float16, a score of 20,000 is to be hidden by adding −10,000 to it. The only"
            " allowed key has score 0. Which weight does the hidden key get?",
            hidden,
            tolerance=0.01,
            wrong={
                0: "It would with −∞. But 20,000 − 10,000 is more than 0.",
                0.5: "The two scores are not alike: 10,000 against 0.",
                0.67: "These are shares of bare scores. A softmax takes exponentials first.",
            },
            why="It is left with 10,000, far above the allowed one, and takes everything.",
        ),
        title="What gets through",
    )
