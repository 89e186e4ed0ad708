/**
 * What people would use instead of our mount, and its limit: tmpfs; a file system in memory on libfuse 3's
 * low-level interface in C; one on fuse-native; and the memory of another machine through sshfs, here on
 * the loopback, with its server's files on tmpfs.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MOUNT, mount, tryUnmount } from '../../common/libc.ts';
import { loadFuseNative } from '../../fuse-fs/native-binding.ts';
import { compile } from '../compile.ts';
import { waitFor, type Server, type Stage } from '../stage.ts';
import { freePort } from '../targets/nbdkit.ts';
import { SSHD_PATH } from '../tools.ts';
import { reasonOf } from '../trials.ts';
import type { MountTarget, RunningMount } from './mount-target.ts';

const START_TIMEOUT_MS = 15_000;
const TMPFS_PATH = '/dev/shm';
/** Where sshd drops its privileges into; it does not start without. */
const SSHD_EMPTY_PATH = '/run/sshd';
const BARE_REMOTE_FILE = fileURLToPath(new URL('../peers/bare-remote.js', import.meta.url));
const BARE_DONOR_FILE = fileURLToPath(new URL('../peers/bare-donor.js', import.meta.url));
const PASSTHROUGH_FILE = fileURLToPath(new URL('../peers/passthrough.js', import.meta.url));
const NATIVE_FILE = fileURLToPath(new URL('../peers/native-memory.js', import.meta.url));

/** True when another file system than its parent's is mounted on `directory`. */
export function isMounted(directory: string): boolean {
  return fs.statSync(directory).dev !== fs.statSync(path.dirname(directory)).dev;
}

/** A mount that `server` serves. */
export function served(directory: string, servers: readonly Server[]): RunningMount {
  return {
    directory,
    pids: servers.map(({ pid }) => pid),
    stop: async () => {
      if (!tryUnmount(directory, 0)) tryUnmount(directory, MOUNT.MNT_DETACH);
      for (const server of servers) await server.stop();
    },
  };
}

/** The limit: the kernel's own files in memory, no other process. */
export const tmpfs: MountTarget = {
  name: 'tmpfs',
  description: 'tmpfs of the kernel, the limit',
  tools: [],
  ours: false,
  start: (stage) => {
    const directory = stage.makeMountPoint('tmpfs');
    mount({ source: 'bench', target: directory, type: 'tmpfs', flags: 0, data: 'mode=755' });
    return Promise.resolve(served(directory, []));
  },
};

/** C. */
export const libfuse: MountTarget = {
  name: 'libfuse',
  description: 'a file system in memory in C, libfuse 3 low-level, many threads, writeback cache',
  tools: ['gcc', 'libfuse3'],
  ours: false,
  start: async (stage) => {
    const flags = execFileSync('pkg-config', ['--cflags', '--libs', 'fuse3'], { encoding: 'utf8' });
    const program = await compile(stage, 'memfs_ll', [...flags.trim().split(/\s+/), '-lpthread']);
    const directory = stage.makeMountPoint('libfuse');
    const options = ['-f', '-o', 'allow_other,default_permissions', directory];
    const ready = (): boolean => isMounted(directory);
    return served(directory, [await stage.serve(program, options, START_TIMEOUT_MS, ready)]);
  },
};

/** Starts one of our programs that serve the directory they are told, and say when it is mounted. */
async function startProgram(
  stage: Stage,
  name: string,
  file: string,
  { args = [], servers = [] }: { args?: readonly string[]; servers?: readonly Server[] } = {},
): Promise<RunningMount> {
  const directory = stage.makeMountPoint(name);
  const ready = (output: string): boolean => output.includes('mounted');
  const words = [file, directory, ...args];
  const server = await stage.serve(process.execPath, words, START_TIMEOUT_MS, ready);
  return served(directory, [server, ...servers]);
}

