#!/usr/bin/env node
/**
 * `memnode`: the daemon, in the foreground. SIGTERM and SIGINT end it in order: no new clients,
 * requests in flight finish, leases go back, keys are destroyed. A second signal ends it at once.
 * SIGHUP reads the configuration again, or, when it says that the terminal is gone, ends it too.
 */
import tty from 'node:tty';
import { hideBin } from 'yargs/helpers';
import { monotonicClock } from '../common/clock.ts';
import { ExitCode, MemcloudError, asMemcloudError } from '../common/errors.ts';
import { createLogger } from '../common/log.ts';
import { readConfig, type DaemonConfig } from './config.ts';
import { ServiceNotifier } from './notify.ts';
import { Daemon } from './wire.ts';

/** An orderly end may take this long; then the process ends all the same. */
const SHUTDOWN_DEADLINE_MS = 20_000;
const STDERR_FD = 2;

function printReady(config: DaemonConfig, daemon: Daemon): void {
  const { nodeId, peerAddress } = daemon;
  const { name, socketPath, offerBytes } = config;
  const ready = { event: 'ready', name, nodeId, peerAddress, socketPath, offerBytes };
  const text = `memnode ${name} ready: id ${nodeId}, peers ${peerAddress}, rpc ${socketPath}`;
  process.stdout.write(`${config.json ? JSON.stringify(ready) : text}\n`);
}

/** Nobody waits for the outcome of a signal: the log has it. */
function reload(daemon: Daemon): void {
  try {
    daemon.liveConfig.reload();
  } catch (error) {
    if (!(error instanceof MemcloudError)) throw error;
  }
}

/** Ends as a program does whose terminal is gone: node's own exit would touch the terminal and abort. */
function hangUp(): void {
  process.removeAllListeners('SIGHUP');
  process.kill(process.pid, 'SIGHUP');
}

async function main(): Promise<void> {
  const config = await readConfig(hideBin(process.argv));
  if (config === undefined) return;
  const hadTerminal = tty.isatty(STDERR_FD);
  const logger = createLogger(config.logLevel);
  const notifier = new ServiceNotifier(process.env, process.pid, logger);
  const daemon = await Daemon.start(config, logger);
  daemon.onTick = () => notifier.onTick(monotonicClock.nowMs(), () => daemon.poolNumbers());
  let ending = false;
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
    else reload(daemon);
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
