// The line that says how a tab's question to the server fares, and how long a tab waits for an answer. Loaded once in the
// page's head, after ddpm.js.
(() => {
  const QUEUE_MS = 30 * 60_000; // many may be in front, of whom nothing is heard
  const SILENCE_MS = 200_000; // once it is its turn; the server is never silent for so long unless it is lost
  const REPEAT_MS = 20_000; // between two announcements of how it goes on
  const CLEAR_MS = 5000;

  // One for all lines, for screen readers: told of a start, of an end, and rarely between, since a line may change many
  // times a second.
  const announcer = document.createElement("div");
  announcer.className = "announcer";
  announcer.role = "status";
  const settle = () => document.body.append(announcer);
  if (document.body) settle();
  else document.addEventListener("DOMContentLoaded", settle);
  let clearing = 0;

  // The line `status`. Fields of a text come from functions, so that it can be said again in another language.
  function line(status) {
    let [write, announced] = [() => {}, 0];

    function put(next, refused) {
      status.classList.toggle("refused", refused);
      write = next;
      write();
    }

    function announce() {
      if (!status.offsetParent) return; // behind another tab
      announced = performance.now();
      announcer.replaceChildren(...[...status.childNodes].map((node) => node.cloneNode(true)));
      clearTimeout(clearing);
      clearing = setTimeout(() => announcer.replaceChildren(), CLEAR_MS);
    }

    const writing = (key, fields) => () => (key ? ddpm.setText(status, key, fields?.()) : status.replaceChildren());

    ddpm.onLanguage(() => write());
    return {
      tell(key, fields, refused = false) {
        put(writing(key, fields), refused);
        announce();
      },
      // How it goes on.
      note(key, fields) {
        put(writing(key, fields), false);
        if (performance.now() - announced > REPEAT_MS) announce();
      },
      // A "refused" message of the server's.
      refuse({ key, fields }) {
        const write = writing(key, () => ({
          ...fields,
          name: fields.name && ddpm.say(`field.${fields.name}`),
          value: fields.value ?? ddpm.say("refused.nothing"),
        }));
        put(() => {
          write();
          if (fields.row) status.prepend(ddpm.say("rows.refused", fields));
        }, true);
        announce();
      },
      refused: () => status.classList.contains("refused"),
    };
  }

  // gaveUp(why): nothing has been heard for too long, "busy" before it was its turn, "failed" since.
  function patience(gaveUp) {
    let timer = 0;
    function wait(ms, why) {
      clearTimeout(timer);
      timer = setTimeout(() => gaveUp(why), ms);
    }
    return { queued: () => wait(QUEUE_MS, "busy"), heard: () => wait(SILENCE_MS, "failed"), end: () => clearTimeout(timer) };
  }

  Object.assign(ddpm, { line, patience });
})();
