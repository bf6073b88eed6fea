// Tab "Labels" of a model that was trained without labels: pictures with their names, and the command for such a model.
// Scope: element, props (`commands`), see gr.HTML. The same panel on the page of a model with labels sends 'labels'.
const $ = (selector) => element.querySelector(selector);
const COPIED_MS = 1500;
const figures = [...element.querySelectorAll(".named figure")];
const digits = ddpm.page.channels === 1; // then the examples of the pads are the digits 0 to 9
const first = digits ? 0 : 1; // others are counted

function draw() {
  const examples = ddpm.shared.get("examples");
  figures.forEach((figure, k) => {
    const canvas = figure.querySelector("canvas");
    if (examples) {
      const at = k % (examples.length / ddpm.count);
      figure.hidden = at !== k;
      ddpm.paintBytes(canvas, examples.subarray(at * ddpm.count, (at + 1) * ddpm.count));
    }
    figure.querySelector("figcaption").textContent = k + first;
    const key = digits ? "unlabelled.named" : "unlabelled.unnamed";
    canvas.setAttribute("aria-label", ddpm.say(key, { label: k + first }));
  });
}

// The models of this page that have labels, each a link.
function nameOthers() {
  const others = ddpm.page.models.filter(({ labels, reason }) => labels && reason === undefined);
  const place = $(".others");
  place.hidden = !others.length;
  const links = others.map((model) => {
    const address = new URL(ddpm.addressOf(model));
    address.searchParams.set("tab", "labels"); // at first another tab is in front
    const link = Object.assign(document.createElement("a"), { textContent: model.name, href: address.href });
    link.addEventListener("click", () => ddpm.memory.leave(model.name));
    return link;
  });
  const between = ddpm.say("unlabelled.comma");
  const named = links.flatMap((link, i) => (i ? [between, link] : [link]));
  place.replaceChildren(ddpm.say("unlabelled.others"), ...named, ddpm.say("unlabelled.stop"));
}

// Which picture is nearest to the one on the pads of other tabs, pixel by pixel; that picture itself does not count.
const question = ddpm.quiz(element, (guess) => {
  const [examples, here] = [ddpm.shared.get("examples"), ddpm.shared.get("picture")];
  if (!examples || !here) return null;
  const away = Array.from({ length: examples.length / ddpm.count }, (_, i) => ddpm.distance(ddpm.example.at(i), here));
  const others = away.map((d) => d || Number.POSITIVE_INFINITY);
  const best = others.indexOf(Math.min(...others));
  const fields = { best: best + first, least: away[best].toFixed(0), guess };
  const asked = away[guess - first];
  if (!asked) return { key: "unlabelled.quiz.none", fields };
  return { key: "unlabelled.quiz.answer", fields: { ...fields, away: asked.toFixed(0) } };
});

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
ddpm.shared.on("picture", question.clear);
const none = { read: () => null, apply: () => ["refused.no_labels", {}] };
ddpm.linkable("labels", { label: none, s: none });
ddpm.onLanguage(() => {
  draw();
  nameOthers();
});
nameOthers();
ddpm.shared.on("t", ddpm.afterRest(nameOthers)); // the addresses name it
