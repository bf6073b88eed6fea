// Tab "From my picture": noisy pictures and blends are computed here as t_0 moves; the denoised pictures stream in.
// Scope: element, props (`first`, `second`: the examples that the stored results were made from; `t0`: where these
// begin; `steps`: sampling steps, at most), server, trigger, watch (see gr.HTML). Event: 'denoise' with the form's
// values and the pictures.
const $ = (selector) => element.querySelector(selector);
const { shared, count } = ddpm;
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

let kind = "several"; // or "between"
let chosen = null; // bytes of the second picture
let index = props.second; // which example it is or, before the examples come, will be; null for none
const second = () => chosen ?? shared.get("picture"); // the first picture stands in until the examples come
let eps = null;
// What the lowest row of each kind shows: {request, n, pictures}, and once complete {seconds}.
const results = { several: null, between: null };

// ---- what needs no server

const number = (name) => ddpm.trajectory.numberOf(form.elements[name]);
const numImages = () => Math.max(2, Math.min(+form.elements.num_images.max, Math.floor(number("num_images")) || 2));

const share = (i, n) => (n > 1 ? i / (n - 1) : 0); // lambda
const blend = (a, b, share) => Float32Array.from(a, (v, k) => (1 - share) * v + share * b[k]);

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

// What a click on Denoise would send; a result of anything else is faded.
const wanted = () => ({
  x0: codeOf(shared.get("picture")),
  second: kind === "between" ? codeOf(second()) : null,
  noise_seed: shared.get("noise"),
  t0: shared.get("t"),
});

// Returns the n cells of a row, each with a canvas and a line below it, which it makes if there are not so many.
function buildRow(name, n) {
  const grid = row(name).querySelector(".grid");
  if (grid.children.length === n) return grid.children;
  grid.style.setProperty("--columns", Math.min(n, 8));
  const cells = Array.from({ length: n }, () => {
    const cell = document.createElement("div");
    cell.className = "cell";
    const canvas = ddpm.newCanvas();
    canvas.setAttribute("role", "img");
    cell.append(canvas, document.createElement("span"));
    return cell;
  });
  grid.replaceChildren(...cells);
  return grid.children;
}

function redraw() {
  if (!front.shown || !eps) return; // it draws when it comes to the front
  if (kind === "several") ddpm.paint($('[data-object="xt"] canvas'), noised(shared.get("picture")));
  else redrawBlends();
  markChanged();
}

function redrawBlends() {
  ddpm.paintBytes($('[data-object="x0_second"] canvas'), second());
  const n = results.between?.n ?? numImages();
  const [blends, noisy] = [buildRow("mixture", n), buildRow("xt_mixture", n)];
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

// How far picture i of a result is from the picture before the noise: root mean square, in levels of 0 to 255.
function distance({ request, pictures, n }, i) {
  const first = ddpm.bytesOf(request.x0);
  const from = request.second ? blend(first, ddpm.bytesOf(request.second), share(i, n)) : first;
  return Math.sqrt(from.reduce((sum, v, k) => sum + (v - pictures[i * count + k]) ** 2, 0) / count);
}

function drawResult() {
  const result = results[kind];
  const n = result?.n ?? numImages();
  const caption = row("denoised").querySelector("figcaption > [data-text]");
  const request = result?.request ?? { t0: shared.get("t") };
  const labelled = ddpm.labelling.isGiven(request);
  Object.assign(caption.dataset, { t0: request.t0, ...(labelled && ddpm.labelling.told(request)) });
  caption.dataset.text = labelled ? "mine.denoised.labelled" : "mine.denoised";
  ddpm.setText(caption, caption.dataset.text, caption.dataset);
  [...buildRow("denoised", n)].forEach((cell, i) => {
    const each = (result?.pictures?.length ?? 0) / n; // less than `count` while smaller frames stream in
    const picture = result?.pictures?.subarray(i * each, (i + 1) * each);
    ddpm.paintBytes(cell.firstChild, picture ?? new Uint8Array(count));
    const away = picture && result.seconds !== undefined ? distance(result, i).toFixed(0) : "\u2026";
    cell.lastChild.textContent = away;
    cell.firstChild.setAttribute("aria-label", ddpm.say("mine.denoised.one", { i: i + 1, distance: away }));
  });
  markChanged();
}

function markChanged() {
  const result = results[kind];
  const now = wanted();
  const changed = Boolean(result) && Object.keys(now).some((name) => now[name] !== result.request[name]);
  if (changed === row("denoised").classList.contains("changed")) return;
  row("denoised").classList.toggle("changed", changed);
  if (!drawing.active()) tellResult();
}

function summary({ request, n, seconds }) {
  const { t0, num_inference_steps: steps, seed } = request;
  const label = ddpm.labelling.said(request);
  return ddpm.say("mine.summary", { n, t0, steps, label, seed, seconds: ddpm.format.fixed(seconds, 1) });
}

function tellResult() {
  const result = results[kind];
  status.dataset.state = result?.seconds === undefined ? "" : "done";
  if (!result) return drawing.tell("mine.drawing");
  if (row("denoised").classList.contains("changed")) return drawing.tell("mine.changed");
  const { request, step } = result;
  if (result.seconds === undefined) {
    return drawing.tell("mine.stopped", () => ({ step, steps: request.num_inference_steps }));
  }
  drawing.tell(result.example ? "mine.example" : "mine.done", () => ({ summary: summary(result) }));
}

const unpack = (found, example = false) => ({ ...found, example, pictures: ddpm.bytesOf(found.data) });

// ---- denoising

let partial = null; // what has come for the current request so far

const drawing = ddpm.sampling(element, {
  send: (message) => trigger("denoise", message),
  expect: server.expect,
  busy: kinds.disable,
  take(message) {
    if (message.kind === "frame") takeFrame(message);
    else if (message.kind === "done") finish(message);
  },
  stopped: tellResult,
});

const chosenInForm = () => ({
  sampler: form.elements.sampler.value,
  num_images: number("num_images"),
  seed: number("seed"),
  ...asking.read(),
});

function denoise() {
  if (drawing.active()) return;
  const asked = wanted();
  partial = { request: { ...asked, ...chosenInForm(), num_inference_steps: Math.min(props.steps, asked.t0) } };
  drawing.start(partial.request);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  denoise();
});

