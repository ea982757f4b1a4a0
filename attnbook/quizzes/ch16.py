"""Quizzes of chapter 16: the O(n²) bill."""

from attnbook import costs
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def counting():
    return Quiz(
        Number(
            "How many FLOPs is the product of a matrix of 10 × 20 with one of 20 × 30?",
            2 * 10 * 20 * 30,
            wrong={
                300: "That is how many cells the result has. Each of them is a sum of 20"
                     " products.",
                600: "Rows times columns times 2 is one product a cell. Each cell has 20.",
                6000: "Those are the multiplications. There are as many additions.",
                1000: "The three sizes are multiplied, not added: every row meets every"
                      " column.",
            },
            why="2 · rows · inner · cols: 300 cells, each with 20 multiplications and 20"
                " additions.",
        ),
        Choice(
            "The text becomes three times as long. Which of these become nine times as large?",
            {
                "The FLOPs of attention": True,
                "The table of scores": True,
                "The FLOPs of attention under a causal mask, nearly": True,
                "The FLOPs of the four projections":
                    "Each token is projected by itself: three times as many tokens, three"
                    " times the work.",
                "The bytes that fused attention moves, at best":
                    "It carries q, k, v and the output, and those have n rows: three times.",
            },
            why="What has n rows and n columns grows with the square; what has n rows grows"
                " like n. A mask that halves the cells changes the factor in front.",
        ),
        Number(
            "One head of width 64, step by step, in float16, and a long text. How many FLOPs are"
            " done for each byte that moves, in the limit?",
            round(costs.attention_cost(10**9, 64, fused=False).intensity),
            wrong={
                64: "That is for each number that moves. A float16 has two bytes.",
                128: "A number has two bytes, so there are fewer FLOPs a byte than a number, not"
                     " more.",
                256: "Those are the FLOPs for each cell, 4 · 64. A cell's numbers cross the line"
                     " four times, and each has two bytes.",
                16: "That is float32, with four bytes a number.",
            },
            why="4 · n² · 64 FLOPs to 4 · n² · 2 bytes: 64 / 2, and n has dropped out.",
        ),
        Choice(
            "A fused program computes exactly the same. What does it do less of?",
            {
                "Carrying of numbers to and from slow memory": True,
                "Holding of numbers in slow memory": True,
                "Multiplications": "All the products are carried out, one like the other.",
                "Exponentials": "Every cell still has one.",
            },
            why="The tables never leave fast memory. The arithmetic is the same.",
        ),
        title="Counting",
    )


def bounds():
    h100 = costs.MACHINES["H100 SXM"]
    model = 2048
    return Quiz(
        Choice(
            "A machine computes 100 FLOPs in the time in which one byte arrives. A program does 40"
            " FLOPs a byte. What makes it faster?",
            {
                "To carry fewer bytes for the same FLOPs": True,
                "A machine with twice the bandwidth": True,
                "A machine with twice the peak":
                    "The arithmetic waits already. A faster one would wait longer.",
                "To leave out a tenth of the FLOPs":
                    "They are done while the bytes are on their way. Nobody waits for them.",
            },
            why="40 is below the ridge of 100: it is memory-bound, and only what concerns the"
                " bytes helps.",
        ),
        Order(
            f"On an H100, with its ridge at {h100.ridge:.0f} FLOPs a byte, in half precision and with"
            " heads of 64. From the lowest intensity to the highest:",
            [
                "The softmax alone, from slow memory and back",
                "Attention step by step, n = 8,192",
                "Fused attention, n = 512",
                "Fused attention, n = 8,192",
            ],
            wrong={
                ("Attention step by step, n = 8,192", "The softmax alone, from slow memory and back"):
                    "A softmax does a handful of operations for each number it reads and writes."
                    " Attention does 4 · 64 a cell.",
                ("Fused attention, n = 8,192", "Fused attention, n = 512"):
                    "Fused, the intensity is n / 2: each key that was fetched serves more queries.",
                ("Fused attention, n = 512", "Attention step by step, n = 8,192"):
                    "Step by step it is below 32, at every length. Fused it is n / 2, here 256.",
                ("Fused attention, n = 8,192", "Attention step by step, n = 8,192"):
                    "The same FLOPs, but the fused one moves 129 times fewer bytes.",
            },
            why="About 1, 32, 256 and 4,096. Only the last one is above the ridge.",
        ),
        Number(
            f"A model has d_model = {model:,} and an MLP four times as wide, no mask. Up to which n do"
            " projections and MLP cost more FLOPs than attention?",
            costs.crossover_length(model),
            wrong={
                model: "There the rest still costs six times as much.",
                4 * model: "That is where attention costs as much as the MLP alone. The four"
                           " projections stand beside it, too.",
                2 * model: "That is where attention costs as much as the projections alone. The"
                           " MLP is twice as much again.",
                12 * model: "That is with a causal mask, nearly. Without one, attention does twice"
                            " the work.",
                24 * model: "24 · n · d² and 4 · n² · d: the 4 is still to be divided by.",
            },
            why="24 · n · d² = 4 · n² · d at n = 6 · d.",
        ),
        Choice(
            "Someone fits the exponent of attention's time from n = 16, 32 and 64 and finds 0.3. What"
            " is the likely reason?",
            {
                "At these sizes a call costs more than the arithmetic in it": True,
                "Attention is cheaper than n² for short texts":
                    "Its arithmetic is n² at every length. There is something else that takes the"
                    " time.",
                "The machine is memory-bound":
                    "Carrying a table grows like n² too. A line nearly flat is a cost that does not"
                    " depend on n.",
                "Three points are never enough":
                    "More points of this kind would give the same. It is the sizes that are too"
                    " small.",
            },
            why="Starting the call takes the same time for every n. Fit from where that no longer"
                " counts.",
        ),
        title="What decides the time",
    )
