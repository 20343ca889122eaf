// `doctor`: what this machine has, what is missing, and the one command that mends it. Works without LibTorch.

import { EXIT_CODES } from '../errors.ts';
import { examplesText } from './examples.ts';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

export const addDoctor: AddCommand = (program, session) => {
  const command = program
    .command('doctor')
    .summary('say what was found on this machine, what is missing and how to mend it')
    .description(`Says what was found and what is missing. Exit code ${EXIT_CODES.E_DEVICE} if something is.`)
    .addHelpText(
      'after',
      examplesText([
        ['for people', 'doctor'],
        ['for programs', 'doctor --json'],
      ]),
    )
    .action(async () => {
      const { ok, report, text } = await session.services.doctor();
      printResult(session, command.optsWithGlobals<Globals>(), report, text);
      if (!ok) session.exitCode = EXIT_CODES.E_DEVICE;
    });
};
