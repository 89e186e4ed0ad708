/** Receipts that are signed after the turn in which leases ended. */
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import type { ManagedEnding } from '../../common/managed.ts';
import type { SignedEnding } from '../../control-plane/endings-queue.ts';
import { ReceiptSigner } from '../../control-plane/receipt-signer.ts';
import { verifyReceipt } from '../../common/receipts.ts';
import { until } from '../helpers/peer-node.ts';

const NODE_ID = 'c'.repeat(32);

function endings(count: number): ManagedEnding[] {
  return Array.from({ length: count }, (_, index) => ({
    leaseId: index.toString(16).padStart(32, '0'),
    client: 'a'.repeat(32),
    ...{ sizeBytes: 4096, reason: 'expired' as const, wipedBytes: 0, wipeMs: 1 },
  }));
}

t.test('all are signed, in order, and none in the turn in which they end', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const signed: SignedEnding[] = [];
  const signer = new ReceiptSigner(
    { nodeId: NODE_ID, privateKey },
    {
      onSigned: (ending) => signed.push(ending),
      onFailed: (_ending, error) => t.fail(String(error)),
    },
  );
  const ended = endings(100);
  for (const ending of ended) signer.push(ending);
  t.equal(signer.length, 100);
  t.same(signed, []);
  await until(() => signer.length === 0, 'the receipts');
  t.same(
    signed.map(({ leaseId }) => leaseId),
    ended.map(({ leaseId }) => leaseId),
  );
  const key = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
  const last = signed.at(-1)!;
  const { ending } = await verifyReceipt(key, last.receipt);
  t.match(ending, { leaseId: last.leaseId });
  signer.push(ended[0]!);
  await until(() => signed.length === 101, 'one more, when the others are done');
});

t.test('a key that cannot sign: it is told of each', async (t) => {
  const { publicKey } = generateKeyPairSync('ed25519');
  const failed: string[] = [];
  const signer = new ReceiptSigner(
    { nodeId: NODE_ID, privateKey: publicKey },
    { onSigned: () => t.fail('signed'), onFailed: ({ leaseId }) => failed.push(leaseId) },
  );
  for (const ending of endings(20)) signer.push(ending);
  await until(() => signer.length === 0, 'the end');
  t.equal(failed.length, 20);
});
