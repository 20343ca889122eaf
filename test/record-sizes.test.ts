// The index of a shard: sizes in the smallest dtype that holds them, whose running sums are ids and offsets. What is
// written comes back whatever dtypes the shards of a store have; sizes of strangers that say anything else are refused, and
// so are stores of the layout before the first release.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Artifact, openDraft } from '../src/artifact.ts';
import { type LabelHeader, type LabelRecords, LabelStore, LabelWriter } from '../src/labels.ts';
import { blobOffsets, idsOf, indexTensors, rowOffsets } from '../src/record-sizes.ts';
import { readHeader } from '../src/safetensors.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../src/tensor.ts';
import { dice, refusal, scratch } from './util/hostile.ts';
import { labelStage as stage } from './util/label-stage.ts';
import { pythonWith, withoutPython } from './util/python.ts';

const K = 2;
const header: LabelHeader = {
  codec: 'dense:f16',
  recipes: 'derived',
  numClasses: K,
  recordsPerShard: 1000,
  batch: 300,
  inputSize: 8,
  seed: 1,
  streamVersion: 1,
  augment: {},
  plan: { epochs: 80_000, images: 300 },
};
const never = (what: string, name: string, received: unknown): never => {
  throw new Error(`${what} for ${name}: ${received}`);
};
const dtypes = (tensors: TensorMap): Record<string, string> =>
  Object.fromEntries(Object.entries(tensors).map(([name, { dtype }]) => [name, dtype]));

describe('sizes', () => {
  test.each([
    [[0, 255], 'U8'],
    [[256, 1], 'U16'],
    [[3, 65_535], 'U16'],
    [[65_536, 0], 'U32'],
    [[2 ** 32 - 1, 7], 'U32'],
  ] as const)('%j are %s', (sizes, dtype) => {
    const { blobBytes } = indexTensors([0, 1], [1, 1], sizes);
    expect(blobBytes!.dtype).toBe(dtype);
    expect([...arrayOf(blobBytes!, dtype)]).toEqual([...sizes]);
    expect([...blobOffsets(blobBytes!, sizes[0] + sizes[1], never)]).toEqual([0, sizes[0], sizes[0] + sizes[1]]);
  });

  test('of 2^32 are E_INTERNAL', async () => {
    expect((await refusal(async () => indexTensors([0], [1], [2 ** 32]))).code).toBe('E_INTERNAL');
  });

  test('of random records come back: ids, rows and bytes as sums that whole numbers give', () => {
    const roll = dice(11);
    for (let round = 0; round < 200; round++) {
      const count = 1 + roll(30);
      const [step, most] = [1 + roll(3) * 400, [3, 300, 70_000][roll(3)]!];
      let id = roll(2) * roll(2 ** 30) - 1;
      const ids = Array.from({ length: count }, () => (id += 1 + roll(step)));
      const rows = ids.map(() => 1 + roll(most));
      const bytes = ids.map(() => roll(2 ** (1 + roll(32))));
      const tensors = indexTensors(ids, rows, bytes);
      const total = (list: readonly number[]) => Number(list.reduce((sum, size) => sum + BigInt(size), 0n));
      const reach = { firstId: ids[0]!, lastId: ids.at(-1)! };
      expect([...idsOf(tensors.recordGap!, reach, never)]).toEqual(ids);
      const offset = rowOffsets(tensors.recordRows!, total(rows), most, never);
      const ends = blobOffsets(tensors.blobBytes!, total(bytes), never);
      for (let i = 0; i <= count; i++)
        expect([offset[i], ends[i]]).toEqual([total(rows.slice(0, i)), total(bytes.slice(0, i))]);
    }
  });

  test('that add up past 2^53 are no total, however they round', () => {
    const many = tensor('U32', [2 ** 21 + 2], new Uint32Array(2 ** 21 + 2).fill(2 ** 32 - 1));
    for (const total of [Number.MAX_SAFE_INTEGER, 2 ** 53 - 2 ** 20])
      expect(() => blobOffsets(many, total, never)).toThrow(/bytes in all/);
  });
});

/** Records that tell themselves apart: row j of record id is (id mod 2048, j). */
function records(ids: readonly number[], rowsOf: (id: number) => number): LabelRecords {
  const offset = [0];
  for (const id of ids) offset.push(offset.at(-1)! + rowsOf(id));
  const half = (value: number): number => {
    // whole numbers up to 2048 as halves
    if (value === 0) return 0;
    const exponent = Math.floor(Math.log2(value));
    return ((exponent + 15) << 10) | ((value - 2 ** exponent) * 2 ** (10 - exponent));
  };
  const logits = ids.flatMap((id) => Array.from({ length: rowsOf(id) }, (_, j) => [half(id % 2048), half(j)]).flat());
  return {
    recordIds: Int32Array.from(ids),
    offset: tensor('I32', [offset.length], Int32Array.from(offset)),
    recipes: null,
    tensors: { logits: tensor('F16', [offset.at(-1)!, K], Uint16Array.from(logits)) },
    blobs: null,
  };
}

