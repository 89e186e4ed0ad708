/** Where the log of memnode is: a file, or the journal when systemd runs it. */
import fs from 'node:fs';
import path from 'node:path';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { resolveConfig } from '../../common/config/resolve.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { DAEMON_UNIT } from '../service/units.ts';

/** The name of the file in the state directory. */
export const LOG_FILE_NAME = 'memnode.log';

/** The file in which `node start` has the log kept when nobody names another one. */
export function usualLogFile(stateDirectory: string): string {
  return path.join(stateDirectory, LOG_FILE_NAME);
}

/** A log. */
export type LogPlace = { readonly file: string } | { readonly unit: string };

const UNIT_DIRECTORIES = ['/etc/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system'];

/** Whether memnode is installed as a unit of systemd. */
export function isUnitInstalled(): boolean {
  return UNIT_DIRECTORIES.some((folder) => fs.existsSync(path.join(folder, DAEMON_UNIT)));
}

/** Whether systemd started a process as memnode's unit. */
function isOfUnit(pid: number): boolean {
  try {
    return fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/${DAEMON_UNIT}`);
  } catch {
    return false;
  }
}

interface Running {
  readonly pid: number;
  readonly logFile: string | undefined;
}

async function running(socketPath: string): Promise<Running | undefined> {
  let client: MemcloudClient;
  try {
    client = await MemcloudClient.connect(socketPath);
  } catch (error) {
    if (asMemcloudError(error).code === 'ERR_DAEMON_UNREACHABLE') return undefined;
    throw error;
  }
  try {
    const { settings } = await client.call('config.get', {});
    const { pid } = await client.call('status', {});
    const value = settings.find(({ key }) => key === 'log-file')?.value;
    return { pid, logFile: typeof value === 'string' ? value : undefined };
  } finally {
    client.close();
  }
}

/**
 * Finds the log of the daemon that runs, or ran last.
 *
 * @throws MemcloudError `ERR_UNSUPPORTED` when the daemon logs to where it was started
 */
export async function findLog(socketPath: string): Promise<LogPlace> {
  const node = await running(socketPath);
  if (node?.logFile !== undefined) return { file: node.logFile };
  if (node !== undefined) {
    if (isOfUnit(node.pid)) return { unit: DAEMON_UNIT };
    throw new MemcloudError(
      'ERR_UNSUPPORTED',
      `memnode (process ${node.pid}) logs to where it was started, not to a file; ` +
        '"memcloud node start" and --log-file keep one',
    );
  }
  const { values } = resolveConfig({ env: process.env });
  const file = values['log-file'] ?? usualLogFile(values.state);
  if (fs.existsSync(file)) return { file };
  if (isUnitInstalled()) return { unit: DAEMON_UNIT };
  throw new MemcloudError('ERR_DAEMON_UNREACHABLE', `no memnode runs, and there is no log ${file}`);
}
