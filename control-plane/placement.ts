/**
 * Where leased memory comes from: power of two choices (Mitzenmacher 2001). For each lease two providers
 * are drawn among those that fit, and the one with the greater free share is taken, then the one with the
 * lesser load; that spreads leases nearly as well as asking for the emptiest each time, and does not send
 * everybody to the same one. Never two leases of one request on one machine, nor one on the asker's own; nor
 * two in one zone while another has room.
 */
import { formatSize } from '../common/units.ts';

/** A provider as placement sees it. */
export interface PlacementCandidate {
  readonly nodeId: string;
  /** Names its machine. */
  readonly hostId: string;
  readonly zone: string;
  /** It has a session, takes leases, and is neither drained nor full by its own word. */
  readonly isOpen: boolean;
  readonly offeredBytes: number;
  readonly freeBytes: number;
  /** 0 (idle) to 1. */
  readonly load: number;
}

/** What is asked. */
export interface PlacementWish {
  readonly sizeBytes: number;
  /** On so many different machines; all or none. */
  readonly count: number;
  /** Only this zone; undefined: any. */
  readonly zone: string | undefined;
  /** Only these; undefined: any. */
  readonly include: readonly string[] | undefined;
  readonly exclude: readonly string[];
  /** The asker's machine, which is used only if `include` names a provider on it. */
  readonly ownHostId: string | undefined;
  /** Machines that hold leases of the request already. */
  readonly usedHostIds: readonly string[];
}

/** Chosen providers, or why there are not enough. */
export type Placement =
  | { readonly nodeIds: readonly string[] }
  | { readonly why: string; readonly largestFreeBytes: number; readonly fittingCount: number };

function better(a: PlacementCandidate, b: PlacementCandidate): PlacementCandidate {
  const shareA = a.freeBytes / a.offeredBytes;
  const shareB = b.freeBytes / b.offeredBytes;
  if (shareA !== shareB) return shareA > shareB ? a : b;
  return b.load < a.load ? b : a;
}

function draw(
  candidates: readonly PlacementCandidate[],
  random: () => number,
): PlacementCandidate | undefined {
  const first = Math.floor(random() * candidates.length);
  const a = candidates[first];
  if (a === undefined || candidates.length === 1) return a;
  // Another than the first: one of those behind it, around the end.
  const step = 1 + Math.floor(random() * (candidates.length - 1));
  const b = candidates[(first + step) % candidates.length];
  return b === undefined ? a : better(a, b);
}

/** Why a provider is not used though it may lend; undefined when it may be used. In words that follow a number. */
function passedOver(candidate: PlacementCandidate, wish: PlacementWish): string | undefined {
  const { nodeId, hostId, zone } = candidate;
  const { include } = wish;
  if (include?.includes(nodeId) === false) return 'not asked for';
  if (include === undefined && hostId === wish.ownHostId) return 'on the machine that asks';
  if (wish.zone !== undefined && zone !== wish.zone) return 'not in the zone that is asked for';
  if (wish.exclude.includes(nodeId)) return 'to be left out';
  return wish.usedHostIds.includes(hostId) ? 'on a machine of the same request' : undefined;
}

/** Why there are not enough, as far as it is known here. */
function shortage(candidates: readonly PlacementCandidate[], wish: PlacementWish): string {
  const open = candidates.filter(({ isOpen }) => isOpen);
  const counts = new Map<string, number>();
  for (const candidate of open) {
    const reason = passedOver(candidate, wish);
    if (reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const reasons = [...counts].map(([reason, count]) => `, ${count} of them ${reason}`);
  const known = new Set(candidates.map(({ nodeId }) => nodeId));
  const strangers = (wish.include ?? []).filter((nodeId) => !known.has(nodeId));
  const named =
    strangers.length === 0
      ? ''
      : `; asked for, and no provider of this control plane: ${strangers.length}`;
  return `of ${candidates.length} providers ${open.length} lend now${reasons.join('')}${named}`;
}

/**
 * Chooses providers.
 *
 * @param random - numbers in [0, 1)
 */
export function place(
  candidates: readonly PlacementCandidate[],
  wish: PlacementWish,
  random: () => number,
): Placement {
  const { sizeBytes, count } = wish;
  const allowed = candidates.filter(
    (candidate) => candidate.isOpen && passedOver(candidate, wish) === undefined,
  );
  let left = allowed.filter(({ freeBytes }) => freeBytes >= sizeBytes);
  const hostCount = new Set(left.map(({ hostId }) => hostId)).size;
  if (hostCount < count) {
    const largestFreeBytes = allowed.reduce((max, { freeBytes }) => Math.max(max, freeBytes), 0);
    const machines = count === 1 ? 'one machine' : `each of ${count} machines`;
    const why =
      `asked for ${formatSize(sizeBytes)} on ${machines}; ${hostCount} fit, the largest free ` +
      `space is ${formatSize(largestFreeBytes)}; ${shortage(candidates, wish)}`;
    return { why, largestFreeBytes, fittingCount: hostCount };
  }
  const nodeIds: string[] = [];
  const usedZones = new Set(
    candidates.filter(({ hostId }) => wish.usedHostIds.includes(hostId)).map(({ zone }) => zone),
  );
  while (nodeIds.length < count) {
    const apart = left.filter(({ zone }) => zone === '' || !usedZones.has(zone));
    const chosen = draw(apart.length > 0 ? apart : left, random);
    // Every machine that fits is drawn at most once, and there are enough of them.
    if (chosen === undefined) throw new Error('placement ran out of machines that it counted');
    nodeIds.push(chosen.nodeId);
    usedZones.add(chosen.zone);
    left = left.filter(({ hostId }) => hostId !== chosen.hostId);
  }
  return { nodeIds };
}
