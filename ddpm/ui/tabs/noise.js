// Tab "Predict the noise": one answer brings eps_hat of a picture at all t; the rest is algebra, done here.
// Scope: element, props (`timesteps`: the t for which the network answers; `factor`: of how many pixels along a side one
// is kept, 1 but for large models), server, trigger, watch (see gr.HTML).
const $ = (selector) => element.querySelector(selector);
const { shared } = ddpm;
const { width, height, channels } = ddpm.page;
const [side, high] = [width, height].map((pixels) => Math.ceil(pixels / props.factor)); // of a picture as it is kept
const count = side * high * channels; // its numbers
let ts = props.timesteps; // ascending; a slow network may answer for some of them only
const canvas = (selector) => $(`${selector} canvas`);
const canvases = { xt: canvas('[data-object="xt"]'), x0_hat: canvas('[data-object="x0_hat"]') };
const roles = ["target", "prediction", "difference"];

const [x0, xt, x0Hat] = Array.from({ length: 3 }, () => new Float32Array(count));
let eps = null;
let answer = null; // {mse: of each t; epsHat: Float32Array, one noise map for each t}
let fresh = false; // the answer is about the picture on the pad
let reading = "eps";

// The four readings of one output. With s = sqrt(alpha_bar), n = sqrt(1 - alpha_bar): `of` computes the quantity from
// x_t, the noise, and the x_0 that follows from both; an error d of eps becomes an error of `error` * d.
const READINGS = {
  eps: { kind: "noise", of: (c, x, e) => e, error: () => 1 },
  x0: { kind: "picture", of: (c, x, e, x0) => x0, error: (c) => c.n / c.s },
  mu: { kind: "picture", of: (c, x, e) => (x - (c.beta / c.n) * e) / c.root, error: (c) => c.beta / c.n / c.root },
  v: { kind: "noise", of: (c, x, e, x0) => c.s * e - c.n * x0, error: (c) => 1 / c.s },
};
const constants = (t) => {
  const [ab, beta] = [ddpm.alphaBar[t], ddpm.beta[t - 1]];
  return { s: Math.sqrt(ab), n: Math.sqrt(1 - ab), beta, root: Math.sqrt(1 - beta) };
};

// ---- pictures

// Numbers of a picture of the model, as they are kept.
function kept(numbers) {
  if (props.factor === 1) return numbers;
  return Float32Array.from({ length: count }, (_, i) => {
    const pixel = Math.floor(i / channels);
    const [x, y] = [pixel % side, Math.floor(pixel / side)].map((at) => at * props.factor);
    return numbers[(y * width + x) * channels + (i % channels)];
  });
}

const bar = ddpm.tBar($(".t-bar"), (t) => shared.set("t", bar.nearest(t)));
bar.setMarks(ts);
const drawErrors = ddpm.tChart($('[data-chart="mse"]'));
const now = () => bar.nearest(shared.get("t")); // all pictures have the same t, one that the network answers for
const errorAt = (t) => answer.mse[ts.indexOf(bar.nearest(t))] * READINGS[reading].error(constants(bar.nearest(t))) ** 2;

const front = ddpm.front(element, (on) => {
  if (!on) return;
  redraw();
  redrawErrors();
});
const buffers = Object.fromEntries(roles.map((role) => [role, new Float32Array(count)]));

function redraw() {
  if (!front.shown) return; // it draws when it comes to the front
  const t = now();
  const c = constants(t);
  for (let i = 0; i < count; i++) xt[i] = c.s * x0[i] + c.n * eps[i];
  ddpm.paint(canvases.xt, xt);
  const { kind, of } = READINGS[reading];
  for (let i = 0; i < count; i++) buffers.target[i] = of(c, xt[i], eps[i], x0[i]);
  const paint = kind === "noise" ? ddpm.paintNoise : ddpm.paint;
  paint(canvas('[data-role="target"]'), buffers.target);
  $(".noise").classList.toggle("waiting", !fresh);
  if (answer && fresh) redrawAnswer(ts.indexOf(t) * count, c, of, paint); // otherwise the last one stays, faded
}

