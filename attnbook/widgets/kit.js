// What every explorer shares: the arithmetic of attention, a DOM builder, controls and drawings.
//
// The arithmetic is attnbook.functional's, line for line (tests/browser/test_kit.py compares them), so that a
// slider answers within a frame, with or without a kernel. In the lab this file and an explorer's own file become
// one module (attnbook/widgets/_base.py); on the static site they are served as they are.
// Text that comes from a reader only ever becomes a text node or an attribute's value, never HTML.

// Arithmetic ---------------------------------------------------------------------------------------------------

/** exp(logits / temperature), normalised; the maximum goes first, so nothing overflows. -inf throughout: zeros. */
export function softmax(logits, { temperature = 1 } = {}) {
  const weights = new Float64Array(logits.length);
  let top = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i] > top) top = logits[i];
  if (top === -Infinity) return weights;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weights[i] = Math.exp((logits[i] - top) / temperature);
  for (let i = 0; i < logits.length; i++) weights[i] /= total;
  return weights;
}

/**
 * softmax(q kᵀ · scale / temperature) v for arrays of rows. mask[i][j] true: query i may attend to key j.
 * Returns rows of Float64Array; `scores` are those before the mask. A query that sees nothing gets zeros.
 */
export function attention({ q, k, v, mask = null, scale = 1 / Math.sqrt(q[0]?.length ?? 1), temperature = 1 }) {
  const scores = q.map((query) => Float64Array.from(k, (key) => dot(query, key) * scale));
  const weights = scores.map((row, i) =>
    softmax(mask ? row.map((score, j) => (mask[i][j] ? score : -Infinity)) : row, { temperature }));
  const out = weights.map((row) => {
    const sum = new Float64Array(v[0]?.length ?? 0);
    row.forEach((weight, j) => {
      if (weight !== 0) for (let c = 0; c < sum.length; c++) sum[c] += weight * v[j][c];
    });
    return sum;
  });
  return { scores, weights, out };
}

export function dot(a, b) {
  let sum = 0;
  for (let c = 0; c < a.length; c++) sum += a[c] * b[c];
  return sum;
}

/** -Σ w ln w, in nats: 0 when one weight has everything, ln n when n share it equally. */
export function entropy(weights) {
  let sum = 0;
  for (const weight of weights) if (weight > 0) sum -= weight * Math.log(weight);
  return sum;
}

export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

export function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

/** A number for people: fixed decimals, a true minus sign, never "-0.00"; very large ones by powers of ten. */
export function format(number, digits = 3) {
  if (Number.isNaN(number)) return "not a number";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const text = Math.abs(number) < 1e6 ? number.toFixed(digits) : number.toExponential(digits);
  return /[1-9]/.test(text) ? text.replaceAll("-", "−") : text.replace("-", "");
}

/** All of a number's digits (up to 12 significant), as the box for exact entry shows it. */
export function exact(number) {
  return String(Number(number.toPrecision(12))).replaceAll("-", "−");
}

/** The least of 1, 2 or 5 × 10ⁿ that is not below `rough`: steps that people count in. */
export function roundStep(rough) {
  const power = Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => Number(`${each}e${power}`) >= rough);
  return Number(`${factor}e${power}`); // read as a decimal: 10 ** -5 is not 0.00001
}

/** What a reader typed as a number, or NaN. A decimal comma and a typographic minus are understood. */
export function parseNumber(text) {
  const plain = text.trim().replaceAll("−", "-").replace(/^([-+]?\d*),(\d+)$/, "$1.$2");
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain) ? Number(plain) : NaN;
}

// Made-up vectors: default_vectors in qkv.py, to the last bit ---------------------------------------------------------

const STARTS = { q: 1553713, k: 1987661, v: 16109 };

