// The charts of the HTML report, drawn by echarts without a browser (server-side rendering to an SVG string).
// Colours are placeholders that become CSS variables, so one SVG follows light and dark themes. Every chart is disposed
// at once: a live one keeps a timer and the process would not exit.

import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, MarkLineComponent } from 'echarts/components';
import type { EChartsCoreOption } from 'echarts/core';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { formatBytes, formatNumber } from './format.ts';
import type { Series } from './read.ts';

use([BarChart, CustomChart, LineChart, ScatterChart, GridComponent, LegendComponent, MarkLineComponent, SVGRenderer]);

const WIDTH = 720;

// placeholder -> CSS variable of report.html
export const INK = '#000001';
export const MUTED = '#000002';
const RULE = '#000003';
const PAPER = '#000004';
export const PALETTE = ['#000011', '#000012', '#000013', '#000014', '#000015', '#000016'];
const VARIABLES: readonly (readonly [string, string])[] = [
  [INK, 'ink'],
  [MUTED, 'muted'],
  [RULE, 'rule'],
  [PAPER, 'paper'],
  ...PALETTE.map((color, i) => [color, `c${i + 1}`] as const),
];

export function draw(height: number, label: string, option: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption({ animation: false, color: PALETTE, textStyle: { color: INK, fontFamily: 'inherit' }, ...option });
    const svg = chart
      .renderToSVGString()
      .replace(/<style\s*>[\s\S]*?<\/style>/g, '')
      .replace(/ (class|ecmeta_[a-z_]+)="[^"]*"/g, '')
      .replace('<svg ', `<svg role="img" aria-label="${label.replace(/[&<>"]/g, ' ')}" `);
    return VARIABLES.reduce((text, [color, name]) => text.replaceAll(color, `var(--${name})`), svg);
  } finally {
    chart.dispose();
  }
}

export function axis(name: string, extra: object): object {
  return {
    name,
    nameLocation: 'middle',
    nameTextStyle: { color: MUTED },
    axisLine: { show: true, lineStyle: { color: MUTED } },
    axisTick: { show: false },
    axisLabel: { color: MUTED },
    splitLine: { lineStyle: { color: RULE } },
    ...extra,
  };
}

/** Logarithmic where all values are positive and span more than a factor of 20. */
function scaleOf(values: readonly number[]): 'log' | 'value' {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return low > 0 && high / low > 20 ? 'log' : 'value';
}

/**
 * Loss curves of one stage. At most `limit` series are drawn; the caller says so where there are more.
 *
 * @param series - points [x, y], y finite
 * @param x - what x counts: epoch, iteration
 * @returns an SVG element, 720 px wide, scalable
 */
