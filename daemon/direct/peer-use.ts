/** What direct swap, here or there, would lose with a peer. Pure. */
import type { NodeId } from '../../common/ports.ts';
import type { DirectDeviceInfo, DirectExportInfo } from '../../common/rpc-schema.ts';
import { formatSize } from '../../common/units.ts';

/**
 * Why a peer should not be disconnected now; undefined when no direct swap needs it.
 *
 * @param devices - of this machine
 * @param exports - that other machines have here
 */
export function directUse(
  nodeId: NodeId,
  devices: readonly DirectDeviceInfo[],
  exports: readonly DirectExportInfo[],
): string | undefined {
  const ours = devices.filter(({ legs }) =>
    legs.some((leg) => leg.nodeId === nodeId && leg.state !== 'lost'),
  );
  const theirs = exports.filter(
    ({ holder, connected, residentBytes }) => holder === nodeId && (connected || residentBytes > 0),
  );
  const sentences: string[] = [];
  if (ours.length > 0) {
    const names = ours.map(({ device }) => device).join(', ');
    sentences.push(
      `pages of this machine lie there (${names}) and could not be reached once the connection of ` +
        'now ends: memcloud swap move, or swap off, first',
    );
  }
  if (theirs.length > 0) {
    const heldBytes = theirs.reduce((sum, { residentBytes }) => sum + residentBytes, 0);
    sentences.push(
      `${formatSize(heldBytes)} of its swap lie here and would be wiped, and programs there killed: ` +
        'memcloud swap move, or swap off, there first',
    );
  }
  return sentences.length === 0 ? undefined : sentences.join('; ');
}
