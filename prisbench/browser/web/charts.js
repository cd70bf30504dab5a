// Charts as SVG by hand: accuracy against seconds, a profile over subsets, risk against coverage.
// The methods that are picked have a colour and a shape of their own; the rest stand behind them in grey.

import { brief, h, s, score } from "./dom.js";

const WIDTH = 720;
const LEAST_SECONDS = 1e-4;

/** A mark of a shape for each place among the picked: the colour is never the only difference. */
export function mark(place, x, y, r = 5) {
  const turn = (points) => points.map(([a, b]) => `${x + a * r},${y + b * r}`).join(" ");
  const shapes = [
    () => s("circle", { cx: x, cy: y, r }),
    () => s("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
    () => s("polygon", { points: turn([[0, -1.2], [1.1, 0.8], [-1.1, 0.8]]) }),
    () => s("polygon", { points: turn([[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]]) }),
    () => s("polygon", { points: turn([[0, 1.2], [1.1, -0.8], [-1.1, -0.8]]) }),
  ];
  const shape = shapes[place]?.() ?? s("circle", { cx: x, cy: y, r: r * 0.8 });
  shape.setAttribute("class", place >= 0 ? `mark p${place}` : "mark rest");
  return shape;
}

const axisText = (x, y, text, anchor = "middle") => s("text", { x, y, "text-anchor": anchor, class: "tick" }, text);

function frame(height, label, ...children) {
  return s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, class: "chart" }, children);
}

/** Round steps from 0 (or low) to high. */
function steps(low, high) {
  const wide = (high - low) / 5;
  const size = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1].find((each) => each >= wide) ?? 1;
  const out = [];
  for (let value = Math.ceil(low / size - 1e-9) * size; value <= high + 1e-9; value += size) out.push(value);
  return out;
}

/** Key of the picked methods. */
export function key(methods) {
  return h("ul", { class: "key" }, methods.map((method, place) =>
    h("li", null, s("svg", { viewBox: "0 0 14 14", class: "chart", "aria-hidden": "true" }, mark(place, 7, 7)), method.label)));
}

/** Ranked points that no other is both faster and better than, the fastest first. */
export function front(points) {
  const order = points.filter((point) => point.ranked).sort((a, b) => a.seconds - b.seconds || b.value - a.value);
  let best = -Infinity;
  return order.filter((point) => point.value > best && ((best = point.value), true));
}

/** Accuracy against seconds, which are on a logarithmic scale, with the front. */
export function accuracyAgainstTime(points, label) {
  const height = 400;
  const box = { left: 48, right: WIDTH - 230, top: 14, bottom: height - 44 };
  const known = points.map((point) => ({ ...point, seconds: Math.max(point.seconds, LEAST_SECONDS) }));
  const low = Math.floor(Math.log10(Math.min(...known.map((point) => point.seconds))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...known.map((point) => point.seconds)))));
  const top = Math.min(1, Math.ceil(10 * Math.max(...known.map((point) => point.value)) + 0.5) / 10);
  const x = (seconds) => box.left + ((box.right - box.left) * (Math.log10(seconds) - low)) / (high - low);
  const y = (value) => box.bottom - ((box.bottom - box.top) * value) / top;
  const ticks = [];
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power);
    ticks.push(s("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, class: "grid" }));
    ticks.push(axisText(at, box.bottom + 18, power >= 0 ? `${10 ** power} s` : power >= -3 ? `${10 ** (power + 3)} ms` : "0.1 ms"));
  }
  for (const value of steps(0, top)) {
    ticks.push(s("line", { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: "grid" }));
    ticks.push(axisText(box.left - 8, y(value) + 4, value.toFixed(1), "end"));
  }
  const edge = front(known);
  const path = edge.map((point, n) =>
    n ? `H${x(point.seconds)}V${y(point.value)}` : `M${x(point.seconds)} ${box.bottom}V${y(point.value)}`);
  const line = edge.length ? s("path", { d: `${path.join("")}H${box.right}`, class: "front" }) : null;
  const marks = known.map((point) => mark(point.place, x(point.seconds), y(point.value), edge.includes(point) ? 6 : 5));
  return frame(height, `${label} against seconds per image${edge.length ? `; on the front: ${edge.map((point) => point.label).join(", ")}` : ""}`,
    ticks, line, marks, names(known, edge, x, y),
    axisText((box.left + box.right) / 2, height - 6, "seconds per image (logarithmic; faster is left)"));
}

