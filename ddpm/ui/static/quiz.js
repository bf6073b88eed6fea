// The question at the end of each tab: a visitor answers first and then sees what the page's own numbers say.
// Needs language.js, shared.js, controls.js. Gives quiz.
(() => {
  // Brings the .quiz in an element to life, or the one that is given of several.
  //   answer(guess): what the numbers on screen say about a guess, a number or the value of a button, as {key, fields}
  //   of a text; null while the numbers are not there. Fields that hold words are a function, since another language has
  //   others.
  // Returns clear(), for when the numbers are about something else now.
  function quiz(element, answer, box = element.querySelector(".quiz")) {
    const says = box.querySelector(".revealed");
    const reveal = box.querySelector(".reveal");
    const buttons = box.querySelector(".switch");
    const field = box.querySelector("input");
    const choice = buttons && ddpm.switchOf(buttons);
    const guess = () => (choice ? choice.value() : field.valueAsNumber);
    const isGuess = () => (choice ? guess() !== undefined : field.checkValidity() && !Number.isNaN(guess()));
    let shown = null; // {key, fields} of the text on screen

    function write() {
      if (!shown) return says.replaceChildren();
      const { key, fields } = shown;
      ddpm.setText(says, key, typeof fields === "function" ? fields() : fields);
    }

    function show(next) {
      shown = next;
      write();
    }

    function clear() {
      if (shown) show(null);
    }

    function guessed() {
      reveal.disabled = !isGuess();
      clear();
    }

    function tell() {
      if (isGuess()) show(answer(guess()) ?? { key: "quiz.wait" });
    }

    choice?.onChoose(guessed);
    field?.addEventListener("input", guessed);
    field?.addEventListener("keydown", (event) => event.key === "Enter" && tell());
    reveal.addEventListener("click", tell);
    ddpm.onLanguage(write);
    guessed();
    return { clear };
  }

  ddpm.quiz = quiz;
})();
