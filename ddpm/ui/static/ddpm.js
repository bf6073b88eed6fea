// What all tabs share: language, equations, pictures, the slider of t, curves. Loaded once in the page's head;
// `window.ddpmPage` (see page.py) is set before it. Images are flat arrays, row by row, channels last.
(() => {
  const page = window.ddpmPage;
  const root = document.documentElement;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  // ---------------------------------------------------------------- language

  const query = new URLSearchParams(location.search);
  const known = (tag) => page.languages.find((language) => (tag || "").toLowerCase().startsWith(language));
  let language = known(query.get("lang")) || known(navigator.language) || page.languages[0];
  const languageListeners = new Set();

  function say(key, fields = {}) {
    let string = page.text[language][key] ?? key;
    for (const [name, value] of Object.entries(fields)) string = string.replaceAll(`{${name}}`, () => value); // "$&" in a value is text
    return string;
  }

  const DOLLAR = "\ue000"; // one that begins no TeX

  // Text in which $...$ is TeX, as a list of nodes. A symbol and the punctuation after it stay on one line.
  function nodes(string) {
    return string.split(/(\$[^$]*\$[.,;:?!)\u3002\uff0c\uff1b\uff1a\uff1f\uff09]*)/).map((part) => {
      const [, tex, after] = part.match(/^\$(.*)\$(.*)$/) ?? [];
      if (tex === undefined) return document.createTextNode(part.replaceAll(DOLLAR, "$"));
      const symbol = document.createElement("span");
      symbol.className = "tex";
      renderTex(symbol, tex);
      const together = document.createElement("span");
      together.className = "together";
      together.append(symbol, after);
      return together;
    });
  }

  // Fields are text: the name of a file or of a stranger's data makes no TeX.
  function setText(element, key, fields = {}) {
    const plain = Object.entries(fields).map(([name, value]) => [name, String(value).replaceAll("$", DOLLAR)]);
    element.replaceChildren(...nodes(say(key, Object.fromEntries(plain))));
  }

  // Fill every element below `element` that names a key; called when a tab comes to life and at each switch.
  function translate(element) {
    for (const el of element.querySelectorAll("[data-text]")) setText(el, el.dataset.text, el.dataset);
    for (const el of element.querySelectorAll("[data-label]")) {
      el.setAttribute("aria-label", say(el.dataset.label));
      if (el.matches("button")) el.title = say(el.dataset.label);
    }
    for (const el of element.querySelectorAll("[data-paragraphs]")) {
      el.replaceChildren(...say(el.dataset.paragraphs).split("||").map((string) => {
        const p = document.createElement("p");
        p.append(...nodes(string));
        return p;
      }));
    }
    for (const el of element.querySelectorAll("[data-tex]")) renderTex(el, page.equations[el.dataset.tex]);
  }

  function setLanguage(next) {
    language = next;
    const url = new URL(location.href);
    url.searchParams.set("lang", next);
    history.replaceState(null, "", url); // a reload and a copied link keep the language
    applyLanguage();
  }

  function applyLanguage() {
    root.lang = language === "zh" ? "zh-CN" : language;
    document.title = say("page.title");
    translate(document.body ?? root);
    languageListeners.forEach((listener) => listener(language));
  }

  // ---------------------------------------------------------------- equations

  let katex = null;
  const unrendered = new Map(); // elements that asked before KaTeX was there
  const katexReady = !page.katex ? Promise.resolve() : import(new URL(page.katex.js, document.baseURI)).then((module) => {
    katex = module.default;
    for (const [element, tex] of unrendered) renderTex(element, tex);
    unrendered.clear();
  }).catch(() => unrendered.forEach((tex, element) => (element.textContent = tex)));
  if (page.katex) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(page.katex.css, document.baseURI);
    document.head.append(link);
  }

  function renderTex(element, tex) {
    if (!katex) return unrendered.set(element, tex);
    // \htmlData ties a symbol to its picture; the equations are our own strings, so it can be allowed.
    katex.render(tex, element, { trust: (context) => context.command === "\\htmlData", strict: false, throwOnError: false });
  }

  // Hovering or focusing a symbol or a name in the code outlines the picture that it stands for. The other way, a
  // picture outlines its symbols, but not itself: that would be in the way of drawing.
  function point(event, on) {
    const source = event.target.closest?.("[data-of], [data-object]");
    const tab = source?.closest(".tab");
    if (!tab) return;
    const name = source.dataset.of ?? source.dataset.object;
    const pictures = source.dataset.of ? `, [data-object="${name}"]` : "";
    for (const el of tab.querySelectorAll(`[data-of="${name}"]${pictures}`)) el.classList.toggle("pointed", on);
  }
  for (const [kind, on] of [["mouseover", true], ["mouseout", false], ["focusin", true], ["focusout", false]]) {
    document.addEventListener(kind, (event) => point(event, on));
  }

  // ---------------------------------------------------------------- the connection

  // Gradio's client says in English, in a corner, that the queue is full or the connection lost, and says nothing to the
  // tab that waits for an answer. So its requests are watched.
  const lossListeners = [];
  let lost = false; // for good: Gradio sends nothing any more, and loads the page anew once the server is back

  // listener(key, run): what was sent with `sender`, the number returned here, and `run` will not be answered; the key
  // of the text that says why. Without a run: nothing will.
  const onLoss = (listener) => lossListeners.push(listener) - 1;

  function loseAll(error) {
    if (error.name === "AbortError" || lost) return; // left on purpose
    lost = true;
    lossListeners.forEach((listener) => listener("answer.lost"));
  }

  // The stream of answers. It may end once it has said so.
  function watched(response) {
    const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
    let said = "";
    return new Response(new ReadableStream({
      async pull(stream) {
        try {
          const { done, value } = await reader.read();
          if (done && !said.includes("close_stream")) throw new TypeError("the stream of answers broke off");
          if (done) return stream.close();
          said = (said + decoder.decode(value, { stream: true })).slice(-100);
          stream.enqueue(value);
        } catch (error) {
          loseAll(error);
          stream.error(error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    }), response);
  }

  // A question that got no place in the queue.
  function refused(status, options) {
    let asked = null;
    try {
      asked = JSON.parse(options.body).event_data;
    } catch {
      return; // not one of ours
    }
    lossListeners[asked?.sender]?.(status === 503 ? "answer.busy" : "answer.failed", asked.run);
  }

  const fetchAsItIs = window.fetch;
  window.fetch = async (resource, options) => {
    const address = String(resource.url ?? resource);
    const [joins, listens] = ["/queue/join", "/queue/data"].map((path) => address.includes(path));
    try {
      const response = await fetchAsItIs(resource, options);
      if (listens && response.ok) return watched(response);
      if (joins && !response.ok) refused(response.status, options);
      return response;
    } catch (error) {
      if (joins || listens) loseAll(error);
      throw error;
    }
  };

  // ---------------------------------------------------------------- the schedule

  // Tables of a schedule. beta[0] is the paper's beta_1; the others' index is the paper's t, [0] is clean data.
  function scheduleOf(betas) {
    const beta = Float64Array.from(betas);
    let product = 1;
    const alphaBar = Float64Array.from([1, ...beta.map((b) => (product *= 1 - b))]);
    return { beta, alphaBar, snrDb: alphaBar.map((a) => 10 * Math.log10(a / (1 - a))) };
  }
  const own = scheduleOf(page.beta);
  const { beta, alphaBar, snrDb } = own;
  const T = beta.length;

  const minus = (string) => string.replace("-", "\u2212");
  const format = {
    alphaBar: (t, { alphaBar } = own) => alphaBar[t].toFixed(alphaBar[t] < 0.001 ? 5 : 4),
    snr: (t, { snrDb } = own) => minus(snrDb[t].toFixed(1)).replace("Infinity", "\u221e"),
    beta: (t, { beta } = own) => beta[t - 1].toFixed(5),
    fixed: (value, digits) => minus(value.toFixed(digits)),
  };

  // ---------------------------------------------------------------- what the tabs share

  // The values that one tab sets and another shows: t (1 to T); the picture, its bytes as they are being drawn;
  // `settled`, the same once the pen is up; the seed of its noise; the examples' bytes. A new picture is a new array.
  const count = page.resolution ** 2 * page.channels;
  const firstT = Math.max(1, Math.round(0.3 * T));
  const values = { t: firstT, picture: new Uint8ClampedArray(count), settled: null, noise: page.noise, examples: null };
  const listeners = [];
  const shared = {
    get: (name) => values[name],
    set(name, value) {
      if (values[name] === value) return;
      values[name] = value;
      for (const [watched, listener] of listeners) if (watched === name) listener(value);
    },
    on(name, listener) {
      listeners.push([name, listener]);
      listener(values[name]);
    },
  };

  // ---------------------------------------------------------------- which tab is in front

  // {shown: whether the tab of an element is in front}; `changed(shown)` is told when that changes. Others need draw
  // nothing, nor move what the visitor is looking at.
  const fronts = new WeakMap(); // tab -> {shown, listeners}
  function front(element, changed = () => {}) {
    const tab = element.closest(".tab") ?? element.querySelector(".tab");
    if (!fronts.has(tab)) {
      const made = { shown: tab.offsetParent !== null, listeners: [] };
      fronts.set(tab, made);
      // A hidden one has no size; told before what is shown again is painted.
      new ResizeObserver(() => {
        const shown = tab.offsetParent !== null;
        if (shown === made.shown) return;
        made.shown = shown;
        for (const listener of made.listeners) listener(shown);
      }).observe(tab);
    }
    const known = fronts.get(tab);
    known.listeners.push(changed);
    return known;
  }

  // ---------------------------------------------------------------- pictures

  const dark = () => document.body.classList.contains("dark");
  const themeListeners = new Set();
  function watchTheme() {
    let before = dark();
    new MutationObserver(() => {
      if (dark() === before) return;
      before = dark();
      themeListeners.forEach((listener) => listener());
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }
  if (document.body) watchTheme();
  else document.addEventListener("DOMContentLoaded", watchTheme);

  // Blue below zero, orange above, both told apart by every common colour blindness; neutral like the paper it is on.
  const stops = {
    light: [[9, 70, 140], [92, 155, 213], [246, 246, 247], [244, 160, 79], [166, 74, 0]],
    dark: [[140, 200, 255], [46, 116, 190], [22, 24, 31], [203, 112, 22], [255, 196, 120]],
  };
  const tables = {};
  for (const [theme, colours] of Object.entries(stops)) {
    tables[theme] = Uint8ClampedArray.from({ length: 256 * 3 }, (_, i) => {
      const place = (Math.floor(i / 3) / 255) * (colours.length - 1);
      const k = Math.min(Math.floor(place), colours.length - 2);
      return colours[k][i % 3] + (place - k) * (colours[k + 1][i % 3] - colours[k][i % 3]);
    });
  }

  const imageOf = new WeakMap(); // canvas -> its ImageData, made once
  function target(canvas) {
    let kept = imageOf.get(canvas);
    if (!kept || kept.image.width !== canvas.width) {
      const context = canvas.getContext("2d");
      kept = { context, image: context.createImageData(canvas.width, canvas.height) };
      kept.image.data.fill(255);
      imageOf.set(canvas, kept);
    }
    return kept;
  }

  // Bytes 0 to 255 as gray or RGB.
  function paintBytes(canvas, bytes) {
    const { context, image } = target(canvas);
    const channels = page.channels;
    for (let i = 0, p = 0; i < bytes.length; i += channels, p += 4) {
      image.data[p] = bytes[i];
      image.data[p + 1] = bytes[channels === 3 ? i + 1 : i];
      image.data[p + 2] = bytes[channels === 3 ? i + 2 : i];
    }
    context.putImageData(image, 0, 0);
  }

  // Bytes 0 to 255 for -3 to 3 on the diverging map. Of colour noise the mean over channels, scaled to unit variance.
  function paintNoiseBytes(canvas, bytes) {
    const { context, image } = target(canvas);
    const table = tables[dark() ? "dark" : "light"];
    const channels = page.channels;
    for (let i = 0, p = 0; i < bytes.length; i += channels, p += 4) {
      let v = bytes[i];
      if (channels === 3) v = (bytes[i] + bytes[i + 1] + bytes[i + 2] - 382.5) / Math.sqrt(3) + 127.5;
      const at = 3 * Math.max(0, Math.min(255, Math.round(v)));
      image.data[p] = table[at];
      image.data[p + 1] = table[at + 1];
      image.data[p + 2] = table[at + 2];
    }
    context.putImageData(image, 0, 0);
  }

  // The same from floats: pixels in [-1, 1], noise in units of its standard deviation. Uint8ClampedArray rounds and clips.
  const scratch = new Uint8ClampedArray(count);
  function scaled(x, shift, factor) {
    for (let i = 0; i < count; i++) scratch[i] = (x[i] + shift) * factor;
    return scratch;
  }
  const paint = (canvas, x) => paintBytes(canvas, scaled(x, 1, 127.5));
  const paintNoise = (canvas, x) => paintNoiseBytes(canvas, scaled(x, 3, 42.5));

  // A vector of the server's noise map or picture, as floats: IEEE half precision, two bytes each, low byte first.
  const half = Float32Array.from({ length: 65536 }, (_, h) => {
    const [sign, exponent, fraction] = [h >> 15 ? -1 : 1, (h >> 10) & 31, h & 1023];
    return exponent ? sign * (1 + fraction / 1024) * 2 ** (exponent - 15) : sign * fraction * 2 ** -24;
  });
  const halvesOf = (base64) => Float32Array.from(new Uint16Array(bytesOf(base64).buffer), (h) => half[h]);

  function base64Of(bytes) {
    let string = "";
    for (let i = 0; i < bytes.length; i += 8192) string += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(string);
  }

  function bytesOf(base64) {
    const string = atob(base64);
    const bytes = new Uint8Array(string.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = string.charCodeAt(i);
    return bytes;
  }

  // n numbers from N(0, 1), the same for the same seed (mulberry32, Box and Muller).
  function normal(seed, n) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
    const out = new Float32Array(n);
    for (let i = 0; i < n; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < n) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  // What follows the pictures under the hand, in the frame after: the function to call at every move.
  function soon(work) {
    let coming = false;
    return () => {
      if (coming) return;
      coming = true;
      requestAnimationFrame(() => setTimeout(() => {
        coming = false;
        work();
      }));
    };
  }

  // ---------------------------------------------------------------- the slider of t

  // Text that changes at every move, into the same node: a new one costs the browser a layout object.
  function write(element, text) {
    if (element.firstChild) element.firstChild.data = text;
    else element.append(text);
  }

  // Brings a .t-bar to life. `marks`, set later, restricts it to some t, e.g. the frames of a trajectory.
  function tBar(element, onInput = (t) => shared.set("t", t)) {
    const [input, strip, ...read] = ["input", ".t-strip", ".t-now", ".ab-now", ".snr-now"].map((name) => element.querySelector(name));
    const low = +input.min;
    const steps = 48;
    const shade = Array.from({ length: steps + 1 }, (_, i) => {
      const share = alphaBar[Math.round(low + ((T - low) * i) / steps)];
      return `color-mix(in srgb, var(--accent) ${(100 * share).toFixed(1)}%, var(--line))`;
    });
    strip.style.background = `linear-gradient(to right, ${shade.join(", ")})`;
    let marks = null;

    function show(t) {
      input.value = t;
      const fields = { t, alpha_bar: format.alphaBar(t), snr: format.snr(t) };
      [t, fields.alpha_bar, `${fields.snr} dB`].forEach((text, i) => write(read[i], text));
      input.setAttribute("aria-valuetext", say(t === 0 ? "t.finished" : "t.value", fields));
    }
    const nearest = (t) => (marks ? marks.reduce((a, b) => (Math.abs(b - t) < Math.abs(a - t) ? b : a)) : t);
    input.addEventListener("input", () => onInput(nearest(+input.value)));
    // Arrow keys go from mark to mark; the browser's own step of 1 would stay on the same frame.
    input.addEventListener("keydown", (event) => {
      const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!marks || !direction) return;
      event.preventDefault();
      const ascending = [...marks].sort((a, b) => a - b);
      const next = ascending[ascending.indexOf(nearest(+input.value)) + direction];
      if (next !== undefined) onInput(next);
    });
    return { input, show, nearest, setMarks: (next) => (marks = next) };
  }

  // ---------------------------------------------------------------- curves

  const SVG = "http://www.w3.org/2000/svg";
  function svg(plot, ...classes) {
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", "0 0 1000 1000"); // stretched to the plot; strokes keep their width (page.css)
    picture.setAttribute("preserveAspectRatio", "none");
    const paths = classes.map((name) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      picture.append(path);
      return path;
    });
    plot.append(picture);
    return paths;
  }
  const pathOf = (points) => "M" + points.map(([x, y]) => `${(1000 * x).toFixed(1)} ${(1000 * (1 - y)).toFixed(1)}`).join("L");

  const exponents = { "-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074", 5: "\u2075", 6: "\u2076", 7: "\u2077", 8: "\u2078", 9: "\u2079" };
  const power = (n) => (n === 0 ? "1" : n === 1 ? "10" : `10${[...String(n)].map((c) => exponents[c]).join("")}`);

  // A number of any size with three significant figures: 0.0123, 4.56, 1.2·10⁻⁵.
  function figure3(value) {
    if (value === 0) return "0";
    const n = Math.floor(Math.log10(Math.abs(value)));
    return n < -3 || n > 4 ? `${minus((value / 10 ** n).toFixed(1))}\u00b7${power(n)}` : minus(value.toPrecision(n >= 2 ? n + 1 : 3));
  }

  // A chart against t with a mark that follows t; pressing it moves t. Returns `draw(options)`, which gives or changes
  // what is drawn, and returns the height of a value, 0 to 1: `valueAt(t)`, for t of `ts` (ascending; default: spread over 1..T); `show(t)`, the text of the
  // figure at the mark; limits `low`, `high`; `log`: a scale of decades, with lines and labels; `second`: another
  // valueAt, drawn thin and dashed; `showSecond(t)`: its figure, then it has a mark, too.
  function plot(figure) {
    const box = figure.querySelector(".plot");
    const even = Array.from({ length: Math.min(T, 250) }, (_, i) => 1 + Math.round((i * (T - 1)) / (Math.min(T, 250) - 1)));
    const x = (t) => (t - 1) / (T - 1);
    const [grid, zero, area, other, line] = svg(box, "grid", "zero", "area", "other", "line");
    const mark = document.createElement("i");
    mark.className = "mark";
    const stem = document.createElement("i");
    stem.className = "stem";
    const ticks = document.createElement("div");
    ticks.className = "ticks";
    ticks.ariaHidden = "true";
    const otherMark = document.createElement("i");
    otherMark.className = "mark second";
    const otherNow = document.createElement("span");
    box.append(ticks, stem, otherMark, mark);
    const ends = figure.querySelectorAll(".axis span");
    ends[0].textContent = "1";
    ends[1].textContent = "t";
    ends[2].textContent = T;
    const now = figure.querySelector(".now");
    now.append("", otherNow); // `write` writes into the first
    const move = (event) => {
      const edge = box.getBoundingClientRect();
      const share = Math.max(0, Math.min(1, (event.clientX - edge.left) / edge.width));
      shared.set("t", 1 + Math.round(share * (T - 1)));
    };
    box.addEventListener("pointerdown", (event) => {
      box.setPointerCapture(event.pointerId);
      move(event);
    });
    box.addEventListener("pointermove", (event) => box.hasPointerCapture(event.pointerId) && move(event));

    let place = null; // t -> height of the mark, 0 to 1
    let text = null;
    let beside = null; // the same of the second curve: {place, text}
    const here = front(figure, () => follow(shared.get("t")));
    function follow(t) {
      if (!place || !here.shown) return;
      write(now, text(t));
      otherMark.hidden = otherNow.hidden = !beside;
      const across = `${(100 * x(t)).toFixed(2)}cqw`; // of the plot; nothing is laid out anew where only a transform changes
      const at = (height) => `translate(${across}, ${(100 * (1 - height)).toFixed(2)}cqh)`;
      if (beside) {
        write(otherNow, beside.text(t));
        otherMark.hidden = beside.place(t) > 1;
        otherMark.style.transform = at(beside.place(t));
      }
      stem.style.transform = at(1);
      mark.hidden = !(place(t) >= 0); // nothing is there (yet)
      if (!mark.hidden) mark.style.transform = at(place(t));
    }
    shared.on("t", follow);

    return function draw({ valueAt, show, ts = even, low, high, log = false, second = null, showSecond = null }) {
      const scale = log ? (value) => Math.log10(value < 1e-30 ? 1e-30 : value) : (value) => value;
      const heights = ts.map((t) => scale(valueAt(t)));
      const othersAt = second ? even.filter((t) => !Number.isNaN(second(t))) : [];
      const others = othersAt.map((t) => scale(second(t)));
      low = low === undefined ? heights.concat(others).reduce((a, b) => Math.min(a, b), Infinity) : scale(low);
      high = high === undefined ? heights.concat(others).reduce((a, b) => Math.max(a, b), -Infinity) : scale(high);
      if (log && high - low < 1) [low, high] = [(low + high - 1) / 2, (low + high + 1) / 2]; // a decade at least
      const y = (value) => Math.max(0, Math.min(1, (value - low) / (high - low || 1)));
      const beyond = (value) => Math.max(0, (value - low) / (high - low || 1)); // what is too high leaves the plot
      const points = ts.map((t, i) => [x(t), y(heights[i])]);
      const floor = 1000 * (1 - y(Math.max(0, low)));
      const ground = log ? 1000 : floor;
      line.setAttribute("d", points.length ? pathOf(points) : "");
      area.setAttribute("d", points.length ? `${pathOf(points)}L${1000 * points.at(-1)[0]} ${ground}L${1000 * points[0][0]} ${ground}Z` : "");
      other.setAttribute("d", others.length ? pathOf(othersAt.map((t, i) => [x(t), beyond(others[i])])) : "");
      zero.setAttribute("d", !log && low < 0 && high > 0 ? pathOf([[0, y(0)], [1, y(0)]]) : "");
      const decades = [];
      const every = Math.ceil((high - low) / (box.clientHeight > 150 ? 7 : 4)) || 1;
      for (let n = Math.ceil(low / every) * every; log && n <= high; n += every) decades.push(n);
      grid.setAttribute("d", decades.map((n) => pathOf([[0, y(n)], [1, y(n)]])).join(""));
      const named = decades.length < 4 ? decades : decades.filter((n) => y(n) < 0.9); // not over what begins at the top
      ticks.replaceChildren(...named.map((n) => {
        const label = document.createElement("span");
        label.textContent = power(n);
        label.className = y(n) > 0.9 ? "below" : ""; // the line
        label.style.top = `${100 * (1 - y(n))}%`;
        return label;
      }));
      place = (t) => y(scale(valueAt(t)));
      text = show;
      beside = showSecond && { place: (t) => beyond(scale(second(t))), text: showSecond };
      follow(shared.get("t"));
      return (value) => y(scale(value));
    };
  }

  // Histogram of numbers over the density of N(0, 1), from -4 to 4. Returns the function that redraws it.
  function histogram(figure) {
    const [bars, bell] = svg(figure.querySelector(".plot"), "area", "bell");
    const [reach, bins, top] = [4, 48, 0.9];
    bell.setAttribute("d", pathOf(Array.from({ length: 81 }, (_, i) => {
      const z = -reach + (i * 2 * reach) / 80;
      return [i / 80, Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) / top];
    })));
    const ends = figure.querySelectorAll(".axis span");
    [`\u2212${reach}`, "0", `+${reach}`].forEach((label, i) => (ends[i].textContent = label));
    return (numbers) => {
      const counts = new Float64Array(bins);
      for (const v of numbers) counts[Math.max(0, Math.min(bins - 1, Math.floor(((v + reach) / (2 * reach)) * bins)))]++;
      const width = (2 * reach) / bins;
      let d = "M0 1000";
      counts.forEach((count, i) => {
        const height = 1000 * (1 - Math.min(1, count / numbers.length / width / top));
        d += `L${(1000 * i) / bins} ${height.toFixed(1)}L${(1000 * (i + 1)) / bins} ${height.toFixed(1)}`;
      });
      bars.setAttribute("d", `${d}L1000 1000Z`);
    };
  }

  window.ddpm = {
    page, T, firstT, own, scheduleOf, beta, alphaBar, format, shared, say, setText, setLanguage, translate,
    paint, paintBytes, paintNoise, paintNoiseBytes, bytesOf, base64Of, halvesOf, normal, tBar, svg, pathOf, plot, figure3, histogram,
    count, dark, onLoss, front, soon, write,
    isLost: () => lost,
    language: () => language,
    calm: () => calm.matches,
    onLanguage: (listener) => languageListeners.add(listener),
    onTheme: (listener) => themeListeners.add(listener),
  };
  root.lang = language === "zh" ? "zh-CN" : language;
})();
