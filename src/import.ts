// Import: label stores and images made elsewhere as artifacts of this package, which may stand wherever `--labels` and
// `--images` are asked for. Every byte of the foreign files counts for the key; an artifact of the same key is kept, an
// interrupted one resumed.

import { type Artifact, type ArtifactDraft, openArtifact, openDraft, type StageHeader } from './artifact.ts';
import { datasetIdentity } from './datasets/identity.ts';
import { openSyntheticSet, setOf } from './datasets/synthetic-set.ts';
import { expected, LpldError } from './errors.ts';
import { formatNamed, IMPORT_FORMATS } from './interchange/index.ts';
import type { ImageFormat, LabelFormat, LabelImport } from './interchange/types.ts';
import { type LabelHeader, LabelWriter } from './labels.ts';
import { keptOrMade } from './output-folder.ts';
import type { StageProgress } from './progress.ts';
import { type CallOptions, settled } from './run-options.ts';
import { standing } from './stage-runner.ts';
import { STREAM_VERSION } from './stages/label-plan.ts';
import { throwIfCancelled } from './stages/shared.ts';
import { tensor } from './tensor.ts';

export interface ImportOptions extends Pick<CallOptions, 'progress' | 'signal'> {
  /** fkd or folder. */
  readonly format: string;
  /** Folder of the foreign files. */
  readonly dir: string;
  /** Folder of the images artifact the labels are of; null (default) for formats of images. */
  readonly images?: string | null;
  /** Folder of the artifact to make. */
  readonly out: string;
  /** The user's word that an artifact of other files, or one begun, may be replaced there. Default: false. */
  readonly replace?: boolean;
  /** P, px of the network's input; null (default): the size of the images. Read by formats of labels only. */
  readonly inputSize?: number | null;
}

type Settings = Required<ImportOptions>;

/** Raised by whatever changes the bytes that are made. */
const VERSIONS = { 'import-labels': 2, 'import-images': 1 } as const;

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

/** Keeps an artifact of the same key, or has one made in a draft. */
async function making(
  { out, replace }: Settings,
  stage: Pick<StageHeader, 'config' | 'inputs'> & { readonly stage: keyof typeof VERSIONS },
  progress: StageProgress,
  make: (draft: ArtifactDraft) => Promise<unknown>,
): Promise<Artifact> {
  const header: StageHeader = { ...stage, stageVersion: VERSIONS[stage.stage], deviceClass: 'cpu', precision: 'fp32' };
  return keptOrMade(
    out,
    progress,
    () => standing(out, header),
    async () => {
      const draft = await openDraft(out, header, { replace });
      return draft.publish(await make(draft));
    },
  );
}

async function importLabels(options: Settings, format: LabelFormat, progress: StageProgress): Promise<Artifact> {
  const { dir, images: folder, signal } = options;
  if (folder === null)
    throw new LpldError(
      'E_CONFIG',
      expected(
        'the folder of the images the labels are of',
        '--images',
        undefined,
        'give the folder that synthesize or import made',
      ),
    );
  const images = await openArtifact(folder);
  const set = await openSyntheticSet(folder);
  const { size } = set.description;
  const inputSize = options.inputSize ?? size;
  const target = { images: set.train.count, size, inputSize, numClasses: set.classNames.length };
  const found = await format.open(dir, target);
  progress.start(0, 'record', `${found.records} records, hashing`);
  const { content } = await datasetIdentity(dir, found.files, { verify: true, facts: [], signal });
  const config = { format: format.name, inputSize };
  const stage = { stage: 'import-labels' as const, config, inputs: { images: images.id, [format.name]: content! } };
  return making(options, stage, progress, async (draft) => {
    const writer = await LabelWriter.open(draft, importHeader(found, target));
    const wanted = writer.remaining(Int32Array.from({ length: found.records }, (_, record) => record));
    const done = found.records - wanted.length;
    progress.start(found.records, 'record', 'labels');
    progress.update(done);
    for (const [i, record] of wanted.entries()) {
      throwIfCancelled(signal);
      const { recipes, logits } = await found.read(record);
      const offset = tensor('I32', [2], Int32Array.of(0, logits.shape[0]!));
      await writer.append({ recordIds: Int32Array.of(record), offset, recipes, tensors: { logits }, blobs: null });
      progress.update(done + i + 1);
    }
    const { shards } = await writer.finish();
    const rows = shards.reduce((sum, shard) => sum + shard.rows, 0);
    return { records: found.records, rows, codec: 'dense:f16', recipes: 'explicit' };
  });
}

/** Images written with one journal entry. */
const CHUNK = 256;

async function importImages(options: Settings, format: ImageFormat, progress: StageProgress): Promise<Artifact> {
  const { dir, images, inputSize, signal } = options;
  if (images !== null)
    throw new LpldError('E_CONFIG', expected(`no folder for --format ${format.name}`, '--images', images));
  if (inputSize !== null)
    throw new LpldError('E_CONFIG', expected(`no size for --format ${format.name}`, '--input-size', inputSize));
  const found = await format.open(dir, signal);
  const { facts, made, files } = found;
  progress.start(files.length, 'image', 'images');
  const config = { format: format.name, mean: facts.mean, std: facts.std };
  const stage = { stage: 'import-images' as const, config, inputs: { [format.name]: facts.content ?? facts.id } };
  return making(options, stage, progress, async (draft) => {
    for (let first = 0; first < files.length; first += CHUNK) {
      throwIfCancelled(signal);
      const part = files.slice(first, first + CHUNK).filter(({ name }) => !draft.has(name));
      const content: [string, Uint8Array][] = [];
      for (const { name, read } of part) content.push([name, await read()]);
      if (content.length > 0) await draft.writeFiles(content);
      progress.update(Math.min(files.length, first + CHUNK));
    }
    await draft.writeJson('set.json', setOf(facts, made));
    return { images: files.length, ipc: made.ipc, size: made.size };
  });
}

/**
 * Makes an artifact of labels or images that others made.
 *
 * Labels get explicit Recipes and keep their logits bit for bit (dense:f16); images keep their bytes.
 *
 * @returns the artifact, of stage `import-labels` (made from the images) or `import-images`
 * @throws {LpldError} E_CONFIG: unknown format, a role missing or too many, an `out` made otherwise; E_DATA naming the file: missing, damaged, not
 *   of these images, images that differ in size or number; E_DEVICE: no space
 */
export async function importData(given: ImportOptions): Promise<Artifact> {
  const options: Settings = { images: null, inputSize: null, replace: false, ...settled(given) };
  const format = formatNamed(IMPORT_FORMATS, options.format);
  const progress = options.progress.stage(`import ${format.name}`);
  const artifact =
    format.holds === 'labels'
      ? await importLabels(options, format, progress)
      : await importImages(options, format, progress);
  progress.finish();
  return artifact;
}
