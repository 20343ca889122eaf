// `presets`: the settings that ship with the package, by name and in full.

import type { Command } from 'commander';
import { stringify } from 'yaml';
import { textTable } from '../report/table.ts';
import { examplesText } from './examples.ts';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

export const addPresets: AddCommand = (program, session) => {
  const { services } = session;
  const presets = program
    .command('presets')
    .summary('list the presets or show one in full')
    .description('The settings that ship with the package.');
  presets
    .command('list')
    .description('Lists the names, one line each.')
    .addHelpText('after', examplesText([['name and purpose of each', 'presets list']]))
    .action(async (_: object, command: Command) => {
      const list: { name: string; description: string }[] = [];
      for (const name of await services.presetNames())
        list.push({ name, description: (await services.loadConfig(name, {})).description });
      const text = textTable(
        ['preset', ''],
        list.map((preset) => [preset.name, preset.description]),
      );
      printResult(session, command.optsWithGlobals<Globals>(), { presets: list }, text);
    });
  presets
    .command('show')
    .description('Prints one preset as YAML with every default filled in; a good start for a config file.')
    .argument('<name>', 'name of a preset, or path of a config file')
    .addHelpText(
      'after',
      examplesText([['a config file of your own to start from', 'presets show quickstart > mine.yaml']]),
    )
    .action(async (name: string, _: object, command: Command) => {
      const config = await services.loadConfig(name, {});
      printResult(session, command.optsWithGlobals<Globals>(), config, stringify(config).trimEnd());
    });
};
