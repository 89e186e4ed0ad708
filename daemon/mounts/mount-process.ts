/**
 * The process of one mount, as the daemon holds it: started, asked, told and, when nothing else helps,
 * killed. It may be stopped or slow at any time, so nothing here waits for it without a deadline, and what
 * is sent to one that does not read is bounded: one question about its status at a time, and of
 * the lists of peers only the latest.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { MemcloudError, isErrorCode } from '../../common/errors.ts';
import { resultWithin } from '../handover/within.ts';
import type { PoolLease, PoolUse } from '../managed/pool-lease.ts';
import type { FromMount, MountPeer, MountStatus, ToMount } from './protocol.ts';

type Start = Extract<ToMount, { readonly type: 'start' }>;
type Answer = Extract<FromMount, { readonly type: 'unmounted' | 'remounted' | 'status' | 'use' }>;

/** Told what a child does by itself. */
export interface MountProcessEvents {
  /** It ended; `how` says so in words: `with code 1`, `by SIGKILL`. */
  onExit(how: string, clean: boolean): void;
  /** Somebody else unmounted its mount. */
  onUnmounted(): void;
  /** A provider broke the rules. */
  onQuarantine(nodeId: string, reason: string): void;
}

/** How to start a child. */
export interface MountProgram {
  /** The file that node runs: `daemon/mount-main.js` of the build. */
  readonly file: string;
}

interface Waiting {
  readonly resolve: (answer: Answer | undefined) => void;
  readonly timer: NodeJS.Timeout;
}

/** See the top of the file. */
export class MountProcess {
  readonly #child: ChildProcess;
  readonly #events: MountProcessEvents;
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;
  #exited = false;
  #statusAsked: Promise<Answer | undefined> | undefined;
  #statusAskedId = 0;
  #following = false;
  #begun: ((error: MemcloudError | undefined) => void) | undefined;
  #peersToSend: readonly MountPeer[] | undefined;

