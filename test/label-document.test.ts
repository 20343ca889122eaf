// docs/label-format.md against the files: the example is written and compared byte by byte, every table is compared with
// what the writer and the codecs write, and the Python of the document and of examples/ reads stores where it is installed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Artifact, openDraft } from '../src/artifact.ts';
import { RECIPE_FIELDS, RECIPE_NAMES } from '../src/label-format.ts';
import { type LabelHeader, type LabelRecords, LabelStore, LabelWriter } from '../src/labels.ts';
import { SIZE_DTYPES } from '../src/record-sizes.ts';
import { readHeader } from '../src/safetensors.ts';
import { METRICS } from '../src/stages/prune-metric.ts';
import { arrayOf, type TensorMap, tensor } from '../src/tensor.ts';
import { halfBits } from './reference/half.ts';
import { codingSpec, decode, encode, fitBasis } from './util/codes.ts';
import { scratch } from './util/hostile.ts';
import { openModel } from './util/jobs.ts';
import { labelStage as stage } from './util/label-stage.ts';
import { native } from './util/native.ts';
import { pythonWith, withoutPython } from './util/python.ts';
import { f32, symmetric } from './util/tensors.ts';

const document = readFileSync(new URL('../docs/label-format.md', import.meta.url), 'utf8');

/** The section under a heading of the document. */
function section(heading: string): string {
  const [, rest] = document.split(`\n## ${heading}\n`);
  expect(rest, heading).toBeDefined();
  return rest!.split('\n## ')[0]!;
}
/** The first fenced block of a language in some text. */
const fenced = (text: string, language: string): string =>
  new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\n\`\`\``).exec(text)![1]!;

async function write(
  dir: string,
  header: LabelHeader,
  records: LabelRecords,
  basis: TensorMap = {},
): Promise<Artifact> {
  const draft = await openDraft(dir, stage);
  const writer = await LabelWriter.open(draft, header);
  await writer.writeBasis(basis);
  await writer.append(records);
  await writer.finish();
  return draft.publish(null);
}

const EXAMPLE: LabelHeader = {
  codec: 'dense:f16',
  recipes: 'derived',
  numClasses: 3,
  recordsPerShard: 4,
  batch: 2,
  inputSize: 8,
  seed: 7,
  streamVersion: 1,
  augment: { cropScale: [0.5, 1], flip: false, cutout: 0, mix: 'none' },
  plan: { images: 3, batch: 2, epochs: 4, pruneRatio: 0.7, dropLast: false, keep: 'random-batches' },
};
const EXAMPLE_LOGITS = [1, -2, 0.5, 0, 3.25, -0.5, 5, 5, -10];

