#!/usr/bin/env node
// Writes src/presets/config.schema.json from the options tables (run after `npm run build:ts`).

import { writeFileSync } from 'node:fs';
import { configJsonSchema } from '../dist/config.js';

writeFileSync(
  new URL('../src/presets/config.schema.json', import.meta.url),
  `${JSON.stringify(configJsonSchema(), null, 2)}\n`,
);
