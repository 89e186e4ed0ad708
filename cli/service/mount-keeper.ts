/**
 * The mount of a machine that starts with it: made as soon as memnode and enough providers are there, gone
 * before memnode is, and cleared away where memnode was killed together with the process of the mount.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { MountRegister, mountRegisterFile } from '../../common/mount-register.ts';
import { readMountTable } from '../../common/mount-table.ts';
import { detachMount, takeAwayStale } from '../../common/stale-mounts.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { MOUNT_CALL_TIMEOUT_MS, mountSettings, type MountWords } from '../mount-settings.ts';
import { requireVisible } from '../mount-visible.ts';
import { describeHolders, mountHolders } from '../system/mount-holders.ts';

const TRY_INTERVAL_MS = 1000;
/** Exit codes of errors that time may mend: no daemon yet, no answer, no providers yet. */
const PASSING: readonly number[] = [3, 5, 7];

/** All is as the configuration has it. */
const NO_WORDS: MountWords = {
  ...{ directory: undefined, size: undefined, copies: undefined, volume: undefined },
  ...{ provider: undefined, 'allow-other': undefined, profile: undefined },
  ...{ 'fuse-transport': 'kernel', keep: false, overcommit: false },
  ...{ uid: undefined, gid: undefined, mode: undefined },
};

async function withClient<T>(
  socketPath: string,
  work: (client: MemcloudClient) => Promise<T>,
): Promise<T> {
  const client = await MemcloudClient.connect(socketPath);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Tries until it succeeds, fails for good, or the time is over. */
async function insist(deadlineMs: number, attempt: () => Promise<void>): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await attempt();
    } catch (thrown) {
      const error = asMemcloudError(thrown);
      if (!PASSING.includes(error.exitCode) || performance.now() >= endMs) throw error;
    }
    await delay(TRY_INTERVAL_MS);
  }
}

/**
 * Mounts as `[mount]` has it; a mount that is there already is right.
 *
 * @param deadlineMs - how long to try again
 * @returns where
 * @throws MemcloudError of the last try
 */
export async function keepMounted(socketPath: string, deadlineMs: number): Promise<string> {
  let directory = '';
  await insist(deadlineMs, () =>
    withClient(socketPath, async (client) => {
      const wish = await mountSettings(client, NO_WORDS);
      ({ directory } = wish);
      const mounts = await client.call('mount.list', {});
      if (mounts.some((mount) => mount.directory === directory && mount.state === 'mounted'))
        return;
      const made = await client.call('mount.create', wish, { timeoutMs: MOUNT_CALL_TIMEOUT_MS });
      await requireVisible(client, made.directory);
    }),
  );
  return directory;
}

/**
 * Unmounts what `[mount]` names: in order, and when it is still in use after so long, lazily. Without a
 * memnode its children have ended the mount by themselves.
 *
 * @param note - told who uses it
 */
export async function keepUnmounted(
  socketPath: string,
  deadlineMs: number,
  note: (text: string) => void,
): Promise<void> {
  let directory = '';
  const remove = (lazy: boolean): Promise<void> =>
    withClient(socketPath, async (client) => {
      ({ directory } = await mountSettings(client, NO_WORDS));
      await client.call('mount.remove', { directory, lazy }, { timeoutMs: MOUNT_CALL_TIMEOUT_MS });
    });
  const codeOf = async (work: Promise<void>): Promise<string> => {
    try {
      await work;
      return '';
    } catch (error) {
      const { code, message } = asMemcloudError(error);
      if (!['ERR_MOUNT_BUSY', 'ERR_TIMEOUT', ...GONE].includes(code)) throw error;
      if (!GONE.includes(code)) note(`${message}: ${describeHolders(mountHolders(directory))}`);
      return code;
    }
  };
  const endMs = performance.now() + deadlineMs;
  for (;;) {
    const code = await codeOf(remove(false));
    if (code === '' || GONE.includes(code)) return;
    if (performance.now() >= endMs) break;
    await delay(TRY_INTERVAL_MS);
  }
  await codeOf(remove(true));
}

const GONE: readonly string[] = ['ERR_MOUNT_UNKNOWN', 'ERR_DAEMON_UNREACHABLE'];

/** Takes away what a memnode has left that does not run any more; one that runs sees to it itself. */
export async function clearMounts(socketPath: string, note: (text: string) => void): Promise<void> {
  try {
    await withClient(socketPath, () => Promise.resolve());
    return;
  } catch (error) {
    const { code } = error instanceof MemcloudError ? error : { code: '' };
    if (code !== 'ERR_DAEMON_UNREACHABLE') throw error;
  }
  const say = (fields: Record<string, unknown>, message: string): void =>
    note(`${String(fields['directory'])}: ${message}`);
  const logger: Logger = { debug: say, info: say, warn: say, error: say, child: () => logger };
  const register = new MountRegister(mountRegisterFile(socketPath));
  await takeAwayStale(register, { table: readMountTable, detach: detachMount, logger });
}
