// The cost calculator: what attention of four kinds costs, beside the rest of the model, at any length of text.
//
// The state is the model's (attnbook/widgets/costs.py); everything shown is computed here, as attnbook/costs.py does.

import {
  announce, choice, clamp, commit, explorerRoot, format, h, live, onFrame, onLook, patch, slider, svg, toggle,
} from "./kit.js";

const KINDS = ["full", "window", "sparse", "linear"];
const ROWS = [...KINDS, "rest"];
const NAMES = { full: "full", window: "window", sparse: "sparse", linear: "linear", rest: "the rest" };
const MEASURES = {
  flops: ["FLOPs", "FLOPs"], bytes: ["bytes moved", "bytes moved"],
  memory: ["memory", "bytes alive at the peak"], time: ["time", "seconds at least"],
};
const [SHORTEST, LONGEST] = [16, 2 ** 24];
const MACHINES = [
  ["H100 SXM", 990e12, 3.35e12, "NVIDIA's data sheet: bfloat16, dense (989.4 TFLOP/s); HBM3"],
  ["H200 SXM", 990e12, 4.8e12, "NVIDIA's data sheet: bfloat16, dense (989.4 TFLOP/s); HBM3e"],
  ["A100 SXM", 312e12, 2.039e12, "NVIDIA's data sheet, 80 GB: bfloat16, dense; HBM2e"],
  ["laptop CPU", 384e9, 51.2e9,
    "assumed: 4 cores at 3 GHz, 32 float32 FLOPs a cycle each (AVX2); two channels of DDR4-3200"],
].map(([name, flops, bandwidth, source]) => ({ name, flops, bandwidth, source }));
const INPUTS = ["n", "d_k", "n_heads", "n_layers", "batch", "bytes_per", "causal", "fused", "window", "kept", "chunk",
  "machine", "measure"];

// Arithmetic: attention_cost, layer_cost, roofline_time and crossing in costs.py -----------------------------------

/** The cells of one head's table that are computed. */
function cells(kind, n, { causal, window, kept, chunk }) {
  const square = causal ? (n * (n + 1)) / 2 : n ** 2;
  if (kind === "full") return square;
  if (kind === "sparse") return kept * square;
  if (kind === "window") {
    const width = Math.min(window, n);
    const below = n * width - (width * (width - 1)) / 2;
    return causal ? below : 2 * below - n;
  }
  const last = n % chunk;
  return causal ? Math.floor(n / chunk) * ((chunk * (chunk + 1)) / 2) + (last * (last + 1)) / 2 : 0;
}

/** {flops, bytes, memory} of one kind of attention. */
function attentionCost(kind, n, now) {
  const { d_k, n_layers, bytes_per, causal, fused, chunk } = now;
  const heads = now.n_heads * now.batch;
  const computed = cells(kind, n, now);
  const numbers = n * d_k;
  let [flops, stored, states] = [4 * computed * d_k, kind === "full" ? n ** 2 : computed, 0];
  let alive = fused ? 4 * n : 2 * stored * bytes_per;
  if (kind === "linear") {
    flops += 4 * numbers * d_k;
    stored = 2 * computed;
    states = (causal ? Math.ceil(n / chunk) : 1) * d_k ** 2;
    alive = (fused ? d_k ** 2 : stored + states) * bytes_per;
  }
  const moved = (4 * numbers + (fused ? 0 : 4 * stored + 2 * states)) * bytes_per;
  return { flops: n_layers * heads * flops, bytes: n_layers * heads * moved, memory: heads * alive };
}

/** Projections and MLP: 4 matrices of d_model² and 8 more, each with what goes in and comes out. */
function restCost(n, { d_k, n_heads, n_layers, batch, bytes_per }) {
  const d = n_heads * d_k;
  const tokens = batch * n;
  return {
    flops: n_layers * 2 * tokens * 12 * d ** 2, bytes: n_layers * (12 * d ** 2 + tokens * 18 * d) * bytes_per,
    memory: 4 * tokens * d * bytes_per,
  };
}

