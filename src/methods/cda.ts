// CDA (curriculum data augmentation): SRe2L with one change: the lower bound of the crop scale falls over the
// iterations, from whole images to small crops (schedule.ts, cropScale; published: cosine with milestone 1).
// Source: methods 2. QUIRK(cda-milestone): upstream's default milestone 0 silently gives SRe2L; changed: the defaults
// here are the published commands'.

import type { Method } from './index.ts';
import { sre2l } from './sre2l.ts';

export const cda: Method = {
  ...sre2l,
  name: 'cda',
  summary: 'as sre2l, with crops that shrink over the iterations',
  curriculum: true,
};
