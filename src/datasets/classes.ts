// Class ids of a format and the subset of them that a Dataset keeps.
// The invariant: a split never yields an id outside [0, K), and no kept class of a training split is empty.

import { expected, LpldError } from '../errors.ts';
import { dataError } from './files.ts';

/** Which classes of the format's own numbering stay, and their new numbers. */
export interface ClassSelection {
  readonly kept: readonly number[]; // own ids, in new order
  readonly renumbered: Int32Array; // [K own] new id, or -1 for a class left out
}

/**
 * Checks a subset of classes.
 * @param classes - own ids to keep, in the new order, or null for all
 * @param count - classes of the format, K
 * @throws {LpldError} E_CONFIG if the list is empty, repeats an id or holds one outside [0, count)
 */
export function selectClasses(classes: readonly number[] | null, count: number): ClassSelection {
  const kept = classes ?? Array.from({ length: count }, (_, i) => i);
  const renumbered = new Int32Array(count).fill(-1);
  if (kept.length === 0) throw new LpldError('E_CONFIG', expected('at least one class id', 'classes', '[]'));
  kept.forEach((id, i) => {
    if (!Number.isInteger(id) || id < 0 || id >= count)
      throw new LpldError('E_CONFIG', expected(`class ids from 0 to ${count - 1}`, 'classes', id), { classId: id });
    if (renumbered[id] !== -1)
      throw new LpldError('E_CONFIG', expected('each class id once', 'classes', id), { classId: id });
    renumbered[id] = i;
  });
  return { kept, renumbered };
}

/**
 * Checks labels against the number of classes.
 * @param path - the file they come from
 * @param every - refuse a class without any image
 * @throws {LpldError} E_DATA with the path
 */
export function checkLabels(
  path: string,
  labels: ArrayLike<number>,
  classNames: readonly string[],
  every: boolean,
): void {
  const counts = new Uint32Array(classNames.length);
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i]!;
    if (label < 0 || label >= counts.length)
      throw dataError(path, `labels below ${counts.length}`, `${label} at image ${i}`);
    counts[label]!++;
  }
  const empty = every ? counts.indexOf(0) : -1;
  if (empty >= 0) throw dataError(path, `an image of class ${empty} (${classNames[empty]})`, 'none');
}

/** @throws {LpldError} E_DATA with the path if two classes have one name */
export function checkNames(path: string, classNames: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of classNames) {
    if (seen.has(name)) throw dataError(path, 'each class name once', name);
    seen.add(name);
  }
}
