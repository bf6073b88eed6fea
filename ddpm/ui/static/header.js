// Title, language switch, theme switch. Scope: element, trigger (see gr.HTML).
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

ddpm.onLanguage(showLanguage);
ddpm.translate(element);
showLanguage();
