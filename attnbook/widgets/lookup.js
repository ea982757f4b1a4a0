// Soft lookup: points on a line, each with a key (where it lies) and a value (what it holds). A query attends to
// them by distance, and its answer is the weighted sum of the values: Nadaraya–Watson kernel regression.
import {
  announce, argmax, clamp, commit, dot, entropy, exact, explorerRoot, format, h, live, onFrame, onLook, patch,
  roundStep, slider, softmax, svg, uniqueId,
} from "./kit.js";

const SCENE = 230; // height in px of the points and the curve
const STRIP = 110; // height in px of the weights below them
const PAD = { left: 40, right: 14, top: 12, strip: 26, bottom: 30 };
const COLUMNS = ["key", "value", "score −(q−k)²/2h²", "weight", "weight · value"];
const HEIGHT = PAD.top + SCENE + PAD.strip + STRIP + PAD.bottom;

function render({ model, el }) {
  const points = []; // one group of marks for each key
  let current = 0; // the point that the Tab key reaches
  let view = null; // the mapping of keys and values to pixels, and the curve drawn with it
  const focusable = svg("g", { role: "group", "aria-label": "Points; the arrow keys go from one to the next" });
  const frame = svg("g", { "aria-hidden": "true" });
  const curve = svg("path", { class: "ab-curve" });
  const nearest = svg("path", { class: "ab-nearest" });
  const bell = svg("path", { class: "ab-bell" });
  const line = svg("line", { class: "ab-query-line" });
  const handle = svg("circle", { class: "ab-query-handle", r: 7 });
  const across = svg("line", { class: "ab-across" });
  const answer = svg("path", { class: "ab-answer", d: "M0-8L8 0L0 8L-8 0Z" });
  const stems = svg("g", null);
  const numbers = svg("g", { "aria-hidden": "true" });
  const scale = svg("text", { class: "ab-tick", "text-anchor": "end", "aria-hidden": "true" });
  const clip = uniqueId("clip");
  const opening = svg("rect", { y: PAD.top, height: SCENE });
  const picture = { height: HEIGHT, class: "ab-lookup", role: "group", "aria-label": "Keys across, values up" };
  const plot = svg("svg", picture,
    svg("clipPath", { id: clip }, opening), frame, scale,
    svg("g", { "aria-hidden": "true" }, bell, stems, svg("g", { "clip-path": `url(#${clip})` }, nearest, curve), across,
      line),
    numbers, focusable,
    svg("g", { "aria-hidden": "true" }, answer, handle));
  const scene = h("div", { class: "ab-scene" }, plot);
  const query = slider({
    label: "Query q", min: 0, max: 1, limits: [-2e15, 2e15], value: model.get("query"), format: brief,
    onInput: (x) => commit(model, { query: x }),
  });
  const width = slider({
    label: "Bandwidth h", min: 0.01, max: 10, scale: "log", limits: [1e-12, 1e15], value: model.get("bandwidth"),
    format: brief, onInput: (x) => commit(model, { bandwidth: x }),
  });
  const out = h("output", { "data-read": "out" });
  const limit = h("span", { "data-read": "nearest" });
  const reach = h("span", { "data-read": "reach" });
  const body = h("tbody");
  const table = h("details", { ontoggle: () => draw() },
    h("summary", null, "The arithmetic, point by point"),
    h("div", { class: "ab-scroll", tabindex: "0", role: "region", "aria-label": "Arithmetic" },
      h("table", null,
        h("thead", null, h("tr", null, COLUMNS.map((title) => h("th", { scope: "col" }, title)))), body)));
  const root = explorerRoot("lookup", "Soft lookup explorer",
    h("div", { class: "ab-keys" },
      h("span", null, h("i", { class: "ab-key-curve" }), "answer for every query"),
      h("span", null, h("i", { class: "ab-key-nearest" }), "limit h → 0: the nearest key’s value"),
      h("span", null, h("i", { class: "ab-key-dot" }), "points, as large as their weight")),
    scene,
    h("div", { class: "ab-split" }, h("div", { class: "ab-panel" }, query.element), h("div", { class: "ab-panel" },
      width.element)),
    h("p", { class: "ab-answer-line" }, "out = Σ weight · value = ", out, h("span", { class: "ab-note" },
      " · nearest key alone: ", limit, " · spread over ", reach, " points (eᴴ)")),
    table);

  const schedule = onFrame(draw);
  const leave = live(model, ["keys_", "values", "query", "bandwidth"], { el, root, schedule, state });
  onLook(scene, () => draw((view = null)));
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && follow(event));
  focusable.addEventListener("keydown", onKey);
  focusable.addEventListener("focusin", (event) => {
    current = points.findIndex((point) => point.group === event.target);
    draw();
  });
  draw();

  function state() {
    const [keys, values] = [Array.from(model.get("keys_")), Array.from(model.get("values"))];
    const [q, bandwidth] = [model.get("query"), model.get("bandwidth")];
    const weights = Array.from(weigh(keys, q, bandwidth));
    return {
      keys, values, query: q, bandwidth, weights, out: dot(weights, values), nearest: lookUp(keys, values, q),
      entropy: entropy(weights),
    };
  }

  function draw() {
    const now = state();
    if (now.keys.length !== now.values.length) return; // the other trait is still on its way from Python
    const plotWidth = scene.clientWidth;
    const key = JSON.stringify([plotWidth, now.keys, now.values]);
    if (plotWidth && view?.key !== key) look(now, plotWidth, key);
    if (view && view.bandwidth !== now.bandwidth) drawCurve(now);
    drawControls(now);
    if (view) drawQuery(now);
    if (table.open) drawTable(now);
    patch(out, { text: format(now.out) });
    patch(limit, { text: format(now.nearest) });
    patch(reach, { text: format(Math.exp(now.entropy), 1) });
    announce(root, `query ${brief(now.query)}, bandwidth ${brief(now.bandwidth)}, out ${format(now.out)}`);
  }

  function drawControls({ keys, query: q, bandwidth }) {
    const [low, high] = span(keys);
    const shown = [Math.min(low, q), Math.max(high, q)].join();
    if (query.shown !== shown) {
      query.setRange(...(query.shown = shown).split(",").map(Number), roundStep((high - low) / 200));
    }
    if (query.value !== q) query.set(q);
    const widest = Number((2 * (high - low)).toPrecision(1));
    const widths = [Math.min(widest / 4000, bandwidth), Math.max(widest, bandwidth)].join();
    if (width.shown !== widths) width.setRange(...(width.shown = widths).split(",").map(Number));
    if (width.value !== bandwidth) width.set(bandwidth);
  }

  /** What stays while the sliders move: the axes, the nearest key's value, one group of marks for each point. */
  function look({ keys, values }, plotWidth, key) {
    const [x0, x1] = span(keys);
    const [y0, y1] = span(values);
    const right = plotWidth - PAD.right;
    const longest = Math.max(...ticks(y0, y1, 5).map((y) => exact(y).length));
    const left = Math.max(PAD.left, 12 + 7 * longest); // a digit of the scale takes up to 7 pixels
    const X = (x) => left + ((x - x0) / (x1 - x0)) * (right - left);
    const Y = (y) => PAD.top + SCENE * (1 - (y - y0) / (y1 - y0));
    view = { key, X, Y, x0, x1, left, right, base: HEIGHT - PAD.bottom };
    patch(plot, { width: plotWidth, viewBox: `0 0 ${plotWidth} ${HEIGHT}` });
    patch(opening, { x: left, width: right - left });
    patch(scale, { x: left - 6 });
    const sorted = [...new Set(keys)].sort((a, b) => a - b);
    const borders = [x0, ...sorted.slice(1).map((k, i) => (k + sorted[i]) / 2), x1];
    patch(nearest, { d: polyline(sorted.flatMap((k, i) => {
      const y = Y(lookUp(keys, values, k));
      return [[X(borders[i]), y], [X(borders[i + 1]), y]];
    })) });
    frame.replaceChildren(...axes(x0, x1, y0, y1));
    while (points.length > keys.length) Object.values(points.pop()).forEach((mark) => mark.remove());
    while (points.length < keys.length) points.push(point());
    current = Math.min(current, keys.length - 1);
  }

  function drawCurve({ keys, values, bandwidth }) {
    const { X, Y, x0, x1, left, right } = view;
    view.bandwidth = bandwidth;
    const steps = Math.ceil((right - left) / 2);
    const at = Array.from({ length: steps + 1 }, (_, i) => x0 + ((x1 - x0) * i) / steps);
    patch(curve, { d: polyline(at.map((x) => [X(x), Y(dot(weigh(keys, x, bandwidth), values))])) });
  }

  function axes(x0, x1, y0, y1) {
    const { X, Y, left, right, base } = view;
    const text = (attributes, content) => svg("text", { class: "ab-tick", ...attributes }, content);
    const floor = PAD.top + SCENE;
    const wide = 7 * Math.max(exact(x0).length, exact(x1).length); // of a key's label, as timestamps have them
    const many = Math.max(2, Math.floor(right / Math.max(80, wide + 24)));
    return [
      ...ticks(y0, y1, 5).flatMap((y) => [
        svg("line", { class: "ab-rule", x1: left, x2: right, y1: Y(y), y2: Y(y) }),
        text({ x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, exact(y))]),
      ...ticks(x0, x1, many).map((x) =>
        text({ x: Math.max(X(x), wide / 2), y: base + 14, "text-anchor": "middle" }, exact(x))),
      svg("line", { class: "ab-axis", x1: left, x2: right, y1: floor, y2: floor }),
      svg("line", { class: "ab-axis", x1: left, x2: right, y1: base, y2: base }),
      text({ x: 2, y: PAD.top + 2 - 4 }, "value"), text({ x: 2, y: floor + 20 }, "weight"),
      text({ x: right, y: base + 27, "text-anchor": "end" }, "key"),
    ];
  }

  function point() {
    const marks = {
      group: svg("g", { class: "ab-point", role: "button" }), stem: svg("line", { class: "ab-stem" }),
      number: svg("text", { class: "ab-weight", "text-anchor": "middle" }),
    };
    marks.ring = svg("circle", { class: "ab-ring", r: 13 });
    marks.dot = svg("circle", { class: "ab-dot" });
    marks.group.append(marks.ring, marks.dot);
    focusable.append(marks.group);
    stems.append(marks.stem);
    numbers.append(marks.number);
    return marks;
  }

  function drawQuery({ keys, values, query: q, bandwidth, weights, out: result }) {
    const { X, Y, x0, x1, left, base } = view;
    const full = [0.125, 0.25, 0.5].find((most) => Math.max(...weights) <= most) ?? 1; // what the strip's top is
    const height = (weight) => ((STRIP - 18) * weight) / full;
    patch(scale, { y: base - height(full) + 4, text: exact(full) });
    points.forEach((mark, i) => {
      const weight = format(weights[i]);
      const place = { cx: X(keys[i]), cy: Y(values[i]) };
      patch(mark.dot, { ...place, r: (3 + 10 * Math.sqrt(weights[i])).toFixed(2) });
      patch(mark.ring, place);
      patch(mark.group, { tabindex: i === current ? "0" : "-1",
        "aria-label": `point ${i + 1} of ${keys.length}: key ${brief(keys[i])}, value ${brief(values[i])}, ` +
          `weight ${weight}; Enter puts the query here` });
      patch(mark.stem, { x1: X(keys[i]), x2: X(keys[i]), y1: base, y2: base - height(weights[i]) });
    });
    drawNumbers(keys, weights, (weight) => base - height(weight));
    const peak = weights[argmax(weights)] / Math.exp(score(keys[argmax(weights)], q, bandwidth));
    drawBell(q, bandwidth, (x) => height(peak * Math.exp(score(x, q, bandwidth))), peak);
    const at = clamp(X(q), X(x0), X(x1));
    patch(line, { x1: at, x2: at, y1: PAD.top, y2: base });
    patch(handle, { cx: at, cy: base });
    patch(answer, { transform: `translate(${at} ${Y(result)})` });
    patch(across, { x1: left, x2: at, y1: Y(result), y2: Y(result) });
  }

  /** The weights as numbers at their stems' tips, the largest first; one that finds no free place is left out. */
  function drawNumbers(keys, weights, tip) {
    const { X } = view;
    const taken = [];
    const places = [[0, -5, "middle"], [0, -17, "middle"]];
    const boxes = (i) => places.map(([dx, dy, anchor]) => {
      const [x, y] = [X(keys[i]) + dx, Math.min(tip(weights[i]) + dy, view.base - 4)];
      return { x, y, anchor, left: x - { middle: 16, start: 0, end: 32 }[anchor] };
    });
    const apart = (a, b) => Math.abs(a.left - b.left) > 33 || Math.abs(a.y - b.y) > 11;
    const clear = (box) => taken.every((other) => apart(box, other));
    for (const i of Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a])) {
      const free = weights[i] >= 0.0005 && boxes(i).find(clear);
      if (free) taken.push(free);
      patch(points[i].number, free
        ? { x: free.x, y: free.y, "text-anchor": free.anchor, text: format(weights[i]), display: null }
        : { display: "none" });
    }
  }

  /** The kernel around the query, scaled so that it passes through the stems' tips. */
  function drawBell(q, bandwidth, tip, peak) {
    const { X, x0, x1, base } = view;
    const [low, high] = [Math.max(x0, q - 4 * bandwidth), Math.min(x1, q + 4 * bandwidth)];
    const drawable = low < high && Number.isFinite(peak) && tip(q) <= STRIP * 1.5;
    const at = Array.from({ length: 81 }, (_, i) => low + ((high - low) * i) / 80);
    const d = polyline(at.map((x) => [X(x), base - Math.min(tip(x), STRIP)]));
    patch(bell, drawable ? { d, display: null } : { display: "none" });
  }

  function drawTable({ keys, values, query: q, bandwidth, weights, out: result }) {
    while (body.rows.length > keys.length + 1) body.lastChild.remove();
    while (body.rows.length < keys.length + 1) body.append(h("tr", null, [1, 2, 3, 4, 5].map(() => h("td"))));
    const fill = (row, texts) => texts.forEach((text, c) => patch(body.rows[row].cells[c], { text }));
    keys.forEach((k, i) => fill(i, [brief(k), brief(values[i]), format(score(k, q, bandwidth)),
      format(weights[i]), format(weights[i] * values[i])]));
    fill(keys.length, ["", "", "sum", format(weights.reduce((a, b) => a + b, 0)), format(result)]);
  }

  function follow(event) {
    const box = plot.getBoundingClientRect();
    const { x0, x1, left, right } = view;
    const x = x0 + ((event.clientX - box.left - left) / (right - left)) * (x1 - x0);
    const grain = 10 ** Math.floor(Math.log10((x1 - x0) / 300));
    commit(model, { query: clamp(multiple(Math.round, x, grain), x0, x1) });
  }

  function onKey(event) {
    const { keys } = state();
    const order = Array.from(keys.keys()).sort((a, b) => keys[a] - keys[b]);
    const at = order.indexOf(current);
    const moves = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: Infinity };
    if (event.key in moves) points[order[clamp(moves[event.key], 0, keys.length - 1)]].group.focus();
    else if (event.key === "Enter" || event.key === " ") commit(model, { query: keys[current] });
    else return;
    event.preventDefault();
  }

  return leave;
}

