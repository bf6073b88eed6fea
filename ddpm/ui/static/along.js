// The picture that the visitor has drawn or chosen, on the tabs without a pad: as it is, and noised to the t of the tab
// (parts.along).
// Needs language.js, schedule.js, shared.js, pictures.js. Gives along.
(() => {
  const { shared, count } = ddpm;

  // Brings the part of a tab to life.
  function along(element) {
    const part = element.querySelector(".along");
    const canvas = (of) => part.querySelector(`[data-object="${of}"] canvas`);
    const noised = part.querySelector('[data-text="part.along.xt"]');
    const slider = element.querySelector(".t-bar input"); // none on the tab "Training": it takes the t of all tabs
    const here = ddpm.front(part, (shown) => shown && draw());
    let eps = null;
    shared.on("noise", (seed) => {
      eps = ddpm.normal(seed, count);
    });

    function draw() {
      if (!here.shown) return; // it draws when it comes to the front
      const t = slider ? Number(slider.value) : shared.get("t");
      const bytes = shared.get("picture");
      const [signal, spread] = [Math.sqrt(ddpm.alphaBar[t]), Math.sqrt(1 - ddpm.alphaBar[t])];
      ddpm.paintBytes(canvas("x0"), bytes);
      ddpm.paint(
        canvas("xt"),
        eps.map((e, i) => signal * (bytes[i] / 127.5 - 1) + spread * e),
      );
      if (canvas("eps")) ddpm.paintNoise(canvas("eps"), eps);
      noised.dataset.t = t;
      ddpm.setText(noised, noised.dataset.text, noised.dataset);
      canvas("xt").setAttribute("aria-label", ddpm.say("forward.xt.label", { t, snr: ddpm.format.snr(t) }));
    }

    const drawSoon = ddpm.soon(draw); // after the frame that shows the pictures of the tab
    for (const name of ["t", "picture", "noise"]) shared.on(name, drawSoon);
    element.addEventListener("shown", drawSoon);
    ddpm.onTheme(draw);
    ddpm.onLanguage(draw);
  }

  Object.assign(ddpm, { along });
})();
