/**
 * Making directories. Node's own recursive mkdir never returns below /proc, where the kernel answers
 * "no such directory" for ever, so the way down is walked here.
 */
import fs from 'node:fs';
import path from 'node:path';

/**
 * Makes a directory and those above it that are missing; one that is there is left as it is.
 *
 * @param mode - permissions of what is made
 * @throws the system's error
 */
export function makeDirectory(directory: string, mode: number): void {
  if (fs.existsSync(directory)) return;
  const parent = path.dirname(directory);
  if (parent !== directory) makeDirectory(parent, mode);
  try {
    fs.mkdirSync(directory, { mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
