/** What a memnode carries that its end would take away, and the wait for that end. */
import { MemcloudError } from '../../common/errors.ts';
import { processStart } from '../../common/process-start.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';
import { printable } from '../output.ts';

const LOOK_INTERVAL_MS = 50;

/** Swap of this machine on the daemon, as `swap ls` knows it. */
export interface SwapUse {
  /** The device. */
  readonly device: string;
  /** Bytes of pages on it. */
  readonly usedBytes: number;
}

/** Why the daemon must not end: swap, of this machine or of another, lies on it. */
export function swapOnNode(status: StatusInfo, swaps: readonly SwapUse[]): string[] {
  return [
    ...swaps.map(({ device, usedBytes }) => {
      return `this machine swaps on ${device} (${formatSize(usedBytes)} in use): memcloud swap off`;
    }),
    ...status.directExports
      .filter(({ residentBytes, connected }) => connected || residentBytes > 0)
      .map(({ holder, residentBytes }) => {
        const size = formatSize(residentBytes);
        return `${printable(holder)} has ${size} of its swap here: memcloud drain`;
      }),
  ];
}

/** What goes with the daemon and does nobody harm who knows it: sentences. */
export function endingWith(status: StatusInfo): string[] {
  const { mounts, volumes, provider } = status;
  const it = (all: readonly unknown[]): string => (all.length === 1 ? 'it' : 'them');
  const count = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;
  return [
    ...(mounts.length === 0
      ? []
      : [`${count(mounts.length, 'mount')} and the files in ${it(mounts)}`]),
    ...(volumes.length === 0
      ? []
      : [`${count(volumes.length, 'volume')} and the pages in ${it(volumes)}`]),
    ...(provider.usage.leaseCount === 0
      ? []
      : [`${count(provider.usage.leaseCount, 'lease')} of other machines`]),
  ];
}

/**
 * Waits until a process is gone.
 *
 * @param start - of common/process-start.ts: a later process with the same number is another one
 * @throws MemcloudError `ERR_TIMEOUT`
 */
export async function waitForEnd(
  pid: number,
  start: string | undefined,
  timeoutMs: number,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (start !== undefined && processStart(pid) === start) {
    if (performance.now() > deadlineMs) {
      throw new MemcloudError(
        'ERR_TIMEOUT',
        `memnode (process ${pid}) was asked to end and still runs after ${timeoutMs / 1000} s`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}
