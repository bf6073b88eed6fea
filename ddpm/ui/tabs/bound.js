// Tab "The bound": the terms of one picture stream in from t = 1 to T; the switch and the charts are done here.
// Scope: element, props (`weights`: w_t), server, trigger, watch (see gr.HTML). Event: 'bound' with a picture.
const $ = (selector) => element.querySelector(selector);
const { shared, T } = ddpm;
const w = props.weights; // w_t at index t - 1, like `bits` and `mse`
const figures = Object.fromEntries(["terms", "weights", "errors", "share"].map((name) => [name, $(`[data-chart="${name}"]`)]));
const draw = Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, ddpm.plot(figure)]));
const bar = ddpm.tBar($(".t-bar"));

// Bits per dimension and squared error of t = 1..T, the first of which is L_0; NaN where there is none yet.
let bits = new Float64Array(T).fill(NaN);
let mse = new Float64Array(T).fill(NaN);
let prior = null; // L_T, once all are there
let loss = "true"; // or "simple"

const sum = (numbers, first = 0) => numbers.reduce((total, v, i) => (i < first || Number.isNaN(v) ? total : total + v), 0);

// ---- charts

// L_simple deals the same sum out in proportion to the squared errors, as if every weight were the same.
const front = ddpm.front(element, (on) => on && redraw());
function redraw() {
  if (!front.shown) return; // when it comes to the front
  const ts = [];
  for (let t = 1; t <= T; t++) if (!Number.isNaN(bits[t - 1])) ts.push(t);
  const shown = ts.length <= 1000 ? ts : ts.filter((t) => t === 1 || t === T || t % Math.ceil(T / 1000) === 0);
  const level = sum(bits, 1) / sum(mse, 1);
  const simple = loss === "simple";
  const whole = ts.length === T;
  const [term, dealt] = [(t) => bits[t - 1], (t) => (t === 1 ? NaN : mse[t - 1] * level)];
  const values = ts.flatMap((t) => [term(t), dealt(t)]).filter((v) => v > 0);
  const number = (v) => (v >= 0 ? ddpm.figure3(v) : "\u2026");
  const range = { low: Math.max(values.reduce((a, b) => Math.min(a, b), 1), 1e-9), high: 2 * values.reduce((a, b) => Math.max(a, b), 1e-9) };
  const place = draw.terms({
    valueAt: simple ? dealt : term,
    second: !whole ? null : simple ? term : dealt,
    ts: simple ? shown.filter((t) => t > 1) : shown,
    show: (t) => (simple ? number(dealt(t)) : `${number(term(t))} ${ddpm.say("unit.bits")}`),
    log: true,
    ...range,
  });
  for (const [name, value] of [["reconstruction", bits[0]], ["prior", prior]]) {
    const dot = figures.terms.querySelector(`.end.${name}`);
    dot.hidden = !(value >= 0) || simple;
    if (!dot.hidden) dot.style.top = `${100 * (1 - place(value))}%`;
  }

  const flatWeight = level * Math.LN2; // w_t counts nats
  const weight = (t) => (t === 1 ? NaN : w[t - 1]);
  const all = Array.from({ length: T - 1 }, (_, i) => i + 2);
  const some = all.filter((t, i) => all.length <= 1000 || i % Math.ceil(T / 1000) === 0);
  draw.weights({
    valueAt: simple && whole ? () => flatWeight : weight,
    second: !whole ? null : simple ? weight : () => flatWeight,
    ts: some,
    show: (t) => number(simple && whole ? flatWeight : weight(t)),
    log: true,
  });
  draw.errors({ valueAt: (t) => mse[t - 1], ts: shown, show: (t) => number(mse[t - 1]), log: true });

  const [kl, flat] = [bits, mse].map((terms) => {
    const total = sum(terms, 1);
    let running = 0;
    return terms.map((v, i) => (i === 0 ? 0 : (running += v) / total));
  });
  const [solid, dashed] = simple ? [flat, kl] : [kl, flat];
  draw.share({
    valueAt: (t) => (whole ? solid[t - 1] : NaN),
    second: whole ? (t) => dashed[t - 1] : null,
    ts: whole ? shown : [],
    show: (t) => (whole ? `${Math.round(100 * solid[t - 1])} %` : "\u2026"),
    low: 0,
    high: 1,
  });

  const half = (shares) => 1 + shares.findIndex((v) => v >= 0.5);
  if (whole) ddpm.setText($(".half"), "bound.half", { bound: half(kl), simple: half(flat) });
  element.querySelector(".bound").classList.toggle("unfinished", !whole);
}

