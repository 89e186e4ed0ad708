/**
 * How a daemon is to run: the command line of `memnode`, checked. Everything has a safe default.
 */
import os from 'node:os';
import path from 'node:path';
import yargs from 'yargs';
import { MemcloudError } from '../common/errors.ts';
import { LOG_LEVELS, type LogLevel } from '../common/log.ts';
import { checkSocketPath, defaultSocketPath, defaultStateDirectory } from '../common/paths.ts';
import { parseAddress, parseSize, roundUpToPages } from '../common/units.ts';
import { VERSION } from '../common/version.ts';

/** The options of a daemon. */
export interface DaemonConfig {
  /** Where identity and trust are kept. */
  readonly stateDirectory: string;
  /** The RPC socket. */
  readonly socketPath: string;
  /** Where peers reach it. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Bytes that it lends at most. */
  readonly offerBytes: number;
  /** What it calls itself. */
  readonly name: string;
  /** Peers to dial, `HOST:PORT`. */
  readonly connect: readonly string[];
  /** Trust a key that was never seen without asking. */
  readonly autoTrust: boolean;
  /** Where lent pages lie; the provider chooses without. */
  readonly memoryDirectory: string | undefined;
  /** Serve one new volume on the socket that the service manager passed (LISTEN_FDS). */
  readonly exportVolume: { readonly name: string; readonly sizeBytes: number } | undefined;
  /** `auto`: protect the process as far as its rights go (common/kit.ts). */
  readonly kit: 'auto' | 'off';
  /** Priority of SCHED_FIFO, 1 to 99; 0 leaves the ordinary policy. */
  readonly realtimePriority: number;
  /** How long providers keep its pages after it fell silent, milliseconds. */
  readonly leaseTtlMs: number;
  /** What is logged. */
  readonly logLevel: LogLevel;
  /** Print the ready line as JSON. */
  readonly json: boolean;
}

const OFFER_MAX_DEFAULT_BYTES = 8 * 2 ** 30;
const LEASE_TTL_DEFAULT_S = 120;
/** Below, one lost renewal would end a lease. */
const LEASE_TTL_MIN_S = 5;
const LEASE_TTL_MAX_S = 24 * 3600;
const REALTIME_MAX = 99;
const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** A quarter of the machine's RAM, at most 8 GiB. */
function defaultOfferBytes(): number {
  return Math.min(Math.floor(os.totalmem() / 4), OFFER_MAX_DEFAULT_BYTES);
}

/** The host name, made a valid node name. */
function defaultName(): string {
  const name =
    os
      .hostname()
      .split('.')[0]
      ?.replace(/[^A-Za-z0-9._-]/g, '-') ?? '';
  return NAME_PATTERN.test(name) ? name : 'memnode';
}

function parseExport(text: string): { name: string; sizeBytes: number } {
  const [name = '', size = ''] = text.split('=');
  const sizeBytes = roundUpToPages(parseSize(size));
  if (!NAME_PATTERN.test(name) || sizeBytes === 0) {
    throw new MemcloudError('ERR_USAGE', `--export: expected NAME=SIZE, got "${text}"`);
  }
  return { name, sizeBytes };
}

function parseLeaseTtl(seconds: number): number {
  if (seconds >= LEASE_TTL_MIN_S && seconds <= LEASE_TTL_MAX_S) return Math.round(seconds * 1000);
  throw new MemcloudError(
    'ERR_USAGE',
    `--lease-ttl: expected ${LEASE_TTL_MIN_S} to ${LEASE_TTL_MAX_S} seconds, got ${seconds}`,
  );
}

function parseRealtime(priority: number): number {
  if (Number.isInteger(priority) && priority >= 0 && priority <= REALTIME_MAX) return priority;
  throw new MemcloudError(
    'ERR_USAGE',
    `--realtime: expected a priority of 1 to ${REALTIME_MAX}, or 0 for none, got ${priority}`,
  );
}