function cost(kind, n, now) {
  const found = kind === "rest" ? restCost(n, now) : attentionCost(kind, n, now);
  const [computing, carrying] = [found.flops / now.machine.flops, found.bytes / now.machine.bandwidth];
  return { ...found, time: Math.max(computing, carrying), bound: computing >= carrying ? "compute" : "memory" };
}

/** The n up to which full attention costs no more than the rest; null if that is at every n. */
function crossoverOf(now) {
  const above = (n) => cost("full", n, now)[now.measure] > cost("rest", n, now)[now.measure];
  let [low, high] = [0, LONGEST];
  if (!above(high)) return null;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (above(middle)) high = middle;
    else low = middle;
  }
  return low;
}

/** Of what full attention and the rest cost together, the part that is attention. */
function shareOf({ full, rest }) {
  return Object.fromEntries(["flops", "bytes", "time"].map((name) => [name, full[name] / (full[name] + rest[name])]));
}

// Numbers for people -----------------------------------------------------------------------------------------------

const whole = (number) => number.toLocaleString("en-US");
const three = (number) => (number >= 999.5 ? whole(Math.round(number)) : String(Number(number.toPrecision(3))));
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function tenTo(power) {
  const digits = Array.from(String(Math.abs(power)), (digit) => SUPERSCRIPTS[digit]).join("");
  return `10${power < 0 ? "⁻" : ""}${digits}`;
}

/** Three digits and a prefix, in steps of `base`; beyond the last prefix, a power of ten. */
function prefixed(number, base, prefixes) {
  let at = 0;
  let scaled = number;
  while (scaled >= base * (1 - 5e-4) && at < prefixes.length - 1) {
    scaled /= base;
    at += 1;
  }
  if (scaled < base) return `${three(scaled)} ${prefixes[at]}`.trim();
  const power = Math.floor(Math.log10(number));
  return `${three(number / 10 ** power)}·${tenTo(power)}`;
}

function duration(seconds) {
  if (seconds >= 86400) return `${three(seconds / 86400)} days`;
  if (seconds >= 3600) return `${three(seconds / 3600)} h`;
  if (seconds >= 60) return `${three(seconds / 60)} min`;
  const units = [[1, "s"], [1e3, "ms"], [1e6, "µs"], [1e9, "ns"]];
  const [factor, unit] = units.find(([each]) => seconds * each >= 0.9995) ?? units.at(-1);
  return `${three(seconds * factor)} ${unit}`;
}

const bytes = (number) => prefixed(number, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]);
const SPELL = {
  flops: (number) => prefixed(number, 1000, ["", "k", "M", "G", "T", "P", "E"]), bytes, memory: bytes, time: duration,
};

// Parts of the explorer: each is {element, update(view)} -----------------------------------------------------------

