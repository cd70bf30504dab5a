// browse.html: reads the page's data, shows the list of queries that the address asks for, and one of them.

import { announce, button, h, plural, replace, score, tooltips } from "./dom.js";
import { addressState, checked } from "./state.js";
import { block, inflateJson, readCounts } from "./unpack.js";
import { chosenQueries, model as modelOf } from "./rows.js";
import { filterBar, followState, knownValues, sharedFields } from "./filters.js";
import { OUTCOMES, chosenCases, goodness, outcomeOf } from "./outcomes.js";
import { answersView, caseView, plainText, textOf } from "./case.js";
import { virtualList } from "./list.js";

const DEFAULTS = { subset: "", noun: "", size: "", subject: "", a: "", b: "", outcome: "", sort: "", q: "" };
const SORTS = [
  ["", "as in the dataset"], ["worst", "worst of the first"], ["best", "best of the first"], ["disputed", "most disputed"],
  ["difference", "first ahead of second"], ["reverse", "second ahead of first"],
];

async function start() {
  const data = JSON.parse(block("data"));
  const [counts, shown, truth] = await Promise.all([readCounts(data, block("counts")), inflateJson(block("shown")), inflateJson(block("truth"))]);
  const model = modelOf(data, counts);
  const page = { data, queries: model.queries, shown, model, firsts: firstRuns(model) };
  const masks = maskReader(counts.runs, truth);
  const fields = fieldsOf(data, page.firsts);
  const state = (page.state = addressState(DEFAULTS, () => update()));
  const byId = new Map(shown.map((each, i) => [each?.id, i]));
  let items = [];
  let key = "";
  let current = null;

  const list = virtualList({ label: "Queries", onchoose: (i) => open(i, false), content: rowOf, nameOf: (i) => (shown[i] ? plainText(shown[i].text, data.cases.slot, nounOf(i)) : "query") });
  const nounOf = (i) => data.cases.subjects[data.queries.subjects[page.queries.subject[i]]]?.noun ?? "";

  function rowOf(i) {
    const each = shown[i];
    const good = page.a ? goodness(page.queries, page.a, i) : null;
    return [
      each ? h("img", { src: `${data.cases.scenes}/${each.scene}`, alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "blank" }),
      h("span", { class: "row-text" }, h("span", { class: "line" }, each ? textOf(each.text, data.cases.slot, nounOf(i)) : "not in the dataset at hand"),
        h("span", { class: "soft line" }, data.queries.named[page.queries.named[i]], good === null ? "" : ` · ${score(good, 2)}`,
          h("span", { class: "dots", "aria-hidden": "true" }, page.firsts.map((run) => h("i", { class: outcomeOf(page.queries, run, i) ?? "none" }))))),
    ];
  }

  const runAt = (place) => page.firsts.find((run) => `${run.place}` === place) ?? null;

  function open(i, step = true) {
    state.set({ q: shown[i]?.id ?? "" }, step);
  }

  function move(by) {
    const at = items.indexOf(current);
    const next = items[Math.max(0, Math.min(items.length - 1, (at < 0 ? -1 : at) + by))];
    if (next !== undefined) open(next, false);
  }

  /** The list again where the filter has changed, and the query that the address names, or the first. */
  async function update() {
    const now = checked(state.now, DEFAULTS, knownValues(fields));
    page.a = now.a === "" ? page.firsts[0] ?? null : runAt(now.a);
    page.b = runAt(now.b);
    const wanted = JSON.stringify({ ...now, q: "" });
    if (wanted !== key) {
      key = wanted;
      items = chosenCases({ queries: page.queries, chosen: chosenQueries(model, now), runs: page.firsts, a: page.a, b: page.b, state: now });
      announce(plural(items.length, "query", "queries"));
    }
    const asked = byId.get(state.now.q);
    current = asked ?? items[0] ?? null;
    document.body.classList.toggle("one", asked !== undefined);
    followState(document.getElementById("filters"), state);
    list.show(items, current);
    replace("count", h("p", { class: "soft" }, plural(items.length, "query", "queries"), state.now.subject ? [" about ", h("a", { href: state.address({ subject: "" }), title: "Show all subjects" }, `${state.now.subject} ×`)] : null));
    await draw(current, asked !== undefined && state.now.q);
    document.body.dataset.ready = "all";
  }

  let drawing = 0;
  async function draw(i, named) {
    const turn = ++drawing;
    if (i === null) {
      const text = named ? "The address names a query that is not here." : "No query is left by this filter.";
      replace("case", h("div", { class: "empty" }, text, " ", button("Show all", () => state.set({ ...DEFAULTS }), { class: "small" })));
      return;
    }
    await masks.ready([page.a, page.b].filter(Boolean));
    if (turn !== drawing) return;
    const at = items.indexOf(i);
    const missing = state.now.q && byId.get(state.now.q) === undefined;
    replace("case", h("div", null,
      h("div", { class: "moves" },
        button("← All", () => state.set({ q: "" }), { class: "small back" }),
        button("‹ Previous", () => move(-1), { class: "small", "data-focus": "previous", disabled: at <= 0, "data-tip": "Key: k or ←" }),
        button("Next ›", () => move(1), { class: "small", "data-focus": "next", disabled: at === items.length - 1, "data-tip": "Key: j or →" }),
        h("span", { class: "soft" }, at < 0 ? "not in this list" : `${at + 1} of ${items.length}`)),
      missing ? h("p", { class: "soft", role: "alert" }, `The address names a query that is not here: ${state.now.q}.`) : null,
      caseView(page, i, masks)));
    document.body.dataset.first ??= `${Math.round(performance.now())}`;
    if (!page.firsts.length || !shown[i]) return;
    await masks.ready(page.firsts);
    if (turn === drawing) replace("answers", answersView(page, i, masks));
  }

  skeleton(page, fields, list.element);
  tooltips(document.body);
  addEventListener("keydown", (event) => {
    const inList = event.target.closest("[role=listbox]") && event.key.startsWith("Arrow"); // the list sees to these
    if (inList || event.target.closest("input, select, textarea") || event.metaKey || event.ctrlKey || event.altKey) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) move(by);
  });
  await update();
  window.prisbench = { page, masks, items: () => items };
}