/** 32 bits well mixed: the finaliser of MurmurHash3, as _scramble in masks.py. */
export function mixed(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A word's vector in the role "q", "k" or "v": hashed (FNV-1a), equal for equal words; variance 1, within ±3. */
export function madeUpVector(word, width, role, seed = 0) {
  let state = mixed((STARTS[role] + Math.imul(seed, 0x9e3779b9)) >>> 0);
  for (const byte of new TextEncoder().encode(word)) state = Math.imul(state ^ byte, 16777619) >>> 0;
  const uniform = (i) => mixed((state + Math.imul(i + 1, 0x9e3779b9)) >>> 0) / 2 ** 32;
  return Array.from({ length: width }, (_, c) => {
    const sum = uniform(3 * c) + uniform(3 * c + 1) + uniform(3 * c + 2);
    return Math.floor((2 * sum - 3) * 10 + 0.5) / 10;
  });
}

// Masks: attnbook.masks, cell by cell -----------------------------------------------------------------------------

/** Which `perRow` keys query i drew: masks.random's hash of seed, query and key. */
function drawnKeys(i, nKv, perRow, seed) {
  const row = mixed((mixed(seed >>> 0) + i) >>> 0);
  const lots = Array.from({ length: nKv }, (_, j) => mixed((row + Math.imul(j, 0x9e3779b9)) >>> 0));
  const order = lots.map((_, j) => j).sort((a, b) => lots[a] - lots[b] || a - b);
  return new Set(order.slice(0, perRow));
}

/** `may(i, j)` of a pattern that goes by numbers; the last query stands at the last key. */
export function maskRule(kind, [a, b], nQ, nKv) {
  const shift = nKv - nQ;
  const drawn = []; // of each row that was asked for
  return {
    local: (i, j) => Math.abs(j - i - shift) < a,
    dilated: (i, j) => Math.abs(j - i - shift) < a * b && Math.abs(j - i - shift) % b === 0,
    global: (i, j) => (i + shift >= 0 && i + shift < a) || j < a,
    random: (i, j) => (drawn[i] ??= drawnKeys(i, nKv, a, b)).has(j),
  }[kind];
}

export function cellTable(rows, cols, cell) {
  return Array.from({ length: rows }, (_, i) => Array.from({ length: cols }, (_, j) => cell(i, j)));
}

export function sameCells(a, b) {
  return a.length === b.length && a.every((row, i) => row.length === b[i].length && row.every((x, j) => x === b[i][j]));
}

/**
 * masks.kept_blocks: which blocks have a cell that may attend (`kept`), and how many may in every cell (`whole`); how
 * many cells may attend (`cells`), and how many there are in the kept blocks (`computed`).
 */
export function blocksOf(mask, block) {
  const [nQ, nKv] = [mask.length, mask[0].length];
  const open = cellTable(Math.ceil(nQ / block), Math.ceil(nKv / block), () => 0); // cells of each that may attend
  let [cells, computed, whole] = [0, 0, 0];
  mask.forEach((row, i) => row.forEach((may, j) => {
    if (!may) return;
    open[Math.floor(i / block)][Math.floor(j / block)] += 1;
    cells += 1;
  }));
  const area = (b, c) => Math.min(block, nQ - b * block) * Math.min(block, nKv - c * block);
  open.forEach((row, b) => row.forEach((count, c) => {
    if (count) computed += area(b, c);
    if (count === area(b, c)) whole += 1;
  }));
  return { kept: open.map((row) => row.map(Boolean)), whole, cells, computed };
}

export function maskWords({ mask, kept, block }, { row, col }) {
  if (mask[row][col]) return "may attend";
  const inside = kept[Math.floor(row / block)][Math.floor(col / block)];
  return `ignored, ${inside ? "but in a kept block" : "skipped with its block"}`;
}

// The model: what Python (or, on the static page, the host) holds -------------------------------------------------

/** Call back when any of these traits changes; returns the function that stops it. */
export function bind(model, names, callback) {
  for (const name of names) model.on(`change:${name}`, callback);
  return () => names.forEach((name) => model.off(`change:${name}`, callback));
}

/**
 * Set traits and save them to the kernel. ipywidgets keeps one message in flight and merges what comes meanwhile, so
 * a drag floods nobody; to save later than setting would let the kernel's echo of an older state undo the newer one.
 */
export function commit(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}

/**
 * `schedule()` runs `redraw(byHand)` once in the next frame however often it is called, `schedule.flush()` runs it
 * now. `byHand` says whether the reader has changed something that was not drawn yet, by `schedule.byHand()`.
 */
export function onFrame(redraw) {
  let [request, byHand] = [0, false];
  const run = () => {
    const told = byHand;
    [request, byHand] = [0, false];
    redraw(told);
  };
  const schedule = () => {
    request ||= requestAnimationFrame(run);
  };
  schedule.byHand = () => {
    byHand = true;
    schedule();
  };
  schedule.flush = () => {
    if (!request) return;
    cancelAnimationFrame(request);
    run();
  };
  schedule.cancel = () => {
    cancelAnimationFrame(request);
    request = 0;
  };
  return schedule;
}

/**
 * Put an explorer on the page, and `schedule` a redraw whenever one of these traits changes. Tests read its `state`.
 * Returns the function that takes everything away again.
 */
export function live(model, names, { el, root, schedule, state }) {
  const unbind = bind(model, names, schedule);
  root.explorer = { state, flush: schedule.flush };
  el.append(root);
  return () => {
    unbind();
    schedule.cancel();
    root.remove();
  };
}

/** What Undo brings back, at most so many steps. Those with the same tag are one: a brush's stroke, a slider's way. */
export function undoHistory(most) {
  let [past, last] = [[], null];
  return {
    /** How things were before a step; null is no other step's tag. */
    keep(before, tag = null) {
      if (tag === null || tag !== last) past = [...past, before].slice(-most);
      last = tag;
    },
    back() {
      last = null;
      return past.pop();
    },
    get tag() { return last; },
    get any() { return past.length > 0; },
  };
}

// DOM ------------------------------------------------------------------------------------------------------------

/** h("p", {class: "ab-note", onclick: f}, "text", node): strings are text nodes; null and false are left out. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else setAttribute(element, name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

function setAttribute(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Change attributes (and with `text` the content) of a live element, touching only what differs. */
export function patch(element, { text, ...attributes }) {
  for (const [name, value] of Object.entries(attributes)) {
    const present = element.getAttribute(name);
    if (present !== (value == null || value === false ? null : value === true ? "" : String(value))) {
      setAttribute(element, name, value);
    }
  }
  if (text !== undefined && element.textContent !== text) element.textContent = text;
  return element;
}

/** A name for a sentence: if it runs from right to left, the numbers beside it must not turn round with it. */
export function isolated(name) {
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(name) ? `\u2068${name}\u2069` : name;
}

/** An explorer's root. JupyterLab would take arrows and Enter for itself, unless the element with the focus says no. */
export function explorerRoot(name, label, ...children) {
  const keep = (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  const attributes = { class: "attnbook", "data-explorer": name, "aria-label": label };
  return h("section", { ...attributes, onfocusin: keep }, children);
}

let serial = 0;

/** An id that no other element on the page has. */
export function uniqueId(stem) {
  return `ab-${stem}-${Math.random().toString(36).slice(2, 8)}-${++serial}`;
}

/** Tell a screen reader, politely, once the reader's hand rests. */
export function announce(root, text) {
  let region = root.querySelector(":scope > .ab-announce");
  if (!region) root.append((region = h("div", { class: "ab-announce ab-hidden", "aria-live": "polite" })));
  clearTimeout(region.timer);
  region.timer = setTimeout(() => patch(region, { text }), 400);
}

/** Run `draw` when the element gets another width, and (if its class has ab-drawing) when the page's colours change. */
export function onLook(element, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth !== width) draw((width = element.clientWidth));
  }).observe(element);
  element.addEventListener("ab-theme", draw);
  watchTheme();
}

let themeWatched = false;

function watchTheme() {
  if (themeWatched) return;
  themeWatched = true;
  const tell = () => document.querySelectorAll(".ab-drawing").forEach((e) => e.dispatchEvent(new Event("ab-theme")));
  const attributes = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light", "class"] };
  const observer = new MutationObserver(tell);
  for (const place of [document.documentElement, document.body]) observer.observe(place, attributes);
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "print"]) {
    matchMedia(query).addEventListener("change", tell);
  }
}

// Controls -------------------------------------------------------------------------------------------------------

/**
 * A native range (so the keyboard and screen reader parts of the WAI-ARIA slider pattern are the browser's) with a
 * box for exact entry. `scale: "log"` spaces the values evenly in the logarithm, 40 steps a decade. `limits` is
 * what may be typed, where that is more than the slider spans; the slider then widens. `setRange(low, high, step)`
 * gives it other ends and, if one is named, another step.
 */
export function slider({
  label, min, max, step = 0.1, value, format: spell = (x) => format(x, 2), onInput = () => {}, scale = "linear",
  limits = [min, max], hideLabel = false,
}) {
  const PER_DECADE = 40;
  const position = scale === "log" ? (x) => Math.round(Math.log10(x) * PER_DECADE) : (x) => x;
  const id = uniqueId("slider");
  const name = h("label", { class: hideLabel ? "ab-hidden" : "ab-label", for: id }, label);
  const range = h("input", { type: "range", id, class: "ab-range", oninput: () => accept(atPosition(range.value)) });
  const keypad = limits[0] < 0 ? "text" : "decimal"; // a phone's decimal keypad has no minus
  const box = h("input", {
    type: "text", class: "ab-number", inputmode: keypad, autocomplete: "off", spellcheck: "false",
    "aria-label": `${label}, exact value`, onchange: typed, onfocus: () => box.select(),
    onkeydown: (event) => event.key === "Escape" && show(),
  });
  const problem = h("span", { class: "ab-problem", id: `${id}-problem`, role: "alert" });
  const element = h("div", { class: "ab-slider" }, name, range, box, problem);

  function atPosition(text) {
    const at = Number(text);
    if (at === position(min)) return min;
    if (at === position(max)) return max;
    return scale === "log" ? Number((10 ** (at / PER_DECADE)).toPrecision(3)) : Number(at.toPrecision(12));
  }

  function typed() {
    const number = parseNumber(box.value);
    if (number >= limits[0] && number <= limits[1]) return accept(number);
    const wanted = `a number from ${exact(limits[0])} to ${exact(limits[1])}`;
    patch(problem, { text: `“${box.value}” is not ${wanted}` });
    patch(box, { "aria-invalid": "true", "aria-describedby": problem.id });
  }

  function accept(number) {
    set(number);
    onInput(number);
  }

  function set(number) {
    value = number;
    setRange(Math.min(min, number), Math.max(max, number));
  }

  function setRange(low, high, by = step) {
    [min, max, step] = [low, high, by];
    const [first, last] = [position(min), position(max)];
    patch(range, { min: first, max: last, step: scale === "log" ? 1 : step });
    show();
  }

  function show() {
    const [first, last] = [position(min), position(max)];
    range.value = position(value);
    range.style.setProperty("--ab-fill", `${(100 * (position(value) - first)) / (last - first || 1)}%`);
    patch(range, { "aria-valuetext": spell(value) });
    patch(box, { "aria-invalid": null, "aria-describedby": null });
    patch(problem, { text: "" });
    box.value = exact(value);
  }

  setRange(min, max);
  set(value);
  return {
    element, range, box, set, setRange,
    get value() { return value; },
    setLabel(text) {
      patch(name, { text });
      patch(box, { "aria-label": `${text}, exact value` });
    },
  };
}

