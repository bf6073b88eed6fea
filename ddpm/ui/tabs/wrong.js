// Tab "What goes wrong": a mistake, and the same run without it.
// Scope: element, props (`faults`: name -> rows, code, plane, amount; `first`; `images`), server, trigger, watch (see
// gr.HTML). Event: 'wrong' with two rows.
const $ = (selector) => element.querySelector(selector);
const faults = props.faults;
const slider = $(".amount input");
const REST_MS = 250;
let chosen = props.first;
let seed = 1;

const amount = () => faults[chosen].amount && Number(slider.value);

// Both rows, the mistaken one with the slider's value.
function requests() {
  const { rows: [right, wrong], amount: of } = faults[chosen];
  const mistaken = of ? { ...wrong, [of.field]: amount() } : wrong;
  const most = mistaken.start_t ?? ddpm.T;
  return [right, { ...mistaken, num_inference_steps: Math.min(mistaken.num_inference_steps, most) }];
}

const name = (i) => ddpm.say(i ? "wrong.wrong" : "wrong.right");

const rows = ddpm.rows(element, {
  fetch: server.trajectory,
  send: (message) => trigger("wrong", message),
  expect: server.expect,
  name,
  changed(i) {
    rows.heads()[i].classList.remove("stale");
    write();
  },
  done: () => rows.run.tell("wrong.done", () => ({ seed })),
  // Where there is something to see: the first guesses, or the finished pictures.
  end: () => (faults[chosen].plane === "x0_hat" ? ddpm.T : 0),
});

const asked = () => ({ rows: requests(), num_images: props.images, seed });
let resting = 0; // until the slider does

function fade() {
  for (const row of rows.heads()) row.classList.add("stale"); // its pictures are of another mistake
  write();
}

function run() {
  clearTimeout(resting);
  fade();
  rows.start(asked());
}

function write() {
  for (const button of element.querySelectorAll("[data-label='wrong.fault'] button")) button.setAttribute("aria-pressed", button.dataset.value === chosen);
  const { code, rows: [right], amount: of } = faults[chosen];
  const value = amount();
  const signal = of?.field === "start_t" ? Math.sqrt(ddpm.alphaBar[value]).toFixed(2) : "";
  ddpm.setText($(".see"), `wrong.${chosen}.see`, { t: value, signal });
  $(".lines .right").textContent = code[0].replace("{steps}", right.num_inference_steps);
  $(".lines .mistake").textContent = code[1].replace("{value}", value);
  $(".amount").hidden = !of;
  if (of) ddpm.setText($(".amount span"), `wrong.${chosen}.amount`, { value });
  rows.heads().forEach((row, i) => {
    // What was drawn, which for a slow model's example is less, or what is being drawn.
    const request = (!row.classList.contains("stale") && rows.found(i)?.request) || requests()[i];
    const { sampler, num_inference_steps: steps } = request;
    row.querySelector(".row-name").textContent = name(i);
    row.querySelector(".row-settings").textContent = ddpm.say("rows.name", { sampler: ddpm.say(`sampler.${sampler}`), steps });
  });
}

function choose(fault) {
  chosen = fault;
  const { amount: of, plane, rows: [, wrong] } = faults[chosen];
  if (of) Object.assign(slider, { min: of.low, max: of.high, step: of.step, value: wrong[of.field] });
  rows.showPlane(plane);
}

for (const button of element.querySelectorAll("[data-label='wrong.fault'] button")) {
  button.addEventListener("click", () => {
    choose(button.dataset.value);
    run();
  });
}
slider.addEventListener("input", write);
slider.addEventListener("change", () => {
  fade();
  clearTimeout(resting);
  resting = setTimeout(run, REST_MS); // a key that is held down changes it many times a second
});
$(".go").addEventListener("click", () => {
  seed++;
  run();
});

watch("value", () => rows.run.hear(props.value));

ddpm.translate(element);
rows.add();
rows.add();
choose(chosen);
write();
rows.draw();
ddpm.onLanguage(write);
const first = JSON.stringify(asked()); // what the stored example is of
const refused = ([low, high]) => ["refused.whole", { low, high }];
const whole = (value, low, high) => /^\d+$/.test(value) && +value >= low && +value <= high;
ddpm.linkable("wrong", {
  fault: {
    read: () => chosen,
    apply: (value) => (Object.hasOwn(faults, value) ? choose(value) : ["refused.choice", { choices: Object.keys(faults).join(", ") }]),
  },
  amount: {
    read: () => (faults[chosen].amount ? String(amount()) : null),
    apply(value) {
      const { low, high } = faults[chosen].amount ?? { low: 0, high: 0 };
      if (!whole(value, low, high)) return refused([low, high]);
      slider.value = value;
    },
  },
  seed: {
    read: () => String(seed),
    apply(value) {
      if (!whole(value, 0, 2 ** 31 - 1)) return refused([0, 2 ** 31 - 1]);
      seed = +value;
    },
  },
}, (named) => {
  if (JSON.stringify(asked()) !== first) run();
  if ("t" in named) rows.keepT();
});
rows.showExample(server.example, () => {}).then((there) => there && rows.run.tell("wrong.example"));
