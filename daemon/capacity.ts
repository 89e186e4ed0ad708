/** Whether the pool has room for a volume, said before anything is made. */
import os from 'node:os';
import type { SlabSource } from '../common/ports.ts';
import { hostOf } from '../common/slab-sources.ts';
import { formatSize } from '../common/units.ts';

/** A provider that is up. */
export interface FreeRoom {
  /** What people call it. */
  readonly name: string;
  /** The machine that it runs on. */
  readonly host: string;
  /** Bytes that it could still lend, by its last word. */
  readonly freeBytes: number;
}

/** The room of a source, by its last word. */
export function roomOf(source: SlabSource): FreeRoom {
  const { offeredBytes, usedBytes } = source.usage;
  return { name: source.nodeName, host: hostOf(source), freeBytes: offeredBytes - usedBytes };
}

/**
 * Room in this machine's RAM for another process, beside what the daemon lends.
 *
 * @param memory - as the provider saw it last; 0 before its first look, when the system is asked
 */
export function localRoom(
  source: SlabSource,
  memory: { readonly availableBytes: number; readonly reserveBytes: number },
): FreeRoom {
  const availableBytes = memory.availableBytes || os.freemem();
  return { ...roomOf(source), freeBytes: availableBytes - memory.reserveBytes };
}

/** A volume to be. */
export interface CapacityNeed {
  /** Bytes of the volume. */
  readonly sizeBytes: number;
  /** Providers for each page. */
  readonly copies: number;
  /** Take the volume although the pool is smaller; writes fail once it is full. */
  readonly overcommit: boolean;
}

/**
 * What a volume would need and the pool has not.
 *
 * @returns a sentence with the numbers; undefined when there is enough
 */
export function capacityProblem(
  need: CapacityNeed,
  providers: readonly FreeRoom[],
): string | undefined {
  const { sizeBytes, copies, overcommit } = need;
  const hosts = new Set(providers.map(({ host }) => host));
  if (hosts.size < copies) {
    const names = providers.map(({ name }) => name).join(', ') || 'none';
    const places = copies === 1 ? '1 provider that is' : `providers on ${copies} machines that are`;
    const copyWord = copies === 1 ? '1 copy needs' : `${copies} copies need`;
    return (
      `${copyWord} ${places} up; up now: ${names}` +
      (providers.length >= copies ? ', which run on the same machine' : '')
    );
  }
  const total = providers.reduce((sum, { freeBytes }) => sum + Math.max(0, freeBytes), 0);
  if (overcommit || total >= sizeBytes * copies) return undefined;
  return (
    `${copies === 1 ? '1 copy' : `${copies} copies`} of ${formatSize(sizeBytes)} need ${formatSize(sizeBytes * copies)}, the ` +
    `providers that are up have ${formatSize(total)} free; take less, or --overcommit`
  );
}
