/**
 * One message on a Unix socket with open files beside its bytes (SCM_RIGHTS, unix(7), cmsg(3)), which
 * Node cannot send or take. The `struct msghdr` and all that it points to lie in one piece of memory of
 * our own, laid out by hand for machines where pointers have 8 bytes. Calls never block.
 */
import koffi from 'koffi';
import { NativeMemory } from './native-memory.ts';

const libc = koffi.load(null);
const sendmsgCall = libc.func('intptr_t sendmsg(int fd, uintptr_t message, int flags)');
const recvmsgCall = libc.func('intptr_t recvmsg(int fd, uintptr_t message, int flags)');

/** Linux `socket.h`. */
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_TRUNC_OR_CTRUNC = 0x20 | 0x08;
/** `struct msghdr`: iov at 16, iovlen at 24, control at 32, its length at 40, flags at 48. */
const FLAGS_AT = 48;
const IOVEC_AT = 64;
const CONTROL_AT = 128;
const CMSG_HEADER_SIZE_BYTES = 16;
const DATA_AT = 4096;

/** The most descriptors in one message; the kernel takes 253. */
export const MESSAGE_DESCRIPTOR_COUNT_MAX = 64;

/** See the top of the file. */
export class DescriptorMessage {
  readonly #memory: NativeMemory;
  readonly #sizeMaxBytes: number;

  /** @param sizeMaxBytes - of the bytes of a message */
  constructor(sizeMaxBytes: number) {
    this.#sizeMaxBytes = sizeMaxBytes;
    this.#memory = new NativeMemory(DATA_AT + sizeMaxBytes);
  }

  /**
   * Sends; the descriptors stay the sender's too.
   *
   * @param bytes - at most the size that was named
   * @param descriptors - at most {@link MESSAGE_DESCRIPTOR_COUNT_MAX}
   * @returns bytes sent, or a negative errno
   */
  send(socket: number, bytes: Uint8Array, descriptors: readonly number[]): number {
    const memory = this.#memory.bytes;
    const controlLength = CMSG_HEADER_SIZE_BYTES + 4 * descriptors.length;
    this.#prepare(bytes.length, descriptors.length === 0 ? 0 : controlLength);
    memory.set(bytes, DATA_AT);
    memory.writeBigUInt64LE(BigInt(controlLength), CONTROL_AT);
    memory.writeInt32LE(SOL_SOCKET, CONTROL_AT + 8);
    memory.writeInt32LE(SCM_RIGHTS, CONTROL_AT + 12);
    descriptors.forEach((fd, index) => {
      memory.writeInt32LE(fd, CONTROL_AT + CMSG_HEADER_SIZE_BYTES + 4 * index);
    });
    const flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    return this.#result(Number(sendmsgCall(socket, this.#memory.address, flags)));
  }

  /**
   * Receives.
   *
   * @returns bytes received (0 when the other end closed), or a negative errno; then
   *   {@link DescriptorMessage.data} and {@link DescriptorMessage.descriptors} hold them
   */
  receive(socket: number): number {
    const controlLength = CMSG_HEADER_SIZE_BYTES + 4 * MESSAGE_DESCRIPTOR_COUNT_MAX;
    this.#prepare(this.#sizeMaxBytes, controlLength);
    const flags = MSG_CMSG_CLOEXEC | MSG_DONTWAIT;
    return this.#result(Number(recvmsgCall(socket, this.#memory.address, flags)));
  }

  /** The bytes that came, borrowed until the next call. */
  data(length: number): Buffer {
    return this.#memory.bytes.subarray(DATA_AT, DATA_AT + length);
  }

  /** The descriptors that came; the caller's from now on. */
  descriptors(): number[] {
    const { bytes } = this.#memory;
    if (Number(bytes.readBigUInt64LE(40)) < CMSG_HEADER_SIZE_BYTES) return [];
    if (bytes.readInt32LE(CONTROL_AT + 12) !== SCM_RIGHTS) return [];
    const length = Number(bytes.readBigUInt64LE(CONTROL_AT));
    const count = Math.min((length - CMSG_HEADER_SIZE_BYTES) / 4, MESSAGE_DESCRIPTOR_COUNT_MAX);
    return Array.from({ length: count }, (_, index) =>
      bytes.readInt32LE(CONTROL_AT + CMSG_HEADER_SIZE_BYTES + 4 * index),
    );
  }

  /** True when more came than there was room for. */
  get truncated(): boolean {
    return (this.#memory.bytes.readInt32LE(FLAGS_AT) & MSG_TRUNC_OR_CTRUNC) !== 0;
  }

  /** Frees the memory. */
  free(): void {
    this.#memory.free();
  }

  /** Writes the message header over the memory. */
  #prepare(dataLength: number, controlLength: number): void {
    const { bytes, address } = this.#memory;
    bytes.fill(0, 0, DATA_AT);
    bytes.writeBigUInt64LE(BigInt(address + DATA_AT), IOVEC_AT);
    bytes.writeBigUInt64LE(BigInt(dataLength), IOVEC_AT + 8);
    bytes.writeBigUInt64LE(BigInt(address + IOVEC_AT), 16);
    bytes.writeBigUInt64LE(1n, 24);
    bytes.writeBigUInt64LE(BigInt(address + CONTROL_AT), 32);
    // CMSG_SPACE: what follows is aligned.
    bytes.writeBigUInt64LE(BigInt(Math.ceil(controlLength / 8) * 8), 40);
  }

  #result(transferred: number): number {
    return transferred < 0 ? -koffi.errno() : transferred;
  }
}
