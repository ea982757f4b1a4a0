"""The files beside the pages: what the site adds to Sphinx's, and what it takes away to stay light.

Every file comes from this machine: math fonts from npm's katex, explorers from the package, icons from icons.css in
place of Font Awesome (745 KB compressed for the two dozen icons that the theme uses).
"""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import katex_node

WIDGETS = Path(find_spec("attnbook").origin).parent / "widgets"
FONT_AWESOME = re.compile(
    r"@font-face\{[^}]*Font Awesome[^}]*\}"
    r"|\.fa-[a-z0-9-]+(?:,\.fa-[a-z0-9-]+)*\{--fa:[^}]*\}"
    r"|:is\(\.fas[^{]*\):before\{[^}]*\}"
    r"|@supports not \(content:\"\"/\"\"\)\{:is\(\.fas[^{]*\):before\{[^}]*\}\}"
)
UNUSED = ("scripts/fontawesome.js*", "vendor", "locales", "**/*.map", "**/*.LICENSE.txt", "images/logo_[!bc]*")


def setup(app):
    app.connect("html-page-context", _on_page, priority=900)
    app.connect("build-finished", _finish, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _on_page(app, pagename, templatename, context, doctree):
    body = context.get("body", "")
    # docutils calls the references a list but their children something else, which no screen reader is told of.
    context["body"] = body.replace(' role="list" class="citation-list"', "").replace(' role="doc-biblioentry"', "")
    # A page with explorers fetches their modules and styles along with the page, not one after the other.
    names = sorted(set(re.findall(r'class="explorer" data-widget="(\w+)"', body)))
    if names:
        app.add_css_file("widgets/kit.css")
        links = [f'<link rel="modulepreload" href="_static/widgets/{name}.js">' for name in ("kit", *names)]
        context["metatags"] = context.get("metatags", "") + "\n".join(links)


def _finish(app, exception):
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    for pattern in UNUSED:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (*static.glob("styles/*.css"), *static.glob("scripts/*.js")):
        text = re.sub(r"\n?(//|/\*)# sourceMappingURL=\S+( \*/)?\n?", "", path.read_text(encoding="utf-8"))
        path.write_text(FONT_AWESOME.sub("", text), encoding="utf-8")

    source, target = katex_node.dist(Path(app.confdir).parent), static / "katex"
    (target / "fonts").mkdir(parents=True)
    for font in source.glob("fonts/*.woff2"):
        shutil.copy(font, target / "fonts")
    css = (source / "katex.min.css").read_text(encoding="utf-8")
    css = re.sub(r",url\([^)]*\.(?:woff|ttf)\) format\(\"\w+\"\)", "", css)
    (target / "katex.min.css").write_text(css, encoding="utf-8")

    (static / "widgets").mkdir()
    for path in (*WIDGETS.glob("*.js"), *WIDGETS.glob("*.css")):
        shutil.copy(path, static / "widgets")

    # The bare address opens the book; links in the copy hold, since all pages lie side by side.
    shutil.copy(out / f"{app.config.root_doc}.html", out / "index.html")
