// The multi-head explorer: every head's map, what each head adds to the output, and what is missing without it.
//
// The state is the model's (attnbook/widgets/multihead.py); everything shown is computed here, on every move, and
// written into elements that already exist. A head's card stays when the head goes, for when it comes back.

import {
  announce, argmax, attention, button, choice, clamp, colourTable, commit, dot, explorerRoot, format, h, heatmap,
  isDark, isolated, live, madeUpVector, onFrame, onLook, palette, patch, slider, tokenRow, uniqueId,
} from "./kit.js";

const LONGEST = 16;
const MOST_HEADS = 12;
const D_MODEL = 16;
const MADE_UP_D_K = 8;
const ANGLES = [1.5, 0.35, 0.7, 0.2];
const LOOKS_FOR = ["one back", "same word", "one ahead", "farthest"];
const GIVEN = ["x", "w_q", "w_k", "w_v", "w_o"];
const INPUTS = ["tokens", "n_heads", "d_k", "mask", "on", ...GIVEN];
const BREAKS = /[\s\x1c-\x1f\x85]+/; // Python's white space as well as the browser's

// Made-up tokens and weights: made_up in multihead.py, to the last bit ---------------------------------------------

const hundredths = (x) => Math.floor(x * 100 + 0.5) / 100;
const zeros = () => Array.from({ length: D_MODEL }, () => new Array(MADE_UP_D_K).fill(0));
const madeHeads = [];

function place(position) {
  return ANGLES.flatMap((angle) => [Math.cos(position * angle), Math.sin(position * angle)].map(hundredths));
}

/** Reads the position components, each pair turned by its angle of so many steps: what stands there. */
function turned(steps) {
  const w = zeros();
  ANGLES.forEach((angle, pair) => {
    const at = D_MODEL / 2 + 2 * pair;
    const [cos, sin] = [Math.cos(steps * angle), Math.sin(steps * angle)];
    [w[at][2 * pair], w[at][2 * pair + 1]] = [hundredths(3 * cos), hundredths(3 * sin)];
    [w[at + 1][2 * pair], w[at + 1][2 * pair + 1]] = [hundredths(3 * -sin), hundredths(3 * cos)];
  });
  return w;
}

function slowest(gain) {
  const w = zeros();
  w[D_MODEL - 2][0] = w[D_MODEL - 1][1] = gain;
  return w;
}

/** All four matrices of head i at its widest. */
function madeHead(i) {
  if (madeHeads[i]) return madeHeads[i];
  const random = (role, by) => Array.from({ length: D_MODEL }, (_, r) =>
    madeUpVector(`head ${i + 1} row ${r + 1}`, MADE_UP_D_K, role).map((x) => x / by));
  const same = () => zeros().map((row, r) => row.map((_, c) => (r === c ? 1.5 : 0)));
  const [w_q, w_k] = [
    () => [turned(-1), turned(0)], () => [same(), same()], () => [turned(1), turned(0)],
    () => [slowest(-3), slowest(3)],
  ][i]?.() ?? [random("q", 2), random("k", 4)];
  const w_o = Array.from({ length: MADE_UP_D_K }, (_, c) =>
    madeUpVector(`head ${i + 1} out ${c + 1}`, D_MODEL, "v").map((x) => x / 4));
  return (madeHeads[i] = { w_q, w_k, w_v: random("v", 4), w_o });
}

