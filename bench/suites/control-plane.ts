/**
 * The control plane: what an allocation costs (asked for, presented, given back) and how many there are a
 * second, on the embedded store and on etcd, beside 0, 1 000 and 10 000 live leases, with 10 and with 100
 * providers that speak the real protocol from processes of their own; what the control node then has of
 * memory and processor; and how long after its deadline a lease is wiped, when thousands end together.
 */
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTROL_STORES, Network, type ControlStore } from '../control/network.ts';
import type { Allocated, ClientsPlan, Filled } from '../control/plans.ts';
import { cpuTimeUs, processMemory } from '../proc.ts';
import { waitFor, type Server, type Stage } from '../stage.ts';
import { median, quantile } from '../statistics.ts';
import { formatNumber, layOut } from '../table.ts';
import { describeTool, installTools, missingTools } from '../tools.ts';
import { reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const CLIENTS_FILE = fileURLToPath(new URL('../control/clients.js', import.meta.url));
const SHAPES = {
  quick: { providerCounts: [10], levels: [0, 1000], sequentialCount: 100, seconds: 2 },
  full: { providerCounts: [10, 100], levels: [0, 1000, 10_000], sequentialCount: 500, seconds: 5 },
};
const CLIENT_COUNT = 4;
const IN_FLIGHT = 32;
const SIZE_BYTES = 64 * 1024;
const TTL_MS = 40_000;
/** Held leases are renewed for this long, while the rest is measured. */
const IDLE_MS = 5_000;
const FILL_TIMEOUT_MS = 300_000;
const WORK_TIMEOUT_MS = 120_000;
/** The promise of docs/control-plane.md. */
const WIPED_WITHIN_MS = 1000;

/** One row: a store, so many providers, so many live leases. */
interface Row {
  readonly store: string;
  readonly providerCount: number;
  readonly leaseCount: number;
  readonly allocated: Allocated;
  /** While the leases were made; nothing at the first level. */
  readonly grantsPerSecond: number | undefined;
  /** The control node, bytes. */
  readonly memoryBytes: number;
  /** Processors that the control node and its store use while leases are only renewed. */
  readonly idleCpus: number;
}

/** How late leases were. */
interface Lateness {
  readonly store: string;
  readonly providerCount: number;
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

type Shape = (typeof SHAPES)['full'];

class ControlRun {
  readonly rows: Row[] = [];
  readonly lateness: Lateness[] = [];
  readonly #stage: Stage;
  readonly #shape: Shape;
  readonly #note: (text: string) => void;

  constructor({ stage, note }: SuiteOptions, shape: Shape) {
    this.#stage = stage;
    this.#note = note;
    this.#shape = shape;
  }

  async measure(kind: ControlStore, providerCount: number): Promise<void> {
    this.#note(`${kind.name}: ${kind.description}; ${providerCount} providers`);
    const network = await Network.start(this.#stage, kind);
    const holders: Server[] = [];
    try {
      await network.startProviders(providerCount);
      const directories = await network.members('client', CLIENT_COUNT);
      const base = { control: network.place, directories, providers: network.providers };
      let held = 0;
      for (const level of this.#shape.levels) {
        const filled = await this.#fill(network, base, level - held, holders);
        held = level;
        this.rows.push(await this.#row(network, kind, base, level, filled));
      }
      for (const { pid } of holders) process.kill(pid, 'SIGUSR2');
      await this.#expire(network, kind, held);
    } finally {
      for (const holder of holders) await holder.stop();
      await network.stop();
    }
  }

  #plan(
    base: Pick<ClientsPlan, 'control' | 'directories' | 'providers'>,
    more: Partial<ClientsPlan>,
  ): string[] {
    const { sequentialCount, seconds } = this.#shape;
    const plan: ClientsPlan = {
      ...{ ...base, work: 'allocate', sizeBytes: SIZE_BYTES, ttlMs: TTL_MS },
      ...{ sequentialCount, seconds, inFlight: IN_FLIGHT, holdCount: 0 },
      ...more,
    };
    return [CLIENTS_FILE, JSON.stringify(plan)];
  }

  /** Makes `count` leases more, which are renewed until everything is measured. */
  async #fill(
    network: Network,
    base: Pick<ClientsPlan, 'control' | 'providers'>,
    count: number,
    holders: Server[],
  ): Promise<Filled | undefined> {
    if (count === 0) return undefined;
    this.#note(`${count} leases more`);
    const directories = await network.members('client', CLIENT_COUNT);
    const args = this.#plan({ ...base, directories }, { work: 'hold', holdCount: count });
    const isReady = (output: string): boolean => output.includes('\n');
    const holder = await this.#stage.serve(process.execPath, args, FILL_TIMEOUT_MS, isReady);
    holders.push(holder);
    return JSON.parse(holder.output().split('\n')[0] ?? '') as Filled;
  }

  async #row(
    network: Network,
    kind: ControlStore,
    base: Pick<ClientsPlan, 'control' | 'directories' | 'providers'>,
    leaseCount: number,
    filled: Filled | undefined,
  ): Promise<Row> {
    const pids = [network.control, ...network.storeServers].map(({ pid }) => pid);
    const beforeUs = cpuTimeUs(pids);
    const beforeMs = performance.now();
    await sleep(IDLE_MS);
    const idleCpus = (cpuTimeUs(pids) - beforeUs) / 1000 / (performance.now() - beforeMs);
    const args = this.#plan(base, {});
    const output = await this.#stage.run(process.execPath, args, WORK_TIMEOUT_MS);
    const { anonymousBytes, shmemBytes } = processMemory(network.control.pid);
    const counted = await network.leaseCount();
    if (counted < leaseCount) throw new Error(`expected ${leaseCount} leases, counted ${counted}`);
    return {
      ...{ store: kind.name, providerCount: network.providers.length, leaseCount, idleCpus },
      allocated: JSON.parse(output) as Allocated,
      grantsPerSecond: filled?.perSecond,
      memoryBytes: anonymousBytes + shmemBytes,
    };
  }

  /** Lets all leases end by themselves. */
  async #expire(network: Network, kind: ControlStore, count: number): Promise<void> {
    this.#note(`${count} leases expire`);
    await waitFor('all leases to end', FILL_TIMEOUT_MS, async () => {
      await sleep(1000);
      return (await network.leaseCount()) === 0;
    });
    await sleep(2000);
    const lateMs = network.lateMs();
    if (lateMs.length < count) throw new Error(`${count} leases held, ${lateMs.length} expired`);
    this.lateness.push({
      ...{ store: kind.name, providerCount: network.providers.length, count: lateMs.length },
      ...{ p50Ms: median(lateMs), p99Ms: quantile(lateMs, 0.99), maxMs: Math.max(...lateMs) },
    });
  }
}

