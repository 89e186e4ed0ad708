/**
 * Allocation tokens: what a client shows to a provider. A JWT (RFC 7519) signed by the control node that
 * made it, for one provider (`aud`), one client (`sub`) and that client's key (`cnf`, RFC 7800), good for
 * one lease. Who holds the text without the key has nothing: the session in which it is presented proves
 * the key.
 *
 * That it is used once and within a minute is kept by the leader, on its monotonic clock; `iat` and `exp`
 * are for other readers, and are only held to each other here.
 */
import * as v from 'valibot';
import { MemcloudError } from '../common/errors.ts';
import { MANAGED_TTL_MAX_MS, TOKEN_TTL_MAX_MS } from '../common/managed.ts';
import type { NodeId } from '../common/ports.ts';
import { hexDigits, wholeNumber } from '../common/schema-parts.ts';
import {
  SignatureProblem,
  signCompact,
  verifyCompact,
  type SigningKey,
} from '../common/signatures.ts';

/** What a token says. */
export interface TokenClaims {
  /** Names the token: 32 hex digits, random. */
  readonly jti: string;
  /** 32 hex digits. */
  readonly leaseId: string;
  readonly provider: NodeId;
  readonly client: NodeId;
  /** Public key of the client, 64 hex digits. */
  readonly clientKey: string;
  readonly sizeBytes: number;
  /** Time to live of the lease from its first use. */
  readonly ttlMs: number;
  /** The term in which it was made. */
  readonly epoch: number;
}

/** Whom a token must be from and for. */
export interface TokenExpectation {
  /** The public key (32 bytes) of a control node whose word counts here; undefined for all others. */
  keyOf(controlNode: NodeId): Uint8Array | undefined;
  readonly provider: NodeId;
  readonly client: NodeId;
  /** Of the client as its session proves it, 32 bytes. */
  readonly clientKey: Uint8Array;
  /** The highest term that was heard of. */
  readonly epochMin: number;
}

const TYP = 'JWT';

const claimsSchema = v.strictObject({
  aud: hexDigits(32),
  sub: hexDigits(32),
  cnf: v.strictObject({
    jwk: v.strictObject({ kty: v.literal('OKP'), crv: v.literal('Ed25519'), x: v.string() }),
  }),
  jti: hexDigits(32),
  lease: hexDigits(32),
  size: wholeNumber(),
  ttl: wholeNumber(MANAGED_TTL_MAX_MS),
  epoch: wholeNumber(),
  iat: wholeNumber(),
  exp: wholeNumber(),
});

/**
 * Makes a token.
 *
 * @param ttlMs - for how long it may be presented, at most {@link TOKEN_TTL_MAX_MS}
 */
export function signToken(key: SigningKey, claims: TokenClaims, ttlMs: number): Promise<string> {
  const iat = Math.floor(Date.now() / 1000);
  const x = Buffer.from(claims.clientKey, 'hex').toString('base64url');
  return signCompact(key, TYP, {
    aud: claims.provider,
    sub: claims.client,
    cnf: { jwk: { kty: 'OKP', crv: 'Ed25519', x } },
    jti: claims.jti,
    lease: claims.leaseId,
    size: claims.sizeBytes,
    ttl: claims.ttlMs,
    epoch: claims.epoch,
    iat,
    exp: iat + Math.floor(Math.min(ttlMs, TOKEN_TTL_MAX_MS) / 1000),
  });
}

/** The one sentence that refuses a token; nothing of the token is in it. */
function refuse(why: string): never {
  throw new MemcloudError(
    'ERR_TOKEN',
    `the allocation token is refused: ${why}; ask for a new one`,
  );
}

/**
 * Checks a token in all that needs neither a clock nor a memory.
 *
 * @throws MemcloudError `ERR_TOKEN`; the message has no part of the token
 */
export async function verifyToken(token: string, expect: TokenExpectation): Promise<TokenClaims> {
  const { payload } = await verifyCompact(token, TYP, (node) => expect.keyOf(node)).catch(
    (error: unknown) => {
      if (error instanceof SignatureProblem) return refuse(error.message);
      throw error;
    },
  );
  const parsed = v.safeParse(claimsSchema, payload);
  if (!parsed.success) return refuse('its claims are not those of a token');
  const { aud, sub, cnf, jti, lease, size, ttl, epoch, iat, exp } = parsed.output;
  if (aud !== expect.provider) return refuse('it is for another provider');
  if (sub !== expect.client) return refuse('it is for another client');
  const clientKey = Buffer.from(expect.clientKey);
  if (cnf.jwk.x !== clientKey.toString('base64url')) return refuse('it is for another key');
  if (epoch < expect.epochMin) {
    return refuse(`it is of term ${epoch}, and term ${expect.epochMin} has begun`);
  }
  if (exp < iat || exp - iat > TOKEN_TTL_MAX_MS / 1000) {
    return refuse('it claims a longer life than tokens have');
  }
  return {
    jti,
    leaseId: lease,
    provider: aud,
    client: sub,
    clientKey: clientKey.toString('hex'),
    sizeBytes: size,
    ttlMs: ttl,
    epoch,
  };
}
