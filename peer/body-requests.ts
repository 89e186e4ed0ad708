/**
 * Our requests on one session that carry a body each way and count by themselves: those about objects
 * (docs/peer-protocol.md section 12) and those of managed memory (section 14). Each kind has its own
 * credits, so that no page ever waits for one that they have: at most 64 are in flight. What has no credit, or
 * would make a queue in which a page waits, waits here, in order and bounded.
 *
 * A request is a slot and a generation, as in request-table.ts: it completes once, a reply to anything
 * else is a breach, and one that nobody waits for any more stays on the books until its reply comes.
 * Pure: time comes as an argument. These calls are rare beside pages, and may make objects.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  MANAGE_BACKLOG_BYTES_MAX,
  MANAGE_OVERDRAFT_BYTES,
  MANAGE_REQUEST_COUNT_MAX,
  MANAGE_WAIT_BYTES_MAX,
  MANAGE_WAIT_COUNT_MAX,
  MANAGE_WAIT_MAX_MS,
  MESSAGE_BODY_SIZE_MAX,
  MessageType,
  OBJECT_BACKLOG_BYTES_MAX,
  OBJECT_BYTES_MAX,
  OBJECT_REQUEST_COUNT_MAX,
  OBJECT_WAIT_BYTES_MAX,
  OBJECT_WAIT_COUNT_MAX,
  OBJECT_WAIT_MAX_MS,
} from './constants.ts';
import type { MessageCursor } from './messages.ts';
import { bodyOf, breach } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';

/** Why a request has no reply. */
export type RequestFailure = 'ERR_PEER_UNREACHABLE' | 'ERR_TIMEOUT' | 'ERR_CANCELLED';

/** Takes the end of a request: its reply, borrowed until the return, or why there is none. */
type ReplySink = (reply: Buffer | undefined, failure: RequestFailure) => void;

/** A kind of request, and its bounds. */
interface RequestKind {
  /** What it is, for messages. */
  readonly name: string;
  readonly type: number;
  /** The low halves of ids begin here, above every slot of the request table: no id is used twice. */
  readonly idBase: number;
  /** Whether the request says how long its reply may be. */
  readonly tellsReplySize: boolean;
  /** Requests in flight. */
  readonly countMax: number;
  /** Bytes in flight, each request with the most that its reply may be. */
  readonly bytesMax: number;
  /** Requests that wait, and their bytes. */
  readonly waitCountMax: number;
  readonly waitBytesMax: number;
  readonly waitMaxMs: number;
  /** Bytes waiting for the kernel above which none is sent, but for so many bytes from tick to tick. */
  readonly backlogBytesMax: number;
  readonly overdraftBytes: number;
}

/** Requests about objects. */
export const OBJECT_REQUESTS: RequestKind = {
  name: 'object',
  type: MessageType.OBJECT,
  idBase: 2 ** 31,
  tellsReplySize: true,
  countMax: OBJECT_REQUEST_COUNT_MAX,
  bytesMax: OBJECT_BYTES_MAX,
  waitCountMax: OBJECT_WAIT_COUNT_MAX,
  waitBytesMax: OBJECT_WAIT_BYTES_MAX,
  waitMaxMs: OBJECT_WAIT_MAX_MS,
  backlogBytesMax: OBJECT_BACKLOG_BYTES_MAX,
  overdraftBytes: 0,
};

/** Requests of managed memory. They are small but for a few, and leases end when they wait for too long. */
export const MANAGE_REQUESTS: RequestKind = {
  name: 'managed',
  type: MessageType.MANAGE,
  idBase: 2 ** 30,
  tellsReplySize: false,
  countMax: MANAGE_REQUEST_COUNT_MAX,
  bytesMax: MANAGE_REQUEST_COUNT_MAX * 2 * MESSAGE_BODY_SIZE_MAX,
  waitCountMax: MANAGE_WAIT_COUNT_MAX,
  waitBytesMax: MANAGE_WAIT_BYTES_MAX,
  waitMaxMs: MANAGE_WAIT_MAX_MS,
  backlogBytesMax: MANAGE_BACKLOG_BYTES_MAX,
  overdraftBytes: MANAGE_OVERDRAFT_BYTES,
};

/** How long after its deadline a request may stay unanswered before the session is given up. */
const ABANDONED_MAX_MS = 30_000;

/** A request that has not ended, or that nobody waits for any more. */
export interface BodyRequest {
  /** Undefined once it was told. */
  sink: ReplySink | undefined;
  /** What is to be sent; undefined once it was. */
  body: Uint8Array | undefined;
  readonly replySizeMax: number;
  readonly costBytes: number;
  deadlineMs: number;
}

/** Slots, generations, credits and the queue of one kind. */
export class BodyRequests {
  /** Time now; the owner keeps it fresh. */
  nowMs: number;
  readonly #kind: RequestKind;
  readonly #writer: RecordWriter;
  readonly #timeoutMs: number;
  readonly #slots: (BodyRequest | undefined)[] = [];
  readonly #generations: Uint32Array;
  readonly #free: number[] = [];
  readonly #queue: BodyRequest[] = [];
  #queuedBytes = 0;
  #flyingBytes = 0;
  #overdraftBytes = 0;
  #ended = false;

  /** @param timeoutMs - longest wait for a reply, from the sending on */
  constructor(kind: RequestKind, writer: RecordWriter, timeoutMs: number, nowMs: number) {
    this.#kind = kind;
    this.#writer = writer;
    this.#timeoutMs = timeoutMs;
    this.nowMs = nowMs;
    this.#generations = new Uint32Array(kind.countMax);
    for (let slot = kind.countMax - 1; slot >= 0; slot -= 1) this.#free.push(slot);
  }

