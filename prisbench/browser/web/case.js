// One query: photos, text, scene, truth, and what every method answered.

import { button, h, plural, score } from "./dom.js";
import { hasPresence, iou } from "./metrics.js";
import { OUTCOMES, goodness, outcomeOf } from "./outcomes.js";
import { legend, sceneFigure } from "./figures.js";
import { copyText } from "./clipboard.js";

/** The text with the subject's own words in their place. */
export function textOf(text, slot, noun) {
  const [before, ...after] = text.split(slot);
  return after.length ? [before, h("mark", { class: "subject" }, noun || "subject"), after.join(slot)] : [text];
}

export const plainText = (text, slot, noun) => text.replace(slot, noun || "subject");

/** A small coloured word for an outcome; the sign says it, too. */
export const outcomeMark = (outcome) =>
  outcome ? h("span", { class: `outcome ${outcome}`, "data-tip": OUTCOMES[outcome].tip }, `${OUTCOMES[outcome].sign} ${OUTCOMES[outcome].words}`) : h("span", { class: "soft" }, "not asked");

/** The whole view of the query at place ``i``.  ``page``: what browse.js holds. */
export function caseView(page, i, masks) {
  const { data, queries, state } = page;
  const shown = page.shown[i];
  const subject = data.queries.subjects[queries.subject[i]];
  const about = data.cases.subjects[subject] ?? { noun: "", name: subject, photos: [] };
  if (!shown) return h("article", null, h("p", { class: "notice" }, "The dataset at hand does not hold this query."));
  const partner = partnerOf(page, i);
  return h("article", { "aria-label": plainText(shown.text, data.cases.slot, about.noun) },
    h("header", { class: "case-head" },
      h("p", { class: "over" }, kindWords(data, queries, i)),
      h("h2", { class: "text", tabindex: "-1" }, textOf(shown.text, data.cases.slot, about.noun))),
    h("div", { class: "photos" }, about.photos.map((name, n) =>
      h("img", { src: `${data.cases.photos}/${name}`, alt: `photo ${n + 1} of ${about.noun}`, loading: "lazy", height: 84 })),
      h("p", { class: "soft" }, plural(about.photos.length, "photo"), " of ", h("a", { href: state.address({ subject, q: "" }) }, about.name))),
    data.methods.length ? legend() : null,
    large(page, i, partner, masks),
    data.methods.length ? h("section", { id: "answers" }) : null,
    h("footer", { class: "facts soft" }, h("code", null, shown.id), ` · ${shown.size[1]} × ${shown.size[0]} pixels · referent ${percent(queries.truth_area[i] / queries.area[i])} of the scene · ${shown.origin} `,
      button("Copy link", () => copyText(location.href, "Link"), { class: "small" })));
}

const percent = (share) => (share ? `${(100 * share).toPrecision(2)} %` : "0 %");

function kindWords(data, queries, i) {
  const kind = data.queries.named[queries.named[i]].split(":")[0];
  const grade = data.queries.grades[queries.grade[i]];
  const none = { absent: " · the subject is not in this scene", contradicted: " · the subject is there, but not as the text says" };
  return `${kind}${grade ? ` · look-alikes differ in: ${grade}` : ""}${none[kind] ?? ""}`;
}

/** The other query of a pair, null without one. */
export function partnerOf({ queries, data }, i) {
  if (!queries.pair[i]) return null;
  for (let k = 0; k < data.queries.n; k++) if (k !== i && queries.pair[k] === queries.pair[i]) return k;
  return null;
}

/** The scene in large: the truth, and the answers of the one or two methods that are looked at; a pair side by side. */
function large(page, i, partner, masks) {
  const { a, b } = page;
  const layers = [{ name: "Truth" }, ...[a, b].filter(Boolean).map((run) => ({ name: run.label, run }))];
  const figures = [];
  for (const place of [i, partner].filter((each) => each !== null)) {
    const shown = page.shown[place];
    if (!shown) continue;
    for (const { name, run } of layers) figures.push(h("div", { class: "panel" }, figureOf(page, place, masks, run, name)));
  }
  const pair = partner !== null && page.shown[partner];
  return h("div", { class: "large" },
    h("div", { class: "row" }, figures.slice(0, layers.length)),
    pair ? [h("p", { class: "partner" }, "Its partner, the same scene with one phrase changed: ",
      h("a", { href: page.state.address({ q: pair.id }) }, textOf(pair.text, page.data.cases.slot, nounOf(page, partner)))),
    h("div", { class: "row" }, figures.slice(layers.length))] : null);
}

const nounOf = ({ data, queries }, i) => data.cases.subjects[data.queries.subjects[queries.subject[i]]]?.noun ?? "";

function figureOf(page, i, masks, run, name) {
  const { data, queries } = page;
  const shown = page.shown[i];
  const { truth, beside } = masks.truth[i];
  const answer = run ? masks.of(run)?.[i] ?? null : undefined;
  const unkept = run && !masks.of(run);
  const words = run ? [outcomeMark(outcomeOf(queries, run, i)), " ", numbers(queries, run, i), unkept ? " · mask not kept" : null]
    : [h("span", { class: "soft" }, queries.truth_area[i] ? "what the text means" : "nothing is meant: an empty mask is right")];
  return sceneFigure({ scene: `${data.cases.scenes}/${shown.scene}`, size: shown.size, answer, truth, beside, plain: unkept,
    alt: `scene: ${plainText(shown.text, data.cases.slot, nounOf(page, i))}` },
  h("span", { class: "figure-name", title: name }, name), h("span", null, words));
}

function numbers(queries, run, i) {
  const parts = [];
  if (queries.truth_area[i]) parts.push(`IoU ${score(iou(queries, run, i), 2)}`);
  if (hasPresence(run, i)) parts.push(`presence ${score(run.presence[i], 2)}`);
  return h("span", { class: "soft" }, parts.join(" · "));
}

/** Every method's answer as a small picture, the best first; a click looks at it in large. */
export function answersView(page, i, masks) {
  const { queries, state } = page;
  const order = page.firsts.map((run) => ({ run, good: goodness(queries, run, i) }));
  order.sort((x, y) => (y.good ?? -1) - (x.good ?? -1));
  return h("section", { class: "answers", "aria-label": "Answers of all methods" }, h("h3", null, "All answers, the best first"),
    h("ul", null, order.map(({ run, good }) => {
      const now = run === page.a || run === page.b;
      const name = h("button", { type: "button", class: "pickable", "aria-pressed": now ? "true" : "false", "data-focus": `answer-${run.method}`,
        onclick: () => state.set({ a: `${run.method}` }) },
      good === null ? h("p", { class: "soft" }, "not asked") : figureOf(page, i, masks, run, run.label));
      return h("li", null, name);
    })));
}
