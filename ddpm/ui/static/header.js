// The header: title, language, theme, links, the start of the tour, and a line for messages that belong to no tab.
// Scope: element, trigger (see gr.HTML). Gives ddpm.notify.
const languages = ddpm.switchOf(element.querySelector(".language"), "language");
languages.onChoose((language) => {
  ddpm.setLanguage(language);
  trigger("language"); // the labels of Gradio's tabs
});

let dark = ddpm.memory.recalled.dark; // what the visitor has chosen; undefined: the theme of browser or address
ddpm.memory.keep("dark", () => dark);
if (dark !== undefined && dark !== ddpm.dark()) ddpm.toggleTheme();
element.querySelector(".theme").addEventListener("click", () => {
  ddpm.toggleTheme();
  dark = ddpm.dark();
});
const [field, copyFrame] = [".link-field", ".copy-frame"].map((name) => element.querySelector(name));
element.querySelector(".copy-link").addEventListener("click", async () => {
  await ddpm.copyLink(field);
  copyFrame.hidden = false;
});
copyFrame.addEventListener("click", () => ddpm.copyLink(field, true));
element.querySelector(".tour-start").addEventListener("click", () => ddpm.tour.start());

// ddpm.notify(next) shows the text that next() returns, for a while, and again when the language changes.
const CLEAR_MS = 20_000;
const status = element.querySelector(".page-status");
let write = () => "";
let clearing = 0;
function clear() {
  status.replaceChildren();
  if (document.activeElement !== copyFrame) copyFrame.hidden = true;
}
ddpm.notify = (next) => {
  write = next;
  status.textContent = write();
  clearTimeout(clearing);
  clearing = setTimeout(clear, CLEAR_MS);
};

function showLanguage() {
  languages.show(ddpm.language());
  document.title = ddpm.say("page.title");
}

ddpm.onLanguage(() => {
  showLanguage();
  if (status.textContent) status.textContent = write();
});
ddpm.models(element);
ddpm.translate(element);
ddpm.embed.mount(document.querySelector(".gradio-container main") ?? document.body);
showLanguage();
ddpm.openAddress();
ddpm.tour.startFromAddress();
