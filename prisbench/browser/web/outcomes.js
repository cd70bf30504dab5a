// What became of a query with a method, in a word; and what cases are sorted by.

import { hasFailed, iou, isAnswered, isRightInstance, isWrongInstance, subsetScore } from "./metrics.js";

export const OUTCOMES = {
  right: { words: "right", tip: "IoU of at least 0.5 and more than with any other thing; an empty mask where nothing is meant", sign: "✓" },
  poor: { words: "poor mask", tip: "On the referent more than on a look-alike, but not right: IoU under 0.5, or level with another thing", sign: "~" },
  wrong: { words: "wrong instance", tip: "Overlaps a look-alike more than the referent", sign: "✕" },
  missed: { words: "missed", tip: "An empty mask though the text has a referent", sign: "∅" },
  alarm: { words: "false alarm", tip: "A mask though the text has no referent in the scene", sign: "!" },
  failed: { words: "failed", tip: "The method raised an error; it counts as wrong", sign: "⚠" },
};

/** One of OUTCOMES, null for a query that was not asked. */
export function outcomeOf(queries, run, i) {
  if (!isAnswered(run, i)) return null;
  if (hasFailed(run, i)) return "failed";
  if (!queries.truth_area[i]) return run.predicted_area[i] ? "alarm" : "right";
  if (!run.predicted_area[i]) return "missed";
  if (isWrongInstance(run, i)) return "wrong";
  const right = isRightInstance(run, i);
  return (right === null ? iou(queries, run, i) >= 0.5 : right) ? "right" : "poor";
}

/** IoU, or 0 or 1 where nothing is meant: what a case is good by; null for a query that was not asked. */
export const goodness = (queries, run, i) => (isAnswered(run, i) ? subsetScore(queries, run, i) : null);

/** How far methods disagree about a query: the standard deviation of how good their answers are. */
export function dispute(queries, runs, i) {
  const known = runs.map((run) => goodness(queries, run, i)).filter((value) => value !== null);
  if (known.length < 2) return 0;
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length);
}

/** The places of queries that a state leaves, in the order that it asks for. */
export function chosenCases({ queries, chosen, runs, a, b, state }) {
  let left = chosen;
  if (state.outcome === "disagree") {
    left = left.filter((i) => {
      const found = runs.map((run) => outcomeOf(queries, run, i)).filter(Boolean);
      return found.includes("right") && found.some((each) => each !== "right");
    });
  } else if (state.outcome && a) {
    left = left.filter((i) => outcomeOf(queries, a, i) === state.outcome);
  }
  const by = {
    worst: a && ((i) => goodness(queries, a, i) ?? 2),
    best: a && ((i) => -(goodness(queries, a, i) ?? -1)),
    disputed: (i) => -dispute(queries, runs, i),
    difference: a && b && ((i) => (goodness(queries, b, i) ?? 0) - (goodness(queries, a, i) ?? 0)),
    reverse: a && b && ((i) => (goodness(queries, a, i) ?? 0) - (goodness(queries, b, i) ?? 0)),
  }[state.sort];
  if (!by) return left;
  const keys = new Map(left.map((i) => [i, by(i)]));
  return [...left].sort((x, y) => keys.get(x) - keys.get(y) || x - y);
}
