/**
 * One node of the benchmark `rack`, alone in its process: its memory is what peers cost it. Prints where it
 * listens (`HubStart`), then a line (`HubReading`) each second. To be run with `--expose-gc`.
 */
import fs from 'node:fs';
import { monotonicClock } from '../../common/clock.ts';
import { ConsentQueue } from '../../peer/consent.ts';
import { PEER_COUNT_MAX } from '../../peer/constants.ts';
import { Identity } from '../../peer/identity.ts';
import { KEEPALIVE_DEFAULTS } from '../../peer/keepalive-machine.ts';
import { KnownPeers } from '../../peer/known-peers.ts';
import { Peers } from '../../peer/peers.ts';
import { Quarantines } from '../../peer/quarantines.ts';
import { TrustStore } from '../../peer/trust.ts';
import type { HubReading, HubStart } from './plans.ts';

const PRINT_INTERVAL_MS = 1000;
/** Registries that are filled to their bound, to see what a record of one takes. */
const REGISTRY_COUNT = 8;

function collect(): void {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error('hub: expected --expose-gc');
  gc();
}

function bytesIn(file: 'status' | 'smaps_rollup', field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(
    fs.readFileSync(`/proc/self/${file}`, 'utf8'),
  );
  return Number(found?.[1] ?? NaN) * 1024;
}

/** Heap for each node that was let in once and is not here. */
function knownPeerBytes(trust: TrustStore): number {
  const fill = (): KnownPeers[] =>
    Array.from({ length: REGISTRY_COUNT }, (_, registry) => {
      const known = new KnownPeers({
        ...{ trust, guests: { isGuest: () => false }, quarantines: Quarantines.inMemory() },
        ...{ keepalive: KEEPALIVE_DEFAULTS, isLane: false },
      });
      for (let at = 0; at < PEER_COUNT_MAX; at += 1) {
        const nodeId = (registry * PEER_COUNT_MAX + at).toString(16).padStart(32, '0');
        known.open(nodeId, `machine-${nodeId.slice(-6)}`);
      }
      return known;
    });
  // The first time, code is compiled.
  fill();
  collect();
  const before = process.memoryUsage().heapUsed;
  const kept = fill();
  collect();
  const after = process.memoryUsage().heapUsed;
  const count = kept.reduce((sum, { all }) => sum + all.size, 0);
  return (after - before) / count;
}

function reading(peers: Peers): HubReading {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return {
    sessions: peers.peers().filter(({ state }) => state === 'up').length,
    ...{ heapBytes: heapUsed, externalBytes: external },
    residentBytes: bytesIn('status', 'VmRSS'),
    virtualBytes: bytesIn('status', 'VmSize'),
    lockedResidentBytes: bytesIn('smaps_rollup', 'Locked'),
    lockedBytes: bytesIn('status', 'VmLck'),
    descriptors: fs.readdirSync('/proc/self/fd').length,
  };
}

const trust = TrustStore.inMemory({ autoTrust: true });
const knownBytes = knownPeerBytes(trust);
const peers = new Peers({
  ...{ identity: Identity.ephemeral(), name: 'hub', trust, exchangesPeers: true },
  consent: new ConsentQueue({ clock: monotonicClock }),
});
const { host, port } = await peers.listen({ host: '127.0.0.1', port: 0 });
const start: HubStart = { address: `${host}:${port}`, knownPeerBytes: knownBytes };
process.stdout.write(`${JSON.stringify(start)}\n`);
setInterval(() => process.stdout.write(`${JSON.stringify(reading(peers))}\n`), PRINT_INTERVAL_MS);
