// The mask explorer: paint who may attend to whom, and see what each convention and a block-wise kernel make of it.
//
// The mask and the block are the model's (attnbook/widgets/maskeditor.py). How the mask was made, its recipe, is the
// page's own: it is found again in any mask that a preset, or a causal one with a preset, would give.

import {
  announce, blocksOf, button, canvasColours, cellTable, choice, clamp, commit, ellipsis, explorerRoot, format, h,
  hatching, isolated, live, maskRule, maskWords, meters, onFrame, onLook, paintGrid, paintMask, patch, ruleCells,
  sameCells, sizedCanvas, slider, swatches, toggle, undoHistory,
} from "./kit.js";

const LONGEST = 32;
const LARGEST_BLOCK = 16;
const REMEMBERED = 200; // steps that can be undone
const KINDS = ["full", "causal", "padding", "prefix", "local", "dilated", "global", "random"];

// Masks: attnbook.masks, cell by cell --------------------------------------------------------------------------------

/** The numbers that a preset takes, within what this size allows: [name, label, least, most, start]. */
function parameters(kind, nQ, nKv) {
  const n = Math.max(nQ, nKv);
  return {
    padding: [["length", "real keys, the rest is padding", 0, nKv, Math.max(1, nKv - 3)]],
    prefix: [["length", "prefix: the first keys, which all may see", 0, nKv, 3]],
    local: [["window", "window: keys less than this far, both ways", 1, n, 3]],
    dilated: [["window", "window: keys each way, oneself included", 1, n, 3], ["step", "step between them", 1, n, 2]],
    global: [["tokens", "global tokens", 0, n, 1]],
    random: [["perRow", "keys drawn for each query", 0, nKv, 3], ["seed", "seed", 0, 99, 0]],
  }[kind] ?? [];
}

/** The numbers of a part's preset as they apply at this size; what it has none of starts as the preset does. */
function settled({ kind, numbers }, nQ, nKv) {
  return Object.fromEntries(parameters(kind, nQ, nKv).map(([name, , least, most, start]) =>
    [name, clamp(numbers[kind]?.[name] ?? start, least, most)]));
}

/** `may(i, j)` of one part of a recipe: {kind, numbers: {kind: {name: number}}, start, cells}. */
function partRule(part, nQ, nKv) {
  const { kind, start, cells } = part;
  const numbers = settled(part, nQ, nKv);
  const shift = nKv - nQ; // bottom-right: the last query stands at the last key
  return {
    painted: (i, j) => cells[i][j],
    full: () => true,
    causal: (i, j) => j <= i + (start ? 0 : shift),
    padding: (i, j) => j < numbers.length,
    prefix: (i, j) => j < numbers.length || j <= i + shift,
  }[kind] ?? maskRule(kind, Object.values(numbers), nQ, nKv);
}

function partMask(part, nQ, nKv) {
  if (part.kind === "painted") return part.cells;
  return cellTable(nQ, nKv, partRule(part, nQ, nKv));
}

function recipeMask({ first, op, second }, nQ, nKv) {
  const a = partMask(first, nQ, nKv);
  if (op === "alone") return a;
  const b = partMask(second, nQ, nKv);
  return a.map((row, i) => row.map((may, j) => (op === "and" ? may && b[i][j] : may || b[i][j])));
}

const painted = (cells) => ({ kind: "painted", numbers: {}, cells });
const preset = (kind, numbers = {}) => ({ kind, numbers: { [kind]: numbers }, start: false });

/** Every preset with every number that matters, the plainest first. */
function* presets(nQ, nKv) {
  for (const kind of ["full", "causal"]) yield preset(kind);
  yield { ...preset("causal"), start: true };
  for (const kind of ["padding", "prefix", "local", "global"]) {
    const [[name, , least, most]] = parameters(kind, nQ, nKv);
    for (let x = least; x <= most; x++) yield preset(kind, { [name]: x });
  }
  for (let step = 2; step <= Math.max(nQ, nKv); step++) {
    for (let window = 1; window * step <= Math.max(nQ, nKv) + step; window++) yield preset("dilated", { window, step });
  }
  for (let perRow = 0; perRow <= nKv; perRow++) yield preset("random", { perRow, seed: 0 });
}

