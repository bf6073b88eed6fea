// Tab "The bound": the terms of one picture stream in from t = 1 to T; charts and sum are drawn here.
// Scope: element, props (`optimal_weights`: w_t under the optimal variance), server, trigger, watch (see gr.HTML).
// Event: 'bound' with a picture.
const $ = (selector) => element.querySelector(selector);
const { shared, T } = ddpm;
const { significant } = ddpm.format;
const names = ["terms", "weights", "errors", "share"];
const figures = Object.fromEntries(names.map((name) => [name, $(`[data-chart="${name}"]`)]));
const draw = Object.fromEntries(names.map((name) => [name, ddpm.tChart(figures[name])]));
const bar = ddpm.tBar($(".t-bar"));
const losses = ddpm.switchOf($('[data-label="bound.loss"]'));
const variances = ddpm.switchOf($('[data-label="bound.variance"]'));
const [own] = variances.values; // the variance of the model

// Bits per dimension and squared error of t = 1..T, where t = 1 is L_0; NaN for terms that have not come yet.
const unknown = () => new Float64Array(T).fill(Number.NaN);
let byVariance = {}; // the bits under each variance; `bits` are those of the one that is chosen
let bits = unknown();
let mse = unknown();
let prior = null; // L_T, which comes with the complete answer
let floors = {}; // the part of L_0 that comes from the decoder's width, of each variance
let loss = "true"; // or "simple"
let under = null; // what another model says about the same picture: {model, bits}
const isDrawn = () => under?.bits.length === T && loss === "true"; // its terms, if they are as many

function forget() {
  byVariance = Object.fromEntries(variances.values.map((kind) => [kind, unknown()]));
  bits = byVariance[variances.value() ?? own];
  mse = unknown();
  prior = null;
  floors = {};
}
forget();

// w_t of Eq. 12 at index t - 1. A learned variance has those of the small one.
function weightsOf(kind) {
  if (kind === "optimal") return props.optimal_weights;
  const { alphaBar, beta } = ddpm;
  const before = kind === "fixed_large" ? 0 : 1;
  // At t = 1 the small variance is 0, and there is no such term.
  return beta.map((b, i) => b / (2 * (1 - b) * (1 - alphaBar[i + 1 - before])));
}
const weights = Object.fromEntries(variances.values.map((kind) => [kind, weightsOf(kind)]));

// The sum of the numbers that have come, from index `first` on.
function sum(numbers, first = 0) {
  let total = 0;
  for (let i = first; i < numbers.length; i++) if (!Number.isNaN(numbers[i])) total += numbers[i];
  return total;
}

// ---- charts

const MOST_POINTS = 1000; // of a curve
const every = Math.ceil(T / MOST_POINTS);
const text = (v) => (v >= 0 ? significant(v) : "\u2026");
const isComplete = () => !bits.some(Number.isNaN);

// The t whose terms have come, thinned out if they are many.
function knownTs() {
  const ts = [];
  for (let t = 1; t <= T; t++) if (!Number.isNaN(bits[t - 1])) ts.push(t);
  return ts.length <= MOST_POINTS ? ts : ts.filter((t) => t === 1 || t === T || t % every === 0);
}

// The weight, the same for every t, with which the squared errors add up to the same sum. L_simple uses equal weights.
const level = () => sum(bits, 1) / sum(mse, 1);

function drawTerms(ts, complete, simple) {
  const flat = level();
  const term = (t) => bits[t - 1];
  const flatTerm = (t) => (t === 1 ? Number.NaN : mse[t - 1] * flat);
  const other = isDrawn() ? (t) => under.bits[t - 1] : null;
  let [lowest, highest] = [1, 1e-9];
  for (let t = 1; t <= T; t++) {
    for (const value of [term(t), flatTerm(t), other?.(t)]) {
      if (!(value > 0)) continue;
      lowest = Math.min(lowest, value);
      highest = Math.max(highest, value);
    }
  }
  const place = draw.terms({
    valueAt: simple ? flatTerm : term,
    second: other ?? (complete ? (simple ? term : flatTerm) : null),
    ts: simple ? ts.filter((t) => t > 1) : ts,
    show: (t) => (simple ? text(flatTerm(t)) : `${text(term(t))} ${ddpm.say("unit.bits")}`),
    log: true,
    low: Math.max(lowest, 1e-9),
    high: 2 * highest,
  });
  for (const [name, value] of [
    ["reconstruction", bits[0]],
    ["prior", prior],
  ]) {
    const dot = figures.terms.querySelector(`.end.${name}`);
    dot.hidden = !(value >= 0) || simple;
    if (!dot.hidden) dot.style.top = `${100 * (1 - place(value))}%`;
  }
}

