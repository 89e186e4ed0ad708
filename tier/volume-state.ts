/**
 * What the parts of a volume (write path, read path, slab table) share: its tables, its clock and
 * its counters. The parts are machines: time, randomness and "later in this turn" come in here, so
 * that a simulation can replay them from a seed.
 */
import type { Clock } from '../common/clock.ts';
import type { Logger } from '../common/log.ts';
import type { IoStatusValue, SlabSources, SpillStore } from '../common/ports.ts';
import type { CallTable } from './call-table.ts';
import type { CopyBuffer } from './copy-buffer.ts';
import type { FlushEpochs } from './flush-epochs.ts';
import type { PageMap } from './page-map.ts';
import type { RequestTable } from './request-table.ts';
import type { Ring } from './ring.ts';
import type { PageGuard } from './page-guard.ts';

/** Takes the ends of requests on a volume; the tag is the client's. */
export interface VolumeSink {
  /** The request ended; may be called before the request returned. */
  onVolumeDone(tag: number, status: IoStatusValue): void;
}

/** A client of a volume. */
export interface ClientQueue {
  /** Who is told. */
  readonly sink: VolumeSink;
  /** Rows of the request table that are the client's. */
  rowCount: number;
  /** True once the client has given the queue up; it goes when the last row ends. */
  closing: boolean;
}

/** What a volume needs from the world. */
export interface VolumeWorld {
  /** Monotonic time. */
  readonly clock: Clock;
  /** Runs `task` later in this turn of the event loop, before any I/O. */
  readonly defer: (task: () => void) => void;
  /** Runs `task` once after so many milliseconds; a task that is still to come keeps nothing alive. */
  readonly after: (delayMs: number, task: () => void) => void;
  /** Numbers in [0, 1) for placement. */
  readonly random: () => number;
  /** The providers to choose from. */
  readonly sources: SlabSources;
  /** Where pages go when no provider can take them; closed with the volume. */
  readonly spill?: SpillStore;
  /** For control events; never called for a page. */
  readonly logger: Logger;
}

/** How a volume is to be kept. */
export interface VolumeOptions {
  /** Its name. */
  readonly name: string;
  /** Bytes, a whole number of pages, at most 2^32 - 1 pages. */
  readonly sizeBytes: number;
  /** Providers that each slab is kept on, at least 1. */
  readonly copies: number;
  /** Bytes of page data that the ring holds. */
  readonly ringSizeBytes: number;
  /** Time to live of leases, renewed at a quarter of it. */
  readonly leaseTtlMs: number;
  /** The longest that a request may wait for providers. */
  readonly requestDeadlineMs: number;
  /** The most bytes a second that repair copies. */
  readonly repairBytesPerS?: number;
  /** Where the version counter starts instead of 0, for tests of versions beyond 2^32. */
  readonly firstVersion?: number;
}

/** Counters of a volume, all from its creation on. */
export class VolumeCounters {
  /** Pages that clients read. */
  pagesRead = 0;
  /** Pages that clients wrote. */
  pagesWritten = 0;
  /** Of the written pages, those that were all zeroes. */
  zeroPages = 0;
  /** Of the written pages, those filled with another repeated word. */
  filledPages = 0;
  /** Of the read pages, those that the ring answered. */
  ringHits = 0;
  /** Rewrites that replaced a page in the ring before it was sent. */
  coalescedPages = 0;
  /** Pages that clients trimmed. */
  trimmedPages = 0;
  /** Sealed pages sent to providers, copies counted. */
  pagesSent = 0;
  /** Sealed pages fetched from providers. */
  pagesFetched = 0;
  /** Pages from providers whose tag did not verify. */
  forgedPages = 0;
  /** Pages whose every copy is gone. */
  lostPages = 0;
  /** Replicas given up because their provider failed or lied. */
  droppedReplicas = 0;
  /** Reads asked of a second provider because the first was slow. */
  hedgedReads = 0;
  /** Sealed pages copied to make slabs whole again. */
  repairedPages = 0;
  /** Times that a provider stopped answering. */
  suspicions = 0;
  /** Requests that ended with an error. */
  failedRequests = 0;
}

/** The shared state. */
export interface VolumeState {
  /** How the volume is to be kept. */
  readonly options: VolumeOptions;
  /** The world. */
  readonly world: VolumeWorld;
  /** The pages. */
  readonly map: PageMap;
  /** Page-outs on their way. */
  readonly ring: Ring;
  /** Flush bookkeeping of the ring. */
  readonly epochs: FlushEpochs;
  /** The volume's key. */
  readonly sealer: PageGuard;
  /** Page calls in flight or waiting. */
  readonly calls: CallTable;
  /** Pages on their way from one provider to another. */
  readonly copyBuffer: CopyBuffer;
  /** Requests that could not end at once. */
  readonly requests: RequestTable;
  /** Counters. */
  readonly counters: VolumeCounters;
  /** Client queues by number; a number is used again once its client is gone. */
  readonly queues: (ClientQueue | undefined)[];
  /** Called at the next end of any request, once; almost always empty. */
  readonly endWaiters: (() => void)[];
  /** The last version given to a page; grows by one for each sealed page. */
  version: number;
  /** True once the volume is closing: nothing new is taken. */
  closed: boolean;
  /** True while an image of the volume may be handed over: nothing is sent, leased or given back. */
  frozen: boolean;
}

/** Ends a request: frees the row, tells its client. */
export function endRequest(state: VolumeState, row: number, status: IoStatusValue): void {
  const { requests, queues } = state;
  const number = requests.queue[row] as number;
  const queue = queues[number];
  const tag = requests.tag[row] as number;
  requests.give(row);
  if (status !== 0) state.counters.failedRequests += 1;
  if (queue !== undefined) {
    queue.rowCount -= 1;
    if (queue.closing && queue.rowCount === 0) queues[number] = undefined;
    queue.sink.onVolumeDone(tag, status);
  }
  if (state.endWaiters.length > 0) for (const wake of state.endWaiters.splice(0)) wake();
}

/** The version of a sealed page as one number. */
export function versionOf(map: PageMap, page: number): number {
  return map.wordHigh(page) * 2 ** 32 + map.wordLow(page);
}
