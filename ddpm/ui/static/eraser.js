// Erasing a part of a picture with a brush: by mouse, pen and finger, and by the keyboard.
// Needs language.js, shared.js, pictures.js. Gives eraser.
(() => {
  const { count, shared, say } = ddpm;
  const { width, height, channels } = ddpm.page;
  const size = Math.min(width, height);
  const SHADES = [
    [99, 102, 241],
    [165, 170, 250],
  ]; // of the squares that stand for what is erased
  const SQUARES = 14; // along a side
  const BRUSH = 0.18; // width of a stroke as a share of the side
  const UNDONE = 40; // strokes that can be taken back
  const STEP = Math.max(1, Math.round(size / 28)); // of an arrow key, in pixels
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const square = Math.max(1, Math.round(size / SQUARES));
  const shade = (x, y) => SHADES[(Math.floor(x / square) + Math.floor(y / square)) % 2];

  // The left half is erased at first, as in the stored example.
  const all = width * height;
  const leftHalf = () => Uint8Array.from({ length: all }, (_, i) => (i % width < Math.floor(width / 2) ? 1 : 0));

  // Eight pixels in a byte, the first one in its highest bit.
  function packed(mask) {
    const bytes = new Uint8Array(Math.ceil(mask.length / 8));
    mask.forEach((one, i) => {
      bytes[i >> 3] |= one << (7 - (i & 7));
    });
    return bytes;
  }

  // The mask of a code; null if it is none of this size.
  function unpacked(code) {
    try {
      const bytes = ddpm.bytesOf(code.replaceAll("-", "+").replaceAll("_", "/"));
      if (bytes.length !== Math.ceil(all / 8)) return null;
      return Uint8Array.from({ length: all }, (_, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1);
    } catch {
      return null; // it is no base64
    }
  }

  // Brings a canvas and its buttons to life.
  //   undo, restore: buttons; changed(): the mask is another one.
  // Returns mask(), (height * width) bytes, 1 where the picture is erased; isEmpty(); torn(picture), the bytes of a picture
  // with 0 where it is erased; isFirst(), whether the mask is the one that it begins with; code(), the mask as text; and
  // read(code), which takes it, or returns [key, fields] of a refusal, see links.js.
  function eraser(canvas, { undo, restore, changed }) {
    let mask = leftHalf();
    let past = []; // masks before each stroke
    let pen = null; // the id of the pointer that is down
    let last = null; // its place, in pixels
    let cursor = null; // the place of the keyboard's brush

    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");

    function redraw() {
      const picture = shared.get("picture");
      if (!picture) return;
      const image = context.createImageData(width, height);
      for (let i = 0; i < all; i++) {
        const at = channels * i;
        const own = channels === 3 ? picture.subarray(at, at + 3) : [picture[at], picture[at], picture[at]];
        image.data.set(mask[i] ? shade(i % width, Math.floor(i / width)) : own, 4 * i);
        image.data[4 * i + 3] = 255;
      }
      if (cursor) outline(image);
      context.putImageData(image, 0, 0);
      undo.disabled = !past.length;
      restore.disabled = isEmpty();
    }

    // The keyboard's brush: a ring of bright and dark pixels, which can be seen on any ground.
    function outline(image) {
      const radius = (BRUSH * size) / 2;
      for (let i = 0; i < all; i++) {
        const away = Math.hypot((i % width) - cursor[0], Math.floor(i / width) - cursor[1]);
        if (Math.abs(away - radius) > 0.5 * STEP) continue;
        image.data.set((i + Math.floor(i / width)) % 2 ? [255, 170, 0] : [20, 20, 20], 4 * i);
      }
    }

    function describe() {
      const erased = mask.reduce((sum, one) => sum + one, 0);
      const share = Math.round((100 * erased) / mask.length);
      const fields = { share, x: cursor ? cursor[0] + 1 : 0, y: cursor ? cursor[1] + 1 : 0 };
      canvas.setAttribute("aria-label", say(cursor ? "mine.torn.at" : "mine.torn.label", fields));
    }

    // Erases a stroke from one place to another, in pixels.
    function stroke([x0, y0], [x1, y1]) {
      const radius = Math.max(0.5, (BRUSH * size) / 2);
      const [dx, dy] = [x1 - x0, y1 - y0];
      const length = dx * dx + dy * dy;
      for (let i = 0; i < all; i++) {
        const [x, y] = [i % width, Math.floor(i / width)];
        const along = length ? Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
        if (Math.hypot(x - x0 - along * dx, y - y0 - along * dy) <= radius) mask[i] = 1;
      }
    }

    function begin() {
      past = [...past.slice(1 - UNDONE), mask];
      mask = mask.slice();
    }

    function show() {
      redraw();
      describe();
      changed();
    }

    function place(event) {
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * width - 0.5,
        ((event.clientY - box.top) / box.height) * height - 0.5,
      ];
    }

    canvas.addEventListener("pointerdown", (event) => {
      if (!ddpm.isMain(event)) return;
      event.preventDefault();
      pen = event.pointerId;
      canvas.setPointerCapture(pen);
      cursor = null;
      begin();
      last = place(event);
      stroke(last, last);
      show();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || event.pointerId !== pen) return;
      for (const step of event.getCoalescedEvents?.() ?? [event]) {
        const next = place(step);
        stroke(last, next);
        last = next;
      }
      show();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => {
        if (event.pointerId === pen) last = null;
      });
    }

    canvas.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") {
        event.preventDefault();
        return takeBack();
      }
      const move = MOVES[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey || !(move || event.key === " ")) return;
      event.preventDefault();
      cursor ??= [Math.floor(width / 2), Math.floor(height / 2)];
      const from = cursor;
      const sides = [width, height];
      if (move) cursor = cursor.map((at, k) => Math.max(0, Math.min(sides[k] - 1, at + STEP * move[k])));
      if (move && !event.shiftKey) {
        redraw();
        return describe();
      }
      if (!event.repeat) begin();
      stroke(from, cursor);
      show();
    });
    canvas.addEventListener("blur", () => {
      cursor = null;
      redraw();
      describe();
    });

    function takeBack() {
      if (!past.length) return;
      mask = past.pop();
      show();
    }

    const isEmpty = () => !mask.includes(1);

    undo.addEventListener("click", takeBack);
    restore.addEventListener("click", () => {
      if (isEmpty()) return;
      begin();
      mask = mask.fill(0);
      show();
    });
    shared.on("picture", redraw);
    ddpm.onLanguage(describe);
    describe();

    return {
      mask: () => mask,
      isEmpty,
      isFirst: () => leftHalf().every((one, i) => one === mask[i]),
      code: () => ddpm.base64Of(packed(mask)).replaceAll("+", "-").replaceAll("/", "_"),
      read(code) {
        const bits = unpacked(code);
        if (!bits) return ["refused.erased", {}];
        mask = bits;
        past = [];
        show();
      },
      torn(picture) {
        const each = count / mask.length;
        return picture.map((value, k) => (mask[Math.floor(k / each)] ? 0 : value));
      },
    };
  }

  Object.assign(ddpm, { eraser });
})();
