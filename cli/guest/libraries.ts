/**
 * Which shared libraries a program needs, as the host's own loader finds them. They go to the same
 * paths in the guest, where the same loader finds them again.
 */
import { realpathSync } from 'node:fs';
import { MemcloudError } from '../../common/errors.ts';
import { execute } from './host-command.ts';

const LDD_TIMEOUT_MS = 10_000;

/**
 * The libraries of a program or a native module: absolute paths, none for a static program.
 *
 * @param searched - a folder that the loader looks into first
 * @throws MemcloudError `ERR_UNSUPPORTED` when `searched` is given and a library is not found
 */
export async function sharedLibraries(file: string, searched?: string): Promise<string[]> {
  const output = await execute('ldd', [file], {
    timeoutMs: LDD_TIMEOUT_MS,
    environment: searched === undefined ? {} : { LD_LIBRARY_PATH: searched },
  }).catch(() => '');
  const libraries: string[] = [];
  for (const line of output.split('\n')) {
    const match = /^\s+(?:\S+ => )?(\/\S+) \(0x/.exec(line);
    if (match?.[1] !== undefined) libraries.push(match[1]);
    const missing = /^\s+(\S+) => not found/.exec(line)?.[1];
    if (missing === undefined || searched === undefined) continue;
    throw new MemcloudError('ERR_UNSUPPORTED', `${file} needs ${missing}, which is not here`);
  }
  return libraries;
}

/** True for a program that needs no loader, which is what an initramfs must have. */
export async function isStatic(file: string): Promise<boolean> {
  return (await sharedLibraries(realpathSync(file))).length === 0;
}
