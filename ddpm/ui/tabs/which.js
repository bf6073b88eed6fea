// Tab "Labels", lower part: which label a picture has, as the bound sees it. Bars grow while the server measures.
// Scope: element, props, server, trigger, watch (see gr.HTML). Event: 'classify' with a picture.
const $ = (selector) => element.querySelector(selector);
const { labels: names } = ddpm.page;
const { fixed } = ddpm.format;
const MOST = 12; // bars; of more labels the likeliest are shown
const bars = $(".bars");
let shown = null; // {probabilities: of each label; bits: that each saves, of the whole picture}

const percent = (share) => `${share >= 0.995 || share < 0.0005 ? Math.round(100 * share) : (100 * share).toFixed(1)}%`;
function signed(bits) {
  const text = fixed(Math.abs(bits), 1);
  return Number(text) === 0 ? text : `${bits > 0 ? "+" : "\u2212"}${text}`;
}
const likeliest = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

// ---- the bars

function newBar() {
  const bar = document.createElement("li");
  for (const name of ["name", "track", "share", "saved"]) {
    bar.append(Object.assign(document.createElement("span"), { className: name }));
  }
  bar.querySelector(".track").append(document.createElement("i"));
  return bar;
}

// The numbers of the labels that have a bar: all in their order, or of many the likeliest first.
function order() {
  const all = names.map((_, label) => label);
  if (names.length <= MOST || !shown) return all.slice(0, MOST);
  return all.sort((a, b) => shown.probabilities[b] - shown.probabilities[a]).slice(0, MOST);
}

// A network that was trained with labels only has one of them in the place of "no label".
const { unlabelled } = ddpm.page;
const SAVED = unlabelled === null ? ["which.saved"] : ["which.saved_of", { name: unlabelled }];

function fill(bar, label, best) {
  const [name, track, share, saved] = bar.children;
  const probability = shown?.probabilities[label] ?? 0;
  name.textContent = names[label];
  name.title = names[label];
  track.firstChild.style.width = `${100 * probability}%`;
  share.textContent = shown ? percent(probability) : "\u2026";
  saved.textContent = shown ? signed(shown.bits[label]) : "";
  bar.classList.toggle("best", label === best);
  const fields = { label: names[label], percent: share.textContent, bits: saved.textContent };
  fields.saved = ddpm.say(...SAVED);
  bar.setAttribute("aria-label", ddpm.say("which.bar", fields));
}

function draw() {
  const labels = order();
  while (bars.children.length < labels.length) bars.append(newBar());
  const best = shown ? likeliest(shown.probabilities) : -1;
  labels.forEach((label, i) => {
    fill(bars.children[i], label, best);
  });
}

// What the server measured is per dimension.
function take({ probabilities, bits }) {
  shown = { probabilities, bits: bits.map((each) => each * ddpm.count) };
  draw();
}

function verdict() {
  const best = likeliest(shown.probabilities);
  return { label: names[best], percent: percent(shown.probabilities[best]) };
}

// ---- the network

function setRunning(on, again = false) {
  const [stop, repeat] = [$(".stop"), $(".again")];
  const swap = () => {
    stop.hidden = !on;
    repeat.hidden = on || !again;
  };
  ddpm.keepFocus([stop, repeat], swap, () => (on ? stop : again ? repeat : $(".clear")));
  $(".progress i").style.width = "0";
}

const question = ddpm.quiz(element, () => {
  if (!shown || $(".which").classList.contains("waiting")) return null;
  const best = likeliest(shown.probabilities);
  const fields = { label: names[best], bits: signed(shown.bits[best]), count: names.length };
  return { key: "which.quiz.answer", fields: { ...fields, cost: Math.log2(names.length).toFixed(1) } };
});

const asked = ddpm.reading(element, {
  send: (message) => trigger("classify", message),
  expect: (message) => server.expect(message),
  fetch: (key) => server.reading(key),
  start() {
    question.clear();
    $(".which").classList.add("waiting");
    setRunning(true);
    asked.tell("which.asking");
  },
  waiting: () => asked.tell("which.waiting"),
  part(message) {
    $(".which").classList.remove("waiting");
    $(".progress i").style.width = `${(100 * message.done) / message.total}%`;
    take(message);
    const fields = { done: message.done, ...verdict() };
    asked.note("which.part", () => fields);
  },
  done(found) {
    $(".which").classList.remove("waiting");
    setRunning(false);
    take(found);
    const fields = { ...verdict(), timesteps: found.timesteps, seconds: fixed(found.seconds, 1) };
    asked.tell("which.done", () => fields);
  },
  ended: () => setRunning(false, true),
});
watch("value", () => asked.take(props.value));

$(".stop").addEventListener("click", () => {
  asked.stop();
  asked.tell("which.stopped");
});
$(".again").addEventListener("click", () => asked.ask({ again: true }));

Object.assign($('[data-text="which.saved"]').dataset, { text: SAVED[0], ...SAVED[1] });
ddpm.translate(element);
ddpm.picker(element);
draw();
asked.watch();
ddpm.onLanguage(draw);
