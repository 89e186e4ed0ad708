/**
 * Takes granted leases into use: the provider is let in and dialled, and the token of the grant is given to
 * it over their session. A token is good once and for a minute, and an answer can be lost on the way, so one
 * that is refused is followed by a fresh one as long as there is time; a lease that turns out to be in use
 * already is one whose answer was lost.
 */
import type { Clock } from '../common/clock.ts';
import { asMemcloudError, ExitCode, MemcloudError, type ErrorCode } from '../common/errors.ts';
import type { ManagedLink, ManagedLinks } from '../common/managed.ts';
import { pause } from '../common/pause.ts';
import type { NodeId } from '../common/ports.ts';
import type { LeaseProvider } from './client-leases-machine.ts';
import { decodeManagedReply, encodeManagedCall } from './messages.ts';
import type { ManagedCall, ManagedParams, ManagedResult } from './schema.ts';

/** The way to the leader; `ControlLink` is one. */
export interface LeaseControl {
  /**
   * Asks the leader.
   *
   * @throws MemcloudError its refusal; `ERR_CONTROL_UNREACHABLE`, `ERR_TIMEOUT`, `ERR_CANCELLED`
   */
  call<C extends ManagedCall>(
    call: C,
    params: ManagedParams<C>,
    options?: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
  ): Promise<ManagedResult<C>>;
  /** Calls `listener` when a leader answers anew. @returns a function that ends it */
  onLeader(listener: () => void): () => void;
}

/** The way to providers that the control plane names: they are nobody's peers otherwise. */
export interface ProviderDoor {
  /** Lets a provider in, by its key, and keeps it dialled; once more: for longer. */
  open(provider: LeaseProvider, ttlMs: number): void;
  /** Dials it no more, lets it in no more. */
  close(provider: LeaseProvider): void;
}

/** A lease as it was granted. */
export type LeaseGrant = ManagedResult<'lease.token'>['lease'];

/** A lease as its provider has taken it. */
export interface PresentedLease {
  /** Until its end, milliseconds. */
  readonly ttlMs: number;
  /** On the clock: what `ttlMs` counts from. */
  readonly askedAtMs: number;
}

/** From the grant until the provider has it, milliseconds: less than a token lives. */
const PRESENT_DEADLINE_MS = 20_000;
/** Of that, for one answer. */
const ANSWER_MS = 5_000;
const TOKEN_COUNT_MAX = 4;
const PAUSE_MS = 200;
const LIST_COUNT_MAX = 500;
const NO_PART =
  'is connected, but takes part in no control plane: its memnode runs without --control-plane, or is older';

/** See the top of the file. */
export class LeasePresenter {
  readonly #control: LeaseControl;
  readonly #links: ManagedLinks;
  readonly #door: ProviderDoor;
  readonly #clock: Clock;
  readonly #deadlineMs: number;

  constructor(parts: {
    readonly control: LeaseControl;
    readonly links: ManagedLinks;
    readonly door: ProviderDoor;
    readonly clock: Clock;
    /** From the grant until the provider has it, milliseconds; 20 s unless told. */
    readonly presentDeadlineMs?: number | undefined;
  }) {
    this.#control = parts.control;
    this.#links = parts.links;
    this.#door = parts.door;
    this.#clock = parts.clock;
    this.#deadlineMs = parts.presentDeadlineMs ?? PRESENT_DEADLINE_MS;
  }

  /**
   * Takes one lease into use.
   *
   * @throws MemcloudError `ERR_PEER_UNREACHABLE`, `ERR_UNSUPPORTED` (it takes part in no control plane),
   *   `ERR_TIMEOUT`, `ERR_CANCELLED`, or the refusal
   */
  async present(grant: LeaseGrant, signal: AbortSignal): Promise<PresentedLease> {
    const { leaseId, provider } = grant;
    const deadlineMs = this.#clock.nowMs() + this.#deadlineMs;
    this.#door.open(provider, grant.ttlMs);
    let { token } = grant;
    for (let count = 1; ; count += 1) {
      const link = await this.#up(provider, deadlineMs, signal);
      const askedAtMs = this.#clock.nowMs();
      try {
        const { ttlMs } = await ask(link, 'lease.present', { token }, limited(ANSWER_MS, signal));
        return { ttlMs, askedAtMs };
      } catch (error) {
        const mayBeIn = this.#mayTryAgain(error, count, deadlineMs, signal);
        if (!mayBeIn) throw error;
      }
      await pause(PAUSE_MS, signal);
      const fresh = await this.#freshToken(leaseId, signal);
      if (typeof fresh === 'object') return fresh;
      token = fresh;
    }
  }

