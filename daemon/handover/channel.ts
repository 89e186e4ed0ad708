/**
 * A way to pass open files to another process of this user: a Unix socket of packets (SOCK_SEQPACKET),
 * each a small JSON value with up to {@link CHANNEL_DESCRIPTOR_COUNT_MAX} descriptors (SCM_RIGHTS,
 * unix(7)). Node has neither, so the calls come from the C library; they never block, and the wait is
 * a poll of the event loop, so that a process can serve others meanwhile.
 *
 * Each end can ask the kernel who the other is. The file of the listening end is 0600 besides.
 */
import fs from 'node:fs';
import koffi from 'koffi';
import { MemcloudError } from '../../common/errors.ts';
import {
  DescriptorMessage,
  MESSAGE_DESCRIPTOR_COUNT_MAX,
} from '../../common/descriptor-message.ts';
import { errnoName, throwErrno } from '../../common/libc.ts';
import { checkSocketPath } from '../../common/paths.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)');
const listenCall = libc.func('int listen(int fd, int backlog)');
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)');
const acceptCall = libc.func('int accept4(int fd, uintptr_t address, uintptr_t length, int flags)');
const getsockoptCall = libc.func(
  'int getsockopt(int fd, int level, int option, void *value, void *length)',
);

/** Linux `socket.h`. */
const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** The most descriptors in one packet. */
export const CHANNEL_DESCRIPTOR_COUNT_MAX = MESSAGE_DESCRIPTOR_COUNT_MAX;
const PACKET_SIZE_MAX_BYTES = 32 * 1024;

/** Looks before the wait between two looks becomes a sleep. */
const EAGER_LOOK_COUNT = 50;
const LOOK_INTERVAL_MS = 1;

const { EAGAIN, EINTR } = koffi.os.errno;

/** What a packet holds. */
export interface Packet {
  /** The value; its shape is the sender's word. */
  readonly message: unknown;
  /** Descriptors, the receiver's from now on. */
  readonly descriptors: readonly number[];
}

function addressOf(path: string): Buffer {
  const name = Buffer.from(`${checkSocketPath(path)}\0`);
  return Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), name]);
}

function openSocket(): number {
  const fd = socketCall(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) as number;
  if (fd < 0) throwErrno('socket(AF_UNIX)');
  return fd;
}

/** Tries until the attempt gives a value, with the event loop running between the tries. */
async function eventually<T>(
  timeoutMs: number,
  what: string,
  attempt: () => T | undefined,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (let looks = 0; ; looks += 1) {
    const result = attempt();
    if (result !== undefined) return result;
    if (performance.now() > deadlineMs) {
      throw new MemcloudError('ERR_HANDOVER', `the other memnode was silent: ${what}`);
    }
    await new Promise((resolve) => {
      if (looks < EAGER_LOOK_COUNT) setImmediate(resolve);
      else setTimeout(resolve, LOOK_INTERVAL_MS);
    });
  }
}

/** A listening end, for one channel. */
export class ChannelListener {
  readonly #fd: number;
  readonly #path: string;

