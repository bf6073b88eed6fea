// Tab "Labels", upper part: rows of the same noise and label, each with its own s, and the arrow from the noise without
// the label to the noise with it and beyond.
// Scope: element, props (`first`: the class at first; `scales`: s of each row), server, trigger, watch (see gr.HTML).
// Event: 'labels' with a label.
const $ = (selector) => element.querySelector(selector);
const { numberOf, nearestFrame } = ddpm.trajectory;
const { scales } = props;
const { labels: names } = ddpm.page;
const form = $(".controls");
const scale = $('[name="s"]');
const pictureField = $('[name="picture"]');

const choice = ddpm.nameChoice($(".names"), { first: props.first, chosen: () => sample() });
const asked = () => ({
  label: choice.value(),
  num_images: numberOf(form.elements.num_images),
  seed: numberOf(form.elements.seed),
});

// ---- the rows

const rowName = (s) => `s = ${s}`; // in every language

const rows = ddpm.rows(element, {
  fetch: server.trajectory,
  send: (message) => trigger("labels", message),
  expect: server.expect,
  name: (i) => rowName(scales[i]),
  instead: (i) => (rows.found(i) ? awayOf(i) : null),
  changed: () => {
    mark();
    drawArrowSoon();
  },
  busy: () => drawArrowSoon(),
  done: tellDone,
});

function awayOf(i) {
  const away = i && rows.away(i);
  return away ? ddpm.say("labels.away", { away: away.toFixed(2) }) : "";
}

const nameOf = (request) => choice.name(request.label);

function tellDone() {
  const { request, seconds } = rows.found(0);
  const key = request.label < 0 ? "labels.done.none" : "labels.done";
  const fields = { seed: request.seed, seconds: ddpm.format.fixed(seconds, 1) };
  rows.drawing.tell(key, () => ({ ...fields, label: nameOf(request) }));
}

// Fades rows whose settings are no longer those of their pictures.
function mark() {
  rows.heads().forEach((row, i) => {
    const request = rows.found(i)?.request;
    const now = asked();
    row.classList.toggle("stale", Boolean(request) && Object.keys(now).some((key) => now[key] !== request[key]));
  });
}

function sample() {
  touched = true;
  rows.start(asked());
  mark();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!rows.drawing.active()) sample();
});
form.addEventListener("input", (event) => {
  if (event.target.matches(".find")) return;
  touched = true;
  mark();
  if (rows.drawing.active()) return;
  if (rows.heads().some((row) => row.classList.contains("stale"))) rows.drawing.tell("labels.changed");
  else if (rows.found(0)) tellDone();
});

watch("value", () => rows.drawing.hear(props.value));

function writeRow(row, i) {
  const s = scales[i];
  const button = row.querySelector(".row-name");
  button.textContent = rowName(s);
  button.title = ddpm.say("labels.pick", { s });
  button.setAttribute("aria-pressed", i === base());
  row.querySelector(".row-settings").textContent = ddpm.say(`labels.row.${s > 1 ? "more" : s}`);
}

// ---- the arrow: x_t of one picture of the row that is nearest to s, and what the network says about it

const KEEP = 8; // pictures whose answers are kept here
const halves = new Map(); // row's key and picture -> {t, pixels of a picture, numbers}, or null while they are on their way
const part = (of) => $(`.part[data-object="${of}"]`);
const canvasOf = (of, i) => part(of).querySelectorAll("canvas")[i];

const sNow = () => Number(scale.value);
// The index of the row whose s is nearest.
function base() {
  let best = 0;
  scales.forEach((s, i) => {
    if (Math.abs(s - sNow()) < Math.abs(scales[best] - sNow())) best = i;
  });
  return best;
}
const picture = () => Math.min(Math.max(1, Math.floor(numberOf(pictureField)) || 1), rows.shown[base()].n || 1) - 1;

// What the server has kept for the picture; null until it is here.
function fetched() {
  const { key, found } = rows.shown[base()];
  if (!found || !key) return null;
  const name = `${key} ${picture()}`;
  if (!halves.has(name)) {
    halves.set(name, null);
    fetchHalves(name, { key, picture: picture() });
    if (halves.size > KEEP) halves.delete(halves.keys().next().value);
  }
  return halves.get(name);
}

async function fetchHalves(name, what) {
  const found = await server.halves(what).catch(() => null);
  if (!found) return halves.delete(name); // it is asked for again at the next move
  halves.set(name, { t: found.t, pixels: found.side * found.height, numbers: ddpm.halvesOf(found.data) });
  drawArrowSoon();
}

const TIMES = [1, 2, 5, 10, 20, 50, 100]; // with more, the rounding of the numbers would show
const root = (numbers) => Math.sqrt(numbers.reduce((sum, v) => sum + v * v, 0) / numbers.length);

// The largest of TIMES with which all numbers stay within what the colours of noise can show.
function magnification(numbers) {
  const largest = numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return (largest > 0 && TIMES.findLast((times) => times * largest <= 3)) || 1;
}

