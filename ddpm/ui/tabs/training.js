// Tab "Training": the record of the model on the page, and a small training while it runs, drawn by the same code.
// Scope: element, props (`live`: what will be trained; none where it is turned off), server (see gr.HTML).
const $ = (selector) => element.querySelector(selector);
const count = (n) => n.toLocaleString("en");
const loss = (v) => v.toPrecision(3);

// ---- one training: losses against the step, both axes logarithmic, and the samples of some steps

// Running mean; its window is a share of the rows so far, so it is as wide at either end of a logarithmic axis.
function smooth(values, share = 0.05) {
  const sums = [0];
  for (const v of values) sums.push(sums.at(-1) + v);
  return values.map((_, i) => {
    const half = Math.min(Math.floor(i * share), values.length - 1 - i);
    return (sums[i + half + 1] - sums[i - half]) / (2 * half + 1);
  });
}

// 1, 2 and 5 of each decade between two numbers; of more than two decades only 1.
function round(low, high) {
  const found = [];
  const steps = high / low > 150 ? [1] : [1, 2, 5];
  for (let n = Math.floor(Math.log10(low)); n <= Math.log10(high); n++) {
    for (const s of steps) if (s * 10 ** n >= low && s * 10 ** n <= high) found.push(Number((s * 10 ** n).toPrecision(1)));
  }
  return found;
}

const DECILES = 10;
const shade = (i) => `color-mix(in srgb, var(--accent) ${100 - (100 * i) / (DECILES - 1)}%, var(--point))`; // clean to noise

