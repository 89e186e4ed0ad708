/**
 * `memcloud node`: memnode in the background. As with systemctl, to start what runs and to stop what does
 * not is done already and no error; `node status` of what does not run ends with 3.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Argv } from 'yargs';
import {
  EARLIER_NAMES,
  PORT_DESCRIPTION,
  listenAtPort,
} from '../../common/config/earlier-names.ts';
import { OPTION_KEYS, optionOf, type OptionKey } from '../../common/config/options.ts';
import { refuseProblems, resolveConfig } from '../../common/config/resolve.ts';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { processStart } from '../../common/process-start.ts';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { formatDuration, formatSize } from '../../common/units.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { launchNode, runNode } from '../node/launch.ts';
import { isUnitInstalled, usualLogFile } from '../node/log-place.ts';
import { endingWith, swapOnNode, waitForEnd } from '../node/stop.ts';
import { note, printData, printable, type GlobalFlags } from '../output.ts';
import { poolSwaps } from '../pool-swaps.ts';
import { commands as restartCommands } from './restart.ts';

/** memnode gives itself 20 s for an orderly end. */
const STOP_TIMEOUT_MS = 30_000;
/** How long a memnode that holds the state directory may take until it answers, milliseconds. */
const OTHER_START_WAIT_MS = 5_000;
const OTHER_START_LOOK_MS = 100;

interface StartFlags {
  port: number | undefined;
  foreground: boolean;
  config: string | undefined;
  [option: string]: unknown;
}

function addOption(argv: Argv<GlobalFlags>, key: OptionKey): Argv<GlobalFlags> {
  const { kind, describe, hasFlag, isHidden, fallbackText } = optionOf(key);
  // --socket is an option of every command.
  if (!hasFlag || key === 'socket') return argv;
  return argv.option(key, {
    describe,
    hidden: isHidden,
    defaultDescription: fallbackText,
    alias: [...(EARLIER_NAMES[key] ?? [])],
    ...(kind.flag === 'switch' ? { type: 'boolean' as const } : { type: 'string' as const }),
    ...(kind.flag === 'list' ? { array: true, nargs: 1 } : {}),
  });
}

/** The options of memnode that were given, as words for it. */
function wordsFor(flags: StartFlags & GlobalFlags): string[] {
  const { port, config, socket } = flags;
  const given = OPTION_KEYS.filter((key) => key !== 'socket' && flags[key] !== undefined);
  return [
    ...['--socket', path.resolve(socket)],
    ...(config === undefined ? [] : ['--config', path.resolve(config)]),
    ...(port === undefined ? [] : [`--listen=${listenAtPort(port, flags['listen'])}`]),
    ...given.flatMap((key) => {
      const value = flags[key];
      if (Array.isArray(value)) return value.map((each) => `--${key}=${String(each)}`);
      if (typeof value === 'boolean') return [value ? `--${key}` : `--no-${key}`];
      return [`--${key}=${String(value)}`];
    }),
  ];
}

/** Who answers on the socket; undefined when nobody does. */
async function statusOf(socketPath: string): Promise<StatusInfo | undefined> {
  let client: MemcloudClient;
  try {
    client = await MemcloudClient.connect(socketPath);
  } catch (error) {
    if (asMemcloudError(error).code === 'ERR_DAEMON_UNREACHABLE') return undefined;
    throw error;
  }
  try {
    return await client.call('status', {});
  } finally {
    client.close();
  }
}

/** A node as `node start` and `node status` print it. */
interface NodeJson {
  readonly running: boolean;
  readonly pid: number;
  readonly name: string;
  readonly nodeId: string;
  readonly peerAddress: string;
  readonly socketPath: string;
}

function nodeOf(status: StatusInfo, socketPath: string): NodeJson {
  const { pid, name, nodeId, peerAddress } = status;
  return { running: true, pid, name, nodeId, peerAddress, socketPath };
}

function reportRunning(flags: GlobalFlags, status: StatusInfo): void {
  const { name, pid } = status;
  printData(flags, { started: false, ...nodeOf(status, flags.socket) }, () => {
    return `memnode ${printable(name)} runs already (process ${pid}); nothing was changed.`;
  });
}

/** Where the log is to be, by the same rules as memnode's own. */
function logFileFor(flags: StartFlags): string {
  const { state, 'log-file': file, config } = flags;
  const written = { state, 'log-file': file };
  const configPath = config === undefined ? undefined : path.resolve(config);
  const { values, problems } = resolveConfig({ flags: written, env: process.env, configPath });
  refuseProblems(problems);
  return path.resolve(values['log-file'] ?? usualLogFile(values.state));
}

