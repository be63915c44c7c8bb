// The equity curve and its drawdown below, with the values under the cursor.
(() => {
  "use strict";
  const box = document.getElementById("equity");
  if (!box || !window.LightweightCharts) return;
  const { createChart, AreaSeries, BaselineSeries } = window.LightweightCharts;
  const values = document.getElementById("values");
  const { color, part, waiting } = window.drawing;
  const { percent, moment } = window.numbers;
  // With finer steps, two labels of the axis would read the same.
  const priceFormat = { type: "custom", minMove: 0.1, formatter: (value) => percent(value, 1) };
  // The whole curve is shown, and nothing beyond it: only at fixed edges the outermost labels are moved in, and whole.
  const timeScale = { timeVisible: true, secondsVisible: false, fixLeftEdge: true, fixRightEdge: true };
  const chart = createChart(box, { autoSize: true, layout: { attributionLogo: false }, timeScale });
  const curve = chart.addSeries(AreaSeries, { lineWidth: 2, priceLineVisible: false, priceFormat });
  // An area below zero. So many half-transparent columns would overlap, and show stripes.
  const fall = chart.addSeries(BaselineSeries, {
    baseValue: { type: "price", price: 0 }, lineWidth: 1, priceLineVisible: false, lastValueVisible: false, priceFormat,
  }, 1);
  const zero = curve.createPriceLine({ price: 0, lineWidth: 1, lineStyle: 2, axisLabelVisible: false });

  const dress = () => {
    const [panel, soft, line, accent, loss] = ["--panel", "--soft", "--line", "--accent", "--loss"].map(color);
    chart.applyOptions({
      layout: { background: { color: panel }, textColor: soft, fontFamily: getComputedStyle(document.body).fontFamily, panes: { separatorColor: line } },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderColor: line, entireTextOnly: true }, timeScale: { borderColor: line },
    });
    curve.applyOptions({ lineColor: accent, topColor: `${accent}55`, bottomColor: `${accent}05` });
    fall.applyOptions({ topLineColor: loss, bottomLineColor: loss, bottomFillColor1: `${loss}88`, bottomFillColor2: `${loss}88` });
    zero.applyOptions({ color: soft });
  };
  const say = (time, gain, drawdown) => values.replaceChildren(
    part("", moment(time)), part("equity", percent(gain, 2, "+")), part("drawdown", percent(drawdown, 2)),
  );
  let tag = null;
  let last = null;
  const { hasFailed, isDrawn } = waiting(box, "The curve");
  const load = async () => {
    const answer = await fetch(box.dataset.url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (answer.status >= 400) hasFailed();
    if (answer.status !== 200) return;
    const found = await answer.json();
    const isFirst = tag === null;
    tag = answer.headers.get("ETag");
    // Among dates, a time of day would stand for a day of its own. Labels are at least this many pixels apart.
    const days = found.time.length ? (found.time.at(-1) - found.time[0]) / 86400 : 0;
    chart.applyOptions({ timeScale: { timeVisible: box.clientWidth > 75 * days } });
    curve.setData(found.time.map((time, n) => ({ time, value: (found.equity[n] - 1) * 100 })));
    fall.setData(found.time.map((time, n) => ({ time, value: found.drawdown_pct[n] })));
    const n = found.time.length - 1;
    last = n < 0 ? null : [found.time[n], (found.equity[n] - 1) * 100, found.drawdown_pct[n]];
    if (last) say(...last);
    if (isFirst) {
      chart.timeScale().fitContent();
      chart.panes()[0].setStretchFactor(7);
      chart.panes()[1].setStretchFactor(3);
      isDrawn(n + 1);
    }
  };
  chart.subscribeCrosshairMove((at) => {
    const gain = at.seriesData.get(curve);
    const drawdown = at.seriesData.get(fall);
    if (gain && drawdown) say(at.time, gain.value, drawdown.value);
    else if (last) say(...last);
  });
  document.addEventListener("themed", dress);
  window.forPaper(box, chart, dress);
  document.addEventListener("asked", () => load().catch(() => {}));
  dress();
  load().catch(hasFailed);
})();
