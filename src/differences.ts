// In what two configs, or two records of how something was made, differ: dotted keys, and the line that tells them.

import type { StageHeader } from './artifact.ts';

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

/** What decides an artifact, under the names people know it by. */
function factsOf(header: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { stage, stageVersion, deviceClass, config, inputs, precision } = header;
  const ids = Object.entries(Object(inputs ?? {}) as object).map(([role, id]) => [role, String(id).slice(0, 12)]);
  const facts = { ...(config as object), 'version of the stage': stageVersion, [DEVICE]: deviceClass };
  return { stage, ...facts, precision, ...Object.fromEntries(ids.map(([role, id]) => [`id of ${role}`, id])) };
}

const DEVICE = 'device class';

/** In what something was made otherwise than a header says. */
export interface Otherwise {
  readonly keys: readonly string[]; // empty where it is not recorded
  readonly words: string;
  readonly device: string | null; // the device class it was made on, where nothing else differs
}

/** @param before - a header as a file holds it, unchecked */
export function otherwise(before: Readonly<Record<string, unknown>>, now: StageHeader): Otherwise {
  const unknown = { keys: [], words: 'with what is not recorded', device: null }; // by an early version, or the record is damaged
  if (before.config === undefined) return unknown;
  const [a, b] = [factsOf(before), factsOf({ ...now })];
  const all = differingKeys(a, b);
  const keys = all.filter((key) => key !== 'precision' || !all.some((one) => one.endsWith('.precision')));
  if (keys.length === 0) return unknown;
  const device = keys.length === 1 && keys[0] === DEVICE ? String(before.deviceClass) : null;
  return { keys, words: changesTold(a, b, keys), device };
}

/** Roles whose artifact is not the one that something was made from, among those made anew in their place. */
export function remadeRoles(
  before: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
  remade: readonly string[],
): string[] {
  return remade.filter((role) => Object.hasOwn(before, role) && before[role] !== now[role]);
}
