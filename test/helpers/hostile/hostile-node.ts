/** The hostile donor (main.ts) as a test holds it. */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { Test } from 'tap';
import type { Lie, LieRates } from './hostile-slabs.ts';
import type { WireLie, WireRates } from './raw-donor.ts';

const MAIN = path.join(import.meta.dirname, 'main.js');

/** What it did. */
export interface HostileReport {
  /** Pages served that were not what was stored; of `short` and `ghost` the replies. */
  counts: Record<Lie | WireLie, number>;
  /** Pages served that were not what was stored. */
  faultCount: number;
  pagesServed: number;
  pagesForgotten: number;
}

/** A process. */
export class HostileNode {
  readonly name: string;
  readonly address: string;
  readonly nodeId: string;
  readonly #child: ChildProcess;

  private constructor(name: string, address: string, nodeId: string, child: ChildProcess) {
    this.name = name;
    this.address = address;
    this.nodeId = nodeId;
    this.#child = child;
  }

  /** Starts one; it ends with the test. */
  static async start(t: Test, name: string, mode: 'pages' | 'wire'): Promise<HostileNode> {
    const child = fork(MAIN, [name, mode], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    t.teardown(() => end(child));
    const [{ ready }] = (await once(child, 'message')) as [
      { ready: { port: number; nodeId: string } },
    ];
    return new HostileNode(name, `127.0.0.1:${ready.port}`, ready.nodeId, child);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** It lies so from now on. */
  async lie(rates: LieRates & WireRates): Promise<void> {
    await this.#ask({ rates });
  }

  /** What it did so far. */
  async report(): Promise<HostileReport> {
    return (await this.#ask({ report: true })) as HostileReport;
  }

  /** Ends it. */
  async end(): Promise<void> {
    await end(this.#child);
  }

  async #ask(message: object): Promise<unknown> {
    const answer = once(this.#child, 'message');
    this.#child.send(message);
    const [value] = (await answer) as unknown[];
    return value;
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