/** On or off. */
export function toggle({ label, checked = false, onChange = () => {} }) {
  const box = h("input", { type: "checkbox", role: "switch", onchange: () => onChange(box.checked) });
  box.checked = checked;
  return {
    element: h("label", { class: "ab-toggle" }, box, h("span", null, label)),
    get checked() { return box.checked; },
    set(state) { box.checked = state; },
  };
}

/** One of a few: a radio group drawn as one strip. */
export function choice({ label, options, value, onChange = () => {} }) {
  const name = uniqueId("choice");
  const radios = options.map((option) => {
    const radio = h("input", { type: "radio", name, onchange: () => onChange(option.value) });
    radio.checked = option.value === value;
    return radio;
  });
  const strip = options.map((option, i) => h("label", null, radios[i], h("span", null, option.label)));
  const group = h("div", { class: "ab-strip", role: "radiogroup", "aria-labelledby": `${name}-label` }, strip);
  return {
    element: h("div", { class: "ab-choice" }, h("span", { class: "ab-label", id: `${name}-label` }, label), group),
    get value() { return options[radios.findIndex((radio) => radio.checked)]?.value; },
    set(next) { radios.forEach((radio, i) => (radio.checked = options[i].value === next)); },
  };
}

export function button(label, onClick, attributes = {}) {
  return h("button", { type: "button", class: "ab-button", ...attributes, onclick: onClick }, label);
}

/**
 * A way gone step by step, by buttons and a slider. Playing is the reader's wish, and jumps: nothing glides. `names`
 * are the buttons' texts in their order: of step, play, back and reset. `goTo(step)` has called `update({at, most})`
 * by the time it returns; `course({at, most})` is the first and the last step that playing goes to; `limits` is
 * what may be typed, since `most` may change.
 */
export function stepper({ label, names, beat, limits, goTo, course }) {
  let now = { at: 0, most: 0 };
  let timer = null;
  const press = {
    step: () => byHand(now.at + 1), back: () => byHand(now.at - 1), reset: () => byHand(0),
    play: () => (timer ? stop() : begin()),
  };
  const buttons = Object.fromEntries(Object.entries(names).map(([name, text]) =>
    [name, button(text, press[name], name === "play" ? { class: "ab-button ab-play" } : {})]));
  const at = slider({
    label, min: 0, max: 1, step: 1, value: 0, limits, format: (x) => `${x} of ${now.most}`,
    onInput: (x) => byHand(Math.round(x)),
  });

  function byHand(step) {
    stop();
    goTo(step);
  }

  function begin() {
    const [first, last] = course(now);
    const through = () => now.at >= Math.min(last, now.most);
    goTo(first);
    if (through()) return;
    timer = setInterval(() => {
      if (!through()) goTo(now.at + 1);
      if (through()) stop();
    }, beat);
    patch(buttons.play, { text: "Pause" });
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    patch(buttons.play, { text: names.play });
  }

  function update(next) {
    now = next;
    // A disabled button would lose the focus at the last step, and with it the keyboard's place.
    patch(buttons.back, { "aria-disabled": now.at === 0 ? "true" : null });
    patch(buttons.step, { "aria-disabled": now.at === now.most ? "true" : null });
    at.set(0); // so that a shorter way does not stretch the slider
    at.setRange(0, now.most);
    at.set(now.at);
  }

  const row = h("div", { class: "ab-bar-of-buttons" }, Object.values(buttons));
  return { element: h("div", { class: "ab-panel ab-stepper" }, row, at.element), update, stop };
}

/** Horizontal bars, each with its name before and words behind it; `update([[share of the whole, words], …])`. */
export function meters(names, kind) {
  const rows = names.map((name) => {
    const [fill, words] = [h("div", { class: "ab-meter-fill" }), h("span")];
    const meter = h("div", { class: "ab-meter", "aria-hidden": "true" }, fill);
    return { element: h("div", { class: `ab-meter-row ${kind}` }, h("span", null, name), meter, words), fill, words };
  });
  return {
    elements: rows.map((row) => row.element),
    update: (values) => values.forEach(([share, text], i) => {
      patch(rows[i].fill, { style: `width:${100 * share}%` });
      patch(rows[i].words, { text });
    }),
  };
}

/** What the fillings of a drawing mean: [["full" | "pale" | "hatched" | "empty", meaning], …]. */
export function swatches(meanings) {
  return h("div", { class: "ab-swatches" }, meanings.map(([filling, text]) =>
    h("span", null, h("span", { class: `ab-filling ab-filling-${filling}` }), text)));
}

/** A row of tokens to choose from: arrows, Home and End move the choice (WAI-ARIA listbox). */
export function tokenRow({ label, tokens = [], selected = 0, onSelect = () => {}, onHover = () => {} }) {
  const chips = [];
  const element = h("div", {
    class: "ab-tokens", role: "listbox", "aria-label": label, "aria-orientation": "horizontal",
    onclick: (event) => choose(chips.indexOf(event.target.closest("[role=option]"))),
    onpointerover: (event) => onHover(indexOrNull(event)),
    onpointerleave: () => onHover(null),
    onkeydown: (event) => {
      const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
      if (event.key in moves) choose(clamp(selected + moves[event.key], 0, tokens.length - 1), event);
      else if (event.key === "Enter" || event.key === " ") choose(selected, event);
    },
  });

  function indexOrNull(event) {
    const index = chips.indexOf(event.target.closest("[role=option]"));
    return index < 0 ? null : index;
  }

  function choose(index, event) {
    event?.preventDefault();
    if (index < 0) return;
    update({ selected: index });
    chips[index].focus();
    onSelect(index);
  }

  function update(next) {
    ({ tokens = tokens, selected = selected } = next);
    while (chips.length > tokens.length) chips.pop().remove();
    while (chips.length < tokens.length) {
      chips.push(h("span", { class: "ab-token", role: "option" }));
      element.append(chips.at(-1));
    }
    chips.forEach((chip, i) => patch(chip, {
      text: tokens[i], "aria-selected": String(i === selected), tabindex: i === selected ? "0" : "-1",
      "data-lit": "highlight" in next ? next.highlight === i : chip.hasAttribute("data-lit"),
    }));
  }

  update({});
  return { element, update };
}

// Colour -----------------------------------------------------------------------------------------------------------

const CIVIDIS = ["#00224e", "#083370", "#35456c", "#4f576c", "#666970", "#7d7c78", "#948e77", "#aea371", "#c8b866",
  "#e5cf52", "#fee838"];