/**
 * The recipe that a mask answers to: a preset, a causal one with a preset, or the cells as they are. Hundreds are
 * tried whenever Python or another view sets a mask, so each is given up at its first wrong cell.
 */
function recognised(mask) {
  const [nQ, nKv] = [mask.length, mask[0].length];
  const answers = ({ first, op, second }) => {
    const rules = (op === "alone" ? [first] : [first, second]).map((part) => partRule(part, nQ, nKv));
    return mask.every((row, i) => row.every((may, j) => may === rules.every((rule) => rule(i, j))));
  };
  const plain = { op: "alone", second: preset("local") };
  const all = [...presets(nQ, nKv)];
  const recipes = [
    ...all.map((first) => ({ ...plain, first })),
    ...all.map((second) => ({ first: preset("causal"), op: "and", second })),
  ];
  return recipes.find(answers) ?? { ...plain, first: painted(mask) };
}

/** A painted mask at another size keeps its corner; new cells are open. */
function carried(cells, nQ, nKv) {
  return cellTable(nQ, nKv, (i, j) => cells[i]?.[j] ?? true);
}

// What follows from a mask: masks.kept_blocks and the results of maskeditor.py ---------------------------------------

function results(mask, block) {
  const [nQ, nKv] = [mask.length, mask[0].length];
  const { kept, whole, cells, computed } = blocksOf(mask, block);
  return {
    kept, whole, cells, empty_rows: mask.flatMap((row, i) => (row.some(Boolean) ? [] : [i])),
    saved: (nQ * nKv - computed) / (nQ * nKv), density: cells / (nQ * nKv),
  };
}

// The mask as Python ------------------------------------------------------------------------------------------------

function partCode(part, nQ, nKv) {
  const { kind, start, cells } = part;
  const { length, window, step, tokens, perRow, seed } = settled(part, nQ, nKv);
  const size = `${nQ}, ${nKv}`;
  if (kind === "painted") {
    const rows = cells.map((row) => row.map(Number).join("")).join(" ");
    return `np.array([[cell == "1" for cell in row] for row in "${rows}".split()])`;
  }
  return {
    full: `np.ones((${size}), dtype=bool)`,
    causal: start ? `np.tri(${size}, dtype=bool)` : `masks.causal(${size})`,
    padding: `masks.padding(${length}, ${nKv})`,
    prefix: `(masks.causal(${size}) | masks.padding(${length}, ${nKv}))`,
    local: `masks.local(${size}, ${window})`,
    dilated: `masks.dilated(${size}, ${window}, ${step})`,
    global: `masks.globally(${size}, ${tokens})`,
    random: `masks.random(${size}, ${perRow}, seed=${seed})`,
  }[kind];
}

function recipeCode({ first, op, second }, nQ, nKv) {
  const parts = op === "alone" ? [first] : [first, second];
  const code = parts.map((each) => partCode(each, nQ, nKv));
  // Padding alone has one row, for all queries alike, and torch's attn_mask wants them all.
  if (parts.every(({ kind }) => kind === "padding")) code[0] = `${partCode(preset("full"), nQ, nKv)} & ${code[0]}`;
  return code.length === 1 ? code[0].replace(/^\((.*\))\)$/, "$1") : code.join(op === "or" ? " | " : " & ");
}

const CALLS = `
allowed = torch.tensor(mask)                # True = may attend
F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
ignored = ~allowed                          # True = ignore
nn.MultiheadAttention(d_model, n_heads)(q, k, v, attn_mask=ignored)
added = masks.to_additive(allowed, like=q)  # 0 or -inf, added to the scores
F.scaled_dot_product_attention(q, k, v, attn_mask=added)`;

// Drawing -----------------------------------------------------------------------------------------------------------

