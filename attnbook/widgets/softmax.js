// Softmax: a slider for each logit and one for the temperature; the probabilities they give, and their entropy.
import {
  announce, argmax, bars, button, commit, entropy, explorerRoot, format, h, isolated, live, onFrame, patch, slider,
  softmax,
} from "./kit.js";

const FEWEST = 2;
const MOST = 10;
const REACH = 5; // a logit's slider spans ±5 around 0, or around the multiple of 100 to which all were shifted
const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

function render({ model, el }) {
  const first = read();
  const rows = [];
  const list = h("div", { class: "ab-logits", role: "group", "aria-label": "Logits" });
  const chart = bars({ label: "Probabilities", height: 220 });
  const temperature = slider({
    label: "Temperature T", min: 0.05, max: 10, scale: "log", limits: [0.001, 1000], value: first.temperature,
    format: (x) => format(x, x < 1 ? 3 : 2), onInput: (x) => commit(model, { temperature: x }),
  });
  const add = button("Add a logit", addLogit);
  const shift = button("Shift all by +100", shiftAll);
  const reset = button("Reset", () => {
    commit(model, first);
    tell("Back to the first logits and temperature.");
  });
  const cold = h("span");
  const warm = h("span");
  const spread = h("output", { "data-read": "entropy" });
  const most = h("span", { "data-read": "max-entropy" });
  const level = h("div", { class: "ab-meter-fill" });
  const meter = h("div", { class: "ab-meter", role: "meter", "aria-label": "Entropy in nats" }, level);
  const note = h("p", { class: "ab-note ab-told" });
  const root = explorerRoot("softmax", "Softmax explorer",
    h("div", { class: "ab-split ab-picture-first" },
      h("div", { class: "ab-stack" },
        h("div", { class: "ab-panel" }, temperature.element),
        h("div", { class: "ab-label" }, "Logits"), list,
        h("div", { class: "ab-bar-of-buttons" }, add, shift, reset),
        note),
      h("div", { class: "ab-stack ab-picture" },
        h("div", { class: "ab-label" }, "Probabilities softmax(logits / T)"), chart.element,
        h("div", { class: "ab-limits ab-note" },
          h("div", null, h("span", { class: "ab-swatch-ghost" }), cold),
          h("div", null, h("span", { class: "ab-swatch-level" }), warm)),
        h("div", null, h("div", { class: "ab-entropy" }, h("span", null, "Entropy ", spread, " nats"), most), meter))));

  const schedule = onFrame(draw);
  const leave = live(model, ["logits", "labels", "temperature"], { el, root, schedule, state });
  draw();

  function read() {
    return {
      logits: Array.from(model.get("logits")), labels: Array.from(model.get("labels")),
      temperature: model.get("temperature"),
    };
  }

  function state() {
    const { logits, labels, temperature } = read();
    const weights = Array.from(softmax(logits, { temperature }));
    const max_entropy = Math.log(logits.length);
    return { logits, labels, temperature, weights, entropy: entropy(weights), max_entropy, argmax: argmax(logits) };
  }

  function draw() {
    const now = state();
    if (now.labels.length !== now.logits.length) return; // the other trait is still on its way from Python
    drawRows(now);
    if (temperature.value !== now.temperature) temperature.set(now.temperature);
    const n = now.logits.length;
    const highest = Math.max(...now.logits);
    const winners = now.logits.flatMap((logit, i) => (logit === highest ? [i] : []));
    const ghosts = now.logits.map((logit) => (logit === highest ? 1 / winners.length : 0));
    const mark = winners.length === 1 ? winners[0] : null;
    chart.update({ values: now.weights, labels: now.labels, mark, ghosts, level: 1 / n });
    const names = winners.map((i) => `‘${isolated(now.labels[i])}’`).join(", ");
    patch(cold, { text: winners.length > 1 ? `T → 0: ${format(1 / winners.length)} each on ${names}, tied at the top`
      : `T → 0: everything on the arg-max, ${names}` });
    patch(warm, { text: `T → ∞: 1/${n} = ${format(1 / n)} each` });
    patch(spread, { text: format(now.entropy) });
    patch(most, { text: `of at most ln ${n} = ${format(now.max_entropy)}` });
    patch(level, { style: `width:${(100 * now.entropy) / now.max_entropy}%` });
    patch(meter, { "aria-valuemin": 0, "aria-valuemax": format(now.max_entropy), "aria-valuenow": format(now.entropy),
      "aria-valuetext": `${format(now.entropy)} nats` });
    patch(add, { disabled: n >= MOST });
    announce(root, now.labels.map((label, i) => `${label} ${format(now.weights[i], 2)}`).join(", "));
  }

  function drawRows({ logits, labels }) {
    while (rows.length > logits.length) rows.pop().element.remove();
    while (rows.length < logits.length) rows.push(row(rows.length));
    const [low, high] = span(logits);
    rows.forEach((row, i) => {
      if (row.low !== low || row.high !== high) row.slider.setRange((row.low = low), (row.high = high));
      if (row.slider.value !== logits[i]) row.slider.set(logits[i]);
      if (row.name.value !== labels[i]) row.name.value = labels[i];
      row.slider.setLabel(`Logit of ${labels[i]}`);
      patch(row.remove, { disabled: logits.length <= FEWEST, "aria-label": `Remove ${labels[i]}` });
    });
  }

  function row(index) {
    const part = { low: -REACH, high: REACH };
    part.slider = slider({
      label: "", hideLabel: true, min: -REACH, max: REACH, step: 0.1, limits: [-1e6, 1e6],
      value: read().logits[index], onInput: (x) => commit(model, { logits: read().logits.with(index, x) }),
    });
    part.name = h("input", {
      type: "text", class: "ab-text", maxlength: 40, autocomplete: "off", spellcheck: "false",
      "aria-label": `Name of logit ${index + 1}`,
      oninput: () => commit(model, { labels: read().labels.with(index, part.name.value) }),
    });
    part.remove = button("×", () => removeLogit(index), { class: "ab-button ab-icon" });
    part.element = h("div", { class: "ab-logit" }, part.name, part.slider.element, part.remove);
    list.append(part.element);
    return part;
  }

  function addLogit() {
    const { logits, labels } = read();
    let number = logits.length + 1;
    while (labels.includes(subscripted(number))) number += 1;
    commit(model, { logits: [...logits, offset(logits)], labels: [...labels, subscripted(number)] });
    schedule.flush();
    rows.at(-1).slider.range.focus();
    tell(`Added ${subscripted(number)}.`);
  }

  function removeLogit(index) {
    const { logits, labels } = read();
    commit(model, { logits: logits.toSpliced(index, 1), labels: labels.toSpliced(index, 1) });
    schedule.flush();
    rows[Math.min(index, rows.length - 1)].slider.range.focus();
    tell(`Removed ${labels[index]}.`);
  }

  function shiftAll() {
    commit(model, { logits: read().logits.map((logit) => Number((logit + 100).toPrecision(12))) });
    tell("Every logit is 100 higher, and no probability changed: only differences matter.");
  }

  function tell(text) {
    patch(note, { text });
    announce(root, text);
  }

  return leave;
}

/** The multiple of 100 around which the logits lie: after "shift all" the sliders stand where they stood. */
function offset(logits) {
  return 100 * Math.round(logits.reduce((sum, logit) => sum + logit, 0) / logits.length / 100);
}

function span(logits) {
  const centre = offset(logits);
  return [Math.min(centre - REACH, Math.floor(Math.min(...logits))),
    Math.max(centre + REACH, Math.ceil(Math.max(...logits)))];
}

function subscripted(number) {
  return `z${Array.from(String(number), (digit) => SUBSCRIPTS[digit]).join("")}`;
}

export default { render };
