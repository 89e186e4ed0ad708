/**
 * The socket shell under both wire protocols (NBD and peer sessions). It exists for three facts
 * about Node sockets: by default each read allocates 64 KiB, small writes that follow each other
 * wait for a delayed acknowledgement (44 ms), and a write per message costs more than the message.
 * So a ByteStream reads into one native buffer that lives as long as the connection, never delays
 * (`noDelay`), and gathers everything that one turn of the event loop produced into one write.
 *
 * It knows nothing of what the bytes mean. Bounds: the input buffer is as large as the caller says
 * and reading stops while the handler leaves it full; output is bounded by the caller, who must
 * look at {@link ByteStream.backlogBytes} and stop producing (both protocols stop reading requests).
 */
import net from 'node:net';
import { NativeMemory, type NativeBuffer } from './native-memory.ts';
import { tryReceive, trySend, trySetSocketOption } from './libc.ts';
import { formatAddress, plainAddress } from './units.ts';

/** Linux `include/uapi/linux/in.h`, `include/uapi/linux/tcp.h`. */
const IPPROTO_TCP = 6;
const TCP_NOTSENT_LOWAT = 25;
/** Bytes that the loop reads at once while the stream is polled; then there is little at a time. */
const LANDING_SIZE_BYTES = 64 * 1024;

/** What a protocol shell does with a stream's events. */
export interface ByteStreamHandler {
  /**
   * New bytes came: `input.bytes[start, end)` is all that is unread. The bytes are borrowed until
   * the return; what is not consumed is offered again, followed by more.
   *
   * @returns the position up to which the bytes were consumed, `start` to `end`
   */
  onBytes(input: NativeBuffer, start: number, end: number): number;
  /** The backlog fell to zero after {@link ByteStream.backlogBytes} had been above it. */
  onDrain(): void;
  /** The stream ended, by either side; called exactly once, nothing follows. */
  onClosed(error: Error | undefined): void;
  /**
   * What was reserved is about to leave: the last chance to fill reservations or to give bytes back
   * with {@link ByteStream.unreserve}. May not reserve. For protocols that build a message over a whole turn.
   */
  onFlush?(): void;
}

/** Sizes of a stream's buffers. */
export interface ByteStreamOptions {
  /** Bytes of the input buffer: the longest message that must lie in one piece, or more. */
  readonly inputSizeBytes: number;
  /** Bytes of one output chunk: the longest reservation, or more. */
  readonly outputChunkSizeBytes: number;
  /** Bytes that were read before the stream was made, by another process: offered first, copied. */
  readonly unread?: Uint8Array;
}

interface OutputChunk {
  readonly memory: NativeBuffer & { free(): void };
  writesPending: number;
}

/** Stands where a chunk was once the memory is given back: whoever writes there gets an error, not a crash. */
const NO_CHUNK: OutputChunk = {
  memory: { bytes: Buffer.alloc(0), address: 0, free: () => undefined },
  writesPending: 0,
};

/** The part of libuv's handle that lets an accepted socket be opened again with a read buffer. */
interface SocketWithHandle {
  _handle?: { readonly fd?: number } | null;
}

/** A connected TCP or Unix stream socket. */
export class ByteStream {
  readonly #socket: net.Socket;
  /** The input buffer, and one byte behind it, for a read that begins while it is full. */
  readonly #input: NativeMemory;
  readonly #inputSizeBytes: number;
  readonly #chunkSizeBytes: number;
  readonly #freeChunks: OutputChunk[] = [];
  readonly #flushOnTick = (): void => this.#endTurn();
  #handler: ByteStreamHandler;
  #inputStart = 0;
  #inputEnd = 0;
  /** Where the loop's next read puts its bytes: chosen before, so the input may have moved since. */
  #readAt = 0;
  /** The loop's next read goes there instead, so that polling may use the input. */
  #landing: NativeMemory | undefined;
  #landsApart = false;
  #polled = false;
  #chunk: OutputChunk;
  #reserved = 0;
  #flushed = 0;
  #flushScheduled = false;
  #backlogBytes = 0;
  #closed = false;
  /** Bytes left without a callback that would tell of it. */
  #drained = false;
  #freed = false;
  #inOnBytes = false;
  #paused = false;

