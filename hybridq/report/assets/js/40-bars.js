// Bars in dB: the damage of every layer in the order of the graph, slices of outputs, samples. Zoom by stretch.
HQ.bars = (() => {
  const { el, svg, hover, press, button, colour } = HQ.dom;
  const { tr, db, number } = HQ.words;
  const TOP = 60, width = () => (innerWidth < 700 ? 420 : 960);

  // `bars`: {label, db, precision, pale, action}; low ones are damage, pale ones are not heard. `unit` of the axis is dB.
  // `limit`, if there is one: {db, label} of a line across.
  function chart(bars, { height = 210, zoom = false, label = "", limit = null } = {}) {
    let from = 0, to = bars.length;
    const holder = el("div");
    const draw = () => holder.replaceChildren(picture(bars, from, to, height, label, limit));
    draw();
    const key = limit ? el("div", {}, el("span", { class: "key" }, svg("svg", { viewBox: "0 0 30 8", style: "width:30px" }, svg("line", { class: "limit", x1: 0, x2: 30, y1: 4, y2: 4 })), tr(limit.label))) : null;
    if (!zoom || bars.length < 12) return el("div", {}, key, holder);
    const move = (factor, shift) => {
      const count = Math.max(6, Math.min(bars.length, Math.round((to - from) * factor)));
      const middle = (from + to) / 2 + shift * (to - from);
      from = Math.max(0, Math.min(bars.length - count, Math.round(middle - count / 2)));
      to = from + count;
      draw();
    };
    const tools = el("div", { class: "bar" }, button("zoom in", () => move(0.5, 0)), button("zoom out", () => move(2, 0)),
      button("◀ earlier", () => move(1, -0.5)), button("later ▶", () => move(1, 0.5)), button("all", () => { from = 0; to = bars.length; draw(); }));
    return el("div", {}, tools, key, holder);
  }

  function picture(bars, from, to, height, label, limit) {
    const kept = bars.slice(from, to);
    const finite = kept.map((b) => number(b.db)).filter(Number.isFinite);
    const top = Math.max(10, 10 * Math.ceil(Math.min(TOP, Math.max(0, limit ? limit.db + 1 : 0, ...finite)) / 10));
    const low = Math.max(-20, 10 * Math.floor(Math.min(0, ...finite) / 10));
    const y = (v) => height - 16 - ((Math.max(low, Math.min(v, top)) - low) / (top - low)) * (height - 28);
    const wide = width(), step = (wide - 50) / Math.max(1, kept.length);
    const found = [];
    for (let v = low; v <= top; v += top > 40 ? 20 : 10) {
      found.push(svg("line", { class: "grid", x1: 46, x2: wide, y1: y(v), y2: y(v) }), svg("text", { x: 40, y: y(v) + 4, "text-anchor": "end" }, `${v} dB`));
    }
    kept.forEach((bar, i) => found.push(one(bar, 48 + i * step, Math.max(0.8, step * 0.82), y, top)));
    if (limit && limit.db > low && limit.db < top) {
      found.push(svg("line", { class: "limit", x1: 46, x2: wide, y1: y(limit.db), y2: y(limit.db) }));
    }
    kept.forEach((bar, i) => { if (bar.short && step > 34) found.push(said(bar, 48 + i * step + step * 0.41, y, height)); });
    return svg("svg", { viewBox: `0 0 ${wide} ${height}`, role: "group", "aria-label": tr(label) }, found);
  }
  // Its index below a bar and its dB above it.
  function said(bar, x, y, height) {
    const value = number(bar.db), over = Number.isFinite(value) ? y(Math.max(0, value)) : y(0);
    return [svg("text", { x, y: height - 3, "text-anchor": "middle" }, bar.short),
      svg("text", { class: "value", x, y: Math.max(10, over - 3), "text-anchor": "middle" }, Number.isFinite(value) ? value.toFixed(1) : db(bar.db))];
  }
  function one(bar, x, width, y, top) {
    const value = number(bar.db), known = value !== null && value !== undefined;
    const below = known && value < 0, high = known ? y(below ? 0 : Math.max(top * 0.012, value)) : y(top);
    const tall = below ? Math.max(3, y(value) - y(0)) : y(0) - high;
    const deaf = bar.pale ? `\n${tr("its readers do not hear what its range cuts off")}` : "";
    const text = `${bar.label}\n${bar.precision || ""} ${known ? db(value) : tr("not measured")}${deaf}`;
    const node = svg("rect", { class: "mark", x, width, y: high, height: tall, rx: Math.min(2, width / 3), style: `fill:${below ? "var(--broken)" : colour(bar.precision)}`,
      "fill-opacity": !known ? 0.15 : bar.pale ? 0.4 : null, "aria-label": text, role: "img", "data-name": bar.label });
    hover(node, text);
    if (bar.action) {
      node.setAttribute("role", "button");
      node.setAttribute("tabindex", "0");
      press(node, bar.action);
    }
    return node;
  }
  return { chart };
})();
