// The tile stepper: tiled attention one tile at a time, what a row remembers, and the bytes moved to get there.
//
// All inputs are the model's (attnbook/widgets/tiles.py). When the reader steps into another block of queries, the
// watched row comes along, so that the numbers are always those of a row that is being worked on.

import {
  announce, cellBoard, clamp, commit, dot, explorerRoot, format, h, live, madeUpVector, meters, onFrame, patch, slider,
  stepper, swatches, toggle,
} from "./kit.js";

const [SHORTEST, LONGEST, WIDTH, BYTES] = [2, 24, 4, 4]; // WIDTH is d_k and d_v, BYTES those of a float32
const INPUTS = ["n", "block_q", "block_kv", "causal", "backward", "step", "row"];

const names = Array.from({ length: LONGEST }, (_, i) => String(i));
const [Q, K, V] = ["q", "k", "v"].map((role) => names.map((name) => madeUpVector(name, WIDTH, role)));
const D_OUT = names.map((name) => madeUpVector(name, WIDTH, "q", 1));

// Tiles: Plan of attnbook.efficient.tiled -----------------------------------------------------------------------------

/** The tiles in their order, {top, bottom, left, right, first, last}: queries top … bottom - 1, keys left … */
function tilesOf({ n, block_q, block_kv, causal }) {
  const tiles = [];
  for (let top = 0; top < n; top += block_q) {
    const bottom = Math.min(top + block_q, n);
    const end = causal ? bottom : n; // what lies in the future of all of them is never read
    for (let left = 0; left < end; left += block_kv) {
      const right = Math.min(left + block_kv, end);
      tiles.push({ top, bottom, left, right, first: left === 0, last: right === end });
    }
  }
  return tiles;
}

/** How many numbers each tile moves: `traffic` of tiles.py. */
function trafficOf(tiles, backward) {
  let touched = 0;
  return tiles.map(({ top, bottom, left, right, first, last }) => {
    const [rows, cols] = [bottom - top, right - left];
    const seen = Math.max(0, Math.min(right, touched) - left); // keys whose dk and dv are no longer zero
    touched = Math.max(touched, right);
    if (!backward) return 2 * cols * WIDTH + first * rows * WIDTH + last * rows * (WIDTH + 1);
    return 4 * cols * WIDTH + 2 * seen * WIDTH + first * rows * (3 * WIDTH + 1) + last * rows * WIDTH;
  });
}

/** What is in fast memory during a tile, [name, numbers]: `held` of tiles.py. */
function heldIn({ top, bottom, left, right }, backward) {
  const [rows, cols] = [bottom - top, right - left];
  return backward
    ? [["Q, dO and dQ", 3 * rows * WIDTH], ["lse and D", 2 * rows], ["K, V, dK and dV", 4 * cols * WIDTH],
      ["weights and dS", 2 * rows * cols]]
    : [["Q and o", 2 * rows * WIDTH], ["m and l", 2 * rows], ["K and V", 2 * cols * WIDTH], ["scores", rows * cols]];
}

const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);
const naiveTraffic = (n, backward) => (backward ? 7 * n * n + 8 * n * WIDTH : 4 * n * n + 4 * n * WIDTH);

// What a row remembers: absorb of attnbook.efficient.tiled ------------------------------------------------------------

const scoreOf = (i, j, causal) => (causal && j > i ? -Infinity : dot(Q[i], K[j]) / Math.sqrt(WIDTH));
const vector = (term) => Array.from({ length: WIDTH }, (_, c) => term(c));

/** What row i is after one tile more, with what went into it: the old part corrected, and the tile's own part. */
function absorbed({ m, l, o }, i, { left, right }, causal) {
  const keys = Array.from({ length: right - left }, (_, j) => left + j);
  const scores = keys.map((j) => scoreOf(i, j, causal));
  const top = Math.max(...scores);
  const now = Math.max(m, top);
  const base = now === -Infinity ? 0 : now; // nothing seen at all: −∞ less −∞ would be no number
  const factor = Math.exp(m - base);
  const weights = scores.map((score) => Math.exp(score - base));
  const kept = { l: l * factor, o: o.map((x) => x * factor) };
  const own = { m: top, l: sum(weights), o: vector((c) => sum(keys.map((j, at) => weights[at] * V[j][c]))) };
  const after = { m: now, l: kept.l + own.l, o: o.map((_, c) => kept.o[c] + own.o[c]) };
  return { factor, kept, own, after };
}

