// Charts about synthesis: the matching loss of each BatchNorm layer over the iterations, and how alike the images of each
// class are. Drawn like all others (charts.ts).

import { HeatmapChart } from 'echarts/charts';
import { VisualMapComponent } from 'echarts/components';
import { use } from 'echarts/core';
import { axis, colorOf, draw, INK, lossChart, MUTED, type Placed } from './charts.ts';
import { formatNumber } from './format.ts';
import type { Series } from './read.ts';

use([HeatmapChart, VisualMapComponent]);

const LINES = 6; // layers that lines can still tell apart
const COLUMNS = 60; // of a heat map
/** Dark to bright, told apart by colour-blind readers and in grey (viridis at seven places). */
const HEAT = ['#440154', '#443983', '#31688e', '#21918c', '#35b779', '#90d743', '#fde725'];

/**
 * The matching loss r of each layer over the iterations: lines for a few layers, a heat map of its logarithm for many.
 *
 * @param layers - one series a layer in the order of the network, all with the same x
 */
export function layerChart(layers: readonly Series[], x: string): string {
  const label = 'BatchNorm matching loss of each layer';
  if (layers.length <= LINES) return lossChart(label, layers, x);
  const points = layers[0]!.points.length;
  const columns = Array.from(
    { length: Math.min(COLUMNS, points) },
    (_, c) => Math.ceil(((c + 1) * points) / Math.min(COLUMNS, points)) - 1,
  );
  const log = (value: number): number => Math.log10(Math.max(value, 1e-12));
  const data = layers.flatMap((layer, l) => columns.map((at, c) => [c, l, log(layer.points[at]?.[1] ?? 0)] as const));
  const values = data.map(([, , value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return draw(60 + 14 * layers.length, label, {
    grid: { left: 150, right: 90, top: 8, bottom: 48 },
    xAxis: axis(x, {
      type: 'category',
      nameGap: 28,
      data: columns.map((at) => String(layers[0]!.points[at]![0])),
      splitLine: { show: false },
    }),
    yAxis: axis('', {
      type: 'category',
      inverse: true,
      data: layers.map((layer) => layer.name),
      axisLabel: { color: INK, width: 136, overflow: 'truncate', interval: 0, fontSize: 11 },
    }),
    visualMap: {
      type: 'continuous',
      min: low,
      max: high > low ? high : low + 1,
      right: 0,
      top: 'center',
      itemWidth: 12,
      itemHeight: Math.min(140, 14 * layers.length),
      text: [formatNumber(10 ** high), formatNumber(10 ** low)],
      textStyle: { color: MUTED },
      inRange: { color: HEAT },
    },
    series: [{ type: 'heatmap', silent: true, data, progressive: 0 }],
  });
}

/** Within-class similarity of one or several sets: a row a class, a mark a set, and each set's mean as a dashed line. */
export interface SimilaritySet extends Placed {
  readonly name: string;
  readonly mean: number;
  readonly values: readonly (number | null)[]; // by class, as `classes`
}

/** @param classes - names, in the order of the values */
export function similarityChart(classes: readonly string[], sets: readonly SimilaritySet[]): string {
  const all = sets.flatMap(({ values, mean }) => [mean, ...values.filter((value) => value !== null)]);
  const low = Math.max(-1, Math.floor(Math.min(...all) * 10 - 0.5) / 10);
  const legend = sets.length > 1;
  return draw((legend ? 84 : 56) + 22 * classes.length, 'within-class similarity', {
    grid: { left: 120, right: 24, top: legend ? 40 : 8, bottom: 48 },
    legend: { show: legend, left: 112, top: 4, itemWidth: 12, itemHeight: 10, itemGap: 24, textStyle: { color: INK } },
    xAxis: axis('mean cosine between images of a class', {
      type: 'value',
      nameGap: 28,
      min: low,
      max: 1,
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    yAxis: axis('', {
      type: 'category',
      inverse: true,
      data: [...classes],
      splitLine: { show: true },
      axisLabel: { color: INK, width: 106, overflow: 'truncate', interval: 0 },
    }),
    series: sets.map((set, i) => {
      const place = set.place ?? i;
      const color = colorOf(place);
      return {
        type: 'scatter',
        name: set.name,
        silent: true,
        symbol: ['circle', 'rect', 'triangle', 'diamond'][place % 4],
        symbolSize: 10,
        itemStyle: { color, opacity: 1 },
        data: set.values.flatMap((value, row) => (value === null ? [] : [[value, row]])),
        markLine: {
          symbol: 'none',
          silent: true,
          precision: 6, // two decimals otherwise
          label: { show: false },
          lineStyle: { color, type: 'dashed', width: 1 },
          data: [{ xAxis: set.mean }],
        },
      };
    }),
  });
}
