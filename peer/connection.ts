/**
 * The shell of a connection from its first byte until both sides have said `accepted`: the handshake,
 * then one or two HELLO from each side (docs/peer-protocol.md sections 2 to 4). Each step has a deadline, each
 * message a cap that is checked before its bytes are waited for; whatever is wrong ends the connection
 * and costs nobody else anything. What survives is handed over as {@link Established}, and a session
 * takes the stream on at the next byte.
 *
 * A connection to us may also be a data connection (section 11): then its first bytes are a preface
 * instead of a handshake message, and whoever serves direct exports takes the stream on behind it.
 */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { ByteStream, type ByteStreamHandler } from '../common/byte-stream.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import { STREAM_OPTIONS, type ConnectionContext, type Established } from './connection-context.ts';
import {
  ByeReason,
  CONNECT_TIMEOUT_MS,
  CONSENT_TTL_MS,
  Feature,
  HANDSHAKE_LENGTH_SIZE_BYTES,
  HANDSHAKE_STEP_TIMEOUT_MS,
  LANE_WAIT_MS,
  MessageType,
} from './constants.ts';
import { encodeHello, type AcceptedHello, type Hello, type PendingHello } from './control.ts';
import type { PeerIdentity, Role } from './credentials.ts';
import { DIRECT_PREFACE_SIZE_BYTES, directTicketId, opensDirect } from './direct-preface.ts';
import { encodeHandshakeFrame, handshakeFrameSize } from './frame.ts';
import { HandshakeMachine, type TransportKeys } from './handshake-machine.ts';
import { takeHelloRecord } from './hello-record.ts';
import { RecordOpener, RecordSealer } from './record-cipher.ts';
import { breach } from './record-pages.ts';
import { RecordWriter } from './record-writer.ts';
import { OWN_LIMITS } from './session-service.ts';

/** A pending peer's human may take as long as ours, and its clock need not be ours. */
const REMOTE_CONSENT_TIMEOUT_MS = 2 * CONSENT_TTL_MS;

/** Takes the end of a connection: one of `onEstablished`, `onHandedOver`, `onFailed` is called, once. */
export interface ConnectionEvents {
  /** The peer is known and somebody has to be asked: here (`local`) or there (`remote`). */
  onPending(connection: Connection, side: 'local' | 'remote'): void;
  /** Returns the handler that goes on, or undefined to end the connection as a duplicate. */
  onEstablished(connection: Connection, established: Established): ByteStreamHandler | undefined;
  /** It was a data connection, and is the direct exports' from now on. */
  onHandedOver(connection: Connection): void;
  /** It is over. */
  onFailed(connection: Connection, error: MemcloudError): void;
}

/** Where a connection stands. */
type Phase = 'connecting' | 'handshake' | 'verdict' | 'established' | 'closed';

/** One connection before it is a session. */
export class Connection implements ByteStreamHandler {
  /** True when we dialled. */
  readonly dialled: boolean;
  readonly #context: ConnectionContext;
  readonly #events: ConnectionEvents;
  readonly #role: Role;
  #handshake: HandshakeMachine | undefined;
  #stream: ByteStream | undefined;
  #address: string;
  #phase: Phase = 'connecting';
  #timer: NodeJS.Timeout | undefined;
  #writer: RecordWriter | undefined;
  #opener: RecordOpener | undefined;
  #weAccepted = false;
  #peer: PeerIdentity | undefined;
  #peerWasPending = false;
  /** The lane that the peer named first. */
  #peerLane = '';
  #askTimer: NodeJS.Timeout | undefined;
  #peerHello: AcceptedHello | undefined;
  #successor: ByteStreamHandler | undefined;
  #cancelConsent: (() => void) | undefined;

  private constructor(
    role: Role,
    address: string,
    context: ConnectionContext,
    events: ConnectionEvents,
  ) {
    this.dialled = role === 'initiator';
    this.#address = address;
    this.#context = context;
    this.#events = events;
    this.#role = role;
  }

  /** Takes over an accepted socket; its server was made with `pauseOnConnect`. */
  static accept(
    socket: net.Socket,
    context: ConnectionContext,
    events: ConnectionEvents,
  ): Connection {
    const connection = new Connection('responder', '', context, events);
    connection.#stream = ByteStream.adopt(socket, STREAM_OPTIONS, connection);
    connection.#address = connection.#stream.remoteAddress;
    connection.#enter('handshake');
    return connection;
  }

