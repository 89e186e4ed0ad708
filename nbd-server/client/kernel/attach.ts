/**
 * Attaches an NBD export to the kernel as /dev/nbdN, by generic netlink: sockets are connected and
 * negotiated here, their descriptors go to the kernel with NBD_CMD_CONNECT, and no process of ours
 * stands in the data path afterwards. Whoever attached keeps the {@link KernelAttachment}: newer
 * kernels may tie the device to the netlink socket, and it hears when a connection dies.
 *
 * A dead connection does not end the device. The kernel keeps its requests for
 * `deadConnectionTimeoutS` and replays them when NBD_CMD_RECONFIGURE brings a fresh socket, which
 * replaces dead ones only. Source: Linux `drivers/block/nbd.c`, `nbd-netlink.h`.
 */
import koffi from 'koffi';
import { MemcloudError } from '../../../common/errors.ts';
import { NBD_TRANSMISSION_FLAG } from '../../constants.ts';
import type { NbdAddress } from '../handshake.ts';
import { KernelSocket } from '../kernel-socket.ts';
import type { NegotiatedExport } from '../negotiation.ts';
import { deviceIndex, devicePath, deviceUser, waitForDevice, waitUntilFree } from './devices.ts';
import {
  NBD_NETLINK,
  attributeNest,
  attributeU32,
  attributeU64,
  decodeAttributeList,
  decodeAttributes,
  decodeU32,
  type Attribute,
} from './netlink-codec.ts';
import { NbdNetlinkSocket, NetlinkError } from './netlink-socket.ts';

const DEVICE_TIMEOUT_MS = 10_000;
/** The most connections of one device; the kernel makes at most one queue for each processor. */
const CONNECTION_COUNT_MAX = 16;
/** The kernel's block size: a page, which swap needs. Less where the export's size is no multiple. */
const BLOCK_SIZE_MAX = 4096;
const BLOCK_SIZE_MIN = 512;

const { EPERM, EACCES, EBUSY, EINVAL, ENOENT } = koffi.os.errno;

/** Makes one negotiated socket, for a server that is reached in a way of its own (kTLS). */
export type KernelConnector = () => Promise<KernelSocket>;

/** What to attach and how. */
export interface AttachOptions {
  /** Where the server listens, a Unix socket or TCP (the kernel takes nothing else), or who connects. */
  readonly address: NbdAddress | KernelConnector;
  /** The export. */
  readonly exportName: string;
  /** Connections, 1 to 16, default 1; more than one needs a server that says CAN_MULTI_CONN. */
  readonly connections?: number;
  /** `/dev/nbdN`; default: the kernel chooses a free one. */
  readonly device?: string;
  /** A request without an answer for so long kills its connection; 0: never. Seconds, default 30. */
  readonly timeoutS?: number;
  /** How long the kernel keeps requests when every connection is dead. Seconds, default 3600. */
  readonly deadConnectionTimeoutS?: number;
  /** Time for each connection's handshake: milliseconds, default 10 s. */
  readonly handshakeTimeoutMs?: number;
}

const TIMEOUT_S = 30;
const DEAD_CONNECTION_TIMEOUT_S = 3600;

/** An attached device. */
export class KernelAttachment {
  /** `/dev/nbdN`. */
  readonly device: string;
  /** N. */
  readonly index: number;
  /** What the server said of the export. */
  readonly export: NegotiatedExport;
  readonly #netlink: NbdNetlinkSocket;
  readonly #options: AttachOptions;
  #onLinkDead: () => void = () => undefined;

  /** @internal Made by {@link attachKernel}. */
  constructor(
    netlink: NbdNetlinkSocket,
    index: number,
    negotiated: NegotiatedExport,
    options: AttachOptions,
  ) {
    this.#netlink = netlink;
    this.#options = options;
    this.index = index;
    this.device = devicePath(index);
    this.export = negotiated;
    netlink.onMulticast((command, attributes) => {
      if (command !== NBD_NETLINK.NBD_CMD_LINK_DEAD) return;
      if (decodeU32(attributes.get(NBD_NETLINK.NBD_ATTR_INDEX)) === index) this.#onLinkDead();
    });
  }

