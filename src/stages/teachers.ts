// The teachers of a label store: the squeeze artifact a relabel is given and those its config names besides, opened and
// held against each other; how they answer and how their answers become one.
// Source: methods 1.3 (train mode), frontier 1.2 (G-VBSM's ensemble).

import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Artifact } from '../artifact.ts';
import { expected, LpldError } from '../errors.ts';
import type { NativeBinding, NativeModel } from '../native.ts';
import { Handles } from './handles.ts';
import { type DatasetFacts, loadTeacher } from './shared.ts';
import type { FurtherInputs, Runtime } from './types.ts';

export const teacherOptions = {
  teacherMode: z
    .enum(['eval', 'train'])
    .default('eval')
    .describe('BatchNorm of the teacher: its running statistics, or those of the batch (train; nothing is moved)'),
  ensemble: z
    .array(z.string().min(1))
    .default([])
    .describe('folders of further squeeze artifacts, whose teachers answer too'),
  combine: z
    .enum(['mean', 'norm-mean'])
    .default('mean')
    .describe("answers of an ensemble: mean of the logits, or with each teacher's first brought to equal norm"),
};
const table = z.object(teacherOptions);
export type TeacherConfig = z.infer<typeof table>;

/** What labels.json says of the teachers; which they were is among the inputs of the manifest. */
export interface StoredTeachers {
  readonly count: number;
  readonly mode: TeacherConfig['teacherMode'];
  readonly combine: TeacherConfig['combine'];
}

export function storedTeachers({ ensemble, teacherMode, combine }: TeacherConfig): StoredTeachers {
  return { count: 1 + ensemble.length, mode: teacherMode, combine };
}

/** Roles teacher2, teacher3, ... of the further teachers, in the order of the config. */
export function furtherTeachers(folders: readonly string[]): FurtherInputs {
  return Object.fromEntries(
    folders.map((dir, i) => [`teacher${i + 2}`, { dir, like: 'teacher', key: 'relabel.ensemble' }]),
  );
}

/** Facts two teachers of an ensemble must share: they answer to the same pixels about the same classes. */
const SHARED = ['channels', 'inputSize', 'classNames', 'mean', 'std'] as const satisfies (keyof DatasetFacts)[];

/**
 * Opens the teachers of some inputs, the role `teacher` first, and holds them against each other before any is loaded.
 *
 * @returns the facts of the first, and `load`, which makes the models (at least one; for the caller to dispose)
 * @throws {LpldError} E_MISMATCH naming the folder and the fact in which a further teacher differs from the first
 */
export async function openTeachers(inputs: Readonly<Record<string, Artifact>>): Promise<{
  facts: DatasetFacts;
  load(native: NativeBinding, runtime: Runtime): Promise<Handles<NativeModel>>;
}> {
  const further: Artifact[] = [];
  for (let n = 2; inputs[`teacher${n}`] !== undefined; n++) further.push(inputs[`teacher${n}`]!);
  const first = inputs.teacher!;
  const facts = await first.readJson<DatasetFacts>('dataset.json');
  for (const artifact of further) {
    const other = await artifact.readJson<DatasetFacts>('dataset.json');
    const differs = SHARED.find((key) => !isDeepStrictEqual(other[key], facts[key]));
    if (differs !== undefined)
      throw new LpldError(
        'E_MISMATCH',
        expected(
          `teachers of equal ${differs}`,
          'relabel.ensemble',
          `${JSON.stringify(other[differs])} of ${artifact.dir} beside ${JSON.stringify(facts[differs])}`,
          'an ensemble is made of teachers of one dataset, classes in one order, seen at one size',
        ),
        { path: artifact.dir },
      );
  }
  return {
    facts,
    async load(native, runtime) {
      using opening = new Handles<NativeModel>();
      for (const artifact of [first, ...further]) opening.add(await loadTeacher(native, runtime, artifact));
      return opening.move();
    },
  };
}
