// All layers: a chart, the graph, a table, and one layer's story.
HQ.layers = (() => {
  const { el, shown, dot, button, press } = HQ.dom;
  const { tr, db, number, share } = HQ.words;
  const MOST = 400;
  let chosen = null;

  function draw(body) {
    const { layers } = HQ.data;
    if (!layers.length) return false;
    const detail = el("div", { id: "detail", "aria-live": "polite" });
    const choose = (name, stay) => {
      const layer = layers.find((x) => x.name === name);
      if (!layer) return;
      chosen = name;
      detail.replaceChildren(HQ.detail.draw(layer, choose));
      document.querySelectorAll(".mark").forEach((m) => m.classList.toggle("chosen", m.dataset.name === name));
      if (!stay) detail.scrollIntoView({ block: "nearest", behavior: "smooth" });
    };
    const [inside, all] = HQ.data.counted;
    const precisions = [...new Set(layers.map((x) => x.precision))];
    body.append(el("p", { class: "note" }, tr("Individual: only this layer quantized, given the float model's inputs. Entire: inside the hybrid model, with all that came before. Low individual figures are a layer's own damage; the outputs say whether it matters.")),
      el("div", {}, precisions.map((p) => el("span", { class: "key" }, el("i", { style: `background:${HQ.dom.colour(p)}` }), p)), pale(layers)));
    if (inside < all) body.append(el("p", { class: "note" }, tr("Figures of layers are of the first {} of {} samples, those of outputs of all.", inside, all)));
    body.append(views(layers, choose), detail, el("h3", {}, tr("All layers")), table(layers, choose));
    const worst = [...layers].filter((x) => x.individual !== null && !x.by_design && !x.unheard).sort((a, b) => number(a.individual) - number(b.individual))[0] || layers[0];
    const named = chosen ?? HQ.data.advised[0] ?? (HQ.data.first?.length === 0 ? null : worst.name);
    if (named) choose(named, true);
    else detail.replaceChildren(el("p", { class: "note" }, tr("Choose a layer above, or in the table, to see its story.")));
    return true;
  }

  function pale(layers) {
    const one = layers.find((x) => x.unheard);
    return one ? el("span", { class: "key" }, el("i", { style: `background:${HQ.dom.colour(one.precision)};opacity:.4` }), tr("its readers do not hear what its range cuts off")) : null;
  }
  function blame() {
    const limit = HQ.data.limits.layer;
    return limit === null ? null : { db: limit, label: `to blame below ${db(limit)}` };
  }

  function views(layers, choose) {
    const chart = (which) => HQ.bars.chart(layers.map((x) => ({ label: shown(x.name), short: HQ.data.advised.includes(x.name) ? "▲" : "", db: x[which], precision: x.precision, pale: x.unheard, action: () => choose(x.name) })),
      { zoom: true, label: "damage by layer, in the order of the graph", limit: which === "individual" ? blame() : null });
    const kinds = [["individual SQNR", () => chart("individual")], ["entire SQNR", () => chart("entire")], ["graph", () => HQ.graph.draw(choose)]];
    const holder = el("div", { id: "view" });
    const buttons = kinds.filter(([, make], i) => i < 2 || HQ.data.edges.length).map(([name, make], i) => {
      const one = button(name, () => {
        buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === one)));
        holder.replaceChildren(make());
      }, { "aria-pressed": String(i === 0), id: `view-${i}` });
      return one;
    });
    holder.append(kinds[0][1]());
    return el("div", {}, el("div", { class: "bar", role: "group", "aria-label": tr("view") }, buttons), holder);
  }

  function table(layers, choose) {
    const at = new Map(layers.map((x, i) => [x.name, i]));
    const macs = (x) => HQ.data.details[x.name]?.macs_share ?? null;
    const note = (x) => [HQ.data.advised.includes(x.name) ? tr("named in what to do next") : "", x.unheard ? tr("its readers do not hear what its range cuts off") : "", x.note].filter(Boolean).join("; ");
    const onBoard = (x) => HQ.data.board[x.name] ?? null;
    const board = Object.keys(HQ.data.board).length ? [{ head: "board", value: (x) => number(onBoard(x)), show: (x) => db(onBoard(x)), number: true }] : [];
    const columns = [
      { head: "#", value: (x) => at.get(x.name), show: (x) => at.get(x.name) + 1, number: true },
      { head: "layer", value: (x) => x.name, show: (x) => shown(x.name, 60) },
      { head: "op", value: (x) => x.op, show: (x) => shown(x.op, 24) },
      { head: "precision", value: (x) => x.precision, show: (x) => [dot(x.precision), x.precision] },
      { head: "individual", value: (x) => number(x.individual), show: (x) => db(x.individual), number: true },
      { head: "entire", value: (x) => number(x.entire), show: (x) => db(x.entire), number: true },
      ...board,
      { head: "cosine", value: (x) => x.cosine, show: (x) => (x.cosine === null ? "-" : x.cosine.toFixed(6)), number: true },
      { head: "MACs", value: macs, show: (x) => (macs(x) === null ? "-" : share(macs(x))), number: true },
      { head: "note", value: note, show: (x) => shown(note(x), 80) },
    ];
    const row = (x) => press(el("tr", { tabindex: 0, "data-name": x.name, class: "layer" }, columns.map((c, i) => el("td", { class: c.number ? "n" : i === 1 ? "name" : null }, c.show(x)))), () => choose(x.name));
    const made = HQ.table.sorting(columns, layers, row, "all layers", 0);
    return el("div", {}, filters(layers, made), made.node);
  }
  function filters(layers, made) {
    const said = el("span", { class: "note" });
    const text = el("input", { type: "search", id: "filter", placeholder: tr("name or operator"), "aria-label": tr("name or operator"), oninput: () => apply() });
    const pick = (label, values) => el("select", { "aria-label": tr(label), onchange: () => apply() }, el("option", { value: "" }, tr(label)), values.map((v) => el("option", { value: v }, shown(v, 30))));
    const precision = pick("every precision", [...new Set(layers.map((x) => x.precision))]), op = pick("every operator", [...new Set(layers.map((x) => x.op))].sort());
    let most = MOST;
    const more = button("show all", () => { most = Infinity; apply(); });
    function apply() {
      const wanted = text.value.toLowerCase();
      let count = 0;
      const fits = (x) => (x.name + " " + x.op).toLowerCase().includes(wanted) && (!precision.value || x.precision === precision.value) && (!op.value || x.op === op.value);
      const all = layers.filter(fits).length;
      made.filter((x) => fits(x) && count++ < most);
      said.textContent = tr("{} of {} layers", Math.min(all, most), layers.length);
      more.hidden = all <= most;
    }
    apply();
    return el("div", { class: "bar" }, text, precision, op, said, more);
  }
  return { draw };
})();
