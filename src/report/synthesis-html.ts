// The parts of a report about the images: how alike they are within a class, how they came about, the loss of each layer.

import { layerChart, similarityChart } from './charts-synthesis.ts';
import { escapeHtml } from './page.ts';
import type { Series } from './read.ts';
import type { Similarity, SynthesisFacts } from './synthesis.ts';

const CLASSES_DRAWN = 40;

export const SIMILARITY_NOTE =
  'Mean cosine over all pairs of images of a class, of the inputs of the teacher’s last layer. Images that differ more give a lower value.';

export function similarityPart(similarity: Similarity | null, names: readonly string[]): string {
  if (similarity === null) return '';
  const { mean, classes } = similarity;
  const shown = classes.slice(0, CLASSES_DRAWN);
  const values = shown.map(({ cosine }) => cosine);
  const chart = similarityChart(
    shown.map(({ classId }) => names[classId] ?? String(classId)),
    [{ name: 'images', mean, values }],
  );
  const cut = classes.length > shown.length ? ` Drawn: the first ${shown.length} of ${classes.length} classes.` : '';
  const note = `${SIMILARITY_NOTE} Over all classes: ${mean.toFixed(3)} (dashed).${cut}`;
  return `<h2>Within-class similarity</h2><figure>${chart}</figure><p class="note">${note}</p>`;
}

export function snapshotsPart({ snapshots, snapshotsTotal }: SynthesisFacts): string {
  if (snapshots.length === 0) return '';
  const figures = snapshots.map(({ iteration, uri, width }) => {
    const sharp = width > 0 && width <= 720 ? ' class="px"' : '';
    const caption = `iteration ${iteration}`;
    return `<figure><img${sharp} alt="${caption}" src="${uri}"><figcaption>${caption}</figcaption></figure>`;
  });
  const cut = snapshots.length < snapshotsTotal ? ` Shown: ${snapshots.length} of ${snapshotsTotal}.` : '';
  const note = `<p class="note">The images of the first forward in the making, a row a class.${cut}</p>`;
  return `<h2>In the making</h2>${note}<div class="shots">${figures.join('')}</div>`;
}

export function layersPart(layers: readonly Series[]): string {
  if (layers.length === 0) return '';
  const heat = layers.length > 6 ? ' Brighter is larger, on a logarithmic scale.' : '';
  const note = `Distance of batch statistics from their targets, layer by layer, before any weight; mean over all groups.${heat}`;
  return `<h3>synthesize, BatchNorm layers</h3><figure>${layerChart(layers, 'iteration')}</figure><p class="note">${escapeHtml(note)}</p>`;
}
