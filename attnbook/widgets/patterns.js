// The pattern explorer: compose a sparse pattern, or paint one; see what it costs and who hears whom after k layers.
//
// The mask and how it was made (`patterns`, as "local 3 + global 1" or "painted", with `causal`, `unit` and `block`)
// are the model's (attnbook/widgets/patterns.py), always set together, so that neither end has to guess.

import {
  announce, blocksOf, button, cellBoard, cellTable, choice, clamp, commit, explorerRoot, format, h, live, maskRule,
  maskWords, meters, onFrame, paintGrid, paintMask, patch, sameCells, slider, swatches, toggle, undoHistory,
} from "./kit.js";

const [SHORTEST, LONGEST, LARGEST_BLOCK, MOST_LAYERS] = [2, 32, 8, 8];
const PAINTED = "painted";
const REMEMBERED = 100; // steps that can be undone

// PARTS of patterns.py, in words: [label, least, most, start] of each number.
const PARTS = {
  local: { says: "near tokens", numbers: [["window: nearer than", 1, 16, 2]] },
  dilated: { says: "near ones, with gaps", numbers: [["window: so many each way", 1, 8, 3], ["step", 1, 8, 2]] },
  strided: { says: "every so many", numbers: [["stride", 1, 16, 4]] },
  block: { says: "one's own chunk", numbers: [["size of a chunk", 1, 16, 4]] },
  global: { says: "the first see and are seen", numbers: [["global ones", 1, 8, 1]] },
  random: { says: "drawn by lot", numbers: [["drawn for each query", 1, 8, 2], ["seed", 0, 99, 0]] },
};
const KNOWN = [
  { label: "Sliding window", patterns: "local 4", causal: true },
  { label: "Longformer", patterns: "local 3 + global 1", causal: false },
  { label: "BigBird", patterns: "local 2 + global 1 + random 2 0", causal: false },
  { label: "Sparse Transformer", patterns: "local 4 + strided 4", causal: true },
];

// Patterns: pattern_mask of patterns.py -------------------------------------------------------------------------------

/** {local: [3], global: [1]} of "local 3 + global 1"; of a painted mask, nothing. */
function parse(patterns) {
  if (patterns === PAINTED) return {};
  return Object.fromEntries(patterns.split(" + ").filter(Boolean).map((part) => {
    const [name, ...numbers] = part.split(" ");
    return [name, numbers.map(Number)];
  }));
}

function spell(parts) {
  return Object.keys(PARTS).filter((name) => parts[name]).map((name) => [name, ...parts[name]].join(" ")).join(" + ");
}

/** `may(i, j)` of one part among `rows` tokens or blocks. */
function partRule(name, numbers, rows) {
  const [a] = numbers;
  return {
    strided: (i, j) => Math.abs(i - j) % a === 0,
    block: (i, j) => Math.floor(i / a) === Math.floor(j / a),
  }[name] ?? maskRule(name, numbers, rows, rows);
}

function patternMask({ patterns, causal, unit, block }, n) {
  const side = unit === "block" ? block : 1;
  const rows = Math.ceil(n / side);
  const rules = Object.entries(parse(patterns)).map(([name, numbers]) => partRule(name, numbers, rows));
  const at = (i) => Math.floor(i / side);
  return cellTable(n, n, (i, j) => (!causal || j <= i) && rules.some((may) => may(at(i), at(j))));
}

// What follows from them: the results of patterns.py ------------------------------------------------------------------

/** In how many layers what is at key j gets to query i; -1 for never. `via[i][j]` is whom i hears it from. */
function hopsOf(mask) {
  const n = mask.length;
  const hops = cellTable(n, n, () => -1);
  const via = cellTable(n, n, () => -1);
  const listens = mask.map((row) => row.flatMap((may, j) => (may ? [j] : [])));
  for (let i = 0; i < n; i++) {
    hops[i][i] = 0;
    let edge = [i];
    for (let layer = 1; edge.length; layer++) {
      const next = [];
      for (const from of edge) {
        for (const j of listens[from]) {
          if (hops[i][j] >= 0) continue;
          [hops[i][j], via[i][j]] = [layer, from];
          next.push(j);
        }
      }
      edge = next;
    }
  }
  return { hops, via };
}

/** The tokens on a shortest way from query i to key j. */
function wayOf(via, i, j) {
  const way = [j];
  while (way[0] !== i) way.unshift(via[i][way[0]]);
  return way;
}

