// Weights in and out of a Model: round trips, what a mismatch says, initialisation.

import { afterAll, describe, expect, test } from 'vitest';
import type { NativeModel } from '../../src/native.ts';
import type { TensorMap } from '../../src/tensor.ts';
import { completed, goldenModel, goldenShapes, native, ops, specOf, weightsOf } from '../util/native.ts';
import { f32, goldenWeights, symmetric, values } from '../util/tensors.ts';

const opened: NativeModel[] = [];
const open = (model: NativeModel): NativeModel => {
  opened.push(model);
  return model;
};
afterAll(() => {
  for (const model of opened) model.dispose();
});

const fresh = (key: string): NativeModel => open(native().createModel(specOf(key)));
const without = (tensors: TensorMap, ...names: string[]): TensorMap =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => !names.includes(name)));

/** The error of f, which must be one. */
function failure(f: () => void): { code?: string; message: string } {
  try {
    f();
  } catch (e) {
    return e as { code?: string; message: string };
  }
  throw new Error('expected an error');
}

describe('round trip', () => {
  test('a torchvision state dict comes back bit for bit, and so do the logits in a second model', () => {
    const shapes = goldenShapes('resnet18-small');
    const weights = weightsOf('resnet18-small');
    const first = open(goldenModel('resnet18-small'));
    const out = first.stateDict();
    for (const [name] of shapes) expect(Buffer.compare(out[name]!.data, weights[name]!.data), name).toBe(0);
    const second = fresh('resnet18-small');
    second.loadStateDict(out);
    const x = f32([1, 3, 32, 32], symmetric([1, 3, 32, 32], 201));
    expect(ops().forward(second, x, 'fp32')).toEqual(ops().forward(first, x, 'fp32'));
  });

  test('num_batches_tracked may be missing', () => {
    const model = fresh('convnet-avg');
    model.loadStateDict(weightsOf('convnet-avg'));
    expect(values(model.stateDict()['classifier.bias']!)).toEqual(values(weightsOf('convnet-avg')['classifier.bias']!));
  });

  test('stateDict gives copies: writing into one changes nothing', () => {
    const model = open(goldenModel('convnet-avg'));
    model.stateDict()['classifier.weight']!.data.fill(0);
    const kept = values(model.stateDict()['classifier.weight']!);
    expect(kept.some((v) => v !== 0)).toBe(true);
  });
});

describe('mismatches are E_MISMATCH, name the keys, and leave the weights alone', () => {
  const weights = (): TensorMap => weightsOf('convnet-avg');

  test.each([
    ['a missing tensor', () => without(weights(), 'features.1.norm.running_var'), ['features.1.norm.running_var']],
    ['an extra tensor', () => ({ ...weights(), 'features.9.conv.weight': f32([1], [0]) }), ['features.9.conv.weight']],
    [
      'another shape',
      () => ({ ...weights(), 'classifier.bias': f32([6], [0, 0, 0, 0, 0, 0]) }),
      ['classifier.bias', '5', '6'],
    ],
    [
      'a transposed matrix',
      () => ({ ...weights(), 'classifier.weight': f32([48, 5], new Float64Array(240)) }),
      ['classifier.weight', '48'],
    ],
    ['nothing at all', () => ({}), ['features.0.conv.weight']],
  ])('%s', (_what, tensors, words) => {
    const model = open(goldenModel('convnet-avg'));
    const before = model.stateDict();
    const error = failure(() => model.loadStateDict(tensors()));
    expect(error.code).toBe('E_MISMATCH');
    for (const word of words) expect(error.message).toContain(word);
    expect(model.stateDict()).toEqual(before);
  });

  test('of many, the first five are named', () => {
    const model = fresh('resnet18-small');
    const { message } = failure(() => model.loadStateDict({}));
    expect(message.match(/\b[\w.]+\.(weight|bias|running_mean|running_var)\b/g)?.length).toBe(5);
  });

  test('a small-stem net refuses a 7x7 conv1 by name', () => {
    const model = fresh('resnet18-small');
    const imagenet = weightsOf('resnet18-small');
    imagenet['conv1.weight'] = f32([64, 3, 7, 7], new Float64Array(64 * 147));
    const error = failure(() => model.loadStateDict(completed(model, imagenet)));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('conv1.weight');
    expect(error.message).toMatch(/7.*7/);
    expect(error.message).not.toContain('layer1');
  });

  test('resnet34 weights do not go into a resnet18', () => {
    const shapes = goldenShapes('resnet34-small').map(([name]) => [name, [1]] as const);
    const error = failure(() => fresh('resnet18-small').loadStateDict(goldenWeights(shapes)));
    expect(error.code).toBe('E_MISMATCH');
  });
});

describe('initialisation', () => {
  test('equal seeds give equal weights, another seed other ones', () => {
    const spec = specOf('convnet-avg');
    const a = open(native().createModel(spec)).stateDict();
    expect(open(native().createModel(spec)).stateDict()).toEqual(a);
    const other = open(native().createModel({ ...spec, seed: 2n })).stateDict();
    expect(values(other['features.0.conv.weight']!)).not.toEqual(values(a['features.0.conv.weight']!));
  });

  test('BatchNorm starts as the identity, and matrices are finite, centred and not constant', () => {
    for (const [name, view] of Object.entries(fresh('resnet18-small').stateDict())) {
      const data = values(view);
      if (/running_mean$|bn\d\.bias$|downsample\.1\.bias$/.test(name))
        expect(
          data.every((v) => v === 0),
          name,
        ).toBe(true);
      else if (/running_var$|bn\d\.weight$|downsample\.1\.weight$/.test(name))
        expect(
          data.every((v) => v === 1),
          name,
        ).toBe(true);
      else if (view.shape.length >= 2) {
        const mean = data.reduce((s, v) => s + v, 0) / data.length;
        const deviation = Math.sqrt(data.reduce((s, v) => s + (v - mean) ** 2, 0) / data.length);
        expect(deviation, name).toBeGreaterThan(0);
        expect(Math.abs(mean), name).toBeLessThan((5 * deviation) / Math.sqrt(data.length));
      }
    }
  });

  test.each([
    ['an unknown architecture', { arch: 'resnet19' }],
    ['no classes', { numClasses: 0 }],
    ['two channels', { inChannels: 2 }],
    ['an input that pools away', { inputSize: 7 }],
    ['no blocks', { options: { stem: 'small', widths: [], pooling: 'avg' } as const }],
    ['a block without channels', { options: { stem: 'small', widths: [6, 0], pooling: 'avg' } as const }],
  ])('refuses %s', (_what, change) => {
    expect(failure(() => open(native().createModel({ ...specOf('convnet-avg'), ...change }))).code).toBe('E_CONFIG');
  });
});
