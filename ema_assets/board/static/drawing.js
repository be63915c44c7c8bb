// What both drawn pages have in common: their colours, the values under the cursor, and what stands where nothing is
// drawn yet. Draws nothing itself.
(() => {
  "use strict";
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // One value under the cursor, with its name before it.
  const part = (name, text, kind) => {
    const span = document.createElement("span");
    const bold = document.createElement("b");
    if (kind) span.className = kind;
    bold.textContent = text;
    span.append(name, bold);
    return span;
  };
  // Says that `what` is loading until it is drawn. The page asks for it again every five seconds, whatever failed.
  const waiting = (box, what) => {
    const wait = box.querySelector(".wait");
    wait.textContent = "Loading …";
    return {
      hasFailed() { wait.textContent = `${what} could not be loaded. It is requested again every five seconds.`; },
      isDrawn(points) { wait.hidden = true; box.dataset.drawn = String(points); },
    };
  };
  window.drawing = { color, part, waiting };
})();
