// Puts the parts in their sections; a switch of the language draws them again.
HQ.main = (() => {
  HQ.data = JSON.parse(document.getElementById("data").textContent);
  const parts = { whatif: HQ.whatif.draw, layers: HQ.layers.draw, samples: HQ.samples.draw, bits: HQ.plots.pareto, outputs: HQ.plots.slices };

  function draw() {
    for (const [id, make] of Object.entries(parts)) {
      const section = document.getElementById(id), body = section?.querySelector(".body");
      if (!body) continue;
      body.replaceChildren();
      section.hidden = !make(body);
      const link = document.querySelector(`nav a[href="#${id}"]`);
      if (link) link.hidden = section.hidden;
    }
  }
  const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a page of a file may have no store */ } };

  function speak(which) {
    HQ.words.speak(which);
    const other = document.getElementById("language");
    other.textContent = which === "zh" ? "English" : "中文";
    other.lang = which === "zh" ? "en" : "zh";
    draw();
  }
  document.getElementById("language").addEventListener("click", () => {
    const which = HQ.words.language === "zh" ? "en" : "zh";
    remember("hybridq-language", which);
    speak(which);
  });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember("hybridq-theme", root.dataset.theme);
  });
  document.querySelectorAll(".command .copy").forEach((one) => one.addEventListener("click", () => HQ.dom.copy(one.dataset.command, one)));
  const theme = remembered("hybridq-theme");
  if (theme) document.documentElement.dataset.theme = theme;
  speak(remembered("hybridq-language") === "zh" ? "zh" : "en");
  return { draw, speak };
})();