/** The first seed's run of each method: what is looked at. */
const firstRuns = (model) => model.data.order.map((place) => model.methods[place]).map((method) => ({ ...method.runs[0], label: method.label, method: method.place, place: method.place }));

/** Masks, unpacked when they are first wanted. */
function maskReader(runs, truth) {
  const kept = new Map();
  const placeOf = (run) => runs.findIndex((each) => each.method === run.method);
  return {
    truth,
    of: (run) => kept.get(placeOf(run)) ?? null,
    async ready(wanted) {
      await Promise.all(wanted.map(async (run) => {
        const n = placeOf(run);
        if (kept.has(n)) return;
        const text = block(`masks-${n}`);
        kept.set(n, text === null ? null : await inflateJson(text));
      }));
    },
  };
}

function fieldsOf(data, firsts) {
  const fields = sharedFields(data);
  if (!firsts.length) return fields;
  const methods = firsts.map((run) => [`${run.place}`, run.label]);
  fields.push({ name: "a", label: "Method", options: [["", `best: ${methods[0][1]}`], ...methods] });
  if (firsts.length > 1) fields.push({ name: "b", label: "Against", options: [["", "nothing"], ...methods] });
  const outcomes = Object.entries(OUTCOMES).map(([name, { words }]) => [name, words]);
  fields.push({ name: "outcome", label: "Outcome", options: [["", "any"], ...outcomes, ["disagree", "methods disagree"]] });
  fields.push({ name: "sort", label: "Order", options: SORTS });
  return fields;
}

function skeleton(page, fields, list) {
  const { data, state } = page;
  const bar = filterBar(fields, state, { label: "Filter queries" });
  bar.id = "filters";
  const quick = page.firsts.length
    ? h("div", { class: "quick", role: "group", "aria-label": "Quick looks" }, [["Worst", "worst"], ["Best", "best"], ["Most disputed", "disputed"]].map(([words, sort]) =>
      button(words, () => state.set({ sort, outcome: "", q: "" }), { class: "small", "data-quick": sort }))) : null;
  const { name, version, split } = data.dataset;
  document.getElementById("page").replaceWith(h("div", { id: "page" },
    h("a", { class: "skip", href: "#case", onclick: (event) => { event.preventDefault(); document.querySelector("#case h2")?.focus(); } }, "To the query"),
    h("header", { class: "top" },
      h("div", null, h("p", { class: "over" }, data.methods.length ? h("a", { href: "board.html" }, "← Leaderboard") : "prisbench show"),
        h("h1", null, `${name[0].toUpperCase()}${name.slice(1)} v${version.replace(/^v/, "")}`, h("span", { class: "soft" }, ` ${split}`))), bar),
    h("main", null,
      h("aside", { "aria-label": "List of queries" }, quick, h("div", { id: "count" }), list),
      h("div", { id: "case" })),
    h("p", { id: "status", role: "status", class: "unseen" })));
}

start().catch((error) => {
  document.getElementById("page").replaceChildren(h("p", { class: "notice", role: "alert" }, `This page cannot be drawn: ${error.message}. It needs a browser of 2023 or later.`));
  throw error;
});
