// Every entry of a table has a test that names it, every preset loads, every option says what it is, and the committed
// JSON Schema is the one the options tables give. An entry without a test cannot be added.

import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { configJsonSchema, configOptions, loadConfig, presetNames, sectionOptions } from '../src/config.ts';
import { FORMATS } from '../src/datasets/index.ts';
import { EXPORT_FORMATS, IMPORT_FORMATS, WEIGHT_FORMATS } from '../src/interchange/index.ts';
import { METHODS } from '../src/methods/index.ts';
import { STAGES } from '../src/stages/index.ts';
import { native } from './util/native.ts';

const here = import.meta.dirname;
const root = join(here, '..');

/** Test files by path below test/, without this one and the contract test, which list every name. */
const TESTS = readdirSync(here, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
  .filter((entry) => !['registries.test.ts', 'contract.test.ts'].includes(entry.name))
  .map((entry) => join(entry.parentPath, entry.name))
  .map((path) => ({ path: path.slice(here.length + 1), text: readFileSync(path, 'utf8') }));

/** Tests in which `name` stands as a whole word between quotes. */
function testsNaming(name: string): string[] {
  const quoted = new RegExp(`['"\`]${name.replace(/[.*+?^${'${}'}()|[\\]\\\\]/g, '\\$&')}['"\`]`);
  return TESTS.filter(({ text }) => quoted.test(text)).map(({ path }) => path);
}

const unique = (names: readonly string[]): void => {
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[a-z0-9]+([-_:][a-z0-9]+)*$/);
};

describe('every entry has a test that names it', () => {
  const goldenModels = (): string[] =>
    JSON.stringify(readFileSync(join(here, 'golden', 'models.safetensors'), 'latin1').slice(0, 100_000)).match(
      /"arch\\+":\s*\\+"([a-z0-9_]+)/g,
    ) ?? [];

  const TABLES: [string, () => string[]][] = [
    ['dataset formats', () => FORMATS.map((format) => format.name)],
    ['methods', () => METHODS.map((method) => method.name)],
    ['stages', () => STAGES.map((stage) => stage.name)],
    ['export formats', () => EXPORT_FORMATS.map((format) => format.name)],
    ['import formats', () => IMPORT_FORMATS.map((format) => format.name)],
    ['weight formats', () => WEIGHT_FORMATS.map((format) => format.name)],
    ['codecs', () => native().codecs()],
  ];

  test.each(TABLES)('%s', (_table, entries) => {
    const names = entries();
    expect(names.length).toBeGreaterThan(0);
    unique(names);
    expect(names.filter((name) => testsNaming(name).length === 0)).toEqual([]);
  });

  test('stages have a file test/stages/<name>.test.ts', () => {
    const files = TESTS.filter(({ path }) => path.startsWith('stages/')).map(({ path }) => basename(path));
    expect(files).toEqual(expect.arrayContaining(STAGES.map((stage) => `${stage.name}.test.ts`)));
  });

  test('architectures: each is in the golden file that PyTorch made', () => {
    const names = native().archs();
    unique(names);
    const golden = goldenModels().join(' ');
    expect(names.filter((name) => !golden.includes(name))).toEqual([]);
  });
});

