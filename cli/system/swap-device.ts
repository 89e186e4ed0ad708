/**
 * A block device as swap. `--discard=pages` matters: without it the kernel never says which pages
 * it no longer needs, and remote RAM only grows (docs/architecture.md, "What the kernel sends").
 */
import fs from 'node:fs';
import { runTool } from '../../common/tool.ts';
import { formatSize } from '../../common/units.ts';
import { MemoryReading } from './memory-reading.ts';
import { tuneSwapDevice } from './swap-tuning.ts';
import { SystemFiles } from './system-files.ts';

/** One line of /proc/swaps. */
export interface SwapLine {
  /** The device. */
  readonly device: string;
  /** Bytes in all. */
  readonly sizeBytes: number;
  /** Bytes in use. */
  readonly usedBytes: number;
  /** Priority; the kernel fills higher ones first. */
  readonly priority: number;
}

/** The active swap areas. */
export function listSwaps(): SwapLine[] {
  return parseSwaps(fs.readFileSync('/proc/swaps', 'utf8'));
}

/** The swap areas of a text like /proc/swaps. */
export function parseSwaps(text: string): SwapLine[] {
  const lines = text.trim().split('\n').slice(1);
  return lines.map((line) => {
    const [device = '', , size, used, priority] = line.split(/\s+/);
    return {
      device,
      sizeBytes: Number(size) * 1024,
      usedBytes: Number(used) * 1024,
      priority: Number(priority),
    };
  });
}

/**
 * Tunes and formats the device and swaps on it.
 *
 * @param discard - tell the device which pages are free again
 * @returns advice about the machine's own settings, empty when there is none
 * @throws MemcloudError `ERR_NATIVE`, `ERR_UNSUPPORTED`
 */
export async function swapOn(
  device: string,
  priority: number | undefined,
  discard = true,
): Promise<string> {
  const { advice } = tuneSwapDevice(device, new SystemFiles());
  await runTool('mkswap', [device]);
  const priorityArgs = priority === undefined ? [] : ['--priority', String(priority)];
  await runTool('swapon', [...(discard ? ['--discard=pages'] : []), ...priorityArgs, device]);
  return advice;
}

/**
 * Why what lies on a device cannot come back into RAM now; undefined when it can. `swapoff` without
 * room fails half-way, or takes the machine to where it has to kill.
 */
export function returnProblem(device: string, reserveBytes: number): string | undefined {
  const usedBytes = listSwaps().find((line) => line.device === device)?.usedBytes ?? 0;
  const memory = new MemoryReading();
  memory.read();
  memory.close();
  const roomBytes = Math.max(0, memory.freeBytes - reserveBytes);
  if (usedBytes <= roomBytes) return undefined;
  return `${formatSize(usedBytes)} on ${device} do not fit into the ${formatSize(roomBytes)} of RAM to spare`;
}

/** Moves every page back and ends swapping on the device. @throws MemcloudError `ERR_NATIVE` */
export async function swapOff(device: string): Promise<void> {
  await runTool('swapoff', [device]);
}

/** True when two paths name the same block device: /proc/swaps may use another name than we do. */
export function sameDevice(a: string, b: string): boolean {
  if (a === b) return true;
  const [first, second] = [a, b].map((file) => fs.statSync(file, { throwIfNoEntry: false }));
  return first?.isBlockDevice() === true && first.rdev !== 0 && first.rdev === second?.rdev;
}