function results(mask, block, layers, causal) {
  const n = mask.length;
  const { kept, cells, computed } = blocksOf(mask, block);
  const { hops, via } = hopsOf(mask);
  let [connected, heard, wanted] = [0, 0, 0];
  hops.forEach((row, i) => row.forEach((hop, j) => {
    if (causal && j > i) return;
    wanted += 1;
    heard += hop >= 0 && hop <= layers;
    connected = hop < 0 || connected === null ? null : Math.max(connected, hop);
  }));
  const reach = hops.map((row) => row.map((hop) => hop >= 0 && hop <= layers));
  const [cost, density] = [computed / n ** 2, cells / n ** 2];
  return { kept, cells, cost, density, hops, via, reach, connected, heard, wanted };
}

const times = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// Drawing -------------------------------------------------------------------------------------------------------------

const SPACE = { room: { left: 22, top: 18, right: 2 }, most: { all: 400, cell: 32 }, away: { left: 5, top: 8 } };

/** The pattern of one layer, to paint on, under the blocks of a kernel. */
function board(act) {
  let view = null;
  const spots = Array.from({ length: MOST_LAYERS }, () => h("div", { class: "patterns-spot" }));
  const grid = paintGrid({
    act, describe,
    label: "The pattern: rows are queries, columns are keys. Space changes a cell, Shift with an arrow paints.",
  });
  const drawing = cellBoard({
    ...SPACE, "aria-hidden": "true", over: [spots, grid.element], paint: paintMask,
    laid: ({ n, cell, left, top }) =>
      grid.update({ rows: n, cols: n, left, top, width: n * cell, height: n * cell }),
  });
  const element = h("figure", { class: "ab-board patterns-board" },
    h("figcaption", null, h("b", null, "in one layer"),
      h("span", { class: "ab-note" }, " rows: query · columns: key")),
    drawing.plate, swatches([["full", "may attend"], ["hatched", "computed in vain"]]));

  function describe({ row, col }) {
    const hop = view.hops[row][col];
    const heard = hop < 0 ? "never heard" : hop ? `heard after ${times(hop, "layer")}` : "its own";
    return `query ${row}, key ${col}: ${maskWords(view, { row, col })}; ${heard}`;
  }

  return {
    element, describe,
    /** Frame the cells of a way through the layers, [query, …, key]. */
    trace(way) {
      const { cell } = drawing;
      const { left, top } = SPACE.room;
      spots.forEach((spot, step) => {
        const shown = cell && step + 1 < way.length;
        const [x, y] = [left + way[step + 1] * cell, top + way[step] * cell];
        const style = `transform:translate(${x}px,${y}px);width:${cell}px;height:${cell}px`;
        patch(spot, { style: shown ? style : "display:none" });
      });
    },
    update(next) {
      view = next;
      drawing.update(next);
      grid.update({});
    },
  };
}

/** Who has heard whom: the number of layers that it takes, filled where those that there are suffice. */
function echo(act) {
  let view = null;
  const drawing = cellBoard({
    ...SPACE, role: "img",
    paint({ pen, look, hatch, n, left, top, cell, lines }, { hops, layers }) {
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.font = `${Math.floor(clamp(cell * 0.6, 6, 12))}px ${look.font}`;
      hops.forEach((row, i) => row.forEach((hop, j) => {
        const heard = hop >= 0 && hop <= layers;
        const [x, y] = [left + j * cell, top + i * cell];
        pen.fillStyle = heard ? look.may : hop < 0 ? hatch : look.paper;
        pen.fillRect(x, y, cell, cell);
        if (cell < 11 || hop < 0) return;
        pen.fillStyle = heard ? look.on : look.ink;
        pen.fillText(hop, x + cell / 2, y + cell / 2 + 0.5);
      }));
      lines(look.edge, 0.4, 1);
      lines(look.edge, 1, n);
    },
  });
  drawing.plate.addEventListener("pointermove", (event) => {
    const cell = drawing.at(event);
    act.point(view.mask[cell.row]?.[cell.col] === undefined ? null : cell);
  });
  drawing.plate.addEventListener("pointerleave", () => act.point(null));
  const title = h("b");
  const element = h("figure", { class: "ab-board patterns-board" },
    h("figcaption", null, title, h("span", { class: "ab-note" }, " number: layers it takes")),
    drawing.plate, swatches([["full", "heard"], ["empty", "not yet"], ["hatched", "never"]]));
  return {
    element,
    update(next) {
      view = next;
      const { layers, heard, wanted } = next;
      patch(title, { text: `after ${times(layers, "layer")}` });
      patch(drawing.canvas, {
        "aria-label": `Who has heard whom after ${times(layers, "layer")}: ${heard} of ${wanted} pairs`,
      });
      drawing.update(next);
    },
  };
}

// Controls ------------------------------------------------------------------------------------------------------------

