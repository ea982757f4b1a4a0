"""The quizzes of chapter 20: linear attention."""

from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def what_a_state_is():
    d_k, d_v, n = 64, 64, 100_000
    return Quiz(
        Number(
            "A head has d_k = d_v = 64, and its feature map keeps the width. The text has 100 000"
            " tokens so far. How many numbers has the matrix S = Σ φ(k) vᵀ?",
            d_k * d_v,
            wrong={
                n * (d_k + d_v): "That is what a cache of all keys and values would have. S is their sum.",
                n * d_k * d_v: "Each token makes a matrix, but they are added up to one.",
                d_k + d_v: "φ(k) vᵀ is a matrix: each channel of the key meets each of the value.",
                n * n: "That is the table of all pairs, which is just what is not built.",
                d_k * d_v + d_k: "With the norm, Σ φ(k). The question is about S alone.",
            },
            why="64 × 64, after ten tokens and after ten million. That is why decoding needs no more"
                " memory as the text grows.",
        ),
        Choice(
            "Why can the brackets in (Q Kᵀ) V not be moved while the softmax is there?",
            {
                "The softmax needs all the scores of a row before a value may be weighted by one": True,
                "A product of matrices may not be bracketed otherwise":
                    "It may: (A B) C = A (B C), whenever the sizes fit.",
                "The softmax makes the scores positive":
                    "A feature map does that as well. What stands in the way is that the exponential of"
                    " a sum over channels is no sum of channels.",
                "K and V have different widths":
                    "Kᵀ V sums over the tokens, of which there are equally many.",
            },
            why="With weights φ(q) · φ(k) instead of exp(q · k) nothing stands between the products any"
                " more.",
        ),
        Order(
            "One head, d = 64, and a text of 10 000 tokens. Order the three forms by the numbers that"
            " they hold at once, the fewest first.",
            ["recurrent", "chunked, chunks of 64", "quadratic"],
            wrong={
                ("chunked, chunks of 64", "recurrent"):
                    "Chunks hold the state as well, and a table of 64 × 64 besides.",
                ("quadratic", "chunked, chunks of 64"):
                    "The quadratic form holds 10 000 × 10 000 weights.",
                ("quadratic", "recurrent"): "The quadratic form holds 10 000 × 10 000 weights.",
            },
            why="The state; the state and a small table; the whole table. The numbers that come out are"
                " the same.",
        ),
        title="What a state is",
    )


def what_is_remembered():
    return Quiz(
        Choice(
            "Keys have length 1 and d_k = 8; pairs are added up without decay. When can all values be"
            " read back without error?",
            {
                "As long as the keys are at right angles to each other, so for 8 pairs at most": True,
                "Always: a sum loses nothing":
                    "A sum of two numbers does not say which two. Only keys at right angles keep them"
                    " apart.",
                "As long as there are 8 pairs at most, whatever the keys":
                    "Two keys with a cosine of 0.5 already hear half of each other's value.",
                "For 64 pairs, since the state has 8 × 8 numbers":
                    "A value takes 8 numbers itself, and keys at right angles are only 8.",
            },
            why="Whatever is not at right angles comes along when it is read. The state explorer shows"
                " of whom an answer is made.",
        ),
        Number(
            "A pair is written, and then another with the *same* key of length 1. The values are the"
            " numbers 3 and 5. The delta rule has β = 1. What does the key read now?".replace("*", ""),
            5,
            wrong={
                8: "The plain sum would give 8. The delta rule takes away what the key found before.",
                2: "2 is the difference that is written. It is added to what is there already.",
                4: "That would be the mean, or β = 0.5.",
                3: "The new value replaces the old one, not the other way round.",
            },
            why="It found 3 and wanted 5: the difference, 2, is added under the key, and 5 is read.",
        ),
        Choice(
            "Why do many long-context models mix linear layers with a few layers of full attention?",
            {
                "A state of fixed size cannot hold every pair of a long text, and full attention looks up"
                " any of them exactly": True,
                "Linear attention cannot be trained in parallel":
                    "It can: the chunked form does it.",
                "Linear attention is slower on long texts":
                    "It is faster, the longer the text. What it lacks is exact recall.",
                "The state overflows after some thousand tokens":
                    "It may grow, which a decay prevents. But what is lost is lost to interference.",
            },
            why="A few layers that look things up, and cheap ones in between: memory and time stay low,"
                " recall stays good.",
        ),
        title="What is remembered",
    )
