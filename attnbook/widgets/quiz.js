// The quiz: questions that answer back. A wrong answer gets its own sentence, and the right one stays out of sight
// until it is found, or asked for after a try.
import {
  announce, button, commit, exact, explorerRoot, h, live, onFrame, parseNumber, patch, uniqueId,
} from "./kit.js";

const NOTHING = { draft: null, answer: null, tried: [], shown: false };
const MOST_TRIED = 99; // wrong answers that are remembered
const FORMS = { choice: optionsForm, number: numberForm, order: stepsForm };
const JUDGES = { choice: judgeChoice, number: judgeNumber, order: judgeOrder };
const WRONG_MARK = "✗";
const RIGHT_MARK = "✓";

function render({ model, el }) {
  let views = [];
  let built = null; // the questions that the views are of
  const title = h("p", { class: "quiz-title", role: "heading", "aria-level": "3" });
  const tally = h("p", { class: "ab-note quiz-tally" });
  const list = h("div", { class: "quiz-list" });
  const again = button("Start again", restart);
  const root = explorerRoot("quiz", "Quiz", h("div", { class: "quiz-head" }, title, tally), list, again);

  const schedule = onFrame(draw);
  const leave = live(model, ["title", "questions", "record"], { el, root, schedule, state });
  draw();

  function read() {
    return { title: model.get("title"), questions: model.get("questions"), record: model.get("record") };
  }

  function state() {
    const now = read();
    const correct = now.questions.map((question, i) => verdict(question, now.record[i]));
    return { ...now, correct };
  }

  function change(i, changes) {
    const { record } = read();
    commit(model, { record: record.with(i, { ...record[i], ...changes }) });
    schedule.flush();
  }

  function draw() {
    const now = read();
    if (now.record.length !== now.questions.length) return; // the other trait is still on its way from Python
    if (built !== now.questions) {
      built = now.questions;
      views = built.map((question, i) => ask(question, i, { root, change: (changes) => change(i, changes) }));
      list.replaceChildren(...views.map((view) => view.element));
    }
    views.forEach((view, i) => view.draw(now.record[i]));
    const solved = state().correct.filter((right) => right === true).length;
    patch(title, { text: now.title });
    patch(root, { "aria-label": `Quiz: ${now.title}` });
    patch(tally, { text: `${solved} of ${built.length} right` });
    patch(again, { hidden: now.record.every((entry) => entry.answer === null && !entry.shown) });
  }

  function restart() {
    commit(model, { record: read().record.map(() => NOTHING) });
    schedule.flush();
    views[0].focus();
    announce(root, "All answers are cleared.");
  }

  return leave;
}

/** true or false once there is an answer (false too when it was shown), null before. */
function verdict(question, { answer, shown }) {
  return answer === null ? (shown ? false : null) : JUDGES[question.kind](question, answer).right;
}

// A question: its form, a button to check, and what is said of the answer ----------------------------------------

function ask(question, index, { root, change }) {
  let entry = NOTHING;
  let told = ""; // what the feedback was last drawn from
  const id = uniqueId("quiz");
  const said = h("div", { class: "quiz-said", role: "status", id: `${id}-said` });
  const problem = h("p", { class: "ab-problem", role: "alert", id: `${id}-problem` });
  const form = FORMS[question.kind](question, {
    id, root, described: `${said.id} ${problem.id}`, draft: (draft) => settled() || change({ draft }), settled,
  });
  const check = button("Check", submit);
  const show = button("Show the answer", () => settled() || change({ shown: true }));
  const element = h("fieldset", {
    class: "quiz-question", "aria-describedby": said.id,
    onkeydown: (event) => event.key === "Enter" && event.target.matches("input") && submit(),
  },
  h("legend", null, h("span", { class: "quiz-place" }, `${index + 1}.`), h("span", null, prose(question.text))),
  form.element, problem, h("div", { class: "ab-bar-of-buttons" }, check, show), said);

  function settled() {
    return entry.shown || verdict(question, entry) === true;
  }

  function submit() {
    if (settled()) return;
    const { answer, problem: trouble = "" } = form.read(entry.draft);
    patch(problem, { text: trouble });
    if (trouble) return form.complain();
    if (String(answer) === String(entry.answer)) return say(); // no second try, but it is read out again
    const { right } = JUDGES[question.kind](question, answer);
    change({ answer, tried: right ? entry.tried : [...entry.tried, answer].slice(-MOST_TRIED) });
  }

  function draw(now) {
    if (String(entry.draft) !== String(now.draft)) patch(problem, { text: "" });
    entry = now;
    form.draw(entry, settled());
    const states = { true: "right", false: entry.shown ? "shown" : "wrong" };
    patch(element, { "data-state": states[verdict(question, entry)] });
    patch(check, { "aria-disabled": settled() && "true" });
    patch(show, { hidden: !entry.tried.length || (settled() && !entry.shown), "aria-disabled": entry.shown && "true" });
    const key = JSON.stringify([entry.answer, entry.tried.length, entry.shown]);
    if (key === told) return;
    told = key;
    say();
  }

  function say() {
    patch(problem, { text: "" });
    said.replaceChildren(...feedback(question, entry)); // replaced, not patched, so that it is read out again
  }

  return { element, draw, focus: form.focus };
}

