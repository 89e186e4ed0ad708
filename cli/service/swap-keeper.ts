/**
 * Swap as a service: on for certain, off for certain.
 *
 * On: providers may come later than this machine, so it waits for them. Off: it is over only when the
 * kernel's own table has none of our areas any more. Others may be at it at the same time (at a
 * shutdown systemd takes every swap area off that it sees, and the kernel refuses the second who
 * asks), and memory may become free only as programs end, so it looks and tries again until its
 * deadline. It never ends with "done" while an area is there. It gives up early when nothing comes
 * back any more: with every provider gone, each page would wait for its own deadline. When the machine
 * goes down it lets go of the devices then: pages that nobody brings are lost, but nothing hangs.
 *
 * Ours is what the daemon lists, and what was written down when it was put on; another program's swap
 * on the network is never touched. When the daemon has died, areas that it served are dead too: their
 * requests wait in the kernel for a server that does not come back with the same keys. Such a device
 * is disconnected, which fails the requests and frees those who wait. Areas that the kernel reaches
 * without us (device-mapper over connections to the providers) live on, and stay when the daemon is
 * only being replaced.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeDirectory } from '../../common/directory.ts';
import { ExitCode, MemcloudError } from '../../common/errors.ts';
import { formatSize } from '../../common/units.ts';
import { networkSwaps, type NetworkSwap } from '../system/network-swap.ts';

const RETRY_INTERVAL_MS = 1000;
/** A failing `swap on` is repeated after 1, 2, 4 and then every 8 s. */
const WAIT_MIN_MS = 1000;
const WAIT_MAX_MS = 8000;
/** A `swap on` that is cut short leaves a volume behind; it has deadlines of its own. */
const TRY_TIMEOUT_MS = 150_000;
/** Less than this in the time that patience allows is no progress. */
const PROGRESS_SIZE_MIN_BYTES = 2 ** 20;
const STALL_LOOK_INTERVAL_MS = 1000;
/** Once the devices are let go of, swapoff takes as long as the kernel needs to fail the rest. */
const LAST_ATTEMPT = { deadlineMs: 30_000, patienceMs: 30_000 };
const LIST_TIMEOUT_MS = 15_000;
const OUTPUT_LENGTH_MAX = 65_536;
/** Devices that were put on by {@link keepSwapOn}, one a line; gone with a reboot, as they are. */
const RECORD_FILE = '/run/memcloud/swap-devices';

/** Exit codes of `memcloud swap on` that time can mend. */
const CURABLE_CODES: readonly (number | null)[] = [
  ExitCode.DAEMON_NOT_RUNNING,
  ExitCode.RETRYABLE,
  ExitCode.CAPACITY,
];
/** Exit codes of `memcloud swap off` that say that no daemon serves the area. */
const UNSERVED_CODES: readonly (number | null)[] = [
  ExitCode.DAEMON_NOT_RUNNING,
  ExitCode.NOT_FOUND,
];

/** How a command of ours ended. */
export interface Ended {
  /** Exit code; null when it was killed. */
  readonly code: number | null;
  /** What it printed. */
  readonly output: string;
  /** What it complained of. */
  readonly complaint: string;
}

/** When to end what takes too long. */
export interface Patience {
  /** True once it does. */
  readonly isVain: boolean;
}

/** What the keeper does to the machine; tests have their own. */
export interface SwapHands {
  /** Every area on the network. */
  readonly areas: () => NetworkSwap[];
  /** Devices written down. */
  readonly recorded: () => string[];
  /** Writes devices down. */
  readonly record: (devices: readonly string[]) => void;
  /** Runs `memcloud` with these words until it is vain, which is asked every second. */
  readonly memcloud: (words: readonly string[], until: Patience) => Promise<Ended>;
  /** Disconnects a device whose server is gone. */
  readonly disconnect: (device: string) => Promise<void>;
  /** Takes an area off without the daemon. */
  readonly swapOff: (device: string, until: Patience) => Promise<Ended>;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Waits. */
  readonly wait: (ms: number) => Promise<void>;
  /** Tells a person. */
  readonly note: (text: string) => void;
}