/** The memnode that another command is just starting, if one answers in time. */
async function otherStart(socketPath: string, waitMs: number): Promise<StatusInfo | undefined> {
  const endMs = performance.now() + waitMs;
  for (;;) {
    const status = await statusOf(socketPath).catch(() => undefined);
    if (status !== undefined || performance.now() >= endMs) return status;
    await delay(OTHER_START_LOOK_MS);
  }
}

async function start(flags: StartFlags & GlobalFlags): Promise<void> {
  const words = wordsFor(flags);
  if (flags.foreground) {
    process.exitCode = await runNode([...words, ...(flags.json ? ['--json'] : [])]);
    return;
  }
  const running = await statusOf(flags.socket);
  if (running !== undefined) return reportRunning(flags, running);
  const logFile = logFileFor(flags);
  const withLog = flags['log-file'] === undefined ? [...words, `--log-file=${logFile}`] : words;
  try {
    const { pid, ready } = await launchNode(withLog, logFile);
    const { name, nodeId, peerAddress, socketPath, offerBytes } = ready;
    const node: NodeJson = { running: true, pid, name, nodeId, peerAddress, socketPath };
    printData(flags, { started: true, ...node, logFile, offerBytes }, () =>
      [
        `memnode ${printable(name)} runs (process ${pid}) and lends ${formatSize(offerBytes)}.`,
        `id ${nodeId}, peers reach it at ${peerAddress}`,
        `rpc ${socketPath}, log ${logFile}`,
      ].join('\n'),
    );
    if (isUnitInstalled()) {
      note('memcloud: memnode.service is installed; started by systemctl it comes back by itself');
    }
  } catch (error) {
    // Somebody else may have been faster, and have the state directory but no socket yet.
    const waits = asMemcloudError(error).code === 'ERR_DAEMON_BUSY';
    const other = await otherStart(flags.socket, waits ? OTHER_START_WAIT_MS : 0);
    if (other === undefined) throw error;
    reportRunning(flags, other);
  }
}

interface StopFlags {
  force: boolean;
}

async function stop(flags: StopFlags & GlobalFlags): Promise<void> {
  const status = await statusOf(flags.socket);
  if (status === undefined) {
    printData(flags, { stopped: false }, () => `No memnode runs on ${flags.socket}.`);
    return;
  }
  const { pid, name } = status;
  const started = processStart(pid);
  const tookMs = await withDaemon(flags, async (client) => {
    const dangers = swapOnNode(status, await poolSwaps(client));
    if (dangers.length > 0 && !flags.force) {
      throw new MemcloudError(
        'ERR_SWAP_UNSAFE',
        `memnode carries swap, and programs whose pages are lost are killed:\n${dangers.join('\n')}\n` +
          'or, all the same: memcloud node stop --force',
      );
    }
    for (const sentence of endingWith(status)) note(`memcloud: ends with it: ${sentence}`);
    const beganMs = performance.now();
    await client.call('shutdown', {});
    await waitForEnd(pid, started, STOP_TIMEOUT_MS);
    return Math.round(performance.now() - beganMs);
  });
  printData(flags, { stopped: true, pid, tookMs }, () => {
    return `memnode ${printable(name)} (process ${pid}) has ended, after ${formatDuration(tookMs)}.`;
  });
}

const startCommand = command<StartFlags>({
  command: 'start',
  describe: 'start memnode in the background, with any of its options',
  builder: (argv) =>
    OPTION_KEYS.reduce(addOption, argv)
      .option('port', {
        alias: 'p',
        type: 'number',
        describe: PORT_DESCRIPTION,
      })
      .option('config', { type: 'string', describe: 'configuration file or folder to read' })
      .option('foreground', {
        type: 'boolean',
        default: false,
        describe: 'stay, and log to this terminal',
      })
      .example('$0 node start', '')
      .example('$0 node start --name attic --memory 8G --port 8080', ''),
  handler: start,
});

const stopCommand = command<StopFlags>({
  command: 'stop',
  describe: 'end memnode in order, and wait until it is gone',
  builder: (argv) =>
    argv.option('force', {
      type: 'boolean',
      default: false,
      describe: 'although swap lies on it: programs may be killed',
    }),
  handler: stop,
});

const statusCommand: Command = {
  command: 'status',
  describe: 'tell whether memnode runs; exit code 3 when it does not',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const status = await client.call('status', {});
      printData(flags, nodeOf(status, flags.socket), ({ name, nodeId, pid, peerAddress }) => {
        const up = formatDuration(status.uptimeS * 1000);
        return `memnode ${printable(name)} runs (process ${pid}) for ${up}; id ${nodeId}, peers reach it at ${peerAddress}`;
      });
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('node', 'start and stop memnode in the background', [
    startCommand,
    stopCommand,
    statusCommand,
    ...restartCommands,
  ]),
];
