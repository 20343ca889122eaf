// The klt codec written from docs/label-format.md: dither, densities, the rANS stream and the transform, in doubles and whole
// numbers. It decodes; of the encoder it has the quantiser only.

import { arrayOf, type TensorMap } from '../../src/tensor.ts';
import { halfValue } from './half.ts';
import { philox } from './philox.ts';

const TOTAL = 16384;
const LOW = 2 ** 23;

/** What the bytes of a coefficient say of its symbols; slots of 16384. */
export interface Model {
  readonly first: number;
  readonly count: number;
  readonly shift: number;
  /** First slot of a symbol, of the escape (count) and of nothing (count + 1) where the dither is u 2^-24ths. */
  readonly start: (symbol: number, u: number) => number;
}

/** Mass of a Gaussian from its mean to the end of each of 36 cells, [37]; the first height is 2^24. */
const BELOW = [0n];
for (let height = 1n << 24n, ratio = 1057095000n; BELOW.length < 37; ) {
  BELOW.push(BELOW.at(-1)! + height);
  height = (height * ratio) >> 30n;
  ratio = (ratio * 1057095000n) >> 30n;
}
const HALF = BELOW[36]!;

/** Share, width and centre of each Gaussian, the last with share 0. */
export type Gaussians = readonly (readonly [number, number, number])[];

export function modelOf(mixture: Gaussians): Model {
  const others = mixture.reduce((sum, [share]) => sum + share, 0);
  const parts = mixture.map(([share, width, centre]) => {
    const exponent = BigInt(14 + (width >> 3));
    const mantissa = BigInt(8 + (width & 7));
    const cell = mantissa << exponent; // 2^-24ths of a step
    return {
      share: BigInt(share === 0 ? 256 - others : share),
      exponent,
      mantissa,
      cell,
      mean: BigInt(centre - 128) * cell,
    };
  });
  /** Of all parts below x, in 256ths of 2 HALF. */
  const below = (x: bigint): bigint =>
    parts.reduce((sum, { share, exponent, mantissa, mean }) => {
      const at = (x < mean ? mean - x : x - mean) >> (exponent - 9n);
      const [wide, i] = [mantissa << 9n, Number(at / (mantissa << 9n))];
      const mass = i >= 36 ? HALF : BELOW[i]! + ((BELOW[i + 1]! - BELOW[i]!) * (at % wide)) / wide;
      return sum + share * (x < mean ? HALF - mass : HALF + mass);
    }, 0n);
  const low = BigInt(Math.min(...parts.map(({ mean, cell }) => Number((mean - 36n * cell) >> 24n))));
  const high = BigInt(Math.max(...parts.map(({ mean, cell }) => Number((mean + 36n * cell) >> 24n))) + 1);
  let shift = 0n;
  while ((high >> shift) - (low >> shift) >= 64n) shift++;
  const first = low >> shift;
  const count = (high >> shift) - first + 1n;
  const slots = BigInt(TOTAL) - 1n - count;
  const total = (cell: bigint): bigint =>
    (below((first << (shift + 24n)) + (cell << (shift + 21n))) * (slots << 10n)) / (512n * HALF);
  const start = (symbol: number, u: number): number => {
    if (symbol <= 0) return 0;
    if (symbol >= Number(count)) return symbol === Number(count) ? TOTAL - 1 : TOTAL;
    const at = (BigInt(symbol) << 24n) - (BigInt(u) >> shift);
    const cell = at >> 21n;
    const [here, next] = [total(cell), total(cell + 1n)];
    return symbol + Number((here + (((next - here) * (at % (1n << 21n))) >> 21n)) >> 10n);
  };
  return { first: Number(first), count: Number(count), shift: Number(shift), start };
}

