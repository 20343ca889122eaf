// The checks of single ops and of the CUDA graph. Each op runs on fresh random inputs in float64 on the CPU (composed of
// ATen's ops) and on the device twice: in float32 or bfloat16 (our kernels, where they are loaded) and in float64 (ATen
// there). A deterministic job has run before, so that LibTorch fills new tensors with NaN: a value no thread wrote shows.

import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { distance, Side, synthesisSpec } from './gpu-check-jobs.mjs';

/** @import { NativeBinding, NativeOps } from '../dist/native.js' */
/** @import { TensorView } from '../dist/tensor.js' */

/** @type {Record<string, (shape: number[], floats: Float32Array) => TensorView>} */
const DTYPES = {
  F32: (shape, floats) => tensor('F32', shape, floats),
  F64: (shape, floats) => tensor('F64', shape, Float64Array.from(floats)),
  BF16: (shape, floats) =>
    tensor(
      'BF16',
      shape,
      new Uint16Array(floats.buffer).filter((_, i) => i % 2 === 1),
    ),
};
const size = (shape) => shape.reduce((n, d) => n * d, 1);

/** The elements as numbers, bfloat16 too. */
function numbers(view) {
  if (view.dtype !== 'BF16') return [...arrayOf(view, view.dtype)];
  return [...new Float32Array(Uint32Array.from(arrayOf(view, 'BF16'), (half) => half << 16).buffer)];
}

/** Numbers in [-2, 2) that bfloat16 holds too, so that every dtype computes the same problem. */
function coarse(seed, object, count) {
  const floats = Float32Array.from(uniforms(seed, 19, object, 0, count), (u) => 4 * u - 2);
  const words = new Uint32Array(floats.buffer);
  for (let i = 0; i < count; i++) words[i] &= 0xffff0000;
  return floats;
}

/**
 * What an op is asked, and what gives its answers as lists of numbers by name.
 * @typedef {{big?: boolean, [field: string]: any}} Problem
 * @typedef {(ops: NativeOps, seed: bigint, dtype: string, problem: Problem) => Record<string, number[]>} Op
 */

/** @type {Op} */
function normAct(ops, seed, dtype, { shape, groups, relu, residual }) {
  const make = DTYPES[dtype];
  const row = (object) => tensor('F32', [shape[1]], coarse(seed, object, shape[1]));
  const moment = (object) => tensor('F32', [groups, shape[1]], coarse(seed, object, groups * shape[1]));
  const out = ops.normAct(
    make(shape, coarse(seed, 1, size(shape))),
    residual ? make(shape, coarse(seed, 2, size(shape))) : null,
    { scale: row(4), shift: row(5), center: row(6), relu, groups },
    { y: tensor('F32', shape, coarse(seed, 3, size(shape))), mean: moment(7), variance: moment(8) },
  );
  return Object.fromEntries(Object.entries(out).map(([name, view]) => [name, numbers(view)]));
}

/** @type {Op} */
function cropFlipRoll(ops, seed, dtype, { groups, n, px }) {
  const shape = [groups * n, 3, px, px];
  const draw = (object, count, below) =>
    Int32Array.from(uniforms(seed, 20, object, 0, count), (u) => Math.floor(below * u));
  const crop = Int32Array.from(
    Array.from({ length: groups }, (_, g) => {
      const [height, width] = [1 + draw(4 * g, 1, px)[0], 1 + draw(4 * g + 1, 1, px)[0]];
      return [draw(4 * g + 2, 1, px - height + 1)[0], draw(4 * g + 3, 1, px - width + 1)[0], height, width];
    }).flat(),
  );
  const out = ops.cropFlipRoll(
    DTYPES[dtype](shape, coarse(seed, 1, size(shape))),
    groups,
    tensor('I32', [groups, 4], crop),
    tensor('U8', [groups], Uint8Array.from(draw(100, groups, 2))),
    tensor(
      'I32',
      [groups, 2],
      draw(101, 2 * groups, 2 * px).map((v) => v - px),
    ),
    DTYPES[dtype](shape, coarse(seed, 2, size(shape))),
  );
  return { y: numbers(out.y), dx: numbers(out.dx) };
}

/** @type {Op} */
function bnMatch(ops, seed, dtype, { shape, groups }) {
  const make = DTYPES[dtype];
  const target = (object) => make([groups, shape[1]], coarse(seed, object, groups * shape[1]));
  const out = ops.bnMatch(make(shape, coarse(seed, 1, size(shape))), groups, target(2), target(3));
  return { loss: numbers(out.loss), dx: numbers(out.dx) };
}

/** @type {Op} */
function pixelAdam(ops, seed, dtype, { shape, step }) {
  const make = DTYPES[dtype];
  const of = (object, change = (value) => value) => make(shape, coarse(seed, object, size(shape)).map(change));
  const square = (value) => value * value;
  const [low, high] = [make([3], Float32Array.of(-0.5, -1, -0.25)), make([3], Float32Array.of(0.5, 0.25, 1))];
  const out = ops.pixelAdam(of(1), of(2), of(3, square), of(4), step, 0.1, 0.5, 0.9, 1e-8, low, high);
  return { x: numbers(out.x), m: numbers(out.m), v: numbers(out.v) };
}

/**
 * Ops with their problems: odd sizes, and those of ResNet-18's layers (`big`: not in a rehearsal); widths that vectors fit and
 * do not fit.
 */
