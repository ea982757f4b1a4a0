"""The figures: one SVG with its description, the same text at every run, wrong input named."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch

from attnbook import plots


def test_show_gives_one_svg_with_its_description():
    shown = plots.show(plots.curve([1, 2], {"": [1, 2]}), alt='two points, the second "twice" the first & more.')
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "text/plain"}
    assert bundle["image/svg+xml"].startswith('<svg role="img" aria-label="two points, the second &quot;twice&quot;')
    assert bundle["text/plain"] == repr(shown) == 'Figure: two points, the second "twice" the first & more.'


def test_the_description_has_the_numbers_that_the_figure_shows():
    bars = plots.bars({"a": [1, 0.25], "b": [2, 3]}, ["x", "y"], title="Bars")
    assert plots.show(bars, alt="Two pairs.").alt == "Two pairs. Bars: a: x 1, y 0.25; b: x 2, y 3."
    weights = plots.heatmap(np.array([[0.25, -np.inf]]), ["q"], ["k1", "k2"], title="Map")
    assert plots.show(weights, alt="A row.").alt == "A row. Map: q: 0.25, ×."
    assert plots.show(plots.heatmap(np.zeros((20, 20))), alt="Large.").alt == "Large."


def test_a_figure_is_the_same_text_at_every_run():
    def draw():
        return plots.show(plots.curve([1, 2, 4], {"a": [1, 2, 3], "b": [3, 2, 1]}, title="t"), alt="x").svg

    assert draw() == draw()
    ElementTree.fromstring(draw())  # and it is well-formed


def test_a_figure_carries_the_ink_and_paper_that_the_site_replaces():
    svg = plots.show(plots.curve([1, 2], {"": [1, 2]}, title="t"), alt="x").svg
    assert plots.INK in svg and plots.PAPER in svg


def test_the_legend_of_a_cell_has_that_ink_too():
    ax = plots.curve([1, 2], {"": [1, 2]}, title="t", xlabel="x", ylabel="y")
    ax.plot([1, 2], [2, 1], label="added")
    ax.legend()
    svg = plots.show(ax, alt="two lines").svg
    assert re.search(r"<!-- added -->\s*<g style=\"fill: " + plots.INK, svg)


def test_show_refuses_a_figure_without_a_description():
    with pytest.raises(ValueError, match="alt must describe"):
        plots.show(plots.bars([1]), alt="  ")


def test_lines_differ_in_colour_and_in_dash():
    names = "abcdef"
    lines = plots.curve([0, 1], {name: [0, i] for i, name in enumerate(names)}).lines
    assert len({line.get_color() for line in lines}) == len(names)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == len(names)


def test_torch_tensors_with_gradients_are_drawn():
    weights = torch.softmax(torch.zeros(2, 3, requires_grad=True), -1)
    axes = plots.heatmap(weights, ["a", "b"], ["x", "y", "z"])
    assert [text.get_text() for text in axes.texts] == ["0.33"] * 6


def test_heatmap_rows_are_rows_and_missing_values_are_marked():
    axes = plots.heatmap(np.array([[1.0, -np.inf, 0.0]]), ["query"], ["k1", "k2", "k3"], signed=True)
    assert [text.get_text() for text in axes.texts] == ["1.00", "×", "0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["query"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("key", "query")


def test_heatmap_of_weights_starts_at_zero_and_of_signed_values_has_zero_in_the_middle():
    weights, signed = plots.heatmap(np.full((2, 2), 0.5)), plots.heatmap(np.array([[-1.0, 3.0]]), signed=True)
    assert (weights.images[0].norm.vmin, weights.images[0].norm.vmax) == (0, 0.5)
    assert (signed.images[0].norm.vmin, signed.images[0].norm.vmax) == (-3, 3)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_numbers_in_cells_contrast_with_their_cell(value):
    axes = plots.heatmap(np.array([[value, 1.0]]))
    cell = plots._luminance(axes.images[0].cmap(axes.images[0].norm(value)))
    number = plots._luminance(matplotlib.colors.to_rgba(axes.texts[0].get_color()))
    assert (max(cell, number) + 0.05) / (min(cell, number) + 0.05) >= 4.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: plots.heatmap(np.zeros(3)), r"array must be a matrix.*got shape \(3,\)"),
        (lambda: plots.heatmap(np.zeros((2, 3)), rows=["a"]), "rows must have a label for each of the 2, got 1"),
        (lambda: plots.bars({}), "values must hold at least one series"),
        (lambda: plots.heatmap(np.zeros((2, 3)), cols=list("ab")), "cols must have a label for each of the 3, got 2"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_token_with_a_dollar_sign_is_no_formula():
    shown = plots.show(plots.heatmap(np.eye(2), ["$x^{", "\\frac$"], ["$a_$", "$"]), alt="x")
    assert shown.svg


def test_many_series_and_half_precision_are_drawn():
    names = "abcdefgh"
    axes = plots.bars({name: torch.ones(2, dtype=torch.bfloat16) for name in names})
    assert len(axes.get_legend().get_texts()) == len(names)


def test_a_power_of_two_axis_shows_plain_numbers():
    axes = plots.curve([1, 32, 1024], {"": [1, 2, 3]}, log="x")
    axes.figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert any(re.fullmatch(r"1,024", text) for text in labels)


def test_each_group_of_bars_has_its_own_hatch():
    axes = plots.bars({"a": [1, 2], "b": [2, 1]}, ["x", "y"])
    assert len({bar.get_hatch() for bar in axes.patches}) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_the_line_of_a_training_that_was_stopped_ends_where_it_ended():
    ax = plots.curve(range(5), {"whole": [5, 4, 3, 2, 1], "stopped": [5, 4]})
    assert [len(line.get_xdata()) for line in ax.lines] == [5, 2]
    with pytest.raises(ValueError, match="lines must be no longer than x, 2 points, got 3 for 'a'"):
        plots.curve([1, 2], {"a": [1, 2, 3]})
