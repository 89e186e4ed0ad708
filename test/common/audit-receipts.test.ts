/** The receipts in lines of the audit log. */
import t from 'tap';
import { checkAuditReceipts } from '../../common/audit-receipts.ts';
import { signReceipt } from '../../common/receipts.ts';
import { ENDING as ending, newSigner } from '../helpers/signed-endings.ts';

const provider = newSigner();
const other = newSigner();
const keys = new Map([provider, other].map(({ nodeId, raw }) => [nodeId, raw]));
const keyOf = (nodeId: string): Uint8Array | undefined => keys.get(nodeId);

async function wiped(change: object = {}) {
  const receipt = await signReceipt(provider, ending);
  const detail = { ...ending, provider: provider.nodeId, receipt, receiptValid: true, ...change };
  return {
    ...{ sequence: 7, at: '2026-01-01T00:00:00.000Z', event: 'lease.wiped' },
    ...{ controlNode: 'c'.repeat(32), epoch: 1, detail },
  };
}

t.test('a line that says what its provider signed', async (t) => {
  const lines = [await wiped(), { ...(await wiped()), event: 'lease.granted', detail: {} }];
  const counts = { valid: 1, unknownKey: 0, refused: 0, falseLine: undefined };
  t.same(await checkAuditReceipts(lines, keyOf), counts, 'and one that has no receipt');
  t.match(await checkAuditReceipts([await wiped({ late: true })], keyOf), { valid: 1 });
});

t.test('a line that says something else', async (t) => {
  const receipt = await signReceipt(provider, ending);
  const changes = {
    'another lease': { leaseId: 'd'.repeat(32) },
    'another client': { client: 'd'.repeat(32) },
    'another size': { sizeBytes: 123_455 },
    'another reason': { reason: 'revoked' },
    'more bytes wiped': { wipedBytes: 120_001 },
    'another time': { wipeMs: 12 },
    'another provider': { provider: other.nodeId },
    'a receipt of another key': { receipt: await signReceipt(other, ending) },
    'another name on the key': {
      receipt: await signReceipt({ ...other, nodeId: provider.nodeId }, ending),
    },
    'an altered receipt': { receipt: receipt.replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A')) },
    'no receipt': { receipt: '' },
    'a receipt of no kind': { receipt: 7 },
    'nothing of the verdict': { receiptValid: undefined },
  };
  for (const [what, change] of Object.entries(changes)) {
    const lines = [await wiped(), { ...(await wiped(change)), sequence: 8 }];
    t.match(await checkAuditReceipts(lines, keyOf), { valid: 1, falseLine: 8 }, what);
  }
});

t.test('what cannot be told', async (t) => {
  const checked = await checkAuditReceipts([await wiped()], () => undefined);
  t.match(checked, { valid: 0, unknownKey: 1, falseLine: undefined });
  const said = await checkAuditReceipts([await wiped({ receiptValid: false })], keyOf);
  t.match(
    said,
    { valid: 0, refused: 1, falseLine: undefined },
    'the leader did not take it either',
  );
});
