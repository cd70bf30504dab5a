// prisbench/statistics.py and presence.py: intervals over subjects, tiers, areas under a curve.

export const NO_WIDTH = 1e-9;
const KEPT_SUMS = 40; // arrays of 80 kB

/** numpy's quantile by linear interpolation, of sorted values. */
function quantile(sorted, q) {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const t = at - below;
  const a = sorted[below];
  const b = sorted[Math.min(below + 1, sorted.length - 1)];
  return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
}

/** What is the same for all: the draws, and what an interval is. */
export function statistics({ weights, draws, level, fewest }) {
  const latest = [];
  const ends = [(1 - level) / 2, (1 + level) / 2];

  function percentiles(values, units) {
    if (units < fewest) return null;
    const sorted = Float64Array.from(values).sort(); // NaN, of draws that define nothing, at the end
    let known = sorted.length;
    while (known && Number.isNaN(sorted[known - 1])) known--;
    return known ? ends.map((q) => quantile(sorted.subarray(0, known), q)) : null;
  }

  function bounded(values, units) {
    const found = percentiles(values, units);
    if (found === null || found[1] - found[0] > NO_WIDTH) return found;
    const q = 1 - (1 - level) ** (1 / units);
    if (found[0] < NO_WIDTH) return [0, q];
    return found[1] > 1 - NO_WIDTH ? [1 - q, 1] : found;
  }

  /** Each draw's sum over the places, which are the subjects that are drawn; four draws at a time. */
  function drawn(values, places) {
    const rows = weights(places.length);
    const x = Float64Array.from(places, (place) => values[place]);
    const out = new Float64Array(draws);
    const n = x.length;
    for (let draw = 0; draw < draws; draw += 4) {
      const start = draw * n;
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let k = 0; k < n; k++) {
        const each = x[k];
        a += rows[start + k] * each;
        b += rows[start + n + k] * each;
        c += rows[start + 2 * n + k] * each;
        d += rows[start + 3 * n + k] * each;
      }
      out[draw] = a;
      out[draw + 1] = b;
      out[draw + 2] = c;
      out[draw + 3] = d;
    }
    return out;
  }

  /** Sums of denominators, which are often those of another method, too: the latest are kept. */
  function denominators(values, places) {
    let found = latest.find((each) => same(each.places, places) && same(each.values, values));
    if (found === undefined) found = { places, values, sums: drawn(values, places) };
    else latest.splice(latest.indexOf(found), 1);
    latest.unshift(found);
    latest.length = Math.min(latest.length, KEPT_SUMS);
    return found.sums;
  }

  /** The samples' values in every draw of the subjects of all of them; null below the fewest subjects. */
  function drawRatios(samples) {
    const places = placesOf(samples);
    if (places.length < fewest) return null;
    return samples.map(({ above, below }) => {
      const under = denominators(below, places);
      const out = drawn(above, places);
      for (let draw = 0; draw < draws; draw++) out[draw] = under[draw] > 0 ? out[draw] / under[draw] : NaN;
      return out;
    });
  }

  /** Mean over samples of each draw. */
  function meanRatios(samples) {
    const ratios = drawRatios(samples);
    if (ratios === null) return null;
    const out = new Float64Array(draws);
    for (const each of ratios) for (let draw = 0; draw < draws; draw++) out[draw] += each[draw];
    for (let draw = 0; draw < draws; draw++) out[draw] /= ratios.length;
    return out;
  }

  /** For each subject's present queries and each subject's absent ones: pairs won by the present one, ties half. */
  function roc(chosen) {
    const there = chosen.filter((each) => each.present);
    const not = chosen.filter((each) => !each.present);
    if (!there.length || !not.length) return null;
    const places = [...new Set(chosen.map((each) => each.subject))].sort((a, b) => a - b);
    const code = new Map(places.map((place, n) => [place, n]));
    const size = places.length;
    const won = new Float64Array(size * size);
    const counts = [new Float64Array(size), new Float64Array(size)];
    for (const each of there) counts[0][code.get(each.subject)]++;
    const lower = places.map(() => []);
    for (const each of not) {
      counts[1][code.get(each.subject)]++;
      lower[code.get(each.subject)].push(each.presence);
    }
    for (const each of there) {
      const row = code.get(each.subject) * size;
      for (let t = 0; t < size; t++) {
        for (const score of lower[t]) won[row + t] += each.presence > score ? 1 : each.presence === score ? 0.5 : 0;
      }
    }
    const units = Math.min(...counts.map((count) => count.filter((n) => n > 0).length));
    const all = (values) => values.reduce((sum, value) => sum + value, 0);
    const auc = all(won) / (all(counts[0]) * all(counts[1]));
    return { value: auc, ci: units < fewest ? null : bounded(areas(won, counts, size), units), units };
  }

  /** The area in every draw: pairs weigh as often as both their subjects were drawn. */
  function areas(won, [there, not], size) {
    const rows = weights(size);
    const out = new Float64Array(draws);
    const at = new Int32Array(size); // the subjects that were drawn, and how often
    const often = new Float64Array(size);
    for (let draw = 0; draw < draws; draw++) {
      let n = 0;
      for (let k = 0; k < size; k++) {
        const weight = rows[draw * size + k];
        if (weight === 0) continue;
        at[n] = k;
        often[n++] = weight;
      }
      let [above, first, second] = [0, 0, 0];
      for (let s = 0; s < n; s++) {
        first += often[s] * there[at[s]];
        second += often[s] * not[at[s]];
        const row = at[s] * size;
        let inner = 0;
        for (let t = 0; t < n; t++) inner += won[row + at[t]] * often[t];
        above += often[s] * inner;
      }
      out[draw] = first * second > 0 ? above / (first * second) : NaN;
    }
    return out;
  }

  /** Matthews' correlation of each subject's [true positives, false negatives, false positives, true negatives]. */
  function correlation(tables) {
    const places = tables.map((_, n) => n).filter((n) => tables[n].some((count) => count > 0));
    const withAny = (a, b) => places.filter((n) => tables[n][a] + tables[n][b] > 0).length;
    const units = Math.min(withAny(0, 1), withAny(2, 3));
    if (!units) return null;
    const cells = [0, 1, 2, 3].map((cell) => tables.map((table) => table[cell]));
    const total = cells.map((cell) => cell.reduce((sum, count) => sum + count, 0));
    let ci = null;
    if (units >= fewest) {
      const each = cells.map((cell) => drawn(cell, places));
      const values = each[0].map((_, draw) => (1 + mcc(...each.map((cell) => cell[draw]))) / 2);
      ci = bounded(values, units)?.map((end) => 2 * end - 1) ?? null;
    }
    return { value: mcc(...total), ci, units };
  }

  return { percentiles, bounded, drawRatios, meanRatios, roc, correlation, fewest };
}

