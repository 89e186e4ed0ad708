/** The consumer of a soak: a guest with memnode in a protected group, hogs without any limit. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { CommandResult } from '../../../cli/guest/command-channel.ts';
import { findProgram } from '../../../cli/guest/host-command.ts';
import type { Guest } from '../../../cli/guest/guest.ts';
import { GUEST_PACKAGE_ROOT } from '../../../cli/guest/root-image.ts';
import { runOk } from '../guest.ts';
import { temporaryFolder } from '../nbd-servers.ts';

const SOCKET = '/tmp/memcloud.sock';
const START_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 120_000;
const POWER_OFF_TIMEOUT_MS = 60_000;
/** Filling and the last look at every word come on top of the time asked for. */
const HOG_GRACE_MS = 400_000;
const HOG_POLL_MS = 2_000;

/** What a hog said at its end. */
export interface HogResult {
  readonly checked: number;
  readonly wrong: number;
  readonly longestMs: number;
}

/** The consumer. */
export class SoakGuest {
  readonly #t: Test;
  readonly #guest: Guest;

  constructor(t: Test, guest: Guest) {
    this.#t = t;
    this.#guest = guest;
  }

  /**
   * Starts memnode, protected as its unit would, and waits for the providers: ports on the host. Without
   * any it waits for the ready line only.
   */
  async startMemnode(providers: readonly string[], flags = '--auto-trust'): Promise<void> {
    const connect = providers
      .map((address) => `--connect 10.0.2.2:${address.split(':').at(-1) ?? ''}`)
      .join(' ');
    await runOk(
      this.#t,
      this.#guest,
      `mkdir /sys/fs/cgroup/memnode
      echo 0 >/sys/fs/cgroup/memnode/memory.swap.max
      echo 64M >/sys/fs/cgroup/memnode/memory.min
      cd ${GUEST_PACKAGE_ROOT}
      (
        sh -c 'echo $$ >/sys/fs/cgroup/memnode/cgroup.procs
          echo -900 >/proc/self/oom_score_adj
          exec node dist/daemon/main.js --name guest --state /tmp/state --socket ${SOCKET} \\
            --listen 127.0.0.1:0 --offer 0 --no-mdns ${flags} ${connect}' \\
          >/tmp/ready 2>/tmp/memnode.log &
        echo $! >/tmp/memnode.pid
      )
      for second in $(seq 170); do
        if [ -s /tmp/ready ] && [ "$(grep -c 'peer up' /tmp/memnode.log)" -ge ${providers.length} ]; then exit 0; fi
        if ! kill -0 "$(cat /tmp/memnode.pid)"; then break; fi
        sleep 1
      done
      cat /tmp/ready /tmp/memnode.log >&2
      exit 1`,
      { timeoutMs: START_TIMEOUT_MS },
    );
  }

  /** Runs memcloud in the guest; it must succeed. */
  async memcloud(words: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<CommandResult> {
    const script = `cd ${GUEST_PACKAGE_ROOT}
      node dist/cli/main.js --socket ${SOCKET} ${words} || { tail -n 5 /tmp/memnode.log >&2; exit 1; }`;
    return runOk(this.#t, this.#guest, script, { timeoutMs });
  }

  /** Ends memnode as a power cut would. */
  async killMemnode(): Promise<void> {
    const script = 'kill -9 "$(cat /tmp/memnode.pid)"';
    await runOk(this.#t, this.#guest, script, { timeoutMs: COMMAND_TIMEOUT_MS });
  }

  /** What the guest's kernel has swapped since it booted. */
  async swapCounters(): Promise<{ pagesOut: number; pagesIn: number }> {
    const { stdout } = await runOk(this.#t, this.#guest, 'grep -E "^pswp(in|out)" /proc/vmstat');
    const count = (name: string): number =>
      Number(new RegExp(`^${name} (\\d+)`, 'm').exec(stdout)?.[1] ?? 0);
    return { pagesOut: count('pswpout'), pagesIn: count('pswpin') };
  }

  /** Asks the machine to power off, and waits until it has. @throws MemcloudError when it hangs */
  async powerOff(): Promise<void> {
    void this.#guest.run('busybox poweroff -f', { timeoutMs: 10_000 }).catch(() => undefined);
    await this.#guest.waitForEnd(POWER_OFF_TIMEOUT_MS);
  }
}

/** Why no hog can be built here; false when one can. */
export function skipWithoutCompiler(): string | false {
  return findProgram('gcc') === undefined ? 'gcc is not installed' : false;
}

/** Builds the program that fills memory and checks it; its place on the host. */
export function buildHog(t: Test): string {
  const source = path.join(import.meta.dirname, '../../../../test/helpers/soak/hog.c');
  const program = path.join(temporaryFolder(t), 'hog');
  execFileSync('gcc', ['-O2', '-static', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
  return program;
}

/** Where the hog lies in the guest. */
export const HOG_PROGRAM = '/opt/hog';

/** Programs that run in the guest beside the commands that it is given. */
export class Hogs {
  readonly #t: Test;
  readonly #guest: Guest;
  readonly #count: number;
  readonly #deadlineMs: number;

  private constructor(t: Test, guest: Guest, count: number, seconds: number) {
    this.#t = t;
    this.#guest = guest;
    this.#count = count;
    this.#deadlineMs = performance.now() + seconds * 1000 + HOG_GRACE_MS;
  }

  /**
   * Starts hogs side by side, without any limit but the machine's unless `memoryMax` is given, for each.
   * A guest runs one command at a time, so they go to the background.
   */
  static async start(
    t: Test,
    guest: Guest,
    options: {
      count: number;
      mebibytes: number;
      seconds: number;
      canary: Buffer;
      memoryMax?: string;
    },
  ): Promise<Hogs> {
    const { count, mebibytes, seconds, canary, memoryMax } = options;
    const starts = Array.from({ length: count }, (_, index) => {
      const words = `${mebibytes} ${seconds} ${index + 1} ${canary.toString('hex')}`;
      const place = `/run/hog-${index}`;
      const group = `/sys/fs/cgroup/hog-${index}`;
      const limit =
        memoryMax === undefined
          ? ''
          : `mkdir ${group}; echo ${memoryMax} >${group}/memory.max; sh -c 'echo $$ >${group}/cgroup.procs; exec "$@"' sh `;
      return `(${limit}${HOG_PROGRAM} ${words} >${place}.log 2>&1; echo $? >${place}.code) </dev/null >/dev/null 2>&1 &`;
    });
    await runOk(t, guest, starts.join('\n'));
    return new Hogs(t, guest, count, seconds);
  }

  /** Waits until all have ended, each with 0. */
  async end(): Promise<HogResult[]> {
    for (;;) {
      const { stdout } = await this.#guest.run('cat /run/hog-*.code', { timeoutMs: 120_000 });
      const codes = stdout
        .trim()
        .split('\n')
        .filter((code) => code !== '');
      if (codes.length === this.#count) {
        this.#t.strictSame(new Set(codes), new Set(['0']), 'every hog ended well');
        break;
      }
      if (performance.now() > this.#deadlineMs) {
        this.#t.fail(`${codes.length} of ${this.#count} hogs ended in time`);
        break;
      }
      await delay(HOG_POLL_MS);
    }
    const { stdout } = await this.#guest.run('cat /run/hog-*.log', { timeoutMs: 120_000 });
    const results: HogResult[] = [];
    for (const line of stdout.trim().split('\n')) {
      if (line.includes('"type":"result"')) results.push(JSON.parse(line) as HogResult);
      else this.#t.comment(line);
    }
    return results;
  }
}
