// Runs the book's explorers on a page without a kernel: for each placeholder, the state that the notebook saved, the
// module that draws it, and a model like the one that anywidget gives it in the lab.

const page = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
const saved = page ? JSON.parse(page.textContent).state : {};
const models = new Map();

function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => same(a[key], b[key]));
}

// Views of one model share it. As in the lab, setting a value to an equal one says nothing.
function modelOf(id) {
  if (models.has(id)) return models.get(id);
  const values = { ...saved[id].state };
  const listeners = new Map();
  const model = {
    get: (name) => values[name],
    set(name, value) {
      if (same(values[name], value)) return;
      values[name] = value;
      for (const event of [`change:${name}`, "change"]) {
        for (const callback of [...(listeners.get(event) ?? [])]) callback(model, value);
      }
    },
    save_changes() {},
    send() {},
    on(event, callback) {
      if (!listeners.has(event)) listeners.set(event, new Set());
      listeners.get(event).add(callback);
    },
    off(event, callback) {
      if (callback) listeners.get(event)?.delete(callback);
      else listeners.delete(event);
    },
  };
  models.set(id, model);
  return model;
}

function say(host, sentence) {
  const line = document.createElement("p");
  line.className = "no-kernel";
  line.textContent = sentence;
  host.replaceChildren(line);
}

async function start(host) {
  const id = JSON.parse(host.querySelector("script").textContent).model_id;
  try {
    const module = await import(`./widgets/${host.dataset.widget}.js`);
    const el = document.createElement("div");
    host.append(el);
    await module.default.render({ model: modelOf(id), el });
    host.dataset.ready = "";
  } catch (error) {
    console.error(error);
    say(host, "This explorer could not start in your browser. Reload the page, or open the chapter in the lab (make lab).");
  }
}

for (const host of document.querySelectorAll(".explorer")) start(host);
