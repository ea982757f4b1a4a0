// The alignment explorer: which source each target attends to, as lines between two texts or drawn over a picture.
//
// The weights are the model's (attnbook/widgets/alignment.py); the page chooses a head, sharpens them for the eye, and
// draws. What is chosen on the target's side travels; what is pointed at, and a chosen source, are the page's own.

import {
  announce, argmax, button, cellGrid, choice, clamp, commit, explorerRoot, format, h, heatmap, isolated, live,
  onFrame, onLook, patch, slider, softmax, toggle,
} from "./kit.js";

const NAMED = 3; // of what attends or is attended to, so many are named in words
const LEVELS = 8; // strengths in which the lines of what is not in view are drawn
const FAINTEST = 0.02; // below it such a line would only be haze

// Numbers: `shown` and `mass` in alignment.py ------------------------------------------------------------------------

/** One head's weights, or the mean over heads; weights are (n_target, n_source) or (n_heads, n_target, n_source). */
function headOf(weights, head) {
  if (!Array.isArray(weights[0][0])) return weights;
  if (head !== null) return weights[head];
  return weights[0].map((row, i) => row.map((_, j) =>
    weights.reduce((sum, each) => sum + each[i][j], 0) / weights.length));
}

/** weights ** sharpness, renormalised: the softmax of their logarithms at the temperature 1 / sharpness. */
function sharpened(logs, sharpness) {
  return logs.map((row) => softmax(row, { temperature: 1 / sharpness }));
}

/** How much of each row lies on its right sources; NaN where there are none. */
function massOn(shown, expected) {
  return expected && shown.map((row, i) =>
    (expected[i].length ? expected[i].reduce((sum, j) => sum + row[j], 0) : NaN));
}

/** The least of a few round numbers that no weight exceeds: among many tokens, colours up to 1 would all be dark. */
function ceiling(shown) {
  let most = 0;
  for (const row of shown) for (const weight of row) most = Math.max(most, weight);
  return [0.1, 0.25, 0.5].find((round) => most <= round) ?? 1;
}

// Parts: each is {element, update(view)}; `act` is what they may ask for ----------------------------------------------

/** The tokens of one side, in a line or a column: arrows, Home and End choose (WAI-ARIA listbox). */
function lane(side, label, act) {
  const chips = [];
  let names = [];
  let current = 0;
  const element = h("div", {
    class: `alignment-lane alignment-${side}`, role: "listbox", "aria-label": label,
    onclick: (event) => choose(at(event)),
    onpointerover: (event) => act.point(side, at(event)),
    onpointerleave: () => act.point(side, -1),
    onfocusin: (event) => event.target.matches(":focus-visible") && act.point(side, at(event)),
    onfocusout: () => act.point(side, -1),
    onkeydown(event) {
      const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
      if (event.key in moves) choose(clamp(current + moves[event.key], 0, names.length - 1));
      else if (event.key === "Enter" || event.key === " ") choose(current);
      else return;
      event.preventDefault();
    },
  });

  const at = (event) => chips.findIndex((chip) => chip.element.contains(event.target));

  function choose(index) {
    if (index < 0) return;
    current = index;
    act.point(side, -1);
    act.choose(side, index);
    act.flush();
    chips[index].element.focus();
  }

  function chip() {
    const part = { name: h("span", { class: "alignment-name" }), number: h("span", { class: "alignment-number" }) };
    part.element = h("div", { class: "alignment-chip", role: "option" }, part.name, part.number);
    element.append(part.element);
    return part;
  }

  /** {names, current, chosen, lit: index or null, numbers: weights beside the names or null, right: indices}. */
  function update(next) {
    ({ names, current } = next);
    while (chips.length > names.length) chips.pop().element.remove();
    while (chips.length < names.length) chips.push(chip());
    chips.forEach((part, i) => {
      const weight = next.numbers ? next.numbers[i] : null;
      const right = next.right.includes(i);
      patch(part.name, { text: names[i] === " " ? "␣" : names[i] });
      patch(part.number, { text: weight === null || weight < next.least ? "" : brief(weight) });
      const value = weight === null ? "" : `, weight ${format(weight)}`;
      patch(part.element, {
        "aria-label": `${i} ${names[i]}${value}${right ? ", expected" : ""}`,
        "aria-selected": String(i === next.chosen), tabindex: i === current ? "0" : "-1",
        "data-lit": i === next.lit, "data-right": right, "data-weighed": weight !== null,
        style: weight === null ? null : `--alignment-share:${(100 * weight).toFixed(1)}%`,
      });
    });
  }

  return { element, update, chips };
}

