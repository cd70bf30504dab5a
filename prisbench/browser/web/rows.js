// prisbench/leaderboard/rows.py: which queries and methods a filter leaves, and their rows: values, intervals, tiers.

import {
  METRICS, addTerm, hasFailed, hasPresence, iou, isAnswered, isRightInstance, newSample, sampleOf, subjectsOf,
  subsetScore, union, valueOf,
} from "./metrics.js";
import { riskCurve, statistics, tiers } from "./statistics.js";
import { drawer } from "./draws.js";

export const REFERENTLESS = ["absent", "contradicted"];
const UNLEARNED = ["noun-only", "untrained-token", "another-subject", "none"];

/** Everything a page is computed from: the columns, and methods as groups of runs that differ in their seed alone. */
export function model(data, counts) {
  const { queries, runs } = counts;
  queries.type = Array.from(queries.named, (n) => data.queries.named[n].split(":")[0]);
  const methods = data.methods.map((method, n) => ({
    ...method,
    place: n,
    runs: runs.filter((run) => run.method === n),
  }));
  const { draws, level, fewest, seed } = data.statistics;
  const stats = statistics({ weights: drawer(seed, draws), draws, level, fewest });
  return { data, queries, methods, stats, subjects: data.queries.subjects.length };
}

/** Whether a query named like "look-alike:colour" is in a subset; "" is all queries. */
export function isWithin(subset, named) {
  const kind = named.split(":")[0];
  return !subset || subset === named || subset === kind || (subset === "present" && !REFERENTLESS.includes(kind));
}

/** The name of the size of a query's referent; "" where the text has none. */
export function sizeOf({ data, queries }, i) {
  if (!queries.truth_area[i]) return "";
  const share = queries.truth_area[i] / queries.area[i];
  return data.sizes.find(({ below }) => share < (below ?? Infinity)).name;
}

/** The places of the queries that a filter leaves. */
export function chosenQueries(model, filter) {
  const { data, queries } = model;
  const named = data.queries.named.map((name) => isWithin(filter.subset, name));
  const chosen = [];
  for (let i = 0; i < data.queries.n; i++) {
    const subject = queries.subject[i];
    if (!named[queries.named[i]]) continue;
    if (filter.noun && data.queries.nouns?.[subject] !== filter.noun) continue;
    if (filter.subject && data.queries.subjects[subject] !== filter.subject) continue;
    if (filter.size && sizeOf(model, i) !== filter.size) continue;
    chosen.push(i);
  }
  return chosen;
}

/** The methods that a filter leaves. */
export function chosenMethods(model, filter) {
  return model.methods.filter(
    (method) =>
      (!filter.sees || method.reference === filter.sees) &&
      (!filter.weights || (filter.weights === "yes") === method.weights) &&
      (!filter.find || method.label.toLowerCase().includes(filter.find.toLowerCase())),
  );
}

/** The rows of a filter, best first, and what they are ranked by.  ``wanted``: names of columns; all where left out. */
export function rowsOf(model, filter, wanted = null) {
  const chosen = chosenQueries(model, filter);
  const methods = chosenMethods(model, filter);
  const rows = methods.map((method) => newRow(model, method, chosen));
  const asked = chosen.filter((i) => methods.some((method) => method.runs.some((run) => isAnswered(run, i)))).length;
  const complete = rows.filter((row) => row.answers === asked * row.method.runs.length && !row.method.partial);
  const ranking = rankingOf(model, filter, rows, complete, chosen);
  const wants = (name) => wanted === null || wanted.includes(name);
  for (const row of rows) fill(model, row, chosen, wants);
  gains(model, complete, wants);
  rows.sort((a, b) => (a.tier === null) - (b.tier === null) || orderOf(b) - orderOf(a) || byName(a, b));
  return { rows, ranking, chosen, asked };
}

const orderOf = (row) => row.score ?? valueOf(row.ious) ?? 0;

const byName = ({ method: a }, { method: b }) =>
  a.method < b.method ? -1 : a.method > b.method ? 1 : a.concept < b.concept ? -1 : a.concept > b.concept ? 1 : 0;

function newRow({ queries, subjects }, method, chosen) {
  const ious = sampleOf(queries, method.runs, chosen, METRICS.iou_mean, subjects);
  const seen = new Set();
  const people = new Set();
  let answers = 0;
  let errors = 0;
  for (const run of method.runs) {
    for (const i of chosen) {
      if (!isAnswered(run, i)) continue;
      answers++;
      errors += hasFailed(run, i);
      seen.add(i);
      people.add(queries.subject[i]);
    }
  }
  return {
    method, ious, answers, n: seen.size, n_subjects: people.size, n_errors: errors, tier: null, score: null, values: {},
  };
}

