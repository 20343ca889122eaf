// One command per line of the stage table: its options become flags, its inputs become --ROLE DIR. No stage's name is
// written here; a new stage needs nothing in this file.

import type { Command } from 'commander';
import { counted, formatBytes } from '../report/format.ts';
import { makersOf } from '../roles.ts';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import {
  type Flag,
  flagsOf,
  type Globals,
  globalOverrides,
  overridesOf,
  progressOf,
  replaceOption,
  runtimeOf,
  setOption,
} from './options.ts';
import type { MadeArtifact, StageTable } from './services.ts';

interface StageFlags extends Globals {
  readonly config: string;
  readonly out: string;
  readonly set: Readonly<Record<string, unknown>>;
  readonly replace?: boolean;
  readonly verifyData?: boolean;
}

export const addStages: AddCommand = (program, session) => {
  const globals = new Set(program.options.map((option) => option.attributeName()));
  for (const stage of session.services.stages) addStage(program, session, stage, globals);
};

function addStage(program: Command, session: Session, stage: StageTable, globals: ReadonlySet<string>): void {
  const flags = flagsOf(stage.name, stage.options).filter((flag) => !globals.has(flag.attribute));
  const command = program
    .command(stage.name)
    .summary(stage.summary)
    .description(`${stage.summary}\n\nOptions not given are those of --config.`)
    .requiredOption('--config <preset|file>', 'name of a preset or path of a .yaml or .json file (required)')
    .requiredOption('--out <dir>', 'folder of the artifact; resumes what was begun there (required)')
    .addOption(replaceOption())
    .addOption(setOption())
    .option(
      '--verify-data',
      'hash every byte of the dataset and refuse other content than was read before (default: off)',
    );
  for (const role of stage.inputs)
    command.option(`--${role} <dir>`, `folder of the ${role} this stage reads, made by ${makersOf(role)}`);
  for (const flag of flags) for (const option of flag.options) command.addOption(option);
  command
    .addHelpText('after', examplesText(stage.examples))
    .action(() => runOne(command.optsWithGlobals<StageFlags>(), session, stage, flags));
}

async function runOne(values: StageFlags, session: Session, stage: StageTable, flags: readonly Flag[]): Promise<void> {
  const { services, io } = session;
  const given = values as unknown as Record<string, unknown>;
  const overrides = { ...values.set, ...overridesOf(flags, given), ...globalOverrides(values, [stage]) };
  const config = await services.loadConfig(values.config, overrides);
  const inputs = Object.fromEntries(
    stage.inputs.filter((role) => typeof given[role] === 'string').map((role) => [role, given[role] as string]),
  );
  await interruptible(session, async (signal) => {
    const progress = progressOf(values, io);
    try {
      const { out, replace = false, verifyData = false } = values;
      const options = { out, replace, inputs, runtime: runtimeOf(values), progress, signal, verifyData };
      const artifact = await services.runStage(stage.name, config, options);
      progress.close();
      printResult(session, values, artifactDocument(artifact), artifactText(artifact));
    } finally {
      progress.close();
    }
  });
}

/** An artifact as --json prints it. */
export function artifactDocument(artifact: MadeArtifact): object {
  const { stage, stageVersion, inputs, deviceClass, precision, summary, files } = artifact.manifest;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return {
    dir: artifact.dir,
    id: artifact.id,
    stage,
    stageVersion,
    inputs,
    deviceClass,
    precision,
    bytes,
    files: files.length,
    summary,
  };
}

/** An artifact as people read it: where, which, what of, and its summary. */
export function artifactText(artifact: MadeArtifact): string {
  const { stage, stageVersion, inputs, deviceClass, precision, summary, files } = artifact.manifest;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const rows: [string, string][] = [
    ['artifact', `${stage} (version ${stageVersion}, ${deviceClass}, ${precision})`],
    ['folder', artifact.dir],
    ['id', artifact.id],
    ['size', `${formatBytes(bytes)} in ${counted(files.length, 'file')}`],
    ...Object.entries(inputs).map(([role, id]): [string, string] => [`made from ${role}`, id]),
    ...Object.entries((summary ?? {}) as object).map(([key, value]): [string, string] => [key, short(value)]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

function short(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}