function settings(change) {
  const integer = (name, label, rest) => slider({
    label, step: 1, value: rest.min, format: whole, ...rest, onInput: (x) => change({ [name]: Math.round(x) }),
  });
  const sizes = {
    n: integer("n", "tokens n", { min: SHORTEST, max: LONGEST, scale: "log" }),
    d_k: integer("d_k", "width of a head d_k", { min: 8, max: 256, step: 8, limits: [1, 1024] }),
    n_heads: integer("n_heads", "heads", { min: 1, max: 128, limits: [1, 256] }),
    n_layers: integer("n_layers", "layers", { min: 1, max: 128, limits: [1, 256] }),
    batch: integer("batch", "batch", { min: 1, max: 64, limits: [1, 1024] }),
    window: integer("window", "window: nearest keys", { min: 16, max: 65536, scale: "log", limits: [1, LONGEST] }),
    kept: slider({
      label: "sparse: share of cells kept", min: 0.01, max: 1, step: 0.01, limits: [1e-6, 1], value: 0.1,
      onInput: (x) => change({ kept: x }),
    }),
    chunk: integer("chunk", "linear: tokens in a chunk", { min: 16, max: 512, step: 16, limits: [1, 4096] }),
  };
  const width = choice({
    label: "A number has", value: 2, onChange: (value) => change({ bytes_per: value }),
    options: [1, 2, 4].map((value) => ({ value, label: `${value} byte${value > 1 ? "s" : ""}` })),
  });
  const causal = toggle({ label: "causal", onChange: (on) => change({ causal: on }) });
  const fused = toggle({ label: "fused: tables stay in fast memory", onChange: (on) => change({ fused: on }) });
  const place = h("div", null);
  const about = h("p", { class: "costs-note" });
  let own = null; // a machine that is none of ours stays to be chosen
  let machines = null;

  function offer(machine) {
    const known = MACHINES.some((each) => each.name === machine.name && each.flops === machine.flops &&
      each.bandwidth === machine.bandwidth);
    if (!machines || (!known && JSON.stringify(machine) !== JSON.stringify(own))) {
      own = known ? null : machine;
      const all = own ? [...MACHINES, own] : MACHINES;
      machines = choice({
        label: "Machine", value: all.indexOf(own), onChange: (i) => change({ machine: all[i] }),
        options: all.map(({ name }, value) => ({ value, label: name })),
      });
      place.replaceChildren(machines.element);
    }
    machines.set(known ? MACHINES.findIndex((each) => each.name === machine.name) : MACHINES.length);
    const { flops, bandwidth, source } = machine;
    const speeds = `${SPELL.flops(flops)}FLOP/s, ${prefixed(bandwidth, 1000, ["", "k", "M", "G", "T", "P"])}B/s`;
    patch(about, { text: `${speeds}, ridge at ${three(flops / bandwidth)} FLOPs a byte. ${source}.` });
  }

  return {
    element: h("div", { class: "costs-stack" },
      h("div", { class: "costs-settings ab-panel" }, Object.values(sizes).map((each) => each.element)),
      h("div", { class: "costs-switches" }, width.element, causal.element, fused.element), place, about),
    update(now) {
      for (const [name, each] of Object.entries(sizes)) if (each.value !== now[name]) each.set(now[name]);
      width.set(now.bytes_per);
      causal.set(now.causal);
      fused.set(now.fused);
      offer(now.machine);
    },
  };
}

const PAD = { left: 46, right: 14, top: 26, bottom: 34 };
const HEIGHT = 320;
const STEPS = 80;
const LENGTHS = Array.from({ length: STEPS + 1 }, (_, i) =>
  Math.round(SHORTEST * (LONGEST / SHORTEST) ** (i / STEPS)));

