// board.html: reads the page's data, draws it for what the address says, and draws it again when that changes.

import { h, announce, plural, replace, tooltips } from "./dom.js";
import { addressState, checked } from "./state.js";
import { block, readCounts } from "./unpack.js";
import { model as modelOf, rowsOf, chosenQueries, chosenMethods } from "./rows.js";
import { filterBar, followState, knownValues, methodFields, sharedFields } from "./filters.js";
import { TIER, numberOf, shownColumns, sorted } from "./columns.js";
import { asCsv, asLatex, asMarkdown, copyButtons } from "./copying.js";
import { scoreTable } from "./table.js";
import { ceilingSection, definitionSection, pairSection, profileSection, reportedSection, riskSection, timeSection, winSection } from "./sections.js";

const DEFAULTS = {
  subset: "", noun: "", size: "", sees: "", weights: "", find: "", sort: "tier", way: "up", all: "", pick: "", a: "", b: "",
};
const MOST_PICKED = 5;
const UNSEEN = { subset: "", noun: "", size: "", sees: "", weights: "", find: "" };

/** The rows of all queries, which the page was written with. */
function writtenRows(data, model) {
  const same = (method, row) => method.method === row.method && method.concept === row.concept && method.reference === row.reference;
  return data.rows.map((row) => ({
    ...row,
    method: model.methods.find((method) => same(method, row)),
    values: Object.fromEntries(Object.entries(row.values).map(([name, [value, ci]]) => [name, { value, ci }])),
    score: null,
  }));
}

async function start() {
  const data = JSON.parse(block("data"));
  const counts = await readCounts(data, block("counts"));
  const model = modelOf(data, counts);
  const fields = [...sharedFields(data), ...methodFields(data)];
  const extra = JSON.parse(block("extra") ?? "{}");
  const state = addressState(DEFAULTS, (now, changed) => update(changed));
  const labels = new Map(data.columns.map((column) => [column.name, column.label]));
  let result = null;
  let computed = "";

  const filterNow = () => checked(state.now, DEFAULTS, knownValues(fields));
  const isAll = (filter) => Object.keys(UNSEEN).every((name) => !filter[name]);

  function first() {
    const rows = writtenRows(data, model);
    const by = rows.some((row) => row.values.headline) ? "headline" : "iou_mean";
    for (const row of rows) row.score = row.values[by]?.value ?? null;
    return { rows, ranking: { by, sign: 1 }, chosen: chosenQueries(model, {}), asked: data.queries.n, written: true };
  }

  /** The rows for the filter now; only those numbers that are shown. */
  function compute(full) {
    const filter = filterNow();
    const key = JSON.stringify([Object.keys(UNSEEN).map((name) => filter[name]), state.now.all]);
    if (isAll(filter) && !full) {
      result = first();
      computed = "";
    } else if (key !== computed) {
      const wanted = state.now.all ? null : shownColumns(data, { by: "headline" }, "").map(({ name }) => name);
      result = rowsOf(model, filter, wanted);
      computed = key;
    }
  }

  function view() {
    const picked = pickedNow();
    const columns = shownColumns(data, result.ranking, state.now.all);
    const column = [TIER, ...columns].find(({ name }) => name === state.now.sort) ?? TIER;
    const rows = column === TIER && state.now.way === "up" ? result.rows : sorted(result.rows, column, state.now.way);
    return {
      ...result, rows, columns, picked, state, total: data.queries.n, fewest: data.statistics.fewest, tolerated: data.tolerated, least: data.least_own_task, browse: extra.browse,
      best: Object.fromEntries(columns.map((each) => [each.name, bestOf(result.rows, each)])),
      sort: { column, direction: state.now.way },
      labelOf: (name) => labels.get(name) ?? name,
      onsort: (name, way) => state.set({ sort: name, way }),
      onpick: (place) => state.set({ pick: toggled(picked, place).join(".") }),
      reset: () => state.set(UNSEEN),
      casesOf: (row, of) => casesOf(extra.browse, row, of),
    };
  }

  function pickedNow() {
    const shown = new Set(result.rows.map((row) => row.method.place));
    const given = state.now.pick.split(".").filter(Boolean).map(Number).filter((place) => shown.has(place));
    if (given.length || state.now.pick === "none") return given.slice(0, MOST_PICKED);
    const ranked = result.rows.filter((row) => row.tier !== null);
    return (ranked.length ? ranked : result.rows).slice(0, 3).map((row) => row.method.place);
  }

  const toggled = (picked, place) => {
    const rest = picked.filter((each) => each !== place);
    const next = rest.length < picked.length ? rest : [...picked, place].slice(-MOST_PICKED);
    return next.length ? next : ["none"];
  };

  /** The sort as two controls, for those who cannot see that heads sort. */
  function sorter({ columns, sort }) {
    const options = [TIER, ...columns];
    return h("form", { class: "filters sorter", onsubmit: (event) => event.preventDefault() },
      h("label", { class: "field" }, h("span", null, "Sort by"),
        h("select", { "data-focus": "sorter", onchange: (event) => {
          const column = options.find(({ name }) => name === event.target.value);
          state.set({ sort: column.name, way: column.higher ? "down" : "up" });
        } }, options.map(({ name, label }) => h("option", { value: name, selected: name === sort.column.name }, label)))),
      h("button", { type: "button", "data-focus": "sorter-way", onclick: () => state.set({ way: sort.direction === "up" ? "down" : "up" }) },
        sort.direction === "up" ? "↑ small first" : "↓ large first"),
      h("button", { type: "button", class: "quiet", "aria-pressed": state.now.all ? "true" : "false", "data-focus": "all-columns",
        onclick: () => state.set({ all: state.now.all ? "" : "1" }) }, state.now.all ? "Fewer numbers" : "All numbers"));
  }

  function drawTable() {
    const now = view();
    const withIntervals = (column) => now.rows.some((row) => row.values[column.name]?.ci);
    replace("table", h("div", null, sorter(now), scoreTable(now), copyButtons(() => ({
      CSV: asCsv(now.rows, now.columns, withIntervals),
      Markdown: asMarkdown(now.rows, now.columns),
      LaTeX: asLatex(now.rows, now.columns),
    }))));
  }

  const drawn = { time: timeSection, profile: (id, now) => profileSection(id, model, now), wins: (id, now) => winSection(id, model, now),
    pair: (id, now) => pairSection(id, model, now), risk: (id, now) => riskSection(id, model, now) };
  let waiting = 0;

  /** The sections below come after the table has been painted; those that need draws compute them then. */
  function drawSections() {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (result.written) {
        const written = result;
        result = { ...rowsOf(model, {}, []), written: true };
        for (const row of result.rows) row.values = written.rows.find((each) => each.method === row.method).values;
      }
      const now = view();
      now.rows = result.rows;
      for (const [id, draw] of Object.entries(drawn)) replace(id, draw(id, now));
      document.body.dataset.ready = "all";
    }, 30);
  }

  function update(changed = Object.keys(DEFAULTS)) {
    document.body.dataset.ready = "";
    if (changed.some((name) => name in UNSEEN || name === "all")) compute();
    followState(document.getElementById("filters"), state);
    drawTable();
    if (changed.some((name) => !["sort", "way", "all"].includes(name))) drawSections();
    else document.body.dataset.ready = "all";
    if (changed.length < 3) announce(`${plural(result.asked, "query", "queries")}, ${plural(result.rows.length, "method")}`);
  }

  draw(data, extra, fields, state);
  tooltips(document.body);
  update();
  document.body.dataset.first = `${Math.round(performance.now())}`;
  window.prisbench = { data, rows: (filter, wanted) => rowsOf(model, { ...UNSEEN, ...filter }, wanted), chosenMethods, model };
}

