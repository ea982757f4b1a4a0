// The Q/K/V explorer: drag a query or a key and watch scores, weights and output follow, number by number.
//
// The state is the model's (attnbook/widgets/qkv.py); everything shown is computed here, on every move, and written
// into elements that already exist. The DOM is built anew only when the number of tokens changes.

import {
  announce, argmax, attention, button, choice, clamp, commit, explorerRoot, format, h, heatmap, isolated, live,
  madeUpVector, onFrame, patch, slider, svg, toggle, tokenRow, uniqueId, vectors2d,
} from "./kit.js";

const SHORTEST = 3;
const LONGEST = 64;
const WIDEST = 64;
const MANY = 12; // tokens, beyond which only what stands out is named and coloured in full
const ROLES = ["q", "k", "v"];
const BREAKS = /[\s\x1c-\x1f\x85]+/; // Python's white space as well as the browser's
const REACH = 3; // what the sliders of components span, and where the starting vectors stay
const DOES = { q: "looks for", k: "offers", v: "hands over" };

/** Rows for other words: the row at its place for a word that stayed there, else its first row, else its default. */
function carried(before, role, words, seed) {
  const width = before[role][0].length;
  return words.map((word, i) => {
    const at = before.tokens[i] === word ? i : before.tokens.indexOf(word);
    return at < 0 ? madeUpVector(word, width, role, seed) : before[role][at];
  });
}

// Masks: named_mask, mask_kind and _carried_mask in qkv.py -----------------------------------------------------------

function namedMask(kind, n, length) {
  const may = { none: () => true, causal: (i, j) => j <= i, padding: (i, j) => j < length }[kind];
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => may(i, j)));
}

function maskKind(mask) {
  const length = mask[0].filter(Boolean).length;
  const same = (other) => other.every((row, i) => row.every((may, j) => may === mask[i][j]));
  const kinds = length ? ["none", "causal", "padding"] : [];
  return kinds.find((kind) => same(namedMask(kind, mask.length, length))) ?? "custom";
}

function carriedMask(mask, n) {
  const kind = maskKind(mask);
  if (kind === "custom") return namedMask("none", n).map((row, i) => row.map((may, j) => mask[i]?.[j] ?? may));
  return namedMask(kind, n, Math.min(n, mask[0].filter(Boolean).length));
}

// Numbers ------------------------------------------------------------------------------------------------------------

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const subscript = (number) => Array.from(String(number), (digit) => SUBSCRIPTS[digit]).join("");
const part = (x) => format(x, 2); // a component of a vector
const derived = (x) => format(x, 3); // whatever is computed from components

/** `spell(c)` for each component c; of more than four only the first two, an ellipsis and the last. */
function abbreviated(width, spell, whole) {
  if (whole || width <= 4) return Array.from({ length: width }, (_, c) => spell(c));
  return [spell(0), spell(1), "…", spell(width - 1)];
}

function tuple(vector, spell, { weight = 1, whole = false } = {}) {
  return `(${abbreviated(vector.length, (c) => spell(weight * vector[c]), whole).join(", ")})`;
}

function products(a, b, { whole = false } = {}) {
  const product = (c) => `(${part(a[c])}\u00a0×\u00a0${part(b[c])})`;
  return abbreviated(a.length, product, whole).join(" + ");
}

/** A text node that is only touched when its text changes, in an element of its own. */
function slot(tag, attributes) {
  const text = document.createTextNode("");
  const element = h(tag, attributes, text);
  return { element, write: (next) => text.data !== next && (text.data = next) };
}

// Parts of the explorer: each is {element, update(view)}; `act` is what they may ask for ------------------------------

