// The charts of the HTML report, drawn by echarts without a browser (server-side rendering to an SVG string).
// Colours are placeholders that become CSS variables, so one SVG follows light and dark themes. Every chart is disposed
// at once: a live one keeps a timer and the process would not exit.

import { BarChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, MarkLineComponent } from 'echarts/components';
import type { EChartsCoreOption } from 'echarts/core';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { formatBytes, formatNumber } from './format.ts';
import type { Series } from './read.ts';

use([BarChart, LineChart, ScatterChart, GridComponent, LegendComponent, MarkLineComponent, SVGRenderer]);

export const WIDTH = 720; // px

// placeholder -> CSS variable of report.html
export const INK = '#000001';
export const MUTED = '#000002';
const RULE = '#000003';
export const PAPER = '#000004';
export const PALETTE = ['#000011', '#000012', '#000013', '#000014', '#000015', '#000016'];
const VARIABLES: readonly (readonly [string, string])[] = [
  [INK, 'ink'],
  [MUTED, 'muted'],
  [RULE, 'rule'],
  [PAPER, 'paper'],
  ...PALETTE.map((color, i) => [color, `c${i + 1}`] as const),
];

/** What keeps its colour and symbol in every chart of a page, whichever of its companions are missing there. */
export interface Placed {
  readonly place?: number; // in PALETTE, which repeats
}

export const colorOf = (place: number): string => PALETTE[place % PALETTE.length]!;

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
 * @param series - points [x, y], y finite; `place` chooses the colour, without it the order does
 * @param x - what x counts: epoch, iteration
 * @returns an SVG element, 720 px wide, scalable
 */
export function lossChart(label: string, series: readonly (Series & Placed)[], x: string): string {
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
    xAxis: axis(x, {
      type: 'value',
      nameGap: 28,
      min: 'dataMin',
      max: 'dataMax',
      splitLine: { show: false },
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    yAxis: axis('loss', {
      type: scaleOf(y),
      nameGap: 48,
      scale: true,
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    series: series.map((s, i) => ({
      type: 'line',
      name: s.name,
      color: colorOf(s.place ?? i),
      data: s.points,
      showSymbol: s.points.length === 1,
      lineStyle: { width: 1.5, opacity: legend ? 1 : 0.6 },
      sampling: 'lttb',
      silent: true,
    })),
  });
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
