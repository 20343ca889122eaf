// Accuracy against the bytes of the labels: single runs, or whole curves of several stores of one teacher. Bytes lie on a
// logarithmic axis from one power of ten to another; a bar is one standard deviation; what has no label bytes (teacher, hard
// labels) is a dashed line. Marks and names are drawn in px of a frame whose size is known here.

import { CustomChart } from 'echarts/charts';
import { use } from 'echarts/core';
import { axis, colorOf, draw, INK, MUTED, PAPER, WIDTH } from './charts.ts';
import { formatNumber } from './format.ts';
import { type Box, placeLabels, spread, textWidth } from './label-places.ts';

use([CustomChart]);

const HEIGHT = 360;
const LEFT = 64;
const BOTTOM = HEIGHT - 48;
const LONGEST = 28; // characters of a name
const SYMBOLS = ['circle', 'rect', 'triangle', 'diamond'];

export interface AccuracyPoint {
  readonly name: string;
  readonly bytes: number; // of labels, > 0
  readonly top1: number; // share in [0, 1]
  readonly std: number; // 0 for a single run
}

/** A point of a curve; those of one series and equal `line` are joined. */
export interface CurvePoint extends AccuracyPoint {
  readonly line: string;
}

export interface Level {
  readonly name: string;
  readonly top1: number;
}

interface Series<Point> {
  readonly name: string;
  readonly points: readonly Point[];
}

export type CurveSeries = Series<CurvePoint>;

/** Points of their own colours with their names beside them: the run of a report and those it is compared with. */
export function accuracyChart(points: readonly AccuracyPoint[], levels: readonly Level[]): string {
  const series = points.map((point) => ({ name: point.name, points: [point] }));
  return accuracySvg(series, levels, null);
}

/** Curves, a colour and a symbol a series, with a legend above: points joined by lines in order of their bytes. */
export function curveChart(series: readonly CurveSeries[], levels: readonly Level[]): string {
  return accuracySvg(series, levels, series.flatMap(joints));
}