  private constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
  }

  /** @throws MemcloudError `ERR_NATIVE`, `ERR_USAGE` when the path is too long */
  static open(path: string): ChannelListener {
    const fd = openSocket();
    const address = addressOf(path);
    fs.rmSync(path, { force: true });
    const mask = process.umask(0o177);
    const bound = bindCall(fd, address, address.length) === 0 && listenCall(fd, 1) === 0;
    process.umask(mask);
    if (!bound) {
      const errno = koffi.errno();
      fs.closeSync(fd);
      throw new MemcloudError('ERR_NATIVE', `cannot listen on ${path}: ${errnoName(errno)}`);
    }
    return new ChannelListener(fd, path);
  }

  /** Waits for the other end. @throws MemcloudError `ERR_HANDOVER` when nobody comes in time */
  async accept(timeoutMs: number): Promise<DescriptorChannel> {
    const fd = await eventually(timeoutMs, 'it did not connect', () => {
      const accepted = acceptCall(this.#fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC) as number;
      if (accepted >= 0) return accepted;
      const errno = koffi.errno();
      if (errno === EAGAIN || errno === EINTR) return undefined;
      throw new MemcloudError('ERR_NATIVE', `accept failed: ${errnoName(errno)}`);
    });
    return DescriptorChannel.over(fd);
  }

  /** Stops listening and removes the file. */
  close(): void {
    fs.closeSync(this.#fd);
    fs.rmSync(this.#path, { force: true });
  }
}

/** One end of a channel. */
export class DescriptorChannel {
  /** The other process, by the word of the kernel. */
  readonly peer: { readonly pid: number; readonly uid: number };
  readonly #fd: number;
  readonly #message = new DescriptorMessage(PACKET_SIZE_MAX_BYTES);
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
    // struct ucred: pid, uid, gid.
    const credentials = Buffer.alloc(12);
    const length = Buffer.from(Uint32Array.of(credentials.length).buffer);
    if (getsockoptCall(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) {
      throwErrno('getsockopt(SO_PEERCRED)');
    }
    this.peer = { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4) };
  }

  /**
   * The end of a connected socket.
   *
   * @param fd - ours from now on
   */
  static over(fd: number): DescriptorChannel {
    return new DescriptorChannel(fd);
  }

  /** @throws MemcloudError `ERR_HANDOVER` when nobody listens there */
  static connect(path: string): DescriptorChannel {
    const fd = openSocket();
    const address = addressOf(path);
    if (connectCall(fd, address, address.length) !== 0) {
      const errno = koffi.errno();
      fs.closeSync(fd);
      throw new MemcloudError('ERR_HANDOVER', `nobody listens on ${path}: ${errnoName(errno)}`);
    }
    return new DescriptorChannel(fd);
  }

  /**
   * Sends a packet; the descriptors stay the sender's too.
   *
   * @throws MemcloudError `ERR_HANDOVER` when the other end is gone or does not read
   */
  async send(message: unknown, timeoutMs: number, descriptors: number[] = []): Promise<void> {
    const text = Buffer.from(JSON.stringify(message));
    if (text.length > PACKET_SIZE_MAX_BYTES || descriptors.length > CHANNEL_DESCRIPTOR_COUNT_MAX) {
      throw new MemcloudError('ERR_INTERNAL', 'a packet of a channel is too large');
    }
    await eventually(timeoutMs, 'it does not read', () => {
      this.#checkOpen();
      return transferred(this.#message.send(this.#fd, text, descriptors), 'sendmsg');
    });
  }

  /** Waits for a packet. @throws MemcloudError `ERR_HANDOVER` when the other end is gone or silent */
  async receive(timeoutMs: number): Promise<Packet> {
    const length = await eventually(timeoutMs, 'it sends nothing', () => {
      this.#checkOpen();
      const received = this.#message.receive(this.#fd);
      if (received === 0) throw gone('it closed the connection');
      return transferred(received, 'recvmsg');
    });
    const descriptors = this.#message.descriptors();
    try {
      if (this.#message.truncated) throw gone('it sent too much at once');
      const text = this.#message.data(length).toString('utf8');
      return { message: JSON.parse(text) as unknown, descriptors };
    } catch (cause) {
      for (const fd of descriptors) fs.closeSync(fd);
      if (cause instanceof MemcloudError) throw cause;
      throw new MemcloudError('ERR_HANDOVER', 'the other memnode sent no JSON', { cause });
    }
  }

  /** Ends the channel. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    fs.closeSync(this.#fd);
    this.#message.free();
  }

  #checkOpen(): void {
    if (!this.#open) throw gone('the channel was closed');
  }
}

/** Undefined when the call should be tried again. */
function transferred(result: number, call: string): number | undefined {
  if (result >= 0) return result;
  if (result === -Number(EAGAIN) || result === -Number(EINTR)) return undefined;
  throw gone(`${call}: ${errnoName(-result)}`);
}

function gone(why: string): MemcloudError {
  return new MemcloudError('ERR_HANDOVER', `the other memnode is gone: ${why}`);
}
