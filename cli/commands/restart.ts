/**
 * `memcloud restart`: another memnode, as it is on disk now, takes the place of the one that runs,
 * under live volumes. The daemon starts it; this command waits and says which of the two goes on.
 */
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { HandoverInfo } from '../../common/rpc-process.ts';
import { formatSize } from '../../common/units.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { command, withDaemon, type Command } from '../command.ts';
import { printData, type GlobalFlags } from '../output.ts';

/** A small machine takes its time to load a program. */
const TAKEOVER_TIMEOUT_MS = 60_000;
const LOOK_INTERVAL_MS = 200;

interface RestartFlags {
  force: boolean;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Who answers on the socket now, and how it came there; undefined when nobody does for the moment. */
async function whoAnswers(
  socketPath: string,
): Promise<{ pid: number; handover: HandoverInfo | null } | undefined> {
  try {
    const client = await MemcloudClient.connect(socketPath);
    try {
      return await client.call('status', {});
    } finally {
      client.close();
    }
  } catch (error) {
    if (asMemcloudError(error).code === 'ERR_DAEMON_UNREACHABLE') return undefined;
    throw error;
  }
}

async function waitForSuccessor(socketPath: string, pid: number): Promise<HandoverInfo> {
  const deadlineMs = performance.now() + TAKEOVER_TIMEOUT_MS;
  while (performance.now() < deadlineMs) {
    const alive = isAlive(pid);
    const found = await whoAnswers(socketPath);
    if (found?.pid === pid && found.handover !== null) return found.handover;
    if (!alive) {
      const runs = found === undefined ? 'no memnode runs now' : 'the one that ran goes on';
      throw new MemcloudError(
        'ERR_HANDOVER',
        `the new memnode (process ${pid}) ended before it had taken over: ${runs}; see the log`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
  throw new MemcloudError('ERR_TIMEOUT', `process ${pid} has not taken over; see its log`);
}

function describe({ fromPid, pauseMs, volumes, connections, bytes }: HandoverInfo): string {
  return (
    `memnode was replaced (process ${fromPid} before). ${volumes} volumes with ${connections} ` +
    `client connections and ${formatSize(bytes)} of state went over in ${pauseMs} ms.`
  );
}

/** The commands of this file. */
export const commands: readonly Command[] = [
  command<RestartFlags>({
    command: 'restart',
    describe: 'replace the running memnode, for example after an upgrade; volumes and swap go on',
    builder: (argv) =>
      argv.option('force', {
        type: 'boolean',
        default: false,
        describe: 'also if RAM that it lends is wiped or TLS clients are cut',
      }),
    handler: async (flags: RestartFlags & GlobalFlags) => {
      const { pid } = await withDaemon(flags, (client) =>
        client.call('daemon.restart', { force: flags.force }),
      );
      printData(flags, await waitForSuccessor(flags.socket, pid), describe);
    },
  }),
];
