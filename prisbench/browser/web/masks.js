// COCO run lengths -> masks, masks -> pixels of an overlay and outlines.  Masks are column after column, as in COCO.

/** The lengths of runs, outside and inside by turns: groups of five bits, lowest first, with a sixth while more follow;
 * from the fourth run on, the difference to the run before the last. */
export function runsOf(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let place = 0;
    let group;
    do {
      group = text.charCodeAt(at++) - 48;
      value |= (group & 31) << (5 * place++);
    } while (group & 32 && at < text.length);
    if (group & 16 && place < 7) value |= -1 << (5 * place);
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/** A mask: 1 inside, row after row; null run lengths are an empty mask. */
export function maskOf(text, [height, width]) {
  const mask = new Uint8Array(height * width);
  if (text === null || text === undefined) return mask;
  let at = 0;
  runsOf(text).forEach((length, n) => {
    if (n % 2) for (let k = at; k < at + length && k < mask.length; k++) mask[(k % height) * width + Math.floor(k / height)] = 1;
    at += length;
  });
  return mask;
}

export const COLOURS = {
  hit: [0, 114, 178, 165], // on the referent
  extra: [213, 94, 0, 165], // beside it
  missed: [240, 228, 66, 165], // the referent that is left out
};

/** Paint an answer against the truth: both, the answer alone, the truth alone. */
export function paint(canvas, answer, truth, [height, width]) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let k = 0; k < answer.length; k++) {
    if (!answer[k] && !truth[k]) continue;
    const kind = answer[k] ? (truth[k] ? "hit" : "extra") : "missed";
    image.data.set(COLOURS[kind], 4 * k);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The edges of a mask between pixels, as a path of SVG in pixels. */
export function outlineOf(mask, [height, width]) {
  const path = [];
  const inside = (y, x) => y >= 0 && x >= 0 && y < height && x < width && mask[y * width + x];
  for (let y = 0; y <= height; y++) {
    for (let x = 0, from = -1; x <= width; x++) {
      const edge = x < width && inside(y - 1, x) !== inside(y, x) && Boolean(inside(y - 1, x)) !== Boolean(inside(y, x));
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        path.push(`M${from} ${y}H${x}`);
        from = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, from = -1; y <= height; y++) {
      const edge = y < height && Boolean(inside(y, x - 1)) !== Boolean(inside(y, x));
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        path.push(`M${x} ${from}V${y}`);
        from = -1;
      }
    }
  }
  return path.join("");
}

/** The highest point of a mask, where a name may stand; null for an empty one. */
export function topOf(mask, [, width]) {
  const first = mask.indexOf(1);
  return first < 0 ? null : { x: first % width, y: Math.floor(first / width) };
}
