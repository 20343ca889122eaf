// Flags. Those of a stage are derived from its options table (a zod object): name, type, default, range and help come
// from there and nowhere else. Global flags are declared here. A flag that was not given leaves no trace, so that
// defaults stay with the table and presets.

import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { expected, LpldError } from '../errors.ts';
import { alternatives, type Leaf, range } from '../option-text.ts';
import { createProgress, type ProgressMode, type ProgressSink } from '../progress.ts';
import type { Io } from './io.ts';
import type { RuntimeOptions, StageTable } from './services.ts';

export interface Flag {
  readonly path: string; // dotted key in the config, e.g. 'synthesize.rBn'
  readonly attribute: string; // commander's name of the value
  readonly options: readonly Option[]; // two for a boolean: --x and --no-x
}

const kebab = (name: string): string =>
  name
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replaceAll('.', '-')
    .toLowerCase();

/**
 * The flags of one section of the config.
 *
 * @param section - key of the section, prefix of every path
 * @param table - options table; `.meta({flag: 'name'})` renames a flag, `.meta({flag: false})` leaves it out
 */
export function flagsOf(section: string, table: z.ZodObject): Flag[] {
  const json = z.toJSONSchema(table, { io: 'input', unrepresentable: 'any' }) as Leaf;
  return Object.entries(json.properties ?? {}).flatMap(([key, leaf]) => {
    const field = table.shape[key] as z.ZodType;
    const inner = unwrap(field);
    if (leaf.flag === false) return [];
    if (leaf.properties && inner instanceof z.ZodObject)
      return flagsOf(`${section}.${key}`, inner).filter((flag) => flag.options.length > 0);
    const nested = section.split('.').slice(1);
    return [flagOf(leaf.flag ?? kebab([...nested, key].join('.')), `${section}.${key}`, leaf, field)];
  });
}

function unwrap(field: z.ZodType): z.ZodType {
  const inner = (field.def as { innerType?: z.ZodType }).innerType;
  return inner === undefined ? field : unwrap(inner);
}

function flagOf(name: string, path: string, leaf: Leaf, field: z.ZodType): Flag {
  const help = [leaf.description ?? path, note(leaf)].filter(Boolean).join(' ');
  const attribute = new Option(`--${name}`).attributeName();
  if (leaf.type === 'boolean') {
    const on = new Option(`--${name}`, help);
    const off = new Option(`--no-${name}`, `turn off: ${help}`);
    // the positive one first: commander gives a lone --no-x the default true
    return { path, attribute, options: leaf.default === true ? [on.hideHelp(), off] : [on, off.hideHelp()] };
  }
  const option = new Option(`--${name} <${metavar(leaf)}>`, help).argParser((text: string) => {
    const value = coerce(text, leaf);
    const parsed = field.safeParse(value);
    if (parsed.success) return { value }; // wrapped: commander makes '' of a bare null
    const [issue] = parsed.error.issues;
    const allowed = issue?.code === 'custom' ? issue.message : range(leaf);
    throw new LpldError('E_CONFIG', expected(allowed, `--${name}`, text), { option: path });
  });
  return { path, attribute, options: [option] };
}

/** The value a flag's text stands for; text that fits no type comes back as it is and fails the check. */
function coerce(text: string, leaf: Leaf): unknown {
  const variants = alternatives(leaf);
  if (variants.some((v) => v.const === text || v.enum?.includes(text))) return text;
  if ((text === 'none' || text === 'null') && variants.some((v) => v.type === 'null')) return null;
  for (const v of variants) {
    if ((v.type === 'number' || v.type === 'integer') && text.trim() !== '' && Number.isFinite(Number(text)))
      return Number(text);
    if (v.type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
    if (v.type === 'array') {
      const parts = text === '' ? [] : text.split(',');
      if (leaf.ranges === true) return parts.flatMap((part) => spread(part).map((id) => coerce(id, v.items || {})));
      return parts.map((part, i) => coerce(part, v.prefixItems?.[i] ?? (v.items || {})));
    }
    if (v.type === 'object') return parseYaml(text);
  }
  return text;
}

/** `3-5` as 3, 4, 5; anything else, and more than a million, as it is. */
function spread(part: string): string[] {
  const [low = Number.NaN, high = Number.NaN] = /^\d+-\d+$/.test(part) ? part.split('-').map(Number) : [];
  if (!(low <= high && high - low < 1e6)) return [part];
  return Array.from({ length: high - low + 1 }, (_, i) => String(low + i));
}

function metavar(leaf: Leaf): string {
  if (leaf.ranges === true) return 'a,b-c,...';
  const kinds = alternatives(leaf).map((form) => form.type);
  if (kinds.includes('array')) return 'a,b,...';
  if (kinds.includes('integer')) return 'n';
  return kinds.includes('number') ? 'x' : 'value';
}

function note(leaf: Leaf): string {
  const shown =
    typeof leaf.default === 'boolean'
      ? leaf.default
        ? 'on'
        : 'off'
      : Array.isArray(leaf.default)
        ? leaf.default.join(',')
        : leaf.default === null
          ? 'none'
          : leaf.default;
  const parts = leaf.type === 'boolean' ? [] : [range(leaf)];
  if (shown !== undefined) parts.push(`default: ${typeof shown === 'object' ? JSON.stringify(shown) : shown}`);
  return parts.length > 0 ? `(${parts.join('; ')})` : '';
}

/** Overrides of the config from the flags that were given. */
export function overridesOf(
  flags: readonly Flag[],
  values: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const given = flags.filter((flag) => values[flag.attribute] !== undefined);
  return Object.fromEntries(
    given.map(({ path, attribute }) => {
      const value = values[attribute];
      return [path, typeof value === 'boolean' ? value : (value as { value: unknown }).value];
    }),
  );
}

/** --set key=value, repeated; values are read as YAML (numbers, true, [1, 2], text). */
export function setOption(): Option {
  return new Option(
    '--set <key=value>',
    'override one key of the config, e.g. synthesize.iterations=500; may be repeated',
  )
    .default({}, 'none')
    .argParser((text: string, before: unknown) => {
      const at = text.indexOf('=');
      if (at < 1) throw new LpldError('E_CONFIG', expected('key=value', '--set', text));
      return { ...(before as object), [text.slice(0, at).trim()]: readYaml(text.slice(at + 1)) };
    });
}

/** --replace of every command that makes one artifact; `run` has --restart-from. */
export function replaceOption(): Option {
  return new Option(
    '--replace',
    'give up what --out holds of this stage, finished or begun, where it was made otherwise (default: off, that is refused)',
  );
}

function readYaml(text: string): unknown {
  try {
    return parseYaml(text) as unknown;
  } catch {
    return text;
  }
}

export interface Globals {
  readonly device: NonNullable<RuntimeOptions['device']>;
  readonly threads?: number;
  readonly memory?: number;
  readonly deterministic?: boolean;
  readonly saveEvery?: number;
  readonly snapshotEvery?: number;
  readonly progress?: ProgressMode;
  readonly quiet?: boolean;
  readonly json?: boolean;
  readonly seed?: number;
  readonly precision?: string;
}

/** Bytes from `8G`, `512M`, `1.5 GiB` or a plain number; K, M, G, T are powers of 1024. `flag` is named in errors. */
export function parseBytes(text: string, flag = '--memory'): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$/i.exec(text);
  const bytes = match ? Math.floor(Number(match[1]) * 1024 ** ' KMGT'.indexOf((match[2] || ' ').toUpperCase())) : 0;
  if (!(bytes > 0)) throw new LpldError('E_CONFIG', expected('a size such as 8G or 512M', flag, text));
  return bytes;
}

