// The table of commands, in the order of --help. A new command is a file beside this one and a line here.

import { addData } from './data.ts';
import { addDoctor } from './doctor.ts';
import { addExport } from './export.ts';
import { addImport } from './import.ts';
import { addInspect } from './inspect.ts';
import { addInstall } from './install.ts';
import type { AddCommand } from './io.ts';
import { addMerge } from './merge.ts';
import { addPresets } from './presets.ts';
import { addReport } from './report.ts';
import { addRun } from './run.ts';
import { addStages } from './stage.ts';

export const COMMANDS: readonly AddCommand[] = [
  addRun,
  addStages, // one command per line of the stage table
  addMerge,
  addInspect,
  addReport,
  addPresets,
  addData,
  addImport,
  addExport,
  addInstall,
  addDoctor,
];