function drawWeights(complete, simple) {
  const flatWeight = level() * Math.LN2; // w_t is in nats
  const flat = () => flatWeight;
  const w = weights[variances.value() ?? own];
  const weight = (t) => (t === 1 ? Number.NaN : w[t - 1]);
  const ts = Array.from({ length: T - 1 }, (_, i) => i + 2);
  const valueAt = simple && complete ? flat : weight;
  draw.weights({
    valueAt,
    second: complete ? (simple ? weight : flat) : null,
    ts: T - 1 <= MOST_POINTS ? ts : ts.filter((_, i) => i % every === 0),
    show: (t) => text(valueAt(t)),
    log: true,
  });
}

// The share of the sum that lies at or below each t.
function runningShare(terms) {
  const total = sum(terms, 1);
  let running = 0;
  return terms.map((v, i) => {
    if (i > 0) running += v / total;
    return running;
  });
}

function drawShares(ts, complete, simple) {
  const [kl, flat] = [bits, mse].map(runningShare);
  const [solid, dashed] = simple ? [flat, kl] : [kl, flat];
  draw.share({
    valueAt: (t) => (complete ? solid[t - 1] : Number.NaN),
    second: complete ? (t) => dashed[t - 1] : null,
    ts: complete ? ts : [],
    show: (t) => (complete ? `${Math.round(100 * solid[t - 1])}%` : "\u2026"),
    low: 0,
    high: 1,
  });
  const half = (shares) => 1 + shares.findIndex((v) => v >= 0.5);
  if (complete) ddpm.setText($(".half"), "bound.half", { bound: half(kl), simple: half(flat) });
}

const front = ddpm.front(element, (on) => on && redraw());
function redraw() {
  if (!front.shown) return; // it draws when it comes to the front
  const [ts, complete, simple] = [knownTs(), isComplete(), loss === "simple"];
  drawTerms(ts, complete, simple);
  drawWeights(complete, simple);
  draw.errors({ valueAt: (t) => mse[t - 1], ts, show: (t) => text(mse[t - 1]), log: true });
  drawShares(ts, complete, simple);
  $(".bound").classList.toggle("unfinished", !complete);
}

// ---- the sum

function textOf(name, value) {
  if (value === null || (name === "kl" && value === 0)) return "\u2026";
  return value < 0.01 ? significant(value) : value.toFixed(4);
}

function showSum() {
  const terms = { prior, kl: sum(bits, 1), reconstruction: Number.isNaN(bits[0]) ? null : bits[0] };
  const known = prior !== null;
  terms.total = known ? terms.prior + terms.kl + terms.reconstruction : null;
  for (const [name, value] of Object.entries(terms)) {
    $(`[data-object="${name}"] b`).textContent = textOf(name, value);
    const share = $(`.shares .${name}`);
    if (share) share.style.flexGrow = known ? value / terms.total : 0;
  }
  showFloor(terms.reconstruction);
}

// What part of L_0 the decoder's width costs any network: words, and a piece of the bar.
function showFloor(reconstruction) {
  const kind = variances.value() ?? own;
  const floor = floors[kind];
  const known = floor !== undefined && reconstruction !== null;
  const percent = known ? Math.min(100, (100 * floor) / reconstruction) : 0;
  $(".shares .reconstruction .paid").style.width = `${percent}%`;
  if (!known) return $(".floor").replaceChildren();
  const key = kind.startsWith("learned") ? "bound.floor.learned" : "bound.floor";
  ddpm.setText($(".floor"), key, { floor: textOf("floor", floor), share: Math.round(percent) });
}

// ---- words

const captionKey = (name) => (name === "terms" ? `bound.caption.${isDrawn() ? "under" : loss}` : `chart.${name}`);

function label() {
  for (const [name, figure] of Object.entries(figures)) {
    const caption = ddpm.say(captionKey(name), captionFields()).replaceAll("$", "");
    figure.querySelector(".plot").setAttribute("aria-label", ddpm.say("chart.label", { name: caption }));
  }
}

const captionFields = () => ({ model: under?.model });

function caption() {
  ddpm.setText(figures.terms.querySelector("figcaption [data-text]"), captionKey("terms"), captionFields());
  label();
  redraw();
}

function setLoss(next) {
  loss = next;
  caption();
}
losses.onChoose(setLoss);

function setVariance(kind) {
  bits = byVariance[kind];
  show();
  if (prior !== null) tellDone();
}
variances.onChoose(setVariance);

