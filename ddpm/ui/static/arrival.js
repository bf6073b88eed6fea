// On arrival the picture of the tab "Forward" dissolves in noise and returns, once, so that the page is alive before
// the first touch, which ends this.
// Needs schedule.js, shared.js. Gives arrive.
(() => {
  const { shared, T, firstT } = ddpm;
  const STATE = ["tab", "tour", "t", "example", "noise"]; // what a link names in the address is not moved
  const ENDS = ["pointerdown", "keydown", "wheel", "pagehide"]; // a reload brings back the t that was there before
  const OWN_T = ".t-bar, .plot"; // a touch there sets t itself
  // [milliseconds, t at their end], one after the other; it begins at t = 1.
  const WAY = [
    [700, 1],
    [2200, T],
    [400, T],
    [1900, firstT],
  ];
  const smooth = (share) => share * share * (3 - 2 * share);

  // t after so many milliseconds, null at the end.
  function place(elapsed) {
    let [before, from] = [0, 1];
    for (const [ms, to] of WAY) {
      if (elapsed < before + ms) return Math.round(from + (to - from) * smooth((elapsed - before) / ms));
      [before, from] = [before + ms, to];
    }
    return null;
  }

  // Whether the visitor has been here before in this tab of the browser; some browsers keep nothing for a page.
  function isBack() {
    try {
      const back = sessionStorage.getItem("arrived") !== null;
      sessionStorage.setItem("arrived", "");
      return back;
    } catch {
      return false;
    }
  }

  // Begins, unless a link names a state, the visitor wants no motion or comes back. `here`: the front of the tab.
  function arrive(here) {
    const named = new URLSearchParams(location.search);
    if (isBack() || ddpm.calm() || !here.shown || STATE.some((name) => named.has(name))) return;
    let [running, moving, start] = [true, true, null]; // `moving`: it is this that moves t

    function move(t) {
      moving = true;
      shared.set("t", t);
      moving = false;
    }

    function stop() {
      running = false;
      for (const touch of ENDS) removeEventListener(touch, end, true);
    }

    function end(event) {
      stop();
      if (!event.target.closest?.(OWN_T)) move(firstT);
    }

    function tick(now) {
      if (!running) return;
      start ??= now;
      const t = place(now - start);
      if (t === null || !here.shown) {
        stop();
        return move(firstT);
      }
      move(t);
      requestAnimationFrame(tick);
    }

    shared.on("t", () => running && !moving && stop()); // something else has moved t
    for (const touch of ENDS) addEventListener(touch, end, true);
    move(1); // before the first paint
    requestAnimationFrame(tick);
  }

  Object.assign(ddpm, { arrive });
})();
