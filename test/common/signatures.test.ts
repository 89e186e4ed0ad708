/** Signed words; tokens.test.ts and receipts.test.ts have what is made of them. */
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { signCompact, verifyCompact } from '../../common/signatures.ts';
import { makeNode } from '../helpers/control-rig.ts';

const node = makeNode();
const PROBLEM = { message: /^its / };
const keyOf = (): Uint8Array => node.publicKey;

t.test('RFC 8037 A.4: the example key signs as the standard says', async (t) => {
  const jwk = {
    ...{ kty: 'OKP', crv: 'Ed25519', d: 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A' },
    x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo',
  };
  const privateKey = createPrivateKey({ key: jwk, format: 'jwk' });
  const nodeId = '0'.repeat(32);
  const jws = await signCompact({ nodeId, privateKey }, 'test', { text: 'Example' });
  const publicKey = Buffer.from(jwk.x, 'base64url');
  t.same(await verifyCompact(jws, 'test', () => publicKey), {
    signer: nodeId,
    payload: { text: 'Example' },
  });
  t.equal(
    jws,
    await signCompact({ nodeId, privateKey }, 'test', { text: 'Example' }),
    'deterministic',
  );
});

t.test('a word of one kind is none of another', async (t) => {
  const jws = await signCompact(node, 'one', {});
  await t.rejects(verifyCompact(jws, 'two', keyOf), PROBLEM);
  await t.rejects(
    verifyCompact(jws, 'one', () => undefined),
    { message: 'its signer is not known here' },
  );
  await t.rejects(
    verifyCompact(jws, 'one', () => Buffer.alloc(31)),
    PROBLEM,
  );
  await t.rejects(
    verifyCompact(jws, 'one', () => makeNode().publicKey),
    PROBLEM,
  );
  t.same((await verifyCompact(jws, 'one', keyOf)).payload, {});
});

t.test('a signature has one spelling', async (t) => {
  const jws = await signCompact(node, 'one', { n: 1 });
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(jws.at(-1)!);
  // The last character of 64 bytes carries two bits; the other four must be zero.
  for (let spare = 1; spare < 16; spare += 1) {
    const other = jws.slice(0, -1) + alphabet[(last & 0b110000) | spare]!;
    await t.rejects(verifyCompact(other, 'one', keyOf), PROBLEM);
  }
});

t.test('many keys in turn', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x!, 'base64url');
  const nodeId = 'a'.repeat(32);
  const jws = await signCompact({ nodeId, privateKey }, 'one', {});
  for (let n = 0; n < 3; n += 1) {
    t.equal((await verifyCompact(jws, 'one', () => raw)).signer, nodeId);
    await t.rejects(verifyCompact(jws, 'one', keyOf), PROBLEM);
  }
});
