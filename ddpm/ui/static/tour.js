// The tour: a panel at the foot of the page that opens one tab after the other, outlines what it explains and suggests
// one thing to try. It stores nothing: after a reload it starts again.
// Needs gradio.js, language.js, schedule.js, shared.js, frame.js, links.js. Gives tour.
(() => {
  const T0 = ddpm.page.t0_share; // where the tab "From my picture" begins

  // The texts of a stop are tour.<name>.title, .body and .try of ddpm/ui/text, where {t} is the step of `aim`.
  // `settings` are those of links. `t` and `aim` are shares of T, since models differ in T. A stop whose tab is not on
  // the page is left out, and so is one that is about labels if the model has none.
  const STOPS = [
    { name: "forward", tab: "forward", target: ".stage", t: 0.1, aim: T0 },
    { name: "loss", tab: "noise", target: ".views", t: 0.5, aim: 0.1, settings: { reading: "eps" } },
    { name: "target", tab: "noise", target: ".reading", t: 0.3, aim: 0.9, settings: { reading: "x0" } },
    { name: "bound", tab: "bound", target: ".sum", settings: { loss: "true" } },
    { name: "weights", tab: "bound", target: '[data-chart="terms"]', settings: { loss: "simple" } },
    { name: "reverse", tab: "reverse", target: ".planes", t: 0.9 },
    { name: "labels", tab: "labels", target: ".stage", labelled: true },
    { name: "compare", tab: "compare", target: ".stage" },
    { name: "mine", tab: "mine", target: ".stage", t: T0, settings: { kind: "several" } },
    { name: "wrong", tab: "wrong", target: ".stage" },
    { name: "training", tab: "training", target: ".stage" },
  ];
  const PATIENCE_MS = 5000; // to wait until the element of a stop is on screen
  const root = document.documentElement;

  let stops = [];
  let at = -1; // the stop that is shown; -1: no tour
  let outlined = null;
  let panel = null;

  function build() {
    panel = document.createElement("div");
    panel.className = "tour";
    panel.role = "dialog"; // not modal: visitors use the page beside it
    panel.setAttribute("aria-labelledby", "tour-title");
    panel.innerHTML = `
      <div class="tour-text" role="group" aria-labelledby="tour-title" aria-live="polite" tabindex="0">
        <p class="tour-place"></p><h2 id="tour-title" tabindex="-1"></h2>
        <p class="tour-body"></p><p class="tour-try"><b data-text="part.try"></b> <span></span></p>
      </div>
      <div class="tour-buttons">
        <button type="button" class="tour-end" data-text="tour.end"></button>
        <button type="button" class="tour-there" data-text="tour.there"></button>
        <button type="button" class="tour-back" data-text="tour.back"></button>
        <button type="button" class="tour-next primary"></button>
      </div>`;
    const on = (name, action) => panel.querySelector(name).addEventListener("click", action);
    on(".tour-end", end);
    on(".tour-back", () => go(at - 1));
    on(".tour-next", () => (at + 1 < stops.length ? go(at + 1) : end()));
    on(".tour-there", () =>
      tabOf(stops[at])
        ?.querySelector(".stage :is(input:not([type=file]), select, button):not(:disabled, [hidden])")
        ?.focus(),
    );
    ddpm.keepInView(panel);
    ddpm.container().append(panel);
    new ResizeObserver(() => root.style.setProperty("--tour", `${panel.offsetHeight}px`)).observe(panel);
  }

  const tabOf = ({ tab }) => document.querySelector(`#${tab} .tab`);
  const stepOf = (share) => Math.max(1, Math.round(share * ddpm.T));

  function write() {
    const { name, aim = 0.5 } = stops[at];
    const fields = { t: stepOf(aim), alpha_bar: ddpm.format.alphaBar(stepOf(aim)), T: ddpm.T };
    const put = (selector, key) => ddpm.setText(panel.querySelector(selector), key, fields);
    ddpm.translate(panel);
    ddpm.setText(panel.querySelector(".tour-place"), "tour.place", { i: at + 1, n: stops.length });
    put("#tour-title", `tour.${name}.title`);
    put(".tour-body", `tour.${name}.body`);
    put(".tour-try span", `tour.${name}.try`);
    ddpm.setText(panel.querySelector(".tour-next"), at + 1 < stops.length ? "tour.next" : "tour.finish");
    panel.querySelector(".tour-back").disabled = at === 0;
    panel.querySelector(".tour-text").scrollTop = 0;
  }

  function outline(element) {
    outlined?.classList.remove("toured");
    outlined = element;
    outlined?.classList.add("toured");
  }

  // The element that a stop explains, or its whole tab if that does not appear.
  async function find({ tab, target }) {
    const shown = () => [...document.querySelectorAll(`#${tab} ${target}`)].find((element) => element.offsetParent);
    for (const start = performance.now(); !shown() && performance.now() - start < PATIENCE_MS; ) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return shown() ?? document.getElementById(tab);
  }

  // Scrolls it to the area that panel and sticky slider leave free.
  function scrollTo(element) {
    const slider = tabOf(stops[at])?.querySelector(".player, .t-bar");
    const sticks = slider && getComputedStyle(slider).position === "sticky" && !element.contains(slider);
    ddpm.bringIntoView(element, panel.offsetHeight + (sticks ? slider.offsetHeight : 0));
  }

  async function go(next) {
    at = next;
    const { tab, t, settings } = stops[at];
    write();
    outline(null);
    if (panel.contains(document.activeElement) && document.activeElement.disabled)
      panel.querySelector(".tour-next").focus();
    await ddpm.openTab(tab, { ...settings, ...(t && { t: String(stepOf(t)) }) });
    const element = await find(stops[next]);
    if (at !== next) return; // the visitor has gone to another stop meanwhile
    outline(element);
    if (element) requestAnimationFrame(() => requestAnimationFrame(() => at === next && scrollTo(element)));
  }

  async function start(first = 0) {
    await ddpm.untilTabs();
    stops = STOPS.filter(({ tab, labelled }) => ddpm.tabs().includes(tab) && (!labelled || ddpm.page.labels.length));
    if (!panel) build();
    panel.hidden = false;
    root.classList.add("touring");
    go(Math.min(first, stops.length - 1));
    panel.querySelector("#tour-title").focus({ preventScroll: true });
  }

  function end() {
    const inside = panel.contains(document.activeElement);
    at = -1;
    outline(null);
    panel.hidden = true;
    root.classList.remove("touring");
    if (inside) document.querySelector(".page-header .tour-start").focus();
  }

  // ?tour=1 starts the tour, ?tour=4 starts it at the fourth stop.
  function startFromAddress() {
    const value = new URLSearchParams(location.search).get("tour");
    if (value === null) return;
    if (/^[1-9]\d?$/.test(value)) start(+value - 1);
    else ddpm.refuseSetting("tour", value, ["refused.whole", { low: 1, high: STOPS.length }]);
  }

  document.addEventListener(
    "keydown",
    (event) => event.key === "Escape" && at >= 0 && !event.defaultPrevented && end(),
  );
  ddpm.onLanguage(() => at >= 0 && write());
  ddpm.tour = { start, startFromAddress };
})();
