// The label cases: logits to the bits of IEEE halves and back, equal to the last bit on all sides. Both start from an array
// of JavaScript and end in one. tfjs has no float16, so it computes the bits in float and int32 ops; `javascript` does the
// same in one loop over typed arrays, which shows how much of a tfjs time is tfjs.

import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { fromHalves, halfTable } from './inputs.mjs';
import { tfjsContenders } from './tfjs-backend.mjs';

/** @import { NativeBinding } from '../dist/native.js' */

const CODEC = 'dense:f16';

/** One record of `rows` rows, as codecs are told of it. */
function coding(rows, numClasses, threads) {
  const each = (width, dtype, values) => tensor(dtype, width === 0 ? [rows] : [rows, width], values);
  const numbers = Int32Array.from({ length: rows }, (_, i) => i);
  return {
    ...{ codec: CODEC, basis: {}, recordIds: tensor('I32', [1], Int32Array.of(0)), seed: 0n, threads, numClasses },
    recipes: {
      offset: tensor('I32', [2], Int32Array.of(0, rows)),
      index: each(0, 'I32', numbers),
      crop: each(4, 'I32', new Int32Array(4 * rows)),
      flip: each(0, 'U8', new Uint8Array(rows)),
      cutout: each(4, 'I32', new Int32Array(4 * rows)),
      cutoutColor: each(3, 'U8', new Uint8Array(3 * rows)),
      mixKind: each(0, 'U8', new Uint8Array(rows)),
      mixIndex: each(0, 'I32', numbers),
      mixBox: each(4, 'I32', new Int32Array(4 * rows)),
      lambda: each(0, 'F32', new Float32Array(rows).fill(1)),
    },
  };
}
const quiet = () => {};

/** Bits of the nearest half of each float, ties to even; magnitudes below 65520. */
function toHalves(floats) {
  const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const out = new Uint16Array(floats.length);
  for (let i = 0; i < floats.length; i++) {
    const sign = (words[i] >>> 16) & 0x8000;
    const size = words[i] & 0x7fffffff;
    if (size < 0x38800000) {
      // below the smallest normal half: a multiple of 2^-24, rounded by adding a float whose last bit is worth that
      const scaled = Math.abs(floats[i]) * 2 ** 24;
      const down = Math.floor(scaled);
      const rest = scaled - down;
      out[i] = sign | (down + (rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? 1 : 0));
    } else out[i] = sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
  }
  return out;
}

function differs(answer, reference) {
  if (answer.length !== reference.length) return `${answer.length} values`;
  const at = answer.findIndex((value, i) => value !== reference[i]);
  return at === -1 ? null : `value ${at} is ${answer[at]} instead of ${reference[at]}`;
}

/**
 * Encoding and decoding M rows of K logits.
 *
 * @param {NativeBinding} binding
 */
export function labelCases(binding, { threads, smoke }, { rows, classes }) {
  const shape = [rows, classes];
  // magnitudes from 2^-26, below the smallest half, to 2^8: every exponent a logit has, and halves without a leading one
  const draws = uniforms(1n, 19, 5, 0, 2 * rows * classes);
  const floats = Float32Array.from(
    { length: rows * classes },
    (_, i) => (draws[2 * i] - 0.5) * 2 ** (8 - 33 * draws[2 * i + 1] ** 4),
  );
  const logits = tensor('F32', shape, floats);
  const bits = toHalves(floats);
  const table = halfTable();
  const spec = coding(rows, classes, threads);
  const encoded = { tensors: { logits: tensor('F16', shape, bits) }, blobs: null };
  const encode = async () => (await binding.encode({ ...spec, logits, features: null }, quiet).promise).tensors.logits;
  const decode = async () => (await binding.decode({ ...spec, ...encoded }, quiet).promise).logits;
  const decodeInput = { bits, shape, table };
  const size = `${rows} rows of ${classes} logits`;
  return [
    {
      name: `label encode, ${size}`,
      contenders: [
        ...tfjsContenders('encode', { logits: { shape, data: floats } }, { threads, smoke }),
        { name: 'javascript', threads: 1, run: () => ({ bits: toHalves(floats) }) },
        { name: 'ours-fp32', run: async () => ({ bits: arrayOf(await encode(), 'F16') }) },
      ],
      compare: (answer, reference) => differs(answer.bits, reference.bits),
    },
    {
      name: `label decode, ${size}`,
      contenders: [
        ...tfjsContenders('decode', decodeInput, { threads, smoke }),
        { name: 'javascript', threads: 1, run: () => ({ logits: fromHalves(bits, table) }) },
        { name: 'ours-fp32', run: async () => ({ logits: arrayOf(await decode(), 'F32') }) },
      ],
      compare: (answer, reference) => differs(answer.logits, reference.logits),
    },
  ];
}
