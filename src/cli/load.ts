// The real services: one line per call, each importing its module when it is first needed.

import { readFileSync } from 'node:fs';
import type { Services } from './services.ts';

/** Loads the stage table (no native code) and wires everything else lazily. */
export async function loadServices(): Promise<Services> {
  const { STAGES } = await import('../stages/index.ts');
  const { EXPORT_FORMATS, IMPORT_FORMATS } = await import('../interchange/index.ts');
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return {
    version,
    stages: STAGES,
    presetNames: async () => (await import('../config.ts')).presetNames(),
    loadConfig: async (source, overrides) => (await import('../config.ts')).loadConfig(source, { ...overrides }),
    runPipeline: async (config, options) => (await import('../run.ts')).runPipeline(config, options),
    planPipeline: async (config, options) => (await import('../run.ts')).planPipeline(config, options),
    runStage: async (stage, config, options) => (await import('../run.ts')).runStage(stage, config, options),
    mergeShards: async (dirs, options) => (await import('../merge.ts')).mergeShards(dirs, options),
    openArtifact: async (dir, options) => (await import('../artifact.ts')).openArtifact(dir, options),
    inspectLabels: async (artifact, teacher) =>
      (await import('../label-inspection.ts')).inspectLabels(artifact.dir, teacher),
    doctor: async () => {
      const { diagnose, renderDoctor } = await import('../doctor.ts');
      const report = await diagnose();
      return { ok: report.ok, report, text: renderDoctor(report) };
    },
    install: async (options) => {
      const found = await (await import('../install.ts')).installLibtorch(options);
      await (await import('../addon.ts')).ensureAddon(found, options.log ?? (() => {}));
      return found;
    },
    formats: async () => (await import('../datasets/index.ts')).FORMATS,
    openDataset: async (...call) => (await import('../datasets/index.ts')).openDataset(...call),
    fetchDataset: async (...call) => (await import('../datasets/fetch.ts')).fetchDataset(...call),
    sources: async () => (await import('../datasets/fetch.ts')).SOURCES,
    importWeights: async (...call) => (await import('../import-weights.ts')).importWeights(...call),
    compareSets: async (folders, out) => (await import('../report/compare.ts')).compareSets(folders, out),
    exchangeFormats: () => ({ exports: EXPORT_FORMATS, imports: IMPORT_FORMATS }),
    exportData: async (options) => (await import('../export.ts')).exportData(options),
    importData: async (options) => (await import('../import.ts')).importData(options),
    remakeReport: async (out, compare) => (await import('../report/index.ts')).remakeReport(out, compare),
  };
}
