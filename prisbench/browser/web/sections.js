// What stands below the table: charts, win probabilities, published numbers, definitions.

import { subjectsOf, valueOf } from "./metrics.js";
import { difference, riskOf, subsetSamples } from "./rows.js";
import { brief, h, signed } from "./dom.js";
import { accuracyAgainstTime, key, profile, riskAgainstCoverage } from "./charts.js";

const section = (id, title, lead, ...content) =>
  h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), h("p", { class: "lead" }, lead), content);

const nothing = (text) => h("p", { class: "empty" }, text);

export function timeSection(id, { rows, ranking, labelOf, picked }) {
  const sign = ranking.sign ?? 1;
  const points = rows
    .filter((row) => row.score !== null && row.method.seconds !== null)
    .map((row) => ({ seconds: row.method.seconds, value: sign * row.score, ranked: row.tier !== null, label: row.method.label, place: picked.indexOf(row.method.place) }));
  const label = labelOf(ranking.by);
  const missing = rows.length - points.length;
  return section(id, "Accuracy and time",
    ranking.sign < 0 ? `Of ${label}, less is better, so no front is drawn here.`
      : "The line joins the ranked methods that no other is both faster and better than. Times of different machines do not compare.",
    points.length && ranking.sign > 0 ? accuracyAgainstTime(points, label) : nothing(ranking.by ? "Choose queries with a referent to see it." : "No ranked method with a time here."),
    missing && points.length ? h("p", { class: "soft" }, `Without a time or a rank, so not drawn: ${missing}.`) : null);
}

/** The subsets of the chosen queries, each method's score, and intervals of the picked ones. */
export function profileSection(id, model, { rows, chosen, picked }) {
  const { data, stats } = model;
  const samples = rows.map((row) => ({ row, by: row.scores ?? subsetSamples(model, row.method, chosen) }));
  const names = data.queries.named.filter((name) => samples.some(({ by }) => by.has(name)));
  const lines = names.map((name) => {
    const found = samples.filter(({ by }) => by.has(name)).map(({ row, by }) => ({ place: picked.indexOf(row.method.place), sample: by.get(name) }));
    return {
      name: name.startsWith("look-alike:") ? `look-alike · ${name.split(":")[1]}` : name,
      n: found.length ? Math.max(...found.map(({ sample }) => sample.n)) : 0,
      others: found.filter(({ place }) => place < 0).map(({ sample }) => valueOf(sample)),
      picked: found.filter(({ place }) => place >= 0).sort((a, b) => a.place - b.place).map(({ place, sample }) => {
        const ratios = stats.drawRatios([sample]);
        return { place, value: valueOf(sample), ci: ratios && stats.bounded(ratios[0], subjectsOf(sample)) };
      }),
    };
  });
  return section(id, "Profile over subsets",
    "Mean IoU where the text has a referent; where it has none, the share of empty masks. Numbers below a name count queries; grey ticks are the other methods.",
    lines.length ? [key(pickedMethods(model, picked)), profile(lines, "Scores of the picked methods in each subset")] : nothing("No queries here."));
}

export const pickedMethods = (model, picked) => picked.map((place) => model.methods[place]);

export function riskSection(id, model, { rows, chosen, picked }) {
  const curves = rows
    .map((row) => ({ place: picked.indexOf(row.method.place), label: row.method.label, risks: riskOf(model, row.method, chosen)?.risks }))
    .filter(({ risks }) => risks?.length);
  return section(id, "Risk and coverage",
    "How wrong the surest answers are (1 − IoU; for a text without a referent 0 or 1). A curve that stays low far to the right knows when it is right; a flat one does not.",
    curves.length ? [key(pickedMethods(model, picked)), riskAgainstCoverage(curves)] : nothing("No method here gives a presence score."));
}

/** How often the method of the row is ahead of that of the column, in the draws of subjects. */
export function winSection(id, model, { rows, ranking, labelOf }) {
  const ranked = rows.filter((row) => row.drawn && row.tier !== null);
  const lead = "The share of 10,000 draws of subjects in which the method of the row is ahead of that of the column. A number of 0.98 or more is rarely luck; one near 0.50 says that the data do not tell.";
  if (ranked.length < 2) return section(id, "Win probabilities", lead, nothing("Fewer than two ranked methods here."));
  const cell = (a, b) => {
    if (a === b) return h("td", { class: "self" }, "");
    const found = difference(a, b, model.stats, ranking.sign);
    const step = Math.round(10 * Math.abs(found.ahead - 0.5) * 2);
    const between = found.ci ? `[${found.ci.map((end) => signed(end)).join(", ")}]` : "";
    const tip = `${a.method.label} minus ${b.method.label}: ${signed(found.value, 3)} ${between} ${labelOf(ranking.by)}`;
    const text = found.ahead >= 0.995 && found.ahead < 1 ? ">.99" : found.ahead <= 0.005 && found.ahead > 0 ? "<.01" : found.ahead.toFixed(2).replace(/^0/, "");
    return h("td", { class: `win ${found.ahead >= 0.5 ? "ahead" : "behind"} s${step}`, "data-tip": tip }, text);
  };
  return section(id, "Win probabilities", lead,
    h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Win probabilities" },
      h("table", { class: "wins" },
        h("caption", { class: "unseen" }, `Share of draws in which the row is ahead of the column, by ${labelOf(ranking.by)}`),
        h("thead", null, h("tr", null, h("td", null), ranked.map((row, n) => h("th", { scope: "col", "data-tip": row.method.label }, h("span", { "aria-hidden": "true" }, n + 1), h("span", { class: "unseen" }, row.method.label))))),
        h("tbody", null, ranked.map((a, n) => h("tr", null,
          h("th", { scope: "row", title: a.method.label }, h("span", { class: "soft" }, `${n + 1} `), brief(a.method.label, 44)), ranked.map((b) => cell(a, b))))))));
}