/** The options; the types of the flags follow from them. */
function parserFor(args: readonly string[]) {
  return yargs([...args])
    .scriptName('memnode')
    .usage(
      '$0 [OPTION]...\n\nLends this machine’s idle RAM to trusted peers and borrows theirs. Runs in the' +
        ' foreground; prints one line on stdout when it is ready, logs JSON lines on stderr.',
    )
    .option('state', {
      type: 'string',
      default: defaultStateDirectory(),
      describe: 'directory of identity and trust',
    })
    .option('socket', { type: 'string', default: defaultSocketPath(), describe: 'RPC socket' })
    .option('listen', {
      type: 'string',
      default: '0.0.0.0:7070',
      describe: 'ADDR:PORT for peers; port 0 chooses one',
    })
    .option('offer', {
      type: 'string',
      describe: 'RAM to lend (default: a quarter of it, at most 8 GiB); 0 lends none',
    })
    .option('name', {
      type: 'string',
      default: defaultName(),
      describe: 'what peers call this node',
    })
    .option('connect', {
      type: 'string',
      array: true,
      nargs: 1,
      default: [],
      describe: 'HOST:PORT of a peer; may be repeated',
    })
    .option('mdns', {
      type: 'boolean',
      default: false,
      describe: 'reserved for discovery; peers are named with --connect',
    })
    .option('auto-trust', {
      type: 'boolean',
      default: false,
      describe: 'trust first-seen keys WITHOUT ASKING; for labs and tests only',
    })
    .option('memory-dir', { type: 'string', describe: 'tmpfs directory for lent pages' })
    .option('export', {
      type: 'string',
      describe: 'NAME=SIZE: serve a new volume on the NBD socket passed by LISTEN_FDS',
    })
    .option('kit', {
      choices: ['auto', 'off'] as const,
      default: 'auto' as const,
      describe: 'protect memnode from the memory shortage that it relieves, as far as it may',
    })
    .option('realtime', {
      type: 'number',
      default: 0,
      describe: 'run before ordinary programs: priority 1 to 99 (SCHED_FIFO)',
    })
    .option('lease-ttl', {
      type: 'number',
      default: LEASE_TTL_DEFAULT_S,
      hidden: true,
      describe: 'seconds that providers keep our pages after we fell silent',
    })
    .option('log-level', {
      choices: LOG_LEVELS,
      default: 'info' as const,
      describe: 'what is logged on stderr',
    })
    .option('json', { type: 'boolean', default: false, describe: 'print the ready line as JSON' })
    .strict()
    .check((flags) => {
      for (const [name, value] of Object.entries(flags)) {
        if (!Array.isArray(value) || name === '_' || name === 'connect') continue;
        throw new MemcloudError('ERR_USAGE', `--${name} was given ${value.length} times`);
      }
      return true;
    })
    .locale('en')
    .parserConfiguration({ 'duplicate-arguments-array': true })
    .showHidden('show-hidden', 'also show options for tests and tuning')
    .version(VERSION)
    .alias('help', 'h')
    .wrap(Math.min(100, process.stdout.columns || 100))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new MemcloudError('ERR_USAGE', `${message}; see memnode --help`);
    });
}

/**
 * Reads the command line.
 *
 * @returns the configuration; undefined when the arguments asked for help or the version, which has
 *   been printed then
 * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_SIZE`, `ERR_USAGE_ADDRESS`
 */
export async function readConfig(args: readonly string[]): Promise<DaemonConfig | undefined> {
  const flags = await parserFor(args).parseAsync();
  if (flags['help'] === true || flags['version'] === true) return undefined;
  if (!NAME_PATTERN.test(flags.name)) {
    throw new MemcloudError(
      'ERR_USAGE',
      '--name: expected 1 to 63 letters, digits, dots or dashes',
    );
  }
  for (const address of flags.connect) parseAddress(address);
  return {
    stateDirectory: path.resolve(flags.state),
    socketPath: checkSocketPath(path.resolve(flags.socket)),
    listen: parseAddress(flags.listen),
    offerBytes: flags.offer === undefined ? defaultOfferBytes() : parseSize(flags.offer),
    name: flags.name,
    connect: flags.connect,
    autoTrust: flags['auto-trust'],
    memoryDirectory: flags['memory-dir'],
    exportVolume: flags.export === undefined ? undefined : parseExport(flags.export),
    kit: flags.kit,
    realtimePriority: parseRealtime(flags.realtime),
    leaseTtlMs: parseLeaseTtl(flags['lease-ttl']),
    logLevel: flags['log-level'],
    json: flags.json,
  };
}
