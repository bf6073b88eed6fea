// Rows of pictures from one noise, under one slider of t (parts.rows_board): "Compare", "What goes wrong", "Labels".
// Needs language.js, shared.js, pictures.js, slider.js, controls.js, request.js, trajectory.js, player.js. Gives rows.
(() => {
  const { KINDS, picture, plane: planeBytes, paint, thinned, nearestFrame } = ddpm.trajectory;
  const { count, newCanvas, say } = ddpm;
  const large = ddpm.page.resolution > ddpm.LARGE;
  const EMPTY = { n: 0, t: [], frames: [] };

  // ---------------------------------------------------------------- the pictures of a row

  // As many canvases as a row has pictures; on a narrow screen they lie in two lines.
  function fitGrid(grid, n) {
    if (grid.children.length === n) return;
    // Columns at least, so that few pictures are not larger than many.
    grid.style.setProperty("--least", large ? 3 : 6);
    grid.style.setProperty("--least-narrow", large ? 2 : 6);
    grid.style.setProperty("--columns", n);
    grid.style.setProperty("--narrow", large ? Math.min(n, 2) : n <= 6 ? n : Math.ceil(n / 2));
    grid.replaceChildren(...Array.from({ length: n }, newCanvas));
  }

  // Root mean square of the difference between the finished pictures of two rows, pixels in [-1, 1].
  function difference(a, b) {
    const [x, y] = [a, b].map((row) => row.whole ?? planeBytes(row, row.t.length - 1, 0));
    let sum = 0;
    for (let k = 0; k < x.length; k++) sum += ((x[k] - y[k]) / 127.5) ** 2;
    return Math.sqrt(sum / x.length);
  }

  function awayFrom(firstRow, row) {
    row.away ??= difference(row, firstRow);
    return row.away;
  }

  // Figures of a row. When complete: cost, distance from row 1, reach of the guesses at `frame`; before: progress.
  function figuresOf(row, firstRow, frame, guesses) {
    if (!row.found) return row.step ? [say("reverse.running", row)] : [];
    const { calls, seconds, reach } = row.found;
    const parts = [say("rows.calls", { calls }), say("rows.seconds", { seconds: seconds.toFixed(2) })];
    if (row !== firstRow && firstRow.found && firstRow.n === row.n) {
      parts.push(say("rows.away", { away: awayFrom(firstRow, row).toFixed(3) }));
    }
    parts.push(...thinned(row.found));
    if (guesses) parts.push(say("rows.reach", { reach: reach[frame].toFixed(2) }));
    return parts;
  }

  // Draws row i, whose element is `head`, at its frame closest to t.
  //   plane: index of KINDS; name: of the row; instead: text in place of its figures, null for none.
  function drawRow(head, shown, i, { t, plane, name, instead }) {
    const row = shown[i];
    const frame = nearestFrame(row.t, t);
    const grid = head.querySelector(".grid");
    const asked = Number(head.closest(".tab").querySelector('[name="num_images"]')?.value);
    fitGrid(grid, row.n || shown[0].n || asked || 6);
    if (row.frames.length) {
      [...grid.children].forEach((canvas, k) => paint(canvas, plane, picture(row, frame, plane, k)));
    }
    const what = say(`reverse.${KINDS[plane]}.label`);
    grid.setAttribute("aria-label", say("rows.label", { i: i + 1, name, what, t: row.t[frame] ?? t }));
    head.setAttribute("aria-label", say("rows.row", { i: i + 1, name }));
    head.classList.toggle("empty", !row.frames.length);
    const figures = instead === null ? figuresOf(row, shown[0], frame, KINDS[plane] === "x0_hat") : [instead];
    const spans = figures.map((figure) => Object.assign(document.createElement("span"), { textContent: figure }));
    head.querySelector(".figures").replaceChildren(...spans);
  }

  // ---------------------------------------------------------------- the rows on screen

  // The switch between the planes of all rows: index() of the one that is shown, show(kind), and tell(none): the noise
  // is gray since the rows show finished pictures, which have no x_t whose noise the network could predict.
  function planeOf(element, draw) {
    const $ = (selector) => element.querySelector(selector);
    const planes = ddpm.switchOf($(".view .switch"));
    let shown = KINDS[0];
    let gray = false;

    function write() {
      const noise = shown === "eps_hat";
      ddpm.setText($(".plane-name"), `reverse.${shown}${noise && gray ? ".none" : ""}`);
      $(".view .legend").hidden = !noise || gray;
    }

    function tell(none) {
      if (none === gray) return;
      gray = none;
      write();
    }

    function show(kind = shown) {
      shown = kind;
      planes.show(kind);
      $(".rows").dataset.object = kind;
      write();
      draw();
    }
    planes.onChoose(show);
    return { index: () => KINDS.indexOf(shown), show, tell };
  }

  // Brings the rows, the switch between their planes, the slider and the player to life.
  //   name(i): the name of row i; instead(i): text in place of its figures; changed(i): row i shows other pictures;
  //   held(): another tab must not move t now.
  function board(element, { name, instead, changed, held }) {
    const $ = (selector) => element.querySelector(selector);
    const list = $(".rows");
    const template = $("template").content.firstElementChild;
    const heads = () => [...list.children];
    const shown = []; // of each row {n, t, frames}, and once it is complete `found`: what the server sent with them
    let here = ddpm.T; // t of all rows; each shows its nearest frame
    let ts = []; // the t at which some row has a frame, descending

    const bar = ddpm.tBar($(".t-bar"), (t) => {
      player.pause();
      goTo(t);
    });
    const player = ddpm.player(element, {
      frames: () => ts.length,
      at: () => nearestFrame(ts, here),
      goTo: (i) => goTo(ts[i]),
    });
    const front = ddpm.front(element, (on) => on && draw());

    function draw() {
      if (!front.shown) return; // it draws when it comes to the front
      const common = { t: here, plane: plane.index() };
      heads().forEach((head, i) => drawRow(head, shown, i, { ...common, name: name(i), instead: instead(i) }));
    }
    const plane = planeOf(element, draw);

    // The closest t at which a row has a frame.
    const nearest = (t) => (ts.length ? ts[nearestFrame(ts, t)] : t);

    function show(t) {
      here = t;
      bar.show(t);
      plane.tell(t === 0);
      draw();
    }

    function goTo(t) {
      show(t);
      share(t);
    }

    function set(i, trajectory) {
      shown[i] = trajectory;
      for (const row of shown) delete row.away; // the first row may be another one now
      ts = [...new Set(shown.flatMap((row) => row.t))].sort((a, b) => b - a);
      bar.setMarks(ts.length ? ts : null);
      changed(i);
    }

    function add() {
      const row = template.cloneNode(true);
      ddpm.translate(row);
      list.append(row);
      shown.push(EMPTY);
      return row;
    }

    function remove(i) {
      heads()[i].remove();
      shown.splice(i, 1);
      if (shown.length) set(0, shown[0]);
      draw();
    }

    const share = ddpm.sharing(element, (t) => {
      if (!ts.length || held()) return;
      player.pause();
      show(nearest(t));
    });
    ddpm.onTheme(draw);
    ddpm.onLanguage(() => {
      bar.show(here);
      plane.show();
    });
    bar.show(here);
    plane.show();
    const t = { show, goTo, nearest, shareNow: () => share(here), pause: player.pause };
    return { heads, shown, add, remove, set, draw, showPlane: plane.show, t };
  }

  // ---------------------------------------------------------------- drawing them on the server

  // A frame that came while the server draws. `own`: its t on the axis of the row's model.
  function addFrame(row, { t, own, data, step, steps }) {
    row.t.push(t);
    row.own.push(own);
    row.frames.push(ddpm.bytesOf(data));
    Object.assign(row, { step, steps });
  }

  // t of a row on the slider: its own, or the same share of T where its model has another T than the page's.
  function onSlider(t, name) {
    const model = ddpm.page.models.find((each) => each.name === name);
    return !model || model.T === ddpm.T ? t : Math.ceil((t * ddpm.T) / model.T);
  }

  // Shows the same noise in every row, before there are pictures.
  function paintNoise(head) {
    [...head.querySelectorAll("canvas")].forEach((canvas, k) => ddpm.paint(canvas, ddpm.normal(k + 1, count)));
  }

  // The request of a tab, whose frames and finished rows go to the board. Returns drawing, see ddpm.sampling, and
  // start(message).
  //   fetch, send, expect, busy: see `rows`; finished(): all rows are there; stopped(): some rows are unfinished.
  function rowDrawing(element, { shown, set, draw, t }, { fetch, send, expect, busy, finished, stopped }) {
    let begun = new Set(); // the rows of which the current request has sent frames
    let fetching = new Map(); // the finished rows, each with a promise of whether it could be fetched
    let finishing = false; // all rows are drawn, and their pictures are on the way
    let models = []; // of each row, if it is another one than the page's

    // A message has the frame of one row, or in `parts` those of several.
    function takeFrames(message) {
      for (const part of message.parts ?? [message]) takeFrame({ ...message, ...part });
    }

    function takeFrame(message) {
      const i = message.row;
      if (!begun.has(i)) {
        begun.add(i);
        set(i, { n: message.n, t: [], own: [], frames: [] });
      }
      const at = onSlider(message.t, models[i]);
      addFrame(shown[i], { ...message, t: at, own: message.t });
      t.show(at); // the other tabs follow at the end
      drawing.progress(message.share);
      drawing.note("rows.running", () => ({ t: at }));
    }

    // Resolves to whether the row could be fetched.
    async function takeRow({ row, key, run }) {
      const model = models[row];
      const placed = (trajectory) => ({ ...trajectory, t: trajectory.t.map((at) => onSlider(at, model)) });
      const streamed = begun.has(row) ? shown[row] : EMPTY;
      const have = new Map((streamed.own ?? []).map((at, i) => [at, streamed.frames[i]]));
      const underWay = (known, done, total) => {
        if (drawing.number() !== run) return;
        drawing.hear({ kind: "fetching", run }); // the server is not silent
        set(row, placed(known));
        if (finishing) drawing.note("reverse.fetching", () => ({ done, total }));
        draw();
      };
      const ask = (asked) => fetch(asked, model);
      const found = await ddpm.trajectory.fetch(ask, key, { have, part: underWay }).catch(() => null);
      if (!found || drawing.number() !== run) return Boolean(found);
      if (model) found.found.request.model = model;
      set(row, placed(found));
      draw();
      return true;
    }

    const fetchRow = (message) => fetching.set(message.row, takeRow(message));

    async function finish({ run, keys }) {
      finishing = true;
      drawing.note("reverse.coming");
      keys.forEach((key, row) => fetching.has(row) || fetchRow({ row, key, run })); // whose message got lost
      const complete = (await Promise.all(fetching.values())).every(Boolean);
      if (drawing.number() !== run) return;
      if (!complete) return drawing.end("reverse.failed");
      drawing.end();
      finished();
    }

    const drawing = ddpm.sampling(element, {
      send,
      expect,
      busy,
      take(message) {
        if (message.kind === "frame") takeFrames(message);
        else if (message.kind === "row") fetchRow(message);
        else if (message.kind === "done") finish(message);
      },
      stopped() {
        for (const i of begun) set(i, shown[i]); // the slider's marks
        drawing.tell("rows.stopped");
        stopped();
        draw();
      },
    });

    function start(message) {
      t.pause();
      begun = new Set();
      fetching = new Map();
      finishing = false;
      models = (message.rows ?? []).map(({ model }) => model);
      drawing.start(message);
    }

    return { drawing, start };
  }

  // Brings the rows of a tab to life.
  //   fetch(asked, model): the server function that returns a trajectory, of a model whose name a row sends; send(message), expect: see ddpm.sampling;
  //   name, instead, changed: see `board`; busy(on): a request begins or ends; done(): all rows are there; end(): the t
  //   to go to then.
  function rows(element, options) {
    const { fetch, send, expect, name, instead = () => null, changed = () => {}, busy, done, end = () => 0 } = options;
    const { t, ...onScreen } = board(element, { name, instead, changed, held: () => drawing.active() });
    const { shown, set, draw, heads } = onScreen;
    let linked = false; // a link has set t: it stays there, whatever is drawn

    const { drawing, start } = rowDrawing(
      element,
      { shown, set, draw, t },
      {
        fetch,
        send,
        expect,
        busy,
        finished() {
          if (linked) keepT();
          else t.goTo(end());
          done();
        },
        stopped: () => linked || t.shareNow(),
      },
    );

    function keepT() {
      linked = true;
      if (shown.some((row) => row.t.length)) t.show(t.nearest(ddpm.shared.get("t")));
    }

    // Before the first click: noise at once, then the rows that the server draws by itself.
    //   keys(): the server function that names them; took(i, found): shows it in row i; wanted(): whether the example
    //   is still wanted.
    // Returns whether they are there now.
    async function showExample(keys, took, wanted = () => true) {
      drawing.tell("reverse.drawing");
      draw();
      heads().forEach(paintNoise);
      const ask = async () => {
        const drawn = await Promise.all(((await keys()) ?? []).map((key) => ddpm.trajectory.fetch(fetch, key)));
        return drawn.length && drawn.every(Boolean) && drawn;
      };
      const isWanted = () => drawing.number() === 0 && wanted();
      const found = await ddpm.untilDrawn(element, ask, isWanted, drawing.noteAwaited);
      if (found?.length !== shown.length) return false; // a visitor's own rows are on screen
      found.forEach((trajectory, i) => {
        took(i, trajectory.found);
        set(i, trajectory);
      });
      t.show(linked ? t.nearest(ddpm.shared.get("t")) : 0); // the finished pictures are what is compared first
      return true;
    }

    return {
      ...onScreen,
      start(message) {
        linked = false;
        start(message);
      },
      keepT,
      showExample,
      drawing,
      found: (i) => shown[i].found,
      // How far the finished pictures of row i are from those of the first; null until both are there.
      away: (i) => (shown[0].found && shown[i].found ? awayFrom(shown[0], shown[i]) : null),
    };
  }

  ddpm.rows = rows;
})();
