// `install`: puts LibTorch into the per-user cache. Never run by npm.

import { Option } from 'commander';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

interface InstallFlags extends Globals {
  readonly cpu?: boolean;
  readonly cuda?: boolean;
  readonly from?: string;
  readonly force?: boolean;
}

export const addInstall: AddCommand = (program, session) => {
  const command = program
    .command('install')
    .summary('install LibTorch into your cache folder')
    .description(
      'Installs LibTorch into your cache folder (about 0.3 GB for the CPU), verified and whole or not at all.',
    )
    .addOption(new Option('--cpu', 'the CPU build (default: CUDA where an NVIDIA driver is present)').conflicts('cuda'))
    .option('--cuda', 'the CUDA build')
    .option('--from <file>', 'a torch wheel on disk instead of a download')
    .option('--force', 'install again even if it is there (default: off)')
    .addHelpText(
      'after',
      examplesText([
        ['the CPU build', 'install --cpu'],
        ['a wheel you have', 'install --from torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl'],
      ]),
    );
  command.action(() => {
    const flags = command.optsWithGlobals<InstallFlags>();
    return interruptible(session, async (signal) => {
      const log = (line: string): void => {
        if (!flags.quiet && flags.progress !== 'none') session.io.stderr.write(`install: ${line}\n`);
      };
      const found = await session.services.install({
        ...(flags.cpu ? { variant: 'cpu' } : flags.cuda ? { variant: 'cuda' } : {}),
        ...(flags.from === undefined ? {} : { from: flags.from }),
        force: flags.force ?? false,
        log,
        signal,
      });
      const text = `LibTorch ${found.version}${found.cuda ? ` (CUDA ${found.cuda})` : ''} in ${found.root}`;
      printResult(session, flags, found, text);
    });
  });
};
