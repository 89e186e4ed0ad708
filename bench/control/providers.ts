/**
 * Providers of the benchmark `control-plane`, many in one process: each has a key, a port, sessions, a
 * provider agent and a provider of RAM of its own, and speaks the protocol as memnode does. Prints `ready`,
 * then a line of JSON (`Expired`) for each second in which leases expired.
 */
import { silentLogger } from '../../common/log.ts';
import { Managed } from '../../daemon/wire-managed.ts';
import { RamProvider } from '../../provider/service.ts';
import { benchNode } from './node.ts';
import type { ProvidersPlan } from './plans.ts';

const LOOK_INTERVAL_MS = 200;
const PRINT_INTERVAL_MS = 1000;

const plan = JSON.parse(process.argv[2] ?? '') as ProvidersPlan;
const lateMs: number[] = [];

async function startProvider(directory: string): Promise<void> {
  const { control, offeredBytes } = plan;
  const provider = RamProvider.open({
    ...{ offeredBytes, noswap: 'off', reserveBytes: 0 },
    // Only set aside, never written: offers of all together may be more than the machine has.
    readHostMemory: () => ({ totalBytes: 2 ** 50, availableBytes: 2 ** 50 }),
  });
  const config = { controlPlane: [control.address], offerBytes: offeredBytes, zone: '' };
  const managed = new Managed(config, silentLogger);
  const { identity, trust, peers } = benchNode(directory, control, managed, provider);
  const { port } = await peers.listen({ host: '127.0.0.1', port: 0 });
  const hostId = identity.nodeId;
  managed.start({ identity, trust, peers, provider, hostId, port: () => port });
  managed.connect(peers);
  const memory = provider.openManaged();
  const deadlines = new Map<string, number>();
  setInterval(() => {
    const nowMs = performance.now();
    for (const { leaseId, ttlMs } of memory.list()) deadlines.set(leaseId, nowMs + ttlMs);
  }, LOOK_INTERVAL_MS);
  memory.onEnded(({ leaseId, reason }) => {
    const deadlineMs = deadlines.get(leaseId);
    deadlines.delete(leaseId);
    if (reason === 'expired' && deadlineMs !== undefined) {
      lateMs.push(performance.now() - deadlineMs);
    }
  });
}

for (const directory of plan.directories) await startProvider(directory);
process.stdout.write('ready\n');
setInterval(() => {
  if (lateMs.length > 0) process.stdout.write(`${JSON.stringify({ lateMs: lateMs.splice(0) })}\n`);
}, PRINT_INTERVAL_MS);
