"""Exercises of chapter 19, sparse attention: a pattern, and its numbers."""

import numpy as np
import torch

from attnbook import masks
from attnbook.exercises import Exercise, Law, Probe

INTUITION, BUILD, PLAY, TRAPS = "Intuition", "Build it", "Play", "Traps"


# 19.1 One line ----------------------------------------------------------------------------------------------------

def strided(n, stride):
    back = np.arange(n)[:, None] - np.arange(n)
    return (back >= 0) & ((back < stride) | (back % stride == 0))

def sizes_of(rng, n, stride):
    return n, stride

def two_layers_hear_all(f, n, stride):
    step = np.asarray(f(n, stride), dtype=int)
    return np.array_equal(step @ step > 0, masks.causal(n))

one_line = Exercise(
    "19.strided",
    "One line",
    task="the causal strided mask: the last `stride` tokens, oneself included, and every `stride`-th token back.",
    solution=strided,
    answer=lambda n, stride: strided(n, stride),
    probes=[
        Probe("nine tokens, stride 3", sizes_of, n=9, stride=3),
        Probe("sixteen tokens, stride 4", sizes_of, n=16, stride=4),
        Probe("a length that is no multiple", sizes_of, n=11, stride=4),
        Probe("stride 1", sizes_of, n=4, stride=1),
        Probe("a stride beyond the text", sizes_of, n=3, stride=5),
        Probe("one token", sizes_of, n=1, stride=2),
        Probe("stride 2", sizes_of, n=7, stride=2),
    ],
    laws=[
        Law("a mask holds booleans", lambda f, n, stride: f(n, stride).dtype == bool),
        Law("nobody sees a later token", lambda f, n, stride: not np.triu(f(n, stride), 1).any()),
        Law("after two layers each token has heard all those before it", two_layers_hear_all),
    ],
    large=Probe("", sizes_of, n=400, stride=20),
    product="A column of positions minus a row of positions is the table of all distances.",
    hints=[
        "Make the table of distances back, i − j: a column of positions minus a row of positions.",
        "Three conditions: not ahead; and either near, or a whole number of strides back. `%` gives the rest.",
        "`&` binds tighter than `|`, and both tighter than `==`: put each condition in brackets.",
    ],
)

one_line.slip("looks_ahead_too", {"(back >= 0) & ((back < stride)": "((np.abs(back) < stride)"},
              "It looks ahead as well as back: nothing says that the distance i − j is at least 0.", INTUITION)
one_line.slip("brackets_forgotten", {
    "((back < stride) | (back % stride == 0))": "(back < stride) | (back % stride == 0)",
}, "Far ahead nothing is seen, but every `stride`-th *later* token is: the condition “not ahead” reaches only one of "
   "the two. Without brackets, `&` is done before `|`.", TRAPS)
WHOLE = "(back >= 0) & ((back < stride) | (back % stride == 0))"

one_line.slip("no_brackets", {WHOLE: "back >= 0 & back < stride | back % stride == 0"},
              "Brackets are missing. `&` and `|` are done before `>=`, `<` and `==`: put each comparison in brackets "
              "of its own.", BUILD)
one_line.slip("first_comparison_without_brackets", {WHOLE: "back >= 0 & (back < stride) | (back % stride == 0)"},
              "A bracket is missing: `&` and `|` are done before `>=`, so `back` is compared with all that stands "
              "behind it. Put each comparison in brackets of its own.", BUILD)
one_line.slip("last_comparison_without_brackets", {"(back % stride == 0)": "back % stride == 0"},
              "A bracket is missing: `|` is done before `==`, so the two are joined first and then compared with 0. "
              "Put each comparison in brackets of its own.", BUILD)
one_line.slip("second_comparison_without_brackets", {"(back < stride) | (back": "back < stride | (back"},
              "A bracket is missing: `|` is done before `<`, so the distance is compared with `stride | …`. Put each "
              "comparison in brackets of its own.", BUILD)
one_line.slip("near_ones_ahead", {
    "(back >= 0) & ((back < stride) | (back % stride == 0))":
        "(np.abs(back) < stride) | (back >= 0) & (back % stride == 0)",
}, "It sees all the *near* tokens ahead: a distance below `stride` may be negative, and “not ahead” reaches only the "
   "tokens a whole number of strides away.", TRAPS)
