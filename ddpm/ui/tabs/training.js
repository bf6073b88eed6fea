// Tab "Training": the record of the model on the page, and a small training while it runs, drawn by the same code.
// Scope: element, props (`live`: the settings of the small training; null if it is turned off), server (see gr.HTML).
const $ = (selector) => element.querySelector(selector);
const count = (n) => n.toLocaleString("en");
const loss = (v) => v.toPrecision(3);

// ---- a command to copy

const COPIED_MS = 2000;
function setCommand(section, command) {
  const [code, button] = [section.querySelector(".again code"), section.querySelector(".copy")];
  section.querySelector(".again").hidden = !command;
  code.textContent = command ?? "";
  button.onclick = async () => {
    await ddpm.copy(command, () => getSelection().selectAllChildren(code));
    ddpm.setText(button.firstElementChild, "training.copied");
    setTimeout(() => ddpm.setText(button.firstElementChild, "training.copy"), COPIED_MS);
  };
}

// ---- this model

const recordedSection = $(".recorded");
let atEnd = true; // the last samples are on screen
const recorded = ddpm.story(recordedSection, {
  onMove(on) {
    atEnd = on;
  },
});
const facts = ddpm.line($(".recorded .facts"));

let record = []; // rows of the training of this model: [step, loss, ...]
let isRead = false;

function half() {
  if (isRead && record.length < 3) return { key: "training.no_record" };
  const end = record.at(-1)?.[1];
  const row = record.find(([, value]) => value <= (1 + end) / 2);
  if (!row || record.length < 3) return null;
  const [step, value] = row;
  const steps = record.at(-1)[0];
  const percent = `${((100 * step) / steps).toPrecision(2)}%`;
  return {
    key: "training.quiz.answer",
    fields: {
      step: count(step),
      steps: count(steps),
      percent,
      loss: loss(value),
      end: loss(end),
      rest: loss(value - end),
    },
  };
}
ddpm.quiz(element, half);

async function showRecorded() {
  facts.tell(ddpm.orWaking("training.reading"));
  const found = await server.story(null).catch(() => null);
  if (!found) return facts.tell("training.failed_reading", undefined, true);
  const { options, train, validation, memorises, grids } = found;
  [record, isRead] = [train, true];
  const any = train.length > 0 || validation.length > 0;
  for (const part of [".board", ".choice"]) recordedSection.querySelector(part).hidden = !any && !grids.length;
  recordedSection.querySelector(".chart").hidden = !any;
  recordedSection.querySelector(".switch").hidden = !train.some((row) => row[2].some((v) => v));
  setCommand(recordedSection, options?.command);
  if (options) facts.tell("training.options", () => optionsText(options, memorises));
  else facts.tell(any || grids.length ? "training.no_options" : "training.no_record");
  recorded.set({ train, validation, grids });
  recorded.toEnd();
  for (const step of [...grids].reverse()) {
    await recorded.addGrid(step, await server.grid(step).catch(() => null));
    if (atEnd) recorded.toEnd();
    recorded.draw();
  }
}

function optionsText(options, memorises) {
  const { data, steps, ema } = options;
  const begun = memorises === null ? "" : ddpm.say("training.memorises", { step: count(memorises) });
  return { ...options, data: data ?? ddpm.say("training.own_data"), steps: count(steps), ema: count(ema), begun };
}

// ---- train one now

const liveSection = $(".live");
const { visitor } = ddpm;
const plan = props.live;
const status = ddpm.line(liveSection.querySelector(".facts"));
const [go, stop] = [".go", ".stop"].map((name) => liveSection.querySelector(name));
const ENDS = ["finished", "time", "stopped", "late", "left"]; // of a training; any other end is a failure

// The text of the line at the end of a training. `begun`: it has taken a step.
function endKey({ state, own }, begun) {
  if (!own && state !== "finished" && state !== "time") return "training.watching.ended";
  if (state === "stopped" && !begun) return "training.unstarted";
  return ENDS.includes(state) ? `training.${state}` : "training.failed";
}

// The text of the line while a training is running: [key, fields].
function goingOn({ own }, row, speed) {
  const step = row[0];
  const ending = step + plan.rows >= plan.steps && step < plan.steps;
  const key = ending ? "training.ending" : own ? "training.running" : "training.watching.running";
  const figures = { loss: loss(row[1]), speed: speed ? count(Math.round(speed)) : "\u2026" };
  return [key, () => ({ step: count(step), steps: count(plan.steps), ...figures })];
}

// Adds a message of the training to `live`, or tells it in the line.
async function takeMessage(message, live) {
  const { kind, step } = message;
  if (kind === "loading") {
    const key = message.what === "digits" ? "training.loading.data" : "training.loading";
    status.tell(key, () => ({ what: message.what }));
  } else if (isLoss(message)) live.add({ row: [step, message.loss, message.loss_by_decile] });
  else if (kind === "validation") live.add({ held: [step, ...HELD_OUT.map((name) => message[name])] });
  else if (kind === "grid") await live.addGrid(step, message.png);
}

