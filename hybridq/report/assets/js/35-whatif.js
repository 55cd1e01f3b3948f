// The what-if: change precisions and see what would come of it.
HQ.whatif = (() => {
  const { el, dot, button, copying, shown } = HQ.dom;
  const { tr, db, size, share } = HQ.words;
  const P = HQ.predict, C = HQ.choice;

  function draw(body) {
    const model = HQ.data.prediction;
    if (!model) return false;
    const parts = { tiles: el("div", { class: "tiles", "aria-live": "polite" }), figures: el("div"), text: el("pre", { id: "block" }) };
    body.append(
      el("p", { class: "note" }, tr("Raise or lower layers and see the prediction: noise of quantizers measured alone, corrected by the joint models below. The cfg is not changed until you copy the lines.")),
      parts.tiles, walk(model),
      el("div", { class: "whatif" }, el("div", {}, tools(model), list(model)), el("div", {},
        parts.figures,
        el("div", { class: "bar" }, copying(C.block, "copy the cfg block"), copying(C.commands, "copy the commands"), el("span", { id: "count", class: "note" })),
        parts.text)),
      joints(model));
    const update = () => show(model, parts);
    C.onchange(update);
    if (!C.raised().length) C.reset(); else update();
    return true;
  }

  function show(model, parts) {
    const up = C.raised(), built = C.built();
    const was = P.figures(model, built), now = P.figures(model, up);
    parts.tiles.replaceChildren(...tiles(model, up, built, was, now));
    parts.figures.replaceChildren(table(model, was, now));
    parts.text.textContent = shown(C.block(), 4000, true);
    const count = document.getElementById("count");
    const changed = C.changed().flatMap((u) => model.units[u].layers).length;
    if (count) count.textContent = changed === 1 ? tr("1 layer changed") : tr("{} layers changed", changed);
    document.querySelectorAll(".pick input").forEach((box) => {
      const u = Number(box.dataset.unit);
      box.checked = up[u];
      box.parentElement.classList.toggle("changed", up[u] !== built[u]);
    });
  }

  function tiles(model, up, built, was, now) {
    const wholes = model.figures.map((f, i) => i).filter((i) => !model.figures[i].label);
    const least = (found) => Math.min(...wholes.map((i) => found[i]));
    const slices = model.figures.map((f, i) => i).filter((i) => model.figures[i].label);
    const worst = (found) => Math.min(...slices.map((i) => found[i]), least(found));
    const hybrid = (x) => HQ.data.sizes.hybrid_bytes + P.bytes(model, x) - P.bytes(model, built);
    const found = [
      tile("lowest SQNR, predicted", db(least(now)), least(now) - least(was), " dB", true, whose(model, wholes, now)),
      tile("worst slice, predicted", db(worst(now)), worst(now) - worst(was), " dB", true, whose(model, slices.length ? slices : wholes, now)),
      tile("size, about", size(Math.max(0, hybrid(up))), (hybrid(up) / hybrid(built) - 1) * 100, " %", false),
      tile("MACs above 8 bits", share(P.share(model, up)), (P.share(model, up) - P.share(model, built)) * 100, " %", false),
    ];
    if (model.clock) found.push(timeTile(model, up, built));
    return found;
  }
  function timeTile(model, up, built) {
    const delta = P.time(model, up) - P.time(model, built), timing = HQ.data.timing;
    const low = P.time(model, built);
    if (model.clock !== "machine" || !timing) return tile(model.clock === "machine" ? "time here, relative" : "time on the board, relative", `${(100 * P.time(model, up) / low).toFixed(0)} %`, 100 * delta / low, " %", false);
    const ms = Math.max(0, timing.hybrid_ms + delta / 1000);
    return tile("time here, about", `${ms.toFixed(2)} ms`, delta / 1000, " ms", false);
  }
  // Which output has the lowest of some figures, where there are several.
  function whose(model, some, now) {
    if (new Set(model.figures.map((f) => f.output)).size < 2) return "";
    return model.figures[some.reduce((a, b) => (now[b] < now[a] ? b : a))].output;
  }
  function tile(label, value, delta, unit, more, of = "") {
    const small = Math.abs(delta) < 0.05;
    const kind = small ? "" : (delta > 0) === more ? "better" : "worse";
    return el("div", { class: "tile" }, el("span", {}, tr(label), of ? ` · ${shown(of, 24)}` : ""), el("b", {}, value),
      el("span", { class: kind }, small ? tr("as built") : `${delta > 0 ? "+" : "−"}${Math.abs(delta).toFixed(1)}${unit}`));
  }

  function table(model, was, now) {
    const misses = P.misses(model);
    const rows = model.figures.map((f, i) => el("tr", {},
      el("td", { class: "name" }, shown(f.output, 40) + (f.label ? ` ${f.label}` : "")),
      el("td", { class: "n" }, db(model.joints[0].measured[i])),
      el("td", { class: "n" }, db(now[i])),
      el("td", { class: `n ${Math.abs(now[i] - was[i]) < 0.05 ? "" : now[i] > was[i] ? "better" : "worse"}` }, `${now[i] >= was[i] ? "+" : "−"}${Math.abs(now[i] - was[i]).toFixed(1)}`),
      el("td", { class: "n" }, `±${misses[i].toFixed(1)} dB`)));
    return HQ.table.plain(["output", "built", "predicted", "change", "missed by"], rows, "predicted figures");
  }

  function walk(model) {
    if (model.front.length < 2) return el("span");
    const said = el("output", { for: "front" });
    const input = el("input", { type: "range", id: "front", min: 0, max: model.front.length - 1, value: 0, step: 1, oninput: () => {
      const up = model.units.map(() => false);
      model.front[Number(input.value)].forEach((u) => { up[u] = true; });
      C.set(up);
      say();
    } });
    const say = () => { said.textContent = tr("{} layers raised", model.front[Number(input.value)].flatMap((u) => model.units[u].layers).length); };
    say();
    return el("div", { class: "bar" }, el("label", { for: "front" }, tr("Walk the Pareto front")), input, said);
  }

  function tools(model) {
    const ops = [...new Set(model.units.flatMap((u) => u.layers.map(opOf)))].sort();
    const names = model.units.flatMap((u) => u.layers);
    const op = el("select", { "aria-label": tr("operator") }, ops.map((o) => el("option", { value: o }, o)));
    const from = el("select", { "aria-label": tr("from this layer to the output") }, names.map((n) => el("option", { value: n }, shown(n, 40))));
    const ofOp = () => model.units.map((u, i) => i).filter((i) => model.units[i].layers.some((n) => opOf(n) === op.value));
    const pair = (units) => [button("raise", () => C.turn(units(), true)), button("lower", () => C.turn(units(), false))];
    const all = () => model.units.map((u, i) => i);
    return el("div", {},
      el("div", { class: "bar" }, button("as built", C.reset), button("all 8 bits", () => C.turn(all(), false)), button("all raised", () => C.turn(all(), true))),
      el("div", { class: "bar" }, el("label", {}, tr("all of operator")), op, pair(ofOp)),
      el("div", { class: "bar" }, el("label", {}, tr("from here to the output")), from, pair(() => C.downstream(from.value))),
      el("div", { class: "bar" }, el("input", { type: "search", id: "pickfilter", placeholder: tr("filter layers"), "aria-label": tr("filter layers"), oninput: filter }),
        pair(() => [...document.querySelectorAll(".pick label:not([hidden]) input")].map((b) => Number(b.dataset.unit)))));
  }
  const opOf = (name) => HQ.data.layers.find((x) => x.name === name)?.op ?? "";
  function filter(event) {
    const text = event.target.value.toLowerCase();
    document.querySelectorAll(".pick label").forEach((row) => { row.hidden = !row.dataset.text.includes(text); });
  }
  function list(model) {
    return el("div", { class: "pick", role: "group", "aria-label": tr("layers") }, model.units.map((unit, u) => {
      const names = unit.layers.map((n) => shown(n, 40)).join(", ");
      return el("label", { "data-text": `${unit.layers.join(" ")} ${opOf(unit.layers[0])}`.toLowerCase() },
        el("input", { type: "checkbox", "data-unit": u, onchange: (e) => C.turn([u], e.target.checked) }),
        dot(unit.raised ? model.high : model.low), el("span", {}, shown(names, 90)), el("span", { class: "op" }, `${opOf(unit.layers[0])} ${share(unit.share)}`));
    }));
  }

  function joints(model) {
    const rows = model.joints.map((j) => el("tr", {}, el("td", {}, tr(j.what)), el("td", { class: "n" }, j.raised.length),
      model.figures.map((f, i) => el("td", { class: "n" }, `${j.predicted[i].toFixed(1)} / ${j.measured[i].toFixed(1)}`))));
    const heads = ["joint model", "units raised", ...model.figures.map((f) => shown(f.output, 18) + (f.label ? ` ${f.label}` : ""))];
    return el("details", {}, el("summary", {}, tr("How good is the prediction? Predicted / measured of every joint model that was built, in dB")),
      HQ.table.plain(heads, rows, "joint models"));
  }
  return { draw };
})();
