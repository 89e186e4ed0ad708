/**
 * What the leader's state machines answer with. A *decision* is an answer or a refusal, and *steps* in
 * their order: each step is what must be stored together, with the audit lines and events that tell of it
 * and the messages that may leave once it is stored. The state in memory has changed already when a
 * decision comes out; if a step cannot be stored, the state is thrown away and read anew.
 */
import { MemcloudError, type ErrorCode } from '../common/errors.ts';
import type { ManagedEndReason } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import type { AuditDraft } from './audit.ts';
import type { EventDraft } from './events.ts';
import type { MetaOp } from './meta-store.ts';
import { MANAGED_LEASE_COUNT_MAX } from '../common/managed.ts';

/** A message of the leader. */
export type Message =
  /** To a provider: end these. */
  | {
      readonly kind: 'end';
      readonly to: NodeId;
      readonly leaseIds: string[];
      readonly reason: ManagedEndReason;
    }
  /** To a client: these have ended, or end now. */
  | {
      readonly kind: 'ending';
      readonly to: NodeId;
      readonly leaseIds: string[];
      readonly reason: ManagedEndReason;
    }
  /** To a provider: let this client in. */
  | {
      readonly kind: 'admit';
      readonly to: NodeId;
      readonly client: NodeId;
      readonly ttlMs: number;
    };

/** Changes that a step gathers before the next one begins. */
const STEP_CHANGE_COUNT = 60;

/** What is stored together. */
export class Step {
  /** Changes by key; the last one of a key counts. */
  readonly ops = new Map<string, MetaOp>();
  readonly audit: AuditDraft[] = [];
  readonly events: EventDraft[] = [];
  readonly messages: Message[] = [];

  /** Entries that it changes in the store. */
  get changeCount(): number {
    return this.ops.size + this.audit.length;
  }

  /** Writes an entry of the store. */
  put(key: string, record: object): void {
    this.ops.set(key, { put: key, value: JSON.stringify(record) });
  }

  /** Takes an entry out of the store. */
  remove(key: string): void {
    this.ops.set(key, { remove: key });
  }

  /** Has an event told to whoever watches. */
  tell(event: string, detail: AuditDraft['detail']): void {
    this.events.push({ event, detail });
  }

  /** Adds a line to the audit log. */
  note(event: string, detail: AuditDraft['detail']): void {
    this.audit.push({ event, detail });
  }

  /** Adds a lease to the message of its kind, or begins one. */
  send(kind: 'end' | 'ending', to: NodeId, leaseId: string, reason: ManagedEndReason): void {
    for (const message of this.messages) {
      if (message.kind !== kind || message.to !== to || message.reason !== reason) continue;
      if (message.leaseIds.length >= MANAGED_LEASE_COUNT_MAX) continue;
      if (!message.leaseIds.includes(leaseId)) message.leaseIds.push(leaseId);
      return;
    }
    this.messages.push({ kind, to, leaseIds: [leaseId], reason });
  }
}

/** Gathers steps. */
export class Steps {
  readonly list: Step[] = [new Step()];

  /** The step for one more change that must be whole by itself. */
  get next(): Step {
    const last = this.list.at(-1);
    if (last !== undefined && last.changeCount < STEP_CHANGE_COUNT) return last;
    const step = new Step();
    this.list.push(step);
    return step;
  }
}

/** See the top of the file. */
export interface Decision<T> {
  readonly steps: Steps;
  /** The answer, or why there is none. */
  readonly answer: { readonly value: T } | { readonly refusal: MemcloudError };
}

/** A decision that grants. */
export function decided<T>(steps: Steps, value: T): Decision<T> {
  return { steps, answer: { value } };
}

/** A decision that refuses. */
export function refused<T>(steps: Steps, code: ErrorCode, message: string): Decision<T> {
  return { steps, answer: { refusal: new MemcloudError(code, message) } };
}