/** The mask itself, to paint on, under the blocks of a kernel. */
function board(act) {
  let view = null;
  let frame = null;
  const canvas = h("canvas", { class: "ab-pen", "aria-hidden": "true" });
  const grid = paintGrid({
    act, describe,
    label: "The mask: rows are queries, columns are keys. Space changes a cell, Shift with an arrow paints.",
  });
  const plate = h("div", { class: "ab-canvas ab-drawing" }, canvas, grid.element);
  const said = h("p", { class: "maskeditor-said" });
  const element = h("figure", { class: "ab-board maskeditor-board" },
    h("figcaption", null, h("b", null, "mask"), h("span", { class: "ab-note" }, " rows: query · columns: key")),
    plate,
    swatches([["full", "may attend"], ["hatched", "ignored, but in a kept block"],
      ["empty", "ignored, skipped with its block"]]),
    said);
  onLook(plate, () => {
    frame = null;
    draw();
  });

  function describe({ row, col }) {
    const { rows, cols } = view;
    return `query ${name(rows, row)}, key ${name(cols, col)}: ${maskWords(view, { row, col })}`;
  }

  const name = (names, i) => (names[i] === String(i) ? String(i) : `${i} ‘${isolated(names[i])}’`);

  function lay() {
    const { mask, rows, cols } = view;
    const [nQ, nKv] = [mask.length, mask[0].length];
    const look = canvasColours(canvas);
    const pen = canvas.getContext("2d");
    const font = `11px ${look.font}`;
    pen.font = font;
    const measure = (text) => pen.measureText(text).width;
    const widest = (names) => Math.max(...names.map(measure));
    const left = Math.ceil(Math.min(widest(rows), 84)) + 8;
    const right = 18; // where an empty row is flagged
    const cell = clamp(Math.floor(Math.min((plate.clientWidth - 4 - left - right) / nKv, 430 / nQ)), 5, 34);
    const upright = widest(cols) > cell - 3;
    const top = upright ? Math.ceil(Math.min(widest(cols), 72)) + 8 : 18;
    const every = Math.ceil(12 / cell);
    const texts = (names, room) => names.map((text) => ellipsis(text, room, measure));
    frame = {
      look, font, left, top, cell, upright, every, rowTexts: texts(rows, left - 6),
      colTexts: texts(cols, upright ? top - 6 : cell), key: `${rows}|${cols}|${nQ}|${nKv}`,
    };
    frame.pen = sizedCanvas(canvas, left + nKv * cell + right, top + nQ * cell + 2);
    frame.hatch = hatching(frame.pen, look.edge, look.paper, 5);
    grid.update({ rows: nQ, cols: nKv, left, top, width: nKv * cell, height: nQ * cell });
  }

  function draw() {
    if (!view || !plate.clientWidth) return;
    const { mask, rows, cols, empty_rows } = view;
    const [nQ, nKv] = [mask.length, mask[0].length];
    if (frame?.key !== `${rows}|${cols}|${nQ}|${nKv}`) lay();
    const { pen, look, left, top, cell } = frame;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = look.paper;
    pen.fillRect(left, top, nKv * cell, nQ * cell);
    paintMask(frame, view);
    drawNames(empty_rows, nQ, nKv);
    grid.update({});
  }

  function drawNames(empty, nQ, nKv) {
    const { pen, look, font, left, top, cell, upright, every, rowTexts, colTexts } = frame;
    pen.textBaseline = "middle";
    pen.font = font;
    for (let i = 0; i < nQ; i++) {
      const alone = empty.includes(i);
      if (!alone && i % every) continue;
      pen.fillStyle = alone ? look.problem : look.ink;
      pen.textAlign = "right";
      pen.fillText(rowTexts[i], left - 5, top + (i + 0.5) * cell);
    }
    pen.fillStyle = look.problem;
    pen.strokeStyle = look.problem;
    pen.lineWidth = 2;
    pen.textAlign = "left";
    pen.font = `700 ${clamp(cell, 9, 14)}px ${look.font}`;
    for (const i of empty) {
      pen.strokeRect(left, top + i * cell + 1, nKv * cell, cell - 2);
      pen.fillText("∅", left + nKv * cell + 4, top + (i + 0.5) * cell);
    }
    pen.font = font;
    pen.fillStyle = look.ink;
    pen.textAlign = upright ? "left" : "center";
    for (let j = 0; j < nKv; j += every) {
      pen.save();
      pen.translate(left + (j + 0.5) * cell, top - (upright ? 5 : 8));
      if (upright) pen.rotate(-Math.PI / 2);
      pen.fillText(colTexts[j], 0, 0);
      pen.restore();
    }
  }

  function point(cell) {
    const inside = cell && cell.row < view.mask.length && cell.col < view.mask[0].length;
    patch(said, {
      text: inside ? `mask[${cell.row}, ${cell.col}] · ${describe(cell)}`
        : "Drag over cells to paint. By keyboard: arrows move, Space changes a cell, Shift with an arrow paints on.",
    });
  }

  return {
    element, point,
    update(next) {
      view = next;
      draw();
    },
  };
}

