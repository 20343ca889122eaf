// LPLD (label pruning for large-scale distillation): a group is the images of one class, matched with that class's own
// BatchNorm statistics, so that they divide the class's variety among them. With targets 'global' it is the paper's
// ablation +C: batches of one class, statistics of the whole dataset.
// Source: methods 3.3. QUIRK(batch-overshoot): upstream makes full batches past ipc when ipc is no multiple of the batch,
// and its Tiny writer overwrites earlier images; changed: the last round is smaller and ids go on.

import type { Method } from './index.ts';

export const lpld: Method = {
  name: 'lpld',
  summary: "one class at a time against the class's own statistics",
  source: 'synthetic',
  curriculum: false,
  groups(classes, { ipc, batch, numClasses, targets }) {
    const size = Math.min(batch, ipc);
    return classes.flatMap((classId) =>
      Array.from({ length: Math.ceil(ipc / size) }, (_, round) => ({
        images: Array.from({ length: Math.min(size, ipc - round * size) }, (_, i) => ({
          classId,
          id: round * size + i,
        })),
        target: targets === 'global' ? ('global' as const) : { classId },
        object: classId + numClasses * round,
      })),
    );
  },
};
