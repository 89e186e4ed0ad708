/**
 * Who leads, as one control node decides it: state + event -> actions, with time as an argument. The
 * entry `leader` lies in the store under a store lease; who puts it when there is none leads until it is
 * gone, and keeps the lease alive.
 *
 * The store ends the lease `ttlMs` after it has heard the last keepalive; that was sent before it was
 * heard. So a node that counts from the moment of sending, by its own monotonic clock, and stops
 * `marginMs` early, has stopped before anyone else can begin. What it still has under way is refused by
 * the store, since every transaction of a term compares the revision of `leader` (the fence).
 *
 * The shell (`leadership.ts`) does what the actions say and reports how it went; at most one *campaign*
 * and one *keepalive* are under way at a time.
 */

/** Where a node stands. */
export type LeadershipState =
  /** Somebody else leads, or nobody is known to: it looks. */
  | 'following'
  /** It tries to put the entry. */
  | 'campaigning'
  /** It leads. */
  | 'leading'
  /** It has ended. */
  | 'closed';

/** What happened. */
export type LeadershipEvent =
  /** Time passed. */
  | { readonly on: 'tick' }
  /** The entry was read, or its change was told: its revision, 0 when there is none. */
  | { readonly on: 'seen'; readonly revision: number }
  /** The entry could not be read. */
  | { readonly on: 'look-failed' }
  /** We put the entry, under a lease that was asked for at `sentAtMs`. */
  | {
      readonly on: 'won';
      readonly revision: number;
      readonly sentAtMs: number;
      readonly ttlMs: number;
    }
  /** Another one did, or the store did not answer. */
  | { readonly on: 'not-won' }
  /** The keepalive of `sentAtMs` was heard. */
  | { readonly on: 'kept'; readonly sentAtMs: number }
  /** The store did not answer to it. */
  | { readonly on: 'keep-failed' }
  /** The store says that the lease is over. */
  | { readonly on: 'lease-over' }
  /** Somebody wants another one to lead. */
  | { readonly on: 'resign' }
  | { readonly on: 'close' };

/** What is to be done. */
export type LeadershipAction =
  /** Read the entry, then report `seen` or `look-failed`. */
  | { readonly do: 'look' }
  /** Take a lease and put the entry, then report `won` or `not-won`. */
  | { readonly do: 'campaign' }
  /** Keep the lease alive, then report `kept`, `keep-failed` or `lease-over`. */
  | { readonly do: 'keep' }
  /** The term begins. */
  | { readonly do: 'elected' }
  /** The term is over. */
  | { readonly do: 'deposed'; readonly why: string }
  /** Give the lease back, with the entry. */
  | { readonly do: 'revoke' };

/** Times of the machine, milliseconds. */
export interface LeadershipTimes {
  /** Of the store lease. */
  readonly ttlMs: number;
}

/** See the top of the file. */
export class LeadershipMachine {
  readonly #marginMs: number;
  readonly #keepEveryMs: number;
  readonly #lookEveryMs: number;
  readonly #retryMs: number;
  readonly #restMs: number;
  #state: LeadershipState = 'following';
  #busy = false;
  /** When to look, or to keep alive, next. */
  #nextAtMs = -Infinity;
  /** How long a term holds after a keepalive was sent. */
  #lengthMs = 0;
  #endsAtMs = -Infinity;
  #fence = 0;
  /** No campaign before this moment: we have just handed over. */
  #restUntilMs = -Infinity;

  constructor({ ttlMs }: LeadershipTimes) {
    this.#marginMs = ttlMs / 6;
    this.#keepEveryMs = ttlMs / 4;
    this.#lookEveryMs = ttlMs / 3;
    this.#retryMs = ttlMs / 15;
    this.#restMs = ttlMs;
  }

  /** Where it is. */
  get state(): LeadershipState {
    return this.#state;
  }

  /** Whether the term still holds at `nowMs`, also before a `tick` has said so. */
  leadsAt(nowMs: number): boolean {
    return this.#state === 'leading' && nowMs < this.#endsAtMs;
  }