  /** Connects to `host:port`; how it goes is told by the events. */
  static dial(
    target: { host: string; port: number },
    context: ConnectionContext,
    events: ConnectionEvents,
  ): Connection {
    const address = `${target.host}:${target.port}`;
    const connection = new Connection('initiator', address, context, events);
    const options = { ...STREAM_OPTIONS, timeoutMs: CONNECT_TIMEOUT_MS };
    ByteStream.connect(target, options, connection).then(
      (stream) => connection.#begin(stream),
      (cause: unknown) => {
        const text = cause instanceof Error ? cause.message : String(cause);
        connection.close(
          new MemcloudError('ERR_PEER_UNREACHABLE', `${address}: ${text}`, { cause }),
        );
      },
    );
    return connection;
  }

  /** The peer, once it proved who it is. */
  get peer(): PeerIdentity | undefined {
    return this.#peer;
  }

  /** `HOST:PORT` of the other side. */
  get address(): string {
    return this.#address;
  }

  /** Ends the connection; `onFailed` gets the error. Without effect when it has ended or is a session. */
  close(error: MemcloudError): void {
    if (this.#phase === 'closed' || this.#phase === 'established') return;
    this.#leave();
    this.#writer?.destroy();
    this.#opener?.destroy();
    this.#stream?.destroy();
    this.#events.onFailed(this, error);
  }

  // --- ByteStreamHandler ---------------------------------------------------------------------------

  /** Bytes of the peer. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    let at = start;
    try {
      while (this.#phase === 'handshake' || this.#phase === 'verdict') {
        const size =
          this.#phase === 'handshake'
            ? this.#takeHandshakeMessage(input, at, end)
            : this.#takeVerdict(input, at, end);
        if (size === 0) return at;
        at += size;
      }
    } catch (error) {
      this.close(asMemcloudError(error));
    }
    if (this.#successor === undefined || at === end) return end;
    return this.#successor.onBytes(input, at, end);
  }

  /** The turn's output leaves. */
  onFlush(): void {
    this.#writer?.close();
  }

  /** All output has left. */
  onDrain(): void {
    // Nothing waits for room before a session.
  }

  /** The socket is gone. */
  onClosed(error: Error | undefined): void {
    const text = error?.message ?? 'the other side closed the connection';
    this.close(
      new MemcloudError('ERR_PEER_UNREACHABLE', `${this.#address}: ${text}`, { cause: error }),
    );
  }

  // --- Data connection -----------------------------------------------------------------------------

  /** True while the bytes so far can be a preface: nothing but they may have come. */
  #mayBePreface(input: NativeBuffer, start: number, end: number): boolean {
    if (this.#role === 'initiator' || this.#handshake !== undefined) return false;
    return this.#context.direct !== undefined && opensDirect(input.bytes, start, end);
  }

  /** Costs neither cryptography nor a permit; a half preface has the time of a handshake step. */
  #takePreface(input: NativeBuffer, start: number, end: number): number {
    const ticketId = directTicketId(input.bytes, start, end);
    const stream = this.#stream;
    if (ticketId === undefined || stream === undefined) return 0;
    const successor = this.#context.direct?.takeConnection(stream, ticketId);
    if (successor === undefined) {
      throw new MemcloudError(
        'ERR_PEER_HANDSHAKE',
        'a data connection came with a ticket that is unknown, used or too old',
      );
    }
    this.#leave();
    this.#succeed(stream, successor);
    this.#events.onHandedOver(this);
    return DIRECT_PREFACE_SIZE_BYTES;
  }

  // --- Handshake -----------------------------------------------------------------------------------

