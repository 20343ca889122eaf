// `data`: dataset formats and downloads, and what a dataset on disk holds. No native code is loaded.

import type { Command } from 'commander';
import type { FetchProgress } from '../datasets/fetch.ts';
import type { StageProgress } from '../progress.ts';
import { counted } from '../report/format.ts';
import { textTable } from '../report/table.ts';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import { type Globals, progressOf } from './options.ts';

interface FetchFlags extends Globals {
  readonly out?: string;
  readonly mirror?: string;
}

interface InspectFlags extends Globals {
  readonly format: string;
  readonly verify?: boolean;
  readonly skipUnreadable?: boolean;
}

export const addData: AddCommand = (program, session) => {
  const data = program
    .command('data')
    .summary('list, fetch and inspect datasets')
    .description('Datasets: formats, downloads, contents.');
  data
    .command('list')
    .description('Lists the formats that can be read and the datasets that can be fetched.')
    .addHelpText('after', examplesText([['what `data fetch` and dataset.format know', 'data list']]))
    .action((_: object, command: Command) => list(command.optsWithGlobals<Globals>(), session));
  data
    .command('fetch')
    .description('Downloads a dataset, checks it and unpacks it.')
    .argument('<name>', 'name of a dataset (see: data list)')
    .option('--out <dir>', 'folder to make (default: data/<name>)')
    .option('--mirror <url>', 'another address that holds the same files (default: the official one)')
    .addHelpText(
      'after',
      examplesText([
        ['into data/fashion-mnist', 'data fetch fashion-mnist'],
        ['into another folder', 'data fetch cifar10 --out sets/cifar10'],
      ]),
    )
    .action((name: string, _: object, command: Command) =>
      fetchSet(name, command.optsWithGlobals<FetchFlags>(), session),
    );
  data
    .command('inspect')
    .description('Opens a dataset and says what it holds; a broken file is an error with its path.')
    .argument('[path]', 'folder of the dataset; not needed for an embedded one', '')
    .requiredOption('--format <name>', 'format of the files (see: data list)')
    .option('--verify', 'hash every byte (default: off)')
    .option('--skip-unreadable', 'count and list unreadable images instead of stopping (default: off)')
    .addHelpText(
      'after',
      examplesText([
        ['the embedded digits', 'data inspect --format digits'],
        ['one folder per class, every byte hashed', 'data inspect my/images --format folder --verify'],
      ]),
    )
    .action((path: string, _: object, command: Command) =>
      inspect(path, command.optsWithGlobals<InspectFlags>(), session),
    );
};

async function list(flags: Globals, session: Session): Promise<void> {
  const formats = (await session.services.formats()).map(({ name, summary }) => ({ name, summary }));
  const sources = (await session.services.sources()).map(({ name, summary, format }) => ({ name, summary, format }));
  const table = (title: string, rows: readonly { name: string; summary: string }[]): string =>
    textTable(
      [title, ''],
      rows.map((row) => [row.name, row.summary]),
    );
  printResult(session, flags, { formats, sources }, `${table('format', formats)}\n\n${table('to fetch', sources)}`);
}

function fetchSet(name: string, flags: FetchFlags, session: Session): Promise<void> {
  return interruptible(session, async (signal) => {
    const progress = progressOf(flags, session.io);
    const stage = progress.stage(`fetch ${name}`);
    try {
      const out = flags.out ?? `data/${name}`;
      const mirror = flags.mirror === undefined ? {} : { mirror: flags.mirror };
      const set = await session.services.fetchDataset(name, out, { signal, onProgress: showBytes(stage), ...mirror });
      progress.close();
      const format = (await session.services.sources()).find((source) => source.name === name)?.format ?? name;
      const document = { name, path: out, format, id: set.id, train: set.train.count, test: set.test?.count ?? 0 };
      const use = `to use it: --set dataset.format=${format} --set dataset.path=${out}`;
      printResult(
        session,
        flags,
        document,
        `${name}: ${document.train} train and ${document.test} test images in ${out}\n${use}`,
      );
    } finally {
      progress.close();
    }
  });
}

/** Every file and step is a phase of its own; sizes the server does not tell count as what has come so far. */
function showBytes(stage: StageProgress): (progress: FetchProgress) => void {
  let phase = '';
  return ({ step, file, bytes, total }) => {
    if (phase !== `${step} ${file}`) {
      phase = `${step} ${file}`;
      stage.start(total ?? bytes, 'byte', phase);
    }
    stage.update(bytes);
  };
}

async function inspect(path: string, flags: InspectFlags, session: Session): Promise<void> {
  const options = { classes: null, verify: flags.verify ?? false, skipUnreadable: flags.skipUnreadable ?? false };
  const set = await session.services.openDataset(flags.format, path, options);
  const count = (labels: Int32Array): number[] => {
    const counts = new Array<number>(set.classNames.length).fill(0);
    for (const label of labels) counts[label] = (counts[label] ?? 0) + 1;
    return counts;
  };
  const train = count(set.train.labels);
  const test = set.test ? count(set.test.labels) : null;
  const document = {
    name: set.name,
    id: set.id,
    ...(set.content === undefined ? {} : { content: set.content }),
    channels: set.channels,
    mean: set.mean,
    std: set.std,
    train: set.train.count,
    test: set.test?.count ?? 0,
    classes: set.classNames.map((name, c) => ({ name, train: train[c] ?? 0, test: test?.[c] ?? 0 })),
  };
  const head = `${set.name}: ${set.classNames.length} classes, ${counted(set.channels, 'channel')}, ${document.train} train and ${document.test} test images\nid ${set.id}${set.content === undefined ? '' : `\ncontent ${set.content}`}`;
  const rows = document.classes.map((c) => [c.name, String(c.train), String(c.test)]);
  printResult(session, flags, document, `${head}\n\n${textTable(['class', '>train', '>test'], rows)}`);
}
