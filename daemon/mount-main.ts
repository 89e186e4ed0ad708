/**
 * The process of one mount: `memnode` starts it, with a channel for words (mounts/protocol.ts), and it ends
 * with its mount or with memnode. It stands at `/`, keeps no file open below its mount and looks at none:
 * its own file system would be asked, by the thread that is to answer.
 *
 * SIGINT and SIGHUP of a terminal reach memnode too, which says what to do; SIGTERM is for this process
 * alone. What memnode's death leaves to do it does by itself (mounts/child.ts).
 */
import { becomeIoFlusher } from '../common/kit.ts';
import { createLogger, LOG_LEVELS, type LogLevel } from '../common/log.ts';
import { MountChild, type StartMessage } from './mounts/child.ts';
import type { FromMount, ToMount } from './mounts/protocol.ts';

const logger = createLogger('info');

function levelOf({ logLevel }: StartMessage): LogLevel {
  return LOG_LEVELS.find((level) => level === logLevel) ?? 'info';
}

/** Resolves when the message is in the channel, or there is none any more. */
function send(message: FromMount): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) return resolve();
    process.send(message, undefined, undefined, () => resolve());
  });
}

process.chdir('/');
// Whoever reads our output may be gone; that is no reason to end a mount.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

const child = new MountChild({
  open: async (start, cancelled, onUnmounted) => {
    logger.setLevel(levelOf(start));
    const { directory } = start.request;
    const log = logger.child({ mount: directory });
    log.debug({ active: becomeIoFlusher() }, 'PR_SET_IO_FLUSHER');
    // Not before: a process that is to end at once needs none of it.
    const { PoolMount } = await import('./wire-mount.ts');
    return PoolMount.open(start, log, {
      cancelled,
      onUnmounted,
      onQuarantine: (nodeId, reason) => void send({ type: 'quarantine', nodeId, reason }),
    });
  },
  send,
  exit: (code) => process.exit(code),
  note: (fields, message) => logger.info(fields, message),
});

process.on('message', (message) => child.onMessage(message as ToMount));
process.on('disconnect', () => child.end('memnode is gone'));
process.on('SIGTERM', () => child.end('SIGTERM'));
process.on('SIGINT', () => undefined);
process.on('SIGHUP', () => undefined);
