// The position explorer: what each way of telling attention the order does to one score, distance by distance.
//
// One word stands at every position, and W_Q and W_K are left out, so that nothing but the scheme makes scores
// differ. The state is the model's (attnbook/widgets/position.py); everything shown is computed here.

import {
  announce, bars, choice, clamp, commit, dot, exact, explorerRoot, format, h, heatmap, live, madeUpVector, onFrame,
  onLook, patch, roundStep, slider, svg,
} from "./kit.js";

const FARTHEST = 64;
const LARGEST_SHIFT = 200;
const WIDEST = 128;
const N_HEADS = 8;
const WORD = "cat";
const TABLE = 128; // rows of the learned table
const MOST_CLOCKS = 16;
const SCHEMES = ["none", "sinusoidal", "learned", "rope", "alibi"];
const NAMES = { none: "none", sinusoidal: "sinusoidal", learned: "learned", rope: "RoPE", alibi: "ALiBi" };
const DISTANCES = Array.from({ length: FARTHEST + 1 }, (_, distance) => distance);
const INPUTS = ["scheme", "distance", "base", "d", "shift", "head"];
const SAYS = {
  none: "Nothing tells positions apart, so each gets the same score.",
  sinusoidal: "A vector of sines and cosines for each position is added to the word’s.",
  learned: `A row of a table is added to the word’s vector. This table has ${TABLE} rows and is untrained: random.`,
  rope: "Query and key are turned, pair by pair, by the angles of their positions.",
  alibi: "Query and key know no position. The score loses slope · distance; each of 8 heads has its slope, 2⁻ʰ.",
};

// Arithmetic: scores_by_distance in position.py, with the parts that its sums are made of ------------------------

const word = madeUpVector(WORD, WIDEST, "k");
const rows = new Map();

function untrainedRow(position) {
  if (!rows.has(position)) rows.set(position, madeUpVector(`position ${position}`, WIDEST, "v"));
  return rows.get(position);
}

function angles(d, base) {
  return Array.from({ length: d / 2 }, (_, pair) => base ** ((-2 * pair) / d));
}

/** The vector that a scheme adds at a position, or null beyond the learned table's end. */
function added(scheme, turns, position) {
  if (scheme === "sinusoidal") {
    return turns.flatMap((angle) => [Math.sin(position * angle), Math.cos(position * angle)]);
  }
  return position < TABLE ? untrainedRow(position).slice(0, 2 * turns.length) : null;
}

/**
 * `score(shift, distance)` for these settings, and `terms(shift, distance)`: [name, number] of what it is the sum of.
 * Products that come back at other shifts and distances are made once.
 */
function scorer({ scheme, d, base, head }) {
  const x = word.slice(0, d);
  const scale = 1 / Math.sqrt(d);
  const content = dot(x, x) * scale;
  const turns = angles(d, base);
  if (scheme === "sinusoidal" || scheme === "learned") return additive(scheme, turns, x, content, scale);
  if (scheme === "alibi") {
    const penalty = (distance) => -(2 ** -head) * distance; // −0 at distance 0, so that its sign is shown
    return {
      content, score: (_, distance) => content + penalty(distance),
      terms: (_, distance) => [["word · word", content], [`2⁻${superscript(head)} · ${distance}`, penalty(distance)]],
    };
  }
  if (scheme === "none") {
    return { content, score: () => content, terms: () => [["word · word", content]] };
  }
  const sizes = turns.map((_, pair) => (x[pair] ** 2 + x[pair + d / 2] ** 2) * scale); // half-split: i and i + d/2
  const part = (pair, distance) => sizes[pair] * Math.cos(turns[pair] * distance);
  const sum = (from, to, distance) => {
    let total = 0;
    for (let pair = from; pair < to; pair++) total += part(pair, distance);
    return total;
  };
  const half = Math.ceil(turns.length / 2);
  return {
    content, score: (_, distance) => sum(0, turns.length, distance),
    terms: (_, distance) => [[turns.length === 1 ? "pair 1" : `pairs 1 to ${half}`, sum(0, half, distance)],
      ...(turns.length > half ? [[`pairs ${half + 1} to ${turns.length}`, sum(half, turns.length, distance)]] : [])],
  };
}

