// The state explorer: pairs of key and value written into one matrix, one by one, and read back with interference.
//
// All inputs are the model's (attnbook/widgets/states.py). What is read is taken apart into what each pair adds to it,
// since that is all that interference is.

import {
  announce, bars, button, choice, clamp, commit, dot, explorerRoot, format, h, heatmap, live, madeUpVector, onFrame,
  patch, slider, stepper, tokenRow,
} from "./kit.js";

const LETTERS = [..."ABCDEFGHIJKL"];
const [WIDEST, WIDTH, ROUNDS] = [16, 4, 4]; // of a key, of a value, and how often a pair can be written
const INPUTS = ["pairs", "d", "rule", "decay", "beta", "directions", "written", "query", "seed"];

// The made-up pairs: key_vectors and value_vectors of states.py -------------------------------------------------------

const zeros = (n) => new Float64Array(n);
const size = (x) => Math.sqrt(dot(x, x));

function unit(x) {
  const length = size(x);
  return x.map((each, c) => (length > 1e-9 ? each / length : Number(c === 0)));
}

function keysOf({ pairs, d, directions, seed }) {
  return LETTERS.slice(0, pairs).map((letter, i) => {
    if (directions === "one-hot") return Array.from({ length: d }, (_, c) => Number(c === i % d));
    const key = unit(madeUpVector(letter, d, "k", seed));
    return directions === "random" ? key : unit(key.map((x) => x + 1 / Math.sqrt(d)));
  });
}

const valuesOf = ({ pairs, seed }) => LETTERS.slice(0, pairs).map((letter) => madeUpVector(letter, WIDTH, "v", seed));

// The state: State of attnbook.efficient.linear -----------------------------------------------------------------------

/** kᵀS: the rows of S, weighted by the key. */
function reading(state, key) {
  const out = zeros(WIDTH);
  state.forEach((row, i) => row.forEach((x, c) => (out[c] += key[i] * x)));
  return out;
}

/** All that is drawn, from the inputs. */
function results(given) {
  const pairs = given.pairs;
  const [written, query] = [Math.min(given.written, ROUNDS * pairs), Math.min(given.query, pairs - 1)];
  const inputs = { ...given, written, query };
  const { d, rule, beta } = inputs;
  const [keys, values] = [keysOf(inputs), valuesOf(inputs)];
  const kept = rule === "decay" ? inputs.decay : 1;
  const parts = values.map(() => zeros(WIDTH));
  let state = Array.from({ length: d }, () => zeros(WIDTH));
  let last = null; // of the last write: the pair, and how far from its value the key's old reading was
  for (let time = 0; time < written; time++) {
    const pair = time % pairs;
    const key = keys[pair];
    state = state.map((row) => row.map((x) => kept * x));
    const found = reading(state, key);
    const added = Array.from(values[pair], (x, c) => (rule === "delta" ? beta * (x - found[c]) : x));
    state.forEach((row, i) => added.forEach((x, c) => (row[c] += key[i] * x)));
    for (const part of parts) part.forEach((x, c) => (part[c] = kept * x));
    const likeness = dot(keys[query], key);
    added.forEach((x, c) => (parts[pair][c] += likeness * x));
    last = { pair, off: size(added.map((_, c) => values[pair][c] - found[c])) };
  }
  const off = (pair) => reading(state, keys[pair]).map((x, c) => x - values[pair][c]);
  const errors = keys.slice(0, written).map((_, pair) => size(off(pair)) / size(values[pair]));
  return {
    ...inputs, keys, state, parts, errors, last, read: reading(state, keys[query]), wanted: values[query],
    difference: off(query), likeness: keys.map((key) => dot(keys[query], key)), weights: parts.map(size),
  };
}

// In words ------------------------------------------------------------------------------------------------------------

function wroteWords({ written, pairs, rule, decay, beta, last }) {
  if (!last) return "Nothing is written yet: S is all zeros, and so is whatever is read.";
  const name = LETTERS[last.pair];
  const round = written > pairs ? `, in round ${Math.ceil(written / pairs)}` : "";
  if (rule === "sum") return `${name} was written${round}: k vᵀ was added, whatever was there under its key.`;
  if (rule === "decay") {
    return `${name} was written${round}: all of S was multiplied by ${format(decay, 2)}, then k vᵀ added.`;
  }
  return `${name} was written${round}: its key found a value ${format(last.off)} away from v; ${format(beta, 2)} of ` +
    "the difference was added.";
}