/** Cost over length, on two logarithmic axes: a straight line is a power of n, its slope the exponent. */
function chart(change) {
  const measures = choice({
    label: "Show", value: "flops", onChange: (value) => change({ measure: value }),
    options: Object.entries(MEASURES).map(([value, [label]]) => ({ value, label })),
  });
  const ground = svg("g", { "aria-hidden": "true" });
  const curves = ROWS.map((kind) => svg("path", { class: `costs-curve costs-${kind}` })).reverse();
  const dots = ROWS.map((kind) => svg("circle", { class: `costs-dot costs-dot-${kind}`, r: 4.5 })).reverse();
  const stem = svg("line", { class: "costs-stem", y1: PAD.top, y2: HEIGHT - PAD.bottom });
  const at = svg("text", { class: "costs-at", y: PAD.top - 10 });
  const cross = svg("line", { class: "costs-cross", y2: HEIGHT - PAD.bottom });
  const ring = svg("circle", { class: "costs-ring", r: 8 });
  const mark = svg("text", { class: "costs-mark", y: HEIGHT - PAD.bottom - 8 });
  const plot = svg("svg", { height: HEIGHT, role: "img", class: "costs-plot" },
    ground, stem, cross, curves, dots, ring, at, mark);
  const scene = h("div", { class: "costs-scene" }, plot);
  const legend = h("div", { class: "ab-keys" }, ROWS.map((kind) =>
    h("span", null, svg("svg", { width: 30, height: 10, "aria-hidden": "true" },
      svg("line", { class: `costs-curve costs-${kind}`, x1: 0, x2: 30, y1: 5, y2: 5 })),
    kind === "rest" ? "the rest: projections and MLP" : kind)));
  let now = null;
  let width = 0;
  onLook(scene, () => now && update(now));

  const span = Math.log(LONGEST / SHORTEST);
  const X = (n) => PAD.left + (Math.log(n / SHORTEST) / span) * (width - PAD.left - PAD.right);

  const follow = (event) => {
    const x = (event.clientX - plot.getBoundingClientRect().left - PAD.left) / (width - PAD.left - PAD.right);
    const n = Number((SHORTEST * Math.exp(clamp(x, 0, 1) * span)).toPrecision(3));
    change({ n: clamp(Math.round(n), SHORTEST, LONGEST) });
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && follow(event));

  function lay(low, high, Y) {
    const key = [width, low, high, now.measure].join();
    if (ground.key === key) return;
    ground.key = key;
    patch(plot, { width, viewBox: `0 0 ${width} ${HEIGHT}` });
    const every = Math.ceil((high - low) / 8);
    const powers = Array.from({ length: high - low + 1 }, (_, i) => low + i).filter((power) => power % every === 0);
    const lengths = [5, 8, 11, 14, 17, 20, 23].map((power) => 2 ** power);
    const short = (n) => (n < 1024 ? String(n) : n < 2 ** 20 ? `${n / 1024} Ki` : `${n / 2 ** 20} Mi`);
    ground.replaceChildren(
      ...powers.flatMap((power) => [
        svg("line", { class: "ab-rule", x1: PAD.left, x2: width - PAD.right, y1: Y(power), y2: Y(power) }),
        svg("text", { class: "ab-tick", x: PAD.left - 6, y: Y(power) + 4, "text-anchor": "end" }, tenTo(power))]),
      ...lengths.flatMap((n) => [
        svg("line", { class: "ab-rule", x1: X(n), x2: X(n), y1: PAD.top, y2: HEIGHT - PAD.bottom }),
        svg("text", { class: "ab-tick", x: X(n), y: HEIGHT - PAD.bottom + 15, "text-anchor": "middle" }, short(n))]),
      svg("text", { class: "ab-tick", x: width - PAD.right, y: HEIGHT - 3, "text-anchor": "end" }, "tokens n →"),
      svg("text", { class: "ab-tick", x: 0, y: HEIGHT - 3 }, `↑ ${MEASURES[now.measure][1]}`));
  }

  function update(next) {
    now = next;
    width = scene.clientWidth;
    measures.set(now.measure);
    if (!width) return;
    const { measure, n, crossover, found } = now;
    const lines = ROWS.map((kind) => LENGTHS.map((each) => Math.log10(cost(kind, each, now)[measure])));
    const [low, high] = [Math.floor(Math.min(...lines.flat())), Math.ceil(Math.max(...lines.flat()))];
    const Y = (power) => PAD.top + (HEIGHT - PAD.top - PAD.bottom) * ((high - power) / (high - low || 1));
    lay(low, high, Y);
    const xs = LENGTHS.map(X);
    lines.toReversed().forEach((line, i) => patch(curves[i], {
      d: `M${line.map((power, j) => `${xs[j].toFixed(1)} ${Y(power).toFixed(1)}`).join("L")}`,
    }));
    ROWS.toReversed().forEach((kind, i) => patch(dots[i], { cx: X(n), cy: Y(Math.log10(found[kind][measure])) }));
    patch(stem, { x1: X(n), x2: X(n) });
    const flip = X(n) > width - 110;
    patch(at, { x: X(n) + (flip ? 4 : -4), "text-anchor": flip ? "end" : "start", text: `n = ${whole(n)}` });
    const seen = crossover !== null && crossover >= SHORTEST;
    for (const each of [cross, ring, mark]) patch(each, { display: seen ? null : "none" });
    if (seen) {
      const [x, y] = [X(crossover), Y(Math.log10(cost("full", crossover, now)[measure]))];
      const left = x > width - 130;
      patch(cross, { x1: x, x2: x, y1: y + 8 });
      patch(ring, { cx: x, cy: y });
      const text = `crossover at ${whole(crossover)}`;
      patch(mark, { x: x + (left ? -6 : 6), "text-anchor": left ? "end" : "start", text });
    }
    const spoken = ROWS.map((kind) => `${NAMES[kind]} ${SPELL[measure](found[kind][measure])}`).join(", ");
    patch(plot, { "aria-label": `${MEASURES[measure][0]} over length, logarithmic: at n = ${whole(n)} ${spoken}` });
  }

  return { element: h("div", { class: "costs-stack" }, measures.element, legend, scene), update };
}

