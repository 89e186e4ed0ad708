/**
 * The asking half of a session: our requests take a slot of the request table and become messages of
 * the turn's record; replies find their slot and complete it, once. Pure like the machine that it is
 * part of (session-machine.ts).
 */
import { addressIn } from '../common/aead.ts';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { copyMemory } from '../common/libc.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, PAGE_CALL_PAGE_COUNT_MAX, type IoStatusValue } from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import { MessageType, REQUEST_COUNT_MAX, WRITE_BACKLOG_BYTES_MAX } from './constants.ts';
import type { CreditLimits } from './control.ts';
import type { MessageCursor } from './messages.ts';
import { bodyOf, breach, type RecordPages } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';
import { CONTROL_OWNER, RequestTable } from './request-table.ts';
import { WriteWindow } from './write-window.ts';

/** Takes the ends of requests. Page requests are named by owner and tag, control requests by tag. */
export interface RequestEvents {
  /** As PageCompletionSink.onPagesRead. */
  onPagesRead(
    owner: number,
    tag: number,
    status: IoStatusValue,
    pages: NativeBuffer,
    offset: number,
  ): void;
  /** As PageCompletionSink.onPagesDone. */
  onPagesDone(owner: number, tag: number, status: IoStatusValue): void;
  /** A control reply came (`body` borrowed until the return), or none will (undefined). */
  onControlDone(tag: number, body: Buffer | undefined): void;
  /** Credits came back after calls were refused. At most once a turn. */
  onCredit(): void;
}

/** How long after its deadline a request may stay unanswered before the session is given up. */
const ABANDONED_MAX_MS = 30_000;

/** What completions carry when there are no pages. */
const NO_PAGES: NativeBuffer = { bytes: Buffer.alloc(0), address: 0 };

/** The asking half. */
export class SessionRequests {
  /** Time now; the machine keeps it fresh. */
  nowMs: number;
  readonly #writer: RecordWriter;
  readonly #table: RequestTable;
  readonly #events: RequestEvents;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #window = new WriteWindow();
  #ended = false;
  #creditRefused = false;

  /**
   * @param limits - what the peer granted
   * @param timeoutMs - longest wait for a reply
   * @param clock - asked when a write is timed: between two turns `nowMs` may be old
   */
  constructor(
    writer: RecordWriter,
    limits: CreditLimits,
    events: RequestEvents,
    timeoutMs: number,
    clock: Clock,
  ) {
    this.#writer = writer;
    this.#table = new RequestTable(limits, REQUEST_COUNT_MAX);
    this.#events = events;
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.nowMs = clock.nowMs();
  }

  /** Requests in flight, abandoned ones included. */
  get count(): number {
    return this.#table.count;
  }

  /** Replies that came after their deadline. */
  get lateReplyCount(): number {
    return this.#table.lateReplyCount;
  }

  /** As PageQueue.readPages, for queue `owner`. */
  readPages(owner: number, tag: number, handle: number, first: number, count: number): boolean {
    const slot = this.#acquire(MessageType.READ, count, count, owner, tag);
    if (slot < 0) return false;
    const generation = this.#table.generation(slot);
    this.#writer.pages(MessageType.READ, handle, slot, generation, first, count);
    this.#window.onRead();
    return true;
  }

  /** As PageQueue.trimPages, for queue `owner`. */
  trimPages(owner: number, tag: number, handle: number, first: number, count: number): boolean {
    const slot = this.#acquire(MessageType.TRIM, count, 0, owner, tag);
    if (slot < 0) return false;
    const generation = this.#table.generation(slot);
    this.#writer.pages(MessageType.TRIM, handle, slot, generation, first, count);
    return true;
  }