/** The models of a tensor `model`; null for a coefficient that is left out. */
export function readModels(bytes: Uint8Array): (Model | null)[] {
  const models: (Model | null)[] = [];
  let mixture: [number, number, number][] = [];
  for (let at = 0; at < bytes.length; at += 3) {
    mixture.push([bytes[at]!, bytes[at + 1]!, bytes[at + 2]!]);
    if (bytes[at] !== 0) continue;
    models.push(mixture.length === 1 && bytes[at + 1] === 255 ? null : modelOf(mixture));
    mixture = [];
  }
  return models;
}

export interface KltBasis {
  readonly mean: Float64Array; // [K]
  readonly vectors: readonly Float64Array[]; // [M][K]
  readonly step: number;
  readonly models: readonly (Model | null)[]; // [m], m <= M
}

/** The basis of klt and of delta's views, or with the prefix `base.` of delta's whole images (whose mean it is not). */
export function readBasis(basis: TensorMap, prefix = ''): KltBasis {
  const mean = Float64Array.from(arrayOf(basis.mean!, 'F32'));
  const K = mean.length;
  const stored = basis.vectors!;
  const rowsOf = (flat: ArrayLike<number>) =>
    Array.from({ length: flat.length / K }, (_, j) => Float64Array.from({ length: K }, (_, k) => flat[j * K + k]!));
  const vectors =
    stored.dtype === 'I8'
      ? rowsOf(arrayOf(stored, 'I8')).map((row) => row.map((x) => x / Math.hypot(...row)))
      : rowsOf(Float64Array.from(arrayOf(stored, 'F16'), halfValue));
  const step = arrayOf(basis.step!, 'F32')[prefix === '' ? 0 : 1]!;
  return { mean, vectors, step, models: readModels(arrayOf(basis[`${prefix}model`]!, 'U8')) };
}

/** The gains of delta: own and partner, [17][2] in one row. */
export const readGain = (basis: TensorMap): Float64Array => Float64Array.from(arrayOf(basis.gain!, 'F16'), halfValue);

/** u of every coefficient of every row, in 2^-24ths: [m][n]. */
export function dither(seed: bigint, images: readonly number[], view: number, m: number): number[][] {
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  return Array.from({ length: m }, (_, j) =>
    images.map((image) => philox([image, view, 6, j >> 2], key)[j & 3]! >>> 8),
  );
}

/** q of one record: [m][n], no numbers for what is left out. Throws where the stream is not whole. */
export function decodeStream(
  models: readonly (Model | null)[],
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
  const q = models.map((model, j) => {
    if (model === null) return [];
    return u[j]!.map((word) => {
      const slot = state % TOTAL;
      let [symbol, beyond] = [0, model.count + 1];
      while (beyond - symbol > 1) {
        const middle = (symbol + beyond) >> 1;
        if (model.start(middle, word) <= slot) symbol = middle;
        else beyond = middle;
      }
      const start = model.start(symbol, word);
      advance(start, model.start(symbol + 1, word) - start);
      if (symbol < model.count) return (model.first + symbol) * 2 ** model.shift + bits(model.shift);
      const length = bits(5);
      if (length === 0) return 0;
      const zigzag = 2 ** (length - 1) + bits(length - 1);
      return zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2;
    });
  });
  if (state !== LOW || at !== bytes.length) throw new Error(`state ${state}, ${bytes.length - at} bytes left`);
  return q;
}

const project = ({ mean }: KltBasis, v: Float64Array, row: Float64Array): number =>
  v.reduce((sum, x, k) => sum + x * (row[k]! - mean[k]!), 0);

/** V (x - mean) / step of centred rows: [m][n], no numbers for what is left out. */
export function inSteps(basis: KltBasis, rows: readonly Float64Array[]): number[][] {
  return basis.vectors
    .slice(0, basis.models.length)
    .map((v, j) => (basis.models[j] === null ? [] : rows.map((row) => project(basis, v, row) / basis.step)));
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
    basis.vectors.slice(0, q.length).forEach((v, j) => {
      if (q[j]!.length === 0) return;
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