// Paints the answer of the network; `at`: the index in epsHat where its answer for this t begins.
function redrawAnswer(at, c, of, paint) {
  for (let i = 0; i < count; i++) {
    const epsHat = answer.epsHat[at + i];
    x0Hat[i] = (xt[i] - c.n * epsHat) / c.s;
    buffers.prediction[i] = of(c, xt[i], epsHat, x0Hat[i]);
    buffers.difference[i] = buffers.prediction[i] - buffers.target[i];
  }
  ddpm.paint(canvases.x0_hat, x0Hat);
  paint(canvas('[data-role="prediction"]'), buffers.prediction);
  ddpm.paintNoise(canvas('[data-role="difference"]'), buffers.difference);
}

function redrawErrors() {
  if (!answer || !front.shown) return;
  drawErrors({ valueAt: errorAt, ts, show: (t) => ddpm.format.significant(errorAt(t)), log: true });
}

// ---- words

// Gives the three pictures of the lower row the symbols and the look of the reading.
function nameRow() {
  const symbols = { target: reading, prediction: `${reading}_hat`, difference: `${reading}_difference` };
  for (const role of roles) {
    const figure = $(`[data-role="${role}"]`);
    figure.dataset.object = symbols[role];
    figure.querySelector(".symbol").dataset.tex = symbols[role];
    canvas(`[data-role="${role}"]`).classList.toggle(
      "guess",
      role === "prediction" && READINGS[reading].kind === "picture",
    );
  }
  $(".conversion").dataset.tex = `read_${reading}`;
}

function describe() {
  const fields = { t: now(), snr: ddpm.format.snr(now()), what: ddpm.say(`noise.reading.${reading}`) };
  fields.mse = answer && fresh ? ddpm.format.significant(errorAt(fields.t)) : "\u2026";
  for (const name of ["xt", "x0_hat"])
    canvases[name].setAttribute("aria-label", ddpm.say(`noise.${name}.label`, fields));
  for (const role of roles)
    canvas(`[data-role="${role}"]`).setAttribute("aria-label", ddpm.say(`noise.${role}.label`, fields));
  $(".plot").setAttribute("aria-label", ddpm.say("chart.label", { name: ddpm.say("chart.mse") }));
}

function setReading(next) {
  reading = next;
  nameRow();
  ddpm.translate(element);
  redraw();
  redrawErrors();
  describe();
}
const readings = ddpm.switchOf($(".switch"));
readings.show(reading);
readings.onChoose(setReading);

// ---- the network

const question = ddpm.quiz(element, (guess) => {
  if (!answer || !fresh) return null;
  const [most, least] = [Math.max, Math.min].map((of) => of(...answer.mse));
  const at = (value) => ts[answer.mse.indexOf(value)];
  const here = bar.nearest(guess);
  const fields = { guess: here, here: answer.mse[ts.indexOf(here)], worst: at(most), best: at(least), most, least };
  for (const name of ["here", "most", "least"]) fields[name] = ddpm.format.significant(fields[name]);
  return { key: "noise.quiz.answer", fields };
});

const asked = ddpm.reading(element, {
  send: (message) => trigger("predict", message),
  expect: (message) => server.expect(message),
  fetch: (key) => server.reading(key),
  start: () => {
    fresh = false;
    question.clear();
    asked.tell("noise.asking", () => ({ n: props.timesteps.length }));
    redraw();
  },
  part: ({ done, total }) => done < total && asked.note("noise.part", () => ({ done, total })),
  done: (found) => {
    answer = { mse: found.mse, epsHat: ddpm.halvesOf(found.data) };
    fresh = true;
    ts = found.t;
    bar.setMarks(ts);
    bar.show(now());
    const fields = { n: ts.length, small: `${side} × ${high}`, whole: `${width} × ${height}` };
    asked.tell(props.factor > 1 ? "noise.done.small" : "noise.done", () => fields);
    redraw();
    redrawErrors();
    describe();
  },
});
watch("value", () => asked.take(props.value));

// ---- the rest

nameRow();
ddpm.translate(element);
ddpm.picker(element);
shared.on("noise", (seed) => {
  eps = kept(ddpm.normal(seed, ddpm.count));
  redraw();
});
shared.on("picture", (bytes) => {
  fresh = false;
  const pixels = kept(bytes);
  for (let i = 0; i < count; i++) x0[i] = pixels[i] / 127.5 - 1;
  redraw();
});
const describeSoon = ddpm.afterRest(describe);
shared.on("t", () => {
  bar.show(now());
  redraw();
  describeSoon();
});
describe();
ddpm.linkable("noise", { reading: $(".switch") });
asked.watch();
ddpm.onTheme(redraw);
ddpm.onLanguage(() => {
  describe();
  bar.show(now());
});
