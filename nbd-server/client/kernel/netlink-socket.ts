/**
 * A generic netlink socket through koffi: asks the kernel's `nbd` family and hears its multicasts.
 *
 * A request is carried out by the kernel inside sendto(2), and a disconnect may wait there for the
 * device, so sendto runs on a thread of libuv's pool: a server in this process keeps answering.
 * Replies then lie ready and are taken without blocking. Multicasts are looked for by a timer; Node
 * has no way to wait for such a descriptor, and a thread for each device would cost more.
 */
import os from 'node:os';
import koffi from 'koffi';
import { MemcloudError, asMemcloudError } from '../../../common/errors.ts';
import { throwErrno } from '../../../common/libc.ts';
import {
  GENERIC_CONTROL,
  NBD_NETLINK,
  attributeString,
  decodeAttributeList,
  decodeAttributes,
  decodeMessages,
  decodeText,
  decodeU32,
  encodeGenericRequest,
  type Attribute,
  type Attributes,
  type NetlinkMessage,
} from './netlink-codec.ts';

const libc = koffi.load(null);
const socketCall = libc.func('int socket(int domain, int type, int protocol)');
const bindCall = libc.func('int bind(int fd, void *address, uint32_t length)');
const setsockoptCall = libc.func(
  'int setsockopt(int fd, int level, int option, void *value, uint32_t length)',
);
const sendtoCall = libc.func(
  'intptr_t sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t length2)',
);
const recvCall = libc.func('intptr_t recv(int fd, void *bytes, size_t length, int flags)');
const closeCall = libc.func('int close(int fd)');

/** Linux `socket.h`, `netlink.h`. */
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_GENERIC = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_EXT_ACK = 11;
const SOCKADDR_NL_SIZE_BYTES = 12;

const { EAGAIN, EINTR, ENOBUFS, ENOENT } = koffi.os.errno;

/** A datagram of the kernel is at most a page or 8 KiB; more room costs nothing. */
const DATAGRAM_SIZE_MAX = 32 * 1024;
const REPLY_TIMEOUT_MS = 60_000;
const REPLY_LOOK_INTERVAL_MS = 5;
/** How often multicasts are looked for. A cut is noticed so late at most. */
const MULTICAST_LOOK_INTERVAL_MS = 50;
/** Messages taken in one look, so that a flood cannot hold the event loop. */
const MESSAGES_PER_LOOK_MAX = 64;

/** What the kernel answered with an error. */
export class NetlinkError extends MemcloudError {
  /** Linux errno, positive. */
  readonly errno: number;

  /**
   * @param errno - Linux errno, positive
   * @param message - what was asked and what the kernel said
   */
  constructor(errno: number, message: string) {
    super('ERR_NBD_ATTACH', message);
    this.name = 'NetlinkError';
    this.errno = errno;
  }
}

interface Waiting {
  readonly command: string;
  reply: Attributes | undefined;
  readonly settle: (error: MemcloudError | undefined) => void;
}

