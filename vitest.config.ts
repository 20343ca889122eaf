import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks', // a crash costs one file
    maxWorkers: 2,
    testTimeout: 60_000, // a busy two-core machine; nothing here is timed
    hookTimeout: 120_000,
  },
});
