"""Exercises of chapter 7, cross-attention: what goes wrong with the mask, and read the picture."""

import numpy as np
import torch

from attnbook import masks
from attnbook.exercises import Exercise
from attnbook.exercises.ch07 import MASK, QUERY_AXIS, SHAPES, source_mask

IS_IT_RIGHT, MIXED_UP = "Is it right, and does it look right?", "Rows and columns mixed up"


# 7.3 The mask of the memory ---------------------------------------------------------------------------------------

@source_mask.wrong(
    "True and False are exchanged: True says *may be read*, in this book as in `scaled_dot_product_attention`. "
    "`key_padding_mask` of `nn.MultiheadAttention` has it the other way.", "Check it"
)
def true_for_the_filler(lengths, n_kv):
    return ~masks.padding(lengths, n_kv)

@source_mask.wrong(
    "One filler is read: with `<=` a source of 4 words opens the places 0 to 4, and those are five.", MASK
)
def one_filler_read(lengths, n_kv):
    return np.arange(n_kv) <= np.asarray(lengths)[:, None, None]

@source_mask.wrong("The last word of each source is hidden: counted from 0, four words stand at 0 to 3.", MASK)
def last_word_hidden(lengths, n_kv):
    return np.arange(1, n_kv + 1) < np.asarray(lengths)[:, None, None]

@source_mask.wrong(
    "Who may be read is right, but the axis of the queries is missing. The scores are (batch, n_q, n_kv), and against "
    "them (batch, n_kv) is taken for (n_q, n_kv): an error if you are lucky, and silently wrong for n_q = batch.",
    QUERY_AXIS
)
def no_axis_for_the_queries(lengths, n_kv):
    return np.arange(n_kv) < np.asarray(lengths)[:, None]

@source_mask.wrong(
    "Your mask hides *queries*: the last axis is the one of the keys, and the 1 stands for the queries.", QUERY_AXIS
)
def on_the_query_axis(lengths, n_kv):
    return np.swapaxes(masks.padding(lengths, n_kv), -1, -2)

@source_mask.wrong(
    "The batch does not stand in front: the order is (batch, 1, n_kv), and in your mask the sources lie where the "
    "queries belong.", MASK
)
def batch_in_the_middle(lengths, n_kv):
    return (np.arange(n_kv) < np.asarray(lengths)[:, None])[None]

@source_mask.wrong(
    "You made it square, as if the source asked itself. The target asks, and how long it is nobody knows here: a 1 "
    "fits every number of queries.", MASK
)
def square(lengths, n_kv):
    return np.repeat(masks.padding(lengths, n_kv), n_kv, axis=1)

@source_mask.wrong(
    "You hide the filler on both axes, as if the source asked itself. Only the keys are the source's: their axis is "
    "the last.", QUERY_AXIS
)
def both_axes(lengths, n_kv):
    real = masks.padding(lengths, n_kv)
    return real & np.swapaxes(real, -1, -2)

@source_mask.wrong("There is one axis too many: the layer adds the axis of the heads itself.", MASK)
def an_axis_for_the_heads(lengths, n_kv):
    return masks.padding(lengths, n_kv)[:, None]

@source_mask.wrong(
    "This is a mask to *add* to the scores, 0 and −∞. Here it is to say who may be read: True or False.",
    "6 · Adding instead of choosing"
)
def to_be_added(lengths, n_kv):
    return np.where(masks.padding(lengths, n_kv), 0.0, -np.inf)

@source_mask.wrong(
    "The filler stands *behind* the words. You open the last places, and a short source is read from its filler.", MASK
)
def filler_in_front(lengths, n_kv):
    return np.arange(n_kv) >= n_kv - np.asarray(lengths)[:, None, None]

@source_mask.wrong("You open the first filler alone: `==` is true only once. It is the places *before* it.", MASK)
def one_place_alone(lengths, n_kv):
    return np.arange(n_kv) == np.asarray(lengths)[:, None, None]

