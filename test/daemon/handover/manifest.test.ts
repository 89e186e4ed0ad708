import t from 'tap';
import { Inheritance, Luggage } from '../../../daemon/handover/belongings.ts';
import { decodeManifest, type Manifest } from '../../../daemon/handover/manifest.ts';
import { Random } from '../../helpers/fuzz.ts';

const SERVICE: Manifest['volumes'][number]['services'][number] = {
  address: { unixPath: '/run/v.sock' },
  readOnly: false,
  uri: 'nbd+unix:///v?socket=/run/v.sock',
  listeners: [4],
  connections: [
    {
      socket: 5,
      exportName: 'v',
      mode: 0,
      allocationContext: false,
      unreadAt: 0,
      unreadLength: 28,
    },
  ],
  waiting: [],
};

const MANIFEST: Manifest = {
  format: 1,
  nodeId: 'ab'.repeat(16),
  pid: 17,
  heldAtNs: '123456789012345',
  peerAddress: '127.0.0.1:7070',
  lock: 0,
  rpcListener: 1,
  rpcFileKept: false,
  peerListeners: [2],
  peers: [{ nodeId: 'cd'.repeat(16), name: 'attic', up: true }],
  dialled: ['10.0.0.1:7070'],
  attachCount: 1,
  unread: 3,
  volumes: [
    {
      image: 6,
      secrets: 7,
      providers: null,
      services: [SERVICE],
      attachments: [
        { device: '/dev/nbd0', connections: 1, via: 'netlink', timeoutS: 0, service: SERVICE },
      ],
    },
  ],
};

t.test('a manifest says the same after it was written down', (t) => {
  t.same(decodeManifest(Buffer.from(JSON.stringify(MANIFEST))), MANIFEST);
  t.end();
});

t.test('another format and damage are ERR_HANDOVER, in one sentence', (t) => {
  const cases: [string, RegExp][] = [
    ['', /no JSON/],
    ['{', /no JSON/],
    ['null', /expected format 1, got undefined/],
    ['[]', /expected format 1, got undefined/],
    [JSON.stringify({ ...MANIFEST, format: 2 }), /expected format 1, got 2; these versions/],
    [JSON.stringify({ ...MANIFEST, heldAtNs: 'soon' }), /heldAtNs/],
    [JSON.stringify({ ...MANIFEST, lock: -1 }), /lock/],
    [JSON.stringify({ ...MANIFEST, extra: 1 }), /extra/],
  ];
  for (const [text, message] of cases) {
    t.throws(() => decodeManifest(Buffer.from(text)), { code: 'ERR_HANDOVER', message }, text);
  }
  const random = new Random(Number(process.env['SEED'] ?? 1));
  const good = Buffer.from(JSON.stringify(MANIFEST));
  for (let index = 0; index < 3000; index += 1) {
    try {
      decodeManifest(random.mutate(good));
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_HANDOVER') throw error;
    }
  }
  t.end();
});

t.test('luggage arrives in the order in which it was packed', (t) => {
  const luggage = new Luggage();
  t.equal(luggage.add(0), 0);
  const { place, file } = luggage.addMemory('test', 10);
  t.equal(place, 1);
  t.equal(luggage.addUnread(Buffer.from('one')), 0);
  t.equal(luggage.addUnread(Buffer.from('two')), 3);
  t.equal(luggage.packUnread(), 2);
  t.same(luggage.descriptors.slice(0, 2), [0, file.fd]);
  t.equal(luggage.sizeBytes, 16);
  t.throws(() => luggage.add(-1), { code: 'ERR_INTERNAL' });
  const empty = new Luggage();
  t.equal(empty.packUnread(), null);
  luggage.discard(false);
  luggage.discard(false);
  t.end();
});

t.test('an inheritance gives each thing once', (t) => {
  const luggage = new Luggage();
  const { file } = luggage.addMemory('test', 10);
  const inheritance = new Inheritance([file.fd]);
  t.equal(inheritance.take(0), file.fd);
  for (const place of [0, 1, -1]) {
    t.throws(() => inheritance.take(place), { code: 'ERR_HANDOVER' }, `place ${place}`);
  }
  inheritance.close();
  luggage.discard(true);
  t.end();
});
