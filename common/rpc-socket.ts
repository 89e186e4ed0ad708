/**
 * The socket under RPC, on both ends. Three things of Node's sockets would cost more than the messages
 * themselves, and are not done here: each read makes a new buffer of 64 KiB, each message is a write, each
 * write goes through the machinery of streams. So bytes are read into one buffer, what one turn of the event
 * loop produced leaves in one write, and that goes to the kernel at once when nothing waits before it
 * (docs/adr/0014-rpc-hot-path.md). No native code: the SDK loads this file.
 */
import fs from 'node:fs';
import net from 'node:net';
import { MessagePackWriter } from './message-pack-codec.ts';

/** What an end of RPC does with a socket's events. */
export interface RpcSocketHandler {
  /** `bytes[0, length)` came; borrowed until the return. */
  onBytes(bytes: Buffer, length: number): void;
  /** Everything was taken by the kernel, after it had not been. */
  onDrain(): void;
  /** The connection ended, by either side; called once, nothing follows. */
  onClosed(): void;
}

/** Enough for 64 answers of 1 KiB, or five pieces of a stream, in one read. */
const INPUT_SIZE_BYTES = 256 * 1024;
/** More than this leaves before the turn is over. */
const OUTPUT_SIZE_BYTES = 256 * 1024;

/** The part of libuv's handle that this file uses. */
interface SocketWithHandle {
  _handle?: { readonly fd?: number } | null;
}

/** A connected socket that carries RPC. */
export class RpcSocket {
  readonly #socket: net.Socket;
  readonly #input: Buffer;
  readonly #writer = new MessagePackWriter();
  readonly #flushOnTick = (): void => this.flush();
  #flushScheduled = false;
  #paused = false;
  #closed = false;

  private constructor(
    handler: RpcSocketHandler,
    open: (onread: net.OnReadOpts) => net.Socket,
    inputSizeBytes: number,
  ) {
    this.#input = Buffer.allocUnsafeSlow(inputSizeBytes);
    this.#socket = open({
      buffer: this.#input,
      callback: (length) => {
        handler.onBytes(this.#input, length);
        return !this.#paused;
      },
    });
    this.#socket.setNoDelay(true);
    this.#socket.on('error', () => undefined);
    this.#socket.on('drain', () => handler.onDrain());
    this.#socket.on('close', () => {
      this.#closed = true;
      handler.onClosed();
    });
  }

  /** Takes over a socket that a server made with `pauseOnConnect` accepted. */
  static adopt(socket: net.Socket, handler: RpcSocketHandler): RpcSocket {
    const holder = socket as SocketWithHandle;
    const handle = holder._handle;
    // Two sockets on one handle would both close it: the accepted one gives it up.
    holder._handle = null;
    const open = (onread: net.OnReadOpts): net.Socket => {
      const options = { handle, onread, readable: true, writable: true };
      return new net.Socket(options);
    };
    const adopted = new RpcSocket(handler, open, INPUT_SIZE_BYTES);
    // Without a handle this closes nothing; it makes the server stop counting the socket as open.
    socket.destroy();
    adopted.resume();
    return adopted;
  }

  /**
   * Connects.
   *
   * @returns the socket; rejects with the system's error when nobody answers within `timeoutMs`
   */
  static connect(
    target: { readonly host: string; readonly port: number } | { readonly path: string },
    timeoutMs: number,
    handler: RpcSocketHandler,
  ): Promise<RpcSocket> {
    return new Promise((resolve, reject) => {
      const open = (onread: net.OnReadOpts): net.Socket => {
        const socket = net.connect({ ...target, onread, timeout: timeoutMs } as net.NetConnectOpts);
        socket.once('error', reject);
        socket.once('timeout', () => {
          socket.destroy(new Error('timed out'));
        });
        socket.once('connect', () => {
          socket.setTimeout(0);
          resolve(made);
        });
        return socket;
      };
      const made: RpcSocket = new RpcSocket(handler, open, INPUT_SIZE_BYTES);
    });
  }

  /** The descriptor, for the credentials of the other end; -1 once the socket is closed. */
  get fd(): number {
    return (this.#socket as SocketWithHandle)._handle?.fd ?? -1;
  }

  /** True once the connection ended. */
  get closed(): boolean {
    return this.#closed || this.#socket.destroyed;
  }

  /** Bytes that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength + this.#writer.end;
  }

  /** Where messages are written; {@link flushLater} sends them. */
  get writer(): MessagePackWriter {
    return this.#writer;
  }

  /** Adds a message with its length in front; it leaves with the others of this turn. */
  send(message: unknown): void {
    const writer = this.#writer;
    const start = writer.beginFrame();
    writer.value(message);
    writer.endFrame(start);
    this.flushLater();
  }

  /** Sends at the end of the turn what was written. */
  flushLater(): void {
    if (this.#writer.end >= OUTPUT_SIZE_BYTES) this.flush();
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(this.#flushOnTick);
  }

  /** Sends what was written now. */
  flush(): void {
    this.#flushScheduled = false;
    const writer = this.#writer;
    const { bytes, end } = writer;
    if (end === 0) return;
    if (this.closed || !this.#socket.writable) {
      writer.clear();
      return;
    }
    const sent = this.#socket.writableLength === 0 ? this.#sendNow(bytes, end) : 0;
    if (sent < end) this.#socket.write(Buffer.from(bytes.subarray(sent, end)));
    writer.clear();
  }

  /** Stops reading; to be called by {@link RpcSocketHandler.onBytes} or later. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** Reads again. */
  resume(): void {
    this.#paused = false;
    this.#socket.resume();
  }

  /** Keeps the process alive, or does not. */
  setRef(isRef: boolean): void {
    if (isRef) this.#socket.ref();
    else this.#socket.unref();
  }

  /** Sends what was written, then closes this side; reads on and throws it away. */
  end(): void {
    this.flush();
    this.#socket.end();
    this.resume();
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** @returns the bytes that the kernel took; the stream learns of what is wrong with the socket */
  #sendNow(bytes: Buffer, end: number): number {
    const { fd } = this;
    if (fd < 0) return 0;
    try {
      return fs.writeSync(fd, bytes, 0, end);
    } catch {
      return 0;
    }
  }
}