async function write(dir: string, ids: readonly number[], rowsOf: (id: number) => number): Promise<Artifact> {
  const draft = await openDraft(dir, stage);
  const writer = await LabelWriter.open(draft, header);
  await writer.append(records(ids, rowsOf));
  await writer.finish();
  return draft.publish(null);
}

const S = header.recordsPerShard;
/** A shard of short records, one that begins past a byte with records of 300 rows, one that begins past two bytes. */
const MIXED = [0, 1, 2, 255, S + 300, S + 301, S + 900, 70 * S + 5, 70 * S + 700, 70 * S + 701];
const mixedRows = (id: number): number => (id >= S && id < 2 * S ? 300 - (id % 2) : 1 + (id % 3));

describe('a store whose shards have sizes of different dtypes', () => {
  test('has each as small as it goes, and every byte of them counted', async () => {
    const artifact = await write(join(scratch(), 'labels'), MIXED, mixedRows);
    const found = [];
    for (const { file } of (await LabelStore.open(artifact)).index.shards) {
      const { tensors } = await readHeader(artifact.path(file));
      found.push([tensors.get('recordGap')!.dtype, tensors.get('recordRows')!.dtype]);
    }
    expect(found).toEqual([
      ['U8', 'U8'],
      ['U16', 'U16'],
      ['U32', 'U8'],
    ]);
    await using store = await LabelStore.open(artifact);
    expect(store.bytes().index).toBe(4 * (1 + 1) + 3 * (2 + 2) + 3 * (4 + 1));
  });

  test('gives any selection of records', async () => {
    await using store = await LabelStore.open(await write(join(scratch(), 'labels'), MIXED, mixedRows));
    expect([...store.recordIds]).toEqual(MIXED);
    const roll = dice(2);
    for (let round = 0; round < 50; round++) {
      const positions = Int32Array.from({ length: roll(8) }, () => roll(MIXED.length));
      const wanted = records(
        [...positions].map((p) => MIXED[p]!),
        mixedRows,
      );
      const got = await store.readRecords(positions);
      expect([...got.recordIds]).toEqual([...wanted.recordIds]);
      expect(got.offset).toEqual(wanted.offset);
      expect(arrayOf(got.tensors.logits!, 'F16')).toEqual(arrayOf(wanted.tensors.logits!, 'F16'));
    }
  });

  test('is resumed after any shard to the same bytes', async () => {
    const root = scratch();
    const whole = await write(join(root, 'whole'), MIXED, mixedRows);
    for (const stop of [5, 8]) {
      const dir = join(root, `stopped${stop}`);
      const first = await LabelWriter.open(await openDraft(dir, stage), header);
      await first.append(records(MIXED.slice(0, stop), mixedRows)); // then the process dies
      const draft = await openDraft(dir, stage);
      const writer = await LabelWriter.open(draft, header);
      const left = [...writer.remaining(Int32Array.from(MIXED))];
      expect(left.length).toBe(MIXED.length - (stop === 5 ? 4 : 7));
      await writer.append(records(left, mixedRows));
      await writer.finish();
      expect((await draft.publish(null)).id).toBe(whole.id);
    }
  });

  const python = pythonWith('numpy', 'safetensors');
  test.skipIf(python === null)(
    `is read by examples/read-labels.py${withoutPython(python, 'numpy and safetensors')}`,
    async () => {
      const { dir } = await write(join(scratch(), 'labels'), MIXED, mixedRows);
      const program = `
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location('reader', sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
print(json.dumps([[record, len(logits), logits[:, 0].min().item(), logits[:, 0].max().item(), logits[-1, 1].item()]
                  for record, logits, _ in reader.records(sys.argv[2])]))`;
      const script = new URL('../examples/read-labels.py', import.meta.url).pathname;
      const { stdout, stderr } = spawnSync(python!, ['-c', program, script, dir], { encoding: 'utf8' });
      const wanted = MIXED.map((id) => [id, mixedRows(id), id % 2048, id % 2048, mixedRows(id) - 1]);
      expect(JSON.parse(stdout || 'null'), stderr).toEqual(wanted);
    },
  );
});

/** A good store of ids 0, 2, 3, 4 with 2 rows each, and then with one file changed, whole and hashed as any other. */
async function forged(change: (tensors: TensorMap) => void, labels: object = {}): Promise<Artifact> {
  const root = scratch();
  const source = await write(join(root, 'good'), [0, 2, 3, 4], () => 2);
  const draft = await openDraft(join(root, 'bad'), stage);
  for (const { path } of source.manifest.files) await draft.writeFile(path, readFileSync(source.path(path)));
  const tensors = { ...(await draft.readTensors('shard-00000.safetensors')) };
  expect(dtypes(tensors)).toMatchObject({ recordGap: 'U8', recordRows: 'U8' });
  change(tensors);
  await draft.writeTensors('shard-00000.safetensors', tensors);
  await draft.writeJson('labels.json', { ...(await draft.readJson<object>('labels.json')), ...labels });
  return draft.publish(null);
}
const u8 = (...values: number[]): TensorView => tensor('U8', [values.length], Uint8Array.from(values));
const u32 = (...values: number[]): TensorView => tensor('U32', [values.length], Uint32Array.from(values));
const put =
  (name: string, view: TensorView) =>
  (tensors: TensorMap): void => {
    tensors[name] = view;
  };