function forwardRow(done, { row, causal }) {
  let after = { m: -Infinity, l: 0, o: vector(() => 0) };
  let last = { before: after, after };
  done.forEach((tile, index) => {
    const inside = tile.top <= row && row < tile.bottom;
    const now = index === done.length - 1;
    const step = inside ? { before: after, ...absorbed(after, row, tile, causal) } : { before: after, after };
    if (inside || now) last = step;
    after = step.after;
  });
  return { ...last, running: { ...after, out: after.o.map((x) => x / (after.l || 1)) } };
}

/** Backward: the row's log-sum-exp and D come from the forward pass, dq grows tile by tile. */
function backwardRow(done, { row, causal, n }) {
  const everything = { m: -Infinity, l: 0, o: vector(() => 0) };
  const { after: { m, l, o } } = absorbed(everything, row, { left: 0, right: n }, causal);
  const lse = m + Math.log(l);
  const share = dot(D_OUT[row], o) / l;
  let after = { dq: vector(() => 0) };
  let last = { before: after, after };
  done.forEach((tile, index) => {
    let step = { before: after, after };
    if (tile.top <= row && row < tile.bottom) {
      const own = { dq: vector(() => 0) };
      for (let j = tile.left; j < tile.right; j++) {
        const slope = Math.exp(scoreOf(row, j, causal) - lse) * (dot(D_OUT[row], V[j]) - share);
        own.dq.forEach((_, c) => (own.dq[c] += (slope * K[j][c]) / Math.sqrt(WIDTH)));
      }
      step = { before: after, own, after: { dq: after.dq.map((x, c) => x + own.dq[c]) } };
    }
    if (step.own || index === done.length - 1) last = step;
    after = step.after;
  });
  return { ...last, running: { lse, share, ...after } };
}

/** All that is drawn, from the inputs. */
function results(inputs) {
  const { n, backward, step, row } = inputs;
  const tiles = tilesOf(inputs);
  const moved = trafficOf(tiles, backward).map((numbers) => BYTES * numbers);
  const done = tiles.slice(0, step);
  const tile = done.at(-1) ?? null;
  const held = tile ? heldIn(tile, backward) : [];
  return {
    ...inputs, tiles, tile, held, steps: tiles.length, fast: BYTES * sum(held.map(([, numbers]) => numbers)),
    bytes_tiled: sum(moved.slice(0, step)), bytes_all: sum(moved), bytes_naive: BYTES * naiveTraffic(n, backward),
    largest: Math.max(...tiles.map((each) => BYTES * sum(heldIn(each, backward).map(([, numbers]) => numbers)))),
    inside: tile !== null && tile.top <= row && row < tile.bottom,
    ...(backward ? backwardRow : forwardRow)(done, inputs),
  };
}

const range = (start, stop) => (stop - start === 1 ? String(start) : `${start}–${stop - 1}`);
const bytes = (count) => `${String(count).replace(/\B(?=(\d{3})+$)/g, ",")} bytes`;

// Drawing -------------------------------------------------------------------------------------------------------------

const PAD = { left: 46, top: 50, right: 34 }; // for the numbers and the strips of Q, of K and V, and of out
const STRIP = 12;

