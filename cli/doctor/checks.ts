/** Every check, in the order of the report: from the machine outwards. */
import {
  checkCapabilities,
  checkDirectPath,
  checkMemlock,
  checkNbd,
  checkNode,
  checkPrivileges,
  checkTools,
} from './checks-kernel.ts';
import { checkControlPlane, checkManagedLeases } from './checks-managed.ts';
import { checkControlGroups, checkKit, checkLentMemory, checkVmValues } from './checks-memory.ts';
import { checkFuse, checkStaleMounts, checkUserMounts } from './checks-mount.ts';
import { checkClock, checkPaths, checkPort } from './checks-network.ts';
import { checkConsent, checkDaemon, checkLeases, checkPeers, checkVolumes } from './checks-pool.ts';
import {
  checkAbandonedScopes,
  checkDirectDevices,
  checkSwapCopies,
  checkSwapQueues,
  checkZram,
  checkZswap,
} from './checks-swap.ts';
import type { MachineFacts } from './facts.ts';
import type { CheckResult } from './finding.ts';

const CHECKS: readonly ((facts: MachineFacts) => CheckResult[])[] = [
  checkNode,
  checkPrivileges,
  checkNbd,
  checkDirectPath,
  checkTools,
  checkFuse,
  checkUserMounts,
  checkStaleMounts,
  checkCapabilities,
  checkMemlock,
  checkControlGroups,
  checkLentMemory,
  checkVmValues,
  checkZram,
  checkZswap,
  checkSwapQueues,
  checkSwapCopies,
  checkDirectDevices,
  checkAbandonedScopes,
  checkClock,
  checkDaemon,
  checkKit,
  checkPort,
  checkPeers,
  checkPaths,
  checkConsent,
  checkVolumes,
  checkLeases,
  checkControlPlane,
  checkManagedLeases,
];

/** Judges the facts. */
export function checkAll(facts: MachineFacts): CheckResult[] {
  return CHECKS.flatMap((check) => check(facts));
}
