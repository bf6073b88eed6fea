// Tab "Compare": rows that begin with the same noise, each with its own sampler and number of steps. Where several models
// have pictures of the same size, a row can also be of another model.
// Scope: element, props (`first`: the rows at first; `offered`: rows to add; `least`, `most`: how many there may be),
// server, trigger, watch (see gr.HTML). Event: 'compare' with the rows.
const $ = (selector) => element.querySelector(selector);
const form = $(".controls");
const { numberOf, takesEta } = ddpm.trajectory;
const labels = new WeakMap(); // row -> its fields of the label

const here = ddpm.page.model;
const modelNamed = (name) => ddpm.page.models.find((model) => model.name === name);
const NO_LABEL = { label: -1, guidance_scale: 1 };

const fieldOf = (row, name) => row.querySelector(`[name="${name}"]`);
const modelOf = (row) => fieldOf(row, "model")?.value ?? here;
// A row of another model has a label only if that model knows the same labels.
const takesLabel = (model) => model === here || modelNamed(model).named === modelNamed(here).named;
const read = (row) => ({
  ...(modelOf(row) !== here && { model: modelOf(row) }),
  sampler: fieldOf(row, "sampler").value,
  num_inference_steps: Number(fieldOf(row, "num_inference_steps").value),
  eta: takesEta(fieldOf(row, "sampler").value) ? numberOf(fieldOf(row, "eta")) : 0,
  ...(takesLabel(modelOf(row)) ? labels.get(row).read() : NO_LABEL),
});
const shared = () => ({ num_images: numberOf(form.elements.num_images), seed: numberOf(form.elements.seed) });

function name(i) {
  const { num_inference_steps: steps, ...request } = read(rows.heads()[i]);
  const [sampler, label] = [ddpm.trajectory.samplerName(request), ddpm.labelling.said(request)];
  const said = ddpm.say("rows.name", { sampler, steps, label });
  return fieldOf(rows.heads()[i], "model") ? `${modelOf(rows.heads()[i])}: ${said}` : said;
}

const rows = ddpm.rows(element, {
  fetch: server.trajectory,
  send: (message) => trigger("compare", message),
  expect: server.expect,
  name,
  changed() {
    rows.heads().forEach((_, i) => mark(i));
    question.clear();
  },
  busy(on) {
    $(".add").disabled = on || rows.heads().length >= props.most;
    for (const row of rows.heads()) row.querySelector(".remove").disabled = on || rows.heads().length <= props.least;
  },
  done() {
    const fields = { n: rows.heads().length, seed: rows.found(0).request.seed }; // rows may change later
    rows.drawing.tell("compare.done", () => fields);
  },
});

// A row whose settings are no longer those of its pictures is faded until it is sampled again.
function mark(i) {
  const found = rows.found(i);
  const row = rows.heads()[i];
  const request = { model: here, ...read(row), ...shared() };
  const drawn = found && { model: here, ...found.request };
  const stale = found && Object.keys(request).some((key) => request[key] !== drawn[key]);
  row.classList.toggle("stale", Boolean(stale));
}

// Tells how many rows were changed or added since they were sampled.
function tellChanged() {
  touched = true;
  if (rows.drawing.active()) return;
  const waiting = rows.heads().filter((row, i) => !rows.found(i) || row.classList.contains("stale")).length;
  if (waiting) rows.drawing.tell("compare.changed", () => ({ n: waiting }));
  else rows.drawing.tell("compare.done", () => ({ n: rows.heads().length, seed: rows.found(0).request.seed }));
}

function fill(row, { model = here, sampler, num_inference_steps: steps, eta = 0, ...label }) {
  if (fieldOf(row, "model")) fieldOf(row, "model").value = model;
  const select = fieldOf(row, "num_inference_steps");
  if (![...select.options].some((option) => option.text === String(steps))) select.add(new Option(steps));
  fieldOf(row, "sampler").value = sampler;
  select.value = steps;
  fieldOf(row, "eta").value = eta;
  labels.get(row).write(label);
  fitFields(row);
}

// Shows eta where it counts, and says "step" or "steps".
function fitFields(row) {
  row.querySelector(".eta").hidden = !takesEta(fieldOf(row, "sampler").value);
  const unit = row.querySelector(".row-steps [data-text]");
  if (fieldOf(row, "model")) fitModel(row);
  unit.dataset.n = fieldOf(row, "num_inference_steps").value;
  ddpm.setText(unit, unit.dataset.text, unit.dataset);
}

// What a row of another model can have: at most T steps, and a label if it knows the same ones.
function fitModel(row) {
  const { T = ddpm.T } = modelNamed(modelOf(row));
  const select = fieldOf(row, "num_inference_steps");
  if (![...select.options].some((option) => +option.value === T)) select.add(new Option(T));
  for (const option of select.options) option.hidden = option.disabled = +option.value > T;
  if (+select.value > T) select.value = T;
  const fields = row.querySelector(".row-label");
  if (fields) fields.hidden = !takesLabel(modelOf(row));
}

function add(settings) {
  const row = rows.add();
  labels.set(row, ddpm.labelling.fields(row));
  fill(row, settings);
  row.addEventListener("input", () => {
    fitFields(row);
    rows.draw();
    mark(rows.heads().indexOf(row));
    tellChanged();
  });
  row.querySelector(".remove").addEventListener("click", () => {
    const i = rows.heads().indexOf(row);
    rows.remove(i);
    update();
    tellChanged();
    rows.heads()[Math.min(i, rows.heads().length - 1)].querySelector(".remove").focus();
  });
  update();
}

