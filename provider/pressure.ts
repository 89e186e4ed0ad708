/**
 * The owner of the machine comes first: a lease is refused if keeping its promise could leave the
 * host with less than a reserve. Slabs are thin, so what was promised and not yet written is still
 * counted by the kernel as available; the decision subtracts it. The same holds for the room of the
 * tmpfs. Pure: service.ts reads /proc/meminfo and statfs(2) and passes numbers.
 */
import { MemcloudError } from '../common/errors.ts';
import { formatSize } from '../common/units.ts';

/** The RAM of the host, from /proc/meminfo. */
export interface HostMemory {
  /** All of it, bytes. */
  readonly totalBytes: number;
  /** What programs could take without swapping, bytes, as the kernel estimates it. */
  readonly availableBytes: number;
}

const RESERVE_MAX_BYTES = 2 ** 30;
const RESERVE_SHARE = 0.1;

/** The reserve unless the operator sets one: a tenth of the RAM, at most 1 GiB. */
export function defaultReserveBytes(totalBytes: number): number {
  return Math.min(Math.floor(totalBytes * RESERVE_SHARE), RESERVE_MAX_BYTES);
}

/**
 * Reads the text of /proc/meminfo (proc_meminfo(5)).
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` when a line is missing (`MemAvailable` came with Linux 3.14)
 */
export function parseMeminfo(text: string): HostMemory {
  return {
    totalBytes: meminfoBytes(text, 'MemTotal'),
    availableBytes: meminfoBytes(text, 'MemAvailable'),
  };
}

function meminfoBytes(text: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  if (kib === undefined) {
    throw new MemcloudError('ERR_UNSUPPORTED', `/proc/meminfo: expected a line "${name}: N kB"`);
  }
  return Number(kib) * 1024;
}

/** The state of the host when room is asked for. All are bytes. */
export interface HostRoom {
  /** Lent already and not yet written. */
  readonly promisedBytes: number;
  /** What the kernel calls available. */
  readonly availableBytes: number;
  /** What the host keeps. */
  readonly reserveBytes: number;
  /** Free blocks of the tmpfs, Infinity when it has no limit. */
  readonly tmpfsFreeBytes: number;
}

/** Bytes that the host could still give; below 0 when it promised more than it has. */
export function hostFreeBytes(room: HostRoom): number {
  const { availableBytes, reserveBytes, tmpfsFreeBytes, promisedBytes } = room;
  return Math.min(availableBytes - reserveBytes, tmpfsFreeBytes) - promisedBytes;
}

/**
 * Says in a sentence why the host has no room, or returns undefined when it has.
 *
 * @param askedBytes - what a lease or an object may come to hold
 */
export function hostRefusal(askedBytes: number, room: HostRoom): string | undefined {
  const { promisedBytes } = room;
  const memoryFreeBytes = room.availableBytes - promisedBytes - room.reserveBytes;
  if (askedBytes > memoryFreeBytes) {
    return `asked ${formatSize(askedBytes)}, free ${formatSize(Math.max(0, memoryFreeBytes))}: the host keeps ${formatSize(room.reserveBytes)} for itself`;
  }
  const tmpfsFreeBytes = room.tmpfsFreeBytes - promisedBytes;
  if (askedBytes > tmpfsFreeBytes) {
    return `asked ${formatSize(askedBytes)}, free ${formatSize(Math.max(0, tmpfsFreeBytes))} in the tmpfs of the provider`;
  }
  return undefined;
}
