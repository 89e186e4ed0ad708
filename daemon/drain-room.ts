/**
 * Could what volumes keep on one provider be kept on others? Said before anything is moved. Pure.
 *
 * A copy of a slab has to go where none of its other copies is, so a volume of K copies needs K other
 * machines; and the bytes need room. The room is an upper bound (with several copies not every free
 * byte fits every slab), so "no" is certain and "yes" is very likely.
 */
import type { NodeId } from '../common/ports.ts';
import { hostCount } from '../common/slab-sources.ts';
import { formatSize } from '../common/units.ts';

/** A provider that could take a slab. */
export interface DrainCandidate {
  readonly nodeId: NodeId;
  /** Its machine; empty when it does not say, which counts as one of its own. */
  readonly hostId: string;
  /** What it could still lend. */
  readonly freeBytes: number;
}

/** What one volume keeps on the provider that is to be emptied. */
export interface DrainHolding {
  /** The volume. */
  readonly name: string;
  /** Providers that each slab is kept on. */
  readonly copies: number;
  /** Leased there. */
  readonly heldBytes: number;
  /** The other providers that it may use and that take slabs now. */
  readonly candidates: readonly DrainCandidate[];
}

/** The answer. */
export interface DrainRoom {
  /** Leased there, of all volumes. */
  readonly heldBytes: number;
  /** Free on the other providers, each counted once. */
  readonly roomBytes: number;
  /** Why it does not fit, without a full stop; empty when it does. */
  readonly problem: string;
}

/** Why one volume cannot leave; empty when it can. */
export function holdingProblem({ name, copies, heldBytes, candidates }: DrainHolding): string {
  if (heldBytes === 0) return '';
  const machines = hostCount(candidates);
  if (machines < copies) {
    const kept =
      copies === 1 ? 'needs another machine' : `keeps ${copies} copies on as many machines`;
    return `volume ${name} ${kept}, and ${machines === 1 ? '1 other takes' : `${machines} others take`} slabs now`;
  }
  const free = sumOf(candidates.map(({ freeBytes }) => Math.max(0, freeBytes)));
  if (free >= heldBytes) return '';
  return `volume ${name} has ${formatSize(heldBytes)} there, the others have ${formatSize(free)} free`;
}

/** Judges all volumes together. */
export function drainRoom(holdings: readonly DrainHolding[]): DrainRoom {
  const free = new Map<NodeId, number>();
  for (const { candidates, heldBytes } of holdings) {
    if (heldBytes === 0) continue;
    for (const { nodeId, freeBytes } of candidates) free.set(nodeId, Math.max(0, freeBytes));
  }
  const heldBytes = sumOf(holdings.map((holding) => holding.heldBytes));
  const roomBytes = sumOf([...free.values()]);
  const single = holdings.map(holdingProblem).find((problem) => problem !== '') ?? '';
  const together =
    heldBytes > roomBytes
      ? `volumes have ${formatSize(heldBytes)} there, the others have ${formatSize(roomBytes)} free`
      : '';
  return { heldBytes, roomBytes, problem: single || together };
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
