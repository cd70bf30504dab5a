// The table as text for other places: CSV, Markdown, LaTeX.

import { button, h } from "./dom.js";
import { copyText } from "./clipboard.js";
import { numberOf, numberText } from "./columns.js";

/** Heads and rows of plain texts; ``interval`` cells hold value, low and high. */
function cells(rows, columns) {
  return rows.map((row) => ({
    row,
    names: [row.method.method, row.method.shown],
    numbers: columns.map((column) => ({ value: numberOf(row, column), text: numberText(row, column),
      ci: row.values[column.name]?.ci ?? null })),
  }));
}

export function asCsv(rows, columns, withIntervals) {
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const heads = ["tier", "method", "concept", "n"];
  for (const column of columns) {
    heads.push(column.name);
    if (withIntervals(column)) heads.push(`${column.name}_low`, `${column.name}_high`);
  }
  const lines = cells(rows, columns).map(({ row, names, numbers }) => {
    const line = [row.tier ?? "", ...names, row.n];
    numbers.forEach(({ value, ci }, n) => {
      line.push(value ?? "");
      if (withIntervals(columns[n])) line.push(...(ci ?? ["", ""]));
    });
    return line;
  });
  return [heads, ...lines].map((line) => line.map((each) => quote(`${each}`)).join(",")).join("\n") + "\n";
}

const interval = (ci, between) => (ci ? ` [${ci[0].toFixed(2)}${between} ${ci[1].toFixed(2)}]` : "");

export function asMarkdown(rows, columns) {
  const plain = (text) => text.replaceAll("|", "\\|");
  const heads = ["tier", "method", "concept", ...columns.map((column) => column.label)];
  const lines = cells(rows, columns).map(({ row, names, numbers }) =>
    [row.tier ?? "–", ...names.map(plain), ...numbers.map(({ text, ci }) => text + interval(ci, ","))]);
  const rule = heads.map((_, n) => (n === 1 || n === 2 ? ":---" : "---:"));
  return [heads, rule, ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n") + "\n";
}

export function asLatex(rows, columns) {
  const plain = (text) =>
    text.replace(/[\\{}&%$#_^~<>|]/g, (letter) => (
      { "\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\~{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}" }[letter] ??
      `\\${letter}`));
  const best = columns.map((column) => {
    const values = rows.filter((row) => row.tier !== null).map((row) => numberOf(row, column)).filter((value) => value !== null);
    return values.length ? Math[column.higher ? "max" : "min"](...values) : null;
  });
  const lines = cells(rows, columns).map(({ row, names, numbers }) => [
    row.tier ?? "--",
    ...names.map(plain),
    ...numbers.map(({ value, text }, n) =>
      value === null ? "--" : row.tier !== null && value === best[n] ? `\\textbf{${text}}` : text),
  ]);
  const heads = ["Tier", "Method", "Concept", ...columns.map((column) =>
    `${plain(column.label)} ${column.higher ? "$\\uparrow$" : "$\\downarrow$"}`)];
  const body = [heads, ...lines].map((line) => `${line.join(" & ")} \\\\`);
  return [`\\begin{tabular}{rll${"r".repeat(columns.length)}}`, "\\toprule", body[0], "\\midrule", ...body.slice(1),
    "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}

/** Buttons that copy what ``texts()`` gives: name -> text. */
export const copyButtons = (texts) =>
  h("div", { class: "copies", role: "group", "aria-label": "Copy the table" }, h("span", { class: "soft" }, "Copy as"),
    ["CSV", "LaTeX", "Markdown"].map((name) =>
      button(name, () => copyText(texts()[name], name), { class: "small", "data-focus": `copy-${name}` })),
    button("Link", () => copyText(location.href, "Link"), { class: "small", "data-focus": "copy-link" }));