/** JavaScript on libfuse 2. */
export const fuseNative: MountTarget = {
  name: 'fuse-native',
  description: 'a simple file system in memory on fuse-native 2.2.6, caches on',
  tools: [],
  ours: false,
  obstacle: () => {
    try {
      loadFuseNative();
      return undefined;
    } catch (thrown) {
      return reasonOf(thrown);
    }
  },
  start: (stage) => startProgram(stage, 'fuse-native', NATIVE_FILE),
};

/** What the kernel would do with files that we hand it through. */
export const passthrough: MountTarget = {
  name: 'passthrough',
  description: 'a trial: our file system, open files passed through to a memfd each (real root)',
  tools: [],
  ours: false,
  obstacle: () => {
    const [major = 0, minor = 0] = os.release().split('.').map(Number);
    return major > 6 || (major === 6 && minor >= 9) ? undefined : 'Linux 6.9';
  },
  start: (stage) => startProgram(stage, 'passthrough', PASSTHROUGH_FILE),
};

/** What a path to another process costs at least, without anything that makes it safe. */
export const bareRemote: MountTarget = {
  name: 'bare-remote',
  description: 'a trial: our file system, pages in another process over plain loopback TCP',
  tools: [],
  ours: false,
  start: async (stage) => {
    const isListening = (output: string): boolean => output.endsWith('\n');
    const args = [BARE_DONOR_FILE];
    const donor = await stage.serve(process.execPath, args, START_TIMEOUT_MS, isListening);
    const port = /^port (\d+)$/m.exec(donor.output())?.[1] ?? '';
    return startProgram(stage, 'bare-remote', BARE_REMOTE_FILE, { args: [port], servers: [donor] });
  },
};

function writeSshdConfig(directory: string, port: number): string {
  const key = (name: string): string => path.join(directory, name);
  for (const name of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key(name)]);
  }
  const lines = [
    ...[`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${key('host')}`, 'PidFile none'],
    ...[`AuthorizedKeysFile ${key('user.pub')}`, 'StrictModes no', 'UsePAM no'],
    ...['PermitRootLogin yes', 'PasswordAuthentication no', 'AllowTcpForwarding no'],
    'Subsystem sftp internal-sftp',
  ];
  fs.writeFileSync(key('sshd_config'), `${lines.join('\n')}\n`);
  return key('sshd_config');
}

/** Another machine's memory, as far as ssh brings it. AES-GCM is the fastest that it offers. */
export const sshfs: MountTarget = {
  name: 'sshfs',
  description: 'sshfs over loopback ssh (aes128-gcm) to files on tmpfs',
  tools: ['sshfs', 'sshd'],
  ours: false,
  start: async (stage) => {
    const files = stage.makeDirectoryIn(TMPFS_PATH);
    const own = stage.makeDirectory('sshd');
    const port = await freePort();
    const config = writeSshdConfig(own, port);
    fs.mkdirSync(SSHD_EMPTY_PATH, { recursive: true, mode: 0o755 });
    const log = path.join(own, 'log');
    const isListening = (): boolean => /listening/.test(fs.readFileSync(log, 'utf8'));
    fs.writeFileSync(log, '');
    const args = ['-D', '-E', log, '-f', config];
    const sshd = await stage.serve(SSHD_PATH, args, START_TIMEOUT_MS, isListening);
    const directory = stage.makeMountPoint('sshfs');
    const options = [
      ...['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes'],
      ...[`IdentityFile=${path.join(own, 'user')}`, 'Ciphers=aes128-gcm@openssh.com'],
      ...['Compression=no', 'allow_other', 'default_permissions', 'LogLevel=ERROR'],
    ];
    const user = process.env['USER'] ?? 'root';
    const remote = `${user}@127.0.0.1:${files}`;
    const flags = ['-f', '-p', `${port}`, '-o', options.join(','), remote, directory];
    const client = await stage.serve('sshfs', flags, START_TIMEOUT_MS, () => isMounted(directory));
    await waitFor('sshfs to serve', START_TIMEOUT_MS, () => fs.existsSync(directory));
    return served(directory, [client, sshd]);
  },
};
