// Export and import: artifacts of this package to and from the formats of src/interchange/. What is written appears whole
// or not at all; an imported label store is an artifact like a stage's, resumed when it was interrupted, and may stand
// wherever `--labels` is asked for.

import { existsSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { loadNative } from './addon.ts';
import { type Artifact, openArtifact, openDraft, type StageHeader, stageKey } from './artifact.ts';
import { guarded, syncParent } from './atomic-file.ts';
import { datasetId } from './datasets/identity.ts';
import { imageName, openSyntheticSet, type SyntheticDataset } from './datasets/synthetic-set.ts';
import { expected, LpldError } from './errors.ts';
import { EXPORT_FORMATS, LABEL_FORMATS } from './interchange/index.ts';
import type { ExportImage, LabelBatch, LabelExport, LabelImport } from './interchange/types.ts';
import { type LabelHeader, LabelStore, LabelWriter } from './labels.ts';
import type { ProgressSink } from './progress.ts';
import { sliceRecipes } from './recipe.ts';
import { existing, makeFolder } from './stage-runner.ts';
import { STREAM_VERSION } from './stages/label-plan.ts';
import { poolOf, readPool } from './stages/pool.ts';
import { throwIfCancelled } from './stages/shared.ts';
import { type TensorView, tensor } from './tensor.ts';

interface ExchangeOptions {
  readonly format: string;
  readonly images: string; // folder of the images artifact
  readonly out: string;
  readonly progress: ProgressSink;
  readonly signal: AbortSignal;
}

export interface ExportOptions extends ExchangeOptions {
  /** Folder of the label store; null for formats of images. */
  readonly labels: string | null;
  readonly shardBytes: number;
}

export interface ImportOptions extends ExchangeOptions {
  readonly dir: string;
  /** P, px of the network's input; null: the size of the images. */
  readonly inputSize: number | null;
}

/** What an export wrote. */
export interface Exported {
  readonly out: string;
  readonly format: string;
  readonly items: number; // records or images
  readonly files: number;
  readonly bytes: number;
}

function formatOf<T extends { readonly name: string }>(table: readonly T[], name: string): T {
  const found = table.find((format) => format.name === name);
  if (found !== undefined) return found;
  const names = table.map((format) => format.name).join(', ');
  throw new LpldError('E_CONFIG', expected(`one of ${names}`, '--format', name), { option: 'format' });
}

/** Runs `work` in an empty folder that takes its final name when the work is done, and is removed when it fails. */
async function wholeFolder(out: string, work: (dir: string) => Promise<void>): Promise<void> {
  if (existsSync(out) && (await guarded(out, () => readdir(out))).length > 0)
    throw new LpldError('E_CONFIG', expected('a new or empty folder', '--out', out), { path: out });
  const dir = `${out}.partial`;
  await guarded(dir, () => rm(dir, { recursive: true, force: true }));
  await makeFolder(dir);
  try {
    await work(dir);
    await guarded(out, async () => {
      await rm(out, { recursive: true, force: true });
      await rename(dir, out);
    });
  } catch (thrown) {
    await rm(dir, { recursive: true, force: true }).catch(() => {}); // the disk may be the reason
    throw thrown;
  }
  await syncParent(resolve(out));
}

async function sizeOf(dir: string): Promise<{ files: number; bytes: number }> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  let bytes = 0;
  for (const file of files) bytes += (await stat(join(file.parentPath, file.name))).size;
  return { files: files.length, bytes };
}

async function imagesOf(set: SyntheticDataset, artifact: Artifact): Promise<ExportImage[]> {
  const { classes, ipc, encoding } = set.description;
  const bytes = new Map(artifact.manifest.files.map((file) => [file.path, file.bytes]));
  return classes.flatMap((classId) =>
    Array.from({ length: ipc }, (_, id) => {
      const name = imageName(classId, id, encoding);
      return { path: artifact.path(name), classId, id, bytes: bytes.get(name)! };
    }),
  );
}