@source_mask.wrong("You open one single place, the last word. All the words before it may be read, too.", MASK)
def the_last_word_alone(lengths, n_kv):
    return np.arange(n_kv) == np.asarray(lengths)[:, None, None] - 1

@source_mask.wrong("All sources get the length of the first one. Each has its own.", MASK)
def length_of_the_first(lengths, n_kv):
    return masks.padding(np.full_like(lengths, lengths[0]), n_kv)

@source_mask.wrong("All sources get the length of the longest one, so the filler of the others is read.", MASK)
def length_of_the_longest(lengths, n_kv):
    return masks.padding(np.full_like(lengths, max(lengths)), n_kv)

@source_mask.wrong("Everything is open: the filler is read.", MASK)
def all_open(lengths, n_kv):
    return np.ones((len(lengths), 1, n_kv), dtype=bool)

@source_mask.wrong("Nothing is open. The mask has been made, and no word has been entered in it.", MASK)
def all_shut(lengths, n_kv):
    return np.zeros((len(lengths), 1, n_kv), dtype=bool)

@source_mask.wrong(
    "Places and lengths lie along the same axis, so that place j is compared with the length of source j. Every place "
    "is to be compared with every length.", MASK
)
def places_beside_lengths(lengths, n_kv):
    return np.arange(n_kv) < np.asarray(lengths)

@source_mask.wrong(
    "You compare `n_kv` itself with the lengths. Each *place* is to be compared: `np.arange(n_kv)` numbers them.", MASK
)
def n_kv_compared(lengths, n_kv):
    return n_kv < np.asarray(lengths)[:, None, None]

@source_mask.wrong("This is a triangle, a causal mask. The source is there from the beginning: only filler is hidden.",
                   "The causal mask left on")  # fmt: skip
def causal_too(lengths, n_kv):
    return masks.padding(lengths, n_kv) & masks.causal(n_kv)

@source_mask.right
def with_a_loop(lengths, n_kv):
    mask = np.zeros((len(lengths), 1, n_kv), dtype=bool)
    for b, length in enumerate(lengths):
        mask[b, :, :length] = True
    return mask

@source_mask.right
def with_a_list(lengths, n_kv):
    return np.array([[[True] * int(n) + [False] * (n_kv - int(n))] for n in lengths])

@source_mask.right
def with_torch(lengths, n_kv):
    return (torch.arange(n_kv)[None] < torch.as_tensor(lengths)[:, None]).unsqueeze(1)

@source_mask.right
def by_a_running_count(lengths, n_kv):
    count = np.cumsum(np.ones((len(lengths), 1, n_kv), dtype=int), axis=-1)
    return np.logical_not(count > np.reshape(lengths, (-1, 1, 1)))


# 7.4 Read the picture ---------------------------------------------------------------------------------------------

def reading():
    return ("black", 0.35, "cat", 1.0)

picture = Exercise(
    "07.read",
    "Read the picture",
    task="what *noir* looks at most, the weight of *dort* on *cat*, the word with most weight in all, and the sum of "
    "the row of *chat*.",
    solution=reading,
    hints=[
        "Who asks has a *row*. *noir*, *dort* and *chat* ask, so look along their rows.",
        "For the third question add up the columns: a column is what one English word gets from all the French ones.",
    ],
)

@picture.wrong(
    "First entry: you went by the places. The third French word need not look at the third English one: look along the "
    "row of *noir* for the largest number.", "Intuition"
)
def by_the_place():
    return ("cat", 0.35, "cat", 1.0)

@picture.wrong("First entry: look along the *row* of *noir*, and take the word over its largest weight.", MIXED_UP)
def another_word_for_noir():
    for word in ("the", "sleeps"):
        yield (word, *reading()[1:])

@picture.wrong(
    "Second entry: that is the number on the other side of the diagonal. *dort* asks: its row is the last one, and "
    "*cat* is a column.", MIXED_UP
)
def row_and_column_exchanged():
    return ("black", 0.05, "cat", 1.0)