// Numbers of the arrow at a frame: of each part its noise, and the guess that follows from it.
function arrowAt({ t, pixels, numbers }, frame) {
  const count = pixels * ddpm.page.channels;
  const plane = (k) => numbers.subarray((3 * frame + k) * count, (3 * frame + k + 1) * count);
  const [xt, eps0, epsC] = [0, 1, 2].map(plane);
  const alphaBar = ddpm.alphaBar[t[frame]];
  const [signal, spread] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
  const guess = (eps) => eps.map((e, i) => (xt[i] - spread * e) / signal);
  const between = (a, b, s) => a.map((v, i) => v + s * (b[i] - v));
  const minus = (a, b) => a.map((v, i) => v - b[i]);
  const noises = { eps_0: eps0, eps_c: epsC, eps_gap: minus(epsC, eps0), eps_s: between(eps0, epsC, sNow()) };
  const guesses = { eps_0: guess(eps0), eps_c: guess(epsC), eps_s: guess(noises.eps_s) };
  // Of the guesses as they are shown: a sampler clips them, too.
  const clipped = (of) => guesses[of].map((v) => Math.max(-1, Math.min(1, v)));
  return { noises, guesses: { ...guesses, eps_gap: minus(clipped("eps_c"), clipped("eps_0")) } };
}

function paintGap(i, numbers, key, t) {
  const times = magnification(numbers);
  const canvas = canvasOf("eps_gap", i);
  ddpm.paintNoise(
    canvas,
    numbers.map((v) => v * times),
  );
  ddpm.write(part("eps_gap").querySelectorAll(".times")[i], `\u00d7${times}`);
  canvas.setAttribute("aria-label", ddpm.say(key, { times, t, rms: ddpm.format.significant(root(numbers)) }));
}

function paintArrow(data, frame) {
  const t = data.t[frame];
  const { noises, guesses } = arrowAt(data, frame);
  for (const of of ["eps_0", "eps_c", "eps_s"]) {
    const what = part(of).querySelector("[data-text]").textContent;
    ddpm.paintNoise(canvasOf(of, 0), noises[of]);
    ddpm.paint(canvasOf(of, 1), guesses[of]);
    canvasOf(of, 0).setAttribute("aria-label", ddpm.say("labels.arrow.noise", { what, t }));
    canvasOf(of, 1).setAttribute("aria-label", ddpm.say("labels.arrow.guess", { what, t }));
  }
  paintGap(0, noises.eps_gap, "labels.arrow.gap", t);
  paintGap(1, guesses.eps_gap, "labels.arrow.guess_gap", t);
}

const track = $(".t-bar input");
const front = ddpm.front(element, (on) => on && drawArrow());

// Outlines the picture that the arrow is about.
function markPicture() {
  rows.heads().forEach((row, i) => {
    [...row.querySelectorAll("canvas")].forEach((canvas, k) => {
      canvas.classList.toggle("chosen", i === base() && k === picture());
    });
  });
}

function drawArrow() {
  if (!front.shown) return; // it draws when it comes to the front
  markPicture();
  const data = fetched();
  $(".arrow").classList.toggle("waiting", !data);
  if (!data) return ddpm.setText($(".arrow-says"), "labels.arrow.waiting");
  const t = Number(track.value);
  const frame = nearestFrame(data.t, t || Math.round(ddpm.T / 2));
  paintArrow(data, frame);
  const fields = { picture: picture() + 1, row: scales[base()], t: data.t[frame] };
  ddpm.setText($(".arrow-says"), t ? "labels.arrow.at" : "labels.arrow.finished", fields);
}
const drawArrowSoon = ddpm.soon(drawArrow);

function setScale() {
  const s = sNow();
  $(".scale").style.setProperty("--share", s / scales.at(-1));
  ddpm.setText($(".scale-says"), "labels.scale.says", { s });
  rows.heads().forEach(writeRow);
  drawArrow();
}

// A row's button, or a picture of it: the arrow is about this picture.
$(".rows").addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  const i = rows.heads().indexOf(row);
  const canvas = event.target.closest("canvas");
  if (i < 0 || !(canvas || event.target.closest(".row-name"))) return;
  if (canvas) pictureField.value = [...canvas.parentElement.children].indexOf(canvas) + 1;
  scale.value = scales[i];
  setScale();
});
scale.addEventListener("input", setScale);
pictureField.addEventListener("input", drawArrow);
element.addEventListener("shown", drawArrowSoon);

// ---- the beginning

let touched = false; // a visitor or a link has chosen something, so the stored example must not
const question = $("h2");
if (names[props.first] !== "3") {
  question.dataset.text = "labels.question.named";
  question.dataset.name = names[props.first];
}
ddpm.translate(element);
for (const _ of scales) rows.add();
$(".marks")
  .querySelectorAll("i")
  .forEach((markAt) => {
    markAt.style.left = `${(100 * Number(markAt.dataset.value)) / scales.at(-1)}%`;
  });
pictureField.max = form.elements.num_images.max;
setScale();
const first = JSON.stringify(asked()); // the settings of the stored example
const { num_images: images, seed } = form.elements;
ddpm.linkable("labels", { label: choice.setting, s: scale, images, seed }, (named) => {
  touched = JSON.stringify(asked()) !== first;
  if (touched && !rows.drawing.active()) sample();
  if ("t" in named) rows.keepT();
});

function takeExample(i, { request }) {
  images.value = request.num_images;
  seed.value = request.seed;
}
rows
  .showExample(server.example, takeExample, () => !touched)
  .then((there) => {
    if (!there) return;
    mark();
    setScale();
    rows.drawing.tell("labels.example", () => ({ label: nameOf(rows.found(0).request) }));
  });
ddpm.onTheme(drawArrow);
ddpm.onLanguage(setScale);
