/**
 * What a bad member tries, on the real transport with real processes: tokens that are replayed, too old,
 * altered, another's, for another provider, unsigned, signed by somebody else; and calls that are not its
 * to make. Each is refused, each bad token is in the audit log, and nothing was lent by it.
 */
import { createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import t, { type Test } from 'tap';
import type { ManagedParams } from '../../control-plane/schema.ts';
import { eventually, type LabNode } from '../helpers/lab-node.ts';
import { MIB, ManagedLab, ask, auditOf, leasesOf } from '../helpers/managed-lab.ts';
import { WireClient } from '../helpers/wire-client.ts';

/** By control-plane/schema.ts and RFC 7515: three parts of base64url. */
interface TokenParts {
  header: Record<string, unknown>;
  payload: Record<string, unknown>;
  signature: string;
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const decode = (part: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;

function partsOf(token: string): TokenParts {
  const [header = '', payload = '', signature = ''] = token.split('.');
  return { header: decode(header), payload: decode(payload), signature };
}

function join({ header, payload, signature }: TokenParts): string {
  return `${encode(header)}.${encode(payload)}.${signature}`;
}

const request = (more: Partial<ManagedParams<'lease.request'>> = {}) => ({
  requestId: randomBytes(16).toString('hex'),
  ...{ sizeBytes: 4 * MIB, ttlMs: 300_000, count: 1, purpose: 'test' },
  ...more,
});

/** A hand-written member of the control plane. */
async function member(
  t: Test,
  lab: ManagedLab,
  name: string,
  roles: ManagedParams<'admin.member-put'>['roles'] = ['client'],
): Promise<WireClient> {
  const client = new WireClient(t, name);
  await ask(lab.control, 'admin.member-put', { key: client.nodeId, name, roles });
  return client;
}

/** Refused tokens in the audit log so far. */
async function refusedTokens(lab: ManagedLab): Promise<number> {
  return (await auditOf(lab.control)).filter(({ event }) => event === 'token.refused').length;
}

/** Bytes lent under managed leases. */
async function reservedBytes(provider: LabNode): Promise<number> {
  const status = await provider.use((rpc) => rpc.call('status', {}));
  return status.provider.managed.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** Asks for a lease at one provider. */
async function grantAt(client: WireClient, lab: ManagedLab, provider: LabNode, token?: 'burnt') {
  const { leases } = await client.ask(
    lab.control,
    'lease.request',
    request({ include: [provider.nodeId] }),
  );
  const [lease] = leases;
  if (lease === undefined) throw new Error('no lease');
  if (token === 'burnt') await client.ask(provider, 'lease.present', { token: lease.token });
  return lease;
}

t.test('tokens', { timeout: 170_000 }, async (t) => {
  const lab = await ManagedLab.start(t, { clients: [] });
  const [alpha, beta] = [lab.node('alpha'), lab.node('beta')];
  const mallory = await member(t, lab, 'mallory');
  const other = await member(t, lab, 'other');
  // Made first: it has to become older than a minute.
  const old = await grantAt(mallory, lab, alpha);
  const oldSinceMs = performance.now();

  // Lets it in at the other provider, too.
  await grantAt(mallory, lab, beta);
  const victim = await grantAt(other, lab, alpha);
  const good = await grantAt(mallory, lab, alpha);
  const parts = partsOf(good.token);
  t.match(
    parts.header,
    { alg: 'EdDSA', kid: lab.control.nodeId },
    'an EdDSA token of the control node',
  );
  t.match(parts.payload, { aud: alpha.nodeId, sub: mallory.nodeId, lease: good.leaseId });
  t.ok(Number(parts.payload['exp']) - Number(parts.payload['iat']) <= 60, 'of a minute at most');
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const signedBy = (header: object, payload: object): string => {
    const text = `${encode(header)}.${encode(payload)}`;
    return `${text}.${sign(null, Buffer.from(text), privateKey).toString('base64url')}`;
  };
  const unsigned = `${encode({ ...parts.header, alg: 'none' })}.${encode(parts.payload)}`;
  const macText = `${encode({ ...parts.header, alg: 'HS256' })}.${encode(parts.payload)}`;
  // RFC 8725 2.1: a verifier that takes the key for a shared secret.
  const controlKey = mallory.keyOf(lab.control.nodeId);
  const mac = createHmac('sha256', controlKey).update(macText).digest('base64url');
  const flipped = Buffer.from(parts.signature, 'base64url');
  flipped[10]! ^= 1;
  const attacks: Record<string, string> = {
    'alg none': `${unsigned}.`,
    'alg None, signature kept': `${encode({ ...parts.header, alg: 'None' })}.${encode(parts.payload)}.${parts.signature}`,
    'HS256 by the public key': `${macText}.${mac}`,
    'a larger size': join({ ...parts, payload: { ...parts.payload, size: 64 * MIB } }),
    'a longer life': join({ ...parts, payload: { ...parts.payload, ttl: 86_400_000 } }),
    'another epoch': join({ ...parts, payload: { ...parts.payload, epoch: 999_999 } }),
    'a flipped bit of the signature': join({ ...parts, signature: flipped.toString('base64url') }),
    'signed by a key of my own': signedBy(parts.header, parts.payload),
    'signed by me, with my key in the header': signedBy(
      { ...parts.header, jwk: publicKey.export({ format: 'jwk' }) },
      parts.payload,
    ),
    'signed by me, under my own name': signedBy(
      { ...parts.header, kid: mallory.nodeId },
      parts.payload,
    ),
    "another client's": victim.token,
    'not a token': 'x'.repeat(200),
    'two parts': good.token.split('.').slice(0, 2).join('.'),
    empty: '..',
  };
  for (const [name, token] of Object.entries(attacks)) {
    t.equal(await mallory.refusal(alpha, 'lease.present', { token }), 'ERR_TOKEN', name);
    // A provider shows the leader ten a second at most, so that nobody floods the audit log.
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
  t.equal(
    await mallory.refusal(beta, 'lease.present', { token: good.token }),
    'ERR_TOKEN',
    'for another provider',
  );
  t.equal(await reservedBytes(alpha), 0, 'nothing was lent by any of them');
  t.equal(await reservedBytes(beta), 0);

  t.match(await mallory.ask(alpha, 'lease.present', { token: good.token }), {
    leaseId: good.leaseId,
  });
  t.equal(await reservedBytes(alpha), 4 * MIB, 'the good one is honoured');
  t.equal(
    await mallory.refusal(alpha, 'lease.present', { token: good.token }),
    'ERR_TOKEN',
    'replayed while its lease lives',
  );
  await mallory.ask(alpha, 'lease.return', { leaseIds: [good.leaseId] });
  t.equal(
    await mallory.refusal(alpha, 'lease.present', { token: good.token }),
    'ERR_TOKEN',
    'replayed when its lease is over',
  );
  t.match(
    await other.ask(alpha, 'lease.present', { token: victim.token }),
    { leaseId: victim.leaseId },
    'what was tried with it did not burn the other client’s token',
  );

  await t.test('too old', async (t) => {
    await new Promise((resolve) => setTimeout(resolve, 61_000 - (performance.now() - oldSinceMs)));
    t.equal(await mallory.refusal(alpha, 'lease.present', { token: old.token }), 'ERR_TOKEN');
    await eventually(
      'its lease ends unused',
      async () => {
        return (await leasesOf(lab.control)).every(({ leaseId }) => leaseId !== old.leaseId);
      },
      90_000,
    );
  });

  await eventually('every refusal is in the audit log', async () => {
    return (await refusedTokens(lab)) >= Object.keys(attacks).length + 4;
  });
  const text = JSON.stringify(await auditOf(lab.control));
  t.notOk(text.includes(parts.signature), 'and no token is');
});

t.test('calls that are not its to make', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t, { clients: [], providers: ['alpha'] });
  const alpha = lab.node('alpha');
  const mallory = await member(t, lab, 'mallory');
  const victim = await member(t, lab, 'victim');
  const lender = await member(t, lab, 'lender', ['provider']);
  const held = await grantAt(victim, lab, alpha, 'burnt');
  const ids = { leaseIds: [held.leaseId] };
  const life = randomBytes(16).toString('hex');
  const state = { offeredBytes: 2 ** 40, otherBytes: 0, accepting: true, draining: false };
  const { control } = lab;
  await mallory.reach(alpha).catch(() => undefined);

  const denied = 'ERR_CONTROL_DENIED';
  t.equal(await mallory.refusal(control, 'admin.members', {}), denied, 'a client is no admin');
  t.equal(await mallory.refusal(control, 'admin.revoke', ids), denied);
  t.equal(
    await lender.refusal(control, 'lease.request', request()),
    denied,
    'a provider no client',
  );
  t.equal(
    await mallory.refusal(control, 'provider.register', {
      ...{ life, hostId: 'h', zone: '', port: 7070, leases: [], ...state },
    }),
    denied,
    'a client is no provider',
  );
  t.equal(
    await mallory.refusal(control, 'provider.heartbeat', { life, load: 0, ...state }),
    denied,
  );
  t.equal(await mallory.refusal(control, 'lease.list', { all: true }), denied, 'nor sees all');
  t.same((await mallory.ask(control, 'lease.list', {})).rows, [], 'but its own, which are none');
  t.match(
    await mallory.ask(control, 'lease.release', ids),
    { unknown: ids.leaseIds },
    'of another',
  );
  t.match(await mallory.ask(control, 'lease.renew', { ...ids, ttlMs: 60_000 }), {
    renewed: [],
    refused: [{ leaseId: held.leaseId }],
  });
  // To the provider, as if it were a control node.
  const forged = { epoch: 10_000 };
  const end = { ...forged, ...ids, reason: 'revoked' as const };
  t.not(await mallory.refusal(alpha, 'manage.end', end), 'granted', 'no control node');
  t.not(await victim.refusal(alpha, 'manage.end', end), 'granted', 'nor is the holder one');
  t.not(
    await victim.refusal(alpha, 'manage.extend', {
      ...forged,
      leases: [{ leaseId: held.leaseId, ttlMs: 86_400_000 }],
    }),
    'granted',
    'nor may it give itself time',
  );
  t.not(
    await victim.refusal(alpha, 'manage.admit', {
      ...{ ...forged, name: 'friend', ttlMs: 60_000 },
      publicKey: Buffer.from(mallory.identity.publicKey).toString('hex'),
    }),
    'granted',
    'nor let a friend in',
  );
  t.match(
    await leasesOf(control),
    [{ leaseId: held.leaseId, state: 'active' }],
    'nothing happened',
  );
  t.equal(await reservedBytes(alpha), 4 * MIB);
  // The provider still obeys its control plane: no forged epoch stuck.
  await ask(control, 'admin.revoke', ids);
  await eventually('revoked all the same', async () => (await reservedBytes(alpha)) === 0);
});
