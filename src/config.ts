// The config of a run: sections of options tables, presets, overrides. The tables are the only place that knows a type,
// a default, a range or a help text; unknown keys are refused with the nearest known one.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { nearest } from './datasets/index.ts';
import { datasetOptions } from './datasets/options.ts';
import { expected, LpldError } from './errors.ts';
import { type Leaf, leafAt, range } from './option-text.ts';
import { evaluateOptions } from './stages/evaluate.ts';
import { pruneOptions } from './stages/prune.ts';
import { relabelOptions } from './stages/relabel.ts';
import { squeezeOptions } from './stages/squeeze.ts';
import { synthesizeOptions } from './stages/synthesize.ts';
import { trainOptions } from './stages/train.ts';
import { checkRead } from './unread.ts';

export { datasetOptions } from './datasets/options.ts';

export const sectionOptions = {
  dataset: datasetOptions,
  squeeze: squeezeOptions,
  synthesize: synthesizeOptions,
  relabel: relabelOptions,
  prune: pruneOptions,
  train: trainOptions,
  evaluate: evaluateOptions,
} as const;

export const configOptions = z.strictObject({
  name: z
    .string()
    .regex(/^[\w.-]+$/)
    .default('run')
    .describe('name of the run; the default run folder is runs/<name>'),
  description: z.string().default('').describe('one line for `presets list` and the report'),
  seed: z.int().min(0).default(0).describe('seed of everything drawn'),
  controls: z
    .array(z.enum(['random', 'random-soft']))
    .default([])
    .describe('also train students on equally many real images, with hard labels or with the same kind of soft labels'),
  dataset: z.prefault(datasetOptions, {}),
  squeeze: z.prefault(squeezeOptions, {}),
  synthesize: z.prefault(synthesizeOptions, {}),
  relabel: z.prefault(relabelOptions, {}),
  prune: z.prefault(pruneOptions, {}),
  train: z.prefault(trainOptions, {}),
  evaluate: z.prefault(evaluateOptions, {}),
});

export type Config = z.infer<typeof configOptions>;

const presetFolder = fileURLToPath(new URL('../src/presets/', import.meta.url));

/** Names of the presets that ship with the package, sorted. */
export function presetNames(): string[] {
  return readdirSync(presetFolder)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.slice(0, -'.yaml'.length))
    .sort();
}

type Plain = Record<string, unknown>;
const isPlain = (value: unknown): value is Plain =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Sets a dotted key in place, making sections on the way. */
function assign(target: Plain, key: string, value: unknown): void {
  const parts = key.split('.');
  let at = target;
  for (const part of parts.slice(0, -1)) {
    if (!isPlain(at[part])) at[part] = {};
    at = at[part] as Plain;
  }
  at[parts.at(-1)!] = value;
}

function knownKeys(schema: z.ZodObject, prefix = ''): string[] {
  return Object.entries(schema.shape).flatMap(([key, field]) => {
    let inner = field as z.ZodType;
    for (
      let next: z.ZodType | undefined = inner;
      next !== undefined;
      next = (next.def as { innerType?: z.ZodType }).innerType
    )
      inner = next;
    const path = prefix + key;
    return inner instanceof z.ZodObject ? [path, ...knownKeys(inner, `${path}.`)] : [path];
  });
}

function readSource(source: string): { values: Plain; folder: string | null; path: string } {
  const named = presetNames().includes(source);
  const path = named ? join(presetFolder, `${source}.yaml`) : resolve(source);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    const near = nearest(source, presetNames());
    const presets = `presets: ${presetNames().join(', ')}`;
    throw new LpldError(
      'E_CONFIG',
      expected(
        'the name of a preset or the path of a config file',
        'config',
        source,
        near === null ? presets : `did you mean ${near}? ${presets}`,
      ),
      { path },
    );
  }
  let values: unknown;
  try {
    values = parseYaml(text);
  } catch (cause) {
    throw new LpldError(
      'E_CONFIG',
      `${path}: no YAML or JSON: ${(cause as Error).message.split('\n')[0]!.replace(/:$/, '')}`,
      { path },
      cause,
    );
  }
  if (!isPlain(values))
    throw new LpldError(
      'E_CONFIG',
      expected(
        'a mapping of sections',
        path,
        values ?? undefined,
        'a config to begin with: lpld-native presets show quickstart',
      ),
      { path },
    );
  return { values, folder: named ? null : dirname(path), path };
}

