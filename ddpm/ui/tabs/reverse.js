// Tab "Reverse": frames stream in while the server samples; afterwards the slider of t moves along the trajectory.
// Scope: element, props, server, trigger, watch (see gr.HTML). Event: 'sample' with the form's values.
const $ = (selector) => element.querySelector(selector);
const { resolution, width, height } = ddpm.page;
const { count, newCanvas } = ddpm;
const { KINDS, paint, thinned, samplerName, takesEta } = ddpm.trajectory;
const large = resolution > ddpm.LARGE;

const form = $(".controls");
const asking = ddpm.labelling.fields(form);
const bar = ddpm.tBar($(".t-bar"), (t) => {
  player.pause();
  goTo(t);
});

// The trajectory on screen, see trajectory.js; `request`: the settings that it was drawn with.
let shown = { n: 0, t: [], frames: [] };
let at = 0; // index of the frame on screen
let picked = 0; // the picture that the strip follows

const picture = (frame, kind, i) => ddpm.trajectory.picture(shown, frame, kind, i);
const nearestFrame = (t) => ddpm.trajectory.nearestFrame(shown.t, t);
const here = ddpm.front(element, (on) => {
  if (!on) return;
  drawFrame();
  drawStrip();
});

// ---- the three planes

// Columns for n pictures: 8 lie in 4 columns, 9 in 3, 16 in 4. All rows are full where possible. Large pictures lie in 2.
function columns(n) {
  if (large) return Math.min(n, 2);
  if (n <= 3) return n;
  return [4, 3, 2].find((c) => n % c === 0 && n / c <= 4) ?? Math.ceil(Math.sqrt(n));
}

const cellsOf = (name) => [...$(`[data-object="${name}"] .grid`).children];

// A cell of a plane. Those of one plane can be reached by keyboard; a click works on all.
function newCell(name, i) {
  const cell = document.createElement(name === "xt" ? "button" : "div");
  if (name === "xt") cell.type = "button";
  cell.className = "cell";
  cell.append(newCanvas());
  cell.addEventListener("click", () => pick(i));
  return cell;
}

function buildGrids(n) {
  picked = Math.min(picked, n - 1);
  for (const name of KINDS) {
    const grid = $(`[data-object="${name}"] .grid`);
    grid.style.setProperty("--columns", columns(n));
    grid.style.setProperty("--narrow", n === 1 ? 1 : n <= 8 ? 2 : columns(n));
    grid.replaceChildren(...Array.from({ length: n }, (_, i) => newCell(name, i)));
  }
  markPicked();
}

function markPicked() {
  for (const name of KINDS) {
    cellsOf(name).forEach((cell, i) => {
      cell.classList.toggle("picked", i === picked && shown.n > 1);
      if (name !== "xt") return;
      cell.setAttribute("aria-pressed", i === picked);
      cell.setAttribute("aria-label", ddpm.say("reverse.pick", { i: i + 1 }));
    });
  }
  ddpm.setText($(".strip-title"), "reverse.strip", { i: picked + 1 });
}

function pick(i) {
  if (i !== picked) question.clear(); // it was about another picture
  picked = i;
  markPicked();
  drawStrip();
}

// The finished pictures have no x_t whose noise the network could predict: the gray plane says so.
const noise = {
  says: $('[data-object="eps_hat"] figcaption > [data-text]'),
  scale: $('[data-object="eps_hat"] .legend'),
};
function tellNoise() {
  const none = shown.t[at] === 0;
  if (noise.scale.hidden === none) return;
  noise.scale.hidden = none;
  noise.says.dataset.text = none ? "reverse.eps_hat.none" : "reverse.eps_hat";
  ddpm.setText(noise.says, noise.says.dataset.text);
}

function drawFrame() {
  if (!here.shown || !shown.frames.length) return; // it draws when it comes to the front
  tellNoise();
  KINDS.forEach((name, kind) => {
    cellsOf(name).forEach((cell, i) => paint(cell.firstChild, kind, picture(at, kind, i)));
  });
}

// ---- the strip: one picture along the way, x_t over x0_hat, clean end left

const narrow = window.matchMedia("(max-width: 640px)"); // a phone, as in base.css: room for fewer columns
const strip = $(".strip-rows");
const stripMark = Object.assign(document.createElement("i"), { className: "here" });
let stripT = []; // t of each column
let marked = -1; // index of the column that is marked
const columnsOf = () => strip.querySelectorAll("button");

function newColumn(t) {
  const column = document.createElement("button");
  column.type = "button";
  const guess = newCanvas();
  guess.classList.add("guess");
  column.append(newCanvas(), guess, document.createElement("span"));
  column.addEventListener("click", () => {
    player.pause();
    goTo(t);
  });
  return column;
}