  /** Starts the process; it does nothing yet. */
  constructor(program: MountProgram, events: MountProcessEvents) {
    this.#events = events;
    // It inherits PR_SET_IO_FLUSHER where the daemon has it: prctl(2) names servers of FUSE for it.
    this.#child = spawn(process.execPath, [...process.execArgv, program.file], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      cwd: '/',
      detached: false,
    });
    this.#child.on('message', (message) => this.#onMessage(message as FromMount));
    this.#child.on('error', (error) => this.#onEnd(`: ${error.message}`, false));
    this.#child.on('exit', (code, signal) => {
      this.#onEnd(signal === null ? `with code ${code}` : `by ${signal}`, code === 0);
    });
  }

  /** Its process id; 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** True once it has ended. */
  get exited(): boolean {
    return this.#exited;
  }

  /** True while a question about its status has no answer. */
  get isAsked(): boolean {
    return this.#statusAsked !== undefined;
  }

  /**
   * Tells it what to mount and waits until it is mounted.
   *
   * @throws MemcloudError as the child says; `ERR_MOUNT_FAILED` when it ended without a word;
   *   `ERR_TIMEOUT`
   */
  async begin(start: Start, timeoutMs: number): Promise<void> {
    const begun = new Promise<MemcloudError | undefined>((resolve) => (this.#begun = resolve));
    const timer = setTimeout(() => {
      const text = `mount ${start.request.directory}: not there within ${timeoutMs} ms`;
      this.#begun?.(new MemcloudError('ERR_TIMEOUT', text));
    }, timeoutMs);
    this.#send(start);
    const error = await begun;
    clearTimeout(timer);
    this.#begun = undefined;
    if (error !== undefined) throw error;
  }

  /** How it is; undefined when it does not answer in time. */
  async status(timeoutMs: number): Promise<MountStatus | undefined> {
    if (this.#statusAsked === undefined) {
      const { id, answer } = this.#ask(Infinity);
      this.#statusAskedId = id;
      this.#statusAsked = answer.finally(() => (this.#statusAsked = undefined));
      this.#send({ type: 'status', id });
    }
    const answer = await resultWithin(timeoutMs, this.#statusAsked);
    return answer?.type === 'status' ? answer.status : undefined;
  }

  /** Tells it to unmount. @returns `undefined` when it does not answer in time */
  async unmount(
    how: { readonly lazy: boolean; readonly keep: boolean },
    timeoutMs: number,
  ): Promise<'done' | 'busy' | undefined> {
    if (this.#exited) return 'done';
    const { id, answer } = this.#ask(timeoutMs);
    this.#send({ type: 'unmount', id, ...how });
    const reply = await answer;
    if (reply?.type === 'unmounted') return reply.busy ? 'busy' : 'done';
    return this.#exited ? 'done' : undefined;
  }

  /** Mounts kept files. @throws MemcloudError as the child says; `ERR_TIMEOUT` */
  async remount(directory: string, timeoutMs: number): Promise<void> {
    const { id, answer } = this.#ask(timeoutMs);
    this.#send({ type: 'remount', id, directory });
    const reply = await answer;
    if (reply?.type !== 'remounted') {
      throw new MemcloudError('ERR_TIMEOUT', `mount ${directory}: its process does not answer`);
    }
    if (reply.error !== null) throw errorOf(reply.error);
  }

  /** Tells it whom it may use, as soon as it listens. */
  setPeers(peers: readonly MountPeer[]): void {
    this.#peersToSend = peers;
    if (!this.isAsked) this.#sendPeers();
  }

  /**
   * Tells it of its managed leases.
   *
   * @returns what it has of them; undefined when it does not answer in time, or has not answered before
   */
  async follow(leases: readonly PoolLease[], timeoutMs: number): Promise<PoolUse | undefined> {
    if (this.#following) return undefined;
    this.#following = true;
    const { id, answer } = this.#ask(timeoutMs);
    this.#send({ type: 'leases', id, leases });
    const reply = await answer.finally(() => (this.#following = false));
    return reply?.type === 'use' ? reply.use : undefined;
  }

  /** Kills it and waits for its end. @returns false when even that takes longer */
  async kill(timeoutMs: number): Promise<boolean> {
    if (!this.#exited) this.#child.kill('SIGKILL');
    return this.ended(timeoutMs);
  }

  /** Waits for its end. */
  async ended(timeoutMs: number): Promise<boolean> {
    if (this.#exited) return true;
    const exit = once(this.#child, 'exit').then(() => true);
    return (await resultWithin(timeoutMs, exit)) ?? this.#exited;
  }

  #ask(timeoutMs: number): { id: number; answer: Promise<Answer | undefined> } {
    this.#id += 1;
    const id = this.#id;
    const answer = new Promise<Answer | undefined>((resolve) => {
      const timer = setTimeout(
        () => this.#settle(id, undefined),
        Number.isFinite(timeoutMs) ? timeoutMs : 2 ** 31 - 1,
      );
      timer.unref();
      this.#waiting.set(id, { resolve, timer });
      if (this.#exited) this.#settle(id, undefined);
    });
    return { id, answer };
  }

  #settle(id: number, answer: Answer | undefined): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    waiting.resolve(answer);
  }

  #send(message: ToMount): void {
    if (this.#exited || !this.#child.connected) return;
    // A channel that breaks is the end of the child, which is told of by itself.
    this.#child.send(message, () => undefined);
  }

  #sendPeers(): void {
    if (this.#peersToSend === undefined) return;
    this.#send({ type: 'peers', peers: this.#peersToSend });
    this.#peersToSend = undefined;
  }

  #onMessage(message: FromMount): void {
    switch (message.type) {
      case 'mounted':
        this.#begun?.(undefined);
        break;
      case 'failed':
        this.#begun?.(errorOf(message));
        break;
      case 'unmounted':
        if (message.id === 0) this.#events.onUnmounted();
        else this.#settle(message.id, message);
        break;
      case 'status':
      case 'use':
      case 'remounted':
        this.#settle(message.id, message);
        if (message.id === this.#statusAskedId) setImmediate(() => this.#sendPeers());
        break;
      case 'quarantine':
        this.#events.onQuarantine(message.nodeId, message.reason);
        break;
    }
  }

  #onEnd(how: string, clean: boolean): void {
    if (this.#exited) return;
    this.#exited = true;
    const text = `its process ended ${how} before anything was mounted; see the log`;
    this.#begun?.(new MemcloudError('ERR_MOUNT_FAILED', text));
    for (const id of [...this.#waiting.keys()]) this.#settle(id, undefined);
    this.#events.onExit(how, clean);
  }
}

function errorOf({ code, message }: { code: string; message: string }): MemcloudError {
  return new MemcloudError(isErrorCode(code) ? code : 'ERR_MOUNT_FAILED', message);
}