/** A part of the pattern: on or off, and its numbers while it is on. */
function partControl(name, act) {
  const { says, numbers } = PARTS[name];
  let now = numbers.map(([, , , start]) => start); // kept while the part is off
  const on = toggle({ label: `${name}: ${says}`, onChange: (checked) => act.part(name, checked ? now : null, null) });
  const knobs = numbers.map(([label, min, max, start], which) => slider({
    label: `${name} · ${label}`, min, max, step: 1, value: start, format: String,
    onInput: (x) => act.part(name, now.with(which, Math.round(x)), `${name} ${which}`),
  }));
  const drawer = h("div", { class: "patterns-knobs" }, knobs.map((knob) => knob.element));
  return {
    element: h("div", { class: "patterns-part" }, on.element, drawer),
    update(parts) {
      now = parts[name] ?? now;
      on.set(Boolean(parts[name]));
      drawer.hidden = !parts[name];
      knobs.forEach((knob, which) => knob.set(now[which]));
    },
  };
}

function recipePanel(act) {
  const known = KNOWN.map(({ label, ...recipe }) => button(label, () => act.cook(recipe, null)));
  const parts = Object.keys(PARTS).map((name) => partControl(name, act));
  const unit = choice({
    label: "The numbers count", onChange: (value) => act.cook({ unit: value }, null),
    options: [{ value: "token", label: "tokens" }, { value: "block", label: "whole blocks" }],
  });
  const causal = toggle({ label: "causal: nobody looks ahead", onChange: (on) => act.cook({ causal: on }, null) });
  const undo = button("Undo", act.undo);
  const none = button("Clear", () => act.cook({ patterns: "" }, null));
  const note = h("p", { class: "ab-note patterns-note" });
  const element = h("div", { class: "ab-panel patterns-panel" },
    h("div", { class: "ab-bar-of-buttons" }, known), parts.map((part) => part.element), unit.element, causal.element,
    h("div", { class: "ab-bar-of-buttons" }, undo, none), note);
  return {
    element,
    update(view) {
      const chosen = parse(view.patterns);
      parts.forEach((part) => part.update(chosen));
      unit.set(view.unit);
      causal.set(view.causal);
      patch(undo, { disabled: !view.undoable });
      patch(note, {
        text: view.patterns === PAINTED ? "Painted by hand. A part that is switched on starts afresh; Undo returns."
          : `In Python: patterns="${view.patterns}"`,
      });
    },
  };
}

function sizePanel(act) {
  const number = (label, min, max, name, spelt) => slider({
    label, min, max, step: 1, value: min, format: spelt, onInput: (x) => act.size(name, Math.round(x)),
  });
  const n = number("n, tokens", SHORTEST, LONGEST, "n", String);
  const block = number("block of a block-wise kernel", 1, LARGEST_BLOCK, "block", (x) => `${x} × ${x}`);
  const layers = number("layers, one upon the other", 1, MOST_LAYERS, "layers", String);
  return {
    element: h("div", { class: "ab-panel patterns-panel" }, layers.element, n.element, block.element),
    update(view) {
      n.set(view.mask.length);
      block.set(view.block);
      layers.set(view.layers);
    },
  };
}

/** What a layer costs, and what that buys after all the layers. */
function bill() {
  const shares = meters(["full attention", "kept blocks", "pattern itself"], "patterns-bar");
  const [blocks, buys] = [h("p"), h("p", { class: "patterns-buys" })];
  const element = h("div", { class: "ab-panel patterns-panel" },
    h("div", { class: "ab-label" }, "FLOPs of a layer"), shares.elements, blocks, buys);
  return {
    element,
    update({ cost, density, cells, kept, mask, layers, heard, wanted, connected }) {
      shares.update([1, cost, density].map((share) => [share, `${format(100 * share, 1)} %`]));
      const all = kept.flat();
      patch(blocks, {
        text: `Kept: ${all.filter(Boolean).length} of ${all.length} blocks (cost ${format(cost)}), for ${cells} of ` +
          `${mask.length ** 2} pairs (density ${format(density)}).`,
      });
      const whole = connected === null ? "However many layers, some are never heard."
        : `All is heard after ${times(connected, "layer")}.`;
      patch(buys, {
        text: `${times(layers, "layer")} cost${layers === 1 ? "s" : ""} as much as ${format(layers * cost, 2)} full ` +
          `ones; ${heard} of ${wanted} pairs are heard by then. ${whole}`,
      });
    },
  };
}

// The whole -----------------------------------------------------------------------------------------------------------

