"""Quizzes of chapter 7: cross-attention."""

import numpy as np
import torch

from attnbook import layers
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def who_asks():
    a_layer = layers.MultiHeadAttention(d_model=12, n_heads=3, d_kv=20)
    written, read = torch.zeros(1, 9, 12), torch.zeros(1, 5, 20)
    return Quiz(
        Number(
            "9 characters are written while 5 words are read. The layer has 3 heads. How many"
            " weights does it make?",
            a_layer(written, read, return_weights=True)[1].numel(),
            wrong={
                9 * 5: "That is the table of one head. Each of the three makes its own.",
                9 * 9 * 3: "There the characters ask each other. They should ask the 5 words.",
                5 * 5 * 3: "There the words ask each other. It is the 9 characters that ask.",
                9 * 5 * 4: "A head is 4 wide, but a weight belongs to a pair of tokens, not to"
                           " a component. It is the number of heads that counts.",
                9 * 5 * 3 * 4: "The four components of a head are added up in the dot product.",
                9 + 5: "Every character meets every word: pairs are multiplied, not added.",
            },
            why="A rectangle of 9 rows and 5 columns for each head.",
        ),
        Choice(
            "Target vectors are 48 wide, the memory is 80 wide, and d_k is 16. What is the"
            " shape of `w_k` in `memory @ w_k`?",
            {
                "(80, 16)": True,
                "(48, 16)":
                    "That is the shape of w_q. A vector of the memory has 80 components, and"
                    " they would not fit.",
                "(16, 80)":
                    "So PyTorch stores it, out × in. In the product memory @ w_k the 80 has to"
                    " come first.",
                "(80, 48)":
                    "Keys are compared with queries, and those are d_k wide.",
            },
            why="As many rows as the memory is wide, as many columns as a key is.",
        ),
        Order(
            "The trained reader writes a date. In which order are these things done?",
            [
                "The words of the source become the memory",
                "W_K and W_V make keys and values of the memory",
                "The last character becomes a query and meets the keys",
                "The weights mix the values",
                "The read-out picks a character, and the next query is made",
            ],
            wrong={
                ("W_K and W_V make keys and values of the memory",
                 "The words of the source become the memory"):
                    "Keys and values are made of the memory, so it has to be there.",
                ("The last character becomes a query and meets the keys",
                 "W_K and W_V make keys and values of the memory"):
                    "There are no keys to meet yet. They are made once, before the first"
                    " character, and serve all of them.",
                ("The weights mix the values",
                 "The last character becomes a query and meets the keys"):
                    "The weights come from that meeting.",
                ("The read-out picks a character, and the next query is made",
                 "The weights mix the values"):
                    "It can only read out what has been picked up.",
            },
            why="The first two happen once, the last three for each character.",
        ),
        Choice(
            "A batch of sources of different lengths. Which mask belongs over the memory?",
            {
                "Padding: the filler of the source is hidden as keys": True,
                "Causal: character i sees the first i words":
                    "The source is there from the beginning, and its order is not the order of"
                    " writing. The year may stand last.",
                "Both, as in a text that is read from left to right":
                    "There a text asks itself, and must not see its own future. The source is"
                    " no future.",
                "None: the model learns to leave filler alone":
                    "It might, more or less. With the mask a short source gets exactly what it"
                    " would get alone.",
            },
            why="Its shape is (batch, 1, n_kv): hidden from every query alike.",
        ),
        title="Who asks, and who is asked",
    )


def tables():
    on_right, decided = np.array([0.9, 0.6, 0.0]), np.array([True, True, False])
    return Quiz(
        Number(
            "One character puts 0.9 on its right word, another 0.6. A third is a hyphen, and no"
            " word is right for it. What is the mean mass, if hyphens do not count?",
            on_right[decided].mean(), tolerance=0.001,
            wrong={
                on_right.mean(): "The hyphen was counted as a miss. Nothing was right for it,"
                                 " so there was nothing to miss.",
                (on_right.sum() + 1) / 3: "The hyphen was counted as a hit.",
                on_right.sum(): "That is the sum. Two characters count.",
                on_right[0]: "That is the best of them, not the mean.",
            },
            why="0.9 and 0.6 over the two characters for which a word is right.",
        ),
        Choice(
            "The second digit of the year puts little weight on the year, and is right all the"
            " same. Why?",
            {
                "It follows from the digit written before it": True,
                "The year can be read at other words of the source, too":
                    "That is so if the encoder mixes. In this model the vector of a word knows"
                    " about that word alone.",
                "The weights that were drawn are not those that were used":
                    "They are: the output is mixed with exactly these. They tell where it read,"
                    " and it had no need to read.",
                "The dates of the test were in the training as well":
                    "Every fifth day was held out. And a date known by heart would have to be"
                    " recognised by reading.",
            },
            why="With another year in the source it stayed as it was: the 1 or the 2 before it"
                " decides.",
        ),
        Choice(
            "A loss has fallen, and stays level far above 0. Which check proves that the source"
            " is never read?",
            {
                "Replace words of the source: no output changes": True,
                "Each row of the weights sums to 1":
                    "So it does, whoever is asked. Softmax sees to that.",
                "The output has a row for each target token":
                    "It has, in self-attention as well: the rows are those of who asks.",
                "The table of weights shows a clear pattern":
                    "Self-attention makes clear patterns, too, and so does a row that nobody"
                    " needs.",
            },
            why="That is what `masks.influence` does, for each word by itself.",
        ),
        Choice(
            "You test with two lengths and two widths that all differ. Which mistakes show as"
            " an error or a wrong shape?",
            {
                "Keys and values are projected from the target": True,
                "The source asks and the target answers": True,
                "The padding mask has the shape (batch, n_kv, 1)": True,
                "True and False are exchanged in the padding mask":
                    "The shape is the same. The filler is read and the words are not.",
                "A causal mask of shape (n_q, n_kv) was left on":
                    "It fits, since it was made to fit. Some words are hidden from some"
                    " characters, and only the numbers are wrong.",
            },
            why="Three mistakes found by a choice of sizes. For the other two, test that filler"
                " changes nothing and that every real word changes something.",
        ),
        title="Tables and traps",
    )
