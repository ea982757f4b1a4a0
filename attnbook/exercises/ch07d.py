"""Exercises of chapter 7, cross-attention: what goes wrong when an alignment is scored."""

import numpy as np
import torch

from attnbook.exercises.ch07b import IS_IT_RIGHT, MIXED_UP
from attnbook.exercises.ch07c import mass_on_right, score

ROUTE = "Right by another route"


# 7.6 Score an alignment -------------------------------------------------------------------------------------------

def mass_of(weights, right):
    return (weights * right).sum(axis=-1)

@score.wrong(
    "A row without a right source counts as a 0 in your mean. Nothing is right for a hyphen, so that its row counts "
    "neither for nor against.", IS_IT_RIGHT
)
def hyphens_count_as_0(weights, right):
    return mass_of(weights, right).mean()

@score.wrong("A row without a right source counts as a 1 in your mean. It should not count at all.", IS_IT_RIGHT)
def hyphens_count_as_1(weights, right):
    return np.where(right.any(axis=-1), mass_of(weights, right), 1.0).mean()

@score.wrong(
    "You take the mean over the right *cells*. A row with two right sources then counts twice, at half its mass: first "
    "add up along each row.", IS_IT_RIGHT
)
def mean_over_cells(weights, right):
    return weights[right].mean()

@score.wrong("Your mean runs over all the cells of the table, wrong ones too. It should run over *rows*.", IS_IT_RIGHT)
def mean_over_the_table(weights, right):
    return (weights * right).mean()

@score.wrong(
    "The mean of each row divides by the number of source words. What lies on the right words is to be added up, not "
    "averaged.", IS_IT_RIGHT
)
def mean_of_each_row(weights, right):
    return (weights * right).mean(axis=-1)[right.any(axis=-1)].mean()

@score.wrong(
    "If two sources are right, the weight on both of them counts: add them up, do not take the larger one.", IS_IT_RIGHT
)
def the_largest_alone(weights, right):
    return (weights * right).max(axis=-1)[right.any(axis=-1)].mean()

@score.wrong(
    "You read the table by its columns. The row of who asks shares out one unit; the sum has to run along it, over the "
    "last axis.", MIXED_UP
)
def by_its_columns(weights, right):
    return (weights * right).sum(axis=-2)[right.any(axis=-2)].mean()

def counted_from_the_front(name, what, mass, counts):
    """A misconception with `axis=1` in the sum, in the choice of rows or in both."""

    def function(weights, right):
        return (weights * right).sum(axis=mass)[right.any(axis=counts)].mean()

    function.__name__ = name
    score.wrong(f"Axis 1 runs along a row only while nothing stands in front of the table: in a batch {what} the "
                "columns. Count axes from the end.", MIXED_UP)(function)  # fmt: skip

counted_from_the_front("axes_counted_from_the_front", "your sum and your choice of rows both go down", 1, 1)
counted_from_the_front("sum_counted_from_the_front", "your sum goes down", 1, -1)
counted_from_the_front("choice_counted_from_the_front", "your choice of rows goes down", -1, 1)

@score.wrong(
    "The masses are those of rows, but the choice of what counts was made by columns: both go along the last axis.",
    MIXED_UP
)
def columns_chosen(weights, right):
    return mass_of(weights, right)[right.any(axis=-2)].mean()

@score.wrong(
    "The masses are those of columns, the choice of what counts is one of rows: both go along the last axis.", MIXED_UP
)
def columns_added_up(weights, right):
    return (weights * right).sum(axis=-2)[right.any(axis=-1)].mean()

