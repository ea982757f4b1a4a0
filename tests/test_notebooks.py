"""The chapters keep the house rules. (That their outputs are true is nbval's work.)"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from attnbook import quizzes

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if not path.name.startswith(("00", "99"))]
SECTIONS = [
    "The question", "Intuition", "Build it", "Check it", "Play", "Measure", "Traps", "Exercises", "In one breath",
]
MEASURING = ("16", "17", "18", "19", "20")  # chapters whose subject is what a machine takes
STATE = "application/vnd.jupyter.widget-state+json"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text())


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def prose(path):
    return [text(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]


def text(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def test_there_are_chapters():
    first = ["00-start-here", "01-softmax", "02-soft-lookup", "03-scaled-dot-product"]
    assert [path.stem for path in NOTEBOOKS][:4] == first


@every_notebook
def test_code_cells_are_short(path):
    long = [text(cell) for cell in code_cells(path) if text(cell).count("\n") >= 15 and "solution" not in tags(cell)]
    assert not long, f"{path.name}: longer than 15 lines:\n" + "\n---\n".join(long)
    wide = [line for cell in code_cells(path) for line in text(cell).splitlines() if len(line) > 92]
    assert not wide, f"{path.name}: wider than the page's column:\n" + "\n".join(wide)


@every_notebook
def test_every_cell_was_run_in_order_and_only_announced_errors_remain(path):
    cells = [cell for cell in code_cells(path) if text(cell).strip()]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert bool(errors) == ("raises-exception" in tags(cell)), text(cell)


@every_notebook
def test_only_what_depends_on_the_machine_is_exempt_from_comparison(path):
    exempt = [cell for cell in code_cells(path) if "nbval-ignore-output" in tags(cell)]
    assert len(exempt) <= (6 if path.name[:2] in MEASURING else 3)
    for cell in exempt:
        assert re.search(r"perf_counter|time|doctor", text(cell)), f"exempt without a reason: {text(cell)}"
    assert not any("NBVAL_" in text(cell) for cell in code_cells(path)), "exemptions are tags"


@every_chapter
def test_a_chapter_follows_the_template(path):
    headings = re.findall(r"^## (.+)$", "\n".join(prose(path)), flags=re.M)
    order = [next((s for s in SECTIONS if h.startswith(s)), None) for h in headings]
    assert [s for s in order if s] == SECTIONS, headings


@every_notebook
def test_equations_are_numbered_in_order_and_references_lead_somewhere(path):
    numbers = re.findall(r"\\tag\{([^}]+)\}", "\n".join(prose(path)))
    chapter = str(int(path.name[:2]))
    assert numbers == [f"{chapter}.{i}" for i in range(1, len(numbers) + 1)]
    everywhere = {n for other in NOTEBOOKS for n in re.findall(r"\\tag\{([^}]+)\}", "\n".join(prose(other)))}
    for shown, target in re.findall(r"\[\(([\d.]+)\)\]\(#eq-([\d.]+)\)", "\n".join(prose(path))):
        assert shown == target and target in everywhere


@every_notebook
def test_citations_and_links_lead_somewhere(path):
    known = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "notebooks/references.bib").read_text(), flags=re.M))
    groups = re.findall(r"\[(@[^\]]+)\]", "\n".join(prose(path)))
    cited = {key.strip().lstrip("@") for group in groups for key in group.split(";")}
    assert cited <= known, f"not in references.bib: {cited - known}"
    for target in re.findall(r"\]\(([^)#:]+\.ipynb)", "\n".join(prose(path))):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which does not exist"


@every_notebook
def test_figures_are_described(path):
    for cell in code_cells(path):
        for output in cell["outputs"]:
            data = output.get("data", {})
            assert "image/png" not in data, "figures are shown with plots.show, as SVG with a description"
            if "image/svg+xml" in data:
                assert 'aria-label="' in "".join(data["image/svg+xml"])[:2000]


@every_notebook
def test_exercises_have_a_stub_a_hint_and_a_solution_out_of_sight(path):
    stubs = [cell for cell in code_cells(path) if "exercise" in tags(cell)]
    names = [cell["metadata"]["exercise"] for cell in stubs]
    assert len(names) == len(set(names)) and all(name.startswith(path.name[:2] + ".") for name in names)
    solutions = [cell for cell in code_cells(path) if "solution" in tags(cell)]
    assert len(stubs) == len(solutions) >= (5 if path in CHAPTERS else 1)
    assert sum("<summary>Hint" in cell for cell in prose(path)) >= len(stubs)
    for cell in solutions:
        assert "hide-cell" in tags(cell) and cell["metadata"]["jupyter"]["source_hidden"]
        assert "assert" in text(cell), "a solution proves itself"


@every_notebook
def test_every_exercise_answers_back(path):
    for cell in code_cells(path):
        if "exercise" in tags(cell):
            name = cell["metadata"]["exercise"]
            last = text(cell).rstrip().splitlines()[-1]
            assert re.fullmatch(rf'check\("{re.escape(name)}", \w+\)', last), f"{name} ends with {last!r}"
            said = "".join("".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"])
            assert "ot attempted" in said, f"{name}, untouched, says {said!r}"


@every_notebook
def test_the_quizzes_of_a_chapter_stand_in_it(path):
    """By name alone: their answers would stand above the question."""
    cells = [text(cell) for cell in code_cells(path) if "quiz" in tags(cell)]
    assert sorted(cells) == [f'quiz("{name}")' for name in quizzes.names() if name[:2] == path.name[:2]]
    assert len(cells) >= (2 if path in CHAPTERS else 1)


@every_notebook
def test_stored_widgets_carry_the_module_that_the_package_has(path):
    from attnbook import widgets

    for model in read(path)["metadata"].get("widgets", {}).get(STATE, {}).get("state", {}).values():
        name = model["state"].get("_anywidget_id", "")
        if name.startswith("attnbook."):
            current = getattr(widgets, name.split(".")[-1])
            stored = (model["state"]["_esm"], model["state"]["_css"])
            fresh = stored == (str(current._esm), str(current._css))
            assert fresh, f"{path.name} is older than {name}: run `make notebooks`"


def test_the_readme_lists_the_chapters_of_the_book():
    readme = (ROOT / "README.md").read_text()
    assert [path.stem for path in NOTEBOOKS] == re.findall(r"\(notebooks/([\w-]+)\.ipynb\)", readme)


def test_each_notebook_fetches_the_package_where_there_is_none():
    cells = {text(cell) for path in NOTEBOOKS for cell in code_cells(path)[:1] if "colab" in tags(cell)}
    assert len(cells) == 1 and all("colab" in tags(code_cells(path)[0]) for path in NOTEBOOKS)
    (fetch,) = cells
    repository = re.search(r"repository: (\S+)", (ROOT / "book.yml").read_text())[1]
    assert f"git+{repository}\n" in fetch
    # Colab brings these itself.
    stock = {"numpy", "torch", "matplotlib", "ipywidgets", "jupyterlab", "nbformat", "packaging", "pyyaml", "tqdm"}
    stock |= {"filelock", "platformdirs", "triton"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} - stock
    assert ours == set(re.search(r"pip install -q (?!--)(.+)$", fetch, flags=re.M)[1].split())
