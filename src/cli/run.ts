// `run`: the whole pipeline from one config into one run folder, resumable; prints what the run was worth.

import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { headlineTable, planTable, stageTable } from '../report/table.ts';
import type { StageName } from '../stages/types.ts';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import { type Globals, globalOverrides, progressOf, runtimeOf, setOption } from './options.ts';
import type { RunOptions, Settled } from './services.ts';

interface RunFlags extends Globals {
  readonly out?: string;
  readonly set: Readonly<Record<string, unknown>>;
  readonly restartFrom?: StageName;
  readonly dryRun?: boolean;
  readonly verifyData?: boolean;
}

export const addRun: AddCommand = (program, session) => {
  const names = session.services.stages.map((stage) => stage.name);
  program
    .command('run')
    .summary('run all stages of a preset or config file; resumes where it stopped')
    .description(
      'Runs all stages of a config into one run folder and writes report.json and report.html there.\n' +
        'Run the same command again to resume; a stage whose config and inputs are unchanged is not run twice.',
    )
    .argument('<config>', 'name of a preset (see: presets list) or path of a .yaml or .json file')
    .option('--out <dir>', 'run folder (default: runs/<name of the config>)')
    .addOption(setOption())
    .addOption(
      new Option(
        '--restart-from <stage>',
        'run this stage and all later ones again, in place of what stands of them (default: none)',
      ).choices(names),
    )
    .option('--dry-run', 'only say what would run, with bytes and a rough time (default: off)')
    .option(
      '--verify-data',
      'hash every byte of the dataset and refuse other content than was read before (default: off, only names, sizes and small files are compared)',
    )
    .addHelpText(
      'after',
      examplesText([
        ['the embedded digits, into runs/quickstart', 'run quickstart'],
        [
          'what a run on a dataset of your own would do',
          'run fashion-mnist --set dataset.path=data/fashion-mnist --out runs/fashion --dry-run',
        ],
        ['more students, all before them kept', 'run quickstart --set train.students=5 --restart-from train'],
      ]),
    )
    .action((source: string, _: object, command: Command) => run(source, command.optsWithGlobals<RunFlags>(), session));
};

async function run(source: string, flags: RunFlags, session: Session): Promise<void> {
  const { services, io } = session;
  const config = await services.loadConfig(source, { ...flags.set, ...globalOverrides(flags, services.stages) });
  const out = flags.out ?? join('runs', config.name);
  await interruptible(session, async (signal) => {
    const progress = progressOf(flags, io);
    const options: Settled<RunOptions> = {
      out,
      runtime: runtimeOf(flags),
      progress,
      signal,
      verifyData: flags.verifyData ?? false,
      ...(flags.restartFrom === undefined ? {} : { restartFrom: flags.restartFrom }),
    };
    try {
      if (flags.dryRun) {
        const plan = await services.planPipeline(config, options);
        printResult(session, flags, { out, stages: plan.stages }, `${planTable(plan.stages)}\n\nrun folder: ${out}`);
        return;
      }
      const report = await services.runPipeline(config, options);
      progress.close();
      const files = `report: ${join(out, 'report.html')}\nall numbers: ${join(out, 'report.json')}`;
      printResult(session, flags, report, [stageTable(report.stages), headlineTable(report), files].join('\n\n'));
    } finally {
      progress.close();
    }
  });
}
