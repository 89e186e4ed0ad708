/**
 * Keeping leases alive: all of them are renewed at a quarter of the shortest time to live that a provider
 * granted, and those on a provider that was away as soon as it is back, by which it proves what it still
 * has.
 */
import { asMemcloudError } from '../common/errors.ts';
import type { SlabSource } from '../common/ports.ts';
import type { Replica } from './replica.ts';
import type { SourceLink } from './source-link.ts';
import type { VolumeState } from './volume-state.ts';

/** Whose leases are renewed. */
export interface LeaseHolders<Slab> {
  /** The copies on a link, with their slabs. */
  heldOn(link: SourceLink): { slab: Slab; replica: Replica }[];
  /** The provider no longer has the lease of a copy. */
  onLeaseGone(slab: Slab, replica: Replica): void;
}

/** Renews and gives back. */
export class LeaseRenewal<Slab> {
  readonly #state: VolumeState;
  readonly #holders: LeaseHolders<Slab>;
  #renewedAtMs: number;
  #ttlMs: number;

  constructor(state: VolumeState, holders: LeaseHolders<Slab>) {
    this.#state = state;
    this.#holders = holders;
    this.#renewedAtMs = state.world.clock.nowMs();
    this.#ttlMs = state.options.leaseTtlMs;
  }

  /** The shortest time to live that a provider granted, milliseconds. */
  get ttlMs(): number {
    return this.#ttlMs;
  }

  /** A provider granted a lease. */
  onGrant(link: SourceLink, ttlMs: number): void {
    this.#ttlMs = Math.min(this.#ttlMs, ttlMs);
    if (!Number.isNaN(link.leasesEndAtMs)) return;
    link.leasesEndAtMs = this.#state.world.clock.nowMs() + this.#ttlMs;
  }

  /** Everything is renewed at the next tick. */
  hasten(): void {
    this.#renewedAtMs = -Infinity;
  }

  /** Renews what is due. */
  tick(nowMs: number, links: readonly SourceLink[]): void {
    const due = nowMs - this.#renewedAtMs >= this.#ttlMs / 4;
    if (due) this.#renewedAtMs = nowMs;
    for (const link of links) {
      const back = link.source.up && !link.proven && !link.proving;
      if (due || back) void this.#renew(link, nowMs + this.#ttlMs);
    }
  }

  /** Gives a lease back; its provider wipes at its end all the same. */
  async giveBack(source: SlabSource, leaseId: string): Promise<void> {
    try {
      await source.release(leaseId);
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      const fields = { provider: source.nodeName, code };
      this.#state.world.logger.debug(fields, `lease was not given back: ${message}`);
    }
  }

  async #renew(link: SourceLink, endsAtMs: number): Promise<void> {
    const { options, world } = this.#state;
    const held = this.#holders.heldOn(link);
    if (held.length === 0) {
      link.leasesEndAtMs = NaN;
      link.proven = link.source.up;
      return;
    }
    link.proving = true;
    try {
      const ids = held.map(({ replica }) => replica.leaseId);
      const gone = new Set(await link.source.renew(ids, options.leaseTtlMs));
      link.leasesEndAtMs = endsAtMs;
      link.proven = link.source.up;
      for (const { slab, replica } of held) {
        if (gone.has(replica.leaseId)) this.#holders.onLeaseGone(slab, replica);
      }
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      world.logger.warn({ provider: link.source.nodeName, code }, `renewal failed: ${message}`);
    } finally {
      link.proving = false;
    }
  }
}
