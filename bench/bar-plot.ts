/**
 * A bar plot as SVG text: one panel for each measurement, one bar for each target, a whisker for its
 * interval. No library and no script, so that the file shows wherever an image shows. Pure.
 */
import type { Estimate } from './statistics.ts';
import { formatNumber } from './table.ts';

/** One bar. */
export interface Bar {
  readonly label: string;
  readonly estimate: Estimate;
  /** Drawn in the strong colour. */
  readonly ours: boolean;
}

/** One measurement. */
export interface Panel {
  /** What and in which unit, and whether more is better. */
  readonly title: string;
  readonly bars: readonly Bar[];
}

const WIDTH = 760;
const LABEL_WIDTH = 130;
const VALUE_WIDTH = 80;
const BAR_HEIGHT = 16;
const ROW_HEIGHT = 22;
const PANEL_HEAD = 34;
const HEAD = 56;

function escapeXml(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (mark) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[mark] ?? mark,
  );
}

function barRow(bar: Bar, top: number, scale: number): string {
  const { value, low, high } = bar.estimate;
  const at = (amount: number): string => (LABEL_WIDTH + amount * scale).toFixed(1);
  const middle = top + BAR_HEIGHT / 2;
  const baseline = middle + 4;
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${baseline}" text-anchor="end">${escapeXml(bar.label)}</text>`,
    `<rect x="${LABEL_WIDTH}" y="${top}" width="${(value * scale).toFixed(1)}"` +
      ` height="${BAR_HEIGHT}" fill="${bar.ours ? '#1f6feb' : '#b6bec9'}"/>`,
    `<path d="M${at(low)} ${middle}H${at(high)}M${at(low)} ${middle - 4}v8` +
      `M${at(high)} ${middle - 4}v8" stroke="#24292f"/>`,
    `<text x="${(LABEL_WIDTH + Math.max(value, high) * scale + 8).toFixed(1)}"` +
      ` y="${baseline}">${formatNumber(value)}</text>`,
  ].join('\n');
}

/** Draws the panels below each other. Panels without bars are left out. */
export function drawBarPlot(title: string, subtitle: string, panels: readonly Panel[]): string {
  const parts: string[] = [];
  let top = HEAD;
  for (const panel of panels.filter(({ bars }) => bars.length > 0)) {
    const extents = panel.bars.map(({ estimate }) => Math.max(estimate.value, estimate.high));
    const widest = Math.max(...extents);
    const scale = widest > 0 ? (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / widest : 0;
    parts.push(`<text x="8" y="${top + 20}" font-weight="bold">${escapeXml(panel.title)}</text>`);
    top += PANEL_HEAD;
    for (const bar of panel.bars) {
      parts.push(barRow(bar, top, scale));
      top += ROW_HEIGHT;
    }
  }
  const height = top + 12;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}"` +
      ` height="${height}" font-family="sans-serif" font-size="12" fill="#24292f">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="8" y="22" font-size="16" font-weight="bold">${escapeXml(title)}</text>`,
    `<text x="8" y="42">${escapeXml(subtitle)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
