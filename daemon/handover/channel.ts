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
import { errnoName, throwErrno } from '../../common/libc.ts';
import { NativeMemory } from '../../common/native-memory.ts';
import { checkSocketPath } from '../../common/paths.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)');
const listenCall = libc.func('int listen(int fd, int backlog)');
const connectCall = libc.func('int connect(int fd, void *address, uint32_t length)');
const acceptCall = libc.func('int accept4(int fd, uintptr_t address, uintptr_t length, int flags)');
const sendmsgCall = libc.func('intptr_t sendmsg(int fd, uintptr_t message, int flags)');
const recvmsgCall = libc.func('intptr_t recvmsg(int fd, uintptr_t message, int flags)');
const getsockoptCall = libc.func(
  'int getsockopt(int fd, int level, int option, void *value, void *length)',
);

/** Linux `socket.h`. */
const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_TRUNCATED = 0x20 | 0x08;
/** `struct msghdr` where pointers have 8 bytes: iov at 16, iovlen at 24, control at 32, its length at 40, flags at 48. */
const CMSG_HEADER_SIZE_BYTES = 16;

/** The most descriptors in one packet; the kernel takes 253. */
export const CHANNEL_DESCRIPTOR_COUNT_MAX = 64;
const PACKET_SIZE_MAX_BYTES = 32 * 1024;
const IOVEC_AT = 64;
const CONTROL_AT = 128;
const CONTROL_SIZE_MAX_BYTES = CMSG_HEADER_SIZE_BYTES + 4 * CHANNEL_DESCRIPTOR_COUNT_MAX;
const PACKET_AT = 4096;

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
  readonly #memory = new NativeMemory(PACKET_AT + PACKET_SIZE_MAX_BYTES);
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
      this.#prepare(text.length, CMSG_HEADER_SIZE_BYTES + 4 * descriptors.length);
      const { bytes } = this.#memory;
      bytes.set(text, PACKET_AT);
      if (descriptors.length === 0) bytes.writeBigUInt64LE(0n, 40);
      bytes.writeBigUInt64LE(BigInt(CMSG_HEADER_SIZE_BYTES + 4 * descriptors.length), CONTROL_AT);
      bytes.writeInt32LE(SOL_SOCKET, CONTROL_AT + 8);
      bytes.writeInt32LE(SCM_RIGHTS, CONTROL_AT + 12);
      descriptors.forEach((fd, index) => {
        bytes.writeInt32LE(fd, CONTROL_AT + CMSG_HEADER_SIZE_BYTES + 4 * index);
      });
      const sent = Number(sendmsgCall(this.#fd, this.#memory.address, MSG_NOSIGNAL));
      return this.#transferred(sent, 'sendmsg');
    });
  }

  /** Waits for a packet. @throws MemcloudError `ERR_HANDOVER` when the other end is gone or silent */
  async receive(timeoutMs: number): Promise<Packet> {
    const length = await eventually(timeoutMs, 'it sends nothing', () => {
      this.#prepare(PACKET_SIZE_MAX_BYTES, CONTROL_SIZE_MAX_BYTES);
      const received = Number(recvmsgCall(this.#fd, this.#memory.address, MSG_CMSG_CLOEXEC));
      if (received === 0) throw gone('it closed the connection');
      return this.#transferred(received, 'recvmsg');
    });
    const { bytes } = this.#memory;
    const descriptors = this.#receivedDescriptors();
    try {
      if ((bytes.readInt32LE(48) & MSG_TRUNCATED) !== 0) throw gone('it sent too much at once');
      const text = bytes.toString('utf8', PACKET_AT, PACKET_AT + length);
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
    this.#memory.free();
  }

  /** Writes the message header over our scratch memory. */
  #prepare(packetLength: number, controlLength: number): void {
    if (!this.#open) throw gone('the channel was closed');
    const { bytes, address } = this.#memory;
    bytes.fill(0, 0, PACKET_AT);
    bytes.writeBigUInt64LE(BigInt(address + PACKET_AT), IOVEC_AT);
    bytes.writeBigUInt64LE(BigInt(packetLength), IOVEC_AT + 8);
    bytes.writeBigUInt64LE(BigInt(address + IOVEC_AT), 16);
    bytes.writeBigUInt64LE(1n, 24);
    bytes.writeBigUInt64LE(BigInt(address + CONTROL_AT), 32);
    // CMSG_SPACE: what follows is aligned.
    bytes.writeBigUInt64LE(BigInt(Math.ceil(controlLength / 8) * 8), 40);
  }

  #receivedDescriptors(): number[] {
    const { bytes } = this.#memory;
    const controlLength = Number(bytes.readBigUInt64LE(40));
    if (controlLength < CMSG_HEADER_SIZE_BYTES) return [];
    const length = Number(bytes.readBigUInt64LE(CONTROL_AT));
    if (bytes.readInt32LE(CONTROL_AT + 12) !== SCM_RIGHTS) return [];
    const count = Math.min((length - CMSG_HEADER_SIZE_BYTES) / 4, CHANNEL_DESCRIPTOR_COUNT_MAX);
    return Array.from({ length: count }, (_, index) =>
      bytes.readInt32LE(CONTROL_AT + CMSG_HEADER_SIZE_BYTES + 4 * index),
    );
  }

  #transferred(result: number, call: string): number | undefined {
    if (result >= 0) return result;
    const errno = koffi.errno();
    if (errno === EAGAIN || errno === EINTR) return undefined;
    throw gone(`${call}: ${errnoName(errno)}`);
  }
}

function gone(why: string): MemcloudError {
  return new MemcloudError('ERR_HANDOVER', `the other memnode is gone: ${why}`);
}
