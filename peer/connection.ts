/**
 * The shell of a connection from its first byte until both sides have said `accepted`: the handshake,
 * then one or two HELLO from each side (docs/peer-protocol.md sections 2 to 4; hello-exchange.ts). Each
 * step has a deadline, each message a cap that is checked before its bytes are waited for; whatever is
 * wrong ends the connection and costs nobody else anything. What survives is handed over as
 * {@link Established}, and a session takes the stream on at the next byte.
 *
 * A connection to us may also be a data connection (section 11): then its first bytes are a preface
 * instead of a handshake message, and whoever serves direct exports takes the stream on behind it.
 */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { ByteStream, type ByteStreamHandler } from '../common/byte-stream.ts';
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { NodeId } from '../common/ports.ts';
import { formatAddress } from '../common/units.ts';
import { connectInTurn } from './connect-in-turn.ts';
import {
  STREAM_OPTIONS,
  type ConnectionContext,
  type DialExpectation,
  type Established,
} from './connection-context.ts';
import {
  ByeReason,
  CONNECT_TIMEOUT_MS,
  CONSENT_TTL_MS,
  HANDSHAKE_LENGTH_SIZE_BYTES,
  HANDSHAKE_STEP_TIMEOUT_MS,
  MessageType,
} from './constants.ts';
import { encodeHello, type AcceptedHello, type Hello } from './control.ts';
import type { PeerIdentity, Role } from './credentials.ts';
import { DIRECT_PREFACE_SIZE_BYTES, directTicketId, opensDirect } from './direct-preface.ts';
import { encodeHandshakeFrame, handshakeFrameSize } from './frame.ts';
import { requireExpected, type PeerOrigin } from './gatekeeper.ts';
import { HandshakeMachine, type TransportKeys } from './handshake-machine.ts';
import { HelloExchange } from './hello-exchange.ts';
import { takeHelloRecord } from './hello-record.ts';
import { RecordOpener, RecordSealer } from './record-cipher.ts';
import { RecordWriter } from './record-writer.ts';

/** A pending peer's human may take as long as ours, and its clock need not be ours. */
const REMOTE_CONSENT_TIMEOUT_MS = 2 * CONSENT_TTL_MS;

/** Takes the end of a connection: one of `onEstablished`, `onHandedOver`, `onFailed` is called, once. */
export interface ConnectionEvents {
  /** The peer is known and somebody has to be asked: here (`local`) or there (`remote`). */
  onPending(connection: Connection, side: 'local' | 'remote'): void;
  /** The peer, which proved its key, is let in by us, and is about to be told so and its room here. */
  onAdmitted(connection: Connection, nodeId: NodeId): void;
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
  #peer: PeerIdentity | undefined;
  #exchange: HelloExchange | undefined;
  #successor: ByteStreamHandler | undefined;
  #expected: DialExpectation = {};

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

  /**
   * Connects to `host:port`; how it goes is told by the events.
   *
   * @param expected - any other key is turned away before it learns who dialled
   */
  static dial(
    target: { host: string; port: number },
    context: ConnectionContext,
    events: ConnectionEvents,
    expected: DialExpectation = {},
  ): Connection {
    const address = formatAddress(target.host, target.port);
    const connection = new Connection('initiator', address, context, events);
    connection.#expected = expected;
    connectInTurn(target, (each) => {
      const options = { ...STREAM_OPTIONS, timeoutMs: CONNECT_TIMEOUT_MS };
      return ByteStream.connect(each, options, connection);
    }).then(
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

  /** Somebody may be let in by now about whom a human is being asked. */
  reconsider(): void {
    this.#exchange?.reconsider();
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
    try {
      stream.send(encodeHandshakeFrame(this.#openHandshake().begin()));
    } catch (error) {
      this.close(asMemcloudError(error));
    }
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
      requireExpected(peer, this.#address, this.#expected.pin);
      // The last moment to turn away from someone without telling who we are.
      const { gatekeeper, lane } = this.#context;
      const asksNobody = lane !== '' || this.#expected.asGuest === true;
      if (asksNobody) gatekeeper.requireTrusted(peer, this.#origin());
      else gatekeeper.check(peer, this.#origin());
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
    const context = this.#context;
    const origin = this.#origin();
    const expected = this.#expected;
    const handshakeHash = Uint8Array.from(keys.handshakeHash);
    const options = { context, peer, origin, expected, handshakeHash };
    this.#exchange = new HelloExchange(options, {
      send: (hello) => this.#sendHello(hello),
      onStep: () => this.#enter('verdict'),
      onPending: (side) => this.#events.onPending(this, side),
      onAdmitted: (nodeId) => this.#events.onAdmitted(this, nodeId),
      onRefused: (refusal) => this.close(refusal),
      onAccepted: (hello) => this.#establish(hello),
    });
    this.#exchange.begin();
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
    this.#exchange?.onHello(taken.hello);
    return taken.size;
  }

  #establish(hello: AcceptedHello): void {
    const isGuest = this.#exchange?.isGuest ?? false;
    const peer = isGuest && this.#peer ? this.#context.guestIdentity(this.#peer) : this.#peer;
    const [stream, writer, opener] = [this.#stream, this.#writer, this.#opener];
    if (this.#phase !== 'verdict' || peer === undefined) return;
    if (stream === undefined || writer === undefined || opener === undefined) return;
    const { dialled } = this;
    const { limits, usage, features, hostId, zone, accepting, lane, port } = hello;
    const told = { limits, usage, features, hostId, zone, accepting, lane, port };
    const parts = {
      stream,
      writer,
      opener,
      peer,
      isGuest,
      dialled,
      address: this.#address,
      ...told,
    };
    // Who invited us and takes us is trusted.
    if (this.#expected.inviteSecret !== undefined)
      this.#context.gatekeeper.trust(peer, this.#origin());
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

  #origin(): PeerOrigin {
    return { address: this.#address, dialled: this.dialled };
  }

  /** Enters a phase, or the next step of one, with a new deadline. */
  #enter(phase: 'handshake' | 'verdict'): void {
    this.#phase = phase;
    clearTimeout(this.#timer);
    // A human of ours is asked with a deadline of its own; one of theirs may take as long.
    const waitsForHuman = this.#exchange?.waitsForHuman ?? false;
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
    this.#handshake?.destroy();
    this.#exchange?.end();
  }
}