/** The samples of the subsets, by name; what the headline is the mean of. */
export function subsetSamples({ data, queries, subjects }, method, chosen) {
  const samples = new Map();
  const scored = [() => true, subsetScore];
  data.queries.named.forEach((name, n) => {
    const sample = sampleOf(queries, method.runs, chosen.filter((i) => queries.named[i] === n), scored, subjects);
    if (sample.n) samples.set(name, sample);
  });
  return samples;
}

/** Ranks the complete rows: by headline, else by mIoU, else (no text has a referent) by false alarms. */
function rankingOf(model, filter, rows, complete, chosen) {
  const { data, stats, queries, subjects } = model;
  const graded = (name) => name.includes(":");
  if (!filter.subset && data.headline) {
    for (const row of rows) row.scores = subsetSamples(model, row.method, chosen);
    const headed = complete.filter((row) => [...row.scores.keys()].some(graded));
    for (const row of headed) rankable(row, [...row.scores.values()], stats.meanRatios, stats.fewest);
    for (const row of headed) row.values.headline = { value: row.score, ci: row.interval(), units: row.units };
    if (headed.length) return rank("headline", headed, stats, 1);
  }
  const ranked = complete.filter((row) => row.ious.n);
  for (const row of ranked) rankable(row, [row.ious], stats.meanRatios, stats.fewest);
  if (ranked.length) return rank("iou_mean", ranked, stats, 1);
  for (const name of ["absent_fp_rate", "contradicted_fp_rate"]) {
    for (const row of complete) row.alarms = sampleOf(queries, row.method.runs, chosen, METRICS[name], subjects);
    const alarmed = complete.filter((row) => row.alarms.n);
    for (const row of alarmed) rankable(row, [row.alarms], stats.meanRatios, stats.fewest);
    if (alarmed.length) return rank(name, alarmed, stats, -1);
  }
  return { by: null, rows: [] };

  function rankable(row, samples, ratios, fewest) {
    row.units = Math.min(...samples.map(subjectsOf));
    row.score = samples.reduce((sum, sample) => sum + valueOf(sample), 0) / samples.length;
    row.drawn = row.units < fewest ? null : ratios(samples);
    row.interval = () => (row.drawn ? stats.bounded(row.drawn, row.units) : null);
  }
}

function rank(by, rows, stats, sign) {
  const known = rows.filter((row) => row.units >= stats.fewest && !row.method.weak);
  for (const row of rows) if (sign < 0) row.score = -row.score;
  const entries = known.map((row) => ({ name: row.method.key, value: row.score, row }));
  const found = tiers(entries, (a, b) => difference(a.row, b.row, stats, sign)?.ci);
  for (const row of known) row.tier = found.get(row.method.key);
  return { by, sign, rows: known };
}

/** The first row's ranked number minus the second's, with its interval, and how often it is ahead in the draws. */
export function difference(a, b, stats, sign = 1) {
  if (!a.drawn || !b.drawn) return null;
  const gaps = a.drawn.map((value, draw) => sign * (value - b.drawn[draw]));
  let ahead = 0;
  let known = 0;
  for (const gap of gaps) {
    if (Number.isNaN(gap)) continue;
    known++;
    ahead += gap > 0 ? 1 : gap === 0 ? 0.5 : 0;
  }
  return { value: a.score - b.score, ci: stats.percentiles(gaps, Math.min(a.units, b.units)), ahead: ahead / known };
}

function fill(model, row, chosen, wants) {
  const { data, queries, subjects, stats } = model;
  const runs = row.method.runs;
  for (const { name, interval } of data.columns) {
    if (!(name in METRICS) || !wants(name)) continue;
    const sample = name === "iou_mean" ? row.ious : sampleOf(queries, runs, chosen, METRICS[name], subjects);
    row.values[name] = valued(stats, sample, interval);
  }
  for (const [name, sample] of row.scores ?? []) row.values[`score_${name}`] = { value: valueOf(sample), ci: null };
  if (wants("presence_auc")) row.values.presence_auc = presenceAuc(model, runs, chosen) ?? nothing();
  if (data.spec1) return;
  if (wants("pair_accuracy")) row.values.pair_accuracy = pairAccuracy(model, runs, chosen);
  if (wants("presence_mcc")) row.values.presence_mcc = presenceMcc(model, runs, chosen) ?? nothing();
  if (wants("aurc")) row.values.aurc = { value: riskOf(model, row.method, chosen)?.aurc ?? null, ci: null };
}