/** Divided before it is squared, as in lookup.py: neither a square of the distance nor of the bandwidth overflows. */
function score(key, query, bandwidth) {
  return -(((query - key) / bandwidth) ** 2) / 2;
}

function weigh(keys, query, bandwidth) {
  return softmax(keys.map((key) => score(key, query, bandwidth)));
}

/** The value of the nearest key; the mean where several are equally near, as the limit of the weights has it. */
function lookUp(keys, values, query) {
  const distances = keys.map((key) => Math.abs(key - query));
  const least = Math.min(...distances);
  const found = values.filter((_, i) => distances[i] === least);
  return found.reduce((sum, value) => sum + value, 0) / found.length;
}

/** A number in up to four digits, a large one to its first decimal: years and timestamps must stay apart. */
function brief(x) {
  return exact(Number(Math.abs(x) < 1000 ? x.toPrecision(4) : x.toFixed(1)));
}

function polyline(places) {
  return places.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/**
 * The range of the numbers with a little room on both sides, in whole steps of the slider that moves through it. Below
 * a billionth of the numbers' size their differences are lost in a double's rounding; the room then makes the range.
 */
function span(numbers) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const spread = high - low > 1e-14 ? 0.06 * (high - low) : 1;
  const room = Math.max(spread, 1e-9 * Math.abs(low), 1e-9 * Math.abs(high));
  const step = roundStep((high - low + 2 * room) / 200);
  return [multiple(Math.floor, low - room, step), multiple(Math.ceil, high + room, step)];
}

/** The multiple of `grain` to which `round` takes x, without the noise of binary fractions. */
function multiple(round, x, grain) {
  return Number((round(x / grain) * grain).toPrecision(15));
}

/** Round numbers within the range, about `count` of them. */
function ticks(low, high, count) {
  const every = roundStep((high - low) / count);
  const first = Math.ceil(low / every);
  return Array.from({ length: Math.floor(high / every) - first + 1 }, (_, i) => (first + i) * every);
}

export default { render };
