/**
 * One client, from its greeting to its end: the shell around the negotiation machine and the
 * transmission session. It owns the deadlines: the handshake (TLS included) must be over in time, or
 * a half-open socket would hold its place for ever, and a closed side must be followed by the other.
 */
import type net from 'node:net';
import { ByteStream, type ByteStreamHandler } from '../common/byte-stream.ts';
import { MemcloudError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { BlockDevice } from '../common/ports.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { ExportDirectory } from './export-info.ts';
import type { ReplyModeValue } from './message-codec.ts';
import { Negotiation, type NegotiationAction } from './negotiation.ts';
import type { ActivityListener, SessionCounters } from './session-parts.ts';
import { TransmissionSession } from './session.ts';
import { SocketStream } from './socket-stream.ts';
import {
  STREAM_INPUT_SIZE_BYTES,
  STREAM_OUTPUT_CHUNK_SIZE_BYTES,
  type NbdStream,
} from '../common/nbd-stream.ts';
import type { ServerTls } from './tls.ts';

/** Time for the client to close its side after we closed ours, milliseconds. */
const LINGER_MAX_MS = 5_000;

/** Time for a client in its handshake to hear of a shutdown, milliseconds. */
const HANDSHAKE_DRAIN_MS = 1_000;

/** A block device under the rules of this server. */
export interface Export {
  /** The device; its name is the export's. */
  readonly device: BlockDevice;
  /** True when clients may not write. */
  readonly readOnly: boolean;
  /** True when a second connection ends the first. */
  readonly singleConnection: boolean;
}

/** The way to a client: a socket accepted with `pauseOnConnect`, or a stream that somebody else made. */
export type ConnectionSource = { readonly socket: net.Socket } | { readonly stream: NbdStream };

/** What a connection past its handshake is made of, to go on with it in another process. */
export interface ConnectionState {
  /** Descriptor of the socket, still the connection's. */
  readonly fd: number;
  /** The export, as the client named it. */
  readonly exportName: string;
  /** How replies are framed. */
  readonly mode: ReplyModeValue;
  /** True when `base:allocation` was set. */
  readonly allocationContext: boolean;
  /** Bytes that were read and belong to requests not begun; borrowed. */
  readonly unread: Uint8Array;
}

/** What a connection works on. */
export interface ConnectionParts {
  /** What a former process negotiated and read on the socket; there is no handshake then. */
  readonly resumed?: Omit<ConnectionState, 'fd'>;
  /** The way to the client, owned by the connection from now on. */
  readonly source: ConnectionSource;
  /** The exports as the machine sees them. */
  readonly directory: ExportDirectory;
  /** The export that the machine chose. */
  readonly exportOf: (name: string) => Export | undefined;
  /** TLS, or undefined for none; needs a socket. */
  readonly tls: ServerTls | undefined;
  /** Milliseconds for the whole handshake. */
  readonly handshakeTimeoutMs: number;
  /** Shared by the connections of the server. */
  readonly pool: BufferPool;
  /** Shared by the connections of the server. */
  readonly counters: SessionCounters;
  /** Kept informed of traffic. */
  readonly spin: ActivityListener | undefined;
  /** Told of breaches and failures. */
  readonly logger: Logger;
  /** Called once, when nothing of the connection is left. */
  readonly onEnded: () => void;
}

/** One client of the server. */
export class Connection implements ByteStreamHandler {
  readonly #parts: ConnectionParts;
  readonly #negotiation: Negotiation;
  readonly #stream: NbdStream;
  readonly #secureStream: SocketStream | undefined;
  #timer: NodeJS.Timeout | undefined;
  #session: TransmissionSession | undefined;
  #exportName: string | undefined;
  #finishing = false;
  #holding = false;

  /** @param parts - what it works on */
  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#negotiation = new Negotiation(parts.directory, parts.tls?.policy ?? 'off');
    const { source, tls, resumed } = parts;
    if ('stream' in source) {
      this.#stream = source.stream;
      this.#stream.setHandler(this);
    } else if (tls === undefined) {
      const options = {
        inputSizeBytes: STREAM_INPUT_SIZE_BYTES,
        outputChunkSizeBytes: STREAM_OUTPUT_CHUNK_SIZE_BYTES,
        ...(resumed === undefined ? {} : { unread: resumed.unread }),
      };
      this.#stream = ByteStream.adopt(source.socket, options, this);
    } else {
      this.#secureStream = new SocketStream(source.socket, this);
      this.#stream = this.#secureStream;
    }
    if (resumed !== undefined) {
      this.#transmit(resumed);
      return;
    }
    this.#deadline(parts.handshakeTimeoutMs, 'the handshake');
    this.#stream.send(this.#negotiation.greeting());
  }

  /** The export that the client uses; undefined during the handshake. */
  get exportName(): string | undefined {
    return this.#exportName;
  }

  /** Finishes what is in flight and closes; during the handshake, options get ERR_SHUTDOWN. */
  drain(): void {
    this.#negotiation.shutDown();
    if (this.#session !== undefined) this.#session.drain();
    else if (!this.#finishing) this.#deadline(HANDSHAKE_DRAIN_MS, 'a handshake during shutdown');
  }

  /** Takes no further request: {@link TransmissionSession.hold}. Without effect in the handshake. */
  hold(): void {
    this.#holding = true;
    this.#session?.hold();
  }

  /** Takes requests again. */
  goOn(): void {
    this.#holding = false;
    this.#session?.goOn();
  }

  /** False while requests are in flight; a handshake has none, nor has who has said goodbye. */
  get held(): boolean {
    return this.#session === undefined || this.#finishing || this.#session.held;
  }

  /** True when only this process can go on with it: TLS, or a stream that somebody else made. */
  get bound(): boolean {
    return !(this.#stream instanceof ByteStream);
  }

  /** What another process needs to go on; undefined for a handshake, which cannot. */
  state(): ConnectionState | undefined {
    const session = this.#session;
    const stream = this.#stream;
    if (session === undefined || this.#finishing || !(stream instanceof ByteStream)) {
      return undefined;
    }
    const { mode, allocationContext } = session.terms;
    const exportName = this.#exportName ?? '';
    return { fd: stream.fd, exportName, mode, allocationContext, unread: stream.unread };
  }

  /** Ends at once. */
  destroy(error?: MemcloudError): void {
    this.#stream.destroy(error);
  }

  /** Bytes of the handshake; {@link ByteStreamHandler}. */
  onBytes(input: NativeBuffer, start: number, end: number): number {
    if (this.#finishing) return end;
    const { consumed, actions } = this.#negotiation.receive(input.bytes.subarray(start, end));
    for (const action of actions) this.#act(action);
    const at = start + consumed;
    // A client that did not wait for our answer sent its first requests with the option.
    if (this.#session !== undefined && at < end) return this.#session.onBytes(input, at, end);
    return this.#finishing ? end : at;
  }

  /** Nothing waits for room during the handshake; {@link ByteStreamHandler}. */
  onDrain(): void {
    return undefined;
  }

  /** The client left during the handshake; {@link ByteStreamHandler}. */
  onClosed(): void {
    clearTimeout(this.#timer);
    this.#parts.onEnded();
  }

  #act(action: NegotiationAction): void {
    switch (action.kind) {
      case 'send':
        this.#stream.send(action.bytes);
        return;
      case 'startTls':
        this.#startTls();
        return;
      case 'transmit':
        this.#transmit(action);
        return;
      case 'close':
        if (action.breach !== undefined) this.#warn(action.breach);
        this.#finish();
        return;
    }
  }

  #startTls(): void {
    const { tls } = this.#parts;
    if (tls === undefined || this.#secureStream === undefined) {
      throw new MemcloudError('ERR_INTERNAL', 'TLS was granted by a server without TLS');
    }
    this.#secureStream.startTls(tls.options, () => this.#negotiation.tlsStarted());
  }

  #transmit(action: Pick<ConnectionState, 'exportName' | 'mode' | 'allocationContext'>): void {
    const found = this.#parts.exportOf(action.exportName);
    if (found === undefined) {
      this.#finish();
      return;
    }
    clearTimeout(this.#timer);
    const { device, readOnly } = found;
    this.#exportName = action.exportName;
    const session = new TransmissionSession({
      stream: this.#stream,
      device,
      terms: {
        sizeBytes: device.sizeBytes,
        readOnly,
        mode: action.mode,
        allocationContext: action.allocationContext,
      },
      pool: this.#parts.pool,
      counters: this.#parts.counters,
      spin: this.#parts.spin,
      onFinished: () => this.#finish(),
      onBreach: (error) => {
        this.#warn(error.message);
        this.#stream.destroy(error);
      },
      onEnded: () => this.onClosed(),
    });
    this.#session = session;
    this.#stream.setHandler(session);
    if (this.#holding) session.hold();
  }

  #finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    this.#stream.close();
    this.#deadline(LINGER_MAX_MS, 'the end of the connection');
  }

  #deadline(timeoutMs: number, what: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#warn(`${what} took longer than ${timeoutMs} ms`);
      this.#stream.destroy();
    }, timeoutMs);
  }

  #warn(message: string): void {
    this.#parts.logger.warn({ remote: this.#stream.remoteAddress }, `nbd: ${message}`);
  }
}
