// Tab "From my picture": noisy pictures and blends are computed here as t_0 moves; what the server draws streams in.
// Scope: element, props (`first`, `second`: the examples that the stored results were made from; `t0`: where these
// begin; `steps`: sampling steps, at most; `jumps`: of the second filling; `fillers`: the samplers that can fill in;
// `inverted`: the numbers of steps to noise and back), server, trigger, watch (see gr.HTML). Event: 'denoise' with the
// form's values and the pictures.
const $ = (selector) => element.querySelector(selector);
const { shared, count, cells, blend, distance } = ddpm;
const form = $(".controls");
const asking = ddpm.labelling.fields(form);
const status = $(".answer");
const bar = ddpm.tBar($(".t-bar"));
const kinds = ddpm.switchOf($(".switch"));
const row = (name) => $(`.row[data-object="${name}"]`);
const front = ddpm.front(element, (on) => {
  if (!on) return;
  goToExample();
  redraw();
});
const eraser = ddpm.eraser($(".torn"), { undo: $(".undo"), restore: $(".restore"), changed: () => markChanged() });

const GRAY = new Uint8Array(count).fill(128); // in place of a picture that is not there yet

// What each kind draws: the `kind` of its request, its rows (a row shows one drawn row, or with `each` one picture of
// all of them), and how many pictures it begins with.
const images = Number(form.elements.num_images.value);
const KINDS = {
  several: { asks: "denoise", rows: ["denoised"], images, noised: true },
  between: { asks: "walk", rows: ["denoised", "walk"], images, noised: true },
  fill: { asks: "fill", rows: ["plain", "filled"], images: Math.min(4, images) },
  invert: { asks: "invert", rows: ["code", "decoded"], images: 1, each: true },
};
let kind = "several";
let chosen = null; // bytes of the second picture
let index = props.second; // which example it is or, before the examples come, will be; null for none
const second = () => chosen ?? shared.get("picture"); // the first picture stands in until the examples come
let eps = null;
// What is drawn of each kind: {request, rows: what is there of each row, {n, pictures}, and once complete `seconds`}.
const results = { several: null, between: null, fill: null, invert: null };
const isDone = (result) => Boolean(result?.done);

// ---- what needs no server

const number = (name) => ddpm.trajectory.numberOf(form.elements[name]);
const numImages = () => Math.max(2, Math.min(+form.elements.num_images.max, Math.floor(number("num_images")) || 2));

const share = (i, n) => (n > 1 ? i / (n - 1) : 0); // lambda

function noised(bytes) {
  const alphaBar = ddpm.alphaBar[shared.get("t")];
  const [signal, spread] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
  return Float32Array.from(bytes, (v, k) => signal * (v / 127.5 - 1) + spread * eps[k]);
}

const codes = new WeakMap(); // by picture; the bytes of a picture never change
function codeOf(bytes) {
  if (!codes.has(bytes)) codes.set(bytes, ddpm.base64Of(bytes));
  return codes.get(bytes);
}

// What a click on the button would send; a result of anything else is faded.
function wanted() {
  const picture = shared.get("picture");
  if (kind === "invert") return { x0: codeOf(picture) };
  if (kind === "fill") return { x0: ddpm.base64Of(eraser.torn(picture)), mask: ddpm.base64Of(eraser.mask()) };
  const other = kind === "between" ? codeOf(second()) : null;
  return { x0: codeOf(picture), second: other, noise_seed: shared.get("noise"), t0: shared.get("t") };
}

const OF_PICTURES = ["x0", "second"]; // what a walk is made of, whatever t_0 and the noise

function redraw() {
  if (!front.shown || !eps) return; // it draws when it comes to the front
  if (kind === "several") ddpm.paint($('[data-object="xt"] canvas'), noised(shared.get("picture")));
  if (kind === "between") redrawBlends();
  markChanged();
}

function redrawBlends() {
  ddpm.paintBytes($('[data-object="x0_second"] canvas'), second());
  const n = results.between?.rows[0]?.n ?? numImages();
  const [blends, noisy] = [cells(row("mixture"), n), cells(row("xt_mixture"), n)];
  for (let i = 0; i < n; i++) {
    const mixture = blend(shared.get("picture"), second(), share(i, n));
    ddpm.paintBytes(blends[i].firstChild, Uint8ClampedArray.from(mixture));
    ddpm.paint(noisy[i].firstChild, noised(mixture));
    const fields = { share: share(i, n).toFixed(2) };
    blends[i].lastChild.textContent = fields.share;
    blends[i].firstChild.setAttribute("aria-label", ddpm.say("mine.mixture.one", fields));
    noisy[i].firstChild.setAttribute("aria-label", ddpm.say("mine.xt_mixture.one", fields));
  }
}

