"""A page with one explorer on it, served from this machine, and its Python object at the other end.

The page does what the lab does between the two: `pull` gives Python what the explorer has set, `push` gives the
explorer what Python has. `frame_times` measures a redraw; benchmarks/measure.py records it.
"""

import contextlib
import functools
import http.server
import json
import statistics
import threading
from pathlib import Path

WIDGETS = Path(__file__).parents[2] / "attnbook" / "widgets"

PAGE = """<!doctype html>
<html lang="en" data-theme="%(theme)s">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%(module)s</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/kit.css">
<style>
html { color-scheme: %(theme)s; background: %(background)s; font-size: 16px; }
body { margin: 8px; }
</style>
</head>
<body>
<main><h1 style="display:none">%(module)s</h1><div id="el"></div></main>
<script type="module">
const values = %(state)s;
const listeners = new Map();
window.saved = 0;
window.model = {
  get: (name) => values[name],
  set(name, value) {
    if (JSON.stringify(value) === JSON.stringify(values[name])) return;
    values[name] = value;
    for (const callback of [...(listeners.get("change:" + name) ?? [])]) callback();
  },
  save_changes() { window.saved += 1; },
  on(event, callback) { listeners.set(event, (listeners.get(event) ?? new Set()).add(callback)); },
  off(event, callback) { listeners.get(event)?.delete(callback); },
  listening: () => [...listeners.values()].reduce((sum, callbacks) => sum + callbacks.size, 0),
  all: () => values,
};
const module = await import("/%(module)s.js");
window.leave = module.default.render({ model: window.model, el: document.getElementById("el") });
document.body.dataset.ready = "";
</script>
</body>
</html>
"""


class Stage:
    """One served explorer: `page` shows it, `widget` is its Python object."""

    def __init__(self, page, widget, problems):
        self.page, self.widget, self.problems = page, widget, problems

    def state(self) -> dict:
        """What the explorer says of itself, after it has redrawn."""
        return self.page.evaluate("""() => {
          const { explorer } = document.querySelector(".attnbook");
          explorer.flush();
          return explorer.state();
        }""")

    def pull(self):
        """Python hears what the reader did."""
        self.widget.set_state({k: v for k, v in self.page.evaluate("model.all()").items() if k in self.widget.keys})
        self.state()

    def push(self):
        """The explorer hears what Python did."""
        self.page.evaluate("s => Object.entries(s).forEach(([k, v]) => model.set(k, v))", inputs(self.widget))
        self.state()

    def ranges(self):
        return self.page.locator("input[type=range]").all()


def inputs(widget) -> dict:
    """The traits that travel to the browser, as JSON has them."""
    ours = {k: v for k, v in widget.get_state().items() if not k.startswith("_")}
    return {k: v for k, v in ours.items() if k not in ("layout", "tabbable", "tooltip")}


class Theatre:
    """Serves attnbook/widgets on 127.0.0.1 and stages explorers in a browser."""

    def __init__(self, browser, base, pages):
        self.browser, self.base, self.pages = browser, base, pages

    @contextlib.contextmanager
    def show(self, widget, *, width=1000, height=900, theme="light", **context):
        """The explorer of this Python object on a page of its own; nothing may be complained about on the console."""
        path = f"/{widget.module}-{len(self.pages)}.html"
        background = {"light": "#fff", "dark": "#121212"}[theme]
        state = json.dumps(inputs(widget)).replace("<", "\\u003c")
        self.pages[path] = PAGE % dict(module=widget.module, theme=theme, background=background, state=state)
        with self.blank(path, viewport={"width": width, "height": height}, **context) as (page, problems):
            page.wait_for_selector("body[data-ready]")
            yield Stage(page, widget, problems)
            assert problems == []

    @contextlib.contextmanager
    def blank(self, path="/kit.css", **context):
        """A page of the server, and the list to which errors and requests to elsewhere are added."""
        context = self.browser.new_context(**context)
        page, problems = context.new_page(), []
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((self.base, "data:")) else problems.append(r.url))
        try:
            page.goto(self.base + path)
            yield page, problems
        finally:
            context.close()


@contextlib.contextmanager
def theatre(browser):
    pages = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path not in pages:
                return super().do_GET()
            body = pages[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=WIDGETS))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Theatre(browser, f"http://127.0.0.1:{server.server_port}", pages)
    finally:
        server.shutdown()
        server.server_close()


MOVES = """async (count) => {
  const root = document.querySelector(".attnbook");
  const ranges = [...root.querySelectorAll("input[type=range]")];
  const handled = [], painted = [];
  const step = (i) => {
    const range = ranges[i % ranges.length];
    const span = range.max - range.min;
    range.value = Number(range.min) + span * (0.5 + 0.45 * Math.sin(i * 1.7));
    range.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const painting = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(null);
  }));
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    step(i);
    root.explorer.flush();
    root.getBoundingClientRect();
    root.offsetHeight;
    handled.push(performance.now() - start);
    await painting();
  }
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    step(i + count);
    await painting();
    painted.push(performance.now() - start);
  }
  return { handled, painted };
}"""


def frame_times(stage: Stage, moves: int = 60) -> dict:
    """Milliseconds of a slider move, over all sliders in turn: until everything is computed and laid out
    (`handled`), and until the frame that shows it has been painted (`painted`, which waits for the display's beat).
    """
    times = stage.page.evaluate(MOVES, moves)
    return {
        "explorer": stage.widget.module,
        "moves": moves,
        "handled_median_ms": round(statistics.median(times["handled"]), 2),
        "handled_worst_ms": round(max(times["handled"]), 2),
        "painted_median_ms": round(statistics.median(times["painted"]), 2),
        "painted_worst_ms": round(max(times["painted"]), 2),
    }
