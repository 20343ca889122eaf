// `export`: labels and images of this package for the programs of others. The table of formats is in src/interchange/;
// no format's name is written here but in the examples.

import { type Command, Option } from 'commander';
import { counted, formatBytes } from '../report/format.ts';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import { type Globals, parseBytes, progressOf } from './options.ts';

interface ExportFlags extends Globals {
  readonly format: string;
  readonly images: string;
  readonly labels?: string;
  readonly out: string;
  readonly shardSize?: number;
}

export const addExport: AddCommand = (program, session) => {
  const { exports } = session.services.exchangeFormats();
  const lines = exports.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join('\n');
  const labels = exports.filter(({ holds }) => holds === 'labels').map(({ name }) => name);
  program
    .command('export')
    .summary('write labels or images for other programs')
    .description(`Writes labels or images for other programs, whole or not at all.\n\nFormats:\n${lines}`)
    .addOption(
      new Option('--format <name>', 'format to write').choices(exports.map(({ name }) => name)).makeOptionMandatory(),
    )
    .requiredOption('--images <dir>', 'artifact folder with the images')
    .option('--labels <dir>', `artifact folder with the labels, for ${labels.join(', ')}`)
    .requiredOption('--out <dir>', 'folder to make')
    .addOption(
      new Option('--shard-size <bytes>', 'most bytes of one file, where images share files (default: 512M)').argParser(
        (text) => parseBytes(text, '--shard-size'),
      ),
    )
    .addHelpText(
      'after',
      examplesText([
        [
          'labels for the validation scripts of SRe2L, CDA and LPLD',
          'export --format fkd --labels d/pool --images d/images --out d/fkd',
        ],
        ['images for Hugging Face datasets', 'export --format parquet --images d/images --out d/parquet'],
      ]),
    )
    .action((_: object, command: Command) => runExport(command.optsWithGlobals<ExportFlags>(), session));
};

async function runExport(flags: ExportFlags, session: Session): Promise<void> {
  const { format, images, labels = null, out } = flags;
  const split = flags.shardSize === undefined ? {} : { shardBytes: flags.shardSize };
  await interruptible(session, async (signal) => {
    const progress = progressOf(flags, session.io);
    try {
      const done = await session.services.exportData({ format, images, labels, out, ...split, progress, signal });
      progress.close();
      const items = counted(done.items, labels === null ? 'image' : 'record');
      const size = `${formatBytes(done.bytes)} in ${counted(done.files, 'file')}`;
      const text = `${done.out}: ${items} as ${done.format}, ${size}`;
      printResult(session, flags, done, text);
    } finally {
      progress.close();
    }
  });
}
