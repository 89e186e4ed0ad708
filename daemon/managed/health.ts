/** What of managed mode is not well, in sentences: it counts down to the end of what cannot be renewed. */
import type { ManagedLeaseInfo, ManagedStatus } from '../../common/rpc-managed.ts';
import { formatDuration } from '../../common/units.ts';

/** Leases that are spoken of one by one; of more there is one sentence. */
const SENTENCE_COUNT_MAX = 20;

/**
 * Sentences about what is not well, the most pressing first; none when all is.
 *
 * @param status - of a node with a control plane; undefined for another
 */
export function managedHealth(
  status: ManagedStatus | undefined,
  leases: readonly ManagedLeaseInfo[],
): string[] {
  if (status === undefined) return [];
  const sentences: string[] = [];
  if (!status.connected) sentences.push(unreachable(status));
  else if (status.problem !== '') sentences.push(status.problem);
  const troubled = leases
    .filter((lease) => lease.state !== 'active' || (lease.renews && lease.problem !== ''))
    .sort((a, b) => a.endsInMs - b.endsInMs);
  sentences.push(...troubled.slice(0, SENTENCE_COUNT_MAX).map(countdown));
  const more = troubled.length - SENTENCE_COUNT_MAX;
  if (more > 0) sentences.push(`${more} more managed leases end: memcloud lease ls`);
  return sentences;
}

function unreachable({ heardMsAgo }: ManagedStatus): string {
  const since =
    heardMsAgo === null
      ? 'has not answered yet'
      : `has not answered for ${formatDuration(heardMsAgo)}`;
  return `the control plane ${since}: nothing can be leased, and leases are not renewed`;
}

function countdown(lease: ManagedLeaseInfo): string {
  const { leaseId, purpose, providerName, state, endsInMs, reason, problem } = lease;
  const which = `managed lease ${leaseId.slice(0, 8)} of ${purpose} on ${providerName}`;
  if (state === 'ended') return `${which} has ended (${reason}): its memory is wiped`;
  const why = problem || (reason === '' ? 'it is not renewed' : reason);
  return `${which} ends in ${formatDuration(endsInMs)}: ${why}`;
}
