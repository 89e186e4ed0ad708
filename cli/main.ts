#!/usr/bin/env node
/**
 * `memcloud`: the command line. It is a thin user of the SDK: each command asks the daemon and
 * prints the answer. Exit codes are those of `common/errors.ts`.
 *
 * Start-up time is user time. So modules are loaded when they are needed, and a command that takes no
 * options of its own, given none, runs without the parser.
 */
import nodeModule from 'node:module';
import { ExitCode, MemcloudError, asMemcloudError } from '../common/errors.ts';
import type { Command } from './command.ts';
import { MODULES, commandWord, everyCommand } from './modules.ts';
import { translateOldNames } from './old-names.ts';
import { note, noteError, type GlobalFlags } from './output.ts';
import { usualSocketPath } from './usual-socket.ts';

/** Keeps compiled code from one start to the next, from Node 22.8 on. */
function keepCompiledCode(): void {
  const { enableCompileCache } = nodeModule as { enableCompileCache?: () => unknown };
  enableCompileCache?.();
}

async function loadCommands(args: readonly string[]): Promise<readonly Command[]> {
  const load = MODULES[commandWord(args) ?? ''];
  return load === undefined ? everyCommand() : (await load()).commands;
}

/** The global options of a command line that has nothing else beside one word; undefined for any other. */
function readPlain(
  args: readonly string[],
): { word: string; socket: string | undefined; json: boolean } | undefined {
  let word: string | undefined;
  let socket: string | undefined;
  let json: boolean | undefined;
  for (let at = 0; at < args.length; at += 1) {
    const arg = args[at] ?? '';
    if (arg === '--json' && json === undefined) json = true;
    else if ((arg === '--socket' || arg === '-s') && socket === undefined) {
      at += 1;
      socket = args[at];
      if (socket === undefined || socket.startsWith('-')) return undefined;
    } else if (word === undefined && /^[a-z]+$/.test(arg)) word = arg;
    else return undefined;
  }
  return word === undefined ? undefined : { word, socket, json: json ?? false };
}

/** Runs a command that takes nothing. @returns whether this was one */
async function runPlain(args: readonly string[], commands: readonly Command[]): Promise<boolean> {
  const plain = readPlain(args);
  const command = commands.find((each) => each.command === plain?.word);
  if (plain === undefined || command === undefined || command.builder !== undefined) return false;
  const socket = plain.socket ?? (await usualSocketPath());
  const flags: GlobalFlags = { socket, json: plain.json };
  await command.handler({ ...flags, _: [plain.word], $0: 'memcloud' });
  return true;
}

async function runParsed(args: readonly string[], commands: readonly Command[]): Promise<void> {
  const { makeParser } = await import('./parser.ts');
  const parser = makeParser(args, await usualSocketPath());
  for (const command of commands) parser.command(command);
  if (args.length === 0) {
    note(await parser.getHelp());
    process.exitCode = ExitCode.USAGE;
    return;
  }
  const flags = await parser.parseAsync();
  if (flags._.length === 0 && flags['help'] !== true && flags['version'] !== true) {
    throw new MemcloudError('ERR_USAGE', 'expected a command; see memcloud --help');
  }
}

async function main(written: readonly string[]): Promise<number> {
  try {
    if (written[0] === '__complete') {
      const { answerShell } = await import('./reference/answer-shell.ts');
      await answerShell(written.slice(1));
      return ExitCode.OK;
    }
    const args = translateOldNames(written);
    const commands = await loadCommands(args);
    if (!(await runPlain(args, commands))) await runParsed(args, commands);
  } catch (thrown) {
    const error = asMemcloudError(thrown);
    noteError(error, written.includes('--json'));
    // Whoever was ended by Ctrl-C has set its own.
    if (error.code === 'ERR_CANCELLED' && process.exitCode !== undefined) {
      return Number(process.exitCode);
    }
    return error.exitCode;
  }
  return Number(process.exitCode ?? ExitCode.OK);
}

// A reader that closes the pipe early, such as head, is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(ExitCode.OK);
});

keepCompiledCode();
process.exitCode = await main(process.argv.slice(2));
