// Where the bytes of a label store are: every byte of every file, by purpose.
// Invariant: payload, recipes, index, basis and container add up to the bytes of all files of the manifest.
// Source: DESIGN section 7 (total accounting); docs/label-format.md says the same for people.

import type { Artifact } from './artifact.ts';
import { BASIS_FILE, type LabelsIndex, RECIPE_ROW_BYTES } from './label-format.ts';
import { readHeader } from './safetensors.ts';

/** Where the bytes of a store are. All but `file` and `fullStore` add up to `file`. */
export interface LabelBytes {
  readonly payload: number; // the codec's tensors
  readonly recipes: number; // 0 when they are derived
  readonly index: number; // recordGap, recordRows, blobBytes
  readonly basis: number; // what the codec stored once
  readonly container: number; // safetensors headers, labels.json and whatever else the artifact's files hold
  readonly file: number; // sum of all files of the manifest
  /** Dense f16 logits (and recipes of the same kind) for every image of every epoch of the full plan. */
  readonly fullStore: number;
  readonly compression: number; // fullStore / file
  readonly perImage: number; // file / N
}

/**
 * Counts every byte of a store.
 * @param shards - bytes of all shards: of the codec's tensors and blobs, and of the index
 */
export async function accountLabels(
  artifact: Artifact,
  index: LabelsIndex,
  shards: Pick<LabelBytes, 'payload' | 'index'>,
): Promise<LabelBytes> {
  const rows = index.shards.reduce((sum, s) => sum + s.rows, 0);
  const recipeRow = index.recipes === 'explicit' ? RECIPE_ROW_BYTES : 0;
  const recipes = rows * recipeRow;
  const basisHeader = artifact.has(BASIS_FILE) ? await readHeader(artifact.path(BASIS_FILE)) : null;
  const basis = basisHeader === null ? 0 : basisHeader.fileBytes - basisHeader.dataStart;
  const file = artifact.manifest.files.reduce((sum, f) => sum + f.bytes, 0);
  const container = file - shards.payload - recipes - shards.index - basis;
  const fullStore = index.plan.epochs * index.plan.images * (2 * index.numClasses + recipeRow);
  return {
    ...shards,
    recipes,
    basis,
    container,
    file,
    fullStore,
    compression: fullStore / file,
    perImage: file / index.plan.images,
  };
}
