import t from 'tap';
import { fingerprintOf } from '../../../common/fingerprint.ts';
import {
  asksForNodes,
  freeBucket,
  instanceName,
  readAdverts,
  recordsForLink,
  txtFields,
  type DnsPacket,
  type DnsRecord,
} from '../../../peer/discovery/advert-codec.ts';
import { Random } from '../../helpers/fuzz.ts';

const ID = '0123456789abcdef0123456789abcdef';
const SERVICE = '_memcloud._tcp.local';
const INSTANCE = `alpha-${ID}.${SERVICE}`;

function text(fields: Record<string, string>): Buffer[] {
  return Object.entries(fields).map(([key, value]) => Buffer.from(`${key}=${value}`));
}

const RIGHT = { id: ID, fp: fingerprintOf(ID), port: '7070', v: '1', free: '1073741824' };

function packet(changes: {
  txt?: Record<string, string>;
  port?: unknown;
  instance?: string;
  ttl?: number;
}): DnsPacket {
  const { txt = RIGHT, port = 7070, instance = INSTANCE, ttl = 28800 } = changes;
  return {
    answers: [{ name: SERVICE, type: 'PTR', ttl, data: instance }],
    additionals: [
      { name: instance, type: 'SRV', ttl: 120, data: { port, target: 'x.local' } },
      { name: instance, type: 'TXT', ttl: 4500, data: text(txt) },
      { name: 'x.local', type: 'A', ttl: 120, data: '10.0.0.9' },
    ],
  };
}

t.test('an advert says id, words of the key, port, version and a bucket of free bytes', (t) => {
  t.equal(instanceName('alpha', ID), `alpha-${ID}`);
  t.equal(instanceName('a.b c', ID), `a-b c-${ID}`, 'a dot would be a label of its own');
  t.equal(instanceName('x'.repeat(64), ID).length, 63, 'a label of DNS');
  const fields = txtFields({ nodeId: ID, port: 7070, freeBytes: 1.9 * 2 ** 30 });
  t.same(fields, RIGHT);
  t.same(Object.keys(fields), ['id', 'fp', 'port', 'v', 'free'], 'nothing more');
  for (const part of text(fields)) t.ok(part.length <= 255);
  t.end();
});

t.test('free bytes are told as a power of two at most', (t) => {
  for (const [bytes, bucket] of [
    [0, 0],
    [1, 1],
    [3, 2],
    [4095, 2048],
    [4096, 4096],
    [2 ** 40 + 5, 2 ** 40],
  ] as const) {
    t.equal(freeBucket(bytes), bucket);
  }
  t.end();
});

t.test('what is announced is what is read', (t) => {
  t.same(readAdverts(packet({})), {
    alive: [{ nodeId: ID, name: 'alpha', port: 7070, protocol: 1, freeBytes: 1073741824 }],
    gone: [],
  });
  t.same(readAdverts(packet({ ttl: 0 })), { alive: [], gone: [ID] });
  const shouting = JSON.parse(
    JSON.stringify(packet({})).replaceAll(SERVICE, '_MEMCLOUD._TCP.LOCAL'),
    (_key, value: unknown) =>
      (value as { type?: string } | null)?.type === 'Buffer'
        ? Buffer.from((value as { data: number[] }).data)
        : value,
  ) as DnsPacket;
  t.equal(readAdverts(shouting).alive.length, 1, 'DNS has no case');
  t.end();
});

