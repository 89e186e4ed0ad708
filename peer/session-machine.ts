/**
 * A session between two nodes, after both said `accepted` (docs/peer-protocol.md sections 5 to 8).
 * It is symmetric: each side asks for pages of the other (session-requests.ts) and serves its own
 * (session-service.ts). Here records are taken apart and their messages dealt to those two, and life
 * and death are watched.
 *
 * A machine: bytes and time come in as arguments, bytes go out through a RecordOutput. Whatever the
 * peer does wrong is thrown as ERR_PEER_PROTOCOL or ERR_PEER_AUTHENTICATION; the shell (session.ts)
 * ends the session on any throw. In the steady state no call here makes an object.
 */
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { SlabAccess } from '../common/ports.ts';
import { BodyRequests, MANAGE_REQUESTS, OBJECT_REQUESTS } from './body-requests.ts';
import { MessageType, RECORD_HEADER_SIZE_BYTES, type ByeReasonValue } from './constants.ts';
import type { CreditLimits } from './control.ts';
import { emptyRecordLayout, readRecordLayout } from './frame.ts';
import { KeepaliveMachine, type KeepaliveLimits } from './keepalive-machine.ts';
import { ManagedReplies, type OnManage } from './managed-replies.ts';
import { MessageCursor } from './messages.ts';
import type { RecordOpener } from './record-cipher.ts';
import { bodyOf, breach, RecordPages } from './record-pages.ts';
import type { RecordWriter } from './record-writer.ts';
import { SessionRequests, type RequestEvents } from './session-requests.ts';
import { SessionService, type ControlService, type ServeObject } from './session-service.ts';

/** What a session tells the one that owns it. */
export interface SessionMachineEvents extends RequestEvents, ControlService {
  /** The peer told something unasked; `body` is borrowed until the return. */
  onNotice(body: Buffer): void;
  /** The peer ends the session. */
  onBye(reason: ByeReasonValue): void;
}

/** What a machine is made of. */
export interface SessionMachineOptions {
  /** Owned by the machine. */
  readonly writer: RecordWriter;
  /** Owned by the machine. */
  readonly opener: RecordOpener;
  /** What the peer granted. */
  readonly peerLimits: CreditLimits;
  /** The slabs that the peer may use; undefined when this node lends nothing. */
  readonly access: SlabAccess | undefined;
  /** Answers the peer about objects; undefined when none are served on this session. */
  readonly serveObject?: ServeObject | undefined;
  /** Takes the peer's requests of managed memory; undefined when none are served on this session. */
  readonly onManage?: OnManage | undefined;
  /** The owner. */
  readonly events: SessionMachineEvents;
  /** When to ping and to give up. */
  readonly keepalive: KeepaliveLimits;
  /** Longest wait for a reply, milliseconds. */
  readonly requestTimeoutMs: number;
  /** Time, for what begins between two turns. */
  readonly clock: Clock;
}

/** One side of a session. */
export class SessionMachine {
  /** Our requests. */
  readonly requests: SessionRequests;
  /** Our requests about objects, which count by themselves. */
  readonly objects: BodyRequests;
  /** Our requests of managed memory, likewise. */
  readonly managed: BodyRequests;
  /** The peer's requests of managed memory. */
  readonly managedReplies: ManagedReplies;
  readonly #service: SessionService;
  readonly #writer: RecordWriter;
  readonly #opener: RecordOpener;
  readonly #events: SessionMachineEvents;
  readonly #keepalive: KeepaliveMachine;
  readonly #cursor = new MessageCursor();
  readonly #pages = new RecordPages();
  readonly #layout = emptyRecordLayout();
  #input: NativeBuffer | undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #nowMs: number;
  #ended = false;
  #fellSilent = false;

  constructor(options: SessionMachineOptions) {
    const { writer, events, clock } = options;
    const nowMs = clock.nowMs();
    this.#writer = writer;
    this.#opener = options.opener;
    this.#events = events;
    this.requests = new SessionRequests(
      writer,
      options.peerLimits,
      events,
      options.requestTimeoutMs,
      clock,
    );
    const { requestTimeoutMs } = options;
    this.objects = new BodyRequests(OBJECT_REQUESTS, writer, requestTimeoutMs, nowMs);
    this.managed = new BodyRequests(MANAGE_REQUESTS, writer, requestTimeoutMs, nowMs);
    this.managedReplies = new ManagedReplies(writer, options.onManage);
    this.#service = new SessionService(writer, options.access, events, options.serveObject);
    this.#keepalive = new KeepaliveMachine(options.keepalive, nowMs);
    this.#nowMs = nowMs;
  }

  /** True once {@link SessionMachine.end} ran; every call is then without effect. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True once the peer was given up for its silence. */
  get fellSilent(): boolean {
    return this.#fellSilent;
  }

  /** Smoothed round trip of PING, milliseconds; 0 while unknown. */
  get roundTripMs(): number {
    return this.#keepalive.roundTripMs;
  }

