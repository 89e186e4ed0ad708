/** Running the system's own tools (mkswap, swapon, modprobe) with plain errors. */
import { spawn, spawnSync } from 'node:child_process';
import { MemcloudError } from '../../common/errors.ts';
import { withoutIoFlusher } from '../../common/kit.ts';

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
 * @returns what it printed
 * @throws MemcloudError `ERR_UNSUPPORTED` when it is not installed, `ERR_NATIVE` when it fails
 */
export function runTool(name: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = withoutIoFlusher(() =>
      spawn(name, args, { env: ENVIRONMENT, timeout: TOOL_TIMEOUT_MS }),
    );
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    child.on('error', (cause) => {
      reject(new MemcloudError('ERR_UNSUPPORTED', `${name} is not installed`, { cause }));
    });
    child.on('close', (code) => {
      if (code === 0) resolve(output);
      else {
        const why = complaint.trim() || `exit code ${code}`;
        reject(new MemcloudError('ERR_NATIVE', `${name} ${args.join(' ')} failed: ${why}`));
      }
    });
  });
}

/** @throws MemcloudError `ERR_UNSUPPORTED` unless root runs this */
export function requireRoot(what: string): void {
  if (process.geteuid?.() === 0) return;
  throw new MemcloudError('ERR_UNSUPPORTED', `${what} needs root; run it with sudo`);
}