// ---- results

// How far picture i of a row is from the picture that it was made of; null while it is not finished.
function distanceOf(found, i) {
  const { request, pictures, n, seconds } = found;
  if (seconds === undefined) return null;
  const first = ddpm.bytesOf(request.x0);
  const from = request.second ? blend(first, ddpm.bytesOf(request.second), share(i, n)) : first;
  return distance(from, pictures.subarray(i * count, (i + 1) * count));
}

// Paints picture i of a row that may not be there yet, and writes `line` below it.
function drawCell(cell, found, i, line, key, fields) {
  const each = (found?.pictures?.length ?? 0) / (found?.n ?? 1); // less than `count` while smaller frames stream in
  ddpm.paintBytes(cell.firstChild, each ? found.pictures.subarray(i * each, (i + 1) * each) : GRAY);
  cell.lastChild.textContent = line;
  cell.firstChild.setAttribute("aria-label", ddpm.say(key, { i: i + 1, ...fields }));
}

// A row of pictures that were drawn together.
function drawRow(name, found, n) {
  cells(row(name), found?.n ?? n).forEach((cell, i) => {
    if (name === "denoised") {
      const away = found?.seconds === undefined ? "\u2026" : distanceOf(found, i).toFixed(0);
      drawCell(cell, found, i, away, "mine.denoised.one", { distance: away });
    } else {
      const at = name === "walk" ? share(i, found?.n ?? n).toFixed(2) : "";
      drawCell(cell, found, i, at, `mine.${name}.one`, { share: at });
    }
  });
}

// The ways to noise and back, each in another number of steps.
function drawWays(rows) {
  const ways = props.inverted.map((n, k) => ({ n, found: rows[k] }));
  const errors = ways.map(({ found }) => (found?.seconds === undefined ? null : distanceOf(found, 0)));
  const most = Math.max(1, ...errors);
  const [noises, back] = [cells(row("code"), ways.length), cells(row("decoded"), ways.length)];
  ways.forEach(({ n, found }, k) => {
    if (found?.noise) ddpm.paintNoiseBytes(noises[k].firstChild, found.noise);
    else ddpm.paintNoiseBytes(noises[k].firstChild, GRAY);
    noises[k].lastChild.textContent = ddpm.say("mine.steps", { n });
    noises[k].firstChild.setAttribute("aria-label", ddpm.say("mine.code.one", { n }));
    const away = errors[k] === null ? "\u2026" : ddpm.format.fixed(errors[k], 1);
    drawCell(back[k], found, 0, away, "mine.decoded.one", { n, distance: away });
    back[k].style.setProperty("--share", errors[k] === null ? 0 : errors[k] / most);
  });
}

let answered = null; // the result that the answers to the questions are about
function drawResult() {
  const result = results[kind];
  if (result !== answered) for (const each of questions) each.clear();
  answered = result;
  if (KINDS[kind].each) drawWays(result?.rows ?? []);
  else KINDS[kind].rows.forEach((name, k) => drawRow(name, result?.rows[k], result?.rows[0]?.n ?? numImages()));
  if (KINDS[kind].noised) tellStart(result?.request ?? { t0: shared.get("t") });
  markChanged();
}

// The caption of the denoised pictures tells where they began, and with which label.
function tellStart(request) {
  const caption = row("denoised").querySelector("figcaption > [data-text]");
  const labelled = ddpm.labelling.isGiven(request);
  Object.assign(caption.dataset, { t0: request.t0, ...(labelled && ddpm.labelling.told(request)) });
  caption.dataset.text = labelled ? "mine.denoised.labelled" : "mine.denoised";
  ddpm.setText(caption, caption.dataset.text, caption.dataset);
}

function markChanged() {
  const result = results[kind];
  if (!shared.get("picture")) return;
  const now = wanted();
  const differs = (names) => Boolean(result) && names.some((name) => now[name] !== result.request[name]);
  const changed = differs(Object.keys(now));
  const told = row(KINDS[kind].rows[0]).classList.contains("changed");
  for (const name of KINDS[kind].rows) {
    row(name).classList.toggle("changed", name === "walk" ? differs(OF_PICTURES) : changed);
  }
  if (changed !== told && !drawing.active()) tellResult();
}