const FORMS = [
  { name: "this book, SDPA", says: "boolean: True = may attend", letters: ["F", "T"], words: ["False", "True"] },
  { name: "nn.MultiheadAttention", says: "boolean: True = ignore", letters: ["T", "F"], words: ["True", "False"] },
  { name: "added to the scores", says: "float: 0 may attend, −∞ ignore", letters: ["−∞", "0"], words: ["−∞", "0"] },
];

/** One convention's picture of the mask: filled cells are True (or 0), and each says what it holds where it fits. */
function form({ name, says, letters, words }, act) {
  const inverted = letters[0] === "T";
  let view = null;
  let frame = null;
  const canvas = h("canvas", { class: "ab-pen", role: "img" });
  const spot = h("div", { class: "maskeditor-spot" });
  const value = h("b");
  const plate = h("div", {
    class: "ab-canvas ab-drawing", onpointerleave: () => act.point(null),
    onpointermove(event) {
      const box = canvas.getBoundingClientRect();
      const [row, col] = [event.clientY - box.top, event.clientX - box.left].map((x) => Math.floor(x / frame.cell));
      act.point(view.mask[row]?.[col] === undefined ? null : { row, col });
    },
  }, canvas, spot);
  const element = h("figure", { class: "ab-board maskeditor-form" },
    h("figcaption", null, h("b", null, name), h("span", { class: "ab-note" }, ` ${says}`)), plate,
    h("p", { class: "maskeditor-value" }, value));
  onLook(plate, () => {
    frame = null;
    draw();
  });

  function draw() {
    if (!view || !plate.clientWidth) return;
    const { mask } = view;
    const [nQ, nKv] = [mask.length, mask[0].length];
    const key = `${nQ}|${nKv}`;
    if (frame?.key !== key) {
      const cell = clamp(Math.floor(Math.min((plate.clientWidth - 5) / nKv, 300 / nQ)), 3, 19);
      const pen = sizedCanvas(canvas, nKv * cell + 1, nQ * cell + 1);
      frame = { key, cell, pen, look: canvasColours(canvas) };
    }
    const { pen, cell, look } = frame;
    const size = Math.floor(Math.min(cell * (letters[0].length > 1 ? 0.5 : 0.62), 11));
    pen.font = `${size}px ${look.font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    mask.forEach((row, i) => row.forEach((may, j) => {
      const filled = may !== inverted;
      pen.fillStyle = filled ? look.may : look.paper;
      pen.fillRect(j * cell, i * cell, cell, cell);
      if (cell < 11) return;
      pen.fillStyle = filled ? look.on : look.ink;
      pen.fillText(letters[Number(may)], (j + 0.5) * cell, (i + 0.5) * cell + 0.5);
    }));
    pen.strokeStyle = look.edge;
    pen.lineWidth = 0.5;
    ruleCells(pen, { rows: nQ, cols: nKv, left: 0, top: 0, cell, every: 1 });
    const count = inverted ? nQ * nKv - view.cells : view.cells;
    const cells = `${count} of ${nQ * nKv} cells are ${words[inverted ? 0 : 1]}`;
    patch(canvas, { "aria-label": `${name}, ${says}; ${cells}` });
  }

  function point(cell) {
    const inside = frame && cell && cell.row < view.mask.length && cell.col < view.mask[0].length;
    const [x, y] = inside ? [cell.col * frame.cell, cell.row * frame.cell] : [];
    const side = `width:${frame?.cell}px;height:${frame?.cell}px`;
    patch(spot, { style: inside ? `transform:translate(${x}px,${y}px);${side}` : "display:none" });
    const text = inside ? `[${cell.row}, ${cell.col}] = ${words[Number(view.mask[cell.row][cell.col])]}` : "";
    patch(value, { text });
  }

  return {
    element, point,
    update(next) {
      const stale = next.mask !== view?.mask;
      view = next;
      if (stale) draw();
    },
  };
}

// Controls ----------------------------------------------------------------------------------------------------------

/** One part of the recipe: a preset and its numbers. `ask(part, what)` gets the part as the reader wants it. */
function ingredient(label, kinds, ask) {
  let now = null;
  const kind = choice({
    label, options: kinds.map((value) => ({ value, label: value })),
    onChange: (value) => ask({ ...now, kind: value }, null),
  });
  const start = toggle({
    label: "aligned at the start, as torch's is_causal", onChange: (on) => ask({ ...now, start: on }, null),
  });
  const note = h("p", { class: "ab-note" });
  const aligned = h("div", null, start.element, note);
  const knobs = KINDS.flatMap((owner) => parameters(owner, LONGEST, LONGEST).map(([name, text, min, max]) => ({
    owner, name, ...slider({
      label: text, min, max, step: 1, value: min, format: String,
      onInput(x) {
        const numbers = { ...now.numbers, [owner]: { ...now.numbers[owner], [name]: Math.round(x) } };
        ask({ ...now, numbers }, `${label} ${owner} ${name}`);
      },
    }),
  })));
  const element = h("div", { class: "maskeditor-part" }, kind.element, aligned, knobs.map((knob) => knob.element));

  function update(part, nQ, nKv) {
    now = part;
    kind.set(part.kind);
    start.set(part.start);
    aligned.hidden = part.kind !== "causal";
    const ends = nQ === nKv ? "With as many keys as queries, start and end are the same."
      : part.start ? "Query 0 stands at key 0; the last query does not see the latest keys."
        : "The last query stands at the last key, as a decoder with a cache needs.";
    patch(note, { text: ends });
    for (const knob of knobs) {
      knob.element.hidden = knob.owner !== part.kind;
      if (knob.element.hidden) continue;
      const [, , least, most] = parameters(knob.owner, nQ, nKv).find(([name]) => name === knob.name);
      knob.setRange(least, most);
      knob.set(settled(part, nQ, nKv)[knob.name]);
    }
  }

  return { element, update };
}

/** How the mask is made: a preset, and if wanted a second one, and their sizes. */
function recipePanel(act) {
  const ask = (which) => (part, tag) => act.cook({ [which]: part }, tag);
  const first = ingredient("Start from", [...KINDS, "painted"], ask("first"));
  const second = ingredient("The second", KINDS, ask("second"));
  const op = choice({
    label: "With a second", value: "alone", onChange: (value) => act.cook({ op: value }, null),
    options: [{ value: "alone", label: "no" }, { value: "and", label: "& both must" },
      { value: "or", label: "| either may" }],
  });
  const buttons = h("div", { class: "ab-bar-of-buttons" }, button("Undo", act.undo), button("Invert", act.invert),
    button("All", () => act.fill(true)), button("None", () => act.fill(false)));
  const undo = buttons.firstChild;
  const element = h("div", { class: "ab-panel maskeditor-panel" }, first.element, op.element, second.element, buttons);
  return {
    element,
    update({ recipe, nQ, nKv, undoable }) {
      first.update(recipe.first, nQ, nKv);
      second.update(recipe.second, nQ, nKv);
      op.set(recipe.op);
      second.element.hidden = recipe.op === "alone";
      patch(undo, { disabled: !undoable });
    },
  };
}

function sizePanel(act) {
  const size = (label, onInput) =>
    slider({ label, min: 1, max: LONGEST, step: 1, value: 1, format: String, onInput: (x) => onInput(Math.round(x)) });
  const queries = size("n_q, queries", (n) => act.resize(n, null));
  const keys = size("n_kv, keys", (n) => act.resize(null, n));
  const self = toggle({ label: "self-attention: n_kv = n_q", onChange: act.tie });
  const element = h("div", { class: "ab-panel maskeditor-panel" }, queries.element, self.element, keys.element);
  return {
    element,
    update({ nQ, nKv, tied }) {
      queries.set(nQ);
      queries.setLabel(tied ? "n, tokens" : "n_q, queries");
      keys.set(nKv);
      keys.element.hidden = tied;
      self.set(tied);
    },
  };
}

/** What the mask costs: a dense kernel, one that skips blocks, and the mask itself. */
function bill(act) {
  const block = slider({
    label: "block of a block-wise kernel", min: 1, max: LARGEST_BLOCK, step: 1, value: 4,
    format: (x) => `${x} × ${x}`, onInput: (x) => act.block(Math.round(x)),
  });
  const shares = meters(["dense kernel", "block-wise kernel", "the mask itself"], "maskeditor-bar");
  const blocks = h("p");
  const python = h("p", { class: "maskeditor-python" });
  const element = h("div", { class: "ab-panel maskeditor-panel" }, block.element,
    h("div", null, h("div", { class: "ab-label" }, "FLOPs, of those that a dense kernel does"),
      shares.elements), blocks, python);
  return {
    element,
    update({ block: side, kept, whole, saved, density, cells, nQ, nKv, empty_rows }) {
      block.set(side);
      shares.update([1, 1 - saved, density].map((share) => [share, `${format(100 * share, 1)} %`]));
      const all = kept.flat();
      const count = all.filter(Boolean).length;
      patch(blocks, {
        text: `${cells} of ${nQ * nKv} pairs may attend. Kept: ${count} of ${all.length} blocks, ${whole} of them ` +
          `whole, so that inside them no mask need be looked at.`,
      });
      const rows = `(${empty_rows.join(", ")}${empty_rows.length === 1 ? "," : ""})`;
      patch(python, {
        text: `In Python: .saved = ${format(saved)}, .density = ${format(density)}, .empty_rows = ${rows}`,
      });
    },
  };
}

/** The mask as Python, to copy. */
function codePanel() {
  const code = h("code", null);
  const told = h("span", { class: "ab-note", role: "status" });
  const pre = h("pre", { class: "maskeditor-code", tabindex: "0", "aria-label": "The mask as Python" }, code);
  const element = h("div", null, h("div", { class: "maskeditor-copy" },
    h("b", null, "The same mask as Python"), button("Copy", copy), told), pre);

  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      patch(told, { text: "copied" });
    } catch {
      getSelection().selectAllChildren(code);
      patch(told, { text: "selected: press Ctrl+C" });
    }
  }

  return {
    element,
    update({ code: text }) {
      if (code.textContent !== text) patch(told, { text: "" });
      patch(code, { text });
    },
  };
}

// The whole ---------------------------------------------------------------------------------------------------------

const INPUTS = ["mask", "block", "tokens"];

function render({ model, el }) {
  const s = {}; // the model's inputs, as last read
  const ui = { recipe: null, tied: true, pointed: null };
  const history = undoHistory(REMEMBERED);
  let view = null; // what is drawn

  const act = {
    may: ({ row, col }) => s.mask[row][col],
    cook(changes, tag) {
      let recipe = { ...ui.recipe, ...changes };
      if (recipe.first.kind === "painted" && ui.recipe.first.kind !== "painted") {
        recipe = { ...recipe, op: "alone", first: { ...recipe.first, cells: s.mask } };
      }
      change(recipeMask(recipe, ...size()), recipe, tag);
    },
    paint(cells, value, begin) {
      const mask = s.mask.map((row) => [...row]);
      for (const { row, col } of cells) mask[row][col] = value;
      if (!sameCells(mask, s.mask)) repaint(mask, begin ? {} : history.tag); // {}: equal to no other tag
    },
    invert: () => repaint(s.mask.map((row) => row.map((may) => !may)), null),
    fill: (value) => repaint(s.mask.map((row) => row.map(() => value)), null),
    undo() {
      const before = history.back();
      if (!before) return;
      ui.recipe = before.recipe;
      ui.tied &&= before.mask.length === before.mask[0].length;
      put({ mask: before.mask });
    },
    resize(nQ, nKv) {
      const [q, kv] = size();
      resizeTo(nQ ?? (ui.tied ? nKv : q), nKv ?? (ui.tied ? nQ : kv), "size");
    },
    tie(on) {
      ui.tied = on;
      if (on) resizeTo(s.mask.length, s.mask.length, null);
      redraw();
    },
    block: (block) => put({ block }),
    point(cell) {
      ui.pointed = cell;
      for (const each of [paper, ...forms]) each.point(cell);
    },
  };

  const size = () => [s.mask.length, s.mask[0].length];
  const paper = board(act);
  const forms = FORMS.map((each) => form(each, act));
  const empty = h("p", { class: "maskeditor-empty", "data-read": "empty" });
  const [recipe, sizes, cost, code] = [recipePanel, sizePanel, bill, codePanel].map((make) => make(act));
  const root = explorerRoot("maskeditor", "Mask explorer",
    h("div", { class: "maskeditor-body" },
      h("div", { class: "maskeditor-see" }, paper.element, empty, cost.element),
      h("div", { class: "maskeditor-set" }, recipe.element, sizes.element)),
    h("div", { class: "maskeditor-forms" }, forms.map((each) => each.element)), code.element);

  function resizeTo(nQ, nKv, tag) {
    const { first } = ui.recipe;
    const whole = first.kind === "painted" ? { ...first, cells: carried(first.cells, nQ, nKv) } : first;
    const recipe = { ...ui.recipe, first: whole };
    change(recipeMask(recipe, nQ, nKv), recipe, tag);
  }

  function repaint(mask, tag) {
    change(mask, { ...ui.recipe, op: "alone", first: { ...ui.recipe.first, kind: "painted", cells: mask } }, tag);
  }

  const present = () => ({ mask: s.mask, recipe: ui.recipe });

  function change(mask, recipe, tag) {
    history.keep(present(), tag);
    ui.recipe = recipe;
    put({ mask });
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
    const { cells, nQ, nKv, kept, empty_rows } = view;
    const blocks = kept.flat();
    announce(root, `${cells} of ${nQ * nKv} may attend, ${blocks.filter(Boolean).length} of ${blocks.length} blocks ` +
      `kept${empty_rows.length ? `, ${emptyWords(view)}` : ""}`);
  }

  function redraw() {
    const [nQ, nKv] = size();
    const cols = Array.from({ length: nKv }, (_, j) => s.tokens[j] ?? String(j));
    const rows = Array.from({ length: nQ }, (_, i) => s.tokens[i + nKv - nQ] ?? String(i));
    view = {
      ...s, ...results(s.mask, s.block), nQ, nKv, rows, cols, recipe: ui.recipe, tied: ui.tied,
      undoable: history.any, code: `mask = ${recipeCode(ui.recipe, nQ, nKv)}${CALLS}`,
    };
    for (const each of [paper, ...forms, recipe, sizes, cost, code]) each.update(view);
    patch(empty, { text: emptyWords(view), "data-any": view.empty_rows.length > 0 });
    act.point(ui.pointed); // its words may have changed, or it may be gone
  }

  /** What Python, or another view, has set. */
  function pull() {
    const next = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    if (INPUTS.every((name) => next[name] === s[name])) return false;
    if (!s.mask || !sameCells(next.mask, s.mask)) {
      if (s.mask) history.keep(present());
      ui.recipe = recognised(next.mask);
      ui.tied = next.mask.length === next.mask[0].length;
    }
    Object.assign(s, next);
    return true;
  }

  function state() {
    schedule.flush();
    const { mask, block, tokens, kept, empty_rows, saved, density, code, nQ, nKv } = view;
    return { mask, block, tokens, kept, empty_rows, saved, density, code, n_q: nQ, n_kv: nKv };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

/** Softmax over nothing, in words. */
function emptyWords({ empty_rows, rows }) {
  if (!empty_rows.length) return "Every query may attend to at least one key.";
  const names = empty_rows.map((i) => (rows[i] === String(i) ? String(i) : `${i} ‘${isolated(rows[i])}’`));
  const all = [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" and ");
  const listed = `${names.length === 1 ? "Query" : "Queries"} ${all}`;
  return `∅ ${listed} may attend to nothing. Softmax is then 0/0, which is NaN; this book's attention returns zeros.`;
}

export default { render };