/** (x + P(p)) · (x + P(p − distance)) is four products. */
function additive(scheme, turns, x, content, scale) {
  const known = new Map();
  const place = (position) => {
    if (!known.has(position)) {
      const vector = added(scheme, turns, position);
      known.set(position, { vector, withWord: vector ? dot(x, vector) * scale : NaN });
    }
    return known.get(position);
  };
  const pairs = new Map(); // sines and cosines: the same for all shifts
  const product = (query, key) => {
    const name = scheme === "sinusoidal" ? query - key : `${query},${key}`;
    if (!pairs.has(name)) {
      const [a, b] = [place(query).vector, place(key).vector];
      pairs.set(name, a && b ? dot(a, b) * scale : NaN);
    }
    return pairs.get(name);
  };
  const terms = (shift, distance) => {
    const [query, key] = [shift + FARTHEST, shift + FARTHEST - distance];
    return [["word · word", content], [`word · P(${key})`, place(key).withWord],
      [`P(${query}) · word`, place(query).withWord], [`P(${query}) · P(${key})`, product(query, key)]];
  };
  const score = (shift, distance) => {
    const [query, key] = [shift + FARTHEST, shift + FARTHEST - distance];
    return content + place(key).withWord + place(query).withWord + product(query, key);
  };
  return { content, score, terms };
}

/** The scores' ends over all shifts (and for ALiBi all heads), with room, so that the axis stays put under a slider. */
function span(scheme, { score, content }) {
  if (scheme === "alibi") return [content - FARTHEST / 2, content];
  let [low, high] = [content, content];
  const last = scheme === "sinusoidal" ? LARGEST_SHIFT : scheme === "learned" ? FARTHEST - 1 : 0;
  for (let shift = 0; shift <= last; shift++) {
    for (const distance of DISTANCES) {
      const each = score(shift, distance);
      if (each < low) low = each;
      if (each > high) high = each;
    }
  }
  return [low, high];
}

function axis([low, high]) {
  const step = roundStep(Math.max(high - low, 2) / 4.5);
  const [first, last] = [Math.floor(low / step), Math.ceil(high / step)];
  const [from, to] = [first === last ? first - 1 : first, first === last ? last + 1 : last];
  return Array.from({ length: to - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)));
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const superscript = (number) => Array.from(String(number), (digit) => SUPERSCRIPTS[digit]).join("");

/** An angle in degrees, to what can be told apart. */
function degrees(radians) {
  const angle = (radians * 180) / Math.PI;
  return `${angle !== 0 && angle < 0.01 ? "< 0.01" : format(angle, angle >= 100 ? 0 : angle >= 1 ? 1 : 2)}°`;
}

// Parts of the explorer: each is {element, update(view)} -----------------------------------------------------------

function settings(change) {
  const scheme = choice({
    label: "Scheme", value: "rope", options: SCHEMES.map((value) => ({ value, label: NAMES[value] })),
    onChange: (value) => change({ scheme: value }),
  });
  const whole = (name, label, rest) => slider({
    label, step: 1, value: rest.min, format: String, ...rest,
    onInput: (x) => change({ [name]: rest.step === 2 ? 2 * Math.round(x / 2) : Math.round(x) }),
  });
  const sliders = {
    distance: whole("distance", "distance, query to key", { min: 0, max: FARTHEST }),
    shift: whole("shift", "shift of both", { min: 0, max: LARGEST_SHIFT }),
    d: whole("d", "dimension d", { min: 2, max: WIDEST, step: 2 }),
    base: slider({
      label: "base", min: 100, max: 1e6, scale: "log", limits: [1, 1e9], value: 10_000, format: exact,
      onInput: (x) => change({ base: x }),
    }),
    head: whole("head", "head h of 8, slope 2⁻ʰ", { min: 1, max: N_HEADS }),
  };
  const says = h("p", { class: "position-says" });
  const panel = h("div", { class: "position-settings ab-panel" }, Object.values(sliders).map((each) => each.element));
  return {
    element: h("div", { class: "position-stack" }, scheme.element, says, panel),
    update(now) {
      scheme.set(now.scheme);
      const always = `The word ‘${WORD}’ stands at every position, as query and as key alike.`;
      patch(says, { text: `${always} ${SAYS[now.scheme]}` });
      sliders.base.element.hidden = !(now.scheme === "sinusoidal" || now.scheme === "rope");
      sliders.head.element.hidden = now.scheme !== "alibi";
      for (const [name, each] of Object.entries(sliders)) if (each.value !== now[name]) each.set(now[name]);
    },
  };
}

const LINE = { height: 68, left: 12, right: 12, y: 40 };

