/**
 * Invitations that are open: each lets one machine in, once, without a question, if that machine proves
 * that it has the secret of the token. The proof is an HMAC over the handshake hash of that very
 * connection, so it is worth nothing on any other one, and a relay gains nothing by it
 * (docs/peer-protocol.md section 3).
 *
 * Secrets are in memory only, so a restart of memnode ends all invitations: what could check a proof
 * could also make one, and would have to be guarded on disk like the identity.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { sha256 } from '@noble/hashes/sha2.js';
import type { Clock } from '../common/clock.ts';
import { MemcloudError } from '../common/errors.ts';
import { AddressRate } from './address-rate.ts';
import {
  INVITE_ADDRESS_COUNT_MAX,
  INVITE_COUNT_MAX,
  INVITE_ID_CONTEXT,
  INVITE_PROOF_CONTEXT,
  INVITE_RATE_MAX,
  INVITE_RATE_WINDOW_MS,
  INVITE_SECRET_SIZE_BYTES,
  INVITE_TTL_MS,
} from './constants.ts';

const ID_SIZE_BYTES = 8;

/** What a machine that joins shows, in its HELLO. */
export interface InviteProof {
  /** Which invitation: 16 hex digits. */
  readonly id: string;
  /** 64 hex digits. */
  readonly proof: string;
}

/** An invitation as its operator sees it. */
export interface OpenInvite {
  /** Its name here: 16 hex digits. */
  readonly id: string;
  /** Where the joining machine is to come. */
  readonly addresses: readonly string[];
  /** Milliseconds until it lapses. */
  readonly expiresInMs: number;
  /** What the machine that joins may use here, bytes; undefined: what any peer may. */
  readonly allowedBytes: number | undefined;
}

interface Held {
  readonly secret: Uint8Array;
  readonly addresses: readonly string[];
  readonly expiresAtMs: number;
  readonly allowedBytes: number | undefined;
}

/** The public name of the invitation with a secret: 16 hex digits, from which nobody finds the secret. */
export function inviteIdOf(secret: Uint8Array): string {
  const hash = sha256(Buffer.concat([Buffer.from(INVITE_ID_CONTEXT, 'ascii'), secret]));
  return Buffer.from(hash.subarray(0, ID_SIZE_BYTES)).toString('hex');
}

/** What proves, on the connection of a handshake hash, that the dialler has a secret. */
export function inviteProof(secret: Uint8Array, handshakeHash: Uint8Array): InviteProof {
  const mac = createHmac('sha256', secret).update(INVITE_PROOF_CONTEXT, 'ascii');
  return { id: inviteIdOf(secret), proof: mac.update(handshakeHash).digest('hex') };
}

/** The open invitations of one node. */
export class Invites {
  readonly #clock: Clock;
  readonly #wrong: AddressRate;
  readonly #held = new Map<string, Held>();
  /** Against which the proof of an unknown invitation is computed, so that it takes as long. */
  readonly #nobody = randomBytes(INVITE_SECRET_SIZE_BYTES);

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#wrong = new AddressRate({
      clock,
      countMax: INVITE_RATE_MAX,
      windowMs: INVITE_RATE_WINDOW_MS,
      addressCountMax: INVITE_ADDRESS_COUNT_MAX,
    });
  }

  /**
   * Opens an invitation.
   *
   * @returns its name, and a copy of its secret, which the caller zeroes
   * @throws MemcloudError `ERR_INVITE` when too many are open
   */
  create(options: {
    addresses: readonly string[];
    ttlMs?: number | undefined;
    allowedBytes?: number | undefined;
  }): { invite: OpenInvite; secret: Uint8Array } {
    this.#expire();
    if (this.#held.size >= INVITE_COUNT_MAX) {
      throw new MemcloudError(
        'ERR_INVITE',
        `${INVITE_COUNT_MAX} invitations are open already; revoke some`,
      );
    }
    const secret = new Uint8Array(randomBytes(INVITE_SECRET_SIZE_BYTES));
    const { addresses, allowedBytes, ttlMs = INVITE_TTL_MS } = options;
    const id = inviteIdOf(secret);
    const expiresAtMs = this.#clock.nowMs() + ttlMs;
    this.#held.set(id, { secret, addresses, expiresAtMs, allowedBytes });
    const invite = { id, addresses, expiresInMs: ttlMs, allowedBytes };
    return { invite, secret: Uint8Array.from(secret) };
  }

  /** What is open, oldest first. */
  list(): OpenInvite[] {
    this.#expire();
    const nowMs = this.#clock.nowMs();
    return [...this.#held].map(([id, { addresses, expiresAtMs, allowedBytes }]) => {
      return { id, addresses, expiresInMs: Math.round(expiresAtMs - nowMs), allowedBytes };
    });
  }

  /** Takes an invitation back. @throws MemcloudError `ERR_PEER_UNKNOWN` when it is not open */
  revoke(id: string): void {
    this.#expire();
    if (!this.#held.has(id)) {
      throw new MemcloudError(
        'ERR_PEER_UNKNOWN',
        'no such invitation is open; it was used, lapsed or was revoked',
      );
    }
    this.#drop(id);
  }

  /**
   * Takes a proof, and uses the invitation up when it is right. Every failure is the same to the prover.
   *
   * @param address - whence it came
   * @returns what the invitation grants
   * @throws MemcloudError `ERR_INVITE`
   */
  redeem(
    { id, proof }: InviteProof,
    handshakeHash: Uint8Array,
    address: string,
  ): Pick<OpenInvite, 'id' | 'allowedBytes'> {
    this.#expire();
    const held = this.#held.get(id);
    const expected = inviteProof(held?.secret ?? this.#nobody, handshakeHash);
    const isEqual = timingSafeEqual(Buffer.from(expected.proof, 'hex'), Buffer.from(proof, 'hex'));
    if (!this.#wrong.allows(address)) refuse('too many wrong proofs came from its address');
    if (held === undefined || !isEqual) {
      this.#wrong.count(address);
      refuse('it proved no invitation that is open');
    }
    this.#drop(id);
    return { id, allowedBytes: held.allowedBytes };
  }

  /** Ends all of them. */
  close(): void {
    for (const id of [...this.#held.keys()]) this.#drop(id);
  }

  #drop(id: string): void {
    this.#held.get(id)?.secret.fill(0);
    this.#held.delete(id);
  }

  #expire(): void {
    const nowMs = this.#clock.nowMs();
    for (const [id, { expiresAtMs }] of [...this.#held]) if (expiresAtMs <= nowMs) this.#drop(id);
  }
}

function refuse(why: string): never {
  throw new MemcloudError('ERR_INVITE', `a machine that wanted to join was refused: ${why}`);
}
