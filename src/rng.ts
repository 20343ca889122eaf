// Every die of the package: Philox4x32-10 blocks addressed by (object, view, purpose, block) under a 64-bit seed.
// Invariant: a draw depends on what is drawn, never on what was drawn before it, so any record, crop or permutation can
// be drawn alone, after a resume or on another machine, bit for bit. native/core/philox.h repeats the block, the
// normals and the uniforms; docs/streams.md states the rules with vectors.
// Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011); Random123's known answers.

import { expected, LpldError } from './errors.ts';

/** A run's seed, u64. */
export type Seed = bigint;

/** The two 32-bit halves of a seed: Philox's key. */
export type Key = readonly [low: number, high: number];

/** Third word of the counter: what is drawn. Numbers are part of the stored formats: add, never renumber. */
export const Purpose = {
  labelOrder: 1, // image order of a label epoch: object 0, view = label epoch
  labelCrop: 2, // object = image, view = label epoch
  labelFlip: 3, // object = image, view = label epoch
  mixBox: 4, // lambda and centre: object = batch of the epoch, view = epoch
  mixPartner: 5, // permutation inside the batch: object = batch of the epoch, view = epoch
  dither: 6, // of codecs
  teacherSubset: 7, // which teachers of an ensemble answer
  labelCutout: 8, // centre and colour: object = image, view = label epoch
  mixShare: 9, // mixup's lambda: object = batch of the epoch, view = epoch
  synthesisCrop: 16, // object = class, view = iteration
  synthesisFlip: 17, // object = class, view = iteration
  synthesisRoll: 18, // object = class, view = iteration
  synthesisNoise: 19, // initial pixels: object = class, view = image of the class
  weights: 20, // initial weights: object = tensor index
  poolDraw: 21, // records of a student epoch: object = student epoch
  realSubset: 22, // subset of a real dataset
  trainOrder: 23, // image order of a teacher's epoch: object 0, view = epoch
  trainCrop: 24, // object = image, view = epoch
  trainFlip: 25, // object = image, view = epoch
  calibration: 26, // sample a codec's basis is fitted on
  keep: 27, // which epochs or batches survive pruning: object 0, view 0
  trainCutout: 28, // object = image, view = epoch
} as const;
export type Purpose = (typeof Purpose)[keyof typeof Purpose];

const SEED_LIMIT = 1n << 64n;

/**
 * Splits a seed into Philox's key.
 *
 * @param seed - in [0, 2^64)
 * @returns [low, high] u32 halves
 * @throws {LpldError} E_CONFIG if the seed is outside that range
 */
export function keyOf(seed: Seed): Key {
  if (seed < 0n || seed >= SEED_LIMIT)
    throw new LpldError('E_CONFIG', expected('an integer in [0, 2^64)', 'seed', seed), { reason: 'seed' });
  return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
}

/** High 32 bits of the product of two u32, in [0, 2^32). */
export function mulhi(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const low = Math.imul(ah, bl) + (Math.imul(al, bl) >>> 16);
  const mid = Math.imul(al, bh) + (low & 0xffff);
  return (Math.imul(ah, bh) + (low >>> 16) + (mid >>> 16)) >>> 0;
}

/**
 * One Philox4x32-10 block from scalars: the form for inner loops.
 *
 * @param k0 - key low, u32; k1 - key high, u32
 * @param c0 - object, c1 - view, c2 - purpose, c3 - block; u32 each
 * @param out - receives four u32
 */