/** Where query and keys stand: positions 0 to 264, the 65 in view, and the learned table's end. */
function numberLine() {
  const last = FARTHEST + LARGEST_SHIFT;
  const ground = svg("g", null);
  const table = svg("rect", { class: "position-table", y: LINE.y - 6, height: 12 });
  const end = svg("line", { class: "position-end", y1: LINE.y - 11, y2: LINE.y + 11 });
  const view = svg("rect", { class: "position-window", y: LINE.y - 6, height: 12, rx: 3 });
  const [query, key] = ["query", "key"].map((kind, row) => ({
    mark: svg("circle", { class: `position-at-${kind}`, r: 5.5, cy: LINE.y }),
    text: svg("text", { class: `position-name-${kind}`, y: LINE.y - 27 + 15 * row }),
  }));
  const plot = svg("svg", { height: LINE.height, role: "img" }, ground, table, view, end,
    [key, query].map(({ mark, text }) => [mark, text]));
  const element = h("div", { class: "position-line" }, plot);
  let now = null;
  onLook(element, () => now && update(now));

  function update(next) {
    now = next;
    const width = element.clientWidth;
    if (!width) return;
    const X = (position) => LINE.left + (position / last) * (width - LINE.left - LINE.right);
    if (ground.width !== width) {
      patch(plot, { width, viewBox: `0 0 ${width} ${LINE.height}` });
      const every = width < 500 ? 64 : 32;
      const ticks = Array.from({ length: Math.floor(last / every) + 1 }, (_, i) => i * every);
      ground.replaceChildren(
        svg("line", { class: "ab-axis", x1: X(0), x2: X(last), y1: LINE.y, y2: LINE.y }),
        ...ticks.map((tick) =>
          svg("text", { class: "ab-tick", x: X(tick), y: LINE.y + 22, "text-anchor": "middle" }, String(tick))));
      ground.width = width;
    }
    const at = { query: now.shift + FARTHEST, key: now.shift + FARTHEST - now.distance };
    const learned = now.scheme === "learned" ? null : "none";
    patch(table, { x: X(0), width: X(TABLE - 1) - X(0), display: learned });
    patch(end, { x1: X(TABLE - 1), x2: X(TABLE - 1), display: learned });
    patch(view, { x: X(now.shift) - 3, width: X(at.query) - X(now.shift) + 6 });
    for (const [name, { mark, text }] of [["key", key], ["query", query]]) {
      const x = X(at[name]);
      const flip = x > width / 2;
      patch(mark, { cx: x });
      patch(text, { x: flip ? x + 5 : x - 5, "text-anchor": flip ? "end" : "start", text: `${name} ${at[name]}` });
    }
    const ends = learned === null ? ` The table ends at position ${TABLE - 1}.` : "";
    patch(plot, { "aria-label": `The query stands at position ${at.query}, the key at ${at.key}.${ends}` });
  }

  return { element, update };
}

const PAD = { left: 44, right: 14, top: 14, bottom: 34 };
const HEIGHT = 250;