/** Two digits that fit under a letter: .93, and 1.0. */
function brief(weight) {
  return weight > 0.995 ? "1.0" : weight.toFixed(2).slice(1);
}

/** Targets, sources and a line for each weight between them; side by side where they are too long for one line. */
function scene(act) {
  let view = null;
  let frame = null;
  const canvas = h("canvas", { class: "alignment-lines", "aria-hidden": "true" });
  const target = lane("target", "Targets: choose one to see where it looks", act);
  const source = lane("source", "Sources: choose one to see which targets use it", act);
  const title = (text) => h("span", { class: "ab-label", "aria-hidden": "true" }, text);
  const element = h("div", { class: "alignment-scene ab-drawing" }, canvas, title("target"), target.element,
    h("div", { class: "alignment-between" }), title("source"), source.element);
  onLook(element, () => {
    frame = null;
    draw();
  });

  /** The widest of three layouts that fits, and where each token's line ends. */
  function lay() {
    for (const flow of ["across", "tight", "down"]) {
      patch(element, { "data-flow": flow });
      if (flow === "down" || [target, source].every(fits)) break;
    }
    const box = element.getBoundingClientRect();
    const down = element.dataset.flow === "down";
    const orientation = { "aria-orientation": down ? "vertical" : "horizontal" };
    for (const { element } of [target, source]) patch(element, orientation);
    const ends = (lane, far) => lane.chips.map(({ element }) => {
      const chip = element.getBoundingClientRect();
      return down ? [(far ? chip.left : chip.right) - box.left, (chip.top + chip.bottom) / 2 - box.top]
        : [(chip.left + chip.right) / 2 - box.left, (far ? chip.top : chip.bottom) - box.top];
    });
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.ceil(box.width * ratio), Math.ceil(box.height * ratio)];
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    frame = { pen, from: ends(target, false), to: ends(source, true), near: style.color, far: style.borderTopColor,
      right: style.outlineColor, size: [box.width, box.height], names: names() };
  }

  const names = () => [view.target, view.source].map((each) => each.join("\n")).join("\n\n");

  function fits({ element, chips }) {
    const room = element.clientWidth;
    return chips.reduce((sum, chip) => sum + chip.element.offsetWidth + 3, 0) <= room;
  }

  function draw() {
    if (!view || !element.clientWidth) return;
    if (frame?.names !== names()) lay();
    const { pen, size } = frame;
    pen.clearRect(0, 0, ...size);
    drawOthers();
    const { active, shown } = view;
    if (active.side === "target") shown[active.index].forEach((weight, j) => drawLine(active.index, j, weight));
    else shown.forEach((row, i) => drawLine(i, active.index, row[active.index]));
  }

  /** What is not in view, faintly: a few strengths, each drawn in one go. */
  function drawOthers() {
    const { pen, from, to, far } = frame;
    const paths = Array.from({ length: LEVELS }, () => new Path2D());
    view.shown.forEach((row, i) => row.forEach((weight, j) => {
      if (weight < Math.max(view.threshold, FAINTEST)) return;
      const path = paths[Math.min(LEVELS - 1, Math.floor(weight * LEVELS))];
      path.moveTo(...from[i]);
      path.lineTo(...to[j]);
    }));
    pen.strokeStyle = far;
    paths.forEach((path, level) => {
      pen.globalAlpha = 0.1 + (0.25 * (level + 1)) / LEVELS;
      pen.lineWidth = 0.75 + (1.25 * (level + 1)) / LEVELS;
      pen.stroke(path);
    });
    pen.globalAlpha = 1;
  }

  function drawLine(i, j, weight) {
    if (weight < view.threshold || weight === 0) return;
    const { pen, from, to, near, right } = frame;
    pen.strokeStyle = view.expected?.[i].includes(j) ? right : near;
    pen.globalAlpha = 0.35 + 0.65 * weight;
    pen.lineWidth = 1 + 6 * weight;
    pen.beginPath();
    pen.moveTo(...from[i]);
    pen.lineTo(...to[j]);
    pen.stroke();
    pen.globalAlpha = 1;
  }

  return {
    element,
    update(next) {
      view = next;
      updateLanes(target, source, view);
      draw();
    },
  };
}

