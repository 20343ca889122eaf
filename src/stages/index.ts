// The table of stages, in the order of a run: one line per entry.

import { evaluate } from './evaluate.ts';
import { prune } from './prune.ts';
import { relabel } from './relabel.ts';
import { squeeze } from './squeeze.ts';
import { synthesize } from './synthesize.ts';
import { train } from './train.ts';
import type { Stage } from './types.ts';

export const STAGES: readonly Stage[] = [squeeze, synthesize, relabel, prune, train, evaluate];
export type { Estimate, Runtime, Stage, StageContext, StageName } from './types.ts';