function update() {
  rows.draw();
  $(".add").disabled = rows.heads().length >= props.most;
  for (const row of rows.heads()) row.querySelector(".remove").disabled = rows.heads().length <= props.least;
}

// Another row than those on screen, with the label of the last one, so that there is something to compare.
function unlike() {
  const there = rows.heads().map((row) => coded(read(row)));
  const last = rows.heads().at(-1);
  const offered = props.offered.map((row) => ({ ...row, ...labels.get(last).read() }));
  return offered.find((row) => !there.includes(coded(row))) ?? read(last);
}

$(".add").addEventListener("click", () => {
  add(unlike());
  tellChanged();
  fieldOf(rows.heads().at(-1), "sampler").focus();
});

const asked = () => ({ ...shared(), rows: rows.heads().map(read) });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!rows.drawing.active()) rows.start(asked());
});
form.addEventListener("input", () => {
  rows.heads().forEach((_, i) => mark(i));
  tellChanged();
});

watch("value", () => rows.drawing.hear(props.value));

// In a link a row is sampler:steps or, with a share of fresh noise, sampler:steps:eta; with a label, :label=NAME:s=SCALE
// follows, and then :model=NAME, if it is another one than the page's.
function coded({ model, sampler, num_inference_steps: steps, eta, ...asked }) {
  const { label, guidance_scale: s } = asked;
  const parts = [sampler, steps];
  if (eta) parts.push(eta);
  if (ddpm.labelling.isGiven(asked)) parts.push(`label=${encodeURIComponent(ddpm.page.labels[label])}`, `s=${s ?? 1}`);
  if (model && model !== here) parts.push(`model=${encodeURIComponent(model)}`);
  return parts.join(":");
}
const samplers = [...$("template").content.querySelector('[name="sampler"]').options].map((option) => option.value);
// The other models that a row can have.
const models = [...($("template").content.querySelector('[name="model"]')?.options ?? [])].map(({ value }) => value);

function decoded(code) {
  const parts = code.split(":");
  const named = (name) => parts.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
  const [sampler, steps, eta = "0", ...rest] = parts.filter((part) => !/^(label|s|model)=/.test(part));
  const model = unescaped(named("model") ?? here);
  if (model !== here && !models.includes(model)) return null;
  const stepsFit = /^\d+$/.test(steps) && +steps >= 1 && +steps <= (modelNamed(model)?.T ?? ddpm.T);
  const s = named("s") ?? "1";
  const scaleFits = /^\d+(\.\d+)?$/.test(s) && +s <= ddpm.page.max_scale;
  const fits = samplers.includes(sampler) && stepsFit && +eta >= 0 && +eta <= 1 && !rest.length && scaleFits;
  const label = ddpm.labelling.numberOf(unescaped(named("label") ?? ""));
  return fits ? { model, sampler, num_inference_steps: +steps, eta: +eta, label, guidance_scale: +s } : null;
}

// The name in a link, which somebody may have typed with a lone percent sign.
function unescaped(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

// Why rows in a link cannot be used.
function refusedRows() {
  let choices = samplers.map((sampler) => `${sampler}:1 \u2026 ${ddpm.T}`).join(", ");
  const [name] = ddpm.page.labels;
  if (name !== undefined) {
    const example = coded({ sampler: samplers[0], num_inference_steps: 50, label: 0, guidance_scale: 2 });
    choices = ddpm.say("compare.link.labelled", { choices, example });
  }
  if (models.length) choices = ddpm.say("compare.link.models", { choices, models: models.join(", ") });
  return ["compare.link", { low: props.least, high: props.most, choices }];
}

const rowsInLink = {
  read: () => rows.heads().map(read).map(coded).join(","),
  apply(value) {
    const wanted = value.split(",").map(decoded);
    if (!wanted.every(Boolean) || wanted.length < props.least || wanted.length > props.most) return refusedRows();
    if (wanted.some(({ label }) => label === null)) return ddpm.labelling.refused();
    while (rows.heads().length > wanted.length) rows.remove(rows.heads().length - 1);
    while (rows.heads().length < wanted.length) add(wanted[0]);
    wanted.forEach((row, i) => fill(rows.heads()[i], row));
    rows.heads().forEach((_, i) => mark(i));
    update();
  },
};

// ---- the question

const question = ddpm.quiz(element, (guess) => {
  const aways = rows.heads().map((_, i) => (i ? rows.away(i) : null));
  if (!aways.some((away) => away !== null)) return null;
  if ((aways[guess - 1] ?? null) === null) return { key: "compare.quiz.none", fields: { guess } };
  const best = aways.indexOf(Math.min(...aways.filter((away) => away !== null)));
  const fields = { guess, best: best + 1, away: aways[best].toFixed(3), here: aways[guess - 1].toFixed(3) };
  return { key: "compare.quiz.answer", fields: () => ({ ...fields, name: name(best) }) };
});

// ---- the beginning

let touched = false; // a visitor or a link has set rows or form, so the stored example must not set them
ddpm.translate(element);
ddpm.along(element);
for (const settings of props.first) add(settings);
const first = JSON.stringify(asked()); // the settings of the stored example
const { num_images: images, seed } = form.elements;
ddpm.linkable("compare", { rows: rowsInLink, images, seed }, (named) => {
  touched = JSON.stringify(asked()) !== first;
  if (touched && !rows.drawing.active()) rows.start(asked());
  if ("t" in named) rows.keepT();
});

function takeExample(i, { request }) {
  fill(rows.heads()[i], request);
  images.value = request.num_images;
  seed.value = request.seed;
}
rows
  .showExample(server.example, takeExample, () => !touched)
  .then((there) => {
    const n = rows.heads().length;
    if (there) rows.drawing.tell("compare.example", () => ({ n }));
  });