/** Both sides' tokens: of the one in view, the other side shows how much of it goes there. */
function updateLanes(target, source, view) {
  const { shown, active, threshold, chosen } = view;
  const forwards = active.side === "target";
  const right = view.expected ?? [];
  target.update({
    names: view.target, current: view.selected, chosen: chosen.side === "target" ? chosen.index : -1,
    lit: forwards ? active.index : null, least: threshold,
    numbers: forwards ? null : shown.map((row) => row[active.index]),
    right: forwards ? [] : right.flatMap((sources, i) => (sources.includes(active.index) ? [i] : [])),
  });
  source?.update({
    names: view.source, current: view.rover, chosen: chosen.side === "source" ? chosen.index : -1,
    lit: forwards ? null : active.index, least: threshold, numbers: forwards ? shown[active.index] : null,
    right: forwards ? right[active.index] ?? [] : [],
  });
}

/** The picture, its patches, and how much of the target in view goes to each: brightness, frame and number. */
function picture(act) {
  let view = null;
  let frame = null;
  let over = true;
  const target = lane("target", "Targets: choose one to see where it looks", act);
  const canvas = h("canvas", { class: "alignment-picture", "aria-hidden": "true" });
  const tile = h("canvas", null);
  const grid = cellGrid({
    "aria-label": "Patches of the picture, row by row: choose one to see which targets use it",
    describe: (cell) => describe(index(cell)),
    onMove: (cell) => act.choose("source", index(cell)),
    onActivate: (cell) => act.choose("source", index(cell)),
    onclick(event) {
      const cell = grid.at(event);
      if (!cell) return;
      grid.go(cell);
      act.choose("source", index(cell));
    },
    onpointermove(event) {
      const cell = grid.at(event);
      act.point("source", cell ? index(cell) : -1);
    },
    onpointerleave: () => act.point("source", -1),
  });
  const plate = h("div", { class: "alignment-plate ab-drawing" }, canvas, grid.element);
  const veil = toggle({
    label: "attention over the picture", checked: true,
    onChange(on) {
      over = on;
      draw();
    },
  });
  const titled = (name, text, ...parts) =>
    h("div", { class: name }, h("span", { class: "ab-label", "aria-hidden": "true" }, text), parts);
  const words = titled("alignment-asking", "target", target.element);
  const element = titled("alignment-view", "source: the picture's patches", plate, veil.element);
  onLook(plate, () => {
    frame = null;
    draw();
  });

  const index = ({ row, col }) => row * view.grid[1] + col;

  function describe(j) {
    const { active, shown, expected } = view;
    const [i, weight] = active.side === "target" ? [active.index, shown[active.index][j]] : [view.selected, null];
    const of = weight === null ? "" : `, weight ${format(weight)}`;
    return `${patchName(view, j)}${of}${expected?.[i].includes(j) ? ", expected" : ""}`;
  }

  function lay() {
    const { image, grid: [rows, cols] } = view;
    const room = Math.min(plate.clientWidth - 8, 480);
    const scale = Math.min(room / image.width, 420 / image.height);
    const [width, height] = [image.width, image.height].map((side) => Math.round(side * scale));
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.ceil(width * ratio), Math.ceil(height * ratio)];
    patch(canvas, { style: `width:${width}px;height:${height}px` });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingEnabled = false;
    [tile.width, tile.height] = [image.width, image.height];
    tile.getContext("2d").putImageData(pixels(image), 0, 0);
    grid.update({ rows, cols, left: 0, top: 0, width, height });
    frame = { pen, width, height, image, font: getComputedStyle(canvas).fontFamily, grid: view.grid };
  }

  function draw() {
    if (!view || !plate.clientWidth) return;
    if (frame?.image !== view.image || frame.grid !== view.grid) lay();
    const { pen, width, height } = frame;
    pen.drawImage(tile, 0, 0, width, height);
    const { active, shown, grid: [rows, cols], threshold, expected } = view;
    const forwards = active.side === "target";
    const row = forwards ? shown[active.index] : shown[0].map((_, j) => Number(j === active.index));
    const most = Math.max(...row) || 1;
    const [w, high] = [width / cols, height / rows];
    const box = (j) => [(j % cols) * w, Math.floor(j / cols) * high, w, high];
    if (over) {
      row.forEach((weight, j) => {
        pen.fillStyle = `rgb(0 0 0 / ${0.62 * (1 - weight / most)})`;
        pen.fillRect(...box(j));
      });
    }
    drawGrid(rows, cols);
    if (!over) return;
    row.forEach((weight, j) => weight >= threshold && weight > 0 && drawFrame(box(j), 1.5 + 4 * weight));
    if (!forwards) return;
    for (const j of expected?.[active.index] ?? []) drawRight(box(j));
    row.forEach((weight, j) => weight >= threshold && weight > 0 && drawNumber(box(j), weight));
  }

  function drawGrid(rows, cols) {
    const { pen, width, height } = frame;
    for (const [colour, thick] of [["rgb(255 255 255 / 0.55)", 1.5], ["rgb(0 0 0 / 0.55)", 0.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = thick;
      pen.beginPath();
      for (let i = 0; i <= rows; i++) {
        pen.moveTo(0, (i * height) / rows);
        pen.lineTo(width, (i * height) / rows);
      }
      for (let j = 0; j <= cols; j++) {
        pen.moveTo((j * width) / cols, 0);
        pen.lineTo((j * width) / cols, height);
      }
      pen.stroke();
    }
  }

  /** Black in white, so that it is seen on any picture. */
  function drawFrame([x, y, w, high], thick) {
    const { pen } = frame;
    for (const [colour, line] of [["#fff", thick + 2], ["#000", thick]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(x + thick / 2 + 1, y + thick / 2 + 1, w - thick - 2, high - thick - 2);
    }
  }

  function drawRight([x, y, w, high]) {
    const { pen } = frame;
    const inset = Math.min(w, high) * 0.17;
    pen.setLineDash([4, 3]);
    for (const [colour, line] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(x + inset, y + inset, w - 2 * inset, high - 2 * inset);
    }
    pen.setLineDash([]);
  }

  function drawNumber([x, y, w, high], weight) {
    const { pen, font } = frame;
    const size = Math.min(13, Math.floor(Math.min(w / 2.6, high / 2)));
    if (size < 8) return; // too small to read; whoever points at a patch is told its number
    pen.font = `600 ${size}px ${font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 3;
    pen.strokeStyle = "#000";
    pen.fillStyle = "#fff";
    pen.strokeText(format(weight, 2), x + w / 2, y + high / 2);
    pen.fillText(format(weight, 2), x + w / 2, y + high / 2);
  }

  return {
    element, target: words,
    update(next) {
      view = next;
      updateLanes(target, null, view);
      draw();
      grid.update({});
    },
  };
}

function pixels({ width, height, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const out = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    out.data.set(bytes.subarray(3 * at, 3 * at + 3), 4 * at);
    out.data[4 * at + 3] = 255;
  }
  return out;
}

const patchName = ({ source, grid }, j) =>
  source[j] ?? `patch ${j} (row ${Math.floor(j / grid[1])}, column ${j % grid[1]})`;

/** What is in view, in words and in figures. */
function account(act) {
  const line = h("p", { class: "alignment-told" });
  const mass = h("output", { "data-read": "mass" });
  const mean = h("output", { "data-read": "mean-mass" });
  const right = h("p", { class: "alignment-told" });
  const back = button("Back to the target", act.back);
  const element = h("div", { class: "alignment-account" }, line, right, back);

  function update(view) {
    const { active, chosen, shown, expected, mass: masses } = view;
    const forwards = active.side === "target";
    patch(line, { text: forwards ? looks(view, active.index) : used(view, active.index) });
    patch(back, { disabled: chosen.side === "target" });
    patch(right, { hidden: !expected });
    if (!expected) return;
    const i = forwards ? active.index : view.selected;
    patch(mass, { text: Number.isNaN(masses[i]) ? "none is marked" : format(masses[i]) });
    const marked = masses.filter((each) => !Number.isNaN(each));
    patch(mean, { text: marked.length ? format(marked.reduce((a, b) => a + b, 0) / marked.length) : "none is marked" });
    const names = expected[i].map((j) => sourceName(view, j)).join(" or ");
    const of = `Mass of target ${targetName(view, i)} on its right source${names && ` ${names}`}: `;
    const rest = `; on average over the ${marked.length} of ${shown.length} targets that have one: `;
    right.replaceChildren(of, mass, rest, mean, ".");
  }

  return { element, update };
}

const targetName = ({ target }, i) => `${i} ‘${isolated(target[i])}’`;
const sourceName = (view, j) => (view.image ? patchName(view, j) : `${j} ‘${isolated(view.source[j])}’`);

/** The largest few, with their numbers. */
function largest(numbers, name) {
  const order = Array.from(numbers, (_, at) => at).sort((a, b) => numbers[b] - numbers[a] || a - b);
  const named = order.slice(0, NAMED).filter((at, rank) => numbers[at] > (rank ? 0.01 : 0));
  return named.map((at) => `${name(at)} ${format(numbers[at])}`).join(", ");
}

function looks(view, i) {
  const where = largest(view.shown[i], (j) => sourceName(view, j));
  return `Target ${targetName(view, i)} looks at ${where || "nothing: all its weights are 0"}.`;
}

function used(view, j) {
  const column = view.shown.map((row) => row[j]);
  const total = column.reduce((sum, weight) => sum + weight, 0);
  const who = largest(column, (i) => targetName(view, i));
  const name = `${view.image ? "P" : "Source "}${sourceName(view, j).slice(view.image ? 1 : 0)}`;
  return who ? `${name} is looked at by ${who}; over all targets ${format(total)}, which need not be 1.`
    : `${name} is looked at by no target.`;
}

/** Which head, and what the page does to its weights. */
function settings(act) {
  const heads = h("div", null);
  let head = null;
  const threshold = slider({
    label: "hide weights below", min: 0, max: 0.5, step: 0.01, value: 0, limits: [0, 1],
    onInput: (x) => act.put({ threshold: x }),
  });
  const sharpness = slider({
    label: "sharpness γ, on this page only", min: 0.25, max: 8, scale: "log", value: 1, limits: [0.01, 100],
    onInput: (x) => act.put({ sharpness: x }),
  });
  const note = h("p", { class: "ab-note alignment-note" });
  const own = button("γ = 1", () => act.put({ sharpness: 1 }));
  const element = h("div", { class: "ab-panel alignment-settings" }, heads, threshold.element, sharpness.element,
    h("div", { class: "alignment-own" }, own, note));

  function build(count) {
    const options = Array.from({ length: count }, (_, at) => ({ value: at, label: String(at) }));
    head = choice({
      label: "Head", value: null, options: [{ value: null, label: "mean" }, ...options],
      onChange: (value) => act.put({ head: value }),
    });
    head.count = count;
    heads.replaceChildren(head.element);
  }

  return {
    element,
    update(view) {
      heads.hidden = view.heads === 0;
      if (view.heads && head?.count !== view.heads) build(view.heads);
      head?.set(view.head);
      threshold.set(view.threshold);
      sharpness.set(view.sharpness);
      patch(own, { disabled: view.sharpness === 1 });
      patch(note, {
        text: view.sharpness === 1 ? "The weights as they came."
          : `Not the model's own weights: each is raised to the power ${format(view.sharpness, 2)} and the row ` +
            "renormalised, as if its softmax had the temperature 1/γ.",
      });
    },
  };
}