export const placesOf = (samples) => {
  const places = [];
  for (let n = 0; n < (samples[0]?.has.length ?? 0); n++) if (samples.some((each) => each.has[n])) places.push(n);
  return places;
};

const same = (a, b) => a.length === b.length && a.every((value, n) => value === b[n]);

function mcc(tp, fn, fp, tn) {
  if (tp + fn === 0 || fp + tn === 0) return NaN;
  const below = Math.sqrt((tp + fn) * (fp + tn)) * Math.sqrt((tp + fp) * (fn + tn));
  return below > 0 ? Math.max(-1, Math.min(1, (tp * tn - fp * fn) / below)) : 0;
}

/** Tiers from 1 of {name, value} by value, the highest first; gap(best, other) is the interval of the difference. */
export function tiers(entries, gap) {
  const order = [...entries].sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
  const found = new Map();
  let best = null;
  let tier = 0;
  for (const entry of order) {
    const between = best && gap(best, entry);
    if (!best || (between && between[0] > NO_WIDTH)) {
      best = entry;
      tier++;
    }
    found.set(entry.name, tier);
  }
  return found;
}

/** Risk against coverage of {sure, loss}: the surest first, equally sure answers by their mean. */
export function riskCurve(answers) {
  const order = [...answers].sort((a, b) => b.sure - a.sure || 0);
  const risks = [];
  let total = 0;
  for (let start = 0; start < order.length; ) {
    let end = start;
    let loss = 0;
    while (end < order.length && order[end].sure === order[start].sure) loss += order[end++].loss;
    for (let n = start; n < end; n++) risks.push((total += loss / (end - start)) / (n + 1));
    start = end;
  }
  return { risks, aurc: risks.reduce((sum, risk) => sum + risk, 0) / risks.length };
}