/** What is said of the last answer: the verdict, then a paragraph for each thing that is wrong with it. */
function feedback(question, entry) {
  const why = question.why ? [h("p", null, prose(question.why))] : [];
  if (entry.shown) return [h("p", null, h("strong", null, "The answer: "), solution(question)), ...why];
  if (entry.answer === null) return [];
  const { right, because } = JUDGES[question.kind](question, entry.answer);
  if (right) return [h("p", { class: "quiz-right" }, mark(RIGHT_MARK), h("strong", null, "Right.")), ...why];
  return [
    h("p", { class: "quiz-wrong" }, mark(WRONG_MARK), h("strong", null, "Not yet.")),
    ...because.map(([of, sentence]) => h("p", null, of && [h("strong", null, prose(of)), ": "], prose(sentence))),
  ];
}

function solution(question) {
  const { kind, options, steps, right, unit } = question;
  if (kind === "choice") return inSeries(options.filter(({ why }) => !why).map(({ text }) => text), "; ");
  if (kind === "order") return inSeries(right.map((i) => steps[i]), " → ");
  return `${rounded(question)} ${unit}`.trim();
}

function inSeries(texts, between) {
  return texts.flatMap((text, i) => [i ? between : null, ...prose(text)]);
}

function mark(sign) {
  return h("span", { class: "quiz-mark", "aria-hidden": "true" }, sign);
}

/** Text with `code` between backticks, as nodes. */
function prose(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? h("code", null, part) : part));
}

function plain(text) {
  return text.replaceAll("`", "");
}

// Choices ----------------------------------------------------------------------------------------------------------

function optionsForm(question, { id, draft, settled }) {
  const boxes = question.options.map((_, i) => h("input", {
    type: question.several ? "checkbox" : "radio", name: id, id: `${id}-${i}`,
    "aria-describedby": `${id}-${i}-why`,
    onclick: (event) => settled() && event.preventDefault(), // still to be reached and read, no more to be changed
    onchange: () => draft(boxes.flatMap((box, at) => (box.checked ? [at] : []))),
  }));
  const rows = question.options.map(({ text }, i) => {
    const row = { sign: mark(""), verdict: h("span", { class: "ab-hidden" }), why: h("p", { id: `${id}-${i}-why` }) };
    row.element = h("div", { class: "quiz-option" },
      h("label", null, boxes[i], h("span", null, prose(text)), row.verdict, row.sign), row.why);
    return row;
  });
  const hint = question.several && h("p", { class: "ab-note" }, "Choose all that are right.");
  const element = h("div", { class: "quiz-options" }, hint, rows.map((row) => row.element));

  function draw(entry, done) {
    const tried = new Set(entry.tried.flat());
    rows.forEach((row, i) => {
      const { why } = question.options[i];
      boxes[i].checked = (entry.draft ?? []).includes(i);
      patch(boxes[i], { "aria-disabled": done && "true" });
      const state = why ? tried.has(i) && "wrong" : done && "right";
      patch(row.element, { "data-state": state });
      patch(row.sign, { text: { wrong: WRONG_MARK, right: RIGHT_MARK }[state] ?? "" });
      patch(row.verdict, { text: state ? ` (${state})` : "" });
      if (row.done !== done) row.why.replaceChildren(...(done && why ? prose(why) : []));
      row.done = done;
    });
  }

  return {
    element, draw,
    read: (chosen) => (chosen?.length ? { answer: chosen } : { problem: "Choose an answer first." }),
    complain: () => boxes[0].focus(),
    focus: () => boxes[0].focus(),
  };
}

function judgeChoice({ options, several }, answer) {
  const wrong = answer.filter((i) => options[i].why);
  const missing = options.some(({ why }, i) => !why && !answer.includes(i));
  const because = wrong.map((i) => [options[i].text, options[i].why]);
  if (several && missing) {
    because.push([null, wrong.length ? "And something that is right is not chosen yet."
      : "All that you chose is right, but there is more."]);
  }
  return { right: !wrong.length && !missing, because };
}

// Numbers ----------------------------------------------------------------------------------------------------------

