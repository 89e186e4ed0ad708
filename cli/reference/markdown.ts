/** The reference of the command line, `docs/cli.md`, made from the command tables. */
import type { CommandEntry, OptionEntry } from './recorder.ts';
import { leaves } from './recorder.ts';
import { optionNames, optionText } from './roff.ts';

/** Text in a cell or a line of Markdown: nothing in it is markup. */
function plain(text: string): string {
  return text.replace(/[\\`*_|<>[\]]/g, (character) => `\\${character}`);
}

function optionLines(options: readonly OptionEntry[]): string[] {
  return options.map((option) => `- \`${optionNames(option)}\`: ${plain(optionText(option))}`);
}

function section(entry: CommandEntry): string[] {
  const { words, aliases, positionalText, describe, usage, positionals, options, examples } = entry;
  const head = ['memcloud', ...words, positionalText].join(' ').trim();
  const also =
    aliases.length === 0 ? '' : ` Also: ${aliases.map((each) => `\`${each}\``).join(', ')}.`;
  const paragraphs = usage
    .split('\n\n')
    .slice(1)
    .map((text) => plain(text.replaceAll('\n', ' ')));
  const lines = [
    ...positionals.map(({ name, describe: what }) => `- _${plain(name)}_: ${plain(what)}`),
    ...optionLines(options),
  ];
  const shown = examples.map(([line, what]) => (what === '' ? line : `${line}    # ${what}`));
  return [
    `### \`${head}\``,
    '',
    `${plain(describe.charAt(0).toUpperCase() + describe.slice(1))}.${also}`,
    ...paragraphs.flatMap((text) => ['', text]),
    ...(lines.length === 0 ? [] : ['', ...lines]),
    ...(shown.length === 0 ? [] : ['', '```sh', ...shown, '```']),
    '',
  ];
}

/** The commands as Markdown, for the place in the document that is theirs. */
export function commandSections(
  entries: readonly CommandEntry[],
  globals: readonly OptionEntry[],
): string {
  return [
    'Every command takes:',
    '',
    ...optionLines(globals),
    '',
    ...leaves(entries).flatMap(section),
  ].join('\n');
}