// A sampling with fewer frames than columns has a column for each, so that none is shown twice.
function buildStrip(steps) {
  const most = (narrow.matches ? 5 : 10) - (large ? 2 : 0);
  const last = Math.max(1, Math.min(most, steps));
  if (last === stripT.length - 1) return;
  stripT = Array.from({ length: last + 1 }, (_, j) => Math.round((j * ddpm.T) / last));
  strip.style.setProperty("--columns", last + 1);
  strip.replaceChildren(...stripT.map(newColumn), stripMark);
  marked = -1;
}

// The lowest t of the frames that have come so far.
const reached = () => shown.t.at(-1) ?? ddpm.T;

function drawColumn(column, j) {
  const blank = !shown.t.length || stripT[j] < reached(); // not sampled yet
  const frame = blank ? 0 : nearestFrame(stripT[j]);
  const t = blank ? stripT[j] : shown.t[frame];
  column.classList.toggle("blank", blank);
  column.disabled = blank;
  column.lastChild.textContent = t;
  column.setAttribute("aria-label", ddpm.say("reverse.jump", { t }));
  for (const kind of [0, 1]) {
    const canvas = column.children[kind];
    if (blank) canvas.getContext("2d").clearRect(0, 0, width, height);
    else paint(canvas, kind, picture(frame, kind, picked));
  }
}

function drawStrip() {
  if (!here.shown) return;
  columnsOf().forEach(drawColumn);
  markStrip();
}

function markStrip() {
  const t = shown.t[at];
  let best = stripT.length - 1;
  stripT.forEach((of, j) => {
    if (of >= reached() && Math.abs(of - t) < Math.abs(stripT[best] - t)) best = j;
  });
  if (best === marked) return;
  columnsOf()[marked]?.removeAttribute("aria-current");
  columnsOf()[best].setAttribute("aria-current", "true");
  stripMark.style.transform = `translateX(calc(${best} * (100% + var(--gap))))`;
  marked = best;
}

const markStripSoon = ddpm.soon(() => shown.t.length && markStrip());

// ---- moving along t

function goTo(t) {
  if (!shown.t.length) return bar.show(t); // nothing drawn yet
  showFrame(nearestFrame(t));
  share(shown.t[at]);
}

function showFrame(frame) {
  if (!shown.t.length) return;
  at = frame;
  bar.show(shown.t[at]);
  drawFrame();
  markStripSoon();
}

// Another tab has moved t.
function follow(t) {
  if (drawing.active()) return;
  player.pause();
  showFrame(nearestFrame(t));
}

function setShown(next) {
  const rebuilt = next.n !== shown.n;
  if (next.request !== shown.request) question.clear();
  shown = next;
  buildStrip(shown.request?.num_inference_steps ?? ddpm.T);
  at = Math.min(at, Math.max(0, shown.t.length - 1));
  bar.setMarks(shown.t.length ? shown.t : null);
  if (rebuilt) buildGrids(shown.n);
  saving.enable(!drawing.active() && shown.t.length > 1);
}

const player = ddpm.player(element, {
  frames: () => shown.t.length,
  at: () => at,
  goTo: (frame) => goTo(shown.t[frame]),
});
const saving = ddpm.saving(element, { shown: () => shown, at: () => at, columns });

// ---- sampling

const number = (name) => ddpm.trajectory.numberOf(form.elements[name]);
let partial = null; // what has come for the current request so far

const drawing = ddpm.sampling(element, {
  send: (message) => trigger("sample", message),
  expect: server.expect,
  busy: (on) => saving.enable(!on && shown.t.length > 1),
  take(message) {
    if (message.kind === "frame") takeFrame(message);
    else if (message.kind === "done") finish(message);
  },
  stopped() {
    const { step, steps } = partial;
    setShown(shown); // the slider's marks
    drawing.tell("reverse.stopped", () => ({ step, steps }));
    if (!partial.linked) share(shown.t[at]);
    drawStrip();
  },
});

const asked = () => ({
  sampler: form.elements.sampler.value,
  num_inference_steps: number("num_inference_steps"),
  num_images: number("num_images"),
  seed: number("seed"),
  eta: takesEta(form.elements.sampler.value) ? number("eta") : 0,
  ...asking.read(),
});

// `linked`: a link has set t, and t stays there.
function sample(linked = false) {
  if (drawing.active()) return;
  player.pause();
  partial = { request: asked(), n: 0, t: [], frames: [], step: 0, steps: 0, linked };
  drawing.start(partial.request);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sample();
});

function takeFrame(message) {
  if (!partial.t.length) setShown({ request: partial.request, n: message.n, t: partial.t, frames: partial.frames });
  partial.t.push(message.t);
  partial.frames.push(ddpm.bytesOf(message.data));
  partial.step = message.step;
  partial.steps = message.steps;
  showFrame(partial.t.length - 1); // the t of all tabs moves at the end
  drawStrip();
  drawing.progress(message.share);
  drawing.note("reverse.running", () => ({ step: partial.step, steps: partial.steps }));
}

