/**
 * The managed leases of one volume or mount: enough bytes for all of its copies from the beginning, and
 * another provider when one goes. One copy is one *column* of leases; no machine is in two columns.
 *
 *   open: one request for as many leases as copies, each of the whole size
 *         `- nobody has room for that -> column by column, in halves, quarters, ...
 *   then: a lease that ends, is asked back, or whose provider is away or not believed
 *         -> another lease for the same column, elsewhere -> the old one leaves -> empty -> given back
 *
 * The volume does the moving (tier/repair.ts); this file only sees to it that there is room.
 */
import type { Clock } from '../../common/clock.ts';
import { asMemcloudError, MemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { NodeId } from '../../common/ports.ts';
import { hostOf } from '../../common/slab-sources.ts';
import { formatSize } from '../../common/units.ts';
import type { ClientLease } from '../../control-plane/client-leases-machine.ts';
import type { ClientLeases } from '../../control-plane/client-leases.ts';
import type { PoolLease, PoolUse } from './pool-lease.ts';

/** What a pool needs of the leases of the node. */
export type PoolLeases = Pick<ClientLeases, 'request' | 'release' | 'get' | 'endsInMs'>;

/** What is wanted. */
export interface PoolWish {
  /** For people: `volume disk`. */
  readonly purpose: string;
  /** Slabs of the volume. */
  readonly slabCount: number;
  /** What a slab is charged, bytes. */
  readonly slabChargeBytes: number;
  /** Copies; without, two where the control plane has room for two, else one. */
  readonly copies: number | undefined;
  /** Of its leases, milliseconds. */
  readonly ttlMs: number;
  /** Only providers of this zone. */
  readonly zone: string | undefined;
  /** The only providers to use. */
  readonly include: readonly NodeId[] | undefined;
}

/** What it takes. */
export interface PoolParts {
  readonly leases: PoolLeases;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A provider that is away for so long is replaced, milliseconds. */
export const PROVIDER_PATIENCE_MS = 5_000;
/** Pauses between requests for another lease that were refused, milliseconds. */
const AGAIN_MIN_MS = 2_000;
const AGAIN_MAX_MS = 30_000;
/** Leases of one volume at most. */
const LEASE_COUNT_MAX = 64;
/** Providers that turned out to stand on a machine of another column, passed by for one lease. */
const SAME_MACHINE_COUNT_MAX = 8;
const COPIES_DEFAULT = 2;

interface Member {
  readonly leaseId: string;
  readonly column: number;
  readonly provider: ClientLease['provider'];
  readonly sizeBytes: number;
  /** Bytes in use, by the last word of who holds the pages. */
  usedBytes: number;
  /** Its provider is not sound since then; Infinity while it is. */
  badSinceMs: number;
  /** Another lease is there for it. */
  replaced: boolean;
  /** It has ended. */
  gone: boolean;
  releasing: boolean;
}

/** See the top of the file. */
export class LeasePool {
  /** Copies of the volume. */
  readonly copies: number;
  readonly #wish: PoolWish;
  readonly #parts: PoolParts;
  readonly #members: Member[];
  readonly #closing = new AbortController();
  #recalled: ReadonlySet<string> = new Set();
  #refilling = false;
  #againAtMs = -Infinity;
  #pauseMs = AGAIN_MIN_MS;
  #told = '';

  private constructor(wish: PoolWish, copies: number, members: Member[], parts: PoolParts) {
    this.#wish = wish;
    this.copies = copies;
    this.#members = members;
    this.#parts = parts;
  }

  /**
   * Leases what a volume needs: all of it or nothing.
   *
   * @throws MemcloudError as `ClientLeases.request`
   */
  static async open(wish: PoolWish, parts: PoolParts, cancel?: AbortSignal): Promise<LeasePool> {
    const tries = wish.copies === undefined ? [COPIES_DEFAULT, 1] : [wish.copies];
    for (const copies of tries) {
      try {
        const members = await openColumns(wish, copies, parts, cancel);
        return new LeasePool(wish, copies, members, parts);
      } catch (error) {
        if (!isRoom(error) || copies === tries.at(-1)) throw error;
      }
    }
    throw new MemcloudError('ERR_INTERNAL', 'no number of copies was tried');
  }

  /** The leases, as who holds the pages is to know them. */
  list(): PoolLease[] {
    return this.#members
      .filter(({ gone }) => !gone)
      .map(({ leaseId, column, sizeBytes, provider, replaced }) => {
        const { nodeId, name, address, publicKey } = provider;
        const lease = this.#parts.leases.get(leaseId);
        const ending = lease?.state === 'ending';
        return {
          ...{ leaseId, column, sizeBytes },
          leaving: replaced || ending,
          endsInMs: ending && lease.final ? Math.round(this.#parts.leases.endsInMs(lease)) : null,
          provider: { nodeId, name, address, publicKey },
        };
      });
  }

  /** Bytes in use under a lease; undefined when it is none of these. */
  usedBytes(leaseId: string): number | undefined {
    return this.#members.find((member) => member.leaseId === leaseId)?.usedBytes;
  }

  /** Lets time pass, with what the holder of the pages says. */
  tick(use: PoolUse): void {
    if (this.#closing.signal.aborted) return;
    const { clock, leases } = this.#parts;
    const nowMs = clock.nowMs();
    const used = new Map(use.leases.map(({ leaseId, usedBytes }) => [leaseId, usedBytes]));
    const sound = new Set(use.sound);
    this.#recalled = new Set(use.recalled);
    for (const member of this.#members) {
      member.usedBytes = used.get(member.leaseId) ?? member.usedBytes;
      if (sound.has(member.provider.nodeId)) member.badSinceMs = Infinity;
      else member.badSinceMs = Math.min(member.badSinceMs, nowMs);
      if (leases.get(member.leaseId) === undefined) {
        member.gone = true;
        member.usedBytes = 0;
      }
    }
    this.#giveBackEmpty(used);
    const missing = this.#members.filter((member) => this.#wantsReplacement(member, nowMs));
    if (missing.length === 0 || this.#refilling || nowMs < this.#againAtMs) return;
    this.#refilling = true;
    void this.#refill(missing).finally(() => (this.#refilling = false));
  }

  /** Gives all leases back. Never throws: what cannot be given back ends at its deadline. */
  async close(): Promise<void> {
    this.#closing.abort();
    const leaseIds = this.#members.map(({ leaseId }) => leaseId);
    this.#members.length = 0;
    await giveBack(leaseIds, this.#parts);
  }

  #wantsReplacement(member: Member, nowMs: number): boolean {
    const { leaseId, replaced, gone, badSinceMs } = member;
    if (replaced) return false;
    if (gone || nowMs - badSinceMs >= PROVIDER_PATIENCE_MS) return true;
    const lease = this.#parts.leases.get(leaseId);
    if (lease?.state === 'ending') return true;
    if (lease === undefined || !this.#recalled.has(leaseId)) return false;
    // Providers also ask back what is nearly over; then it is renewal that fails, here and elsewhere.
    return this.#parts.leases.endsInMs(lease) > lease.ttlMs / 2;
  }

  /** What has left, or ended, and has a successor is done with. */
  #giveBackEmpty(used: ReadonlyMap<string, number>): void {
    for (const member of [...this.#members]) {
      if (!member.replaced || member.releasing) continue;
      if (member.gone) this.#members.splice(this.#members.indexOf(member), 1);
      else if (used.get(member.leaseId) === 0) {
        member.releasing = true;
        const { provider, leaseId } = member;
        this.#parts.logger.info({ leaseId, provider: provider.name }, 'a managed lease is empty');
        void giveBack([leaseId], this.#parts);
      }
    }
  }

  async #refill(missing: readonly Member[]): Promise<void> {
    const { logger, clock } = this.#parts;
    const { purpose } = this.#wish;
    for (const member of missing) {
      const others = this.#members.filter((each) => each !== member);
      try {
        const { signal } = this.#closing;
        const found = await fillColumn(
          { ...this.#wish, bytes: member.sizeBytes, column: member.column },
          { others, exclude: this.#members.map(({ provider }) => provider.nodeId) },
          this.#parts,
          signal,
        );
        if (signal.aborted) return await giveBack(idsOf(found), this.#parts);
        this.#members.push(...found);
        member.replaced = true;
        this.#pauseMs = AGAIN_MIN_MS;
        this.#told = '';
        const names = found.map(({ provider }) => provider.name);
        logger.warn({ purpose, from: member.provider.name, to: names }, 'leased elsewhere');
      } catch (error) {
        const { code, message } = asMemcloudError(error);
        if (code !== this.#told)
          logger.warn({ purpose, code }, `nothing leased instead: ${message}`);
        this.#told = code;
        this.#againAtMs = clock.nowMs() + this.#pauseMs;
        this.#pauseMs = Math.min(AGAIN_MAX_MS, this.#pauseMs * 2);
        return;
      }
    }
  }
}

interface ColumnWish extends Omit<PoolWish, 'slabCount'> {
  readonly column: number;
  /** To be leased. */
  readonly bytes: number;
}

/** Leases of the same volume, and providers that are not to be used. */
interface Around {
  readonly others: readonly Member[];
  readonly exclude: readonly NodeId[];
}

async function openColumns(
  wish: PoolWish,
  copies: number,
  parts: PoolParts,
  cancel?: AbortSignal,
): Promise<Member[]> {
  const bytes = wish.slabCount * wish.slabChargeBytes;
  const { purpose, ttlMs, zone, include } = wish;
  const base = { purpose, ttlMs, zone, include, renews: true };
  try {
    const leases = await parts.leases.request({ ...base, sizeBytes: bytes, count: copies }, cancel);
    return leases.map((lease, column) => memberOf(lease, column));
  } catch (error) {
    if (!isRoom(error)) throw error;
  }
  const members: Member[] = [];
  try {
    for (let column = 0; column < copies; column += 1) {
      const exclude = members.map(({ provider }) => provider.nodeId);
      const around = { others: members, exclude };
      members.push(...(await fillColumn({ ...wish, bytes, column }, around, parts, cancel)));
    }
    return members;
  } catch (error) {
    await giveBack(idsOf(members), parts);
    if (!isRoom(error)) throw error;
    const { message } = asMemcloudError(error);
    const words = copies === 1 ? '1 copy' : `${copies} copies on as many machines`;
    const text = `${purpose}: ${words} of ${formatSize(bytes)} were not to be had, in parts either: ${message}`;
    throw new MemcloudError('ERR_LEASE_CAPACITY', text, { cause: error });
  }
}

/** Leases `bytes` for one column on machines of no other, in as few parts as there is room for. */
async function fillColumn(
  wish: ColumnWish,
  { others, exclude }: Around,
  parts: PoolParts,
  cancel?: AbortSignal,
): Promise<Member[]> {
  const { purpose, ttlMs, zone, include, slabChargeBytes, column } = wish;
  const base = { purpose, ttlMs, zone, include, renews: true, count: 1 };
  const hosts = new Set(
    others.filter((each) => each.column !== column).map(({ provider }) => hostOf(provider)),
  );
  const passedBy = [...exclude];
  const found: Member[] = [];
  let leftCount = Math.ceil(wish.bytes / slabChargeBytes);
  let partCount = leftCount;
  try {
    while (leftCount > 0) {
      if (others.length + found.length >= LEASE_COUNT_MAX) {
        const text = `${purpose} would take more than ${LEASE_COUNT_MAX} managed leases`;
        throw new MemcloudError('ERR_LEASE_CAPACITY', text);
      }
      try {
        const sizeBytes = partCount * slabChargeBytes;
        const [lease] = await parts.leases.request(
          { ...base, sizeBytes, exclude: passedBy },
          cancel,
        );
        if (lease === undefined) throw new MemcloudError('ERR_LEASE_CAPACITY', 'nothing came');
        if (hosts.has(hostOf(lease.provider))) {
          await giveBack([lease.leaseId], parts);
          passedBy.push(lease.provider.nodeId);
          if (passedBy.length - exclude.length <= SAME_MACHINE_COUNT_MAX) continue;
          throw new MemcloudError('ERR_LEASE_CAPACITY', 'no other machine has room');
        }
        found.push(memberOf(lease, column));
        leftCount -= partCount;
        partCount = Math.min(partCount, leftCount);
      } catch (error) {
        if (!isRoom(error) || partCount <= 1) throw error;
        partCount = Math.ceil(partCount / 2);
      }
    }
    return found;
  } catch (error) {
    await giveBack(idsOf(found), parts);
    throw error;
  }
}

function memberOf({ leaseId, provider, sizeBytes }: ClientLease, column: number): Member {
  const start = { usedBytes: 0, badSinceMs: Infinity, replaced: false };
  return { leaseId, column, provider, sizeBytes, ...start, gone: false, releasing: false };
}

function idsOf(members: readonly Member[]): string[] {
  return members.map(({ leaseId }) => leaseId);
}

/** True when there is no room for that much in one place; for less there may be. */
function isRoom(error: unknown): boolean {
  return asMemcloudError(error).code === 'ERR_LEASE_CAPACITY';
}

async function giveBack(leaseIds: readonly string[], { leases, logger }: PoolParts): Promise<void> {
  try {
    await leases.release(leaseIds);
  } catch (error) {
    logger.warn({}, asMemcloudError(error).message);
  }
}
