/** Checks of managed mode: whether the control plane answers, and what of it ends. */
import type { ManagedLeaseInfo } from '../../common/rpc-managed.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { printable } from '../output.ts';
import type { MachineFacts } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** A lease is renewed at a third of its time; below so much left, renewals have failed. */
const LEFT_SHARE_MIN = 0.5;

/** Whether the control plane of this node answers, and what this node is there. */
export function checkControlPlane({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon) || daemon.status.managed === null) return [];
  const {
    connected,
    addresses,
    unpinned,
    leader,
    roles,
    heardMsAgo,
    problem: why,
  } = daemon.status.managed;
  const check = 'control plane';
  const at = addresses.join(', ');
  if (!connected) {
    const since =
      heardMsAgo === null ? 'was never heard of' : `was heard of ${formatDuration(heardMsAgo)} ago`;
    const finding = `no control node leads at ${at}, one ${since}: nothing can be leased or renewed`;
    return [problem(check, finding, 'memcloud control-plane status (on a control node)')];
  }
  if (roles.length === 0) {
    const finding = `${printable(leader)} leads, and does not count this node as a member`;
    return [warning(check, finding, 'memcloud control-plane member add (on a control node)')];
  }
  if (why !== '') return [warning(check, printable(why), 'memcloud lease ls')];
  const leads = `${printable(leader)} leads at ${at}; this node is ${roles.join(', ')}`;
  if (unpinned.length === 0) return [ok(check, leads)];
  const finding = `${leads}; at ${unpinned.join(', ')} any trusted node would be believed: no key is given`;
  return [
    warning(
      check,
      finding,
      'control-plane = ["KEY@HOST:PORT"] (memcloud control-plane status has the keys)',
    ),
  ];
}

function checkLease(lease: ManagedLeaseInfo): CheckResult[] {
  const { leaseId, purpose, providerName, state, endsInMs, ttlMs, renews } = lease;
  const why = printable(lease.problem || lease.reason);
  const check = `managed lease ${leaseId.slice(0, 12)}`;
  const what = `${printable(purpose)} on ${printable(providerName)}`;
  const because = why === '' ? '' : `: ${why}`;
  if (state === 'ended') {
    return [problem(check, `${what} has ended, it is wiped${because}`, 'memcloud lease ls')];
  }
  const isEarly = state === 'active' && (!renews || endsInMs > ttlMs * LEFT_SHARE_MIN);
  if (isEarly && why === '') return [];
  const finding = `${what} ends in ${formatDuration(endsInMs)}${because}`;
  const isSwap = purpose.startsWith('swap');
  return [problem(check, finding, isSwap ? 'memcloud swap move' : 'memcloud lease renew')];
}

/** Managed leases that end because nobody renews them. */
export function checkManagedLeases({ daemon }: MachineFacts): CheckResult[] {
  if (!('status' in daemon) || daemon.status.managed === null) return [];
  const { managedLeases = [] } = daemon;
  const found = managedLeases.flatMap(checkLease);
  if (found.length > 0 || managedLeases.length === 0) return found;
  const bytes = managedLeases.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return [ok('managed leases', `${managedLeases.length} in time, ${formatSize(bytes)}`)];
}
