"""Quizzes of chapter 5: multi-head attention."""

import math

import numpy as np

from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def there_and_back():
    wide, many = 512, 32
    cut = "Cut each token's row into one piece for each head (`view`)"
    swap = "Exchange tokens and heads (`transpose`)"
    attend = "Attend in all the heads at once"
    back = "Exchange heads and tokens back"
    return Quiz(
        Order(
            "From x to out: in which order?",
            [
                "Multiply x by the wide W_Q, W_K and W_V",
                cut,
                swap,
                attend,
                back,
                "Read each token's pieces as one row",
                "Multiply by W_O",
            ],
            wrong={
                (swap, cut):
                    "There is no axis of heads yet that could be exchanged: the cut makes it.",
                (attend, swap):
                    "Attention takes the last two axes as (n, d_k). Without the exchange"
                    " these are heads and d_k, and the heads of one token would attend to"
                    " each other.",
                ("Read each token's pieces as one row", back):
                    "A token's pieces lie one in each head, far apart. First bring them"
                    " together.",
                ("Multiply by W_O", "Read each token's pieces as one row"):
                    "W_O has a row for each number of all heads of a token: it needs them"
                    " side by side.",
                (attend, "Multiply x by the wide W_Q, W_K and W_V"):
                    "Before these products there are no queries, keys and values to attend"
                    " with.",
            },
            why="Project, cut, exchange; attend; exchange, join, mix. The way back mirrors the"
                " way there.",
        ),
        Number(
            f"A layer is {wide} wide and has {many} heads. By which number does each head"
            " divide its scores?",
            math.sqrt(wide / many), tolerance=0.01,
            wrong={
                math.sqrt(wide): "That is the root of the width of the whole layer. A score"
                                 " is a sum of as many products as one head is wide.",
                wide / many: "That is d_k itself. Its root is what the scores are divided by.",
                math.sqrt(many): "That is the root of the number of heads. How wide is one?",
                wide: "That is the width of the whole layer, and without a root.",
                many: "That is the number of heads. How wide is one of them, and its root?",
            },
            why=f"d_k = {wide} / {many} = {wide // many}; its root is what counts.",
        ),
        Choice(
            "q = x @ w_q has the shape (2, 5, 12), for three heads. What is q[..., 4:8]?",
            {
                "The queries of head 2, for all tokens": True,
                "The queries of tokens 4 to 7, for all heads":
                    "The last axis is the width. Tokens are the axis before it, and there are"
                    " five.",
                "One query for each head":
                    "One from each would be numbers 0, 4 and 8 of the row, or any three that"
                    " are four apart. A head's numbers are neighbours.",
                "The scores of head 2":
                    "Scores come from queries and keys, and there are n × n of them.",
            },
            why="The narrow matrices stand side by side, and so do their results.",
        ),
        Choice(
            "8 query heads share 2 key heads, in place of 8. What gets smaller? Tick all.",
            {
                "W_K and W_V": True,
                "The keys and values of each token": True,
                "The number of tables of weights":
                    "Each query head still has a table of its own: two queries ask one key"
                    " different things.",
                "The width d_k of a head":
                    "It is d_model over the number of query heads, and keys must be as wide"
                    " as the queries that they meet.",
                "W_O":
                    "It mixes the results of the query heads, eight as before.",
            },
            why="That is what it was made for: a text of many tokens has to keep all their"
                " keys.",
        ),
        title="There and back again",
    )


def right_shape():
    heads_of_keys = np.array([1, 2])
    wrongly_read = int((np.repeat(heads_of_keys, 4) != np.tile(heads_of_keys, 4)).sum())
    return Quiz(
        Choice(
            "Somebody splits by `x.view(batch, n_heads, n, d_k)` alone. What does head 1 hold?",
            {
                "Some of the tokens, each cut into several rows": True,
                "All the tokens, the first d_k numbers of each":
                    "That is the right share. It takes a cut of the last axis and then a"
                    " transpose.",
                "All the tokens, every h-th number of each":
                    "That would be a cut as (d_k, heads). Here the token's axis itself is cut.",
                "Nothing: there is an error":
                    "The number of elements fits, and that is all that `view` asks for.",
            },
            why="The heads have cut up the sentence in place of the vectors.",
        ),
        Choice(
            "A layer merges its heads without transposing back. Which checks notice? Tick all.",
            {
                "Compare it with a loop over the heads": True,
                "`masks.leaks`, under the causal mask": True,
                "Look at the shape of the output":
                    "It is right to the end: n pieces of d_k numbers in each head, or h in each"
                    " token, are equally many.",
                "Each row of weights sums to 1":
                    "It does. The weights were finished before the merge began.",
                "Compare it with PyTorch's layer, both with one head":
                    "With one head there is nothing to exchange, and the two agree. Try two.",
            },
            why="A check has to be one that the mistake could fail.",
        ),
        Number(
            "8 query heads, 2 key heads, and the keys and values are tiled by mistake. How"
            " many of the query heads read the wrong keys?",
            wrongly_read,
            wrong={
                0: "Shapes agree, and the heads do not. Write both lists down, 1, 1, 1, 1, 2, …"
                   " and 1, 2, 1, 2, …, and compare.",
                2: "That is with four query heads, as above. Write the two lists down for"
                   " eight.",
                7: "The first head is right, true. Is it the only one? Write both lists down,"
                   " 1, 1, 1, 1, 2, … and 1, 2, 1, 2, …, and compare.",
                8: "Not all: the first head is to read the first key head, and does.",
            },
            why="Half of them, and the other half is right by accident.",
        ),
        Choice(
            "You load somebody's weights and divide by √d_model where √d_k was meant. What"
            " happens to the weights of attention?",
            {
                "Every row gets flatter": True,
                "Every row gets sharper":
                    "Dividing by the larger number makes the scores smaller, and their gaps"
                    " too.",
                "Nothing: softmax takes no notice of a common factor":
                    "It takes no notice of a common shift. A factor is a temperature"
                    " (chapter 1).",
                "The rows no longer sum to 1":
                    "They do, whatever the scores are: softmax sees to that.",
            },
            why="Gaps between scores shrink, and with them the ratios of the weights.",
        ),
        title="Right shape, wrong numbers",
    )
