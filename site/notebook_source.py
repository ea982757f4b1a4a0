"""What the site changes in a notebook as Sphinx reads it, so that the file itself reads well everywhere.

The notebooks are written for JupyterLab, Colab and GitHub. Here, on the way into the page: a figure becomes SVG inside
the page, in the page's colours; a saved explorer becomes an empty place for host.js; `[@key]` becomes a citation; and a
display equation with `\\tag{3.1}` can be linked to as `#eq-3.1`, from any page.
"""

import json
import re
from html import escape
from xml.etree import ElementTree

from sphinx.util import logging

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
OURS = re.compile(r"attnbook\.widgets\.(\w+)\.\w+")
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

# plots.py draws what is ink and what is paper in these two colours, which no figure uses for anything else.
INK, PAPER = "#1a1c20", "#fffffe"

# Code comes first, so that what looks like a citation or an equation inside it is left alone.
MARKDOWN = re.compile(
    r"""
      ^(?P<fence>[ \t]*(?:`{3,}|~{3,})) [\s\S]*? (?: ^(?P=fence)[`~]*[ \t]*$ | \Z )     # a fenced block
    | (?P<ticks>`+) [\s\S]+? (?<!`)(?P=ticks)(?!`)                                      # `code`
    | (?P<display> ^(?P<indent>[ \t]*) \$\$ [\s\S]+? \$\$ )
    | (?P<math> (?<!\\)\$(?!\s) (?: [^$\\\n] | \\. | \n(?!\s*\n) )+? \$ ) (?P<stop> [,.;:?!)]* )   # $math$,
    | \[ (?P<cite> @[\w:.-]+ (?: \s*;\s* @[\w:.-]+ )* ) \] (?!\()
    | \]\( (?P<page> [\w.-]+\.ipynb ) \#eq-
    """,
    re.MULTILINE | re.VERBOSE,
)


def setup(app):
    app.add_config_value("book_repository", "", "env", str)
    app.add_config_value("book_branch", "", "env", str)
    app.connect("source-read", _on_source_read)
    return {"version": "1", "parallel_read_safe": True}


def _on_source_read(app, docname, source):
    path = app.env.doc2path(docname)
    if path.suffix == ".ipynb":
        try:
            notebook = json.loads(source[0])
        except ValueError as error:
            logging.getLogger(__name__).error("not a notebook: %s", error, location=docname)
            notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        source[0] = json.dumps(rewrite(notebook, docname, app.config.book_repository, app.config.book_branch))