  /** Calls `sink` each time a connection of the device dies; the answer is {@link KernelAttachment.reconnect}. */
  onLinkDead(sink: () => void): void {
    this.#onLinkDead = sink;
  }

  /**
   * Gives the kernel fresh sockets in place of dead ones; requests in flight are then replayed. Call
   * it after {@link KernelAttachment.onLinkDead}: the kernel ignores sockets that replace nothing.
   *
   * @param address - where the server is now; default: where it was
   * @throws MemcloudError as {@link attachKernel}; `ERR_NBD_ATTACH` when the export has another size
   */
  async reconnect(address: NbdAddress | KernelConnector = this.#options.address): Promise<void> {
    const sockets = await openSockets({ ...this.#options, address });
    try {
      const { sizeBytes } = this.export;
      if (sockets[0]?.export.sizeBytes !== sizeBytes) {
        throw new MemcloudError(
          'ERR_NBD_ATTACH',
          `${this.device}: expected an export of ${sizeBytes} bytes, got ${sockets[0]?.export.sizeBytes}`,
        );
      }
      await this.#netlink.request(NBD_NETLINK.NBD_CMD_RECONFIGURE, 'NBD_CMD_RECONFIGURE', [
        attributeU32(NBD_NETLINK.NBD_ATTR_INDEX, this.index),
        ...timeoutAttributes(this.#options),
        socketsAttribute(sockets),
      ]);
    } finally {
      for (const socket of sockets) socket.close();
    }
  }

  /** Takes the device away: {@link detachKernel} with this netlink socket, then {@link KernelAttachment.close}. */
  async detach(): Promise<void> {
    try {
      await disconnect(this.#netlink, this.index);
    } finally {
      this.close();
    }
  }

  /** Stops watching; the device stays. */
  close(): void {
    this.#netlink.close();
  }
}

/**
 * Attaches.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` when the nbd module is not loaded, `ERR_NBD_ATTACH` when
 *   the kernel refuses (no permission, device in use), `ERR_NBD_CLOSED`, `ERR_TIMEOUT`,
 *   `ERR_NBD_PROTOCOL`, `ERR_NBD_OPTION`, `ERR_NBD_EXPORT_UNKNOWN`, `ERR_USAGE`
 */
export async function attachKernel(options: AttachOptions): Promise<KernelAttachment> {
  const wanted = options.device === undefined ? undefined : deviceIndex(options.device);
  const netlink = await NbdNetlinkSocket.open();
  let sockets: KernelSocket[] = [];
  try {
    sockets = await openSockets(options);
    const negotiated = sockets[0]?.export;
    if (negotiated === undefined) throw new MemcloudError('ERR_INTERNAL', 'no socket was opened');
    const reply = await netlink
      .request(NBD_NETLINK.NBD_CMD_CONNECT, 'NBD_CMD_CONNECT', [
        ...(wanted === undefined ? [] : [attributeU32(NBD_NETLINK.NBD_ATTR_INDEX, wanted)]),
        attributeU64(NBD_NETLINK.NBD_ATTR_SIZE_BYTES, negotiated.sizeBytes),
        attributeU64(NBD_NETLINK.NBD_ATTR_BLOCK_SIZE_BYTES, kernelBlockSize(negotiated)),
        attributeU64(NBD_NETLINK.NBD_ATTR_SERVER_FLAGS, negotiated.transmissionFlags),
        attributeU64(NBD_NETLINK.NBD_ATTR_CLIENT_FLAGS, 0),
        ...timeoutAttributes(options),
        socketsAttribute(sockets),
      ])
      .catch((error: unknown) => {
        throw explained(error, options.device ?? 'a network block device');
      });
    const index = decodeU32(reply.get(NBD_NETLINK.NBD_ATTR_INDEX)) ?? wanted;
    if (index === undefined) {
      throw new MemcloudError('ERR_NBD_ATTACH', 'the kernel did not say which device it attached');
    }
    try {
      const sizeBytes = negotiated.sizeBytes;
      await waitForDevice(index, sizeBytes, { timeoutMs: DEVICE_TIMEOUT_MS });
    } catch (error) {
      await disconnect(netlink, index).catch(() => undefined);
      throw error;
    }
    return new KernelAttachment(netlink, index, negotiated, options);
  } catch (error) {
    netlink.close();
    throw error;
  } finally {
    // The kernel holds its own references; ours must go, or the server never sees an end.
    for (const socket of sockets) socket.close();
  }
}

/**
 * Takes a device away, whoever attached it: requests in flight fail, the server gets DISC.
 *
 * @param device - `/dev/nbdN`; it must not be mounted or swapped to
 * @throws MemcloudError `ERR_NBD_ATTACH` when the kernel refuses or the device is not attached,
 *   `ERR_UNSUPPORTED`, `ERR_TIMEOUT`
 */
export async function detachKernel(device: string): Promise<void> {
  const index = deviceIndex(device);
  const netlink = await NbdNetlinkSocket.open();
  try {
    await disconnect(netlink, index);
  } finally {
    netlink.close();
  }
}

/** True while the kernel says that the device is attached (NBD_CMD_STATUS). Errors as {@link detachKernel}. */
export async function isAttached(device: string): Promise<boolean> {
  const index = deviceIndex(device);
  if (deviceUser(index) === undefined) return false;
  const netlink = await NbdNetlinkSocket.open();
  try {
    return (await connectedDevices(netlink, index)).includes(index);
  } catch (error) {
    throw explained(error, device);
  } finally {
    netlink.close();
  }
}

async function connectedDevices(netlink: NbdNetlinkSocket, index: number): Promise<number[]> {
  const reply = await netlink.request(NBD_NETLINK.NBD_CMD_STATUS, 'NBD_CMD_STATUS', [
    attributeU32(NBD_NETLINK.NBD_ATTR_INDEX, index),
  ]);
  return decodeDeviceList(reply.get(NBD_NETLINK.NBD_ATTR_DEVICE_LIST) ?? Buffer.alloc(0));
}

async function disconnect(netlink: NbdNetlinkSocket, index: number): Promise<void> {
  if (deviceUser(index) === undefined) {
    throw new MemcloudError('ERR_NBD_ATTACH', `${devicePath(index)} is not attached`);
  }
  try {
    const attribute = attributeU32(NBD_NETLINK.NBD_ATTR_INDEX, index);
    await netlink.request(NBD_NETLINK.NBD_CMD_DISCONNECT, 'NBD_CMD_DISCONNECT', [attribute]);
  } catch (error) {
    throw explained(error, devicePath(index));
  }
  await waitUntilFree(index, { timeoutMs: DEVICE_TIMEOUT_MS });
}

async function openSockets(options: AttachOptions): Promise<KernelSocket[]> {
  const count = options.connections ?? 1;
  if (!Number.isInteger(count) || count < 1 || count > CONNECTION_COUNT_MAX) {
    throw new MemcloudError(
      'ERR_USAGE',
      `connections: expected 1 to ${CONNECTION_COUNT_MAX}, got ${count}`,
    );
  }
  const sockets: KernelSocket[] = [];
  try {
    while (sockets.length < count) {
      sockets.push(await openSocket(options));
      checkSame(sockets, count);
    }
    return sockets;
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw error;
  }
}

function openSocket(options: AttachOptions): Promise<KernelSocket> {
  const { address, exportName, handshakeTimeoutMs: timeoutMs } = options;
  if (typeof address === 'function') return address();
  return KernelSocket.connect(address, {
    exportName,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
}

/** Every connection must lead to the same export, and several are the server's to allow. */
function checkSame(sockets: readonly KernelSocket[], count: number): void {
  const first = sockets[0]?.export;
  const last = sockets.at(-1)?.export;
  if (first === undefined || last === undefined) return;
  const { NBD_FLAG_CAN_MULTI_CONN } = NBD_TRANSMISSION_FLAG;
  if (count > 1 && (first.transmissionFlags & NBD_FLAG_CAN_MULTI_CONN) === 0) {
    throw new MemcloudError(
      'ERR_NBD_ATTACH',
      `the NBD server allows one connection (no CAN_MULTI_CONN), not ${count}`,
    );
  }
  const same =
    first.sizeBytes === last.sizeBytes && first.transmissionFlags === last.transmissionFlags;
  if (!same) {
    throw new MemcloudError(
      'ERR_NBD_ATTACH',
      'the NBD server described the export in two ways; was it restarted?',
    );
  }
}

/**
 * The block size for the kernel: a page, unless the export's size is no whole number of them.
 *
 * @throws MemcloudError `ERR_NBD_ATTACH` when the server wants larger blocks than the kernel takes
 */
export function kernelBlockSize(negotiated: NegotiatedExport): number {
  const { minimum } = negotiated.blockSize;
  let size = BLOCK_SIZE_MAX;
  while (size > BLOCK_SIZE_MIN && negotiated.sizeBytes % size !== 0) size /= 2;
  if (minimum > size) {
    throw new MemcloudError(
      'ERR_NBD_ATTACH',
      `block size: the kernel takes at most ${size} bytes here, the server needs ${minimum}`,
    );
  }
  return size;
}

/** The indexes in NBD_ATTR_DEVICE_LIST whose device is connected. */
function decodeDeviceList(list: Buffer): number[] {
  const connected: number[] = [];
  for (const { value } of decodeAttributeList(list)) {
    const device = decodeAttributes(value);
    const index = decodeU32(device.get(NBD_NETLINK.NBD_DEVICE_INDEX));
    const flag = device.get(NBD_NETLINK.NBD_DEVICE_CONNECTED);
    if (index !== undefined && flag?.length === 1 && flag[0] === 1) connected.push(index);
  }
  return connected;
}

function timeoutAttributes(options: AttachOptions): Attribute[] {
  const { timeoutS = TIMEOUT_S, deadConnectionTimeoutS = DEAD_CONNECTION_TIMEOUT_S } = options;
  return [
    attributeU64(NBD_NETLINK.NBD_ATTR_TIMEOUT, timeoutS),
    attributeU64(NBD_NETLINK.NBD_ATTR_DEAD_CONN_TIMEOUT, deadConnectionTimeoutS),
  ];
}

function socketsAttribute(sockets: readonly KernelSocket[]): Attribute {
  const items = sockets.map(({ fd }) =>
    attributeNest(NBD_NETLINK.NBD_SOCK_ITEM, [attributeU32(NBD_NETLINK.NBD_SOCK_FD, fd)]),
  );
  return attributeNest(NBD_NETLINK.NBD_ATTR_SOCKETS, items);
}

/** The kernel's errors in words that say what to do. */
function explained(error: unknown, device: string): unknown {
  if (!(error instanceof NetlinkError)) return error;
  const say = (text: string): MemcloudError =>
    new MemcloudError('ERR_NBD_ATTACH', text, { cause: error });
  switch (error.errno) {
    case EPERM:
    case EACCES:
      return say(`attaching ${device} needs root (CAP_SYS_ADMIN); run it with sudo`);
    case EBUSY:
      return say(`${device} is in use; name another one or leave the choice to the kernel`);
    case ENOENT:
      return say(`there is no ${device}; reload the module with more: modprobe nbd nbds_max=16`);
    case EINVAL:
      return say(
        `${device}: the kernel refused: ${error.message}; is it attached, and is it ours?`,
      );
    default:
      return error;
  }
}
