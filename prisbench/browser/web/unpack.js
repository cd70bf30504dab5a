// What prisbench/browser/packing.py packed: base64 -> deflated bytes -> typed arrays.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f8: Float64Array };

/** The text of one of the page's blocks of data. */
export const block = (id) => document.getElementById(id)?.textContent ?? null;

/** The bytes behind a deflated text. */
export async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** A deflated JSON text. */
export const inflateJson = async (text) => JSON.parse(new TextDecoder().decode(await inflate(text)));

/** A reader of columns that stand one after the other in a buffer. */
export function columnReader(buffer) {
  let at = 0;
  return (heads, length) => {
    const columns = {};
    for (const [name, kind] of heads) {
      const size = length * ARRAYS[kind].BYTES_PER_ELEMENT;
      columns[name] = new ARRAYS[kind](buffer.slice(at, at + size));
      at += size;
    }
    return columns;
  };
}

/** The page's counts: what is said of each query, and of each run's answers to it. */
export async function readCounts(data, text) {
  const read = columnReader(await inflate(text));
  const queries = read(data.queries.columns, data.queries.n);
  const runs = data.runs.map((run) => {
    const columns = read(run.columns, data.queries.n);
    columns.presence = columns.presence_exact ?? Float64Array.from(columns.presence, (n) => n / 1e6);
    return { ...run, ...columns };
  });
  return { queries, runs };
}