  #begin(stream: ByteStream): void {
    this.#stream = stream;
    if (this.#phase === 'closed') return stream.destroy();
    this.#enter('handshake');
    stream.send(encodeHandshakeFrame(this.#openHandshake().begin()));
  }

  #takeHandshakeMessage(input: NativeBuffer, start: number, end: number): number {
    if (this.#mayBePreface(input, start, end)) return this.#takePreface(input, start, end);
    const size = handshakeFrameSize(input.bytes, start, end);
    if (size === 0) return 0;
    this.#enter('handshake');
    const message = input.bytes.subarray(start + HANDSHAKE_LENGTH_SIZE_BYTES, start + size);
    const handshake = this.#openHandshake();
    const answer = handshake.onMessage(message);
    if (answer !== undefined) this.#stream?.send(encodeHandshakeFrame(answer));
    const { peer } = handshake;
    if (peer === undefined) return size;
    this.#peer = peer;
    if (this.dialled) {
      // The last moment to turn away from someone without telling who we are.
      if (this.#context.lane === '') this.#context.gatekeeper.check(peer, this.#origin());
      else this.#context.gatekeeper.requireTrusted(peer, this.#origin());
      this.#stream?.send(encodeHandshakeFrame(handshake.proceed()));
    }
    this.#beginVerdict(peer, handshake.takeKeys());
    return size;
  }

  /** Made when first needed: a connection that sends nothing sensible costs no cryptography. */
  #openHandshake(): HandshakeMachine {
    if (this.#handshake !== undefined) return this.#handshake;
    if (!this.#context.mayHandshake()) {
      throw new MemcloudError('ERR_PEER_HANDSHAKE', 'too many handshakes at once; try again later');
    }
    const { identity, name } = this.#context;
    const secrets = randomBytes(64);
    this.#handshake = new HandshakeMachine({ role: this.#role, identity, name, secrets });
    return this.#handshake;
  }

  // --- Verdict -------------------------------------------------------------------------------------

  #beginVerdict(peer: PeerIdentity, keys: TransportKeys): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    const nowMs = this.#context.clock.nowMs();
    this.#writer = new RecordWriter(stream, new RecordSealer(keys.send, nowMs), nowMs);
    this.#opener = new RecordOpener(keys.receive);
    this.#enter('verdict');
    const { lane, gatekeeper } = this.#context;
    // An older node, which knows no lanes, must not take this connection for the node's.
    if (lane !== '') return this.#sendHello({ verdict: 'pending', lane });
    try {
      if (gatekeeper.check(peer, this.#origin()) === 'trusted') return this.#decide(undefined);
    } catch (error) {
      return this.#decide(asMemcloudError(error));
    }
    if (this.dialled) return this.#askHuman(peer);
    this.#askTimer = setTimeout(() => this.#askHuman(peer), LANE_WAIT_MS);
  }

  #askHuman(peer: PeerIdentity): void {
    clearTimeout(this.#askTimer);
    this.#askTimer = undefined;
    let admission;
    try {
      admission = this.#context.gatekeeper.admit(peer, this.#origin(), (refusal) => {
        this.#cancelConsent = undefined;
        this.#decide(refusal);
      });
    } catch (error) {
      return this.#decide(asMemcloudError(error));
    }
    if (admission === 'accepted') return this.#decide(undefined);
    this.#cancelConsent = admission;
    this.#sendHello({ verdict: 'pending', lane: '' });
    this.#enter('verdict');
    this.#events.onPending(this, 'local');
  }

  #decide(refusal: MemcloudError | undefined): void {
    if (this.#phase !== 'verdict') return;
    if (refusal !== undefined) {
      this.#sendHello({ verdict: 'refused' });
      return this.close(refusal);
    }
    this.#weAccepted = true;
    const { hostId, zone, lane } = this.#context;
    this.#sendHello({
      verdict: 'accepted',
      limits: OWN_LIMITS,
      usage: this.#context.usage(),
      features: this.#features(),
      hostId,
      zone,
      accepting: this.#context.accepting(),
      lane,
      port: this.#context.port(),
    });
    this.#enter('verdict');
    this.#establish();
  }