/** x, and each head's w_q, w_k, w_v (d_model × d_k) and w_o (d_k × d_model). */
function parts(s) {
  if (s.x) {
    const cut = (rows, i) => rows.map((row) => row.slice(i * s.d_k, (i + 1) * s.d_k));
    return { x: s.x, heads: Array.from({ length: s.n_heads }, (_, i) => ({
      w_q: cut(s.w_q, i), w_k: cut(s.w_k, i), w_v: cut(s.w_v, i), w_o: s.w_o.slice(i * s.d_k, (i + 1) * s.d_k),
    })) };
  }
  const narrow = (rows) => rows.map((row) => row.slice(0, s.d_k));
  return {
    x: s.tokens.map((word, position) => [...madeUpVector(word, D_MODEL / 2, "k"), ...place(position)]),
    heads: Array.from({ length: s.n_heads }, (_, i) => {
      const { w_q, w_k, w_v, w_o } = madeHead(i);
      return { w_q: narrow(w_q), w_k: narrow(w_k), w_v: narrow(w_v), w_o: w_o.slice(0, s.d_k) };
    }),
  };
}

// Arithmetic -------------------------------------------------------------------------------------------------------

function times(rows, matrix) {
  return rows.map((row) => {
    const out = new Float64Array(matrix[0].length);
    row.forEach((x, r) => {
      if (x !== 0) for (let c = 0; c < out.length; c++) out[c] += x * matrix[r][c];
    });
    return out;
  });
}

function run(s) {
  const { x, heads } = parts(s);
  return heads.map(({ w_q, w_k, w_v, w_o }) => {
    const { weights, out } = attention({ q: times(x, w_q), k: times(x, w_k), v: times(x, w_v), mask: s.mask });
    return { weights, out, w_o, added: times(out, w_o) };
  });
}

/** The sum over heads of what they add, for each token; `which(head)` says which heads. */
function total(heads, which) {
  const [n, width] = [heads[0].added.length, heads[0].added[0].length];
  return Array.from({ length: n }, (_, t) => {
    const sum = new Float64Array(width);
    heads.forEach(({ added }, i) => which(i) && added[t].forEach((x, c) => (sum[c] += x)));
    return sum;
  });
}

const size = (vector) => Math.sqrt(dot(vector, vector));

function largest(rows) {
  let most = 0;
  for (const row of rows) for (const x of row) most = Math.max(most, Math.abs(x));
  return most || 1;
}

function namedMask(kind, n) {
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => kind === "none" || j <= i));
}

function maskKind(mask) {
  const same = (kind) => namedMask(kind, mask.length).every((row, i) => row.every((may, j) => may === mask[i][j]));
  return ["none", "causal"].find(same) ?? "other";
}

function carriedMask(mask, n) {
  const kind = maskKind(mask);
  return kind === "other" ? namedMask("none", n).map((row, i) => row.map((may, j) => mask[i]?.[j] ?? may))
    : namedMask(kind, n);
}

// Words --------------------------------------------------------------------------------------------------------------

const part = (x) => format(x, 2);
const derived = (x) => format(x, 3);

function tuple(vector, spell = derived) {
  const shown = vector.length <= 4 ? Array.from(vector, spell)
    : [spell(vector[0]), spell(vector[1]), "…", spell(vector.at(-1))];
  return `(${shown.join(", ")})`;
}

const looksFor = (head, given) => (given ? "" : LOOKS_FOR[head] ?? "random");

/** Neighbours get far apart hues; nothing is told by the hue alone, the head's number stands beside it. */
const hue = (head) => `--multihead-hue:${Math.round(250 + 137.5 * head) % 360}`;

function badge(head) {
  return h("span", { class: "multihead-badge", style: hue(head) }, String(head + 1));
}

// Parts of the explorer: each is {element, update(view)}; `act` is what they may ask for ------------------------------

