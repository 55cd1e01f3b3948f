// What is chosen in the page: which units are raised, and the words that ask for it.
HQ.choice = (() => {
  const data = () => HQ.data;
  const model = () => HQ.data.prediction;
  let up = [];
  let told = () => {};

  const built = () => model().units.map((u) => u.raised);
  const reset = () => set(built());
  function set(next) { up = next.slice(); told(); }
  const raised = () => up;
  const changed = () => model().units.map((u, i) => i).filter((i) => up[i] !== model().units[i].raised);
  function turn(units, on) { const next = up.slice(); units.forEach((u) => { next[u] = on; }); set(next); }
  const unitOf = (layer) => model().units.findIndex((u) => u.layers.includes(layer));

  // Units from a layer on to the outputs, itself included.
  function downstream(layer) {
    const names = data().layers.map((x) => x.name);
    const todo = [names.indexOf(layer)], seen = new Set();
    while (todo.length) {
      const at = todo.pop();
      if (at < 0 || seen.has(at)) continue;
      seen.add(at);
      data().edges.forEach(([from, to]) => { if (from === at) todo.push(to); });
    }
    return [...new Set([...seen].map((i) => unitOf(names[i])).filter((u) => u >= 0))];
  }
  const precision = (u) => (up[u] ? model().high : model().low);

  // The block of the cfg that asks for exactly this: what differs from the defaults, one layer a line.
  function block() {
    const lines = [];
    const { choices, defaults } = data();
    const inUnits = new Set();
    model().units.forEach((unit, u) => {
      const same = up[u] === unit.raised;
      unit.layers.forEach((name) => {
        inUnits.add(name);
        if (same && choices[name]) lines.push([name, choices[name]]);
        else if (!same && defaults[name] !== precision(u)) lines.push([name, precision(u)]);
      });
    });
    Object.entries(choices).forEach(([name, word]) => { if (!inUnits.has(name)) lines.push([name, word]); });
    if (!lines.length) return "customized_quantize_layers: {}\n";
    return "customized_quantize_layers:\n" + lines.map(([n, p]) => `    ${JSON.stringify(n)}: ${p}\n`).join("");
  }
  const quoted = (text) => (/^[\w./:+-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`);
  const plain = (name) => /^[\w./+-]+$/.test(name) && !["and", "or", "not"].includes(name);

  // The same as edits by command; names that a selector would read otherwise get a line of their own.
  function commands() {
    const lines = [];
    for (const on of [true, false]) {
      const names = changed().filter((u) => up[u] === on).flatMap((u) => model().units[u].layers);
      const word = on ? model().high : model().low;
      const easy = names.filter(plain);
      for (let i = 0; i < easy.length; i += 40) lines.push([easy.slice(i, i + 40).join(" or "), word]);
      names.filter((n) => !plain(n)).forEach((n) => lines.push([n, word]));
    }
    const folder = quoted(data().folder || "DIR");
    return lines.map(([s, p]) => `hybridq set ${folder} ${quoted(s)} ${p}\n`).join("") + (lines.length ? `hybridq step2 ${folder}\n` : "");
  }
  const onchange = (tell) => { told = tell; };
  return { set, reset, raised, changed, turn, unitOf, downstream, precision, block, commands, onchange, built };
})();
