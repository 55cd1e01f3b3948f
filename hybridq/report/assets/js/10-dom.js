// Making elements, and texts that can do no harm: names go in as text, never as markup.
HQ.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const ODD = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // Control and direction characters as their codes; the middle of a long name left out.
  function shown(text, most = 64, lines = false) {
    const odd = (c) => (lines && c === "\n" ? c : "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
    const safe = String(text).slice(0, 4000).replace(ODD, odd);
    if (safe.length <= most) return safe;
    const ahead = Math.floor((most - 1) / 2);
    return safe.slice(0, ahead) + "…" + safe.slice(safe.length - (most - 1 - ahead));
  }
  const colour = (precision) => `var(--${precision}, var(--float32))`;
  const dot = (precision) => el("i", { class: "dot", style: `background:${colour(precision)}`, "aria-hidden": "true" });
  const button = (text, onclick, more) => el("button", { class: "act", type: "button", onclick, ...more }, HQ.words.tr(text));

  function copying(text, label = "copy") {
    return button(label, (event) => copy(typeof text === "function" ? text() : text, event.currentTarget), { class: "act copy" });
  }
  async function copy(text, from) {
    const label = from.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = el("textarea", { style: "position:fixed;opacity:0" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    from.textContent = HQ.words.tr("copied");
    HQ.copied = text;
    setTimeout(() => { from.textContent = label; }, 1200);
  }
  const command = (text) => el("div", { class: "command" }, el("pre", {}, shown(text, 4000, true)), copying(text));

  let tip = null;
  function hover(node, text) {
    node.addEventListener("pointerenter", (event) => {
      tip = tip || document.body.appendChild(el("div", { class: "tip", role: "tooltip" }));
      tip.textContent = typeof text === "function" ? text() : text;
      tip.hidden = false;
      const left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 10)}px`;
    });
    node.addEventListener("pointerleave", () => { if (tip) tip.hidden = true; });
    return node;
  }
  // What a mouse clicks, a keyboard reaches with Tab and presses with Enter or Space.
  function press(node, action) {
    node.addEventListener("click", action);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); action(event); }
    });
    return node;
  }
  return { el, svg, shown, colour, dot, button, copying, copy, command, hover, press };
})();
