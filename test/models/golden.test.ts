// Architectures against torchvision (and ConvNet against its PyTorch definition): names, shapes, order, BatchNorm layers,
// logits with golden weights.

import { describe, expect, test } from 'vitest';
import { elements } from '../../src/tensor.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { goldenModel, goldenModels, goldenShapes, native, ops, specOf } from '../util/native.ts';
import { f32, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const models = goldenModels();
const keys = Object.keys(models);
const file = golden('models');

/** Parameters, not buffers: what numel() of torch's parameters() adds up to. */
const parameterCount = (key: string): number =>
  goldenShapes(key).reduce((n, [name, shape]) => n + (/running_(mean|var)$/.test(name) ? 0 : elements(shape)), 0);

test('every architecture of the addon is among the goldens', () => {
  const covered = new Set(Object.values(models).map((m) => m.arch));
  expect(
    native()
      .archs()
      .filter((arch) => !covered.has(arch)),
  ).toEqual([]);
  expect([...covered].filter((arch) => !native().archs().includes(arch))).toEqual([]);
});

describe.each(keys)('%s', (key) => {
  test('names, shapes and order of the state dict, BatchNorm layers and parameter count equal PyTorch', () => {
    const model = native().createModel(specOf(key));
    try {
      const state = Object.entries(model.stateDict()).filter(([name]) => !name.endsWith('num_batches_tracked'));
      expect(state.map(([name, view]) => [name, view.shape])).toEqual(goldenShapes(key));
      expect(state.every(([, view]) => view.dtype === 'F32')).toBe(true);
      expect(model.normLayers.map((l) => [l.name, l.channels])).toEqual(models[key]!.norms);
      expect(model.parameterCount).toBe(parameterCount(key));
      expect(model.state).toBe('open');
    } finally {
      model.dispose();
    }
  });
});

const withLogits = keys.filter((key) => models[key]!.logits);

test.each(withLogits)('%s: logits with golden weights equal PyTorch', (key) => {
  const { inChannels, inputSize, numClasses } = models[key]!;
  const shape = [2, inChannels, inputSize, inputSize];
  const model = goldenModel(key);
  try {
    const got = ops().forward(model, f32(shape, symmetric(shape, 200)), 'fp32');
    expect(got.shape).toEqual([2, numClasses]);
    expectClose('logits', values(got), values(goldenTensor(file, key)), TOLERANCE.loop, file.provenance);
  } finally {
    model.dispose();
  }
});

test('logits of an image do not depend on the others of its batch', () => {
  const model = goldenModel('resnet18-small');
  try {
    const shape = [2, 3, 32, 32];
    const x = symmetric(shape, 200);
    const both = values(ops().forward(model, f32(shape, x), 'fp32'));
    const second = values(ops().forward(model, f32([1, 3, 32, 32], x.slice(x.length / 2)), 'fp32'));
    expectClose('second image', second, both.slice(10), TOLERANCE.F32);
  } finally {
    model.dispose();
  }
});
