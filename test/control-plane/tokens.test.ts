/** Allocation tokens: whole ones are taken, everything else is refused with a reason that has no part of them. */
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import t, { type Test } from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import { nodeIdOf } from '../../common/fingerprint.ts';
import { signReceipt } from '../../common/receipts.ts';
import {
  signToken,
  verifyToken,
  type TokenClaims,
  type TokenExpectation,
} from '../../control-plane/tokens.ts';
import { Random } from '../helpers/fuzz.ts';

interface Node {
  readonly nodeId: string;
  readonly publicKey: Buffer;
  readonly privateKey: KeyObject;
}

function makeNode(): Node {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url');
  return { nodeId: nodeIdOf(raw), publicKey: raw, privateKey };
}

const control = makeNode();
const provider = makeNode();
const client = makeNode();
const stranger = makeNode();

const claims: TokenClaims = {
  jti: '1'.repeat(32),
  leaseId: '2'.repeat(32),
  provider: provider.nodeId,
  client: client.nodeId,
  clientKey: client.publicKey.toString('hex'),
  sizeBytes: 1 << 30,
  ttlMs: 60_000,
  epoch: 7,
};
const expectation: TokenExpectation = {
  keyOf: (nodeId) => (nodeId === control.nodeId ? control.publicKey : undefined),
  provider: provider.nodeId,
  client: client.nodeId,
  clientKey: client.publicKey,
  epochMin: 7,
};

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const decode = (part: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;

/** A token with any header and payload, rightly signed by a key. */
function forge(header: unknown, payload: unknown, by: Node = control): string {
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${sign(null, Buffer.from(signed), by.privateKey).toString('base64url')}`;
}

/** @returns why it was refused */
async function refusal(t: Test, token: string, expect = expectation): Promise<string> {
  try {
    await verifyToken(token, expect);
    t.fail('it was taken');
    return '';
  } catch (error) {
    t.ok(error instanceof MemcloudError && error.code === 'ERR_TOKEN', String(error));
    const { message } = error as MemcloudError;
    for (const part of token.split('.')) {
      if (part.length > 8) t.notOk(message.includes(part), 'no part of the token');
    }
    return message;
  }
}

t.test('a token says what was signed', async (t) => {
  const token = await signToken(control, claims, 60_000);
  t.same(await verifyToken(token, expectation), claims);
  t.ok(token.length < 1000, `${token.length} characters`);
  const [head, body] = token.split('.');
  t.same(decode(head!), { alg: 'EdDSA', typ: 'JWT', kid: control.nodeId });
  const payload = decode(body!);
  t.equal(Number(payload['exp']) - Number(payload['iat']), 60);
  t.same(payload['cnf'], {
    jwk: { kty: 'OKP', crv: 'Ed25519', x: client.publicKey.toString('base64url') },
  });
});

t.test('its own wall clock decides nothing', async (t) => {
  const [head, body] = (await signToken(control, claims, 60_000)).split('.');
  const payload = { ...decode(body!), iat: 1000, exp: 1060 };
  t.same(await verifyToken(forge(decode(head!), payload), expectation), claims, '1970');
});

t.test('a token of a newer term is taken, of an older one refused', async (t) => {
  const token = await signToken(control, claims, 60_000);
  t.same(await verifyToken(token, { ...expectation, epochMin: 6 }), claims);
  t.match(await refusal(t, token, { ...expectation, epochMin: 8 }), /of term 7, and term 8/);
});

t.test('for another provider, client or key', async (t) => {
  const token = await signToken(control, claims, 60_000);
  const { nodeId, publicKey } = stranger;
  t.match(await refusal(t, token, { ...expectation, provider: nodeId }), /another provider/);
  t.match(await refusal(t, token, { ...expectation, client: nodeId }), /another client/);
  t.match(await refusal(t, token, { ...expectation, clientKey: publicKey }), /another key/);
});

t.test('by somebody who is no control node, or says it is another', async (t) => {
  t.match(await refusal(t, await signToken(stranger, claims, 60_000)), /signer is not known/);
  const posing = { nodeId: control.nodeId, privateKey: stranger.privateKey };
  t.match(await refusal(t, await signToken(posing, claims, 60_000)), /signature does not verify/);
});

t.test('headers that negotiate', async (t) => {
  const [head, body] = (await signToken(control, claims, 60_000)).split('.');
  const header = decode(head!);
  const payload = decode(body!);
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: stranger.publicKey.toString('base64url') };
  const forged: Record<string, string> = {
    'alg none': `${encode({ ...header, alg: 'none' })}.${body}.`,
    'alg None': `${encode({ ...header, alg: 'None' })}.${body}.`,
    'alg none, signed': forge({ ...header, alg: 'none' }, payload),
    'no alg': forge({ typ: 'JWT', kid: control.nodeId }, payload),
    'no typ': forge({ alg: 'EdDSA', kid: control.nodeId }, payload),
    'no kid': forge({ alg: 'EdDSA', typ: 'JWT' }, payload),
    'another typ': forge({ ...header, typ: 'memcloud-receipt' }, payload),
    'jwk of the forger': forge({ ...header, jwk }, payload, stranger),
    'jwk of the forger, and its kid': forge(
      { ...header, kid: stranger.nodeId, jwk },
      payload,
      stranger,
    ),
    crit: forge({ ...header, crit: ['exp'] }, payload),
    b64: forge({ ...header, b64: false, crit: ['b64'] }, payload),
    jku: forge({ ...header, jku: 'https://example.org' }, payload),
    'kid as a path': forge({ ...header, kid: '../../../dev/null' }, payload),
    'kid __proto__': forge({ ...header, kid: '__proto__' }, payload),
    'no object': forge('EdDSA', payload),
    null: forge(null, payload),
  };
  const hs = `${encode({ ...header, alg: 'HS256' })}.${body}`;
  forged['HS256 with the public key'] =
    `${hs}.${createHmac('sha256', control.publicKey).update(hs).digest('base64url')}`;
  for (const [name, token] of Object.entries(forged)) {
    await t.test(name, async (t) => void (await refusal(t, token)));
  }
});

t.test('payloads that are none', async (t) => {
  const [head, body] = (await signToken(control, claims, 60_000)).split('.');
  const header = decode(head!);
  const payload = decode(body!);
  const bad: Record<string, unknown> = {
    'one claim more': { ...payload, admin: true },
    'no jti': { ...payload, jti: undefined },
    'aud as a list': { ...payload, aud: [provider.nodeId] },
    'no cnf': { ...payload, cnf: undefined },
    'cnf of another kind': { ...payload, cnf: { jkt: 'x' } },
    'size -1': { ...payload, size: -1 },
    'size 1e300': { ...payload, size: 1e300 },
    'ttl of two days': { ...payload, ttl: 2 * 24 * 3600 * 1000 },
    'life of an hour': { ...payload, exp: Number(payload['iat']) + 3600 },
    'life below zero': { ...payload, exp: Number(payload['iat']) - 1 },
    'a list': [payload],
    null: null,
  };
  for (const [name, value] of Object.entries(bad)) {
    await t.test(name, async (t) => void (await refusal(t, forge(header, value))));
  }
  const receipt = await signReceipt(control, {
    leaseId: claims.leaseId,
    client: claims.client,
    sizeBytes: 1,
    reason: 'expired',
    wipedBytes: 1,
    wipeMs: 1,
  });
  await t.test('a receipt', async (t) => void (await refusal(t, receipt)));
});

t.test('altered in any character, cut, or longer', async (t) => {
  const token = await signToken(control, claims, 60_000);
  const random = new Random(11);
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  for (let at = 0; at < token.length; at += 1) {
    if (token[at] === '.') continue;
    const other = random.pick([...alphabet].filter((letter) => letter !== token[at]));
    const altered = `${token.slice(0, at)}${other}${token.slice(at + 1)}`;
    await t.rejects(verifyToken(altered, expectation), { code: 'ERR_TOKEN' });
  }
  for (let length = 0; length < token.length; length += 7) {
    await t.rejects(verifyToken(token.slice(0, length), expectation), { code: 'ERR_TOKEN' });
  }
  const longer = [`${token}=`, `${token} `, ` ${token}`, `${token}.`, `${token}\n`, `${token}AAAA`];
  longer.push('a'.repeat(3000), `${token}${'A'.repeat(3000)}`, '', '.', '..', '...', '=.=.=');
  for (const text of longer) {
    await t.rejects(verifyToken(text, expectation), { code: 'ERR_TOKEN' }, text.slice(0, 9));
  }
});
