// Tab "What goes wrong": pictures drawn with a mistake, beside the same pictures without it.
// Scope: element, props (`faults`: name -> rows, code, plane, amount; `first`; `images`), server, trigger, watch (see
// gr.HTML). Event: 'wrong' with two rows.
const $ = (selector) => element.querySelector(selector);
const faults = props.faults;
const slider = $(".amount input");
const switcher = ddpm.switchOf($("[data-label='wrong.fault']"));
const REST_MS = 250; // after the slider has moved: a key that is held down moves it many times a second
let chosen = props.first;
let seed = 1;

const amount = () => faults[chosen].amount && Number(slider.value);

// Both rows, the mistaken one with the slider's value.
function requests() {
  const {
    rows: [right, wrong],
    amount: of,
  } = faults[chosen];
  const mistaken = of ? { ...wrong, [of.field]: amount() } : wrong;
  const most = mistaken.start_t ?? ddpm.T;
  return [right, { ...mistaken, num_inference_steps: Math.min(mistaken.num_inference_steps, most) }];
}

const name = (i) => ddpm.say(i ? "wrong.wrong" : "wrong.right");

// The mistake whose pictures each row shows, {fault, value: of its slider}. Another one may be chosen already.
const pictured = [];
function before({ fault, value }) {
  const setting = value ? ` (${ddpm.say(`wrong.${fault}.amount`, { value })})` : "";
  return ddpm.say("wrong.before", { name: ddpm.say(`wrong.${fault}`) + setting });
}

const rows = ddpm.rows(element, {
  fetch: server.trajectory,
  send: (message) => trigger("wrong", message),
  expect: server.expect,
  name,
  instead: (i) => (rows.heads()[i].classList.contains("stale") && pictured[i] ? before(pictured[i]) : null),
  changed(i) {
    pictured[i] = { fault: chosen, value: amount() };
    rows.heads()[i].classList.remove("stale");
    write();
  },
  done: () => rows.drawing.tell("wrong.done", () => ({ seed })),
  // The mistake shows in the first guesses or in the finished pictures.
  end: () => (faults[chosen].plane === "x0_hat" ? ddpm.T : 0),
});

const asked = () => ({ rows: requests(), num_images: props.images, seed });
let resting = 0; // the timer that waits until the slider rests

function fade() {
  question.clear();
  for (const row of rows.heads()) row.classList.add("stale"); // its pictures show another mistake
  rows.draw();
  write();
}

function sample() {
  clearTimeout(resting);
  fade();
  rows.start(asked());
}

function write() {
  const {
    code,
    rows: [right],
    amount: of,
  } = faults[chosen];
  const value = amount();
  const signal = of?.field === "start_t" ? Math.sqrt(ddpm.alphaBar[value]).toFixed(2) : "";
  ddpm.setText($(".see"), `wrong.${chosen}.see`, { t: value, signal });
  $(".lines .right").textContent = code[0].replace("{steps}", right.num_inference_steps);
  $(".lines .mistake").textContent = code[1].replace("{value}", value);
  $(".amount").hidden = !of;
  if (of) ddpm.setText($(".amount span"), `wrong.${chosen}.amount`, { value });
  rows.heads().forEach(nameRow);
}

function nameRow(row, i) {
  // The request of the pictures on screen (for a slow model's example with fewer steps), or of those being drawn.
  const request = (!row.classList.contains("stale") && rows.found(i)?.request) || requests()[i];
  const { sampler, num_inference_steps: steps } = request;
  const settings = ddpm.say("rows.name", { sampler: ddpm.say(`sampler.${sampler}`), steps, label: "" });
  row.querySelector(".row-name").textContent = name(i);
  row.querySelector(".row-settings").textContent = settings;
}

function choose(fault) {
  chosen = fault;
  const {
    amount: of,
    plane,
    rows: [, wrong],
  } = faults[chosen];
  if (of) Object.assign(slider, { min: of.low, max: of.high, step: of.step, value: wrong[of.field] });
  switcher.show(chosen);
  rows.showPlane(plane);
}

switcher.onChoose((fault) => {
  choose(fault);
  sample();
});
slider.addEventListener("input", write);
slider.addEventListener("change", () => {
  fade();
  clearTimeout(resting);
  resting = setTimeout(sample, REST_MS);
});
$(".go").addEventListener("click", () => {
  seed++;
  sample();
});

watch("value", () => rows.drawing.hear(props.value));

ddpm.translate(element);
ddpm.along(element);
rows.add();
rows.add();
choose(chosen);
write();
rows.draw();
ddpm.onLanguage(write);
const first = JSON.stringify(asked()); // the settings of the stored example

// ---- the question

// How far the first half of the right pictures is from the second half.
function apart() {
  const { found, whole, t, frames } = rows.shown[0];
  const pictures = whole ?? ddpm.trajectory.plane({ frames }, t.length - 1, 0);
  const half = Math.floor(found.n / 2) * (pictures.length / found.n);
  let sum = 0;
  for (let k = 0; k < half; k++) sum += ((pictures[k] - pictures[k + half]) / 127.5) ** 2;
  return Math.sqrt(sum / half);
}

const question = ddpm.quiz(element, () => {
  const away = rows.heads()[1].classList.contains("stale") ? null : rows.away(1);
  if (away === null) return null;
  return { key: "wrong.quiz.answer", fields: { away: away.toFixed(3), apart: apart().toFixed(3) } };
});

// ---- links

// Passes a whole number of a link to `set`, or returns a refusal, see links.js.
function takeWhole(value, low, high, set) {
  if (!/^\d+$/.test(value) || +value < low || +value > high) return ["refused.whole", { low, high }];
  set(+value);
}

function setSeed(next) {
  seed = next;
}

const faultInLink = {
  read: () => chosen,
  apply(value) {
    if (!Object.hasOwn(faults, value)) return ["refused.choice", { choices: Object.keys(faults).join(", ") }];
    choose(value);
  },
};
const amountInLink = {
  read: () => (faults[chosen].amount ? String(amount()) : null),
  apply(value) {
    const { low, high } = faults[chosen].amount ?? { low: 0, high: 0 };
    return takeWhole(value, low, high, (next) => {
      slider.value = next;
    });
  },
};
const seedInLink = { read: () => String(seed), apply: (value) => takeWhole(value, 0, ddpm.page.max_seed, setSeed) };
ddpm.linkable("wrong", { fault: faultInLink, amount: amountInLink, seed: seedInLink }, (named) => {
  if (JSON.stringify(asked()) !== first) sample();
  if ("t" in named) rows.keepT();
});
rows
  .showExample(server.example, () => {})
  .then((there) => {
    if (there) rows.drawing.tell("wrong.example");
  });
