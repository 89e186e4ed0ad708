/** Nodes of the benchmark `rack` that dial the hub and stay, many in one process. Prints `ready`. */
import { monotonicClock } from '../../common/clock.ts';
import { ConsentQueue } from '../../peer/consent.ts';
import { Identity } from '../../peer/identity.ts';
import { Peers } from '../../peer/peers.ts';
import { TrustStore } from '../../peer/trust.ts';
import { waitFor } from '../stage.ts';
import type { CrowdPlan } from './plans.ts';

const TIMEOUT_MS = 60_000;

const plan = JSON.parse(process.argv[2] ?? '') as CrowdPlan;
/** A hub takes 16 handshakes of one address at once. */
const AT_ONCE = 8;

const crowd: Peers[] = [];
while (crowd.length < plan.count) {
  for (let at = 0; at < AT_ONCE && crowd.length < plan.count; at += 1) {
    const peers = new Peers({
      ...{ identity: Identity.ephemeral(), name: `node-${plan.first + crowd.length}` },
      trust: TrustStore.inMemory({ autoTrust: true }),
      consent: new ConsentQueue({ clock: monotonicClock }),
    });
    peers.connect(plan.address);
    crowd.push(peers);
  }
  await waitFor('sessions with the hub', TIMEOUT_MS, () =>
    crowd.every((peers) => peers.peers().some(({ state }) => state === 'up')),
  );
}
process.stdout.write('ready\n');
