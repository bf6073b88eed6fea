// Tab "Forward": x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 4, computed at every move of t.
// Scope: element, props (`examples`: base64 or null; `first`: the example on the pad at first; `own`: name of the
// model's schedule; `schedules`: name -> second differences of the betas of others, in BETA_UNIT), server (see
// gr.HTML).
const $ = (selector) => element.querySelector(selector);
const canvases = {
  eps: $('[data-object="eps"] canvas'),
  xt: $('[data-object="xt"] canvas'),
  other: $('[data-object="xt_other"] canvas'),
};
const choice = $('[name="schedule"]');
const BETA_UNIT = 1e-8; // as in forward.py
const x0 = new Float32Array(ddpm.count).fill(-1);
const xt = new Float32Array(ddpm.count);
let eps = null;
let other = null; // the schedule beside the model's own

// ---- painting

const drawHistogram = ddpm.histogram($('[data-chart="histogram"]'));
const drawHistogramSoon = ddpm.soon(() => drawHistogram(xt)); // one frame after the pictures
const bar = ddpm.tBar($(".t-bar"));

// Computes x_t under a schedule into `xt` and paints it. Returns the weights of picture and noise.
function blend({ alphaBar }, canvas) {
  const t = ddpm.shared.get("t");
  const [signal, spread] = [Math.sqrt(alphaBar[t]), Math.sqrt(1 - alphaBar[t])];
  for (let i = 0; i < xt.length; i++) xt[i] = signal * x0[i] + spread * eps[i];
  ddpm.paint(canvas, xt);
  return [signal, spread];
}

const front = ddpm.front(element, (on) => on && redraw());

function redraw() {
  if (!front.shown) return; // it draws when it comes to the front
  blend(other, canvases.other);
  const [signal, spread] = blend(ddpm.own, canvases.xt);
  drawHistogramSoon();
  ddpm.write($(".signal"), signal.toFixed(3));
  ddpm.write($(".spread"), spread.toFixed(3));
}

function describe() {
  const t = ddpm.shared.get("t");
  canvases.xt.setAttribute("aria-label", ddpm.say("forward.xt.label", { t, snr: ddpm.format.snr(t) }));
  const fields = { t, snr: ddpm.format.snr(t, other), name: ddpm.say(`schedule.${choice.value}`) };
  canvases.other.setAttribute("aria-label", ddpm.say("forward.other.label", fields));
}

// ---- schedules

const plots = Object.fromEntries(
  ["alpha_bar", "beta", "snr"].map((name) => [name, ddpm.tChart($(`[data-chart="${name}"]`))]),
);

// Figures of a schedule: where signal and noise are equal, and how many steps have almost no signal left.
function figuresOf(name, { snrDb }) {
  const even = snrDb.findIndex((db) => db <= 0);
  const late = snrDb.reduce((n, db) => n + (db < -20), 0);
  return { name: ddpm.say(`schedule.${name}`), even: even < 0 ? `t > ${ddpm.T}` : `t = ${even}`, late, T: ddpm.T };
}

function tellSchedules() {
  ddpm.setText($(".own-says"), "forward.own", figuresOf(props.own, ddpm.own));
  const [own, its] = [ddpm.own, other].map(({ snrDb }) => snrDb.findIndex((db) => db <= 0) >>> 0); // -1, never, is last
  const verdict = its > own ? "forward.longer" : its < own ? "forward.shorter" : "forward.alike";
  ddpm.setText($(".other-says"), verdict, figuresOf(choice.value, other));
  ddpm.setText($(".see"), `schedule.${choice.value}.see`);
}

// The betas of a schedule, which is sent as their second differences.
function betasOf(changes) {
  let slope = 0;
  let value = 0;
  return changes.map((change) => {
    slope += change;
    value += slope;
    return value * BETA_UNIT;
  });
}