function renderRows(rows: readonly Row[]): string {
  const header = [
    ...['store', 'providers', 'leases', 'request p50 ms', 'present p50', 'release p50'],
    ...['whole p50', 'whole p99', 'allocations/s', 'grants/s', 'MiB', 'CPUs at rest'],
  ];
  return layOut(
    header,
    rows.map(({ store, providerCount, leaseCount, allocated, ...row }) => [
      ...[store, String(providerCount), String(leaseCount)],
      ...[allocated.request, allocated.present, allocated.release].map(({ p50Ms }) =>
        formatNumber(p50Ms),
      ),
      ...[formatNumber(allocated.whole.p50Ms), formatNumber(allocated.whole.p99Ms)],
      ...[formatNumber(allocated.perSecond), formatNumber(row.grantsPerSecond ?? NaN)],
      ...[formatNumber(row.memoryBytes / 2 ** 20), formatNumber(row.idleCpus)],
    ]),
  );
}

function renderLateness(rows: readonly Lateness[]): string {
  const verdict = (maxMs: number): string => (maxMs <= WIPED_WITHIN_MS ? 'reached' : 'missed');
  return layOut(
    [
      'deadline to wiped',
      'providers',
      'leases',
      'p50 ms',
      'p99 ms',
      'most',
      `<= ${WIPED_WITHIN_MS}`,
    ],
    rows.map(({ store, providerCount, count, p50Ms, p99Ms, maxMs }) => [
      ...[store, String(providerCount), String(count)],
      ...[p50Ms, p99Ms, maxMs].map(formatNumber),
      verdict(maxMs),
    ]),
  );
}

/** Bytes of the control node for each lease, between the first level and the last of each network. */
function renderGrowth(rows: readonly Row[]): string {
  const networks = new Map<string, Row[]>();
  for (const row of rows) {
    const name = `${row.store}, ${row.providerCount} providers`;
    networks.set(name, [...(networks.get(name) ?? []), row]);
  }
  return layOut(
    ['growth', 'bytes a lease', 'whole p50, last over first'],
    [...networks].flatMap(([name, levels]) => {
      const [first, last] = [levels[0], levels.at(-1)];
      if (first === undefined || last === undefined || first === last) return [];
      const bytes = (last.memoryBytes - first.memoryBytes) / (last.leaseCount - first.leaseCount);
      const ratio = last.allocated.whole.p50Ms / first.allocated.whole.p50Ms;
      return [[name, formatNumber(bytes), formatNumber(ratio)]];
    }),
  );
}

/** See the top of the file. */
export const controlPlane: Suite = {
  name: 'control-plane',
  description: 'allocations, memory, processor and expiry of a control node, by store and size',
  run: async (options) => {
    const { quick, names, note } = options;
    const run = new ControlRun(options, SHAPES[quick ? 'quick' : 'full']);
    const failures: Record<string, string> = {};
    const skipped: Record<string, string> = {};
    const asked = CONTROL_STORES.filter(({ name }) => names === undefined || names.includes(name));
    for (const kind of asked) {
      const lacks = missingTools(kind.tools).map(describeTool);
      if (lacks.length > 0) {
        skipped[kind.name] = lacks.join(', ');
        note(`skipping ${kind.name}: ${lacks.join(', ')}`);
        continue;
      }
      for (const providerCount of SHAPES[quick ? 'quick' : 'full'].providerCounts) {
        try {
          await run.measure(kind, providerCount);
        } catch (thrown) {
          failures[`${kind.name}, ${providerCount} providers`] = reasonOf(thrown);
          note(`${kind.name} failed: ${reasonOf(thrown)}`);
        }
      }
    }
    const { rows, lateness } = run;
    return {
      data: { rows, lateness, skipped },
      text: [
        ...[renderRows(rows), renderGrowth(rows), renderLateness(lateness)],
        ...Object.entries(skipped).map(([name, why]) => `SKIP ${name}: ${why}`),
      ].join('\n\n'),
      panels: [],
      failures,
    };
  },
};

/** Gets what the stores need. @throws Error when this is not root */
export function installControlStores(): void {
  const missing = missingTools(CONTROL_STORES.flatMap(({ tools }) => tools));
  if (missing.length > 0) installTools(missing);
}
