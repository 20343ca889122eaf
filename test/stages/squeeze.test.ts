// squeeze: the stage contract with both kinds of statistics.

import { expect, test } from 'vitest';
import { testStage } from '../util/stage-suite.ts';
import { tiny } from '../util/tiny.ts';

const cancelAt = [
  { label: /teacher/, share: 0.1 },
  { label: /teacher/, share: 0.5 },
  { label: /statistics/, share: 0.2 },
];

testStage({ stage: 'squeeze', after: [], seeded: true, cancelAt, config: { squeeze: { statsBatch: 16 } } });

testStage(
  {
    stage: 'squeeze',
    after: [],
    seeded: true,
    cancelAt,
    config: {
      squeeze: { stats: 'ema', statsAugment: 'train', statsViews: 2, statsBatch: 16, optimizer: 'sgd', mix: 'cutmix' },
    },
  },
  ({ run }) => {
    test('evaluation options are no part of a teacher', async () => {
      const change = {
        stats: 'ema',
        statsAugment: 'train',
        statsViews: 2,
        statsBatch: 16,
        optimizer: 'sgd',
        mix: 'cutmix',
      };
      const other = await run('evaluate', { config: tiny({ squeeze: change, evaluate: { batch: 7 } }) });
      expect(other.id).toBe((await run('one')).id);
    });
  },
);
