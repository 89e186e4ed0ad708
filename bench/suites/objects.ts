/**
 * Objects: the work of the first MemCloud's benchmark (values of 1 KiB stored, then loaded in the same order,
 * one client on a Unix socket), ours beside redis and memcached with the same loop; the same with 64 calls in
 * flight and with larger values; a key that is there against one that is not; a peer over an encrypted
 * session; and the memory of a store in which one key is overwritten again and again.
 */
import { fileURLToPath } from 'node:url';
import {
  filePanels,
  judgeGoals,
  renderFileGoals,
  renderSummaries,
  summarise,
  type FileSummary,
} from '../mounts/file-report.ts';
import type { FileTrial } from '../mounts/file-trials.ts';
import type { LoopPlan, LoopResult } from '../objects/loop.ts';
import {
  GET_RATE_MIN,
  MISS_OVER_HIT_MAX,
  OBJECT_GOALS,
  OVERWRITE_GROWTH_MAX_BYTES,
  PUT_RATE_MIN,
} from '../objects/object-goals.ts';
import {
  memcached,
  memcloudObjects,
  memcloudRemoteObjects,
  redis,
  type RunningStore,
  type StoreTarget,
} from '../objects/targets.ts';
import { BUSY_SHARE_MAX, processMemory, settle, waitUntilQuiet } from '../proc.ts';
import { shuffled } from '../statistics.ts';
import { formatNumber, layOut } from '../table.ts';
import { describeTool, installTools, missingTools } from '../tools.ts';
import { reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

/** Stores that can be compared. */
export const OBJECT_TARGETS: readonly StoreTarget[] = [
  memcloudObjects,
  redis,
  memcached,
  memcloudRemoteObjects,
];

const LOOP_FILE = fileURLToPath(new URL('../objects/loop.js', import.meta.url));
const ROUNDS = { quick: 2, full: 9 };
/** As many as the first MemCloud's benchmark has. */
const VALUE_COUNT = { quick: 3000, full: 10_000 };
const OVERWRITE_COUNT = { quick: 50_000, full: 1_000_000 };
/** After so many writes the young part of the heap has the size that it keeps: 13 MiB more than at the start. */
const OVERWRITE_WARM_UP_COUNT = 50_000;
const LOOP_TIMEOUT_MS = 300_000;
const QUIET_TIMEOUT_MS = 60_000;
const KIB = 1024;

interface ObjectWork extends Pick<LoopPlan, 'work' | 'sizeBytes' | 'inFlight'> {
  /** Ends the names of what is measured: `put-NAME`, `get-NAME`. */
  readonly name: string;
  /** Of {@link VALUE_COUNT}. */
  readonly share: number;
}

const WORKS: readonly ObjectWork[] = [
  { name: '1k-seq', work: 'values', sizeBytes: KIB, inFlight: 1, share: 1 },
  { name: '1k-64', work: 'values', sizeBytes: KIB, inFlight: 64, share: 1 },
  { name: '4k-seq', work: 'values', sizeBytes: 4 * KIB, inFlight: 1, share: 0.5 },
  { name: '4k-64', work: 'values', sizeBytes: 4 * KIB, inFlight: 64, share: 0.5 },
  { name: '32k-seq', work: 'values', sizeBytes: 32 * KIB, inFlight: 1, share: 0.25 },
  { name: '32k-64', work: 'values', sizeBytes: 32 * KIB, inFlight: 64, share: 0.25 },
  { name: '1k-key', work: 'miss', sizeBytes: KIB, inFlight: 1, share: 0.5 },
];

/** What `--works` may name. */
export const OBJECT_WORK_NAMES: readonly string[] = [...WORKS.map(({ name }) => name), 'overwrite'];

/** Memory before and after one key was overwritten. */
interface Growth {
  readonly target: string;
  readonly count: number;
  readonly perSecond: number;
  readonly beforeBytes: number;
  readonly afterBytes: number;
}

/** Latencies of a workload of a target, the median over rounds. */
interface Latency {
  readonly workload: string;
  readonly target: string;
  readonly p50Us: number[];
  readonly p99Us: number[];
}

class ObjectRun {
  readonly trials: FileTrial[] = [];
  readonly latencies = new Map<string, Latency>();
  readonly growths: Growth[] = [];
  readonly failures: Record<string, string> = {};
  readonly #running = new Map<StoreTarget, RunningStore>();
  readonly #options: SuiteOptions;

  constructor(options: SuiteOptions) {
    this.#options = options;
  }

  async start(targets: readonly StoreTarget[]): Promise<void> {
    for (const target of targets) {
      await this.#guard(target, target.name, async () => {
        this.#options.note(`starting ${target.name}: ${target.description}`);
        this.#running.set(target, await target.start(this.#options.stage));
      });
    }
  }

  async round(round: number, works: readonly ObjectWork[]): Promise<void> {
    const { force, random, note, quick } = this.#options;
    const busyShare = await waitUntilQuiet(force ? 0 : QUIET_TIMEOUT_MS);
    if (busyShare > BUSY_SHARE_MAX && !force) {
      const percent = formatNumber(busyShare * 100);
      throw new Error(`round ${round}: the machine is ${percent} % busy and stays so; --force`);
    }
    for (const work of works) {
      note(`round ${round}: ${work.name}`);
      const count = Math.round(VALUE_COUNT[quick ? 'quick' : 'full'] * work.share);
      for (const [target, store] of shuffled([...this.#running], random)) {
        await this.#guard(target, `${target.name} ${work.name}`, async () => {
          await settle(store.pids);
          const results = await this.#loop(target, store, { ...work, count });
          for (const [way, result] of Object.entries(results)) {
            this.#note(round, `${way}-${work.name}`, target.name, result, busyShare);
          }
        });
      }
    }
  }

  async overwrite(count: number): Promise<void> {
    for (const [target, store] of this.#running) {
      await this.#guard(target, `${target.name} overwrite`, async () => {
        this.#options.note(`${target.name}: one key, ${count} times`);
        const work = { work: 'overwrite', sizeBytes: KIB, inFlight: 64 } as const;
        // Grown to what it needs for this at all.
        const warmUpCount = Math.max(OVERWRITE_WARM_UP_COUNT, Math.round(count / 20));
        await this.#loop(target, store, { ...work, count: warmUpCount });
        await settle(store.pids);
        const beforeBytes = this.#memory(store);
        const { overwrite } = await this.#loop(target, store, { ...work, count });
        await settle(store.pids);
        const afterBytes = this.#memory(store);
        const perSecond = overwrite?.perSecond ?? NaN;
        this.growths.push({ target: target.name, count, perSecond, beforeBytes, afterBytes });
      });
    }
  }

  async stop(): Promise<void> {
    for (const [target, store] of this.#running) {
      await this.#guard(target, target.name, () => store.stop());
    }
  }

  #memory(store: RunningStore): number {
    return store.pids.reduce((sum, pid) => {
      const { anonymousBytes, shmemBytes } = processMemory(pid);
      return sum + anonymousBytes + shmemBytes;
    }, 0);
  }

  async #loop(
    target: StoreTarget,
    store: RunningStore,
    work: Pick<LoopPlan, 'work' | 'sizeBytes' | 'inFlight' | 'count'>,
  ): Promise<Record<string, LoopResult>> {
    const { address, peer } = store;
    const plan: LoopPlan = {
      ...{ client: target.client, address, peer, work: work.work, count: work.count },
      ...{ sizeBytes: work.sizeBytes, inFlight: work.inFlight },
    };
    const args = [LOOP_FILE, JSON.stringify(plan)];
    const output = await this.#options.stage.run(process.execPath, args, LOOP_TIMEOUT_MS);
    return JSON.parse(output) as Record<string, LoopResult>;
  }

  #note(
    round: number,
    workload: string,
    target: string,
    result: LoopResult,
    busyShare: number,
  ): void {
    this.trials.push({ round, workload, target, value: result.perSecond, busyShare });
    const name = `${workload} ${target}`;
    const latency = this.latencies.get(name) ?? { workload, target, p50Us: [], p99Us: [] };
    latency.p50Us.push(result.p50Us);
    latency.p99Us.push(result.p99Us);
    this.latencies.set(name, latency);
  }

  async #guard(target: StoreTarget, who: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      this.failures[who] = reasonOf(thrown);
      this.#options.note(`${who} failed: ${reasonOf(thrown)}`);
      const store = this.#running.get(target);
      this.#running.delete(target);
      await store?.stop();
    }
  }
}

