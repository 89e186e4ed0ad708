/** The C programs of bench/peers, compiled when they are needed. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Stage } from './stage.ts';

const BUILD_TIMEOUT_MS = 120_000;

/** Compiles a C file of bench/peers with gcc, once for a stage. @returns the program */
export async function compile(
  stage: Stage,
  name: string,
  flags: readonly string[],
): Promise<string> {
  const source = fileURLToPath(new URL(`../../bench/peers/${name}.c`, import.meta.url));
  const program = path.join(stage.directory, name);
  if (fs.existsSync(program)) return program;
  await stage.run('gcc', ['-O2', '-o', program, source, ...flags], BUILD_TIMEOUT_MS);
  return program;
}
