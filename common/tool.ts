/** Running the system's own tools (mkswap, swapon, dmsetup) with plain errors. */
import { spawn, spawnSync } from 'node:child_process';
import { MemcloudError } from './errors.ts';
import { withoutIoFlusher } from './kit.ts';

const ENVIRONMENT = {
  ...process.env,
  PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
  LC_ALL: 'C',
};
const TOOL_TIMEOUT_MS = 600_000;

/** True when the tool is installed. */
export function hasTool(name: string): boolean {
  const found = spawnSync('sh', ['-c', 'command -v "$0"', name], { env: ENVIRONMENT });
  return found.status === 0;
}

/**
 * Runs a tool to its end.
 *
 * @param options - `input` goes to its standard input
 * @returns what it printed
 * @throws MemcloudError `ERR_UNSUPPORTED` when it is not installed, `ERR_NATIVE` when it fails
 */
export function runTool(
  name: string,
  args: readonly string[],
  options: { readonly input?: Uint8Array } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = withoutIoFlusher(() => spawn(name, args, { env: ENVIRONMENT }));
    // Not the option `timeout`: its timer outlives a program that was never started.
    const timer = setTimeout(() => child.kill(), TOOL_TIMEOUT_MS);
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(new MemcloudError('ERR_UNSUPPORTED', `${name} is not installed`, { cause }));
    });
    // A tool that ends before it has read its input says why by itself.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(output);
      else {
        const why = complaint.trim() || `exit code ${code}`;
        reject(new MemcloudError('ERR_NATIVE', `${name} ${args.join(' ')} failed: ${why}`));
      }
    });
  });
}
