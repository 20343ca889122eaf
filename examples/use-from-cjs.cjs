// Reading labels from CommonJS: node examples/use-from-cjs.cjs [LABELS IMAGES]

const { LabelReader } = require('lpld-native');

async function main(labels = 'runs/quickstart/prune', images = 'runs/quickstart/synthesize') {
  const reader = await LabelReader.open(labels, images);
  const { recordIds, offset, logits, recipes } = await reader.read([0]); // by position in the pool
  const pixels = await reader.pixels(recipes); // the views the teacher saw, byte for byte
  const { codec } = reader.store.index;
  console.log(`${reader.numRecords} records, ${reader.store.bytes().file} bytes, codec ${codec}`);
  console.log(`record ${recordIds[0]}: ${offset[1]} rows, pixels ${pixels.dtype} [${pixels.shape}]`);
  console.log(
    `logits of the first: ${Array.from(logits.subarray(0, reader.numClasses), (x) => x.toFixed(2)).join(' ')}`,
  );
  await reader.close();
}

main(...process.argv.slice(2));
