/**
 * The ceiling: `bench/peers/null-nbd.c` behind the same sockets. It keeps nothing, so what fio measures
 * on it is fio itself and the kernel's sockets.
 */
import path from 'node:path';
import { compile } from '../compile.ts';
import type { Stage } from '../stage.ts';
import { freePort, unixUri } from './nbdkit.ts';
import type { RunningTarget, Target } from './target.ts';

const START_TIMEOUT_MS = 10_000;

async function start(
  stage: Stage,
  sizeBytes: number,
  where: readonly [kind: 'unix' | 'tcp', address: string],
  uri: string,
): Promise<RunningTarget> {
  const program = await compile(stage, 'null-nbd', ['-lpthread']);
  const args = [String(sizeBytes), ...where];
  const isReady = (output: string): boolean => output.includes('ready');
  const server = await stage.serve(program, args, START_TIMEOUT_MS, isReady);
  return { uri, pids: [server.pid], stop: server.stop };
}

/** On a Unix socket. */
export const nullUnix: Target = {
  name: 'null-unix',
  description: 'a server in C that keeps nothing, Unix socket: the ceiling of fio and the kernel',
  tools: ['gcc'],
  ours: false,
  start: (stage, sizeBytes) => {
    const socketPath = path.join(stage.makeDirectory('null-unix'), 'nbd.sock');
    return start(stage, sizeBytes, ['unix', socketPath], unixUri(socketPath));
  },
};

/** On loopback TCP. */
export const nullTcp: Target = {
  name: 'null-tcp',
  description: 'the same over loopback TCP',
  tools: ['gcc'],
  ours: false,
  start: async (stage, sizeBytes) => {
    const port = await freePort();
    return start(stage, sizeBytes, ['tcp', String(port)], `nbd://127.0.0.1:${port}`);
  },
};
