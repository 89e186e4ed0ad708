/**
 * The shell of a session: an open /dev/fuse on Node's event loop. Node polls sockets and pipes only, but
 * what it polls is a descriptor: a socket pair's end is made a `net.Socket`, and then /dev/fuse takes its
 * number (dup2). From there libuv waits for the device beside the sockets of the donors, in one thread,
 * and each of its reads is one request.
 *
 * libuv reads only the first request after a sleep. Those that follow are read here, without blocking,
 * up to {@link REQUESTS_PER_TURN_MAX} a turn so that the donors' sockets get theirs; and as long as
 * requests keep coming the loop is kept awake ({@link EventLoopSpin}) and looks at the device in each turn,
 * for a thread that sleeps takes longer to wake than a request to serve.
 *
 * Replies go out by write(2) at once; the kernel copies them before it returns. Buffers: a write under way
 * keeps the buffer that it came in, so the device reads the next request into another. There are no more
 * of them than requests that may wait, and two; unused ones are kept.
 */
import fs from 'node:fs';
import net from 'node:net';
import koffi from 'koffi';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import type { EventLoopSpin } from '../common/event-loop-spin.ts';
import { errnoName, throwErrno } from '../common/libc.ts';
import type { Logger } from '../common/log.ts';
import type { NativeBuffer } from '../common/native-memory.ts';
import type { RequestBuffer } from './codec.ts';
import { FuseNotify, FuseOutSize } from './constants.ts';
import { Errno } from './errno.ts';
import type { IoVectors } from './io-vectors.ts';
import type { FuseProfile } from './negotiation.ts';
import type { FileOperations } from './operations.ts';
import { encodeOutHeader } from './reply-codec.ts';
import { FuseSession, type FuseSessionPort } from './session.ts';
import { REQUEST_AT, REQUEST_SIZE_MAX_BYTES, TransferBuffer } from './transfer-buffer.ts';

const libc = koffi.load(null);
const readCall = libc.func('intptr_t read(int fd, uintptr_t to, size_t length)');
const writeCall = libc.func('intptr_t write(int fd, uintptr_t from, size_t length)');
const writevCall = libc.func('intptr_t writev(int fd, uintptr_t vectors, int count)');
const notifyCall = libc.func('intptr_t write(int fd, void *from, size_t length)');
const dup2Call = libc.func('int dup2(int from, int to)');
const socketpairCall = libc.func('int socketpair(int domain, int type, int protocol, void *fds)');
const fcntlCall = libc.func('int fcntl(int fd, int command, int argument)');

/** Linux `socket.h`, `fcntl.h`. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0x800;

/** Requests served before the rest of the event loop gets its turn. */
const REQUESTS_PER_TURN_MAX = 64;
/** Looks at an idle device in one turn of a loop that is kept awake and waits for nothing else. */
const IDLE_LOOKS_PER_TURN = 8;
const TICK_INTERVAL_MS = 100;
/** Replies that the kernel refused and that are logged; further ones are only counted. */
const LOGGED_REFUSAL_COUNT_MAX = 20;
const HEADER_SIZE_BYTES = 16;

/** /dev/fuse, open and not blocking; nothing is mounted yet. @throws MemcloudError `ERR_UNSUPPORTED` */
export function openFuseDevice(): number {
  try {
    return fs.openSync('/dev/fuse', fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
  } catch (cause) {
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      '/dev/fuse cannot be opened: load the kernel module "fuse", or give this user the device',
      { cause },
    );
  }
}

/** How a device's life ended: the mount is gone (`undefined`), or an error. */
export type FuseEnd = MemcloudError | undefined;

/** See the top of the file. */
export class FuseDevice implements FuseSessionPort {
  /** The conversation; the completion sink of the file system. */
  readonly session: FuseSession;
  /** Replies that the kernel refused as malformed: a defect of ours. */
  refusedReplyCount = 0;
  readonly #fd: number;
  readonly #spin: EventLoopSpin;
  readonly #log: Logger;
  readonly #onEnd: (end: FuseEnd) => void;
  readonly #onWake = (): void => this.#wake();
  readonly #spare: TransferBuffer[] = [];
  /** What libuv reads into. */
  #wakeBuffer = new TransferBuffer();
  /** What we read into. */
  #buffer = new TransferBuffer();
  #socket: net.Socket | undefined;
  #ticker: NodeJS.Timeout | undefined;
  /** Messages to the kernel that a thread is writing. */
  #messageCount = 0;
  #blocked = false;
  #ended = false;
  #closed = false;

