"""The explorers where readers meet them, on the built pages: every slider by keyboard, and Python asked each time."""

import re

import numpy as np
import pytest

from attnbook import book, functional, masks
from attnbook.costs import Machine
from attnbook.widgets import CostExplorer, MultiHeadExplorer, PatternExplorer, StateExplorer, TileExplorer
from attnbook.widgets.costs import OPTIONS, SIZES
from attnbook.widgets.position import scores_by_distance
from house import ROOT
from quizzes import answer_by_keyboard

EXPLORERS = "document.querySelectorAll('.attnbook[data-explorer]')"
PAGES = book.load(ROOT).pages


def softmax_results(state):
    weights = functional.softmax(np.array(state["logits"]), temperature=state["temperature"])
    return {"weights": weights, "entropy": functional.entropy(weights)}


def lookup_results(state):
    scores = -((state["query"] - np.array(state["keys"])) ** 2) / (2 * state["bandwidth"] ** 2)
    weights = functional.softmax(scores)
    return {"weights": weights, "out": weights @ np.array(state["values"])}


def qkv_results(state):
    q, k, v = (np.array(state[name], dtype=float) for name in "qkv")
    scale = None if state["scaled"] else 1.0
    scores = functional.scaled_scores(q, k, scale)
    weights = functional.softmax(functional.masked(scores, np.array(state["mask"])), temperature=state["temperature"])
    return {"scores": scores, "weights": weights, "out": weights @ v}


def position_results(state):
    scores = scores_by_distance(*(state[name] for name in ("scheme", "base", "d", "shift", "head")))
    return {"scores": scores, "score": scores[state["distance"]]}


def multihead_results(state):
    python = MultiHeadExplorer(
        **{name: state[name] for name in ("tokens", "n_heads", "d_k", "mask", "on", "x", "w_q", "w_k", "w_v", "w_o")}
    )
    return {name: getattr(python, name) for name in ("weights", "heads_out", "out", "moved")}


def mask_results(state):
    mask = np.array(state["mask"])
    kept = masks.kept_blocks(mask, state["block"])
    computed = np.kron(kept, np.ones((state["block"],) * 2))[: mask.shape[0], : mask.shape[1]]
    return {"kept": kept, "saved": 1 - computed.mean(), "density": mask.mean()}


def alignment_results(state):
    weights = np.array(state["weights"])
    if weights.ndim == 3:
        weights = weights.mean(axis=0) if state["head"] is None else weights[state["head"]]
    powers = weights ** state["sharpness"]
    shown = powers / powers.sum(axis=-1, keepdims=True)
    if state["expected"] is None:
        return {"shown": shown}
    mass = [row[right].sum() if right else np.nan for row, right in zip(shown, state["expected"], strict=True)]
    return {"shown": shown, "mass": np.array(mass)}


def pattern_results(state):
    python = PatternExplorer(**{name: state[name] for name in ("mask", "causal", "unit", "block", "layers")})
    return {name: getattr(python, name) for name in ("kept", "cost", "density", "hops", "reach")}


def cost_results(state):
    inputs = {name: state[name] for name in (*SIZES, *OPTIONS, "measure")}
    python = CostExplorer(machine=Machine(**state["machine"]), **inputs)
    figures = [[cost.flops, cost.bytes, cost.memory, python.times[kind].seconds] for kind, cost in python.costs.items()]
    crossover = {} if python.crossover is None else {"crossover": python.crossover}
    return {"share": list(python.share.values()), "figures": figures, **crossover}


def tile_results(state):
    python = TileExplorer(**{name: state[name] for name in TileExplorer.inputs})
    return {**python.running, **{name: getattr(python, name) for name in ("fast", "bytes_tiled", "bytes_naive")}}


def state_results(state):
    python = StateExplorer(**{name: state[name] for name in StateExplorer.inputs})
    return {name: getattr(python, name) for name in ("state", "read", "errors", "parts")}


RESULTS = {"softmax": softmax_results, "lookup": lookup_results, "qkv": qkv_results}
RESULTS |= {"position": position_results, "multihead": multihead_results}
RESULTS |= {"tiles": tile_results}
RESULTS |= {"states": state_results}
RESULTS |= {"maskeditor": mask_results, "alignment": alignment_results}
RESULTS |= {"costs": cost_results}
RESULTS |= {"patterns": pattern_results}
# Of the results, what stands in the explorer in words and figures.
SHOWN = {
    "softmax": lambda state, results: [*results["weights"], results["entropy"]],
    "lookup": lambda state, results: [results["out"]],
    "qkv": lambda state, results: results["out"][state["selected"]][:2],
    "position": lambda state, results: [results["score"]],
    "multihead": lambda state, results: [*results["out"][state["selected"]][:2], *results["moved"]],
    "states": lambda state, results: [*results["errors"][state["query"] : state["query"] + 1],
                                      *([results["errors"].mean()] if state["written"] else [])],  # fmt: skip
    # Of a row that no tile has met yet, m is −∞.
    "tiles": lambda state, results: [x for name in "mlo" for x in np.ravel(results.get(name, [])) if np.isfinite(x)],
    # The page rounds a half up, Python to the even digit: a hair above, both go up.
    "maskeditor": lambda state, results: [results["saved"] + 1e-9, results["density"] + 1e-9],
    "patterns": lambda state, results: [results["cost"] + 1e-9, results["density"] + 1e-9],
    "alignment": lambda state, results: [results["shown"][state["selected"]].max()],
    "costs": lambda state, results: [share + 1e-9 for share in results["share"]],
}


def is_shown(number, text):
    figures = f"{number:.3f}".replace("-", "−").replace("−0.000", "0.000")
    return re.search(rf"(?<![\d.]){re.escape(figures)}(?!\d)", text)


@pytest.mark.parametrize("name", PAGES)
def test_every_slider_moves_by_keyboard_and_the_numbers_are_pythons(open_page, name):
    page = open_page(name)
    for number in range(page.evaluate(f"{EXPLORERS}.length")):
        explorer = page.locator(".attnbook[data-explorer]").nth(number)
        kind = explorer.get_attribute("data-explorer")
        if kind == "quiz":  # it has questions to answer, no sliders to move
            answer_by_keyboard(explorer)
            continue
        sliders = explorer.locator("input[type=range]:visible")
        assert sliders.count() >= (0 if kind == "multihead" else 2)  # a trained layer's sizes are fixed
        for i in range(sliders.count()):
            slider = sliders.nth(i)
            before = slider.get_attribute("aria-valuetext")
            at_the_end = slider.evaluate("e => e.value === e.max")
            slider.focus()
            page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")
            assert slider.get_attribute("aria-valuetext") != before, f"{kind}: slider {i} did not move"
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
            state = explorer.evaluate("e => e.explorer.state()")
            results = RESULTS[kind](state)
            for result, expected in results.items():
                np.testing.assert_allclose(state[result], expected, atol=1e-6, err_msg=f"{kind}.{result}, slider {i}")
            text = explorer.inner_text()
            missing = [number for number in SHOWN[kind](state, results) if not is_shown(number, text)]
            assert not missing, f"{kind}: after a move of slider {i} the page does not show {missing}"


def test_the_book_has_an_explorer_of_each_kind(open_page):
    kinds = set()
    for name in PAGES:
        kinds |= set(open_page(name).evaluate(f"[...{EXPLORERS}].map((e) => e.dataset.explorer)"))
    assert kinds - {"quiz"} == set(RESULTS)
