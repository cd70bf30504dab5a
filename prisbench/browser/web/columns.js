// Which numbers the table shows, what their heads say, and how they are sorted.

export const TIER = { name: "tier", label: "tier", higher: false, plain: true };
const SECONDS = {
  name: "seconds_per_image", label: "s / image", higher: false, plain: true,
  meaning: "seconds per image, the median over all images whatever the filter; times of different machines do not compare",
};
const SHORT = [
  "headline", "iou_mean", "instance_accuracy", "wrong_instance_rate", "absent_fp_rate", "contradicted_fp_rate",
  "pair_accuracy", "seconds_per_image",
];

/** The columns to show: the ranking number first, then a choice of the rest, or all. */
export function shownColumns(data, ranking, everything) {
  const all = [...data.columns, SECONDS];
  const first = all.find(({ name }) => name === ranking.by);
  const rest = all.filter((column) => {
    if (column === first || (column.name === "headline" && ranking.by !== "headline")) return false;
    return everything || SHORT.includes(column.name);
  });
  return first ? [first, ...rest] : rest;
}

/** A row's number in a column; null where it has none. */
export function numberOf(row, column) {
  if (column.name === "tier") return row.tier;
  if (column.name === "n") return row.n;
  if (column.name === "seconds_per_image") return row.method.seconds;
  const found = row.values[column.name]?.value;
  return found === undefined || Number.isNaN(found) ? null : found;
}

/** The rows by a column, those without a number last whichever way. */
export function sorted(rows, column, direction) {
  if (!column) return rows;
  const sign = direction === "down" ? -1 : 1;
  const known = rows.filter((row) => numberOf(row, column) !== null);
  const rest = rows.filter((row) => numberOf(row, column) === null);
  known.sort((a, b) => sign * (numberOf(a, column) - numberOf(b, column)));
  return [...known, ...rest];
}

/** What a number is to read. */
export function numberText(row, column) {
  const value = numberOf(row, column);
  if (value === null) return "–";
  if (column.name === "tier" || column.name === "n") return `${value}`;
  if (column.name === "seconds_per_image") return value >= 100 ? value.toFixed(0) : `${Number(value.toPrecision(3))}`;
  return value.toFixed(3);
}