function summary(found) {
  const { num_inference_steps: steps, seed } = found.request;
  const [sampler, label] = [samplerName(found.request), ddpm.labelling.said(found.request)];
  const fields = { sampler, steps, label, seed, seconds: ddpm.format.fixed(found.seconds, 1) };
  return [ddpm.say("reverse.summary", fields), ...thinned(found)].join(ddpm.say("reverse.comma"));
}

// Shows the frames that are there, the rest of which is on the way.
function takePart(known, done, total) {
  setShown(known);
  showFrame(partial.linked ? nearestFrame(ddpm.shared.get("t")) : shown.t.length - 1);
  drawStrip();
  drawing.note("reverse.fetching", () => ({ done, total }));
}

async function finish(message) {
  const { run } = message;
  const replay = partial.t.length < 2 && !partial.linked; // it was stored on the server, so no frames have streamed in
  drawing.note("reverse.coming");
  const have = new Map(partial.t.map((t, i) => [t, partial.frames[i]]));
  const part = (...news) => {
    if (drawing.number() !== run) return;
    drawing.hear({ kind: "fetching", run }); // the server is not silent
    takePart(...news);
  };
  const fetched = await ddpm.trajectory.fetch(server.trajectory, message.key, { have, part }).catch(() => null);
  if (drawing.number() !== run) return;
  if (!fetched) return drawing.end("reverse.failed");
  drawing.end("reverse.done", () => ({ summary: summary(fetched.found) }));
  setShown(fetched);
  if (partial.linked) showFrame(nearestFrame(ddpm.shared.get("t")));
  else goTo(0);
  drawStrip();
  if (replay && !ddpm.calm()) player.play();
}

watch("value", () => drawing.hear(props.value));

// ---- the question

// How far the guess of the marked picture is from the finished one at each frame: root mean square, pixels from -1 to 1.
function distances() {
  const end = picture(shown.t.length - 1, 0, picked);
  const guesses = shown.t.map((_, frame) => picture(frame, 1, picked));
  const last = guesses.at(-1).length === end.length ? end : guesses.at(-1);
  return guesses.map((guess) => {
    if (guess.length !== last.length) return Number.NaN;
    return Math.sqrt(guess.reduce((all, v, i) => all + ((v - last[i]) / 127.5) ** 2, 0) / guess.length);
  });
}

const question = ddpm.quiz(element, (guess) => {
  if (drawing.active() || shown.t.length < 3 || shown.t.at(-1) !== 0) return null;
  const away = distances();
  const start = away[0];
  const done = (share) => shown.t[away.findIndex((d) => d <= (1 - share) * start)];
  const here = nearestFrame(guess);
  const fields = {
    start: start.toFixed(2),
    half: done(0.5),
    near: done(0.9),
    here: shown.t[here],
    left: away[here].toFixed(2),
  };
  return { key: "reverse.quiz.answer", fields };
});

// ---- before the first click: noise at once, then the stored example

function showNoise() {
  setShown({ n: number("num_images"), t: [], frames: [] });
  KINDS.forEach((name, kind) => {
    cellsOf(name).forEach((cell, i) => {
      const x = kind === 0 ? ddpm.normal(i + 1, count) : new Float32Array(count);
      (kind === 2 ? ddpm.paintNoise : ddpm.paint)(cell.firstChild, x);
    });
  });
  drawStrip();
}

async function showExample() {
  drawing.tell("reverse.drawing");
  const wanted = () => drawing.number() === 0;
  const part = (known, done, total) => {
    if (!wanted()) return;
    setShown(known);
    showFrame(nearestFrame(ddpm.shared.get("t")));
    drawStrip();
    drawing.note("reverse.fetching", () => ({ done, total }));
  };
  const ask = () => ddpm.trajectory.fetch(server.trajectory, "example", { part });
  const fetched = await ddpm.untilDrawn(element, ask, wanted, drawing.noteAwaited);
  if (!fetched) return; // a visitor's own pictures are on screen
  setShown(fetched);
  drawing.tell("reverse.example", () => ({ summary: summary(fetched.found) }));
  showFrame(nearestFrame(ddpm.shared.get("t")));
  drawStrip();
}

// ---- the beginning

function showEta() {
  $(".eta").hidden = !takesEta(form.elements.sampler.value);
}
form.elements.sampler.addEventListener("change", showEta);

ddpm.translate(element);
ddpm.along(element);
form.elements.sampler.value = "ddim";
showEta();
bar.show(ddpm.T);
const { sampler, eta, num_inference_steps: steps, num_images: images, seed } = form.elements;
const { label, s } = asking;
const first = JSON.stringify(asked()); // what the stored example is of
ddpm.linkable("reverse", { sampler, eta, label, s, steps, images, seed }, (named) => {
  if (JSON.stringify(asked()) !== first) sample("t" in named);
});
showNoise();
showExample();
narrow.addEventListener("change", () => {
  setShown(shown);
  drawStrip();
});
const share = ddpm.sharing(element, follow);
ddpm.onTheme(drawFrame);
ddpm.onLanguage(() => {
  markPicked();
  drawStrip();
  if (shown.t.length) bar.show(shown.t[at]);
});
