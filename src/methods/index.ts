// The table of synthesis methods: one line per entry. A method decides which images share statistics (a group), what
// they are matched with and how crops shrink; the loop itself is native/jobs/synthesize.cpp.

import { lpld } from './lpld.ts';
import { random } from './random.ts';

/** Images optimised together: their moments are pooled and compared with one target. */
export interface SynthesisGroup {
  readonly images: readonly { readonly classId: number; readonly id: number }[];
  /** Whose statistics: a class, or the whole dataset's running statistics. */
  readonly target: { readonly classId: number } | 'global';
  /** Philox object of the group's crops, flips and rolls. */
  readonly object: number;
}

export interface MethodOptions {
  readonly ipc: number;
  readonly batch: number; // most images of one group
  readonly numClasses: number;
}

export interface Method {
  readonly name: string;
  readonly summary: string;
  /** real: images are taken from the training set; synthetic: they are optimised from noise. */
  readonly source: 'real' | 'synthetic';
  /** The groups of some classes, in order; groups of one forward have equally many images. */
  groups(classes: readonly number[], options: MethodOptions): SynthesisGroup[];
}

export const METHODS: readonly Method[] = [lpld, random];
