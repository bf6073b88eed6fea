// The story of one training: its losses on a chart, its samples, and a slider over its steps.
// Needs language.js, charts.js, controls.js. Gives story.
(() => {
  const count = (n) => n.toLocaleString("en");
  const loss = (v) => v.toPrecision(3);

  // ---------------------------------------------------------------- the curves of one training: losses against the step, both axes logarithmic

  const DECILES = 10;
  const VALIDATION = { val: 1, ema: 2, learnt: 3 }; // the place of each curve in a validation row
  const curveNames = ["zero", "full", "raw", "line", "val", "learnt", "ema", "dots val", "dots learnt", "dots ema"];
  const decileNames = Array.from({ length: DECILES }, (_, i) => `decile of-${i}`);
  // The deciles' colours, from clean to noise.
  const shade = (i) => `color-mix(in srgb, var(--accent) ${100 - (100 * i) / (DECILES - 1)}%, var(--point))`;

  // Running mean. Its window is a share of the rows so far, so that it looks equally wide along a logarithmic axis.
  function smooth(values, share = 0.05) {
    const sums = [0];
    for (const v of values) sums.push(sums.at(-1) + v);
    return values.map((_, i) => {
      const half = Math.min(Math.floor(i * share), values.length - 1 - i);
      return (sums[i + half + 1] - sums[i - half]) / (2 * half + 1);
    });
  }

  // The points [step, loss] of each curve of a view, by the curve's name.
  //   train: [step, loss, [loss by decile of t]]; validation: [step, loss of the raw weights, of the averaged weights,
  //   of these on training images].
  function curvesOf({ train, validation }, view) {
    const smoothed = (points) => {
      const values = smooth(points.map(([, v]) => v));
      return points.map(([step], i) => [step, values[i]]);
    };
    if (view === "by_t") {
      const decile = (d) => train.filter((row) => row[2][d] > 0).map((row) => [row[0], row[2][d]]);
      return Object.fromEntries(decileNames.map((name, d) => [name, smoothed(decile(d))]));
    }
    const raw = train.map(([step, v]) => [step, v]);
    const held = (i) => validation.filter((row) => row[i]).map((row) => [row[0], row[i]]);
    const validated = Object.entries(VALIDATION).map(([name, i]) => [name, held(i)]);
    return { raw, line: smoothed(raw), ...Object.fromEntries(validated) };
  }

  // The scales of both axes: {start, end} of the steps, {low, high} of the losses, and the functions x(step) and y(loss),
  // which give the place on the chart.
  //   reference: another loss that must be on the chart; last: the final step, if it is known.
  function scalesOf({ train, validation }, curves, reference, last) {
    const end = Math.max(last ?? 0, train.at(-1)?.[0] ?? 1, validation.at(-1)?.[0] ?? 1, 10);
    const start = last ? 1 : Math.max(1, Math.min(train[0]?.[0] ?? 1, validation[0]?.[0] ?? end));
    let [low, high] = [1, 1]; // the loss of a network that always returns zero
    const fit = (v) => {
      low = Math.min(low, v);
      high = Math.max(high, v);
    };
    for (const points of Object.values(curves)) for (const [, v] of points) fit(v);
    if (reference) fit(reference);
    [low, high] = [low / 1.15, high * 1.1];
    const along = ddpm.logarithmic(start, end);
    const x = (step) => (end > start ? Math.max(0, Math.min(1, along(Math.max(step, start)))) : 0);
    return { start, end, low, high, x, y: ddpm.logarithmic(low, high) };
  }

  // Brings the chart of a training to life. press(share): the pointer is pressed at this share of the width.
  // Returns draw(record, view); move(step, view), which moves the mark there and returns the smoothed loss, undefined
  // before the first; and shareOf(step), the place of a step as a share of the width.
  function lossChart(section, { reference, last, press }) {
    const frame = ddpm.chart(section.querySelector(".plot"), { curves: [...curveNames, ...decileNames], press });
    const steps = section.querySelector(".steps");
    let scales = null;
    let smoothed = []; // points [step, loss]
    decileNames.forEach((name, i) => frame.colour(name, shade(i)));

    function draw(record, view) {
      const curves = curvesOf(record, view);
      scales = scalesOf(record, curves, reference, last);
      smoothed = curvesOf(record, "all").line;
      const { start, end, low, high, x, y } = scales;
      for (const name of ["raw", "line", ...Object.keys(VALIDATION), ...decileNames]) {
        const points = (curves[name] ?? []).map(([step, v]) => [x(step), y(v)]);
        frame.line(name, points);
        if (name in VALIDATION) frame.dots(`dots ${name}`, points);
      }
      frame.level("zero", y(1));
      frame.level("full", reference && view === "all" ? y(reference) : null);
      const levels = ddpm.roundNumbers(low, high).map((v) => ({ text: v, y: y(v) }));
      frame.grid(
        levels.map((level) => level.y),
        levels,
      );
      const named = ddpm.roundNumbers(start, end).filter((step) => x(step) < 0.93);
      ddpm.tickLabels(
        steps,
        "left",
        [...named, end].map((step) => ({ text: count(step), share: x(step) })),
      );
    }

    function move(step, view) {
      const found = smoothed.findLast(([s]) => s <= step);
      const x = scales.x(step);
      frame.moveStem(x);
      frame.moveMark(0, x, found && view === "all" ? scales.y(found[1]) : Number.NaN);
      return found?.[1];
    }

    return { draw, move, shareOf: (step) => scales.x(step) };
  }

  // Writes the key of a view: what each line stands for.
  function nameLines(section, view, { validation }, { reference, steps }) {
    const more = [validation.some((row) => row[VALIDATION.learnt]) && "learnt", reference && "full"].filter(Boolean);
    const names = view === "by_t" ? ["by_t"] : ["raw", "line", "val", "ema", ...more];
    const entries = names.map((name) => {
      const entry = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = name;
      const words = document.createElement("span");
      const key = `training.key.${name === "line" ? "smooth" : name}`;
      ddpm.setText(words, key, { steps: count(steps), loss: reference });
      entry.append(swatch, words);
      return entry;
    });
    section.querySelector(".keys").replaceChildren(...entries);
    const chart = ddpm.say("training.chart", { view: ddpm.say(`training.view.${view}`) });
    section.querySelector(".plot").setAttribute("aria-label", chart);
  }

  // ---------------------------------------------------------------- the samples of one training

  // Shows the samples of a step: the latest up to it, or else the first. `grids`: step -> Image, or null while it is on
  // its way.
  function showSamples(section, grids, step) {
    const find = (selector) => section.querySelector(selector);
    const drawn = [...grids.keys()].filter((s) => grids.get(s)).sort((a, b) => a - b);
    const nearest = drawn.findLast((s) => s <= step) ?? drawn[0];
    find("[data-object=samples]").hidden = nearest === undefined;
    if (nearest === undefined) return;
    const [canvas, image] = [find("canvas"), grids.get(nearest)];
    if (canvas.width !== image.naturalWidth) canvas.width = image.naturalWidth;
    if (canvas.height !== image.naturalHeight) canvas.height = image.naturalHeight;
    canvas.getContext("2d").drawImage(image, 0, 0);
    const key = nearest === 0 ? "training.start_noise" : "training.samples";
    ddpm.setText(find(".of-step"), key, { step: count(nearest) });
    canvas.setAttribute("aria-label", ddpm.say(`${key}.label`, { step: count(nearest) }));
  }

  // A PNG (base64) as an Image, null if the browser cannot read it.
  async function imageOf(png) {
    if (!png) return null;
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    return image.decode().then(
      () => image,
      () => null,
    );
  }

  // ---------------------------------------------------------------- one training: its curves, its samples, and a slider over its steps

  // What is known of one training: losses, see curvesOf, and `grids`, see showSamples.
  function newRecord() {
    const record = {
      train: [],
      validation: [],
      grids: new Map(),
      // grids: the steps with samples, which follow one by one.
      set({ train, validation, grids }) {
        Object.assign(record, { train, validation, grids: new Map(grids.map((step) => [step, null])) });
      },
      // A row of either kind.
      add({ row, held }) {
        if (row) record.train.push(row);
        if (held) record.validation.push(held);
      },
      // Resolves once it is there; a picture that cannot be read is left out.
      async addGrid(step, png) {
        const image = await imageOf(png);
        if (image) record.grids.set(step, image);
        else record.grids.delete(step);
      },
      last: () => ({ row: record.train.at(-1), held: record.validation.at(-1) }),
      // The steps that the slider can stop at: those with samples, or all rows if hardly any samples were kept.
      stops() {
        if (record.grids.size > 1) return [...record.grids.keys()].sort((a, b) => a - b);
        return record.train.map(([step]) => step);
      },
    };
    return record;
  }

  // Brings the section of one training to life.
  //   full: {reference, steps}: the held-out loss of another training, and its steps; last: the final step, if it is
  //   known; onMove(atEnd): a visitor has moved the slider, whose thumb stands under the mark of the chart: it counts
  //   shares of the width, too.
  function story(section, { full = { reference: null, steps: 0 }, last = null, onMove = () => {} } = {}) {
    const find = (selector) => section.querySelector(selector);
    const slider = find("input");
    const views = ddpm.switchOf(find(".switch"));
    const chart = lossChart(section, { reference: full.reference, last, press });
    const record = newRecord();
    let view = "all";
    let at = 0; // index of the stop on screen

    function draw() {
      chart.draw(record, view);
      nameLines(section, view, record, full);
      show();
    }

    // Shows the stop `at`: slider, mark, figures, samples.
    function show() {
      const stops = record.stops();
      at = Math.max(0, Math.min(at, stops.length - 1));
      const step = stops[at] ?? 0;
      slider.disabled = stops.length < 2;
      slider.value = Math.round(slider.max * chart.shareOf(step));
      slider.setAttribute("aria-valuetext", ddpm.say("training.at", { step: count(step) }));
      const there = chart.move(step, view);
      const figure = there === undefined ? "" : ddpm.say("training.now", { step: count(step), loss: loss(there) });
      ddpm.write(find(".now"), figure);
      showSamples(section, record.grids, step);
    }

    function moveTo(index) {
      at = index;
      onMove(at === record.stops().length - 1);
      show();
    }

    // Moves to the stop that is closest to a share of the width.
    function press(share) {
      const away = (step) => Math.abs(chart.shareOf(step) - share);
      const stops = record.stops();
      if (stops.length) moveTo(stops.reduce((best, step, i) => (away(step) < away(stops[best]) ? i : best), 0));
    }

    // Keys go from stop to stop: those at the right lie close to each other.
    function go(event) {
      const last = record.stops().length - 1;
      const far = Math.max(1, Math.round(last / 10));
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: far, PageDown: -far }[event.key];
      if (!by || last < 1) return;
      event.preventDefault();
      moveTo(Math.max(0, Math.min(last, at + by)));
    }

    function translate() {
      nameLines(section, view, record, full);
      show();
    }

    slider.addEventListener("input", () => press(slider.value / slider.max));
    slider.addEventListener("keydown", go);
    views.onChoose((next) => {
      view = next;
      draw();
    });
    views.choose(view);
    return {
      translate,
      draw,
      toEnd() {
        at = record.stops().length - 1;
      },
      set(next) {
        record.set(next);
        draw();
      },
      add: record.add,
      addGrid: record.addGrid,
      last: record.last,
    };
  }

  ddpm.story = story;
})();
