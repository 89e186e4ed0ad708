/**
 * Signed words of one node about something: compact JWS (RFC 7515) with Ed25519 (RFC 8037) and nothing
 * else. A header has exactly `alg`, `typ` and `kid` (the node id of who signs), each with the value that
 * is expected, so there is nothing to negotiate: no `none`, no HMAC over a public key, no key that the
 * text brings along, no extension. Base64url is taken only as the encoder writes it: one signed word is
 * one text.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { base64url, CompactSign, compactVerify } from 'jose';
import * as v from 'valibot';
import type { NodeId } from './ports.ts';
import { hexDigits } from './schema-parts.ts';

/** What signs: a node's identity. */
export interface SigningKey {
  readonly nodeId: NodeId;
  /** Ed25519. */
  readonly privateKey: KeyObject;
}

/** Bytes of an Ed25519 public key. RFC 8032 5.1.5. */
const PUBLIC_KEY_SIZE_BYTES = 32;
/** The most characters of a signed text. */
const JWS_LENGTH_MAX = 2048;
/** Public keys that are kept parsed. */
const PARSED_KEY_COUNT_MAX = 4096;

const parsedKeys = new Map<string, KeyObject>();

function publicKeyObject(publicKey: Uint8Array): KeyObject {
  const x = Buffer.from(publicKey).toString('base64url');
  const known = parsedKeys.get(x);
  if (known !== undefined) return known;
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  if (parsedKeys.size >= PARSED_KEY_COUNT_MAX) parsedKeys.clear();
  parsedKeys.set(x, key);
  return key;
}

/** Why a text is not what it should be; says nothing of the text itself. */
export class SignatureProblem extends Error {}

function refuse(problem: string): never {
  throw new SignatureProblem(problem);
}

/** Signs `payload`, which becomes JSON. @param typ - what kind of text it is */
export function signCompact(key: SigningKey, typ: string, payload: object): Promise<string> {
  return new CompactSign(new TextEncoder().encode(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', typ, kid: key.nodeId })
    .sign(key.privateKey);
}

/** The bytes of one part. */
function decodePart(part: string, what: string): Uint8Array {
  if (!/^[A-Za-z0-9_-]*$/.test(part)) return refuse(`its ${what} is not base64url`);
  const bytes = Buffer.from(part, 'base64url');
  if (base64url.encode(bytes) !== part) return refuse(`its ${what} is not base64url as written`);
  return bytes;
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch {
    return refuse(`its ${what} is not JSON`);
  }
}

/**
 * Checks a text that {@link signCompact} made.
 *
 * @param keyOf - the public key (32 bytes) of a node whose word counts here
 * @returns who signed it, and what
 * @throws SignatureProblem
 */
export async function verifyCompact(
  jws: string,
  typ: string,
  keyOf: (nodeId: NodeId) => Uint8Array | undefined,
): Promise<{ readonly signer: NodeId; readonly payload: unknown }> {
  if (jws.length > JWS_LENGTH_MAX) {
    return refuse(`expected at most ${JWS_LENGTH_MAX} characters, got ${jws.length}`);
  }
  const [head, body, signature, ...more] = jws.split('.');
  if (head === undefined || body === undefined || signature === undefined || more.length > 0) {
    return refuse('it does not have three parts');
  }
  const header = v.safeParse(
    v.strictObject({
      alg: v.literal('EdDSA'),
      typ: v.literal(typ),
      kid: hexDigits(32),
    }),
    parseJson(decodePart(head, 'header'), 'header'),
  );
  if (!header.success) return refuse('its header is not the one that is expected');
  const payload = decodePart(body, 'payload');
  decodePart(signature, 'signature');
  const { kid } = header.output;
  const publicKey = keyOf(kid);
  if (publicKey?.length !== PUBLIC_KEY_SIZE_BYTES) return refuse('its signer is not known here');
  try {
    await compactVerify(jws, publicKeyObject(publicKey), { algorithms: ['EdDSA'] });
  } catch {
    return refuse('its signature does not verify');
  }
  return { signer: kid, payload: parseJson(payload, 'payload') };
}
