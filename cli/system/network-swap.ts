/**
 * Swap areas that need the network: those whose device is a network block device, directly or under
 * device-mapper or md. The kernel's own tables say so, whoever made the area and whether or not a
 * daemon lives.
 */
import fs from 'node:fs';
import path from 'node:path';
import { listSwaps, type SwapLine } from './swap-device.ts';

/** A swap area on the network. */
export interface NetworkSwap extends SwapLine {
  /** The network block devices at its bottom, such as `/dev/nbd0`. */
  readonly nbdDevices: readonly string[];
}

/** Device-mapper tables are stacked a few levels deep at most. */
const STACK_DEPTH_MAX = 8;

/** Where the kernel tells of devices; tests have their own. */
export interface DeviceTree {
  /** Active areas. */
  readonly swaps: () => SwapLine[];
  /** `/sys/dev/block`. */
  readonly sysDevBlock: string;
  /** `MAJOR:MINOR` of a device; undefined when there is none. */
  readonly numberOf: (device: string) => string | undefined;
}

/** This machine's. */
export const machineDevices: DeviceTree = {
  swaps: listSwaps,
  sysDevBlock: '/sys/dev/block',
  numberOf: (device) => {
    const found = fs.statSync(device, { throwIfNoEntry: false });
    if (found?.isBlockDevice() !== true) return undefined;
    // makedev(3) of Linux: 12 bits of major above 8 bits of minor, the rest of the minor above.
    const major = Math.floor(found.rdev / 256) % 4096;
    const minor = (found.rdev % 256) + Math.floor(found.rdev / 2 ** 20) * 256;
    return `${major}:${minor}`;
  },
};

/** The active swap areas that lie on the network. */
export function networkSwaps(devices: DeviceTree = machineDevices): NetworkSwap[] {
  return devices.swaps().flatMap((line) => {
    const number = devices.numberOf(line.device);
    const place = number === undefined ? '' : path.join(devices.sysDevBlock, number);
    const nbdDevices = [...new Set(bottoms(place, 0))].filter((name) => /^nbd\d+$/.test(name));
    if (nbdDevices.length === 0) return [];
    return [{ ...line, nbdDevices: nbdDevices.map((name) => `/dev/${name}`) }];
  });
}

/** Names of the devices under one, itself when it stands on no other. */
function bottoms(place: string, depth: number): string[] {
  try {
    const folder = fs.realpathSync(place);
    const slaves = path.join(folder, 'slaves');
    const names = fs.existsSync(slaves) ? fs.readdirSync(slaves) : [];
    if (names.length === 0 || depth === STACK_DEPTH_MAX) return [path.basename(folder)];
    return names.flatMap((name) => bottoms(path.join(slaves, name), depth + 1));
  } catch {
    return [];
  }
}
