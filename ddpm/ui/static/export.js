// Saves the pictures of a trajectory as files, which the browser makes.
// Needs language.js, pictures.js, gif.js, trajectory.js, labelling.js. Gives saving.
(() => {
  const { channels, model } = ddpm.page;
  const WHITE = 0xffffff; // the paper
  const GAP = 1; // between pictures, in their pixels
  const MARGIN = 4; // around a grid
  const GRID_WIDTH = 480; // of an enlarged grid, about
  const MAX_SCALE = 8;
  const ALL_MS = 4000; // one way through a trajectory, as the page plays it
  const END_MS = 1500; // the pause at the end

  // Grids of pictures beside each other on white: {width, height, colours (0xRRGGBB), scale (by which to enlarge it)}.
  //   grids: each the (n, H, W, C) bytes of its pictures.
  function sheet(grids, n, columns) {
    const [across, down] = ddpm.sizeOf(grids[0].length / n / channels);
    const wide = columns * (across + GAP) - GAP + MARGIN;
    const width = grids.length * wide + MARGIN;
    const height = Math.ceil(n / columns) * (down + GAP) - GAP + 2 * MARGIN;
    const colours = new Int32Array(width * height).fill(WHITE);
    grids.forEach((bytes, k) => {
      for (let i = 0, from = 0; i < n; i++) {
        const top = MARGIN + Math.floor(i / columns) * (down + GAP);
        const corner = top * width + MARGIN + k * wide + (i % columns) * (across + GAP);
        for (let y = 0; y < down; y++) {
          for (let x = 0; x < across; x++, from += channels) {
            const [r, g, b] = channels === 3 ? bytes.subarray(from, from + 3) : [bytes[from], bytes[from], bytes[from]];
            colours[corner + y * width + x] = (r << 16) | (g << 8) | b;
          }
        }
      }
    });
    return { width, height, colours, scale: Math.max(1, Math.min(MAX_SCALE, Math.floor(GRID_WIDTH / wide))) };
  }

  function pngOf({ width, height, colours, scale }) {
    const small = Object.assign(document.createElement("canvas"), { width, height });
    const image = new ImageData(width, height);
    colours.forEach((colour, i) => image.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], 4 * i));
    small.getContext("2d").putImageData(image, 0, 0);
    const large = Object.assign(document.createElement("canvas"), { width: width * scale, height: height * scale });
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, large.width, large.height);
    return new Promise((resolve) => large.toBlob(resolve, "image/png"));
  }

  // "mnist_ddim_50-steps_label-3_s-2_seed-1", without label and s if there is no label
  function stem(request) {
    const { sampler, eta, num_inference_steps: steps, seed } = request;
    const { isGiven, told } = ddpm.labelling;
    const asked = isGiven(request) ? [`label-${told(request).name}`, `s-${told(request).s}`] : [];
    return [model, sampler + (eta ? `-eta-${eta}` : ""), `${steps}-steps`, ...asked, `seed-${seed}`]
      .join("_")
      .replace(/[^\p{L}\p{N}_.+-]+/gu, "-");
  }

  function save(blob, name) {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // Brings .save-gif and .save-png to life.
  //   shown(): {n, t, frames, request} as ddpm.trajectory has it; at(): index of the frame on screen; columns(n).
  // Returns `enable(on)`.
  function saving(element, { shown, at, columns }) {
    const [gifButton, pngButton] = [".save-gif", ".save-png"].map((name) => element.querySelector(name));
    let making = null; // a new object for each file; null while none is made

    function label(fields) {
      ddpm.setText(gifButton.firstElementChild, fields ? "reverse.save_gif.stop" : "reverse.save_gif", fields);
    }

    // Saves every frame from the noise to the picture, x_t beside x0_hat.
    async function saveGif() {
      const source = shown();
      const last = source.t.length - 1;
      const token = {};
      making = token;
      let file = null;
      for (let frame = 0; frame <= last; frame++) {
        const grids = [0, 1].map((kind) => ddpm.trajectory.plane(source, frame, kind));
        const { width, height, colours, scale } = sheet(grids, source.n, columns(source.n));
        file ??= ddpm.gif(width, height, scale);
        file.add(colours, Math.round((frame === last ? END_MS : Math.max(20, ALL_MS / last)) / 10));
        label({ done: frame + 1, total: last + 1 });
        await new Promise((resolve) => setTimeout(resolve)); // so that the page stays responsive
        if (making !== token) return;
      }
      stop();
      const end = source.t[last] ? `_to-t-${source.t[last]}` : ""; // if the sampling was stopped
      save(new Blob([file.done()], { type: "image/gif" }), `${stem(source.request)}${end}.gif`);
    }

    function stop() {
      making = null;
      label();
    }

    async function savePng() {
      const [source, frame] = [shown(), at()];
      const name = `${stem(source.request)}_t-${source.t[frame]}.png`;
      const finished = !source.t[frame] && source.whole;
      const pictures = finished || ddpm.trajectory.plane(source, frame, 0);
      save(await pngOf(sheet([pictures], source.n, columns(source.n))), name);
    }

    gifButton.addEventListener("click", () => (making ? stop() : saveGif()));
    pngButton.addEventListener("click", savePng);
    ddpm.onLanguage(() => making || label());
    label();
    return {
      enable(on) {
        if (!on) stop();
        gifButton.disabled = pngButton.disabled = !on;
      },
    };
  }

  Object.assign(ddpm, { saving });
})();
