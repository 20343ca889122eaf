// What a report shows of the images themselves, read from a synthesize artifact and the pictures beside it: the matching
// loss of each layer, how alike the images of each class are, how they came about. Reads only; what is absent or broken
// is left out.

import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { snapshotFolder } from '../stages/synthesis-snapshot.ts';
import { pixelWidth, readCurves, readJson, type Series } from './read.ts';

export interface Similarity {
  readonly mean: number;
  readonly classes: readonly { readonly classId: number; readonly cosine: number | null }[];
}

export interface Snapshot {
  readonly iteration: number;
  readonly uri: string; // data URI of a PNG
  readonly width: number; // px
}

export interface SynthesisFacts {
  readonly layers: readonly Series[]; // in the order of the network
  readonly similarity: Similarity | null;
  readonly snapshots: readonly Snapshot[];
  readonly snapshotsTotal: number;
}

const SNAPSHOTS = 6;
const SNAPSHOT_BYTES = 4 * 1024 * 1024; // of files embedded, before base64

const similarityFile = z.object({
  mean: z.number(),
  classes: z.array(z.object({ classId: z.int().min(0), cosine: z.number().nullable() })),
});

/** @param folder - the synthesize artifact */
export async function readSynthesis(folder: string): Promise<SynthesisFacts> {
  const similarity = similarityFile.safeParse(await readJson(join(folder, 'similarity.json')));
  const { series } = await readCurves(join(folder, 'layers.json'));
  return {
    layers: series,
    similarity: similarity.success ? similarity.data : null,
    ...(await readSnapshots(snapshotFolder(folder))),
  };
}

/** A few pictures, evenly over the iterations and always the last. */
async function readSnapshots(folder: string): Promise<Pick<SynthesisFacts, 'snapshots' | 'snapshotsTotal'>> {
  const all = (await readdir(folder).catch(() => [])).filter((name) => /^\d+\.png$/.test(name)).sort();
  const shown = Math.min(SNAPSHOTS, all.length);
  const chosen = Array.from({ length: shown }, (_, i) => all[Math.ceil(((i + 1) * all.length) / shown) - 1]!);
  const snapshots: Snapshot[] = [];
  let left = SNAPSHOT_BYTES;
  for (const name of chosen) {
    left -= (await stat(join(folder, name))).size;
    if (left < 0) break;
    const bytes = await readFile(join(folder, name));
    const uri = `data:image/png;base64,${bytes.toString('base64')}`;
    snapshots.push({ iteration: Number(name.slice(0, -'.png'.length)), uri, width: pixelWidth(bytes) });
  }
  return { snapshots, snapshotsTotal: all.length };
}
