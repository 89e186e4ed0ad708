/**
 * What the command line prints. Data goes to stdout, as text for people or with `--json` as one
 * JSON value for programs; everything else goes to stderr. Names that came from other machines pass
 * {@link printable}, so that nobody's name moves the cursor.
 */

import type { MemcloudError } from '../common/errors.ts';

/** Flags that every command takes. */
export interface GlobalFlags {
  /** The daemon's RPC socket. */
  readonly socket: string;
  /** Print JSON. */
  readonly json: boolean;
}

/** Prints data: the JSON value, or the text that `render` makes of it. */
export function printData<T>(flags: GlobalFlags, data: T, render: (data: T) => string): void {
  process.stdout.write(flags.json ? `${JSON.stringify(data)}\n` : `${render(data)}\n`);
}

/** Tells a person something, on stderr. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/**
 * Tells why a command failed, on stderr: a sentence, or with `--json` one line
 * `{"error": {"code", "message"}}`. Text in it may come from another machine.
 */
export function noteError(error: MemcloudError, json: boolean): void {
  const { code, message } = error;
  if (json) return note(JSON.stringify({ error: { code, message } }));
  note(`memcloud: ${message.split('\n').map(printable).join('\n')}`);
  if (code !== 'ERR_INTERNAL') return;
  const { cause } = error;
  note(String(cause instanceof Error ? cause.stack : error.stack));
}

/** Replaces control characters, so that text from another machine is safe on a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|\p{Cf}/gu, '?');
}

/** Lays out rows under a header, columns two spaces apart. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows].map((row) => row.map(printable));
  const widths = header.map((_, column) =>
    Math.max(...lines.map((row) => (row[column] ?? '').length)),
  );
  return lines
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
