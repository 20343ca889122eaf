// `presets`: the settings that ship with the package, by name and in full.

import type { Command } from 'commander';
import { stringify } from 'yaml';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

export const addPresets: AddCommand = (program, session) => {
  const { services } = session;
  const presets = program.command('presets').summary('list the presets or show one in full').description('The settings that ship with the package.');
  presets
    .command('list')
    .description('Lists the names.')
    .action(async (_: object, command: Command) => {
      const names = await services.presetNames();
      printResult(session, command.optsWithGlobals<Globals>(), { presets: names }, names.join('\n'));
    });
  presets
    .command('show')
    .description('Prints one preset as YAML with every default filled in; a good start for a config file.')
    .argument('<name>', 'name of a preset, or path of a config file')
    .action(async (name: string, _: object, command: Command) => {
      const config = await services.loadConfig(name, {});
      printResult(session, command.optsWithGlobals<Globals>(), config, stringify(config).trimEnd());
    });
};
