// In what two configs, or two records of how something was made, differ: dotted keys, and the line that tells them.

const isSection = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' && v !== null && !Array.isArray(v);

/** Sections of a config that can change a result. */
export const DECIDING = ['seed', 'dataset', 'squeeze', 'synthesize', 'relabel', 'prune', 'train', 'evaluate'] as const;

/**
 * Dotted keys in which two objects differ; lists are compared whole.
 *
 * @param top - the keys of the objects themselves that are compared; all when absent
 */
export function differingKeys(a: unknown, b: unknown, top?: readonly string[], prefix = ''): string[] {
  if (!isSection(a) || !isSection(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [prefix];
  const keys = top ?? [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return keys.flatMap((key) => differingKeys(a[key], b[key], undefined, prefix === '' ? key : `${prefix}.${key}`));
}

const SHOWN = 5;

/** `a.b was 1 and is 2; c was ...` for the first of some dotted keys. */
export function changesTold(before: unknown, now: unknown, keys: readonly string[]): string {
  const value = (of: unknown, key: string): string | undefined =>
    JSON.stringify(
      key.split('.').reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], of),
    );
  const shown = keys.slice(0, SHOWN).map((key) => `${key} was ${value(before, key)} and is ${value(now, key)}`);
  return `${shown.join('; ')}${keys.length > SHOWN ? `; and ${keys.length - SHOWN} more` : ''}`;
}
