/** A node of the benchmark `control-plane`: real keys, sessions and agents, many in one process. */
import path from 'node:path';
import { monotonicClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import type { ManagedLink, ManagedService } from '../../common/managed.ts';
import { ConsentQueue } from '../../peer/consent.ts';
import { Identity } from '../../peer/identity.ts';
import { Peers } from '../../peer/peers.ts';
import { TrustStore } from '../../peer/trust.ts';
import type { SlabProvider } from '../../common/ports.ts';
import { waitFor } from '../stage.ts';
import type { ControlPlace } from './plans.ts';

const SESSION_TIMEOUT_MS = 30_000;

/** The parts of one node. */
export interface BenchNode {
  readonly identity: Identity;
  readonly trust: TrustStore;
  readonly peers: Peers;
}

/** Makes a node that trusts the control node and nobody else. */
export function benchNode(
  directory: string,
  control: ControlPlace,
  managed?: ManagedService,
  provider?: SlabProvider,
): BenchNode {
  const identity = Identity.load(directory);
  const trust = TrustStore.inMemory({ fingerprints: [control.nodeId] });
  const name = path.basename(directory);
  const peers = new Peers({
    ...{ identity, name, trust, managed, provider, hostId: name, logger: silentLogger },
    consent: new ConsentQueue({ clock: monotonicClock }),
  });
  return { identity, trust, peers };
}

/** Waits for a session with a node on which it answers managed calls. */
export async function linkTo({ peers }: BenchNode, nodeId: string): Promise<ManagedLink> {
  await waitFor(`a session with ${nodeId}`, SESSION_TIMEOUT_MS, () => {
    return peers.managedLinks.find(nodeId)?.up === true;
  });
  const link = peers.managedLinks.find(nodeId);
  if (link === undefined) throw new Error(`no link to ${nodeId}`);
  return link;
}