// Blue and orange differ for every kind of colour vision; their ends differ in lightness too, so grey tells them apart.
const DIVERGING = ["#12346f", "#5f86bf", "#f6f6f4", "#eda765", "#cf6414"];
const DIVERGING_DARK = ["#9cc4ff", "#4a78b8", "#1f2329", "#9a5a20", "#ffb15c"];
const tables = new Map();

/** 256 colours through the stops: css strings, packed RGBA for ImageData, and the ink readable on each. */
export function colourTable(stops) {
  if (tables.has(stops)) return tables.get(stops);
  const rgb = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  const table = { css: [], ink: [], packed: new Uint32Array(256) };
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (rgb.length - 1);
    const low = Math.min(Math.floor(at), rgb.length - 2);
    const [r, g, b] = rgb[low].map((c, channel) => Math.round(c + (rgb[low + 1][channel] - c) * (at - low)));
    table.css.push(`rgb(${r} ${g} ${b})`);
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    table.ink.push(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 ? "#000" : "#fff");
    new DataView(table.packed.buffer).setUint32(4 * i, ((r << 24) | (g << 16) | (b << 8) | 255) >>> 0);
  }
  tables.set(stops, table);
  return table;
}

export function isDark(element) {
  return getComputedStyle(element).colorScheme === "dark";
}

/** The stops of a palette as the page now needs them: signed values turn around the page's own darkness. */
export function palette(name, dark) {
  return name === "diverging" ? (dark ? DIVERGING_DARK : DIVERGING) : CIVIDIS;
}

// Drawings ---------------------------------------------------------------------------------------------------------

/** The text, or as much of it as fits in `room` pixels with an ellipsis; `measure(text)` gives pixels. */
export function ellipsis(text, room, measure) {
  if (measure(text) <= room) return text;
  const letters = Array.from(text);
  let [fits, fails] = [0, letters.length];
  while (fails - fits > 1) {
    const middle = (fits + fails) >> 1;
    if (measure(`${letters.slice(0, middle).join("")}…`) <= room) fits = middle;
    else fails = middle;
  }
  return `${letters.slice(0, fits).join("")}…`;
}

/**
 * A matrix as colours: rows are queries, columns are keys. The picture is a canvas; for the keyboard and for screen
 * readers a grid of the same size lies over it (WAI-ARIA grid) in which only the current cell exists.
 *
 * `onHover(cell or null)` follows the pointer and the keyboard's cell; `onSelect(cell)` says that the current cell
 * moved (keys or click); `onActivate(cell)` is Enter, Space or a click. A cell is {row, col, value, masked}.
 * `update` takes any of {values, rows, cols, mask, highlight: {row, col}, domain} and keeps the rest.
 */
