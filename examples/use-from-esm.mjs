// The whole pipeline from an ES module: node examples/use-from-esm.mjs [PRESET OR CONFIG FILE] [OUT]

import { createProgress, loadConfig, runPipeline } from 'lpld-native';

const [source = 'quickstart', out = 'runs/from-esm'] = process.argv.slice(2);
const report = await runPipeline(loadConfig(source), { out, progress: createProgress('bar', process.stderr) });
console.log(`${report.student.top1} with ${report.labels.bytes} bytes of labels`);
