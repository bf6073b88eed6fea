// Charts: curves over a grid, with marks that follow a slider and a pointer that moves it; and the histogram.
// Needs schedule.js, shared.js. Gives chart, logarithmic, roundNumbers, tickLabels; tChart; histogram.
(() => {
  const { T, format, shared, front, write } = ddpm;
  const SIZE = 1000; // of the picture's own coordinates, both ways

  // ---------------------------------------------------------------- scales

  const within = (share) => Math.max(0, Math.min(1, share));

  // A scale maps a value to its place along an axis: 0 at `low`, 1 at `high`.
  function linear(low, high) {
    return (value) => (value - low) / (high - low || 1);
  }

  function logarithmic(low, high) {
    const place = linear(Math.log10(low), Math.log10(high));
    return (value) => place(Math.log10(value));
  }

  // The numbers 1, 2 and 5 of each decade between two numbers; only the 1 where there are more than two decades.
  function roundNumbers(low, high) {
    const found = [];
    const digits = high / low > 150 ? [1] : [1, 2, 5];
    for (let n = Math.floor(Math.log10(low)); n <= Math.log10(high); n++) {
      for (const digit of digits) {
        const number = digit * 10 ** n;
        if (number >= low && number <= high) found.push(Number(number.toPrecision(1)));
      }
    }
    return found;
  }

  // ---------------------------------------------------------------- paths

  const SVG = "http://www.w3.org/2000/svg";

  // Adds an SVG with a path for each class, stretched to the plot. Its strokes keep their width, see charts.css.
  function addPaths(plot, classes) {
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", `0 0 ${SIZE} ${SIZE}`);
    picture.setAttribute("preserveAspectRatio", "none");
    const paths = new Map();
    for (const name of classes) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      picture.append(path);
      paths.set(name, path);
    }
    plot.append(picture);
    return paths;
  }

  // Points are pairs of shares of the plot: from left to right, from the bottom up.
  const across = (x) => (SIZE * x).toFixed(1);
  const down = (y) => (SIZE * (1 - y)).toFixed(1);
  const pathOf = (points) => (points.length ? `M${points.map(([x, y]) => `${across(x)} ${down(y)}`).join("L")}` : "");
  const levelOf = (y) =>
    pathOf([
      [0, y],
      [1, y],
    ]);

  // Puts labels along an axis: `side` is "top" or "left", each label {text, share}.
  function tickLabels(axis, side, labels) {
    const spans = labels.map(({ text, share }) => {
      const span = document.createElement("span");
      span.textContent = text;
      span.style[side] = `${100 * share}%`;
      return span;
    });
    axis.replaceChildren(...spans);
  }

  // ---------------------------------------------------------------- an empty chart

  function addElement(plot, tag, name) {
    const element = document.createElement(tag);
    element.className = name;
    plot.append(element);
    return element;
  }

  const SWIPE_PX = 8; // a finger that has gone so far to the side drags

  // Calls press(share of the width) while the main button of a mouse or a pen is down, or the first finger. A finger
  // may only want to scroll the page over the plot: it counts once it is lifted where it was put, or goes to the side.
  // When it scrolls instead, the browser cancels the pointer (touch-action in charts.css).
  function listenToPointer(plot, press) {
    let held = null; // {id, x, y: where it went down, drags}
    const tell = (event) => {
      const box = plot.getBoundingClientRect();
      press((event.clientX - box.left) / box.width);
    };
    const release = () => {
      held = null;
    };

    plot.addEventListener("pointerdown", (event) => {
      if (!ddpm.isMain(event)) return;
      const { pointerId: id, clientX: x, clientY: y } = event;
      held = { id, x, y, drags: event.pointerType !== "touch" };
      plot.setPointerCapture(event.pointerId);
      if (held.drags) tell(event);
    });
    plot.addEventListener("pointermove", (event) => {
      if (held?.id !== event.pointerId) return;
      if (!(event.buttons & 1)) return release(); // another button is still down
      const aside = Math.abs(event.clientX - held.x);
      held.drags ||= aside > SWIPE_PX && aside > Math.abs(event.clientY - held.y);
      if (held.drags) tell(event);
    });
    plot.addEventListener("pointerup", (event) => {
      if (held?.id !== event.pointerId) return;
      if (!held.drags) tell(event); // a tap
      release();
    });
    plot.addEventListener("pointercancel", release);
  }

  // Brings a .plot to life.
  //   curves: classes of its paths, the one at the back first; marks: classes of its marks;
  //   press(share): the pointer is pressed at this share of the width.
  // The functions that it returns take coordinates as shares of the plot. Marks are moved by transforms in units of the
  // plot, which is a size container, so the browser need not lay out the page anew.
  function chart(plot, { curves, marks = ["mark"], press }) {
    const paths = addPaths(plot, ["grid", ...curves]);
    const ticks = addElement(plot, "div", "ticks");
    ticks.ariaHidden = "true";
    const stem = addElement(plot, "i", "stem");
    const dots = marks.map((name) => addElement(plot, "i", name));
    listenToPointer(plot, press);
    const setPath = (name, d) => paths.get(name).setAttribute("d", d);
    const transform = (x, y) => `translate(${(100 * x).toFixed(2)}cqw, ${(100 * (1 - y)).toFixed(2)}cqh)`;

    return {
      line: (name, points) => setPath(name, pathOf(points)),
      // The area between a line and a height.
      area(name, points, ground) {
        const corners = [points.at(-1), points[0]].map((point) => point && [point[0], ground]);
        setPath(name, points.length ? `${pathOf([...points, ...corners])}Z` : "");
      },
      // With round ends, a very short line is a dot.
      dots: (name, points) => setPath(name, points.map((point) => `${pathOf([point])}h0.01`).join("")),
      level: (name, y) => setPath(name, y === null ? "" : levelOf(y)),
      // Horizontal lines at `heights`, and labels {text, y} at some of them, to the left of the plot.
      grid(heights, labels) {
        setPath("grid", heights.map(levelOf).join(""));
        const ticksOf = ({ text, y }) => ({ text, share: 1 - y });
        tickLabels(ticks, "top", labels.map(ticksOf));
        plot.closest(".chart").classList.toggle("ticked", labels.length > 0);
      },
      colour: (name, colour) => paths.get(name).style.setProperty("stroke", colour),
      moveStem(x) {
        stem.style.transform = transform(x, 1);
      },
      // A mark without a height is hidden.
      moveMark(i, x, y) {
        dots[i].hidden = !(y >= 0);
        if (!dots[i].hidden) dots[i].style.transform = transform(x, y);
      },
    };
  }

  // ---------------------------------------------------------------- a chart against t

  const MOST_POINTS = 250;
  const acrossT = (t) => (t - 1) / (T - 1);
  const numPoints = Math.min(T, MOST_POINTS);
  const evenTs = Array.from({ length: numPoints }, (_, i) => 1 + Math.round((i * (T - 1)) / (numPoints - 1)));

  const decades = (value) => Math.log10(Math.max(value, 1e-30));
  const same = (value) => value;

  // [low, high] of an axis; values give a limit that is undefined. A logarithmic axis counts in decades and has at
  // least one.
  function limits(values, low, high, scale) {
    const bottom = low === undefined ? values.reduce((a, b) => Math.min(a, b), Infinity) : scale(low);
    const top = high === undefined ? values.reduce((a, b) => Math.max(a, b), -Infinity) : scale(high);
    const lacking = scale === decades ? Math.max(0, 1 - (top - bottom)) : 0;
    return [bottom - lacking / 2, top + lacking / 2];
  }

  // Draws lines at the whole decades, at most about `most`.
  function drawDecades(frame, [low, high], y, most) {
    const every = Math.ceil((high - low) / most) || 1;
    const found = [];
    for (let n = Math.ceil(low / every) * every; n <= high; n += every) found.push(n);
    frame.grid(
      found.map(y),
      found.map((n) => ({ text: format.power(n), y: y(n) })),
    );
  }

  function nameEnds(figure, labels) {
    figure.querySelectorAll(".axis span").forEach((end, i) => {
      end.textContent = labels[i];
    });
  }

  // Brings the chart of a figure (parts.chart) to life: t runs from left to right, a mark follows it, a press moves it.
  // Returns draw(options):
  //   valueAt(t), drawn at each of `ts` (ascending; by default spread over 1 to T); show(t): the figure at the mark;
  //   low, high: limits; log: whether the scale is logarithmic, with lines at decades;
  //   second(t): the values of a second curve, thin and dashed; showSecond(t): its figure; it then has a mark, too.
  // draw returns a function that maps a value to its height, 0 to 1.
  function tChart(figure) {
    const plot = figure.querySelector(".plot");
    const curves = ["zero", "area", "other", "line"];
    const press = (share) => shared.set("t", 1 + Math.round(within(share) * (T - 1)));
    const frame = chart(plot, { curves, marks: ["mark second", "mark"], press });
    nameEnds(figure, ["1", "t", T]);
    const now = figure.querySelector(".now");
    const secondNow = document.createElement("span");
    now.append("", secondNow); // `write` writes into the first node

    let first = null; // {place(t): the height of the mark; text(t): the figure}
    let other = null; // the same of the second curve
    const here = front(figure, () => follow(shared.get("t")));
    function follow(t) {
      if (!first || !here.shown) return;
      const x = acrossT(t);
      write(now, first.text(t));
      secondNow.hidden = !other;
      const height = other ? other.place(t) : Number.NaN;
      if (other) write(secondNow, other.text(t));
      frame.moveMark(0, x, height > 1 ? Number.NaN : height);
      frame.moveStem(x);
      frame.moveMark(1, x, first.place(t));
    }
    shared.on("t", follow);

    return function draw({ valueAt, show, ts = evenTs, low, high, log = false, second = null, showSecond = null }) {
      const scale = log ? decades : same;
      const secondTs = second ? evenTs.filter((t) => !Number.isNaN(second(t))) : [];
      const heights = ts.map((t) => scale(valueAt(t)));
      const others = secondTs.map((t) => scale(second(t)));
      const [bottom, top] = limits(heights.concat(others), low, high, scale);
      const share = linear(bottom, top);
      const y = (height) => within(share(height));
      const beyond = (height) => Math.max(0, share(height)); // a second curve may leave the plot at the top
      const points = ts.map((t, i) => [acrossT(t), y(heights[i])]);
      frame.line("line", points);
      frame.area("area", points, log ? 0 : y(Math.max(0, bottom)));
      frame.line(
        "other",
        secondTs.map((t, i) => [acrossT(t), beyond(others[i])]),
      );
      frame.level("zero", !log && bottom < 0 && top > 0 ? y(0) : null);
      if (log) drawDecades(frame, [bottom, top], y, plot.clientHeight > 150 ? 7 : 4);
      first = { place: (t) => y(scale(valueAt(t))), text: show };
      other = showSecond && { place: (t) => beyond(scale(second(t))), text: showSecond };
      follow(shared.get("t"));
      return (value) => y(scale(value));
    };
  }

  // ---------------------------------------------------------------- the histogram

  const REACH = 4; // from -4 to 4
  const BINS = 48;
  const HIGHEST = 0.9; // density at the top

  // The density of N(0, 1), as a line.
  function bell() {
    return Array.from({ length: 81 }, (_, i) => {
      const z = -REACH + (i * 2 * REACH) / 80;
      return [i / 80, Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI) / HIGHEST];
    });
  }

  // Brings a histogram behind the density of N(0, 1) to life. Returns the function that draws it from numbers.
  function histogram(figure) {
    const paths = addPaths(figure.querySelector(".plot"), ["area", "bell"]);
    paths.get("bell").setAttribute("d", pathOf(bell()));
    nameEnds(figure, [`\u2212${REACH}`, "0", `+${REACH}`]);
    return (numbers) => {
      const counts = new Float64Array(BINS);
      for (const v of numbers)
        counts[Math.max(0, Math.min(BINS - 1, Math.floor(((v + REACH) / (2 * REACH)) * BINS)))]++;
      const width = (2 * REACH) / BINS;
      let d = `M0 ${SIZE}`;
      counts.forEach((count, i) => {
        const top = down(Math.min(1, count / numbers.length / width / HIGHEST));
        d += `L${(SIZE * i) / BINS} ${top}L${(SIZE * (i + 1)) / BINS} ${top}`;
      });
      paths.get("area").setAttribute("d", `${d}L${SIZE} ${SIZE}Z`);
    };
  }

  Object.assign(ddpm, { chart, logarithmic, roundNumbers, tickLabels, tChart, histogram });
})();
