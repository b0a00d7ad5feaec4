"use strict";
// Tables: a click on a column's head sorts its rows by number where the cell begins with one, else by text.
for (const table of document.querySelectorAll("main .scroll > table")) {
  const key = (row, column) => row.cells[column].textContent.trim().replace("−", "-").replace(/(\d),(?=\d{3})/g, "$1");
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)], [m, n] = [parseFloat(x), parseFloat(y)];
        const order = isNaN(m) || isNaN(n) ? x.localeCompare(y) : m - n;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
const element = (name, text, kind) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
};
// Long tables of systems: filtered by words and by what a row reads, its language and where its weights come from. The
// first cell begins with a link, "INPUT, LANGUAGE: NAME (RUN)"; a second one says "weights: METHOD, METHOD".
for (const table of document.querySelectorAll("main .scroll > table")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 10 || table.tHead.rows[0].cells[0].textContent.trim() !== "System") continue;
  const link = (row) => row.cells[0].querySelector("a")?.textContent ?? "";
  const read = (row) => link(row).replace(/ \([^)]*\)$/, "").split(": ")[0].split(", ");
  const facets = {
    Input: (row) => read(row).slice(0, 1),
    Language: (row) => read(row).slice(1),
    Method: (row) => /weights: (.*)$/.exec(row.cells[1].textContent)?.[1].split(", ") ?? [],
  };
  const form = element("form", undefined, "filters"), words = element("input"), output = element("output");
  const field = (name, node) => { const label = element("label", name); label.append(node); form.append(label); };
  words.type = "search";
  field("Search", words);
  const chosen = [];
  for (const [name, values] of Object.entries(facets)) {
    const found = [...new Set(rows.flatMap(values))].sort();
    if (found.length < 2) continue;
    const select = element("select");
    select.append(new Option("any", ""), ...found.map((value) => new Option(value)));
    field(name, select);
    chosen.push([select, values]);
  }
  const update = () => {
    const wanted = words.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word))
        || chosen.some(([select, values]) => select.value && !values(row).includes(select.value));
    }
    output.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} systems`;
  };
  form.append(output);
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  table.parentNode.before(form);
  update();
}
// Print: all that is closed is opened.
window.addEventListener("beforeprint", () => { for (const box of document.querySelectorAll("details.fold")) box.open = true; });
// Contents: closed on a narrow window, so that the first screen shows the answer.
if (window.innerWidth < 1376) document.querySelector("nav details").open = false;
// Explorer: the examples lie as JSON in the page; cards are made as they are shown, every string as text.
const pictures = JSON.parse(document.getElementById("explorer-pictures")?.textContent ?? "[]");
for (const box of document.querySelectorAll(".explorer")) {
  const data = JSON.parse(box.querySelector("script").textContent);
  box.hidden = false;
  const form = box.querySelector("form"), cards = box.querySelector(".cards"), more = box.querySelector(".more");
  const PAGE = 24;
  let found = [], shown = 0;
  const right = (example, system) => example.guess[system][0] === example.label;
  const kinds = (language) => {  // positions of the systems that this language's tests compare
    const find = (inputs) => data.systems.findIndex((s) => s.inputs === inputs && s.language === language);
    return {text: find("text"), fusion: find("image+text"), image: data.systems.findIndex((s) => s.inputs === "image")};
  };
  const agrees = (example, rule, language) => {
    const k = kinds(language), has = (...names) => names.every((n) => k[n] >= 0);
    if (rule === "rescued") return has("text", "fusion") && !right(example, k.text) && right(example, k.fusion);
    if (rule === "lost") return has("text", "fusion") && right(example, k.text) && !right(example, k.fusion);
    if (rule.startsWith("gap ")) {  // right in one language, wrong in another, right there with the picture
      const [good, bad] = rule.split(" ").slice(1).map(kinds);
      return [good.text, bad.text, bad.fusion].every((s) => s >= 0)
        && right(example, good.text) && !right(example, bad.text) && right(example, bad.fusion);
    }
    if (rule === "all") return data.systems.every((_, s) => right(example, s));
    if (rule === "none") return data.systems.every((_, s) => !right(example, s));
    return true;
  };
  const card = (example) => {
    const node = element("article", undefined, "card");
    const picture = example.picture === null ? element("span") : element("img");
    if (example.picture !== null) { picture.src = pictures[example.picture]; picture.alt = ""; picture.loading = "lazy"; }
    const words = element("div");
    for (const language of data.languages) {
      const line = element("p", example.text[language]);
      line.lang = language;
      words.append(line);
    }
    words.append(element("p", data.classes[example.label] ?? "unknown", "true"));
    const table = element("table");
    data.systems.forEach((system, s) => {
      if (system.language && form.language.value && system.language !== form.language.value) return;
      const [guess, probability] = example.guess[s], row = table.insertRow();
      row.append(element("td", system.name), element("td", data.classes[guess], right(example, s) ? "right" : "wrong"),
                 element("td", probability.toFixed(2), "number"));
    });
    node.append(picture, words, table);
    return node;
  };
  const extend = () => {
    cards.append(...found.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown === found.length;
  };
  const update = () => {
    const words = form.words.value.trim().toLowerCase(), label = form.label.value, rule = form.agreement.value;
    const languages = form.language.value ? [form.language.value] : data.languages;
    found = data.examples.filter((e) => (label === "" || e.label === Number(label))
      && languages.some((l) => agrees(e, rule, l))
      && (!words || data.languages.some((l) => (e.text[l] ?? "").toLowerCase().includes(words))));
    box.querySelector("output").textContent = `${found.length} of ${data.examples.length} examples`;
    cards.replaceChildren();
    shown = 0;
    extend();
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, update);
  form.language.parentNode.hidden = data.languages.length < 2;
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", extend);
  box.addEventListener("toggle", update, {once: true});
}
