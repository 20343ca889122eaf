// Is the fused BatchNorm + residual + ReLU + moments worth its C++ over ATen's own ops, and how far is it from the memory's
// limit? Forward and backward through the door. Contenders: composed (ATen's ops, reached by a residual of the other float
// dtype), fused, and copy: memcpy of four tensors of that dtype, on one thread, for the eight that the fused op must read or
// write (x, residual, y; dy, x, y, dx, dresidual). The door's own work is in composed and fused alike (tensors copied and
// turned to channels-last and back, a loss in double), so their ratio and the share of copy are lower bounds; the seconds
// between them are the op's. The door takes --threads threads. Answers: y, gradients and moments.

import { uniforms } from '../dist/rng.js';
import { arrayOf, elements, tensor } from '../dist/tensor.js';
import { native } from './inputs.mjs';

const GROUPS = 2;
const SETTINGS = [
  [20, 64, 64, 64], // ResNet-18 with the small stem at 64 px: its first blocks
  [20, 512, 8, 8], // and its last
];

const upper = (floats) => new Uint16Array(floats.buffer).filter((_, i) => i % 2 === 1);
const make = {
  F32: (shape, floats) => tensor('F32', shape, floats),
  BF16: (shape, floats) => tensor('BF16', shape, upper(floats)),
};
const OTHER = { F32: 'BF16', BF16: 'F32' };

/** Numbers in [-2, 2) that bfloat16 holds too, so that every contender works on the same ones. */
function coarse(object, count) {
  const floats = Float32Array.from(uniforms(1n, 19, object, 0, count), (u) => 4 * u - 2);
  const words = new Uint32Array(floats.buffer);
  for (let i = 0; i < count; i++) words[i] &= 0xffff0000;
  return floats;
}

/** The elements as numbers, bfloat16 too. */
function numbers(view) {
  if (view.dtype !== 'BF16') return arrayOf(view, view.dtype);
  return new Float32Array(Uint32Array.from(arrayOf(view, 'BF16'), (half) => half << 16).buffer);
}

/** Largest difference of two tensors, relative to the largest element. */
function distance(a, b) {
  const [got, wanted] = [numbers(a), numbers(b)];
  let [off, scale] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    off = Math.max(off, Math.abs(got[i] - wanted[i]));
    scale = Math.max(scale, Math.abs(wanted[i]));
  }
  return off / scale;
}

export async function cases({ device, smoke }) {
  const { ops } = native(device);
  const settings = smoke ? [[4, 5, 9, 11]] : SETTINGS;
  return settings.flatMap((shape) => ['F32', 'BF16'].map((dtype) => caseOf(ops, shape, dtype)));
}

function caseOf(ops, shape, dtype) {
  const channels = shape[1];
  const size = elements(shape);
  const row = (object) => tensor('F32', [channels], coarse(object, channels));
  const [floats, added] = [coarse(1, size), coarse(2, size)];
  const x = make[dtype](shape, floats);
  const residual = { fused: make[dtype](shape, added), composed: make[OTHER[dtype]](shape, added) };
  const spec = { scale: row(4), shift: row(5), center: row(6), relu: true, groups: GROUPS };
  const moment = (object) => tensor('F32', [GROUPS, channels], coarse(object, GROUPS * channels));
  const grads = { y: tensor('F32', shape, coarse(3, size)), mean: moment(7), variance: moment(8) };
  const targets = Array.from({ length: 4 }, () => new Uint8Array(x.data.length).fill(1));
  const sources = targets.map(() => x.data.slice());
  return {
    name: `[${shape}] ${dtype}, ${GROUPS} groups`,
    contenders: [
      { name: 'composed', run: () => ops.normAct(x, residual.composed, spec, grads) },
      { name: 'fused', run: () => ops.normAct(x, residual.fused, spec, grads) },
      {
        name: 'copy',
        run() {
          targets.forEach((target, i) => {
            target.set(sources[i]);
          });
          return null;
        },
      },
    ],
    compare(answer, reference) {
      if (answer === null) return null; // copy answers nothing
      for (const name of ['y', 'dx', 'dResidual', 'mean', 'variance']) {
        const off = distance(answer[name], reference[name]);
        const limit = dtype === 'F32' && name !== 'dResidual' ? 1e-4 : 2 ** -7;
        if (!(off <= limit)) return `${name} differs by ${off}`;
      }
      return null;
    },
  };
}
