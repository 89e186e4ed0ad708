/**
 * nbdkit as a peer: its memory plugin in one hop over a Unix socket and over loopback TCP, both
 * plain; and in two hops, where the nbd plugin takes the place of our consumer and a memory plugin
 * behind TLS with a pre-shared key that of our provider. `--exit-with-parent` ends it even when the
 * benchmark is killed.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { Server, Stage } from '../stage.ts';
import { HERE, commandAt, type Place } from './place.ts';
import type { RunningTarget, Target } from './target.ts';

const START_TIMEOUT_MS = 10_000;
const PSK_USER = 'bench';
const PSK_SIZE_BYTES = 32;

/** A TCP port of the loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts nbdkit; it writes its process id once it listens. */
export function serveNbdkit(
  stage: Stage,
  directory: string,
  name: string,
  args: string[],
  place: Place = HERE,
): Promise<Server> {
  const pidFile = path.join(directory, `${name}.pid`);
  const all = ['--foreground', '--exit-with-parent', '--pidfile', pidFile, ...args];
  const started = commandAt(place, 'nbdkit', all);
  const isReady = (): boolean => fs.existsSync(pidFile);
  return stage.serve(started.command, started.args, START_TIMEOUT_MS, isReady);
}

function running(uri: string, servers: readonly Server[]): RunningTarget {
  return {
    uri,
    pids: servers.map(({ pid }) => pid),
    stop: async () => {
      for (const server of servers) await server.stop();
    },
  };
}

/** Where fio connects to a server on a Unix socket. */
export const unixUri = (socketPath: string): string => `nbd+unix:///?socket=${socketPath}`;

/** One hop, Unix socket, no encryption. */
export const nbdkitUnix: Target = {
  name: 'nbdkit-unix',
  description: 'nbdkit memory, Unix socket, plain, one hop',
  tools: ['nbdkit'],
  ours: false,
  start: async (stage, sizeBytes) => {
    const directory = stage.makeDirectory('nbdkit-unix');
    const socketPath = path.join(directory, 'nbd.sock');
    const args = ['--unix', socketPath, 'memory', String(sizeBytes)];
    return running(unixUri(socketPath), [await serveNbdkit(stage, directory, 'memory', args)]);
  },
};

/** Starts a memory plugin on plain TCP at `place`, where the port must be free. */
export async function serveMemoryAt(
  stage: Stage,
  place: Place,
  port: number,
  sizeBytes: number,
): Promise<RunningTarget> {
  const directory = stage.makeDirectory('nbdkit-tcp');
  const listen = ['--ipaddr', place.address, '--port', String(port)];
  const args = [...listen, 'memory', String(sizeBytes)];
  const server = await serveNbdkit(stage, directory, 'memory', args, place);
  return running(`nbd://${place.address}:${port}/`, [server]);
}

/** One hop, loopback TCP, no encryption; the port is in the URI. */
export const nbdkitTcp: Target = {
  name: 'nbdkit-tcp',
  description: 'nbdkit memory, TCP loopback, plain, one hop',
  tools: ['nbdkit'],
  ours: false,
  start: async (stage, sizeBytes) => serveMemoryAt(stage, HERE, await freePort(), sizeBytes),
};

/** Two hops, the second encrypted: our own topology. */
export const nbdkitTls: Target = {
  name: 'nbdkit-tls',
  description: 'nbdkit nbd plugin -> TLS-PSK over TCP loopback -> nbdkit memory, two hops',
  tools: ['nbdkit'],
  ours: false,
  start: async (stage, sizeBytes) => {
    const directory = stage.makeDirectory('nbdkit-tls');
    const pskFile = path.join(directory, 'keys.psk');
    const key = randomBytes(PSK_SIZE_BYTES).toString('hex');
    fs.writeFileSync(pskFile, `${PSK_USER}:${key}\n`, { mode: 0o600 });
    const port = await freePort();
    const remote = await serveNbdkit(stage, directory, 'memory', [
      ...['--ipaddr', '127.0.0.1', '--port', String(port)],
      ...['--tls=require', `--tls-psk=${pskFile}`, 'memory', String(sizeBytes)],
    ]);
    const socketPath = path.join(directory, 'nbd.sock');
    const local = await serveNbdkit(stage, directory, 'nbd', [
      ...['--unix', socketPath, 'nbd', 'hostname=127.0.0.1', `port=${port}`],
      ...['tls=require', `tls-username=${PSK_USER}`, `tls-psk=${pskFile}`],
    ]);
    return running(unixUri(socketPath), [local, remote]);
  },
};
