/**
 * How something grows: one series is a thing that there is more of from point to point, measured at each
 * of them in the same rounds, and the law of growth is the exponent of the power law through them. Pure.
 */
import type { Workload } from '../fio.ts';
import type { Metric } from '../goals.ts';
import { METRIC_TITLES, metricOf } from '../report.ts';
import {
  growthExponent,
  median,
  medianEstimate,
  type Estimate,
  type Random,
} from '../statistics.ts';
import { formatEstimate, formatNumber, layOut } from '../table.ts';
import type { Trial } from '../trials.ts';

/** What there is more of. */
export type SeriesName = 'providers' | 'volumes' | 'connections' | 'sizes';

/** How often, or how large, it is measured. */
export const SERIES: Readonly<
  Record<SeriesName, { readonly full: readonly number[]; readonly quick: readonly number[] }>
> = {
  providers: { full: [1, 2, 4, 8, 16], quick: [1, 4] },
  volumes: { full: [1, 2, 4, 8], quick: [1, 4] },
  connections: { full: [1, 2, 4, 8], quick: [1, 4] },
  /** GiB of a thin volume. */
  sizes: { full: [1, 4, 16, 64], quick: [1, 16] },
};

/** What is done at each point, with 16 requests in flight on each connection. */
export const SCALE_WORKLOADS: readonly Workload[] = [
  { name: 'randread-qd16', pattern: 'randread', blockSizeBytes: 4096, queueDepth: 16 },
  { name: 'randwrite-qd16', pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 16 },
];

const METRICS: readonly Metric[] = ['iops', 'p50', 'p99', 'cpu'];

/** The name of a point as a target of trials. */
export function pointName(series: SeriesName, x: number): string {
  return `${series}=${x}`;
}

/** One workload at one point: medians over rounds. */
export interface ScaleRow {
  readonly workload: string;
  readonly x: number;
  readonly values: Readonly<Record<string, number>>;
}

/** How a metric grows with the series: `y` is as `x` to the power of it. */
export interface GrowthLaw {
  readonly workload: string;
  readonly metric: Metric;
  readonly exponent: Estimate;
}

/** What a series came to. */
export interface SeriesResult {
  readonly series: SeriesName;
  readonly rows: readonly ScaleRow[];
  readonly laws: readonly GrowthLaw[];
}

/** Medians of each point, and the law through the points, one exponent for each round. */
export function summarizeSeries(
  series: SeriesName,
  xs: readonly number[],
  trials: readonly Trial[],
  random: Random,
): SeriesResult {
  const rows: ScaleRow[] = [];
  const laws: GrowthLaw[] = [];
  for (const { name: workload, blockSizeBytes } of SCALE_WORKLOADS) {
    const own = trials.filter((trial) => trial.workload === workload);
    const at = (x: number): Trial[] => own.filter(({ target }) => target === pointName(series, x));
    const measured = xs.filter((x) => at(x).length > 0);
    for (const x of measured) {
      const values = METRICS.map((metric) => {
        const sample = at(x).map((trial) => metricOf(trial, metric, blockSizeBytes));
        return [metric, median(sample)] as const;
      });
      rows.push({ workload, x, values: Object.fromEntries(values) });
    }
    if (measured.length < 2) continue;
    const rounds = [...new Set(own.map(({ round }) => round))];
    for (const metric of METRICS) {
      const exponents = rounds.map((round) => {
        const points = measured.flatMap((x) =>
          at(x)
            .filter((trial) => trial.round === round)
            .map((trial) => ({ x, y: metricOf(trial, metric, blockSizeBytes) })),
        );
        return growthExponent(points);
      });
      laws.push({ workload, metric, exponent: medianEstimate(exponents, random) });
    }
  }
  return { series, rows, laws };
}

/** Points, then the law of each metric. */
export function renderSeries({ series, rows, laws }: SeriesResult): string {
  const points = layOut(
    [series, 'work', 'IOPS', 'p50 us', 'p99 us', 'CPU us/page'],
    rows.map(({ workload, x, values }) => [
      ...[String(x), workload],
      ...METRICS.map((metric) => formatNumber(values[metric] ?? NaN)),
    ]),
  );
  const growth = layOut(
    [`grows as ${series}^b`, 'b [95 %]', 'of'],
    laws.map(({ workload, metric, exponent }) => [
      ...[workload, formatEstimate(exponent), METRIC_TITLES[metric].split(' (')[0] ?? metric],
    ]),
  );
  return `${points}\n\n${growth}`;
}

/** What the consumer keeps of a thin volume. */
export interface MetadataRow {
  readonly sizeGib: number;
  /** Pages written. */
  readonly pages: number;
  /** What the making and serving of it took at once, bytes. */
  readonly emptyBytes: number;
  /** Growth of anonymous and shared memory and page tables for each page written, bytes. */
  readonly bytesPerPage: number;
}

/** A row for each size, then how both grow with it. */
export function renderMetadata(rows: readonly MetadataRow[]): string {
  const points = layOut(
    ['GiB, thin', 'pages written', 'bytes a page written', 'MiB when empty'],
    rows.map(({ sizeGib, pages, emptyBytes, bytesPerPage }) => [
      ...[String(sizeGib), formatNumber(pages), formatNumber(bytesPerPage)],
      formatNumber(emptyBytes / 2 ** 20),
    ]),
  );
  const law = (of: (row: MetadataRow) => number): string =>
    formatNumber(growthExponent(rows.map((row) => ({ x: row.sizeGib, y: Math.max(1, of(row)) }))));
  if (rows.length < 2) return points;
  return (
    `${points}\n\nbytes a page written grow as size^${law((row) => row.bytesPerPage)},` +
    ` bytes when empty as size^${law((row) => row.emptyBytes)}`
  );
}
