/** What goes over the loopback between a guest and its providers, as a file of tcpdump. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { findProgram } from '../../../cli/guest/host-command.ts';

/** Frames kept at most: enough to see thousands of pages, little enough to search. */
const FRAME_COUNT_MAX = 20_000;

/** Why nothing can be captured here; false when it can. */
export function skipWithoutCapture(): string | false {
  if (process.geteuid?.() !== 0) return 'capturing frames needs root';
  return findProgram('tcpdump') === undefined ? 'tcpdump is not installed' : false;
}

/** A capture under way. */
export class Loopback {
  /** Where it is written. */
  readonly file: string;
  readonly #end: () => Promise<void>;

  private constructor(file: string, end: () => Promise<void>) {
    this.file = file;
    this.#end = end;
  }

  /** Begins to write what passes the ports; resolves when it listens. The file goes with the test. */
  static async capture(t: Test, addresses: readonly string[]): Promise<Loopback> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-capture-'));
    const file = path.join(folder, 'wire.pcap');
    const ports = addresses.map((address) => `tcp port ${address.split(':').at(-1)}`);
    const child = spawn(
      findProgram('tcpdump') ?? '',
      ['-i', 'lo', '-s', '0', '-U', '-c', String(FRAME_COUNT_MAX), '-w', file, ports.join(' or ')],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const end = async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      await ended;
    };
    t.teardown(async () => {
      await end();
      fs.rmSync(folder, { recursive: true, force: true });
    });
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text: Buffer) => text.includes('listening') && resolve());
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`tcpdump ended with ${code}`)));
    });
    return new Loopback(file, end);
  }

  /** Ends the capture. */
  async stop(): Promise<{ file: string; sizeBytes: number }> {
    await this.#end();
    return { file: this.file, sizeBytes: fs.statSync(this.file).size };
  }
}
