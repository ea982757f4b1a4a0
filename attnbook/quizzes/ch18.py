"""Quizzes of chapter 18: FlashAttention on the GPU."""

from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def programs():
    return Quiz(
        Number(
            "300 queries, 4 heads, blocks of 64 queries. How many programs does the forward kernel"
            " have?",
            4 * -(-300 // 64),
            wrong={
                16: "300 queries fill 4 blocks, and a part of a fifth. The fifth needs a program"
                    " too.",
                5: "That is one head. Each head has its own queries, keys and values.",
                20 * 5: "That is the number of tiles, without a mask. The loop over keys stays"
                        " inside a program.",
                1200: "Not a program for each query: a block of 64 shares one.",
            },
            why="Five blocks of queries in each of 4 heads. The keys are walked through inside.",
        ),
        Choice(
            "Why are there two kernels for the backward pass?",
            {
                "So that no two programs add to the same row": True,
                "Because the weights are needed twice":
                    "They are computed twice because of it; one computation would be cheaper.",
                "Because dq needs the log-sum-exp and dk does not":
                    "Both compute the weights again, so both need it.",
                "Because a kernel has one output":
                    "It may store to as many arrays as it likes: ours for keys has two.",
            },
            why="A block of keys gets something from many blocks of queries. In the second kernel a"
                " program has the keys and sums it all up itself.",
        ),
        Order(
            "What does a program of the forward kernel do, in which order?",
            [
                "Find out from its number which queries are its own",
                "Load the tile of queries",
                "Walk through the blocks of keys and keep m, l and o",
                "Divide o by l",
                "Store the tile of the output",
            ],
            wrong={
                ("Divide o by l", "Walk through the blocks of keys and keep m, l and o"):
                    "l is known only after the last block of keys.",
                ("Load the tile of queries", "Find out from its number which queries are its own"):
                    "Which tile? The program's number says it.",
                ("Store the tile of the output", "Divide o by l"):
                    "Then what is stored is not normalised.",
            },
            why="Between the load and the store nothing but keys and values comes from HBM.",
        ),
        title="Who does what",
    )


def occupancy():
    return Quiz(
        Number(
            "A program has 8 warps of 32 threads, and a thread takes 128 registers. An SM has 65,536"
            " registers. For how many programs are they enough?",
            65_536 // (8 * 32 * 128),
            wrong={
                16: "That would be programs of one warp. This one has 8.",
                512: "That is the number of threads. A program has 256 of them.",
                64: "A warp has 32 threads, and each takes 128 registers.",
                4: "Count again: 8 · 32 · 128 registers a program.",
            },
            why="8 · 32 · 128 = 32,768, half of what there is.",
        ),
        Choice(
            "Twice the block of queries: what happens?",
            {
                "Keys and values are fetched half as often": True,
                "There are fewer multiplications":
                    "The scores are the same, and with a causal mask a little more is computed.",
                "More programs fit on an SM":
                    "A program needs more registers for its larger output. Fewer fit.",
                "The result is more exact":
                    "The blocks of queries do not change any sum.",
            },
            why="Each block of queries walks through all the keys. Half the blocks, half the walks.",
        ),
        Choice(
            "What can the interpreter not tell you about a kernel?",
            {
                "How fast it is": True,
                "Whether two programs write to the same place":
                    True,
                "Whether a mask keeps a tile in its array":
                    "It can: the wrong place is read or written on a CPU as well.",
                "Whether the sums are right":
                    "That is what it is good for, in float16 and float32.",
            },
            why="It runs the programs one after the other, with NumPy. So it shows the numbers, and"
                " neither speed nor what happens when programs meet.",
        ),
        title="What fits",
    )