function readWords({ written, query, errors, likeness, weights }) {
  const name = LETTERS[query];
  if (!written) return `Asked for ${name}: nothing to find.`;
  const others = weights.map((weight, pair) => (pair === query ? 0 : weight));
  const loudest = others.indexOf(Math.max(...others));
  const noise = others[loudest] > 5e-4
    ? ` Loudest of the others: ${LETTERS[loudest]}, whose key has a cosine of ${format(likeness[loudest], 2)} with it.`
    : " No other pair is heard.";
  if (query >= errors.length) return `${name} was never written: all that is read is interference.${noise}`;
  return `Asked for ${name}: error ${format(errors[query])}.${noise}`;
}

function verdict({ errors, d, pairs }) {
  const clean = errors.filter((error) => error < 0.005).length;
  const mean = errors.reduce((total, error) => total + error, 0) / (errors.length || 1);
  return errors.length
    ? `Read back without error: ${clean} of ${errors.length} written. Mean error: ${format(mean)}. ` +
      `The state has ${d} × ${WIDTH} numbers, however many pairs go in; a cache of the ${pairs} pairs would have ` +
      `${pairs} × ${d + WIDTH}.`
    : `The state has ${d} × ${WIDTH} numbers, however many pairs go in.`;
}

// Drawing -------------------------------------------------------------------------------------------------------------

const channels = (n, name) => Array.from({ length: n }, (_, i) => `${name}${i + 1}`);
const VALUES = channels(WIDTH, "v");

function memory() {
  const map = heatmap({
    label: "The state S", rowTitle: "channel of the key", colTitle: "channel of the value", palette: "diverging",
    maxHeight: 352,
  });
  const says = h("p", { class: "states-says" });
  return {
    element: h("div", { class: "states-memory" }, map.element, says),
    update(view) {
      map.update({ values: view.state, rows: channels(view.d, "k"), cols: VALUES });
      patch(says, { text: wroteWords(view) });
    },
  };
}

/** Ask for a key: what comes back, beside what was wanted, and of whom it is made. */
function question(act) {
  const row = tokenRow({ label: "pair whose key is asked for", onSelect: (query) => act.change({ query }) });
  const map = heatmap({ label: "What is read", rowTitle: "vector", colTitle: "channel of the value",
    palette: "diverging" });
  const made = heatmap({ label: "Of whom it is made", rowTitle: "pair (the sum is what is read)",
    colTitle: "channel of the value", palette: "diverging", maxHeight: 264 });
  const says = h("p", { class: "states-says states-tall" });
  return {
    element: h("div", { class: "ab-panel states-panel" }, h("b", null, "Ask for a key"), row.element, says,
      map.element, made.element),
    update(view) {
      row.update({ tokens: LETTERS.slice(0, view.pairs), selected: view.query });
      map.update({ values: [view.wanted, view.read, view.difference], cols: VALUES,
        rows: [`v of ${LETTERS[view.query]}`, "kᵀS, read", "difference"] });
      made.update({ values: view.parts, rows: LETTERS.slice(0, view.pairs), cols: VALUES });
      patch(says, { text: readWords(view) });
    },
  };
}

function mistakes() {
  const plot = bars({ label: "error of each pair", domain: [0, 1.5], height: 150, format: (x) => format(x, 2) });
  const says = h("p", { class: "states-says states-tall" });
  return {
    element: h("div", { class: "ab-panel states-panel" }, h("b", null, "Error of each pair, |kᵀS − v| / |v|"),
      h("p", { class: "ab-note" }, "dashed: as wrong as an answer of zeros"), plot.element, says),
    update(view) {
      const { errors, query } = view;
      plot.update({ values: errors, labels: LETTERS, mark: query < errors.length ? query : null, level: 1 });
      patch(says, { text: verdict(view) });
    },
  };
}

