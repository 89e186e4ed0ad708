/** Collects every fact: of this machine, and of the daemon if one answers. Changes nothing. */
import { fileURLToPath } from 'node:url';
import { asMemcloudError } from '../../common/errors.ts';
import type { DirectConnection } from '../../common/rpc-schema.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { ScopeRegister } from '../system/scope-register.ts';
import { SystemFiles } from '../system/system-files.ts';
import { collectKernel } from './collect-kernel.ts';
import { collectMemory, collectSwaps } from './collect-memory.ts';
import { collectFuse } from './collect-mount.ts';
import { collectNetwork } from './collect-network.ts';
import type { DaemonAbsence, DaemonFacts, MachineFacts } from './facts.ts';
import { clockSynchronised } from './system-calls.ts';

/** Beside the built program, in a checkout as in a package. */
const SCRIPTS_FOLDER = fileURLToPath(new URL('../../../kernel-scripts', import.meta.url));

async function collectDaemon(
  socketPath: string,
): Promise<
  | (DaemonFacts & { directProblems: readonly string[]; directConnection: DirectConnection })
  | DaemonAbsence
> {
  let client: MemcloudClient;
  try {
    client = await MemcloudClient.connect(socketPath);
  } catch (error) {
    return { reason: asMemcloudError(error).message };
  }
  try {
    const status = await client.call('status', {});
    const volumes = await Promise.all(
      status.volumes.map(({ name }) => client.call('volume.inspect', { name })),
    );
    const { problems, connection } = await client.call('direct.check', {});
    const managedLeases = await client.call('managed.list', {});
    const direct = { directProblems: problems, directConnection: connection };
    return { status, volumes, managedLeases, ...direct };
  } catch (error) {
    return { reason: asMemcloudError(error).message };
  } finally {
    client.close();
  }
}

/** The facts. */
export async function collectFacts(socketPath: string): Promise<MachineFacts> {
  const files = new SystemFiles();
  const daemon = await collectDaemon(socketPath);
  return {
    nodeVersion: process.versions.node,
    root: process.geteuid?.() === 0,
    scriptsFolder: SCRIPTS_FOLDER,
    socketPath,
    kernel: collectKernel(files),
    fuse: collectFuse(files, socketPath),
    memory: collectMemory(files),
    swaps: collectSwaps(files),
    clock: { wallMs: Date.now(), synchronised: clockSynchronised() },
    daemon,
    network: 'status' in daemon ? await collectNetwork(daemon.status, files) : undefined,
    abandonedScopes: new ScopeRegister().abandoned(),
    directConnection: 'status' in daemon ? daemon.directConnection : undefined,
    directProblems: 'status' in daemon ? daemon.directProblems : undefined,
    kit: 'status' in daemon ? daemon.status.kit : undefined,
  };
}
