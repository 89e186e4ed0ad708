/**
 * Which shared libraries a program needs, as the host's own loader finds them. They go to the same
 * paths in the guest, where the same loader finds them again.
 */
import { realpathSync } from 'node:fs';
import { execute } from './host-command.ts';

const LDD_TIMEOUT_MS = 10_000;

/** The libraries of a program or a native module: absolute paths, none for a static program. */
export async function sharedLibraries(file: string): Promise<string[]> {
  const output = await execute('ldd', [file], { timeoutMs: LDD_TIMEOUT_MS }).catch(() => '');
  const libraries: string[] = [];
  for (const line of output.split('\n')) {
    const match = /^\s+(?:\S+ => )?(\/\S+) \(0x/.exec(line);
    if (match?.[1] !== undefined) libraries.push(match[1]);
  }
  return libraries;
}

/** True for a program that needs no loader, which is what an initramfs must have. */
export async function isStatic(file: string): Promise<boolean> {
  return (await sharedLibraries(realpathSync(file))).length === 0;
}