/** Score over distance: as it is, as it is at shift 0, and the chosen distance. */
function curve(change) {
  const ground = svg("g", { "aria-hidden": "true" });
  const ghost = svg("path", { class: "position-ghost" });
  const content = svg("line", { class: "position-content" });
  const others = svg("path", { class: "position-others" });
  const line = svg("path", { class: "position-curve" });
  const stem = svg("line", { class: "position-stem", y1: PAD.top, y2: HEIGHT - PAD.bottom });
  const dotted = svg("circle", { class: "position-dot", r: 6 });
  const label = svg("text", { class: "position-score" });
  const none = svg("text", { class: "position-none", "text-anchor": "middle", y: HEIGHT / 2 });
  const plot = svg("svg", { height: HEIGHT, role: "img", class: "position-plot" },
    ground, content, others, ghost, line, stem, dotted, label, none);
  const scene = h("div", { class: "position-scene" }, plot);
  const keys = ["curve", "ghost", "content", "others"].map((kind) => ({
    kind, item: h("span", null, h("i", { class: `position-key-${kind}` }), h("span")),
  }));
  const legend = h("div", { class: "ab-keys" }, keys.map(({ item }) => item));
  let now = null;
  let frame = null;
  onLook(scene, () => {
    frame = null;
    if (now) update(now);
  });

  const follow = (event) => {
    if (!frame) return;
    const at = event.clientX - plot.getBoundingClientRect().left - PAD.left;
    const distance = clamp(Math.round((at / (frame.width - PAD.left - PAD.right)) * FARTHEST), 0, FARTHEST);
    if (distance !== now.distance) change({ distance });
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && follow(event));

  function lay(width, ticks) {
    const [low, high] = [ticks[0], ticks.at(-1)];
    const X = (distance) => PAD.left + (distance / FARTHEST) * (width - PAD.left - PAD.right);
    const Y = (score) => PAD.top + (HEIGHT - PAD.top - PAD.bottom) * ((high - score) / (high - low));
    patch(plot, { width, viewBox: `0 0 ${width} ${HEIGHT}` });
    const across = Array.from({ length: FARTHEST / 8 + 1 }, (_, i) => 8 * i);
    ground.replaceChildren(
      ...ticks.flatMap((tick) => [
        svg("line", { class: "ab-rule", x1: PAD.left, x2: width - PAD.right, y1: Y(tick), y2: Y(tick) }),
        svg("text", { class: "ab-tick", x: PAD.left - 6, y: Y(tick) + 4, "text-anchor": "end" }, exact(tick))]),
      ...across.map((distance) =>
        svg("text", { class: "ab-tick", x: X(distance), y: HEIGHT - PAD.bottom + 15, "text-anchor": "middle" },
          String(distance))),
      svg("text", { class: "ab-tick", x: width - PAD.right, y: HEIGHT - 3, "text-anchor": "end" },
        "distance from the query back to the key"));
    return { width, X, Y, key: ticks.join() };
  }

  function path(scores) {
    const points = scores.map((score, i) => `${frame.X(i).toFixed(1)} ${frame.Y(score).toFixed(1)}`);
    return Number.isNaN(scores[0]) ? "" : `M${points.join("L")}`;
  }

  /** What ALiBi's heads make of the same content: straight lines. */
  function rays(content) {
    const ends = Array.from({ length: N_HEADS }, (_, i) => frame.Y(content - 2 ** -(i + 1) * FARTHEST));
    return ends.map((y) => `M${frame.X(0)} ${frame.Y(content)}L${frame.X(FARTHEST)} ${y}`).join("");
  }

  function update(next) {
    now = next;
    const { scheme, distance, shift, scores, score, unshifted, ticks } = now;
    const width = scene.clientWidth;
    if (!width) return;
    if (frame?.width !== width || frame.key !== ticks.join()) frame = lay(width, ticks);
    const missing = Number.isNaN(score);
    const moved = shift !== 0;
    patch(line, { d: path(scores) });
    patch(ghost, { d: moved ? path(unshifted) : "" });
    patch(others, { d: scheme === "alibi" ? rays(now.content) : "" });
    const level = frame.Y(now.content);
    patch(content, scheme === "none" ? { display: "none" }
      : { x1: PAD.left, x2: width - PAD.right, y1: level, y2: level, display: null });
    const x = frame.X(distance);
    patch(stem, { x1: x, x2: x });
    patch(dotted, missing ? { display: "none" } : { cx: x, cy: frame.Y(score), display: null });
    const flip = x > width - 90;
    patch(label, { x: x + (flip ? -7 : 7), y: PAD.top + 11, "text-anchor": flip ? "end" : "start",
      text: missing ? "" : format(score) });
    patch(none, { x: width / 2, text: missing ? `no row ${shift + FARTHEST} in a table of ${TABLE}` : "" });
    const texts = { curve: moved ? `score at shift ${shift}` : "score", ghost: moved ? "at shift 0" : "",
      content: scheme === "none" ? "" : "word · word / √d, without positions",
      others: scheme === "alibi" ? `the ${N_HEADS} heads, from steep h = 1 to flat h = ${N_HEADS}` : "" };
    for (const { kind, item } of keys) {
      item.hidden = !texts[kind];
      patch(item.lastChild, { text: texts[kind] });
    }
    const spoken = missing ? "none, the table has no row for the query"
      : `${format(score)} at distance ${distance}, ${format(scores[0])} at 0, ` +
        `${format(scores[FARTHEST])} at ${FARTHEST}`;
    patch(plot, { "aria-label": `Score over distance: ${spoken}` });
  }

  return { element: h("div", null, legend, scene), update };
}

