/**
 * The loop of a trial, in a process of its own, so that no client meets the heap or the compiled code of
 * another: some calls that do not count, then so many that do. Prints one line of JSON.
 */
import { median, quantile } from '../statistics.ts';
import { openClient, type ClientKind, type StoreClient } from './clients.ts';

/** What to do. */
export interface LoopPlan {
  readonly client: ClientKind;
  readonly address: string;
  readonly peer?: string | undefined;
  /** `values`: all are stored, then loaded in the same order. */
  readonly work: 'values' | 'miss' | 'overwrite';
  readonly count: number;
  readonly sizeBytes: number;
  readonly inFlight: number;
}

/** What one direction took. */
export interface LoopResult {
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

const WARM_UP_COUNT_MAX = 2000;

/** Calls `work` for each index, so many at once, and takes the time of each. */
async function timed(
  count: number,
  inFlight: number,
  work: (index: number) => Promise<void>,
): Promise<LoopResult> {
  const timesMs = new Float64Array(count);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      const beganMs = performance.now();
      await work(index);
      timesMs[index] = performance.now() - beganMs;
    }
  };
  const beganMs = performance.now();
  await Promise.all(Array.from({ length: inFlight }, worker));
  const tookMs = performance.now() - beganMs;
  const times = [...timesMs];
  return {
    perSecond: (count * 1000) / tookMs,
    p50Us: median(times) * 1000,
    p99Us: quantile(times, 0.99) * 1000,
  };
}

/** A value that is known from its index, so that one for another is found out. */
function fill(value: Buffer, index: number): Buffer {
  value.writeUInt32LE(index, 0);
  return value;
}

async function values(
  store: StoreClient,
  plan: LoopPlan,
): Promise<{ put: LoopResult; get: LoopResult }> {
  const value = Buffer.alloc(plan.sizeBytes, 'x');
  const names = new Array<string>(plan.count);
  const put = await timed(plan.count, plan.inFlight, async (index) => {
    // With several in flight a value is taken by its client before the next is filled in.
    names[index] = await store.put(index, plan.inFlight === 1 ? fill(value, index) : value);
  });
  const get = await timed(plan.count, plan.inFlight, async (index) => {
    const found = await store.get(names[index] ?? '');
    if (found?.length !== plan.sizeBytes) throw new Error(`value ${index}: not what was stored`);
    if (plan.inFlight === 1 && found.readUInt32LE(0) !== index) {
      throw new Error(`value ${index}: another value`);
    }
  });
  return { put, get };
}

async function hitAndMiss(
  store: StoreClient,
  plan: LoopPlan,
): Promise<{ hit: LoopResult; miss: LoopResult }> {
  await store.overwrite('there', Buffer.alloc(plan.sizeBytes, 'x'));
  const names = plan.client === 'memcloud' ? ['key:there', 'key:gone'] : ['there', 'gone'];
  const [there = '', gone = ''] = names;
  const hit = await timed(plan.count, plan.inFlight, async () => {
    if ((await store.get(there)) === undefined) throw new Error('a hit that is none');
  });
  const miss = await timed(plan.count, plan.inFlight, async () => {
    if ((await store.get(gone)) !== undefined) throw new Error('a miss that is none');
  });
  return { hit, miss };
}

async function run(store: StoreClient, plan: LoopPlan): Promise<Record<string, LoopResult>> {
  if (plan.work === 'values') return values(store, plan);
  if (plan.work === 'miss') return hitAndMiss(store, plan);
  const value = Buffer.alloc(plan.sizeBytes, 'x');
  const overwrite = await timed(plan.count, plan.inFlight, async () => {
    await store.overwrite('one', value);
  });
  return { overwrite };
}

const plan = JSON.parse(process.argv[2] ?? '') as LoopPlan;
const store = await openClient(plan.client, plan.address, plan.peer);
await run(store, { ...plan, count: Math.min(WARM_UP_COUNT_MAX, plan.count) });
if (plan.work === 'values') await store.clear();
const result = await run(store, plan);
if (plan.work === 'values') await store.clear();
store.close();
process.stdout.write(`${JSON.stringify(result)}\n`);
