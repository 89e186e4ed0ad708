/** Command lines and settings that examples write, held to the tables that the programs are made of. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { OPTION_KEYS, variableOf } from '../../common/config/options.ts';
import { describeProblem, resolveConfig } from '../../common/config/resolve.ts';
import { everyCommand } from '../../cli/modules.ts';
import { globalEntries } from '../../cli/reference/documents.ts';
import { describeAll, type CommandEntry, type OptionEntry } from '../../cli/reference/recorder.ts';

/** Every command of `memcloud`, with its options. */
const entries = describeAll(await everyCommand());

function descend(words: readonly string[]): { entry: CommandEntry | undefined; rest: string[] } {
  let under: readonly CommandEntry[] = entries;
  let entry: CommandEntry | undefined;
  let rest = [...words];
  for (;;) {
    const [word = ''] = rest;
    const next = under.find(({ words: own, aliases }) => [own.at(-1), ...aliases].includes(word));
    if (next === undefined) break;
    entry = next;
    under = next.commands;
    rest = rest.slice(1);
  }
  // A group that is a command as well has it below itself, under the same words.
  const plain = under.find(({ words: own }) => own.length === entry?.words.length);
  return { entry: plain ?? entry, rest };
}

/** What is wrong with `memcloud WORDS...` by the command tables; none when there is such a line. */
export function problemsOfCommand(words: readonly string[]): string[] {
  const { entry, rest } = descend(words);
  if (entry === undefined) return [`memcloud ${words.join(' ')}: there is no such command`];
  const known: readonly OptionEntry[] = [...entry.options, ...globalEntries()];
  const flags = rest.filter((word) => word.startsWith('--')).map((word) => word.split('=')[0]);
  const unknown = flags.filter(
    (flag) => !known.some(({ name, aliases }) => [name, ...aliases].includes(flag?.slice(2) ?? '')),
  );
  return unknown.map((flag) => `memcloud ${entry.words.join(' ')}: there is no ${flag}`);
}

/** What memnode would say of these variables, and which of them it would not even look at. */
export function problemsOfVariables(env: Readonly<Record<string, string>>): string[] {
  const known = OPTION_KEYS.map(variableOf);
  const ours = Object.keys(env).filter((name) => name.startsWith('MEMCLOUD_'));
  const { problems } = resolveConfig({ env: { ...env }, configPath: '/dev/null' });
  return [
    ...ours.filter((name) => !known.includes(name)).map((name) => `there is no ${name}`),
    ...problems.map(describeProblem),
  ];
}

/** What memnode would say of the text of a configuration file. */
export function problemsOfConfig(text: string): string[] {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-written-'));
  try {
    const configPath = path.join(folder, 'config.toml');
    fs.writeFileSync(configPath, text);
    return resolveConfig({ env: {}, configPath }).problems.map(describeProblem);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}
