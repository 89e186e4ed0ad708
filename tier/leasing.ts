/**
 * Asking providers for slabs: one after the other, as placement chooses, until there are copies
 * enough. What was granted is the caller's; who was only slow to answer is told from who has no room.
 */
import { ExitCode, asMemcloudError } from '../common/errors.ts';
import { hostOf, takesSlabs } from '../common/slab-sources.ts';
import type { SlabSource } from '../common/ports.ts';
import { SEALED_PAGE_SIZE_BYTES } from '../common/units.ts';
import { placeCopy, type PlacedCopy } from './placement.ts';
import type { VolumeState } from './volume-state.ts';

/** A lease that a provider granted. */
export interface Grant {
  readonly source: SlabSource;
  readonly leaseId: string;
  readonly slabHandle: number;
  /** The time to live that it granted, milliseconds. */
  readonly ttlMs: number;
}

/** What became of asking. */
export interface Asked {
  /** Grants, at most as many as wanted. */
  readonly granted: readonly Grant[];
  /** A provider that could take a copy has no room for it, or refused it. */
  readonly full: boolean;
  /** A provider did not answer. */
  readonly unanswered: boolean;
}

/** Asks. */
export class Leasing {
  readonly #state: VolumeState;
  /** When a source was first seen up: slow start counts from there. */
  readonly #seenAtMs = new WeakMap<SlabSource, number>();

  constructor(state: VolumeState) {
    this.#state = state;
  }

  /** Takes note of who is up. */
  tick(nowMs: number): void {
    for (const source of this.#state.world.sources.list()) {
      if (source.up && !this.#seenAtMs.has(source)) this.#seenAtMs.set(source, nowMs);
    }
  }

  /** Sources that could take a copy if they had room. */
  #eligible(): SlabSource[] {
    return this.#state.world.sources.list().filter(takesSlabs);
  }

  /** Machines, beside those of `held`, that could take a copy if they had room. */
  eligibleHostCount(held: readonly SlabSource[]): number {
    const hosts = new Set(this.#eligible().map(hostOf));
    for (const source of held) hosts.delete(hostOf(source));
    return hosts.size;
  }

  /**
   * Asks for slabs.
   *
   * @param pageCount - of each
   * @param wanted - how many, each on another machine
   * @param held - who has the slab already
   * @param orSpill - when nobody grants any, take room in the spill file if there is one
   */
  async ask(
    pageCount: number,
    wanted: number,
    held: readonly SlabSource[],
    orSpill: boolean,
  ): Promise<Asked> {
    const { options, world } = this.#state;
    const asked = new Set<SlabSource>(held);
    const placed: PlacedCopy[] = held.map(placeOf);
    const granted: Grant[] = [];
    const needBytes = pageCount * SEALED_PAGE_SIZE_BYTES;
    let unanswered = false;
    while (granted.length < wanted && !this.#state.closed) {
      const nowMs = world.clock.nowMs();
      const candidates = this.#eligible()
        .filter((source) => !asked.has(source))
        .map((source) => ({
          source,
          ...placeOf(source),
          freeBytes: source.usage.offeredBytes - source.usage.usedBytes,
          roundTripMs: source.roundTripMs,
          knownMs: nowMs - (this.#seenAtMs.get(source) ?? nowMs),
        }));
      const source = placeCopy(candidates, needBytes, placed, world.random)?.source;
      if (source === undefined) break;
      asked.add(source);
      try {
        granted.push({ source, ...(await source.lease({ pageCount, ttlMs: options.leaseTtlMs })) });
        placed.push(placeOf(source));
      } catch (error) {
        const { code, message, exitCode } = asMemcloudError(error);
        if (exitCode === ExitCode.RETRYABLE) unanswered = true;
        const provider = source.nodeName;
        world.logger.warn({ provider, code }, `lease refused: ${message}`);
      }
    }
    const { spill } = world;
    if (orSpill && granted.length === 0 && spill?.up === true && !held.includes(spill)) {
      const grant = await this.#spill(spill, pageCount);
      if (grant !== undefined) return { granted: [grant], full: false, unanswered };
    }
    const holders = [...held, ...granted.map(({ source }) => source)];
    const full = granted.length < wanted && this.eligibleHostCount(holders) > 0;
    return { granted, full, unanswered };
  }

  /** True when there is a spill file that has room and not the slab. */
  maySpill(held: readonly SlabSource[]): boolean {
    const { spill } = this.#state.world;
    if (spill?.up !== true || held.includes(spill)) return false;
    return spill.usage.usedBytes < spill.usage.offeredBytes;
  }

  async #spill(source: SlabSource, pageCount: number): Promise<Grant | undefined> {
    const { options, world } = this.#state;
    try {
      return { source, ...(await source.lease({ pageCount, ttlMs: options.leaseTtlMs })) };
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      world.logger.warn({ code }, `spill: ${message}`);
      return undefined;
    }
  }
}

function placeOf(source: SlabSource): PlacedCopy {
  return { host: hostOf(source), zone: source.zone };
}
