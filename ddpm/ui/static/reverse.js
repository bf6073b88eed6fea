// Tab "Reverse": frames stream in while the server samples; afterwards the whole trajectory is here and t scrubs it.
// Scope: element, props, server, trigger, watch (see gr.HTML). Events: 'sample' with the form's values, 'stop'.
const $ = (selector) => element.querySelector(selector);
const { resolution: size, channels } = ddpm.page;
const count = size * size * channels; // bytes of one picture
const KINDS = ["xt", "x0_hat", "eps_hat"]; // planes of a frame, in this order
const PLAY_MS = 4000; // one way through a trajectory at normal speed

const form = $(".controls");
const status = $(".status");
const bar = ddpm.tBar($(".t-bar"), (t) => {
  pause();
  goTo(t);
});

// What is on screen: pictures per frame, t of each frame (descending, 0 = finished), the frames' bytes.
let shown = { n: 0, t: [], frames: [] };
let at = 0; // index of the frame on screen
let picked = 0; // the picture that the strip follows
let run = 0; // number of the latest run; answers to earlier ones are ignored
let running = false;
let say = () => {}; // writes the status line again, in the language of the moment

function tell(key, fields) {
  say = () => (key ? ddpm.setText(status, key, fields?.()) : status.replaceChildren());
  say();
}

// ---- pictures

const picture = (frame, kind, i) => shown.frames[frame].subarray((kind * shown.n + i) * count, (kind * shown.n + i + 1) * count);
const newCanvas = () => Object.assign(document.createElement("canvas"), { width: size, height: size, className: "pixels" });
const paint = (canvas, kind, bytes) => (kind === 2 ? ddpm.paintNoiseBytes : ddpm.paintBytes)(canvas, bytes);

// On a phone (page.css has the same width) there is room for less.
const narrow = window.matchMedia("(max-width: 640px)");

// 8 pictures lie in 4 columns, 9 in 3, 16 in 4: whole rows where possible, never wider than 4.
const columns = (n) => (n <= 3 ? n : [4, 3, 2].find((c) => n % c === 0 && n / c <= 4) ?? Math.ceil(Math.sqrt(n)));

function buildGrids(n) {
  picked = Math.min(picked, n - 1);
  for (const kind of KINDS) {
    const grid = $(`[data-object="${kind}"] .grid`);
    grid.style.setProperty("--columns", columns(n));
    grid.style.setProperty("--narrow", n === 1 ? 1 : n <= 8 ? 2 : columns(n));
    grid.replaceChildren(...Array.from({ length: n }, (_, i) => {
      // Pictures of one plane can be reached by keyboard; a click works on all.
      const cell = document.createElement(kind === "xt" ? "button" : "div");
      if (kind === "xt") cell.type = "button";
      cell.className = "cell";
      cell.append(newCanvas());
      cell.addEventListener("click", () => pick(i));
      return cell;
    }));
  }
  markPicked();
}

function markPicked() {
  for (const kind of KINDS) {
    [...$(`[data-object="${kind}"] .grid`).children].forEach((cell, i) => {
      cell.classList.toggle("picked", i === picked && shown.n > 1);
      if (kind !== "xt") return;
      cell.setAttribute("aria-pressed", i === picked);
      cell.setAttribute("aria-label", ddpm.say("reverse.pick", { i: i + 1 }));
    });
  }
  ddpm.setText($(".strip-title"), "reverse.strip", { i: picked + 1 });
}

function pick(i) {
  picked = i;
  markPicked();
  drawStrip();
}

function drawFrame() {
  KINDS.forEach((name, kind) => {
    [...$(`[data-object="${name}"] .grid`).children].forEach((cell, i) => paint(cell.firstChild, kind, picture(at, kind, i)));
  });
}

// ---- the strip: one picture along the way, x_t over x0_hat, clean end left

let stripT = []; // the t that each column is for

function buildStrip() {
  const last = narrow.matches ? 5 : 10;
  stripT = Array.from({ length: last + 1 }, (_, j) => Math.round((j * ddpm.T) / last));
  $(".strip-rows").replaceChildren(...stripT.map((t) => {
    const column = document.createElement("button");
    column.type = "button";
    const guess = newCanvas();
    guess.classList.add("guess");
    const label = document.createElement("span");
    column.append(newCanvas(), guess, label);
    column.addEventListener("click", () => {
      pause();
      goTo(t);
    });
    return column;
  }));
}

