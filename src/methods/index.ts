// The table of synthesis methods: one line per entry. A method decides which images are optimised together (a group),
// what statistics they are matched with and how crops shrink; the loop itself is native/jobs/synthesize.cpp.

import type { CurriculumOptions } from '../schedule.ts';
import { cda } from './cda.ts';
import { lpld } from './lpld.ts';
import { random } from './random.ts';
import { sre2l } from './sre2l.ts';

/** Images optimised together: their moments are pooled and compared with one target. */
export interface SynthesisGroup {
  readonly images: readonly { readonly classId: number; readonly id: number }[];
  /** Whose statistics: a class's own, or the teacher's running statistics of the whole dataset. */
  readonly target: { readonly classId: number } | 'global';
  /** Philox object of the group's crops, flips and rolls; no two groups of a run share one. */
  readonly object: number;
}

export interface MethodOptions {
  readonly ipc: number;
  readonly batch: number; // most images of one group
  readonly numClasses: number; // K of the dataset
  /** Statistics to match where the method leaves a choice; auto is the published one. */
  readonly targets: 'auto' | 'class' | 'global';
}

export interface Method {
  readonly name: string;
  readonly summary: string;
  /** real: images are taken from the training set; synthetic: they are optimised from noise. */
  readonly source: 'real' | 'synthetic';
  /** Whether the crop curriculum of the options applies; otherwise crops keep their scale. */
  readonly curriculum: boolean;
  /** The groups of some classes, in the order they are made. */
  groups(classes: readonly number[], options: MethodOptions): SynthesisGroup[];
}

export type Curriculum = CurriculumOptions['curriculum'];

export const METHODS: readonly Method[] = [lpld, sre2l, cda, random];

/** The method of a config; names were checked with the config. */
export function methodNamed(name: string): Method {
  return METHODS.find((method) => method.name === name)!;
}
