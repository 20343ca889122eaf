// train: the stage contract with soft labels of a full and of a pruned pool, and with hard labels.

import { testStage } from '../util/stage-suite.ts';

const cancelAt = [
  { label: /student/, share: 0.1 },
  { label: /student/, share: 0.5 },
  { label: /student/, share: 0.6 },
];
const base = { stage: 'train', seeded: true, cancelAt } as const;
const train = { students: 2, epochs: 20 };

testStage({ ...base, after: ['squeeze', 'synthesize', 'relabel', 'prune'], config: { train } });
testStage({
  ...base,
  after: ['squeeze', 'synthesize', 'relabel'],
  config: { train: { ...train, draw: 'permutation', optimizer: 'sgd' } },
});
testStage({ ...base, after: ['squeeze', 'synthesize'], config: { train: { ...train, targets: 'hard' } } });
