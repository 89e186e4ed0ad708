#!/usr/bin/env node
/**
 * `memcloud`: the command line. It is a thin user of the SDK: each command asks the daemon and
 * prints the answer. Exit codes are those of `common/errors.ts`.
 */
import yargs, { type Argv } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { ExitCode, MemcloudError, asMemcloudError } from '../common/errors.ts';
import { findConfigFiles } from '../common/config/files.ts';
import { defaultSocketPath } from '../common/paths.ts';
import { VERSION } from '../common/version.ts';
import type { Command } from './command.ts';
import { note, noteError, type GlobalFlags } from './output.ts';

/** Modules by first word, loaded only when they are asked for: start-up time is user time. */
const MODULES: Readonly<Record<string, () => Promise<{ commands: readonly Command[] }>>> = {
  status: () => import('./commands/status.ts'),
  peer: () => import('./commands/peer.ts'),
  drain: () => import('./commands/drain.ts'),
  undrain: () => import('./commands/drain.ts'),
  consent: () => import('./commands/consent.ts'),
  trust: () => import('./commands/trust.ts'),
  volume: () => import('./commands/volume.ts'),
  nbd: () => import('./commands/nbd.ts'),
  swap: () => import('./commands/swap.ts'),
  mount: () => import('./commands/mount.ts'),
  umount: () => import('./commands/mount.ts'),
  run: () => import('./commands/run.ts'),
  config: () => import('./commands/config.ts'),
  service: () => import('./commands/service.ts'),
  restart: () => import('./commands/restart.ts'),
  doctor: () => import('./commands/doctor.ts'),
  demo: () => import('./commands/demo.ts'),
};

const EPILOGUE = `Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon not running, 4 consent or
authentication needed, 5 try again later, 6 not found, 7 quota or capacity, 8 data lost,
9 doctor found problems. "memcloud run" ends with the exit code of its command.`;

/** Where the daemon of this configuration listens. A mistake elsewhere in it is not our business. */
async function usualSocketPath(): Promise<string> {
  const { env } = process;
  const { MEMCLOUD_CONFIG: configPath } = env;
  if (env['MEMCLOUD_SOCKET'] || findConfigFiles(configPath || undefined, env).files.length === 0) {
    return defaultSocketPath();
  }
  const { resolveConfig } = await import('../common/config/resolve.ts');
  return resolveConfig({ env }).values.socket;
}

function parserFor(args: readonly string[], socketPath: string): Argv<GlobalFlags> {
  return yargs([...args])
    .scriptName('memcloud')
    .usage(
      '$0 [--socket PATH] [--json] COMMAND\n\nThe RAM of the machines around you, as swap, disks and files.',
    )
    .option('socket', {
      type: 'string',
      default: socketPath,
      describe: 'RPC socket of the daemon (also MEMCLOUD_SOCKET)',
    })
    .option('json', { type: 'boolean', default: false, describe: 'print JSON on stdout' })
    .parserConfiguration({ 'populate--': true, 'duplicate-arguments-array': true })
    .strict()
    .check(refuseRepeated)
    .locale('en')
    .updateStrings({
      'Not enough non-option arguments: got %s, need at least %s': {
        one: 'an argument is missing: got %s, need %s',
        other: 'arguments are missing: got %s, need %s',
      } as never,
    })
    .recommendCommands()
    .version(VERSION)
    .alias('help', 'h')
    .epilogue(EPILOGUE)
    .wrap(Math.min(100, process.stdout.columns || 100))
    .exitProcess(false);
}

/** Options that may be given more than once. */
const LIST_OPTIONS: readonly string[] = ['_', '--', 'provider', 'providers', 'file', 'connect'];

function refuseRepeated(flags: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(flags)) {
    if (!Array.isArray(value) || LIST_OPTIONS.includes(name)) continue;
    throw new MemcloudError('ERR_USAGE', `--${name} was given ${value.length} times`);
  }
  return true;
}

async function loadCommands(args: readonly string[]): Promise<Command[]> {
  const named = args.find((arg) => Object.hasOwn(MODULES, arg));
  const load = named === undefined ? undefined : MODULES[named];
  const loaders = load === undefined ? Object.values(MODULES) : [load];
  // A module comes once, whatever number of words lead to it.
  const modules = new Set(await Promise.all(loaders.map((load) => load())));
  return [...modules].flatMap((module) => module.commands);
}

async function main(args: readonly string[]): Promise<number> {
  const parser = parserFor(args, await usualSocketPath());
  for (const command of await loadCommands(args)) parser.command(command);
  // To throw is what keeps yargs from running the command all the same.
  parser.fail((message, error) => {
    const hint = message?.includes('--help') ? '' : '; see memcloud --help';
    throw error ?? new MemcloudError('ERR_USAGE', `${message}${hint}`);
  });
  const json = args.includes('--json');
  try {
    if (args.length === 0) {
      note(await parser.getHelp());
      return ExitCode.USAGE;
    }
    const flags = await parser.parseAsync();
    if (flags._.length === 0 && flags['help'] !== true && flags['version'] !== true) {
      throw new MemcloudError('ERR_USAGE', 'expected a command; see memcloud --help');
    }
  } catch (thrown) {
    const error = asMemcloudError(thrown);
    noteError(error, json);
    return error.exitCode;
  }
  return Number(process.exitCode ?? ExitCode.OK);
}

// A reader that closes the pipe early, such as head, is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(ExitCode.OK);
});

process.exitCode = await main(hideBin(process.argv));
