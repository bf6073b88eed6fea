// Finds the drawing in a picture as people have it, and lays it out like the pictures of the data: dark ink on a
// transparent ground, a photograph of paper with a shadow on it, chalk on a board. Everything happens in the browser.
// Gives drawingOf, strokeShare.
(() => {
  const WORK = 256; // longest side at which a picture is examined, in pixels
  const REACH = 0.09; // half the width of the widest stroke that is taken for ink, as a share of that side
  const CONTRAST = 0.12; // ink differs at least so much from its ground, as a share of the ground's brightness
  const COVER = [0.001, 0.4]; // ink covers such shares of a picture; more than that is a scene and not a drawing

  const strokeShare = (size) => (size <= 12 ? 0.13 : 0.085); // width of a stroke of the data, as a share of the side

  // A plane of numbers: {width, height, data: Float32Array}.
  const plane = (width, height, data = new Float32Array(width * height)) => ({ width, height, data });
  const map = (a, f) => plane(a.width, a.height, a.data.map(f));

  // The brightness and the opacity of an image, both 0 to 1, at the working size.
  function planesOf(image) {
    const scale = Math.min(1, WORK / Math.max(image.width, image.height));
    const [width, height] = [image.width, image.height].map((n) => Math.max(1, Math.round(n * scale)));
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    const rgba = context.getImageData(0, 0, width, height).data;
    const light = plane(width, height);
    const alpha = plane(width, height);
    for (let i = 0; i < width * height; i++) {
      const [r, g, b, a] = rgba.subarray(4 * i, 4 * i + 4);
      light.data[i] = (0.299 * r + 0.587 * g + 0.114 * b) / 255;
      alpha.data[i] = a / 255;
    }
    return { light, alpha };
  }

  // The largest value (pick = Math.max) or the smallest within `reach` pixels, over a square: first along the rows, then
  // along the columns. Each pass doubles the span that a value stands for.
  function extreme(a, reach, pick) {
    const { width, height } = a;
    const along = (source, lines, length, step, stride) => {
      const out = new Float32Array(source.length);
      const span = Math.min(2 * reach + 1, 2 * length);
      const line = new Float32Array(length + span);
      for (let k = 0; k < lines; k++) {
        for (let i = 0; i < line.length; i++) {
          const at = Math.max(0, Math.min(length - 1, i - reach)); // beyond the border its last value stands
          line[i] = source[k * stride + at * step];
        }
        let seen = 1;
        for (; 2 * seen <= span; seen *= 2) {
          for (let i = 0; i + seen < line.length; i++) line[i] = pick(line[i], line[i + seen]);
        }
        for (let i = 0; i < length; i++) out[k * stride + i * step] = pick(line[i], line[i + span - seen]);
      }
      return out;
    };
    return plane(width, height, along(along(a.data, height, width, 1, width), width, height, width, 1));
  }

  // The mean over 3 x 3 pixels, which removes the grain of paper and camera.
  function smooth(a) {
    const { width, height, data } = a;
    const out = plane(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        let seen = 0;
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++, seen++) sum += data[v * width + u];
        }
        out.data[y * width + x] = sum / seen;
      }
    }
    return out;
  }

  const percentile = (data, share) => Float32Array.from(data).sort()[Math.floor(share * (data.length - 1))];

  // Whether ink is darker than its ground. It covers less than half of nearly every window, so the median of a window is
  // ground. Windows are small, since a shadow may lie over half of the picture.
  function isDarkInk(a) {
    const side = Math.max(4, Math.round(Math.max(a.width, a.height) / 5));
    let [darker, brighter] = [0, 0];
    for (let top = 0; top + side / 2 <= a.height; top += Math.ceil(side / 2)) {
      for (let left = 0; left + side / 2 <= a.width; left += Math.ceil(side / 2)) {
        const values = [];
        for (let y = top; y < Math.min(a.height, top + side); y += 2) {
          for (let x = left; x < Math.min(a.width, left + side); x += 2) values.push(a.data[y * a.width + x]);
        }
        const [low, middle, high] = [0.05, 0.5, 0.95].map((share) => Math.log(percentile(values, share) + 0.05));
        darker += (middle - low) ** 2;
        brighter += (high - middle) ** 2;
      }
    }
    return darker >= brighter;
  }

  // How much ink there is at each pixel, 0 to 1; null where there is no ground that it could lie on.
  function inkOf({ light, alpha }) {
    const clear = alpha.data.reduce((sum, a) => sum + (a < 0.5), 0) / alpha.data.length;
    if (clear > 0.05) {
      const opaque = alpha.data.reduce((sum, a) => sum + a, 0);
      const mean = alpha.data.reduce((sum, a, i) => sum + a * light.data[i], 0) / opaque;
      return opaque ? map(alpha, (a, i) => a * (mean < 0.5 ? 1 - light.data[i] : light.data[i])) : null;
    }
    const seen = smooth(light);
    const isDark = isDarkInk(seen);
    if (!isDark && percentile(seen.data, 0.5) < 0.15) return null; // bright on black already, like the data
    // Closing (or opening, for chalk) fills what is narrower than the reach and leaves shadows as they are.
    const reach = Math.max(1, Math.round(REACH * Math.max(seen.width, seen.height)));
    const [first, second] = isDark ? [Math.max, Math.min] : [Math.min, Math.max];
    const ground = extreme(extreme(seen, reach, first), reach, second);
    return isDark
      ? map(ground, (value, i) => 1 - seen.data[i] / Math.max(value, 0.02))
      : map(ground, (value, i) => (seen.data[i] - value) / Math.max(1 - value, 0.02));
  }

  // Otsu's threshold: the one that tells two groups of values best apart. Returns it with the means of both groups.
  function otsu(data) {
    const bins = new Float64Array(64);
    for (const value of data) bins[Math.max(0, Math.min(63, Math.floor(value * 64)))]++;
    const all = data.length;
    const total = bins.reduce((sum, n, k) => sum + n * (k + 0.5), 0);
    let best = { between: -1 };
    let below = 0;
    let sum = 0;
    for (let k = 0; k < 63; k++) {
      below += bins[k];
      sum += bins[k] * (k + 0.5);
      if (!below || below === all) continue;
      const [low, high] = [sum / below, (total - sum) / (all - below)];
      const between = below * (all - below) * (high - low) ** 2;
      if (between > best.between) best = { between, threshold: (k + 1) / 64, low: low / 64, high: high / 64 };
    }
    return best;
  }

  // The pieces of a mask that hang together (also over corners): lists of indices.
  function pieces(mask, width, height) {
    const seen = new Uint8Array(mask.length);
    const found = [];
    for (let start = 0; start < mask.length; start++) {
      if (!mask[start] || seen[start]) continue;
      const piece = [start];
      let atBorder = false;
      seen[start] = 1;
      for (let k = 0; k < piece.length; k++) {
        const x = piece[k] % width;
        const y = (piece[k] - x) / width;
        atBorder ||= x === 0 || y === 0 || x === width - 1 || y === height - 1;
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
            const i = v * width + u;
            if (mask[i] && !seen[i]) {
              seen[i] = 1;
              piece.push(i);
            }
          }
        }
      }
      found.push({ pixels: piece, atBorder });
    }
    return found;
  }

  // Leaves specks out, and what runs over the border (lines of the paper, the edge of the table) beside a whole drawing.
  function cleaned(mask, width, height) {
    const all = pieces(mask, width, height);
    const inside = all.filter((piece) => !piece.atBorder);
    const size = (list) => list.reduce((sum, piece) => Math.max(sum, piece.pixels.length), 0);
    const kept = size(inside) > 0.1 * size(all) ? inside : all;
    const out = new Uint8Array(mask.length);
    for (const { pixels } of kept) {
      if (pixels.length >= 0.03 * size(kept)) for (const i of pixels) out[i] = 1;
    }
    return out;
  }

  // The rectangle around the pixels of a mask: [left, top, right, bottom], the last two exclusive.
  function bounds(mask, width) {
    let [left, top, right, bottom] = [width, mask.length, 0, 0];
    mask.forEach((is, i) => {
      if (!is) return;
      const x = i % width;
      const y = (i - x) / width;
      [left, top, right, bottom] = [
        Math.min(left, x),
        Math.min(top, y),
        Math.max(right, x + 1),
        Math.max(bottom, y + 1),
      ];
    });
    return [left, top, right, bottom];
  }

  // The mean width of the strokes of a mask: a stroke of length l and width w has l w pixels, 2 l of them at its edges.
  function strokeWidth(mask, width) {
    let area = 0;
    let edges = 0;
    mask.forEach((is, i) => {
      if (!is) return;
      area++;
      if (!mask[i - 1] || !mask[i + 1] || !mask[i - width] || !mask[i + width]) edges++;
    });
    return (2 * area) / Math.max(1, edges);
  }

  // Strokes made wider by `radius` on each side.
  function widened(a, radius) {
    const { width, height, data } = a;
    const out = plane(width, height, data.slice());
    const steps = [];
    for (let v = -radius; v <= radius; v++) {
      for (let u = -radius; u <= radius; u++) if (u * u + v * v <= radius * radius) steps.push([u, v]);
    }
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = data[y * width + x];
        if (!value) continue;
        for (const [u, v] of steps) {
          if (x + u < 0 || y + v < 0 || x + u >= width || y + v >= height) continue;
          const i = (y + v) * width + x + u;
          out.data[i] = Math.max(out.data[i], value);
        }
      }
    }
    return out;
  }

  // The plane with an empty frame of `margin` pixels, for strokes that become wider at the border.
  function framed(a, margin) {
    const out = plane(a.width + 2 * margin, a.height + 2 * margin);
    for (let y = 0; y < a.height; y++) {
      out.data.set(a.data.subarray(y * a.width, (y + 1) * a.width), (y + margin) * out.width + margin);
    }
    return out;
  }

  // Lays the drawing out as MNIST's digits are: its longer side takes `share` of the picture, and its centre of mass is
  // the middle, as far as it stays inside. Returns size x size bytes, bright on black.
  function layOut(a, size, share) {
    const mask = a.data.map((value) => value > 0.1);
    const [left, top, right, bottom] = bounds(mask, a.width);
    const step = Math.max(right - left, bottom - top) / (share * size); // pixels of the drawing per pixel of the result
    let [mass, sumX, sumY] = [0, 0, 0];
    a.data.forEach((value, i) => {
      mass += value;
      sumX += value * ((i % a.width) + 0.5);
      sumY += value * (Math.floor(i / a.width) + 0.5);
    });
    const place = (middle, low, high) => {
      const offset = middle - (size / 2) * step; // where pixel 0 of the result begins
      return Math.max(high - size * step, Math.min(low, offset));
    };
    const [x0, y0] = [place(sumX / mass, left, right), place(sumY / mass, top, bottom)];
    const fine = Math.min(12, Math.max(4, Math.ceil(step) + 1)); // samples along each side of a pixel
    const means = new Float32Array(size * size);
    for (let i = 0; i < size * size; i++) {
      for (let k = 0; k < fine * fine; k++) {
        const x = Math.floor(x0 + ((i % size) + ((k % fine) + 0.5) / fine) * step);
        const y = Math.floor(y0 + (Math.floor(i / size) + (Math.floor(k / fine) + 0.5) / fine) * step);
        if (x >= 0 && y >= 0 && x < a.width && y < a.height) means[i] += a.data[y * a.width + x] / fine ** 2;
      }
    }
    const full = Math.max(
      0.05,
      percentile(
        means.filter((value) => value > 0.05),
        0.9,
      ),
    );
    return new Uint8ClampedArray(Array.from(means, (value) => (255 * value) / full));
  }

  // The drawing in an image, laid out for a model whose pictures are bright on black.
  //   share: how much of the picture's side the longer side of a drawing takes in the data.
  // Returns size x size bytes; null if the image shows no drawing, or is bright on black already.
  function drawingOf(image, size, share) {
    const ink = inkOf(planesOf(image));
    if (!ink) return null;
    const { threshold, low, high } = otsu(ink.data);
    if (!(high - low > CONTRAST)) return null;
    const { width, height } = ink;
    const mask = cleaned(
      ink.data.map((value) => value > threshold),
      width,
      height,
    );
    const cover = mask.reduce((sum, is) => sum + is, 0) / mask.length;
    if (cover < COVER[0] || cover > COVER[1]) return null;
    const near = extreme(plane(width, height, Float32Array.from(mask)), 1, Math.max).data; // with the soft edge around it
    const soft = map(ink, (value, i) => near[i] * Math.max(0, Math.min(1, (value - low) / (high - low))));
    const [left, top, right, bottom] = bounds(mask, width);
    const wanted = (strokeShare(size) / share) * Math.max(right - left, bottom - top);
    const radius = Math.max(0, Math.round((wanted - strokeWidth(mask, width)) / 2));
    return layOut(widened(framed(soft, radius), radius), size, share);
  }

  Object.assign(ddpm, { drawingOf, strokeShare });
})();