// Marks for the two terms at the ends, which are no KL divergences between two steps.
for (const name of ["reconstruction", "prior"]) {
  const dot = document.createElement("span");
  dot.className = `end ${name}`;
  dot.hidden = true;
  const symbol = document.createElement("span");
  symbol.className = "tex";
  symbol.dataset.tex = name;
  dot.append(symbol);
  figures.terms.querySelector(".plot").append(dot);
}

// ---- the network

function setRunning(on, again = false) {
  const [stop, repeat] = [$(".stop"), $(".again")];
  const swap = () => {
    stop.hidden = !on;
    repeat.hidden = on || !again;
  };
  ddpm.keepFocus([stop, repeat], swap, () => (on ? stop : again ? repeat : bar.input));
  $(".progress i").style.width = "0";
}

function show() {
  showSum();
  redraw();
}

// The terms under every variance, in what the server sends: [name, terms] of each.
const ofEach = ({ bits: ofOwn, others }) => [[own, ofOwn], ...Object.entries(others)];

const tellDone = () => asked.tell("bound.done", () => ({ total: (prior + sum(bits)).toFixed(4), n: T }));

const asked = ddpm.reading(element, {
  send: (message) => trigger("bound", message),
  expect: (message) => server.expect(message),
  fetch: (key) => server.reading(key),
  start() {
    forget();
    question?.clear();
    setRunning(true);
    asked.tell("bound.starting");
    show();
  },
  waiting: () => asked.tell("bound.waiting"),
  part({ done, total, ...terms }) {
    const first = done - terms.bits.length;
    for (const [kind, more] of ofEach(terms)) byVariance[kind].set(more, first);
    mse.set(terms.mse, first);
    $(".progress i").style.width = `${(100 * done) / total}%`;
    asked.note("bound.running", () => ({ done, total }));
    show();
  },
  done(found) {
    for (const [kind, all] of ofEach(found)) byVariance[kind].set(all);
    mse = Float64Array.from(found.mse);
    prior = found.prior;
    floors = found.floors;
    setRunning(false);
    tellDone();
    show();
  },
  ended: () => setRunning(false, true),
});

// ---- the same picture under another model

const chosen = $('[name="under"]');
const other = chosen && askOther();
watch("value", () => {
  asked.take(props.value);
  other?.take(props.value);
});

function askOther() {
  const model = () => chosen.value;
  const say = (key, fields) => of.tell(key, fields);
  const of = ddpm.reading(element, {
    lane: 1,
    model,
    wanted: () => model() !== "",
    status: $(".other-answer"),
    send: (message) => trigger("bound", message),
    expect: (message) => server.expect(message, model()),
    fetch: (key) => server.reading(key, model()),
    start() {
      under = null;
      say("bound.starting");
      caption();
    },
    waiting: () => say("bound.waiting"),
    part: ({ done, total }) => of.note("bound.running", () => ({ done, total })),
    done(found) {
      under = { model: model(), bits: found.bits };
      const [pixels, total] = [found.bits[0], found.total];
      const fields = { model: model(), total, steps: total - pixels - found.prior, pixels };
      for (const name of ["total", "steps", "pixels"]) fields[name] = textOf(name, fields[name]);
      say("bound.under.done", () => fields);
      caption();
    },
  });
  chosen.addEventListener("change", () => {
    under = null;
    of.forget();
    say(null);
    caption();
    of.ask();
  });
  return of;
}

$(".stop").addEventListener("click", () => {
  const done = bits.reduce((n, v) => n + !Number.isNaN(v), 0);
  asked.stop();
  asked.tell("bound.stopped", () => ({ done, total: T }));
});
$(".again").addEventListener("click", () => asked.ask({ again: true }));

// ---- the question

const question = ddpm.quiz(element, () => {
  if (!isComplete()) return null;
  const half = Math.floor(T / 2);
  const early = (terms) => sum(terms.subarray(0, half), 1) / sum(terms, 1);
  const [bound, simple] = [bits, mse].map((terms) => `${Math.round(100 * early(terms))}%`);
  return { key: "bound.quiz.answer", fields: { bound, simple } };
});

// ---- the rest

ddpm.translate(element);
ddpm.picker(element);
losses.choose(loss);
variances.show(own);
shared.on("t", (t) => bar.show(t));
const [lossField, varianceField] = ["loss", "variance"].map((name) => $(`[data-label="bound.${name}"]`));
const noOther = { read: () => null, apply: () => ["link.unknown", {}] };
ddpm.linkable("bound", { loss: lossField, variance: varianceField, under: chosen ?? noOther });
asked.watch();
other?.watch();
ddpm.onLanguage(() => {
  bar.show(shared.get("t"));
  showSum();
  caption();
});