/** The score at the chosen distance as the sum that it is. */
function arithmetic() {
  const title = h("h4", { class: "position-caption" });
  const sum = h("div", { class: "position-sum" });
  const note = h("p", { class: "position-note" });
  const parts = [];
  const total = piece();
  total.element.classList.add("position-total");

  function piece() {
    const [sign, number, name] = [h("span", { class: "position-sign" }), h("span", { class: "position-number" }),
      h("span", { class: "position-term" })];
    return { sign, number, name, element: h("div", { class: "position-piece" }, sign, number, name) };
  }

  return {
    element: h("div", { class: "position-arithmetic ab-panel" }, title, sum, note),
    update({ scheme, distance, d, score, terms, shift }) {
      const divided = scheme === "alibi" || scheme === "none" ? "word · word is" : "each product is";
      patch(title, { text: `The score at distance ${distance}; ${divided} divided by √${d}` });
      while (parts.length > terms.length) parts.pop().element.remove();
      while (parts.length < terms.length) parts.push(piece());
      if (sum.childElementCount !== terms.length + 1) {
        sum.replaceChildren(...parts.map((part) => part.element), total.element);
      }
      terms.forEach(([name, number], i) => {
        const minus = i > 0 && (number < 0 || Object.is(number, -0));
        patch(parts[i].sign, { text: i === 0 ? "" : minus ? "−" : "+" });
        patch(parts[i].number, { text: Number.isNaN(number) ? "?" : format(minus ? -number : number) });
        patch(parts[i].name, { text: name });
      });
      patch(total.sign, { text: "=" });
      patch(total.number, { text: Number.isNaN(score) ? "none" : format(score) });
      patch(total.name, { text: "score" });
      const query = shift + FARTHEST;
      patch(note, { text: {
        none: "No term holds a position.",
        sinusoidal: "Shift both: the two products in the middle move, P · P does not.",
        learned: query < TABLE ? "Shift both: every product with a P moves, and nothing ties a row to the next."
          : `The table ends at position ${TABLE - 1}; the query stands at ${query}. Nothing was learned for it.`,
        rope: "A pair adds |its part of the word|² · cos(distance · θ). Shift both: no number moves.",
        alibi: "Shift both: no number moves. After softmax, exp(−slope · distance) of the weight is left.",
      }[scheme] });
    },
  };
}

/** One clock for each pair of components: a hand for the query's angle, one for the key's, and what lies between. */
function clocks(change) {
  const title = h("h4", { class: "position-caption" });
  const lead = h("p", { class: "position-note" });
  const grid = h("div", { class: "position-clocks" });
  const shownPairs = [];
  const map = heatmap({
    label: "cos(distance · θ) of every pair", rowTitle: "pair", colTitle: "distance", palette: "diverging",
    domain: [-1, 1], maxCell: 14, maxHeight: 190, onActivate: ({ col }) => change({ distance: col }),
  });
  let drawn = "";

  function clock() {
    const part = {
      arc: svg("path", { class: "position-arc" }), key: svg("line", { class: "position-hand-key", x1: 0, y1: 0 }),
      query: svg("line", { class: "position-hand-query", x1: 0, y1: 0 }),
      name: h("span", { class: "position-pair" }), angle: h("span"), cosine: h("span"),
    };
    part.face = svg("svg", { viewBox: "-34 -34 68 68", class: "position-clock", role: "img" },
      svg("circle", { class: "position-face", r: 30 }), part.arc, part.key, part.query, svg("circle", { r: 2.5 }));
    part.element = h("div", { class: "position-dial" }, part.name, part.face, part.angle, part.cosine);
    return part;
  }

  /** The pairs that get a clock: all, or as many as there is room for, from the fastest to the slowest. */
  function pairsOf(n) {
    if (n <= MOST_CLOCKS) return Array.from({ length: n }, (_, pair) => pair);
    return Array.from({ length: MOST_CLOCKS }, (_, i) => Math.round((i * (n - 1)) / (MOST_CLOCKS - 1)));
  }

  function tip(angle, radius) {
    return [radius * Math.cos(angle), -radius * Math.sin(angle)].map((x) => Number(x.toFixed(2)));
  }

  function draw(part, pair, angle, { distance, shift }) {
    const [query, key, between] = [(shift + FARTHEST) * angle, (shift + FARTHEST - distance) * angle, distance * angle];
    const [qx, qy] = tip(query, 29);
    const [kx, ky] = tip(key, 24);
    patch(part.query, { x2: qx, y2: qy });
    patch(part.key, { x2: kx, y2: ky });
    const turn = between % (2 * Math.PI);
    const [[ax, ay], [bx, by]] = [tip(key, 14), tip(key + turn, 14)];
    const whole = between >= 2 * Math.PI;
    patch(part.arc, { d: `M0 0L${ax} ${ay}A14 14 0 ${turn > Math.PI ? 1 : 0} 0 ${bx} ${by}Z` });
    patch(part.element, { "data-whole": whole });
    patch(part.name, { text: `pair ${pair + 1}` });
    patch(part.angle, { text: degrees(between) });
    patch(part.cosine, { text: `cos ${format(Math.cos(between), 2)}` });
    patch(part.face, { "aria-label": `pair ${pair + 1}: the query is ${degrees(between)} ahead of the key` });
  }

  function update(now) {
    const { d, base, distance } = now;
    const turns = angles(d, base);
    const pairs = pairsOf(turns.length);
    const n = turns.length;
    patch(title, { text: `The clocks of the ${n === 1 ? "one pair" : `${n} pairs`} of components` });
    const some = n > MOST_CLOCKS ? ` ${MOST_CLOCKS} of the ${n} are shown; all are in the map below.` : "";
    patch(lead, { text: `Pair i turns by θᵢ = base^(−2(i−1)/d) a token. Solid: the query’s hand; dashed: the key’s; ` +
      `between them distance · θ, which a shift does not change.${some}` });
    while (shownPairs.length > pairs.length) shownPairs.pop().element.remove();
    while (shownPairs.length < pairs.length) {
      shownPairs.push(clock());
      grid.append(shownPairs.at(-1).element);
    }
    pairs.forEach((pair, i) => draw(shownPairs[i], pair, turns[pair], now));
    const key = `${d},${base}`;
    const values = { values: turns.map((angle) => DISTANCES.map((each) => Math.cos(each * angle))),
      rows: turns.map((_, pair) => String(pair + 1)), cols: DISTANCES.map(String) };
    map.update({ ...(key === drawn ? {} : values), highlight: { row: null, col: distance } });
    drawn = key;
  }

  return { element: h("div", { class: "position-stack" }, title, lead, grid, map.element), update };
}