/** The reader's own words, read while they are typed; what to keep is judged against the text as it was before. */
function ownText(act) {
  let before = null;
  const id = uniqueId("text");
  const input = h("input", {
    id, class: "ab-text", type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-problem`,
    oninput: read, onfocus: () => (before = act.snapshot()), onblur: () => (before = null),
  });
  const problem = h("span", { id: `${id}-problem`, class: "ab-problem", role: "alert" });

  function read() {
    before ??= act.snapshot();
    const words = input.value.toWellFormed().split(BREAKS).filter(Boolean);
    const fits = words.length >= SHORTEST && words.length <= LONGEST;
    const wanted = words.length < SHORTEST ? `needs at least ${SHORTEST}` : `takes at most ${LONGEST}`;
    const count = `${words.length} ${words.length === 1 ? "word" : "words"}`;
    patch(problem, { text: fits ? "" : `${count}: the explorer ${wanted}. Below is still the last text that fits.` });
    patch(input, { "aria-invalid": fits ? null : "true" });
    if (fits) act.retext(words, before);
  }

  return {
    element: h("div", { class: "qkv-text" }, h("label", { class: "ab-label", for: id }, "Your own text, 3 to 64 words"),
      input, problem),
    update({ tokens }) {
      if (input.value.split(BREAKS).filter(Boolean).join(" ") === tokens.join(" ")) return;
      if (document.activeElement === input && before) return; // being typed, and not yet a text that fits
      input.value = tokens.join(" ");
      patch(problem, { text: "" });
      patch(input, { "aria-invalid": null });
    },
  };
}

/** Which two components a plane shows; there is nothing to choose with one or two. */
function axisPicker(role, act) {
  const selects = ["across", "up"].map((way, axis) => h("select", {
    class: "ab-text", "aria-label": `component of ${role} drawn ${way}`,
    onchange: (event) => act.pick(role, axis, Number(event.target.value)),
  }));
  const element = h("div", { class: "qkv-axes" }, h("span", { class: "ab-label" }, "across"), selects[0],
    h("span", { class: "ab-label" }, "up"), selects[1]);
  return {
    element,
    update(axes, width) {
      element.hidden = width <= 2;
      selects.forEach((select, axis) => {
        while (select.length > width) select.lastChild.remove();
        while (select.length < width) select.append(h("option", { value: select.length }, String(select.length + 1)));
        select.value = axes[axis];
      });
    },
  };
}

const SIDE = 220;

/** How far a plane must reach for all of these points. */
function reach(points) {
  let most = 3;
  for (const point of points) for (const x of point) most = Math.max(most, Math.abs(x));
  return [3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100].find((r) => r >= most) ?? most;
}

/** Keys, and the query of the row in view. Where a key is pointed at, its shadow on the query shows q·k. */
function queryPlane(act) {
  let domain = 3;
  const plane = vectors2d({
    label: "Queries and keys", size: SIDE, step: 0.1,
    onMove: (at, x, y) => act.drag(at === act.n() ? "q" : "k", at === act.n() ? act.row() : at, [x, y]),
    onFocus: (at) => act.link(at === null ? null : at === act.n() ? { row: act.row() } : { col: at }),
    onHover: (at) => act.link(at === null ? null : at === act.n() ? { row: act.row() } : { col: at }),
  });
  const shadow = svg("line", { class: "qkv-shadow" });
  const drop = svg("line", { class: "qkv-drop" });
  const plot = plane.element.querySelector("svg");
  plot.insertBefore(svg("g", { "aria-hidden": "true" }, shadow, drop), plot.lastChild);
  const picker = axisPicker("q", act);
  const note = h("p", { class: "qkv-line" });
  const element = h("figure", { class: "qkv-plane ab-panel" },
    h("figcaption", null, h("b", { class: "qkv-q" }, "q"), " what it looks for · ",
      h("b", { class: "qkv-k" }, "k"), " what each offers"),
    plane.element, picker.element, note);

  function update({ tokens, q, k, axes, row, lit, results, d, scaled, selected }) {
    const at = (vector) => [vector[axes.q[0]], d > 1 ? vector[axes.q[1]] : 0];
    const tips = k.map(at);
    const query = at(q[row]);
    const size = reach([...tips, query]);
    const many = tokens.length > MANY; // Tab then stops at the chosen token's arrows alone
    const weak = (many ? 2.5 : 0.5) / tokens.length;
    plane.update({
      ...(size === domain ? {} : { domain: [-size, size] }),
      vectors: [
        ...tips.map(([x, y], j) => ({
          name: tokens[j], kind: "key", x, y, dim: results.weights[row][j] < weak, stop: !many || j === selected,
        })),
        { name: "q", kind: "query", x: query[0], y: query[1] },
      ],
      highlight: lit.col ?? (lit.row === null ? null : tokens.length),
    });
    domain = size;
    picker.update(axes.q, d);
    const to = (x, sign) => SIDE / 2 + (sign * x * SIDE) / (2 * size);
    const far = query[0] ** 2 + query[1] ** 2;
    const key = lit.col === null || far < 1e-9 ? null : tips[lit.col];
    const share = key && (key[0] * query[0] + key[1] * query[1]) / far;
    const foot = key && [share * query[0], share * query[1]];
    patch(shadow, key ? { x1: to(0, 1), y1: to(0, 1), x2: to(foot[0], 1), y2: to(foot[1], -1), display: null }
      : { display: "none" });
    patch(drop, key ? { x1: to(key[0], 1), y1: to(key[1], -1), x2: to(foot[0], 1), y2: to(foot[1], -1), display: null }
      : { display: "none" });
    const score = lit.col === null ? null : results.scores[row][lit.col] * (scaled ? Math.sqrt(d) : 1);
    patch(note, { text: score === null ? "Bright keys fit the query. Drag a head, or use its arrow keys."
      : `‘${isolated(tokens[row])}’ · ‘${isolated(tokens[lit.col])}’: q·k = ${derived(score)}` });
  }

  return { element, update };
}

/** Values as they are (pale) and, laid head to tail, as the row in view weighs them: they end where out is. */
function valuePlane(act) {
  let domain = 3;
  let count = 0; // arrows: the values, the links of the chain, out
  const n = act.n;
  const which = (at) => (at === null ? null : at < count - 1 ? { col: at % n() } : { row: act.row() });
  const plane = vectors2d({
    label: "Values, and their weighted sum", size: SIDE, step: 0.1,
    onMove: (at, x, y) => act.drag("v", at, [x, y]),
    onFocus: (at) => act.link(which(at)),
    onHover: (at) => act.link(which(at)),
  });
  const trail = svg("path", { class: "qkv-trail", "aria-hidden": "true" });
  const plot = plane.element.querySelector("svg");
  plot.insertBefore(trail, plot.lastChild);
  const picker = axisPicker("v", act);
  const note = h("p", { class: "qkv-line" });
  const element = h("figure", { class: "qkv-plane ab-panel" },
    h("figcaption", null, h("b", { class: "qkv-v" }, "v"), " what each hands over · weighed, end to end: ",
      h("b", { class: "qkv-o" }, "out")),
    plane.element, picker.element, note);

  function update({ tokens, v, axes, row, lit, results, dv, selected }) {
    const at = (vector) => [vector[axes.v[0]], dv > 1 ? vector[axes.v[1]] : 0];
    const tips = v.map(at);
    const size = reach(tips);
    const joints = [[0, 0]];
    results.weights[row].forEach((weight, j) => {
      joints.push([joints[j][0] + weight * tips[j][0], joints[j][1] + weight * tips[j][1]]);
    });
    const many = tokens.length > MANY; // the links are then too short for heads: one line does
    const chain = many ? [] : tips.map((_, j) =>
      ({ name: "", kind: "value", fixed: true, from: joints[j], x: joints[j + 1][0], y: joints[j + 1][1] }));
    const pixel = ([x, y]) => `${(SIDE / 2) * (1 + x / size)} ${(SIDE / 2) * (1 - y / size)}`;
    patch(trail, { d: many ? `M${joints.map(pixel).join("L")}` : null });
    const [x, y] = at(results.out[row]);
    plane.update({
      ...(size === domain ? {} : { domain: [-size, size] }),
      vectors: [
        ...tips.map(([x, y], j) => ({
          name: tokens[j], kind: "value", dim: true, x, y, stop: !many || j === selected,
        })),
        ...chain, { name: "out", kind: "out", fixed: true, x, y },
      ],
      highlight: lit.col === null ? null : lit.col + chain.length,
    });
    domain = size;
    count = tokens.length + chain.length + 1;
    picker.update(axes.v, dv);
    patch(note, { text: lit.col === null ? `‘${isolated(tokens[row])}’: out = ${tuple(results.out[row], derived)}`
      : `${derived(results.weights[row][lit.col])} × v of ‘${isolated(tokens[lit.col])}’ ${tuple(v[lit.col], part)}` });
  }

  return { element, update };
}

/** A slider for each shown component of the chosen token's q, k and v. */
function knobs(act) {
  const title = h("h4", { class: "qkv-caption" });
  const groups = ["q", "k", "v"].map((role) => {
    const sliders = [0, 1].map((axis) => slider({
      label: role, min: -REACH, max: REACH, step: 0.1, value: 0, limits: [-100, 100],
      onInput: (x) => act.knob(role, axis, x),
    }));
    const label = `${role}, what it ${DOES[role]}`;
    const element = h("div", { class: `qkv-knobs qkv-of-${role}`, role: "group", "aria-label": label },
      h("span", { class: "ab-label" }, h("b", { class: `qkv-${role}` }, role), ` ${DOES[role]}`),
      sliders.map((each) => each.element));
    return { role, sliders, element };
  });
  const reset = button("Reset all vectors", act.reset);
  const element = h("div", { class: "qkv-numbers ab-panel" }, title, groups.map((group) => group.element), reset);

  function update({ tokens, selected, axes, ...rest }) {
    patch(title, { text: `The numbers of ‘${isolated(tokens[selected])}’` });
    for (const { role, sliders } of groups) {
      const vector = rest[role][selected];
      const shown = axes[role === "v" ? "v" : "q"];
      sliders.forEach((each, axis) => {
        each.element.hidden = axis === 1 && vector.length === 1;
        if (each.element.hidden) return;
        each.setLabel(`${role}${subscript(shown[axis] + 1)}`);
        if (!each.range.matches(":active")) each.setRange(-REACH, REACH); // never under the hand that drags it
        each.set(vector[shown[axis]]);
      });
    }
  }

  return { element, update };
}

/** What turns scores into weights. */
function settings(act) {
  const mask = choice({
    label: "Mask", value: "none", onChange: act.maskTo,
    options: ["none", "causal", "padding", "custom"].map((kind) => ({ value: kind, label: kind })),
  });
  const length = slider({
    label: "real tokens, the rest is padding", min: 1, max: LONGEST, step: 1, value: 1, format: String,
    onInput: (x) => act.pad(Math.round(x)),
  });
  const scaled = toggle({ label: "divide by √d_k", checked: true, onChange: (on) => act.change({ scaled: on }) });
  const temperature = slider({
    label: "temperature T", min: 0.1, max: 10, value: 1, scale: "log", limits: [0.001, 1000],
    onInput: (x) => act.change({ temperature: x }),
  });
  const width = slider({
    label: "d_k, numbers in each vector", min: 1, max: WIDEST, step: 1, value: 2, format: String,
    onInput: (x) => act.widen(Math.round(x)),
  });
  const element = h("div", { class: "qkv-settings" }, mask.element, scaled.element, length.element, width.element,
    temperature.element);
  return {
    element,
    update({ tokens, kind, padding, ...view }) {
      mask.set(kind);
      length.element.hidden = kind !== "padding";
      length.setRange(1, tokens.length);
      length.set(Math.max(1, padding));
      scaled.set(view.scaled);
      temperature.set(view.temperature);
      width.set(view.d);
    },
  };
}

/** The least of a few round numbers that no weight exceeds: among many tokens, colours up to 1 would all be dark. */
function ceiling(weights) {
  let most = 0;
  for (const row of weights) for (const weight of row) most = Math.max(most, weight);
  return [0.1, 0.25, 0.5].find((round) => most <= round) ?? 1;
}

/** scores → weights → out. */
function maps(act) {
  const caption = (name) => [h("b", null, name), " ", h("span", { class: "qkv-formula" })];
  const common = { maxCell: 38, maxHeight: 420, onHover: (cell) => act.link(cell) };
  const scores = heatmap({ ...common, label: caption("scores"), palette: "diverging", onActivate: act.toggleCell });
  const weights = heatmap({ ...common, label: caption("weights"), domain: [0, 1], onActivate: act.toggleCell });
  const out = heatmap({
    ...common, label: caption("out"), palette: "diverging", colTitle: "component",
    onHover: (cell) => act.link(cell && { row: cell.row, component: cell.col }),
    onActivate: (cell) => act.select(cell.row),
  });
  const all = [scores, weights, out];
  const formulas = all.map((map) => map.element.querySelector(".qkv-formula"));
  const pictures = h("div", { class: "qkv-maps" }, all.map((map) => map.element));
  const told = slot("p", { class: "qkv-told" });
  const element = h("div", null, pictures, told.element);
  let components = [];

  function update({ tokens, mask, kind, results, temperature, scaled, d, dv, ...view }) {
    if (components.length !== dv) components = Array.from({ length: dv }, (_, c) => String(c + 1));
    const grid = { rows: tokens, cols: tokens, mask: kind === "none" ? null : mask };
    patch(formulas[0], { text: scaled ? `q·k / √${d}` : "q·k" });
    const softmaxed = temperature === 1 ? "softmax of each row" : `softmax(row / ${format(temperature, 2)})`;
    patch(formulas[1], { text: softmaxed });
    patch(formulas[2], { text: "weights × v" });
    scores.update({ ...grid, values: results.scores });
    const top = tokens.length > MANY ? ceiling(results.weights) : 1;
    weights.update({ ...grid, values: results.weights, domain: [0, top] });
    out.update({ rows: tokens, cols: components, values: results.out });
    patch(pictures, {
      "data-many": Math.max(tokens.length, dv) > 24, style: `--qkv-n:${tokens.length};--qkv-d:${dv}`,
    });
    point({ tokens, mask, results, ...view });
  }

  function point({ tokens, mask, results, lit, row }) {
    for (const map of all) map.update({ highlight: { row, col: map === out ? null : lit.col } });
    const j = lit.col;
    const c = lit.component;
    if (c !== null) {
      told.write(`Out of ‘${isolated(tokens[row])}’, component ${c + 1}: ${derived(results.out[row][c])}`);
    } else if (j !== null) {
      told.write(`Query ‘${isolated(tokens[row])}’, key ‘${isolated(tokens[j])}’: ` +
        `score ${derived(results.scores[row][j])}` +
        `${mask[row][j] ? "" : ", masked"}, weight ${derived(results.weights[row][j])}`);
    } else {
      told.write("Point at anything to find it everywhere. Click a score or weight (or press Enter on it) to mask it.");
    }
  }

  return { element, update, point };
}

/** One token's whole calculation: two lines for each key, and the sum, which is out. */
function sums(act) {
  const title = h("h4", { class: "qkv-caption" });
  const lead = slot("p");
  const grid = h("div", {
    class: "qkv-rows", role: "grid", onkeydown: onKey, onfocusin: point, onfocusout: () => act.link(null),
    onpointerover: point, onpointerleave: () => act.link(null), onclick: onClick,
  });
  const element = h("div", { class: "qkv-sums ab-panel" }, title, lead.element, grid);
  const CELLS = ["terms", "dot", "scale", "heat", "exp", "weight", "part"];
  const full = { terms: slot("p"), part: slot("p") };
  const detail = h("div", { role: "row" },
    h("div", { class: "qkv-full", role: "gridcell" }, full.terms.element, full.part.element));
  let rows = [];
  let open = null;
  let view = null;
  let dots = [];

  const indexOf = (target) => rows.findIndex((row) => row.element.contains(target));

  function point(event) {
    const at = indexOf(event.target);
    act.link(at >= 0 && at < rows.length - 1 ? { row: view.selected, col: at } : null);
  }

  function onClick(event) {
    if (event.target.closest("button")) toggleDetail(indexOf(event.target));
  }

  function onKey(event) {
    const at = rows.findIndex((row) => row.element === event.target);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined) focus(clamp(to, 0, rows.length - 1));
    else if (event.key === "Enter" || event.key === " ") toggleDetail(at);
    else return;
    event.preventDefault();
  }

  function focus(at) {
    rows.forEach((row, i) => patch(row.element, { tabindex: i === at ? "0" : "-1" }));
    rows[at].element.focus();
  }

  function toggleDetail(at) {
    if (Math.max(view.d, view.dv) <= 4) return;
    open = open === at ? null : at;
    showDetail();
  }

  function showDetail() {
    rows.forEach(({ more }, at) => {
      patch(more, { "aria-expanded": String(at === open), text: at === open ? "less" : "all" });
    });
    if (open === null) return detail.remove();
    if (rows[open].element.nextSibling !== detail) rows[open].element.after(detail);
    const { q, k, v, selected, results } = view;
    const last = open === rows.length - 1;
    const weight = results.weights[selected][open];
    full.terms.write(last ? "" : `q·k = ${products(q[selected], k[open], { whole: true })} = ${derived(dots[open])}`);
    full.part.write(last ? `out = ${tuple(results.out[selected], derived, { whole: true })}`
      : `${derived(weight)} × ${tuple(v[open], part, { whole: true })} = ` +
        tuple(v[open], derived, { weight, whole: true }));
  }

  /** A row's cells each read "what is done = what comes of it". */
  function line(kind, cells, index) {
    const name = slot("span", null);
    const slots = cells.map((cell) => [slot("span", { class: "qkv-how" }), slot("span"), cell]);
    const more = button("all", () => {}, { class: "ab-button qkv-more", tabindex: "-1" });
    const element = h("div", { class: kind, role: "row", tabindex: index ? "-1" : "0" },
      h("div", { class: "qkv-name", role: "rowheader" }, name.element, more),
      slots.map(([how, result, cell]) =>
        h("div", { class: `qkv-${cell}`, role: "gridcell" }, how.element, result.element)));
    const write = (label, texts) => {
      name.write(label);
      slots.forEach(([how, result], c) => {
        how.write(texts[c][0]);
        result.write(texts[c][1]);
      });
    };
    return { element, more, write };
  }

  function build(n) {
    open = null;
    detail.remove();
    rows = Array.from({ length: n }, (_, j) => line("qkv-row", CELLS, j));
    rows.push(line("qkv-row qkv-total", ["exp", "weight", "part"], n));
    grid.replaceChildren(...rows.map((row) => row.element));
  }

  function update(next) {
    view = next;
    const { tokens, q, k, v, mask, selected: i, results, scaled, temperature, d, dv } = view;
    const n = tokens.length;
    if (rows.length !== n + 1) build(n);
    const [scores, weights] = [results.scores[i], results.weights[i]];
    dots = scores.map((score) => (scaled ? score * Math.sqrt(d) : score));
    const heated = scores.map((score) => score / temperature);
    let max = -Infinity;
    for (let j = 0; j < n; j++) if (mask[i][j]) max = Math.max(max, heated[j]);
    const exps = heated.map((s, j) => (mask[i][j] ? Math.exp(s - max) : 0));
    const total = exps.reduce((sum, x) => sum + x, 0);
    const nothing = max === -Infinity;
    patch(element, { "data-scaled": scaled, "data-heated": temperature !== 1, "data-wide": Math.max(d, dv) > 4 });
    patch(title, { text: `How ‘${isolated(tokens[i])}’ gets its out, number by number` });
    const longest = Math.max(...tokens.map((token) => token.length));
    const width = `--qkv-name:${clamp(longest, 3, 12)}ch`;
    patch(grid, { "aria-label": `The arithmetic of ‘${isolated(tokens[i])}’`, style: width });
    const score = temperature === 1 ? "score" : "score ÷ T";
    lead.write(nothing ? `‘${isolated(tokens[i])}’ may attend to nothing, so its weights and its out are zero.`
      : `‘${isolated(tokens[i])}’ asks with q = ${tuple(q[i], part)}. Its largest ${score} is ${derived(max)}, ` +
        `the max that softmax takes away first; the exps add up to ${derived(total)}.`);
    const root = `÷ √${d} = `;
    const heat = `÷ ${format(temperature, 2)} = `;
    const share = `÷ ${derived(total)} = `;
    for (let j = 0; j < n; j++) {
      rows[j].write(tokens[j], [
        [products(q[i], k[j]), ""], ["q·k = ", derived(dots[j])],
        [root, derived(scores[j])], [heat, derived(heated[j])],
        mask[i][j] ? [`exp(${derived(heated[j])} − max) = `, derived(exps[j])] : ["masked: ", "0"],
        nothing ? ["weight ", "0"] : [share, derived(weights[j])],
        [`× ${tuple(v[j], part)} = `, tuple(v[j], derived, { weight: weights[j] })],
      ]);
      patch(rows[j].element, { "data-masked": !mask[i][j] });
    }
    const shared = weights.reduce((sum, weight) => sum + weight, 0);
    const out = tuple(results.out[i], derived);
    rows[n].write("sum", [["exps: ", derived(total)], ["weights: ", derived(shared)], ["out = ", out]]);
    if (Math.max(d, dv) <= 4) open = null;
    showDetail();
  }

  function mark({ lit }) {
    rows.forEach((row, j) => patch(row.element, { "data-lit": j === lit.col }));
  }

  return { element, update, point: mark };
}

// The whole --------------------------------------------------------------------------------------------------------

const INPUTS = ["tokens", "q", "k", "v", "mask", "scaled", "temperature"];

function render({ model, el }) {
  const s = {}; // the model's inputs, as last read
  const ui = { selected: 2, hover: null, kind: "none", axes: { q: [0, 1], v: [0, 1] } };
  let results = null; // of what is drawn
  let spare = null; // {tokens, q, k, v}: components that a smaller d_k left out, for when it grows again
  let changed = false; // whether the reader has changed something that is not drawn yet

  const act = {
    n: () => s.tokens.length,
    row: () => ui.hover?.row ?? ui.selected,
    snapshot: () => ({ ...s }),
    change,
    select(index) {
      ui.selected = index;
      redraw();
    },
    link(place) {
      if (["row", "col", "component"].every((name) => place?.[name] === ui.hover?.[name])) return;
      ui.hover = place;
      if (!changed) point();
    },
    drag(role, index, point) {
      const row = [...s[role][index]];
      axes(role).slice(0, row.length).forEach((c, axis) => (row[c] = point[axis]));
      change({ [role]: s[role].with(index, row) });
    },
    knob(role, axis, x) {
      change({ [role]: s[role].with(ui.selected, s[role][ui.selected].with(axes(role)[axis], x)) });
    },
    pick(role, axis, component) {
      ui.axes[role][axis] = component;
      redraw();
    },
    reset() {
      spare = null;
      change(Object.fromEntries(ROLES.map((role) => [role, fresh(role, s[role][0].length)])));
    },
    retext(words, before) {
      const rows = Object.fromEntries(ROLES.map((role) => [role, carried(before, role, words, seed())]));
      change({ tokens: words, ...rows, mask: carriedMask(before.mask, words.length) });
    },
    widen(width) {
      const roles = s.v[0].length === s.q[0].length ? ROLES : ["q", "k"];
      spare = { tokens: s.tokens, ...Object.fromEntries(ROLES.map((role) => [role, whole(role)])) };
      const resize = (role) => fresh(role, width).map((row, i) => row.map((x, c) => spare[role][i][c] ?? x));
      change(Object.fromEntries(roles.map((role) => [role, resize(role)])));
    },
    maskTo(kind) {
      ui.kind = kind;
      if (kind === "custom") redraw();
      else change({ mask: namedMask(kind, s.tokens.length, Math.max(1, s.tokens.length - 2)) });
    },
    pad(length) {
      ui.kind = "padding";
      change({ mask: namedMask("padding", s.tokens.length, length) });
    },
    toggleCell({ row, col }) {
      const mask = s.mask.with(row, s.mask[row].with(col, !s.mask[row][col]));
      ui.kind = mask.flat().every(Boolean) ? "none" : "custom";
      change({ mask });
    },
  };

  const axes = (role) => ui.axes[role === "v" ? "v" : "q"];
  const seed = () => model.get("seed") ?? 0;
  /** The rows as they were at their widest, with what has changed since. */
  const whole = (role) => carried(spare ?? s, role, s.tokens, seed()).map((row, i) =>
    [...s[role][i], ...row.slice(s[role][i].length)]);
  const fresh = (role, width) => s.tokens.map((word) => madeUpVector(word, width, role, seed()));
  const text = ownText(act);
  const words = tokenRow({
    label: "Tokens: choose whose query asks", selected: ui.selected, onSelect: act.select,
    onHover: (at) => act.link(at === null ? null : { row: at, col: at }),
  });
  const [asking, handing, numbers, controls, pictures, arithmetic] =
    [queryPlane, valuePlane, knobs, settings, maps, sums].map((make) => make(act));
  const root = explorerRoot("qkv", "Query, key and value explorer",
    text.element,
    h("div", { class: "qkv-ask" }, h("span", { class: "ab-label" }, "Who asks?"), words.element),
    h("div", { class: "qkv-body" },
      h("div", { class: "qkv-move" }, asking.element, handing.element, numbers.element),
      h("div", { class: "qkv-see" }, controls.element, pictures.element, arithmetic.element)));

  function change(changes) {
    Object.assign(s, changes);
    settle();
    commit(model, changes);
    changed = true;
    schedule();
  }

  /** One frame's worth: however many moves came in since the last, they are computed and drawn once. */
  function draw() {
    if (!pull() && !changed) return;
    redraw();
    if (!changed) return;
    changed = false;
    const weights = results.weights[ui.selected];
    const most = argmax(weights);
    announce(root, `${s.tokens[ui.selected]} attends most to ${s.tokens[most]}, weight ${part(weights[most])}`);
  }

  function view() {
    return {
      ...s, ...ui, results, d: s.q[0].length, dv: s.v[0].length, row: act.row(),
      padding: s.mask[0].filter(Boolean).length, lit: { row: null, col: null, component: null, ...ui.hover },
    };
  }

  /** What is chosen and pointed at must exist. */
  function settle() {
    const n = s.tokens.length;
    ui.selected = Math.min(ui.selected, n - 1);
    if (ui.hover && !((ui.hover.row ?? 0) < n && (ui.hover.col ?? 0) < n)) ui.hover = null;
    if (ui.hover?.component >= s.v[0].length) ui.hover = null;
    for (const [role, width] of [["q", s.q[0].length], ["v", s.v[0].length]]) {
      ui.axes[role] = ui.axes[role].map((c, axis) => (c < width ? c : Math.min(axis, width - 1)));
    }
  }

  /** Everything that depends on the numbers. */
  function redraw() {
    settle();
    const scale = s.scaled ? 1 / Math.sqrt(s.q[0].length) : 1;
    results = attention({ q: s.q, k: s.k, v: s.v, mask: s.mask, scale, temperature: s.temperature });
    const now = view();
    patch(root, { "data-many": s.tokens.length > MANY });
    words.update({ tokens: s.tokens, selected: ui.selected, highlight: now.lit.row ?? now.lit.col });
    for (const each of [text, asking, handing, numbers, controls, pictures, arithmetic]) each.update(now);
    arithmetic.point(now);
  }

  /** Only what shows where the reader points. */
  function point() {
    const now = view();
    words.update({ highlight: now.lit.row ?? now.lit.col });
    for (const each of [asking, handing]) each.update(now);
    for (const each of [pictures, arithmetic]) each.point(now);
  }

  /** What Python, or another view, has set. Traits arrive one by one: wait until they fit each other. */
  function pull() {
    const next = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    const n = next.tokens.length;
    const fits = ["q", "k", "v", "mask"].every((name) => next[name].length === n) && next.mask[0].length === n &&
      next.q[0].length === next.k[0].length;
    if (!fits || INPUTS.every((name) => next[name] === s[name])) return false;
    if (next.mask !== s.mask) ui.kind = maskKind(next.mask);
    Object.assign(s, next);
    return true;
  }

  function state() {
    schedule.flush();
    const plain = Object.entries(results).map(([name, rows]) => [name, rows.map((row) => Array.from(row))]);
    return { ...s, selected: ui.selected, ...Object.fromEntries(plain) };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

export default { render };