describe('presets', () => {
  /** What each preset stands for: format, teacher, images per class, share of the labels thrown away. */
  const PRESETS = {
    'cifar-100-sre2l': ['cifar100', 'resnet18', 50, 0],
    'fashion-mnist': ['idx', 'convnet', 10, 0.9],
    'imagenet-1k-cda': ['folder', 'resnet18', 50, 0],
    'imagenet-1k-lpld': ['folder', 'resnet18', 50, 0.975],
    'imagenet-1k-sre2l': ['folder', 'resnet18', 50, 0],
    'imagenet-21k-cda': ['folder', 'resnet18', 20, 0],
    'imagenet-21k-lpld': ['folder', 'resnet18', 10, 0.975],
    quickstart: ['digits', 'convnet', 10, 0.9],
    'tiny-imagenet-10-cpu': ['tiny-imagenet', 'resnet18', 10, 0.9],
    'tiny-imagenet-cda': ['tiny-imagenet', 'resnet18', 50, 0],
    'tiny-imagenet-lpld': ['tiny-imagenet', 'resnet18', 50, 0.975],
    'tiny-imagenet-sre2l': ['tiny-imagenet', 'resnet18', 50, 0],
  };

  test('the list, and what each stands for', () => {
    const facts = presetNames().map((name) => {
      const { dataset, squeeze, synthesize, relabel, prune } = loadConfig(name);
      const kept = (1 - relabel.pruneRatio) * (1 - prune.pruneRatio);
      return [name, [dataset.format, squeeze.arch, synthesize.ipc, Number((1 - kept).toFixed(6))]];
    });
    expect(Object.fromEntries(facts)).toEqual(PRESETS);
  });

  test.each(presetNames())(
    '%s loads, names itself, says what it is and keeps only known methods and formats',
    (name) => {
      const config = loadConfig(name);
      expect(config.name).toBe(name);
      expect(config.description.length).toBeGreaterThan(20);
      expect(config.description).not.toMatch(/\n/);
      expect(METHODS.map((method) => method.name)).toContain(config.synthesize.method);
      expect(FORMATS.map((format) => format.name)).toContain(config.dataset.format);
      expect(native().archs()).toContain(config.squeeze.arch);
      // a completed config is a config: what `presets show` prints can be used as a file
      expect(configOptions.parse(JSON.parse(JSON.stringify(config)))).toEqual(config);
    },
  );

  test('every .yaml of the folder is a preset and nothing else lies there', () => {
    const files = readdirSync(join(root, 'src', 'presets')).sort();
    expect(files).toEqual(['config.schema.json', ...presetNames().map((name) => `${name}.yaml`)].sort());
  });
});

// ---- Options

/** The schema without default, prefault, nullable and the like. */
function inner(schema: z.ZodType): z.ZodType {
  const next = (schema.def as { innerType?: z.ZodType }).innerType;
  return next === undefined ? schema : inner(next);
}
/** The description of a field, wherever in its wrapping it was written. */
function description(schema: z.ZodType): string | undefined {
  const next = (schema.def as { innerType?: z.ZodType }).innerType;
  return schema.description ?? (next === undefined ? undefined : description(next));
}
/** Dotted keys and fields of an options table, sections left out. */
function leaves(schema: z.ZodObject, prefix = ''): [string, z.ZodType][] {
  return Object.entries(schema.shape).flatMap(([key, field]) => {
    const bare = inner(field as z.ZodType);
    if (bare instanceof z.ZodObject) return leaves(bare, `${prefix}${key}.`);
    return [[prefix + key, field as z.ZodType] as [string, z.ZodType]];
  });
}

describe('options', () => {
  test('every field of the config is described in one line and has a default', () => {
    const all = leaves(configOptions);
    expect(all.length).toBeGreaterThan(60);
    const bad = all.filter(([, field]) => !/^[^\n]{5,}[^.\n]$/.test(description(field) ?? ''));
    expect(bad.map(([key, field]) => `${key}: ${description(field)}`)).toEqual([]);
    expect(all.filter(([, field]) => !field.safeParse(undefined).success).map(([key]) => key)).toEqual([]);
  });

  test('an unknown key is refused in every section', () => {
    for (const section of Object.keys(sectionOptions))
      expect(configOptions.safeParse({ [section]: { colour: 1 } }).success, section).toBe(false);
  });

  test('the section of a stage is the options table of that stage', () => {
    for (const stage of STAGES) expect(sectionOptions[stage.name], stage.name).toBe(stage.options);
    expect(Object.keys(sectionOptions)).toEqual(['dataset', ...STAGES.map((stage) => stage.name)]);
  });

  test('names in the tables: methods, formats and codecs that options offer exist, and all that exist are offered', () => {
    const offered = (field: z.ZodType): readonly unknown[] => {
      const bare = inner(field);
      return bare instanceof z.ZodEnum ? bare.options : [];
    };
    expect(offered(sectionOptions.dataset.shape.format)).toEqual(FORMATS.map((format) => format.name));
    expect(offered(sectionOptions.synthesize.shape.method)).toEqual(METHODS.map((method) => method.name));
    for (const [key, field] of leaves(configOptions)) {
      if (key.endsWith('.arch') && offered(field).length > 0) expect(offered(field), key).toEqual(native().archs());
      if (key.endsWith('.codec') && offered(field).length > 0) expect(offered(field), key).toEqual(native().codecs());
    }
  });
});

test('src/presets/config.schema.json is what the options tables give (npm run schema writes it)', () => {
  const committed = JSON.parse(readFileSync(join(root, 'src', 'presets', 'config.schema.json'), 'utf8'));
  expect(committed).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
});