export function heatmap({
  label, rowTitle = "query", colTitle = "key", palette: paletteName = "sequential", domain = null, maxCell = 44,
  maxHeight = 640, format: spell = (x) => format(x, 2), onHover = () => {}, onSelect = () => {},
  onActivate = () => {},
}) {
  let data = { values: [], rows: [], cols: [], mask: null, highlight: {}, domain };
  let frame = null; // where things lie, in CSS pixels, and the colours of the page; null: to be found again
  let current = { row: 0, col: 0 };
  let hovered = null;
  const titleId = uniqueId("heatmap");
  const canvas = h("canvas", { "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const tile = h("canvas", null);
  const bands = { row: h("div", { class: "ab-band" }), col: h("div", { class: "ab-band" }) };
  const readout = h("output", { class: "ab-readout", "aria-live": "off" });
  const legend = h("div", { class: "ab-legend" });
  const grid = h("div", {
    class: "ab-grid", role: "grid", "aria-labelledby": titleId, onkeydown: onKey,
    onpointermove: (event) => hover(cellAt(event)), onpointerleave: () => hover(null),
    onclick: (event) => {
      const at = cellAt(event);
      if (!at) return;
      move(at);
      onActivate(cell(at));
    },
    onfocusin: () => hover(current), onfocusout: () => hover(null),
  });
  const plate = h("div", { class: "ab-plate ab-drawing" }, canvas, bands.row, bands.col, grid);
  const element = h("figure", { class: "ab-heatmap" },
    h("figcaption", { id: titleId }, label),
    h("div", { class: "ab-axes" }, h("span", null, `rows: ${rowTitle}`), h("span", null, `columns: ${colTitle}`)),
    plate, h("div", { class: "ab-foot" }, readout, legend));
  onLook(plate, redraw);

  function redraw() {
    frame = null;
    draw();
  }

  const size = () => [data.values.length, data.values[0]?.length ?? 0];
  const name = (names, i) => names[i] ?? String(i + 1);

  function cell({ row, col }) {
    return { row, col, value: data.values[row][col], masked: Boolean(data.mask && !data.mask[row][col]) };
  }

  function describe(at) {
    const { value, masked } = cell(at);
    const [row, col] = [name(data.rows, at.row), name(data.cols, at.col)].map(isolated);
    const who = `${rowTitle} ‘${row}’, ${colTitle} ‘${col}’`;
    return `${who}: ${masked ? "masked" : spell(value)}`;
  }

  function cellAt(event) {
    const box = grid.getBoundingClientRect();
    const [n, m] = size();
    const row = Math.floor(((event.clientY - box.top) / box.height) * n);
    const col = Math.floor(((event.clientX - box.left) / box.width) * m);
    return row >= 0 && row < n && col >= 0 && col < m ? { row, col } : null;
  }

  function hover(at) {
    if (at?.row === hovered?.row && at?.col === hovered?.col) return;
    hovered = at;
    patch(readout, { text: at ? describe(at) : "" });
    onHover(at && cell(at));
  }

  function onKey(event) {
    const [n, m] = size();
    const { row, col } = current;
    const page = Math.max(1, Math.min(8, n >> 1));
    const ends = event.ctrlKey || event.metaKey;
    const to = {
      ArrowRight: [row, col + 1], ArrowLeft: [row, col - 1], ArrowDown: [row + 1, col], ArrowUp: [row - 1, col],
      Home: [ends ? 0 : row, 0], End: [ends ? n - 1 : row, m - 1], PageDown: [row + page, col],
      PageUp: [row - page, col],
    }[event.key];
    if (to) move({ row: clamp(to[0], 0, n - 1), col: clamp(to[1], 0, m - 1) });
    else if (event.key === "Enter" || event.key === " ") onActivate(cell(current));
    else return;
    event.preventDefault();
  }

  function move(at) {
    current = at;
    place({ focus: true });
    hover(at);
    onSelect(cell(at));
  }

  /** The one cell that exists. A new element takes each move's focus, so that a screen reader reads it. */
  function place({ focus = false } = {}) {
    const [n, m] = size();
    if (!n || !m) return grid.replaceChildren();
    current = { row: Math.min(current.row, n - 1), col: Math.min(current.col, m - 1) };
    patch(grid, { "aria-rowcount": n, "aria-colcount": m });
    let item = grid.querySelector("[role=gridcell]");
    const old = item?.parentElement;
    if (!item || focus) {
      item = h("div", { role: "gridcell", tabindex: "0", class: "ab-cell" }, h("span", { class: "ab-hidden" }));
      grid.append(h("div", { role: "row" }, item));
      if (focus) item.focus({ preventScroll: false });
      old?.remove();
    }
    patch(item.parentElement, { "aria-rowindex": current.row + 1 });
    patch(item, { "aria-colindex": current.col + 1, style: frame && boxStyle(current.row, current.col, 1, 1) });
    patch(item.firstChild, { text: describe(current) });
  }

  function boxStyle(row, col, rows, cols) {
    const { cw, ch } = frame;
    return `left:${col * cw}px;top:${row * ch}px;width:${cols * cw}px;height:${rows * ch}px`;
  }

  function placeBands() {
    const [n, m] = size();
    const { row = null, col = null } = data.highlight ?? {};
    const { left, top } = frame;
    for (const [which, at] of [["row", row], ["col", col]]) {
      const shown = at !== null && at < (which === "row" ? n : m);
      const box = which === "row" ? [left, top + at * frame.ch, m * frame.cw, frame.ch]
        : [left + at * frame.cw, top, frame.cw, n * frame.ch];
      const style = `transform:translate(${box[0]}px,${box[1]}px);width:${box[2]}px;height:${box[3]}px`;
      patch(bands[which], { style: shown ? style : "display:none" });
    }
  }

  /** Where everything goes at this width; label texts are fitted here, so that a redraw has only to paint them. */
  function lay() {
    const [n, m] = size();
    const style = getComputedStyle(canvas);
    const ratio = window.devicePixelRatio || 1;
    const colours = { ink: style.color, faint: style.borderTopColor, paper: style.backgroundColor };
    const font = `11px ${style.fontFamily}`;
    context.font = font;
    const measure = (text) => context.measureText(text).width;
    const widest = (names, count) => Math.max(0, ...Array.from({ length: count }, (_, i) => measure(name(names, i))));
    const width = plate.clientWidth;
    const left = Math.ceil(Math.min(widest(data.rows, n), 100, width * 0.26)) + 7;
    const whole = (x) => Math.max(1, Math.floor(x * ratio)) / ratio; // cells end on device pixels
    let cw = whole(Math.min(maxCell, (width - left - 1) / m));
    const ch = whole(Math.min(cw, Math.max(maxHeight / n, 5)));
    if (n === m) cw = ch;
    const across = widest(data.cols, m);
    const upright = across > cw - 4;
    const top = upright ? Math.ceil(Math.min(across, 84)) + 8 : 18;
    const rowEvery = Math.ceil(12 / ch);
    const colEvery = upright ? Math.ceil(12 / cw) : 1;
    const rowTexts = Array.from({ length: n }, (_, i) => ellipsis(name(data.rows, i), left - 6, measure));
    const colTexts = Array.from({ length: m }, (_, j) => ellipsis(name(data.cols, j), upright ? top - 6 : cw, measure));
    const figure = Math.min(11, Math.floor(ch * 0.5));
    const numbers = ch >= 17 && cw >= figure * 2.8 ? `${figure}px ${style.fontFamily}` : null;
    frame = { ratio, colours, font, left, top, cw, ch, upright, rowEvery, colEvery, rowTexts, colTexts, numbers,
      table: colourTable(palette(paletteName, isDark(canvas))), hatch: hatching(context, colours.faint, colours.paper) };
    const [wide, high] = [left + m * cw + 1, top + n * ch + 1];
    [canvas.width, canvas.height] = [Math.ceil(wide * ratio), Math.ceil(high * ratio)];
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    patch(grid, { style: `left:${left}px;top:${top}px;width:${m * cw}px;height:${n * ch}px` });
    [tile.width, tile.height] = [m, n];
    frame.pixels = new ImageData(m, n);
  }

  /** Which values the two ends of the colours stand for. */
  function span() {
    if (data.domain) return data.domain;
    if (paletteName === "sequential") return [0, 1];
    let most = 0;
    for (const row of data.values) for (const x of row) if (Number.isFinite(x)) most = Math.max(most, Math.abs(x));
    return [-(most || 1), most || 1];
  }

  function draw() {
    const [n, m] = size();
    if (!n || !m || !plate.clientWidth) return;
    if (!frame) lay();
    const { ratio, colours, left, top, cw, ch, table, pixels } = frame;
    const [low, high] = span();
    const shade = (x) => clamp(Math.round(((x - low) / (high - low || 1)) * 255), 0, 255) || 0;
    const words = new Uint32Array(pixels.data.buffer);
    let at = 0;
    for (const row of data.values) for (const x of row) words[at++] = table.packed[shade(x)];
    tile.getContext("2d").putImageData(pixels, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(tile, left, top, m * cw, n * ch);
    if (data.mask) drawMasked(n, m);
    if (Math.min(cw, ch) >= 9) drawGaps(n, m);
    if (frame.numbers) drawNumbers(n, m, shade);
    drawLabels(n, m, colours);
    placeBands();
    drawLegend(low, high);
  }

  function drawMasked(n, m) {
    const { left, top, cw, ch, hatch } = frame;
    context.fillStyle = hatch;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < m; j++) {
        const first = j;
        while (j < m && !data.mask[i][j]) j++;
        if (j > first) context.fillRect(left + first * cw, top + i * ch, (j - first) * cw, ch);
      }
    }
  }

  function drawGaps(n, m) {
    const { left, top, cw, ch, colours } = frame;
    context.fillStyle = colours.paper;
    for (let i = 0; i <= n; i++) context.fillRect(left, top + i * ch - 0.5, m * cw, 1);
    for (let j = 0; j <= m; j++) context.fillRect(left + j * cw - 0.5, top, 1, n * ch);
  }

  function drawNumbers(n, m, shade) {
    const { left, top, cw, ch, numbers, table } = frame;
    context.font = numbers;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const texts = data.values.map((row, i) =>
      Array.from(row, (x, j) => (data.mask && !data.mask[i][j] ? "" : spell(x))));
    const longest = texts.flat().reduce((a, b) => (b.length > a.length ? b : a), "");
    const squeeze = Math.min(1, (cw - 6) / context.measureText(longest).width); // 6: clear of the neighbour's
    const size = Math.floor(parseInt(numbers) * squeeze);
    if (size < 8) return; // too small to read; whoever points at a cell is told its number
    context.font = numbers.replace(/^\d+/, size);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < m; j++) {
        context.fillStyle = table.ink[shade(data.values[i][j])];
        context.fillText(texts[i][j], left + (j + 0.5) * cw, top + (i + 0.5) * ch + 0.5);
      }
    }
  }

  function drawLabels(n, m, { ink }) {
    const { left, top, cw, ch, font, upright, rowEvery, colEvery, rowTexts, colTexts } = frame;
    context.font = font;
    context.fillStyle = ink;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let i = 0; i < n; i += rowEvery) context.fillText(rowTexts[i], left - 5, top + (i + 0.5) * ch);
    context.textAlign = upright ? "left" : "center";
    for (let j = 0; j < m; j += colEvery) {
      context.save();
      context.translate(left + (j + 0.5) * cw, top - (upright ? 5 : 9));
      if (upright) context.rotate(-Math.PI / 2);
      context.fillText(colTexts[j], 0, 0);
      context.restore();
    }
  }

  function drawLegend(low, high) {
    const key = [spell(low), spell(high), Boolean(data.mask?.some((row) => row.some((may) => !may))), frame.table];
    if (legend.key?.every((part, i) => part === key[i])) return;
    legend.key = key;
    const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((i) => frame.table.css[i]).join(",");
    legend.replaceChildren(
      h("span", null, key[0]),
      h("span", { class: "ab-ramp", style: `background:linear-gradient(90deg,${stops})` }),
      h("span", null, key[1]),
      ...(key[2] ? [h("span", { class: "ab-hatch" }), h("span", null, "masked")] : []));
  }

  function update(next) {
    const before = data;
    data = { ...data, ...next };
    const moved = ["rows", "cols"].some((k) => String(before[k]) !== String(data[k])) ||
      before.values.length !== data.values.length || before.values[0]?.length !== data.values[0]?.length;
    if (moved) frame = null;
    if (Object.keys(next).some((k) => k !== "highlight") || !frame) draw();
    else placeBands();
    place();
    const [n, m] = size();
    if (hovered && (hovered.row >= n || hovered.col >= m)) hover(null);
    if (hovered) patch(readout, { text: describe(hovered) });
  }

  return { element, update, get current() { return current; } };
}

