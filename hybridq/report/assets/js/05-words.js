// Words and numbers: English as written, Chinese by a table of texts and patterns.
HQ.words = (() => {
  const chinese = JSON.parse(document.getElementById("chinese").textContent);
  const patterns = chinese.patterns.map(([from, to]) => [new RegExp(`^${from}$`, "s"), to]);
  let language = "en";

  function looked(text) {
    if (Object.hasOwn(chinese.exact, text)) return chinese.exact[text];
    for (const [from, to] of patterns) {
      const found = from.exec(text);
      if (found) return to.replace(/\$(\d)/g, (_, i) => translated(found[i] ?? ""));
    }
    return null;
  }
  // As it stands, or as it would within a sentence.
  const translated = (text) => looked(text) ?? looked(text.slice(0, 1).toLowerCase() + text.slice(1)) ?? text;
  // `{}` stands for values that follow.
  function tr(text, ...values) {
    const found = language === "zh" ? translated(text) : text;
    let i = 0;
    return values.length ? found.replace(/\{\}/g, () => values[i++]) : found;
  }
  function speak(which) {
    language = which;
    document.documentElement.lang = which === "zh" ? "zh-CN" : "en";
    for (const node of document.querySelectorAll("[data-t]")) {
      node.dataset.en ??= node.textContent;
      node.textContent = tr(node.dataset.en);
    }
  }
  const number = (value) => (value === "exact" ? Infinity : value === "lost" ? -Infinity : value);
  function db(value) {
    const v = number(value);
    if (v === null || v === undefined) return "-";
    if (!Number.isFinite(v) || v >= 200) return tr(v > 0 ? "exact" : "lost");
    return `${v.toFixed(1)} dB`;
  }
  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
  }
  const share = (x) => `${(100 * x).toFixed(1)} %`;
  const short = (x) => (x === null || x === undefined ? "-" : Number(x.toPrecision(4)).toString());
  return { tr, speak, number, db, size, share, short, get language() { return language; } };
})();
