// Tab "From my picture": the picture, its noise and blends are computed here as t_0 moves; what the network makes of
// them streams in. Scope: element, props (`second`: which example is the second picture; `steps`: of the way back, at
// most), server, trigger, watch (see gr.HTML). Event: 'denoise' with what is to be denoised.
const $ = (selector) => element.querySelector(selector);
const { shared, count } = ddpm;
const { resolution: size } = ddpm.page;
const form = $(".controls");
const status = $(".answer");
const bar = ddpm.tBar($(".t-bar"));
const row = (name) => $(`.row[data-object="${name}"]`);

let kind = "several"; // or "between"
let chosen = null; // bytes of the second picture
const second = () => chosen ?? shared.get("picture"); // until there are examples
let eps = null;
// Of each kind, what its lowest row shows: {request, n, pictures}, later with {seconds}.
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

const codes = new WeakMap(); // of each picture, which never changes
function codeOf(bytes) {
  if (!codes.has(bytes)) codes.set(bytes, ddpm.base64Of(bytes));
  return codes.get(bytes);
}

// What a click on Denoise would ask for; a result of something else is faded.
const wanted = () => ({
  x0: codeOf(shared.get("picture")),
  second: kind === "between" ? codeOf(second()) : null,
  noise_seed: shared.get("noise"),
  t0: shared.get("t"),
});

function buildRow(name, n) {
  const grid = row(name).querySelector(".grid");
  if (grid.children.length === n) return grid.children;
  grid.style.setProperty("--columns", Math.min(n, 8));
  grid.replaceChildren(...Array.from({ length: n }, () => {
    const cell = document.createElement("div");
    cell.className = "cell";
    const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size, className: "pixels" });
    canvas.setAttribute("role", "img");
    cell.append(canvas, document.createElement("span"));
    return cell;
  }));
  return grid.children;
}

function redraw() {
  if (!element.offsetParent || !eps) return; // when it comes to the front
  const first = shared.get("picture");
  if (kind === "several") ddpm.paint($('[data-object="xt"] canvas'), noised(first));
  else {
    ddpm.paintBytes($('[data-object="x0_second"] canvas'), second());
    const n = results.between?.n ?? numImages();
    const [blends, noisy] = [buildRow("mixture", n), buildRow("xt_mixture", n)];
    for (let i = 0; i < n; i++) {
      const mixture = blend(first, second(), share(i, n));
      ddpm.paintBytes(blends[i].firstChild, Uint8ClampedArray.from(mixture));
      ddpm.paint(noisy[i].firstChild, noised(mixture));
      const fields = { share: share(i, n).toFixed(2) };
      blends[i].lastChild.textContent = fields.share;
      blends[i].firstChild.setAttribute("aria-label", ddpm.say("mine.mixture.one", fields));
      noisy[i].firstChild.setAttribute("aria-label", ddpm.say("mine.xt_mixture.one", fields));
    }
  }
  markChanged();
}

// ---- results

// Of result i from what was noised: root of the mean squared difference, in levels of 0 to 255.
function distance({ request, pictures, n }, i) {
  const first = ddpm.bytesOf(request.x0);
  const from = request.second ? blend(first, ddpm.bytesOf(request.second), share(i, n)) : first;
  return Math.sqrt(from.reduce((sum, v, k) => sum + (v - pictures[i * count + k]) ** 2, 0) / count);
}

