// Tab "Forward": x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 4, at every move of t.
// Scope: element, props (`examples`: base64 or null; `first`: which of them is on the pad), server (see gr.HTML).
const $ = (selector) => element.querySelector(selector);
const canvases = { eps: $('[data-object="eps"] canvas'), xt: $('[data-object="xt"] canvas') };
const x0 = new Float32Array(ddpm.count).fill(-1);
const xt = new Float32Array(ddpm.count);
let eps = null;

// ---- painting

const drawHistogram = ddpm.histogram($('[data-chart="histogram"]'));
const bar = ddpm.tBar($(".t-bar"));

function redraw() {
  const t = ddpm.shared.get("t");
  const signal = Math.sqrt(ddpm.alphaBar[t]);
  const spread = Math.sqrt(1 - ddpm.alphaBar[t]);
  for (let i = 0; i < xt.length; i++) xt[i] = signal * x0[i] + spread * eps[i];
  ddpm.paint(canvases.xt, xt);
  drawHistogram(xt);
  $(".signal").textContent = signal.toFixed(3);
  $(".spread").textContent = spread.toFixed(3);
}

function describe() {
  const t = ddpm.shared.get("t");
  canvases.xt.setAttribute("aria-label", ddpm.say("forward.xt.label", { t, snr: ddpm.format.snr(t) }));
}

async function fetchExamples() {
  ddpm.setText($(".status"), "forward.waiting");
  for (;;) {
    const found = await server.example_pictures();
    if (found) {
      $(".status").textContent = "";
      return ddpm.setExamples(ddpm.bytesOf(found.data), props.first);
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
ddpm.picker(element);
ddpm.shared.on("noise", (seed) => {
  eps = ddpm.normal(seed, ddpm.count);
  ddpm.paintNoise(canvases.eps, eps);
  redraw();
});
ddpm.shared.on("picture", (bytes) => {
  for (let i = 0; i < x0.length; i++) x0[i] = bytes[i] / 127.5 - 1;
  redraw();
});
ddpm.shared.on("t", (t) => {
  bar.show(t);
  redraw();
});
if (props.examples) ddpm.setExamples(ddpm.bytesOf(props.examples), props.first);
else fetchExamples();
labelCharts();
describe();
bar.input.addEventListener("change", describe);
ddpm.onTheme(() => ddpm.paintNoise(canvases.eps, eps));
ddpm.onLanguage(() => {
  labelCharts();
  describe();
  bar.show(ddpm.shared.get("t"));
});
