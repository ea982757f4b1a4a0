"""Quizzes of chapter 19: sparse attention."""

import numpy as np

from attnbook import masks
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def who_hears_whom():
    n, window, layers = 4096, 256, 0
    heard = np.arange(n) == n - 1
    while not heard[0]:  # each layer, the earliest token that was heard looks window - 1 further back
        heard[max(0, np.argmax(heard) - window + 1) :] = True
        layers += 1
    return Quiz(
        Number(
            "A causal sliding window of 256 tokens, oneself included, and a text of 4096. After how"
            " many layers has the last token heard the first?",
            layers,
            wrong={
                1: "It sees 256 tokens in the first layer. The others have to be passed on.",
                15: "After 15 layers it has heard 15 · 255 + 1 = 3826 tokens: not yet all.",
                16: "4096 / 256 is 16. But the window includes oneself, so that each layer moves a"
                    " message by 255 places.",
                12: "That is how often 4096 can be halved. The way does not double: each layer adds"
                    " the same.",
                4095: "That would be a window of two: oneself and the neighbour.",
            },
            why="Each layer carries a message 255 places, and 4095 / 255 is a little more than 16.",
        ),
        Choice(
            "One global token at the start: it sees all and is seen by all. For which of these does"
            " every token hear every other after two layers?",
            {
                "Read in both directions, with nothing but the global token": True,
                "Read in both directions, with a window of 3 besides": True,
                "Causal, with a window of 3 besides":
                    "Under a causal mask the first token hears only itself, and has nothing to pass"
                    " on.",
                "Read in both directions, but it is only seen, and sees nobody":
                    "Then it knows nothing that it could pass on: it must see all, too.",
            },
            why="In the first layer it hears everyone, in the second everyone hears it.",
        ),
        Choice(
            "A model with full attention was trained, and is now run with a sliding window to save"
            " memory. It fails as soon as the first tokens drop out of the window. Why?",
            {
                "Weights that had nothing better to do went to the first tokens: without this sink"
                " they go to the rest": True,
                "The first tokens hold what the text is about":
                    "It fails with any text, and is cured by keeping the first few tokens, whatever"
                    " they say.",
                "The softmax no longer sums to 1":
                    "It does: over the keys that are left. That is just the trouble.",
                "The window is too short to hold the grammar":
                    "Then a longer one would cure it. It fails at the very step that drops the first"
                    " tokens.",
            },
            why="Softmax has to spend its whole weight somewhere. Keep the sink, or train with the"
                " window.",
        ),
        title="Who hears whom",
    )


def what_it_costs():
    diagonal = masks.kept_blocks(np.eye(1024, dtype=bool), 64).mean()
    scattered = masks.kept_blocks(masks.random(1024, 1024, 16), 64).mean()
    return Quiz(
        Number(
            "1024 tokens, each sees 16 keys that are drawn by lot, which is 1.6 % of all. A kernel"
            " works in blocks of 64 × 64. Which share of the blocks does it have to compute, in"
            " per cent?",
            100 * scattered,
            tolerance=0.5,
            wrong={
                1.6: "That would be so if the kernel could skip single cells. It skips only blocks"
                     " that are empty throughout.",
                25: "There are 16 keys in each row and 16 columns of blocks. But a block has 64 rows"
                    " that all draw.",
                100 * diagonal: "One block a row: that would be the diagonal alone.",
                16: "That is the number of keys. Ask of a block: how likely is it that none of its"
                    " 4096 cells is drawn?",
            },
            why="A block stays empty only if none of its 64 queries draws one of its 64 keys, which"
                " all but never happens. So BigBird draws whole blocks.",
        ),
        Choice(
            "A block-sparse kernel keeps 10 % of the blocks. How much faster than full attention can"
            " it be at best, if blocks cost the same everywhere?",
            {
                "10 times": True,
                "100 times": "Only one of the two axes gets shorter: each row of blocks keeps a tenth"
                             " of its keys.",
                "Not at all: the softmax needs all the scores":
                    "It needs those that are not forbidden. The others have weight 0.",
                "n times": "That would be a window of fixed width, for which the share shrinks as n"
                           " grows.",
            },
            why="Time goes with the blocks that are kept, and a layout of fixed share is still O(n²).",
        ),
        Order(
            "A sliding window of fixed width, n tokens. Order these by how fast they grow with n,"
            " the slowest first.",
            [
                "The keys that one query sees",
                "The FLOPs of a layer with a window",
                "The FLOPs of a layer with full attention",
            ],
            wrong={
                ("The FLOPs of a layer with a window", "The keys that one query sees"):
                    "One query sees the window, however long the text is.",
                ("The FLOPs of a layer with full attention", "The FLOPs of a layer with a window"):
                    "Full attention goes with n², the window with n.",
                ("The FLOPs of a layer with full attention", "The keys that one query sees"):
                    "One query sees the window, however long the text is: it does not grow at all.",
            },
            why="Constant, n and n². That is why long-context models use windows in most layers.",
        ),
        title="What it costs",
    )