function numberForm(question, { id, described, draft, settled }) {
  const box = h("input", {
    type: "text", class: "ab-number", id: `${id}-box`, autocomplete: "off", spellcheck: "false", maxlength: 40,
    inputmode: question.answer < 0 ? "text" : "decimal", // a phone's decimal keypad has no minus
    "aria-describedby": `${id}-unit ${described}`,
    oninput: () => {
      patch(box, { "aria-invalid": null });
      draft(box.value);
    },
  });
  const unit = h("span", { id: `${id}-unit` }, question.unit);
  const element = h("div", { class: "quiz-number" },
    h("label", { class: "ab-label", for: box.id }, "Your answer"), box, unit);

  function draw(entry, done) {
    const text = entry.draft ?? "";
    if (box.value !== text) box.value = text;
    box.readOnly = done;
  }

  function read(text) {
    const readings = numbers(text ?? "", question.unit);
    if (!readings.length) {
      return { problem: text?.trim() ? `“${text.trim()}” is not a number.` : "Type a number first." };
    }
    const meant = (what) => readings.find((x) => judgeNumber(question, x)[what]);
    return { answer: meant("right") ?? meant("known") ?? readings[0] };
  }

  function complain() {
    patch(box, { "aria-invalid": "true" });
    box.focus();
  }

  return { element, draw, read, complain, focus: () => box.focus() };
}