  /**
   * Gives leases back to their provider.
   *
   * @throws MemcloudError when it does not answer in time
   */
  async giveBack(provider: NodeId, leaseIds: string[], timeoutMs: number): Promise<void> {
    const link = this.#links.find(provider);
    if (link?.up !== true) {
      throw new MemcloudError('ERR_PEER_UNREACHABLE', `provider ${provider} is not connected`);
    }
    await ask(link, 'lease.return', { leaseIds }, AbortSignal.timeout(timeoutMs));
  }

  #mayTryAgain(error: unknown, count: number, deadlineMs: number, signal: AbortSignal): boolean {
    const { code, exitCode } = asMemcloudError(error);
    const passing =
      code === 'ERR_TOKEN' || code === 'ERR_CANCELLED' || exitCode === ExitCode.RETRYABLE;
    const inTime = this.#clock.nowMs() < deadlineMs && count < TOKEN_COUNT_MAX;
    return passing && inTime && !signal.aborted;
  }

  /** A fresh token; or, when the provider has the lease already, what is left of it. */
  async #freshToken(leaseId: string, signal: AbortSignal): Promise<string | PresentedLease> {
    try {
      return (await this.#control.call('lease.token', { leaseId }, { signal })).lease.token;
    } catch (error) {
      if (asMemcloudError(error).exitCode === ExitCode.RETRYABLE) throw error;
      let cursor: string | null = null;
      do {
        const askedAtMs = this.#clock.nowMs();
        const params = { countMax: LIST_COUNT_MAX, ...(cursor === null ? {} : { cursor }) };
        const page: ManagedResult<'lease.list'> = await this.#control.call('lease.list', params, {
          signal,
        });
        const row = page.rows.find((each) => each.leaseId === leaseId);
        if (row?.state === 'active') return { ttlMs: row.endsInMs, askedAtMs };
        ({ cursor } = page);
      } while (cursor !== null);
      throw error;
    }
  }

  /** The link of a provider, once a session is there. */
  async #up(
    provider: LeaseProvider,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<ManagedLink> {
    const now = this.#links.find(provider.nodeId);
    if (now?.up === true) return now;
    return new Promise<ManagedLink>((resolve, reject) => {
      const settle = (ended: ManagedLink | MemcloudError): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        stop();
        if (ended instanceof MemcloudError) reject(ended);
        else resolve(ended);
      };
      const fail = (code: ErrorCode, text: string): void =>
        settle(new MemcloudError(code, `provider "${provider.name}" ${text}`));
      const onAbort = (): void => fail('ERR_CANCELLED', 'is not wanted any more');
      const leftMs = Math.max(0, deadlineMs - this.#clock.nowMs());
      const timer = setTimeout(() => {
        if (this.#links.find(provider.nodeId)?.connected === true) fail('ERR_UNSUPPORTED', NO_PART);
        else fail('ERR_PEER_UNREACHABLE', `at ${provider.address} cannot be reached`);
      }, leftMs);
      const stop = this.#links.onChange((link) => {
        if (link.nodeId === provider.nodeId && link.up) settle(link);
      });
      signal.addEventListener('abort', onAbort);
      if (signal.aborted) onAbort();
    });
  }
}

async function ask<C extends ManagedCall>(
  link: ManagedLink,
  call: C,
  params: ManagedParams<C>,
  signal: AbortSignal,
): Promise<ManagedResult<C>> {
  return decodeManagedReply(call, await link.request(encodeManagedCall(call, params), signal));
}

function limited(timeoutMs: number, signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}
