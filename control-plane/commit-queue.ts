/**
 * Group commit: steps of the leader's decisions go to the store in their order, as many in one transaction
 * as fit, one transaction at a time. A step is *out* (its answer, messages and events may leave) only when
 * it is stored.
 *
 * Every transaction compares two revisions: that of the entry `leader`, the fence of the term, and that of
 * the head of the audit log, which every transaction writes. The second makes a transaction whose answer
 * was lost harmless: if it is done late all the same, it is either seen when the state is read anew, or it
 * makes the next transaction fail, and never is half of it. After one failure nothing more goes out.
 */
import { asMemcloudError, MemcloudError } from '../common/errors.ts';
import { AUDIT_HEAD_KEY, AUDIT_PREFIX, parseAuditLine, type AuditChain } from './audit.ts';
import type { Step, Steps } from './decision.ts';
import {
  TRANSACTION_OP_COUNT_MAX,
  type MetaCompare,
  type MetaOp,
  type MetaStore,
} from './meta-store.ts';

/** Steps that wait at most; beyond it nothing new is decided. */
export const WAITING_STEP_COUNT_MAX = 20_000;
/** Old audit lines that go in one transaction. */
const PRUNE_COUNT = 64;

/** What the queue needs. */
export interface CommitQueueOptions {
  readonly store: MetaStore;
  /** Holds while this node leads. */
  readonly fence: MetaCompare;
  readonly chain: AuditChain;
  /** Of the entry of the chain's head when it was read; 0: there is none. */
  readonly headRevision: number;
  /** Wall clock for audit lines, ISO 8601. */
  readonly wallClock: () => string;
  /** A step is stored; in order. */
  onStored(step: Step): void;
  /** A transaction failed: the state in memory is worth nothing. Called once. */
  onFailed(error: MemcloudError): void;
}

interface Waiting {
  readonly step: Step;
  readonly done: ((error?: MemcloudError) => void) | undefined;
}

/** See the top of the file. */
export class CommitQueue {
  readonly #options: CommitQueueOptions;
  #headRevision: number;
  #waiting: Waiting[] = [];
  /** What is in the transaction under way. */
  #sent: Waiting[] = [];
  #running = false;
  #failure: MemcloudError | undefined;

  constructor(options: CommitQueueOptions) {
    this.#options = options;
    this.#headRevision = options.headRevision;
  }

  /** Steps that are not stored yet. */
  get waitingCount(): number {
    return this.#waiting.length + this.#sent.length;
  }

  /**
   * Stores steps.
   *
   * @returns when they, and all steps added before, are stored
   * @throws MemcloudError `ERR_CONTROL_STORE`, `ERR_CONTROL_NOT_LEADER`: then they may be stored or not
   */
  add(steps: Steps): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const isIdle = this.waitingCount === 0;
    if (isIdle && steps.list.every((step) => isEmpty(step))) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const last = steps.list.length - 1;
      steps.list.forEach((step, index) => {
        const done = (error?: MemcloudError): void =>
          error === undefined ? resolve() : reject(error);
        this.#waiting.push({ step, done: index === last ? done : undefined });
      });
      if (this.#running) return;
      this.#running = true;
      // What is decided in this turn goes together.
      setImmediate(() => void this.#run());
    });
  }

  /** Ends it: what waits is answered with the error. */
  close(error: MemcloudError): void {
    this.#fail(error, false);
  }

  async #run(): Promise<void> {
    try {
      while (this.#waiting.length > 0 && this.#failure === undefined) {
        this.#sent = this.#take();
        await this.#transact(this.#opsOf(this.#sent));
        if (this.#failure !== undefined) return;
        this.#release();
        if (this.#options.chain.excessCount >= PRUNE_COUNT) await this.#prune();
      }
    } catch (error) {
      this.#fail(asMemcloudError(error), true);
    } finally {
      this.#running = false;
    }
  }

  /** The steps of the next transaction. */
  #take(): Waiting[] {
    const keys = new Set<string>();
    let lineCount = 0;
    let count = 0;
    for (const { step } of this.#waiting) {
      for (const key of step.ops.keys()) keys.add(key);
      lineCount += step.audit.length;
      // One for the head of the log.
      if (count > 0 && keys.size + lineCount + 1 > TRANSACTION_OP_COUNT_MAX) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  #opsOf(batch: readonly Waiting[]): MetaOp[] {
    const ops = new Map<string, MetaOp>();
    const lines: MetaOp[] = [];
    const { chain, wallClock } = this.#options;
    for (const { step } of batch) {
      for (const [key, op] of step.ops) ops.set(key, op);
      for (const draft of step.audit) lines.push(chain.add(draft, wallClock()).op);
    }
    return [...ops.values(), ...lines];
  }

  async #transact(ops: readonly MetaOp[]): Promise<void> {
    if (ops.length === 0) return;
    const { store, fence, chain } = this.#options;
    const revision = await store.transact(
      [fence, { key: AUDIT_HEAD_KEY, revision: this.#headRevision }],
      [...ops, chain.headOp()],
    );
    if (revision === undefined) {
      const why = 'this control node leads no more; ask the one that does';
      throw new MemcloudError('ERR_CONTROL_NOT_LEADER', why);
    }
    this.#headRevision = revision;
  }

  #release(): void {
    const stored = this.#sent;
    this.#sent = [];
    for (const { step, done } of stored) {
      this.#options.onStored(step);
      done?.();
    }
  }

  /** Takes out the oldest audit lines. */
  async #prune(): Promise<void> {
    const { store, chain } = this.#options;
    const countMax = Math.min(PRUNE_COUNT, chain.excessCount);
    const { entries } = await store.list(AUDIT_PREFIX, { countMax });
    await this.#transact(chain.prune(entries.map(({ value }) => parseAuditLine(value))));
  }

  #fail(error: MemcloudError, isTold: boolean): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    const lost = [...this.#sent, ...this.#waiting];
    this.#sent = [];
    this.#waiting = [];
    for (const { done } of lost) done?.(error);
    if (isTold) this.#options.onFailed(error);
  }
}

function isEmpty({ ops, audit, events, messages }: Step): boolean {
  return ops.size + audit.length + events.length + messages.length === 0;
}
