// The bootstrap draws of prisbench/statistics.py: how often each subject is drawn, in every draw.
//
// The same numbers as numpy's default_rng(SEED).multinomial: PCG64 (XSL RR 128/64, O'Neill 2014), and one binomial by
// inversion after another (Kachitvichyanukul and Schmeiser 1988, section 1), so intervals agree with Python's.

const MULTIPLIER = limbs("2360ed051fc65da44385df649fccf645");
const KEPT = 6; // matrices of weights in memory, 4 MB each for 48 subjects
const WORD = 4294967296;

/** 128 bits as four limbs of 32, the lowest first. */
function limbs(hex) {
  const full = hex.padStart(32, "0");
  return [24, 16, 8, 0].map((at) => parseInt(full.slice(at, at + 8), 16));
}

/** The low and the high 32 bits of a product of two limbs. */
const low = (a, b) => Math.imul(a, b) >>> 0;
function high(a, b) {
  const [al, ah, bl, bh] = [a & 65535, a >>> 16, b & 65535, b >>> 16];
  const one = al * bh;
  const two = ah * bl;
  const middle = ((al * bl) >>> 16) + (one & 65535) + (two & 65535);
  return ah * bh + Math.floor(one / 65536) + Math.floor(two / 65536) + (middle >>> 16);
}

/** Uniform numbers in [0, 1) of 53 bits, from a state and an increment in hexadecimal. */
export function pcg64({ state, inc }) {
  let [s0, s1, s2, s3] = limbs(state);
  const [c0, c1, c2, c3] = limbs(inc);
  const [m0, m1, m2, m3] = MULTIPLIER;
  return () => {
    const r0 = low(s0, m0) + c0;
    const r1 = high(s0, m0) + low(s0, m1) + low(s1, m0) + c1 + (r0 >= WORD ? 1 : 0);
    const r2 =
      high(s0, m1) + high(s1, m0) + low(s0, m2) + low(s1, m1) + low(s2, m0) + c2 + Math.floor(r1 / WORD);
    const r3 =
      high(s0, m2) + high(s1, m1) + high(s2, m0) + low(s0, m3) + low(s1, m2) + low(s2, m1) + low(s3, m0) + c3 +
      Math.floor(r2 / WORD);
    [s0, s1, s2, s3] = [r0 >>> 0, r1 >>> 0, r2 >>> 0, r3 >>> 0];
    const turn = s3 >>> 26; // 0..63, to the right
    const by = turn & 31;
    const [a, b] = turn & 32 ? [s0 ^ s2, s1 ^ s3] : [s1 ^ s3, s0 ^ s2];
    const top = (by ? (a >>> by) | (b << (32 - by)) : a) >>> 0;
    const bottom = (by ? (b >>> by) | (a << (32 - by)) : b) >>> 0;
    return (top * 2097152 + (bottom >>> 11)) / 9007199254740992;
  };
}

function byInversion(uniform, n, p) {
  const q = 1 - p;
  const none = Math.exp(n * Math.log1p(-p));
  const bound = Math.floor(Math.min(n, n * p + 10 * Math.sqrt(n * p * q + 1)));
  let x = 0;
  let px = none;
  let u = uniform();
  while (u > px) {
    x++;
    if (x > bound) {
      x = 0;
      px = none;
      u = uniform();
    } else {
      u -= px;
      px = ((n - x + 1) * p * px) / (x * q);
    }
  }
  return x;
}

function binomial(uniform, n, p) {
  if (n === 0 || p === 0) return 0;
  return p <= 0.5 ? byInversion(uniform, n, p) : n - byInversion(uniform, n, 1 - p);
}

function multinomials(seed, subjects, draws) {
  const uniform = pcg64(seed);
  const weights = new Float64Array(draws * subjects);
  const share = 1 / subjects;
  for (let draw = 0; draw < draws; draw++) {
    const row = draw * subjects;
    let left = subjects;
    let remaining = 1;
    for (let k = 0; k < subjects - 1 && left > 0; k++) {
      const taken = binomial(uniform, left, share / remaining);
      weights[row + k] = taken;
      left -= taken;
      remaining -= share;
    }
    if (left > 0) weights[row + subjects - 1] = left;
  }
  return weights;
}

/** A function: number of subjects -> weights, one row of them a draw. */
export function drawer(seed, draws) {
  const kept = new Map();
  return (subjects) => {
    let found = kept.get(subjects);
    if (found === undefined) found = multinomials(seed, subjects, draws);
    kept.delete(subjects);
    kept.set(subjects, found);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return found;
  };
}
