/**
 * The provider of this very machine as a place for volumes (`--provider local`): the same contract
 * as a remote one, without a wire. A page call is carried out before it returns; only its end waits
 * for the end of the turn, because the caller may count on that (common/ports.ts, PageQueue).
 *
 * Ends are gathered in one of two banks of typed arrays and delivered in one batch on the next tick,
 * while new calls, also those that the sink makes meanwhile, gather in the other. A bank is bounded
 * by calls and by pages read; at the bound a call is refused and `onCredit` follows the delivery.
 * A caller that answers every end with a new call would keep the tick queue busy for ever, so after
 * some batches in a row one is put off to the next turn of the event loop.
 */
import { MemcloudError } from '../common/errors.ts';
import { NativeMemory, type NativeBuffer } from '../common/native-memory.ts';
import {
  IoStatus,
  PAGE_CALL_PAGE_COUNT_MAX,
  type IoStatusValue,
  type NodeId,
  type PageCompletionSink,
  type PageQueue,
  type ProviderUsage,
  type SlabAccess,
  type SlabGrant,
  type SlabRecall,
  type SlabRequest,
  type SlabSource,
} from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';

/** Calls that one bank of a queue holds. */
export const LOCAL_QUEUE_CALL_COUNT_MAX = 512;
/** Pages read that one bank of a queue holds: 4 MiB, touched only as far as it is used. */
export const LOCAL_QUEUE_READ_PAGE_COUNT_MAX = 1024;

const BATCHES_PER_TURN_MAX = 16;
const NO_PAGES = -1;

/** Who a {@link LocalSlabSource} is. */
export interface LocalSlabSourceOptions {
  /** The id of this node. */
  readonly nodeId: NodeId;
  /** What people call it. */
  readonly nodeName: string;
  /** Its own view of its own provider. */
  readonly access: SlabAccess;
  /** Tells whether the provider is open; default: always. */
  readonly isUp?: () => boolean;
  /** Tells whether the provider grants leases; default: always. */
  readonly isAccepting?: () => boolean;
  /** Names this machine; default: empty. */
  readonly hostId?: string;
  /** Its wider failure domain; default: none. */
  readonly zone?: string;
}

/** A {@link SlabSource} over a provider in this process. */
export class LocalSlabSource implements SlabSource {
  readonly nodeId: NodeId;
  readonly nodeName: string;
  readonly hostId: string;
  readonly zone: string;
  readonly roundTripMs = 0;
  /** It is this process: there is nobody to disbelieve. */
  readonly quarantineReason = undefined;
  readonly #access: SlabAccess;
  readonly #isUp: () => boolean;
  readonly #isAccepting: () => boolean;
  readonly #recallListeners = new Set<(recall: SlabRecall) => void>();

  constructor(options: LocalSlabSourceOptions) {
    this.nodeId = options.nodeId;
    this.nodeName = options.nodeName;
    this.#access = options.access;
    this.#isUp = options.isUp ?? (() => true);
    this.#isAccepting = options.isAccepting ?? (() => true);
    this.hostId = options.hostId ?? '';
    this.zone = options.zone ?? '';
  }

  /** True while the provider grants leases. */
  get accepting(): boolean {
    return this.#isAccepting();
  }

