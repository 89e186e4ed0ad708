#!/usr/bin/env node
/**
 * A control node, in the foreground; `memcloud control-plane` starts it. SIGTERM and SIGINT end it in order:
 * no new calls, another control node may lead, sessions end, the store is closed. A second signal ends it at
 * once, which harms nothing: whatever it has granted is in the store.
 */
import { hideBin } from 'yargs/helpers';
import { monotonicClock } from '../common/clock.ts';
import { ExitCode, asMemcloudError } from '../common/errors.ts';
import { fingerprintOf } from '../common/fingerprint.ts';
import { createLogger } from '../common/log.ts';
import { readControlConfig, type ControlConfig } from './control-plane/options.ts';
import { keepLogFile } from './log-file.ts';
import { ServiceNotifier } from './notify.ts';
import type { ControlNode } from './wire-control-plane.ts';

/** An orderly end may take this long; then the process ends all the same. */
const SHUTDOWN_DEADLINE_MS = 10_000;
/** The watchdog is fed and the status line renewed from here. */
const TICK_MS = 500;

function printReady(config: ControlConfig, node: ControlNode): void {
  const { nodeId, peerAddress, storeDescription: store } = node;
  const { name, socketPath } = config;
  const fingerprint = fingerprintOf(nodeId);
  const ready = { event: 'ready', name, nodeId, fingerprint, peerAddress, socketPath, store };
  const text =
    `control node ${name} ready: we are: ${fingerprint} (what they see), id ${nodeId}, ` +
    `members ${peerAddress}, rpc ${socketPath}, store ${store}`;
  process.stdout.write(`${config.json ? JSON.stringify(ready) : text}\n`);
}

async function main(): Promise<void> {
  const config = await readControlConfig(hideBin(process.argv));
  if (config === undefined) return;
  if (config.logFile !== undefined) keepLogFile(config.logFile);
  const logger = createLogger(config.logLevel);
  const notifier = new ServiceNotifier(process.env, process.pid, logger);
  const { ControlNode } = await import('./wire-control-plane.ts');
  const node = await ControlNode.start(config, logger);
  let ending = false;
  const end = (why: string): void => {
    if (ending) process.exit(ExitCode.FAILURE);
    ending = true;
    logger.info({ why }, 'shutting down');
    notifier.stopping('handing over to another control node');
    setTimeout(() => process.exit(ExitCode.FAILURE), SHUTDOWN_DEADLINE_MS).unref();
    void node.close().then(() => process.exit(ExitCode.OK));
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => end(signal));
  }
  node.onShutdownRequested = () => end('RPC');
  setInterval(() => notifier.onTextTick(monotonicClock.nowMs(), () => node.statusText()), TICK_MS);
  // Whoever started us may close our output early; that is no reason to end.
  process.stdout.on('error', () => undefined);
  printReady(config, node);
  notifier.ready();
}

try {
  await main();
} catch (thrown) {
  const error = asMemcloudError(thrown);
  process.stderr.write(`memcloud control-plane: ${error.message}\n`);
  if (error.code === 'ERR_INTERNAL') process.stderr.write(`${error.stack ?? ''}\n`);
  process.exit(error.exitCode);
}