/** The best number of a column among the ranked rows; null without two of them. */
const bestOf = (rows, column) => {
  const values = rows.filter((row) => row.tier !== null).map((row) => numberOf(row, column)).filter((value) => value !== null);
  return values.length > 1 ? Math[column.higher ? "max" : "min"](...values) : null;
};

/** The address of the cases behind a number, where the answers are at hand. */
function casesOf(browse, row, column) {
  const choice = {
    wrong_instance_rate: { outcome: "wrong" }, absent_fp_rate: { subset: "absent", outcome: "alarm" },
    contradicted_fp_rate: { subset: "contradicted", outcome: "alarm" }, iou_mean: { subset: "present", sort: "worst" },
    headline: { sort: "worst" }, instance_accuracy: { subset: "present", outcome: "right" },
  }[column.name];
  return browse && choice ? `${browse}#${new URLSearchParams({ a: row.method.place, ...choice })}` : null;
}

/** The skeleton of the page. */
function draw(data, extra, fields, state) {
  const { name, version, split, digest } = data.dataset;
  const links = [["table", "Scores"], ["time", "Time"], ["profile", "Subsets"], ["wins", "Wins"], ["pair", "Two methods"], ["risk", "Risk"], ["meaning", "Definitions"]];
  const bar = filterBar(fields, state, { find: "Find", label: "Filter queries and methods" });
  bar.id = "filters";
  document.getElementById("page").replaceWith(h("div", { id: "page" },
    h("a", { class: "skip", href: "#table", onclick: (event) => { event.preventDefault(); document.querySelector("#table .scroll").focus(); } }, "To the scores"),
    h("header", null,
      h("div", null, h("p", { class: "over" }, "prisbench leaderboard"), h("h1", null, `${name[0].toUpperCase()}${name.slice(1)} v${version.replace(/^v/, "")}`),
        h("p", { class: "soft" }, `${split} split · ${plural(data.queries.n, "query", "queries")} about ${plural(data.queries.subjects.length, "subject")} · metric spec ${data.metric_spec} · `,
          h("code", { title: `digest ${digest}` }, digest.slice(0, 12)))),
      extra.browse ? h("a", { class: "go", href: extra.browse }, "Browse the answers →") : h("p", { class: "soft note" }, "No predictions at hand: numbers only.")),
    h("nav", { "aria-label": "Parts of the page" }, links.map(([id, text]) =>
      h("a", { href: `#${id}`, onclick: (event) => { event.preventDefault(); document.getElementById(id)?.scrollIntoView({ block: "start" }); } }, text))),
    h("main", null, bar, ...["table", "time", "profile", "wins", "pair", "risk"].map((id) => h("div", { id })),
      ceilingSection("ceilings", extra.ceilings, extra.ceiling_notes), reportedSection("reported", extra.reported), definitionSection("meaning", data, data.notes),
      extra.gallery?.length ? h("section", { id: "gallery" }, h("h2", null, "Examples"), h("div", { class: "gallery" }, extra.gallery.map((each) =>
        h("figure", null, h("img", { src: each.uri, alt: each.caption, loading: "lazy" }), h("figcaption", null, each.caption))))) : null),
    h("footer", { class: "soft" }, "Made by prisbench leaderboard from committed result files. This page works from disk and fetches nothing."),
    h("p", { id: "status", role: "status", class: "unseen" })));
}

start().catch((error) => {
  document.getElementById("page").replaceChildren(h("p", { class: "notice", role: "alert" }, `This page cannot be drawn: ${error.message}. It needs a browser of 2023 or later.`));
  throw error;
});
