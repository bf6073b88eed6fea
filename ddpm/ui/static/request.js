// The life of a request to the server: sent, queued, answered in parts, done; or refused, lost, stopped, too late. Each
// tab only defines what it sends and how it shows the answer.
// Needs gradio.js, shared.js, pictures.js, controls.js, status.js.
// Gives addressed (the server functions of a panel), reading (a tab that asks about the picture), sampling (a tab with a
// form that draws pictures), polling (a tab that polls the server), untilDrawn (waits for what the server draws by
// itself), isAwaiting (whether the tab in front does), orWaking (the key of a text, or of the one that says that the
// server has just started), visitor (the name of this page).
(() => {
  const { page, shared } = ddpm;
  const LANES = 2; // of numbers of requests, so that each lane knows its own
  const QUEUE_MS = 30 * 60_000; // the queue may be long, and sends nothing while a request waits
  const SILENCE_MS = 200_000; // once its turn has come: a server that is silent for so long is lost
  const WAITING_MS = 1500; // after so long without an answer, the tab says that it waits
  const WAKING_MS = 2000; // after a word that the network is not there yet, whoever waits in the queue waits for it
  const LATE_MS = 5000; // a request under way may be lost, so the next one waits no longer for its answer

  let woke = -Infinity; // when the server last said so
  const orWaking = (key) => (performance.now() - woke < WAKING_MS ? "answer.waking" : key);

  // Takes note of what came from the server, and returns whether it only says that the network is not there yet.
  function wakes(answer) {
    if (answer?.kind !== "waking") return false;
    woke = performance.now();
    return true;
  }

  // The server knows this page by this name. Nobody can guess it, so no other page can end its requests.
  const visitor = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");

  // The server functions of a panel, of which each request names its model. Each takes one argument, and then the name
  // of another model if it is not about the one on the page. A server that has just started has no answer: null.
  const addressed = (server) =>
    new Proxy(server, {
      get:
        (of, name) =>
        async (asked, model = page.model) => {
          const answer = await of[name]({ model, asked: asked ?? null });
          return wakes(answer) ? null : answer;
        },
    });

  // ---------------------------------------------------------------- one request at a time counts

  // Keeps the requests of a tab to one place in the queue: while one is under way, only the latest of the others waits.
  //   wanted(message): whether a message that has waited is still to be sent.
  // Returns send(message), and answered(run), to call when the request of this number is answered or lost.
  function oneAtATime(trigger, wanted) {
    let underWay = null; // the number of the request that is sent and not answered
    let next = null; // the message that waits
    let late = 0;

    function send(message) {
      if (underWay !== null) {
        next = message;
        return;
      }
      underWay = message.run;
      late = setTimeout(() => answered(message.run), LATE_MS);
      trigger(message);
    }

    function answered(run) {
      if (run !== underWay) return;
      const message = next;
      underWay = next = null;
      clearTimeout(late);
      if (message && wanted(message)) send(message);
    }

    return { send, answered };
  }

  // The requests of a tab, of which only the latest counts.
  //   send(message): triggers the tab's event.
  //   expect(message): the server function that ends the earlier requests before their next call of the network, even
  //   in the queue. (To cancel a request, Gradio needs an id that the request gets only after a while.)
  //   waiting(): no answer has come for a while. lost(why): no answer will come: "busy", "failed" or "lost".
  //   single: the tab takes only one place in the queue, see oneAtATime.
  //   lane: 0, or 1 for further requests of the same tab, which neither end the others nor take their answers;
  //   model(): the name of the model that they are about.
  function requests({ send, expect, waiting = () => {}, lost, single = false, lane = 0, model = () => page.model }) {
    let number = lane; // of the latest request, sent as `run`; the end of a request raises it, too
    const sentBy = lane ? `${visitor}.${lane}` : visitor;
    let active = false;
    const timers = {};
    const queue = oneAtATime(send, (message) => active && message.run === number);
    const after = (name, ms, action) => {
      clearTimeout(timers[name]);
      timers[name] = setTimeout(action, ms);
    };
    const tellServer = () => expect({ visitor: sentBy, run: number }).catch(() => {}); // only saves work; a failure is harmless
    const sender = ddpm.onLoss((why, run) => {
      if (run !== undefined) queue.answered(run);
      if (!active || (run ?? number) !== number) return;
      finish();
      lost(why);
    });

    // Begins a request, which is sent after `pause` milliseconds unless another takes its place.
    function start(message, pause = 0) {
      const earlier = active;
      finish();
      active = true;
      if (earlier) tellServer();
      after("silence", QUEUE_MS, () => giveUp("busy"));
      after("waiting", WAITING_MS, waiting);
      const sent = { run: number, sender, visitor: sentBy, model: model(), ...message };
      const go = () => (single ? queue.send(sent) : send(sent));
      if (pause) after("pause", pause, go);
      else go();
    }

    // Takes note of a message, and returns whether it belongs to the latest request.
    function hear(message) {
      wakes(message);
      if (message) queue.answered(message.run);
      if (!active || message?.run !== number) return false;
      clearTimeout(timers.waiting);
      after("silence", SILENCE_MS, () => giveUp("failed"));
      return true;
    }

    // Ends the request: answers still on their way are ignored.
    function finish() {
      number += LANES;
      active = false;
      for (const timer of Object.values(timers)) clearTimeout(timer);
    }

    // Ends the request early and tells the server.
    function stop() {
      finish();
      tellServer();
    }

    function giveUp(why) {
      stop();
      lost(why);
    }

    return { start, hear, finish, stop, active: () => active, number: () => number };
  }

  // ---------------------------------------------------------------- a tab that asks about the picture

  const PAUSE_MS = 120; // strokes in quick succession make one picture, and one request
  const RETRY_MS = 4000; // after which a busy server is asked again

  // While the tab is in front, it sends every new picture.
  //   send, expect, waiting: see `requests`; fetch(key): the server function that returns what "done" names;
  //   start(), part(message), done(what was fetched): show a request, a part of its answer, all of it; ended(): no
  //   answer will come; wanted(): whether there is anything to ask; status: the line that tells of it; lane, model: see
  //   `requests`.
  function reading(
    element,
    {
      send,
      expect,
      fetch,
      start,
      part = () => {},
      waiting,
      done,
      ended = () => {},
      wanted = () => true,
      status = element.querySelector(".answer"),
      lane,
      model,
    },
  ) {
    const { tell, note, refuse } = ddpm.line(status);
    const here = ddpm.front(element, (shown) => shown && watching && ask());
    let asked = null; // {bytes, seed}: the picture and the noise that the latest request was about
    let retry = 0;
    let watching = false;
    const life = requests({ send, expect, waiting, lost, lane, model });

    function ask({ again = false } = {}) {
      const next = { bytes: shared.get("settled"), seed: shared.get("noise") };
      if (!wanted() || !next.bytes || (!again && asked?.bytes === next.bytes && asked.seed === next.seed)) return;
      if (!here.shown) return forget(); // it sends the picture when it comes to the front
      if (ddpm.isLost()) return lost("lost");
      clearTimeout(retry);
      asked = next;
      status.dataset.state = "asked";
      start();
      life.start({ x0: ddpm.base64Of(next.bytes), noise_seed: next.seed }, PAUSE_MS);
    }

    async function take(message) {
      if (!life.hear(message)) return;
      if (message.kind === "part") return part(message);
      if (message.kind === "waking") return note("answer.waking");
      if (message.kind === "refused") {
        conclude();
        return refuse(message);
      }
      const found = message.kind === "done" && (await fetch(message.key).catch(() => null));
      if (message.run !== life.number()) return;
      if (!found) return lost("failed");
      life.finish();
      done(found);
      status.dataset.state = "done";
    }

    // The end without an answer. The next change, or a return to the tab, sends the picture again.
    function conclude() {
      asked = null;
      if (status.dataset.state !== "asked") return;
      status.dataset.state = "";
      life.finish();
      ended();
    }

    function lost(why) {
      conclude();
      tell(`answer.${why}`, undefined, why !== "busy");
      if (why === "busy") retry = setTimeout(ask, RETRY_MS * (0.75 + Math.random() / 2));
    }

    // The visitor does not want the answer.
    function stop() {
      if (status.dataset.state !== "asked") return;
      status.dataset.state = "";
      life.stop();
      ended();
    }

    function forget() {
      stop();
      asked = null;
    }

    // Sends pictures from now on. A tab that is not in front does so when it comes there.
    function watch() {
      watching = true;
      shared.on("settled", () => ask());
      shared.on("noise", () => ask());
    }

    return { tell, note, take, ask, stop, forget, watch };
  }

  // ---------------------------------------------------------------- a tab with a form that draws pictures

  // Brings .go, .stop, .new-seed, .status and .progress to life.
  //   send, expect: see `requests`; busy(on): a request begins or ends; take(message): shows a part of its answer;
  //   stopped(): it has ended early, with something to show.
  function sampling(element, { send, expect, busy = () => {}, take, stopped }) {
    const $ = (selector) => element.querySelector(selector);
    const [go, stop, form] = [".go", ".stop", ".controls"].map($);
    const line = ddpm.line($(".status:not(.picker-status)"));
    const waiting = () => line.tell(orWaking("reverse.waiting"));
    const life = requests({ send, expect, waiting, lost, single: true });
    let shows = false; // some pictures of the request have come

    const progress = (share) => {
      $(".progress i").style.width = `${100 * share}%`;
    };

    function setRunning(on) {
      const swap = () => {
        go.hidden = on;
        stop.hidden = !on;
      };
      ddpm.keepFocus([go, stop], swap, () => (on ? stop : go));
      for (const control of element.querySelectorAll(".player :is(.play, .t-bar input)")) control.disabled = on;
      $(".tab").classList.toggle("running", on);
      if (!on) progress(0);
      busy(on);
    }

    function start(message) {
      if (ddpm.isLost()) return line.tell("answer.lost"); // no request begins, so the tab stays as it is
      shows = false;
      setRunning(true);
      line.tell("reverse.starting");
      life.start(message);
    }

    // Ends the request. `key`: the text to show afterwards.
    function end(key = null, fields) {
      life.finish();
      setRunning(false);
      line.tell(key, fields);
    }

    function endEarly(key) {
      end();
      if (shows) stopped();
      if (key) line.tell(key);
    }

    function lost(why) {
      endEarly(why === "lost" ? "answer.lost" : `reverse.${why}`);
    }

    function hear(message) {
      if (!life.hear(message)) return;
      if (message.kind === "started") return line.note("reverse.starting");
      if (message.kind === "waking") return line.note("answer.waking");
      if (message.kind === "failed") return endEarly("reverse.failed");
      if (message.kind === "refused") {
        end();
        return line.refuse(message);
      }
      shows ||= message.kind === "frame";
      take(message);
    }

    stop.addEventListener("click", () => {
      life.stop();
      endEarly();
    });
    // A refusal is about the contents of the fields: it disappears once they change.
    form.addEventListener("input", () => line.refused() && line.tell(null));
    $(".new-seed")?.addEventListener("click", () => {
      form.elements.seed.value = Math.floor(Math.random() * 100000);
      if (!life.active()) form.requestSubmit();
    });

    // The tab waits for an example that the server draws by itself.
    function noteAwaited() {
      line.note(orWaking("reverse.drawing"));
    }

    return {
      tell: line.tell,
      note: line.note,
      shown: line.shown,
      noteAwaited,
      start,
      end,
      hear,
      progress,
      active: life.active,
      number: life.number,
    };
  }

  // ---------------------------------------------------------------- a tab that polls the server

  const POLL_MS = 300;
  const MISSES = 40; // failed looks in a row after which the server counts as lost

  //   look(): asks the server what is new; take(news, current): shows it; current() is false once the polling was
  //   ended or begun anew meanwhile; lost(): the server does not answer any more.
  function polling({ look, take, lost }) {
    let number = 0; // of the latest start; answers to earlier ones are ignored
    let timer = 0;

    function start() {
      stop();
      poll(number, 0);
    }

    async function poll(token, misses) {
      const current = () => token === number;
      const news = await look().catch(() => null);
      if (!current()) return;
      if (!news && misses >= MISSES) {
        stop();
        return lost();
      }
      if (news) await take(news, current);
      if (current()) timer = setTimeout(poll, POLL_MS, token, news ? 0 : misses + 1);
    }

    function stop() {
      number++;
      clearTimeout(timer);
    }

    return { start, stop };
  }

  // ---------------------------------------------------------------- what the server draws by itself

  const awaited = new Set(); // the tabs that wait for drawings, by what `front` returns

  const BEHIND_MS = 200; // between two looks whether a tab has come to the front

  // While the tab of `element` is in front (null: always), calls ask() until it finds something, which is returned, or until wanted()
  // is false; then null is returned. Calls missed() after every ask that finds nothing. A slow model draws for minutes,
  // so the pauses grow. The server draws next what was asked for last, so a tab that nobody sees does not ask.
  async function untilDrawn(element, ask, wanted = () => true, missed = () => {}) {
    const here = element ? ddpm.front(element) : { shown: true };
    const pauseFor = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const waits = { here };
    awaited.add(waits);
    for (let pause = 700; ; ) {
      const seen = here.shown && !document.hidden;
      const found = seen ? await ask().catch(() => null) : null;
      if (found || !wanted()) {
        awaited.delete(waits);
        return wanted() ? found : null;
      }
      if (seen) missed();
      await pauseFor(seen ? pause : BEHIND_MS);
      if (seen) pause = Math.min(1.02 * pause, 10_000);
    }
  }

  Object.assign(ddpm, {
    visitor,
    addressed,
    reading,
    sampling,
    polling,
    untilDrawn,
    orWaking,
    isAwaiting: () => [...awaited].some(({ here }) => here.shown),
  });
})();
