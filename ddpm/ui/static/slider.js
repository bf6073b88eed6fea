// The slider of t, from the clean end at the left to the noise at the right (parts.t_bar).
// Needs language.js, schedule.js, shared.js, frame.js. Gives tBar.
(() => {
  const { shared, alphaBar, T, format, say, write } = ddpm;
  const SHADES = 48; // of the strip below the slider

  // How much signal is left at each t, as a CSS background.
  function gradient(low) {
    const shades = Array.from({ length: SHADES + 1 }, (_, i) => {
      const signal = alphaBar[Math.round(low + ((T - low) * i) / SHADES)];
      return `color-mix(in srgb, var(--accent) ${(100 * signal).toFixed(1)}%, var(--line))`;
    });
    return `linear-gradient(to right, ${shades.join(", ")})`;
  }

  // Brings a .t-bar to life. onInput(t): a visitor has moved it. Every show(t) sends the event "shown".
  // Returns input; show(t); nearest(t), the mark closest to t; setMarks(ts), which restricts the slider to some t, such
  // as those of a trajectory's frames; null lifts the restriction.
  function tBar(element, onInput = (t) => shared.set("t", t)) {
    const find = (selector) => element.querySelector(selector);
    const input = find("input");
    const [tNow, alphaBarNow, snrNow] = [".t-now", ".ab-now", ".snr-now"].map(find);
    find(".t-strip").style.background = gradient(Number(input.min));
    let marks = null;
    ddpm.keepInView(element.closest(".player") ?? element);

    function show(t) {
      input.value = t;
      const fields = { t, alpha_bar: format.alphaBar(t), snr: format.snr(t) };
      write(tNow, t);
      write(alphaBarNow, fields.alpha_bar);
      write(snrNow, `${fields.snr} dB`);
      input.setAttribute("aria-valuetext", say(t === 0 ? "t.finished" : "t.value", fields));
      element.dispatchEvent(new Event("shown", { bubbles: true }));
    }

    function nearest(t) {
      return marks ? marks.reduce((best, mark) => (Math.abs(mark - t) < Math.abs(best - t) ? mark : best)) : t;
    }

    // Arrow keys go from mark to mark. The browser's own step of 1 would stay at the same mark.
    function step(event) {
      const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!marks || !direction) return;
      event.preventDefault();
      const ascending = [...marks].sort((a, b) => a - b);
      const next = ascending[ascending.indexOf(nearest(Number(input.value))) + direction];
      if (next !== undefined) onInput(next);
    }

    function setMarks(next) {
      marks = next;
    }

    input.addEventListener("input", () => onInput(nearest(Number(input.value))));
    input.addEventListener("keydown", step);
    return { input, show, nearest, setMarks };
  }

  Object.assign(ddpm, { tBar });
})();