function usableStores(
  { names, note, quick }: SuiteOptions,
  skipped: Record<string, string>,
): StoreTarget[] {
  const asked = OBJECT_TARGETS.filter(({ name }) => names === undefined || names.includes(name));
  return asked.filter(({ name, tools }) => {
    const lacks = missingTools(tools).map(describeTool);
    if (lacks.length === 0) return true;
    skipped[name] = `${lacks.join(', ')}${quick ? '' : ', or --install'}`;
    note(`skipping ${name}: ${skipped[name]}`);
    return false;
  });
}

function renderLatencies(latencies: Iterable<Latency>): string {
  const middle = (sample: readonly number[]): number =>
    [...sample].sort((a, b) => a - b)[Math.floor(sample.length / 2)] ?? NaN;
  const rows = [...latencies].map(({ workload, target, p50Us, p99Us }) => [
    ...[workload, target, formatNumber(middle(p50Us)), formatNumber(middle(p99Us))],
  ]);
  return layOut(['workload', 'target', 'p50 us', 'p99 us'], rows);
}

function rateOf(summaries: readonly FileSummary[], workload: string, target: string): number {
  const found = summaries.find((row) => row.workload === workload && row.target === target);
  return found?.estimate.value ?? NaN;
}

const verdict = (isReached: boolean, value: number): string =>
  Number.isNaN(value) ? 'not measured' : isReached ? 'reached' : 'missed';