/** The page's colours, as the canvas's own style has them. */
export function canvasColours(canvas) {
  const style = getComputedStyle(canvas);
  return {
    ink: style.color, edge: style.borderTopColor, paper: style.backgroundColor, may: style.outlineColor,
    on: style.textDecorationColor, problem: style.columnRuleColor, font: style.fontFamily,
  };
}

/** Give a canvas this size in CSS pixels, sharp on any display; returns its pen. */
export function sizedCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.ceil(width * ratio), Math.ceil(height * ratio)];
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

/** Lines between the cells, every so many rows and columns, and around all of them. */
export function ruleCells(pen, { rows, cols, left, top, cell, every, across = every }) {
  const stops = (n, step) => [...Array.from({ length: Math.ceil(n / step) }, (_, i) => i * step), n];
  pen.beginPath();
  for (const i of stops(rows, every)) {
    pen.moveTo(left, top + i * cell);
    pen.lineTo(left + cols * cell, top + i * cell);
  }
  for (const j of stops(cols, across)) {
    pen.moveTo(left + j * cell, top);
    pen.lineTo(left + j * cell, top + rows * cell);
  }
  pen.stroke();
}

/** A mask on paper: what may attend filled, what is computed in vain hatched, and over them a kernel's blocks. */
export function paintMask({ pen, look, hatch, left, top, cell }, { mask, kept, block }) {
  const [rows, cols] = [mask.length, mask[0].length];
  mask.forEach((row, i) => row.forEach((may, j) => {
    if (!may && !kept[Math.floor(i / block)][Math.floor(j / block)]) return;
    pen.fillStyle = may ? look.may : hatch;
    pen.fillRect(left + j * cell, top + i * cell, cell, cell);
  }));
  const lines = (every, colour, width) => {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    ruleCells(pen, { rows, cols, left, top, cell, every });
  };
  if (cell > 8) lines(1, look.paper, 1);
  lines(1, look.edge, 0.25);
  lines(block, look.paper, 3.5);
  lines(block, look.ink, 1.5);
}

/**
 * n × n numbered cells on a canvas; `update(view)` draws a view, which has n. `room` is what is left free around them,
 * `most` how large a cell and all of them can be; `paint(frame, view)` fills the cells and what is around them, and
 * the numbers stand `away` from them. `laid(frame)` follows each change of size; `at(event)` is the cell under a
 * pointer, though it may be one that is not there. Over the canvas lies `over`.
 */
export function cellBoard({ room, most, away, paint, laid = () => {}, over = null, ...attributes }) {
  const { left, top, right } = room;
  let view = null;
  let frame = null; // the pen, the page's colours, and where things lie, in CSS pixels; null: to be found again
  const canvas = h("canvas", { class: "ab-pen", ...attributes });
  const plate = h("div", { class: "ab-canvas ab-drawing" }, canvas, over);
  onLook(plate, () => {
    frame = null;
    draw();
  });

  function lay(n) {
    const wide = plate.clientWidth - left - right - 4; // the plate's padding
    const cell = clamp(Math.floor(Math.min(wide, most.all) / n), 5, most.cell);
    const pen = sizedCanvas(canvas, left + n * cell + right, top + n * cell + 2);
    const look = canvasColours(canvas);
    frame = { n, left, top, cell, pen, look, hatch: hatching(pen, look.edge, look.paper, 5), lines };
    laid(frame);
  }

  function draw() {
    if (!view || !plate.clientWidth) return;
    const { n } = view;
    if (frame?.n !== n) lay(n);
    const { pen, look, cell } = frame;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = look.paper;
    pen.fillRect(left, top, n * cell, n * cell);
    paint(frame, view);
    pen.font = `11px ${look.font}`;
    pen.fillStyle = look.ink;
    pen.textBaseline = "middle";
    for (let i = 0; i < n; i += Math.ceil(16 / cell)) {
      pen.textAlign = "right";
      pen.fillText(i, left - away.left, top + (i + 0.5) * cell);
      pen.textAlign = "center";
      pen.fillText(i, left + (i + 0.5) * cell, top - away.top);
    }
  }

  function lines(colour, width, every, across = every) {
    const { pen, n, cell } = frame;
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    ruleCells(pen, { rows: n, cols: n, left, top, cell, every, across });
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const [row, col] = [event.clientY - box.top - top, event.clientX - box.left - left]
      .map((x) => Math.floor(x / frame.cell));
    return { row, col };
  }

  function update(next) {
    view = next;
    draw();
  }

  return { plate, canvas, at, update, get cell() { return frame?.cell; } };
}

/** All cells from the last one to this one: a quick hand skips none. */
function cellsBetween(from, to) {
  const count = Math.max(Math.abs(to.row - from.row), Math.abs(to.col - from.col), 1);
  return Array.from({ length: count }, (_, step) => ({
    row: Math.round(from.row + ((to.row - from.row) * (step + 1)) / count),
    col: Math.round(from.col + ((to.col - from.col) * (step + 1)) / count),
  }));
}

/** Slanting lines of `ink` on `paper`, a pattern to fill with; `side` is how far apart they are, in CSS pixels. */
export function hatching(pen, ink, paper, side = 6) {
  const ratio = window.devicePixelRatio || 1;
  const size = Math.round(side * ratio);
  const stamp = h("canvas", { width: size, height: size });
  const brush = stamp.getContext("2d");
  brush.fillStyle = paper;
  brush.fillRect(0, 0, size, size);
  brush.strokeStyle = ink;
  brush.lineWidth = ratio;
  brush.beginPath();
  for (const shift of [-size, 0, size]) {
    brush.moveTo(shift, size);
    brush.lineTo(shift + size, 0);
  }
  brush.stroke();
  const pattern = pen.createPattern(stamp, "repeat");
  pattern.setTransform(new DOMMatrix().scale(1 / ratio));
  return pattern;
}

/**
 * Upright bars with their label and number. `update` takes any of {values, labels, mark, ghosts, level}: `mark` is
 * the index of the bar to point out, `ghosts` are values drawn as dashed outlines, `level` is a dashed line across.
 */