const nothing = () => ({ value: null, ci: null, units: 0 });

function valued(stats, sample, interval = true) {
  const units = subjectsOf(sample);
  const value = valueOf(sample);
  const draws = interval && value !== null ? stats.drawRatios([sample]) : null;
  const ci = draws && stats.bounded(draws[0], units);
  return { value, ci: ci ?? null, units, n: sample.n, undefinedCount: sample.undefinedCount };
}

/** prisbench/pairs.py: both texts of a pair answered right. */
function pairAccuracy({ queries, subjects, stats }, runs, chosen) {
  const sample = newSample(subjects);
  for (const run of runs) {
    const pairs = new Map();
    for (const i of chosen) {
      if (!queries.pair[i] || !isAnswered(run, i)) continue;
      pairs.set(queries.pair[i], [...(pairs.get(queries.pair[i]) ?? []), i]);
    }
    for (const pair of pairs.values()) {
      if (pair.length < 2) sample.undefinedCount++;
      else addTerm(sample, queries.subject[pair[0]], Number(pair.every((i) => answeredRight(queries, run, i))), 1);
    }
  }
  return valued(stats, sample);
}

/** The right instance, or an empty mask where the text has no referent. */
export function answeredRight(queries, run, i) {
  if (hasFailed(run, i)) return false;
  return queries.truth_area[i] > 0 ? isRightInstance(run, i) === true : run.predicted_area[i] === 0;
}

const negative = (queries, i) => REFERENTLESS.includes(queries.type[i]);

function presenceAuc({ queries, stats }, runs, chosen) {
  const scored = [];
  let scores = false;
  for (const run of runs) {
    for (const i of chosen) {
      if (!isAnswered(run, i) || !(hasFailed(run, i) || hasPresence(run, i))) continue;
      scores ||= hasPresence(run, i) && !hasFailed(run, i);
      const worst = negative(queries, i) ? Infinity : -Infinity;
      const presence = hasFailed(run, i) ? worst : run.presence[i];
      scored.push({ presence, present: !negative(queries, i), subject: queries.subject[i] });
    }
  }
  return scores ? stats.roc(scored) : null;
}

function presenceMcc({ queries, subjects, stats }, runs, chosen) {
  const tables = Array.from({ length: subjects }, () => [0, 0, 0, 0]);
  for (const run of runs) {
    for (const i of chosen) {
      if (!isAnswered(run, i)) continue;
      const positive = !negative(queries, i);
      const answered = hasFailed(run, i) ? !positive : run.predicted_area[i] > 0;
      tables[queries.subject[i]][2 * !positive + !answered]++;
    }
  }
  return stats.correlation(tables);
}

/** prisbench/presence.py: what is at risk when only the surest answers are taken; null without scores. */
export function riskOf({ queries }, method, chosen) {
  const answers = [];
  let scores = false;
  for (const run of method.runs) {
    for (const i of chosen) {
      if (!isAnswered(run, i) || !(hasFailed(run, i) || hasPresence(run, i))) continue;
      if (hasFailed(run, i)) {
        answers.push({ sure: Infinity, loss: 1 });
        continue;
      }
      scores = true;
      const sure = run.predicted_area[i] ? run.presence[i] : 1 - run.presence[i];
      answers.push({ sure, loss: union(queries, run, i) ? 1 - iou(queries, run, i) : 0 });
    }
  }
  return scores ? riskCurve(answers) : null;
}

/** The paired difference in mIoU of a learned concept over the same method's noun alone. */
function gains({ stats }, complete, wants) {
  if (!wants("gain_over_noun")) return;
  for (const row of complete) {
    const { method, concept, reference } = row.method;
    const same = (other) => other.method === method && other.reference === reference && other.concept === "noun-only";
    const control = complete.find((other) => same(other.method));
    if (UNLEARNED.includes(concept) || !control || !row.ious.n) continue;
    const units = subjectsOf(row.ious);
    const ratios = stats.drawRatios([row.ious, control.ious]);
    const ci = ratios && stats.percentiles(ratios[0].map((value, draw) => value - ratios[1][draw]), units);
    row.values.gain_over_noun = { value: valueOf(row.ious) - valueOf(control.ious), ci: ci ?? null, units };
  }
}
