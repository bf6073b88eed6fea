// Tab "Forward": x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 4, at every move of t.
// Scope: element, props (`examples`: base64 or null), server (see gr.HTML).
const $ = (selector) => element.querySelector(selector);
const { resolution: size, channels } = ddpm.page;
const count = size * size * channels;
const pad = $(".pad");
const canvases = { eps: $('[data-object="eps"] canvas'), xt: $('[data-object="xt"] canvas') };
const x0 = new Float32Array(count).fill(-1);
const xt = new Float32Array(count);
let eps = ddpm.normal(7, count);
let noiseSeed = 7;

// ---- painting

const drawHistogram = ddpm.histogram($('[data-chart="histogram"]'));
const bar = ddpm.tBar($(".t-bar"));

function redraw() {
  const t = ddpm.shared.get("t");
  const signal = Math.sqrt(ddpm.alphaBar[t]);
  const spread = Math.sqrt(1 - ddpm.alphaBar[t]);
  for (let i = 0; i < count; i++) xt[i] = signal * x0[i] + spread * eps[i];
  ddpm.paint(canvases.xt, xt);
  drawHistogram(xt);
  $(".signal").textContent = signal.toFixed(3);
  $(".spread").textContent = spread.toFixed(3);
}

function redrawAll() {
  ddpm.paint(pad, x0);
  ddpm.paintNoise(canvases.eps, eps);
  redraw();
}

function describe() {
  const t = ddpm.shared.get("t");
  canvases.xt.setAttribute("aria-label", ddpm.say("forward.xt.label", { t, snr: ddpm.format.snr(t) }));
}

// ---- x_0: drawn, chosen or uploaded

// Strokes go to a finer canvas and are averaged down, so a line has soft edges like a scanned digit's.
const FINE = 10;
const sheet = Object.assign(document.createElement("canvas"), { width: size * FINE, height: size * FINE });
const pen = sheet.getContext("2d", { willReadFrequently: true });
let stored = true; // the pad shows a stored example: the first stroke starts on an empty sheet
let last = null;

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, sheet.width, sheet.height);
}

function readSheet() {
  const pixels = pen.getImageData(0, 0, sheet.width, sheet.height).data;
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      for (let c = 0; c < channels; c++, i++) {
        let sum = 0;
        for (let v = 0; v < FINE; v++) {
          let at = 4 * ((y * FINE + v) * sheet.width + x * FINE) + c;
          for (let u = 0; u < FINE; u++, at += 4) sum += pixels[at];
        }
        x0[i] = sum / (FINE * FINE) / 127.5 - 1;
      }
    }
  }
  redrawAll();
}

// Exact pixels, and the same on the sheet so that strokes can go over them.
function showBytes(bytes) {
  for (let i = 0; i < count; i++) x0[i] = bytes[i] / 127.5 - 1;
  redrawAll();
  pen.imageSmoothingEnabled = false;
  pen.drawImage(pad, 0, 0, sheet.width, sheet.height);
}

function place(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * sheet.width, ((event.clientY - box.top) / box.height) * sheet.height];
}

function stroke(from, to) {
  pen.strokeStyle = "#fff";
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = sheet.width * (size <= 12 ? 0.13 : 0.085); // as thick as the strokes of the data
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

pad.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  pad.setPointerCapture(event.pointerId);
  if (stored && channels === 1) clear();
  stored = false;
  choose(null);
  last = place(event);
  stroke(last, last);
  readSheet();
});
pad.addEventListener("pointermove", (event) => {
  if (!last) return;
  for (const step of event.getCoalescedEvents?.() ?? [event]) {
    const next = place(step);
    stroke(last, next);
    last = next;
  }
  readSheet();
});
for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (last = null));

$(".clear").addEventListener("click", () => {
  clear();
  stored = false;
  choose(null);
  readSheet();
});

$(".renoise").addEventListener("click", () => {
  eps = ddpm.normal(++noiseSeed, count);
  redrawAll();
});