/** Two methods against each other. */
export function pairSection(id, model, view) {
  const { rows, ranking, labelOf, state, browse } = view;
  const [a, b] = [state.now.a, state.now.b].map((place) => rows.find((row) => `${row.method.place}` === place));
  const select = (name, now) =>
    h("label", { class: "field" }, h("span", null, name === "a" ? "First" : "Second"),
      h("select", { name, "data-focus": `pair-${name}`, onchange: (event) => state.set({ [name]: event.target.value }) },
        h("option", { value: "" }, "choose a method"),
        rows.map((row) => h("option", { value: row.method.place, selected: row === now }, row.method.label))));
  let words = "Choose two methods.";
  if (a && b && a !== b) {
    const found = difference(a, b, model.stats, ranking.sign);
    if (!found) words = "Too few subjects, or one of the two is not ranked: their difference has no interval.";
    else {
      const clear = found.ci && (found.ci[0] > 0 || found.ci[1] < 0);
      words = `${a.method.label} minus ${b.method.label}: ${signed(ranking.sign * found.value, 3)} in ${labelOf(ranking.by)}` +
        (found.ci ? ` [${(ranking.sign < 0 ? [...found.ci].reverse() : found.ci).map((end) => signed(ranking.sign * end)).join(", ")}]` : "") +
        `; the first is ahead in ${Math.round(100 * found.ahead)} % of the draws. ` +
        (clear ? "The interval leaves zero out." : "The interval includes zero: the data do not tell them apart.");
    }
  }
  const link = browse && a && b && a !== b
    ? h("a", { href: `${browse}#${new URLSearchParams({ a: a.method.place, b: b.method.place, sort: "difference" })}` }, "Where they differ most") : null;
  return section(id, "Two methods", "Paired: both answer the same queries, and the same subjects are drawn for both.",
    h("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, select("a", a), select("b", b)), h("p", { class: "verdict" }, words, " ", link));
}

/** What an answer could score that is told parts of the truth, and what methods that know nothing score. */
export function ceilingSection(id, ceilings, notes) {
  if (!ceilings?.length) return null;
  const subsets = [...new Set(ceilings.flatMap((each) => Object.keys(each.by_subset)))];
  const heads = ["Ceiling or floor", "What it is told", "Queries", "Headline", ...subsets.map((name) => name.replace("look-alike:", "· "))];
  const ends = (ci) => (ci ? ` [${ci.map((end) => end.toFixed(2)).join(", ")}]` : "");
  return section(id, "Ceilings and floors, not ranked",
    "No ceiling is a method: each is told something of the truth, so none is ranked. All queries, whatever the filter.",
    h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Ceilings and floors" },
      h("table", { class: "reported" }, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
        h("tbody", null, ceilings.map((each) => h("tr", null, h("th", { scope: "row" }, each.name), h("td", null, each.told), h("td", null, each.n),
          h("td", null, each.headline === null ? "–" : `${each.headline.toFixed(3)}${ends(each.headline_ci)}`),
          subsets.map((name) => h("td", null, each.by_subset[name]?.toFixed(2) ?? "–"))))))),
    h("ul", { class: "notes" }, notes.map((note) => h("li", null, note))));
}

/** Numbers that other papers print: on their own data and by their own rules, so never among the rows. */
export function reportedSection(id, reported) {
  if (!reported?.length) return null;
  return section(id, "Reported elsewhere",
    "Numbers as their papers print them, on other images and partly by other rules. They are not measured here and have no rank.",
    h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Reported numbers" },
      h("table", { class: "reported" }, h("thead", null, h("tr", null, ["Method", "Data", "Number", "Protocol", "Source"].map((head) => h("th", { scope: "col" }, head)))),
        h("tbody", null, reported.map((each) => h("tr", null, h("th", { scope: "row" }, each.method), h("td", null, each.data), h("td", null, each.number), h("td", null, each.protocol), h("td", null, each.source)))))));
}

export function definitionSection(id, data, notes) {
  return section(id, "What the numbers mean", "Every number is 0 to 1 but for differences and correlations, which may be below zero.",
    h("dl", null, data.columns.map((column) => [h("dt", null, column.label, h("span", { class: "soft" }, column.higher ? " more is better" : " less is better")), h("dd", null, column.meaning)])),
    notes.length ? [h("h3", null, "Notes on the table of all queries"), h("ul", { class: "notes" }, notes.map((note) => h("li", null, note)))] : null);
}

