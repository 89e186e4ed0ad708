import t from 'tap';
import {
  decodeExchange,
  exchangeFields,
  shareInTurn,
  shareableAddress,
} from '../../peer/exchange-control.ts';
import type { PackedMap } from '../../peer/message-pack.ts';

const ID = 'ab'.repeat(16);

t.test('of many peers each answer tells 64, and all are told in turn', (t) => {
  const all = Array.from({ length: 150 }, (_, index) => index);
  let told = 0;
  const answers = [1, 2, 3].map(() => {
    const share = shareInTurn(all, told);
    told += share.length;
    return share;
  });
  t.same(answers[0], all.slice(0, 64));
  t.same(answers[2], [...all.slice(128), ...all.slice(0, 42)]);
  t.same(new Set(answers.flat()).size, 150);
  t.equal(shareInTurn(all.slice(0, 64), 7).length, 64);
  t.end();
});

t.test('64 peers travel and no more', (t) => {
  const hints = Array.from({ length: 100 }, (_, index) => ({
    nodeId: ID,
    address: `10.0.0.1:${index + 1}`,
  }));
  const fields = exchangeFields(shareInTurn(hints, 0)) as PackedMap;
  t.same(decodeExchange(fields), hints.slice(0, 64));
  t.throws(() => decodeExchange({ peers: hints.slice(0, 65) }), {
    code: 'ERR_PEER_PROTOCOL',
  });
  t.end();
});

t.test('a row that is none ends the session', (t) => {
  const rows: unknown[] = [
    null,
    'x',
    {},
    { nodeId: ID },
    { nodeId: ID.toUpperCase(), address: '10.0.0.1:1' },
    { nodeId: ID, address: '10.0.0.1' },
    { nodeId: ID, address: '10.0.0.1:0' },
    { nodeId: ID, address: ':7070' },
    { nodeId: ID, address: '10.0.0.1:99999' },
    { nodeId: ID, address: `${'x'.repeat(300)}:1` },
    { nodeId: ID, address: 'a\u001b[2J:1' },
    { nodeId: ID, address: 'a\u0007b:1' },
    { nodeId: ID, address: 'name.example:1' },
    { nodeId: ID, address: '[fe80::1%eth0]:1' },
    { nodeId: ID, address: 7070 },
  ];
  for (const row of rows) {
    t.throws(
      () => decodeExchange({ peers: [row] }),
      { code: 'ERR_PEER_PROTOCOL' },
      JSON.stringify(row),
    );
  }
  t.throws(() => decodeExchange({}), { code: 'ERR_PEER_PROTOCOL' });
  t.end();
});

t.test('an address that means something here only is not told', (t) => {
  t.equal(shareableAddress('10.0.0.2', 7070, '10.0.0.3'), '10.0.0.2:7070');
  t.equal(shareableAddress('fd00::2', 7070, '10.0.0.3'), '[fd00::2]:7070');
  t.equal(shareableAddress('10.0.0.2', 0, '10.0.0.3'), undefined, 'it takes no peers');
  for (const host of ['127.0.0.1', '::1', 'fe80::1%eth0', '169.254.3.4', '']) {
    t.equal(shareableAddress(host, 7070, '10.0.0.3'), undefined, host);
  }
  t.equal(shareableAddress('127.0.0.1', 7070, '127.0.0.1'), '127.0.0.1:7070', 'one machine');
  t.end();
});
