// Tables: a plain one, and one that sorts by its heads.
HQ.table = (() => {
  const { el } = HQ.dom;
  const { tr } = HQ.words;

  const boxed = (table, caption) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": tr(caption) }, table);
  function plain(heads, rows, caption) {
    const head = el("tr", {}, heads.map((h, i) => el("th", { scope: "col", class: i ? "n" : null }, tr(h))));
    return boxed(el("table", {}, el("thead", {}, head), el("tbody", {}, rows)), caption);
  }

  // `columns`: {head, value(item), show(item), number}; numbers start with the lowest, texts with a.
  function sorting(columns, items, row, caption, first) {
    const state = { by: first, down: false };
    const body = el("tbody");
    const heads = columns.map((column, i) => el("th", { scope: "col", class: column.number ? "n" : null }, el("button", { type: "button", onclick: () => {
      state.down = state.by === i && !state.down;
      state.by = i;
      fill();
    } }, tr(column.head))));
    let shownItems = items;
    function fill() {
      const column = columns[state.by], sign = state.down ? -1 : 1;
      const missing = (v) => v === null || v === undefined || v === "";
      const sorted = [...shownItems].sort((a, b) => {
        const [x, y] = [column.value(a), column.value(b)];
        if (missing(x) || missing(y)) return missing(x) - missing(y);
        return sign * (column.number ? x - y || 0 : String(x).localeCompare(String(y)));
      });
      heads.forEach((h, i) => h.setAttribute("aria-sort", i === state.by ? (state.down ? "descending" : "ascending") : "none"));
      body.replaceChildren(...sorted.map(row));
    }
    fill();
    const table = el("table", {}, el("thead", {}, el("tr", {}, heads)), body);
    return { node: boxed(table, caption), filter(keep) { shownItems = items.filter(keep); fill(); return shownItems.length; } };
  }
  return { plain, sorting };
})();
