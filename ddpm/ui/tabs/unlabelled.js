// Tab "Labels" of a model that was trained without labels: pictures with their names, and the command for such a model.
// Scope: element, props (`commands`), see gr.HTML. The same panel on the page of a model with labels sends 'labels'.
const $ = (selector) => element.querySelector(selector);
const COPIED_MS = 1500;
const figures = [...element.querySelectorAll(".named figure")];
const digits = ddpm.page.channels === 1; // then the examples of the pads are the digits 0 to 9

function draw() {
  const examples = ddpm.shared.get("examples");
  figures.forEach((figure, k) => {
    const canvas = figure.querySelector("canvas");
    if (examples) {
      const at = k % (examples.length / ddpm.count);
      figure.hidden = at !== k;
      ddpm.paintBytes(canvas, examples.subarray(at * ddpm.count, (at + 1) * ddpm.count));
    }
    figure.querySelector("figcaption").textContent = digits ? k : "?";
    const key = digits ? "unlabelled.named" : "unlabelled.unnamed";
    canvas.setAttribute("aria-label", ddpm.say(key, { label: k }));
  });
}

const copied = $(".copy");
copied.addEventListener("click", async () => {
  const code = element.querySelectorAll(".again code");
  await ddpm.copy(props.commands.join("\n"), () => {
    getSelection().setBaseAndExtent(code[0], 0, code[code.length - 1], 1);
  });
  ddpm.setText(copied.firstElementChild, "training.copied");
  setTimeout(() => ddpm.setText(copied.firstElementChild, "training.copy"), COPIED_MS);
});

ddpm.translate(element);
ddpm.shared.on("examples", draw);
const none = { read: () => null, apply: () => ["refused.no_labels", {}] };
ddpm.linkable("labels", { label: none, s: none });
ddpm.onLanguage(draw);