/** The reader's own words, read while they are typed. */
function ownText(act) {
  let before = null; // the mask when the typing began: what to keep is judged against it
  const id = uniqueId("text");
  const input = h("input", {
    id, class: "ab-text", type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-problem`,
    oninput: read, onfocus: () => (before = act.mask()), onblur: () => (before = null),
  });
  const problem = h("span", { id: `${id}-problem`, class: "ab-problem", role: "alert" });

  function read() {
    before ??= act.mask();
    const words = input.value.toWellFormed().split(BREAKS).filter(Boolean);
    const fits = words.length >= 1 && words.length <= LONGEST;
    const wanted = words.length < 1 ? "needs at least 1" : `takes at most ${LONGEST}`;
    patch(problem, { text: fits ? ""
      : `${words.length} words: the explorer ${wanted}. Below is still the last text that fits.` });
    patch(input, { "aria-invalid": fits ? null : "true" });
    if (fits) act.change({ tokens: words, mask: carriedMask(before, words.length) });
  }

  return {
    element: h("div", { class: "multihead-text" }, h("label", { class: "ab-label", for: id },
      `Your own text, 1 to ${LONGEST} words`), input, problem),
    update({ tokens, x }) {
      this.element.hidden = Boolean(x);
      if (input.value.split(BREAKS).filter(Boolean).join(" ") === tokens.join(" ")) return;
      if (document.activeElement === input && before) return; // being typed, and not yet a text that fits
      input.value = tokens.join(" ");
      patch(problem, { text: "" });
      patch(input, { "aria-invalid": null });
    },
  };
}

function settings(act) {
  const heads = slider({
    label: "number of heads h", min: 1, max: MOST_HEADS, step: 1, value: 4, format: String,
    onInput: (x) => act.heads(Math.round(x)),
  });
  const width = slider({
    label: "d_k, width of a head", min: 1, max: MADE_UP_D_K, step: 1, value: 4, format: String,
    onInput: (x) => act.change({ d_k: Math.round(x) }),
  });
  const mask = choice({
    label: "Mask", value: "none", onChange: act.maskTo,
    options: [["none", "none"], ["causal", "causal"], ["other", "as set"]].map(([value, label]) => ({ value, label })),
  });
  const other = mask.element.querySelectorAll("label")[2];
  const sliders = h("div", { class: "multihead-sliders" }, heads.element, width.element);
  return {
    element: h("div", { class: "multihead-settings ab-panel" }, sliders, mask.element),
    update(s) {
      sliders.hidden = Boolean(s.x);
      if (heads.value !== s.n_heads) heads.set(s.n_heads);
      if (!s.x && width.value !== s.d_k) width.set(s.d_k);
      const kind = maskKind(s.mask);
      other.hidden = kind !== "other";
      mask.set(kind);
    },
  };
}

/** One card a head: its switch and its map. */
function cards(act) {
  const grid = h("div", { class: "multihead-cards" });
  const all = [];
  const ramp = h("span", { class: "ab-ramp ab-drawing" });
  onLook(ramp, shade);
  const legend = h("div", { class: "multihead-legend" }, h("span", null, "rows: query · columns: key"),
    h("span", { class: "ab-legend" }, "weight 0", ramp, "1"));

  function shade() {
    const stops = palette("sequential", isDark(ramp)).join(",");
    patch(ramp, { style: `background:linear-gradient(90deg,${stops})` });
  }

  function card(head) {
    const box = h("input", { type: "checkbox", role: "switch", onchange: () => act.toggle(head) });
    const name = h("span", { class: "multihead-looks" });
    const map = heatmap({
      label: `weights of head ${head + 1}`, domain: [0, 1], maxCell: 30, maxHeight: 200, format: derived,
      onHover: (cell) => act.link(cell && { head, row: cell.row, col: cell.col }),
      onActivate: (cell) => act.select(cell.row),
    });
    const spoken = h("span", { class: "ab-hidden" }, "head ");
    const label = h("label", { class: "ab-toggle" }, spoken, box, badge(head), name);
    return { box, name, map, element: h("div", { class: "multihead-card" }, label, map.element) };
  }

  function update({ tokens, n_heads, on, mask, run, selected, x }) {
    while (all.length < n_heads) {
      all.push(card(all.length));
      grid.append(all.at(-1).element);
    }
    const masked = mask.every((row) => row.every(Boolean)) ? null : mask;
    all.forEach(({ element }, head) => patch(element, { hidden: head >= n_heads, "data-off": !on[head] }));
    all.slice(0, n_heads).forEach(({ box, name, map }, head) => {
      box.checked = on[head];
      patch(name, { text: looksFor(head, x) });
      map.update({ values: run[head].weights, rows: tokens, cols: tokens, mask: masked, highlight: { row: selected } });
    });
    shade();
  }

  function point({ n_heads, selected, lit }) {
    all.slice(0, n_heads).forEach(({ map, element }, head) => {
      patch(element, { "data-lit": lit.head === head });
      map.update({ highlight: { row: lit.row ?? selected, col: lit.col } });
    });
  }

  return { element: h("div", null, grid, legend), update, point };
}

/** The chosen token's row of every head's map, one under the other. */
function tokenView(act) {
  const title = h("b");
  const map = heatmap({
    label: [title], rowTitle: "head", colTitle: "key", domain: [0, 1], maxCell: 46, maxHeight: 300,
    onHover: (cell) => act.link(cell && { head: cell.row, col: cell.col }), onActivate: (cell) => act.toggle(cell.row),
  });
  return {
    element: h("div", { class: "multihead-view" }, map.element),
    update({ tokens, n_heads, run, selected, x, mask }) {
      patch(title, { text: `Where ‘${isolated(tokens[selected])}’ looks, head by head` });
      const masked = mask[selected].every(Boolean) ? null : run.map(() => mask[selected]);
      const rows = Array.from({ length: n_heads }, (_, head) => `${head + 1} ${looksFor(head, x)}`);
      map.update({ values: run.map(({ weights }) => weights[selected]), rows, cols: tokens, mask: masked });
    },
    point({ lit }) {
      map.update({ highlight: { row: lit.head, col: lit.col } });
    },
  };
}

/** How far each token's output has moved, beside how long it is with all heads on. */
function movedList(act) {
  const rows = [];
  const list = h("div", { class: "multihead-rows" });
  const buttons = h("div", { class: "ab-bar-of-buttons" }, button("All heads on", () => act.all(true)),
    button("All heads off", () => act.all(false)));

  function row() {
    const [name, fill, mark, number] = [h("span", { class: "multihead-name" }), h("i", { class: "multihead-fill" }),
      h("i", { class: "multihead-mark" }), h("span", { class: "multihead-number" })];
    return { name, fill, mark, number,
      element: h("div", { class: "multihead-row" }, name, h("span", { class: "multihead-bar" }, fill, mark), number) };
  }

  return {
    element: h("div", { class: "multihead-moved ab-panel" },
      h("h4", { class: "multihead-caption" }, "How far out moved"),
      h("p", { class: "multihead-note" }, "‖Δout‖ of each token, against all heads on; the tick is ‖out‖ with all on."),
      list, buttons),
    update({ tokens, moved, whole, selected }) {
      while (rows.length > tokens.length) rows.pop().element.remove();
      while (rows.length < tokens.length) {
        rows.push(row());
        list.append(rows.at(-1).element);
      }
      const lengths = whole.map(size);
      const most = Math.max(...moved, ...lengths) || 1;
      rows.forEach(({ name, fill, mark, number, element }, t) => {
        patch(element, { "data-selected": t === selected });
        patch(name, { text: tokens[t] });
        patch(fill, { style: `width:${((100 * moved[t]) / most).toFixed(2)}%` });
        patch(mark, { style: `left:${((100 * lengths[t]) / most).toFixed(2)}%` });
        patch(number, { text: derived(moved[t]) });
      });
    },
  };
}

const VECTOR = 15; // height in px of a vector drawn as one row
const GAP = 24; // room for the signs between the parts
const LEFT = 30; // room for the heads' numbers
const HEAD = 70; // what stands above the first block: the concatenation, and what the columns are
const APART = 9; // between two heads
const TALLEST = 430; // of all of W_O

/** out = Σ oᵢ · W_Oᵢ, drawn: the concatenation's blocks, W_O's blocks of rows, and what each head adds. */
function blocks(act) {
  const title = h("h4", { class: "multihead-caption" });
  const canvas = h("canvas", { role: "img", class: "multihead-canvas" });
  const pen = canvas.getContext("2d");
  const scene = h("div", { class: "multihead-scene ab-drawing" }, canvas);
  const told = h("p", { class: "multihead-told" });
  const probes = h("div", { class: "ab-hidden", "aria-hidden": "true" });
  let now = null;
  let frame = null;
  onLook(scene, () => {
    frame = null;
    if (now) draw();
  });
  canvas.addEventListener("pointermove", (event) => act.link(headAt(event)));
  canvas.addEventListener("pointerleave", () => act.link(null));
  canvas.addEventListener("click", (event) => headAt(event) && act.toggle(headAt(event).head));

  function headAt(event) {
    const y = event.clientY - canvas.getBoundingClientRect().top;
    const head = frame?.tops.findIndex((top) => y >= top - APART / 2 && y < top + frame.tall + APART / 2) ?? -1;
    return head < 0 ? null : { head };
  }

  /** Where everything goes, the page's colours, and W_O's blocks as pictures to be stretched. */
  function lay() {
    const width = scene.clientWidth;
    const { d_k, run } = now;
    const d_model = run[0].w_o[0].length;
    const cell = Math.min(18, (width - LEFT - 2 * GAP - 2) / (d_k + 2 * d_model));
    const line = Math.min(cell, 12, TALLEST / (run.length * d_k));
    const tall = Math.max(line * d_k, VECTOR);
    const tops = run.map((_, i) => HEAD + i * (tall + APART));
    const sum = tops.at(-1) + tall + 2 * APART;
    const x = { o: LEFT, w: LEFT + cell * d_k + GAP, added: LEFT + cell * (d_k + d_model) + 2 * GAP };
    const style = getComputedStyle(canvas);
    while (probes.childElementCount < MOST_HEADS) probes.append(badge(probes.childElementCount));
    const badges = Array.from(probes.children, (probe) => getComputedStyle(probe));
    const table = colourTable(palette("diverging", isDark(canvas)));
    const ratio = window.devicePixelRatio || 1;
    const height = sum + 3 * (VECTOR + 4) + 2;
    [canvas.width, canvas.height] = [Math.ceil(width * ratio), Math.ceil(height * ratio)];
    patch(canvas, { style: `width:${width}px;height:${height}px` });
    const most = largest(run.flatMap(({ w_o }) => w_o));
    frame = {
      key: key(), width, height, ratio, cell, line, tall, tops, sum, x, d_model, table, font: style.fontFamily,
      ink: style.color, faint: style.borderTopColor, paper: style.backgroundColor,
      hues: badges.map((each) => [each.backgroundColor, each.color]),
      tiles: run.map(({ w_o }) => tile(w_o, most, table)),
    };
  }

  const key = () => [now.n_heads, now.d_k, now.weightsKey].join();
  const shade = (x, most) => clamp(Math.round(127.5 + (127.5 * x) / most), 0, 255);

  function tile(rows, most, table) {
    const picture = h("canvas", { width: rows[0].length, height: rows.length });
    const pixels = new ImageData(rows[0].length, rows.length);
    const words = new Uint32Array(pixels.data.buffer);
    rows.forEach((row, r) => row.forEach((x, c) => (words[r * row.length + c] = table.packed[shade(x, most)])));
    picture.getContext("2d").putImageData(pixels, 0, 0);
    return picture;
  }

  function vector(values, most, x, y, cell = frame.cell) {
    const { table } = frame;
    for (let c = 0; c < values.length; c++) {
      pen.fillStyle = table.css[shade(values[c], most)];
      pen.fillRect(x + c * cell, y, cell + (cell < 4 ? 0.3 : -0.7), VECTOR);
    }
  }

  function outline(x, y, width, height, colour, thick) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.strokeRect(x - 1.5, y - 1.5, width + 2.5, height + 3);
  }

  function write(text, x, y, align = "center", colour = frame.ink, weight = "") {
    pen.font = `${weight} 12px ${frame.font}`;
    pen.textAlign = align;
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }

  function draw() {
    if (!scene.clientWidth) return;
    if (!frame || frame.key !== key()) lay();
    const { run, selected, on, d_k, lit } = now;
    const { ratio, width, height, cell, line, tall, tops, x, d_model, tiles, hues, ink } = frame;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.textBaseline = "middle";
    pen.imageSmoothingEnabled = false;
    const mostOut = largest(run.flatMap(({ out }) => out));
    drawConcatenation(mostOut);
    write("oᵢ", x.o + (d_k * cell) / 2, HEAD - 12);
    write("its rows of W_O", x.w + (d_model * cell) / 2, HEAD - 12);
    write("what it adds", x.added + (d_model * cell) / 2, HEAD - 12);
    run.forEach((head, i) => {
      const middle = tops[i] + tall / 2;
      pen.globalAlpha = on[i] ? 1 : 0.22;
      const thick = lit.head === i ? 3.5 : 1.75;
      vector(head.out[selected], mostOut, x.o, middle - VECTOR / 2);
      outline(x.o, middle - VECTOR / 2, d_k * cell, VECTOR, hues[i][0], thick);
      pen.drawImage(tiles[i], x.w, middle - (line * d_k) / 2, d_model * cell, line * d_k);
      outline(x.w, middle - (line * d_k) / 2, d_model * cell, line * d_k, hues[i][0], thick);
      vector(head.added[selected], now.mostAdded, x.added, middle - VECTOR / 2);
      outline(x.added, middle - VECTOR / 2, d_model * cell, VECTOR, hues[i][0], thick);
      write("·", x.w - GAP / 2, middle);
      write("=", x.added - GAP / 2, middle);
      pen.fillStyle = hues[i][0];
      pen.fillRect(0, middle - 9, 22, 18);
      write(String(i + 1), 11, middle + 0.5, "center", hues[i][1], "600");
      pen.globalAlpha = 1;
      if (!on[i]) write("off", x.added + (d_model * cell) / 2, middle, "center", ink, "600");
    });
    drawSum();
    describe();
  }

  /** All heads' results side by side: the row that W_O is applied to. */
  function drawConcatenation(most) {
    const { run, selected, on, d_k, lit } = now;
    const { width, hues } = frame;
    const cell = Math.min(18, (width - LEFT - 2 - 4 * run.length) / (run.length * d_k));
    write(`concat(o₁ … oₕ), ${run.length} · ${d_k} = ${run.length * d_k} numbers`, LEFT, 8, "left");
    run.forEach((head, i) => {
      const x = LEFT + i * (cell * d_k + 4);
      pen.globalAlpha = on[i] ? 1 : 0.22;
      vector(head.out[selected], most, x, 19, cell);
      outline(x, 19, d_k * cell, VECTOR, hues[i][0], lit.head === i ? 3.5 : 1.75);
    });
    pen.globalAlpha = 1;
  }

  /** The sum over the heads that are on, over all of them, and the difference. */
  function drawSum() {
    const { selected, out, whole, mostAdded } = now;
    const { sum, x, d_model, cell, faint, width } = frame;
    pen.strokeStyle = faint;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, sum - APART + 0.5);
    pen.lineTo(width, sum - APART + 0.5);
    pen.stroke();
    const lines = [
      ["out: the sum of what those on add", "out", out[selected]], ["with all heads on", "all on", whole[selected]],
      ["the difference, Δout", "Δout", out[selected].map((each, c) => each - whole[selected][c])],
    ];
    pen.font = `600 12px ${frame.font}`;
    const room = pen.measureText(lines[0][0]).width <= x.added - 8;
    lines.forEach(([long, short, values], i) => {
      const y = sum + i * (VECTOR + 4);
      vector(values, mostAdded, x.added, y);
      write(room ? long : short, x.added - 8, y + VECTOR / 2, "right", frame.ink, i ? "" : "600");
      if (!i) outline(x.added, y, d_model * cell, VECTOR, frame.ink, 1.5);
    });
  }

  function describe() {
    const { tokens, selected, run, out, lit, on, n_heads, d_k } = now;
    const d_model = frame.d_model;
    const word = isolated(tokens[selected]);
    patch(title, { text: `From heads to output: out of ‘${word}’ = ${tuple(out[selected])}` });
    patch(canvas, { "aria-label": `‘${word}’: ${n_heads} blocks of ${d_k} numbers side by side, ` +
      `times W_O, ${n_heads} blocks of ${d_k} × ${d_model}, is the sum of what the heads add. ` +
      "The numbers are in the table below." });
    const head = lit.head;
    patch(told, { text: head === null
      ? "Blue is negative, orange positive. Point at a head to read its numbers, click it to switch it."
      : `Head ${head + 1}${on[head] ? "" : ", off,"} hands over ${tuple(run[head].out[selected])}, which W_O makes ` +
        `${tuple(run[head].added[selected])}, of length ${derived(size(run[head].added[selected]))}.` });
  }

  return {
    element: h("div", { class: "multihead-blocks" }, title, scene, told, probes),
    update(view) {
      now = view;
      draw();
    },
    point(view) {
      now = view;
      if (frame) draw();
    },
  };
}

/** The numbers behind the blocks: for each head what it hands over, and what W_O makes of that. */
function numbers() {
  const head = h("tr");
  const body = h("tbody");
  const details = h("details", { ontoggle: () => view && update(view) },
    h("summary", null, "The numbers, head by head"),
    h("div", { class: "ab-scroll", tabindex: "0", role: "region", "aria-label": "What each head adds" },
      h("table", null, h("thead", null, head), body)));
  let view = null;

  function update(next) {
    view = next;
    if (!details.open) return;
    const { run, on, selected, tokens, out, whole, d_k } = view;
    const width = out[0].length;
    const names = ["", ...Array.from({ length: d_k }, (_, c) => `o ${c + 1}`),
      ...Array.from({ length: width }, (_, c) => `out ${c + 1}`)];
    const lines = [
      ...run.map((each, i) => [`head ${i + 1}${on[i] ? "" : " (off)"}`, ...Array.from(each.out[selected], part),
        ...Array.from(each.added[selected], derived)]),
      [`out of ‘${isolated(tokens[selected])}’`, ...new Array(d_k).fill(""), ...Array.from(out[selected], derived)],
      ["with all on", ...new Array(d_k).fill(""), ...Array.from(whole[selected], derived)],
    ];
    head.replaceChildren(...names.map((name) => h("th", { scope: "col" }, name)));
    body.replaceChildren(...lines.map(([name, ...cells]) =>
      h("tr", null, h("th", { scope: "row" }, name), cells.map((text) => h("td", null, text)))));
  }

  return { element: details, update };
}

// The whole --------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const s = {}; // the model's inputs, as last read
  const ui = { selected: 2, hover: null };
  let held = { inputs: null, run: null, version: 0 }; // what toggling a head leaves as it is
  let said = null; // what to announce once it is drawn

  const act = {
    mask: () => s.mask,
    change,
    select(token) {
      ui.selected = token;
      redraw();
    },
    link(where) {
      if (["head", "row", "col"].every((name) => where?.[name] === ui.hover?.[name])) return;
      ui.hover = where;
      if (!said) point();
    },
    heads(n_heads) {
      change({ n_heads, on: Array.from({ length: n_heads }, (_, i) => s.on[i] ?? true) });
    },
    toggle(head) {
      change({ on: s.on.with(head, !s.on[head]) });
    },
    all(state) {
      change({ on: s.on.map(() => state) });
    },
    maskTo(kind) {
      if (kind !== "other") change({ mask: namedMask(kind, s.tokens.length) });
    },
  };

  const text = ownText(act);
  const words = tokenRow({ label: "Tokens: choose whose view is shown", onSelect: act.select });
  const [controls, maps, view, moves, sums, table] = [settings, cards, tokenView, movedList, blocks, numbers]
    .map((make) => make(act));
  const root = explorerRoot("multihead", "Multi-head attention explorer", h("div", { class: "multihead-stack" },
    text.element,
    h("div", { class: "multihead-ask" }, h("span", { class: "ab-label" }, "Whose view?"), words.element),
    controls.element, maps.element,
    h("div", { class: "multihead-pair" }, view.element, moves.element),
    sums.element, table.element));

  function change(changes) {
    Object.assign(s, changes);
    settle();
    commit(model, changes);
    said = true;
    schedule();
  }

  function settle() {
    ui.selected = Math.min(ui.selected, s.tokens.length - 1);
    const { head = null, row = null, col = null } = ui.hover ?? {};
    if (head >= s.n_heads || row >= s.tokens.length || col >= s.tokens.length) ui.hover = null;
  }

  function results() {
    const inputs = ["tokens", "n_heads", "d_k", "mask", ...GIVEN].map((name) => s[name]);
    if (!held.inputs?.every((each, i) => each === inputs[i])) {
      const run_ = run(s);
      const whole = total(run_, () => true);
      const mostAdded = largest([...run_.flatMap(({ added }) => added), ...whole]);
      held = { inputs, run: run_, whole, mostAdded, weightsKey: s.x ? held.version + 1 : "made up",
        version: held.version + 1 };
    }
    const out = total(held.run, (head) => s.on[head]);
    const moved = total(held.run, (head) => !s.on[head]).map(size);
    return { ...held, out, moved };
  }

  function shown() {
    return { ...s, ...ui, ...results(), lit: { head: null, row: null, col: null, ...ui.hover } };
  }

  function redraw() {
    settle();
    const now = shown();
    words.update({ tokens: s.tokens, selected: ui.selected });
    for (const each of [text, controls, maps, view, moves, sums, table]) each.update(now);
    for (const each of [maps, view]) each.point(now);
    return now;
  }

  function point() {
    const now = shown();
    for (const each of [maps, view, sums]) each.point(now);
  }

  /** One frame's worth: however many moves came in since the last, they are computed and drawn once. */
  function draw() {
    if (!pull() && !said) return;
    const { moved, n_heads, on, run } = redraw();
    if (!said) return;
    said = null;
    const token = s.tokens[ui.selected];
    const off = on.flatMap((each, i) => (each ? [] : [i + 1]));
    const most = argmax(run[0].weights[ui.selected]);
    const by = derived(moved[ui.selected]);
    announce(root, off.length ? `Without head ${off.join(", ")}: out of ${token} moved by ${by}`
      : `${n_heads} ${n_heads === 1 ? "head" : "heads"} on; head 1 of ${token} looks most at ${s.tokens[most]}`);
  }

  /** What Python, or another view, has set. Traits arrive one by one: wait until they fit each other. */
  function pull() {
    const next = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    const n = next.tokens.length;
    const fits = next.mask.length === n && next.mask[0].length === n && next.on.length === next.n_heads &&
      (!next.x || (next.x.length === n && next.w_o.length === next.n_heads * next.d_k));
    if (!fits || INPUTS.every((name) => next[name] === s[name])) return false;
    Object.assign(s, next);
    return true;
  }

  function state() {
    schedule.flush();
    const { run: heads, out, moved } = results();
    const plain = (rows) => rows.map((row) => Array.from(row));
    return { ...s, selected: ui.selected, weights: heads.map(({ weights }) => plain(weights)),
      heads_out: heads.map((each) => plain(each.out)), out: plain(out), moved };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

export default { render };
