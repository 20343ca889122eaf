// Distils a folder of your own images through the API, with a progress bar and an orderly Ctrl-C:
//
//   node examples/distill-folder.mjs photos runs/photos --size 64 --ipc 10
//
// photos/train/CLASS/*.jpg is distilled, photos/val/CLASS/*.jpg measures the students. The same command goes on where it
// was stopped. Everything not set here has the defaults of docs/config.md.

import { parseArgs } from 'node:util';
import { createProgress, EXIT_CODES, LpldError, parseConfig, runPipeline } from 'lpld-native';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '32' }, // side of the synthetic images, px
    ipc: { type: 'string', default: '10' }, // synthetic images per class
    iterations: { type: 'string', default: '1000' }, // of synthesis
    epochs: { type: 'string', default: '300' }, // of labels and students
    'teacher-epochs': { type: 'string', default: '20' },
    threads: { type: 'string' }, // all when not given
  },
});
const [folder, out = 'runs/folder'] = positionals;
if (folder === undefined) {
  console.error('usage: node distill-folder.mjs FOLDER [OUT] [--size PX] [--ipc N] [--iterations N] [--epochs N]');
  process.exit(EXIT_CODES.E_CONFIG);
}

const stop = new AbortController();
process.once('SIGINT', () => stop.abort()); // the step that runs is finished, what is done is kept

const progress = createProgress('bar', process.stderr);
try {
  const size = Number(values.size);
  const config = parseConfig({
    name: 'folder',
    controls: ['random', 'random-soft'],
    dataset: { format: 'folder', path: folder, storedSize: size, inputSize: size },
    squeeze: { arch: 'convnet', widths: [32, 64, 64], epochs: Number(values['teacher-epochs']), lr: 0.002 },
    synthesize: { ipc: Number(values.ipc), iterations: Number(values.iterations) },
    relabel: { epochs: Number(values.epochs) },
    prune: { pruneRatio: 0.9 },
    train: { epochs: Number(values.epochs), lr: 0.002 },
  });
  const report = await runPipeline(config, {
    out,
    runtime: {
      device: 'auto',
      threads: values.threads === undefined ? null : Number(values.threads),
      memory: null,
      deterministic: false,
    },
    progress,
    signal: stop.signal,
    verifyData: false,
  });
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  console.log(`teacher       ${percent(report.teacher.top1)}`);
  console.log(`student       ${percent(report.student.top1)}`);
  console.log(`random, soft  ${percent(report.randomSoft.top1)}`);
  console.log(`random, hard  ${percent(report.random.top1)}`);
  console.log(`${report.images.bytes} bytes of images, ${report.labels.bytes} bytes of labels, ${out}/report.html`);
} catch (error) {
  if (!(error instanceof LpldError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = EXIT_CODES[error.code];
} finally {
  progress.close();
}