/** The hands for this machine. @param cli - words that start `memcloud`, with its socket */
export function machineHands(cli: readonly string[], note: (text: string) => void): SwapHands {
  return {
    areas: networkSwaps,
    recorded: () => {
      const text = fs.existsSync(RECORD_FILE) ? fs.readFileSync(RECORD_FILE, 'utf8') : '';
      return text.split('\n').filter((line) => line !== '');
    },
    record: (devices) => {
      makeDirectory(path.dirname(RECORD_FILE), 0o755);
      fs.writeFileSync(RECORD_FILE, devices.map((device) => `${device}\n`).join(''));
    },
    memcloud: (words, until) => runToEnd([...cli, ...words], until),
    disconnect: async (device) => {
      const { detachKernel } = await import('../../nbd-server/client/kernel/attach.ts');
      await detachKernel(device);
    },
    swapOff: (device, until) => runToEnd(['/sbin/swapoff', device], until),
    nowMs: () => performance.now(),
    wait: async (ms) => void (await delay(ms)),
    note,
  };
}

function runToEnd(words: readonly string[], until: Patience): Promise<Ended> {
  const [program = '', ...args] = words;
  return new Promise((resolve, reject) => {
    // A group of its own: whoever ends it ends the swapoff that it waits for, too.
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const timer = setInterval(() => {
      if (child.pid === undefined || !until.isVain) return;
      clearInterval(timer);
      process.kill(-child.pid);
    }, STALL_LOOK_INTERVAL_MS);
    const texts = { output: '', complaint: '' };
    const collect = (name: keyof typeof texts) => (chunk: Buffer) => {
      texts[name] = (texts[name] + chunk.toString()).slice(-OUTPUT_LENGTH_MAX);
    };
    child.stdout.on('data', collect('output'));
    child.stderr.on('data', collect('complaint'));
    child.on('error', (error) => {
      clearInterval(timer);
      reject(error);
    });
    const end = (code: number | null): void => {
      clearInterval(timer);
      const complaint = texts.complaint.trim().replaceAll(/^memcloud: /gm, '');
      resolve({ code, output: texts.output, complaint });
    };
    child.on('close', end);
    // Killed, it may leave a swapoff behind that the kernel lets go of only at its next page.
    child.on('exit', (code) => {
      if (code === null) end(code);
    });
  });
}

/** Whether it makes sense to go on. */
class Attempt {
  readonly #hands: SwapHands;
  readonly #patienceMs: number;
  readonly #endMs: number;
  #usedBytes = Infinity;
  #progressMs = 0;

  constructor(hands: SwapHands, limits: { deadlineMs: number; patienceMs: number }) {
    this.#hands = hands;
    this.#patienceMs = limits.patienceMs;
    this.#endMs = hands.nowMs() + limits.deadlineMs;
  }

  /** True once the deadline passed, or nothing came back for longer than patience lasts. */
  get isVain(): boolean {
    const usedBytes = this.#hands.areas().reduce((sum, area) => sum + area.usedBytes, 0);
    const nowMs = this.#hands.nowMs();
    if (this.#usedBytes - usedBytes >= PROGRESS_SIZE_MIN_BYTES) {
      this.#usedBytes = usedBytes;
      this.#progressMs = nowMs;
    }
    return nowMs >= this.#endMs || nowMs - this.#progressMs > this.#patienceMs;
  }
}

function after(hands: SwapHands, timeoutMs: number): Patience {
  const endMs = hands.nowMs() + timeoutMs;
  return {
    get isVain() {
      return hands.nowMs() >= endMs;
    },
  };
}

/** Devices of the areas that are ours; the daemon is only asked about what is not written down. */
async function ourDevices(hands: SwapHands): Promise<Set<string>> {
  const recorded = hands.recorded();
  if (hands.areas().every(({ device }) => recorded.includes(device))) return new Set(recorded);
  const { code, output } = await hands.memcloud(
    ['--json', 'swap', 'ls'],
    after(hands, LIST_TIMEOUT_MS),
  );
  const listed = code === ExitCode.OK ? (JSON.parse(output) as { device: string }[]) : [];
  return new Set([...listed.map(({ device }) => device), ...recorded]);
}

/**
 * Puts swap on the pool, waiting for providers. An area that is there already is enough.
 *
 * @param words - after `swap on`
 * @param deadlineMs - no try begins later
 * @returns the exit code of the last try: 0 when swap is on
 */
