/** Receipts of wiped leases. */
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { signReceipt, verifyReceipt } from '../../common/receipts.ts';
import { signToken } from '../../control-plane/tokens.ts';
import { ENDING as ending, newSigner } from '../helpers/signed-endings.ts';

const { raw, ...key } = newSigner();

t.test('a receipt says what the provider signed', async (t) => {
  const receipt = await signReceipt(key, ending);
  t.same(await verifyReceipt(raw, receipt), { provider: key.nodeId, ending });
  t.ok(receipt.length < 700, `${receipt.length} characters`);
});

t.test('altered, of another key, or no receipt', async (t) => {
  const receipt = await signReceipt(key, ending);
  const refused = { code: 'ERR_CONTROL_PROTOCOL' };
  const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }).x!;
  await t.rejects(verifyReceipt(Buffer.from(other, 'base64url'), receipt), refused);
  await t.rejects(
    verifyReceipt(
      raw,
      receipt.replace(/.$/, (c) => (c === 'A' ? 'Q' : 'A')),
    ),
    refused,
  );
  await t.rejects(verifyReceipt(raw, ''), refused);
  const claims = {
    jti: 'c'.repeat(32),
    leaseId: ending.leaseId,
    provider: key.nodeId,
    client: ending.client,
    clientKey: 'd'.repeat(64),
    sizeBytes: 1,
    ttlMs: 1,
    epoch: 1,
  };
  await t.rejects(verifyReceipt(raw, await signToken(key, claims, 60_000)), refused, 'a token');
});
