/**
 * The command tables as data: every command's builder is run against a recorder in place of the parser, so
 * that completion, man pages and the reference say what the parser takes, and nothing can drift apart.
 */
import type { Argv } from 'yargs';
import type { Command } from '../command.ts';
import type { GlobalFlags } from '../output.ts';

/** An option or positional of a command. */
export interface OptionEntry {
  /** Its name, without dashes. */
  readonly name: string;
  /** Other names. */
  readonly aliases: readonly string[];
  /** What it is. */
  readonly describe: string;
  /** `boolean`, `number`, `string`. */
  readonly type: string;
  /** The words that it takes; empty for any. */
  readonly choices: readonly string[];
  /** The value that nobody has to write, in words; empty for none. */
  readonly fallback: string;
  /** Whether it must be given. */
  readonly isRequired: boolean;
  /** Whether it may be given more than once. */
  readonly isList: boolean;
}

/** A command. */
export interface CommandEntry {
  /** Its words, `swap on`. */
  readonly words: readonly string[];
  /** Other words for the last one. */
  readonly aliases: readonly string[];
  /** What follows the words: `<key> [value]`. */
  readonly positionalText: string;
  /** What it does; empty when it only groups others. */
  readonly describe: string;
  /** More about it, in paragraphs; the first are ways to write it. */
  readonly usage: string;
  /** What it takes after its words. */
  readonly positionals: readonly OptionEntry[];
  /** Its options, hidden ones left out. */
  readonly options: readonly OptionEntry[];
  /** Command lines, and what they are good for. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** Commands under it. */
  readonly commands: readonly CommandEntry[];
}

interface OptionRow {
  readonly alias?: string | readonly string[];
  readonly describe?: string;
  readonly type?: string;
  readonly choices?: readonly unknown[];
  readonly default?: unknown;
  readonly defaultDescription?: string;
  readonly demandOption?: boolean;
  readonly array?: boolean;
  readonly hidden?: boolean;
}

function fallbackText({ default: value, defaultDescription }: OptionRow): string {
  if (defaultDescription !== undefined) return defaultDescription;
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

/** Makes an entry of what a builder passes to the parser. */
export function entryOf(name: string, row: OptionRow): OptionEntry {
  const { alias = [], describe = '', type, choices = [], demandOption, array } = row;
  return {
    name,
    aliases: typeof alias === 'string' ? [alias] : [...alias],
    describe,
    type: type ?? 'string',
    choices: choices.map(String),
    fallback: fallbackText(row),
    isRequired: demandOption === true,
    isList: array === true,
  };
}

/** What a builder may call. What else it calls has no place in a reference and is passed over. */
class Recorder {
  usageText = '';
  readonly positionals: OptionEntry[] = [];
  readonly options: OptionEntry[] = [];
  readonly examples: [string, string][] = [];
  readonly modules: Command[] = [];

  option(name: string, row: OptionRow): this {
    if (row.hidden !== true) this.options.push(entryOf(name, row));
    return this;
  }

  positional(name: string, row: OptionRow): this {
    this.positionals.push(entryOf(name, row));
    return this;
  }

  example(line: string, what: string): this {
    this.examples.push([line.replace('$0', 'memcloud'), what]);
    return this;
  }

  usage(text: string): this {
    this.usageText = text.replaceAll('$0', 'memcloud');
    return this;
  }

  command(module: Command): this {
    this.modules.push(module);
    return this;
  }
}

/** A recorder that answers every call of a builder. */
function answering(recorder: Recorder): Argv<GlobalFlags> {
  const proxy: unknown = new Proxy(recorder, {
    get: (target, name) => {
      const method: unknown = Reflect.get(target, name);
      return (...args: unknown[]) => {
        if (typeof method === 'function') Reflect.apply(method, target, args);
        return proxy;
      };
    },
  });
  return proxy as Argv<GlobalFlags>;
}

/** Commands and all under them; those that are hidden are left out. */
export function describeAll(
  modules: readonly Command[],
  above: readonly string[] = [],
): CommandEntry[] {
  return modules
    .filter(({ describe }) => describe !== false)
    .map((module) => describeCommand(module, above));
}

function describeCommand(module: Command, above: readonly string[]): CommandEntry {
  const recorder = new Recorder();
  if (typeof module.builder === 'function') void module.builder(answering(recorder));
  const pattern = String(module.command);
  const [word = '', ...rest] = pattern.split(' ');
  const words = word === '$0' ? [...above] : [...above, word];
  const { aliases = [], describe } = module;
  return {
    words,
    aliases: typeof aliases === 'string' ? [aliases] : [...aliases],
    positionalText: rest.join(' '),
    describe: typeof describe === 'string' ? describe : '',
    usage: recorder.usageText,
    positionals: recorder.positionals,
    options: recorder.options,
    examples: recorder.examples,
    commands: describeAll(recorder.modules, words),
  };
}

/**
 * Every command that does something, in the order of the tables. One with others below it does when it
 * says how it is used; the others only group.
 */
export function leaves(entries: readonly CommandEntry[]): CommandEntry[] {
  return entries.flatMap((entry) => [
    ...(entry.commands.length === 0 || entry.usage !== '' ? [entry] : []),
    ...leaves(entry.commands),
  ]);
}
