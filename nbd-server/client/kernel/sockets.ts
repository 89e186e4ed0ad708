/**
 * The sockets of one device: opened together, negotiated apart, and held to be the same. Several
 * connections are only sound when a flush on one covers the writes of all, which the server says by
 * CAN_MULTI_CONN; and a server that was restarted meanwhile may describe another export.
 */
import { MemcloudError } from '../../../common/errors.ts';
import { NBD_TRANSMISSION_FLAG } from '../../constants.ts';
import type { NbdAddress } from '../handshake.ts';
import { KernelSocket } from '../kernel-socket.ts';
import type { NegotiatedExport } from '../negotiation.ts';

/** The most connections of one device; the kernel makes at most one queue for each processor. */
const CONNECTION_COUNT_MAX = 16;
/** The kernel's block size: a page, which swap needs. Less where the export's size is no multiple. */
const BLOCK_SIZE_MAX = 4096;
const BLOCK_SIZE_MIN = 512;

/** Makes one negotiated socket, for a server that is reached in a way of its own (kTLS). */
export type KernelConnector = () => Promise<KernelSocket>;

/** What to attach and how. */
export interface AttachOptions {
  /** Where the server listens: a Unix socket or TCP, the kernel takes nothing else. */
  readonly address?: NbdAddress;
  /** Makes the sockets instead of connecting to the address; one of the two is needed. */
  readonly connector?: KernelConnector;
  /** The export. */
  readonly exportName: string;
  /** Connections, 1 to 16, default 1; more than one needs a server that says CAN_MULTI_CONN. */
  readonly connections?: number;
  /** `/dev/nbdN`; default: the kernel chooses a free one. */
  readonly device?: string;
  /**
   * A request without an answer for so long kills its connection; 0: never. Seconds, default 30.
   * It is also how long a request that was on a connection when it died waits for its replay, even
   * if a fresh socket came at once: the kernel looks at it again only when this time is over.
   */
  readonly timeoutS?: number;
  /** How long the kernel keeps requests when every connection is dead. Seconds, default 3600. */
  readonly deadConnectionTimeoutS?: number;
  /** Time for each connection's handshake: milliseconds, default 10 s. */
  readonly handshakeTimeoutMs?: number;
}

/**
 * Opens the sockets that the options ask for; the caller closes them.
 *
 * @throws MemcloudError as KernelSocket.connect; `ERR_USAGE`, `ERR_NBD_ATTACH`
 */
export async function openSockets(options: AttachOptions): Promise<KernelSocket[]> {
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
  const { address, connector, exportName, handshakeTimeoutMs: timeoutMs } = options;
  if (connector !== undefined) return connector();
  if (address === undefined)
    throw new MemcloudError('ERR_INTERNAL', 'neither address nor connector');
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
