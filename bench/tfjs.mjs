// How fast are the four native kernels next to tfjs, the way to do such work in Node.js without this package? BN matching
// with its gradient to the pixels, augmentation with CutMix, teacher logits, label codec; equal weights and inputs.
// Contenders: tfjs-cpu (plain JavaScript, one thread), tfjs-wasm (SIMD, one thread: tfjs turns its threads off in Node.js),
// tfjs-node where somebody has installed it, ours-fp32, ours-bf16. ours-fp32 of augmentation is integer arithmetic on bytes,
// of the codec fp32 in and halves out; the codec also has a plain loop, javascript. Ratios to tfjs-cpu and to tfjs-wasm.
// Each tfjs contender runs in its own process and is timed there; a first call over 20 s is stopped and its row says so.
// Unfair to tfjs: with --threads above 1 ours has more threads than its cpu and wasm backends can use.

import { native } from './inputs.mjs';
import { labelCases } from './tfjs-labels.mjs';
import { logitsCase, matchCase } from './tfjs-network.mjs';
import { augmentCase } from './tfjs-pixels.mjs';

const BASES = ['tfjs-cpu', 'tfjs-wasm'];

export async function cases(options) {
  const binding = native(options.device);
  const images = options.smoke
    ? [{ count: 4, size: 28, channels: 3 }]
    : [
        { count: 32, size: 28, channels: 1 },
        { count: 32, size: 224, channels: 3 },
      ];
  const labels = options.smoke
    ? [{ rows: 20, classes: 10 }]
    : [
        { rows: 10000, classes: 10 },
        { rows: 1000, classes: 1000 },
      ];
  return [
    matchCase(binding, options),
    ...images.map((setting) => augmentCase(binding, options, setting)),
    logitsCase(binding, options),
    ...labels.flatMap((setting) => labelCases(binding, options, setting)),
  ].map((entry) => ({ ...entry, bases: BASES }));
}