function showSum() {
  const terms = { prior, kl: sum(bits, 1), reconstruction: Number.isNaN(bits[0]) ? null : bits[0] };
  const known = prior !== null;
  terms.total = known ? terms.prior + terms.kl + terms.reconstruction : null;
  for (const [name, value] of Object.entries(terms)) {
    $(`[data-object="${name}"] b`).textContent = value === null || (name === "kl" && value === 0) ? "\u2026" : value < 0.01 ? ddpm.figure3(value) : value.toFixed(4);
    const share = $(`.shares .${name}`);
    if (share) share.style.flexGrow = known ? value / terms.total : 0;
  }
}

function setLoss(next) {
  loss = next;
  for (const button of element.querySelectorAll(".switch button")) button.setAttribute("aria-pressed", button.dataset.value === loss);
  ddpm.setText(figures.terms.querySelector("figcaption [data-text]"), `bound.caption.${loss}`);
  label();
  redraw();
}
for (const button of element.querySelectorAll(".switch button")) button.addEventListener("click", () => setLoss(button.dataset.value));

function label() {
  for (const [name, figure] of Object.entries(figures)) {
    const key = name === "terms" ? `bound.caption.${loss}` : `chart.${name}`;
    figure.querySelector(".plot").setAttribute("aria-label", ddpm.say("chart.label", { name: ddpm.say(key).replaceAll("$", "") }));
  }
}

// The two terms at the ends that are no KL between two steps.
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

let waiting = 0;
function setRunning(on, again = false) {
  clearTimeout(waiting);
  const focused = element.contains(document.activeElement) && document.activeElement.matches(".stop, .again");
  $(".stop").hidden = !on;
  $(".again").hidden = on || !again;
  if (focused) (on ? $(".stop") : again ? $(".again") : bar.input).focus();
  $(".progress i").style.width = "0";
}

const asked = ddpm.asking(element, {
  send: (message) => trigger("bound", message),
  expect: (message) => server.expect(message),
  fetch: (key) => server.reading(key),
  start: () => {
    bits = new Float64Array(T).fill(NaN);
    mse = new Float64Array(T).fill(NaN);
    prior = null;
    setRunning(true);
    asked.tell("bound.starting");
    waiting = setTimeout(() => asked.tell("bound.waiting"), 2000);
    showSum();
    redraw();
  },
  part: (message) => {
    clearTimeout(waiting);
    const first = message.done - message.bits.length;
    bits.set(message.bits, first);
    mse.set(message.mse, first);
    $(".progress i").style.width = `${(100 * message.done) / message.total}%`;
    asked.note("bound.running", () => ({ done: message.done, total: message.total }));
    showSum();
    redraw();
  },
  done: (found) => {
    bits = Float64Array.from(found.bits);
    mse = Float64Array.from(found.mse);
    prior = found.prior;
    setRunning(false);
    asked.tell("bound.done", () => ({ total: found.total.toFixed(4), n: T }));
    showSum();
    redraw();
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
setLoss(loss);
shared.on("t", (t) => bar.show(t));
ddpm.linkable("bound", { loss: $(".switch") });
asked.watch();
ddpm.onLanguage(() => {
  bar.show(shared.get("t"));
  setLoss(loss);
});
