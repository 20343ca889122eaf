// The addon exports exactly what src/native.ts promises. The lists are checked against the types by the compiler and
// against the addon here, so that neither side can gain or lose a name alone.

import { describe, expect, test } from 'vitest';
import type { NativeBinding, NativeInfo, NativeOps } from '../src/native.ts';
import { codingSpec, decode, encode, fitBasis } from './util/codes.ts';
import { evaluateSpec, MODEL, openStore } from './util/jobs.ts';
import { native, ops, quiet } from './util/native.ts';
import { i32 } from './util/tensors.ts';

const BINDING = {
  info: 'function',
  cuda: 'function',
  deviceMemory: 'function',
  hostMemory: 'function',
  loadKernels: 'function',
  loadGraph: 'function',
  archs: 'function',
  codecs: 'function',
  createModel: 'function',
  createImageStore: 'function',
  train: 'function',
  collectStats: 'function',
  synthesize: 'function',
  answer: 'function',
  label: 'function',
  codecNeeds: 'function',
  fitCodec: 'function',
  encode: 'function',
  decode: 'function',
  evaluate: 'function',
  similarity: 'function',
  timeOp: 'function',
  shutdown: 'function',
  ops: 'object',
  opsOn: 'function',
} as const satisfies Record<keyof NativeBinding, 'function' | 'object'>;

const OPS = {
  philox: 'function',
  normals: 'function',
  renderBatch: 'function',
  resizeBilinear: 'function',
  cropFlipRoll: 'function',
  bnMatch: 'function',
  normAct: 'function',
  batchNormAct: 'function',
  convNormAct: 'function',
  unshuffledConv: 'function',
  winogradConv: 'function',
  classMoments: 'function',
  classCosine: 'function',
  softKl: 'function',
  labelMetrics: 'function',
  pixelAdam: 'function',
  imagePrior: 'function',
  optimizerStep: 'function',
  toPixels: 'function',
  normalizeTable: 'function',
  initialClassStats: 'function',
  finishClassStats: 'function',
  forward: 'function',
} as const satisfies Record<keyof NativeOps, 'function'>;

const INFO = {
  addon: 'string',
  compiled: 'string',
  runtime: 'string',
  kernels: 'boolean',
  graph: 'boolean',
  cpu: 'object',
} as const satisfies Record<keyof NativeInfo, string>;

const kinds = (object: object): Record<string, string> =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, typeof value]));

test('the addon exports the names of NativeBinding, and ops those of NativeOps', () => {
  expect(kinds(native())).toEqual(BINDING);
  expect(kinds(ops())).toEqual(OPS);
});

test('without the CUDA libraries in the process the addon says so, in the words that loadNative looks for', () => {
  expect(native().cuda()).toMatchObject({ available: false, reason: expect.stringContaining('were not loaded') });
});

test('info names the versions and the processor', async () => {
  const info = native().info();
  expect(kinds(info)).toEqual(INFO);
  const { default: manifest } = await import('../package.json', { with: { type: 'json' } });
  expect(info.addon).toBe(manifest.version);
  expect(info.compiled).toMatch(/^\d+\.\d+\.\d+/);
  expect(info.compiled.split('.').slice(0, 2).join('.')).toBe(info.runtime);
  expect(kinds(info.cpu)).toEqual({ avx512: 'boolean', avx512Bf16: 'boolean', amxBf16: 'boolean' });
  if (info.cpu.amxBf16 || info.cpu.avx512Bf16) expect(info.cpu.avx512).toBe(true);
});

test('cuda() gives a verdict and, where it is no, the reason', () => {
  const { available, devices, reason } = native().cuda();
  expect(devices.length > 0).toBe(available);
  expect(reason === '').toBe(available);
});

describe('architectures', () => {
  test('the list', () => {
    expect(native().archs()).toEqual(['convnet', 'resnet18', 'resnet34', 'resnet50', 'resnet101']);
  });

  test('every one can be made; an unknown one is E_CONFIG and all are named', () => {
    for (const arch of native().archs()) {
      const model = native().createModel({ ...MODEL, arch, inputSize: 16 });
      expect(model.normLayers.length, arch).toBeGreaterThan(0);
      expect(model.parameterCount, arch).toBeGreaterThan(0);
      model.dispose();
    }
    let message = '';
    try {
      native().createModel({ ...MODEL, arch: 'resnet19' });
    } catch (thrown) {
      expect(thrown).toMatchObject({ code: 'E_CONFIG' });
      message = (thrown as Error).message;
    }
    expect(message).toBe(`expected one of ${native().archs().join(', ')} for arch but received "resnet19"`);
  });
});

test('every codec answers to its name; an unknown one is E_CONFIG and all are named', async () => {
  const model = native().createModel(MODEL);
  const spec = { ...evaluateSpec(2), ensemble: 'mean', teacherMode: 'eval', features: true } as const;
  const answered = await native().answer([model], openStore(), spec, quiet).promise;
  const [rows, classes] = answered.logits.shape as [number, number];
  for (const codec of native().codecs()) {
    const answers = native().codecNeeds(codec).features ? answered : { ...answered, features: null };
    const coding = { ...codingSpec(codec, rows, classes), recordIds: i32([2], [0, 1]), recipes: spec.recipes };
    const basis = await fitBasis(coding, answers, { whole: answers, teachers: [model] });
    const labels = await encode({ ...coding, basis }, answers);
    for (const view of Object.values(labels.tensors)) expect(view.shape[0], codec).toBe(rows);
    expect((await decode({ ...coding, basis }, labels)).shape, codec).toEqual([rows, classes]);
  }
  expect(() => native().codecNeeds('dense:f17')).toThrow(
    expect.objectContaining({
      code: 'E_CONFIG',
      message: expect.stringMatching(/^expected one of dense:.* for codec but received "dense:f17"$/),
    }),
  );
});