/** Names beside their points: to the right, else to the left, moved up or down where they would meet; else none. */
function names(points, edge, x, y) {
  const taken = points.map((point) => ({ top: y(point.value) - 6, bottom: y(point.value) + 6, start: x(point.seconds) - 6, end: x(point.seconds) + 6 }));
  const meets = (box) => taken.some((each) => each.top < box.bottom && box.top < each.bottom && each.start < box.end && box.start < each.end);
  const weight = (point) => 2 * (point.place >= 0) + edge.includes(point);
  return [...points].sort((a, b) => weight(b) - weight(a) || b.value - a.value).map((point) => {
    const text = brief(point.label, 42);
    const wide = text.length * 5.6;
    for (const shift of [0, 9, -9, 17, -17]) {
      for (const side of [1, -1]) {
        const at = x(point.seconds) + side * 10;
        const middle = y(point.value) + shift;
        const box = { top: middle - 5, bottom: middle + 5, start: side > 0 ? at : at - wide, end: side > 0 ? at + wide : at };
        if (box.start < 50 || box.end > WIDTH || meets(box)) continue;
        taken.push(box);
        return s("text", { x: at, y: middle + 4, "text-anchor": side > 0 ? "start" : "end", class: weight(point) ? "label strong" : "label" }, text);
      }
    }
    return null;
  });
}

/** Scores over subsets: rows of marks.  ``lines``: {name, n, others: [value], picked: [{place, value, ci}]}. */
export function profile(lines, label) {
  const [rowHeight, top] = [34, 26];
  const height = top + lines.length * rowHeight + 30;
  const [left, right] = [190, WIDTH - 16];
  const x = (value) => left + (right - left) * value;
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1].map((value) => [
    s("line", { x1: x(value), x2: x(value), y1: top - 8, y2: height - 26, class: "grid" }),
    axisText(x(value), height - 8, value.toFixed(1)),
  ]);
  const rows = lines.map(({ name, n, others, picked }, row) => {
    const middle = top + row * rowHeight + rowHeight / 2 - 6;
    const spread = picked.length > 1 ? 14 / (picked.length - 1) : 0;
    return [
      axisText(left - 12, middle, name, "end"),
      s("text", { x: left - 12, y: middle + 13, "text-anchor": "end", class: "tick faint" }, `${n}`),
      s("line", { x1: left, x2: right, y1: middle - 3, y2: middle - 3, class: "grid" }),
      others.map((value) => s("line", { x1: x(value), x2: x(value), y1: middle - 8, y2: middle + 2, class: "rest" })),
      picked.map(({ place, value, ci }, k) => {
        const at = middle - 3 + (k - (picked.length - 1) / 2) * spread;
        return [ci && s("line", { x1: x(ci[0]), x2: x(ci[1]), y1: at, y2: at, class: `interval p${place}` }), mark(place, x(value), at, 4.5)];
      }),
    ];
  });
  return frame(height, label, grid, rows);
}

/** Risk of the surest answers against the share of answers taken.  ``curves``: {place, risks}. */
export function riskAgainstCoverage(curves) {
  const height = 340;
  const box = { left: 48, right: WIDTH - 16, top: 14, bottom: height - 44 };
  const x = (share) => box.left + (box.right - box.left) * share;
  const y = (risk) => box.bottom - (box.bottom - box.top) * risk;
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1].map((value) => [
    s("line", { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: "grid" }),
    axisText(box.left - 8, y(value) + 4, value.toFixed(1), "end"),
    axisText(x(value), box.bottom + 18, `${Math.round(100 * value)} %`),
  ]);
  const order = [...curves].sort((a, b) => (a.place < 0 ? -1 : a.place) - (b.place < 0 ? -1 : b.place));
  const lines = order.map(({ place, risks }) => {
    const path = [];
    const step = Math.max(1, Math.floor(risks.length / 150));
    for (let n = 0; n < risks.length; n += step) path.push(`${x((n + 1) / risks.length).toFixed(1)} ${y(risks[n]).toFixed(1)}`);
    path.push(`${x(1)} ${y(risks.at(-1)).toFixed(1)}`);
    const last = [x(1), y(risks.at(-1))];
    return [s("path", { d: `M${path.join("L")}`, class: place >= 0 ? `curve p${place}` : "curve rest" }),
      place >= 0 && mark(place, last[0], last[1], 4.5)];
  });
  return frame(height, `Risk against coverage, ${curves.map(({ label, risks }) => `${label} ends at ${score(risks.at(-1), 2)}`).join("; ")}`,
    grid, lines, axisText((box.left + box.right) / 2, height - 6, "share of answers taken, the surest first"));
}
