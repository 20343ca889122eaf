// `report`: makes report.html of a finished run again, if asked with other runs to compare it with.

import type { Command } from 'commander';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

export const addReport: AddCommand = (program, session) => {
  program
    .command('report')
    .summary('make report.html of a finished run again')
    .description('Makes report.html of a finished run again from report.json and the artifacts beside it.')
    .argument('<run>', 'run folder')
    .option('--compare <runs...>', 'other run folders to show in the accuracy chart (default: none)')
    .action(async (out: string, _: object, command: Command) => {
      const flags = command.optsWithGlobals<Globals & { compare?: string[] }>();
      const html = await session.services.remakeReport(out, flags.compare ?? []);
      printResult(session, flags, { html }, html);
    });
};