function summary({ request, rows }) {
  const seconds = rows.map((found) => ddpm.format.fixed(found.seconds, 1));
  const label = ddpm.labelling.said(request);
  const { t0, num_inference_steps: steps, seed } = request;
  const sum = ddpm.format.fixed(
    rows.reduce((all, found) => all + found.seconds, 0),
    1,
  );
  const fields = { n: rows[0].n, t0, steps, label, seed, seconds: sum };
  if (kind === "fill") Object.assign(fields, { jumps: props.jumps, plain: seconds[0], jumping: seconds[1] });
  return ddpm.say(KINDS[kind].noised ? "mine.summary" : `mine.summary.${kind}`, fields);
}

const isAwaitingText = (key) => key === "answer.waking" || /^mine\.drawing/.test(key);

// The server still draws the example, or has just started.
const awaitedKey = () => ddpm.orWaking(KINDS[kind].noised ? "mine.drawing" : `mine.drawing.${kind}`);

function tellResult() {
  const result = results[kind];
  status.dataset.state = isDone(result) ? "done" : "";
  if (!result) return drawing.tell(awaitedKey());
  if (row(KINDS[kind].rows[0]).classList.contains("changed")) {
    return drawing.tell(KINDS[kind].noised ? "mine.changed" : `mine.changed.${kind}`);
  }
  if (!isDone(result)) return drawing.tell("mine.stopped", () => ({ step: result.step, steps: result.steps }));
  drawing.tell(result.example ? "mine.example" : "mine.done", () => ({ summary: summary(result) }));
}

function unpack(found) {
  return { ...found, pictures: ddpm.bytesOf(found.data), noise: found.noise && ddpm.bytesOf(found.noise) };
}

// ---- drawing

let partial = null; // what has come for the current request so far

const drawing = ddpm.sampling(element, {
  send: (message) => trigger("denoise", message),
  expect: server.expect,
  busy: kinds.disable,
  take(message) {
    if (message.kind === "frame") takeFrame(message);
    else if (message.kind === "row") takeRow(message);
    else if (message.kind === "done") finish(message);
  },
  stopped: tellResult,
});

function chosenInForm() {
  if (kind === "invert") return asking.read();
  const { value: sampler } = form.elements.sampler;
  return { sampler, num_images: number("num_images"), seed: number("seed"), ...asking.read() };
}

function start() {
  if (drawing.active()) return;
  const asked = wanted();
  if (kind === "fill" && eraser.isEmpty()) return drawing.tell("mine.whole", undefined, true);
  const steps = kind === "invert" ? {} : { num_inference_steps: Math.min(props.steps, asked.t0 ?? ddpm.T) };
  if (kind === "between") steps.walk_steps = Math.min(props.steps, ddpm.T); // whatever t_0
  partial = { request: { ...asked, ...chosenInForm(), ...steps, kind: KINDS[kind].asks }, rows: [] };
  drawing.start(partial.request);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});

function takeFrame(message) {
  const [before, had] = [results[kind], partial.rows[message.row]];
  const frame = ddpm.bytesOf(message.data);
  if (had?.seconds === undefined) {
    const noise = kind === "invert" && message.step <= message.steps / 2;
    partial.rows[message.row] = { ...had, n: message.n, pictures: frame.subarray(0, frame.length / 3) }; // x_t of all
    if (noise) partial.rows[message.row].noise = frame.subarray((2 * frame.length) / 3); // eps_hat, until x_T is there
  }
  Object.assign(partial, { step: message.step, steps: message.steps });
  results[kind] = partial;
  drawResult();
  if (before?.rows[0]?.n !== partial.rows[0]?.n) redraw();
  drawing.progress(message.share);
  drawing.note("reverse.running", () => ({ step: message.step, steps: message.steps }));
}

const fetching = new Map(); // by key: what the server has of a finished row

// A row is finished: its pictures take the place of the frames. Resolves to whether they could be fetched.
async function takeRow({ row: at, key, run }) {
  if (!fetching.has(key)) fetching.set(key, server.finished(key));
  const found = await fetching.get(key).catch(() => null);
  fetching.delete(key);
  if (!found || drawing.number() !== run) return Boolean(found);
  partial.rows[at] = unpack(found);
  results[kind] = partial;
  drawResult();
  return true;
}

async function finish({ keys, run }) {
  const missing = keys.map((key, at) => partial.rows[at]?.seconds === undefined && { row: at, key, run });
  const complete = (await Promise.all(missing.filter(Boolean).map(takeRow))).every(Boolean);
  if (drawing.number() !== run) return;
  drawing.end(complete ? null : "reverse.failed");
  if (!complete) return;
  results[kind] = { request: { ...partial.request, ...partial.rows[0].request }, rows: partial.rows, done: true };
  redraw();
  drawResult();
  tellResult();
}

