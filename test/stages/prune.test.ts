// prune: the stage contract. Records are moved 256 at a time, so the store holds a few times as many.

import { testStage } from '../util/stage-suite.ts';

testStage({
  stage: 'prune',
  after: ['squeeze', 'synthesize', 'relabel'],
  seeded: false,
  cancelAt: [{ label: /keep/, share: 0.2 }],
  config: { relabel: { epochs: 300 }, prune: { pruneRatio: 0.1, keep: 'random-batches' } },
});
