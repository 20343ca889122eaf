// Every refusal written in binding/ and native/ that can be met from outside, met once: the code, that the message is the
// one written there, and that the handles work afterwards. The last test reads the sources and names those never met.

import { describe, expect, test } from 'vitest';
import type { TensorMap } from '../src/tensor.ts';
import { codeOf, JOBS, openModel, openStore } from './util/jobs.ts';
import { LABEL_REFUSALS } from './util/label-refusals.ts';
import { nativeChecks } from './util/native-checks.ts';
import {
  append,
  JOB_REFUSALS,
  MODEL_REFUSALS,
  OP_REFUSALS,
  OTHER_REFUSALS,
  RECIPE_REFUSALS,
  STORE_REFUSALS,
} from './util/refusals.ts';
import { f32 } from './util/tensors.ts';

const ALL = Object.entries({
  MODEL_REFUSALS,
  STORE_REFUSALS,
  RECIPE_REFUSALS,
  JOB_REFUSALS,
  OP_REFUSALS,
  OTHER_REFUSALS,
  LABEL_REFUSALS,
});
const met: { code: string; message: string }[] = [];

async function refusal(work: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await work();
  } catch (thrown) {
    const { code, message } = thrown as { code: string; message: string };
    met.push({ code, message });
    return { code, message };
  }
  return { code: 'none', message: 'it was accepted' };
}

describe.each(ALL)('%s', (_group, refusals) => {
  test.each(refusals)('%s: %s', async (_what, code, call) => {
    const handles = { model: openModel(), store: openStore() };
    const error = await refusal(() => call(handles));
    expect(error, error.message).toMatchObject({ code });
    expect(error.message).toMatch(/^[^\n]{10,400}$/); // one line: no stack, no dump of LibTorch's
    expect([handles.model.state, handles.store.state]).toEqual(['open', 'open']);
    for (const job of ['evaluate', 'collectStats', 'label'] as const)
      expect(await codeOf(() => JOBS[job](handles.model, handles.store, 2).promise), job).toBe('ok');
  });
});

describe('images of a class the model does not have', () => {
  const jobs = ['train', 'collectStats', 'label', 'evaluate'] as const;

  test.each(jobs)('%s refuses them, though none of them is asked for, and other images work', async (name) => {
    const [model, store, good] = [openModel(), openStore(), openStore()];
    append({ model, store }, {}, 64, [3]);
    const { code, message } = await refusal(() => JOBS[name](model, store, 1).promise);
    expect([code, message]).toEqual(['E_MISMATCH', 'expected class ids below 3 for this model but the images have 3']);
    expect([model.state, store.state, store.count]).toEqual(['open', 'open', 7]);
    expect(await codeOf(() => JOBS[name](model, good, 1).promise)).toBe('ok');
    expect(await codeOf(() => JOBS[name](openModel({ numClasses: 4 }), store, 1).promise)).toBe('ok');
  });
});

test('weights that do not fit change nothing, and the first five differences are named', async () => {
  const model = openModel();
  const before = model.stateDict();
  const wrong = { ...before, extra1: f32([1], [0]), extra2: f32([1], [0]), 'classifier.bias': f32([4], [0, 0, 0, 0]) };
  delete (wrong as TensorMap)['features.0.conv.weight'];
  const { code, message } = await refusal(() => model.loadStateDict(wrong));
  expect(code).toBe('E_MISMATCH');
  for (const part of [
    'features.0.conv.weight is missing',
    'extra1 is extra',
    'classifier.bias has shape [4] where [3]',
  ])
    expect(message).toContain(part);
  expect(model.stateDict()).toEqual(before);
});

// ---- Met by other tests, or by none: each with its reason

const ELSEWHERE: Record<string, string> = {
  'expected an open handle but it was disposed': 'disposed by its own spec: test/handles.test.ts',
  'expected an idle handle but a job is running on it': 'busy by its own spec: test/handles.test.ts',
  'expected an open Model but it was disposed': 'test/handles.test.ts',
  'expected an idle Model but a job is running on it': 'test/handles.test.ts',
  'expected an idle Model for dispose but a job is running on it': 'test/handles.test.ts',
  'expected an open ImageStore but it was disposed': 'test/handles.test.ts',
  'expected an idle ImageStore but a job is running on it': 'test/handles.test.ts',
  'expected an idle ImageStore for dispose but a job is running on it': 'test/handles.test.ts',
  'expected a Model handle': 'test/handles.test.ts',
  'expected an ImageStore handle': 'test/handles.test.ts',
  'expected LibTorch 2.13 in the process, received 2.14': 'needs another LibTorch: findAddon refuses it before',
  'host memory is exhausted': 'needs a machine without memory',
  'render: the kernel failed with error 1': 'needs a broken device',
  'cannot ask cuda:0 for its memory: error 1': 'needs a broken device',
};

test('no refusal in the sources is left that nothing meets', () => {
  const checks = nativeChecks([
    'binding',
    'native/data',
    'native/jobs',
    'native/models',
    'native/codecs',
    'native/core',
  ]);
  expect(checks.length).toBeGreaterThan(60);
  const unmet = checks.filter(
    ({ code, message }) =>
      message !== null &&
      !Object.keys(ELSEWHERE).some((text) => message.test(text)) &&
      !met.some((error) => error.code === code && message.test(error.message)),
  );
  expect(unmet.map(({ where, code, message }) => `${where} ${code} ${message}`)).toEqual([]);
});