const percent = (share: number): number => 100 * share;
const short = (name: string): string => {
  const characters = [...name];
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join('')}…` : name;
};

/** Round ends and step of an axis of percent that holds all values. */
function percentAxis(values: readonly number[]): { min: number; max: number; interval: number } {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const interval = [1, 2, 5, 10, 20].find((step) => Math.ceil(high / step) - Math.floor(low / step) <= 6) ?? 20;
  const min = Math.max(0, Math.floor(low / interval) * interval);
  const max = Math.min(100, Math.ceil(high / interval) * interval);
  return min < max ? { min, max, interval } : { min: Math.max(0, min - interval), max: min + interval, interval };
}

interface Frame {
  readonly right: number; // px
  readonly top: number;
  x(bytes: number): number;
  y(top1: number): number;
}

/** @param lines - of curves; null for single points, which have names instead of a legend */
function accuracySvg(
  series: readonly Series<AccuracyPoint>[],
  levels: readonly Level[],
  lines: readonly object[] | null,
): string {
  const curves = lines !== null;
  const points = series.flatMap((one) => one.points);
  const bytes = points.map((point) => point.bytes);
  const decade = (value: number): number => Math.floor(Math.log10(value) + 1e-9);
  const [first, last] = [decade(Math.min(...bytes)), decade(Math.max(...bytes)) + 1];
  const spans = points.flatMap(({ top1, std }) => [Math.max(0, top1 - std), Math.min(1, top1 + std)]);
  const y = percentAxis([...spans, ...levels.map(({ top1 }) => top1)].map(percent));
  const margin = Math.max(0, ...levels.map((level) => textWidth(levelText(level)))) + 16;
  const rows = curves ? legendRows(series) : 0;
  const top = 16 + 20 * rows;
  const right = WIDTH - Math.max(24, margin);
  const frame: Frame = {
    right,
    top,
    x: (value) => LEFT + ((Math.log10(value) - first) / (last - first)) * (right - LEFT),
    y: (top1) => BOTTOM - ((percent(top1) - y.min) / (y.max - y.min)) * (BOTTOM - top),
  };
  return draw(HEIGHT, 'accuracy against label bytes', {
    grid: { left: LEFT, right: WIDTH - right, top, bottom: HEIGHT - BOTTOM },
    legend: {
      show: curves,
      left: LEFT - 8,
      top: 4,
      width: WIDTH - LEFT,
      itemGap: 28,
      itemWidth: 14,
      data: series.map(({ name }) => name),
      textStyle: { color: INK },
    },
    xAxis: axis('bytes of soft labels', {
      type: 'log',
      nameGap: 28,
      min: 10 ** first,
      max: 10 ** last,
      axisLabel: { color: MUTED, formatter: powerOfTen },
    }),
    yAxis: axis('top-1, %', {
      type: 'value',
      nameGap: 40,
      ...y,
      axisLabel: { color: MUTED, formatter: (value: number) => formatNumber(value) },
    }),
    series: [
      ...(lines ?? []),
      ...series.map((one, i) => marks(one, i, curves)),
      overlay(curves ? [] : names(points, frame), 4),
      overlay([...bars(series, frame, curves), ...levelLines(levels, frame)], 1),
    ],
  });
}

/** Rows the legend takes, by estimated widths. */
function legendRows(series: readonly Series<unknown>[]): number {
  let [rows, at] = [1, 0];
  for (const { name } of series) {
    const width = textWidth(name) + 47;
    if (at > 0 && at + width > WIDTH - LEFT) [rows, at] = [rows + 1, 0];
    at += width;
  }
  return rows;
}

function marks({ name, points }: Series<AccuracyPoint>, i: number, curves: boolean): object {
  return {
    type: 'scatter',
    name,
    silent: true,
    symbol: curves ? SYMBOLS[i % SYMBOLS.length] : 'circle',
    symbolSize: curves ? 9 : 11,
    z: 3,
    data: points.map((point) => [point.bytes, percent(point.top1)]),
    itemStyle: { color: colorOf(i), borderColor: PAPER, borderWidth: curves ? 1 : 1.5, opacity: 1 },
  };
}

/** The lines of a series, in its colour. */
function joints({ points }: CurveSeries, i: number): object[] {
  const keys = [...new Set(points.map(({ line: key }) => key))];
  const joined = keys.filter((key) => points.filter((point) => point.line === key).length > 1);
  return joined.map((key) => ({
    type: 'line',
    silent: true,
    showSymbol: false,
    z: 2,
    data: points
      .filter((point) => point.line === key)
      .sort((a, b) => a.bytes - b.bytes)
      .map((point) => [point.bytes, percent(point.top1)]),
    lineStyle: { color: colorOf(i), width: 1.5 },
  }));
}

/** Shapes in px, whatever the axes. */
function overlay(children: readonly object[], z: number): object {
  return { type: 'custom', silent: true, z, data: [0], renderItem: () => ({ type: 'group', children }) };
}

const line = (points: readonly [number, number][], stroke: string, more: object = {}): object => ({
  type: 'polyline',
  shape: { points },
  style: { stroke, fill: 'none', lineWidth: 1.2, ...more },
});

const text = (x: number, y: number, content: string, fill: string, side: 'left' | 'right' = 'right'): object => ({
  type: 'text',
  style: {
    ...{ x, y, text: content, fill, fontSize: 12, fontFamily: 'inherit' },
    ...{ textAlign: side === 'right' ? 'left' : 'right', textVerticalAlign: 'middle' },
  },
});

function bars(series: readonly Series<AccuracyPoint>[], frame: Frame, coloured: boolean): object[] {
  const cap = 5;
  return series.flatMap(({ points }, i) =>
    points
      .filter(({ std }) => std > 0)
      .flatMap(({ bytes, top1, std }) => {
        const [x, low, high] = [frame.x(bytes), frame.y(Math.max(0, top1 - std)), frame.y(Math.min(1, top1 + std))];
        const color = coloured ? colorOf(i) : MUTED;
        const ends = [low, high].map((y) => line([[x - cap, y], [x + cap, y]], color)); // biome-ignore format: a cap
        return [line([[x, low], [x, high]], color), ...ends]; // biome-ignore format: a bar
      }),
  );
}

/** Names beside their points; one that had to be moved is tied to its point by a thin line. */
function names(points: readonly AccuracyPoint[], frame: Frame): object[] {
  const marked = points.map(({ name, bytes, top1 }) => ({ x: frame.x(bytes), y: frame.y(top1), text: short(name) }));
  const taken = points.map(({ bytes, top1, std }): Box => {
    const x = frame.x(bytes);
    return { left: x - 5, right: x + 5, top: frame.y(top1 + std), bottom: frame.y(top1 - std) };
  });
  return placeLabels(marked, taken, frame.right).flatMap(({ side, y }, i) => {
    const mark = marked[i]!;
    const way = side === 'right' ? 1 : -1;
    const tie = line([[mark.x + way * 7, mark.y], [mark.x + way * 18, y]], MUTED, { lineWidth: 1 }); // biome-ignore format: a tie
    const moved = Math.abs(y - mark.y) > 3;
    return [...(moved ? [tie] : []), text(mark.x + way * (moved ? 21 : 12), y, mark.text, INK, side)];
  });
}

const levelText = ({ name, top1 }: Level): string => `${short(name)} ${percent(top1).toFixed(1)}`;

function levelLines(levels: readonly Level[], frame: Frame): object[] {
  const sorted = [...levels].sort((a, b) => b.top1 - a.top1);
  const places = spread(sorted.map(({ top1 }) => frame.y(top1)));
  return sorted.flatMap((level, i) => {
    const y = frame.y(level.top1);
    const path: [number, number][] = [[LEFT, y], [frame.right, y], [frame.right + 8, places[i]!]]; // biome-ignore format: a path
    return [
      line(path, MUTED, { lineWidth: 1, lineDash: [4, 3] }),
      text(frame.right + 12, places[i]!, levelText(level), MUTED),
    ];
  });
}

/** Axis marks are powers of ten, so their units are decimal: 100 B, 1 kB, 10 kB, 1 MB. */
function powerOfTen(bytes: number): string {
  const step = Math.min(4, Math.max(0, Math.floor(Math.log10(bytes) / 3 + 1e-9)));
  return `${Number((bytes / 1000 ** step).toPrecision(3))} ${['B', 'kB', 'MB', 'GB', 'TB'][step]}`;
}
