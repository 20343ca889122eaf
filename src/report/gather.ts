// Collects from a run folder what report.json does not hold: loss curves, the synthetic images themselves, and where
// the label bytes are. Reads only; whatever is absent is left out of the report, never made up.

import { readdir, readFile, stat } from 'node:fs/promises';
import { extname, join, relative, sep } from 'node:path';
import type { RunReport } from './index.ts';
import { classNames, pixelWidth, readCurves, type Series } from './read.ts';
import { readSynthesis, type SynthesisFacts } from './synthesis.ts';

export interface Curves {
  readonly folder: string; // of the artifact, relative to the run folder
  readonly x: string; // what x counts
  readonly series: readonly Series[];
}

export interface ClassImages {
  readonly name: string; // from set.json, else the folder of the class
  readonly total: number; // images of this class in the artifact
  readonly uris: readonly string[]; // data URIs of those shown
}

export interface Gallery {
  readonly classes: readonly ClassImages[];
  readonly shown: number;
  readonly total: number;
  readonly width: number; // px of the first image, 0 where it cannot be told
  readonly names: readonly string[]; // of all classes by id; empty where set.json is absent
}

export interface RunFolder {
  readonly curves: readonly Curves[];
  readonly gallery: Gallery;
  readonly synthesis: SynthesisFacts;
  readonly labelBytes: Readonly<Record<string, number>>; // part of the store -> bytes
}

export const IMAGES_PER_CLASS = 10;
export const GALLERY_BYTES = 4 * 1024 * 1024; // of image files embedded, before base64

const MIME: Readonly<Record<string, string>> = { '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg' };

/** Everything the HTML report draws apart from the numbers of report.json. */
export async function gather(out: string, report: RunReport): Promise<RunFolder> {
  const folders = report.stages.map((stage) => stage.folder);
  const curves: Curves[] = [];
  for (const folder of folders) {
    const { x, series } = await readCurves(join(out, folder, 'curves.json'));
    if (series.length > 0) curves.push({ folder, x, series });
  }
  return {
    curves,
    gallery: await readGallery(join(out, 'synthesize')),
    synthesis: await readSynthesis(join(out, 'synthesize')),
    labelBytes: report.labels.breakdown ?? (await fileSizes(out, folders.includes('prune') ? 'prune' : 'relabel')),
  };
}

/**
 * Reads synthetic images class by class: image 0 of every class, then image 1 of every class, and so on, so that a
 * full gallery cuts all classes alike.
 *
 * @param folder - the artifact; a class is a folder that holds image files
 * @param perClass - most images shown of one class
 * @param budget - most bytes of image files embedded
 */
export async function readGallery(
  folder: string,
  perClass = IMAGES_PER_CLASS,
  budget = GALLERY_BYTES,
): Promise<Gallery> {
  const groups = new Map<string, string[]>();
  for (const path of await listFiles(folder)) {
    if (!(extname(path).toLowerCase() in MIME)) continue;
    const name = relative(folder, path).split(sep).at(-2) ?? '';
    groups.set(name, [...(groups.get(name) ?? []), path]);
  }
  const names = await classNames(folder);
  const natural = new Intl.Collator('en', { numeric: true }).compare;
  const classes = [...groups.entries()]
    .sort(([a], [b]) => natural(a, b))
    .map(([name, paths]) => ({ name, paths: paths.sort(natural), total: paths.length, uris: [] as string[] }));
  let left = budget;
  let width = 0;
  for (let i = 0; i < perClass && left > 0; i++) {
    for (const group of classes) {
      const path = group.paths[i];
      if (path === undefined) continue;
      const { size } = await stat(path);
      left -= size;
      if (left < 0) break;
      const mime = MIME[extname(path).toLowerCase()] ?? '';
      const bytes = await readFile(path);
      width ||= pixelWidth(bytes);
      group.uris.push(`data:${mime};base64,${bytes.toString('base64')}`);
    }
  }
  return {
    classes: classes.map(({ name, total, uris }) => ({
      name: (/^\d+$/.test(name) && names[Number(name)]) || name,
      total,
      uris,
    })),
    shown: classes.reduce((n, group) => n + group.uris.length, 0),
    total: classes.reduce((n, group) => n + group.total, 0),
    width,
    names,
  };
}

async function fileSizes(out: string, folder: string): Promise<Record<string, number>> {
  const sizes: Record<string, number> = {};
  for (const path of await listFiles(join(out, folder))) {
    const name = relative(join(out, folder), path);
    const part = /\d/.test(name) ? name.replace(/\d+/g, '*') : name;
    sizes[part] = (sizes[part] ?? 0) + (await stat(path)).size;
  }
  return sizes;
}

async function listFiles(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch {
    return [];
  }
}
