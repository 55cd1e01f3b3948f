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

  // The same as edits by command, a line for what rises and one for what falls.
  function commands() {
    const lines = [], folder = quoted(data().folder || "DIR");
    for (const on of [true, false]) {
      const names = changed().filter((u) => up[u] === on).flatMap((u) => model().units[u].layers);
      const word = on ? model().high : model().low;
      const ahead = names.some((n) => n.startsWith("-")) ? "-- " : ""; // no name is taken for an option
      if (names.length) lines.push(`hybridq set ${ahead}${folder} ${names.map(quoted).join(" ")} ${word}\n`);
    }
    return lines.join("") + (lines.length ? `hybridq step2 ${folder}\n` : "");
  }
  const onchange = (tell) => { told = tell; };
  return { set, reset, raised, changed, turn, unitOf, downstream, precision, block, commands, onchange, built };
})();
