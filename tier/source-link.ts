/**
 * One volume's link to one provider: two lists of page calls that wait for credit, reads and
 * writes, and the page queue that carries them. Reads go first: a program waits for them, while a
 * write was acknowledged when it entered the ring. Trims wait in the list of writes, because they
 * must not overtake one.
 */
import { IoStatus, type IoStatusValue, type PageCompletionSink } from '../common/ports.ts';
import type { PageQueue, SlabSource } from '../common/ports.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { SEALED_PAGE_SIZE_BYTES, SLAB_PAGE_COUNT } from '../common/units.ts';
import { CallKind, type CallTable } from './call-table.ts';
import { IndexQueue } from './index-queue.ts';
import type { Ring } from './ring.ts';

/** What the volume does when something happens on a link. */
export interface LinkEvents {
  /** A read call ended; the pages are borrowed until the return. */
  onReadDone(call: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void;
  /** A write or trim call ended. */
  onWriteDone(call: number, status: IoStatusValue): void;
  /** The link takes more writes. */
  onLinkReady(link: SourceLink): void;
}

/** The link. */
export class SourceLink implements PageCompletionSink {
  /** The number of the link in the volume, as in {@link CallTable.link}. */
  readonly index: number;
  /** The provider. */
  readonly source: SlabSource;
  /** Ring slots whose slab has this link's provider first, in the order of writing. */
  readonly sendQueue: IndexQueue;
  /** Ring slots to be sent again at the next tick. */
  readonly resendQueue: IndexQueue;
  /** When the first of its leases ends unless it is renewed, on the volume's clock; NaN without any. */
  leasesEndAtMs = NaN;
  readonly #calls: CallTable;
  readonly #ring: Ring;
  readonly #events: LinkEvents;
  readonly #reads: IndexQueue;
  readonly #writes: IndexQueue;
  readonly #queue: PageQueue;

  /** Opens a page queue on the source. */
  constructor(
    index: number,
    source: SlabSource,
    tables: { calls: CallTable; ring: Ring },
    events: LinkEvents,
  ) {
    this.index = index;
    this.source = source;
    this.#calls = tables.calls;
    this.#ring = tables.ring;
    this.#events = events;
    this.#reads = new IndexQueue(tables.calls);
    this.#writes = new IndexQueue(tables.calls);
    this.sendQueue = new IndexQueue(tables.ring);
    this.resendQueue = new IndexQueue(tables.ring);
    this.#queue = source.openPageQueue(this);
  }

  /** True when no write waits for credit: the volume may make more write calls. */
  get takesWrites(): boolean {
    return this.#writes.length === 0 && this.source.up;
  }

  /** Writes and trims that wait for credit. */
  get waitingWriteCount(): number {
    return this.#writes.length;
  }

  /** Sends or queues a read call. */
  read(call: number): void {
    if (this.#reads.length > 0 || !this.#tryRead(call)) this.#reads.push(call);
  }

  /** Sends or queues a write or trim call. */
  write(call: number): void {
    if (this.#writes.length > 0 || !this.#tryWrite(call)) this.#writes.push(call);
  }

  /**
   * Ends the waiting calls for which `expired` says so, with UNREACHABLE; called from the tick.
   * A write waits without limit, since its bytes are safe in the ring; reads do not.
   */
  expireReads(expired: (call: number) => boolean): void {
    for (let left = this.#reads.length; left > 0; left -= 1) {
      const call = this.#reads.shift();
      if (expired(call)) {
        this.#events.onReadDone(call, IoStatus.UNREACHABLE, this.#ring.memory, 0);
      } else {
        this.#reads.push(call);
      }
    }
  }

  /** Takes the waiting writes and trims off for which `given` says so, and ends them with `status`. */
  failWaitingWrites(given: (call: number) => boolean, status: IoStatusValue): void {
    for (let left = this.#writes.length; left > 0; left -= 1) {
      const call = this.#writes.shift();
      if (given(call)) this.#events.onWriteDone(call, status);
      else this.#writes.push(call);
    }
  }

  /** Closes the page queue; calls in flight end with SHUTDOWN. */
  close(): void {
    this.#queue.close();
  }

  /** @inheritDoc */
  onPagesRead(tag: number, status: IoStatusValue, pages: NativeBuffer, offset: number): void {
    this.#events.onReadDone(tag, status, pages, offset);
  }

  /** @inheritDoc */
  onPagesDone(tag: number, status: IoStatusValue): void {
    this.#events.onWriteDone(tag, status);
  }

  /** @inheritDoc */
  onCredit(): void {
    while (this.#reads.head !== -1 && this.#tryRead(this.#reads.head)) this.#reads.shift();
    while (this.#writes.head !== -1 && this.#tryWrite(this.#writes.head)) this.#writes.shift();
    if (this.#writes.length === 0) this.#events.onLinkReady(this);
  }

  #tryRead(call: number): boolean {
    const { slabHandle, page, pageCount } = this.#calls;
    return this.#queue.readPages(
      call,
      slabHandle[call] as number,
      (page[call] as number) % SLAB_PAGE_COUNT,
      pageCount[call] as number,
    );
  }

  #tryWrite(call: number): boolean {
    const { kind, slabHandle, page, pageCount, owner } = this.#calls;
    const handle = slabHandle[call] as number;
    const first = (page[call] as number) % SLAB_PAGE_COUNT;
    const count = pageCount[call] as number;
    if (kind[call] === CallKind.TRIM) return this.#queue.trimPages(call, handle, first, count);
    const offset = (owner[call] as number) * SEALED_PAGE_SIZE_BYTES;
    return this.#queue.writePages(call, handle, first, count, this.#ring.memory, offset);
  }
}