const HELD_OUT = ["val_loss", "val_loss_ema", "train_loss_ema"];
const isLoss = (message) => message.kind === "train" && message.loss > 0;

// The visitor who has started a training can stop it; everybody else waits for its end.
function showRunning(on, own) {
  const swap = () => {
    go.hidden = on && own;
    go.disabled = on && !own;
    stop.hidden = !(on && own);
  };
  ddpm.keepFocus([go, stop], swap, () => (on && own ? stop : go));
  liveSection.classList.toggle("running", on);
}

// The latest step and loss, as text.
function figuresOf({ row, held }) {
  const value = held ? (held[2] ?? held[1]) : row?.[1];
  return { step: count(row?.[0] ?? 0), loss: value === undefined ? "\u2026" : loss(value) };
}

const idle = () => ({ steps: count(plan.steps), seconds: plan.seconds });

// The curves and samples of the live training. The newest samples are on screen until a visitor moves away from them.
function liveStory() {
  let following = true; // the newest samples are on screen
  let noise = null; // the picture before the first step
  const live = ddpm.story(liveSection, {
    full: { reference: plan.full_loss, steps: plan.full_steps },
    last: plan.steps,
    onMove(on) {
      following = on;
    },
  });

  async function reset() {
    following = true;
    live.set({ train: [], validation: [], grids: [] });
    noise ??= await server.noise(null).catch(() => null);
    await live.addGrid(0, noise);
    live.draw();
  }

  function toNewest() {
    if (following) live.toEnd();
  }

  return { ...live, reset, toNewest };
}

// Shows in `live` what the server trains. Returns {state, setRunning(on), follow(), which begins it, leave(), which
// ends it, fail()}; `state`: whether a training is running, and whether the visitor has started it (`own`).
function followServer(live) {
  const state = { running: false, own: false };
  let number = 0; // the server's number of the training on screen
  let since = 0; // how many of its messages have come
  let speed = null; // pictures per second
  const news = ddpm.polling({ look: () => server.look({ visitor, run: number, since }), take, lost: fail });

  function setRunning(on) {
    state.running = on;
    showRunning(on, state.own);
  }

  function follow() {
    setRunning(true);
    [number, since] = [-1, 0]; // all messages of the server's training are new here
    news.start();
  }

  async function fail() {
    setRunning(false);
    status.tell("training.failed", undefined, true);
    if (!(await ddpm.isThere()) && !state.running) status.tell("answer.lost", undefined, true);
  }

  async function take(found, current) {
    if (!found.run) return;
    if (found.run !== number) {
      [number, since, speed] = [found.run, 0, null];
      await live.reset();
      if (!current()) return; // the visitor has stopped it meanwhile
    }
    const fresh = found.messages.slice(Math.max(0, since - (found.since - found.messages.length)));
    state.own = found.own;
    since = found.since;
    for (const message of fresh) await takeMessage(message, live);
    if (!current()) return;
    speed = fresh.findLast(isLoss)?.images_per_second ?? speed;
    live.toNewest();
    if (fresh.length) live.draw();
    setRunning(found.state === "running");
    const { row } = live.last();
    if (state.running) return row && status.note(...goingOn(found, row, speed));
    news.stop();
    const [key, seconds] = [endKey(found, Boolean(row)), Math.round(found.seconds)];
    status.tell(key, () => ({ ...figuresOf(live.last()), seconds }), key === "training.failed");
  }

  return { state, setRunning, follow, fail, leave: news.stop };
}

function setUpLive() {
  const live = liveStory();
  const { state, setRunning, follow, fail, leave } = followServer(live);

  go.addEventListener("click", async () => {
    state.own = true;
    setRunning(true);
    status.tell("training.starting");
    const answer = await server.start(visitor).catch(() => null);
    if (!state.running) return answer?.started && server.stop(visitor); // the visitor has stopped it before it began
    if (!answer) return fail();
    state.own = answer.started;
    if (!state.own) status.tell("training.busy");
    follow();
  });

  stop.addEventListener("click", () => {
    leave();
    server.stop(visitor).catch(() => {});
    setRunning(false);
    if (live.last().row) status.tell("training.stopped", () => figuresOf(live.last()));
    else status.tell("training.unstarted");
  });
  window.addEventListener("pagehide", () => state.running && state.own && server.stop(visitor).catch(() => {}));

  setCommand(liveSection, plan.command);
  status.tell("training.idle", idle);
  ddpm.onLanguage(live.translate);
  live
    .reset()
    .then(() => server.look({ visitor }))
    .then((found) => {
      if (found?.state === "running" && !state.running) follow(); // another visitor's training, to watch
    })
    .catch(() => {}); // there is nothing to watch
}

// ---- the beginning

ddpm.translate(element);
ddpm.along(element);
if (plan) setUpLive();
else {
  for (const part of [".board", ".choice", ".again", ".go"]) liveSection.querySelector(part).hidden = true;
  status.tell("training.off");
}
ddpm.linkable("training", { view: recordedSection.querySelector(".switch") });
showRecorded();
ddpm.onLanguage(recorded.translate);