  #features(): string[] {
    const { lane, direct } = this.#context;
    if (lane !== '') return [Feature.RECALL];
    const rest = [Feature.RECALL, Feature.LANES];
    return direct === undefined ? rest : [Feature.DIRECT, ...rest];
  }

  #sendHello(hello: Hello): void {
    this.#writer?.body(MessageType.HELLO, 0, 0, encodeHello(hello));
    // Each HELLO is a record of its own.
    this.#stream?.flush();
  }

  #takeVerdict(input: NativeBuffer, start: number, end: number): number {
    if (this.#opener === undefined) return 0;
    const taken = takeHelloRecord(this.#opener, input, start, end);
    if (taken === undefined) return 0;
    this.#onHello(taken.hello);
    return taken.size;
  }

  #onHello(hello: Hello): void {
    const name = this.peer?.name ?? '';
    if (this.#peerHello !== undefined) breach('a message came before both sides accepted');
    if (hello.verdict === 'refused') {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', `node "${name}" does not trust this node`);
    }
    if (hello.verdict === 'pending') return this.#onPeerPending(hello);
    if (hello.lane !== this.#peerLane) breach('a peer that accepted is not on the lane it named');
    this.#peerHello = hello;
    this.#enter('verdict');
    if (this.#context.lane !== '') return this.#acceptOnLane(hello);
    this.#askIfDue();
    this.#establish();
  }

  #onPeerPending({ lane }: PendingHello): void {
    if (this.#peerWasPending) breach('a peer said pending twice');
    this.#peerWasPending = true;
    if (this.#context.lane !== '') {
      throw new MemcloudError('ERR_PEER_UNTRUSTED', 'the node does not trust this node yet');
    }
    if (lane !== '') return this.#onLane(lane);
    this.#enter('verdict');
    this.#askIfDue();
    this.#events.onPending(this, 'remote');
  }

  /** The dialler has said what it is: the human can be asked. */
  #askIfDue(): void {
    if (this.#askTimer !== undefined && this.#peer !== undefined) this.#askHuman(this.#peer);
  }

  // --- Lanes ---------------------------------------------------------------------------------------

  /** The peer is on a lane: nobody is asked about it, nor was it let in for once. */
  #onLane(lane: string): void {
    if (this.dialled) breach('a node that was dialled named a lane');
    this.#peerLane = lane;
    this.#enter('verdict');
    if (this.#peer === undefined) return;
    try {
      this.#context.gatekeeper.requireTrusted(this.#peer, this.#origin());
    } catch (error) {
      if (this.#weAccepted) throw error;
      this.#decide(asMemcloudError(error));
    }
  }

  /** The node takes us; whether it takes lanes it says in the same HELLO. */
  #acceptOnLane({ features }: AcceptedHello): void {
    if (!features.includes(Feature.LANES)) {
      throw new MemcloudError('ERR_UNSUPPORTED', 'its memnode is too old to take mounts');
    }
    this.#decide(undefined);
  }

  #establish(): void {
    const { peer } = this;
    const [stream, writer, opener] = [this.#stream, this.#writer, this.#opener];
    const hello = this.#peerHello;
    if (!this.#weAccepted || hello === undefined || peer === undefined) return;
    if (stream === undefined || writer === undefined || opener === undefined) return;
    const { dialled } = this;
    const { limits, usage, features, hostId, zone, accepting, lane, port } = hello;
    const told = { limits, usage, features, hostId, zone, accepting, lane, port };
    const parts = { stream, writer, opener, peer, dialled, address: this.#address, ...told };
    // May throw, for example when the provider fails: then this connection ends like any other.
    const successor = this.#events.onEstablished(this, parts);
    this.#leave();
    if (successor === undefined) return this.#endDuplicate(parts);
    this.#succeed(stream, successor);
  }

  /** What follows is the successor's, the rest of the bytes in hand included. */
  #succeed(stream: ByteStream, successor: ByteStreamHandler): void {
    this.#phase = 'established';
    this.#successor = successor;
    stream.setHandler(successor);
  }

  #endDuplicate({ stream, writer, opener }: Established): void {
    writer.plain(MessageType.BYE, ByeReason.DUPLICATE, 0, 0);
    stream.close();
    // What was handed to the socket is on its way by then.
    setImmediate(() => {
      writer.destroy();
      opener.destroy();
      stream.destroy();
    });
  }

  // --- Time and ends -------------------------------------------------------------------------------

  #origin(): { address: string; dialled: boolean } {
    return { address: this.#address, dialled: this.dialled };
  }

  /** Enters a phase, or the next step of one, with a new deadline. */
  #enter(phase: 'handshake' | 'verdict'): void {
    this.#phase = phase;
    clearTimeout(this.#timer);
    // A human of ours is asked with a deadline of its own; one of theirs may take as long.
    const theyAsk = this.#peerWasPending && this.#peerLane === '';
    const waitsForHuman = this.#cancelConsent !== undefined || theyAsk;
    const step = this.#context.stepTimeoutMs ?? HANDSHAKE_STEP_TIMEOUT_MS;
    const timeoutMs = phase === 'verdict' && waitsForHuman ? REMOTE_CONSENT_TIMEOUT_MS : step;
    this.#timer = setTimeout(() => {
      this.close(
        new MemcloudError('ERR_TIMEOUT', `${this.#address}: no answer within ${timeoutMs} ms`),
      );
    }, timeoutMs);
  }

  #leave(): void {
    this.#phase = 'closed';
    clearTimeout(this.#timer);
    clearTimeout(this.#askTimer);
    this.#handshake?.destroy();
    const cancel = this.#cancelConsent;
    this.#cancelConsent = undefined;
    cancel?.();
  }
}