t.test('an advert that contradicts itself is none', (t) => {
  const other = 'f'.repeat(32);
  const cases: [string, DnsPacket][] = [
    ['another id in TXT', packet({ txt: { ...RIGHT, id: other } })],
    ['words of another key', packet({ txt: { ...RIGHT, fp: fingerprintOf(other) } })],
    ['another port in SRV', packet({ port: 7071 })],
    ['no port', packet({ port: null })],
    ['port 0', packet({ port: 0, txt: { ...RIGHT, port: '0' } })],
    ['port 65536', packet({ port: 65536, txt: { ...RIGHT, port: '65536' } })],
    ['a port with words', packet({ txt: { ...RIGHT, port: '7070 ' } })],
    ['no version', packet({ txt: { ...RIGHT, v: '' } })],
    ['no TXT', packet({ txt: {} })],
    ['an id of 31 digits', packet({ instance: `alpha-${ID.slice(1)}.${SERVICE}` })],
    ['no name', packet({ instance: `-${ID}.${SERVICE}` })],
    ['a name with an escape', packet({ instance: `a\u001b[2J-${ID}.${SERVICE}` })],
    ['a name that is too long', packet({ instance: `${'a'.repeat(31)}-${ID}.${SERVICE}` })],
    ['another service', packet({ instance: `alpha-${ID}._http._tcp.local` })],
  ];
  for (const [what, each] of cases) t.same(readAdverts(each).alive, [], what);
  t.match(readAdverts(packet({ txt: { ...RIGHT, free: '3' } })).alive, [{ freeBytes: null }]);
  t.end();
});

t.test('of one packet at most 16 adverts count', (t) => {
  const many = Array.from({ length: 40 }, (_, index) => {
    const id = index.toString(16).padStart(32, '0');
    const instance = `n-${id}.${SERVICE}`;
    const txt = { ...RIGHT, id, fp: fingerprintOf(id) };
    return packet({ instance, txt });
  });
  const answers = many.flatMap((each) => each.answers ?? []);
  const additionals = many.flatMap((each) => each.additionals ?? []);
  t.equal(readAdverts({ answers, additionals }).alive.length, 16);
  t.end();
});

t.test('a question for the service is told from others', (t) => {
  t.ok(asksForNodes({ questions: [{ name: SERVICE, type: 'PTR' }] }));
  t.notOk(asksForNodes({ questions: [{ name: SERVICE, type: 'A' }] }));
  t.notOk(asksForNodes({ questions: [{ name: '_http._tcp.local', type: 'PTR' }] }));
  t.notOk(asksForNodes({}));
  t.end();
});

t.test('on a link leave its own addresses, and a TXT that is true now', (t) => {
  const records: DnsRecord[] = [
    { name: SERVICE, type: 'PTR', ttl: 1, data: INSTANCE },
    { name: 'h', type: 'A', ttl: 1, data: '10.0.0.9' },
    { name: 'h', type: 'A', ttl: 1, data: '172.17.0.1' },
    { name: 'h', type: 'AAAA', ttl: 1, data: 'fe80::1' },
    { name: INSTANCE, type: 'TXT', ttl: 1, data: text(RIGHT) },
  ];
  const left = recordsForLink(records, ['10.0.0.9'], { id: ID, free: '0' });
  t.same(
    left.map(({ type }) => type),
    ['PTR', 'A', 'TXT'],
  );
  t.same(left[1]?.data, '10.0.0.9');
  t.same((left[2]?.data as Buffer[]).map(String), [`id=${ID}`, 'free=0']);
  t.end();
});

t.test('of whatever comes only adverts that are right are read, and nothing is thrown', (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.comment(`SEED=${seed}`);
  const random = new Random(seed);
  const junk = (): unknown =>
    random.pick([
      undefined,
      null,
      7070,
      -1,
      '',
      SERVICE,
      INSTANCE,
      ID,
      [],
      {},
      { port: 7070 },
      text(RIGHT),
      [null, 1, 'x'],
      random.bytes(random.below(300)),
      [random.bytes(random.below(300))],
      NaN,
    ]);
  for (let round = 0; round < 20_000; round += 1) {
    const record = (): DnsRecord => ({
      name: random.pick([SERVICE, INSTANCE, junk()]),
      type: random.pick(['PTR', 'SRV', 'TXT', 'A', junk()]),
      ttl: random.pick([0, 1, junk()]),
      data: random.pick([INSTANCE, { port: 7070 }, text(RIGHT), junk()]),
    });
    const some = (): DnsRecord[] => Array.from({ length: random.below(6) }, record);
    const each = { questions: some(), answers: some(), additionals: some() };
    asksForNodes(each);
    for (const advert of readAdverts(each).alive) {
      if (advert.nodeId !== ID || advert.port !== 7070) t.fail('a wrong advert');
    }
  }
  t.end();
});