@picture.wrong(
    "Second entry: that is the largest weight of *dort*, which lies on *sleeps*. *cat* was asked for.", "Intuition"
)
def the_largest_of_dort():
    return ("black", 0.55, "cat", 1.0)

@picture.wrong("Second entry: the column is right, the row is another word's. *dort* has the last row.", MIXED_UP)
def another_row_of_the_column():
    for weight in (0.2, 0.7, 0.3):
        yield ("black", weight, "cat", 1.0)

@picture.wrong(
    "Second entry: a sum of weights. One cell is meant, where the row of *dort* meets the column of *cat*.", MIXED_UP
)
def a_sum_for_one_cell():
    yield ("black", 1.55, "cat", 1.0)

@picture.wrong(
    "Third entry: *the* has a large weight in one row. It is the whole *column* that counts, and so it falls behind.",
    MIXED_UP
)
def the_largest_single_weight():
    return ("black", 0.35, "the", 1.0)

@picture.wrong("Third entry: add up the four numbers in each column, and compare the four sums.", MIXED_UP)
def another_favourite():
    for word in ("black", "sleeps"):
        yield ("black", 0.35, word, 1.0)

@picture.wrong(
    "A French word: those ask. The words that are looked at, and whose columns can be added up, are the English ones.",
    "Intuition"
)
def a_french_word():
    for word in ("le", "chat", "noir", "dort"):
        yield (word, 0.35, "cat", 1.0)
        yield ("black", 0.35, word, 1.0)

@picture.wrong("The words as they stand in the list `english`, please: in small letters, a string.", "Intuition")
def in_capitals():
    for word in ("Black", "BLACK", 1):
        yield (word, 0.35, "cat", 1.0)
    for word in ("Cat", "CAT", 2):
        yield ("black", 0.35, word, 1.0)

@picture.wrong(
    "Fourth entry: that is the sum of a *column*. Columns sum to whatever they like; the row of *chat* was asked for.",
    MIXED_UP
)
def sum_of_a_column():
    for total in (0.85, 1.55):
        yield ("black", 0.35, "cat", total)

@picture.wrong("Fourth entry: that is the largest weight in the row. Add up all four.", IS_IT_RIGHT)
def the_largest_of_the_row():
    return ("black", 0.35, "cat", 0.7)

@picture.wrong("Fourth entry: that is the sum of the whole table, a unit for each of its rows.", MIXED_UP)
def sum_of_the_table():
    return ("black", 0.35, "cat", 4.0)

@picture.wrong("Fourth entry: weights are shares of 1 in this book, not of 100.", SHAPES)
def in_per_cent():
    return ("black", 0.35, "cat", 100.0)

@picture.wrong("Second entry: weights are shares of 1 in this book, not of 100.", SHAPES)
def weight_in_per_cent():
    return ("black", 35.0, "cat", 1.0)

@picture.wrong("The four entries stand in another order: a word, a weight, a word, a sum.", MIXED_UP)
def in_another_order():
    yield (0.35, "black", "cat", 1.0)
    yield ("black", "cat", 0.35, 1.0)
    yield ("black", 0.35, 1.0, "cat")
    yield ("black", "cat", 1.0, 0.35)

@picture.right
def as_a_list():
    return ["black", 0.35, "cat", 1]

@picture.right
def by_looking_it_up():
    english = ["the", "black", "cat", "sleeps"]
    made_up = np.array([[0.70, 0.05, 0.20, 0.05], [0.10, 0.15, 0.70, 0.05],
                        [0.05, 0.60, 0.30, 0.05], [0.05, 0.05, 0.35, 0.55]])  # fmt: skip
    return english[made_up[2].argmax()], made_up[3, 2], english[made_up.sum(axis=0).argmax()], made_up[1].sum()

@picture.right
def with_torch():
    return str("black"), torch.tensor(0.35), "".join("cat"), torch.tensor([0.10, 0.15, 0.70, 0.05]).sum()
