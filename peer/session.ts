/**
 * The shell of a session: it joins a SessionMachine to a socket and a timer, turns whatever the
 * machine throws into the end of the session, and speaks control requests as promises. The end comes
 * once, whoever causes it: everything in flight completes, the keys are dropped, the owner hears of
 * it.
 */
import type { ByteStream, ByteStreamHandler } from '../common/byte-stream.ts';
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import { sessionHolder } from '../common/holder.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { ManagedService } from '../common/managed.ts';
import type { ObjectService } from '../common/objects.ts';
import type {
  DirectProvider,
  IoStatusValue,
  ProviderUsage,
  SlabProvider,
  SlabRecall,
} from '../common/ports.ts';
import { everyTick, type Tick } from '../common/ticker.ts';
import { requestBody } from './body-promise.ts';
import type { Established } from './connection-context.ts';
import {
  ByeReason,
  CONTROL_WAIT_COUNT_MAX,
  Feature,
  LEASE_ID_COUNT_MAX,
  MESSAGE_BODY_SIZE_MAX,
  UNSENT_BYTES_MAX,
  type ByeReasonValue,
} from './constants.ts';
import {
  decodeControlReply,
  decodeNotice,
  decodeRecallRoom,
  encodeControlRequest,
  encodeNotice,
  type ControlRequest,
  type Notice,
  type RecallRoom,
  type RevokedNode,
} from './control.ts';
import { serveControl, type HolderAccess } from './control-service.ts';
import type { PeerIdentity } from './credentials.ts';
import { KEEPALIVE_TICK_MS, type KeepaliveLimits } from './keepalive-machine.ts';
import type { PeerHint } from './exchange-control.ts';
import type { ManageRequest } from './managed-replies.ts';
import type { PackedMap } from './message-pack.ts';
import { SessionMachine, type SessionMachineEvents } from './session-machine.ts';
import type { SessionRequests } from './session-requests.ts';

/** Least time between two notices of usage, milliseconds. */
const USAGE_NOTICE_INTERVAL_MS = 500;
/** How long a socket may linger after BYE, milliseconds. */
const CLOSE_TIMEOUT_MS = 1_000;

/** Takes the ends of page requests of one session and the words of its provider. */
export interface SessionClient {
  /** As PageCompletionSink.onPagesRead, for page queue `owner`. */
  onPagesRead(
    owner: number,
    tag: number,
    status: IoStatusValue,
    pages: NativeBuffer,
    offset: number,
  ): void;
  /** As PageCompletionSink.onPagesDone, for page queue `owner`. */
  onPagesDone(owner: number, tag: number, status: IoStatusValue): void;
  /** Calls that were refused would be taken now. */
  onCredit(): void;
  /** The provider's room changed. */
  onUsage(usage: ProviderUsage): void;
  /** Leases ended without our doing. */
  onLeasesEnded(leaseIds: readonly string[]): void;
  /** The provider asks for leases back. */
  onLeasesRecalled(recall: SlabRecall): void;
  /** Whether the provider grants leases has changed. */
  onAccepting(accepting: boolean): void;
}

/** What a session is run with. */
export interface SessionOptions {
  /** What we lend; undefined for nothing. */
  readonly provider: SlabProvider | undefined;
  /** Our direct exports; undefined for none. */
  readonly direct: DirectProvider | undefined;
  /** Answers about our objects; undefined when none are served on this session. */
  readonly objects?: ObjectService | undefined;
  /** Answers managed calls; undefined when none are served on this session. */
  readonly managed?: ManagedService | undefined;
  /** The clock of deadlines. */
  readonly clock: Clock;
  /** When to ping and to give up. */
  readonly keepalive: KeepaliveLimits;
  /** Longest wait for a reply, milliseconds. */
  readonly requestTimeoutMs: number;
  /** Keeps the event loop awake between requests and replies. */
  readonly spin: EventLoopSpin | undefined;
  /** Takes the ends of page requests; a session asks only through it. */
  readonly client: SessionClient;
  /** What this node could take back of what it has leased from the peer; undefined when it leases nothing. */
  readonly recallRoom: (() => RecallRoom) | undefined;
  /** The peer says whom it trusts no more: the whole list each time. */
  readonly onRevoked?: (revoked: readonly RevokedNode[]) => void;
  /** The nodes that this one has sessions with; undefined when the peer is told of none. */
  readonly knownPeers?: (() => readonly PeerHint[]) | undefined;
  /** The session is over; called once. The error is undefined after an orderly end. */
  readonly onEnded: (session: Session, error: MemcloudError | undefined) => void;
}

/** A control request that waits for a slot. */
interface QueuedControl {
  readonly tag: number;
  readonly body: Buffer;
  readonly deadlineMs: number;
}

