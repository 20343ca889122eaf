// The label cases: logits to the bits of IEEE halves and back, equal to the last bit on all sides. Both start from an array
// of JavaScript and end in one. tfjs has no float16, so it computes the bits in float and int32 ops; `javascript` does the
// same in one loop over typed arrays, which shows how much of a tfjs time is tfjs.

import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { tfjsContenders } from './tfjs-backend.mjs';

const CODEC = 'dense:f16';

/** Value of every half by its bits. */
function halfTable(binding) {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  return arrayOf(binding.ops.decode(CODEC, { logits: tensor('F16', [65536, 1], bits) }, {}, 1), 'F32');
}

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

function fromHalves(bits, table) {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

function differs(answer, reference) {
  if (answer.length !== reference.length) return `${answer.length} values`;
  const at = answer.findIndex((value, i) => value !== reference[i]);
  return at === -1 ? null : `value ${at} is ${answer[at]} instead of ${reference[at]}`;
}

/** Encoding and decoding M rows of K logits. */
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
  const table = halfTable(binding);
  const encoded = { logits: tensor('F16', shape, bits) };
  const decodeInput = { bits, shape, table };
  const size = `${rows} rows of ${classes} logits`;
  return [
    {
      name: `label encode, ${size}`,
      contenders: [
        ...tfjsContenders('encode', { logits: { shape, data: floats } }, { threads, smoke }),
        { name: 'javascript', threads: 1, run: () => ({ bits: toHalves(floats) }) },
        { name: 'ours-fp32', run: () => ({ bits: arrayOf(binding.ops.encode(CODEC, logits, {}).logits, 'F16') }) },
      ],
      compare: (answer, reference) => differs(answer.bits, reference.bits),
    },
    {
      name: `label decode, ${size}`,
      contenders: [
        ...tfjsContenders('decode', decodeInput, { threads, smoke }),
        { name: 'javascript', threads: 1, run: () => ({ logits: fromHalves(bits, table) }) },
        { name: 'ours-fp32', run: () => ({ logits: arrayOf(binding.ops.decode(CODEC, encoded, {}, classes), 'F32') }) },
      ],
      compare: (answer, reference) => differs(answer.logits, reference.logits),
    },
  ];
}