// `keys`: [class, text key, fields] of the lines that stay; `reference`: a loss to compare with; `last`: the final step.
function story(section, { reference = null, last = null, onMove = () => {} } = {}) {
  const find = (selector) => section.querySelector(selector);
  const [box, slider, canvas, steps, keys] = [".plot", "input", "canvas", ".steps", ".keys"].map(find);
  const names = ["grid", "zero", "full", "raw", "line", "val", "ema", "dots val", "dots ema"];
  const paths = ddpm.svg(box, ...names, ...Array.from({ length: DECILES }, () => "decile"));
  const path = Object.fromEntries(names.map((name, i) => [name, paths[i]]));
  const deciles = paths.slice(names.length);
  deciles.forEach((line, i) => (line.style.stroke = shade(i)));
  const [ticks, stem, mark] = ["div", "i", "i"].map((tag) => document.createElement(tag));
  [ticks.className, stem.className, mark.className] = ["ticks", "stem", "mark"];
  ticks.ariaHidden = "true";
  box.append(ticks, stem, mark);

  let train = []; // [step, loss, [loss by decile of t]]
  let validation = []; // [step, raw weights, averaged weights]
  let grids = new Map(); // step -> Image, or null while it is on its way
  let view = "all";
  let at = 0; // the stop on screen
  let place = { x: () => 0, y: () => 0, smoothed: [] };

  // Where the slider can be: the steps with samples, or all rows where hardly any were kept.
  const stops = () => (grids.size > 1 ? [...grids.keys()].sort((a, b) => a - b) : train.map((row) => row[0]));
  const step = () => stops()[at] ?? 0;

  function draw() {
    const end = Math.max(last ?? 0, train.at(-1)?.[0] ?? 1, validation.at(-1)?.[0] ?? 1, 10);
    const start = last ? 1 : Math.max(1, Math.min(train[0]?.[0] ?? 1, validation[0]?.[0] ?? end));
    const byT = view === "by_t";
    const smoothed = smooth(train.map((row) => row[1]));
    const lines = byT ? Array.from({ length: DECILES }, (_, d) => {
      const known = train.filter((row) => row[2][d] > 0);
      return [known.map((row) => row[0]), smooth(known.map((row) => row[2][d]))];
    }) : [];
    const all = [...(byT ? lines.flatMap(([, values]) => values) : train.map((row) => row[1]).concat(validation.flatMap(([, raw, ema]) => [raw, ema ?? raw]))), ...(reference ? [reference] : []), 1];
    const low = all.reduce((a, b) => Math.min(a, b)) / 1.15;
    const high = all.reduce((a, b) => Math.max(a, b)) * 1.1;
    const x = (s) => Math.max(0, Math.min(1, Math.log(Math.max(s, start) / start) / Math.log(end / start || 2)));
    const y = (v) => Math.log(v / low) / Math.log(high / low);
    const curve = (ss, values) => (ss.length ? ddpm.pathOf(ss.map((s, i) => [x(s), y(values[i])])) : "");
    const level = (v) => ddpm.pathOf([[0, y(v)], [1, y(v)]]);
    const spots = (ss, values) => ss.map((s, i) => `${ddpm.pathOf([[x(s), y(values[i])]])}h0.01`).join("");
    const set = (name, d) => path[name].setAttribute("d", d);
    const levels = round(low, high);
    set("grid", levels.map(level).join(""));
    set("zero", level(1));
    set("full", reference && !byT ? level(reference) : "");
    const ss = train.map((row) => row[0]);
    set("raw", byT ? "" : curve(ss, train.map((row) => row[1])));
    set("line", byT ? "" : curve(ss, smoothed));
    for (const [name, i] of [["val", 1], ["ema", 2]]) {
      const rows = byT ? [] : validation.filter((row) => row[i]);
      set(name, curve(rows.map((row) => row[0]), rows.map((row) => row[i])));
      set(`dots ${name}`, spots(rows.map((row) => row[0]), rows.map((row) => row[i])));
    }
    deciles.forEach((line, d) => line.setAttribute("d", byT ? curve(...lines[d]) : ""));
    ticks.replaceChildren(...levels.map((v) => label(v, "top", 100 * (1 - y(v)), y(v) > 0.9 ? "below" : "")));
    steps.replaceChildren(...round(start, end).filter((s) => x(s) < 0.93).concat(end).map((s) => label(count(s), "left", 100 * x(s))));
    place = { x, y, smoothed };
    show();
  }

  function label(content, side, percent, name = "") {
    const span = document.createElement("span");
    span.textContent = content;
    span.className = name;
    span.style[side] = `${percent}%`;
    return span;
  }

  // The stop on screen: slider, mark, figures, samples.
  function show() {
    const all = stops();
    at = Math.max(0, Math.min(at, all.length - 1));
    slider.max = Math.max(0, all.length - 1);
    slider.disabled = all.length < 2;
    slider.value = at;
    const here = step();
    const row = train.findLastIndex(([s]) => s <= here);
    stem.style.left = mark.style.left = `${100 * place.x(here)}%`;
    mark.hidden = row < 0 || view === "by_t";
    if (!mark.hidden) mark.style.top = `${100 * (1 - place.y(place.smoothed[row]))}%`;
    find(".now").textContent = row < 0 ? "" : ddpm.say("training.now", { step: count(here), loss: loss(place.smoothed[row]) });
    slider.setAttribute("aria-valuetext", ddpm.say("training.at", { step: count(here) }));
    const drawn = [...grids.keys()].filter((s) => grids.get(s)).sort((a, b) => a - b);
    const nearest = drawn.findLast((s) => s <= here) ?? drawn[0];
    find("[data-object=samples]").hidden = nearest === undefined;
    if (nearest === undefined) return;
    const image = grids.get(nearest);
    if (canvas.width !== image.naturalWidth) canvas.width = image.naturalWidth;
    if (canvas.height !== image.naturalHeight) canvas.height = image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0);
    const key = nearest === 0 ? "training.start_noise" : "training.samples";
    ddpm.setText(find(".of-step"), key, { step: count(nearest) });
    canvas.setAttribute("aria-label", ddpm.say(`${key}.label`, { step: count(nearest) }));
  }

  function setView(next) {
    view = next;
    for (const button of section.querySelectorAll(".switch button")) button.setAttribute("aria-pressed", button.dataset.value === view);
    translate();
    draw();
  }

  function translate() {
    const shown = view === "by_t" ? [["by-t", "training.key.by_t"]] : [["raw", "training.key.raw"], ["line", "training.key.smooth"], ["val", "training.key.val"], ["ema", "training.key.ema"]];
    if (view === "all" && reference) shown.push(["full", "training.key.full"]);
    keys.replaceChildren(...shown.map(([name, key]) => {
      const entry = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = name;
      const words = document.createElement("span");
      ddpm.setText(words, key, { steps: count(props.live?.full_steps ?? 0), loss: reference });
      entry.append(swatch, words);
      return entry;
    }));
    box.setAttribute("aria-label", ddpm.say("training.chart", { view: ddpm.say(`training.view.${view}`) }));
    show();
  }

  function moveTo(index) {
    at = index;
    onMove(at === stops().length - 1);
    show();
  }
  slider.addEventListener("input", () => moveTo(Number(slider.value)));
  const press = (event) => {
    const edge = box.getBoundingClientRect();
    const share = (event.clientX - edge.left) / edge.width;
    const all = stops();
    if (all.length) moveTo(all.reduce((best, s, i) => (Math.abs(place.x(s) - share) < Math.abs(place.x(all[best]) - share) ? i : best), 0));
  };
  box.addEventListener("pointerdown", (event) => {
    box.setPointerCapture(event.pointerId);
    press(event);
  });
  box.addEventListener("pointermove", (event) => box.hasPointerCapture(event.pointerId) && press(event));
  for (const button of section.querySelectorAll(".switch button")) button.addEventListener("click", () => setView(button.dataset.value));

  setView(view);
  return {
    translate,
    toEnd: () => (at = stops().length - 1),
    set(next) {
      if (next.train) train = next.train;
      if (next.validation) validation = next.validation;
      if (next.grids) grids = new Map(next.grids.map((s) => [s, null]));
      draw();
    },
    add({ row, held }) {
      if (row) train.push(row);
      if (held) validation.push(held);
    },
    // Resolves once it is there; a picture that cannot be read is left out.
    async addGrid(s, png) {
      const image = new Image();
      image.src = `data:image/png;base64,${png}`;
      const fine = png && (await image.decode().then(() => true, () => false));
      if (fine) grids.set(s, image);
      else grids.delete(s);
    },
    draw,
    last: () => ({ row: train.at(-1), held: validation.at(-1) }),
  };
}