one_line.slip("all_the_future_is_near", {
    "(back >= 0) & ((back < stride) | (back % stride == 0))": "(back < stride) | (back >= 0) & (back % stride == 0)",
}, "A negative distance is below `stride`, too, and so *all* of the future is near. It needs a lower end.", TRAPS)
one_line.slip("strides_only", {"(back < stride) | ": ""},
              "The near tokens are missing: you have every `stride`-th token back and nothing between.", INTUITION)
one_line.slip("window_only", {" | (back % stride == 0)": ""},
              "This is the sliding window alone. The tokens a whole number of strides back are missing.", INTUITION)
one_line.slip("both_for_either", {"|": "&"},
              "Both conditions must hold with you (`&`), and only one's own place is both near and a whole number of "
              "strides back. Either should do.", BUILD)
one_line.slip("window_one_short", {"< stride": "< stride - 1"},
              "The window is one too wide or too narrow: “the last `stride` tokens, oneself included” are the "
              "distances 0 to stride − 1. Count the first column of a small mask, with stride 3.", BUILD)
one_line.slip("fixed_columns", {"back %": "np.arange(n) %"},
              "You keep every `stride`-th *column* for all queries (j % stride == 0). That is the “fixed” pattern; the "
              "strided one counts from the query: i − j.", INTUITION)

