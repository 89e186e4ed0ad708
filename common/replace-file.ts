/** A small file that is replaced whole or not at all, so that who reads it never sees half of it. */
import fs from 'node:fs';

/** Writes `text` in place of a file. Not synced: for what need not outlive the machine. */
export function replaceFile(file: string, text: string, mode: number): void {
  const next = `${file}.next`;
  fs.writeFileSync(next, text, { mode });
  fs.renameSync(next, file);
}
