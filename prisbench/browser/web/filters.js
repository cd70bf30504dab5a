// The row of choices above a table or a list: selects that the platform draws, a search field, a way back to all.

import { button, h } from "./dom.js";

/** The choices that both pages have, as far as the data has several of them: name, label, [value, words] each. */
export function sharedFields(data) {
  const { queries } = data;
  const subset = (name) => (name === "present" ? "with a referent" : name.includes(":") ? `· ${name.split(":")[1]}` : name);
  const fields = [
    { name: "subset", label: "Queries", options: [["", "all"], ...data.subsets.map((name) => [name, subset(name)])] },
  ];
  const nouns = [...new Set(queries.nouns ?? [])].filter(Boolean).sort();
  if (nouns.length > 1) fields.push({ name: "noun", label: "Noun", options: [["", "all"], ...nouns.map((n) => [n, n])] });
  const sizes = data.sizes.map(({ name, below }, n) => [name, `${name} ${sizeWords(data.sizes, n, below)}`]);
  fields.push({ name: "size", label: "Size", options: [["", "all"], ...sizes] });
  return fields;
}

function sizeWords(sizes, n, below) {
  const percent = (share) => `${Math.round(100 * share)} %`;
  return below === null ? `(over ${percent(sizes[n - 1].below)})` : `(under ${percent(below)})`;
}

/** The choices among methods. */
export function methodFields(data) {
  const fields = [];
  const seen = [...new Set(data.methods.map((method) => method.reference).filter(Boolean))];
  const sees = { photos: "photos alone", "photos+masks": "photos and masks" };
  if (seen.length > 1) {
    fields.push({ name: "sees", label: "Methods see", options: [["", "any"], ...seen.map((each) => [each, sees[each]])] });
  }
  if (new Set(data.methods.map((method) => method.weights)).size > 1) {
    fields.push({ name: "weights", label: "Weights", options: [["", "any"], ["yes", "needs some"], ["no", "needs none"]] });
  }
  return fields;
}

/** The values that an address may give a field. */
export const knownValues = (fields) =>
  Object.fromEntries(fields.map(({ name, options }) => [name, options.map(([value]) => value)]));

let typing = 0;

/** Wait until nobody types: every letter would rank the methods again. */
function later(action) {
  document.body.dataset.ready = "";
  clearTimeout(typing);
  typing = setTimeout(action, 150);
}

/** The bar: a select for each field, a search field where ``find`` says what for. */
export function filterBar(fields, state, { find = null, label = "Filter" } = {}) {
  const selects = fields.map(({ name, label: words, options }) =>
    h("label", { class: "field" }, h("span", null, words),
      h("select", { name, "data-focus": `filter-${name}`, onchange: (event) => state.set({ [name]: event.target.value }) },
        options.map(([value, text]) => h("option", { value, selected: state.now[name] === value }, text)))));
  const search = find && h("label", { class: "field" }, h("span", null, find),
    h("input", { type: "search", name: "find", value: state.now.find, spellcheck: "false", autocomplete: "off",
      "data-focus": "filter-find", oninput: (event) => later(() => state.set({ find: event.target.value })) }));
  const names = [...fields.map(({ name }) => name), ...(find ? ["find"] : [])];
  const chosen = names.filter((name) => state.now[name]);
  const reset = button("Show all", () => state.set(Object.fromEntries(names.map((name) => [name, ""]))),
    { class: "quiet", hidden: !chosen.length, "data-focus": "filter-reset" });
  return h("form", { class: "filters", role: "search", "aria-label": label, onsubmit: (event) => event.preventDefault() },
    selects, search, reset);
}

/** Bring a bar up to a state without drawing it again, so that typing goes on. */
export function followState(bar, state) {
  let any = false;
  for (const control of bar.elements) {
    if (!control.name) continue;
    if (control.value !== state.now[control.name]) control.value = state.now[control.name];
    any ||= Boolean(state.now[control.name]);
  }
  const reset = bar.querySelector("button");
  if (reset) reset.hidden = !any;
}
