/** The chain of the audit log (common/audit-chain.ts). */
import { createHash } from 'node:crypto';
import t from 'tap';
import { AUDIT_HASH_BEGIN, auditHash, brokenAuditLine } from '../../common/audit-chain.ts';

const node = 'ab'.repeat(16);
const FIRST = {
  sequence: 1,
  at: '2026-01-02T03:04:05.000Z',
  event: 'lease.granted',
  controlNode: node,
  epoch: 3,
  detail: { sizeBytes: 4096, client: 'c', list: [{ b: 1, a: 'ü' }] },
};

t.test('a hash is SHA-256 over the hash before, a line feed and the line with sorted keys', (t) => {
  const text =
    `{"at":"2026-01-02T03:04:05.000Z","controlNode":"${node}","detail":{"client":"c",` +
    '"list":[{"a":"ü","b":1}],"sizeBytes":4096},"epoch":3,"event":"lease.granted","sequence":1}';
  const wanted = createHash('sha256')
    .update(`${'0'.repeat(64)}\n${text}`)
    .digest('hex');
  t.equal(auditHash(AUDIT_HASH_BEGIN, FIRST), wanted);
  const { detail } = FIRST;
  const turned = { ...FIRST, detail: Object.fromEntries(Object.entries(detail).reverse()) };
  t.equal(auditHash(AUDIT_HASH_BEGIN, turned), wanted, 'in whatever order the keys come');
  t.equal(auditHash(AUDIT_HASH_BEGIN, { ...FIRST, hash: 'x' } as never), wanted, 'of these fields');
  t.end();
});

t.test('a line that is altered, missing or put in breaks the chain where it is', (t) => {
  let hash = AUDIT_HASH_BEGIN;
  const lines = [1, 2, 3, 4].map((sequence) => {
    const line = { ...FIRST, sequence, detail: { sequence } };
    hash = auditHash(hash, line);
    return { ...line, hash };
  });
  const begin = { sequence: 0, hash: AUDIT_HASH_BEGIN };
  const [first, second, third, fourth] = lines as [
    (typeof lines)[0],
    (typeof lines)[0],
    (typeof lines)[0],
    (typeof lines)[0],
  ];
  t.equal(brokenAuditLine(lines, begin), undefined);
  t.equal(brokenAuditLine(lines.slice(2), second), undefined, 'from any line on');
  t.equal(brokenAuditLine(lines.slice(2), undefined), undefined, 'also without the one before');
  t.equal(brokenAuditLine([], begin), undefined);
  t.equal(brokenAuditLine([first, { ...second, event: 'x' }, third, fourth], begin), 2);
  t.equal(brokenAuditLine([first, third, fourth], begin), 2);
  t.equal(brokenAuditLine([second, third], begin), 1);
  t.equal(brokenAuditLine([first, second, { ...third, hash: second.hash }, fourth], begin), 3);
  t.equal(brokenAuditLine([first, { ...second, sequence: 1 }], begin), 2);
  t.end();
});