function drawStrip() {
  const reached = shown.t.length ? shown.t[shown.t.length - 1] : ddpm.T;
  [...$(".strip-rows").children].forEach((column, j) => {
    const blank = !shown.t.length || stripT[j] < reached; // not sampled yet
    column.classList.toggle("blank", blank);
    column.disabled = blank;
    const frame = blank ? 0 : nearestFrame(stripT[j]);
    const t = blank ? stripT[j] : shown.t[frame];
    column.lastChild.textContent = t;
    column.setAttribute("aria-label", ddpm.say("reverse.jump", { t }));
    for (const kind of [0, 1]) {
      const canvas = column.children[kind];
      if (blank) canvas.getContext("2d").clearRect(0, 0, size, size);
      else paint(canvas, kind, picture(frame, kind, picked));
    }
  });
  markStrip();
}

function markStrip() {
  const here = shown.t[at];
  let best = stripT.length - 1;
  stripT.forEach((t, j) => {
    const reached = t >= shown.t[shown.t.length - 1];
    if (reached && Math.abs(t - here) < Math.abs(stripT[best] - here)) best = j;
  });
  [...$(".strip-rows").children].forEach((column, j) => column.classList.toggle("here", j === best));
}

// ---- moving along t

function nearestFrame(t) {
  let best = 0;
  shown.t.forEach((value, i) => (best = Math.abs(value - t) < Math.abs(shown.t[best] - t) ? i : best));
  return best;
}

let mine = false; // the change of the shared t comes from here
function goTo(t) {
  if (!shown.t.length) return bar.show(t); // nothing drawn yet
  showFrame(nearestFrame(t));
  mine = true;
  ddpm.shared.set("t", Math.max(1, shown.t[at]));
  mine = false;
}

function showFrame(frame) {
  if (!shown.t.length) return;
  at = frame;
  bar.show(shown.t[at]);
  drawFrame();
  markStrip();
}

function setShown(next) {
  const rebuilt = next.n !== shown.n;
  shown = next;
  at = Math.min(at, Math.max(0, shown.t.length - 1));
  bar.setMarks(shown.t.length ? shown.t : null);
  if (rebuilt) buildGrids(shown.n);
}

// ---- play

const PLAY = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5v11l9-5.5z"/></svg>';
const PAUSE = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 3h3v10H4zM9 3h3v10H9z"/></svg>';
const playButton = $(".play");
let playing = null; // {start, from}: when and at which frame playing began

function showPlay() {
  playButton.innerHTML = playing ? PAUSE : PLAY;
  playButton.setAttribute("aria-label", ddpm.say(playing ? "reverse.pause" : "reverse.play"));
}

function pause() {
  playing = null;
  showPlay();
}

function play() {
  const frames = shown.t.length;
  if (frames < 2 || running) return;
  const from = at === frames - 1 ? 0 : at; // at the clean end: again from the noise
  const mineNow = (playing = { start: performance.now(), from });
  showPlay();
  const speed = $(".speed select");
  let position = from;
  let before = performance.now();
  const tick = (now) => {
    if (playing !== mineNow) return;
    position += (Math.max(0, now - before) / PLAY_MS) * (frames - 1) * Number(speed.value);
    before = now;
    const frame = Math.min(frames - 1, Math.floor(position));
    if (frame !== at) goTo(shown.t[frame]);
    if (frame === frames - 1) pause();
    else requestAnimationFrame(tick);
  };
  goTo(shown.t[from]);
  requestAnimationFrame(tick);
}

playButton.addEventListener("click", () => (playing ? pause() : play()));

// ---- sampling

const number = (name) => (form.elements[name].value.trim() === "" ? null : Number(form.elements[name].value));

// A run that is not heard of for so long has been refused by a full queue or lost with the connection. Longer than the
// server lets one run take, since another visitor's may be in front.
const SILENCE_MS = 200_000;
let silence = 0;

function giveUp() {
  trigger("stop");
  run++;
  setRunning(false);
  tell("reverse.failed");
}

function setRunning(on) {
  running = on;
  clearTimeout(silence);
  if (on) silence = setTimeout(giveUp, SILENCE_MS);
  const focused = document.activeElement === $(".go") || document.activeElement === $(".stop");
  $(".go").hidden = on;
  $(".stop").hidden = !on;
  if (focused) $(on ? ".stop" : ".go").focus();
  playButton.disabled = on;
  bar.input.disabled = on;
  element.querySelector(".reverse").classList.toggle("running", on);
  if (!on) $(".progress i").style.width = "0";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  pause();
  const mineNow = ++run;
  live = { n: 0, t: [], frames: [], step: 0, steps: 0 };
  setRunning(true);
  tell("reverse.starting");
  setTimeout(() => running && run === mineNow && !live.t.length && tell("reverse.waiting"), 1500);
  trigger("sample", {
    run,
    sampler: form.elements.sampler.value,
    num_inference_steps: number("num_inference_steps"),
    num_images: number("num_images"),
    seed: number("seed"),
    eta: number("eta"),
  });
});