export function lossChart(label: string, series: readonly Series[], x: string): string {
  const y = series.flatMap((s) => s.points.map((p) => p[1]));
  const legend = series.length <= 6;
  return draw(300, label, {
    grid: { left: 64, right: 16, top: legend ? 40 : 16, bottom: 48 },
    legend: {
      show: legend,
      left: 56,
      top: 4,
      icon: 'roundRect',
      itemWidth: 14,
      itemHeight: 4,
      itemGap: 28,
      textStyle: { color: INK },
    },
    xAxis: axis(x, { type: 'value', nameGap: 28, min: 'dataMin', max: 'dataMax', splitLine: { show: false } }),
    yAxis: axis('loss', {
      type: scaleOf(y),
      nameGap: 48,
      scale: true,
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    series: series.map((s) => ({
      type: 'line',
      name: s.name,
      data: s.points,
      showSymbol: s.points.length === 1,
      lineStyle: { width: 1.5, opacity: legend ? 1 : 0.6 },
      sampling: 'lttb',
      silent: true,
    })),
  });
}

export interface AccuracyPoint {
  readonly name: string;
  readonly bytes: number; // of labels, > 0
  readonly top1: number; // share in [0, 1]
  readonly std: number;
}

/**
 * Accuracy against label bytes, log x, with a bar of one standard deviation, and levels that have no label bytes
 * (teacher, hard labels) as dashed lines.
 */
export function accuracyChart(
  points: readonly AccuracyPoint[],
  levels: readonly { name: string; top1: number }[],
): string {
  const shares = [...points.flatMap((p) => [p.top1 - p.std, p.top1 + p.std]), ...levels.map((level) => level.top1)];
  const low = Math.max(0, Math.floor(Math.min(...shares) * 50 - 0.5) / 50);
  const high = Math.min(1, Math.ceil(Math.max(...shares) * 50 + 0.5) / 50);
  const decade = (bytes: number, up: number): number => 10 ** (Math.floor(Math.log10(bytes)) + up);
  const bytes = points.map((p) => p.bytes);
  return draw(340, 'accuracy against label bytes', {
    grid: { left: 64, right: 150, top: 20, bottom: 48 },
    xAxis: axis('bytes of soft labels', {
      type: 'log',
      nameGap: 28,
      min: decade(Math.min(...bytes), 0),
      max: decade(Math.max(...bytes), 1),
      axisLabel: { color: MUTED, formatter: powerOfTen },
    }),
    yAxis: axis('top-1, %', {
      type: 'value',
      nameGap: 40,
      min: low * 100,
      max: high * 100,
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    series: [
      {
        type: 'custom',
        silent: true,
        z: 2,
        data: points.map((p) => [p.bytes, (p.top1 - p.std) * 100, (p.top1 + p.std) * 100]),
        renderItem: errorBar,
      },
      ...points.map((p, i) => ({
        type: 'scatter',
        name: p.name,
        silent: true,
        symbolSize: 11,
        z: 3,
        data: [[p.bytes, p.top1 * 100]],
        itemStyle: { color: PALETTE[i % PALETTE.length], borderColor: PAPER, borderWidth: 1.5, opacity: 1 },
        label: { show: true, position: 'right', distance: 8, formatter: p.name, color: INK },
        labelLayout: { hideOverlap: false },
        ...(i === 0 ? { markLine: levelLines(levels) } : {}),
      })),
    ],
  });
}

/** Axis marks are powers of ten, so their units are decimal: 100 B, 1 kB, 10 kB, 1 MB. */
function powerOfTen(bytes: number): string {
  const step = Math.min(4, Math.max(0, Math.floor(Math.log10(bytes) / 3 + 1e-9)));
  return `${Number((bytes / 1000 ** step).toPrecision(3))} ${['B', 'kB', 'MB', 'GB', 'TB'][step]}`;
}

function levelLines(levels: readonly { name: string; top1: number }[]): object {
  return {
    symbol: 'none',
    silent: true,
    lineStyle: { color: MUTED, type: 'dashed', width: 1 },
    label: { color: MUTED, position: 'end', distance: 6 },
    data: levels.map((level) => ({
      yAxis: level.top1 * 100,
      label: { formatter: `${level.name} ${(level.top1 * 100).toFixed(1)}` },
    })),
  };
}

interface RenderApi {
  value(dimension: number): number;
  coord(point: readonly [number, number]): [number, number];
}

function errorBar(_: unknown, api: RenderApi): object {
  const low = api.coord([api.value(0), api.value(1)]);
  const high = api.coord([api.value(0), api.value(2)]);
  const line = (x1: number, y1: number, x2: number, y2: number): object => ({
    type: 'line',
    shape: { x1, y1, x2, y2 },
    style: { stroke: MUTED, lineWidth: 1.2 },
  });
  const cap = 5;
  return {
    type: 'group',
    children: [
      line(low[0], low[1], high[0], high[1]),
      line(low[0] - cap, low[1], low[0] + cap, low[1]),
      line(high[0] - cap, high[1], high[0] + cap, high[1]),
    ],
  };
}

/** Where the label bytes are: one horizontal bar per part, largest first. */
export function bytesChart(parts: Readonly<Record<string, number>>): string {
  const rows = Object.entries(parts).sort(([, a], [, b]) => a - b);
  return draw(16 + 30 * rows.length, 'label bytes by part', {
    grid: { left: 150, right: 90, top: 8, bottom: 8 },
    xAxis: { type: 'value', show: false },
    yAxis: axis('', {
      type: 'category',
      data: rows.map(([name]) => name),
      axisLabel: { color: INK, width: 136, overflow: 'truncate' },
    }),
    series: [
      {
        type: 'bar',
        silent: true,
        barMaxWidth: 16,
        data: rows.map(([, bytes]) => bytes),
        label: { show: true, position: 'right', color: INK, formatter: (p: { value: number }) => formatBytes(p.value) },
      },
    ],
  });
}