/** A parser of integers for an option; `name` is what errors call it. */
export function integer(name: string, low: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= low) return value;
    throw new LpldError('E_CONFIG', expected(`integer >= ${low}`, name, text));
  };
}

function seconds(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw new LpldError('E_CONFIG', expected('a number >= 0', '--save-every', text));
}

function device(text: string): string {
  if (/^(auto|cpu|cuda|cuda:\d+)$/.test(text)) return text;
  throw new LpldError('E_CONFIG', expected('auto, cpu, cuda or cuda:N', '--device', text));
}

/** Declares the options every command understands, before or after the command's name. */
export function addGlobals(program: Command): void {
  const options = [
    new Option('--device <name>', 'auto, cpu, cuda or cuda:N; auto takes a GPU that can be used')
      .default('auto')
      .argParser(device),
    new Option('--threads <n>', `CPU threads (integer >= 1; default: all, ${availableParallelism()} here)`).argParser(
      integer('--threads', 1),
    ),
    new Option('--memory <bytes>', 'memory budget, e.g. 8G (default: most of what is free)').argParser((text) =>
      parseBytes(text),
    ),
    new Option('--deterministic', 'bit-equal results on this machine, slower (default: off)'),
    new Option('--save-every <seconds>', 'least seconds between saves of resumable state (default: 20)').argParser(
      seconds,
    ),
    new Option(
      '--snapshot-every <n>',
      'write a picture of the images in the making every n iterations of synthesis (integer >= 1; default: none)',
    ).argParser(integer('--snapshot-every', 1)),
    new Option('--seed <n>', "seed of everything drawn (integer >= 0; default: the config's)").argParser(
      integer('--seed', 0),
    ),
    new Option('--precision <p>', "arithmetic of all stages (default: the config's)").choices(['fp32', 'tf32', 'bf16']),
    new Option('--progress <mode>', 'on stderr (default: bar on a terminal, else plain)').choices([
      'bar',
      'plain',
      'json',
      'none',
    ]),
    new Option('-q, --quiet', 'no progress, only results and errors (default: off)'),
    new Option('--json', 'print the result as one JSON document, the last line of stdout (default: off)'),
  ];
  for (const option of options) program.addOption(option);
}

export function runtimeOf(globals: Globals): RuntimeOptions {
  const {
    device,
    threads = null,
    memory = null,
    deterministic = false,
    saveEvery = null,
    snapshotEvery = null,
  } = globals;
  return { device, threads, memory, deterministic, saveSeconds: saveEvery, snapshotEvery };
}

export function progressOf(globals: Globals, io: Io): ProgressSink {
  const mode = globals.progress ?? (globals.quiet ? 'none' : 'bar');
  return createProgress(mode, io.stderr, { color: !io.env.NO_COLOR });
}

/** Overrides that --seed and --precision mean for the given stages. */
export function globalOverrides(globals: Globals, stages: readonly StageTable[]): Record<string, unknown> {
  const overrides: Record<string, unknown> = {};
  if (globals.seed !== undefined) overrides.seed = globals.seed;
  if (globals.precision !== undefined)
    for (const { name, options } of stages)
      if ('precision' in options.shape) overrides[`${name}.precision`] = globals.precision;
  return overrides;
}
