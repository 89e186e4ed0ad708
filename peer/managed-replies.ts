/**
 * The peer's MANAGE requests on one session (docs/peer-protocol.md section 14), from their coming until
 * their reply is on its way. Unlike all others they are answered when their answer is there, in any order, so
 * those in flight are counted exactly. A reply that would make a queue in which a page waits waits here; so
 * many bytes leave all the same that a stream of pages cannot keep it back. Pure: the shell asks the
 * service and brings the answers.
 */
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import {
  MANAGE_BACKLOG_BYTES_MAX,
  MANAGE_OVERDRAFT_BYTES,
  MANAGE_REQUEST_COUNT_MAX,
  MESSAGE_BODY_SIZE_MAX,
  MessageType,
} from './constants.ts';
import type { MessageCursor } from './messages.ts';
import { bodyOf, breach } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';

/** A request of the peer that has no reply yet. */
export interface ManageRequest {
  readonly idLow: number;
  readonly idHigh: number;
}

/** Takes a request; `body` is borrowed until the return. */
export type OnManage = (request: ManageRequest, body: Buffer) => void;

interface Waiting {
  readonly request: ManageRequest;
  readonly body: Uint8Array;
}

/** Requests and replies of one session. */
export class ManagedReplies {
  readonly #writer: RecordWriter;
  readonly #onManage: OnManage | undefined;
  readonly #open = new Set<ManageRequest>();
  readonly #waiting: Waiting[] = [];
  #overdraftBytes = 0;
  #ended = false;

  /** @param onManage - undefined when no managed calls are served on this session */
  constructor(writer: RecordWriter, onManage: OnManage | undefined) {
    this.#writer = writer;
    this.#onManage = onManage;
  }

  /** Requests whose reply has not left yet: at most 64. */
  get count(): number {
    return this.#open.size;
  }

  /** MANAGE. @throws MemcloudError `ERR_PEER_PROTOCOL` */
  onRequest(message: MessageCursor, input: NativeBuffer): void {
    if (this.#onManage === undefined) breach('no managed calls are served on this session');
    if (this.#open.size >= MANAGE_REQUEST_COUNT_MAX) {
      breach('the peer has more managed requests in flight than it may');
    }
    const request = { idLow: message.idLow, idHigh: message.idHigh };
    this.#open.add(request);
    this.#onManage(request, bodyOf(message, input));
  }

  /**
   * Replies. Without effect once the session has ended.
   *
   * @param body - kept until it leaves
   * @throws MemcloudError `ERR_INTERNAL` when it is too long: the session is over
   */
  reply(request: ManageRequest, body: Uint8Array): void {
    if (this.#ended) return;
    if (body.length > MESSAGE_BODY_SIZE_MAX) {
      const text = `managed reply of ${body.length} bytes: expected at most ${MESSAGE_BODY_SIZE_MAX}`;
      throw new MemcloudError('ERR_INTERNAL', text);
    }
    this.#waiting.push({ request, body });
    this.pump();
  }

  /** Sends what waits, as far as it may. */
  pump(): void {
    while (!this.#ended) {
      const [next] = this.#waiting;
      if (next === undefined || !this.#mayLeave(next.body.length)) return;
      this.#waiting.shift();
      this.#open.delete(next.request);
      const { idLow, idHigh } = next.request;
      this.#writer.body(MessageType.MANAGE_REPLY, idLow, idHigh, next.body);
    }
  }

  /** Some time has passed: what was held back may leave again, a part of it. */
  tick(): void {
    this.#overdraftBytes = 0;
    this.pump();
  }

  /** The session is over: what is answered from now on is dropped. */
  end(): void {
    this.#ended = true;
    this.#open.clear();
    this.#waiting.length = 0;
  }

  #mayLeave(length: number): boolean {
    if (this.#writer.backlogBytes <= MANAGE_BACKLOG_BYTES_MAX) return true;
    if (this.#overdraftBytes + length > MANAGE_OVERDRAFT_BYTES) return false;
    this.#overdraftBytes += length;
    return true;
  }
}