export async function keepSwapOn(
  hands: SwapHands,
  words: readonly string[],
  deadlineMs: number,
): Promise<number> {
  const endMs = hands.nowMs() + deadlineMs;
  const before = hands.areas();
  const ours = before.length === 0 ? new Set() : await ourDevices(hands);
  const found = before.find(({ device }) => ours.has(device));
  if (found !== undefined) {
    hands.note(`swap is on ${found.device} already`);
    return ExitCode.OK;
  }
  for (let waitMs = WAIT_MIN_MS; ; waitMs = Math.min(WAIT_MAX_MS, waitMs * 2)) {
    const { code, complaint } = await hands.memcloud(
      ['swap', 'on', '--must-return', ...words],
      after(hands, TRY_TIMEOUT_MS),
    );
    if (code === ExitCode.OK) break;
    if (!CURABLE_CODES.includes(code) || hands.nowMs() + waitMs > endMs) {
      hands.note(complaint);
      return code ?? ExitCode.FAILURE;
    }
    await hands.wait(waitMs);
  }
  const old = new Set(before.map(({ device }) => device));
  const fresh = hands.areas().filter(({ device }) => !old.has(device));
  hands.record(fresh.map(({ device }) => device));
  for (const { device, sizeBytes } of fresh) {
    hands.note(`swap is on ${device}, ${formatSize(sizeBytes)}`);
  }
  return ExitCode.OK;
}

/** How swap is taken off. */
export interface TakeOffOptions {
  /** When to give up, in milliseconds from now. */
  readonly deadlineMs: number;
  /** How long nothing may come back before that. */
  readonly patienceMs: number;
  /** The daemon is only being replaced: areas that live without it stay. */
  readonly daemonReplaced: boolean;
  /** The machine goes down: rather than give up, let go of the devices. */
  readonly machineStops: boolean;
}

/**
 * Takes every area of ours off.
 *
 * @throws MemcloudError `ERR_TIMEOUT` when it gives up
 */
export async function takeSwapOff(hands: SwapHands, options: TakeOffOptions): Promise<void> {
  if (hands.areas().length === 0) return;
  const ours = await ourDevices(hands);
  let attempt = new Attempt(hands, options);
  let mayLetGo = options.machineStops;
  let complaint = 'nothing came back; are the providers there?';
  for (;;) {
    const left = hands.areas().filter(({ device }) => ours.has(device));
    const areas = left.filter((area) => !(options.daemonReplaced && livesAlone(area)));
    const [first] = areas;
    if (first === undefined) {
      hands.record(left.map(({ device }) => device));
      const staying = left.map(({ device }) => device).join(', ');
      hands.note(staying === '' ? 'swap is off' : `swap stays on ${staying}`);
      return;
    }
    if (attempt.isVain && mayLetGo) {
      mayLetGo = false;
      await letGo(hands, areas);
      attempt = new Attempt(hands, LAST_ATTEMPT);
    } else if (attempt.isVain) {
      const rest = `${formatSize(first.usedBytes)} are still on ${first.device}`;
      throw new MemcloudError('ERR_TIMEOUT', `swap is not off: ${rest}: ${complaint}`);
    }
    // Memory may become free only as programs end: to refuse beforehand is for people.
    const words = ['swap', 'off', '--force'];
    const { code, complaint: said } = await hands.memcloud(words, attempt);
    if (code === ExitCode.OK) continue;
    if (code !== null && said !== '') complaint = said.split('\n').at(-1) ?? said;
    if (UNSERVED_CODES.includes(code)) await offWithoutDaemon(hands, areas, attempt);
    await hands.wait(RETRY_INTERVAL_MS);
  }
}

/** True for an area under which the kernel talks to the providers itself. */
function livesAlone({ device, nbdDevices }: NetworkSwap): boolean {
  return !nbdDevices.includes(device);
}

/** Reads of what is on the devices fail from here on, so that swapoff comes to an end. */
async function letGo(hands: SwapHands, areas: readonly NetworkSwap[]): Promise<void> {
  const lost = areas.reduce((sum, area) => sum + area.usedBytes, 0);
  hands.note(`the machine stops and nothing comes back: giving ${formatSize(lost)} up`);
  await Promise.allSettled(areas.flatMap((area) => area.nbdDevices.map(hands.disconnect)));
}

async function offWithoutDaemon(
  hands: SwapHands,
  areas: readonly NetworkSwap[],
  attempt: Attempt,
): Promise<void> {
  for (const area of areas) {
    hands.note(`no memnode serves ${area.device}: taking swap off it without`);
    // Together: the device is free only after swapoff, which ends only when its requests fail.
    await Promise.allSettled([
      livesAlone(area) ? undefined : hands.disconnect(area.device),
      hands.swapOff(area.device, attempt),
    ]);
  }
}