  private constructor(
    options: ByteStreamOptions,
    handler: ByteStreamHandler,
    open: (onread: net.OnReadOpts) => net.Socket,
  ) {
    this.#handler = handler;
    this.#inputSizeBytes = options.inputSizeBytes;
    this.#input = new NativeMemory(options.inputSizeBytes + 1, { lock: true });
    if (options.unread !== undefined) {
      this.#input.bytes.set(options.unread);
      this.#inputEnd = options.unread.length;
    }
    this.#chunkSizeBytes = options.outputChunkSizeBytes;
    this.#chunk = this.#newChunk();
    this.#socket = open({
      // The types allow only a fixed buffer; net.Socket also takes a function that gives the next one.
      buffer: () => this.#nextReadTarget(),
      callback: (length) => this.#onRead(length),
    });
    this.#socket.setNoDelay(true);
    let failure: Error | undefined;
    this.#socket.on('error', (error) => (failure = error));
    this.#socket.on('end', () => this.destroy());
    this.#socket.on('close', () => this.#onClose(failure));
  }

  /**
   * Takes over a socket that a server accepted. The server must have been made with
   * `pauseOnConnect`, so that no byte was read yet.
   */
  static adopt(
    socket: net.Socket,
    options: ByteStreamOptions,
    handler: ByteStreamHandler,
  ): ByteStream {
    const holder = socket as SocketWithHandle;
    const handle = holder._handle;
    // Two sockets on one handle would both close it: the accepted one gives it up.
    holder._handle = null;
    const stream = new ByteStream(options, handler, (onread) => {
      const constructorOptions = { handle, onread, readable: true, writable: true };
      return new net.Socket(constructorOptions);
    });
    // Without a handle this closes nothing; it makes the server stop counting the socket as open.
    socket.destroy();
    stream.resume();
    return stream;
  }

  /**
   * Connects. Rejects with the system's error when the connection fails or `timeoutMs` passes.
   *
   * @param target - a TCP address or the path of a Unix socket
   */
  static connect(
    target: { host: string; port: number } | { path: string },
    options: ByteStreamOptions & { timeoutMs: number },
    handler: ByteStreamHandler,
  ): Promise<ByteStream> {
    return new Promise((resolve, reject) => {
      let settled = false;
      const stream = new ByteStream(options, handler, (onread) => {
        const socket = net.connect({ ...target, onread } as net.NetConnectOpts);
        const timer = setTimeout(() => {
          socket.destroy(new Error(`no connection within ${options.timeoutMs} ms`));
        }, options.timeoutMs);
        socket.once('connect', () => {
          settled = true;
          clearTimeout(timer);
          resolve(stream);
        });
        socket.once('error', (error) => {
          clearTimeout(timer);
          if (!settled) reject(error);
        });
        return socket;
      });
    });
  }

  /**
   * Replaces the handler, for example when a handshake gives way to a session. Bytes that lie unread
   * are offered to the new one.
   */
  setHandler(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (!this.#inOnBytes && this.#inputEnd > this.#inputStart)
      process.nextTick(() => this.#offer());
  }

  /** The other side's IP address, an IPv4 one always as such; empty for a Unix socket. */
  get remoteHost(): string {
    return plainAddress(this.#socket.remoteAddress ?? '');
  }

  /** `ADDRESS:PORT` of the other side, `[ADDRESS]:PORT` for IPv6; empty for a Unix socket. */
  get remoteAddress(): string {
    const { remoteAddress, remotePort } = this.#socket;
    return remoteAddress === undefined ? '' : formatAddress(this.remoteHost, remotePort ?? 0);
  }

  /** The file descriptor, for socket options that Node does not know; -1 once the socket is closed. */
  get fd(): number {
    return (this.#socket as SocketWithHandle)._handle?.fd ?? -1;
  }

  /**
   * Makes the kernel take no more than about `bytes` that it cannot send yet: without it, megabytes lie
   * there on a slow link, behind which everything that comes later must wait. What it does not take is
   * counted in {@link ByteStream.backlogBytes}. Does nothing on a Unix socket.
   */
  limitUnsent(bytes: number): void {
    const value = Buffer.alloc(4);
    value.writeUInt32LE(bytes);
    if (this.fd >= 0) trySetSocketOption(this.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, value);
  }

  /** Bytes that were read and that no handler has consumed; borrowed until the next turn. */
  get unread(): Buffer {
    return this.#input.bytes.subarray(this.#inputStart, this.#inputEnd);
  }

  /** Bytes handed to the socket that the kernel has not taken yet, plus bytes reserved. */
  get backlogBytes(): number {
    return this.#backlogBytes + (this.#reserved - this.#flushed);
  }

  /** The chunk that the last {@link ByteStream.reserve} gave room in. */
  get output(): NativeBuffer {
    return this.#chunk.memory;
  }

  /** True once the stream ended. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Reserves room for `length` bytes that leave in this turn's write, in order of reservation. The
   * caller fills `output.bytes` from the returned offset before the turn ends. After the end of the
   * stream the room leads nowhere, so that a late reply needs no check.
   *
   * @param length - at most the chunk size
   */
  reserve(length: number): number {
    if (this.#freed) this.#reserveNowhere();
    if (this.#reserved + length > this.#chunk.memory.bytes.length) {
      this.flush();
      if (this.#chunk.writesPending > 0 || length > this.#chunk.memory.bytes.length) {
        this.#chunk = this.#freeChunks.pop() ?? this.#newChunk();
      }
      this.#reserved = 0;
      this.#flushed = 0;
    }
    const offset = this.#reserved;
    this.#reserved += length;
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      process.nextTick(this.#flushOnTick);
    }
    return offset;
  }

  /** Gives back the last `length` bytes of the last reservation, which turned out too long. */
  unreserve(length: number): void {
    this.#reserved -= length;
  }

  /** Copies `bytes` out; for handshakes and other rare messages. */
  send(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += this.#chunkSizeBytes) {
      const part = bytes.subarray(at, at + this.#chunkSizeBytes);
      const offset = this.reserve(part.length);
      this.#chunk.memory.bytes.set(part, offset);
    }
  }

  /**
   * Hands everything reserved to the kernel now instead of at the end of the turn. What it does not take at
   * once goes through Node's stream, which waits and tells of errors; that way alone costs as much as the
   * system call for each write (docs/adr/0017-direct-socket-calls.md).
   */
  flush(): void {
    this.#flushScheduled = false;
    if (this.#reserved > this.#flushed && !this.#closed) this.#handler.onFlush?.();
    const chunk = this.#chunk;
    const length = this.#reserved - this.#flushed;
    if (length === 0 || this.#closed) return;
    const sent = this.#sendNow(chunk.memory.address + this.#flushed, length);
    if (sent === length) {
      this.#drained = true;
      this.#reserved = this.#flushed = 0;
      return;
    }
    const view = chunk.memory.bytes.subarray(this.#flushed + sent, this.#reserved);
    this.#flushed = this.#reserved;
    this.#backlogBytes += view.length;
    chunk.writesPending += 1;
    this.#socket.write(view, () => this.#onWritten(chunk, view.length));
  }

  /** Stops reading. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  /** Reads again; bytes that were left unread are offered first. */
  resume(): void {
    this.#paused = false;
    // Old bytes first: reading into a full buffer would fail.
    process.nextTick(() => {
      this.#offer();
      if (!this.#paused && !this.#closed) this.#socket.resume();
    });
  }

  /**
   * Takes bytes that are there, past the event loop, whose own look takes several times as long. For who
   * keeps the loop awake (`event-loop-spin.ts`), between turns: never from a handler.
   *
   * @returns true when the handler was offered something
   */
  poll(): boolean {
    this.#polled = true;
    const { fd } = this;
    if (!this.#landsApart || this.#paused || fd < 0) return false;
    // There is always room for what the loop reads next.
    const room = this.#inputSizeBytes - this.#inputEnd - LANDING_SIZE_BYTES;
    if (room <= 0) return false;
    const length = tryReceive(fd, this.#input.address + this.#inputEnd, room);
    if (length === 0) return false;
    this.#inputEnd += length;
    this.#offer();
    return true;
  }

  /** Sends what is reserved, then closes our side; the stream ends when the other side has. */
  close(): void {
    this.flush();
    this.#socket.end();
  }

  /** Ends the stream at once; what was not sent is dropped. */
  destroy(error?: Error): void {
    this.#socket.destroy(error);
  }

  #newChunk(): OutputChunk {
    return { memory: new NativeMemory(this.#chunkSizeBytes, { lock: true }), writesPending: 0 };
  }

  #endTurn(): void {
    this.flush();
    if (!this.#drained) return;
    this.#drained = false;
    if (this.#backlogBytes === 0 && !this.#closed) this.#handler.onDrain();
  }

  /** Sends past Node's stream if nothing waits there. @returns how many bytes the kernel took */
  #sendNow(from: number, length: number): number {
    const { fd } = this;
    return this.#backlogBytes > 0 || !this.#socket.writable || fd < 0
      ? 0
      : trySend(fd, from, length);
  }

  #onWritten(chunk: OutputChunk, length: number): void {
    this.#backlogBytes -= length;
    chunk.writesPending -= 1;
    if (chunk.writesPending === 0) {
      if (this.#freed) chunk.memory.free();
      else if (chunk !== this.#chunk) this.#freeChunks.push(chunk);
      else if (this.#flushed === this.#reserved) this.#reserved = this.#flushed = 0;
    }
    if (this.#backlogBytes === 0 && !this.#closed) this.#handler.onDrain();
  }

  #nextReadTarget(): Buffer {
    const isPolled = this.#polled;
    this.#polled = false;
    this.#landsApart = isPolled && this.#inputSizeBytes - this.#inputEnd > LANDING_SIZE_BYTES;
    if (this.#landsApart) {
      this.#landing ??= new NativeMemory(LANDING_SIZE_BYTES, { lock: true });
      return this.#landing.bytes;
    }
    this.#readAt = this.#inputEnd;
    // Full means paused; when reading goes on there is room again, but the target is chosen now.
    const end = Math.max(this.#inputSizeBytes, this.#inputEnd + 1);
    return this.#input.bytes.subarray(this.#inputEnd, end);
  }

  #onRead(length: number): boolean {
    const { bytes } = this.#input;
    if (this.#landsApart) {
      this.#landing?.bytes.copy(bytes, this.#inputEnd, 0, length);
    } else if (this.#readAt !== this.#inputEnd) {
      // After a pause, the bytes left unread were consumed, and the end lies before the old target.
      bytes.copyWithin(this.#inputEnd, this.#readAt, this.#readAt + length);
    }
    this.#inputEnd += length;
    this.#offer();
    return !this.#paused;
  }

  #offer(): void {
    if (this.#socket.destroyed || this.#paused || this.#inputEnd === this.#inputStart) return;
    const handler = this.#handler;
    this.#inOnBytes = true;
    this.#inputStart = handler.onBytes(this.#input, this.#inputStart, this.#inputEnd);
    this.#inOnBytes = false;
    if (handler !== this.#handler) process.nextTick(() => this.#offer());
    if (this.#inputStart === this.#inputEnd) {
      this.#inputStart = this.#inputEnd = 0;
    } else if (this.#inputSizeBytes - this.#inputEnd < this.#inputSizeBytes / 4) {
      this.#input.bytes.copyWithin(0, this.#inputStart, this.#inputEnd);
      this.#inputEnd -= this.#inputStart;
      this.#inputStart = 0;
      const heard = handler === this.#handler && !this.#paused;
      if (this.#inputEnd === this.#inputSizeBytes && heard) {
        this.destroy(new Error('a message is longer than the input buffer'));
      }
    }
  }

  #onClose(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handler.onClosed(error);
    // libuv has let go of every buffer once 'close' was emitted, and no handler may use one now.
    setImmediate(() => this.#freeMemory());
  }

  #freeMemory(): void {
    this.#freed = true;
    this.#input.free();
    this.#landing?.free();
    for (const chunk of this.#freeChunks.splice(0)) chunk.memory.free();
    // Chunks with writes pending are freed when those have ended.
    if (this.#chunk.writesPending === 0) this.#chunk.memory.free();
    this.#chunk = NO_CHUNK;
  }

  /** Gives the rest of this turn a chunk that is never sent. */
  #reserveNowhere(): void {
    if (this.#chunk !== NO_CHUNK) return;
    const chunk = this.#newChunk();
    this.#chunk = chunk;
    this.#reserved = this.#flushed = 0;
    setImmediate(() => {
      this.#chunk = NO_CHUNK;
      chunk.memory.free();
    });
  }
}