  /** Requests in flight, those that nobody waits for included. */
  get count(): number {
    return this.#kind.countMax - this.#free.length;
  }

  /** Requests that wait for credits. */
  get queuedCount(): number {
    return this.#queue.length;
  }

  /**
   * Sends a request, or queues it. The sink is called once, maybe before the return.
   *
   * @param body - at most 60 000 bytes, taken before the return
   * @param replySizeMax - 0 to 60 000: a longer reply is a breach of the peer's
   */
  request(body: Uint8Array, replySizeMax: number, sink: ReplySink): BodyRequest {
    const { name, waitCountMax, waitBytesMax, waitMaxMs } = this.#kind;
    if (body.length > MESSAGE_BODY_SIZE_MAX || !(replySizeMax <= MESSAGE_BODY_SIZE_MAX)) {
      const text = `${name} request of ${body.length} bytes for ${replySizeMax}: the most is 60000`;
      throw new MemcloudError('ERR_INTERNAL', text);
    }
    const costBytes = body.length + replySizeMax;
    const deadlineMs = this.nowMs + waitMaxMs;
    const request: BodyRequest = { sink, body, replySizeMax, costBytes, deadlineMs };
    const full =
      this.#queue.length >= waitCountMax || this.#queuedBytes + body.length > waitBytesMax;
    if (this.#ended || full) {
      complete(request, 'ERR_PEER_UNREACHABLE');
    } else if (this.#queue.length > 0 || !this.#send(request)) {
      request.body = Uint8Array.prototype.slice.call(body);
      this.#queuedBytes += body.length;
      this.#queue.push(request);
    }
    return request;
  }

  /** Stops waiting. What was sent already may be executed all the same. */
  cancel(request: BodyRequest): void {
    if (request.sink === undefined) return;
    if (request.body !== undefined) this.#unqueue(this.#queue.indexOf(request));
    complete(request, 'ERR_CANCELLED');
  }

  /** Sends what waits, as far as it may. */
  pump(): void {
    for (;;) {
      const [next] = this.#queue;
      if (next === undefined || this.#ended) return;
      const { length } = next.body ?? [];
      if (!this.#send(next)) return;
      this.#queuedBytes -= length;
      this.#queue.shift();
    }
  }

  /** Its reply. @throws MemcloudError `ERR_PEER_PROTOCOL` */
  onReply(reply: MessageCursor, input: NativeBuffer): void {
    const { name, idBase } = this.#kind;
    const slot = reply.idLow - idBase;
    const request = this.#slots[slot];
    if (request === undefined || this.#generations[slot] !== reply.idHigh) {
      breach(`a reply names no ${name} request in flight`);
    }
    if (reply.bodyLength > request.replySizeMax) {
      breach(`${name} reply: expected ${request.replySizeMax} bytes, got ${reply.bodyLength}`);
    }
    this.#slots[slot] = undefined;
    this.#free.push(slot);
    this.#flyingBytes -= request.costBytes;
    const { sink } = request;
    request.sink = undefined;
    sink?.(bodyOf(reply, input), 'ERR_TIMEOUT');
  }

  /**
   * Ends what waited too long.
   *
   * @throws MemcloudError `ERR_TIMEOUT` when the peer sits on requests: the session is over
   */
  expire(nowMs: number): void {
    this.nowMs = nowMs;
    this.#overdraftBytes = 0;
    for (const request of this.#slots) {
      if (request === undefined || request.deadlineMs > nowMs) continue;
      complete(request, 'ERR_TIMEOUT');
      if (request.deadlineMs <= nowMs - ABANDONED_MAX_MS) {
        throw new MemcloudError('ERR_TIMEOUT', 'the peer left requests unanswered for too long');
      }
    }
    // In the order of their coming, so that only the first has to be looked at.
    for (;;) {
      const [next] = this.#queue;
      if (next === undefined || next.deadlineMs > nowMs) break;
      this.#unqueue(0);
      complete(next, 'ERR_TIMEOUT');
    }
    this.pump();
  }

  /** Ends everything; later requests fail at once. */
  end(): void {
    this.#ended = true;
    for (const request of [...this.#slots, ...this.#queue.splice(0)]) {
      if (request !== undefined) complete(request, 'ERR_PEER_UNREACHABLE');
    }
    this.#queuedBytes = 0;
  }

  #unqueue(index: number): void {
    const [request] = this.#queue.splice(index, 1);
    this.#queuedBytes -= request?.body?.length ?? 0;
  }

  #send(request: BodyRequest): boolean {
    const { type, idBase, bytesMax, backlogBytesMax, overdraftBytes, tellsReplySize } = this.#kind;
    const { body, replySizeMax, costBytes } = request;
    if (body === undefined || this.#flyingBytes + costBytes > bytesMax) return false;
    const isCrowded = this.#writer.backlogBytes > backlogBytesMax;
    if (isCrowded && this.#overdraftBytes + body.length > overdraftBytes) return false;
    // Of objects nothing leaves then, not even what is empty.
    if (isCrowded && overdraftBytes === 0) return false;
    const slot = this.#free.pop();
    if (slot === undefined) return false;
    if (isCrowded) this.#overdraftBytes += body.length;
    const generation = ((this.#generations[slot] ?? 0) + 1) >>> 0;
    this.#generations[slot] = generation;
    this.#slots[slot] = request;
    this.#flyingBytes += costBytes;
    request.body = undefined;
    request.deadlineMs = this.nowMs + this.#timeoutMs;
    this.#writer.body(type, idBase + slot, generation, body, tellsReplySize ? replySizeMax : 0);
    return true;
  }
}

function complete(request: BodyRequest, failure: RequestFailure): void {
  const { sink } = request;
  request.sink = undefined;
  sink?.(undefined, failure);
}