watch("value", () => drawing.hear(props.value));

// ---- controls

const field = (name) => form.elements[name].closest("label");

function setKind(next) {
  KINDS[kind].images = form.elements.num_images.value;
  kind = next;
  form.elements.num_images.value = KINDS[kind].images;
  $(".mine").dataset.kind = kind;
  for (const name of ["sampler", "num_images", "seed"]) field(name).hidden = kind === "invert";
  $(".new-seed").hidden = kind === "invert";
  for (const option of form.elements.sampler.options) {
    option.disabled = kind === "fill" && !props.fillers.includes(option.value);
  }
  if (form.elements.sampler.selectedOptions[0].disabled) form.elements.sampler.value = props.fillers[0];
  ddpm.setText($(".go > span"), KINDS[kind].noised ? "mine.denoise" : `mine.go.${kind}`);
  redraw();
  drawResult();
  tellResult();
  showExample(kind);
}
kinds.onChoose(setKind);

$(".swap").addEventListener("click", () => {
  const first = { bytes: shared.get("picture"), index: ddpm.example.get() };
  const other = { bytes: second(), index: chosen ? index : first.index };
  [chosen, index] = [first.bytes, first.index];
  ddpm.choosePicture(other.bytes, other.index);
});

function chooseSecond(k) {
  index = k;
  chosen = shared.get("examples") && ddpm.example.at(k);
  redraw();
}

function describe() {
  const t = shared.get("t");
  $('[data-object="xt"] canvas').setAttribute("aria-label", ddpm.say("mine.xt.label", { t, snr: ddpm.format.snr(t) }));
}
const describeSoon = ddpm.afterRest(describe);

// ---- before the first click: what the server has drawn by itself

// Moves t to where the example begins: once, while the visitor looks at the tab and has not moved t; and whenever t is
// 1 only because another tab shows finished pictures, since from t_0 = 1 there is nothing to denoise.
let moved = false;
function goToExample() {
  if (front.shown && shared.get("finished")) return shared.set("t", results[kind]?.request.t0 ?? props.t0);
  const t0 = results[kind]?.request.t0;
  if (moved || !t0 || !front.shown) return;
  moved = true;
  if (drawing.number() === 0 && shared.get("t") === ddpm.firstT) shared.set("t", t0);
}

const awaited = new Set(); // the kinds whose example was asked for

async function showExample(of) {
  if (awaited.has(of)) return;
  awaited.add(of);
  const ask = async () => {
    const rows = await Promise.all(((await server.example(of)) ?? []).map((key) => server.finished(key)));
    if (!rows.length || !rows.every(Boolean)) return null;
    return drawing.active() && kind === of ? null : rows; // null: the visitor's own result is on its way
  };
  const missed = () => of === kind && isAwaitingText(drawing.shown()) && drawing.note(awaitedKey());
  const found = await ddpm.untilDrawn(element, ask, () => !results[of], missed);
  if (!found) return;
  const rows = found.map(unpack);
  results[of] = { request: rows[0].request, rows, done: true, example: true };
  if (of !== kind) return;
  goToExample();
  redraw();
  drawResult();
  if (!drawing.active()) tellResult();
}

// ---- the questions: each is about the kinds that it is shown with

const quizOf = (of, answer) => {
  const told = () => (drawing.active() || !isDone(results[kind]) ? null : answer(results[kind]));
  return ddpm.quiz(element, told, $(`.quiz[data-kinds~="${of}"]`));
};

// How much neighbouring pixels on both sides of the edge of the hole differ on average, in gray levels; NaN without edge.
function seam(mask, { pictures, n }) {
  const { width, channels } = ddpm.page;
  let [sum, pairs] = [0, 0];
  for (let i = 0; i < mask.length; i++) {
    for (const next of [(i + 1) % width ? i + 1 : mask.length, i + width]) {
      if (next >= mask.length || mask[i] === mask[next]) continue;
      for (let at = 0; at < n * count; at += count) {
        for (let c = at; c < at + channels; c++) {
          sum += Math.abs(pictures[c + channels * i] - pictures[c + channels * next]);
          pairs += 1;
        }
      }
    }
  }
  return sum / pairs;
}

const ofNoised = quizOf("several", ({ rows: [found], request }) => {
  const away = Array.from({ length: found.n }, (_, i) => distanceOf(found, i));
  const [least, most] = [Math.min, Math.max].map((of) => of(...away).toFixed(0));
  const { t0, x0 } = request;
  const signal = ddpm.alphaBar[t0] * ddpm.variance(Float32Array.from(ddpm.bytesOf(x0), (v) => v / 127.5 - 1));
  const percent = `${((100 * signal) / (signal + 1 - ddpm.alphaBar[t0])).toPrecision(2)}%`;
  return { key: "mine.quiz.answer", fields: { t0, least, most, percent } };
});

