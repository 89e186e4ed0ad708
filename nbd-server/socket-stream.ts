/**
 * The stream of a connection that may turn to TLS. `ByteStream` reads through the handle of a plain
 * socket into one buffer, which TLS cannot; this one goes through Node's stream layer and allocates,
 * and so serves only where TLS is on, where the cipher costs more than that.
 */
import type net from 'node:net';
import tls from 'node:tls';
import type { ByteStreamHandler } from '../common/byte-stream.ts';
import { NativeMemory } from '../common/native-memory.ts';
import { STREAM_INPUT_SIZE_BYTES, type NbdStream } from '../common/nbd-stream.ts';

/** A socket, plain at first, TLS after {@link SocketStream.startTls}. */
export class SocketStream implements NbdStream {
  /** Room given by the last reservation. */
  output: { readonly bytes: Buffer } = { bytes: Buffer.alloc(0) };
  readonly remoteAddress: string;
  readonly #input = new NativeMemory(STREAM_INPUT_SIZE_BYTES, { lock: true });
  readonly #onReadable = (): void => this.#pull();
  readonly #plain: net.Socket;
  #socket: net.Socket;
  #handler: ByteStreamHandler;
  #inputStart = 0;
  #inputEnd = 0;
  #parts: Buffer[] = [];
  #unsentBytes = 0;
  #inFlightBytes = 0;
  #flushScheduled = false;
  #paused = false;
  #switching = false;
  #closed = false;
  #failure: Error | undefined;

  /**
   * @param socket - accepted with `pauseOnConnect`; owned by the stream from now on
   * @param handler - told of its events
   */
  constructor(socket: net.Socket, handler: ByteStreamHandler) {
    this.#plain = socket;
    this.#socket = socket;
    this.#handler = handler;
    const { remoteAddress, remotePort } = socket;
    this.remoteAddress = remoteAddress === undefined ? '' : `${remoteAddress}:${remotePort ?? 0}`;
    socket.setNoDelay(true);
    this.#listen(socket);
  }

  /** Bytes reserved or handed over that the socket has not written. */
  get backlogBytes(): number {
    return this.#unsentBytes + this.#inFlightBytes;
  }

  /** {@link NbdStream.reserve} */
  reserve(length: number): number {
    const bytes = Buffer.allocUnsafe(length);
    this.output = { bytes };
    this.#parts.push(bytes);
    this.#unsentBytes += length;
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      process.nextTick(() => this.#flush());
    }
    return 0;
  }

  /** {@link NbdStream.send} */
  send(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.output.bytes.set(bytes);
  }

  /** {@link NbdStream.pause} */
  pause(): void {
    this.#paused = true;
  }

  /** {@link NbdStream.resume} */
  resume(): void {
    this.#paused = false;
    process.nextTick(() => {
      this.#offer();
      this.#pull();
    });
  }

  /** {@link NbdStream.close} */
  close(): void {
    this.#flush();
    this.#socket.end();
    // The peer's end is seen only by reading to it.
    this.#paused = false;
    this.#pull();
  }

  /** {@link NbdStream.destroy} */
  destroy(error?: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
    this.#plain.destroy();
  }

  /** {@link NbdStream.setHandler} */
  setHandler(handler: ByteStreamHandler): void {
    this.#handler = handler;
  }

  /**
   * Turns to TLS, as the server, once what was sent in the clear has left.
   *
   * @param options - certificate or key source
   * @param onSecure - called when the TLS handshake is done; a failed one closes the stream
   */
  startTls(options: tls.TlsOptions, onSecure: () => void): void {
    const plain = this.#plain;
    this.#switching = true;
    plain.off('readable', this.#onReadable);
    this.#flush();
    plain.write('', () => {
      if (this.#closed) return;
      // A server that never listens: one socket is injected, and node does the verifying.
      const server = tls.createServer(options, (secure) => {
        this.#switching = false;
        this.#socket = secure;
        this.#listen(secure);
        onSecure();
        this.#pull();
      });
      server.on('tlsClientError', (error) => this.destroy(error));
      server.emit('connection', plain);
    });
  }

  #listen(socket: net.Socket): void {
    socket.on('readable', this.#onReadable);
    socket.on('error', (error: Error) => (this.#failure ??= error));
    socket.on('end', () => this.destroy());
    socket.on('close', () => this.#onClose());
  }

  #pull(): void {
    while (!this.#paused && !this.#switching && !this.#closed) {
      const room = this.#input.bytes.length - this.#inputEnd;
      const available = this.#socket.readableLength;
      if (room === 0) return this.destroy(new Error('a message is longer than the input buffer'));
      const wanted = Math.min(room, available);
      const chunk = (wanted > 0 ? this.#socket.read(wanted) : this.#socket.read()) as Buffer | null;
      if (chunk === null) return;
      this.#input.bytes.set(chunk, this.#inputEnd);
      this.#inputEnd += chunk.length;
      this.#offer();
    }
  }

  #offer(): void {
    if (this.#closed || this.#paused || this.#inputStart === this.#inputEnd) return;
    this.#inputStart = this.#handler.onBytes(this.#input, this.#inputStart, this.#inputEnd);
    this.#input.bytes.copyWithin(0, this.#inputStart, this.#inputEnd);
    this.#inputEnd -= this.#inputStart;
    this.#inputStart = 0;
  }

  #flush(): void {
    this.#flushScheduled = false;
    const length = this.#unsentBytes;
    if (length === 0 || this.#closed) return;
    const [only] = this.#parts;
    const bytes = this.#parts.length === 1 && only ? only : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#unsentBytes = 0;
    this.#inFlightBytes += length;
    this.#socket.write(bytes, () => {
      this.#inFlightBytes -= length;
      if (this.#inFlightBytes === 0 && !this.#closed) this.#handler.onDrain();
    });
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#plain.destroy();
    this.#handler.onClosed(this.#failure);
    setImmediate(() => this.#input.free());
  }
}