export function bars({ label, domain = [0, 1], height = 190, format: spell = (x) => format(x, 3) }) {
  let data = { values: [], labels: [], mark: null, ghosts: null, level: null };
  const PAD = { top: 20, bottom: 24 };
  const columns = [];
  const base = svg("line", { class: "ab-axis" });
  const level = svg("line", { class: "ab-level" });
  const plot = svg("svg", { height, role: "img", "aria-label": label }, level, base);
  const element = h("div", { class: "ab-bars" }, plot);
  const pen = h("canvas", null).getContext("2d");
  onLook(element, draw);

  function draw() {
    const width = element.clientWidth;
    if (!width) return;
    const { values, labels, mark, ghosts } = data;
    const room = width / Math.max(1, values.length);
    const bar = Math.min(56, room * 0.72);
    const span = height - PAD.top - PAD.bottom;
    const y = (x) => PAD.top + span * (1 - clamp((x - domain[0]) / (domain[1] - domain[0]), 0, 1));
    pen.font = `12px ${getComputedStyle(plot).fontFamily}`;
    patch(plot, { width, viewBox: `0 0 ${width} ${height}` });
    patch(base, { x1: 0, x2: width, y1: y(domain[0]), y2: y(domain[0]) });
    while (columns.length > values.length) columns.pop().group.remove();
    while (columns.length < values.length) columns.push(column());
    columns.forEach((column, i) => {
      const middle = room * (i + 0.5);
      const top = y(values[i]);
      const box = { x: middle - bar / 2, width: bar };
      patch(column.group, { class: i === mark ? "ab-bar ab-marked" : "ab-bar" });
      patch(column.bar, { ...box, y: top, height: Math.max(0, y(domain[0]) - top) });
      patch(column.ghost, ghosts
        ? { ...box, y: y(ghosts[i]), height: y(domain[0]) - y(ghosts[i]), display: ghosts[i] > 0 ? null : "none" }
        : { display: "none" });
      const small = room < 42 ? "font-size:10px" : null;
      patch(column.number, { x: middle, y: top - 6, text: spell(values[i]), style: small });
      const text = ellipsis(labels[i] ?? "", room - 4, (t) => pen.measureText(t).width);
      patch(column.label, { x: middle, y: height - 7, text });
    });
    const across = data.level ?? null;
    patch(level, across === null ? { display: "none" }
      : { x1: 0, x2: width, y1: y(across), y2: y(across), display: null });
    patch(plot, { "aria-label": `${label}: ${values.length ? spoken() : "nothing"}` });
  }

  const spoken = () => Array.from(data.values, (x, i) => `${data.labels[i] ?? i + 1} ${spell(x)}`).join(", ");

  function column() {
    const part = {
      ghost: svg("rect", { class: "ab-ghost" }), bar: svg("rect", { class: "ab-fill" }),
      number: svg("text", { class: "ab-value", "text-anchor": "middle" }),
      label: svg("text", { class: "ab-name", "text-anchor": "middle" }),
    };
    part.group = svg("g", null, part.ghost, part.bar, part.number, part.label);
    plot.append(part.group);
    return part;
  }

  function update(next) {
    data = { ...data, ...next };
    draw();
  }

  return { element, update };
}

/**
 * Arrows on a plane, moved by dragging their heads or, when a head has the focus, by the arrow keys (Shift: ten
 * steps). A vector is {name, x, y, kind: "query" | "key" | "value" | "out", colour, fixed, from: [x, y], dim, stop};
 * fixed ones only show, and Tab passes those by whose `stop` is false. `onMove(index, x, y)` is asked for every
 * move; the caller updates.
 */
