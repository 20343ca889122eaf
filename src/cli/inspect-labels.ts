// A label store as `inspect` prints it for people: its bytes by purpose, and what they are compared with.

import type { LabelInspection } from '../label-inspection.ts';
import { counted, formatBytes, formatRatio, formatShare } from '../report/format.ts';
import { textTable } from '../report/table.ts';

const PARTS: Readonly<Record<keyof LabelInspection['bytes'], string>> = {
  payload: "the codec's tensors and blobs",
  recipes: 'stored Recipes; 0 where they are derived',
  index: 'record ids and sizes',
  basis: 'what the codec stored once',
  container: 'headers, labels.json and other files',
  file: 'all files',
};

export function labelText(labels: LabelInspection): string {
  const { bytes, images, fullStore, compression, bytesPerImage, teacher } = labels;
  const rows = Object.entries(PARTS).map(([part, what]) => {
    const size = bytes[part as keyof typeof PARTS];
    return [part, String(size), formatShare(size / bytes.file), formatBytes(size / images), what];
  });
  const lines = [
    `${counted(labels.records, 'record')} of ${counted(images, 'image')}, ${labels.classes} classes, codec ${labels.codec}`,
    `dense f16 store of the full plan   ${formatBytes(fullStore)}, ${formatRatio(compression)} as much`,
    `per image                          ${formatBytes(bytesPerImage)}`,
  ];
  if (teacher !== null) {
    const share = formatShare(bytes.file / teacher.int8Bytes);
    lines.push(`the teacher itself as int8         ${formatBytes(teacher.int8Bytes)}; the labels are ${share} of that`);
  }
  return `${textTable(['bytes of', '>bytes', '>share', '>per image', 'what'], rows)}\n\n${lines.join('\n')}`;
}
