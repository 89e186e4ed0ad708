/**
 * The serving half of a session: each request of the peer is executed against its own slabs before
 * the next is looked at (a slab is memory), and its reply joins the turn's record; a READ's pages are
 * copied once, from the slab into the bytes that leave. Here the peer is held to the credits that we
 * granted. Pure like the machine that it is part of (session-machine.ts).
 */
import type { NativeBuffer } from '../common/native-memory.ts';
import { IoStatus, type SlabAccess } from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import {
  CONTROL_SLOT_COUNT,
  MessageType,
  OBJECT_BYTES_MAX,
  OBJECT_REQUEST_COUNT_MAX,
  PAGE_BYTES_MAX,
  REQUEST_COUNT_MAX,
} from './constants.ts';
import type { CreditLimits } from './control.ts';
import type { MessageCursor } from './messages.ts';
import { bodyOf, breach, type RecordPages } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';

/** The limits that we announce and hold the peer to. */
export const OWN_LIMITS: CreditLimits = {
  requestCountMax: REQUEST_COUNT_MAX,
  pageBytesMax: PAGE_BYTES_MAX,
};

/**
 * Bytes waiting for the kernel above which the peer must have broken its credits. A peer within them
 * has at most its credit outstanding, but what it already received counts here until the whole write
 * that held it is done, hence twice; our own requests come on top.
 */
export const BACKLOG_BYTES_MAX = 3 * (PAGE_BYTES_MAX + REQUEST_COUNT_MAX * 64 + OBJECT_BYTES_MAX);

/** Answers control requests. */
export interface ControlService {
  /** Returns the body of the reply to `body`, which is borrowed until the return. */
  serveControl(body: Buffer): Buffer;
}

/** Answers a request about objects: as `ObjectService.serveObject`, for one requester. */
export type ServeObject = (body: Buffer) => Buffer;

/** The serving half. */
export class SessionService {
  readonly #writer: RecordWriter;
  readonly #access: SlabAccess | undefined;
  readonly #control: ControlService;
  readonly #serveObject: ServeObject | undefined;
  #turnRequests = 0;
  #turnPageBytes = 0;
  #turnControls = 0;
  #turnPings = 0;
  #turnObjects = 0;
  #turnObjectBytes = 0;

  /**
   * @param access - the peer's slabs; undefined when this node lends nothing
   * @param serveObject - undefined when no objects are served on this session
   */
  constructor(
    writer: RecordWriter,
    access: SlabAccess | undefined,
    control: ControlService,
    serveObject?: ServeObject,
  ) {
    this.#writer = writer;
    this.#access = access;
    this.#control = control;
    this.#serveObject = serveObject;
  }

  /** READ. */
  read(request: MessageCursor): void {
    const count = request.pageCount;
    this.#countRequest(count);
    const offset = this.#writer.placePages(count);
    const status =
      this.#access === undefined
        ? IoStatus.NO_LEASE
        : this.#access.readPages(
            request.aux,
            request.firstPage,
            count,
            this.#writer.pageMemory,
            offset,
          );
    const done = status === IoStatus.OK;
    if (done) this.#writer.keepPages(count);
    const { idLow, idHigh } = request;
    this.#writer.pages(MessageType.READ_REPLY, status, idLow, idHigh, done ? count : 0, 0);
  }

  /** WRITE. */
  write(request: MessageCursor, pages: RecordPages, input: NativeBuffer): void {
    const count = request.pageCount;
    this.#countRequest(count);
    const offset = pages.take(count);
    const status =
      this.#access === undefined
        ? IoStatus.NO_LEASE
        : this.#access.writePages(request.aux, request.firstPage, count, input, offset);
    this.#writer.plain(MessageType.WRITE_REPLY, status, request.idLow, request.idHigh);
  }

  /** TRIM. */
  trim(request: MessageCursor): void {
    this.#countRequest(0);
    const status =
      this.#access === undefined
        ? IoStatus.NO_LEASE
        : this.#access.trimPages(request.aux, request.firstPage, request.pageCount);
    this.#writer.plain(MessageType.TRIM_REPLY, status, request.idLow, request.idHigh);
  }

  /** CONTROL. */
  control(request: MessageCursor, input: NativeBuffer): void {
    this.#countRequest(0);
    this.#turnControls += 1;
    if (this.#turnControls > CONTROL_SLOT_COUNT) breach('too many control requests at once');
    const reply = this.#control.serveControl(bodyOf(request, input));
    this.#writer.body(MessageType.CONTROL_REPLY, request.idLow, request.idHigh, reply);
  }

  /** OBJECT: counts by itself, not among the others; its aux is the most bytes that the reply may have. */
  object(request: MessageCursor, input: NativeBuffer): void {
    const { idLow, idHigh, aux: replySizeMax, bodyLength } = request;
    if (this.#serveObject === undefined) breach('no objects are served on this session');
    this.#turnObjects += 1;
    this.#turnObjectBytes += bodyLength + replySizeMax;
    if (this.#turnObjects > OBJECT_REQUEST_COUNT_MAX || this.#turnObjectBytes > OBJECT_BYTES_MAX) {
      breach('the peer has more object requests in flight than it may');
    }
    this.#checkBacklog();
    const reply = this.#serveObject(bodyOf(request, input));
    if (reply.length > replySizeMax) {
      breach(`object request: it takes ${replySizeMax} bytes, and its answer has ${reply.length}`);
    }
    this.#writer.body(MessageType.OBJECT_REPLY, idLow, idHigh, reply);
  }

  /** PING: a peer has one in flight at most. */
  ping(request: MessageCursor): void {
    this.#turnPings += 1;
    if (this.#turnPings > 1) breach('a second PING came before the PONG of the first');
    this.#checkBacklog();
    this.#writer.plain(MessageType.PONG, 0, request.idLow, request.idHigh);
  }

  /** The replies of this turn leave. */
  endTurn(): void {
    this.#turnRequests = this.#turnPageBytes = this.#turnControls = this.#turnPings = 0;
    this.#turnObjects = this.#turnObjectBytes = 0;
  }

  /** Holds the peer to its credits: those of one turn exactly, older ones by what waits to leave. */
  #countRequest(pageCount: number): void {
    this.#turnRequests += 1;
    this.#turnPageBytes += pageCount * SEALED_PAGE_SIZE_BYTES;
    if (
      this.#turnRequests > OWN_LIMITS.requestCountMax ||
      this.#turnPageBytes > OWN_LIMITS.pageBytesMax
    ) {
      breach('the peer has more requests in flight than its credits allow');
    }
    this.#checkBacklog();
  }

  #checkBacklog(): void {
    if (this.#writer.backlogBytes > BACKLOG_BYTES_MAX) {
      breach('the peer asks and does not read the replies');
    }
  }
}