/** ALiBi's heads side by side: how much of a weight the penalty leaves. */
function headsPanel() {
  const title = h("h4", { class: "position-caption" });
  const chart = bars({ label: "What is left of a weight, by head h", height: 150, format: (x) => format(x, 2) });
  return {
    element: h("div", { class: "position-stack ab-panel" }, title, chart.element,
      h("p", { class: "position-note" },
        "One bar a head h. Steep heads see the neighbours, flat ones nearly all. Highlighted: the head above.")),
    update({ distance, head }) {
      patch(title, { text: `exp(−slope · ${distance}): what the penalty leaves of a weight, in each head` });
      const heads = Array.from({ length: N_HEADS }, (_, i) => i + 1);
      chart.update({ values: heads.map((each) => Math.exp(-distance * 2 ** -each)), mark: head - 1,
        labels: heads.map(String) });
    },
  };
}

// The whole --------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  let now = null;
  let held = { key: "" }; // what one slider's move leaves as it is
  const controls = settings(change);
  const [line, chart, sum, dials, heads] = [numberLine(), curve(change), arithmetic(), clocks(change), headsPanel()];
  const root = explorerRoot("position", "Position explorer", h("div", { class: "position-stack" },
    controls.element, line.element, chart.element, sum.element, dials.element, heads.element));

  function change(changes) {
    commit(model, changes);
    schedule.byHand();
  }

  function read() {
    const inputs = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    const key = [inputs.scheme, inputs.d, inputs.base, inputs.head].join();
    if (held.key !== key) {
      const score = scorer(inputs);
      const unshifted = DISTANCES.map((distance) => score.score(0, distance));
      held = { key, ...score, unshifted, ticks: axis(span(inputs.scheme, score)) };
    }
    const scores = DISTANCES.map((distance) => held.score(inputs.shift, distance));
    return { ...inputs, ...held, scores, score: scores[inputs.distance],
      terms: held.terms(inputs.shift, inputs.distance) };
  }

  function draw(byHand) {
    now = read();
    dials.element.hidden = !(now.scheme === "sinusoidal" || now.scheme === "rope");
    heads.element.hidden = now.scheme !== "alibi";
    for (const each of [controls, line, chart, sum, dials, heads]) if (!each.element.hidden) each.update(now);
    if (!byHand) return;
    announce(root, Number.isNaN(now.score) ? "no score: the query stands beyond the table"
      : `${NAMES[now.scheme]}, distance ${now.distance}: score ${format(now.score)}`);
  }

  function state() {
    const { scores, score, ...rest } = read();
    return { ...Object.fromEntries(INPUTS.map((name) => [name, rest[name]])), scores, score };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

export default { render };
