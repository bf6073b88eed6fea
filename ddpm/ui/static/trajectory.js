// What the tabs that sample share: the pictures of a trajectory, playing it, and the life of a run.
// Loaded once in the page's head, after ddpm.js.
(() => {
  const { resolution: size } = ddpm.page;
  const { count } = ddpm; // bytes of one picture
  const KINDS = ["xt", "x0_hat", "eps_hat"]; // planes of a frame, in this order

  // ---- pictures. `shown` is {n: pictures per frame, t: of each frame (descending, 0 = finished), frames: their bytes}

  const picture = (shown, frame, kind, i) => shown.frames[frame].subarray((kind * shown.n + i) * count, (kind * shown.n + i + 1) * count);
  const newCanvas = () => Object.assign(document.createElement("canvas"), { width: size, height: size, className: "pixels" });
  const paint = (canvas, kind, bytes) => (kind === 2 ? ddpm.paintNoiseBytes : ddpm.paintBytes)(canvas, bytes);

  function unpack(found) {
    const bytes = ddpm.bytesOf(found.data);
    const frame = KINDS.length * found.n * count;
    return { request: found.request, n: found.n, t: found.t, frames: found.t.map((_, i) => bytes.subarray(i * frame, (i + 1) * frame)) };
  }

  function nearestFrame(ts, t) {
    let best = 0;
    ts.forEach((value, i) => (best = Math.abs(value - t) < Math.abs(ts[best] - t) ? i : best));
    return best;
  }

  const numberOf = (field) => (field.value.trim() === "" ? null : Number(field.value));

  // How a run is named: "DDIM, η = 0.5".
  const samplerName = ({ sampler, eta }) => ddpm.say(`sampler.${sampler}`) + (eta ? `, \u03b7 = ${eta}` : "");

  // What the server draws before the first click: what `ask()` finds, once it finds something; null once nobody wants
  // it. A slow model takes minutes, so it is asked for as long, ever less often.
  async function untilDrawn(ask, wanted = () => true) {
    for (let pause = 700; ; pause = Math.min(1.02 * pause, 10_000)) {
      const found = await ask().catch(() => null);
      if (!wanted()) return null;
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  // ---- play (parts.player)

  const PLAY_MS = 4000; // one way through a trajectory at normal speed
  const LEFT = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M12 2.5v11L3 8z"/></svg>'; // the thumb goes there
  const RIGHT = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5v11l9-5.5z"/></svg>';
  const PAUSE = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 3h3v10H4zM9 3h3v10H9z"/></svg>';

  // frames(): how many there are; at(): index of the one on screen; goTo(index).
  // They go from the noise to the picture (way 1), as p does, or back (-1), as q does, while the tab is in front.
  function player(element, { frames, at, goTo }) {
    const buttons = new Map([[1, element.querySelector(".reverse-way")], [-1, element.querySelector(".forward-way")]]);
    const speed = element.querySelector(".speed select");
    let playing = null; // {way}, a new object for each time of playing

    function face() {
      for (const [way, button] of buttons) {
        const on = playing?.way === way;
        button.innerHTML = on ? PAUSE : way === 1 ? LEFT : RIGHT;
        button.setAttribute("aria-label", ddpm.say(on ? "reverse.pause" : way === 1 ? "reverse.play" : "reverse.play_back"));
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
      const from = at() === end ? first : at(); // at the end: again from the start
      const mine = (playing = { way });
      face();
      let position = from;
      let before = performance.now();
      const tick = (now) => {
        if (playing !== mine) return;
        position += way * (Math.max(0, now - before) / PLAY_MS) * last * Number(speed.value);
        before = now;
        const frame = Math.max(0, Math.min(last, way === 1 ? Math.floor(position) : Math.ceil(position)));
        if (frame !== at()) goTo(frame);
        if (frame === end) pause();
        else requestAnimationFrame(tick);
      };
      goTo(from);
      requestAnimationFrame(tick);
    }

    for (const [way, button] of buttons) button.addEventListener("click", () => (playing?.way === way ? pause() : play(way)));
    const here = ddpm.front(element, (shown) => !shown && pause());
    ddpm.onLanguage(face);
    face();
    return { play, pause };
  }

  // ---- t

  // Returns share(t), for a tab that moves t itself: in front it moves everybody's. Behind another, where a run may end,
  // it moves alone, and the others follow once it is in front again, unless the visitor has moved t since.
  //   follow(t): another tab has moved it.
  function sharing(element, follow) {
    let [mine, kept] = [false, null];
    const here = ddpm.front(element, (shown) => shown && kept !== null && share(kept));

    function share(t) {
      kept = here.shown ? null : t;
      if (!here.shown) return;
      mine = true;
      ddpm.shared.set("t", Math.max(1, t)); // the finished picture has no x_t
      mine = false;
    }

    ddpm.shared.on("t", (t) => {
      if (mine) return;
      kept = null;
      follow(t);
    });
    return share;
  }

  // ---- a run: .go and .stop, .new-seed, .status, .progress

  const LATE_MS = 5000; // a question under way may be lost; the next waits no longer for its answer

  //   send(message): trigger the tab's event; expect: of its server functions, ends earlier runs before the next call of
  //   the network, wherever they are (Gradio's way to cancel needs an id that a run gets only after a while);
  //   busy(on): what else changes while a run is on; take(message): what it brings; stopped(): it ended before it was
  //   done, with something to show.
  function runs(element, { send, expect, busy, take, stopped }) {
    const $ = (selector) => element.querySelector(selector);
    const line = ddpm.line($(".status:not(.picker-status)"));
    const patience = ddpm.patience((why) => {
      giveUp(`reverse.${why}`);
      leave();
    });
    let run = 0; // number of the latest run; answers to earlier ones are ignored
    let running = false;
    let heard = false; // that it is its turn
    let taken = false; // something that can be shown

    const leave = () => expect({ visitor: ddpm.visitor, run }).catch(() => {});

    function giveUp(key) {
      if (taken) stopped();
      end(key);
    }

    // ---- one question is under way at a time: who changes a setting ten times takes one place in the queue

    let [asked, next, late] = [null, null, 0]; // number of what was sent and is not answered; what to send then

    function ask(message) {
      if (asked !== null) return void (next = message);
      asked = message.run;
      late = setTimeout(() => answered(asked), LATE_MS);
      send(message);
    }

    function answered(number) {
      if (number !== asked) return;
      const message = next;
      [asked, next] = [null, null];
      clearTimeout(late);
      if (message && running && message.run === run) ask(message);
    }

    const sender = ddpm.onLoss((key, lostRun) => {
      if (lostRun !== undefined) answered(lostRun);
      if (running && (lostRun ?? run) === run) giveUp(key === "answer.lost" ? key : key.replace("answer", "reverse"));
    });

    function setRunning(on) {
      running = on;
      if (on) patience.queued();
      else patience.end();
      const focused = document.activeElement === $(".go") || document.activeElement === $(".stop");
      $(".go").hidden = on;
      $(".stop").hidden = !on;
      if (focused) $(on ? ".stop" : ".go").focus();
      for (const control of element.querySelectorAll(".player :is(.play, .t-bar input)")) control.disabled = on;
      element.querySelector(".tab").classList.toggle("running", on);
      if (!on) progress(0);
      busy?.(on);
    }

    const progress = (share) => ($(".progress i").style.width = `${100 * share}%`);

    function start(message) {
      if (ddpm.isLost()) return line.tell("answer.lost");
      const mine = ++run;
      if (running) leave();
      heard = taken = false;
      setRunning(true);
      line.tell("reverse.starting");
      setTimeout(() => running && run === mine && !heard && line.tell("reverse.waiting"), 1500);
      ask({ run: mine, sender, visitor: ddpm.visitor, ...message });
    }

    // The end of a run; what is still on its way is nobody's.
    function end(key = null, fields) {
      run++;
      setRunning(false);
      line.tell(key, fields);
    }

    // A refusal is about what was in the fields: it goes once they are changed.
    $(".controls").addEventListener("input", () => line.refused() && line.tell(null));

    $(".stop").addEventListener("click", () => {
      end();
      leave();
      if (taken) stopped();
    });

    $(".new-seed")?.addEventListener("click", () => {
      const form = $(".controls");
      form.elements.seed.value = Math.floor(Math.random() * 100000);
      if (!running) form.requestSubmit();
    });

    function hear(message) {
      if (!message) return;
      answered(message.run);
      if (message.run !== run || !running) return;
      patience.heard();
      if (message.kind === "refused") {
        end();
        return line.refuse(message);
      }
      if (message.kind === "failed") return giveUp("reverse.failed");
      if (!heard && message.kind === "started") line.note("reverse.starting");
      heard = true;
      if (message.kind === "started") return;
      taken ||= message.kind === "frame";
      take(message);
    }

    return { tell: line.tell, note: line.note, start, end, hear, progress, active: () => running, number: () => run };
  }

  ddpm.trajectory = { KINDS, picture, newCanvas, paint, unpack, nearestFrame, samplerName, numberOf };
  Object.assign(ddpm, { player, sharing, runs, untilDrawn });
})();
