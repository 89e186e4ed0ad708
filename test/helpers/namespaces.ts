/**
 * Machines in miniature: network namespaces joined by a bridge, with addresses that exist inside
 * them only. Everything is removed with the test.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';

const PACKET_LOSS = path.join(import.meta.dirname, 'packet-loss/main.js');
const TOOL_PATHS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];
const ENV = { ...process.env, PATH: TOOL_PATHS.join(':') };

function ip(...args: string[]): void {
  execFileSync('ip', args, { env: ENV, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Why there can be no namespaces here; false when there can. */
export function skipWithoutNamespaces(): string | false {
  if (process.geteuid?.() !== 0) return 'network namespaces need root';
  for (const tool of ['ip', 'tcpdump']) {
    if (!TOOL_PATHS.some((folder) => fs.existsSync(`${folder}/${tool}`))) {
      return `${tool} is not installed`;
    }
  }
  const probe = `mc${process.pid}p`;
  try {
    ip('netns', 'add', probe);
    ip('netns', 'del', probe);
    return false;
  } catch (error) {
    return `no network namespaces here: ${String(error).split('\n')[0]}`;
  }
}

/** A network of machines; the bridge has a namespace of its own. */
export class Network {
  readonly #prefix = `mc${process.pid % 100_000}`;
  readonly #hub = `${this.#prefix}h`;
  readonly #names = new Set<string>();

  /** Makes an empty network that goes with the test. */
  constructor(t: Test) {
    t.teardown(() => this.#remove());
    this.#add(this.#hub);
    ip('-n', this.#hub, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', this.#hub, 'link', 'set', 'br0', 'up');
  }

  /**
   * Adds a machine; returns its address and the words that run a program on it.
   *
   * @param options - `plugged`: whether it has a cable from the start; `ipv4`: whether it has that address
   */
  machine(
    number: number,
    { plugged = true, ipv4 = true } = {},
  ): { address: string; launcher: string[] } {
    const name = `${this.#prefix}n${number}`;
    this.#add(name);
    if (plugged) this.plug(number, { ipv4 });
    return { address: `10.77.0.${number}`, launcher: ['ip', 'netns', 'exec', name] };
  }

  /** Gives a machine a network card with a cable to the bridge. */
  plug(number: number, { ipv4 = true } = {}): void {
    const name = `${this.#prefix}n${number}`;
    const port = `port${number}`;
    ip('-n', this.#hub, 'link', 'add', port, 'type', 'veth', 'peer', 'eth0', 'netns', name);
    ip('-n', this.#hub, 'link', 'set', port, 'master', 'br0', 'up');
    if (ipv4) ip('-n', name, 'address', 'add', `10.77.0.${number}/24`, 'dev', 'eth0');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
  }

  /** Takes the network card of a machine out. */
  unplug(number: number): void {
    ip('-n', `${this.#prefix}n${number}`, 'link', 'del', 'eth0');
  }

  /** Pulls or plugs the cable of a machine. */
  cable(number: number, state: 'up' | 'down'): void {
    ip('-n', this.#hub, 'link', 'set', `port${number}`, state);
  }

  /** Machine `number` can send nothing to machine `other` any more, which breaks every connection of the two. */
  blackhole(number: number, other: number): void {
    ip('-n', `${this.#prefix}n${number}`, 'route', 'add', 'blackhole', `10.77.0.${other}/32`);
  }

  /** Ends a {@link blackhole}. */
  heal(number: number, other: number): void {
    ip('-n', `${this.#prefix}n${number}`, 'route', 'del', 'blackhole', `10.77.0.${other}/32`);
  }

  /**
   * Loses a share of the packets to and from a machine, each for itself; resolves when it does. Packets
   * are of 1500 bytes from then on, on every cable: a device that cuts late would lose 64 KiB at once.
   */
  async loss(t: Test, number: number, share: number): Promise<{ stop: () => Promise<void> }> {
    for (const name of this.#names) {
      if (name === this.#hub) continue;
      ip('-n', name, 'link', 'set', 'eth0', 'gso_max_segs', '1', 'gso_max_size', '1500');
    }
    const ends = [
      [this.#hub, `port${number}`],
      [`${this.#prefix}n${number}`, 'eth0'],
    ];
    const children = ends.map(([name = '', device = '']) => {
      const words = [process.execPath, PACKET_LOSS, device, String(share)];
      return spawn('ip', ['netns', 'exec', name, ...words], {
        env: ENV,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    });
    const stop = async (): Promise<void> => {
      await Promise.all(children.map(endProcess));
    };
    t.teardown(stop);
    await Promise.all(
      children.map(
        (child) =>
          new Promise<void>((resolve, reject) => {
            child.stdout.once('data', () => resolve());
            child.once('exit', (code) => reject(new Error(`packet loss ended with ${code}`)));
          }),
      ),
    );
    return { stop };
  }

  /** Writes every frame of the bridge to a file; resolves when it listens. */
  async capture(t: Test, file: string): Promise<{ stop: () => Promise<void> }> {
    const words = ['netns', 'exec', this.#hub, 'tcpdump', '-i', 'br0', '-s', '0', '-U'];
    const child = spawn('ip', [...words, '-B', '65536', '-w', file], {
      env: ENV,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const stop = (): Promise<void> => endProcess(child);
    t.teardown(stop);
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text: Buffer) => text.includes('listening') && resolve());
      child.once('exit', (code) => reject(new Error(`tcpdump ended with ${code}`)));
    });
    return { stop };
  }

  #add(name: string): void {
    ip('netns', 'add', name);
    this.#names.add(name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
  }

  #remove(): void {
    for (const name of this.#names) ip('netns', 'del', name);
    this.#names.clear();
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGINT');
  await ended;
}

/** True when a file holds the bytes; reads it in pieces. */
export function fileContains(file: string, needle: Buffer): boolean {
  const fd = fs.openSync(file, 'r');
  try {
    return rangeContains(fd, 0, fs.fstatSync(fd).size, needle);
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * True when the writable private memory of a process holds the bytes. Shared mappings are left out:
 * to look at their holes would fill them; look into their files instead.
 */
export function memoryContains(pid: number, needle: Buffer): boolean {
  const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').trim().split('\n');
  const fd = fs.openSync(`/proc/${pid}/mem`, 'r');
  try {
    return maps.some((line) => {
      const match = /^([0-9a-f]+)-([0-9a-f]+) rw.p/.exec(line);
      if (match === null) return false;
      const start = Number.parseInt(match[1] ?? '', 16);
      return rangeContains(fd, start, Number.parseInt(match[2] ?? '', 16), needle);
    });
  } finally {
    fs.closeSync(fd);
  }
}

const PIECE_SIZE = 4 * 2 ** 20;

function rangeContains(fd: number, start: number, end: number, needle: Buffer): boolean {
  const piece = Buffer.alloc(PIECE_SIZE + needle.length);
  for (let offset = start; offset < end; offset += PIECE_SIZE) {
    const wanted = Math.min(piece.length, end - offset);
    let got: number;
    try {
      got = fs.readSync(fd, piece, 0, wanted, offset);
    } catch {
      continue; // Guard pages and the like cannot be read.
    }
    if (piece.subarray(0, got).includes(needle)) return true;
  }
  return false;
}
