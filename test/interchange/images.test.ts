// Images out: as a folder, as WebDataset shards and as Parquet. Each is read back, by this package, by a reader written
// from the format's page, by the library's own reader, and by Python's libraries where they are.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { describe, expect, test, vi } from 'vitest';
import { openArtifact, openDraft } from '../../src/artifact.ts';
import { openDataset } from '../../src/datasets/index.ts';
import { openSyntheticSet } from '../../src/datasets/synthetic-set.ts';
import type { Split } from '../../src/datasets/types.ts';
import { namesOf, shardsOf } from '../../src/interchange/image-names.ts';
import { EXPORT_FORMATS } from '../../src/interchange/index.ts';
import { tarMember } from '../../src/interchange/webdataset.ts';
import { exporting, madeImages } from '../util/exchange.ts';
import { refusal, scratch } from '../util/hostile.ts';
import { labelStage } from '../util/label-stage.ts';
import { pythonWith, runPython, withoutPython } from '../util/python.ts';
import { tiny } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const { images } = madeImages(tiny({ synthesize: { ipc: 3, encoding: 'jpeg', iterations: 2 } }));

/** The set's files in its order, with their classes. */
async function originals(): Promise<{ bytes: Buffer; label: number }[]> {
  const { manifest, dir } = await openArtifact(images());
  const files = manifest.files.filter(({ path }) => path.startsWith('images/'));
  return files.map(({ path }) => ({ bytes: readFileSync(join(dir, path)), label: Number(path.split('/')[1]) }));
}