function drawResult() {
  const result = results[kind];
  const n = result?.n ?? numImages();
  const caption = row("denoised").querySelector("figcaption > [data-text]");
  caption.dataset.t0 = result?.request.t0 ?? shared.get("t");
  ddpm.setText(caption, "mine.denoised", caption.dataset);
  [...buildRow("denoised", n)].forEach((cell, i) => {
    const picture = result?.pictures?.subarray(i * count, (i + 1) * count);
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
  if (changed !== row("denoised").classList.contains("changed")) {
    row("denoised").classList.toggle("changed", changed);
    if (!run.active()) tellResult();
  }
}

function tellResult() {
  const result = results[kind];
  status.dataset.state = result?.seconds === undefined ? "" : "done";
  if (!result) return run.tell("mine.drawing");
  if (row("denoised").classList.contains("changed")) return run.tell("mine.changed");
  const { request, step } = result;
  if (result.seconds === undefined) return run.tell("mine.stopped", () => ({ step, steps: request.num_inference_steps }));
  run.tell(result.example ? "mine.example" : "mine.done", () => ({ summary: ddpm.say("mine.summary", {
    n: result.n, t0: request.t0, steps: request.num_inference_steps, seed: request.seed,
    seconds: ddpm.format.fixed(result.seconds, 1),
  }) }));
}

const unpack = (found, example = false) => ({ ...found, example, pictures: ddpm.bytesOf(found.data) });

// ---- denoising

let live = null; // the result of the current run as far as it has come

const run = ddpm.runs(element, {
  send: (message) => trigger("denoise", message),
  expect: server.expect,
  busy(on) {
    for (const button of element.querySelectorAll(".switch button")) button.disabled = on;
  },
  take(message) {
    if (message.kind === "frame") takeFrame(message);
    else if (message.kind === "done") finish(message);
  },
  stopped: tellResult,
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (run.active()) return;
  const asked = wanted();
  const request = {
    ...asked,
    sampler: form.elements.sampler.value,
    num_inference_steps: Math.min(props.steps, asked.t0),
    num_images: number("num_images"),
    seed: number("seed"),
  };
  live = { request };
  run.start(request);
});

function takeFrame(message) {
  live.n = message.n;
  live.step = message.step;
  live.pictures = ddpm.bytesOf(message.data); // x_t of all pictures comes first in it
  const before = results[kind];
  results[kind] = live;
  drawResult();
  if (before?.n !== live.n) redraw();
  run.progress(message.share);
  run.tell("reverse.running", () => ({ step: message.step, steps: message.steps }));
}

async function finish(message) {
  const found = await server.finished(message.key).catch(() => null);
  if (run.number() !== message.run) return;
  run.end(found ? null : "reverse.failed");
  if (!found) return;
  results[kind] = unpack(found);
  redraw();
  drawResult();
  tellResult();
}

watch("value", () => run.hear(props.value));

// ---- controls

function setKind(next) {
  kind = $(".mine").dataset.kind = next;
  for (const button of element.querySelectorAll(".switch button")) button.setAttribute("aria-pressed", button.dataset.value === next);
  redraw();
  drawResult();
  tellResult();
}
for (const button of element.querySelectorAll(".switch button")) button.addEventListener("click", () => setKind(button.dataset.value));

$(".swap").addEventListener("click", () => {
  const first = shared.get("picture");
  const other = second();
  chosen = first;
  ddpm.choosePicture(other);
});

// ---- before the first click: what the server has denoised of the first picture

async function showExample(of) {
  const ask = async () => {
    const found = await server.finished(of);
    return run.active() && kind === of ? null : found; // a visitor's own comes
  };
  const found = await ddpm.untilDrawn(ask, () => !results[of]);
  if (!found) return;
  results[of] = unpack(found, true);
  // Nobody has moved t yet: to where the example is.
  if (run.number() === 0 && shared.get("t") === ddpm.firstT) shared.set("t", found.request.t0);
  redraw();
  drawResult();
  if (!run.active()) tellResult();
}

ddpm.translate(element);
ddpm.picker(element);
shared.on("noise", (seed) => {
  eps = ddpm.normal(seed, count);
  redraw();
});
shared.on("picture", redraw);
shared.on("examples", (bytes) => {
  const last = bytes ? bytes.length / count - 1 : 0;
  if (bytes && !chosen) chosen = bytes.slice(Math.min(props.second, last) * count).subarray(0, count);
  redraw();
});
let describing = 0;
const describe = () => {
  const t = shared.get("t");
  $('[data-object="xt"] canvas').setAttribute("aria-label", ddpm.say("mine.xt.label", { t, snr: ddpm.format.snr(t) }));
};
shared.on("t", (t) => {
  bar.show(t);
  redraw();
  clearTimeout(describing);
  describing = setTimeout(describe, 300); // once it rests
});
describe();
setKind("several");
const { sampler, num_images: images, seed } = form.elements;
ddpm.linkable("mine", { kind: $(".switch"), sampler, images, seed });
showExample("several");
showExample("between");
new IntersectionObserver(redraw).observe(element);
ddpm.onLanguage(() => {
  describe();
  redraw();
  drawResult();
  bar.show(shared.get("t"));
});