/** Options that name files or folders. */
const PATHS = [
  ['dataset', 'path'],
  ['squeeze', 'weights'],
  ['relabel', 'ensemble'],
] as const;

/**
 * Reads a preset or a config file, applies overrides and fills every default.
 *
 * @param source - name of a preset, or path of a .yaml or .json file; paths inside it are relative to it
 * @param overrides - dotted keys, e.g. {'synthesize.iterations': 500}
 * @throws {LpldError} E_CONFIG: no such preset or file, not YAML, an unknown key (with the nearest), a value out of range,
 *   an override that this config does not read
 */
export function loadConfig(source: string, overrides: Readonly<Record<string, unknown>> = {}): Config {
  const { values, folder, path } = readSource(source);
  if (folder !== null) {
    const beside = (value: unknown): unknown =>
      typeof value === 'string' && value !== '' && !isAbsolute(value) ? join(folder, value) : value;
    for (const [name, key] of PATHS) {
      const section = values[name];
      if (!isPlain(section) || section[key] === undefined) continue;
      const value = section[key];
      section[key] = Array.isArray(value) ? value.map(beside) : beside(value);
    }
  }
  for (const [key, value] of Object.entries(overrides)) assign(values, key, value);
  if (folder === null && values.name === undefined) values.name = source;
  const config = parseConfig(values, folder === null ? source : path);
  checkRead(config, overrides);
  return config;
}

/** A value as messages show it: the contents of a list or mapping too, on one line, whatever a caller put there. */
const shown = (value: unknown): unknown =>
  typeof value === 'object' && value !== null
    ? { toString: () => inspect(value, { compact: true, breakLength: Number.POSITIVE_INFINITY, depth: 2 }) }
    : value;

/** Checks and completes a config given as an object. @throws {LpldError} E_CONFIG */
export function parseConfig(values: unknown, name = 'config'): Config {
  const parsed = configOptions.safeParse(values);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const unknown = [key, issue.keys[0]].filter((part) => part !== '').join('.');
    const near =
      nearest(unknown, knownKeys(configOptions)) ??
      nearest(
        unknown.replace(/_(\w)/g, (_, c: string) => c.toUpperCase()),
        knownKeys(configOptions),
      );
    throw new LpldError(
      'E_CONFIG',
      expected(
        'a known key',
        name,
        unknown,
        near === null ? 'lpld-native presets show <name> prints all keys' : `did you mean ${near}?`,
      ),
      { key: unknown },
    );
  }
  const given = issue.path.reduce<unknown>(
    (at, part) => (isPlain(at) || Array.isArray(at) ? (at as Plain)[part as string] : undefined),
    values,
  );
  const received = issue.code === 'custom' ? (issue.params?.received ?? given) : given;
  const place = issue.path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  const leaf = issue.code === 'custom' ? undefined : leafAt(configJsonSchema() as Leaf, issue.path);
  const allowed = leaf === undefined ? issue.message : range(leaf);
  const advice = issue.code === 'custom' ? (issue.params?.advice as string | undefined) : undefined;
  throw new LpldError('E_CONFIG', expected(allowed, place.slice(1) || name, shown(received), advice), { key });
}

/** JSON Schema of a config file, for editors; src/presets/config.schema.json is its output. */
export function configJsonSchema(): object {
  return z.toJSONSchema(configOptions, { io: 'input' });
}
