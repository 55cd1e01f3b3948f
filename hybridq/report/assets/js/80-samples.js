// The samples: every one's own SQNR, the worst and the median ones to look at.
HQ.samples = (() => {
  const { el, svg, shown } = HQ.dom;
  const { tr, db } = HQ.words;

  const whole = (value) => db(value).replace(" ", "\u00a0"); // a number and its unit in one line

  function draw(body) {
    const { shots, sqnr } = HQ.data;
    if (!shots.length) return false;
    body.append(el("p", { class: "note" }, tr("Each sample's lowest SQNR over the outputs; below, the samples with the worst slices first, then those in the middle. Float is the thick line, hybrid the thin one.")));
    if (sqnr.length > 1) body.append(HQ.bars.chart(sqnr.map((v, i) => ({ label: `${tr("sample")} ${i + 1}`, db: v, precision: "int16" })), { height: 130, zoom: true, label: "SQNR of every sample" }));
    body.append(el("div", { class: "shots" }, shots.map(card)));
    return true;
  }
  function card(shot) {
    const several = HQ.data.outputs.length > 1;
    const drawn = shot.drawn.length === 2 ? el("div", { class: "pair" }, ["float", "hybrid"].map((who, i) => el("div", {}, el("img", { src: shot.drawn[i], alt: `${who}: ${shown(shot.name)}` }), tr(who)))) : null;
    const picture = !drawn && shot.picture ? el("img", { src: shot.picture, alt: shown(shot.name) }) : null;
    return el("div", { class: "shot" }, el("h3", {}, shown(shot.name, 60)), el("p", { class: "note" }, `${shot.number + 1} / ${HQ.data.sqnr.length} · ${whole(shot.sqnr_db)}${shot.worst_output ? ` · ${tr("worst slice")} ${whole(shot.worst_sqnr_db)}` : ""}${several && shot.worst_output ? ` (${shown(shot.worst_output, 24)})` : ""}`),
      drawn, picture, shot.wave.length ? curve([shot.wave], ["line-hybrid"], tr("what was fed")) : null,
      shot.outputs.map((o) => el("div", {}, el("span", { class: "note" }, `${shown(o.name, 30)} · ${db(o.sqnr_db)}`), curve([o.float_values, o.hybrid_values], ["line-float", "line-hybrid"], `${shown(o.name)}: ${tr("float and hybrid")}`))));
  }
  function curve(lines, classes, label) {
    const all = lines.flat().filter(Number.isFinite), low = Math.min(...all), high = Math.max(...all), count = lines[0].length;
    const x = (i) => (count > 1 ? 2 + (i / (count - 1)) * 236 : 120), y = (v) => 4 + (1 - (v - low) / (high - low || 1)) * 52;
    return el("div", { class: "curve" }, svg("svg", { viewBox: "0 0 240 60", preserveAspectRatio: "none", role: "img", "aria-label": label },
      lines.map((line, k) => count > 1 ? svg("path", { class: classes[k], "vector-effect": "non-scaling-stroke", d: "M" + line.map((v, i) => `${x(i).toFixed(1)} ${y(v ?? low).toFixed(1)}`).join("L") })
        : svg("circle", { cx: x(0), cy: y(line[0]), r: 4 - k, style: `fill:var(--${k ? "uint8" : "float32"})` }))));
  }
  return { draw };
})();
