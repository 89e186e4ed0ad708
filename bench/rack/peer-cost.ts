/**
 * What one more peer costs a node, measured: real sessions over the loopback with a hub that is alone in its
 * process. Levels of sessions are read; the slope over them is the cost of one, what a process needs anyhow
 * drops out. Sessions are calm: nothing but keepalive and peer exchange.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cpuTimeUs } from '../proc.ts';
import { waitFor, type Server, type Stage } from '../stage.ts';
import { slope } from '../statistics.ts';
import type { CrowdPlan, HubReading, HubStart } from './plans.ts';

const HUB_FILE = fileURLToPath(new URL('./hub.js', import.meta.url));
const CROWD_FILE = fileURLToPath(new URL('./crowd.js', import.meta.url));
const START_TIMEOUT_MS = 120_000;
const READING_TIMEOUT_MS = 20_000;
/** Before a reading: what a handshake leaves behind is gone. */
const CALM_MS = 2_500;

/** One level. */
export interface PeerLevel extends HubReading {
  /** Processor time of the hub, share of one processor; its collections for readings are in it. */
  readonly cpuShare: number;
}

/** What was measured; bytes for each peer. */
export interface PeerCost extends Omit<PeerLevel, 'sessions'> {
  readonly knownPeerBytes: number;
  readonly levels: readonly PeerLevel[];
}

function lines(server: Server): string[] {
  return server.output().split('\n').slice(0, -1);
}

/** A reading that was not printed before, with so many sessions. */
async function nextReading(hub: Server, sessions: number): Promise<HubReading> {
  const seen = lines(hub).length;
  let last: HubReading | undefined;
  await waitFor(`${sessions} sessions`, READING_TIMEOUT_MS, () => {
    const [, ...readings] = lines(hub);
    const fresh = readings.slice(Math.max(0, seen - 1)).at(-1);
    if (fresh !== undefined) last = JSON.parse(fresh) as HubReading;
    return last?.sessions === sessions;
  });
  if (last === undefined) throw new Error('the hub said nothing');
  return last;
}

/** Measures. */
export async function measurePeerCost(
  stage: Stage,
  counts: readonly number[],
  cpuMs: number,
): Promise<PeerCost> {
  const hub = await stage.serve(
    process.execPath,
    ['--expose-gc', HUB_FILE],
    START_TIMEOUT_MS,
    (output) => output.includes('\n'),
  );
  const start = JSON.parse(lines(hub)[0] ?? '') as HubStart;
  const crowds: Server[] = [];
  const levels: PeerLevel[] = [];
  let connected = 0;
  for (const count of counts) {
    if (count > connected) {
      const plan: CrowdPlan = {
        ...{ address: start.address, count: count - connected, first: connected },
      };
      const args = [CROWD_FILE, JSON.stringify(plan)];
      crowds.push(
        await stage.serve(process.execPath, args, START_TIMEOUT_MS, (output) =>
          output.includes('ready'),
        ),
      );
      connected = count;
    }
    await sleep(CALM_MS);
    const beforeUs = cpuTimeUs([hub.pid]);
    await sleep(cpuMs);
    const cpuShare = (cpuTimeUs([hub.pid]) - beforeUs) / (cpuMs * 1000);
    levels.push({ ...(await nextReading(hub, count)), cpuShare });
  }
  for (const crowd of crowds) await crowd.stop();
  await hub.stop();
  const grows = (of: (level: PeerLevel) => number): number =>
    slope(levels.map((level) => ({ x: level.sessions, y: of(level) })));
  return {
    ...{ knownPeerBytes: start.knownPeerBytes, levels },
    heapBytes: grows(({ heapBytes }) => heapBytes),
    externalBytes: grows(({ externalBytes }) => externalBytes),
    lockedResidentBytes: grows(({ lockedResidentBytes }) => lockedResidentBytes),
    residentBytes: grows(({ residentBytes }) => residentBytes),
    virtualBytes: grows(({ virtualBytes }) => virtualBytes),
    lockedBytes: grows(({ lockedBytes }) => lockedBytes),
    descriptors: grows(({ descriptors }) => descriptors),
    cpuShare: grows(({ cpuShare }) => cpuShare),
  };
}
