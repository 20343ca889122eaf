// What does a codec cost and what does it keep? For each source of answers (codec-answers.mjs) and codec: bytes a row by
// component, distortion (distortion.mjs), encode and decode in GB/s of float32 logits next to memcpy and to general
// compressors on the f16 bits of the same rows; then decode of records against a student's steps on them, in a job of one
// step, where opening the codec counts once a step, and in a job of several, as `train` runs them. Codecs that learn
// are fitted to other records than are measured. The door's copies are in our times. On CUDA only decoding inside a training
// step is measured (codec-steps.mjs): the rest is done on the CPU. Answers: lossless contenders give every bit back; dense
// codecs stay within half a step, the others within the spread of the logits. `--run DIR` names a run folder for the real
// source, `--part NAME` makes one part: real, 1000, 10450, step-convnet, step-200 or step-1000.

import * as zlib from 'node:zlib';
import { brotliCompressSync, brotliDecompressSync, constants, deflateSync, inflateSync } from 'node:zlib';
import { indexTensors } from '../dist/record-sizes.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { realSource, smallRun, syntheticSource } from './codec-answers.mjs';
import { sizeOf, stepCase, sumOf, trainingCase } from './codec-steps.mjs';
import { distortion, TEMPERATURES } from './distortion.mjs';
import { native } from './inputs.mjs';

/** @import { NativeBinding } from '../dist/native.js' */

const quiet = () => {};
const dense = ['dense:f16', 'dense:int8', 'dense:int4'];
const topk = (kept) => ['mr', 'ms', 'mrs'].map((mode) => `topk:${kept}:${mode}`);
const byRate = (rates) => rates.flatMap((rate) => [`klt:${rate}`, `delta:${rate}`]);
const codecsFor = (classes) =>
  classes <= 20
    ? [...dense, ...topk(3), 'features', ...byRate([1, 2, 4])]
    : [...dense, ...topk(10), 'features', ...byRate([8, 24, 64])];

/** Classes and measured records of the heads with random weights. */
const HEADS = { 1000: 20, 10450: 8 };

/** Steps that decoding is held against: 50 rows each, of the real source for the ConvNet; steps of a job. */
const STEPS = [
  { part: 'step-convnet', arch: 'convnet', classes: null, size: 28, jobs: [1, 16] },
  { part: 'step-200', arch: 'resnet18', classes: 200, size: 64, jobs: [1] },
  { part: 'step-1000', arch: 'resnet18', classes: 1000, size: 64, jobs: [1] },
];

export async function cases({ device, smoke, threads, run, part }) {
  const coding = device === 'cpu';
  const parts = ['real', ...Object.keys(HEADS), ...STEPS.map(({ part: name }) => name)];
  if (part !== undefined && !parts.includes(part))
    throw new Error(`expected one of ${parts.join(', ')} for --part but received ${part}`);
  const binding = native(device);
  const wanted = (name) => part === undefined || part === name;
  const needsReal = wanted('real') || wanted('step-convnet');
  const real = needsReal && (await realSource(binding, run ?? (await smallRun(threads)), { threads, smoke }));
  const sources = wanted('real') && coding ? [real] : [];
  for (const [classes, records] of Object.entries(HEADS))
    if (wanted(classes) && !smoke && coding) sources.push(syntheticSource(binding, Number(classes), { records }));
  const out = [];
  for (const source of sources) {
    const coded = await prepareAll(binding, source, threads);
    out.push(codingCase('encode', source, coded), codingCase('decode', source, coded));
  }
  for (const { part: name, arch, classes, size, jobs } of STEPS) {
    if (!wanted(name) || (smoke && arch !== 'convnet')) continue;
    const measured = coding ? { records: 5 } : { records: 16, images: 50, batch: 50 };
    const source = arch === 'convnet' ? real : syntheticSource(binding, classes, measured);
    const prepared = (one) => prepareAll(binding, one, threads);
    const of = { arch, classes: source.classes, size, source, threads };
    if (!coding) out.push(await trainingCase(binding, { ...of, device, smoke }, prepared));
    else for (const steps of smoke ? [1] : jobs) out.push(await stepCase(binding, { ...of, steps }, prepared));
  }
  return out;
}