const INPUTS = ["mask", "patterns", "causal", "unit", "block", "layers"];
const MADE = ["mask", "patterns", "causal", "unit", "block"]; // what Undo brings back

function render({ model, el }) {
  const s = {}; // the model's inputs, as last read
  const history = undoHistory(REMEMBERED);
  let pointed = null; // at which cell
  let view = null; // what is drawn

  const act = {
    may: ({ row, col }) => s.mask[row][col],
    /** Other parts, causal or not, counted in blocks or not: the mask follows. */
    cook(changes, tag) {
      const next = { ...s, ...changes };
      change({ ...changes, mask: next.patterns === PAINTED ? cut(s.mask, next.causal) : made(next) }, tag);
    },
    part(name, numbers, tag) {
      act.cook({ patterns: spell({ ...parse(s.patterns), [name]: numbers }) }, tag);
    },
    size(name, x) {
      if (name === "layers") return put({ layers: x });
      const n = name === "n" ? x : s.mask.length;
      const next = { ...s, ...(name === "block" && { block: x }) };
      const painted = cellTable(n, n, (i, j) => s.mask[i]?.[j] ?? false);
      change({ block: next.block, mask: s.patterns === PAINTED ? painted : made(next, n) }, name);
    },
    paint(cells, value, begin) {
      const mask = s.mask.map((row) => [...row]);
      for (const { row, col } of cells) mask[row][col] = value && !(s.causal && col > row);
      if (sameCells(mask, s.mask)) return;
      change({ mask, patterns: PAINTED }, begin ? {} : history.tag); // {}: equal to no other tag
    },
    undo() {
      const before = history.back();
      if (before) put(before);
    },
    point(cell) {
      pointed = cell;
      const inside = cell && Math.max(cell.row, cell.col) < s.mask.length;
      const row = inside ? cell.row : s.mask.length - 1;
      const count = view.reach[row].filter(Boolean).length;
      const way = inside && view.hops[cell.row][cell.col] > 0 ? wayOf(view.via, cell.row, cell.col) : [];
      paper.trace(way.length - 1 <= MOST_LAYERS ? way : []);
      patch(field, { text: `Query ${row} has heard ${count} of ${s.mask.length} tokens by now.` });
      patch(said, {
        text: !inside ? "Drag over cells to paint; point at a cell to see the way. By keyboard: arrows move, Space " +
          "changes a cell, Shift with an arrow paints on."
          : `${paper.describe(cell)}${way.length > 2 ? ` (${way.join(" ← ")})` : ""}`,
      });
    },
  };

  const made = (recipe, n = s.mask.length) => patternMask(recipe, n);
  const paper = board(act);
  const after = echo(act);
  const [said, field] = [h("p", { class: "patterns-said" }), h("p", { class: "patterns-field" })];
  const [recipe, sizes, cost] = [recipePanel, sizePanel, bill].map((make) => make(act));
  const root = explorerRoot("patterns", "Pattern explorer",
    h("div", { class: "patterns-body" }, paper.element, after.element), said, field,
    h("div", { class: "patterns-body" }, recipe.element, h("div", { class: "patterns-side" }, sizes.element,
      cost.element)));

  const present = () => Object.fromEntries(MADE.map((name) => [name, s[name]]));

  function change(changes, tag) {
    history.keep(present(), tag);
    put(changes);
  }

  function put(changes) {
    Object.assign(s, changes);
    commit(model, changes);
    schedule.byHand();
  }

  function draw(byHand) {
    if (!pull() && !byHand) return;
    redraw();
    if (!byHand) return;
    const { kept, heard, wanted, layers } = view;
    announce(root, `${kept.flat().filter(Boolean).length} of ${kept.flat().length} blocks kept, ${heard} of ` +
      `${wanted} pairs heard after ${times(layers, "layer")}`);
  }

  function redraw() {
    view = { ...s, n: s.mask.length, ...results(s.mask, s.block, s.layers, s.causal), undoable: history.any };
    for (const each of [paper, after, recipe, sizes, cost]) each.update(view);
    act.point(pointed); // its words may have changed, or it may be gone
  }

  /** What Python, or another view, has set. */
  function pull() {
    const next = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    if (INPUTS.every((name) => next[name] === s[name])) return false;
    if (s.mask && !sameCells(next.mask, s.mask)) history.keep(present());
    Object.assign(s, next);
    return true;
  }

  function state() {
    schedule.flush();
    const { kept, cost: share, density, hops, reach, connected } = view;
    return { ...s, n: s.mask.length, kept, cost: share, density, hops, reach, connected };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

const cut = (mask, causal) => (causal ? mask.map((row, i) => row.map((may, j) => may && j <= i)) : mask);

export default { render };