@one_line.wrong(
    "Your near tokens are a *chunk*: i // stride == j // stride. At the start of a chunk the query sees nothing of "
    "what came just before.", INTUITION
)
def chunk_for_window(n, stride):
    i, j = np.arange(n)[:, None], np.arange(n)
    return (j <= i) & ((i // stride == j // stride) | ((i - j) % stride == 0))

@one_line.wrong("Rows and columns are exchanged: your queries look *ahead*. Rows are queries, columns are keys.",
                INTUITION)  # fmt: skip
def rows_and_columns_swapped(n, stride):
    return strided(n, stride).T

one_line.slip("oneself_hidden", {">=": ">"},
              "The token itself is missing: its distance is 0, and 0 counts.", BUILD)

@one_line.wrong("True and False are exchanged. In this book True means “may attend”.", BUILD)
def true_means_ignore(n, stride):
    return ~strided(n, stride)

one_line.slip("all_but_the_strides", {"== 0": "!= 0"},
              "You keep the tokens that are *not* a whole number of strides back. `%` gives the rest of a division: 0 "
              "where it divides.", BUILD)
one_line.slip("window_and_the_own_place", {"< stride": "<= stride", "back % stride == 0": "back == 0"},
              "`back // stride == 0` asks whether the distance is below a stride, which is the window again. The rest "
              "of the division is `%`; or was the comparison the wrong way round?", BUILD)

@one_line.wrong("It is the whole causal mask: what lies between the strides and far back should be False. (Without "
                "brackets `back >= 0 & …` is `back >= (0 & …)`, and the rest is lost.)", INTUITION)
def all_of_the_past(n, stride):
    return masks.causal(n)

@one_line.right
def with_two_masks(n, stride):
    back = np.arange(n)[:, None] - np.arange(n)
    return masks.causal(n) & (masks.local(n, n, stride) | (back % stride == 0))

@one_line.right
def with_torch(n, stride):
    back = torch.arange(n)[:, None] - torch.arange(n)
    return ((back < stride) | (back % stride == 0)) & (back >= 0)

@one_line.right
def with_loops(n, stride):
    mask = np.zeros((n, n), dtype=bool)
    for i in range(n):
        mask[i, i::-stride] = True
        mask[i, max(0, i - stride + 1) : i + 1] = True
    return mask


# 19.2 Predict ------------------------------------------------------------------------------------------------------

N, BLOCK, WINDOW = 1024, 64, 128

def predictions():
    kept = 1 + 2 + 14 * 3  # a row of blocks: its own, the one before, and a corner of the one before that
    layers = -(-1023 // 127)  # one layer looks 127 tokens back
    return {"kept": kept, "layers": layers, "both ways": 2, "causal": -(-523 // 127)}

def counted():
    window = masks.causal(N) & masks.local(N, N, WINDOW)
    heard_from = {}
    for name, mask in (("layers", window), ("causal", window | masks.globally(N, N, 1) & masks.causal(N)),
                       ("both ways", masks.local(N, N, WINDOW) | masks.globally(N, N, 1))):  # fmt: skip
        key = 0 if name == "layers" else 500
        heard, layers = np.arange(N) == N - 1, 0
        while not heard[key]:
            heard, layers = heard | mask[heard].any(axis=0), layers + 1
        heard_from[name] = layers
    return {"kept": int(masks.kept_blocks(window, BLOCK).sum()), **heard_from}

predict = Exercise(
    "19.predict",
    "Predict",
    task="four numbers, for 1024 tokens and a window of 128: kept blocks, and layers until something is heard.",
    solution=predictions,
    answer=counted,
    hints=[
        "Kept blocks: take a row of blocks in the middle. Its *first* query looks back 127 tokens: into which block? "
        "Then mind the first rows.",
        "Layers: one layer carries a message 127 tokens, not 128, since the window includes oneself. Round up.",
        "The global token passes on what it has heard. Under a causal mask, whom does token 0 hear?",
    ],
)

@predict.wrong(
    "Kept blocks: you count two in each row, 128 / 64. But the window is not laid out on the blocks: all but the last "
    "query of a block look into a third one. Count the row with the pattern explorer.", PLAY
)
def two_blocks_a_row():
    yield from predict.but("kept", 31, 32)

@predict.wrong("Kept blocks: the first two rows of blocks have not three of them: there is nothing before the text.",
               PLAY)  # fmt: skip
def three_blocks_in_every_row():
    yield from predict.but("kept", 48)

@predict.wrong("Kept blocks: three in most rows, but not in the first *two*. How many blocks are there for each "
               "of these to look into?", PLAY)  # fmt: skip
def first_rows_miscounted():
    yield from predict.but("kept", 46, 47, 44)

@predict.wrong("Kept blocks: that is the causal triangle of blocks, without the window.", PLAY)
def the_whole_triangle():
    yield from predict.but("kept", 136, 256)

@predict.wrong("Kept blocks: you count both sides, but under a causal mask nothing is kept ahead.", PLAY)
def both_sides_counted():
    yield from predict.but("kept", 74, 75)

@predict.wrong(
    "Layers: you divide by 128. A window of 128 includes the token itself, so that a message moves 127 places a layer, "
    "and after 8 layers 1016.", INTUITION
)
def eight_layers():
    yield from predict.but("layers", 8)

@predict.wrong("“layers” or “causal”: layers are whole. What is left of the way takes one more of them: round up.",
               INTUITION)  # fmt: skip
def a_part_of_a_layer():
    for name, way in (("layers", 1023), ("causal", 523)):
        for layers in (way / 127, way / 128):
            yield from predict.but(name, layers, int(100 * layers) / 100, *(round(layers, n) for n in (1, 2, 3)))

@predict.wrong("Layers: the way doubles only if each layer looks twice as far. Here each adds the same 127.", INTUITION)
def doubling():
    yield from predict.but("layers", 3, 4, 10)

@predict.wrong("Layers: a message that has to be passed on does not arrive in one layer, and not in one step a token.",
               INTUITION)  # fmt: skip
def one_layer_or_a_thousand():
    yield from predict.but("layers", 1, 1023)

@predict.wrong(
    "Causal: token 0 is global, but nobody stands before it. Under a causal mask it hears only itself and has nothing "
    "to pass on, so the message has to walk.", TRAPS
)
def a_causal_hub():
    yield from predict.but("causal", 2, 1)

@predict.wrong("Causal: from token 500 to token 1023 is 523 places, and a layer carries it 127 of them. Round up.",
               INTUITION)  # fmt: skip
def rounded_down():
    yield from predict.but("causal", 4, 9)

@predict.wrong(
    "Both ways: token 0 hears token 500 in the first layer, and all hear token 0 in the second. It is two, not one: "
    "nobody sees what the hub hears in the same layer.", INTUITION
)
def hub_in_one():
    yield from predict.but("both ways", 1)

@predict.wrong("Both ways: there is a shorter way than walking, over the global token.", INTUITION)
def no_hub():
    yield from predict.but("both ways", 5, 4, 3)

predict.right_in_other_forms()
