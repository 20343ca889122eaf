// Export: labels and images of this package in the formats of src/interchange/. What is written appears whole or not at
// all. Labels are replayed and decoded here, so that a format sees Recipes and f16 logits of any store.

import { existsSync } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { loadNative } from './addon.ts';
import { type Artifact, DRAFT, openArtifact } from './artifact.ts';
import { guarded, syncParent } from './atomic-file.ts';
import { imageName, openSyntheticSet, type SyntheticDataset } from './datasets/synthetic-set.ts';
import { expected, LpldError } from './errors.ts';
import { EXPORT_FORMATS, formatNamed } from './interchange/index.ts';
import type { ExportImage, LabelBatch, LabelExport } from './interchange/types.ts';
import { LabelStore } from './labels.ts';
import type { CodeSpec, EncodedLabels, Recipes } from './native.ts';
import { makeFolder, whileLocked } from './output-folder.ts';
import { sliceRecipes } from './recipe.ts';
import { type CallOptions, settled } from './run-options.ts';
import { poolOf, readPool } from './stages/pool.ts';
import { defaultThreads, runJob, throwIfCancelled } from './stages/shared.ts';
import type { TensorView } from './tensor.ts';

export interface ExportOptions extends Pick<CallOptions, 'progress' | 'signal'> {
  /** fkd, folder, webdataset or parquet. */
  readonly format: string;
  /** Folder of the images artifact. */
  readonly images: string;
  /** Folder of the label store; null (default) for formats of images. */
  readonly labels?: string | null;
  /** A new or empty folder. */
  readonly out: string;
  /** Most bytes of one file, for formats in which images share files. Default: 512 MiB. */
  readonly shardBytes?: number;
}

/** Most bytes of one file of an export that is not told otherwise. */
const SHARD_BYTES = 2 ** 29;

/** What an export wrote. */
export interface Exported {
  readonly out: string;
  readonly format: string;
  readonly items: number; // records or images
  readonly files: number;
  readonly bytes: number;
}

/**
 * Runs `work` in an empty folder that takes its final name when the work is done, and is removed when it fails. The caller
 * holds `given`.
 */
async function wholeFolder(given: string, work: (dir: string) => Promise<void>): Promise<void> {
  const out = resolve(given); // a final slash would put the unfinished folder inside
  if (existsSync(out) && (await guarded(out, () => readdir(out))).length > 0)
    throw new LpldError(
      'E_CONFIG',
      expected('a new or empty folder', '--out', given, 'choose another --out, or remove what is there'),
      { path: given },
    );
  const dir = `${out}.partial`;
  if (existsSync(join(dir, DRAFT)))
    throw new LpldError('E_CONFIG', expected('a new folder', '--out', given, `${dir} holds an interrupted stage`), {
      path: dir,
    });
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
  await syncParent(out);
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

/** Encoded labels of some records as dense f16 logits, F16 [M, K], whatever their codec. */
async function halves(
  labels: CodeSpec & EncodedLabels,
  recipes: Recipes,
  numClasses: number,
  signal: AbortSignal,
): Promise<TensorView> {
  const native = loadNative('cpu');
  const { codec, basis, recordIds, seed, tensors, blobs } = labels;
  const common = { recordIds, seed, threads: defaultThreads(), numClasses, recipes };
  const { logits } = await runJob(
    signal,
    (on) => native.decode({ ...common, codec, basis, tensors, blobs }, on),
    () => {},
  );
  const dense = await runJob(
    signal,
    (on) => native.encode({ ...common, codec: 'dense:f16', basis: {}, logits, features: null }, on),
    () => {},
  );
  return dense.tensors.logits!;
}

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
        teacherTemperature: 1,
        temperatureSquared: false,
      });
      if (target.kind !== 'soft') throw new LpldError('E_INTERNAL', expected('soft labels', 'a store', target.kind));
      const logits = await halves(target, recipes, numClasses, signal);
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
  return { records: store.numRecords, batch, batchesPerEpoch, inputSize, read };
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
export async function exportData(given: ExportOptions): Promise<Exported> {
  const options = { labels: null, shardBytes: SHARD_BYTES, ...settled(given) };
  const format = formatNamed(EXPORT_FORMATS, options.format);
  if (given.shardBytes !== undefined && !format.shards)
    throw new LpldError('E_CONFIG', expected(`no size for --format ${format.name}`, '--shard-size', given.shardBytes));
  const artifact = await openArtifact(options.images);
  const set = await openSyntheticSet(options.images);
  const images = await imagesOf(set, artifact);
  if ((format.holds === 'labels') !== (options.labels !== null)) {
    const wanted = format.holds === 'labels' ? 'the folder of labels' : 'no folder';
    throw new LpldError(
      'E_CONFIG',
      expected(`${wanted} for --format ${format.name}`, '--labels', options.labels ?? undefined),
    );
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
  const onDone = (done: number): void => {
    throwIfCancelled(signal);
    progress.update(done);
  };
  const write = (dir: string): Promise<void> => {
    progress.start(items, labels === null ? 'image' : 'record', basename(out));
    return format.write({ set, images, labels, out: dir, shardBytes, onDone });
  };
  await whileLocked(out, progress, () => wholeFolder(out, write));
  progress.finish();
  return { out, format: format.name, items, ...(await guarded(out, () => sizeOf(out))) };
}