/** A socket to the `nbd` family. */
export class NbdNetlinkSocket {
  readonly #fd: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #datagram = Buffer.alloc(DATAGRAM_SIZE_MAX);
  #familyId: number = GENERIC_CONTROL.GENL_ID_CTRL;
  #sequence = 1;
  #open = true;
  #multicastTimer: NodeJS.Timeout | undefined;
  #onMulticast: (command: number, attributes: Attributes) => void = () => undefined;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Opens a socket and finds the family.
   *
   * @throws MemcloudError `ERR_UNSUPPORTED` when the kernel has no nbd module loaded, `ERR_NATIVE`
   */
  static async open(): Promise<NbdNetlinkSocket> {
    if (os.endianness() !== 'LE') {
      throw new MemcloudError('ERR_UNSUPPORTED', 'netlink: expected a little-endian machine');
    }
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const fd = socketCall(AF_NETLINK, type, NETLINK_GENERIC) as number;
    if (fd < 0) throwErrno('socket(AF_NETLINK)');
    const socket = new NbdNetlinkSocket(fd);
    try {
      if (bindCall(fd, netlinkAddress(), SOCKADDR_NL_SIZE_BYTES) !== 0) throwErrno('bind');
      setOption(fd, NETLINK_EXT_ACK, 1);
      await socket.#findFamily();
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  /**
   * Sends a command and waits for its end.
   *
   * @param name - of the command, for messages
   * @returns the attributes of the reply, none when there was only an acknowledgement
   * @throws NetlinkError `ERR_NBD_ATTACH`; MemcloudError `ERR_TIMEOUT`, `ERR_CANCELLED` when closed
   */
  request(command: number, name: string, attributes: readonly Attribute[]): Promise<Attributes> {
    return this.#request(this.#familyId, NBD_NETLINK.VERSION, command, name, attributes);
  }

  /** Hands each multicast of the family to `sink` from now on. The timer does not keep Node alive. */
  onMulticast(sink: (command: number, attributes: Attributes) => void): void {
    this.#onMulticast = sink;
    this.#multicastTimer ??= setInterval(() => this.#receive(), MULTICAST_LOOK_INTERVAL_MS).unref();
  }

  /** Closes the socket; what waits fails with `ERR_CANCELLED`. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#multicastTimer);
    closeCall(this.#fd);
    const error = new MemcloudError('ERR_CANCELLED', 'the netlink socket was closed');
    for (const waiting of [...this.#waiting.values()]) waiting.settle(error);
  }

  async #findFamily(): Promise<void> {
    const { CTRL_VERSION, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME } = GENERIC_CONTROL;
    const name = attributeString(CTRL_ATTR_FAMILY_NAME, NBD_NETLINK.FAMILY_NAME);
    let reply: Attributes;
    try {
      const ctrl = GENERIC_CONTROL.GENL_ID_CTRL;
      reply = await this.#request(ctrl, CTRL_VERSION, CTRL_CMD_GETFAMILY, 'GETFAMILY', [name]);
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === ENOENT) {
        throw new MemcloudError(
          'ERR_UNSUPPORTED',
          'the kernel has no network block device loaded; run: modprobe nbd',
          { cause: error },
        );
      }
      throw error;
    }
    const familyId = reply.get(GENERIC_CONTROL.CTRL_ATTR_FAMILY_ID);
    if (familyId?.length !== 2) {
      throw new MemcloudError('ERR_NATIVE', 'netlink: the family has no id');
    }
    this.#familyId = familyId.readUInt16LE(0);
    const groups = reply.get(GENERIC_CONTROL.CTRL_ATTR_MCAST_GROUPS) ?? Buffer.alloc(0);
    for (const { value } of decodeAttributeList(groups)) {
      const group = decodeAttributes(value);
      const id = decodeU32(group.get(GENERIC_CONTROL.CTRL_ATTR_MCAST_GRP_ID));
      const groupName = decodeText(group.get(GENERIC_CONTROL.CTRL_ATTR_MCAST_GRP_NAME));
      if (id !== undefined && groupName === NBD_NETLINK.MULTICAST_GROUP_NAME) {
        setOption(this.#fd, NETLINK_ADD_MEMBERSHIP, id);
      }
    }
  }

  async #request(
    familyId: number,
    version: number,
    command: number,
    name: string,
    attributes: readonly Attribute[],
  ): Promise<Attributes> {
    if (!this.#open) throw new MemcloudError('ERR_CANCELLED', 'the netlink socket was closed');
    const sequence = this.#sequence++;
    const bytes = encodeGenericRequest({ familyId, version, command, sequence, attributes });
    let look: NodeJS.Timeout | undefined;
    let deadline: NodeJS.Timeout | undefined;
    const reply = new Promise<Attributes>((resolve, reject) => {
      const waiting: Waiting = {
        command: name,
        reply: undefined,
        settle: (error) => {
          this.#waiting.delete(sequence);
          if (error === undefined) resolve(waiting.reply ?? new Map<number, Buffer>());
          else reject(error);
        },
      };
      this.#waiting.set(sequence, waiting);
      deadline = setTimeout(() => {
        const text = `the kernel did not answer ${name} within ${REPLY_TIMEOUT_MS} ms`;
        waiting.settle(new MemcloudError('ERR_TIMEOUT', text));
      }, REPLY_TIMEOUT_MS);
      look = setInterval(() => this.#receive(), REPLY_LOOK_INTERVAL_MS);
      const address = netlinkAddress();
      sendtoCall.async(
        ...[this.#fd, bytes, bytes.length, 0, address, address.length],
        (error: Error | null, sent: number) => {
          // Both buffers are named here so that they live as long as the call.
          if (error !== null || sent !== bytes.length || address.length === 0) {
            waiting.settle(new MemcloudError('ERR_NATIVE', `netlink: sending ${name} failed`));
          } else {
            this.#receive();
          }
        },
      );
    });
    return reply.finally(() => {
      clearInterval(look);
      clearTimeout(deadline);
    });
  }

  #receive(): void {
    for (let count = 0; this.#open && count < MESSAGES_PER_LOOK_MAX; count += 1) {
      const length = recvCall(this.#fd, this.#datagram, this.#datagram.length, 0) as number;
      if (length < 0) {
        const errno = koffi.errno();
        // ENOBUFS: multicasts were dropped; what comes next is whole again.
        if (errno === ENOBUFS || errno === EINTR) continue;
        if (errno !== EAGAIN) this.close();
        return;
      }
      try {
        const datagram = Buffer.from(this.#datagram.subarray(0, length));
        for (const message of decodeMessages(datagram)) this.#onMessage(message);
      } catch (error) {
        for (const waiting of [...this.#waiting.values()]) waiting.settle(asMemcloudError(error));
      }
    }
  }

  #onMessage(message: NetlinkMessage): void {
    const waiting = this.#waiting.get(message.sequence);
    if (message.kind === 'result') {
      if (message.errno === 0) waiting?.settle(undefined);
      else waiting?.settle(kernelError(waiting.command, message.errno, message.text));
    } else if (waiting !== undefined) {
      waiting.reply = message.attributes;
    } else if (message.familyId === this.#familyId) {
      this.#onMulticast(message.command, message.attributes);
    }
  }
}

function kernelError(command: string, errno: number, text: string): NetlinkError {
  const name = Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0];
  const said = text === '' ? '' : ` (${text})`;
  return new NetlinkError(errno, `the kernel refused ${command}: ${name ?? errno}${said}`);
}

/** `sockaddr_nl` of the kernel, and of us before the kernel chose our port. */
function netlinkAddress(): Buffer {
  const address = Buffer.alloc(SOCKADDR_NL_SIZE_BYTES);
  address.writeUInt16LE(AF_NETLINK, 0);
  return address;
}

function setOption(fd: number, option: number, number: number): void {
  const value = Buffer.alloc(4);
  value.writeUInt32LE(number);
  if (setsockoptCall(fd, SOL_NETLINK, option, value, value.length) !== 0) throwErrno('setsockopt');
}
