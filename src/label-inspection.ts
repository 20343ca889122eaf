// What `inspect` says of a label store: every byte by purpose, what it is compared with, and the teacher's own size, since
// whoever has the teacher could make the labels again. Reads headers, ids and sizes; no label is decoded.

import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Artifact, openArtifact } from './artifact.ts';
import { expected, LpldError } from './errors.ts';
import type { LabelBytes } from './label-bytes.ts';
import { LABELS_FILE } from './label-format.ts';
import { LabelStore } from './labels.ts';
import { readHeader } from './safetensors.ts';
import { elements } from './tensor.ts';

export interface LabelInspection {
  readonly records: number;
  readonly images: number; // N of the full plan
  readonly classes: number; // K
  readonly codec: string;
  /** The first five add up to `file`. */
  readonly bytes: Pick<LabelBytes, 'payload' | 'recipes' | 'index' | 'basis' | 'container' | 'file'>;
  readonly fullStore: number; // bytes of the dense f16 store of the full plan
  readonly compression: number; // fullStore / file
  readonly bytesPerImage: number;
  /** The teacher with one byte for every parameter and buffer; null where it was neither given nor found. Of several
   *  teachers only one that was given. */
  readonly teacher: { readonly id: string; readonly int8Bytes: number } | null;
}

/** The artifact of this id in a folder `name` of the run folder that `dir` lies in, one or two levels up. */
async function nearby(dir: string, name: string, id: string): Promise<Artifact | null> {
  for (let at = dirname(resolve(dir)), level = 0; level < 2; at = dirname(at), level++) {
    if (!existsSync(join(at, name, 'manifest.json'))) continue;
    const found = await openArtifact(join(at, name)).catch(() => null); // a damaged neighbour is not what was asked about
    if (found?.id === id) return found;
  }
  return null;
}

/** Ids of the teachers that answered: among the store's own inputs, or those of the labels it was pruned from. */
async function teacherIds({ dir, manifest }: Artifact): Promise<readonly string[]> {
  const roles = Object.entries(manifest.inputs).filter(([role]) => /^teacher\d*$/.test(role));
  const { labels } = manifest.inputs;
  if (roles.length > 0 || labels === undefined) return roles.map(([, id]) => id);
  for (const name of ['relabel', 'prune']) {
    const source = await nearby(dir, name, labels);
    if (source !== null) return teacherIds(source);
  }
  return [];
}

async function teacherOf(labels: Artifact, given: string | null): Promise<LabelInspection['teacher']> {
  const ids = await teacherIds(labels);
  const only = ids.length === 1 ? ids[0]! : null; // of several, which one is compared with has to be said
  const artifact = given === null ? only && (await nearby(labels.dir, 'squeeze', only)) : await openArtifact(given);
  if (!artifact) return null;
  if (artifact.manifest.stage !== 'squeeze')
    throw new LpldError('E_MISMATCH', expected('an artifact of squeeze', '--teacher', artifact.manifest.stage), {
      path: artifact.dir,
    });
  if (ids.length > 0 && !ids.includes(artifact.id))
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `the teacher ${ids.map((id) => id.slice(0, 12))} of these labels`,
        '--teacher',
        artifact.id.slice(0, 12),
      ),
      { path: artifact.dir },
    );
  const { tensors } = await readHeader(artifact.path('teacher.safetensors'));
  const int8Bytes = [...tensors.values()].reduce((sum, { shape }) => sum + elements(shape), 0);
  return { id: artifact.id, int8Bytes };
}

/**
 * What a label store holds, by the byte.
 *
 * @param dir - folder of any artifact
 * @param teacher - folder of the squeeze artifact that answered; null looks for it in the run folder around the store
 * @returns null for an artifact that is no label store
 * @throws {LpldError} E_DATA for a damaged store; E_MISMATCH for a folder that is another teacher's or none
 */
export async function inspectLabels(dir: string, teacher: string | null): Promise<LabelInspection | null> {
  const artifact = await openArtifact(dir);
  if (!artifact.has(LABELS_FILE)) return null;
  await using store = await LabelStore.open(artifact);
  const { payload, recipes, index, basis, container, file, fullStore, compression, perImage } = store.bytes();
  return {
    records: store.numRecords,
    images: store.index.plan.images,
    classes: store.index.numClasses,
    codec: store.index.codec,
    bytes: { payload, recipes, index, basis, container, file },
    fullStore,
    compression,
    bytesPerImage: perImage,
    teacher: await teacherOf(artifact, teacher),
  };
}
