// prisbench/metrics.py: counts -> the numerator and the denominator of a metric, query by query.

/** The bits of an answer: see _flags in prisbench/browser/answers.py. */
export const ANSWERED = 1;
export const FAILED = 2;
const HAS_PRESENCE = 256;
const HAS_CONTOUR = 512;

export const isAnswered = (run, i) => (run.flags[i] & ANSWERED) !== 0;
export const hasFailed = (run, i) => (run.flags[i] & FAILED) !== 0;
export const hasPresence = (run, i) => (run.flags[i] & HAS_PRESENCE) !== 0;

/** null: unknown; else whether. */
const said = (shift) => (run, i) => [null, false, true][(run.flags[i] >> shift) & 3];
export const pointsRight = said(2);
export const isWrongInstance = said(4);
export const isRightInstance = said(6);

export const union = (q, r, i) => r.predicted_area[i] + q.truth_area[i] - r.intersection[i];
export const iou = (q, r, i) => (union(q, r, i) ? r.intersection[i] / union(q, r, i) : 0);

const hasReferent = (q, r, i) => q.truth_area[i] > 0;
const one = () => 1;
const yes = (answer) => (answer === null ? NaN : Number(answer));

function boundaryF(q, r, i) {
  const [a, b] = [r.matched_predicted_contour[i], r.predicted_contour[i]];
  const [c, d] = [r.matched_truth_contour[i], r.truth_contour[i]];
  if (!b && !d) return Number(r.predicted_area[i] > 0);
  const below = a * d + c * b;
  return below ? (2 * a * c) / below : 0;
}

function twoClassIou(q, r, i) {
  const known = union(q, r, i) ? [iou(q, r, i)] : [];
  const outside = q.area[i] - r.intersection[i];
  if (outside) known.push((q.area[i] - union(q, r, i)) / outside);
  return known.reduce((sum, each) => sum + each, 0) / known.length;
}

const shareOfMask = (pixels) => (q, r, i) => (r.predicted_area[i] ? pixels(r, i) / r.predicted_area[i] : NaN);

const isOf = (type) => (q, r, i) => q.type[i] === type;
const falseAlarm = (q, r, i) => Number(hasFailed(r, i) || r.predicted_area[i] > 0);

/** name -> the queries it is about, and its terms; a numerator that is not a number: undefined there, and counted. */
export const METRICS = {
  iou_mean: [hasReferent, iou],
  iou_pooled: [hasReferent, (q, r, i) => r.intersection[i], union],
  boundary_iou_mean: [hasReferent, (q, r, i) => r.boundary_intersection[i] / r.boundary_union[i]],
  p_at_50: [hasReferent, (q, r, i) => Number(iou(q, r, i) >= 0.5)],
  p_at_70: [hasReferent, (q, r, i) => Number(iou(q, r, i) >= 0.7)],
  p_at_90: [hasReferent, (q, r, i) => Number(iou(q, r, i) >= 0.9)],
  pointing: [hasReferent, (q, r, i) => (hasFailed(r, i) ? 0 : yes(pointsRight(r, i)))],
  wrong_instance_rate: [
    (q, r, i) => isWrongInstance(r, i) !== null,
    (q, r, i) => Number(hasFailed(r, i) || isWrongInstance(r, i)),
  ],
  on_look_alikes: [
    (q, r, i) => isWrongInstance(r, i) !== null,
    shareOfMask((r, i) => r.look_alike_intersection[i]),
  ],
  on_background: [
    hasReferent,
    shareOfMask((r, i) => r.predicted_area[i] - r.intersection[i] - r.look_alike_intersection[i]),
  ],
  absent_fp_rate: [isOf("absent"), falseAlarm],
  contradicted_fp_rate: [isOf("contradicted"), falseAlarm],
  instance_accuracy: [
    (q, r, i) => isRightInstance(r, i) !== null,
    (q, r, i) => Number(isRightInstance(r, i)),
  ],
  dice_mean: [hasReferent, (q, r, i) => (2 * r.intersection[i]) / (r.predicted_area[i] + q.truth_area[i])],
  boundary_f_mean: [(q, r, i) => hasReferent(q, r, i) && (r.flags[i] & HAS_CONTOUR) !== 0, boundaryF],
  two_class_iou_mean: [hasReferent, twoClassIou],
};

/** The score that the headline is made of: IoU with a referent, without one whether the mask is empty. */
export function subsetScore(q, r, i) {
  if (hasFailed(r, i)) return 0;
  return q.truth_area[i] > 0 ? iou(q, r, i) : Number(r.predicted_area[i] === 0);
}

/** Sums over each subject of a metric's terms, of some queries in some runs of one method. */
export function sampleOf(queries, runs, chosen, [scope, numerator, denominator = one], subjects) {
  const sample = newSample(subjects);
  for (const run of runs) {
    for (const i of chosen) {
      if (!isAnswered(run, i) || !scope(queries, run, i)) continue;
      const above = numerator(queries, run, i);
      if (Number.isNaN(above)) sample.undefinedCount++;
      else addTerm(sample, queries.subject[i], above, denominator(queries, run, i));
    }
  }
  return sample;
}

export function newSample(subjects) {
  return {
    above: new Float64Array(subjects),
    below: new Float64Array(subjects),
    has: new Uint8Array(subjects),
    n: 0,
    undefinedCount: 0,
  };
}

export function addTerm(sample, subject, above, below) {
  sample.above[subject] += above;
  sample.below[subject] += below;
  sample.has[subject] = 1;
  sample.n++;
}

const sum = (values) => values.reduce((total, each) => total + each, 0);

export const valueOf = (sample) => (sample.n ? sum(sample.above) / sum(sample.below) : null);
export const subjectsOf = (sample) => sum(sample.has);
