// One layer: its values and range, weights, neighbours, why it has its precision, what would help.
HQ.detail = (() => {
  const { el, svg, shown, dot, button, command } = HQ.dom;
  const { tr, db, share, short } = HQ.words;

  function draw(layer, choose) {
    const told = HQ.data.details[layer.name];
    const head = el("h3", { id: "layer" }, dot(layer.precision), shown(layer.name, 120));
    const facts = el("dl", {}, rows(layer, told).filter(([, value]) => value !== null && value !== "").flatMap(([k, v]) => [el("dt", {}, tr(k)), el("dd", {}, shown(v, 400))]));
    return el("div", { class: "detail", tabindex: -1 }, el("div", {}, head, facts, told ? whatif(layer) : null, told ? helps(layer, told) : null),
      el("div", {}, histogram(layer, told), told ? weights(told) : null, told ? neighbours(told, choose) : null));
  }

  function rows(layer, told) {
    const measured = [["operator", layer.op], ["precision", layer.precision], ["individual SQNR", db(layer.individual)], ["entire SQNR", db(layer.entire)], ["note", [layer.unheard ? tr("its readers do not hear what its range cuts off") : "", layer.note].filter(Boolean).join("; ")]];
    if (!told) return measured;
    const v = told.values;
    return [...measured, ["why", tr(told.why)], ["asked for", told.asked === layer.precision ? "" : told.asked],
      ["share of MACs", share(told.macs_share)], ["shape", (told.shape || []).join(" × ")],
      ["own values here", layer.histogram ? `${short(layer.histogram.least)} … ${short(layer.histogram.largest)}` : ""],
      [v.shares.length ? "seen in calibration, shared" : "seen in calibration", `${short(v.seen[0])} … ${short(v.seen[1])}`],
      ["range chosen", v.chosen ? `${short(v.chosen[0])} … ${short(v.chosen[1])} (${tr(v.algorithm)})` : ""],
      ["step", v.step ? `${short(v.step)}, ${tr("zero point")} ${v.zero_point}` : ""],
      ["shares parameters with", v.shares.slice(0, 6).map((n) => shown(n, 30)).join(", ")],
      ["weights", told.weights.map((w) => `${w.shape.join("×")} ${w.stored}, ${tr(w.algorithm)}`).join("; ")],
      ["edits", told.edits.map((e) => `${e.field}: ${e.before} → ${e.after}`).join("; ")],
      ["search", told.search], ["lint", told.findings.map((text) => tr(text)).join(" · ")], ["also called", told.aliases.slice(0, 4).map((n) => shown(n, 40)).join(", ")]];
  }
  // What would help this layer, up to a new report; in words where something else comes first.
  function helps(layer, told) {
    const { first, then } = HQ.data;
    const later = told.help.some((line) => line.startsWith("hybridq set ")) && first && !first.includes(layer.name);
    return [later ? el("p", { class: "note" }, tr("Raising it alone is not the first step: see What to do next.")) : null,
      ...told.help.map((line) => command(then ? `${line} && ${then}` : line))];
  }
  function whatif(layer) {
    const unit = HQ.data.prediction ? HQ.choice.unitOf(layer.name) : -1;
    if (unit < 0) return null;
    const turn = (on) => { HQ.choice.turn([unit], on); document.getElementById("whatif").scrollIntoView({ behavior: "smooth" }); };
    return el("div", { class: "bar" }, button("raise in the what-if", () => turn(true)), button("lower in the what-if", () => turn(false)));
  }

  // Counts as bars, the chosen range shaded, bins that are outside it as a whole (clipped) in red.
  function histogram(layer, told) {
    const h = layer.histogram;
    if (!h) return null;
    const most = Math.max(1, ...h.counts), width = 460, height = 130, step = (h.max - h.min) / h.counts.length;
    const chosen = told?.values.chosen;
    const x = (v) => Math.max(0, Math.min(width, ((v - h.min) / (h.max - h.min)) * width));
    const total = h.counts.reduce((a, b) => a + b, 0);
    let clipped = 0;
    const bars = h.counts.map((n, i) => {
      const from = h.min + i * step, outside = chosen && (from + step <= chosen[0] || from >= chosen[1]);
      if (outside) clipped += n;
      const tall = n ? Math.max(1, (Math.log1p(n) / Math.log1p(most)) * 100) : 0;
      return svg("rect", { x: (i * width) / h.counts.length + 0.5, width: width / h.counts.length - 1, y: 108 - tall, height: tall, style: `fill:${outside ? "var(--broken)" : "var(--accent)"}` });
    });
    const shade = chosen ? svg("rect", { x: x(chosen[0]), width: Math.max(1, x(chosen[1]) - x(chosen[0])), y: 4, height: 104, style: "fill:var(--accent)", "fill-opacity": 0.1 }) : null;
    const ends = [svg("text", { x: 2, y: 124 }, short(h.min)), svg("text", { x: width - 2, y: 124, "text-anchor": "end" }, short(h.max))];
    const said = chosen ? tr("clipped: {}", cut(layer.name, chosen, clipped / Math.max(1, total))) : tr("stored in float");
    return el("div", {}, el("h3", {}, tr("Float values (log counts), the range shaded")),
      svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${tr("histogram")} ${short(h.min)} ${short(h.max)} ${said}` }, shade, bars, ends),
      el("p", { class: "note" }, said, told?.values.step ? ` · ${tr("one step is {} of the range", `1/${Math.round((chosen[1] - chosen[0]) / told.values.step)}`)}` : ""));
  }
  // The share of values that a range cuts off: as counted under Drift where that is of the same range, else by whole bins.
  function cut(name, chosen, counted) {
    const [low, high, share] = HQ.data.drift[name] ?? [...chosen, null];
    const near = (a, b) => Math.abs(a - b) <= 0.01 * (chosen[1] - chosen[0]);
    if (share !== null && near(low, chosen[0]) && near(high, chosen[1])) return `${(100 * share).toFixed(3)} %`;
    return tr("about {}", `${(100 * counted).toFixed(1)} %`);
  }
  function weights(told) {
    const all = told.channels;
    if (!all.length) return null;
    const low = Math.min(...all.map((c) => c[0])), high = Math.max(...all.map((c) => c[1])), width = 460, height = 90;
    const y = (v) => 4 + (1 - (v - low) / (high - low || 1)) * (height - 8), step = Math.min(24, width / all.length);
    const bars = all.map(([a, b, scale], i) => HQ.dom.hover(svg("rect", { x: i * step + step * 0.1, width: step * 0.8, y: y(b), height: Math.max(1, y(a) - y(b)), style: "fill:var(--accent)" }),
      `${short(a)} … ${short(b)}${scale ? `, ${tr("scale")} ${short(scale)}` : ""}`));
    return el("div", {}, el("h3", {}, tr("Weights, channel by channel")),
      svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${tr("Weights, channel by channel")} ${short(low)} ${short(high)}` },
        svg("line", { class: "axis", x1: 0, x2: width, y1: y(0), y2: y(0) }), bars));
  }
  function neighbours(told, choose) {
    const known = new Set(HQ.data.layers.map((x) => x.name));
    const chip = (n) => el("span", { class: "chip" }, dot(n.precision),
      known.has(n.name) ? button(shown(n.name, 34), () => choose(n.name)) : el("span", {}, shown(n.name, 34)), n.boundary ? ` (${tr(n.boundary)})` : "");
    return el("div", {}, el("h3", {}, tr("Reads")), told.reads.slice(0, 12).map(chip), el("h3", {}, tr("Read by")), told.read_by.slice(0, 12).map(chip));
  }
  return { draw };
})();