@score.wrong(
    "You count hits, the rows whose largest weight is right. That is another measure: it cannot tell a weight of 0.4 "
    "from one of 0.9.", IS_IT_RIGHT
)
def hits_counted(weights, right):
    hit = np.take_along_axis(right, weights.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return hit[right.any(axis=-1)].mean()

@score.wrong("That is the weight on the *wrong* sources: what is left of each unit.", IS_IT_RIGHT)
def on_the_wrong_ones(weights, right):
    return (weights * ~right).sum(axis=-1)[right.any(axis=-1)].mean()

@score.wrong("You add up the rows that count. A mean divides by how many they are.", IS_IT_RIGHT)
def sum_of_the_rows(weights, right):
    return mass_of(weights, right)[right.any(axis=-1)].sum()

@score.wrong(
    "You leave out every row whose mass is 0. A model that looks only at wrong words earns that 0: what counts is "
    "whether there *is* a right source.", ROUTE
)
def zeros_left_out(weights, right):
    mass = mass_of(weights, right)
    return mass[mass > 0].mean() if (mass > 0).any() else mass.sum()

@score.wrong("Only rows for which *every* source is right count in your code: `all` where one is enough.", IS_IT_RIGHT)
def all_right(weights, right):
    return mass_of(weights, right)[right.all(axis=-1)].mean()

@score.wrong(
    "You make a mean for each sequence and then the mean of those. A short one's rows count more that way: take all "
    "the rows together.", IS_IT_RIGHT
)
def each_sequence_alike(weights, right):
    mass, counts = mass_of(weights, right), right.any(axis=-1)
    return (mass.sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)).mean()

@score.wrong("There is a number for each sequence. One number is asked for, over all the leading axes.", IS_IT_RIGHT)
def one_for_each_sequence(weights, right):
    return mass_of(weights, right).sum(axis=-1) / right.any(axis=-1).sum(axis=-1)

@score.wrong(
    "Python's `sum` adds along the *first* axis, and a batch has more of them. The method, `right.any(axis=-1).sum()`, "
    "counts them all.", IS_IT_RIGHT
)
def counted_along_the_first_axis(weights, right):
    counts = right.any(axis=-1)
    return sum(mass_of(weights, right)[counts]) / sum(counts)

@score.wrong("These are the masses of the rows. Their mean is missing.", IS_IT_RIGHT)
def masses_of_the_rows(weights, right):
    return mass_of(weights, right)[right.any(axis=-1)]

@score.wrong("You take the first sequence's rows alone: `[0]` stops at one. All the leading axes count.", IS_IT_RIGHT)
def first_sequence_alone(weights, right):
    while weights.ndim > 2:
        weights, right = weights[0], right[0]
    return mass_on_right(weights, right)

@score.wrong(
    "The weights are squared: `weights * weights` has no idea of what is right. It is `right` that says which to keep.",
    IS_IT_RIGHT
)
def weights_squared(weights, right):
    return (weights * weights).sum(axis=-1)[right.any(axis=-1)].mean()

@score.wrong("You count the right sources. The weight that lies on them was asked for.", IS_IT_RIGHT)
def right_ones_counted(weights, right):
    return (right * right).sum(axis=-1)[right.any(axis=-1)].mean()

@score.wrong("You divide by `right`: by 0 where a source is wrong. Multiplying by it keeps what is right.", IS_IT_RIGHT)
def divided_by_right(weights, right):
    return (weights / right).sum(axis=-1)[right.any(axis=-1)].mean()

@score.wrong(
    "Each row's weight sums to 1, wherever it lies: `right` has to say which of it counts.", IS_IT_RIGHT
)
def all_the_weight(weights, right):
    return weights.sum(axis=-1)[right.any(axis=-1)].mean()

@score.wrong(
    "`weights *= right` wipes out the caller's weights. Write `weights * right`, which makes a new array.",
    "1 · Three steps"
)
def in_place(weights, right):
    weights *= right
    return weights.sum(axis=-1)[right.any(axis=-1)].mean()

@score.right
def with_a_weighted_mean(weights, right):
    return np.average(np.einsum("...ij,...ij->...i", weights, right), weights=right.any(axis=-1))

@score.right
def with_torch(weights, right):
    weights, right = torch.as_tensor(weights), torch.as_tensor(right)
    return weights.masked_fill(~right, 0).sum(-1)[right.any(-1)].mean().item()

@score.right
def in_float32(weights, right):
    return mass_on_right(np.float32(weights), right)

@score.right
def with_loops(weights, right):
    total, count = 0.0, 0
    for row, gold in zip(weights.reshape(-1, weights.shape[-1]), right.reshape(-1, weights.shape[-1])):
        if gold.any():
            total, count = total + sum(w for w, good in zip(row, gold) if good), count + 1
    return total / count
