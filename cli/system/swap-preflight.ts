/**
 * May swap be turned off now? swapoff(2) reads every page of the device back into RAM. When there is
 * no room for them the kernel reclaims, and at last kills programs, or fails with ENOMEM half-way.
 * So the room is counted first: MemAvailable, which leaves the kernel's own reserves out (Linux
 * Documentation/filesystems/proc.rst), and what is free on swap areas that stay, less a floor for
 * programs that grow meanwhile.
 *
 * zram does not count as room: what goes there takes RAM. Pages that are on the device and in RAM at
 * once (SwapCached) count as needing room, so that the verdict errs towards no.
 */
import { MemcloudError } from '../../common/errors.ts';
import { formatSize } from '../../common/units.ts';
import type { SwapLine } from './swap-device.ts';
import type { SystemFiles } from './system-files.ts';

/** Kept free for programs that grow while pages come back: a sixteenth of the RAM, at most this. */
const FLOOR_MAX_BYTES = 256 * 2 ** 20;
const FLOOR_SHARE = 16;

/** What the decision is made of, bytes. */
export interface SwapOffFacts {
  /** RAM of the machine. */
  readonly memoryBytes: number;
  /** MemAvailable. */
  readonly availableBytes: number;
  /** Every swap area. */
  readonly swaps: readonly SwapLine[];
  /** The areas to be turned off. */
  readonly devices: readonly string[];
}

/** The decision, with its numbers in bytes. */
export interface SwapOffVerdict {
  /** Whether the pages have room. */
  readonly safe: boolean;
  /** To be moved. */
  readonly usedBytes: number;
  /** RAM, and free room on swap areas that stay. */
  readonly availableBytes: number;
  /** Free on swap areas that stay. */
  readonly otherSwapBytes: number;
  /** Kept free. */
  readonly floorBytes: number;
}

/** Decides; pure. */
export function judgeSwapOff(facts: SwapOffFacts): SwapOffVerdict {
  const leaving = new Set(facts.devices);
  let usedBytes = 0;
  let otherSwapBytes = 0;
  for (const { device, sizeBytes, usedBytes: used } of facts.swaps) {
    if (leaving.has(device)) usedBytes += used;
    else if (!/\/zram\d+$/.test(device)) otherSwapBytes += sizeBytes - used;
  }
  const { availableBytes, memoryBytes } = facts;
  const floorBytes = Math.min(Math.floor(memoryBytes / FLOOR_SHARE), FLOOR_MAX_BYTES);
  const safe = usedBytes === 0 || usedBytes + floorBytes <= availableBytes + otherSwapBytes;
  return { safe, usedBytes, availableBytes, otherSwapBytes, floorBytes };
}

/** Why not, with the numbers and what to do. */
export function explainSwapOff(verdict: SwapOffVerdict, devices: readonly string[]): string {
  const { usedBytes, availableBytes, otherSwapBytes, floorBytes } = verdict;
  const missing = usedBytes + floorBytes - availableBytes - otherSwapBytes;
  return (
    `swap off would run this machine out of memory: ${formatSize(usedBytes)} on ` +
    `${devices.join(', ')} have to come back, and ${formatSize(floorBytes)} should stay free, but ` +
    `there are ${formatSize(availableBytes)} of RAM and ${formatSize(otherSwapBytes)} on other swap ` +
    `areas. End programs that hold ${formatSize(missing)} or turn other swap on first, and try ` +
    `again; or, knowing the risk, add --force.`
  );
}

/** The facts of this machine; what cannot be read counts as no room. */
export function swapOffFacts(
  files: SystemFiles,
  swaps: readonly SwapLine[],
  devices: readonly string[],
): SwapOffFacts {
  const text = files.read('/proc/meminfo') ?? '';
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return { memoryBytes: bytes('MemTotal'), availableBytes: bytes('MemAvailable'), swaps, devices };
}

/** @throws MemcloudError `ERR_SWAP_UNSAFE` when what is on the devices has no room elsewhere */
export function requireRoomForSwapOff(
  files: SystemFiles,
  swaps: readonly SwapLine[],
  devices: readonly string[],
): void {
  const verdict = judgeSwapOff(swapOffFacts(files, swaps, devices));
  if (verdict.safe) return;
  throw new MemcloudError('ERR_SWAP_UNSAFE', explainSwapOff(verdict, devices));
}
