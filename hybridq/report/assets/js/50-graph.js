// The graph: layers in order from left to right, line under line, edges between them; boundaries are dashed.
HQ.graph = (() => {
  const { el, svg, hover, press, button, colour } = HQ.dom;
  const { tr, db } = HQ.words;

  // The longest way from an input to every layer, and a lane beside others of the same rank.
  function places(count, edges) {
    const parents = Array.from({ length: count }, () => []);
    edges.forEach(([from, to]) => parents[to].push(from));
    const rank = Array(count).fill(0), lane = Array(count).fill(0), taken = new Map();
    for (let i = 0; i < count; i++) {
      rank[i] = Math.max(0, ...parents[i].map((p) => rank[p] + 1));
      const wanted = parents[i].length ? Math.min(...parents[i].map((p) => lane[p])) : 0;
      const used = taken.get(rank[i]) || new Set();
      let at = wanted;
      while (used.has(at)) at++;
      used.add(at);
      taken.set(rank[i], used);
      lane[i] = at;
    }
    return { rank, lane };
  }

  function draw(choose) {
    const { layers, edges } = HQ.data;
    if (!edges.length) return null;
    const { rank, lane } = places(layers.length, edges);
    let columns = innerWidth < 700 ? 14 : 34;
    const holder = el("div", { class: "scroll" });
    const show = () => holder.replaceChildren(picture(layers, edges, rank, lane, columns, choose));
    show();
    const zoom = (by) => { columns = Math.max(6, Math.min(120, Math.round(columns * by))); show(); };
    return el("div", {}, el("div", { class: "bar" }, button("zoom in", () => zoom(0.7)), button("zoom out", () => zoom(1.4)),
      el("span", { class: "key" }, svg("svg", { viewBox: "0 0 30 8", style: "width:30px" }, svg("path", { class: "edge boundary", d: "M0 4H30" })), tr("boundary between precisions"))), holder);
  }

  function picture(layers, edges, rank, lane, columns, choose) {
    const whole = innerWidth < 700 ? 420 : 960, wide = whole / columns, tall = Math.max(13, wide * 0.55);
    const rows = Math.floor(Math.max(...rank) / columns) + 1;
    const lanes = Array(rows).fill(1);
    rank.forEach((r, i) => { const row = Math.floor(r / columns); lanes[row] = Math.max(lanes[row], lane[i] + 1); });
    const starts = lanes.map((_, row) => 8 + lanes.slice(0, row).reduce((s, n) => s + n * tall + tall * 0.9, 0));
    const x = (i) => (rank[i] % columns) * wide + wide * 0.16;
    const y = (i) => starts[Math.floor(rank[i] / columns)] + lane[i] * tall;
    const size = [wide * 0.62, tall * 0.62];
    const height = starts[rows - 1] + lanes[rows - 1] * tall + 10;
    const lines = edges.map(([a, b]) => line(layers[a], layers[b], [x(a) + size[0], y(a) + size[1] / 2], [x(b), y(b) + size[1] / 2], wide));
    const nodes = layers.map((layer, i) => node(layer, x(i), y(i), size, choose));
    return svg("svg", { viewBox: `0 0 ${whole} ${height}`, role: "group", "aria-label": tr("graph of the layers") }, lines, nodes);
  }
  function line(from, to, [x1, y1], [x2, y2], wide) {
    const boundary = from.precision !== to.precision;
    const bend = x2 >= x1 ? Math.max(4, (x2 - x1) / 2) : wide * 0.3;
    const found = svg("path", { class: boundary ? "edge boundary" : "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
    return boundary ? hover(found, `${from.precision} → ${to.precision}`) : found;
  }
  function node(layer, x, y, [width, height], choose) {
    const found = svg("rect", { class: "mark", x, y, width, height, rx: Math.min(4, height / 3), style: `fill:${colour(layer.precision)}`, role: "button", tabindex: 0,
      "aria-label": `${layer.op} ${HQ.dom.shown(layer.name)} ${layer.precision}`, "data-name": layer.name });
    hover(found, () => `${HQ.dom.shown(layer.name)}\n${layer.op}, ${layer.precision}\n${tr("alone")} ${db(layer.individual)}, ${tr("inside")} ${db(layer.entire)}`);
    return press(found, () => choose(layer.name));
  }
  return { draw, places };
})();
