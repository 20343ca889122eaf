// relabel: the stage contract with derived and with stored Recipes.

import { testStage } from '../util/stage-suite.ts';

for (const recipes of ['derived', 'explicit'])
  testStage({
    stage: 'relabel',
    after: ['squeeze', 'synthesize'],
    seeded: true,
    cancelAt: [
      { label: /soft labels/, share: 0.1 },
      { label: /soft labels/, share: 0.3 },
    ],
    config: { relabel: { epochs: 100, recipes } },
  });