def rewrite(notebook: dict, docname: str, repository: str, branch: str) -> dict:
    """The notebook as the site wants it, changed in place."""
    states = notebook.get("metadata", {}).get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in states.values():
        for key in ("_esm", "_css"):  # the page loads each module once, as a file
            model.get("state", {}).pop(key, None)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            cell["source"] = markdown(_text(cell["source"]))
        if "solution" in cell["metadata"].get("tags", []):
            prompts = {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
            cell["metadata"]["mystnb"] = prompts | cell["metadata"].get("mystnb", {})
        for index, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if WIDGET_VIEW in data:
                html = explorer(data.pop(WIDGET_VIEW), states, docname, repository, branch)
            elif "image/svg+xml" in data:
                svg, alt = _text(data.pop("image/svg+xml")), _text(data.get("text/plain", ""))
                html = figure(svg, f"fig{number}-{index}", alt)
            else:
                continue
            data["text/html"] = html
    return notebook


def markdown(text: str) -> str:
    """Citations and targets of equations in MyST's syntax; code and math stay as they are.

    A browser may break the line between an inline formula and the comma after it, so the two are tied together.
    """

    def replace(match: re.Match) -> str:
        if match["cite"]:
            return "{cite:p}`" + ",".join(key.strip().lstrip("@") for key in match["cite"].split(";")) + "`"
        if match["stop"]:
            return f'<span class="tied">{match["math"]}{match["stop"]}</span>'
        if match["page"]:
            return "](#eq-"
        tag = match["display"] and re.search(r"\\tag\{([^{}]+)\}", match["display"])
        if tag:
            return f"\n{match['indent']}(eq-{tag[1]})=\n{match['display']}"
        return match[0]

    return MARKDOWN.sub(replace, text)


def figure(svg: str, name: str, alt: str) -> str:
    """An SVG document as a figure of the page: unique ids, the page's ink and paper, as wide as there is room."""
    for prefix, uri in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.fromstring(svg)
    styles = []
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}metadata":
                parent.remove(child)
            elif child.tag == f"{{{SVG}}}style":
                # matplotlib's one rule, for `*`, would hold for the whole page; on the root it is inherited instead.
                styles += re.findall(r"\*\s*\{([^}]*)\}", child.text or "")
                parent.remove(child)
    width, height = root.attrib.pop("width", ""), root.attrib.pop("height", "")
    if width and height and "viewBox" not in root.attrib:
        root.set("viewBox", f"0 0 {width.removesuffix('pt')} {height.removesuffix('pt')}")
    styles.append(f"width: {width or '100%'}")
    root.set("style", "; ".join(style.strip(" ;") for style in [*styles, root.get("style", "")] if style.strip(" ;")))
    root.set("role", "img")
    if not root.get("aria-label"):
        root.set("aria-label", alt)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{name}-{value}")
            elif key in ("href", f"{{{XLINK}}}href"):
                element.set(key, re.sub(r"^#", f"#{name}-", value))
            elif key != "aria-label":
                value = re.sub(r"url\((['\"]?)#", rf"url(\1#{name}-", value)
                value = re.sub(INK, "currentColor", value, flags=re.IGNORECASE)
                element.set(key, re.sub(PAPER, "var(--plot-paper, none)", value, flags=re.IGNORECASE))
    return f'<figure class="plot">{ElementTree.tostring(root, encoding="unicode")}</figure>'


def explorer(view: dict, states: dict, docname: str, repository: str, branch: str) -> str:
    """A place that host.js fills, for an explorer of the book; a sentence for any other widget."""
    state = states.get(view.get("model_id"), {}).get("state", {})
    ours = OURS.fullmatch(str(state.get("_anywidget_id", "")))
    where = (
        "Open this page in the lab (<code>make lab</code>), on "
        f'<a href="{binder(docname, repository, branch)}">Binder</a> or '
        f'<a href="{colab(docname, repository, branch)}">Colab</a>.'
    )
    if not ours:
        return f'<p class="no-kernel">This control needs a running Python kernel, and this page has none. {where}</p>'
    identity = escape(json.dumps({"model_id": view["model_id"]}), quote=False)
    return (
        f'<div class="explorer" data-widget="{ours[1]}"{height_hint(ours[1], state)}><script type="{WIDGET_VIEW}">{identity}</script>'
        f'<noscript><p class="no-kernel">This explorer needs JavaScript. {where}</p></noscript></div>'
    )


def height_hint(module: str, state: dict) -> str:
    """What book.css needs, besides the kind of explorer, to keep as much room free as this one will take."""
    if module == "quiz":
        return f' style="--questions: {len(state["questions"])}"'
    fixed = {"multihead": state.get("x"), "alignment": state.get("image")}.get(module)
    return "" if fixed is None else ' data-given=""'


def colab(docname: str, repository: str, branch: str) -> str:
    path = repository.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{path}/blob/{branch}/notebooks/{docname}.ipynb"


def binder(docname: str, repository: str, branch: str) -> str:
    path = repository.removeprefix("https://github.com/")
    return f"https://mybinder.org/v2/gh/{path}/{branch}?urlpath=lab/tree/notebooks/{docname}.ipynb"


def _text(value) -> str:
    return value if isinstance(value, str) else "".join(value)
