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
import type { NbdAddress } from '../handshake.ts';
import type { KernelSocket } from '../kernel-socket.ts';
import {
  deviceIndex,
  devicePath,
  deviceSizeBytes,
  deviceUser,
  waitForDevice,
  waitUntilFree,
} from './devices.ts';
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
import { kernelBlockSize, openSockets, type AttachOptions } from './sockets.ts';

export type { AttachOptions } from './sockets.ts';

const DEVICE_TIMEOUT_MS = 10_000;

const { EPERM, EACCES, EBUSY, EINVAL, ENOENT } = koffi.os.errno;

const TIMEOUT_S = 30;
const DEAD_CONNECTION_TIMEOUT_S = 3600;

/** An attached device. */
export class KernelAttachment {
  /** `/dev/nbdN`. */
  readonly device: string;
  /** N. */
  readonly index: number;
  /** Bytes of the device. */
  readonly sizeBytes: number;
  readonly #netlink: NbdNetlinkSocket;
  readonly #options: AttachOptions;
  #onLinkDead: () => void = () => undefined;

  /** @internal Made by {@link attachKernel}. */
  constructor(netlink: NbdNetlinkSocket, index: number, sizeBytes: number, options: AttachOptions) {
    this.#netlink = netlink;
    this.#options = options;
    this.index = index;
    this.device = devicePath(index);
    this.sizeBytes = sizeBytes;
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
  async reconnect(address: NbdAddress | undefined = this.#options.address): Promise<void> {
    const options = { ...this.#options, ...(address === undefined ? {} : { address }) };
    await reconfigure(this.#netlink, this.index, this.sizeBytes, options);
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
    return new KernelAttachment(netlink, index, negotiated.sizeBytes, options);
  } catch (error) {
    netlink.close();
    throw error;
  } finally {
    // The kernel holds its own references; ours must go, or the server never sees an end.
    for (const socket of sockets) socket.close();
  }
}

/**
 * Takes over a device that an earlier process attached: brings fresh sockets, so that requests which
 * its end left hanging are replayed, and watches from now on. This is how a daemon restarts under
 * live swap, as long as it is back within the device's `deadConnectionTimeoutS`.
 *
 * @param options - as for {@link attachKernel}, with the device
 * @throws MemcloudError as {@link attachKernel}; `ERR_NBD_ATTACH` when the device is not attached or
 *   the export has another size
 */
export async function resumeKernel(
  options: AttachOptions & { readonly device: string },
): Promise<KernelAttachment> {
  const index = deviceIndex(options.device);
  if (deviceUser(index) === undefined) {
    throw new MemcloudError('ERR_NBD_ATTACH', `${options.device} is not attached`);
  }
  const netlink = await NbdNetlinkSocket.open();
  try {
    const sizeBytes = deviceSizeBytes(index);
    await reconfigure(netlink, index, sizeBytes, options);
    return new KernelAttachment(netlink, index, sizeBytes, options);
  } catch (error) {
    netlink.close();
    throw error;
  }
}

/**
 * Watches a device that an earlier process attached and whose connection may well be alive: unlike
 * {@link resumeKernel} it connects to nothing. {@link KernelAttachment.reconnect} does when needed.
 *
 * @throws MemcloudError `ERR_NBD_ATTACH` when the device is not attached, `ERR_UNSUPPORTED`
 */
export async function watchKernel(
  options: AttachOptions & { readonly device: string },
): Promise<KernelAttachment> {
  const index = deviceIndex(options.device);
  if (deviceUser(index) === undefined) {
    throw new MemcloudError('ERR_NBD_ATTACH', `${options.device} is not attached`);
  }
  const netlink = await NbdNetlinkSocket.open();
  return new KernelAttachment(netlink, index, deviceSizeBytes(index), options);
}

/** NBD_CMD_RECONFIGURE with fresh sockets to an export of the size that the device has. */
async function reconfigure(
  netlink: NbdNetlinkSocket,
  index: number,
  sizeBytes: number,
  options: AttachOptions,
): Promise<void> {
  const sockets = await openSockets(options);
  try {
    const negotiated = sockets[0]?.export;
    if (negotiated?.sizeBytes !== sizeBytes) {
      throw new MemcloudError(
        'ERR_NBD_ATTACH',
        `${devicePath(index)}: expected an export of ${sizeBytes} bytes, got ${negotiated?.sizeBytes}`,
      );
    }
    await netlink.request(NBD_NETLINK.NBD_CMD_RECONFIGURE, 'NBD_CMD_RECONFIGURE', [
      attributeU32(NBD_NETLINK.NBD_ATTR_INDEX, index),
      ...timeoutAttributes(options),
      socketsAttribute(sockets),
    ]);
  } catch (error) {
    throw explained(error, devicePath(index));
  } finally {
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
