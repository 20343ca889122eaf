// How long does it take to make soft labels, from pictures to a file, next to a PyTorch pipeline as the papers run it, and
// next to the bare teacher? Batches of 100 images, the same JPEG files, weights and Recipes. Contenders: pytorch-fp32 (as
// published; bench/relabel.py) and pytorch-bf16 (autocast, channels-last), their loader with as many workers as threads;
// ours-fp32 and ours-bf16 (Recipes drawn, label job, shard written through the LabelWriter); teacher-*: our forward alone on
// floats, on CUDA PyTorch's on floats that lie there (-tf32 for -fp32, its default). A second case of each setting times parts of ours beside ours-bf16: pixels (all before the teacher: one of a
// single filter a layer is asked), render (uint8 crops, flips, CutMix), encode, write, and decode (all JPEG files, once per
// set and not per epoch).
// Answers: logits as read back from the files; fp32 within 2e-3 of the reference (halves), bf16 within 2 %, as relative
// Euclidean distance. Python replays our Recipes for that, and draws its own when it is timed.
// Unfair to us: files are fsynced and hashed, torch.save's are not. Unfair to PyTorch: ours decoded its images before; its
// first batch waits for the loader in every run. Unfair to the bare teacher: its floats are copied into LibTorch (< 2 %).

import { mkdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openDraft } from '../dist/artifact-draft.js';
import { shardFile } from '../dist/label-format.js';
import { LabelWriter } from '../dist/label-writer.js';
import { writeSafetensors } from '../dist/safetensors.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { openSides } from './eager.mjs';
import { distance, fromHalves, halfTable } from './inputs.mjs';
import { decodeStore, floatBatches, relabelInputs } from './relabel-inputs.mjs';

/** @import { AnswerSpec, LabelSpec, NativeBinding } from '../dist/native.js' */
/**
 * A setting, and where and on what it runs.
 * @typedef {{binding: NativeBinding, device: string, threads: number, folder: string, size: number, channels: number,
 *   classes: number, batch: number, batches: number, [field: string]: any}} Run
 */

const CODEC = 'dense:f16';
const LIMIT = { fp32: 2e-3, tf32: 0.02, bf16: 0.02 };
const RESNET = { arch: 'resnet18', widths: [1], channels: 3 };
const CONVNET = { arch: 'convnet', stem: 'small', widths: [32, 32, 32], channels: 1, classes: 10 };
const SETTINGS = {
  smoke: [
    { name: 'ResNet-18, small stem', ...RESNET, stem: 'small', size: 32, classes: 20, batch: 4, batches: 1 },
    { name: 'ConvNet-D3', ...CONVNET, size: 28, batch: 4, batches: 2 },
  ],
  full: [
    { name: 'ResNet-18, small stem', ...RESNET, stem: 'small', size: 64, classes: 200, batch: 100, batches: 2 },
    { name: 'ResNet-18, ImageNet stem', ...RESNET, stem: 'imagenet', size: 224, classes: 1000, batch: 100, batches: 2 },
    { name: 'ConvNet-D3', ...CONVNET, size: 28, batch: 100, batches: 20 },
  ],
};
const quiet = () => {};

export async function cases({ device, smoke, threads }) {
  const { binding, missing, eager: python, folder } = await openSides(threads, device, 'relabel.py');
  if (binding === null) throw new Error(missing ?? undefined);
  const wide = device === 'cpu' ? 'fp32' : 'tf32';
  const out = [];
  for (const [i, setting] of SETTINGS[smoke ? 'smoke' : 'full'].entries()) {
    const { name, size, classes, batch, batches } = setting;
    const own = join(folder, String(i));
    const of = { ...setting, binding, device, threads, folder: own };
    const inputs = await relabelInputs(binding, own, of);
    const title = `${name}, ${size} px, K = ${classes}, ${batches} x ${batch} images`;
    const published = await pythonContenders(python, inputs, of, wide);
    const ours = [wide, 'bf16'].map((precision) => oursContender(inputs, of, precision));
    const bare = [wide, 'bf16'].map((precision) =>
      device === 'cpu' ? bareContender(inputs, of, precision) : residentTeacher(python, of, precision),
    );
    const compare = (answer, reference, contender) => {
      if (answer === null) return null; // a teacher on floats of its own
      const limit = LIMIT[contender.split('-')[1]];
      if (limit === undefined) return null; // a part has no logits
      const off = distance(answer, reference);
      return off <= limit ? null : `logits differ by ${off}`;
    };
    const bases = [...published, ...bare].map((contender) => contender.name);
    out.push({ name: title, contenders: [...published, ...ours, ...bare], bases, compare });
    out.push({
      name: `${title}: parts`,
      contenders: [ours[1], ...parts(inputs, of)],
      compare,
    });
  }
  return out;
}

async function pythonContenders(python, inputs, of, wide) {
  const { folder, arch, stem, widths, channels, size, classes } = of;
  const file = join(folder, 'teacher.safetensors');
  const batches = join(folder, 'batches');
  if (typeof python !== 'string') {
    mkdirSync(batches);
    const { model, recipes, scale, mean, std } = inputs;
    const weights = Object.fromEntries(Object.entries(model.stateDict()).map(([name, t]) => [`model.${name}`, t]));
    const json = Object.entries({ widths, channels, size, classes, scale, mean, std });
    const metadata = { arch, stem, ...Object.fromEntries(json.map(([name, value]) => [name, JSON.stringify(value)])) };
    await writeSafetensors(file, { ...weights, ...recipes() }, metadata);
    await python.ask({ load: file, images: inputs.images, folder: batches });
  }
  return [wide === 'fp32' ? 'pytorch-fp32' : 'pytorch-tf32', 'pytorch-bf16'].map((name) => {
    let [last, replay] = [null, true];
    return {
      name,
      unavailable: typeof python === 'string' ? python : null,
      async run() {
        last = await python.ask({ from: file, run: name, replay });
        if (!replay) return null;
        replay = false;
        const bytes = await readFile(join(batches, 'answer.f32'));
        return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
      },
      seconds: () => last.seconds,
      peakBytes: () => last.peakBytes,
    };
  });
}

