// The table: a row a method, the ranking number with its interval as a bar, every head a button that sorts.

import { button, h, plural, s } from "./dom.js";
import { TIER, numberOf, numberText } from "./columns.js";

/** The whole table.  ``view``: rows, columns, ranking, sort {column, direction}, picked, and what is done on clicks. */
export function scoreTable(view) {
  const { rows, columns, ranking } = view;
  const heads = [
    h("th", { scope: "col", class: "who" }, h("span", null, "Method")),
    headOf(TIER, { ...view, tip: tierWords(view) }),
    ...columns.map((column) => headOf(column, view)),
  ];
  const scale = { low: 0, high: 1 };
  const empty = !rows.length || (!view.chosen.length && view.total > 0);
  const body = rows.map((row, n) => line(row, view, scale, startsTier(view, rows, n)));
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Scores of the methods", "data-focus": "scores" },
    h("table", { class: "scores" },
      h("caption", null, caption(view)),
      h("thead", null, h("tr", null, heads)),
      h("tbody", null, empty ? emptyLine(columns.length + 2, view) : body)));

  function caption() {
    const label = view.labelOf(ranking.by);
    const tiers = rows.some((row) => row.tier !== null);
    const few = `; no tiers and intervals: they need ${view.fewest} subjects`;
    const ranked = ranking.by ? `ranked by ${label}${tiers || !rows.length ? "" : few}` : "not ranked";
    return `${plural(view.asked, "query", "queries")}, ${plural(rows.length, "method")}, ${ranked}`;
  }
}

function tierWords({ ranking, labelOf, fewest }) {
  if (!ranking.by) return "No tiers: nothing here to rank by.";
  return `Methods in a tier are not told apart from its best by ${labelOf(ranking.by)}: the 95 % interval of the ` +
    `paired difference includes zero. No tier with fewer than ${fewest} subjects, where a method leaves queries out, or where its model is too weak at its own task.`;
}

const startsTier = ({ sort }, rows, n) => sort.column?.name === "tier" && n > 0 && rows[n].tier !== rows[n - 1].tier;

const emptyLine = (span, view) =>
  h("tr", null, h("td", { colspan: span, class: "empty" },
    view.chosen.length ? "No method is left by this filter." : "No query is left by this filter.", " ",
    button("Show all", view.reset, { class: "small" })));

/** A head that sorts: its first click shows the best on top, the next one the other way round. */
function headOf(column, view) {
  const { sort } = view;
  const now = sort.column?.name === column.name;
  const best = column.higher ? "down" : "up";
  const next = now ? (sort.direction === "down" ? "up" : "down") : best;
  const arrow = now ? (sort.direction === "down" ? "↓" : "↑") : "";
  const tip = view.tip ?? `${column.meaning}. ${column.higher ? "More" : "Less"} is better.`;
  return h("th", { scope: "col", "aria-sort": now ? (sort.direction === "down" ? "descending" : "ascending") : "none" },
    button([column.label, arrow && h("span", { class: "arrow", "aria-hidden": "true" }, arrow)].filter(Boolean),
      () => view.onsort(column.name, next), { class: "head", "data-tip": tip, "data-focus": `sort-${column.name}` }));
}

function line(row, view, scale, starts) {
  const { method } = row;
  const place = view.picked.indexOf(method.place);
  const pick = h("input", { type: "checkbox", checked: place >= 0, "data-focus": `pick-${method.place}`,
    class: place >= 0 ? `pick p${place}` : "pick", "aria-label": `Compare ${method.label}`,
    onchange: () => view.onpick(method.place) });
  const marks = [
    method.reference === "photos+masks" && h("span", { class: "mark", "data-tip": "Sees the masks of the subject's photos, too" }, "masks"),
    method.weak && h("span", { class: "mark warn", "data-tip": `Its model has ${method.own_task}, below ${view.least}: shown, not ranked` }, "not ranked"),
    method.partial && h("span", { class: "mark warn", "data-tip": "A part of the split was run: shown, not ranked" }, "partial"),
    row.n_errors > 0 && h("span", { class: "mark warn", "data-tip": `Failed on ${plural(row.n_errors, "query", "queries")}; they count as wrong` }, `${row.n_errors} failed`),
    method.outside > view.tolerated && h("span", { class: "mark warn", "data-tip": `${Math.round(100 * method.outside)} % of the scenes are unlike anything its backbone was trained on` }, "out of domain"),
  ];
  const name = h("span", { class: "name", title: method.label }, method.method);
  const who = h("th", { scope: "row", class: "who" }, h("label", { class: "what" }, pick,
    h("span", { class: "names" }, name, h("span", { class: "soft concept" }, method.concept === "none" ? "no concept" : method.concept), marks)));
  return h("tr", { class: starts ? "starts" : null, "data-method": method.place }, who,
    h("td", { class: "tier" }, row.tier === null ? "–" : h("span", { class: "badge" }, row.tier)),
    view.columns.map((column, n) => cell(row, column, n === 0 && column.name === view.ranking.by, view, scale)));
}

function cell(row, column, wide, view, scale) {
  const value = numberOf(row, column);
  const found = row.values[column.name];
  const text = numberText(row, column);
  const words = found?.ci ? `${text}, interval ${found.ci[0].toFixed(3)} to ${found.ci[1].toFixed(3)}` : text;
  const cases = view.casesOf(row, column);
  const shown = cases && value !== null ? h("a", { href: cases, class: "cases", title: "Look at the cases" }, text) : text;
  const best = value !== null && value === view.best[column.name];
  return h("td", { class: `${wide ? "wide " : ""}${best ? "best" : ""}`, "data-column": column.name },
    h("span", { class: "number" }, shown),
    wide && found?.ci ? h("span", { class: "between soft", "aria-hidden": "true" }, `[${found.ci[0].toFixed(2)}, ${found.ci[1].toFixed(2)}]`) : null,
    column.plain ? null : [h("span", { class: "unseen" }, words === text ? "" : words.slice(text.length)), bar(value, found?.ci, scale, view.pending)]);
}

/** A bar of an interval with a dot at the value, on the scale from 0 to 1. */
export function bar(value, ci, { low, high }, pending = false) {
  if (value === null) return null;
  const x = (number) => 100 * Math.max(0, Math.min(1, (number - low) / (high - low)));
  return s("svg", { class: pending ? "bar pending" : "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "ground", x: 0, y: 3.5, width: 100, height: 1 }),
    ci && s("rect", { class: "ci", x: x(ci[0]), y: 2, width: Math.max(0.6, x(ci[1]) - x(ci[0])), height: 4 }),
    s("rect", { class: "dot", x: x(value) - 0.8, y: 0, width: 1.6, height: 8 }));
}