/**
 * Every codec for a source's classes, one after the other: its teacher does one job at a time.
 *
 * @param {NativeBinding} binding
 */
async function prepareAll(binding, source, threads) {
  const out = [];
  for (const codec of codecsFor(source.classes)) out.push(await prepare(binding, source, codec, threads));
  return out;
}

/**
 * Fits a codec, and encodes and decodes the measured records once.
 *
 * @param {NativeBinding} binding
 */
async function prepare(binding, source, codec, threads) {
  const { classes: numClasses, fit, measured, whole, teacher, seed, storeRows } = source;
  const of = (part, basis) => ({
    ...{ codec, basis, seed, threads, numClasses, recipes: part.recipes },
    recordIds: tensor('I32', [part.recordIds.length], part.recordIds),
  });
  const needs = binding.codecNeeds(codec);
  const answers = ({ logits, features }) => ({ logits, features: needs.features ? features : null });
  const sample = { sample: needs.sample ? answers(fit) : null, whole: needs.whole ? answers(whole) : null };
  const { basis } = await binding.fitCodec([teacher], { ...of(fit, {}), ...sample }, quiet).promise;
  const spec = of(measured, basis);
  const encode = () => binding.encode({ ...spec, ...answers(measured) }, quiet).promise;
  const encoded = await encode();
  const decode = async () => arrayOf((await binding.decode({ ...spec, ...encoded }, quiet).promise).logits, 'F32');
  const logits = arrayOf(measured.logits, 'F32');
  const rows = measured.logits.shape[0];
  const sizesIn = (offset) => Array.from(offset.subarray(1), (end, i) => Number(end) - Number(offset[i]));
  const blobs = encoded.blobs === null ? null : sizesIn(arrayOf(encoded.blobs.offset, 'I64'));
  const index = indexTensors([...measured.recordIds], sizesIn(arrayOf(measured.recipes.offset, 'I32')), blobs);
  const bytesPerRow = {
    payload: (sumOf(encoded.tensors) + (encoded.blobs === null ? 0 : sizeOf(encoded.blobs.data))) / rows,
    basis: sumOf(basis) / storeRows,
    index: sumOf(index) / rows,
  };
  const decoded = await decode();
  return {
    codec,
    encode,
    decode,
    labels: { codec, basis, recordIds: spec.recordIds, seed, images: null, ...encoded },
    bytesPerRow,
    ...distortion(logits, decoded, numClasses),
    wrong: wrongOf(codec, logits, decoded, numClasses),
  };
}

/** Largest error a codec may make on a row of logits; null for one judged by its mean. */
const LIMITS = {
  'dense:f16': (low, high) => Math.max(-low, high) * 2 ** -11,
  'dense:int8': (low, high) => ((high - low) / 255) * 0.501 + Math.max(-low, high) * 2 ** -10,
  'dense:int4': (low, high) => ((high - low) / 15) * 0.501 + Math.max(-low, high) * 2 ** -10,
  features: (low, high) => (high - low) * 2 ** -8,
};

/** What is wrong with decoded logits, or null. */
function wrongOf(codec, logits, decoded, classes) {
  if (decoded.length !== logits.length) return `${decoded.length} values`;
  const limit = LIMITS[codec];
  let [error, spread] = [0, 0];
  for (let at = 0; at < logits.length; at += classes) {
    const [a, b] = [logits.subarray(at, at + classes), decoded.subarray(at, at + classes)];
    let [low, high, worst, sum, shift] = [a[0], a[0], 0, 0, 0];
    for (let k = 0; k < classes; k++) {
      [low, high] = [Math.min(low, a[k]), Math.max(high, a[k])];
      worst = Math.max(worst, Math.abs(a[k] - b[k]));
      [sum, shift] = [sum + a[k] / classes, shift + (a[k] - b[k]) / classes];
    }
    if (limit !== undefined && !(worst <= limit(low, high))) return `row ${at / classes} is off by ${worst}`;
    for (let k = 0; k < classes; k++)
      [error, spread] = [error + (a[k] - b[k] - shift) ** 2, spread + (a[k] - sum) ** 2];
  }
  const judged = limit === undefined && !codec.startsWith('topk');
  return judged && !(error < spread) ? `its error ${error} is not below the spread ${spread}` : null;
}