// ---- what both have: a command to copy

function setCommand(section, command) {
  const [code, button] = [section.querySelector(".again code"), section.querySelector(".copy")];
  section.querySelector(".again").hidden = !command;
  code.textContent = command ?? "";
  button.onclick = async () => {
    // The clipboard is only there on secure pages; elsewhere the command is selected, and copied the old way.
    const copied = await (navigator.clipboard?.writeText(command).then(() => true, () => false) ?? false);
    if (!copied) {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    ddpm.setText(button.firstElementChild, "training.copied");
    setTimeout(() => ddpm.setText(button.firstElementChild, "training.copy"), 2000);
  };
}

// ---- this model

const recordedSection = $(".recorded");
let atEnd = true; // of the record: the last samples are on screen
const recorded = story(recordedSection, { onMove: (on) => (atEnd = on) });
const facts = ddpm.line($(".recorded .facts"));

async function showRecorded() {
  facts.tell("training.reading");
  const found = await server.story(null).catch(() => null);
  if (!found) return facts.tell("training.failed_reading", undefined, true);
  const { options, train, validation, grids } = found;
  const any = train.length > 0 || validation.length > 0;
  for (const part of [".board", ".scrub"]) recordedSection.querySelector(part).hidden = !any && !grids.length;
  recordedSection.querySelector(".chart").hidden = !any;
  for (const part of recordedSection.querySelectorAll(".switch")) part.hidden = !train.some((row) => row[2].some((v) => v));
  setCommand(recordedSection, options?.command);
  if (options) facts.tell("training.options", () => ({ ...options, data: options.data ?? ddpm.say("training.own_data"), steps: count(options.steps), ema: count(options.ema) }));
  else facts.tell(any || grids.length ? "training.no_options" : "training.no_record");
  recorded.set({ train, validation, grids });
  recorded.toEnd();
  for (const step of [...grids].reverse()) {
    await recorded.addGrid(step, await server.grid(step).catch(() => null));
    if (atEnd) recorded.toEnd();
    recorded.draw();
  }
}

// ---- train one now

const POLL_MS = 300;
const LOST = 40; // answers that failed in a row
const liveSection = $(".live");
const { visitor } = ddpm;
const plan = props.live;
let follow = true; // the newest samples are on screen
let [run, since, mine, running, misses] = [0, 0, false, false, 0];

function setUpLive() {
  const live = story(liveSection, { reference: plan.full_loss, last: plan.steps, onMove: (atEnd) => (follow = atEnd) });
  const status = ddpm.line(liveSection.querySelector(".facts"));
  const [go, stop] = [".go", ".stop"].map((name) => liveSection.querySelector(name));

  let noise = null;
  async function reset() {
    follow = true;
    live.set({ train: [], validation: [], grids: [] });
    noise ??= await server.noise(null).catch(() => null);
    await live.addGrid(0, noise);
    live.draw();
  }

  function setRunning(on) {
    running = on;
    const focused = document.activeElement === go || document.activeElement === stop;
    go.hidden = on && mine;
    go.disabled = on && !mine;
    stop.hidden = !(on && mine);
    if (focused) (on && mine ? stop : go).focus();
    liveSection.classList.toggle("running", on);
  }

  const ends = () => {
    const { row, held } = live.last();
    return { step: count(row?.[0] ?? 0), loss: held ? loss(held[2] ?? held[1]) : row ? loss(row[1]) : "\u2026" };
  };

  function tellRunning(news) {
    const { row, speed } = { ...live.last(), speed: news.speed };
    const going = news.mine ? "training.running" : "training.watching.running";
    if (!row) return;
    const step = row[0];
    const ending = step + plan.rows >= plan.steps && step < plan.steps;
    status.note(ending ? "training.ending" : going, () => ({ step: count(step), steps: count(plan.steps), loss: loss(row[1]), speed: speed ? count(Math.round(speed)) : "\u2026" }));
  }

  let speed = null;
  async function take(news) {
    if (news.run !== run) {
      [run, since, speed] = [news.run, 0, null];
      await reset();
    }
    mine = news.mine;
    const fresh = news.messages.slice(Math.max(0, since - (news.since - news.messages.length)));
    since = news.since;
    for (const message of fresh) {
      if (message.kind === "loading") status.tell(message.what === "digits" ? "training.loading.data" : "training.loading", () => ({ what: message.what }));
      else if (message.kind === "train" && message.loss > 0) {
        live.add({ row: [message.step, message.loss, message.loss_by_decile] });
        speed = message.images_per_second;
      } else if (message.kind === "validation") live.add({ held: [message.step, message.val_loss, message.val_loss_ema] });
      else if (message.kind === "grid") await live.addGrid(message.step, message.png);
    }
    if (news.run !== run) return; // stopped while a picture was read
    if (follow) live.toEnd();
    if (fresh.length) live.draw();
    if (news.state === "running") {
      setRunning(true);
      return tellRunning({ ...news, speed });
    }
    const seconds = Math.round(news.seconds);
    setRunning(false);
    const key = { finished: "training.finished", time: "training.time", stopped: "training.stopped", late: "training.late", left: "training.left" }[news.state] ?? "training.failed";
    const told = !mine && news.state !== "finished" && news.state !== "time" ? "training.watching.ended" : key;
    status.tell(told, () => ({ ...ends(), seconds }), told === "training.failed");
  }

  let timer = 0;
  async function poll() {
    clearTimeout(timer);
    const asked = run;
    const news = await server.look({ visitor, run, since }).catch(() => null);
    if (!running || asked !== run) return; // stopped, or another question is under way
    misses = news ? 0 : misses + 1;
    if (misses > LOST) {
      setRunning(false);
      return status.tell("training.failed", undefined, true);
    }
    if (news?.run) await take(news);
    if (running) timer = setTimeout(poll, POLL_MS);
  }

  go.addEventListener("click", async () => {
    [mine, misses] = [true, 0];
    setRunning(true);
    status.tell("training.starting");
    const answer = await server.start(visitor).catch(() => null);
    if (!running) return answer?.started && server.stop(visitor); // stopped before it began
    if (!answer) {
      setRunning(false);
      return status.tell("training.failed", undefined, true);
    }
    mine = answer.started;
    [run, since] = [-1, 0];
    if (!mine) status.tell("training.busy");
    setRunning(true);
    poll();
  });

  function halt() {
    clearTimeout(timer);
    server.stop(visitor).catch(() => {});
    run = -2; // answers on their way are nobody's
    setRunning(false);
    if (live.last().row) status.tell("training.stopped", ends);
    else status.tell("training.idle", idle);
  }
  stop.addEventListener("click", halt);
  window.addEventListener("pagehide", () => running && mine && server.stop(visitor).catch(() => {}));

  const idle = () => ({ steps: count(plan.steps), seconds: plan.seconds });
  setCommand(liveSection, plan.command);
  status.tell("training.idle", idle);
  reset().then(async () => {
    const news = await server.look({ visitor }).catch(() => null);
    if (news?.state !== "running" || running) return;
    setRunning(true); // somebody else's, to watch
    [run, since] = [-1, 0];
    poll();
  });
  ddpm.onLanguage(live.translate);
}

// ---- the rest

ddpm.translate(element);
if (plan) setUpLive();
else {
  for (const part of [".board", ".scrub", ".again", ".go"]) liveSection.querySelector(part).hidden = true;
  ddpm.line(liveSection.querySelector(".facts")).tell("training.off");
}
ddpm.linkable("training", { view: recordedSection.querySelector(".switch") });
showRecorded();
ddpm.onLanguage(recorded.translate);
