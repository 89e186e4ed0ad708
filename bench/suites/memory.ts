/**
 * What a stored page costs beyond itself, in live processes. A volume is filled step by step; after
 * each step the anonymous and tmpfs memory and the page tables of both processes are read. The slope
 * over pages is the cost of one page; what a process needs anyhow drops out. Of the provider, the
 * 4096 bytes of the page itself are subtracted. Beside it stands the budget by design. The kernel's
 * own records of a tmpfs page (struct page, index) are the price of any page and not counted.
 */
import { PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../../common/units.ts';
import { leaseChargeBytes } from '../../provider/quota.ts';
import { PAGE_MAP_BYTES_PER_PAGE } from '../../tier/page-map.ts';
import { judge, type Verdict } from '../goals.ts';
import { processMemory, settle } from '../proc.ts';
import type { ProcessMemory } from '../proc-parse.ts';
import { median, medianEstimate, slope, type Estimate } from '../statistics.ts';
import { formatEstimate, formatNumber, layOut } from '../table.ts';
import { startMemcloud, type RunningMemcloud } from '../targets/memcloud.ts';
import { fill, reasonOf } from '../trials.ts';
import type { Suite, SuiteOptions } from './suite.ts';

const STEP_COUNT = 8;
/** Fills of the first step before the first reading: buffers, heaps and compiled code are there then. */
const WARM_UP_COUNT = 3;

type Side = 'consumer' | 'provider';

const BOUNDS: Readonly<Record<Side, number>> = { consumer: 16, provider: 32 };
/** Bytes per page by design: page map; what a lease is charged beyond its pages. */
const BUDGETS: Readonly<Record<Side, number>> = {
  consumer: PAGE_MAP_BYTES_PER_PAGE,
  provider: leaseChargeBytes(SLAB_PAGE_COUNT) / SLAB_PAGE_COUNT - PAGE_SIZE_BYTES,
};

interface Reading {
  readonly pages: number;
  readonly consumer: ProcessMemory;
  readonly provider: ProcessMemory;
}

interface SideResult {
  readonly side: Side;
  /** Bytes per page beyond the page, page tables included. */
  readonly measured: Estimate;
  /** Of these, page tables. */
  readonly pageTables: number;
  readonly budget: number;
  readonly bound: number;
  readonly verdict: Verdict;
}

async function readSteps(
  options: SuiteOptions,
  target: RunningMemcloud,
  sizeBytes: number,
): Promise<Reading[]> {
  const { stage, random, note } = options;
  const stepBytes = sizeBytes / STEP_COUNT;
  const readings: Reading[] = [];
  for (let step = 0; step < STEP_COUNT; step += 1) {
    for (let pass = 0; pass < (step === 0 ? WARM_UP_COUNT : 1); pass += 1) {
      const seed = 1 + Math.floor(random() * 2 ** 31);
      await fill(stage, target.uri, step * stepBytes, stepBytes, seed);
    }
    await settle(target.pids);
    const pages = (await target.inspect()).storedBytes / PAGE_SIZE_BYTES;
    note(`memory: ${pages} pages stored`);
    readings.push({
      pages,
      consumer: processMemory(target.consumerPid),
      provider: processMemory(target.providerPid),
    });
  }
  return readings;
}

/** Bytes per page of one side in one run. @throws Error when the pages are not where they should be */
function costOf(side: Side, readings: readonly Reading[]): { all: number; pageTables: number } {
  const grows = (of: (memory: ProcessMemory) => number): number =>
    slope(readings.map((reading) => ({ x: reading.pages, y: of(reading[side]) })));
  const pageTables = grows(({ pageTableBytes }) => pageTableBytes);
  const pageBytes = side === 'provider' ? PAGE_SIZE_BYTES : 0;
  if (grows(({ shmemBytes }) => shmemBytes) < pageBytes) {
    throw new Error('provider: expected its tmpfs memory to grow by each page, it did not');
  }
  const memory = grows(({ anonymousBytes, shmemBytes }) => anonymousBytes + shmemBytes);
  return { all: memory + pageTables - pageBytes, pageTables };
}

function render(results: readonly SideResult[]): string {
  const rows = results.map(({ side, measured, pageTables, budget, bound, verdict }) => [
    ...[side, formatEstimate(measured), formatNumber(pageTables)],
    ...[formatNumber(budget), `at most ${bound}`, verdict],
  ]);
  const header = ['bytes per 4 KiB page', 'measured [95 %]', 'of it page tables', 'by design'];
  return layOut([...header, 'goal', 'verdict'], rows);
}

/** See the top of the file. */
export const memory: Suite = {
  name: 'memory',
  description: 'metadata per stored page, of consumer and provider',
  run: async (options) => {
    const { quick, stage, rounds = quick ? 1 : 3, random } = options;
    const sizeBytes = (quick ? 1 : 4) * 2 ** 30;
    const runs: Reading[][] = [];
    const failures: Record<string, string> = {};
    const sides: SideResult[] = [];
    try {
      for (let round = 0; round < rounds; round += 1) {
        const target = await startMemcloud(stage, sizeBytes);
        runs.push(await readSteps(options, target, sizeBytes));
        await target.verify();
        await target.stop();
      }
      for (const side of ['consumer', 'provider'] as const) {
        const costs = runs.map((readings) => costOf(side, readings));
        const measured = medianEstimate(
          costs.map(({ all }) => all),
          random,
        );
        const pageTables = median(costs.map((cost) => cost.pageTables));
        const [budget, bound] = [BUDGETS[side], BOUNDS[side]];
        const verdict = judge({ sense: 'at most', bound }, measured);
        sides.push({ side, measured, pageTables, budget, bound, verdict });
      }
    } catch (thrown) {
      failures['memcloud'] = reasonOf(thrown);
    }
    return { data: { sizeBytes, sides, runs }, text: render(sides), panels: [], failures };
  },
};
