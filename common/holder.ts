/**
 * Who holds a lease. The provider treats a holder as an opaque string; what it means is settled here, once
 * for those who name holders and those who show them:
 *
 *   NODE                the node itself: its volumes
 *   NODE/LANE           another process of the node, on a lane of its own: one of its mounts
 *   NODE/direct/EXPORT  a direct export, which only the holder's kernel can make leave
 *
 * Each has its own leases, so that none can touch those of another, though all carry one identity.
 */
import type { NodeId } from './ports.ts';

const DIRECT = 'direct';

/** The most characters of a lane's name. */
export const LANE_LENGTH_MAX = 32;

/** Whether `text` may name a lane: 1 to 32 lower-case letters, digits or dashes. The empty lane is the node itself. */
export function isLaneName(text: unknown): text is string {
  return typeof text === 'string' && text.length <= LANE_LENGTH_MAX && /^[a-z0-9-]+$/.test(text);
}

/** The holder behind a session; `lane` is empty for the node itself. */
export function sessionHolder(nodeId: NodeId, lane: string): string {
  return lane === '' ? nodeId : `${nodeId}/${lane}`;
}

/** The holder of the slabs of one direct export. */
export function directHolder(nodeId: NodeId, exportId: string): string {
  return `${nodeId}/${DIRECT}/${exportId}`;
}

/** The direct export behind a holder; undefined for a node and its lanes. */
export function directExportOf(holder: string): string | undefined {
  return holder.split('/')[2];
}

/** What a holder is. */
export interface HolderParts {
  /** The node. */
  readonly nodeId: NodeId;
  /** Its lane; empty for the node itself and for direct exports. */
  readonly lane: string;
  /** True for a direct export. */
  readonly direct: boolean;
}

/** Takes a holder apart. */
export function holderParts(holder: string): HolderParts {
  const [nodeId = '', lane = '', exportId] = holder.split('/');
  const direct = exportId !== undefined;
  return { nodeId, lane: direct ? '' : lane, direct };
}
