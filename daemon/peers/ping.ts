/**
 * How long a peer takes: requests made one after another, as a page fault makes them, each timed from the
 * call to the moment at which its caller would go on.
 *
 * The *empty* request is a TRIM of a slab that no provider ever grants. It takes the way of a page through
 * both daemons (queue, record, encryption, look-up, reply) and carries nothing, so what a page costs
 * beyond it is the page. Pages are timed on a slab of one page that is leased for it: a lease that is given
 * back at the end, and that ends by itself if this daemon does.
 */
import { randomFillSync } from 'node:crypto';
import { asMemcloudError, MemcloudError } from '../../common/errors.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { percentilesOf } from '../../common/percentiles.ts';
import {
  IoStatus,
  type IoStatusValue,
  type PageCompletionSink,
  type PageQueue,
  type SlabSource,
} from '../../common/ports.ts';
import type { Percentiles } from '../../common/rpc-nodes.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../../common/units.ts';

/** Requests of each kind unless told. */
export const PING_COUNT_DEFAULT = 20;
/** After so long no new request is begun, milliseconds. */
export const PING_TIME_MAX_MS = 8_000;

/** No provider grants it: handles begin at 1 (provider/service.ts). */
const NO_SLAB = 0;
/** How long a request waits to be taken at all, milliseconds. */
const CREDIT_WAIT_MS = 5_000;
/** Renewed by nobody. */
const LEASE_TTL_MS = 15_000;

/** Times of a peer, microseconds. */
export interface PingTimes {
  /** Of an empty request. */
  readonly roundTrip: Percentiles;
  /** Of a page there; null when it lends us no page. */
  readonly write: Percentiles | null;
  /** Of a page back. */
  readonly read: Percentiles | null;
}

/**
 * Measures.
 *
 * @param source - the peer
 * @param count - requests of each kind; fewer when the time is up
 * @throws MemcloudError `ERR_PEER_UNREACHABLE` when it is down or goes down, `ERR_DATA_LOST` when it
 *   gives other bytes back than it got
 */
export async function pingSource(source: SlabSource, count: number): Promise<PingTimes> {
  const way = new Way(source);
  try {
    const endMs = performance.now() + PING_TIME_MAX_MS;
    const empty = (): Promise<IoStatusValue> => way.trim(NO_SLAB);
    // The first one wakes both machines, and is nobody's page.
    await way.expect(IoStatus.NO_LEASE, empty);
    const roundTrip = percentilesOf(
      await repeat(count, endMs, () => way.expect(IoStatus.NO_LEASE, empty)),
    );
    if (roundTrip === null) throw new MemcloudError('ERR_TIMEOUT', 'it did not answer in time');
    return { roundTrip, ...(await pingPages(source, way, count, endMs)) };
  } finally {
    way.close();
  }
}

/** Times of pages; null when it lends none. */
async function pingPages(
  source: SlabSource,
  way: Way,
  count: number,
  endMs: number,
): Promise<Pick<PingTimes, 'write' | 'read'>> {
  let leaseId: string;
  let slabHandle: number;
  try {
    ({ leaseId, slabHandle } = await source.lease({ pageCount: 1, ttlMs: LEASE_TTL_MS }));
  } catch (error) {
    if (asMemcloudError(error).code === 'ERR_LEASE_CAPACITY') return { write: null, read: null };
    throw error;
  }
  try {
    const write = (): Promise<number> => way.expect(IoStatus.OK, () => way.write(slabHandle));
    const read = (): Promise<number> => way.expect(IoStatus.OK, () => way.read(slabHandle));
    // The first write makes room for the page; page-outs mostly find it made.
    await write();
    const writes = await repeat(count, endMs, write);
    await read();
    const reads = await repeat(count, endMs, read);
    return { write: percentilesOf(writes), read: percentilesOf(reads) };
  } finally {
    await source.release(leaseId).catch(() => undefined);
  }
}

/** Repeats until the count or the end. @returns the times, microseconds */
async function repeat(
  count: number,
  endMs: number,
  once: () => Promise<number>,
): Promise<number[]> {
  const times: number[] = [];
  while (times.length < count && performance.now() < endMs) times.push(await once());
  return times;
}

/** One page request at a time. */
class Way implements PageCompletionSink {
  readonly #source: SlabSource;
  readonly #queue: PageQueue;
  readonly #page = new NativeMemory(SEALED_PAGE_SIZE_BYTES);
  #settle: ((status: IoStatusValue) => void) | undefined;
  #refused: (() => boolean) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: SlabSource) {
    this.#source = source;
    this.#queue = source.openPageQueue(this);
    // Sealed pages look like chance, and nothing on the way could make them smaller.
    randomFillSync(this.#page.bytes);
  }

  close(): void {
    this.#queue.close();
    this.#page.free();
  }

  trim(slabHandle: number): Promise<IoStatusValue> {
    return this.#request(() => this.#queue.trimPages(0, slabHandle, 0, 1));
  }

  write(slabHandle: number): Promise<IoStatusValue> {
    return this.#request(() => this.#queue.writePages(0, slabHandle, 0, 1, this.#page, 0));
  }

  read(slabHandle: number): Promise<IoStatusValue> {
    return this.#request(() => this.#queue.readPages(0, slabHandle, 0, 1));
  }

  /** Times a request that is to end so. @returns microseconds, to a tenth */
  async expect(status: IoStatusValue, request: () => Promise<IoStatusValue>): Promise<number> {
    const beganMs = performance.now();
    const got = await request();
    const tookUs = Math.round((performance.now() - beganMs) * 10_000) / 10;
    if (got === status) return tookUs;
    const name = this.#source.nodeName;
    if (got === IoStatus.LOST) {
      throw new MemcloudError('ERR_DATA_LOST', `node "${name}" gave other bytes back than it got`);
    }
    if (got === IoStatus.UNREACHABLE || got === IoStatus.SHUTDOWN) {
      throw new MemcloudError('ERR_PEER_UNREACHABLE', `node "${name}" does not answer`);
    }
    throw new MemcloudError('ERR_PEER_PROTOCOL', `node "${name}" answered with status ${got}`);
  }

  // --- PageCompletionSink ------------------------------------------------------------------------

  onPagesRead: PageCompletionSink['onPagesRead'] = (_tag, status, pages, offset) => {
    const bytes = pages.bytes.subarray(offset, offset + SEALED_PAGE_SIZE_BYTES);
    const isSame =
      status !== IoStatus.OK || bytes.equals(this.#page.bytes.subarray(0, SEALED_PAGE_SIZE_BYTES));
    this.#end(isSame ? status : IoStatus.LOST);
  };

  onPagesDone: PageCompletionSink['onPagesDone'] = (_tag, status) => this.#end(status);

  onCredit(): void {
    if (this.#refused?.() === true) this.#refused = undefined;
  }

  /** A link that is full of other pages lets a request wait, as it does any page. */
  #request(make: () => boolean): Promise<IoStatusValue> {
    return new Promise((resolve) => {
      this.#settle = resolve;
      if (make()) return;
      this.#refused = make;
      const waitMs = this.#source.up ? CREDIT_WAIT_MS : 0;
      this.#timer = setTimeout(() => this.#end(IoStatus.UNREACHABLE), waitMs);
    });
  }

  #end(status: IoStatusValue): void {
    clearTimeout(this.#timer);
    const settle = this.#settle;
    this.#settle = this.#refused = undefined;
    settle?.(status);
  }
}
