// A symbol, words in a text or a name in the code, hovered or focused, outlines the picture that it stands for; in rows
// that show other pictures now, the button that shows these. A picture outlines its symbols and words, but not itself,
// since that would disturb drawing on it.
// Needs nothing and gives nothing.
(() => {
  function point(event, on) {
    const source = event.target.closest?.("[data-of], [data-object]");
    const tab = source?.closest(".tab");
    if (!tab) return;
    const name = source.dataset.of ?? source.dataset.object;
    const pictures = source.dataset.of ? `, [data-object="${name}"], .view [data-value="${name}"]` : "";
    for (const el of tab.querySelectorAll(`[data-of="${name}"]${pictures}`)) el.classList.toggle("pointed", on);
  }

  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, (event) => point(event, true));
  for (const kind of ["mouseout", "focusout"]) document.addEventListener(kind, (event) => point(event, false));
})();
