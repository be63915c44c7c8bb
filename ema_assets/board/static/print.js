// A drawn chart on paper: a picture of it in light colours takes its place. A canvas keeps its colours and its width in
// pixels, so a dark one would stay dark, and one that is wider than the paper would lose its prices.
(() => {
  "use strict";
  const root = document.documentElement;
  window.forPaper = (box, chart, dress) => {
    let picture = null;
    const putBack = () => { if (picture) picture.remove(); picture = null; };
    addEventListener("beforeprint", () => {
      putBack();
      const { theme } = root.dataset;
      root.dataset.theme = "light";
      dress();
      picture = chart.takeScreenshot();
      picture.className = "paper";
      if (theme === undefined) delete root.dataset.theme; else root.dataset.theme = theme;
      dress();
      box.append(picture);
    });
    addEventListener("afterprint", putBack);
  };
})();