const { zstdCompressSync, zstdDecompressSync } = /** @type {any} */ (zlib); // of Node.js 22.15
/** General compressors of bytes, at their fastest level. */
/** @type {[string, ((bytes: Buffer, options: object) => Buffer) | undefined, (bytes: Buffer) => Buffer, object][]} */
const COMPRESSORS = [
  ['zstd', zstdCompressSync, zstdDecompressSync, {}],
  ['deflate', deflateSync, inflateSync, { level: 1 }],
  ['brotli', brotliCompressSync, brotliDecompressSync, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }],
];

const exponent = (value) => (value === 0 ? '0' : value.toExponential(1));
const percent = (value) => `${(100 * value).toFixed(1)} %`;

/**
 * A row's extra fields: rate over the float32 logits, bytes and, of what is not lossless, distortion.
 *
 * @param {number} bytes
 * @param {{bytesPerRow: {payload: number, basis: number, index: number}, kl?: Record<number, number>, mse?: number,
 *   top1?: number, top5?: number}} of
 */
function facts(bytes, { bytesPerRow, kl, mse, top1, top5 }) {
  return {
    extra: ({ medianSeconds }) => ({ bytesPerSecond: bytes / medianSeconds, bytesPerRow, kl, mse, top1, top5 }),
    text({ medianSeconds }) {
      const { payload, basis, index } = bytesPerRow;
      const size = `${(payload + basis + index).toFixed(2)} B/row (${[payload, basis, index].map((b) => b.toFixed(2)).join(' + ')})`;
      const quality =
        kl === undefined
          ? []
          : [
              `KL ${TEMPERATURES.map((t) => exponent(kl[t])).join(' / ')}`,
              `MSE ${exponent(mse)}`,
              `top-1 ${percent(top1)}, top-5 ${percent(top5)}`,
            ];
      return [`${(bytes / medianSeconds / 1e9).toPrecision(2)} GB/s`, size, ...quality].join('; ');
    },
  };
}

/** Every codec and compressor one way; what the compressors get are the bits of dense:f16. */
function codingCase(way, { name, classes, measured }, coded) {
  const logits = arrayOf(measured.logits, 'F32');
  const rows = measured.logits.shape[0];
  const bytes = logits.byteLength;
  const target = new Float32Array(logits.length);
  const halves = Buffer.from(Uint16Array.from(logits, toHalf).buffer);
  const general = COMPRESSORS.map(([title, compress, restore, options]) => {
    if (compress === undefined) return { name: title, unavailable: `Node ${process.version} has no zstd` };
    const packed = compress(halves, options);
    return {
      name: title,
      run: () => (way === 'encode' ? compress(halves, options) : restore(packed)),
      wrong: restore(packed).equals(halves) ? null : 'bytes come back changed',
      ...facts(bytes, { bytesPerRow: { payload: packed.length / rows, basis: 0, index: 0 } }),
    };
  });
  const contenders = [
    {
      name: 'memcpy',
      run: () => target.set(logits),
      wrong: null,
      ...facts(bytes, { bytesPerRow: { payload: 4 * classes, basis: 0, index: 0 } }),
    },
    ...general,
    ...coded.map((one) => ({ name: one.codec, run: one[way], wrong: one.wrong, ...facts(bytes, one) })),
  ];
  return {
    name: `${way}, ${name}, ${rows} rows of ${classes}`,
    contenders,
    compare: (_answer, _reference, title) => contenders.find((one) => one.name === title).wrong,
  };
}

/** Bits of a half near a float: exponent and ten bits of fraction, cut off; enough for what a compressor is shown. */
function toHalf(value) {
  const size = Math.abs(value);
  if (size < 2 ** -14) return 0;
  const power = Math.floor(Math.log2(size));
  const sign = value < 0 ? 0x8000 : 0;
  return sign | ((power + 15) << 10) | Math.floor((size / 2 ** power - 1) * 1024);
}