/** What each kind costs at the chosen length, in numbers. */
function bill() {
  const columns = ["flops", "bytes", "memory", "time"];
  const caption = h("caption", { class: "costs-caption" });
  const rows = ROWS.map((kind) => {
    const numbers = columns.map(() => h("span"));
    const bound = h("span", { class: "costs-bound" });
    const cells = numbers.map((number, i) => h("td", null, number, columns[i] === "time" ? bound : null));
    return { kind, numbers, bound, element: h("tr", null, h("th", { scope: "row" }, NAMES[kind]), cells) };
  });
  const shares = ["flops", "bytes", null, "time"].map((name) => ({ name, cell: h("td", null, name ? null : "–") }));
  const heads = ["FLOPs", "moved", "memory", "time"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "costs-table" }, caption,
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "kind"), heads)),
    h("tbody", null, rows.map((row) => row.element),
      h("tr", null, h("th", { scope: "row" }, "full’s share"), shares.map((each) => each.cell))));
  const verdict = h("p", { class: "costs-verdict" });
  return {
    element: h("div", { class: "costs-stack" }, verdict, table),
    update({ found, share, ...now }) {
      const d_model = now.n_heads * now.d_k;
      patch(caption, { text: `${whole(now.n)} tokens, d_model = ${whole(d_model)}, ${now.machine.name}, forward` });
      for (const { kind, numbers, bound } of rows) {
        columns.forEach((name, i) => patch(numbers[i], { text: SPELL[name](found[kind][name]) }));
        patch(bound, { text: found[kind].bound });
      }
      for (const { name, cell } of shares) if (name) patch(cell, { text: format(share[name]) });
      patch(verdict, { text: verdictOf(now) });
    },
  };
}

function verdictOf({ measure, crossover, n, n_heads, d_k }) {
  const what = { flops: "FLOPs", bytes: "bytes moved", memory: "memory", time: "time" }[measure];
  if (crossover === null) return `In ${what}, full attention never overtakes the rest, up to n = ${whole(LONGEST)}.`;
  const widths = crossover / (n_heads * d_k);
  const where = n > crossover ? "above" : "at or below";
  return `In ${what}, full attention costs more than projections and MLP beyond n = ${whole(crossover)} ` +
    `(${three(widths)} · d_model). You are ${where} it.`;
}

// The whole --------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const controls = settings(change);
  const [picture, table] = [chart(change), bill()];
  const root = explorerRoot("costs", "Cost calculator",
    h("div", { class: "costs-stack" }, picture.element, controls.element, table.element));

  function change(changes) {
    commit(model, changes);
    schedule.byHand();
  }

  function read() {
    const now = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    const found = Object.fromEntries(ROWS.map((kind) => [kind, cost(kind, now.n, now)]));
    return { ...now, found, share: shareOf(found), crossover: crossoverOf(now) };
  }

  function draw(byHand) {
    const now = read();
    for (const each of [controls, picture, table]) each.update(now);
    if (!byHand) return;
    const { time, bound } = now.found.full;
    announce(root, `n ${whole(now.n)}: full attention ${SPELL.flops(now.found.full.flops)} FLOPs, ` +
      `${duration(time)} at least, ${bound}-bound. ${verdictOf(now)}`);
  }

  function state() {
    const { found, share, ...rest } = read();
    return {
      ...rest, share: Object.values(share), bounds: ROWS.map((kind) => found[kind].bound),
      figures: ROWS.map((kind) => ["flops", "bytes", "memory", "time"].map((name) => found[kind][name])),
    };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

export default { render };
