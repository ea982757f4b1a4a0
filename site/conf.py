"""Sphinx's configuration. What the book is called and holds comes from book.yml."""

import sys
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here))
# jsonschema, with which myst-nb checks notebooks, would spend more time on compiling a grammar of web addresses, which
# no notebook needs, than Sphinx on the whole book. It does without where the grammar is not installed.
sys.modules.setdefault("rfc3987_syntax", None)

import katex_node  # noqa: E402

from attnbook.book import load  # noqa: E402

book = load(here.parent)

project = book.title
author = ", ".join(book.authors)
copyright = author
extensions = [
    "myst_nb",
    "sphinx_external_toc",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
    "sphinx_design",
    "sphinx_copybutton",
    "notebook_source",
    "katex_node",
    "page_assets",
]
book_repository = book.repository
book_branch = book.branch
external_toc_path = str(here.parent / "book.yml")
external_toc_exclude_missing = True
templates_path = ["templates"]

# The outputs stored in the notebooks, which the tests compare, are what the pages show: nothing is executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_ipywidgets_js = {"host.js": {"type": "module"}}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = [str(here.parent / "notebooks" / "references.bib")]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

katex_prerender = True
katex_css_path = "katex/katex.min.css"
katex_js_path = str(katex_node.dist(here.parent) / "katex.min.js")

html_theme = "sphinx_book_theme"
html_title = book.title
html_favicon = "static/favicon.svg"
html_logo = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["icons.css", "book.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_domain_indices = False
html_theme_options = {
    "repository_url": book.repository,
    "repository_branch": book.branch,
    "path_to_docs": "notebooks",
    "use_repository_button": True,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "logo": {"text": book.title, "alt_text": ""},
    "show_toc_level": 1,
    "navbar_persistent": [],
    "shorten_urls": False,
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    },
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "github-dark",
}
