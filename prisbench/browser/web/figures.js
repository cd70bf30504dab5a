// A scene with what is drawn above it: a canvas with the mask (a canvas of its own, as the picture would taint it when
// the page is opened from disk), and outlines as SVG.

import { h, s } from "./dom.js";
import { maskOf, outlineOf, paint, topOf } from "./masks.js";

/** ``what``: {scene, size, answer (run lengths, null for none; undefined for the truth alone), truth, beside, alt}. */
export function sceneFigure({ scene, size, answer, truth, beside, alt, plain = false }, ...caption) {
  const [height, width] = size;
  const right = maskOf(truth, size);
  const canvas = h("canvas", { class: "overlay", "aria-hidden": "true" });
  if (!plain) paint(canvas, answer === undefined ? right : maskOf(answer, size), right, size);
  const image = h("img", { src: scene, alt, width, height, decoding: "async" });
  const figure = h("figure", { class: "scene" },
    h("div", { class: "layers" }, image, canvas, plain ? null : outlines(beside, right, size, answer !== undefined)),
    caption.length ? h("figcaption", null, caption) : null);
  image.addEventListener("error", () => {
    figure.classList.add("gone");
    image.replaceWith(h("p", { class: "missing", role: "alert" }, `The scene is missing: ${scene}. Keep the folder beside the page.`));
  });
  figure.querySelector(".layers").style.aspectRatio = `${width} / ${height}`;
  figure.style.width = `min(34rem, ${(25 * width) / height}rem)`; // at most 25 rem high
  return figure;
}

/** What stands beside the referent, dashed, each with its name; the referent itself as a line. */
function outlines(beside, right, size, withTruth) {
  const [height, width] = size;
  const unit = Math.max(height, width) / 100;
  const shapes = beside.map(([what, grade, counts]) => {
    const mask = maskOf(counts, size);
    const top = topOf(mask, size);
    if (!top) return null;
    const name = grade ?? what.replace("subject (not meant)", "not meant");
    const x = Math.min(Math.max(top.x, 1), width - name.length * unit * 1.8);
    return [
      s("path", { d: outlineOf(mask, size), class: "edge under" }),
      s("path", { d: outlineOf(mask, size), class: `edge ${what === "landmark" ? "landmark" : "alike"}` }),
      s("text", { x, y: Math.max(top.y - unit, 3 * unit), "font-size": 3 * unit, "stroke-width": unit * 0.7 }, name),
    ];
  });
  const truth = withTruth ? s("path", { d: outlineOf(right, size), class: "edge truth" }) : null;
  return s("svg", { class: "outlines", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, truth, shapes.flat().filter(Boolean));
}

/** What the colours of an overlay mean. */
export const legend = () =>
  h("ul", { class: "legend", "aria-label": "Colours" },
    [["hit", "on the referent"], ["extra", "beside it"], ["missed", "left out"]].map(([name, words]) => h("li", null, h("span", { class: `swatch ${name}` }), words)),
    h("li", null, h("span", { class: "swatch alike" }), "look-alike, with what differs"));