/** @type {{name: string, op: Op, problem: Problem, dtypes: string[], limit?: number}[]} */
const OPS = [
  ...[
    { shape: [6, 17, 7, 13], groups: 3, relu: true, residual: true },
    { shape: [2, 264, 13, 17], groups: 2, relu: true, residual: false },
    { shape: [20, 64, 32, 32], groups: 2, relu: true, residual: true, big: true },
    { shape: [10, 512, 7, 7], groups: 10, relu: true, residual: true, big: true },
    { shape: [4, 64, 112, 112], groups: 1, relu: false, residual: false, big: true },
  ].map((problem) => ({ name: 'norm_act', op: normAct, problem, dtypes: ['F32', 'BF16'] })),
  ...[
    { groups: 2, n: 3, px: 37 },
    { groups: 5, n: 2, px: 64 },
    { groups: 3, n: 2, px: 224, big: true },
    // a tap's weight is what is left of a position of up to `px`, and neighbours are up to 4 apart
  ].map((problem) => ({
    name: 'crop_flip_roll',
    op: cropFlipRoll,
    problem,
    dtypes: ['F32'],
    limit: 4 * problem.px * 2 ** -24,
  })),
  ...[
    { shape: [4, 700, 3, 5], groups: 2 },
    { shape: [20, 64, 16, 16], groups: 10 },
  ].map((problem) => ({ name: 'bn_match', op: bnMatch, problem, dtypes: ['F32'] })),
  ...[1, 1000].map((step) => ({
    name: 'pixel_adam',
    op: pixelAdam,
    problem: { shape: [7, 3, 33, 35], step },
    dtypes: ['F32'],
  })),
];

const LIMITS = { F32: 1e-5, F64: 1e-10, BF16: 2 ** -7 };

/** How far the worst of the op's outputs is from the wanted ones; moments are float64 whatever the dtype of x. */
const worst = (got, wanted) => Math.max(...Object.keys(wanted).map((name) => distance(got[name], wanted[name])));

/**
 * The checks of ops on a device against float64 on the CPU, and of the device's ATen against the same.
 *
 * @param {NativeBinding} native
 * @param {string} device
 * @param {bigint} seed - of the inputs
 */
export function kernelChecks(native, device, seed) {
  const ours = OPS.filter(({ problem }) => device !== 'cpu' || !problem.big);
  return ours.flatMap(({ name, op, problem, dtypes, limit }) =>
    [...dtypes, 'F64'].map((dtype) => ({
      name: `${name} ${dtype === 'F64' ? 'by ATen, F64' : `by our kernels, ${dtype}`}: ${JSON.stringify(problem)}`,
      run: async () => {
        const wanted = op(native.ops, seed, 'F64', problem);
        const tolerance = dtype === 'F32' ? (limit ?? LIMITS.F32) : LIMITS[dtype];
        return { distance: worst(op(native.opsOn(device), seed, dtype, problem), wanted), tolerance };
      },
    })),
  );
}

const STEPS = 40; // well over what a graph is captured for

/**
 * What a loop may not change: whether it is captured, where it is cut, and whether it is looked at.
 *
 * @param {NativeBinding} native
 * @param {string} device
 */
export function loopChecks(native, device) {
  /** @param {import('../dist/native.js').OnProgress} on */
  const run = async (arch, change, on = () => {}) => {
    const side = new Side(native, device);
    const model = side.model(arch, 3, 32);
    const job = native.synthesize(model, { ...synthesisSpec(side, model, STEPS), ...change }, on);
    const { lossCe, lossBn, state, graphRefused } = await job.promise;
    if (graphRefused !== null) throw new Error(`no graph was made: ${graphRefused}`);
    return [...arrayOf(lossCe, 'F64'), ...arrayOf(lossBn, 'F64'), ...arrayOf(state.x, 'F32')];
  };
  return [
    ...(device === 'cpu' ? ['convnet'] : ['convnet', 'resnet18']).flatMap((arch) =>
      ['fp32', 'bf16'].map((precision) => ({
        name: `synthesize ${arch} ${precision}: ${STEPS} iterations as a graph equal ${STEPS} launched ones`,
        run: async () => ({
          distance: distance(await run(arch, { precision, graph: true }), await run(arch, { precision, graph: false })),
          tolerance: 0,
        }),
      })),
    ),
    {
      name: 'synthesize convnet: the same graph twice gives the same bits',
      run: async () => ({ distance: distance(await run('convnet', {}), await run('convnet', {})), tolerance: 0 }),
    },
    {
      name: 'synthesize convnet: progress rises to the end and its last loss is finite',
      run: async () => {
        const seen = [];
        await run('convnet', {}, (p) => {
          seen.push(p);
        });
        const rising = seen.every((p, i) => i === 0 || p.done >= seen[i - 1].done);
        const last = seen.at(-1);
        return { distance: rising && last?.done === STEPS && Number.isFinite(last.loss) ? 0 : 1, tolerance: 0 };
      },
    },
    {
      name: 'synthesize convnet: a cancel ends the loop and the next one is whole',
      run: async () => {
        const side = new Side(native, device);
        const model = side.model('convnet', 3, 32);
        const wanted = await run('convnet', {});
        const job = native.synthesize(model, synthesisSpec(side, model, 20_000), () => job.cancel());
        const code = await job.promise.then(
          () => 'none',
          (error) => error.code,
        );
        const after = distance(await run('convnet', {}), wanted);
        return { distance: code === 'E_CANCELLED' ? after : 1, tolerance: 0 };
      },
    },
  ];
}
