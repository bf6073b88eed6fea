// Cells: pictures beside each other, each with a line under it; and what is computed for them from bytes.
// Needs pictures.js. Gives cells, blend, distance, variance.
(() => {
  // The n cells of a row, each with a canvas and a line below it, which are made if there are not so many.
  function cells(row, n) {
    const grid = row.querySelector(".grid");
    if (grid.children.length === n) return [...grid.children];
    grid.style.setProperty("--columns", Math.min(n, 8));
    const made = Array.from({ length: n }, () => {
      const cell = document.createElement("div");
      cell.className = "cell";
      const canvas = ddpm.newCanvas();
      canvas.setAttribute("role", "img");
      cell.append(canvas, document.createElement("span"));
      return cell;
    });
    grid.replaceChildren(...made);
    return made;
  }

  const blend = (a, b, share) => Float32Array.from(a, (v, k) => (1 - share) * v + share * b[k]);

  // The root mean square of the difference between two pictures, in levels of 0 to 255.
  const distance = (a, b) => Math.sqrt(a.reduce((sum, v, k) => sum + (v - b[k]) ** 2, 0) / a.length);

  function variance(numbers) {
    const mean = numbers.reduce((sum, v) => sum + v, 0) / numbers.length;
    return numbers.reduce((sum, v) => sum + (v - mean) ** 2, 0) / numbers.length;
  }

  Object.assign(ddpm, { cells, blend, distance, variance });
})();