  /** As PageQueue.writePages, for queue `owner`. */
  writePages(
    owner: number,
    tag: number,
    handle: number,
    first: number,
    count: number,
    from: NativeBuffer,
    fromOffset: number,
  ): boolean {
    if (!this.#mayWrite(count)) return false;
    const length = count * SEALED_PAGE_SIZE_BYTES;
    const source = addressIn(from, fromOffset, length);
    const slot = this.#acquire(MessageType.WRITE, count, count, owner, tag);
    if (slot < 0) {
      this.#window.onRefusal(false);
      return false;
    }
    if (this.#window.wantsProbe) this.#window.onProbe(slot, this.#clock.nowMs());
    const generation = this.#table.generation(slot);
    const offset = this.#writer.placePages(count);
    copyMemory(addressIn(this.#writer.pageMemory, offset, length), source, length);
    this.#writer.keepPages(count);
    this.#writer.pages(MessageType.WRITE, handle, slot, generation, first, count);
    return true;
  }

  /**
   * Sends a control request; it ends with `onControlDone`.
   *
   * @returns false when no slot is free
   */
  control(tag: number, body: Uint8Array): boolean {
    if (this.#ended) return false;
    const deadlineMs = this.nowMs + this.#timeoutMs;
    const slot = this.#table.acquire(MessageType.CONTROL, 0, CONTROL_OWNER, tag, deadlineMs);
    if (slot < 0) return false;
    this.#writer.body(MessageType.CONTROL, slot, this.#table.generation(slot), body);
    return true;
  }

  /** READ_REPLY. */
  onReadReply(reply: MessageCursor, pages: RecordPages, input: NativeBuffer): void {
    const slot = this.#slotOf(reply, MessageType.READ);
    const status = reply.aux as IoStatusValue;
    if (status === IoStatus.OK && reply.pageCount !== this.#table.pageCount(slot)) {
      breach(`read reply: expected ${this.#table.pageCount(slot)} pages, got ${reply.pageCount}`);
    }
    const offset = pages.take(reply.pageCount);
    const waited = !this.#table.isAbandoned(slot);
    const owner = this.#table.owner(slot);
    const tag = this.#table.tag(slot);
    this.#table.release(slot);
    if (waited) this.#events.onPagesRead(owner, tag, status, input, offset);
  }

  /** WRITE_REPLY and TRIM_REPLY; `type` is that of the request. */
  onDoneReply(reply: MessageCursor, type: number): void {
    const slot = this.#slotOf(reply, type);
    if (type === MessageType.WRITE) this.#window.onReply(slot, this.nowMs);
    const waited = !this.#table.isAbandoned(slot);
    const owner = this.#table.owner(slot);
    const tag = this.#table.tag(slot);
    this.#table.release(slot);
    if (waited) this.#events.onPagesDone(owner, tag, reply.aux as IoStatusValue);
  }

  /** CONTROL_REPLY. */
  onControlReply(reply: MessageCursor, input: NativeBuffer): void {
    const slot = this.#slotOf(reply, MessageType.CONTROL);
    const waited = !this.#table.isAbandoned(slot);
    const tag = this.#table.tag(slot);
    this.#table.release(slot);
    if (waited) this.#events.onControlDone(tag, bodyOf(reply, input));
  }

  /** Tells the owner of refused calls that they would be taken now. At the end of a turn. */
  offerCredit(): void {
    if (!this.#creditRefused || this.#ended) return;
    this.#creditRefused = false;
    this.#events.onCredit();
  }

  /** Completes what queue `owner` waits for with SHUTDOWN; replies to it are dropped when they come. */
  abandonOwner(owner: number): void {
    this.#completeWaiting(Infinity, owner, IoStatus.SHUTDOWN);
  }

  /**
   * Completes what waited too long with UNREACHABLE.
   *
   * @throws MemcloudError `ERR_TIMEOUT` when the peer sits on requests: the session is over
   */
  expire(nowMs: number): void {
    this.nowMs = nowMs;
    this.#completeWaiting(nowMs, -1, IoStatus.UNREACHABLE);
    if (this.#table.hasAbandonedSince(nowMs - ABANDONED_MAX_MS)) {
      throw new MemcloudError('ERR_TIMEOUT', 'the peer left requests unanswered for too long');
    }
  }

  /** Completes everything with UNREACHABLE; later calls are refused. */
  end(): void {
    this.#ended = true;
    this.#completeWaiting(Infinity, -1, IoStatus.UNREACHABLE);
  }

  #completeWaiting(beforeMs: number, onlyOwner: number, status: IoStatusValue): void {
    const table = this.#table;
    let slot = table.nextWaiting(0, beforeMs, onlyOwner);
    while (slot >= 0) {
      table.abandon(slot);
      const owner = table.owner(slot);
      const tag = table.tag(slot);
      const type = table.type(slot);
      if (type === MessageType.CONTROL) this.#events.onControlDone(tag, undefined);
      else if (type === MessageType.READ) {
        this.#events.onPagesRead(owner, tag, status, NO_PAGES, 0);
      } else this.#events.onPagesDone(owner, tag, status);
      slot = table.nextWaiting(slot + 1, beforeMs, onlyOwner);
    }
  }

  /** Writes never make a queue in which a read would wait (DESIGN D3: reads before writes). */
  #mayWrite(count: number): boolean {
    const inFlight = this.#table.writePageCount;
    const isFull = inFlight > 0 && inFlight + count > this.#window.pageCount;
    if (!isFull && this.#writer.backlogBytes <= WRITE_BACKLOG_BYTES_MAX) return true;
    this.#window.onRefusal(isFull);
    this.#creditRefused = true;
    return false;
  }

  #acquire(type: number, count: number, carried: number, owner: number, tag: number): number {
    if (this.#ended) return -1;
    if (!(count >= 1 && count <= PAGE_CALL_PAGE_COUNT_MAX)) {
      throw new MemcloudError('ERR_INTERNAL', `page call: expected 1 to 64 pages, got ${count}`);
    }
    const deadlineMs = this.nowMs + this.#timeoutMs;
    const slot = this.#table.acquire(type, carried, owner, tag, deadlineMs);
    if (slot < 0) this.#creditRefused = true;
    return slot;
  }

  #slotOf(reply: MessageCursor, type: number): number {
    const slot = this.#table.find(reply.idLow, reply.idHigh);
    if (slot < 0) breach('a reply names no request in flight');
    if (this.#table.type(slot) !== type) breach('a reply is of another type than its request');
    return slot;
  }
}
