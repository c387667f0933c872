// Light and dark, of both our pages: what was chosen last, else what the system prefers.
// Run before anything is painted, so that a dark page does not flash up light.
globalThis.impastoTheme ??= (() => {
  "use strict";
  const NAME = "impasto-theme", root = document.documentElement;
  const other = () => (root.dataset.theme === "dark" ? "light" : "dark");
  let last = null;
  try { last = localStorage.getItem(NAME); } catch { /* a browser may keep nothing */ }
  root.dataset.theme = ["light", "dark"].includes(last) ? last : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  return (button) => {  // has a button name the other theme, and change to it
    const say = () => {
      button.textContent = other() === "dark" ? "Dark" : "Light";
      button.setAttribute("aria-label", `Use ${other()} colours`);
    };
    say();
    button.addEventListener("click", () => {
      root.dataset.theme = other();
      try { localStorage.setItem(NAME, root.dataset.theme); } catch { /* a browser may keep nothing */ }
      say();
    });
  };
})();