/** The table of scores, which is never there as a whole: tiles done, the present one, and those to come. */
function board(act) {
  let view = null;
  const drawing = cellBoard({
    room: PAD, most: { all: 320, cell: 36 }, away: { left: STRIP + 11, top: 9 }, paint, role: "img", onclick: clicked,
  });
  const element = h("figure", { class: "ab-board tiles-board" },
    h("figcaption", null, h("b", null, "the tiles"), h("span", { class: "ab-note" }, " rows: query · columns: key")),
    drawing.plate,
    swatches([["full", "in fast memory now"], ["pale", "done and forgotten"], ["empty", "to come"],
      ["hatched", "the future: skipped or hidden"]]));

  function clicked(event) {
    const { row, col } = drawing.at(event);
    if (row < 0 || row >= view.n) return;
    const step = 1 + view.tiles.findIndex((t) => t.top <= row && row < t.bottom && t.left <= col && col < t.right);
    act.change(step ? { row, step } : { row });
  }

  function paint(frame, { n, tiles, tile, step, causal, row, block_q, block_kv }) {
    const { pen, look, cell, hatch, lines } = frame;
    const fill = (colour, left, right, top, bottom, strength = 1) => {
      pen.globalAlpha = strength;
      pen.fillStyle = colour;
      pen.fillRect(PAD.left + left * cell, PAD.top + top * cell, (right - left) * cell, (bottom - top) * cell);
      pen.globalAlpha = 1;
    };
    fill(hatch, 0, n, 0, n); // what no tile covers, or the mask hides in one, stays so
    tiles.forEach((each, index) => {
      for (let i = each.top; i < each.bottom; i++) {
        const right = causal ? Math.min(each.right, i + 1) : each.right;
        if (right <= each.left) continue;
        fill(look.paper, each.left, right, i, i + 1);
        if (index < step - 1) fill(look.may, each.left, right, i, i + 1, 0.3);
        if (index === step - 1) fill(look.may, each.left, right, i, i + 1);
      }
    });
    if (tile && cell >= 26) drawScores(frame, tile);
    lines(look.edge, 0.3, 1);
    lines(look.ink, 1.2, block_q, block_kv);
    drawStrips(frame);
    pen.strokeStyle = look.problem;
    pen.lineWidth = 2;
    pen.strokeRect(PAD.left, PAD.top + row * cell, n * cell, cell);
  }

  function drawScores({ pen, look, cell }, { top, bottom, left, right }) {
    pen.font = `${cell > 30 ? 11 : 10}px ${look.font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = look.on;
    for (let i = top; i < bottom; i++) {
      for (let j = left; j < right && (!view.causal || j <= i); j++) {
        const text = format(scoreOf(i, j, view.causal), 1);
        pen.fillText(text, PAD.left + (j + 0.5) * cell, PAD.top + (i + 0.5) * cell);
      }
    }
  }

  /** Q, K, V and out as they lie in slow memory; what is filled is in fast memory too. */
  function drawStrips({ pen, look, cell }) {
    const { n, tile, tiles, step, backward } = view;
    const strip = (x, y, width, height, text, align) => {
      pen.strokeStyle = look.edge;
      pen.lineWidth = 1;
      pen.strokeRect(x, y, width, height);
      pen.fillStyle = look.ink;
      pen.font = `11px ${look.font}`;
      pen.textAlign = align;
      pen.textBaseline = "middle";
      pen.fillText(text, align === "center" ? x + width / 2 : x - 5, align === "center" ? PAD.top - 9 : y + height / 2);
    };
    const end = PAD.left + n * cell + 6;
    const lane = [PAD.top - 18 - 2 * STRIP, PAD.top - 18 - STRIP];
    pen.fillStyle = look.may;
    if (tile) {
      const [left, width] = [PAD.left + tile.left * cell, (tile.right - tile.left) * cell];
      for (const y of lane) pen.fillRect(left, y, width, STRIP);
      const [top, height] = [PAD.top + tile.top * cell, (tile.bottom - tile.top) * cell];
      pen.fillRect(PAD.left - 6 - STRIP, top, STRIP, height);
      pen.fillRect(end, top, STRIP, height);
      pen.globalAlpha = 0.3;
      const written = tiles.slice(0, step).filter((each) => each.last && each !== tile).at(-1)?.bottom ?? 0;
      pen.fillRect(end, PAD.top, STRIP, written * cell);
      pen.globalAlpha = 1;
    }
    strip(PAD.left, lane[0], n * cell, STRIP, backward ? "K, V" : "K", "right");
    strip(PAD.left, lane[1], n * cell, STRIP, backward ? "dK, dV" : "V", "right");
    strip(PAD.left - 6 - STRIP, PAD.top, STRIP, n * cell, "Q", "center");
    strip(end, PAD.top, STRIP, n * cell, backward ? "dQ" : "out", "center");
  }

  return {
    element,
    update(next) {
      view = next;
      const { tile, step, steps } = view;
      const where = tile ? `queries ${range(tile.top, tile.bottom)}, keys ${range(tile.left, tile.right)}` : "none yet";
      patch(drawing.canvas, { "aria-label": `Tile ${step} of ${steps}: ${where}` });
      drawing.update(view);
    },
  };
}

/** What the watched row remembers: before the tile, corrected, what the tile adds, after it, and divided by l. */
function ledger() {
  const title = h("b");
  const says = h("p", { class: "tiles-says" });
  const heads = ["", "before", "kept", "+ tile", "after", "out"].map((text) =>
    h("th", { scope: "col" }, text || h("span", { class: "ab-hidden" }, "number")));
  const rows = Array.from({ length: WIDTH + 2 }, () => {
    const name = h("th", { scope: "row" });
    const cells = Array.from({ length: 5 }, () => h("td"));
    return { name, cells, element: h("tr", null, name, cells) };
  });
  const table = h("table", { class: "tiles-table" }, h("thead", null, h("tr", null, heads)),
    h("tbody", null, rows.map((row) => row.element)));
  const element = h("div", { class: "ab-panel tiles-panel" }, title, says, table);

  function linesOf({ backward, before, kept, own, after, running }) {
    if (backward) {
      const { lse, share } = running;
      return [["lse", lse, null, null, lse], ["D", share, null, null, share],
        ...running.dq.map((_, c) => [`dq[${c}]`, before.dq[c], null, own?.dq[c], after.dq[c]])];
    }
    return [["m", before.m, null, own?.m, after.m], ["l", before.l, kept?.l, own?.l, after.l],
      ...after.o.map((_, c) => [`o[${c}]`, before.o[c], kept?.o[c], own?.o[c], after.o[c], running.out[c]])];
  }

  return {
    element,
    update(view) {
      patch(title, { text: `What row ${view.row} has in fast memory` });
      patch(says, { text: wordsOf(view) });
      linesOf(view).forEach(([name, ...numbers], i) => {
        patch(rows[i].name, { text: name });
        rows[i].cells.forEach((cell, at) => patch(cell, { text: numbers[at] == null ? "·" : format(numbers[at]) }));
      });
    },
  };
}

function wordsOf({ tile, tiles, inside, row, backward, factor, before, after, causal }) {
  if (!tile) return backward ? "No tile yet. lse came from the forward pass, D = Σ dO ∘ out." : "No tile yet: m = −∞.";
  const where = `Queries ${range(tile.top, tile.bottom)} meet keys ${range(tile.left, tile.right)}.`;
  if (!inside) {
    const over = tiles.find((each) => each.top <= row && row < each.bottom && each.last).top < tile.top;
    return `${where} Row ${row} ${over ? "is finished: its result is in slow memory." : "waits for its turn."}`;
  }
  if (backward) return `${where} The weights are computed anew: exp(score − lse). dq grows by Σ dS · k / √d.`;
  if (causal && tile.left > row) return `${where} For row ${row} they are all in the future: nothing is added.`;
  if (before.m === -Infinity) return `${where} m is the largest of these scores; there is nothing to correct yet.`;
  return after.m > before.m
    ? `${where} A larger score: of all that was summed, exp(m before − m after) = ${format(factor)} is kept.`
    : `${where} No larger score: all is kept, factor ${format(factor)}, and the tile is simply added.`;
}

/** Bytes moved, tiled and naive, and what has to be held where. */
function bill() {
  const moved = meters(["tiled, so far", "tiled, in all", "naive, in all"], "tiles-bar");
  const [verdict, fast, slow] = [h("p", { class: "tiles-verdict" }), h("p", { class: "tiles-fast" }), h("p")];
  const element = h("div", { class: "ab-panel tiles-panel" },
    h("b", null, "Moved to and from slow memory"), moved.elements, verdict, fast, slow);
  return {
    element,
    update({ n, backward, held, fast: inFast, largest, bytes_tiled, bytes_all, bytes_naive }) {
      const longest = Math.max(bytes_all, bytes_naive);
      moved.update([bytes_tiled, bytes_all, bytes_naive].map((count) => [count / longest, bytes(count)]));
      const ratio = bytes_naive / bytes_all;
      patch(verdict, {
        text: ratio >= 1 ? `The naive way moves ${format(ratio, 2)} times as much.`
          : `Such small tiles move ${format(1 / ratio, 2)} times as much as the naive way: keys and values are read ` +
            "again for every block of queries.",
      });
      const parts = held.map(([name, numbers]) => `${name} ${numbers}`).join(", ");
      patch(fast, {
        text: `In fast memory now: ${held.length ? `${parts} numbers: ${bytes(inFast)}` : "nothing"}; at most ` +
          `${bytes(largest)}.`,
      });
      const naive = backward ? `weights, dA and dS, ${bytes(3 * BYTES * n * n)}` : `scores and weights, ${
        bytes(2 * BYTES * n * n)}`;
      const tiled = backward ? "nothing" : `lse, ${bytes(BYTES * n)}`;
      patch(slow, { text: `In slow memory besides inputs and results: ${tiled}; the naive way: ${naive}.` });
    },
  };
}

// Controls ------------------------------------------------------------------------------------------------------------

const walker = (act) => stepper({
  label: "tiles done", beat: 900, // milliseconds a tile: time to read the numbers
  limits: [0, LONGEST ** 2], goTo: act.step,
  names: { play: "Play", step: "Step", back: "Back", reset: "Start over" },
  course: ({ at, most }) => [at === most ? 0 : at + 1, Infinity],
});

function settings(act) {
  const number = (label, name, min, max, limits = [min, max], spelt = String) => slider({
    label, min, max, step: 1, value: min, format: spelt, limits, onInput: (x) => act.change({ [name]: Math.round(x) }),
  });
  const n = number("n, tokens", "n", SHORTEST, LONGEST);
  const blocks = [number("block_q, queries of a tile", "block_q", 1, LONGEST),
    number("block_kv, keys of a tile", "block_kv", 1, LONGEST)];
  const row = number("row that is watched", "row", 0, 1, [0, LONGEST - 1], (x) => `query ${x}`);
  const switches = [["causal", "causal: nobody looks ahead"], ["backward", "backward: the gradients"]].map(
    ([name, label]) => [name, toggle({ label, onChange: (on) => act.change({ [name]: on, step: 0 }) })]);
  return {
    element: h("div", { class: "ab-panel tiles-settings" }, n.element, row.element, blocks.map((each) => each.element),
      switches.map(([, each]) => each.element)),
    update(view) {
      n.set(view.n);
      row.set(0);
      row.setRange(0, view.n - 1);
      row.set(view.row);
      blocks[0].set(view.block_q);
      blocks[1].set(view.block_kv);
      for (const [name, each] of switches) each.set(view[name]);
    },
  };
}

// The whole -----------------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const read = () => Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));

  const act = {
    /** Other inputs; where there are fewer tiles or rows now, the step and the row fall back to the last. */
    change(changes) {
      const next = { ...read(), ...changes };
      const step = Math.min(next.step, tilesOf(next).length);
      commit(model, { ...changes, step, row: Math.min(next.row, next.n - 1) });
      schedule.byHand();
      schedule.flush(); // a second press must find what the first has done
    },
    step(target) {
      const now = read();
      const tiles = tilesOf(now);
      const step = clamp(target, 0, tiles.length);
      const tile = tiles[Math.max(0, step - 1)];
      const inside = tile.top <= now.row && now.row < tile.bottom;
      act.change({ step, ...(!inside && { row: tile.top }) });
    },
  };

  const [picture, steps, controls] = [board, walker, settings].map((make) => make(act));
  const [memory, cost] = [ledger(), bill()];
  const root = explorerRoot("tiles", "Tile stepper",
    h("div", { class: "tiles-body" }, h("div", { class: "tiles-side" }, picture.element, steps.element),
      h("div", { class: "tiles-side" }, memory.element, cost.element)), controls.element);

  function draw(byHand) {
    const view = results(read());
    steps.update({ at: view.step, most: view.steps });
    for (const each of [picture, memory, cost, controls]) each.update(view);
    if (!byHand) return;
    announce(root, `Tile ${view.step} of ${view.steps}. ${wordsOf(view)} ${bytes(view.bytes_tiled)} moved.`);
  }

  function state() {
    schedule.flush();
    const { running, tile, steps: count, fast, bytes_tiled, bytes_naive, bytes_all, ...view } = results(read());
    const inputs = Object.fromEntries(INPUTS.map((name) => [name, view[name]]));
    const place = tile && [[tile.top, tile.bottom], [tile.left, tile.right]];
    return { ...inputs, ...running, tile: place, steps: count, fast, bytes_tiled, bytes_naive, bytes_all };
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