function compare() {
  other = ddpm.scheduleOf(betasOf(props.schedules[choice.value]));
  const both = (tableOf, show, axis) => ({
    valueAt: (t) => tableOf(ddpm.own, t),
    second: (t) => tableOf(other, t),
    show: (t) => show(t, ddpm.own),
    showSecond: (t) => show(t, other),
    ...axis,
  });
  plots.alpha_bar(both((s, t) => s.alphaBar[t], ddpm.format.alphaBar, { low: 0, high: 1 }));
  const [most, others] = [ddpm.own, other].map(({ beta }) => Math.max(...beta));
  const high = Math.max(most, Math.min(others, 2 * most)); // the cosine schedule's last steps are far above the rest
  plots.beta(both((s, t) => s.beta[t - 1], ddpm.format.beta, { low: 0, high }));
  const ends = [...ddpm.own.snrDb.slice(1), ...other.snrDb.slice(1)].filter(Number.isFinite);
  const decibels = { low: Math.min(...ends), high: Math.max(...ends) };
  plots.snr(
    both(
      (s, t) => s.snrDb[t],
      (t, s) => `${ddpm.format.snr(t, s)} dB`,
      decibels,
    ),
  );
  tellSchedules();
}

let waiting = false; // for the examples of a model without stored ones
const tellWaiting = () => waiting && ddpm.setText($(".status"), "forward.waiting");

async function fetchExamples() {
  waiting = true;
  tellWaiting();
  // Every tab has them on its pad.
  const found = await ddpm.untilDrawn(null, () => server.example_pictures());
  waiting = false;
  if (!$(".status").classList.contains("refused")) $(".status").textContent = "";
  ddpm.setExamples(ddpm.bytesOf(found.data), props.first);
}

// ---- the rest

function labelCharts() {
  for (const figure of element.querySelectorAll("[data-chart]")) {
    const name = figure.dataset.chart;
    const label =
      name === "histogram"
        ? ddpm.say("chart.histogram.label")
        : ddpm.say("chart.label", { name: ddpm.say(`chart.${name}`) });
    figure.querySelector(".plot").setAttribute("aria-label", label);
  }
}

ddpm.translate(element);
compare();
ddpm.picker(element);
ddpm.shared.on("noise", (seed) => {
  eps = ddpm.normal(seed, ddpm.count);
  ddpm.paintNoise(canvases.eps, eps);
  redraw();
});
ddpm.shared.on("picture", (bytes) => {
  for (let i = 0; i < x0.length; i++) x0[i] = bytes[i] / 127.5 - 1;
  redraw();
});
ddpm.shared.on("t", (t) => {
  bar.show(t);
  redraw();
});
// ---- the question: correlation of the pixels of x_t with those of x_0, whose contrast is this picture's own

const question = ddpm.quiz(element, (guess) => {
  const contrast = ddpm.variance(x0);
  if (contrast < 1e-6) return { key: "forward.quiz.blank" };
  const correlation = (t) => {
    const signal = ddpm.alphaBar[t] * contrast;
    return Math.sqrt(signal / (signal + 1 - ddpm.alphaBar[t]));
  };
  const first = (is) => Array.from({ length: ddpm.T }, (_, i) => i + 1).find(is);
  const even = first((t) => ddpm.alphaBar[t] * contrast < 1 - ddpm.alphaBar[t]);
  const faint = first((t) => correlation(t) < 0.1);
  const [here, end] = [guess, ddpm.T].map((t) => correlation(t).toFixed(2));
  return {
    key: even && faint ? "forward.quiz.answer" : "forward.quiz.never",
    fields: { guess, even, faint, here, end },
  };
});
ddpm.shared.on("picture", question.clear);

ddpm.arrive(front);
ddpm.linkable("forward", { schedule: choice });
if (props.examples) ddpm.setExamples(ddpm.bytesOf(props.examples), props.first);
else fetchExamples();
labelCharts();
describe();
bar.input.addEventListener("change", describe);
choice.addEventListener("change", () => {
  compare();
  redraw();
  describe();
});
ddpm.onTheme(() => ddpm.paintNoise(canvases.eps, eps));
ddpm.onLanguage(() => {
  tellWaiting();
  labelCharts();
  describe();
  tellSchedules();
  bar.show(ddpm.shared.get("t"));
});