// The whole ---------------------------------------------------------------------------------------------------------

const INPUTS = [
  "weights", "source", "target", "image", "grid", "expected", "selected", "head", "threshold", "sharpness",
];

function render({ model, el }) {
  const s = {}; // the model's inputs, as last read
  const ui = { source: null, hover: null, rover: 0 }; // the chosen source, what is pointed at, where Tab enters
  let logs = null; // of the head's weights
  let view = null; // what is drawn
  let [changed, pointed] = [false, false]; // what the reader has done that is not drawn yet

  const act = {
    put,
    choose(side, index) {
      if (side === "target") {
        ui.source = null;
        put({ selected: index });
      } else {
        ui.source = ui.rover = index;
        put({});
      }
    },
    back() {
      ui.source = null;
      put({});
    },
    point(side, index) {
      const hover = index < 0 ? null : { side, index };
      if (hover?.side === ui.hover?.side && hover?.index === ui.hover?.index) return;
      ui.hover = hover;
      pointed = true;
      schedule();
    },
    flush: () => schedule.flush(),
  };

  const [lines, patches, words, controls] = [scene, picture, account, settings].map((make) => make(act));
  const map = heatmap({
    label: "all weights as shown", rowTitle: "target", colTitle: "source", domain: [0, 1], maxCell: 32, maxHeight: 420,
    onHover: (cell) => act.point("target", cell ? cell.row : -1), onActivate: (cell) => act.choose("target", cell.row),
  });
  const rest = h("div", { class: "alignment-rest" }, words.element, controls.element);
  const body = h("div", { class: "alignment-body" }, patches.target, patches.element, rest, map.element);
  const root = explorerRoot("alignment", "Alignment explorer", lines.element, body);

  function put(changes) {
    Object.assign(s, changes);
    if ("head" in changes) relog();
    commit(model, changes);
    changed = true;
    schedule();
  }

  const relog = () => (logs = headOf(s.weights, s.head).map((row) => row.map(Math.log)));

  function draw() {
    if (!pull() && !changed && !pointed) return;
    pointed = false;
    redraw();
    if (!changed) return;
    changed = false;
    announce(root, view.active.side === "target" ? looks(view, view.active.index) : used(view, view.active.index));
  }

  function redraw() {
    const shown = sharpened(logs, s.sharpness);
    const [nTarget, nSource] = [shown.length, shown[0].length];
    ui.rover = Math.min(ui.rover, nSource - 1);
    if (ui.source >= nSource) ui.source = null;
    if (ui.hover && ui.hover.index >= (ui.hover.side === "target" ? nTarget : nSource)) ui.hover = null;
    const chosen = ui.source === null ? { side: "target", index: s.selected } : { side: "source", index: ui.source };
    if (ui.source === null) ui.rover = argmax(shown[s.selected]);
    view = {
      ...s, shown, mass: massOn(shown, s.expected), chosen, active: ui.hover ?? chosen, rover: ui.rover,
      heads: Array.isArray(s.weights[0][0]) ? s.weights.length : 0,
    };
    const inPicture = Boolean(s.image);
    lines.element.hidden = map.element.hidden = inPicture;
    patches.element.hidden = patches.target.hidden = !inPicture;
    patch(body, { "data-picture": inPicture });
    for (const each of inPicture ? [patches, words, controls] : [lines, words, controls]) each.update(view);
    if (inPicture) return;
    const { side, index } = view.active;
    map.update({
      values: shown, rows: s.target, cols: s.source, domain: [0, ceiling(shown)],
      highlight: { [side === "target" ? "row" : "col"]: index },
    });
  }

  /** What Python, or another view, has set. Traits arrive one by one: wait until they fit each other. */
  function pull() {
    const next = Object.fromEntries(INPUTS.map((name) => [name, model.get(name)]));
    if (INPUTS.every((name) => next[name] === s[name])) return false;
    const rows = headOf(next.weights, next.head);
    const sources = next.image ? (next.grid ?? [0, 0]).reduce((a, b) => a * b) : next.source.length;
    const fits = rows && rows[0].length === sources && rows.length === next.target.length &&
      next.selected < rows.length && (!next.expected || next.expected.length === rows.length);
    if (!fits) return false;
    const stale = next.weights !== s.weights || next.head !== s.head;
    Object.assign(s, next);
    if (stale) relog();
    return true;
  }

  function state() {
    schedule.flush();
    const { shown, mass, active, chosen } = view;
    return { ...s, shown: shown.map((row) => Array.from(row)), mass, active, chosen };
  }

  const schedule = onFrame(draw);
  const leave = live(model, INPUTS, { el, root, schedule, state });
  draw();
  return leave;
}

export default { render };