// Controls ------------------------------------------------------------------------------------------------------------

/** Writing step by step; playing goes once through the pairs that are left of this round. */
const writer = (act) => stepper({
  label: "writes done", beat: 1000, limits: [0, ROUNDS * LETTERS.length], goTo: act.write,
  names: { step: "Write next", play: "Play", back: "Back", reset: "Clear" },
  course({ at, most }) {
    const pairs = most / ROUNDS;
    return [at + 1, (Math.floor(at / pairs) + 1) * pairs];
  },
});

function settings(act) {
  const number = (label, name, min, max) => slider({
    label, min, max, step: 1, value: min, format: String, onInput: (x) => act.change({ [name]: Math.round(x) }),
  });
  const counts = { pairs: number("pairs", "pairs", 1, LETTERS.length), d: number("d, width of a key", "d", 2, WIDEST) };
  const strengths = {
    decay: slider({ label: "decay, what is kept", min: 0.3, max: 1, step: 0.01, value: 1, limits: [0.001, 1],
      onInput: (decay) => act.change({ decay }) }),
    beta: slider({ label: "β, strength", min: 0, max: 2, step: 0.05, value: 1,
      onInput: (beta) => act.change({ beta }) }),
  };
  const rule = choice({
    label: "write by", value: "sum", onChange: (name) => act.change({ rule: name }),
    options: [["sum", "sum"], ["decay", "sum with decay"], ["delta", "delta rule"]].map(
      ([value, label]) => ({ value, label })),
  });
  const directions = choice({
    label: "keys", value: "random", onChange: (name) => act.change({ directions: name }),
    options: ["one-hot", "random", "similar"].map((value) => ({ value, label: value })),
  });
  const other = button("Other vectors", () => act.other());
  const slot = h("div", { class: "states-slot" }, strengths.decay.element, strengths.beta.element);
  return {
    element: h("div", { class: "ab-panel states-settings" }, rule.element, directions.element, counts.pairs.element,
      counts.d.element, slot, h("div", null, other)),
    update(view) {
      for (const [name, each] of Object.entries({ ...counts, ...strengths })) each.set(view[name]);
      strengths.decay.element.hidden = view.rule !== "decay";
      strengths.beta.element.hidden = view.rule !== "delta";
      rule.set(view.rule);
      directions.set(view.directions);
    },
  };
}

// The whole -----------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const read = () => Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));

  const act = {
    /** Other inputs; with fewer pairs the writes and the question fall back to the last. */
    change(changes) {
      const next = results({ ...read(), ...changes });
      commit(model, { ...changes, written: next.written, query: next.query });
      schedule.byHand();
      schedule.flush(); // a second press must find what the first has done
    },
    /** What has just been written for the first time is asked for at once. */
    write(target) {
      const now = read();
      const written = clamp(target, 0, ROUNDS * now.pairs);
      act.change({ written, ...(written > now.written && written <= now.pairs && { query: written - 1 }) });
    },
    other: () => act.change({ seed: (model.get("seed") + 1) % 1000 }),
  };

  const [steps, ask, controls] = [writer, question, settings].map((make) => make(act));
  const [matrix, errors] = [memory(), mistakes()];
  const root = explorerRoot("states", "State explorer", controls.element,
    h("div", { class: "states-body" },
      h("div", { class: "states-side" }, steps.element, matrix.element, errors.element),
      h("div", { class: "states-side" }, ask.element)));

  function draw(byHand) {
    const view = results(read());
    steps.update({ at: view.written, most: ROUNDS * view.pairs });
    for (const each of [matrix, ask, errors, controls]) each.update(view);
    if (!byHand) return;
    announce(root, `Writes done: ${view.written}. ${wroteWords(view)} ${readWords(view)}`);
  }

  function state() {
    schedule.flush();
    const view = results(read());
    const inputs = Object.fromEntries(INPUTS.map((name) => [name, view[name]]));
    const rows = (matrix) => matrix.map((row) => [...row]);
    return { ...inputs, state: rows(view.state), read: [...view.read], errors: view.errors, parts: rows(view.parts) };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return () => {
    steps.stop();
    leave();
  };
}

export default { render };
