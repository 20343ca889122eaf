// The examples at the end of every command's help, read from the help itself: each goes through the real parser, flags and
// config with services that record instead of working, and gives its stage all the folders that config needs.

import { beforeAll, describe, expect, test } from 'vitest';
import { COMMANDS } from '../src/cli/commands.ts';
import { loadServices } from '../src/cli/load.ts';
import type { Services } from '../src/cli/services.ts';
import type { Config } from '../src/config.ts';
import { stageNamed } from '../src/pipeline.ts';
import { STAGES } from '../src/stages/index.ts';
import type { StageName } from '../src/stages/types.ts';
import { cli } from './util/cli.ts';

let real: Partial<Services> = {};
beforeAll(async () => {
  const { stages, loadConfig, presetNames, formats, sources, exchangeFormats } = await loadServices();
  real = { stages, loadConfig, presetNames, formats, sources, exchangeFormats };
});

const helpOf = async (command: readonly string[]): Promise<string> => (await cli([...command, '--help'], real)).out;

/** Names below a command, in the order of its help. */
const below = (help: string): string[] =>
  [...(/\nCommands:\n([\s\S]*?)(\n\n|\n?$)/.exec(help)?.[1] ?? '').matchAll(/^ {2}([a-z]\S*)/gm)]
    .map(([, name]) => name!)
    .filter((name) => name !== 'help');

/** Every command that does something of its own, with the arguments its help says it takes and its examples. */
async function commands(path: readonly string[] = []): Promise<{ path: string; examples: string[] }[]> {
  const help = await helpOf(path);
  const names = below(help);
  const own = names.length === 0 || path[0] === 'import'; // `import` has a subcommand and work of its own
  const [, text = ''] = help.split('\nExamples:\n');
  const examples = [...text.matchAll(/^ {2}# \S.*\n {2}npx lpld-native (.*)$/gm)].map(([, line]) => line!);
  const children = await Promise.all(names.map((name) => commands([...path, name])));
  return [...(own ? [{ path: path.join(' '), examples }] : []), ...children.flat()];
}

const words = (line: string): string[] => line.replace(/ > \S+$/, '').split(' ');

test('every command has examples of itself, one at least and two for a stage', async () => {
  const all = await commands();
  expect(all.length).toBeGreaterThanOrEqual(COMMANDS.length + STAGES.length);
  for (const { path, examples } of all) {
    expect(examples.length, path).toBeGreaterThanOrEqual(STAGES.some(({ name }) => name === path) ? 2 : 1);
    for (const line of examples) expect(`${line} `.startsWith(`${path} `), `${path}: ${line}`).toBe(true);
  }
});

describe('every example', () => {
  test('is one the parser and the config take, and reaches the service of its command', async () => {
    const all = (await commands()).flatMap(({ examples }) => examples);
    for (const line of all) {
      const { code, err, calls } = await cli(words(line), real);
      if (line.startsWith('inspect')) {
        expect([line, code, err]).toEqual([line, 3, expect.stringContaining('there is no such folder')]); // past the parser
        continue;
      }
      expect([line, code, err]).toEqual([line, line.startsWith('doctor') ? 4 : 0, '']); // the fake machine has no LibTorch
      const reads = /^(presets|data list)/.test(line); // real here: nothing is recorded of them
      expect([line, calls.length > 0]).toEqual([line, !reads]);
    }
    expect((await cli(words(all[0]!.replace('run', 'run --epoch 3')), real)).code).toBe(2);
  });

  test('of a stage names the folders its config needs, and writes into one of its own', async () => {
    const written: string[] = [];
    for (const { path, examples } of (await commands()).filter(({ path }) => STAGES.some(({ name }) => name === path)))
      for (const line of examples) {
        const { calls } = await cli(words(line), real);
        const [, name, config, options] = calls.find(([service]) => service === 'runStage')! as unknown as [
          string,
          StageName,
          Config,
          { inputs: Record<string, string>; out: string },
        ];
        expect(name).toBe(path);
        const { roles } = stageNamed(name).needs(config);
        expect([line, Object.keys(options.inputs).sort()]).toEqual([line, [...roles].sort()]);
        expect(Object.values(options.inputs)).not.toContain(options.out);
        expect(written).not.toContain(options.out); // another stage's artifact would be refused there
        written.push(options.out);
      }
  });

  test('of a dataset or an exchange names a format or set there is', async () => {
    const [formats, sources] = await Promise.all([real.formats!(), real.sources!()]);
    const names = (list: readonly { readonly name: string }[]): string[] => list.map(({ name }) => name);
    for (const line of (await commands()).flatMap(({ examples }) => examples)) {
      const [first, second, third] = words(line);
      if (first !== 'data') continue;
      if (second === 'fetch') expect(names(sources)).toContain(third);
      if (second === 'inspect') expect(names(formats)).toContain(/--format (\S+)/.exec(line)![1]);
    }
  });
});
