/** The audit log holds together, and shows what was done to it. */
import t from 'tap';
import { auditHash, brokenAuditLine } from '../../common/audit-chain.ts';
import {
  AuditChain,
  auditKey,
  EMPTY_AUDIT_HEAD,
  parseAuditHead,
  parseAuditLine,
  type AuditLine,
} from '../../control-plane/audit.ts';

const AUTHOR = { controlNode: 'a'.repeat(32), epoch: 3 };
const AT = '2026-01-02T03:04:05.678Z';

/** A log of some lines. */
function makeLog(count: number, countMax?: number): { chain: AuditChain; lines: AuditLine[] } {
  const chain = new AuditChain(EMPTY_AUDIT_HEAD, AUTHOR, countMax);
  const lines = Array.from({ length: count }, (_, n) => {
    const { op } = chain.add({ event: 'lease.granted', detail: { n, name: 'ä "x"\u2028' } }, AT);
    return parseAuditLine('put' in op ? op.value : '');
  });
  return { chain, lines };
}

const BEGIN = { sequence: 0, hash: '0'.repeat(64) };

t.test('a line has the hash of itself and of the line before', async (t) => {
  const { chain, lines } = makeLog(2);
  t.equal(lines[0]!.hash, auditHash('0'.repeat(64), lines[0]!));
  t.equal(lines[1]!.hash, auditHash(lines[0]!.hash, lines[1]!));
  t.match(chain.head, { sequence: 2, hash: lines[1]!.hash, prunedSequence: 0 });
  t.equal(auditKey(42), '/memcloud/v1/audit/0000000000000042');
  t.equal(brokenAuditLine(lines, BEGIN), undefined);
});

t.test('another node goes on where the head stands', async (t) => {
  const { chain, lines } = makeLog(3);
  const headOp = chain.headOp();
  const head = parseAuditHead('put' in headOp ? headOp.value : '');
  const next = new AuditChain(head, { controlNode: 'b'.repeat(32), epoch: 4 });
  const { line } = next.add({ event: 'leader', detail: { none: undefined } }, AT);
  t.equal(brokenAuditLine([...lines, parseAuditLine(JSON.stringify(line))], BEGIN), undefined);
  t.equal(next.head.hash, line.hash);
});

t.test('the oldest lines go, and the rest still verifies', async (t) => {
  const { chain, lines } = makeLog(30, 20);
  t.equal(chain.excessCount, 10);
  const ops = chain.prune(lines.slice(0, 10));
  t.same(ops[9], { remove: '/memcloud/v1/audit/0000000000000010' });
  t.equal(chain.excessCount, 0);
  t.equal(chain.head.prunedSequence, 10);
  const { prunedSequence: sequence, prunedHash: hash } = chain.head;
  t.equal(brokenAuditLine(lines.slice(10), { sequence, hash }), undefined);
  t.equal(brokenAuditLine(lines.slice(11), { sequence, hash }), 11);
});

t.test('a damaged entry is an error of the store', async (t) => {
  for (const text of ['', '{', 'null', '[]', '{"sequence":-1}']) {
    t.throws(() => parseAuditLine(text), { code: 'ERR_CONTROL_STORE' });
    t.throws(() => parseAuditHead(text), { code: 'ERR_CONTROL_STORE' });
  }
});
