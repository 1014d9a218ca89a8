// What helps to find: MiniSearch ranks the sections of the site for the panel of the page; boxes filter long tables.
(() => {
  "use strict";
  const up = new URL("..", document.currentScript?.src ?? "file:///").href;

  // What readers ask for, and the words that the pages have for it.
  const SYNONYMS = [
    [/\b(class(es)?[ -])?imbalanced?( (class(es)?|data(set)?s?))?\b|\bunbalanced( (class(es)?|data))?\b|\brare class(es)?\b/, "class weights"],
    [/\b(how (do i|to) |pip )?install(ing|ation)?( tinytorch)?\b|\bset ?up\b|\bget(ting)? started\b/, "installation"],
    [/\bmse\b|\bl2 loss\b|\bleast squares\b|\bquadratic loss\b/, "mean squared error"],
    [/\bmae\b|\bl1\b|\bmean absolute error\b/, "absolute error"],
    [/\bbce\b|\blog loss\b|\blogistic loss\b/, "binary cross-entropy"],
    [/\bnll\b/, "negative log-likelihood"],
    [/\bce\b|\bsoftmax loss\b|\bcategorical cross[- ]?entropy\b/, "cross-entropy"],
    [/\bkl\b|\bkl[- ]divergence\b|\brelative entropy\b/, "kullback-leibler divergence"],
    [/\bperplexity\b/, "language model"],
    [/\bnans?\b|\boverflow\b|\bunderflow\b|\binf(inity)?\b/, "stability"],
    [/\breductions?\b/, "which mean"],
    [/\boutliers?\b/, "huber loss"],
    [/\bignore_index\b|\bignore[d -]*(index|targets?|labels?)\b|\bpadding\b|\bmask(ing)?\b/, "ignored samples"],
    [/\b(mixed|half)[- ]?precision\b|\bamp\b|\bfp16\b|\bfloat16\b|\bbf(loat)?16\b|\bautocast\b/, "half precision"],
    [/\bpinball( loss)?\b/, "quantile loss"],
    [/\bsvms?\b|\bsupport vector\b/, "hinge loss"],
    [/\blistwise\b/, "listnet"],
    [/\bpos_?weights?\b/, "class weights"],
    [/\bsubmit(ting)?\b|\bsubmissions?\b|\bhand(ing)? in\b/, "collect"],
    [/\biou\b|\bjaccard\b/, "lovasz"],
    [/\bcontrastive( loss)?\b/, "infonce"],
    [/\b(which|what|choose|choosing)\b.*\bloss(es)?\b/, "which loss do i need"],
    [/\b(pytorch|torch) differences?\b|\bdifferen(ce|t)s? (to|from|with) (pytorch|torch)\b/, "where we differ from pytorch"],
    [/\bbenchmarks?\b|\bhow fast\b|\bperformance\b|\bfast(er)?\b/, "speed"],
    [/\bgrad(e|ing)\b|\bteach(ers?|ing)\b/, "for instructors"],
  ];

  // How much a section of each part of the site counts; the first that fits.
  const WEIGHTS = [
    [/^04_losses\/losses_dev/, 3], [/^04_losses/, 2], [/^reference\/(index|functional)/, 0.7], [/^reference/, 2],
    [/^(guide|speed|index)/, 2], [/^(0\d_|hosts|scale)/, 1.2], [/^(core|nn|checking)\//, 0.15], [/./, 0.06],
  ];
  // In a lesson, a heading before an exercise or a name in code; who asks for `F.name` or `NameLoss` wants its reference.
  const weight = ({href, section}, functional, named) => {
    const part = WEIGHTS.find(([place]) => place.test(href))[1];
    if (href.startsWith("reference/")) return functional && href.startsWith("reference/functional") ? 20 : named ? 2 * part : part;
    return part * (/^exercise/i.test(section) ? 0.4 : /^([a-z_]\w*|\w+Loss)$/.test(section) ? 0.6 : 1);
  };

  const words = (text) => text.normalize("NFD").replace(/\p{M}/gu, "")
    .replace(/([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])/g, "$1$3 $2$4").toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  // The heading as one word, without what does not tell one loss from another: "Cross-entropy", `CrossEntropyLoss`, `F.cross_entropy`.
  const name = (text) => words(text.replace(/^exercise: (the )?|\(\d+ points?\)/gi, "")).join("").replace(/(?<=.)(loss|losses)$/, "");

  class Search {
    constructor(entries) {
      this.index = new window.MiniSearch({fields: ["name", "section", "title", "text"], tokenize: words, processTerm: (word) => word});
      this.entries = [];
      this.known = new Set();
      for (const entry of entries) this.add(entry);
    }

    add(entry) {
      for (const word of words(`${entry.section} ${entry.title} ${entry.text}`)) this.known.add(word);
      this.index.add({...entry, section: entry.section || entry.title, name: name(entry.section || entry.title), id: this.entries.push(entry) - 1});
    }

    search(query, {limit = 20} = {}) {
      // The panel lies within the bar, which is dark in both themes.
      const theme = document.documentElement.classList.contains("quarto-dark") ? "dark" : "light";
      for (const panel of document.querySelectorAll(".smalldocs-search-results")) panel.dataset.bsTheme = theme;
      const functional = /^\s*([a-z.]+\.)?(F|functional)\.\w/.test(query), named = /[a-z0-9]Loss\s*$/.test(query);
      const asked = query.replace(/^\s*((torch|tinytorch|nn|functional|F)\.)+(?=\w)/, "");
      const meant = [asked, ...SYNONYMS.flatMap(([said, means]) => said.test(asked.toLowerCase()) ? [asked.toLowerCase().replace(said, means)] : [])];
      const fuzzy = (word) => word.length > 3 && !this.known.has(word) && 0.2;          // what is written nowhere is a slip
      const tolerant = {fuzzy, prefix: (word) => word.length > 2};
      const queries = meant.flatMap((text, i) => [
        {queries: [name(text)], fields: ["name"], fuzzy, boost: {name: i ? 12 : 8}, prefix: true},
        {queries: [text], fields: ["section", "title", "text"], boost: {section: 4, title: 2}, combineWith: "AND", ...tolerant},
        {queries: [text], fields: ["section", "title"], ...tolerant},
      ]);
      const found = this.index.search({combineWith: "OR", queries}, {boostDocument: (id) => weight(this.entries[id], functional, named)});
      return found.slice(0, limit).map(({id}) => ({item: this.entries[id], refIndex: id}));
    }
  }

  // The panel fetches the index when it is first used. MiniSearch comes with it and takes the place of Fuse, unless it is
  // missing. A page in a folder may run scripts but not read files: there the index is a script.
  const script = (src) => new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("script"), {src, onload: resolve, onerror: reject}));
  });
  const fetched = window.fetch;
  window.fetch = async (address, ...rest) => {
    if (!String(address).endsWith("search.json")) return fetched(address, ...rest);
    await script(up + "site_libs/minisearch.js").then(() => { window.Fuse = Search; }, () => {});
    if (location.protocol !== "file:") return fetched(address, ...rest);
    await script(up + "search.js");
    return new Response(JSON.stringify(window.searchIndex));
  };
})();

// A box above the tables of a `.filter` keeps the rows that have all its words; headings without a row go too.
document.querySelectorAll(".filter").forEach((place, i) => {
  "use strict";
  const tables = [...place.querySelectorAll("table")].map((table) => {
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    return {rows, table};
  });
  const all = tables.flatMap(({rows}) => rows).length;
  const box = document.createElement("p");
  box.className = "filter-box";
  box.innerHTML = `<label for="filter-${i}">Filter</label> <input id="filter-${i}" class="form-control form-control-sm" type="search" autocomplete="off"> <span role="status">${all} rows</span>`;
  place.prepend(box);
  const show = (element, wanted) => { element.hidden = !wanted; };
  box.querySelector("input").addEventListener("input", ({target}) => {
    const asked = target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const {rows, table} of tables) {
      let kept = 0;
      for (const [row, text] of rows) { const fits = asked.every((word) => text.includes(word)); show(row, fits); kept += fits; }
      show(table, kept);
      left += kept;
    }
    for (const part of place.querySelectorAll("section")) show(part, part.querySelector("tbody tr:not([hidden])"));
    box.querySelector("[role=status]").textContent = asked.length ? `${left} of ${all} rows` : `${all} rows`;
  });
});
