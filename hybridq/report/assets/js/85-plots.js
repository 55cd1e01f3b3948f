// Slices of outputs, and the search's Pareto front.
HQ.plots = (() => {
  const { el, svg, shown, hover } = HQ.dom;
  const { tr, db, share } = HQ.words;

  function slices(body) {
    const cut = HQ.data.outputs.filter((o) => o.slices.length > 1);
    cut.forEach((output) => {
      body.append(el("details", { open: cut.length < 3 }, el("summary", {}, tr("Slices of {}", shown(output.name))),
        HQ.bars.chart(output.slices.map((s) => ({ label: s.where, short: s.where.replace(/^.*\[/, "["), db: s.sqnr_db, precision: "int16" })), { height: 140, label: "SQNR by slice", limit: { db: HQ.data.limits.slice, label: `good from ${HQ.data.limits.slice} dB` } })));
    });
    return true;
  }
  function pareto(body) {
    const points = HQ.data.points.filter((p) => Number.isFinite(p.damage_db));
    if (!points.length) return false;
    const values = points.map((p) => p.damage_db), low = Math.min(...values) - 1, high = Math.max(...values) + 1;
    const right = Math.max(1e-3, ...points.map((p) => p.fraction)) * 1.05;
    const x = (v) => 52 + (v / right) * 890, y = (v) => 8 + (1 - (v - low) / (high - low)) * 210;
    const marks = points.map((p) => hover(svg("circle", { cx: x(p.fraction), cy: y(p.damage_db), r: p.chosen ? 7 : 4, style: `fill:var(--${p.chosen ? "broken" : "int16"})` }), `${share(p.fraction)}: ${db(p.damage_db)}${p.chosen ? ` (${tr("chosen")})` : ""}`));
    const ticks = [low + 1, (low + high) / 2, high - 1].map((v) => [svg("line", { class: "grid", x1: 50, x2: 950, y1: y(v), y2: y(v) }), svg("text", { x: 44, y: y(v) + 4, "text-anchor": "end" }, `${v.toFixed(0)} dB`)]);
    const feet = [0, right / 2.1, right / 1.05].map((v) => svg("text", { x: x(v), y: 236, "text-anchor": "middle" }, share(v)));
    body.append(el("p", { class: "note" }, tr("What the search measured: the lowest SQNR over the share of the work above 8 bits.")),
      svg("svg", { viewBox: "0 0 960 244", role: "img", "aria-label": tr("Damage and bits") }, ticks, feet, marks));
    return true;
  }
  return { slices, pareto };
})();