/** Lines of 16 bytes: offset, bytes, and what they spell. */
function hexLines(bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const spelt = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex.padEnd(47)}  ${spelt}`);
  }
  return lines;
}

describe('the example', () => {
  const text = section('An example, byte by byte');
  const records: LabelRecords = {
    recordIds: Int32Array.of(4, 7),
    offset: tensor('I32', [3], Int32Array.of(0, 2, 3)),
    recipes: null,
    tensors: { logits: tensor('F16', [3, 3], Uint16Array.from(EXAMPLE_LOGITS, halfBits)) },
    blobs: null,
  };

  test('is what the writer writes, byte by byte', async () => {
    const artifact = await write(join(scratch(), 'labels'), EXAMPLE, records);
    expect(hexLines(readFileSync(artifact.path('shard-00001.safetensors')))).toEqual(fenced(text, 'hex').split('\n'));
    expect(readFileSync(artifact.path('labels.json'), 'utf8').trimEnd()).toBe(fenced(text, 'json'));
    expect(artifact.manifest.files.map((file) => file.path)).toEqual(['labels.json', 'shard-00001.safetensors']);
  });

  test('typed in from the page it is a store: the values the page tells', async () => {
    const bytes = fenced(text, 'hex')
      .split('\n')
      .flatMap((line) => line.slice(6, 53).trim().split(' '))
      .map((byte) => Number.parseInt(byte, 16));
    const draft = await openDraft(join(scratch(), 'labels'), stage);
    await draft.writeFile('shard-00001.safetensors', Uint8Array.from(bytes));
    await draft.writeJson('labels.json', JSON.parse(fenced(text, 'json')));
    await using store = await LabelStore.open(await draft.publish(null));
    expect([...store.recordIds]).toEqual([4, 7]);
    const { tensors, offset } = await store.readRecords(Int32Array.of(0, 1));
    expect([...arrayOf(offset, 'I32')]).toEqual([0, 2, 3]);
    expect([...arrayOf(tensors.logits!, 'F16')]).toEqual(EXAMPLE_LOGITS.map(halfBits));
    const told = [...text.matchAll(/\| ([-\d., ]+) \|$/gm)].map((match) => match[1]!.split(', ').map(Number));
    expect(told.slice(-3)).toEqual([EXAMPLE_LOGITS.slice(0, 3), EXAMPLE_LOGITS.slice(3, 6), EXAMPLE_LOGITS.slice(6)]);
  });
});

test('the tensors of a shard are those of the table', async () => {
  const documented = new Map(
    [...section('Tensors of a shard').matchAll(/^\| `([^`]+)` \| (\w+) \| `([^`]+)` \|/gm)].map((m) => [
      m[1]!,
      `${m[2]} ${m[3]}`,
    ]),
  );
  const { recipes } = codingSpec('dense:f16', 9, 5, { lengths: [5, 4] });
  const records: LabelRecords = {
    recordIds: Int32Array.of(0, 1),
    offset: recipes.offset,
    recipes,
    tensors: {},
    blobs: { data: tensor('U8', [7], new Uint8Array(7)), offset: tensor('I64', [3], BigInt64Array.of(0n, 1n, 7n)) },
  };
  const artifact = await write(join(scratch(), 'labels'), { ...EXAMPLE, recipes: 'explicit' }, records);
  const { tensors } = await readHeader(artifact.path('shard-00000.safetensors'));
  const letters: Readonly<Record<number, string>> = { 2: 'R', 3: '3', 4: '4', 9: 'M', 7: 'bytes' };
  const sizes = ['recordGap', 'recordRows', 'blobBytes'];
  const shown = (name: string, { dtype, shape }: { dtype: string; shape: readonly number[] }): string =>
    `${sizes.includes(name) ? 'size' : dtype} [${shape.map((n) => letters[n]).join(', ')}]`;
  const seen = new Map([...tensors].map(([name, entry]) => [name, shown(name, entry)]));
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(seen));
  expect(section('Tensors of a shard')).toContain(
    `A *size* is ${SIZE_DTYPES.join(', ').replace(/, (\w+)$/, ' or $1')},`,
  );
  for (const name of sizes) expect(SIZE_DTYPES).toContain(tensors.get(name)!.dtype);
  for (const name of RECIPE_NAMES) expect(documented.get(name)).toContain(RECIPE_FIELDS[name].dtype);
});

describe('the tensors of the codecs are those of the table', () => {
  const text = section('Tensors of the codecs');
  const rows = [...text.matchAll(/^\| (`[^|]+`) \| `([^`]+)`( of the basis)? \| (\w+) \| `([^`]+)` \|/gm)].map((m) => ({
    codecs: [...m[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
    name: m[2]!,
    basis: m[3] !== undefined,
    dtype: m[4]!,
    shape: m[5]!,
  }));
  const names = ['dense:f16', 'dense:int8', 'dense:int4', 'topk:3:mr', 'topk:3:ms', 'topk:3:mrs', 'features'];

  test('every kind of codec is in the document', () => {
    for (const codec of native().codecs()) expect(document, codec).toContain(`\`${codec.split(':')[0]}`);
    const shown = rows.flatMap(({ codecs }) => codecs);
    for (const codec of names)
      expect(
        shown.some((form) => covers(form, codec)),
        codec,
      ).toBe(true);
  });

  /** Whether a row of the table speaks of a codec: its name, or its form with m and MODE filled in. */
  const covers = (form: string, codec: string): boolean =>
    new RegExp(`^${form.replace(':m:', ':\\d+:').replace('MODE', 'm\\w+')}$`).test(codec);

  test.each(names)('%s', async (codec) => {
    const [m, k] = [6, 5];
    const model = openModel({ numClasses: k });
    const width = model.stateDict()['classifier.weight']!.shape[1]!;
    const features = f32([m, width], symmetric([m, width], 3, 2));
    const answers = { logits: f32([m, k], symmetric([m, k], 2, 6)), features };
    const spec = codingSpec(codec, m, k);
    const basis = await fitBasis(spec, answers, { teachers: [model] });
    model.dispose();
    const labels = await encode({ ...spec, basis }, answers);
    const sizes: Readonly<Record<string, number>> = {
      ...{ M: m, K: k, D: width, m: 3, '1': 1, '2': 2 },
      'ceil(K/2)': Math.ceil(k / 2),
      'ceil(m*b/8)': Math.ceil((3 * 3) / 8), // b = 3 bits for five classes
    };
    const wanted = rows
      .filter(({ codecs }) => codecs.some((form) => covers(form, codec)))
      .map(({ name, basis: once, dtype, shape }) => {
        const dims = shape.slice(1, -1).split(', ');
        return `${once ? 'basis ' : ''}${name} ${dtype} [${dims.map((dim) => sizes[dim])}]`;
      });
    const told = (prefix: string, map: TensorMap) =>
      Object.entries(map).map(([name, view]) => `${prefix}${name} ${view.dtype} [${view.shape}]`);
    expect([...told('label.', labels.tensors), ...told('basis ', basis)].sort()).toEqual(wanted.sort());
    expect(labels.blobs).toBe(null);
  });
});