  /**
   * Takes the whole records of `input.bytes[start, end)`.
   *
   * @returns the position up to which bytes were consumed
   * @throws MemcloudError `ERR_PEER_PROTOCOL`, `ERR_PEER_AUTHENTICATION`: the session is over
   */
  onBytes(input: NativeBuffer, start: number, end: number, nowMs: number): number {
    if (this.#ended) return end;
    this.#setTime(nowMs);
    this.#keepalive.onBytes();
    if (input !== this.#input) {
      this.#input = input;
      this.#view = new DataView(input.bytes.buffer, input.bytes.byteOffset, input.bytes.length);
    }
    let at = start;
    while (readRecordLayout(this.#view, at, end, this.#layout)) {
      const size = this.#layout.size;
      this.#onRecord(input, at, this.#layout.pagesLength, this.#layout.headLength);
      if (this.#ended) return end;
      at += size;
    }
    this.onDrain();
    return at;
  }

  /** Tells the peer something unasked. */
  notice(body: Uint8Array): void {
    if (!this.#ended) this.#writer.body(MessageType.NOTICE, 0, 0, body);
  }

  /** Tells the peer that the session ends, and why. */
  bye(reason: ByeReasonValue): void {
    if (!this.#ended) this.#writer.plain(MessageType.BYE, reason, 0, 0);
  }

  /** The output is about to leave: the turn is over. */
  onFlush(): void {
    if (this.#ended) return;
    this.#service.endTurn();
    this.#writer.close();
  }

  /** The kernel has taken all output. */
  onDrain(): void {
    this.requests.offerCredit();
    this.objects.pump();
    this.managed.pump();
    this.managedReplies.pump();
  }

  /**
   * Looks after deadlines and life; to be called every 50 ms.
   *
   * @throws MemcloudError `ERR_TIMEOUT` when the peer is dead or sits on requests: the session is over
   */
  tick(nowMs: number): void {
    if (this.#ended) return;
    this.#setTime(nowMs);
    this.requests.expire(nowMs);
    if (this.#ended) return;
    this.objects.expire(nowMs);
    this.managed.expire(nowMs);
    this.managedReplies.tick();
    // Managed calls may take their time, and no page waits for them: they call nobody dead sooner.
    const waits = this.requests.count + this.objects.count > 0;
    const action = this.#keepalive.tick(nowMs, waits);
    if (action === 'dead') {
      this.#fellSilent = true;
      throw new MemcloudError('ERR_TIMEOUT', 'the peer fell silent');
    }
    if (action === 'ping') this.#writer.plain(MessageType.PING, 0, this.#keepalive.pingId, 0);
  }

  /** The session is over: drops the keys and completes everything in flight with UNREACHABLE. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.requests.end();
    this.objects.end();
    this.managed.end();
    this.managedReplies.end();
    this.#writer.destroy();
    this.#opener.destroy();
  }

  #setTime(nowMs: number): void {
    this.#nowMs = this.requests.nowMs = this.objects.nowMs = nowMs;
    this.managed.nowMs = this.#writer.nowMs = nowMs;
  }

  #onRecord(input: NativeBuffer, start: number, pagesLength: number, headLength: number): void {
    this.#opener.open(input, start, pagesLength, headLength);
    const pagesStart = start + RECORD_HEADER_SIZE_BYTES;
    this.#pages.reset(pagesStart, pagesLength);
    const cursor = this.#cursor;
    cursor.reset(this.#view, pagesStart + pagesLength, headLength);
    let rekeys = false;
    while (cursor.next()) {
      if (rekeys) breach('a message follows REKEY in its record');
      if (cursor.type === MessageType.REKEY) rekeys = true;
      else this.#onMessage(cursor, input);
      if (this.#ended) return;
    }
    this.#pages.finish();
    if (rekeys) this.#opener.rekey();
  }

  #onMessage(message: MessageCursor, input: NativeBuffer): void {
    switch (message.type) {
      case MessageType.READ:
        return this.#service.read(message);
      case MessageType.WRITE:
        return this.#service.write(message, this.#pages, input);
      case MessageType.TRIM:
        return this.#service.trim(message);
      case MessageType.READ_REPLY:
        return this.requests.onReadReply(message, this.#pages, input);
      case MessageType.WRITE_REPLY:
        return this.requests.onDoneReply(message, MessageType.WRITE);
      case MessageType.TRIM_REPLY:
        return this.requests.onDoneReply(message, MessageType.TRIM);
      case MessageType.CONTROL:
        return this.#service.control(message, input);
      case MessageType.CONTROL_REPLY:
        return this.requests.onControlReply(message, input);
      case MessageType.OBJECT:
        return this.#service.object(message, input);
      case MessageType.OBJECT_REPLY:
        return this.objects.onReply(message, input);
      case MessageType.MANAGE:
        return this.managedReplies.onRequest(message, input);
      case MessageType.MANAGE_REPLY:
        return this.managed.onReply(message, input);
      case MessageType.PING:
        return this.#service.ping(message);
      case MessageType.PONG:
        if (message.idHigh !== 0 || !this.#keepalive.onPong(message.idLow, this.#nowMs)) {
          breach('a PONG answers no PING');
        }
        return;
      case MessageType.NOTICE:
        return this.#events.onNotice(bodyOf(message, input));
      case MessageType.BYE:
        return this.#events.onBye(message.aux as ByeReasonValue);
      case MessageType.HELLO:
        return breach('a second HELLO came');
      default:
        return breach(`message: type ${message.type} is not expected here`);
    }
  }
}
