// dataset.json: what a folder of images cannot say about itself. Optional; every key is optional.
// The invariant: a key this file does not know is refused, so that a misspelt one is never ignored.

import { join } from 'node:path';
import { z } from 'zod';
import { checkNames } from './classes.ts';
import { dataError, findFile, readContent } from './files.ts';

export const SIDECAR = 'dataset.json';

const numbers = z.array(z.number().finite()).refine((v) => v.length === 1 || v.length === 3, 'one or three numbers');

const schema = z.strictObject({
  name: z.string().min(1).optional(), // fashion-mnist and kmnist select those sets' names and constants
  classNames: z.array(z.string().min(1)).min(1).optional(), // index = the format's own class id
  channels: z.union([z.literal(1), z.literal(3)]).optional(),
  mean: numbers.optional(), // per channel, of pixels in [0, 1]
  std: numbers.refine((v) => v.every((s) => s > 0), 'positive numbers').optional(),
});

export type Sidecar = z.infer<typeof schema>;

/** What is known about the pixels and classes of a set without opening an image. */
export interface Constants {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/**
 * Reads `folder`/dataset.json.
 * @returns its content, or null if there is none
 * @throws {LpldError} E_DATA with its path if it is no JSON of this form
 */
export async function readSidecar(folder: string): Promise<Sidecar | null> {
  const path = await findFile(folder, [SIDECAR]);
  if (path === null) return null;
  const sidecar = await readJson(path, schema);
  checkNames(path, sidecar.classNames ?? []);
  return sidecar;
}

/**
 * The sidecar's mean and std, or the format's.
 * @throws {LpldError} E_DATA if they do not have one number per channel
 */
export function constants(folder: string, sidecar: Sidecar | null, own: Constants, channels: 1 | 3): Constants {
  const chosen = { mean: sidecar?.mean ?? own.mean, std: sidecar?.std ?? own.std };
  for (const key of ['mean', 'std'] as const)
    if (chosen[key].length !== channels)
      throw dataError(join(folder, SIDECAR), `${channels} number(s) of ${key}`, chosen[key].length);
  return chosen;
}

/**
 * Reads a JSON file and checks its form.
 * @throws {LpldError} E_DATA with the path, naming the first wrong key
 */
export async function readJson<T>(path: string, form: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await readContent(path)));
  } catch (cause) {
    if (cause instanceof SyntaxError || cause instanceof TypeError)
      throw dataError(path, 'JSON', cause.message, undefined, cause);
    throw cause;
  }
  const result = form.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw dataError(path, 'the documented form', `${issue.path.join('.') || 'the whole'}: ${issue.message}`);
}
