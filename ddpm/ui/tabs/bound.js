// Tab "The bound": the terms of one picture stream in from t = 1 to T; charts and sum are drawn here.
// Scope: element, props (`weights`: w_t), server, trigger, watch (see gr.HTML). Event: 'bound' with a picture.
const $ = (selector) => element.querySelector(selector);
const { shared, T } = ddpm;
const { significant } = ddpm.format;
const w = props.weights; // w_t at index t - 1, like `bits` and `mse`
const names = ["terms", "weights", "errors", "share"];
const figures = Object.fromEntries(names.map((name) => [name, $(`[data-chart="${name}"]`)]));
const draw = Object.fromEntries(names.map((name) => [name, ddpm.tChart(figures[name])]));
const bar = ddpm.tBar($(".t-bar"));
const losses = ddpm.switchOf($(".switch"));

// Bits per dimension and squared error of t = 1..T, where t = 1 is L_0; NaN for terms that have not come yet.
let bits = new Float64Array(T).fill(Number.NaN);
let mse = new Float64Array(T).fill(Number.NaN);
let prior = null; // L_T, which comes with the complete answer
let loss = "true"; // or "simple"

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
  let [lowest, highest] = [1, 1e-9];
  for (let t = 1; t <= T; t++) {
    for (const value of [term(t), flatTerm(t)]) {
      if (!(value > 0)) continue;
      lowest = Math.min(lowest, value);
      highest = Math.max(highest, value);
    }
  }
  const place = draw.terms({
    valueAt: simple ? flatTerm : term,
    second: complete ? (simple ? term : flatTerm) : null,
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
}

// ---- words

const captionKey = (name) => (name === "terms" ? `bound.caption.${loss}` : `chart.${name}`);

function label() {
  for (const [name, figure] of Object.entries(figures)) {
    const caption = ddpm.say(captionKey(name)).replaceAll("$", "");
    figure.querySelector(".plot").setAttribute("aria-label", ddpm.say("chart.label", { name: caption }));
  }
}

function setLoss(next) {
  loss = next;
  ddpm.setText(figures.terms.querySelector("figcaption [data-text]"), captionKey("terms"));
  label();
  redraw();
}
losses.onChoose(setLoss);

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

const asked = ddpm.reading(element, {
  send: (message) => trigger("bound", message),
  expect: (message) => server.expect(message),
  fetch: (key) => server.reading(key),
  start() {
    bits = new Float64Array(T).fill(Number.NaN);
    mse = new Float64Array(T).fill(Number.NaN);
    prior = null;
    setRunning(true);
    asked.tell("bound.starting");
    show();
  },
  waiting: () => asked.tell("bound.waiting"),
  part({ done, total, ...terms }) {
    const first = done - terms.bits.length;
    bits.set(terms.bits, first);
    mse.set(terms.mse, first);
    $(".progress i").style.width = `${(100 * done) / total}%`;
    asked.note("bound.running", () => ({ done, total }));
    show();
  },
  done(found) {
    bits = Float64Array.from(found.bits);
    mse = Float64Array.from(found.mse);
    prior = found.prior;
    setRunning(false);
    asked.tell("bound.done", () => ({ total: found.total.toFixed(4), n: T }));
    show();
  },
  ended: () => setRunning(false, true),
});
watch("value", () => asked.take(props.value));

$(".stop").addEventListener("click", () => {
  const done = bits.reduce((n, v) => n + !Number.isNaN(v), 0);
  asked.stop();
  asked.tell("bound.stopped", () => ({ done, total: T }));
});
$(".again").addEventListener("click", () => asked.ask({ again: true }));

// ---- the rest

ddpm.translate(element);
ddpm.picker(element);
losses.choose(loss);
shared.on("t", (t) => bar.show(t));
ddpm.linkable("bound", { loss: $(".switch") });
asked.watch();
ddpm.onLanguage(() => {
  bar.show(shared.get("t"));
  setLoss(loss);
});
