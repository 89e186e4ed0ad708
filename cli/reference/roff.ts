/** Manual pages, made from the command tables: man-pages(7), groff_man(7). */
import { ERROR_CODES } from '../../common/errors.ts';
import type { CommandEntry, OptionEntry } from './recorder.ts';
import { leaves } from './recorder.ts';

/** Text as roff takes it: a dash is a dash, and no line begins with a request. */
export function roffText(text: string): string {
  const escaped = text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', "'")
    .replaceAll('"', '\\(dq');
  return escaped
    .split('\n')
    .map((line) => (/^[.']/.test(line) ? `\\&${line}` : line))
    .join('\n');
}

/** An option with its other names and its value: `-o, --output FILE`. */
export function optionNames({ name, aliases, type, choices }: OptionEntry): string {
  const names = [...aliases.filter((alias) => alias.length === 1), name];
  const others = aliases.filter((alias) => alias.length > 1);
  const dashed = [...names, ...others].map((each) =>
    each.length === 1 ? `-${each}` : `--${each}`,
  );
  if (type === 'boolean') return dashed.join(', ');
  const value =
    choices.length > 0 ? choices.join('|') : type === 'number' ? 'N' : name.toUpperCase();
  return `${dashed.join(', ')} ${value}`;
}

/** What an option is, and the value that nobody has to write. */
export function optionText({ describe, fallback, isRequired }: OptionEntry): string {
  const more = isRequired ? ' (required)' : fallback === '' ? '' : ` (default: ${fallback})`;
  return `${describe}${more}`;
}

function optionList(options: readonly OptionEntry[]): string[] {
  return options.flatMap((option) => [
    '.TP',
    `.B ${roffText(optionNames(option))}`,
    roffText(optionText(option)),
  ]);
}

function commandSection(entry: CommandEntry): string[] {
  const { words, aliases, positionalText, describe, usage, positionals, options, examples } = entry;
  const head = ['memcloud', ...words, positionalText].join(' ').trim();
  // The first lines of a usage are ways to write the command.
  const paragraphs = usage
    .split('\n\n')
    .slice(1)
    .map((text) => text.replaceAll('\n', ' '));
  const also = aliases.length === 0 ? [] : [`Also: ${aliases.join(', ')}.`];
  return [
    `.SS "${roffText(head)}"`,
    ...[describe === '' ? '' : `${describe.charAt(0).toUpperCase()}${describe.slice(1)}.`, ...also]
      .filter((text) => text !== '')
      .map(roffText),
    ...paragraphs.flatMap((text) => ['.PP', roffText(text)]),
    ...positionals.flatMap((each) => ['.TP', `.I ${roffText(each.name)}`, roffText(each.describe)]),
    ...optionList(options),
    ...examples.flatMap(([line, what]) => [
      '.PP',
      ...(what === '' ? [] : [`${roffText(what)}:`]),
      '.RS',
      '.nf',
      roffText(line),
      '.fi',
      '.RE',
    ]),
  ];
}

/** The exit codes, from the table of errors: the first meaning of each. */
function exitCodes(): string[] {
  const words: Readonly<Record<number, string>> = {
    0: 'done',
    1: 'failure',
    2: 'a word, option, size, address or name is wrong; nothing was done',
    3: 'no memnode answers on the socket',
    4: 'consent or authentication is needed, or a key has changed',
    5: 'a peer or a deadline failed; the same command may succeed later',
    6: 'there is no volume, peer, request, key or block of that name',
    7: 'quota or capacity',
    8: 'data was lost',
    9: 'doctor found a problem',
    130: 'ended by Ctrl-C',
  };
  const used = new Set<number>(Object.values(ERROR_CODES).map(({ exitCode }) => exitCode));
  return Object.entries(words)
    .filter(([code]) => used.has(Number(code)) || ['0', '9', '130'].includes(code))
    .flatMap(([code, text]) => ['.TP', `.B ${code}`, roffText(text)]);
}

/** What a page needs beside the tables. */
export interface PageOptions {
  /** Version of the program. */
  readonly version: string;
  /** Options that every command takes. */
  readonly globals: readonly OptionEntry[];
}

/** memcloud(1). */
export function commandPage(entries: readonly CommandEntry[], options: PageOptions): string {
  return [
    `.TH MEMCLOUD 1 "" "memcloud ${options.version}" "User Commands"`,
    '.SH NAME',
    'memcloud, memcli \\- the RAM of the machines around you, as swap, disks, files and objects',
    '.SH SYNOPSIS',
    '.B memcloud',
    '[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...',
    '.SH DESCRIPTION',
    'Asks the daemon, \\fBmemnode\\fR(8), and prints the answer. Data goes to stdout, everything else to',
    'stderr; with \\fB\\-\\-json\\fR data is one JSON value on one line. \\fBmemcli\\fR is another name of this',
    'program.',
    '.SH OPTIONS',
    ...optionList(options.globals),
    '.SH COMMANDS',
    ...leaves(entries).flatMap(commandSection),
    '.SH EXIT STATUS',
    ...exitCodes(),
    '.SH ENVIRONMENT',
    '.TP',
    '.B MEMCLOUD_SOCKET',
    'RPC socket of the daemon.',
    '.TP',
    '.B MEMCLOUD_CONFIG',
    'Configuration file or folder to read instead of the usual ones.',
    '.TP',
    '.B MEMCLOUD_SEAL_KEY',
    'File of the key with which \\fB\\-\\-sealed\\fR values are sealed and opened.',
    '.SH SEE ALSO',
    '.BR memnode (8)',
    '',
  ].join('\n');
}

/** memnode(8). */
export function daemonPage(daemonOptions: readonly OptionEntry[], version: string): string {
  return [
    `.TH MEMNODE 8 "" "memcloud ${version}" "System Administration"`,
    '.SH NAME',
    "memnode \\- lends this machine's idle RAM to trusted peers and borrows theirs",
    '.SH SYNOPSIS',
    '.B memnode',
    '[\\fIOPTION\\fR]...',
    '.SH DESCRIPTION',
    'Runs in the foreground, prints one line on stdout when it is ready, and logs JSON lines on stderr.',
    '\\fBmemcloud node start\\fR runs it in the background; \\fBmemcloud service install\\fR makes it a',
    'service. Each option can also be set in \\fI/etc/memcloud/config.toml\\fR, as KEY = VALUE, and by the',
    'environment, as MEMCLOUD_LOG_LEVEL.',
    '.SH OPTIONS',
    ...optionList(daemonOptions),
    '.SH SIGNALS',
    '.TP',
    '.B SIGTERM, SIGINT',
    'End in order: requests in flight finish, leases go back, keys are destroyed. A second one ends at once.',
    '.TP',
    '.B SIGHUP',
    'Read the configuration again.',
    '.SH FILES',
    '.TP',
    '.I /etc/memcloud/config.toml',
    'Configuration.',
    '.TP',
    '.I /var/lib/memcloud',
    'Identity, trust, and the log of \\fBmemcloud node start\\fR; for users \\fI~/.local/state/memcloud\\fR.',
    '.SH SEE ALSO',
    '.BR memcloud (1)',
    '',
  ].join('\n');
}
