// Does a kernel of our own earn its place? The ops that have one, forward and backward on numbers made on the device and
// timed by the device's own events (on the CPU, where only our 3x3 convolution, its gradient to the weight and the BatchNorm that
// learns can be switched off: by the host's clock),
// replayed as a CUDA graph where the loop of synthesis does so too. Contenders: aten (the body used without our kernels),
// kernels, and copy: a copy on the device of as many bytes as norm_act must read and write (x, residual, y; dy, x, y, dx,
// dresidual: four tensors copied), each time a whole tensor. The rule: at least 1.2 times as fast as aten. Answers: Euclidean
// norms of all outputs and gradients. ATen's crop_flip_roll asks the host for its draw and cannot be captured: it is launched,
// on both sides. Unfair to nobody known.

import { arrayOf } from '../dist/tensor.js';
import { native } from './inputs.mjs';

/** @import { NativeBinding, TimeOpSpec } from '../dist/native.js' */

/** Groups, images of a group, channels, px: ResNet-18's blocks with the small stem at 64 px, IPC 50 and IPC 10. */
const LAYERS = [
  [10, 50, 64, 64],
  [10, 50, 128, 32],
  [10, 50, 512, 8],
  [50, 10, 64, 64],
];
/** The same at 20 images, and with the large stem at 224 px at 10. */
const CONVOLUTIONS = [
  ...[64, 128, 256, 512].map((channels) => [1, 20, channels, 4096 / channels]),
  ...[64, 128, 256, 512].map((channels) => [1, 10, channels, 3584 / channels]),
];
const SETTINGS = {
  cuda: [
    ...LAYERS.flatMap((layer) => ['BF16', 'F32'].map((dtype) => ['normAct', dtype, ...layer])),
    ['bnMatch', 'F32', 10, 50, 64, 1],
    ['bnMatch', 'F32', 50, 10, 512, 1],
    ['cropFlipRoll', 'F32', 10, 50, 3, 64],
    ['cropFlipRoll', 'F32', 5, 50, 3, 224],
    ['pixelAdam', 'F32', 10, 50, 3, 64],
    ['pixelAdam', 'F32', 5, 50, 3, 224],
  ],
  cpu: [
    ...['conv3', 'conv3Weight'].flatMap((op) =>
      CONVOLUTIONS.flatMap((layer) => ['BF16', 'F32'].map((dtype) => [op, dtype, ...layer])),
    ),
    ...[64, 512].flatMap((channels) =>
      ['BF16', 'F32'].map((dtype) => ['batchNormAct', dtype, 1, 50, channels, 4096 / channels]),
    ),
  ],
  small: [
    ...['normAct', 'bnMatch', 'cropFlipRoll', 'pixelAdam'].map((op) => [op, 'F32', 2, 3, 5, 9]),
    ...['conv3', 'conv3Weight', 'batchNormAct'].flatMap((op) =>
      ['BF16', 'F32'].map((dtype) => [op, dtype, 1, 2, 64, 7]),
    ),
  ],
};
const RULE = 1.2;
const CAPTURED = ['normAct', 'bnMatch', 'pixelAdam'];

export async function cases({ device, smoke, threads }) {
  const binding = native(device);
  const settings = SETTINGS[smoke ? 'small' : device === 'cpu' ? 'cpu' : 'cuda'];
  return settings.map((/** @type {any[]} */ [op, dtype, groups, images, channels, size]) => {
    /** @type {any} */
    const of = { op, dtype, device, threads, groups, imagesPerGroup: images, channels, size };
    return caseOf(binding, { ...of, graph: CAPTURED.includes(op) });
  });
}

/**
 * @param {NativeBinding} binding
 * @param {Omit<TimeOpSpec, 'kernels' | 'runs' | 'rounds'>} of
 */
function caseOf(binding, of) {
  const { op, dtype, groups, imagesPerGroup: images, channels, size } = of;
  const bytes = groups * images * channels * size * size * (dtype === 'F32' ? 4 : 2);
  const contender = (name, change, copies = 1) => {
    let last = { seconds: 0, captured: false };
    return {
      name,
      async run() {
        const runs = of.device === 'cpu' ? 2 : 10;
        const spec = { ...of, kernels: name === 'kernels', runs, rounds: 1, ...change };
        const { seconds, norms, captured } = await binding.timeOp(spec, () => {}).promise;
        last = { seconds: copies * arrayOf(seconds, 'F64')[0], captured };
        return op === spec.op ? arrayOf(norms, 'F64') : null;
      },
      seconds: () => last.seconds,
      extra({ contender: title, medianSeconds, ratioMedian }) {
        const moved = op === 'normAct' ? { bytesPerSecond: (8 * bytes) / medianSeconds } : {};
        const earned = title === 'kernels' ? { earnsItsPlace: ratioMedian >= RULE } : {};
        return { captured: last.captured, ...moved, ...earned };
      },
      text: ({ captured, bytesPerSecond, earnsItsPlace }) =>
        [
          captured ? 'a CUDA graph' : of.device === 'cpu' ? '' : 'launched',
          bytesPerSecond === undefined ? '' : `${(bytesPerSecond / 1e9).toFixed(0)} GB/s of what must be moved`,
          earnsItsPlace === undefined ? '' : `${earnsItsPlace ? 'at least' : 'BELOW'} ${RULE}x`,
        ]
          .filter(Boolean)
          .join('; '),
    };
  };
  return {
    name: `${op} ${dtype}, ${groups} groups of ${images}, [${channels}, ${size}, ${size}]`,
    contenders: [
      contender('aten', {}),
      contender('kernels', {}),
      ...(op === 'normAct' ? [contender('copy', { op: 'copy' }, 4)] : []),
    ],
    compare(answer, reference) {
      if (answer === null) return null; // a copy answers nothing
      const limit = dtype === 'F32' ? 1e-4 : 2 ** -7;
      const off = Math.max(...[...answer].map((norm, i) => Math.abs(norm - reference[i]) / reference[i]));
      return off <= limit ? null : `norms differ by ${off}`;
    },
  };
}
