#!/usr/bin/env node
/**
 * `memnode`: the daemon, in the foreground. SIGTERM and SIGINT end it in order: no new clients,
 * requests in flight finish, leases go back, keys are destroyed. A second signal ends it at once.
 * SIGHUP reads the configuration again, or, when it says that the terminal is gone, ends it too.
 *
 * Before anything else it puts itself under the kit (common/kit.ts), which may start this file anew;
 * therefore the parts of the daemon are loaded only afterwards.
 */
import tty from 'node:tty';
import { hideBin } from 'yargs/helpers';
import { monotonicClock } from '../common/clock.ts';
import { ExitCode, MemcloudError, asMemcloudError } from '../common/errors.ts';
import { fingerprintOf } from '../common/fingerprint.ts';
import { enterKit, type Kit } from '../common/kit.ts';
import { createLogger, type Logger } from '../common/log.ts';
import { readConfig, type DaemonConfig } from './config.ts';
import { keepLogFile } from './log-file.ts';
import { ServiceNotifier } from './notify.ts';
import type { Predecessor } from './handover/taker.ts';
import type { Daemon } from './wire.ts';

/** What `memory.min` asks for: the program, its heap and the ring of a volume or two. */
const MEMORY_MIN_BYTES = 256 * 2 ** 20;
/** An orderly end may take this long; then the process ends all the same. */
const SHUTDOWN_DEADLINE_MS = 20_000;
const STDERR_FD = 2;

function printReady(config: DaemonConfig, daemon: Daemon): void {
  const { nodeId, peerAddress } = daemon;
  const { name, socketPath, offerBytes } = config;
  const fingerprint = fingerprintOf(nodeId);
  const about = { event: 'ready', name, nodeId, fingerprint };
  const ready = { ...about, peerAddress, socketPath, offerBytes };
  const text =
    `memnode ${name} ready: we are: ${fingerprint} (what they see), id ${nodeId}, ` +
    `peers ${peerAddress}, rpc ${socketPath}`;
  process.stdout.write(`${config.json ? JSON.stringify(ready) : text}\n`);
}

/** Nobody waits for the outcome of a signal: the log has it. */
function reload(daemon: Daemon, notifier: ServiceNotifier): void {
  notifier.reloading();
  try {
    daemon.liveConfig.reload();
  } catch (error) {
    if (!(error instanceof MemcloudError)) throw error;
  } finally {
    notifier.ready();
  }
}

/** Ends as a program does whose terminal is gone: node's own exit would touch the terminal and abort. */
function hangUp(): void {
  process.removeAllListeners('SIGHUP');
  process.kill(process.pid, 'SIGHUP');
}

/** Says which protections are missing; a machine that does not swap through us needs none. */
function logKit(kit: Kit, logger: Logger): void {
  const names = (active: boolean): string =>
    kit.parts
      .filter((part) => part.active === active && (active || !part.optional))
      .map(({ part }) => part)
      .join(' ');
  logger.info({ active: names(true), missing: names(false) }, 'kit');
}

/** Loaded only when it is wanted, before anybody waits. */
async function predecessorOf(config: DaemonConfig): Promise<Predecessor | undefined> {
  if (!config.replace) return undefined;
  const { Predecessor } = await import('./handover/taker.ts');
  return new Predecessor(config.socketPath, config.force);
}

async function main(): Promise<void> {
  const config = await readConfig(hideBin(process.argv));
  if (config === undefined) return;
  const { kit, realtimePriority } = config;
  const entered =
    kit === 'off' ? undefined : enterKit({ memoryMinBytes: MEMORY_MIN_BYTES, realtimePriority });
  if (config.logFile !== undefined) keepLogFile(config.logFile);
  const hadTerminal = tty.isatty(STDERR_FD);
  const logger = createLogger(config.logLevel);
  if (entered !== undefined) logKit(entered, logger);
  const { NOTIFY_SOCKET, WATCHDOG_USEC } = process.env;
  const notifier = new ServiceNotifier(process.env, process.pid, logger);
  const { Daemon } = await import('./wire.ts');
  const daemon = await Daemon.start(config, logger, await predecessorOf(config));
  daemon.onTick = () => notifier.onTick(monotonicClock.nowMs(), () => daemon.poolNumbers());
  let ending = false;
  daemon.successorEnvironment = { NOTIFY_SOCKET, WATCHDOG_USEC };
  daemon.onHandedOver = (successorPid) => {
    ending = true;
    notifier.handedOver(successorPid);
  };
  // A daemon that has nothing left has nothing to close either.
  daemon.onHandoverEnded = () => process.exit(ExitCode.OK);
  const end = (why: string, leave: () => void = () => process.exit(ExitCode.OK)): void => {
    if (ending) process.exit(ExitCode.FAILURE);
    ending = true;
    logger.info({ why }, 'shutting down');
    notifier.stopping();
    setTimeout(() => process.exit(ExitCode.FAILURE), SHUTDOWN_DEADLINE_MS).unref();
    void daemon.close().then(leave);
  };
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  process.on('SIGHUP', () => {
    if (ending) return;
    if (hadTerminal && !tty.isatty(STDERR_FD)) end('the terminal is gone', hangUp);
    else reload(daemon, notifier);
  });
  daemon.onShutdownRequested = () => end('RPC');
  // Whoever started us may close our output early; that is no reason to end.
  process.stdout.on('error', () => undefined);
  // Whoever passed a socket knows that it can be used, and may print on the same stdout.
  if (config.exportVolume === undefined) printReady(config, daemon);
  notifier.ready();
  daemon.liveConfig.onPhase = (phase) => {
    if (phase === 'reloading') notifier.reloading();
    else notifier.ready();
  };
}

try {
  await main();
} catch (thrown) {
  const error = asMemcloudError(thrown);
  process.stderr.write(`memnode: ${error.message}\n`);
  if (error.code === 'ERR_INTERNAL') process.stderr.write(`${error.stack ?? ''}\n`);
  process.exit(error.exitCode);
}