async function exported(format: string, shardBytes?: number): Promise<string> {
  const out = join(scratch(), format);
  const done = await exporting({ format, labels: null, images: images(), out, ...(shardBytes && { shardBytes }) });
  const files = readdirSync(out, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const sizes = files.map((file) => readFileSync(join(file.parentPath, file.name)).length);
  expect(done).toEqual({ out, format, items: 9, files: files.length, bytes: sizes.reduce((sum, n) => sum + n, 0) });
  return out;
}

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('the table of export formats', () => {
  expect(EXPORT_FORMATS.map(({ name }) => name)).toEqual(['fkd', 'folder', 'webdataset', 'parquet']);
});

test('a size of files is refused where images share none', async () => {
  const out = join(scratch(), 'x');
  const error = await refusal(() =>
    exporting({ format: 'folder', labels: null, images: images(), out, shardBytes: 9 }),
  );
  expect([error.code, error.message]).toEqual([
    'E_CONFIG',
    'expected no size for --format folder for --shard-size but received 9',
  ]);
});

test('an image folder is the same dataset: pixels, order, classes and constants', async () => {
  const set = await openSyntheticSet(images());
  const folder = await openDataset('folder', await exported('folder'), {
    classes: null,
    verify: true,
    skipUnreadable: false,
  });
  for (const key of ['channels', 'classNames', 'mean', 'std'] as const) expect(folder[key], key).toEqual(set[key]);
  const pixels = async ({ read }: Split): Promise<string> => {
    const hash = createHash('sha256');
    for await (const chunk of read()) hash.update(chunk.images).update(new Uint8Array(chunk.labels.buffer));
    return hash.digest('hex');
  };
  expect(folder.train.count).toBe(9);
  expect(await pixels(folder.train)).toBe(await pixels(set.train));
});

/** Members of a ustar archive, by the page of the format. */
function untar(archive: Buffer): { name: string; data: Buffer }[] {
  const members: { name: string; data: Buffer }[] = [];
  let at = 0;
  while (archive[at] !== 0) {
    const header = archive.subarray(at, at + 512);
    const field = (from: number, length: number): string =>
      header.toString('latin1', from, from + length).replace(/[\0 ].*$/s, '');
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    expect(Number.parseInt(field(148, 8), 8)).toBe(sum);
    expect(field(257, 6)).toBe('ustar');
    const size = Number.parseInt(field(124, 12), 8);
    members.push({ name: field(0, 100), data: archive.subarray(at + 512, at + 512 + size) });
    at += 512 + 512 * Math.ceil(size / 512);
  }
  expect(archive.length - at, 'two blocks of zeros end it').toBe(1024);
  expect(archive.subarray(at).every((byte) => byte === 0)).toBe(true);
  return members;
}

describe('WebDataset', () => {
  test('every sample is a picture and its class under one key, in order, over shards of a size', async () => {
    const wanted = await originals();
    for (const limit of [2 ** 29, 8000, 1]) {
      const out = await exported('webdataset', limit);
      const shards = readdirSync(out).sort();
      expect(shards).toEqual(shards.map((_, i) => `shard-${String(i).padStart(6, '0')}.tar`));
      const files = shards.map((name) => readFileSync(join(out, name)));
      if (limit === 1) expect(shards).toHaveLength(9);
      if (limit === 8000) for (const file of files) expect(file.length - 1024).toBeLessThanOrEqual(8000);
      const members = files.flatMap(untar);
      expect(members).toHaveLength(18);
      for (const [i, { bytes, label }] of wanted.entries()) {
        const [picture, cls] = [members[2 * i]!, members[2 * i + 1]!];
        const key = `000${label}_00${i % 3}`;
        expect([picture.name, cls.name]).toEqual([`${key}.jpg`, `${key}.cls`]);
        expect(picture.data.equals(bytes)).toBe(true);
        expect(cls.data.toString()).toBe(String(label));
      }
    }
  });

  test('a member of whole blocks has no padding', () => {
    expect(tarMember('a', new Uint8Array(512))).toHaveLength(1024);
    expect(tarMember('a', new Uint8Array(0))).toHaveLength(512);
    expect(tarMember('a', new Uint8Array(513))).toHaveLength(1536);
  });

  const python = pythonWith('tarfile');
  test.skipIf(python === null)(`Python's tarfile reads the shards${withoutPython(python, 'tarfile')}`, async () => {
    const script = `
import hashlib, json, sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    print(json.dumps([[m.name, m.mode, m.mtime, hashlib.sha256(tar.extractfile(m).read()).hexdigest()] for m in tar]))`;
    const shard = join(await exported('webdataset'), 'shard-000000.tar');
    const read = JSON.parse(runPython(python!, script, [shard])) as [string, number, number, string][];
    const pictures = read.filter(([name]) => name.endsWith('.jpg'));
    expect(pictures.map(([, , , hash]) => hash)).toEqual((await originals()).map(({ bytes }) => sha(bytes)));
    for (const [, mode, mtime] of read) expect([mode, mtime]).toEqual([0o644, 0]);
  });
});

describe('Parquet', () => {
  const CLASSES = ['0', '1', '2'];

  test("images and labels in Hugging Face's layout, over shards of a size", async () => {
    const wanted = await originals();
    for (const [limit, shards] of [
      [2 ** 29, 1],
      [1, 9],
    ] as const) {
      const dir = join(await exported('parquet', limit), 'data');
      const names = readdirSync(dir).sort();
      expect(names).toHaveLength(shards);
      expect(names[0]).toBe(`train-00000-of-0000${shards}.parquet`);
      const rows: { image: { bytes: Uint8Array; path: string }; label: bigint }[] = [];
      for (const name of names) {
        const file = await asyncBufferFromFile(join(dir, name));
        const { key_value_metadata: metadata } = await parquetMetadataAsync(file);
        const { info } = JSON.parse(metadata!.find(({ key }) => key === 'huggingface')!.value!) as { info: object };
        const label = { names: CLASSES, _type: 'ClassLabel' };
        expect(info).toEqual({ features: { image: { _type: 'Image' }, label } });
        rows.push(...((await parquetReadObjects({ file, utf8: false })) as typeof rows));
      }
      expect(rows.map(({ label }) => Number(label))).toEqual(wanted.map(({ label }) => label));
      expect(rows.map(({ image }) => sha(image.bytes))).toEqual(wanted.map(({ bytes }) => sha(bytes)));
      expect(rows[4]!.image.path).toBe('0001_001.jpg');
    }
  });

  const python = pythonWith('pyarrow.parquet');
  test.skipIf(python === null)(`pyarrow reads them${withoutPython(python, 'pyarrow')}`, async () => {
    const script = `
import hashlib, json, sys
import pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
rows = table.to_pylist()
print(json.dumps([str(table.schema.field('image').type), str(table.schema.field('label').type),
                  [[hashlib.sha256(r['image']['bytes']).hexdigest(), r['image']['path'], r['label']] for r in rows]]))`;
    const path = join(await exported('parquet'), 'data', 'train-00000-of-00001.parquet');
    const [image, label, rows] = JSON.parse(runPython(python!, script, [path])) as [
      string,
      string,
      [string, string, number][],
    ];
    expect([image, label]).toEqual(['struct<bytes: binary, path: string>', 'int64']);
    const wanted = (await originals()).map(({ bytes, label }, i) => [sha(bytes), `000${label}_00${i % 3}.jpg`, label]);
    expect(rows).toEqual(wanted);
  });
});

describe('an unfinished folder where the export would work', () => {
  const attempt = (out: string) => exporting({ format: 'folder', labels: null, images: images(), out });

  test.each(['', '/'])('of a stage is refused and left as it was, --out ending in "%s"', async (slash) => {
    const out = join(scratch(), 'labels');
    const draft = await openDraft(out, labelStage);
    await draft.writeJson('precious.json', 1);
    const error = await refusal(() => attempt(out + slash));
    expect(error).toMatchObject({ code: 'E_CONFIG', details: { path: `${out}.partial` } });
    expect(error.message).toContain('interrupted stage');
    expect((await openDraft(out, labelStage)).has('precious.json')).toBe(true);
    expect(existsSync(out)).toBe(false);
  });

  test('of an interrupted export is begun anew: nothing of it remains', async () => {
    const out = join(scratch(), 'folder');
    mkdirSync(join(`${out}.partial`, '0009'), { recursive: true });
    writeFileSync(join(`${out}.partial`, '0009', '000.jpg'), 'half an ima');
    await attempt(out);
    expect(readdirSync(out).sort()).toEqual(['0000', '0001', '0002', 'dataset.json']);
    expect(existsSync(`${out}.partial`)).toBe(false);
  });

  test('a folder that holds files is refused and left as it was', async () => {
    const out = scratch();
    writeFileSync(join(out, 'precious'), '');
    expect((await refusal(() => attempt(out))).code).toBe('E_CONFIG');
    expect(readdirSync(out)).toEqual(['precious']);
  });
});

describe('names and shards', () => {
  test('byte order of names is the order of the set, above a thousand images of ten thousand classes too', async () => {
    const set = await openSyntheticSet(images());
    const description = { ...set.description, classNames: new Array(10450).fill('x'), ipc: 1200 };
    const names = namesOf({ ...set, description });
    const wanted = [0, 9, 10, 999, 1000, 9999, 10449].flatMap((classId) =>
      [0, 9, 99, 100, 999, 1000, 1199].map((id) => ({ classId, id })),
    );
    const paths = wanted
      .map(({ classId, id }) => names({ classId, id, path: '', bytes: 1 }))
      .map(({ folder, file }) => `${folder}/${file}`);
    expect([...paths].sort()).toEqual(paths);
  });

  test('shards hold what fits, in order, and at least one image each', () => {
    const list = [5, 5, 5, 30, 1, 1].map((bytes, id) => ({ bytes, id, classId: 0, path: '' }));
    const ids = (limit: number, overhead = 0): number[][] =>
      shardsOf(list, limit, overhead).map((s) => s.map(({ id }) => id));
    expect(ids(10)).toEqual([[0, 1], [2], [3], [4, 5]]);
    expect(ids(10, 5)).toEqual([[0], [1], [2], [3], [4], [5]]);
    expect(ids(1000)).toEqual([[0, 1, 2, 3, 4, 5]]);
    expect(shardsOf([], 10, 0)).toEqual([]);
  });
});
