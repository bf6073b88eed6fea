// Animated GIF (GIF89a), written here because the page loads no library from elsewhere. Pictures are arrays of colours,
// 0xRRGGBB, row by row.
// Needs nothing. Gives gif.
(() => {
  const CLEAR = 256; // codes below are colours
  const END = 257;
  const MAX_CODES = 4096;
  const SAMPLE = 4096; // about so many pixels make the palette of a picture with more than 256 colours

  // A growing array of bytes.
  function writer() {
    let bytes = new Uint8Array(1 << 16);
    let length = 0;
    const reserve = (more) => {
      if (length + more <= bytes.length) return;
      const larger = new Uint8Array(2 * (length + more));
      larger.set(bytes.subarray(0, length));
      bytes = larger;
    };
    return {
      byte(value) {
        reserve(1);
        bytes[length++] = value;
      },
      bytes(values) {
        reserve(values.length);
        bytes.set(values, length);
        length += values.length;
      },
      short(value) {
        this.bytes([value & 255, value >> 8]);
      },
      done: () => bytes.subarray(0, length),
    };
  }

  // LZW as in GIF: codes of 9 to 12 bits, low bits first; the table starts anew when it is full.
  const follower = new Int16Array(MAX_CODES * 256); // at 256 * code + colour: the code of both together, or 0
  function compress(indices) {
    const out = writer();
    let [size, next, held, bits] = [9, END + 1, 0, 0];
    const put = (code) => {
      held |= code << bits;
      for (bits += size; bits >= 8; bits -= 8) {
        out.byte(held & 255);
        held >>>= 8;
      }
    };
    const restart = () => {
      put(CLEAR);
      follower.fill(0);
      [size, next] = [9, END + 1];
    };
    restart();
    let code = indices[0];
    for (let i = 1; i < indices.length; i++) {
      const at = code * 256 + indices[i];
      if (follower[at]) {
        code = follower[at];
        continue;
      }
      put(code);
      if (next < MAX_CODES) {
        if (next === 1 << size) size++;
        follower[at] = next++;
      } else restart();
      code = indices[i];
    }
    put(code);
    // The reader's table is one code behind: where this one grew to the last code of a size, the reader expects one
    // more bit.
    if (next === 1 << size && size < 12) size++;
    put(END);
    if (bits) out.byte(held & 255);
    return out.done();
  }

  // ---- at most 256 colours

  const parts = (colour) => [colour >> 16, (colour >> 8) & 255, colour & 255];
  const mean = (box, c) => Math.round(box.reduce((sum, colour) => sum + parts(colour)[c], 0) / box.length);

  // Median cut: the box whose widest channel is widest is split at its median, until there are `count`.
  function medianCut(colours, count) {
    const measure = (box) => {
      const ranges = [0, 1, 2].map((c) => {
        const values = box.map((colour) => parts(colour)[c]);
        return Math.max(...values) - Math.min(...values);
      });
      const range = Math.max(...ranges);
      return { box, range, channel: ranges.indexOf(range) };
    };
    const boxes = [measure(colours)];
    while (boxes.length < count) {
      const widest = boxes.reduce((a, b) => (b.range > a.range ? b : a));
      if (!widest.range) break;
      const shift = 16 - 8 * widest.channel;
      const sorted = widest.box.sort((a, b) => ((a >> shift) & 255) - ((b >> shift) & 255));
      const half = sorted.length >> 1;
      boxes.splice(boxes.indexOf(widest), 1, measure(sorted.slice(0, half)), measure(sorted.slice(half)));
    }
    return boxes.map(({ box }) => (mean(box, 0) << 16) | (mean(box, 1) << 8) | mean(box, 2));
  }

  // {palette, indices: of each pixel's colour in it}. Up to 256 colours, as gray pictures have, stay exact. Others
  // become the nearest colour of a palette for this picture, in which white, the paper, stays white.
  function quantise(colours) {
    const unique = new Set(colours);
    let palette = [...unique];
    const place = new Map(palette.map((colour, i) => [colour, i]));
    if (unique.size > 256) {
      const every = Math.ceil(colours.length / SAMPLE);
      palette = [
        0xffffff,
        ...medianCut(
          Array.from(colours).filter((_, i) => i % every === 0),
          255,
        ),
      ];
      const reds = palette.map(parts);
      for (const colour of unique) {
        const [r, g, b] = parts(colour);
        let [best, least] = [0, Infinity];
        for (let i = 0; i < reds.length; i++) {
          const away = (r - reds[i][0]) ** 2 + (g - reds[i][1]) ** 2 + (b - reds[i][2]) ** 2;
          if (away < least) [best, least] = [i, away];
        }
        place.set(colour, best);
      }
    }
    return { palette, indices: Uint8Array.from(colours, (colour) => place.get(colour)) };
  }

  // ---- the file

  // An animation that repeats for ever.
  //   width, height: of every picture; scale: each pixel becomes a square of scale x scale pixels.
  // Returns {add(colours, duration in hundredths of a second), done(), which returns the bytes}.
  function gif(width, height, scale = 1) {
    const out = writer();
    out.bytes(new TextEncoder().encode("GIF89a"));
    out.short(width * scale);
    out.short(height * scale);
    out.bytes([0x70, 0, 0]); // 8 bits per channel, no common palette
    out.bytes([0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0]);

    function enlarged(indices) {
      const large = new Uint8Array(width * height * scale * scale);
      for (let y = 0, to = 0; y < height; y++) {
        for (let x = 0; x < width; x++, to += scale) large.fill(indices[y * width + x], to, to + scale);
        const line = large.subarray(to - width * scale, to);
        for (let copy = 1; copy < scale; copy++, to += line.length) large.set(line, to);
      }
      return large;
    }

    return {
      add(colours, duration) {
        const { palette, indices } = quantise(colours);
        out.bytes([0x21, 0xf9, 4, 4, duration & 255, duration >> 8, 0, 0]); // each stays until the next covers it
        out.bytes([0x2c, 0, 0, 0, 0]);
        out.short(width * scale);
        out.short(height * scale);
        out.byte(0x87); // a palette of 256 of its own
        const table = new Uint8Array(768);
        palette.forEach((colour, i) => table.set(parts(colour), 3 * i));
        out.bytes(table);
        out.byte(8);
        const data = compress(enlarged(indices));
        for (let at = 0; at < data.length; at += 255) {
          const block = data.subarray(at, at + 255);
          out.byte(block.length);
          out.bytes(block);
        }
        out.byte(0);
      },
      done() {
        out.byte(0x3b);
        return out.done();
      },
    };
  }

  Object.assign(ddpm, { gif });
})();
