// Title, language switch, theme switch, links, the start of the tour. Scope: element, trigger (see gr.HTML).
const buttons = [...element.querySelectorAll("[data-language]")];

function showLanguage() {
  for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.language === ddpm.language());
  document.title = ddpm.say("page.title");
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    ddpm.setLanguage(button.dataset.language);
    trigger("language"); // the labels of Gradio's tabs
  });
}

element.querySelector(".theme").addEventListener("click", () => document.body.classList.toggle("dark"));

// One line for all tabs. `write` says it in the language of the moment.
const CLEAR_MS = 20_000;
const status = element.querySelector(".page-status");
let [write, clearing] = [() => "", 0];
ddpm.notify = (next) => {
  write = next;
  status.textContent = write();
  clearTimeout(clearing);
  clearing = setTimeout(() => (status.textContent = ""), CLEAR_MS);
};

element.querySelector(".copy-link").addEventListener("click", () => ddpm.copyLink(element.querySelector(".link-field")));
element.querySelector(".tour-start").addEventListener("click", () => ddpm.tour.start());

ddpm.onLanguage(() => {
  showLanguage();
  if (status.textContent) status.textContent = write();
});
ddpm.translate(element);
showLanguage();
ddpm.openAddress();
ddpm.tour.startFromAddress();