test('every metric is defined', () => {
  const text = section('Pruned and re-encoded stores');
  expect([...text.matchAll(/^\| `(\w+)` \|/gm)].map((m) => m[1])).toEqual([...METRICS]);
});

describe('Python', () => {
  const python = pythonWith('numpy', 'safetensors');
  const [m, k] = [6, 5]; // an odd number of classes: half a byte of int4 is left over

  /** A store of six rows in two records, and what it decodes to. */
  async function stored(dir: string, codec: string): Promise<number[]> {
    const { recipes, ...spec } = codingSpec(codec, m, k, { lengths: [4, 2] });
    const answers = { logits: f32([m, k], symmetric([m, k], 8, 9)), features: null };
    const labels = await encode({ ...spec, recipes }, answers);
    const records = { recordIds: Int32Array.of(4, 7), offset: recipes.offset, recipes, ...labels };
    await write(dir, { ...EXAMPLE, codec, recipes: 'explicit', numClasses: k, batch: 4 }, records);
    return [...arrayOf(await decode({ ...spec, recipes }, labels), 'F32')];
  }

  test.skipIf(python === null)(
    `examples/read-labels.py decodes the dense codecs bit for bit${withoutPython(python, 'numpy and safetensors')}`,
    async () => {
      const script = new URL('../examples/read-labels.py', import.meta.url).pathname;
      const program = `
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location('reader', sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
print(json.dumps([[record, logits.astype('float64').ravel().tolist(), index.tolist()]
                  for record, logits, index in reader.records(sys.argv[2])]))`;
      for (const codec of ['dense:f16', 'dense:int8', 'dense:int4']) {
        const dir = join(scratch(), 'labels');
        const wanted = await stored(dir, codec);
        const { stdout, stderr } = spawnSync(python!, ['-c', program, script, dir], { encoding: 'utf8' });
        const got = JSON.parse(stdout || 'null');
        expect(got, stderr).toEqual([
          [4, wanted.slice(0, 4 * k), [0, 1, 2, 3]],
          [7, wanted.slice(4 * k), [4, 5]],
        ]);
      }
    },
  );

  test.skipIf(python === null)(
    `the lines of the document read a record${withoutPython(python, 'numpy and safetensors')}`,
    async () => {
      const root = scratch();
      const wanted = await stored(join(root, 'labels'), 'dense:f16');
      const program = `${fenced(section('Reading it in Python'), 'python')}\nprint(json.dumps([logits.astype('float64').ravel().tolist(), images.tolist()]))`;
      mkdirSync(join(root, 'here'), { recursive: true });
      writeFileSync(join(root, 'here', 'read.py'), program);
      const { stdout, stderr } = spawnSync(python!, [join('here', 'read.py')], { cwd: root, encoding: 'utf8' });
      expect(JSON.parse(stdout || 'null'), stderr).toEqual([wanted.slice(0, 4 * k), [0, 1, 2, 3]]);
    },
  );
});
