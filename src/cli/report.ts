// `report`: makes report.html of a finished run again, if asked with other runs to compare it with; or one page that
// shows the images of several runs side by side.

import type { Command } from 'commander';
import { expected, LpldError } from '../errors.ts';
import { examplesText } from './examples.ts';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

interface ReportFlags extends Globals {
  readonly compare?: readonly string[];
  readonly out?: string;
}

export const addReport: AddCommand = (program, session) => {
  program
    .command('report')
    .summary('make report.html of a finished run again, or compare the images of several')
    .description(
      'Makes report.html of a finished run again from report.json and the artifacts beside it.\n' +
        'With several folders: one page with their images side by side, their within-class similarity and their losses;\n' +
        'a folder may also be an artifact of synthesize.',
    )
    .argument('<runs...>', 'run folder; or several, with --out')
    .option('--compare <runs...>', 'other run folders to show in the accuracy chart (default: none)')
    .option('--out <file>', 'HTML file that compares several folders')
    .addHelpText(
      'after',
      examplesText([
        ['beside the accuracies of another run', 'report runs/quickstart --compare runs/other'],
        ['the images of two runs side by side', 'report runs/sre2l runs/lpld --out compare.html'],
      ]),
    )
    .action(async (runs: string[], _: object, command: Command) => {
      const flags = command.optsWithGlobals<ReportFlags>();
      const html = await make(runs, flags, session.services);
      printResult(session, flags, { html }, html);
    });
};

function make(
  runs: readonly string[],
  { compare, out }: ReportFlags,
  services: Parameters<AddCommand>[1]['services'],
): Promise<string> {
  const [run, ...others] = runs as [string, ...string[]];
  if (others.length === 0 && out === undefined) return services.remakeReport(run, compare ?? []);
  if (out === undefined)
    throw new LpldError('E_CONFIG', expected('an HTML file', '--out', undefined, 'several folders make one page'));
  if (others.length === 0 || compare !== undefined)
    throw new LpldError(
      'E_CONFIG',
      expected('several folders and no --compare', '--out', out, 'report.html of one run is written into its folder'),
    );
  return services.compareSets(runs, out);
}
