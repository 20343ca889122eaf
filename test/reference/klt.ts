// The klt codec written from docs/label-format.md: dither, tables, the rANS stream and the transform, in doubles and plain
// integers. It decodes; of the encoder it has the quantiser only.

import { arrayOf, type TensorMap } from '../../src/tensor.ts';
import { halfValue } from './half.ts';
import { philox } from './philox.ts';

const TOTAL = 4096;
const LOW = 2 ** 23;

export interface Table {
  readonly first: number;
  readonly count: number;
  readonly shift: number;
  readonly frequency: readonly (readonly number[])[]; // [4][count + 1]
}

export interface KltBasis {
  readonly mean: Float64Array; // [K]
  readonly vectors: readonly Float64Array[]; // [m][K]
  readonly step: number;
  readonly tables: readonly Table[]; // [m]
}

export function readBasis(basis: TensorMap, prefix = ''): KltBasis {
  const view = (name: string) => basis[prefix + name]!;
  const mean = Float64Array.from(arrayOf(view('mean'), 'F32'));
  const flat = Float64Array.from(arrayOf(view('vectors'), 'F16'), halfValue);
  const rows = arrayOf(view('coefficient'), 'I32');
  const all = [...arrayOf(view('frequency'), 'I16')];
  const tables: Table[] = [];
  for (let j = 0, at = 0; j < rows.length / 3; j++) {
    const [first, count, shift] = rows.slice(3 * j, 3 * j + 3) as unknown as [number, number, number];
    const frequency = [0, 1, 2, 3].map((quarter) =>
      all.slice(at + quarter * (count + 1), at + (quarter + 1) * (count + 1)),
    );
    at += 4 * (count + 1);
    tables.push({ first, count, shift, frequency });
  }
  const vectors = tables.map((_, j) => flat.slice(j * mean.length, (j + 1) * mean.length));
  return { mean, vectors, step: arrayOf(view('step'), 'F32')[0]!, tables };
}

/** u of every coefficient of every row, in 2^-24ths: [m][n]. */
export function dither(seed: bigint, images: readonly number[], view: number, m: number): number[][] {
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  return Array.from({ length: m }, (_, j) =>
    images.map((image) => philox([image, view, 6, j >> 2], key)[j & 3]! >>> 8),
  );
}

/** q of one record: [m][n]. Throws where the stream is not whole. */
export function decodeStream(
  tables: readonly Table[],
  bytes: Uint8Array,
  u: readonly (readonly number[])[],
): number[][] {
  let at = 4;
  let state = bytes[0]! + bytes[1]! * 2 ** 8 + bytes[2]! * 2 ** 16 + bytes[3]! * 2 ** 24;
  const advance = (start: number, frequency: number) => {
    state = frequency * Math.floor(state / TOTAL) + (state % TOTAL) - start;
    while (state < LOW) state = state * 256 + bytes[at++]!;
  };
  const bits = (count: number): number => {
    let value = 0;
    for (let left = count; left > 0; ) {
      const piece = Math.min(8, left);
      const width = TOTAL / 2 ** piece;
      const part = Math.floor((state % TOTAL) / width);
      advance(part * width, width);
      value = value * 2 ** piece + part;
      left -= piece;
    }
    return value;
  };
  const q = tables.map((table, j) =>
    u[j]!.map((word) => {
      const frequency = table.frequency[Math.floor(word / 2 ** 22)]!;
      let symbol = 0;
      let start = 0;
      while (start + frequency[symbol]! <= state % TOTAL) start += frequency[symbol++]!;
      advance(start, frequency[symbol]!);
      if (symbol < table.count) return (table.first + symbol) * 2 ** table.shift + bits(table.shift);
      const length = bits(5);
      if (length === 0) return 0;
      const zigzag = 2 ** (length - 1) + bits(length - 1);
      return zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2;
    }),
  );
  if (state !== LOW || at !== bytes.length) throw new Error(`state ${state}, ${bytes.length - at} bytes left`);
  return q;
}

/** V (x - mean) / step of centred rows: [m][n]. */
export function inSteps(basis: KltBasis, rows: readonly Float64Array[]): number[][] {
  return basis.vectors.map((v) =>
    rows.map((row) => v.reduce((sum, x, k) => sum + x * (row[k]! - basis.mean[k]!), 0) / basis.step),
  );
}

export const quantise = (t: readonly (readonly number[])[], u: readonly (readonly number[])[]): number[][] =>
  t.map((row, j) => row.map((x, i) => Math.floor(x + u[j]![i]! * 2 ** -24)));

/** Rows of K: mean + V^T ((q + 1/2 - u) step), without the mean where `mean` is false. */
export function reconstruct(
  basis: KltBasis,
  q: readonly (readonly number[])[],
  u: readonly (readonly number[])[],
  n: number,
  mean = true,
): Float64Array[] {
  return Array.from({ length: n }, (_, i) => {
    const row = mean ? basis.mean.slice() : new Float64Array(basis.mean.length);
    basis.vectors.forEach((v, j) => {
      const c = (q[j]![i]! + 0.5 - u[j]![i]! * 2 ** -24) * basis.step;
      v.forEach((x, k) => {
        row[k]! += c * x;
      });
    });
    return row;
  });
}

/** Each row less its mean. */
export function centre(values: Float64Array, K: number): Float64Array[] {
  return Array.from({ length: values.length / K }, (_, i) => {
    const row = values.slice(i * K, (i + 1) * K);
    const mean = row.reduce((sum, x) => sum + x, 0) / K;
    return row.map((x) => x - mean);
  });
}