export function block(k0: number, k1: number, c0: number, c1: number, c2: number, c3: number, out: Uint32Array): void {
  let [a, b, c, d] = [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
  let [x, y] = [k0 >>> 0, k1 >>> 0];
  for (let round = 0; round < 10; round++) {
    const hi0 = mulhi(0xd2511f53, a);
    const lo0 = Math.imul(0xd2511f53, a) >>> 0;
    const hi1 = mulhi(0xcd9e8d57, c);
    const lo1 = Math.imul(0xcd9e8d57, c) >>> 0;
    a = (hi1 ^ b ^ x) >>> 0;
    b = lo1;
    c = (hi0 ^ d ^ y) >>> 0;
    d = lo0;
    x = (x + 0x9e3779b9) >>> 0;
    y = (y + 0xbb67ae85) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/**
 * One Philox4x32-10 block.
 *
 * @param counter - (object, view, purpose, block), u32 each
 * @param key - (seed low, seed high), u32 each
 * @param out - [4] receives the words
 * @returns out
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: Key,
  out: Uint32Array = new Uint32Array(4),
): Uint32Array {
  block(key[0], key[1], counter[0], counter[1], counter[2], counter[3], out);
  return out;
}

/** The four words of a block: u32 [4]. */
export function words(seed: Seed, purpose: number, object: number, view: number, index: number): Uint32Array {
  return philox4x32([object, view, purpose, index], keyOf(seed));
}

/** A word as an integer in [0, n): floor(u * n / 2^32), for n in [1, 2^32). */
export function bounded(u: number, n: number): number {
  return mulhi(u, n);
}

/** A word as a float32 in [0, 1): its upper 24 bits times 2^-24, exact on every device. */
export function uniform(u: number): number {
  return (u >>> 8) * 2 ** -24;
}

/**
 * Walks the words of one stream in order: word i is lane i & 3 of block i >> 2.
 *
 * @param at - first word
 * @param count - how many
 * @param visit - receives (word u32, i)
 */
function eachWord(
  key: Key,
  purpose: number,
  object: number,
  view: number,
  count: number,
  visit: (word: number, i: number) => void,
): void {
  const out = new Uint32Array(4);
  for (let i = 0; i < count; i++) {
    if ((i & 3) === 0) block(key[0], key[1], object, view, purpose, i >>> 2, out);
    visit(out[i & 3]!, i);
  }
}

/**
 * Integers in [0, n), independent and uniform (with replacement).
 *
 * @returns I32 [count]; element i is bounded(word i, n)
 */
export function integers(
  seed: Seed,
  purpose: number,
  object: number,
  view: number,
  count: number,
  n: number,
): Int32Array {
  const out = new Int32Array(count);
  eachWord(keyOf(seed), purpose, object, view, count, (word, i) => {
    out[i] = mulhi(word, n);
  });
  return out;
}

/**
 * A permutation of 0 .. n-1: Fisher-Yates from the end, step i taking bounded(word i, i + 1).
 *
 * @param n - in [0, 2^31)
 * @returns I32 [n]
 */
export function permutation(seed: Seed, purpose: number, object: number, view: number, n: number): Int32Array {
  const [k0, k1] = keyOf(seed);
  const out = new Uint32Array(4);
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  let held = -1;
  for (let i = n - 1; i > 0; i--) {
    if (i >>> 2 !== held) {
      held = i >>> 2;
      block(k0, k1, object, view, purpose, held, out);
    }
    const j = mulhi(out[i & 3]!, i + 1);
    const moved = order[i]!;
    order[i] = order[j]!;
    order[j] = moved;
  }
  return order;
}

/** Uniforms in [0, 1): F32 [count]; element i is uniform(word i). */
export function uniforms(seed: Seed, purpose: number, object: number, view: number, count: number): Float32Array {
  const out = new Float32Array(count);
  eachWord(keyOf(seed), purpose, object, view, count, (word, i) => {
    out[i] = uniform(word);
  });
  return out;
}

/**
 * Standard normals by Box-Muller in double precision, rounded once to float32.
 *
 * Four normals a block. With its words w0..w3, u1 = (w0 + 0.5) / 2^32 and u2 = w1 / 2^32:
 * lane 0 is sqrt(-2 ln u1) cos(2 pi u2), lane 1 the same radius times sin; lanes 2 and 3 likewise from w2, w3.
 * The reference of native/core/philox.h: equal up to one float32 step where two maths libraries differ.
 *
 * @returns F32 [count]; element i is lane i & 3 of block i >> 2
 */
export function normals(seed: Seed, purpose: number, object: number, view: number, count: number): Float32Array {
  const out = new Float32Array(count);
  const pair = new Uint32Array(2);
  eachWord(keyOf(seed), purpose, object, view, (count + 1) & ~1, (word, i) => {
    pair[i & 1] = word;
    if ((i & 1) === 0) return;
    const radius = Math.sqrt(-2 * Math.log((pair[0]! + 0.5) / 2 ** 32));
    const angle = 2 * Math.PI * (pair[1]! / 2 ** 32);
    out[i - 1] = radius * Math.cos(angle);
    out[i] = radius * Math.sin(angle); // past the end of an odd count: dropped by the typed array
  });
  return out;
}
