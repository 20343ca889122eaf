// Labels as other programs read them: against the logits of a dense store, against stored Recipes, against the pixels the
// teacher saw; and a codec used alone.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { decodeLogits, encodeLogits } from '../src/coding.ts';
import { LabelReader } from '../src/label-reader.ts';
import { LabelStore } from '../src/labels.ts';
import { evaluationRecipes } from '../src/recipe.ts';
import { resolveRuntime, runStage } from '../src/run.ts';
import { loadTeacher } from '../src/stages/shared.ts';
import { arrayOf, tensor } from '../src/tensor.ts';
import { halfValue } from './reference/half.ts';
import { dice, refusal } from './util/hostile.ts';
import { native } from './util/native.ts';
import { inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let root = '';
const at = (name: string): string => join(root, name);
const config = (relabel: object) => tiny({ relabel: { batch: 4, epochs: 6, dropLast: false, ...relabel } });
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-reader-'));
  await makeChain(root, tiny(), ['squeeze', 'synthesize']);
  for (const [name, relabel] of [
    ['derived', {}],
    ['explicit', { recipes: 'explicit' }],
    ['klt', { codec: 'klt:2', mix: 'mixup' }],
  ] as const)
    await runStage('relabel', config(relabel), {
      ...optionsOf(at(name)),
      inputs: inputsIn(root, 'relabel', []),
    });
});
afterAll(() => rm(root, { recursive: true, force: true }));

const open = (labels: string) => LabelReader.open(at(labels), at('synthesize'));

describe('LabelReader', () => {
  test('logits are the stored ones as numbers, and derived Recipes those a store writes down', async () => {
    await using derived = await open('derived');
    await using explicit = await open('explicit');
    const chosen = [7, 2, 7];
    const [a, b] = [await derived.read(chosen), await explicit.read(chosen)];
    expect(a).toEqual(b);
    expect([...a.recordIds]).toEqual([7, 2, 7]);
    expect(a.offset[1]).toBe(2); // 6 images in batches of 4: every second record is short
    await using store = await LabelStore.open(await openArtifact(at('explicit')));
    const stored = await store.readRecords(Int32Array.from(chosen));
    expect(Array.from(arrayOf(stored.tensors.logits!, 'F16'), halfValue)).toEqual([...a.logits]);
    expect(a.logits.length).toBe(a.offset.at(-1)! * derived.numClasses);
  });

  test('pixels are what the teacher saw: shown them, it answers what the store says', async () => {
    await using reader = await open('derived');
    const { recipes, logits } = await reader.read([5, 0]);
    const pixels = await reader.pixels(recipes);
    const rows = recipes.index.shape[0]!;
    expect(pixels).toMatchObject({ dtype: 'U8', shape: [rows, 1, 8, 8] });
    using teacher = await loadTeacher(native(), resolveRuntime(optionsOf(root)), await openArtifact(at('squeeze')));
    const { mean, std } = reader.images;
    const float = Float32Array.from(pixels.data, (level) => (level / 255 - mean[0]!) / std[0]!);
    const answer = arrayOf(native().ops.forward(teacher, tensor('F32', [rows, 1, 8, 8], float), 'fp32'), 'F32');
    expect(Math.max(...answer.map((logit, i) => Math.abs(logit - logits[i]!)))).toBeLessThan(0.01);
  });

  test('a learned codec is decoded with its own Recipes', async () => {
    await using reader = await open('klt');
    const { logits, recipes } = await reader.read([0, 1, 2]);
    expect(arrayOf(recipes.mixKind, 'U8').every((kind) => kind === 2)).toBe(true);
    for (let row = 0; row < logits.length; row += 3)
      expect(logits[row]! + logits[row + 1]! + logits[row + 2]!).toBeCloseTo(0, 2); // centred
  });

  test('labels of other images, a position outside, a cancelled read', async () => {
    await makeChain(at('other'), tiny({ synthesize: { ipc: 3 } }), ['squeeze', 'synthesize']);
    expect((await refusal(() => LabelReader.open(at('derived'), at('other/synthesize')))).code).toBe('E_MISMATCH');
    await using reader = await open('derived');
    expect((await refusal(() => reader.read([12]))).code).toBe('E_INTERNAL');
    expect((await refusal(() => reader.read([0], AbortSignal.abort()))).code).toBe('E_CANCELLED');
  });
});

describe('a codec alone', () => {
  const K = 5;
  const roll = dice(3);
  const logits = Float32Array.from({ length: 40 * K }, () => roll(4000) / 500 - 4);
  const worst = (a: Float32Array, b: Float32Array): number => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
  const centred = logits.map((value, i) => {
    const row = logits.subarray(K * Math.floor(i / K), K * Math.floor(i / K) + K);
    return value - row.reduce((sum, one) => sum + one, 0) / K;
  });

  test.each([
    ['dense:f16', 2 * K, 0.004],
    ['dense:int8', K + 4, 0.04],
    ['topk:5:ms', 2 * K + 2 + 2, 0.004],
  ] as const)('%s: bytes a row and error', async (codec, bytes, error) => {
    const coded = await encodeLogits(codec, { logits, numClasses: K });
    expect([coded.bytes, coded.basisBytes]).toEqual([40 * bytes, 0]);
    expect(worst(await decodeLogits(coded), logits)).toBeLessThan(error);
  });

  test('klt is fitted to the rows, and more bytes lose less', async () => {
    const errors: number[] = [];
    for (const codec of ['klt:1', 'klt:4']) {
      const coded = await encodeLogits(codec, { logits, numClasses: K, seed: 9n });
      expect(coded.basisBytes).toBeGreaterThan(0);
      errors.push(worst(await decodeLogits(coded), centred));
    }
    expect(errors[1]).toBeLessThan(errors[0]! / 2);
  });

  test('records of one’s own reach the dither', async () => {
    const whole = { logits, numClasses: K, seed: 9n };
    const recipes = evaluationRecipes(40, () => [1, 1], 20);
    const coded = await encodeLogits('klt:4', { ...whole, recipes, recordIds: Int32Array.of(3, 11) });
    expect(coded.blobs!.offset.shape).toEqual([3]);
    const misread = { ...coded, seed: 8n };
    const [right, wrong] = [await decodeLogits(coded), await decodeLogits(misread).catch(() => null)];
    expect(worst(right, centred)).toBeLessThan(1.5);
    expect(wrong === null || worst(wrong, centred) > worst(right, centred)).toBe(true);
  });

  test.each([
    ['nonsense', { logits, numClasses: K }],
    ['features', { logits, numClasses: K }],
    ['delta:4', { logits, numClasses: K }],
    ['dense:f16', { logits, numClasses: 3 }],
    ['dense:f16', { logits: new Float32Array(0), numClasses: K }],
  ])('%s is refused with E_CONFIG (%#)', async (codec, rows) => {
    expect((await refusal(() => encodeLogits(codec, rows))).code).toBe('E_CONFIG');
  });
});