interface WaitingControl {
  readonly settle: (fields: PackedMap) => void;
  readonly reject: (error: MemcloudError) => void;
}

/** A live session with one node. */
export class Session implements ByteStreamHandler, SessionMachineEvents {
  /** The other node. */
  readonly peer: PeerIdentity;
  /** True when we dialled. */
  readonly dialled: boolean;
  /** The lane that the peer dialled on; empty for the node itself. */
  readonly lane: string;
  /** The other side's address. */
  readonly address: string;
  /** The other side's IP address, as the socket has it. */
  readonly host: string;
  /** What the other node can do beyond version 1, by name. */
  readonly features: readonly string[];
  /** Names the machine that the other node runs on; empty when it does not say. */
  readonly hostId: string;
  /** Its wider failure domain; empty for none. */
  readonly zone: string;
  /** The TCP port on which the other node takes peers; 0 when it does not say. */
  readonly port: number;
  readonly #stream: ByteStream;
  readonly #machine: SessionMachine;
  readonly #options: SessionOptions;
  readonly #access: HolderAccess;
  readonly #timer: Tick;
  readonly #controls = new Map<number, WaitingControl>();
  /** Those of them that wait for a slot, in order. */
  readonly #queuedControls: QueuedControl[] = [];
  #nextControlTag = 1;
  #finished = false;
  #byeReason: ByeReasonValue | undefined;
  #noticedUsage = '';
  #noticedAtMs = 0;
  /** Notices that wait for the end of the turn: they may come up in the middle of a page call. */
  readonly #notices: Notice[] = [];

