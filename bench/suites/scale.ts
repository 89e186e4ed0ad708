/**
 * What more of everything costs: 1 to 16 providers, 1 to 8 volumes with an export each, 1 to 8 connections
 * to one export, volumes of 1 to 64 GiB of which little is written. All points of a series run in the same
 * rounds, so that a slow moment is slow for all, and the law of growth is fitted through them.
 */
import { ScaleRig } from '../scale/rig.ts';
import {
  SCALE_WORKLOADS,
  SERIES,
  renderMetadata,
  renderSeries,
  summarizeSeries,
  type SeriesName,
  type SeriesResult,
} from '../scale/series.ts';
import { reasonOf, runTrials } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const MIB = 2 ** 20;
/** Enough slabs that 16 providers have some each. */
const VOLUME_BYTES = 1024 * MIB;
/** Of a series in which one consumer has several. */
const SHARED_VOLUME_BYTES = 256 * MIB;

/** Words for `--works`. */
export const SCALE_WORK_NAMES = Object.keys(SERIES) as SeriesName[];

async function runSeries(
  options: SuiteOptions,
  series: SeriesName,
): Promise<{ rig: ScaleRig; result: SeriesResult; failures: Readonly<Record<string, string>> }> {
  const { stage, quick, force, random, note } = options;
  const { rounds = quick ? 1 : 3, seconds = quick ? 1 : 2 } = options;
  const shared = series === 'volumes' || series === 'connections';
  const volumeBytes = (shared ? SHARED_VOLUME_BYTES : VOLUME_BYTES) / (quick ? 2 : 1);
  const rig = new ScaleRig(stage, { volumeBytes, quick }, note);
  try {
    const { trials, failures } = await runTrials(
      stage,
      rig.targets(series),
      {
        ...{ workloads: SCALE_WORKLOADS, rounds, seconds, rampSeconds: 0.5, force, random },
        ...{ volumeBytes, workingSetBytes: volumeBytes },
      },
      note,
    );
    const result = summarizeSeries(series, rig.xs(series), trials, random);
    return { rig, result, failures };
  } finally {
    await rig.stop();
  }
}

/** See the top of the file. */
export const scale: Suite = {
  name: 'scale',
  description: 'providers, volumes, connections and sizes: rates, latency, CPU, and how they grow',
  run: async (options) => {
    const asked = SCALE_WORK_NAMES.filter((name) => options.works?.includes(name) ?? true);
    const results: SeriesResult[] = [];
    const texts: string[] = [];
    const failures: Record<string, string> = {};
    const metadata = [];
    for (const series of asked) {
      options.note(`scale: ${series}`);
      try {
        const { rig, result, failures: own } = await runSeries(options, series);
        results.push(result);
        texts.push(renderSeries(result));
        metadata.push(...rig.metadata);
        if (rig.metadata.length > 0) texts.push(renderMetadata(rig.metadata));
        Object.assign(failures, own);
      } catch (thrown) {
        failures[series] = reasonOf(thrown);
      }
    }
    return { data: { results, metadata }, text: texts.join('\n\n'), panels: [], failures };
  },
};