function renderBounds(summaries: readonly FileSummary[], growths: readonly Growth[]): string {
  const ours = (workload: string): number => rateOf(summaries, workload, memcloudObjects.name);
  const best = (way: string): number =>
    Math.max(...['seq', '64'].map((how) => ours(`${way}-1k-${how}`)));
  const missCost = ours('hit-1k-key') / ours('miss-1k-key');
  const growth = growths.find(({ target }) => target === memcloudObjects.name);
  const grown = growth === undefined ? NaN : growth.afterBytes - growth.beforeBytes;
  const rows: [string, number, string, boolean][] = [
    ['1 KiB stored a second', best('put'), `>= ${PUT_RATE_MIN}`, best('put') >= PUT_RATE_MIN],
    ['1 KiB loaded a second', best('get'), `>= ${GET_RATE_MIN}`, best('get') >= GET_RATE_MIN],
    ['a miss over a hit', missCost, `< ${MISS_OVER_HIT_MAX}`, missCost < MISS_OVER_HIT_MAX],
    [
      'growth by overwriting, MiB',
      grown / 2 ** 20,
      `<= ${OVERWRITE_GROWTH_MAX_BYTES / 2 ** 20}`,
      grown <= OVERWRITE_GROWTH_MAX_BYTES,
    ],
  ];
  return layOut(
    ['memcloud', 'measured', 'bound', 'verdict'],
    rows.map(([what, value, bound, isReached]) => [
      ...[what, formatNumber(value), bound, verdict(isReached, value)],
    ]),
  );
}

function renderGrowths(growths: readonly Growth[]): string {
  const mib = (bytes: number): string => formatNumber(bytes / 2 ** 20);
  const rows = growths.map(({ target, count, perSecond, beforeBytes, afterBytes }) => [
    ...[target, formatNumber(count), formatNumber(perSecond), mib(beforeBytes), mib(afterBytes)],
  ]);
  return layOut(['one key', 'writes', 'a second', 'MiB before', 'MiB after'], rows);
}

/** See the top of the file. */
export const objects: Suite = {
  name: 'objects',
  description:
    'blocks and keys beside redis and memcached: sequential, 64 in flight, misses, memory',
  run: async (options) => {
    const { quick, random, works } = options;
    const skipped: Record<string, string> = {};
    const size = quick ? 'quick' : 'full';
    const rounds = options.rounds ?? ROUNDS[size];
    const targets = usableStores(options, skipped);
    const chosen = WORKS.filter(({ name }) => works === undefined || works.includes(name));
    const run = new ObjectRun(options);
    await run.start(targets);
    for (let round = 1; round <= rounds; round += 1) await run.round(round, chosen);
    if (works === undefined || works.includes('overwrite')) {
      await run.overwrite(OVERWRITE_COUNT[size]);
    }
    await run.stop();
    const names = targets.map(({ name }) => name);
    const workloads = [...new Set(run.trials.map(({ workload }) => workload))].map((name) => ({
      ...{ name, unit: 'ops/s' as const, targets: names },
    }));
    const summaries = summarise(workloads, run.trials, random);
    const goals = judgeGoals(OBJECT_GOALS, run.trials, random);
    const latencies = [...run.latencies.values()];
    const { trials, growths, failures } = run;
    return {
      data: { rounds, goals, summaries, latencies, growths, skipped, trials },
      text: [
        ...[renderSummaries(summaries), renderLatencies(latencies), renderFileGoals(goals)],
        ...[renderBounds(summaries, growths), renderGrowths(growths)],
        ...Object.entries(skipped).map(([name, why]) => `SKIP ${name}: ${why}`),
      ].join('\n\n'),
      panels: filePanels(summaries),
      failures,
    };
  },
};

/** Gets what the stores need. @throws Error when this is not root */
export function installStores(): void {
  const missing = missingTools(OBJECT_TARGETS.flatMap(({ tools }) => tools));
  if (missing.length > 0) installTools(missing);
}
