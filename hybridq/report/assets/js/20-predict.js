// The additive model, as `hybridq/report/prediction.py` says it: noise of what is not raised adds, joint models correct it.
HQ.predict = (() => {
  const MOST_DB = 200;

  // Noise of every figure; `up[u]` says whether unit u is raised.
  function noise(model, up) {
    const total = model.figures.map(() => 0);
    const add = (row) => row.forEach((value, f) => { total[f] += value; });
    model.own.forEach((row, u) => { if (!up[u]) add(row); });
    model.pairs.forEach((row, i) => { if (!(up[model.first[i]] && up[model.second[i]])) add(row); });
    return total;
  }
  function decibels(figure, added) {
    if (added <= 0 || figure.signal <= 0) return MOST_DB;
    const plain = Math.max(-MOST_DB, Math.min(MOST_DB, 10 * Math.log10(figure.signal / added)));
    return plain === MOST_DB ? plain : plain + figure.offset + figure.slope * (plain - figure.centre);
  }
  const figures = (model, up) => noise(model, up).map((n, f) => decibels(model.figures[f], n));
  const share = (model, up) => model.base_share + model.units.reduce((s, unit, u) => s + (up[u] ? unit.share : 0), 0);
  const bytes = (model, up) => model.units.reduce((s, unit, u) => s + (up[u] ? unit.high_bytes : unit.low_bytes), 0);

  // Microseconds of all units, and of the boundaries between them.
  function time(model, up) {
    const layers = model.units.reduce((s, unit, u) => s + (up[u] ? unit.high_us : unit.low_us), 0);
    const crossed = model.elements.reduce((s, n, i) => s + (!up[model.first[i]] !== !up[model.second[i]] ? n : 0), 0);
    return layers + (crossed * model.boundary_ns) / 1000;
  }
  // How far the prediction was from what was measured, over all joint models but for each figure: the most, in dB.
  const misses = (model) => model.figures.map((_, f) =>
    Math.max(0, ...model.joints.map((j) => Math.abs(j.predicted[f] - j.measured[f]))));
  return { noise, figures, share, bytes, time, misses };
})();