function takeFrame(message) {
  partial.n = message.n;
  partial.step = message.step;
  const frame = ddpm.bytesOf(message.data);
  partial.pictures = frame.subarray(0, frame.length / 3); // x_t of all pictures
  const before = results[kind];
  results[kind] = partial;
  drawResult();
  if (before?.n !== partial.n) redraw();
  drawing.progress(message.share);
  drawing.note("reverse.running", () => ({ step: message.step, steps: message.steps }));
}

async function finish(message) {
  const found = await server.finished(message.key).catch(() => null);
  if (drawing.number() !== message.run) return;
  drawing.end(found ? null : "reverse.failed");
  if (!found) return;
  results[kind] = unpack(found);
  redraw();
  drawResult();
  tellResult();
}

watch("value", () => drawing.hear(props.value));

// ---- controls

function setKind(next) {
  kind = next;
  $(".mine").dataset.kind = kind;
  redraw();
  drawResult();
  tellResult();
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

// ---- before the first click: what the server has denoised by itself

// Moves t to where the example begins: once, while the visitor looks at the tab and has not moved t; and whenever t is
// 1 only because another tab shows finished pictures, since from t_0 = 1 there is nothing to denoise.
let moved = false;
function goToExample() {
  if (front.shown && shared.get("finished")) return shared.set("t", results[kind]?.request.t0 ?? props.t0);
  if (moved || !results[kind] || !front.shown) return;
  moved = true;
  if (drawing.number() === 0 && shared.get("t") === ddpm.firstT) shared.set("t", results[kind].request.t0);
}

async function showExample(of) {
  const ask = async () => {
    const found = await server.finished(of);
    return drawing.active() && kind === of ? null : found; // null: the visitor's own result is on its way
  };
  const found = await ddpm.untilDrawn(ask, () => !results[of]);
  if (!found) return;
  results[of] = unpack(found, true);
  goToExample();
  redraw();
  drawResult();
  if (!drawing.active()) tellResult();
}

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
const { sampler, num_images: images, seed } = form.elements;
const first = JSON.stringify(chosenInForm()); // the settings of the stored results

// ---- links, and a reload

// A second picture of the visitor's own is in no link, but survives a reload.
ddpm.memory.keep("second", () => (chosen && index === null ? ddpm.base64Of(chosen) : undefined));
const { second: kept } = ddpm.memory.recalled;
if (kept) [chosen, index] = [ddpm.bytesOf(kept), null];

// Draws what a link asks for unless the stored results show it. This waits for the examples.
let linked = null; // settings that the link named
function drawLinked() {
  if (!linked || !shared.get("examples")) return;
  const stored = {
    t: !("t" in linked) || shared.get("t") === props.t0,
    noise: shared.get("noise") === ddpm.page.noise,
    picture: ddpm.example.get() === props.first,
    second: kind === "several" || index === props.second,
    form: JSON.stringify(chosenInForm()) === first,
  };
  linked = null;
  if (!Object.values(stored).every(Boolean)) denoise();
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

const { label, s } = asking;
ddpm.linkable("mine", { kind: $(".switch"), sampler, label, s, images, seed, second: secondInLink }, (named) => {
  moved ||= "t" in named;
  linked = named;
  drawLinked();
});
showExample("several");
showExample("between");
ddpm.onLanguage(() => {
  describe();
  redraw();
  drawResult();
  bar.show(shared.get("t"));
});
