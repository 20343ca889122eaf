// `merge`: joins the artifacts of `synthesize --shard I/N` into the one a whole run makes.

import type { Command } from 'commander';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult } from './io.ts';
import { type Globals, progressOf, replaceOption, runtimeOf } from './options.ts';
import { artifactDocument, artifactText } from './stage.ts';

interface MergeFlags extends Globals {
  readonly teacher: string;
  readonly out: string;
  readonly replace?: boolean;
}

export const addMerge: AddCommand = (program, session) => {
  program
    .command('merge')
    .summary('join the shards of one set of images')
    .description('Joins the artifacts of `synthesize --shard I/N` into one: the artifact a whole run makes.')
    .argument('<shards...>', 'artifact folders of all shards, in any order')
    .requiredOption('--teacher <dir>', 'artifact folder of the teacher they were made from')
    .requiredOption('--out <dir>', 'folder of the artifact')
    .addOption(replaceOption())
    .addHelpText(
      'after',
      examplesText([
        [
          'four parts of one set of images',
          'merge d/shard-1 d/shard-2 d/shard-3 d/shard-4 --teacher d/resnet18 --out d/images',
        ],
      ]),
    )
    .action(async (shards: string[], _: object, command: Command) => {
      const flags = command.optsWithGlobals<MergeFlags>();
      await interruptible(session, async (signal) => {
        const progress = progressOf(flags, session.io);
        try {
          const { teacher, out, replace = false } = flags;
          const options = { teacher, out, replace, runtime: runtimeOf(flags), progress, signal, verifyData: false };
          const artifact = await session.services.mergeShards(shards, options);
          progress.close();
          printResult(session, flags, artifactDocument(artifact), artifactText(artifact));
        } finally {
          progress.close();
        }
      });
    });
};