  /** Takes over a connection that both sides accepted; the caller makes it the stream's handler. */
  constructor(established: Established, options: SessionOptions) {
    this.peer = established.peer;
    this.dialled = established.dialled;
    this.lane = established.lane;
    this.address = established.address;
    this.host = established.stream.remoteHost;
    this.features = established.features;
    this.hostId = established.hostId;
    this.zone = established.zone;
    this.port = established.port;
    this.#stream = established.stream;
    this.#stream.limitUnsent(UNSENT_BYTES_MAX);
    this.#options = options;
    const { nodeId } = this.peer;
    const slabs = options.provider?.openAccess(sessionHolder(nodeId, this.lane), {
      onLeasesEnded: (leaseIds) => {
        for (const part of partsOf(leaseIds)) this.#noticeSoon({ leasesEnded: part });
      },
      onRecall: ({ leaseIds, endsInMs }) => {
        for (const part of partsOf(leaseIds)) {
          this.#noticeSoon({ recall: { leaseIds: part, endsInMs } });
        }
      },
      onAccepting: (accepting) => this.#noticeSoon({ accepting }),
    });
    const { recallRoom, knownPeers, objects, managed } = options;
    this.#access = {
      slabs,
      direct: options.direct?.openDirect(nodeId),
      ...(recallRoom === undefined ? {} : { recallRoom }),
      ...(knownPeers === undefined ? {} : { knownPeers }),
    };
    this.#machine = new SessionMachine({
      writer: established.writer,
      opener: established.opener,
      peerLimits: established.limits,
      access: slabs,
      serveObject: objects && ((body) => objects.serveObject(nodeId, body)),
      onManage: managed && ((request, body) => this.#serveManaged(managed, request, body)),
      events: this,
      keepalive: options.keepalive,
      requestTimeoutMs: options.requestTimeoutMs,
      clock: options.clock,
    });
    this.#timer = everyTick(KEEPALIVE_TICK_MS, () => this.#tick());
  }

  /** Our requests. Page calls go straight to it. */
  get requests(): SessionRequests {
    return this.#machine.requests;
  }

  /** True once the session is over. */
  get ended(): boolean {
    return this.#finished;
  }

  /** Smoothed round trip, milliseconds; 0 while unknown. */
  get roundTripMs(): number {
    return this.#machine.roundTripMs;
  }

  /** True when the session ended because the peer fell silent. */
  get fellSilent(): boolean {
    return this.#machine.fellSilent;
  }

  /** Why the peer said that it ends the session, if it did. */
  get byeReason(): ByeReasonValue | undefined {
    return this.#byeReason;
  }

  /**
   * Sends a control request.
   *
   * @param decode - reads the reply's fields; what it throws ends the session
   * @throws MemcloudError the provider's refusal, `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`
   */
  control<T>(request: ControlRequest, decode: (fields: PackedMap) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#finished || this.#queuedControls.length >= CONTROL_WAIT_COUNT_MAX) {
        const why = this.#finished ? 'the session has ended' : 'too many control requests wait';
        reject(new MemcloudError('ERR_PEER_UNREACHABLE', `node "${this.peer.name}": ${why}`));
        return;
      }
      const tag = this.#nextControlTag;
      this.#nextControlTag += 1;
      const settle = (fields: PackedMap): void => resolve(decode(fields));
      this.#controls.set(tag, { settle, reject });
      const deadlineMs = this.#options.clock.nowMs() + this.#options.requestTimeoutMs;
      this.#queuedControls.push({ tag, body: encodeControlRequest(request), deadlineMs });
      this.#sendControls();
    });
  }

  /** Says whom this node trusts no more, all of them. */
  tellRevoked(revoked: readonly RevokedNode[]): void {
    this.#noticeSoon({ revoked });
  }

  /**
   * Sends a request about objects. Such requests are executed in the order of the calls.
   *
   * @param body - at most 60 000 bytes, taken before the return
   * @param replySizeMax - the most bytes of the reply, which it counts with
   * @returns the reply's body, the caller's
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_CANCELLED`
   */
  object(body: Uint8Array, replySizeMax: number, signal?: AbortSignal): Promise<Buffer> {
    return requestBody(this.#machine.objects, this.peer.name, body, replySizeMax, signal);
  }

  /**
   * Sends a request of managed memory. Answers come in any order.
   *
   * @param body - at most 60 000 bytes, taken before the return
   * @returns the reply's body, the caller's
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_CANCELLED`
   */
  manage(body: Uint8Array, signal?: AbortSignal): Promise<Buffer> {
    const { managed } = this.#machine;
    return requestBody(managed, this.peer.name, body, MESSAGE_BODY_SIZE_MAX, signal);
  }

  /**
   * Asks the peer what it could take back of what it has leased from us.
   *
   * @throws MemcloudError as {@link Session.control}, and `ERR_UNSUPPORTED` (an older memnode)
   */
  askRecallRoom(): Promise<RecallRoom> {
    if (this.features.includes(Feature.RECALL)) {
      return this.control({ method: 'recall-room' }, decodeRecallRoom);
    }
    const why = 'its memnode is too old to move pages by itself';
    return Promise.reject(new MemcloudError('ERR_UNSUPPORTED', why));
  }

  /** Says BYE and ends the session. */
  close(reason: ByeReasonValue): void {
    if (this.#finished) return;
    this.#machine.bye(reason);
    this.#finish(undefined);
    this.#stream.close();
    setTimeout(() => this.#stream.destroy(), CLOSE_TIMEOUT_MS).unref();
  }

  // --- ByteStreamHandler ---------------------------------------------------------------------------

  /** Bytes of the peer. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    this.#options.spin?.onActivity(this.#stream);
    try {
      return this.#machine.onBytes(input, start, end, this.#options.clock.nowMs());
    } catch (error) {
      this.#fail(asMemcloudError(error));
      return end;
    }
  }

  /** The turn's output leaves. */
  onFlush(): void {
    this.#machine.onFlush();
  }

  /** All output has left. */
  onDrain(): void {
    this.#machine.onDrain();
  }

  /** The socket is gone. */
  onClosed(error: Error | undefined): void {
    this.#options.spin?.forget(this.#stream);
    if (this.#finished) return;
    const text = error === undefined ? 'it closed the connection' : error.message;
    this.#finish(
      new MemcloudError('ERR_PEER_UNREACHABLE', `node "${this.peer.name}": ${text}`, {
        cause: error,
      }),
    );
  }

  // --- SessionMachineEvents ------------------------------------------------------------------------

  /** A read ended. */
  onPagesRead(
    owner: number,
    tag: number,
    status: IoStatusValue,
    pages: NativeBuffer,
    offset: number,
  ): void {
    this.#options.client.onPagesRead(owner, tag, status, pages, offset);
  }

  /** A write or trim ended. */
  onPagesDone(owner: number, tag: number, status: IoStatusValue): void {
    this.#options.client.onPagesDone(owner, tag, status);
  }

  /** Credits came back. */
  onCredit(): void {
    this.#options.client.onCredit();
  }

  /** A control request of ours ended. */
  onControlDone(tag: number, body: Buffer | undefined): void {
    this.#settleControl(tag, body);
    this.#sendControls();
  }

  #settleControl(tag: number, body: Buffer | undefined): void {
    const waiting = this.#controls.get(tag);
    this.#controls.delete(tag);
    if (waiting === undefined) return;
    if (body === undefined) {
      const code = this.#finished ? 'ERR_PEER_UNREACHABLE' : 'ERR_TIMEOUT';
      waiting.reject(new MemcloudError(code, `node "${this.peer.name}" did not answer`));
      return;
    }
    try {
      const reply = decodeControlReply(body);
      if (reply.ok) waiting.settle(reply.fields);
      else waiting.reject(new MemcloudError(reply.code, reply.message));
    } catch (error) {
      const failure = asMemcloudError(error);
      waiting.reject(failure);
      throw failure;
    }
  }

  /** Sends what waits, as far as there are slots. */
  #sendControls(): void {
    for (;;) {
      const [next] = this.#queuedControls;
      if (next === undefined || !this.#machine.requests.control(next.tag, next.body)) return;
      this.#queuedControls.shift();
    }
  }

  /** Gives up what waited too long for a slot; in order, so that only the first has to be looked at. */
  #expireControls(nowMs: number): void {
    for (;;) {
      const [next] = this.#queuedControls;
      if (next === undefined || next.deadlineMs > nowMs) return;
      this.#queuedControls.shift();
      this.#settleControl(next.tag, undefined);
    }
  }

  /** A control request of the peer. */
  serveControl(body: Buffer): Buffer {
    return serveControl(this.#access, body);
  }

  /** A managed call of the peer. The service answers what is wrong with it; if it fails, the session ends. */
  #serveManaged(service: ManagedService, request: ManageRequest, body: Buffer): void {
    service.serveManaged(this.peer.nodeId, body).then(
      (reply) => {
        try {
          this.#machine.managedReplies.reply(request, reply);
        } catch (error) {
          this.#fail(asMemcloudError(error));
        }
      },
      (cause: unknown) => {
        const text = cause instanceof Error ? cause.message : String(cause);
        const why = `a managed call of node "${this.peer.name}" failed here: ${text}`;
        this.#fail(new MemcloudError('ERR_INTERNAL', why, { cause }));
      },
    );
  }

  /** A notice of the peer. */
  onNotice(body: Buffer): void {
    const notice = decodeNotice(body);
    if (notice.usage !== undefined) this.#options.client.onUsage(notice.usage);
    if (notice.leasesEnded !== undefined) this.#options.client.onLeasesEnded(notice.leasesEnded);
    if (notice.accepting !== undefined) this.#options.client.onAccepting(notice.accepting);
    if (notice.recall !== undefined) this.#options.client.onLeasesRecalled(notice.recall);
    if (notice.revoked !== undefined) this.#options.onRevoked?.(notice.revoked);
  }

  /** The peer ends the session. */
  onBye(reason: ByeReasonValue): void {
    this.#byeReason = reason;
    this.#finish(undefined);
    this.#stream.destroy();
  }

  // --- Ends ----------------------------------------------------------------------------------------

  #tick(): void {
    try {
      const nowMs = this.#options.clock.nowMs();
      this.#machine.tick(nowMs);
      this.#sendControls();
      this.#expireControls(nowMs);
      this.#sendUsage(nowMs);
    } catch (error) {
      this.#fail(asMemcloudError(error));
    }
  }

  #noticeSoon(notice: Notice): void {
    if (this.#finished) return;
    this.#notices.push(notice);
    if (this.#notices.length === 1) setImmediate(() => this.#sendNotices());
  }

  #sendNotices(): void {
    const notices = this.#notices.splice(0);
    if (this.#finished) return;
    try {
      for (const notice of notices) this.#machine.notice(encodeNotice(notice));
    } catch (error) {
      this.#fail(asMemcloudError(error));
    }
  }

  #sendUsage(nowMs: number): void {
    const { slabs } = this.#access;
    if (slabs === undefined || this.#finished) return;
    if (nowMs - this.#noticedAtMs < USAGE_NOTICE_INTERVAL_MS) return;
    const usage = slabs.usage();
    const { offeredBytes, usedBytes, residentBytes, leaseCount, heldBytes = '' } = usage;
    const key = `${offeredBytes} ${usedBytes} ${residentBytes} ${leaseCount} ${heldBytes}`;
    if (key === this.#noticedUsage) return;
    this.#noticedAtMs = nowMs;
    this.#noticedUsage = key;
    this.#machine.notice(encodeNotice({ usage }));
  }

  #fail(error: MemcloudError): void {
    if (this.#finished) return;
    // Best effort: the peer learns why, unless our own defect is the reason or the socket is stuck.
    if (error.fault === 'remote' && this.#stream.backlogBytes === 0) {
      this.#machine.bye(ByeReason.PROTOCOL);
      this.#stream.flush();
    }
    this.#finish(error);
    this.#stream.destroy();
  }

  #finish(error: MemcloudError | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#timer.stop();
    if (!this.#stream.closed) this.#stream.flush();
    this.#machine.end();
    this.#expireControls(Infinity);
    this.#options.onEnded(this, error);
  }
}

/** Lists of ids that fit into one message each. */
function* partsOf(leaseIds: readonly string[]): Iterable<string[]> {
  for (let at = 0; at < leaseIds.length; at += LEASE_ID_COUNT_MAX) {
    yield leaseIds.slice(at, at + LEASE_ID_COUNT_MAX);
  }
}