/** What a text may mean as a number: "1,024" is 1.024 to some and 1024 to others. Fractions and the unit are read. */
function numbers(text, unit) {
  const bare = text.trim().replace(/(?<=\d)[\s_’'](?=\d{3}(?!\d))/g, "");
  const own = unit && bare.endsWith(unit) ? bare.slice(0, -unit.length) : bare;
  const thousands = /^[-+−]?\d{1,3}(,\d{3})+(\.\d+)?$/.test(own.trim()) ? [own.replaceAll(",", "")] : [];
  const readings = [own, ...thousands].map((each) => {
    const [over, under = "1", ...rest] = each.split("/");
    return rest.length ? NaN : parseNumber(over) / parseNumber(under);
  });
  return [...new Set(readings.filter(Number.isFinite))];
}

function judgeNumber(question, x) {
  const { answer, tolerance, wrong } = question;
  if (Math.abs(x - answer) <= tolerance * (1 + 1e-9) + 1e-12 * Math.abs(answer)) return { right: true, because: [] };
  const known = wrong.filter(([number]) => Math.abs(x - number) <= 1e-6 * Math.abs(number) || isRounding(x, number, 2))
    .sort(([a], [b]) => Math.abs(x - a) - Math.abs(x - b));
  const sentence = known.length ? known[0][1] : ofAnyNumber(question, x);
  return { right: false, known: known.length > 0, because: [[null, sentence]] };
}

/** What can be said of a wrong number that nobody foresaw. */
function ofAnyNumber(question, x) {
  const { answer } = question;
  const near = (a, b) => Math.abs(a - b) <= 1e-6 * Math.abs(b);
  if (answer === 0 || x === 0) return x === 0 ? "It is not zero." : x > answer ? "Too large." : "Too small.";
  if (near(x, -answer)) return "Right but for the sign.";
  if (x * answer < 0) return answer > 0 ? "It cannot be negative." : "It is negative.";
  if (isRounding(x, answer, 1) && decimals(question)) {
    const places = decimals(question);
    return `Right as far as it goes, but rounded too much: give ${places} ${places > 1 ? "decimals" : "decimal"}.`;
  }
  if (Number.isInteger(answer) && Math.abs(x - answer) === 1) return `One too ${x > answer ? "many" : "few"}.`;
  const ratio = Math.abs(x) > Math.abs(answer) ? x / answer : answer / x;
  const size = Math.abs(x) > Math.abs(answer) ? "Too large" : "Too small";
  if (ratio < 1.05) return `${size}, but close: check the arithmetic and the rounding.`;
  const whole = Math.round(ratio);
  if (!near(ratio, whole)) return near(x, 1 / answer) ? "That is 1 divided by it." : `${size}.`;
  const power = 10 ** Math.round(Math.log10(whole)) === whole ? " Check the unit and the decimal point." : "";
  return `${size} by a factor of ${exact(whole)}.${power}`;
}

/** Is x the number rounded to x's own digits, of which there are at least `least`? */
function isRounding(x, number, least) {
  const digits = String(Math.abs(x)).replace(/e.*$/, "").replace(".", "").replace(/^0+/, "").length;
  return digits >= least && Number(number.toPrecision(Math.min(digits, 17))) === x;
}

/** How many decimals the tolerance asks for. */
function decimals({ tolerance, answer }) {
  return Math.max(0, Math.min(12, Math.ceil(-Math.log10(2 * Math.max(tolerance, 1e-9 * Math.abs(answer)) || 1))));
}

function rounded(question) {
  return exact(Number(question.answer.toFixed(decimals(question))));
}

// Orders -----------------------------------------------------------------------------------------------------------

function stepsForm(question, { root, draft, settled }) {
  const start = question.steps.map((_, i) => i);
  let order = [];
  const rows = question.steps.map((text, i) => {
    const row = { place: h("span", { class: "quiz-place", "aria-hidden": "true" }) };
    row.up = button("↑", () => move(i, -1), { class: "ab-button ab-icon", "aria-label": `Move up: ${plain(text)}` });
    row.down = button("↓", () => move(i, 1), { class: "ab-button ab-icon", "aria-label": `Move down: ${plain(text)}` });
    row.element = h("li", {
      onkeydown: (event) => keyed(event, i), onpointerdown: (event) => grab(event, i),
      onpointermove: (event) => row.element.hasPointerCapture(event.pointerId) && drag(event, i),
      onlostpointercapture: () => patch(row.element, { "data-held": null }),
    }, h("span", { class: "quiz-grip", "aria-hidden": "true" }), row.place, h("span", null, prose(text)),
    row.up, row.down);
    return row;
  });
  const list = h("ol", { class: "quiz-steps" });
  const hint = h("p", { class: "ab-note" }, "Drag a step, or move it with its buttons or the arrow keys.");
  const element = h("div", null, hint, list);

  /** Move a step and say where it is; the others go round it, so that it keeps the focus and the pointer. */
  function put(i, place) {
    if (settled() || place < 0 || place >= order.length || order[place] === i) return;
    draft(order.toSpliced(order.indexOf(i), 1).toSpliced(place, 0, i));
    announce(root, `${plain(question.steps[i])}: ${place + 1} of ${order.length}`);
  }

  function move(i, by) {
    put(i, order.indexOf(i) + by);
  }

  function keyed(event, i) {
    const places = { ArrowUp: order.indexOf(i) - 1, ArrowDown: order.indexOf(i) + 1, Home: 0, End: order.length - 1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    put(i, places[event.key]);
  }

  function grab(event, i) {
    const byHandle = event.target.closest(".quiz-grip");
    if (event.button !== 0 || settled() || event.target.closest("button")) return;
    if (event.pointerType === "touch" && !byHandle) return; // elsewhere a finger scrolls the page
    event.preventDefault();
    rows[i].element.setPointerCapture(event.pointerId);
    patch(rows[i].element, { "data-held": true });
  }

  /** It changes places with a neighbour once the pointer is past the neighbour's middle. */
  function drag(event, i) {
    const middle = (place) => {
      const box = rows[order[place]].element.getBoundingClientRect();
      return box.top + box.height / 2;
    };
    let place = order.indexOf(i);
    while (place > 0 && event.clientY < middle(place - 1)) place -= 1;
    while (place < order.length - 1 && event.clientY > middle(place + 1)) place += 1;
    put(i, place);
  }

  function draw(entry, done) {
    const next = entry.draft ?? start;
    if (String(next) !== String(order)) arrange(next);
    patch(hint, { hidden: done });
    rows.forEach((row, i) => {
      const place = order.indexOf(i);
      patch(row.place, { text: `${place + 1}.` });
      patch(row.up, { "aria-disabled": (done || place === 0) && "true" });
      patch(row.down, { "aria-disabled": (done || place === order.length - 1) && "true" });
    });
  }

  function arrange(next) {
    const having = (what) => rows.find(({ element }) => element.matches(what))?.element;
    const still = having("[data-held]") ?? having(":focus-within");
    order = next;
    const elements = order.map((i) => rows[i].element);
    const at = elements.indexOf(still);
    if (at < 0) return list.replaceChildren(...elements);
    elements.slice(0, at).forEach((element) => still.before(element));
    list.append(...elements.slice(at + 1));
  }

  return {
    element, draw,
    read: (draft) => ({ answer: draft ?? start }),
    complain: () => {},
    focus: () => rows[order[0]].down.focus(),
  };
}

function judgeOrder({ steps, right, wrong, either }, answer) {
  const free = (a, b) => either.some((pair) => pair.includes(a) && pair.includes(b));
  const inverted = answer.flatMap((early, i) => answer.slice(i + 1).flatMap((late, gap) =>
    (right.indexOf(early) > right.indexOf(late) && !free(early, late) ? [{ early, late, gap }] : [])));
  if (!inverted.length) return { right: true, because: [] };
  const known = wrong.filter(([a, b]) => inverted.some(({ early, late }) => early === a && late === b));
  if (known.length) return { right: false, because: known.map(([, , sentence]) => [null, sentence]) };
  const { early, late } = inverted.reduce((best, pair) => (pair.gap < best.gap ? pair : best));
  const sentence = `“${steps[early]}” comes too early: “${steps[late]}” has to be before it.`;
  return { right: false, because: [[null, sentence]] };
}

export default { render };
