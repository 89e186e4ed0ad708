/**
 * Whether the data path makes garbage. Both processes run as they do in a swap: writes of 128 KiB and
 * reads of 32 KiB are what the kernel sends, single pages at random are the worst case. Of each kind,
 * after a warm-up, the garbage collections of both memnodes are counted, how long they stopped the
 * thread that serves pages, and how much of the heap outlived them. Everything is told for a million
 * pages. A collection in which nothing survives costs the same however many pages came before it.
 */
import type { GarbageCollectionInfo } from '../../common/rpc-process.ts';
import { PAGE_SIZE_BYTES } from '../../common/units.ts';
import type { Workload } from '../fio.ts';
import { formatNumber, layOut } from '../table.ts';
import { startMemcloud, type RunningMemcloud } from '../targets/memcloud.ts';
import { fill, reasonOf, runFio } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const WORKLOADS: readonly Workload[] = [
  { name: 'write-128k', pattern: 'write', blockSizeBytes: 131072, queueDepth: 16 },
  { name: 'read-32k', pattern: 'read', blockSizeBytes: 32768, queueDepth: 16 },
  { name: 'randwrite-4k', pattern: 'randwrite', blockSizeBytes: 4096, queueDepth: 32 },
  { name: 'randread-4k', pattern: 'randread', blockSizeBytes: 4096, queueDepth: 32 },
];
const SIDES = ['consumer', 'provider'] as const;
const MILLION = 1e6;
const SECONDS_DEFAULT = 20;
const SECONDS_QUICK = 4;
const WARM_UP_SECONDS = 3;

interface Row {
  readonly workload: string;
  readonly side: (typeof SIDES)[number];
  readonly pages: number;
  readonly seconds: number;
  /** For a million pages. */
  readonly collections: number;
  readonly majorCollections: number;
  readonly pauseMs: number;
  readonly oldHeapBytes: number;
  /** The longest since the start of the process, milliseconds. */
  readonly longestMs: number;
}

type Readings = Readonly<Record<(typeof SIDES)[number], GarbageCollectionInfo>>;

async function read(target: RunningMemcloud): Promise<Readings> {
  const [consumer, provider] = await Promise.all(SIDES.map((side) => target.status(side)));
  if (consumer === undefined || provider === undefined) throw new Error('status: none came');
  return { consumer: consumer.garbageCollection, provider: provider.garbageCollection };
}

async function measure(
  { stage, random }: SuiteOptions,
  target: RunningMemcloud,
  workload: Workload,
  run: { sizeBytes: number; seconds: number },
): Promise<Row[]> {
  const seed = 1 + Math.floor(random() * 2 ** 31);
  const common = { uri: target.uri, rampSeconds: 0, seed, ...run };
  await runFio(stage, workload, { ...common, seconds: WARM_UP_SECONDS });
  const before = await read(target);
  const { requestCount } = await runFio(stage, workload, common);
  const after = await read(target);
  const pages = (requestCount * workload.blockSizeBytes) / PAGE_SIZE_BYTES;
  return SIDES.map((side) => {
    const grown = (of: (info: GarbageCollectionInfo) => number): number =>
      ((of(after[side]) - of(before[side])) / pages) * MILLION;
    return {
      workload: workload.name,
      side,
      pages,
      seconds: run.seconds,
      collections: grown(({ count }) => count),
      majorCollections: grown(({ majorCount }) => majorCount),
      pauseMs: grown(({ totalUs }) => totalUs / 1000),
      oldHeapBytes: grown((info) => info.oldHeapBytes),
      longestMs: after[side].longestUs / 1000,
    };
  });
}

function render(rows: readonly Row[]): string {
  const header = ['work', 'side', 'pages', 'collections', 'full ones', 'pauses ms', 'heap KiB'];
  return layOut(
    [...header, 'longest ms'],
    rows.map((row) => [
      ...[row.workload, row.side, formatNumber(row.pages), formatNumber(row.collections)],
      ...[formatNumber(row.majorCollections), formatNumber(row.pauseMs)],
      ...[formatNumber(row.oldHeapBytes / 1024), formatNumber(row.longestMs)],
    ]),
  );
}

/** See the top of the file. */
export const steadyState: Suite = {
  name: 'steady-state',
  description: 'garbage collections and heap growth for a million pages, of both memnodes',
  run: async (options) => {
    const { stage, quick, random, note } = options;
    const seconds = options.seconds ?? (quick ? SECONDS_QUICK : SECONDS_DEFAULT);
    const sizeBytes = 2 ** 29;
    const rows: Row[] = [];
    const failures: Record<string, string> = {};
    try {
      const target = await startMemcloud(stage, sizeBytes);
      await fill(stage, target.uri, 0, sizeBytes, 1 + Math.floor(random() * 2 ** 31));
      for (const workload of WORKLOADS) {
        note(`steady-state: ${workload.name}`);
        rows.push(...(await measure(options, target, workload, { sizeBytes, seconds })));
      }
      await target.verify();
      await target.stop();
    } catch (thrown) {
      failures['memcloud'] = reasonOf(thrown);
    }
    return { data: { sizeBytes, rows }, text: render(rows), panels: [], failures };
  },
};
