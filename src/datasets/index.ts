// The table of dataset formats and the one door to them. Stages see a Dataset and nothing of files.

import { expected, LpldError } from '../errors.ts';
import { cifar10, cifar100 } from './cifar.ts';
import { digits } from './digits.ts';
import { folder } from './folder.ts';
import { idx } from './idx.ts';
import { tinyImagenet } from './tiny-imagenet.ts';
import type { Dataset, DatasetFormat, DatasetOptions } from './types.ts';

export const FORMATS: readonly DatasetFormat[] = [
  digits, // embedded
  idx, // MNIST, Fashion-MNIST, KMNIST
  cifar10,
  cifar100,
  folder,
  tinyImagenet,
];

/**
 * Opens a dataset: lists and checks its files, decodes nothing that can wait.
 *
 * @param format - a name in FORMATS
 * @param path - its folder; '' for `digits`
 * @param options - class subset, verification, unreadable images; see DatasetOptions
 * @throws {LpldError} E_CONFIG for an unknown format (naming the nearest) or a bad class subset, a path for `digits`; E_DATA with
 *   details.path for files that are missing, truncated or inconsistent
 */
export async function openDataset(format: string, path: string, options: DatasetOptions): Promise<Dataset> {
  const found = FORMATS.find((f) => f.name === format);
  if (found !== undefined) return found.open(path, options);
  const names = FORMATS.map((f) => f.name);
  const guess = nearest(format, names);
  const advice = guess === null ? undefined : `did you mean ${guess}?`;
  throw new LpldError('E_CONFIG', expected(`one of ${names.join(', ')}`, 'dataset format', format, advice), {
    nearest: guess,
  });
}

/** The candidate with the smallest edit distance to `word` ignoring case and punctuation, or null if none is near. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  const plain = (s: string): string => s.toLowerCase().replace(/[^a-z0-9]/g, '');
  let best: string | null = null;
  let least = Math.max(2, Math.floor(plain(word).length / 2));
  for (const candidate of candidates) {
    const d = editDistance(plain(word), plain(candidate));
    if (d <= least && (best === null || d < least)) [best, least] = [candidate, d];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