  /** When the next `tick` is due; Infinity after `close`. */
  get wakeAtMs(): number {
    if (this.#state === 'closed') return Infinity;
    const next = this.#busy || this.#state === 'campaigning' ? Infinity : this.#nextAtMs;
    return this.#state === 'leading' ? Math.min(next, this.#endsAtMs) : next;
  }

  /** Takes an event at `nowMs`; actions are to be done in their order. */
  handle(event: LeadershipEvent, nowMs: number): LeadershipAction[] {
    if (this.#state === 'closed') return event.on === 'won' ? [{ do: 'revoke' }] : [];
    const actions = this.#handle(event, nowMs);
    if (this.#state === 'leading' && nowMs >= this.#endsAtMs) {
      actions.push(...this.#depose('the store did not hear of this node in time', nowMs));
    }
    return actions;
  }

  #handle(event: LeadershipEvent, nowMs: number): LeadershipAction[] {
    switch (event.on) {
      case 'tick':
        return this.#tick(nowMs);
      case 'seen':
        return this.#seen(event.revision, nowMs);
      case 'look-failed':
        if (this.#state === 'following') this.#after(this.#retryMs, nowMs);
        return [];
      case 'won':
        return this.#won(event, nowMs);
      case 'not-won':
        this.#state = 'following';
        this.#after(this.#retryMs, nowMs);
        return [];
      case 'kept':
        if (this.#state !== 'leading') return [];
        this.#after(this.#keepEveryMs, event.sentAtMs);
        this.#endsAtMs = event.sentAtMs + this.#lengthMs;
        return [];
      case 'keep-failed':
        if (this.#state === 'leading') this.#after(this.#retryMs, nowMs);
        return [];
      case 'lease-over':
        return this.#depose('the store lease is over', nowMs);
      case 'resign':
        this.#restUntilMs = nowMs + this.#restMs;
        return this.#depose('this node was told to hand over', nowMs);
      case 'close': {
        const actions = this.#depose('this node stops', nowMs);
        this.#state = 'closed';
        return actions;
      }
    }
  }

  #after(delayMs: number, fromMs: number): void {
    this.#busy = false;
    this.#nextAtMs = fromMs + delayMs;
  }

  #tick(nowMs: number): LeadershipAction[] {
    if (this.#busy || this.#state === 'campaigning' || nowMs < this.#nextAtMs) return [];
    if (this.#state === 'leading' && nowMs >= this.#endsAtMs) return [];
    this.#busy = true;
    return [{ do: this.#state === 'leading' ? 'keep' : 'look' }];
  }

  #seen(revision: number, nowMs: number): LeadershipAction[] {
    if (this.#state === 'leading') {
      // What was told late, of before our own entry, has a smaller revision; its removal has a greater one.
      if (revision === this.#fence) return [];
      return this.#depose('the entry of this node is gone from the store', nowMs);
    }
    if (this.#state === 'campaigning') return [];
    this.#after(this.#lookEveryMs, nowMs);
    if (revision !== 0) return [];
    if (nowMs < this.#restUntilMs) {
      this.#nextAtMs = Math.min(this.#nextAtMs, this.#restUntilMs);
      return [];
    }
    this.#state = 'campaigning';
    return [{ do: 'campaign' }];
  }

  #won(event: Extract<LeadershipEvent, { on: 'won' }>, nowMs: number): LeadershipAction[] {
    this.#lengthMs = event.ttlMs - this.#marginMs;
    this.#endsAtMs = event.sentAtMs + this.#lengthMs;
    if (nowMs >= this.#endsAtMs || nowMs < this.#restUntilMs) {
      this.#state = 'following';
      this.#after(this.#retryMs, nowMs);
      return [{ do: 'revoke' }];
    }
    this.#state = 'leading';
    this.#fence = event.revision;
    this.#after(this.#keepEveryMs, event.sentAtMs);
    return [{ do: 'elected' }];
  }

  #depose(why: string, nowMs: number): LeadershipAction[] {
    if (this.#state !== 'leading') return [];
    this.#state = 'following';
    this.#after(this.#retryMs, nowMs);
    return [{ do: 'deposed', why }, { do: 'revoke' }];
  }
}
