// Candlesticks with averages, signals, trades and stops, the values under the cursor, and older bars when they are wanted.
(() => {
  "use strict";
  const box = document.getElementById("chart");
  if (!box || !window.LightweightCharts) return;
  const { createChart, createSeriesMarkers, CandlestickSeries, HistogramSeries, LineSeries, LineStyle } = window.LightweightCharts;
  const values = document.getElementById("values");
  const { color, part, waiting } = window.drawing;
  const colorOf = (line) => color(`--c${2 + (line % 6)}`);
  const isPhone = matchMedia("(max-width: 640px)").matches;

  // --- numbers --------------------------------------------------------------------------------------------------------
  const { NOTHING, number, percent, decimalsFor, priced, fineness, measured, moment } = window.numbers;
  // How many decimals one of these prices has at most, so that those of an axis have equally many.
  const decimalsOf = (prices) => Math.max(2, ...prices.map((price) => price.toFixed(decimalsFor(price)).replace(/0+$/, "").split(".")[1].length));
  // A coin is traded in fractions: a bar of 0.0123 is not one of nothing.
  const compact = (value) => (value === null || value === undefined ? NOTHING : value.toLocaleString("en-US", { notation: "compact", ...(Math.abs(value) < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 1 }) }));
  const change = (value) => percent(value, 2, "+");
  // By prices: a trade at prices of zero or less has no return in percent.
  const hasGained = (trade) => (trade.side === "long" ? trade.last_price >= trade.entry_price : trade.last_price <= trade.entry_price);

  // --- the chart ------------------------------------------------------------------------------------------------------
  const chart = createChart(box, {
    autoSize: true,
    layout: { attributionLogo: false },
    crosshair: { mode: 0 },
    rightPriceScale: { scaleMargins: { top: 0.08, bottom: 0.24 } },
    timeScale: { timeVisible: true, secondsVisible: false, rightOffset: isPhone ? 2 : 6, minBarSpacing: 0.3 },
    localization: { locale: "en-US" },
  });
  const candles = chart.addSeries(CandlestickSeries, { priceLineVisible: true });
  const volume = chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
  const plain = { lineWidth: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false };
  const fast = chart.addSeries(LineSeries, { ...plain });
  const slow = chart.addSeries(LineSeries, { ...plain });
  const marks = createSeriesMarkers(candles, []);
  const more = new Map(); // the series of each drawn line of a signal, by its column
  let found = null;
  let tag = null;
  let rows = new Map();
  let openStop = null;

  // --- trades: their way from entry to exit, and their stops ----------------------------------------------------------
  const trades = {
    drawn: [],
    updateAllViews() {},
    paneViews() { return [this.view]; },
    attached({ requestUpdate }) { this.redraw = requestUpdate; },
    view: {
      zOrder: () => "top",
      renderer: () => ({
        draw(target) {
          target.useMediaCoordinateSpace(({ context: pen }) => {
            const x = (time) => chart.timeScale().timeToCoordinate(time);
            const y = (price) => candles.priceToCoordinate(price);
            const stroke = (dash, style, from, high, to, low, width) => {
              if ([from, high, to, low].some((each) => each === null)) return;
              pen.setLineDash(dash); pen.strokeStyle = style; pen.lineWidth = width;
              pen.beginPath(); pen.moveTo(from, high); pen.lineTo(to, low); pen.stroke();
            };
            for (const each of trades.drawn) {
              const begin = x(Math.max(each.entry_ts, found.time[0]));
              const end = x(each.last_ts);
              const tone = hasGained(each) ? trades.gain : trades.loss;
              stroke([5, 4], tone, begin, y(each.entry_price), end, y(each.last_price), 1.5);
              const stops = new Set([each.stop_price, each.stop_now].filter((stop) => stop !== null));
              for (const stop of stops) stroke([1.5, 3], trades.soft, begin, y(stop), end, y(stop), 1.5);
            }
            pen.setLineDash([]);
          });
        },
      }),
    },
  };
  candles.attachPrimitive(trades);

  const nearest = (time) => {
    // The bar at a time, or the last one before it.
    let low = 0;
    let high = found.time.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (found.time[middle] <= time) low = middle; else high = middle - 1;
    }
    return found.time[low];
  };

  // What a trade has returned stands above its exit where there is room beside the next one.
  const LABEL_WIDTH = 58;
  let signs = [];
  const markTrades = () => {
    let right = Infinity;
    const roomy = [...signs].reverse().map((each) => {
      if (!each.text) return each;
      const x = chart.timeScale().timeToCoordinate(each.time);
      if (x !== null && right - x < LABEL_WIDTH) return { ...each, text: "" };
      if (x !== null) right = x;
      return each;
    });
    marks.setMarkers(roomy.reverse());
  };

  const drawTrades = () => {
    trades.drawn = found.trades.map((each) => ({ ...each, last_ts: nearest(each.last_ts) }));
    const [gain, loss] = [color("--gain"), color("--loss")];
    signs = [];
    for (const each of found.trades) {
      const isLong = each.side === "long";
      if (each.entry_ts >= found.time[0]) signs.push({ time: nearest(each.entry_ts), position: isLong ? "belowBar" : "aboveBar", shape: isLong ? "arrowUp" : "arrowDown", color: isLong ? gain : loss, size: 1.3 });
      if (each.exit_ts !== null) signs.push({ time: nearest(each.exit_ts), position: isLong ? "aboveBar" : "belowBar", shape: "circle", color: hasGained(each) ? gain : loss, size: 0.8, text: isPhone || each.return_pct === null ? "" : change(each.return_pct) });
    }
    signs.sort((a, b) => a.time - b.time);
    markTrades();
    if (openStop) candles.removePriceLine(openStop);
    const open = found.trades.find((each) => each.status === "open" && each.stop_now !== null);
    openStop = open ? candles.createPriceLine({ price: open.stop_now, color: loss, lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: true, title: "stop" }) : null;
  };

  // --- signals --------------------------------------------------------------------------------------------------------
  const points = (list) => found.time.map((time, n) => (list[n] === null ? { time } : { time, value: list[n] }));
  const told = (line, value) => (line.on_price ? priced(value) : line.unit === "percent" ? percent(value) : measured(value));
  const formatOf = (line) => {
    const decimals = fineness(Math.max(...line.values.map(Math.abs)));
    return { type: "custom", minMove: 10 ** -decimals, formatter: line.unit === "percent" ? (value) => percent(value, decimals) : (value) => number(value, 2, decimals) };
  };
  const isHistogram = (line) => line.column.endsWith("_hist");
  const tintSignals = () => found.lines.forEach((line, n) => {
    const series = more.get(`${line.signal} ${line.column}`);
    series.applyOptions({ color: `${colorOf(n)}${isHistogram(line) ? "88" : ""}` });
    for (const level of series.priceLines()) level.applyOptions({ color: colorOf(n) });
  });
  const drawSignals = () => {
    const panes = new Map();
    found.lines.forEach((line, n) => {
      if (!line.on_price && !panes.has(line.signal)) panes.set(line.signal, panes.size + 1);
      const key = `${line.signal} ${line.column}`;
      if (!more.has(key)) {
        const kind = isHistogram(line) ? HistogramSeries : LineSeries;
        // A share in percent has another scale than the price beside it.
        const priceScaleId = line.unit === found.lines.find((each) => each.signal === line.signal).unit ? "right" : "left";
        const series = chart.addSeries(kind, { ...plain, lineWidth: 1.5, lastValueVisible: !line.on_price, crosshairMarkerVisible: false, ...(line.on_price ? {} : { priceScaleId }) }, line.on_price ? 0 : panes.get(line.signal));
        // An axis is there on all panes or on none.
        if (priceScaleId === "left" && !line.on_price) chart.applyOptions({ leftPriceScale: { visible: true } });
        if (line.column === "rsi") for (const price of [30, 70]) series.createPriceLine({ price, lineWidth: 1, lineStyle: LineStyle.Dashed, axisLabelVisible: false });
        more.set(key, series);
      }
      if (!line.on_price) more.get(key).applyOptions({ priceFormat: formatOf(line) });
      more.get(key).setData(points(line.values));
    });
    tintSignals();
    chart.panes().forEach((pane, n) => pane.setStretchFactor(n ? 1 : 4));
  };

  // --- colours --------------------------------------------------------------------------------------------------------
  const dress = () => {
    const [panel, soft, line, gain, loss] = ["--panel", "--soft", "--line", "--gain", "--loss"].map(color);
    Object.assign(trades, { gain, loss, soft });
    chart.applyOptions({
      layout: { background: { color: panel }, textColor: soft, fontFamily: getComputedStyle(document.body).fontFamily, panes: { separatorColor: line, separatorHoverColor: line } },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      leftPriceScale: { borderColor: line }, rightPriceScale: { borderColor: line, entireTextOnly: true }, timeScale: { borderColor: line },
    });
    candles.applyOptions({ upColor: gain, downColor: loss, wickUpColor: gain, wickDownColor: loss, borderUpColor: gain, borderDownColor: loss });
    fast.applyOptions({ color: color("--fast") });
    slow.applyOptions({ color: color("--slow") });
    if (found) { drawVolume(); tintSignals(); drawTrades(); }
  };
  const drawVolume = () => volume.setData(found.time.map((time, n) => (found.volume[n] === null ? { time } : { time, value: found.volume[n], color: `${found.close[n] >= found.open[n] ? trades.gain : trades.loss}55` })));

  // --- the values under the cursor ------------------------------------------------------------------------------------
  const tone = (value) => (value > 0 ? "gain" : value < 0 ? "loss" : "");
  const say = (n) => {
    const before = n ? found.close[n - 1] : null;
    const parts = [part("", moment(found.time[n]))];
    for (const [name, list] of [["O", "open"], ["H", "high"], ["L", "low"], ["C", "close"]]) parts.push(part(name, priced(found[list][n])));
    if (before > 0) parts.push(part("", change((found.close[n] / before - 1) * 100), tone(found.close[n] - before)));
    parts.push(part("Vol", compact(found.volume[n])), part(found.averages[0], priced(found.fast[n]), "key c0"), part(found.averages[1], priced(found.slow[n]), "key c1"));
    found.lines.forEach((line, k) => parts.push(part(line.column.replaceAll("_", " "), told(line, line.values[n]), `key c${2 + (k % 6)}`)));
    const trade = found.trades.find((each) => each.entry_ts <= found.time[n] && found.time[n] <= each.last_ts);
    if (trade) parts.push(part(trade.side, `${priced(trade.entry_price)}${trade.stop_now === null ? "" : `, stop ${priced(trade.stop_now)}`}${trade.return_pct === null ? "" : `, ${change(trade.return_pct)}`}`, hasGained(trade) ? "gain" : "loss"));
    values.replaceChildren(...parts);
  };
  // Beside the axes, which are wider where prices have more digits.
  chart.timeScale().subscribeSizeChange(() => { values.style.maxWidth = `calc(100% - ${chart.priceScale("right").width() + 24}px)`; });
  // The candles begin below the values. They do not move up again when the cursor leaves a trade and a line is not needed.
  let top = 0.08;
  new ResizeObserver(() => {
    top = Math.max(top, Math.min((values.offsetHeight + 16) / chart.panes()[0].getHeight(), 0.4));
    candles.priceScale().applyOptions({ scaleMargins: { top, bottom: 0.24 } });
  }).observe(values);
  chart.subscribeCrosshairMove((at) => {
    if (!found || !found.time.length) return;
    const n = at.time === undefined ? undefined : rows.get(at.time);
    say(n === undefined ? found.time.length - 1 : n);
  });

  // --- data -----------------------------------------------------------------------------------------------------------
  let url = box.dataset.url;
  let isLoading = false;
  const { hasFailed, isDrawn } = waiting(box, "The chart");
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      const answer = await fetch(url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status >= 400) hasFailed();
      if (answer.status !== 200) return;
      const isFirst = found === null;
      const seen = isFirst ? null : chart.timeScale().getVisibleRange();
      const wasAtEnd = !isFirst && chart.timeScale().scrollPosition() >= 0;
      found = await answer.json();
      tag = answer.headers.get("ETag");
      rows = new Map(found.time.map((time, n) => [time, n]));
      const decimals = decimalsOf(found.close);
      const priceFormat = { type: "custom", minMove: 10 ** -decimals, formatter: (price) => number(price, decimals) };
      for (const each of [candles, fast, slow]) each.applyOptions({ priceFormat });
      candles.setData(found.time.map((time, n) => ({ time, open: found.open[n], high: found.high[n], low: found.low[n], close: found.close[n] })));
      fast.setData(points(found.fast));
      slow.setData(points(found.slow));
      drawVolume();
      drawSignals();
      drawTrades();
      if (isFirst) {
        const shown = isPhone ? 60 : 160;
        chart.timeScale().setVisibleLogicalRange({ from: found.time.length - Math.min(shown, Math.max(found.time.length, 20)), to: found.time.length + (isPhone ? 2 : 6) });
      } else if (seen && !wasAtEnd) chart.timeScale().setVisibleRange(seen);
      if (found.time.length) say(found.time.length - 1);
      isDrawn(found.time.length);
    } finally {
      isLoading = false;
    }
  };
  let isMarking = false;
  chart.timeScale().subscribeVisibleLogicalRangeChange(() => {
    if (isMarking || !signs.length) return;
    isMarking = true;
    requestAnimationFrame(() => { isMarking = false; markTrades(); });
  });
  // Older bars, once somebody looks beyond the first one.
  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
    if (!range || !found || found.is_whole || isLoading || range.from > 10 || found.time.length >= Number(box.dataset.most)) return;
    const address = new URL(url, location.href);
    address.searchParams.set("bars", box.dataset.most);
    url = address.pathname + address.search;
    tag = null;
    load().catch(() => {});
  });
  document.addEventListener("themed", dress);
  window.forPaper(box, chart, dress);
  document.addEventListener("asked", () => load().catch(() => {}));
  dress();
  load().catch(hasFailed);
})();
