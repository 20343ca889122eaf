// Options that a config does not read: given on the command line or as an override they would be ignored in silence, and
// whoever gave them would believe otherwise. A file or a preset may carry them: it names every key, whatever it asks for.
// One line for each group of keys; what a rule says is why they are not read, null where they are.

import type { Config } from './config.ts';
import { expected, LpldError } from './errors.ts';
import { methodNamed } from './methods/index.ts';

interface Rule {
  readonly keys: readonly string[];
  readonly unread: (config: Config) => string | null;
}

const of = (section: string, ...names: readonly string[]): string[] => names.map((name) => `${section}.${name}`);
const when = (condition: boolean, why: string): string | null => (condition ? why : null);

/** Options of an optimizer that only one of the two has. */
const optimizer = (section: 'squeeze' | 'train'): Rule[] => [
  {
    keys: of(section, 'momentum'),
    unread: (config) => when(config[section].optimizer === 'adamw', `${section}.optimizer is adamw`),
  },
  {
    keys: of(section, 'beta1', 'beta2', 'eps'),
    unread: (config) => when(config[section].optimizer === 'sgd', `${section}.optimizer is sgd`),
  },
  {
    keys: of(section, 'warmupStart'),
    unread: (config) => when(config[section].warmupEpochs === 0, `${section}.warmupEpochs is 0`),
  },
];

const IMPORTED = 'squeeze.weights are imported and not trained';

const RULES: readonly Rule[] = [
  {
    keys: [
      ...of('squeeze', 'epochs', 'batch', 'optimizer', 'lr', 'momentum', 'beta1', 'beta2', 'eps', 'weightDecay'),
      ...of('squeeze', 'decay', 'schedule', 'schedulePer', 'warmupEpochs', 'warmupStart', 'labelSmoothing', 'mix'),
    ],
    unread: ({ squeeze }) => when(squeeze.weights !== null, IMPORTED),
  },
  {
    keys: of('squeeze', 'cropScale', 'flip', 'cutout'),
    unread: ({ squeeze: { weights, stats, statsAugment } }) =>
      when(weights !== null && (stats === 'none' || statsAugment === 'none'), `${IMPORTED}, their statistics plain`),
  },
  {
    keys: of('squeeze', 'statsAugment', 'statsViews'),
    unread: ({ squeeze }) => when(squeeze.stats === 'none', 'squeeze.stats is none'),
  },
  {
    keys: of('squeeze', 'statsMomentum'),
    unread: ({ squeeze }) => when(squeeze.stats !== 'ema', `squeeze.stats is ${squeeze.stats}`),
  },
  {
    keys: of('squeeze', 'stem'),
    unread: ({ squeeze }) => when(squeeze.arch === 'convnet', 'squeeze.arch is convnet'),
  },
  {
    keys: of('squeeze', 'widths', 'pooling'),
    unread: ({ squeeze, train }) =>
      when(squeeze.arch !== 'convnet' && train.arch !== 'convnet', `squeeze.arch is ${squeeze.arch}`),
  },
  {
    keys: of('train', 'widths'),
    unread({ squeeze, train }) {
      const arch = train.arch ?? squeeze.arch;
      return when(arch !== 'convnet', `the students are of ${arch}`);
    },
  },
  ...optimizer('squeeze'),
  ...optimizer('train'),
  {
    keys: [
      ...of('synthesize', 'targets', 'iterations', 'batch', 'lr', 'beta1', 'beta2', 'eps', 'rBn', 'firstBnMultiplier'),
      ...of('synthesize', 'tvL2', 'l2Scale', 'cropScale', 'flip', 'rollMin', 'rollMax', 'groupsPerForward'),
    ],
    unread: ({ synthesize: { method } }) =>
      when(methodNamed(method).source === 'real', `synthesize.method ${method} takes real images`),
  },
  {
    keys: of('synthesize', 'curriculum', 'milestone'),
    unread: ({ synthesize: { method } }) =>
      when(!methodNamed(method).curriculum, `synthesize.method ${method} keeps the crop scale`),
  },
  {
    keys: of('relabel', 'combine'),
    unread: ({ relabel }) => when(relabel.ensemble.length === 0, 'relabel.ensemble is empty: one teacher answers'),
  },
  {
    keys: of('relabel', 'keep'),
    unread: ({ relabel }) => when(relabel.pruneRatio === 0, 'relabel.pruneRatio is 0: relabel keeps all records'),
  },
  {
    keys: of('prune', 'keep', 'metric', 'end'),
    unread: ({ prune }) => when(prune.pruneRatio === 0, 'prune.pruneRatio is 0: prune keeps all records'),
  },
  {
    keys: of('prune', 'metric', 'end'),
    unread: ({ prune }) => when(prune.keep !== 'metric', `prune.keep is ${prune.keep}, not metric`),
  },
  {
    keys: of('prune', 'fitRecords'),
    unread: ({ prune }) => when(prune.codec === null, 'prune.codec is none: labels stay as they are stored'),
  },
  {
    keys: of('train', 'temperature', 'teacherTemperature', 'temperatureSquared'),
    unread: ({ train }) => when(train.targets === 'hard', 'train.targets is hard'),
  },
  {
    keys: of('train', 'lastBatchRule'),
    unread: ({ train: { draw } }) => when(draw !== 'auto' && draw !== 'with-replacement', `train.draw is ${draw}`),
  },
];

/**
 * Refuses overrides that the config they make does not read.
 *
 * @param overrides - dotted keys and their values, as loadConfig takes them
 * @throws {LpldError} E_CONFIG naming the first one and what would have to be otherwise
 */
export function checkRead(config: Config, overrides: Readonly<Record<string, unknown>>): void {
  for (const [key, value] of Object.entries(overrides))
    for (const { keys, unread } of RULES) {
      const why = keys.includes(key) ? unread(config) : null;
      if (why === null) continue;
      const shown = typeof value === 'object' ? JSON.stringify(value) : value;
      const message = expected('no value', key, shown, `it would not be read: ${why}`);
      throw new LpldError('E_CONFIG', message, { key });
    }
}

/** Keys that some rule names, for the test that all of them exist. */
export const RULED_KEYS: readonly string[] = [...new Set(RULES.flatMap(({ keys }) => keys))];