  /**
   * @param options - `fd`: an open /dev/fuse, ours from now on. `onEnd`: called once, when the kernel
   *   says that the mount is gone
   */
  constructor(options: {
    readonly fd: number;
    readonly profile: FuseProfile;
    readonly spin: EventLoopSpin;
    readonly clock: Clock;
    readonly log: Logger;
    readonly onEnd: (end: FuseEnd) => void;
  }) {
    this.#fd = options.fd;
    this.#spin = options.spin;
    this.#log = options.log;
    this.#onEnd = options.onEnd;
    this.session = new FuseSession({
      port: this,
      profile: options.profile,
      clock: options.clock,
      log: options.log,
    });
  }

  /**
   * Begins to serve; the descriptor must be that of a mount.
   *
   * @throws MemcloudError `ERR_NATIVE`
   */
  serve(operations: FileOperations): void {
    this.session.attach(operations);
    // Node's socket marks the file as not blocking, but that was another file then.
    if (fcntlCall(this.#fd, F_SETFL, O_RDWR | O_NONBLOCK) !== 0) throwErrno('fcntl(F_SETFL)');
    const pair = Buffer.alloc(8);
    if (socketpairCall(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) {
      throwErrno('socketpair');
    }
    const polled = pair.readInt32LE(0);
    const socket = new net.Socket({
      fd: polled,
      readable: true,
      writable: false,
      // @ts-expect-error: documented, but missing from the types of the constructor.
      manualStart: true,
      onread: {
        buffer: () => this.#wakeBuffer.requestBytes,
        callback: (length: number) => this.#onPolled(length),
      },
    });
    fs.closeSync(pair.readInt32LE(4));
    if (dup2Call(this.#fd, polled) !== polled) {
      socket.destroy();
      throwErrno('dup2');
    }
    socket.on('error', (error: NodeJS.ErrnoException) => this.#end(error.errno ?? -Errno.EIO));
    socket.on('end', () => this.#end(-Errno.ENODEV));
    this.#socket = socket;
    this.#spin.pollWith(() => this.#look());
    socket.resume();
  }

  /** Serves no more, and closes the device; a mount that is still there answers ENOTCONN from then on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended = true;
    this.#spin.pollWith(undefined);
    clearInterval(this.#ticker);
    this.#socket?.destroy();
    if (this.#messageCount === 0) fs.closeSync(this.#fd);
  }

  reply(from: NativeBuffer, offset: number, length: number): void {
    if (this.#closed) return;
    const written = writeCall(this.#fd, from.address + offset, length) as number;
    if (written < 0) this.#onRefusedReply(koffi.errno(), from, offset, length);
  }

  replyGathered(vectors: IoVectors, header: NativeBuffer, headerOffset: number): void {
    if (this.#closed) return;
    const { address, count, length } = vectors;
    const written = writevCall(this.#fd, address, count) as number;
    if (written < 0) this.#onRefusedReply(koffi.errno(), header, headerOffset, length);
  }

  onBufferFree(buffer: RequestBuffer): void {
    if (buffer instanceof TransferBuffer) this.#spare.push(buffer);
  }

  /**
   * An INVAL_INODE: the write(2) of it ends when the kernel's dirty pages have come in requests of their own,
   * so a thread of the pool must make it, while this one serves them.
   */
  writeBack(nodeid: number, onDone: () => void): void {
    const length = FuseOutSize.fuse_out_header + FuseOutSize.fuse_notify_inval_inode_out;
    const message = Buffer.alloc(length);
    message.writeUInt32LE(length, 0);
    message.writeInt32LE(FuseNotify.FUSE_NOTIFY_INVAL_INODE, 4);
    message.writeBigUInt64LE(BigInt(nodeid), 16);
    this.#messageCount += 1;
    // ENOENT: the kernel has no such inode any more, and so nothing of it.
    notifyCall.async(this.#fd, message, length, () => {
      this.#messageCount -= 1;
      if (this.#closed && this.#messageCount === 0) fs.closeSync(this.#fd);
      onDone();
    });
  }

  onRoom(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    setImmediate(this.#onWake);
  }

  /** libuv has read a request. @returns false to make it stop */
  #onPolled(length: number): boolean {
    this.#spin.onActivity();
    const buffer = this.#wakeBuffer;
    if (this.session.handle(buffer, REQUEST_AT, length)) this.#wakeBuffer = this.#freshBuffer();
    this.#drain(1);
    return !this.#blocked && !this.#ended;
  }

  /** There is room again. */
  #wake(): void {
    if (this.#ended) return;
    this.#drain(1);
    if (!this.#blocked && !this.#ended) this.#socket?.resume();
  }

  /** A turn of a loop that is kept awake. */
  #look(): void {
    if (this.#ended || this.#blocked) return;
    this.#drain(this.session.waitingCount === 0 ? IDLE_LOOKS_PER_TURN : 1);
    if (this.#blocked) this.#socket?.pause();
  }

  /** Serves what is there. @param looks - how often to find nothing before giving up */
  #drain(looks: number): void {
    const { session } = this;
    let remaining = looks;
    for (let served = 0; served < REQUESTS_PER_TURN_MAX && !this.#ended;) {
      if (!session.hasRoom) {
        this.#blocked = true;
        break;
      }
      const buffer = this.#buffer;
      const at = buffer.address + REQUEST_AT;
      const length = readCall(this.#fd, at, REQUEST_SIZE_MAX_BYTES) as number;
      if (length < 0) {
        remaining -= 1;
        if (!this.#goesOn(koffi.errno()) || remaining <= 0) break;
        continue;
      }
      served += 1;
      remaining = 1;
      this.#spin.onActivity();
      if (session.handle(buffer, REQUEST_AT, length)) this.#buffer = this.#freshBuffer();
    }
    if (session.needsTick && this.#ticker === undefined) this.#startTicker();
  }

  /** What a read that brought nothing means. */
  #goesOn(errno: number): boolean {
    switch (errno) {
      // ENOENT: the caller was killed before we could read its request.
      case Errno.EAGAIN:
      case Errno.EINTR:
      case Errno.ENOENT:
        return true;
      default:
        this.#end(-errno);
        return false;
    }
  }

  #freshBuffer(): TransferBuffer {
    return this.#spare.pop() ?? new TransferBuffer();
  }

  #startTicker(): void {
    this.#ticker = setInterval(() => {
      this.session.tick();
      if (this.session.needsTick) return;
      clearInterval(this.#ticker);
      this.#ticker = undefined;
    }, TICK_INTERVAL_MS);
  }

  #onRefusedReply(errno: number, from: NativeBuffer, offset: number, length: number): void {
    // ENOENT: nobody waits for the answer any more. ENODEV: the mount is gone, as read(2) will say.
    if (errno === Errno.ENOENT || errno === Errno.ENODEV || errno === Errno.ECONNABORTED) return;
    this.refusedReplyCount += 1;
    if (this.refusedReplyCount <= LOGGED_REFUSAL_COUNT_MAX) {
      this.#log.error({ errno: errnoName(errno), length }, 'the kernel refused a reply');
    }
    if (length === HEADER_SIZE_BYTES) return;
    const words = new Uint32Array(from.bytes.buffer, from.bytes.byteOffset + offset, 4);
    const [, , low = 0, high = 0] = words;
    encodeOutHeader(words, 0, HEADER_SIZE_BYTES, -Errno.EIO, low, high);
    writeCall(this.#fd, from.address + offset, HEADER_SIZE_BYTES);
  }

  #end(negativeErrno: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#spin.pollWith(undefined);
    const errno = this.#lastWord(-negativeErrno);
    // ECONNABORTED: somebody aborted the connection; the mount point is dead, but there.
    this.#onEnd(
      errno === Errno.ENODEV
        ? undefined
        : new MemcloudError('ERR_NATIVE', `reading /dev/fuse failed: ${errnoName(errno)}`),
    );
  }

  /**
   * The kernel says ECONNABORTED also of a request that it was handing out when the mount went; from then on it
   * answers each read at once, with ENODEV unless the connection was aborted.
   */
  #lastWord(errno: number): number {
    if (errno !== Errno.ECONNABORTED) return errno;
    const at = this.#buffer.address + REQUEST_AT;
    return readCall(this.#fd, at, REQUEST_SIZE_MAX_BYTES) === -1 ? koffi.errno() : errno;
  }
}
