// Moving along a trajectory: playing it in both directions (parts.player), and the t that the tabs share.
// Needs language.js, shared.js. Gives player, sharing.
(() => {
  const PLAY_MS = 4000; // one way through a trajectory at normal speed
  const icon = (path) => `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;
  const LEFT = icon("M12 2.5v11L3 8z"); // the slider's thumb moves to the left
  const RIGHT = icon("M4 2.5v11l9-5.5z");
  const PAUSE = icon("M4 3h3v10H4zM9 3h3v10H9z");

  // Plays frames while the tab is in front: from the noise to the picture, as p does (way 1), or back, as q does (-1).
  //   frames(): how many there are; at(): index of the one on screen; goTo(index).
  function player(element, { frames, at, goTo }) {
    const find = (selector) => element.querySelector(selector);
    const buttons = new Map([
      [1, find(".reverse-way")],
      [-1, find(".forward-way")],
    ]);
    const faces = new Map([
      [1, [LEFT, "reverse.play"]],
      [-1, [RIGHT, "reverse.play_back"]],
    ]);
    const speed = find(".speed select");
    let playing = null; // {way}, a new object for each time of playing

    function face() {
      for (const [way, button] of buttons) {
        const [picture, key] = playing?.way === way ? [PAUSE, "reverse.pause"] : faces.get(way);
        button.innerHTML = picture;
        button.setAttribute("aria-label", ddpm.say(key));
      }
    }

    function pause() {
      if (!playing) return;
      playing = null;
      face();
    }

    function play(way = 1) {
      const last = frames() - 1;
      if (last < 1 || buttons.get(way).disabled || !here.shown) return;
      const [first, end] = way === 1 ? [0, last] : [last, 0];
      const from = at() === end ? first : at(); // at the end it starts again
      const token = { way };
      playing = token;
      face();
      goTo(from);
      animate(token, from, end, last);
    }

    function animate(token, from, end, last) {
      const { way } = token;
      let position = from;
      let before = performance.now();
      const tick = (now) => {
        if (playing !== token) return;
        position += way * (Math.max(0, now - before) / PLAY_MS) * last * Number(speed.value);
        before = now;
        const frame = Math.max(0, Math.min(last, way === 1 ? Math.floor(position) : Math.ceil(position)));
        if (frame !== at()) goTo(frame);
        if (frame === end) pause();
        else requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    }

    for (const [way, button] of buttons) {
      button.addEventListener("click", () => (playing?.way === way ? pause() : play(way)));
    }
    const here = ddpm.front(element, (shown) => !shown && pause());
    ddpm.onLanguage(face);
    face();
    return { play, pause };
  }

  // Returns share(t), for a tab that moves t itself. While the tab is in front, this moves the t of all tabs. A request
  // may end while the tab is not in front; then the other tabs follow once it is in front again, unless the visitor has
  // moved t since.
  //   follow(t): another tab has moved t.
  function sharing(element, follow) {
    let sharing = false;
    let kept = null; // the t to share once the tab is in front
    const here = ddpm.front(element, (shown) => shown && kept !== null && share(kept));

    function share(t) {
      kept = here.shown ? null : t;
      if (!here.shown) return;
      sharing = true;
      ddpm.shared.set("t", Math.max(1, t));
      ddpm.shared.set("finished", t === 0);
      sharing = false;
    }

    ddpm.shared.on("t", (t) => {
      if (sharing) return;
      ddpm.shared.set("finished", false);
      kept = null;
      follow(t);
    });
    return share;
  }

  Object.assign(ddpm, { player, sharing });
})();
