/**
 * What /sys/block and /dev tell of network block devices. A device is in use while
 * `/sys/block/nbdN/pid` exists; its size alone does not tell (it may be stale).
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { MemcloudError } from '../../../common/errors.ts';

/** /sys tells sizes in sectors of so many bytes, whatever the device's own. */
const SECTOR_SIZE_BYTES = 512;
const LOOK_INTERVAL_MS = 10;

/** Where to look; tests look elsewhere. */
export interface DeviceTree {
  /** Default `/sys/block`. */
  readonly sysBlock: string;
  /** Default `/dev`. */
  readonly dev: string;
}

const SYSTEM_TREE: DeviceTree = { sysBlock: '/sys/block', dev: '/dev' };

/** The path of a device. */
export function devicePath(index: number): string {
  return `/dev/nbd${index}`;
}

/**
 * The number in `/dev/nbdN`.
 *
 * @throws MemcloudError `ERR_USAGE` when the path is no network block device
 */
export function deviceIndex(device: string): number {
  const match = /^(?:\/dev\/)?nbd(\d{1,5})$/.exec(device);
  if (match === null) {
    throw new MemcloudError('ERR_USAGE', `device: expected /dev/nbdN, got "${device}"`);
  }
  return Number(match[1]);
}

/** The process id that the kernel names as the user of a device; undefined while it is free. */
export function deviceUser(index: number, tree: DeviceTree = SYSTEM_TREE): number | undefined {
  const text = readText(`${tree.sysBlock}/nbd${index}/pid`);
  return text === undefined ? undefined : Number(text);
}

/** The size of a device, 0 while it is not attached. */
export function deviceSizeBytes(index: number, tree: DeviceTree = SYSTEM_TREE): number {
  return Number(readText(`${tree.sysBlock}/nbd${index}/size`) ?? 0) * SECTOR_SIZE_BYTES;
}

/** The indexes of the devices that nobody uses, ascending. */
export function freeDevices(tree: DeviceTree = SYSTEM_TREE): number[] {
  if (!existsSync(tree.sysBlock)) return [];
  return readdirSync(tree.sysBlock)
    .filter((name) => /^nbd\d+$/.test(name))
    .map((name) => Number(name.slice(3)))
    .filter((index) => deviceUser(index, tree) === undefined)
    .sort((a, b) => a - b);
}

/**
 * Waits until the device is there with its size, so that whoever comes next (mkswap) finds it whole.
 *
 * @throws MemcloudError `ERR_TIMEOUT`
 */
export async function waitForDevice(
  index: number,
  sizeBytes: number,
  options: { timeoutMs: number; tree?: DeviceTree },
): Promise<void> {
  const tree = options.tree ?? SYSTEM_TREE;
  const sectors = Math.floor(sizeBytes / SECTOR_SIZE_BYTES) * SECTOR_SIZE_BYTES;
  const ready = (): boolean =>
    deviceSizeBytes(index, tree) === sectors && existsSync(`${tree.dev}/nbd${index}`);
  const what = (): string =>
    `/dev/nbd${index}: expected ${sizeBytes} bytes, it has ${deviceSizeBytes(index, tree)}`;
  await until(ready, options.timeoutMs, what);
}

/** Waits until nobody uses the device. @throws MemcloudError `ERR_TIMEOUT` */
export async function waitUntilFree(
  index: number,
  options: { timeoutMs: number; tree?: DeviceTree },
): Promise<void> {
  const free = (): boolean => deviceUser(index, options.tree) === undefined;
  await until(free, options.timeoutMs, () => `/dev/nbd${index} is still in use`);
}

async function until(
  condition: () => boolean,
  timeoutMs: number,
  what: () => string,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) {
      throw new MemcloudError('ERR_TIMEOUT', `${what()} after ${timeoutMs} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    // Absent is an answer: the device is not there or not in use.
    return undefined;
  }
}
