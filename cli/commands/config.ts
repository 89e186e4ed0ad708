/** `memcloud config`: what the daemon is told by files and environment, whether it is right, and now. */
import type { Argv } from 'yargs';
import { OPTION_KEYS, isOptionKey, optionOf, type OptionKey } from '../../common/config/options.ts';
import { findConfigFiles } from '../../common/config/files.ts';
import {
  checkConfigFiles,
  chosenConfigPath,
  describeProblem,
  resolveConfig,
  type ConfigProblem,
  type ResolvedConfig,
} from '../../common/config/resolve.ts';
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import type { ConfigChange, ConfigInfo, ConfigSetting } from '../../common/rpc-config.ts';
import { command, group, withDaemon, type Command } from '../command.ts';
import { note, printData, printable, table, type GlobalFlags } from '../output.ts';

interface FileFlags {
  config: string | undefined;
}

function withConfig(argv: Argv<GlobalFlags>): Argv<GlobalFlags & FileFlags> {
  return argv.option('config', {
    type: 'string',
    describe: 'file or folder instead of the usual ones (also MEMCLOUD_CONFIG)',
  });
}

/** A value as people read it. */
function show(key: string, value: unknown): string {
  if (!isOptionKey(key)) return JSON.stringify(value);
  return optionOf(key).kind.show(value ?? undefined);
}

/** The running daemon's configuration; undefined when there is no daemon. */
async function running(flags: GlobalFlags): Promise<ConfigInfo | undefined> {
  try {
    return await withDaemon(flags, (client) => client.call('config.get', {}));
  } catch (error) {
    if (error instanceof MemcloudError && error.code === 'ERR_DAEMON_UNREACHABLE') return undefined;
    throw error;
  }
}

/** A row of `config show`. */
interface ShownSetting extends ConfigSetting {
  /** What the running daemon does, where that is another value. */
  readonly running?: { readonly value: unknown; readonly source: string; readonly at: string };
}

function rowOf(key: OptionKey, resolved: ResolvedConfig, daemon: ConfigInfo | undefined) {
  const value = resolved.values[key] ?? null;
  const row: ShownSetting = { key, value, ...resolved.origins[key] };
  const now = daemon?.settings.find((setting) => setting.key === key);
  if (now === undefined || JSON.stringify(now.value) === JSON.stringify(value)) return row;
  return { ...row, running: { value: now.value, source: now.source, at: now.at } };
}

function renderSettings(rows: readonly ShownSetting[], withOrigin: boolean): string {
  const differs = rows.some(({ running }) => running !== undefined);
  const header = ['KEY', 'VALUE', ...(withOrigin ? ['ORIGIN'] : [])];
  const runningHeader = withOrigin ? ['RUNNING', 'ORIGIN'] : ['RUNNING'];
  const lines = rows.map(({ key, value, source, at, running }) => {
    const now =
      running === undefined ? ['', ''] : [show(key, running.value), running.at || running.source];
    const line = [key, show(key, value), ...(withOrigin ? [at || source] : [])];
    return differs ? [...line, ...(withOrigin ? now : now.slice(0, 1))] : line;
  });
  return table(differs ? [...header, ...runningHeader] : header, lines);
}

function noteProblems(problems: readonly ConfigProblem[]): void {
  for (const problem of problems) note(`memcloud: ${printable(describeProblem(problem))}`);
}

const showCommand = command<FileFlags & { origin: boolean }>({
  command: 'show',
  describe: 'show each option, and what the running daemon does differently',
  builder: (argv: Argv<GlobalFlags>) =>
    withConfig(argv).option('origin', {
      type: 'boolean',
      default: false,
      describe: 'tell where each value was written',
    }),
  handler: async (flags) => {
    const daemon = await running(flags);
    const { env } = process;
    const chosen = chosenConfigPath({ env, configPath: flags.config });
    const configPath = chosen ?? daemon?.configPath ?? undefined;
    const resolved = resolveConfig({ env, configPath });
    const rows = OPTION_KEYS.map((key) => rowOf(key, resolved, daemon));
    noteProblems(resolved.problems);
    printData(flags, rows, (data) => renderSettings(data, flags.origin));
    if (rows.some((row) => 'running' in row)) {
      note('memcloud: the running daemon does otherwise; memcloud config reload tells more');
    }
    if (resolved.problems.length > 0) process.exitCode = ExitCode.USAGE;
  },
});

const check = command<FileFlags & { files: string[] | undefined }>({
  command: 'check [files..]',
  describe: 'tell everything that is wrong in configuration files',
  builder: (argv: Argv<GlobalFlags>) =>
    withConfig(argv).positional('files', {
      type: 'string',
      array: true,
      describe: 'files to check (default: those that a daemon would read)',
    }),
  handler: (flags) => {
    const named = flags.files ?? [];
    const { env } = process;
    const found = findConfigFiles(chosenConfigPath({ env, configPath: flags.config }), env);
    const files = named.length > 0 ? named : found.files;
    const problems = checkConfigFiles(files);
    if (named.length === 0) {
      for (const { file, message } of found.problems) {
        problems.push({ code: 'ERR_CONFIG', file, line: 0, key: '', message });
      }
    }
    const rows = problems.map(({ file, line, key, message }) => ({ file, line, key, message }));
    printData(flags, rows, () => {
      if (problems.length > 0) {
        return problems.map((problem) => printable(describeProblem(problem))).join('\n');
      }
      return files.length === 0 ? 'There is no configuration file.' : `Right: ${files.join(', ')}.`;
    });
    if (problems.length > 0) process.exitCode = ExitCode.USAGE;
  },
});

const EFFECTS: Readonly<Record<ConfigChange['effect'], string>> = {
  applied: 'done',
  restart: 'needs a restart of memnode',
  'next swap on': 'for the next swap on',
  'next mount': 'for the next mount',
  failed: 'failed',
};

function renderChanges(changes: readonly ConfigChange[]): string {
  if (changes.length === 0) return 'Nothing has changed.';
  const rows = changes.map(({ key, before, after, effect, note }) => [
    key,
    show(key, before),
    show(key, after),
    note === '' ? EFFECTS[effect] : `${EFFECTS[effect]}: ${note}`,
  ]);
  return table(['KEY', 'BEFORE', 'AFTER', 'EFFECT'], rows);
}

const reload: Command = {
  command: 'reload',
  describe: 'let the running daemon read its files again; swap and volumes go on',
  handler: (flags) =>
    withDaemon(flags, async (client) => {
      const changes = await client.call('config.reload', {});
      printData(flags, changes, renderChanges);
      if (changes.some(({ effect }) => effect === 'failed')) process.exitCode = ExitCode.FAILURE;
    }),
};

/** The commands of this file. */
export const commands: readonly Command[] = [
  group('config', 'configuration files', [showCommand, check, reload]),
];