let live = null; // frames of the current run so far

$(".stop").addEventListener("click", () => {
  trigger("stop");
  run++; // late frames of the stopped run are nobody's
  setRunning(false);
  const { step, steps } = live;
  if (!step) return tell(null);
  tell("reverse.stopped", () => ({ step, steps }));
  drawStrip();
});

function takeFrame(message) {
  if (!live.t.length) setShown({ n: message.n, t: live.t, frames: live.frames });
  live.t.push(message.t);
  live.frames.push(ddpm.bytesOf(message.data));
  live.step = message.step;
  live.steps = message.steps;
  goTo(message.t);
  drawStrip();
  $(".progress i").style.width = `${(100 * message.step) / message.steps}%`;
  tell("reverse.running", () => ({ step: live.step, steps: live.steps }));
}

const summary = ({ request, seconds }) => ddpm.say("reverse.summary", {
  sampler: ddpm.say(`sampler.${request.sampler}`) + (request.eta ? `, \u03b7 = ${request.eta}` : ""),
  steps: request.num_inference_steps,
  seed: request.seed,
  seconds: ddpm.format.fixed(seconds, 1),
});

function unpack(found) {
  const bytes = ddpm.bytesOf(found.data);
  const frame = KINDS.length * found.n * count;
  return { n: found.n, t: found.t, frames: found.t.map((_, i) => bytes.subarray(i * frame, (i + 1) * frame)) };
}

async function finish(message) {
  const found = await server.trajectory(message.key).catch(() => null);
  if (run !== message.run) return;
  const replay = live.t.length < 2; // it was in the store: nothing has been seen moving yet
  setRunning(false);
  if (!found) return tell("reverse.failed");
  setShown(unpack(found));
  tell("reverse.done", () => ({ summary: summary(found) }));
  goTo(0);
  drawStrip();
  if (replay && !ddpm.calm()) play();
}

function refuse({ key, fields }) {
  setRunning(false);
  tell(key, () => ({
    ...fields,
    name: fields.name && ddpm.say(`field.${fields.name}`),
    value: fields.value ?? ddpm.say("refused.nothing"),
  }));
  status.classList.add("refused");
}

watch("value", () => {
  const message = props.value;
  if (!message || message.run !== run || !running) return;
  status.classList.remove("refused");
  clearTimeout(silence);
  silence = setTimeout(giveUp, SILENCE_MS);
  if (message.kind === "frame") takeFrame(message);
  else if (message.kind === "done") finish(message);
  else if (message.kind === "refused") refuse(message);
  else {
    setRunning(false);
    tell("reverse.failed");
  }
});

// ---- controls

$(".new-seed").addEventListener("click", () => {
  form.elements.seed.value = Math.floor(Math.random() * 100000);
  if (!running) form.requestSubmit();
});

const showEta = () => ($(".eta").hidden = form.elements.sampler.value !== "ddim");
form.elements.sampler.addEventListener("change", showEta);

// ---- before the first click: noise at once, then the stored example

function showNoise() {
  const n = number("num_images");
  setShown({ n, t: [], frames: [] });
  KINDS.forEach((name, kind) => {
    [...$(`[data-object="${name}"] .grid`).children].forEach((cell, i) => {
      const x = kind === 0 ? ddpm.normal(i + 1, count) : new Float32Array(count);
      (kind === 2 ? ddpm.paintNoise : ddpm.paint)(cell.firstChild, x);
    });
  });
  drawStrip();
}

async function showExample() {
  tell("reverse.drawing");
  for (let tries = 0; tries < 200; tries++) {
    const found = await server.trajectory("example").catch(() => null);
    if (run > 0) return; // a visitor's own run is on screen
    if (found) {
      setShown(unpack(found));
      tell("reverse.example", () => ({ summary: summary(found) }));
      showFrame(nearestFrame(ddpm.shared.get("t")));
      return drawStrip();
    }
    await new Promise((resolve) => setTimeout(resolve, 700));
  }
  tell(null);
}

ddpm.translate(element);
form.elements.sampler.value = "ddim";
showEta();
showPlay();
buildStrip();
bar.show(ddpm.T);
showNoise();
showExample();
narrow.addEventListener("change", () => {
  buildStrip();
  drawStrip();
});
ddpm.shared.on("t", (t) => !mine && !running && showFrame(nearestFrame(t)));
ddpm.onTheme(() => shown.t.length && drawFrame());
ddpm.onLanguage(() => {
  say();
  showPlay();
  markPicked();
  drawStrip();
  if (shown.t.length) bar.show(shown.t[at]);
});