  /** The provider asks for leases back: its owner passes that on. */
  recall(recall: SlabRecall): void {
    for (const listener of this.#recallListeners) listener(recall);
  }

  /** True while the provider is open. */
  get up(): boolean {
    return this.#isUp();
  }

  /** The provider's room, always fresh. */
  get usage(): ProviderUsage {
    return this.#access.usage();
  }

  /** Nothing: memory of this process that does not verify is no donor's lie. */
  quarantine(): void {
    return;
  }

  /** Listens for leases that the provider asks back. */
  onRecall(listener: (recall: SlabRecall) => void): () => void {
    this.#recallListeners.add(listener);
    return () => this.#recallListeners.delete(listener);
  }

  /** As {@link SlabAccess.lease}. */
  async lease(request: SlabRequest): Promise<SlabGrant> {
    return Promise.resolve(this.#access.lease(request));
  }

  /** As {@link SlabAccess.renew}. */
  async renew(leaseIds: readonly string[], ttlMs: number): Promise<string[]> {
    return Promise.resolve(this.#access.renew(leaseIds, ttlMs));
  }

  /** As {@link SlabAccess.release}. */
  async release(leaseId: string): Promise<void> {
    return Promise.resolve(this.#access.release(leaseId));
  }

  /** Opens a way in for one volume. It takes no calls while the source is down. */
  openPageQueue(sink: PageCompletionSink): PageQueue {
    return new LocalPageQueue(this.#access, sink, this.#isUp);
  }
}

/** Ends that wait for delivery, in the order of their calls. */
class Bank {
  readonly tags = new Float64Array(LOCAL_QUEUE_CALL_COUNT_MAX);
  readonly statuses = new Uint8Array(LOCAL_QUEUE_CALL_COUNT_MAX);
  /** Where the pages of a read begin in `pages`, or NO_PAGES for writes and trims. */
  readonly offsets = new Int32Array(LOCAL_QUEUE_CALL_COUNT_MAX);
  readonly pages = new NativeMemory(LOCAL_QUEUE_READ_PAGE_COUNT_MAX * SEALED_PAGE_SIZE_BYTES, {
    lock: true,
  });
  callCount = 0;
  readPageCount = 0;
}

class LocalPageQueue implements PageQueue {
  readonly #access: SlabAccess;
  readonly #sink: PageCompletionSink;
  readonly #isUp: () => boolean;
  readonly #deliverOnTick = (): void => this.#deliver();
  readonly #startTurn = (): void => {
    this.#batchesInTurn = 0;
  };
  readonly #deliverOnTurn = (): void => {
    this.#batchesInTurn = 0;
    this.#deliver();
  };
  #gathering = new Bank();
  #spare = new Bank();
  #scheduled = false;
  #delivering = false;
  #batchesInTurn = 0;
  #refused = false;
  #closed = false;
  #freed = false;

  constructor(access: SlabAccess, sink: PageCompletionSink, isUp: () => boolean) {
    this.#access = access;
    this.#sink = sink;
    this.#isUp = isUp;
  }

  readPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    const bank = this.#gathering;
    const wrong = !(pageCount >= 1 && pageCount <= PAGE_CALL_PAGE_COUNT_MAX);
    const room = LOCAL_QUEUE_READ_PAGE_COUNT_MAX - bank.readPageCount;
    if (!this.#admit(!wrong && pageCount > room)) return false;
    const offset = bank.readPageCount * SEALED_PAGE_SIZE_BYTES;
    if (wrong) {
      this.#gather(tag, IoStatus.INVALID, offset);
      return true;
    }
    const status = this.#access.readPages(slabHandle, firstPage, pageCount, bank.pages, offset);
    if (status === IoStatus.OK) bank.readPageCount += pageCount;
    this.#gather(tag, status, offset);
    return true;
  }

  writePages(
    tag: number,
    slabHandle: number,
    firstPage: number,
    pageCount: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    if (!this.#admit(false)) return false;
    const status = this.#access.writePages(slabHandle, firstPage, pageCount, from, fromOffset);
    this.#gather(tag, status, NO_PAGES);
    return true;
  }

  trimPages(tag: number, slabHandle: number, firstPage: number, pageCount: number): boolean {
    if (!this.#admit(false)) return false;
    const status = this.#access.trimPages(slabHandle, firstPage, pageCount);
    this.#gather(tag, status, NO_PAGES);
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#scheduled && !this.#delivering) this.#free();
  }

  #admit(pagesFull: boolean): boolean {
    if (this.#closed || !this.#isUp()) return false;
    if (pagesFull || this.#gathering.callCount === LOCAL_QUEUE_CALL_COUNT_MAX) {
      this.#refused = true;
      return false;
    }
    return true;
  }

  #gather(tag: number, status: IoStatusValue, offset: number): void {
    const bank = this.#gathering;
    const at = bank.callCount;
    bank.tags[at] = tag;
    bank.statuses[at] = status;
    bank.offsets[at] = offset;
    bank.callCount = at + 1;
    if (this.#scheduled || this.#delivering) return;
    this.#schedule();
  }

  #schedule(): void {
    this.#scheduled = true;
    this.#batchesInTurn += 1;
    if (this.#batchesInTurn === BATCHES_PER_TURN_MAX / 2) setImmediate(this.#startTurn);
    if (this.#batchesInTurn > BATCHES_PER_TURN_MAX) setImmediate(this.#deliverOnTurn);
    else process.nextTick(this.#deliverOnTick);
  }

  #deliver(): void {
    const bank = this.#gathering;
    this.#gathering = this.#spare;
    this.#spare = bank;
    this.#scheduled = false;
    this.#delivering = true;
    const refused = this.#refused;
    this.#refused = false;
    this.#deliverBank(bank);
    if (refused && !this.#closed) this.#sink.onCredit();
    this.#delivering = false;
    bank.callCount = 0;
    bank.readPageCount = 0;
    if (this.#gathering.callCount > 0) this.#schedule();
    else if (this.#closed) this.#free();
  }

  #deliverBank(bank: Bank): void {
    for (let at = 0; at < bank.callCount; at += 1) {
      const tag = bank.tags[at] ?? 0;
      const status = this.#closed ? IoStatus.SHUTDOWN : statusAt(bank, at);
      const offset = bank.offsets[at] ?? NO_PAGES;
      if (offset === NO_PAGES) this.#sink.onPagesDone(tag, status);
      else this.#sink.onPagesRead(tag, status, bank.pages, offset);
    }
  }

  #free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#gathering.pages.free();
    this.#spare.pages.free();
  }
}

function statusAt(bank: Bank, at: number): IoStatusValue {
  const status = bank.statuses[at];
  switch (status) {
    case IoStatus.OK:
    case IoStatus.INVALID:
    case IoStatus.NO_SPACE:
    case IoStatus.NO_LEASE:
      return status;
    default:
      throw new MemcloudError('ERR_INTERNAL', `local source: a page call ended with ${status}`);
  }
}