/** @returns {LabelSpec} */
const labelSpec = ({ input, recordIds, seed }, { threads }, precision, recipes) => ({
  ...{ precision, threads, deterministic: false, ensemble: 'mean', teacherMode: 'eval', hashPixels: false },
  ...{ recipes, input, codec: CODEC, basis: {}, recordIds: tensor('I32', [recordIds.length], recordIds) },
  seed: BigInt(seed),
  images: null,
});

/** Opens a new label store, gives its writer to `work` and finishes it. @returns the store's draft */
async function writeStore(inputs, { folder, classes, size, batch, device }, precision, work) {
  const { plan, seed } = inputs;
  const target = join(folder, `labels-${precision}`);
  rmSync(`${target}.partial`, { recursive: true, force: true }); // the last call's: a draft goes on where it was left
  const draft = await openDraft(target, {
    ...{ stage: 'relabel', stageVersion: 1, config: {}, inputs: {}, precision },
    deviceClass: device === 'cpu' ? 'cpu' : 'cuda',
  });
  const { images, epochs, pruneRatio, dropLast, keep } = plan;
  const writer = await LabelWriter.open(draft, {
    ...{ codec: CODEC, recipes: 'derived', numClasses: classes, recordsPerShard: 1024, batch, inputSize: size },
    ...{ seed, streamVersion: 1, augment: {}, plan: { images, batch, epochs, pruneRatio, dropLast, keep } },
  });
  await writer.append(await work());
  await writer.finish();
  return draft;
}

/** @param {Run} of */
function oursContender(inputs, of, precision) {
  const { model, store, recordIds } = inputs;
  const table = halfTable();
  let [last, read] = [0, false];
  return {
    name: `ours-${precision}`,
    async run() {
      const began = process.hrtime.bigint();
      const draft = await writeStore(inputs, of, precision, async () => {
        const recipes = inputs.recipes();
        const spec = labelSpec(inputs, of, precision, recipes);
        const { tensors, blobs } = await of.binding.label([model], store, spec, quiet).promise;
        return { recordIds, offset: recipes.offset, recipes: null, tensors, blobs };
      });
      last = Number(process.hrtime.bigint() - began) / 1e9;
      if (read) return null;
      const shard = await draft.readTensors(shardFile(0));
      return fromHalves(arrayOf(shard['label.logits'], 'F16'), table);
    },
    seconds() {
      read = true;
      return last;
    },
  };
}

/** @param {Run} of */
function bareContender(inputs, of, precision) {
  let batches = null;
  return {
    name: `teacher-${precision}`,
    run() {
      batches ??= floatBatches(of.binding, inputs);
      const answers = batches.map((x) => arrayOf(of.binding.ops.forward(inputs.model, x, precision), 'F32'));
      const all = new Float32Array(answers.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const answer of answers) {
        all.set(answer, at);
        at += answer.length;
      }
      return all;
    },
  };
}

/** The bare teacher on a device: PyTorch's forward on numbers that lie there, or ours would wait for their copies. */
function residentTeacher(python, { folder }, precision) {
  let last = null;
  return {
    name: `teacher-${precision}`,
    unavailable: typeof python === 'string' ? python : null,
    async run() {
      last = await python.ask({
        from: join(folder, 'teacher.safetensors'),
        run: `teacher-${precision}`,
        replay: false,
      });
      return null;
    },
    seconds: () => last.seconds,
    peakBytes: () => last.peakBytes,
  };
}

/**
 * What our time is made of besides the teacher.
 *
 * @param {Run} of
 */
function parts(inputs, of) {
  const { binding, device, threads, size, channels, classes } = of;
  const { store, input, recordIds } = inputs;
  const small = binding.createModel({
    arch: 'convnet',
    options: { stem: 'small', widths: [1, 1, 1, 1], pooling: 'max' },
    numClasses: classes,
    ...{ device, seed: 1n, inChannels: channels, inputSize: size },
  });
  const recipes = inputs.recipes();
  const rows = recipes.index.shape[0];
  const logits = tensor('F32', [rows, classes], new Float32Array(rows * classes).fill(0.5));
  const coding = { ...labelSpec(inputs, of, 'fp32', recipes), numClasses: classes };
  const labels = { tensors: { logits: tensor('F16', [rows, classes], new Uint16Array(rows * classes)) }, blobs: null };
  /** @type {AnswerSpec} */
  const asked = {
    ...{ precision: 'fp32', threads, deterministic: false, ensemble: 'mean', teacherMode: 'eval' },
    ...{ recipes, input, features: false },
  };
  return [
    { name: 'pixels', run: () => binding.answer([small], store, asked, quiet).promise },
    { name: 'render', run: () => binding.ops.renderBatch(store, recipes, size) },
    { name: 'encode', run: () => binding.encode({ ...coding, logits, features: null }, quiet).promise },
    {
      name: 'write',
      run: () =>
        writeStore(inputs, of, 'write', async () => ({ recordIds, offset: recipes.offset, recipes: null, ...labels })),
    },
    {
      name: 'decode',
      async run() {
        (await decodeStore(binding, inputs.images, { ...of, count: store.count })).dispose();
      },
    },
  ];
}