const ofFilled = quizOf("fill", ({ rows, request }) => {
  const [plain, jumping] = rows.map((found) => seam(ddpm.bytesOf(request.mask), found));
  if (Number.isNaN(plain)) return { key: "mine.fill.quiz.whole" };
  const fields = { n: rows[0].n, plain: ddpm.format.fixed(plain, 1), jumping: ddpm.format.fixed(jumping, 1) };
  return { key: "mine.fill.quiz.answer", fields };
});

const ofInverted = quizOf("invert", ({ rows }) => {
  const away = rows.map((found) => ddpm.format.fixed(distanceOf(found, 0), 1));
  const [few, many] = [props.inverted[0], props.inverted[rows.length - 1]];
  return { key: "mine.invert.quiz.answer", fields: { few, many, most: away[0], least: away.at(-1) } };
});

const questions = [ofNoised, ofFilled, ofInverted];

// ---- the beginning

ddpm.translate(element);
ddpm.picker(element);
shared.on("noise", (seed) => {
  eps = ddpm.normal(seed, count);
  redraw();
});
shared.on("picture", redraw);
shared.on("examples", (bytes) => {
  if (bytes && !chosen) chooseSecond(Math.min(index, bytes.length / count - 1));
  if (bytes) setTimeout(drawLinked); // later, since the first example must be on the pad
});
shared.on("t", (t) => {
  bar.show(t);
  redraw();
  describeSoon();
});
describe();
kinds.choose(kind);
const { sampler, num_images: numberOfImages, seed } = form.elements;
const firsts = {}; // the settings of the stored results, by kind
for (const of of Object.keys(KINDS)) {
  kind = of;
  firsts[of] = JSON.stringify({ ...chosenInForm(), ...(of !== "invert" && { num_images: Number(KINDS[of].images) }) });
}
kind = "several";

// ---- links, and a reload

// A second picture of the visitor's own is in no link, but survives a reload.
ddpm.memory.keep("second", () => (chosen && index === null ? ddpm.base64Of(chosen) : undefined));
const { second: kept, erased: keptMask } = ddpm.memory.recalled;
if (kept) [chosen, index] = [ddpm.bytesOf(kept), null];

// Of a large picture, what is erased is too long for a link.
const inLink = Math.max(ddpm.page.width, ddpm.page.height) <= ddpm.LARGE;
ddpm.memory.keep("erased", () => (inLink || eraser.isFirst() ? undefined : eraser.code()));
if (keptMask) eraser.read(keptMask);

// Draws what a link asks for unless the stored results show it. This waits for the examples.
let linked = null; // settings that the link named
function drawLinked() {
  if (!linked || !shared.get("examples")) return;
  const stored = {
    t: !("t" in linked) || !KINDS[kind].noised || shared.get("t") === props.t0,
    noise: shared.get("noise") === ddpm.page.noise || !KINDS[kind].noised,
    picture: ddpm.example.get() === props.first,
    second: kind !== "between" || index === props.second,
    erased: kind !== "fill" || eraser.isFirst(),
    form: JSON.stringify(chosenInForm()) === firsts[kind],
  };
  linked = null;
  if (!Object.values(stored).every(Boolean)) start();
}

const secondInLink = {
  read: () => (kind === "between" ? index : null),
  own: () => kind === "between" && index === null,
  apply(value) {
    const last = shared.get("examples") ? shared.get("examples").length / count - 1 : 99; // they have not come yet
    if (!/^\d{1,2}$/.test(value) || +value > last) return ["refused.whole", { low: 0, high: last }];
    chooseSecond(+value);
  },
};

const erasedInLink = {
  read: () => (kind === "fill" && inLink ? eraser.code() : null),
  own: () => kind === "fill" && !inLink && !eraser.isFirst(),
  apply: (value) => eraser.read(value),
};

const { label, s } = asking;
const inLinks = (named) => {
  moved ||= "t" in named;
  linked = named;
  drawLinked();
};
ddpm.linkable(
  "mine",
  {
    kind: $(".switch"),
    sampler,
    label,
    s,
    images: numberOfImages,
    seed,
    second: secondInLink,
    erased: erasedInLink,
  },
  inLinks,
);
ddpm.onLanguage(() => {
  describe();
  redraw();
  drawResult();
  bar.show(shared.get("t"));
});