// The middle square of a picture, in the model's resolution, decoded by the browser: nothing is sent anywhere.
async function showFile(file) {
  const status = $(".status");
  try {
    const image = await createImageBitmap(file);
    const side = Math.min(image.width, image.height);
    const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
    const context = small.getContext("2d");
    context.fillRect(0, 0, size, size); // transparent pictures lie on black, as digits do
    context.imageSmoothingQuality = "high";
    context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
    const rgba = context.getImageData(0, 0, size, size).data;
    const bytes = new Uint8ClampedArray(count);
    for (let i = 0; i < size * size; i++) {
      const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3);
      if (channels === 3) bytes.set([r, g, b], 3 * i);
      else bytes[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    }
    stored = false;
    choose(null);
    showBytes(bytes);
    status.textContent = "";
  } catch {
    ddpm.setText(status, "forward.upload.failed", { name: file.name });
  }
}
const fileInput = $('input[type="file"]');
fileInput.addEventListener("change", () => {
  if (fileInput.files[0]) showFile(fileInput.files[0]);
  fileInput.value = "";
});
pad.addEventListener("dragover", (event) => event.preventDefault());
pad.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) showFile(event.dataTransfer.files[0]);
});

// ---- examples

function choose(chosen) {
  for (const button of $(".examples").children) button.setAttribute("aria-pressed", button === chosen);
}

function addExamples(bytes, first) {
  for (let k = 0; k * count < bytes.length; k++) {
    const picture = bytes.subarray(k * count, (k + 1) * count);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "example";
    button.dataset.index = k;
    const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size, className: "pixels" });
    ddpm.paintBytes(canvas, picture);
    button.append(canvas);
    button.addEventListener("click", () => {
      stored = true;
      choose(button);
      showBytes(picture);
    });
    $(".examples").append(button);
  }
  nameExamples();
  if (stored) $(".examples").children[first].click(); // unless a visitor has drawn something meanwhile
}

function nameExamples() {
  for (const button of $(".examples").children) {
    button.setAttribute("aria-label", ddpm.say("forward.example", { i: button.dataset.index }));
  }
}

// Until a colour model has drawn its own examples: a shaded ball.
function showBall() {
  const shade = pen.createRadialGradient(sheet.width * 0.4, sheet.width * 0.35, 0, sheet.width / 2, sheet.width / 2, sheet.width * 0.42);
  shade.addColorStop(0, "#ffe9a8");
  shade.addColorStop(0.55, "#e2763a");
  shade.addColorStop(0.98, "#7a2b3d");
  shade.addColorStop(1, "#16202e");
  pen.fillStyle = shade;
  pen.fillRect(0, 0, sheet.width, sheet.height);
  readSheet();
}

async function fetchExamples() {
  ddpm.setText($(".status"), "forward.waiting");
  for (;;) {
    const found = await server.example_pictures();
    if (found) {
      $(".status").textContent = "";
      return addExamples(ddpm.bytesOf(found.data), 0);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// ---- the rest

ddpm.curve($('[data-chart="alpha_bar"]'), (t) => ddpm.alphaBar[t], ddpm.format.alphaBar, { low: 0, high: 1 });
ddpm.curve($('[data-chart="beta"]'), (t) => ddpm.beta[t - 1], ddpm.format.beta, { low: 0 });
ddpm.curve($('[data-chart="snr"]'), (t) => ddpm.snrDb[t], (t) => `${ddpm.format.snr(t)} dB`);

function labelCharts() {
  for (const figure of element.querySelectorAll("[data-chart]")) {
    const name = figure.dataset.chart;
    const label = name === "histogram" ? ddpm.say("chart.histogram.label") : ddpm.say("chart.label", { name: ddpm.say(`chart.${name}`) });
    figure.querySelector(".plot").setAttribute("aria-label", label);
  }
}

ddpm.translate(element);
clear();
ddpm.shared.on("t", (t) => {
  bar.show(t);
  redraw();
});
redrawAll();
if (props.examples) addExamples(ddpm.bytesOf(props.examples), 3);
else {
  showBall();
  fetchExamples();
}
labelCharts();
describe();
bar.input.addEventListener("change", describe);
ddpm.onTheme(redrawAll);
ddpm.onLanguage(() => {
  nameExamples();
  labelCharts();
  describe();
  bar.show(ddpm.shared.get("t"));
});