/** Bytes of decoded logits held at a time. */
const HELD_BYTES = 64 << 20;

/** The records of a store, replayed and decoded to f16. */
function labelsOf(store: LabelStore, set: SyntheticDataset, signal: AbortSignal): LabelExport {
  const pool = poolOf(store);
  const { batch, numClasses, inputSize } = store.index;
  const { batchesPerEpoch, images } = pool.plan;
  if (images !== set.train.count || numClasses !== set.classNames.length)
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `labels of ${set.train.count} images of ${set.classNames.length} classes`,
        '--labels',
        `${images} of ${numClasses}`,
      ),
      { path: store.artifact.dir },
    );
  const { ops } = loadNative('cpu');
  const { size } = set.description;
  const sizes = new Int32Array(2 * images).fill(size);
  const chunk = Math.max(1, Math.floor(HELD_BYTES / (4 * batch * numClasses)));
  async function* read(): AsyncGenerator<LabelBatch> {
    for (let first = 0; first < store.numRecords; first += chunk) {
      throwIfCancelled(signal);
      const count = Math.min(chunk, store.numRecords - first);
      const chosen = Int32Array.from({ length: count }, (_, i) => first + i);
      const { recipes, target } = await readPool(pool, chosen, {
        sizes,
        inputSize,
        temperature: 1,
        temperatureSquared: false,
      });
      if (target.kind !== 'soft') throw new LpldError('E_INTERNAL', expected('soft labels', 'a store', target.kind));
      const decoded = ops.decode(target.codec, target.tensors, target.basis, numClasses);
      const logits = ops.encode('dense:f16', decoded, {}).logits!;
      let row = 0;
      for (let i = 0; i < count; i++) {
        const own = sliceRecipes(recipes, i, i + 1);
        const rows = own.index.shape[0]!;
        const data = logits.data.subarray(2 * numClasses * row, 2 * numClasses * (row + rows));
        const view: TensorView = { dtype: 'F16', shape: [rows, numClasses], data };
        row += rows;
        const position = first + i;
        const epoch = Math.floor(position / batchesPerEpoch);
        yield { epoch, batch: position % batchesPerEpoch, recipes: own, logits: view };
      }
    }
  }
  return { records: store.numRecords, batch, batchesPerEpoch, read };
}

/**
 * Writes labels or images in a foreign format.
 *
 * Records keep their place: record p of the store is batch p mod nb of epoch floor(p / nb). In a store pruned by prefix
 * that is its id; a pool with gaps is numbered anew.
 *
 * @throws {LpldError} E_CONFIG: unknown format, a role that is missing, an `out` that holds files; E_MISMATCH: labels of
 *   other images, or what the format cannot say; E_DEVICE: no space
 */
export async function exportData(options: ExportOptions): Promise<Exported> {
  const format = formatOf(EXPORT_FORMATS, options.format);
  const artifact = await openArtifact(options.images);
  const set = await openSyntheticSet(options.images);
  const images = await imagesOf(set, artifact);
  if ((format.holds === 'labels') !== (options.labels !== null)) {
    const wanted = format.holds === 'labels' ? 'the folder of labels' : 'no folder';
    throw new LpldError('E_CONFIG', expected(`${wanted} for --format ${format.name}`, '--labels', options.labels));
  }
  await using store = options.labels === null ? null : await LabelStore.open(await openArtifact(options.labels));
  const madeFrom = store?.artifact.manifest.inputs.images;
  if (madeFrom !== undefined && madeFrom !== artifact.id)
    throw new LpldError(
      'E_MISMATCH',
      expected(`labels of the images ${artifact.id.slice(0, 12)}`, '--labels', madeFrom),
      {
        labels: store!.artifact.dir,
        images: artifact.dir,
      },
    );
  const labels = store === null ? null : labelsOf(store, set, options.signal);
  const items = labels?.records ?? images.length;
  const { out, shardBytes, signal } = options;
  const progress = options.progress.stage(`export ${format.name}`);
  progress.start(items, labels === null ? 'image' : 'record', basename(out));
  const onDone = (done: number): void => {
    throwIfCancelled(signal);
    progress.update(done);
  };
  await wholeFolder(out, (dir) => format.write({ set, images, labels, out: dir, shardBytes, onDone }));
  progress.finish();
  return { out, format: format.name, items, ...(await guarded(out, () => sizeOf(out))) };
}

