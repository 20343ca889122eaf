// Test inputs and golden weights from Philox purpose 20, the twin of test/golden/golden_util.py: counter = (object, view,
// 20, block), word i of a stream = word i & 3 of block i >> 2; view 0 fills weights, view 1 float inputs, view 2 bytes.
// Written apart from src/rng.ts and native/core/philox.h on purpose; test/ops/philox.test.ts compares all of them.

import { arrayOf, type DType, elements, type TensorMap, type TensorView, tensor } from '../../src/tensor.ts';

export const GOLDEN_SEED = 20240925n;
const PURPOSE = 20;

function mulhi(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + Math.floor((a0 * b0) / 65536); // below 2^33: exact in a double
  const carry = a0 * b1 + (middle % 65536);
  return a1 * b1 + Math.floor(middle / 65536) + Math.floor(carry / 65536);
}

/** One Philox4x32-10 block: four u32 into out. */
export function philoxBlock(out: Uint32Array, c: readonly number[], key0: number, key1: number): void {
  let [c0, c1, c2, c3] = c as [number, number, number, number];
  let k0 = key0;
  let k1 = key1;
  for (let round = 0; round < 10; round++) {
    const h0 = mulhi(0xd2511f53, c0);
    const h1 = mulhi(0xcd9e8d57, c2);
    const l0 = Math.imul(0xd2511f53, c0) >>> 0;
    const l1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    c0 = (h1 ^ c1 ^ k0) >>> 0;
    c1 = l1;
    c2 = (h0 ^ c3 ^ k1) >>> 0;
    c3 = l0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Calls visit(word u32, i) for the first `count` words of (object, view). */
function eachWord(
  count: number,
  object: number,
  view: number,
  seed: bigint,
  visit: (w: number, i: number) => void,
): void {
  const k0 = Number(seed & 0xffffffffn);
  const k1 = Number(seed >> 32n);
  const out = new Uint32Array(4);
  const counter = [object, view, PURPOSE, 0];
  for (let i = 0; i < count; i++) {
    if ((i & 3) === 0) {
      counter[3] = i / 4;
      philoxBlock(out, counter, k0, k1);
    }
    visit(out[i & 3]!, i);
  }
}

/** Multiples of 2^-24 in [0, 1), mapped by f, rounded to float32: [count]. */
function mapped(
  count: number,
  object: number,
  view: number,
  f: (u: number) => number,
  seed = GOLDEN_SEED,
): Float32Array {
  const out = new Float32Array(count);
  eachWord(count, object, view, seed, (w, i) => {
    out[i] = f((w >>> 8) * 2 ** -24);
  });
  return out;
}

/** Uniform in [-scale, scale), exact in float32: Float64Array of product(shape) values. */
export function symmetric(shape: readonly number[], object: number, scale = 1): Float64Array {
  return Float64Array.from(mapped(elements(shape), object, 1, (u) => (2 * u - 1) * scale));
}

/** Uniform in [0.5, 1.5), exact in float32. */
export function positive(shape: readonly number[], object: number): Float64Array {
  return Float64Array.from(mapped(elements(shape), object, 1, (u) => 0.5 + u));
}

/** Uniform bytes: the upper eight bits of each word. */
export function imageBytes(shape: readonly number[], object: number): Uint8Array {
  const out = new Uint8Array(elements(shape));
  eachWord(out.length, object, 2, GOLDEN_SEED, (w, i) => {
    out[i] = w >>> 24;
  });
  return out;
}

/**
 * Golden weights of a model: tensor number k of the state dict (num_batches_tracked not counted) is filled from object k.
 * Matrices and convolutions +-sqrt(2/fan_in), BatchNorm weight and running_var in [0.5, 1.5), the rest +-0.1.
 *
 * @param shapes - names and shapes in torchvision's order, without num_batches_tracked
 * @returns F32 tensors under those names
 */
export function goldenWeights(shapes: readonly (readonly [string, readonly number[]])[]): TensorMap {
  const out: TensorMap = {};
  shapes.forEach(([name, shape], k) => {
    const bound = Math.sqrt(2 / elements(shape.slice(1)));
    const f =
      name.endsWith('running_var') || (shape.length === 1 && name.endsWith('.weight'))
        ? (u: number) => 0.5 + u
        : shape.length === 1
          ? (u: number) => 0.1 * (2 * u - 1)
          : (u: number) => (2 * u - 1) * bound;
    out[name] = f32(shape, mapped(elements(shape), k, 0, f));
  });
  return out;
}

export const f32 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('F32', shape, Float32Array.from(values));
export const f64 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('F64', shape, Float64Array.from(values));
export const i32 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('I32', shape, Int32Array.from(values));
export const i64 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('I64', shape, BigInt64Array.from(Array.from(values), BigInt));
export const u8 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('U8', shape, Uint8Array.from(values));

/** The elements of an integer or float tensor as doubles. F16 and BF16 are refused. */
export function values(view: TensorView): Float64Array {
  const read: DType = view.dtype;
  if (read === 'F16' || read === 'BF16') throw new Error(`values() does not read ${read}`);
  return Float64Array.from(arrayOf(view, read) as ArrayLike<number | bigint>, Number);
}

/** Rows a .. b-1 of a row-major array whose rows have `size` elements. */
export const rowsOf = (data: Float64Array, size: number, a: number, b: number): Float64Array =>
  data.subarray(a * size, b * size);

/** Rows a .. b-1 of a TensorView, copied. */
export function viewRows(view: TensorView, a: number, b: number): TensorView {
  const row = view.data.length / view.shape[0]!;
  return { ...view, shape: [b - a, ...view.shape.slice(1)], data: view.data.slice(a * row, b * row) };
}