export function vectors2d({
  label, domain = [-3, 3], vectors = [], onMove = () => {}, onFocus = () => {}, onHover = () => {}, step = 0.1,
  size = 320, format: spell = (x) => format(x, 2),
}) {
  const arrows = [];
  const ground = svg("g", { class: "ab-ground", "aria-hidden": "true" });
  const sky = svg("g", null);
  const plot = svg("svg", { class: "ab-plane", viewBox: `0 0 ${size} ${size}`, role: "group", "aria-label": label },
    ground, sky);
  const element = h("div", { class: "ab-vectors" }, plot);
  const X = (x) => ((x - domain[0]) / (domain[1] - domain[0])) * size;
  const Y = (y) => size - X(y);

  function drawGround() {
    const span = domain[1] - domain[0];
    const every = [0.25, 0.5, 1, 2, 5, 10, 20, 50, 100].find((e) => span / e <= 8) ?? span / 4;
    const lines = [];
    for (let i = Math.ceil(domain[0] / every); i * every <= domain[1]; i++) {
      const at = i * every;
      const kind = i === 0 ? "ab-axis" : "ab-rule";
      lines.push(svg("line", { class: kind, x1: X(at), x2: X(at), y1: 0, y2: size }),
        svg("line", { class: kind, x1: 0, x2: size, y1: Y(at), y2: Y(at) }));
      if (i && X(at) > 8 && X(at) < size - 8) {
        lines.push(svg("text", { class: "ab-tick", x: X(at), y: Y(0) + 12, "text-anchor": "middle" }, exact(at)),
          svg("text", { class: "ab-tick", x: X(0) - 4, y: Y(at) + 3, "text-anchor": "end" }, exact(at)));
      }
    }
    ground.replaceChildren(...lines);
  }

  function arrow(index) {
    const part = {
      line: svg("line", { class: "ab-shaft" }), head: svg("path", { class: "ab-head" }),
      text: svg("text", { class: "ab-vector-name" }), grip: svg("circle", { class: "ab-grip", r: 14 }),
    };
    const drag = (event) => {
      const box = plot.getBoundingClientRect();
      const at = (fraction) => domain[0] + fraction * (domain[1] - domain[0]);
      ask(index, at((event.clientX - box.left) / box.width), at(1 - (event.clientY - box.top) / box.height), 0.01);
    };
    part.grip.addEventListener("pointerdown", (event) => {
      part.grip.setPointerCapture(event.pointerId);
      part.grip.focus();
      event.preventDefault();
    });
    part.grip.addEventListener("pointermove", (e) => part.grip.hasPointerCapture(e.pointerId) && drag(e));
    part.grip.addEventListener("focus", () => onFocus(index));
    part.grip.addEventListener("blur", () => onFocus(null));
    part.grip.addEventListener("keydown", (event) => {
      const by = step * (event.shiftKey ? 10 : 1);
      const move = { ArrowRight: [by, 0], ArrowLeft: [-by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key];
      if (!move) return;
      event.preventDefault();
      ask(index, vectors[index].x + move[0], vectors[index].y + move[1], 1e-9);
    });
    part.group = svg("g", { onpointerenter: () => onHover(index), onpointerleave: () => onHover(null) },
      part.line, part.head, part.text, part.grip);
    sky.append(part.group);
    return part;
  }

  function ask(index, x, y, grain) {
    const tidy = (a) => clamp(Number((Math.round(a / grain) * grain).toPrecision(9)), domain[0], domain[1]);
    [x, y] = [tidy(x), tidy(y)];
    vectors = vectors.with(index, { ...vectors[index], x, y }); // the next key may come before the caller has drawn
    onMove(index, x, y);
  }

  /** Takes any of {vectors, highlight: index or null, domain}. */
  function update(next) {
    if (next.domain) {
      domain = next.domain;
      drawGround();
    }
    vectors = next.vectors ?? vectors;
    while (arrows.length > vectors.length) arrows.pop().group.remove();
    while (arrows.length < vectors.length) arrows.push(arrow(arrows.length));
    vectors.forEach((vector, i) => draw(arrows[i], vector, i));
    if ("highlight" in next) arrows.forEach((part, i) => patch(part.group, { "data-lit": i === next.highlight }));
  }

  function draw(part, { name, kind = "key", x, y, colour, fixed = false, from = [0, 0], dim = false, stop = true }) {
    const drawn = [name, kind, x, y, colour, fixed, from, dim, stop, domain].join("|");
    if (drawn === part.drawn) return;
    part.drawn = drawn;
    const [x1, y1, x2, y2] = [X(from[0]), Y(from[1]), X(x), Y(y)];
    const length = Math.hypot(x2 - x1, y2 - y1);
    const [ux, uy] = length > 1e-6 ? [(x2 - x1) / length, (y2 - y1) / length] : [0, -1];
    const tip = Math.min(10, length || 10);
    const corner = (side) => `${x2 - tip * ux - side * 0.45 * tip * uy} ${y2 - tip * uy + side * 0.45 * tip * ux}`;
    const style = colour && `--ab-own:${colour}`;
    patch(part.group, { class: `ab-vector ab-kind-${kind}${dim ? " ab-dim" : ""}`, style });
    patch(part.line, { x1, y1, x2: x2 - 0.7 * tip * ux, y2: y2 - 0.7 * tip * uy });
    patch(part.head, { d: `M${x2} ${y2}L${corner(1)}L${corner(-1)}Z` });
    const wide = 7 * name.length + 14; // about what the name needs beside the tip
    const aside = ux > 0.4 && x2 + wide < size ? "start" : ux < -0.4 && x2 > wide ? "end" : "middle";
    const away = aside === "middle" ? (uy > 0 ? 20 : -12) : 13 * uy + 4;
    patch(part.text, {
      text: name, "text-anchor": aside, y: clamp(y2 + away, 12, size - 4),
      x: aside === "middle" ? clamp(x2, wide / 2, size - wide / 2) : x2 + 13 * ux,
    });
    patch(part.grip, fixed ? { display: "none", tabindex: null, role: null } : {
      display: null, cx: x2, cy: y2, tabindex: stop ? "0" : "-1", role: "slider",
      "aria-label": `${name} (${kind}), arrow keys move it`, "aria-roledescription": "2-D slider",
      "aria-valuemin": domain[0], "aria-valuemax": domain[1], "aria-valuenow": x,
      "aria-valuetext": `x ${spell(x)}, y ${spell(y)}`,
    });
  }

  drawGround();
  update({ vectors });
  return { element, update };
}

/**
 * A WAI-ARIA grid over a drawing of equal cells, for the keyboard and for screen readers; only the current cell exists.
 * `describe(cell)` is what is read, `onMove(cell, from, event)` follows the keys, `onActivate(cell)` is Enter or Space,
 * `onKey(event)` sees each key first and returns true for those it has dealt with. `update` takes any of {rows, cols,
 * left, top, width, height}, in CSS pixels; `at(event)` is the cell under a pointer or null, `go(cell)` moves there.
 */
export function cellGrid({ describe, onMove = () => {}, onActivate = () => {}, onKey = () => false, ...attributes }) {
  let data = { rows: 0, cols: 0, left: 0, top: 0, width: 0, height: 0 };
  let current = { row: 0, col: 0 };
  const element = h("div", { class: "ab-cells", role: "grid", ...attributes, onkeydown: pressed });

  function pressed(event) {
    const { rows, cols } = data;
    const { row, col } = current;
    const ends = event.ctrlKey || event.metaKey;
    const to = {
      ArrowRight: [row, col + 1], ArrowLeft: [row, col - 1], ArrowDown: [row + 1, col], ArrowUp: [row - 1, col],
      Home: [ends ? 0 : row, 0], End: [ends ? rows - 1 : row, cols - 1],
    }[event.key];
    const from = current;
    if (onKey(event)) return event.preventDefault();
    if (to) go({ row: clamp(to[0], 0, rows - 1), col: clamp(to[1], 0, cols - 1) });
    else if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (to) onMove(current, from, event);
    else onActivate(current);
  }

  function at(event) {
    const box = element.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * data.rows);
    const col = Math.floor(((event.clientX - box.left) / box.width) * data.cols);
    return row >= 0 && row < data.rows && col >= 0 && col < data.cols ? { row, col } : null;
  }

  /** A new element takes each move's focus, so that a screen reader reads it. */
  function go(cell) {
    current = { row: cell.row, col: cell.col };
    place(true);
  }

  function place(focus) {
    const { rows, cols, width, height } = data;
    current = { row: clamp(current.row, 0, rows - 1), col: clamp(current.col, 0, cols - 1) };
    let item = element.querySelector("[role=gridcell]");
    const old = item?.parentElement;
    if (!item || focus) {
      item = h("div", { role: "gridcell", tabindex: "0", class: "ab-cell" }, h("span", { class: "ab-hidden" }));
      element.append(h("div", { role: "row" }, item));
      if (focus) item.focus({ preventScroll: false });
      old?.remove();
    }
    const [cw, ch] = [width / cols, height / rows];
    patch(item.parentElement, { "aria-rowindex": current.row + 1 });
    patch(item, {
      "aria-colindex": current.col + 1,
      style: `left:${current.col * cw}px;top:${current.row * ch}px;width:${cw}px;height:${ch}px`,
    });
    patch(item.firstChild, { text: describe(current) });
  }

  function update(next) {
    data = { ...data, ...next };
    const { rows, cols, left, top, width, height } = data;
    patch(element, {
      "aria-rowcount": rows, "aria-colcount": cols,
      style: `left:${left}px;top:${top}px;width:${width}px;height:${height}px`,
    });
    if (rows && cols) place(false);
  }

  return { element, update, at, go, get current() { return current; } };
}

/**
 * A cellGrid of booleans to paint on, by hand or by keyboard: a stroke gives all its cells the opposite of its first.
 * `act` has may(cell), paint(cells, value, begins a stroke), undo() and point(cell or null).
 */
export function paintGrid({ label, describe, act }) {
  let stroke = null; // {value, last}: what is being painted, and where the pointer was
  const grid = cellGrid({
    "aria-label": label,
    describe,
    onMove(to, from, event) {
      if (event.shiftKey) act.paint([to], act.may(from), stroke !== "keys");
      stroke = event.shiftKey ? "keys" : null;
      act.point(to);
    },
    onActivate(cell) {
      stroke = null;
      act.paint([cell], !act.may(cell), true);
    },
    onKey(event) {
      const undo = (event.ctrlKey || event.metaKey) && event.key === "z";
      if (undo) act.undo();
      return undo;
    },
    onpointerdown(event) {
      const cell = grid.at(event);
      if (!cell || event.button) return;
      event.preventDefault();
      grid.element.setPointerCapture(event.pointerId);
      grid.go(cell);
      stroke = { value: !act.may(cell), last: cell };
      act.paint([cell], stroke.value, true);
    },
    onpointermove(event) {
      const cell = grid.at(event);
      act.point(cell);
      if (!cell || !stroke?.last || !grid.element.hasPointerCapture(event.pointerId)) return;
      act.paint(cellsBetween(stroke.last, cell), stroke.value, false);
      stroke.last = cell;
    },
    onpointerup: () => (stroke = null),
    onpointercancel: () => (stroke = null),
    onpointerleave: () => act.point(null),
    onfocusin: () => act.point(grid.current),
    onfocusout: () => act.point(null),
  });
  return grid;
}