/** Shards of at most this size: writing holds one. */
const SHARD_BYTES = 128 << 20;

/** What labels.json says of an imported store. Its Recipes are stored, so seed, streams and augmentation draw nothing. */
function importHeader(
  found: LabelImport,
  target: { images: number; inputSize: number; numClasses: number },
): LabelHeader {
  const { batch, epochs, records, dropLast, batchesPerEpoch } = found;
  const { images, inputSize, numClasses } = target;
  const full = epochs * batchesPerEpoch;
  // Half a record more than are there, so that the floor of the published rule gives back exactly what is there.
  const pruneRatio = records === full ? 0 : (full - records - 0.5) / full;
  return {
    codec: 'dense:f16',
    recipes: 'explicit',
    numClasses,
    recordsPerShard: Math.min(1024, Math.max(1, Math.floor(SHARD_BYTES / (batch * (2 * numClasses + 64))))),
    batch,
    inputSize,
    seed: 0,
    streamVersion: STREAM_VERSION,
    augment: {},
    plan: { images, batch, epochs, pruneRatio, dropLast, keep: 'prefix' },
  };
}

/**
 * Makes a label store of this package from a foreign one, with explicit Recipes and the logits as they are (dense:f16).
 * Every byte of the foreign files counts for the key; an artifact of the same key is kept, an interrupted one resumed.
 *
 * @returns the artifact, of stage `import-labels`, made from the images
 * @throws {LpldError} E_CONFIG: unknown format; E_DATA naming the file: missing, damaged, not of these images; E_DEVICE
 */
export async function importLabels(options: ImportOptions): Promise<Artifact> {
  const format = formatOf(LABEL_FORMATS, options.format);
  const images = await openArtifact(options.images);
  const set = await openSyntheticSet(options.images);
  const { size } = set.description;
  const inputSize = options.inputSize ?? size;
  const target = { images: set.train.count, size, inputSize, numClasses: set.classNames.length };
  const { dir, out, signal } = options;
  const found = await format.open(dir, target);
  const progress = options.progress.stage(`import ${format.name}`);
  progress.start(0, 'record', `${found.records} records, hashing`);
  const header: StageHeader = {
    stage: 'import-labels',
    stageVersion: 1,
    config: { format: format.name, inputSize },
    inputs: {
      images: images.id,
      [format.name]: await datasetId(dir, found.files, { verify: true, facts: [format.name], signal }),
    },
    deviceClass: 'cpu',
    precision: 'fp32',
  };
  const kept = await existing(out);
  if (kept !== null && kept.manifest.key === stageKey(header)) return kept;
  await makeFolder(dirname(resolve(out)));
  const draft = await openDraft(out, header);
  const writer = await LabelWriter.open(draft, importHeader(found, target));
  const wanted = writer.remaining(Int32Array.from({ length: found.records }, (_, id) => id));
  progress.start(found.records, 'record', basename(out));
  progress.update(found.records - wanted.length);
  for (const [done, id] of wanted.entries()) {
    throwIfCancelled(signal);
    const { recipes, logits } = await found.read(id);
    const offset = tensor('I32', [2], Int32Array.of(0, logits.shape[0]!));
    await writer.append({ recordIds: Int32Array.of(id), offset, recipes, tensors: { logits } });
    progress.update(found.records - wanted.length + done + 1);
  }
  const { shards } = await writer.finish();
  progress.finish();
  const total = shards.reduce((sum, shard) => sum + shard.rows, 0);
  return draft.publish({ records: found.records, rows: total, codec: 'dense:f16', recipes: 'explicit' });
}
