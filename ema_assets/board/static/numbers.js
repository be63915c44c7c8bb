// How numbers and times are written by the scripts that draw: as `formats` of the server writes them. Draws nothing.
(() => {
  "use strict";
  const MINUS = "−";
  const NOTHING = "–";
  const isMissing = (value) => value === null || value === undefined;
  // What rounds to zero has no sign.
  const signed = (value, text, plus = "") => `${/[1-9]/.test(text) ? (value < 0 ? MINUS : plus) : ""}${text}`;
  const number = (value, least, most = least) => (isMissing(value) ? NOTHING : signed(value, Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most })));
  const percent = (value, decimals = 2, plus = "") => (isMissing(value) ? NOTHING : `${signed(value, Number(Math.abs(value).toFixed(decimals)).toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }), plus)} %`);
  // As `price_text` of the server: six digits that count, two decimals at least.
  const decimalsFor = (price) => (price ? Math.min(Math.max(5 - Number(price.toExponential(5).split("e")[1]), 2), 20) : 2);
  // `toFixed` rounds as the server does; `toLocaleString` rounds up 1.011395e-8, which is a little less.
  const priced = (price) => (isMissing(price) ? NOTHING : number(Number(price.toFixed(decimalsFor(price))), 2, decimalsFor(price)));
  // Two decimals, and of what is smaller than one three digits that count: the MACD of a small coin is not zero.
  const fineness = (value) => (value && Math.abs(value) < 1 ? Math.min(Math.max(2 - Number(value.toExponential(2).split("e")[1]), 2), 20) : 2);
  const measured = (value) => (isMissing(value) ? NOTHING : number(value, 2, fineness(value)));
  const moment = (time) => `${new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  window.numbers = { NOTHING, number, percent, decimalsFor, priced, fineness, measured, moment };
})();