test('sizes in a wider dtype than they need, as another program may write them, are read', async () => {
  const bad = await forged((tensors) => {
    tensors.recordGap = u32(0, 2, 1, 1);
    tensors.recordRows = tensor('U16', [4], Uint16Array.of(2, 2, 2, 2));
  });
  await using store = await LabelStore.open(bad);
  expect([...store.recordIds]).toEqual([0, 2, 3, 4]);
  expect(store.bytes().index).toBe(4 * 4 + 4 * 2);
  expect((await store.readRecords(Int32Array.of(2))).tensors).toEqual(records([3], () => 2).tensors);
});

const far = { file: 'shard-00000.safetensors', firstId: 0, lastId: 2 ** 31, records: 4, rows: 8 };
test.each<[string, (tensors: TensorMap) => void, RegExp, object?]>([
  ['an id twice', put('recordGap', u8(0, 2, 0, 2)), /at least 1 for recordGap\[2\]/],
  ['a first id elsewhere', put('recordGap', u8(1, 1, 1, 1)), /ids 0 to 4 for recordGap but received "1 to 4"/],
  ['a last id elsewhere', put('recordGap', u8(0, 2, 1, 2)), /ids 0 to 4 for recordGap but received "0 to 5"/],
  ['gaps past 2^32', put('recordGap', u32(0, 2, 2 ** 32 - 1, 4)), /received "0 to 4294967301"/],
  ['signed gaps', put('recordGap', tensor('I32', [4], Int32Array.of(0, 5, -2, 1))), /U8, U16, U32 \[4\]/],
  ['a gap too many', put('recordGap', u8(0, 1, 1, 1, 1)), /"U8 \[5\]"/],
  ['no gaps', (tensors) => Reflect.deleteProperty(tensors, 'recordGap'), /recordGap but received "none"/],
  [
    'an id that no int32 holds',
    put('recordGap', u32(0, 1, 1, 2 ** 31 - 2)),
    /ids below 2\^31/,
    { recordsPerShard: 2 ** 32, shards: [far] },
  ],
  ['a record without rows', put('recordRows', u8(2, 0, 4, 2)), /1 to 300 rows for recordRows\[1\] but received 0/],
  [
    'a record of more rows than a batch',
    put('recordRows', tensor('U16', [4], Uint16Array.of(2, 2, 2, 301))),
    /1 to 300 rows for recordRows\[3\] but received 301/,
  ],
  ['rows that are too few', put('recordRows', u8(2, 2, 2, 1)), /8 rows in all for recordRows but received 7/],
  ['rows that are too many', put('recordRows', u8(2, 2, 2, 3)), /8 rows in all for recordRows but received 9/],
  ['rows as halves', put('recordRows', tensor('F16', [4], new Uint16Array(4))), /"F16 \[4\]"/],
  ['rows of rows', put('recordRows', tensor('U8', [4, 1], new Uint8Array(4))), /"U8 \[4,1\]"/],
  ['bytes of blobs that are not there', put('blobBytes', u8(0, 0, 0, 0)), /a tensor but received "blobBytes"/],
])('a shard with %s is E_DATA', async (_, change, message, labels = {}) => {
  const bad = await forged(change, labels);
  const error = await refusal(() => LabelStore.open(bad));
  expect(error.code, error.message).toBe('E_DATA');
  expect(error.message).toMatch(message);
  expect(error.details.path).toBe(bad.path('shard-00000.safetensors'));
});

describe('the layout of before the first release', () => {
  const old = (tensors: TensorMap): void => {
    for (const name of ['recordGap', 'recordRows']) Reflect.deleteProperty(tensors, name);
    tensors.recordId = tensor('I32', [4], Int32Array.of(0, 2, 3, 4));
    tensors.recordOffset = tensor('I64', [5], BigInt64Array.of(0n, 2n, 4n, 6n, 8n));
  };

  test('is E_MISMATCH, and says what to do', async () => {
    const store = await forged(old, { format: 1 });
    const error = await refusal(() => LabelStore.open(store));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toMatch(/expected 2 for format but received 1\n.*before the first release: relabel/);
    expect(error.details.path).toBe(store.path('labels.json'));
  });

  test('under the number of this one is E_DATA', async () => {
    const store = await forged(old);
    expect(await refusal(() => LabelStore.open(store))).toMatchObject({ code: 'E_DATA' });
  });
});
