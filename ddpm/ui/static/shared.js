// What the tabs share: values that one tab sets and another shows, which tab is in front, and postponed work.
// Needs schedule.js (firstT). Gives count, LARGE, shared; front; soon, afterRest, write, calm, isMain.
(() => {
  const { page, firstT } = ddpm;
  const count = page.height * page.width * page.channels; // numbers of one picture
  const LARGE = 64; // pixels along a side; larger pictures need more room on the page

  // ---------------------------------------------------------------- shared values

  // `t` (1 to T); `finished`, whether t is 1 only because a tab shows finished pictures, which have no x_t; `picture`, its
  // bytes, also while the visitor draws; `settled`, the same, but only once the pen is up; `noise`, the seed of its
  // noise; `examples`, the bytes of all examples, null before they come. A new picture is a new array.
  const values = {
    t: firstT,
    finished: false,
    picture: new Uint8ClampedArray(count),
    settled: null,
    noise: page.noise,
    examples: null,
  };
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

  // Returns {shown: whether the tab of an element is in front} and calls changed(shown) when that changes. A tab that
  // is not in front need not draw, and must not move what the visitor is looking at.
  const fronts = new WeakMap(); // tab -> {shown, listeners}
  function front(element, changed = () => {}) {
    const tab = element.closest(".tab") ?? element.querySelector(".tab");
    if (!fronts.has(tab)) fronts.set(tab, watchFront(tab));
    const known = fronts.get(tab);
    known.listeners.push(changed);
    return known;
  }

  // A hidden tab has no size. A ResizeObserver is called before the browser paints a tab that comes to the front.
  function watchFront(tab) {
    const made = { shown: tab.offsetParent !== null, listeners: [] };
    new ResizeObserver(() => {
      const shown = tab.offsetParent !== null;
      if (shown === made.shown) return;
      made.shown = shown;
      for (const listener of made.listeners) listener(shown);
    }).observe(tab);
    return made;
  }

  // ---------------------------------------------------------------- postponed work

  // Returns a function to call at every move of a slider: `work` is done once, after the frame that shows the pictures.
  function soon(work) {
    let coming = false;
    return () => {
      if (coming) return;
      coming = true;
      requestAnimationFrame(() =>
        setTimeout(() => {
          coming = false;
          work();
        }),
      );
    };
  }

  // Returns a function to call at every move: `work` is done once the moving has paused for `ms` milliseconds.
  function afterRest(work, ms = 300) {
    let timer = 0;
    return () => {
      clearTimeout(timer);
      timer = setTimeout(work, ms);
    };
  }

  // Writes text that changes at every move into the text node that is there: a new node would cost the browser more.
  function write(element, text) {
    if (element.firstChild) element.firstChild.data = text;
    else element.append(text);
  }

  // Whether an event is of the main button of a mouse or a pen, or of the first finger. Others neither draw nor move t.
  const isMain = (event) => event.isPrimary && event.button === 0;

  const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
  Object.assign(ddpm, {
    count,
    LARGE,
    shared,
    front,
    soon,
    afterRest,
    write,
    calm: () => reducedMotion.matches,
    isMain,
  });
})();
