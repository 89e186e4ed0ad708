import fc from 'fast-check';
import t from 'tap';
import {
  Negotiation,
  type NegotiationAction,
  type TlsPolicy,
} from '../../nbd-server/negotiation.ts';
import type { ExportDirectory, ExportInfo } from '../../nbd-server/export-info.ts';
import { ReplyMode } from '../../nbd-server/message-codec.ts';
import { counted, infoData, metaData, option, u32 } from '../helpers/nbd-raw-client.ts';
import { testSeed } from '../helpers/nbd-fixture.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

const disk: ExportInfo = {
  name: 'disk',
  description: 'a disk',
  sizeBytes: 8192,
  readOnly: false,
  singleConnection: false,
};
const other: ExportInfo = {
  name: 'other',
  description: '',
  sizeBytes: 4096,
  readOnly: true,
  singleConnection: false,
};

function directory(...infos: ExportInfo[]): ExportDirectory {
  const find = (name: string): ExportInfo | undefined =>
    name === '' && infos.length === 1 ? infos[0] : infos.find((info) => info.name === name);
  return { list: () => infos, find };
}

const one = directory(disk);
const two = directory(disk, other);

interface Reply {
  option: number;
  type: number;
  data: string;
}

/** Runs a machine over client bytes; replies are parsed, other actions kept. */
function run(
  exports: ExportDirectory,
  bytes: readonly Uint8Array[],
  setup: { tls?: TlsPolicy; flags?: number; machine?: Negotiation } = {},
): { replies: Reply[]; others: NegotiationAction[]; raw: Buffer } {
  const machine = setup.machine ?? new Negotiation(exports, setup.tls ?? 'off');
  const input = setup.machine ? bytes : [u32(setup.flags ?? 3), ...bytes];
  const { actions } = machine.receive(Buffer.concat(input));
  const raw: Buffer[] = [];
  const others: NegotiationAction[] = [];
  for (const action of actions) {
    if (action.kind === 'send') raw.push(Buffer.from(action.bytes));
    else others.push(action);
  }
  const replies: Reply[] = [];
  for (const bytes of raw) {
    if (bytes.length < 20 || bytes.readBigUInt64BE(0) !== 0x3e889045565a9n) continue;
    replies.push({
      option: bytes.readUInt32BE(8),
      type: bytes.readUInt32BE(12),
      data: bytes.toString('hex', 20),
    });
  }
  return { replies, others, raw: Buffer.concat(raw) };
}

const types = (replies: Reply[]): string[] => replies.map((r) => r.type.toString(16));

t.test('LIST names every export and acknowledges', async (t) => {
  const { replies, others } = run(two, [option(3)]);
  t.same(replies, [
    { option: 3, type: 2, data: '00000004' + '6469736b' + '61206469736b' },
    { option: 3, type: 2, data: '00000005' + '6f74686572' },
    { option: 3, type: 1, data: '' },
  ]);
  t.same(others, []);
});

t.test('INFO and GO tell the same, and GO ends the handshake', async (t) => {
  const info = run(two, [option(6, infoData('disk', [0, 1, 2, 3, 77]))]);
  t.same(info.replies, [
    { option: 6, type: 3, data: '0000' + '0000000000002000' + '0d6d' },
    { option: 6, type: 3, data: '0001' + '6469736b' },
    { option: 6, type: 3, data: '0002' + '61206469736b' },
    { option: 6, type: 3, data: '0003' + '00000001' + '00001000' + '02000000' },
    { option: 6, type: 1, data: '' },
  ]);
  t.same(info.others, []);
  const go = run(two, [option(7, infoData('disk', [0, 1, 2, 3, 77]))]);
  t.same(
    go.replies.map(({ type, data }) => ({ type, data })),
    info.replies.map(({ type, data }) => ({ type, data })),
  );
  t.same(go.others, [
    { kind: 'transmit', exportName: 'disk', mode: ReplyMode.SIMPLE, allocationContext: false },
  ]);
});

t.test('without being asked INFO tells size and flags only', async (t) => {
  t.same(types(run(two, [option(6, infoData('disk'))]).replies), ['3', '1']);
});

t.test('the empty name is the only export, or none of several', async (t) => {
  t.same(run(one, [option(7, infoData(''))]).others[0]?.kind, 'transmit');
  t.same(types(run(two, [option(7, infoData(''))]).replies), ['80000006']);
});

t.test('an option is refused and the next one still served', async (t) => {
  const cases: [string, Uint8Array, string][] = [
    ['PEEK_EXPORT', option(4), '80000001'],
    ['an unknown option', option(12), '80000001'],
    ['an unknown option with data', option(0xffffffff, Buffer.alloc(1000)), '80000001'],
    ['LIST with data', option(3, Buffer.alloc(1)), '80000003'],
    ['STARTTLS without TLS', option(5), '80000001'],
    ['STARTTLS with data', option(5, Buffer.alloc(1)), '80000003'],
    ['INFO with short data', option(6, counted('disk')), '80000003'],
    ['GO with a lying length', option(7, u32(0xffffffff)), '80000003'],
    ['GO for an unknown export', option(7, infoData('nope')), '80000006'],
    ['GO with a name of 3000 bytes', option(7, infoData('a'.repeat(3000))), '80000006'],
    ['STRUCTURED_REPLY with data', option(8, Buffer.alloc(4)), '80000003'],
    ['EXTENDED_HEADERS with data', option(11, Buffer.alloc(4)), '80000003'],
    ['LIST_META without structured replies', option(9, metaData('disk', [])), '80000003'],
    ['SET_META without structured replies', option(10, metaData('disk', [])), '80000003'],
    ['64 KiB and one byte of data', option(6, Buffer.alloc(65537)), '80000009'],
  ];
  for (const [what, bytes, expected] of cases) {
    const { replies, others } = run(two, [bytes, option(3)]);
    t.same(types(replies), [expected, '2', '2', '1'], what);
    t.same(others, [], what);
  }
});

t.test('what cannot be answered closes the connection', async (t) => {
  const cases: [string, ExportDirectory, number, Uint8Array[]][] = [
    ['unknown client flags', two, 4, []],
    ['all client flags', two, 0xffffffff, []],
    ['a wrong option magic', two, 3, [Buffer.alloc(16, 'x')]],
    ['EXPORT_NAME of an unknown export', two, 3, [option(1, Buffer.from('nope'))]],
    ['EXPORT_NAME of 4097 bytes', two, 3, [option(1, Buffer.alloc(4097, 'a'))]],
    ['EXPORT_NAME of 70000 bytes', two, 3, [option(1, Buffer.alloc(70000, 'a'))]],
    ['EXPORT_NAME not in UTF-8', two, 3, [option(1, Buffer.from([0xff]))]],
    ['EXPORT_NAME after EXTENDED_HEADERS', two, 3, [option(11), option(1, Buffer.from('disk'))]],
    ['LIST without fixed newstyle', two, 0, [option(3)]],
    ['33 options', two, 3, Array.from({ length: 33 }, () => option(3))],
    [
      'an option of 2^32 - 1 bytes',
      two,
      3,
      [Buffer.concat([Buffer.from('IHAVEOPT'), u32(6), u32(0xffffffff)])],
    ],
  ];
  for (const [what, exports, flags, bytes] of cases) {
    const { others } = run(exports, bytes, { flags });
    t.equal(others.length, 1, what);
    t.equal(others[0]?.kind, 'close', what);
  }
});

t.test('32 options are served', async (t) => {
  const { replies, others } = run(
    one,
    Array.from({ length: 32 }, () => option(3)),
  );
  t.equal(replies.length, 64);
  t.same(others, []);
});

t.test('ABORT is acknowledged, whatever its data, and closes', async (t) => {
  for (const data of [Buffer.alloc(0), Buffer.alloc(100)]) {
    const { replies, others } = run(two, [option(2, data), option(3)]);
    t.same(replies, [{ option: 2, type: 1, data: '' }]);
    t.same(others, [{ kind: 'close' }]);
  }
});

t.test('EXPORT_NAME is followed by 124 zeroes unless they were declined', async (t) => {
  const plain = '0000000000002000' + '0d6d';
  const declined = run(two, [option(1, Buffer.from('disk'))], { flags: 3 });
  t.equal(declined.raw.toString('hex'), plain);
  const old = run(two, [option(1, Buffer.from('disk'))], { flags: 0 });
  t.equal(old.raw.toString('hex'), plain + '00'.repeat(124));
  t.equal(old.others[0]?.kind, 'transmit');
});

t.test('extended headers outrank structured replies', async (t) => {
  const { replies, others } = run(one, [option(8), option(11), option(8), option(7, infoData(''))]);
  t.same(types(replies).slice(0, 3), ['1', '1', '8000000a']);
  t.match(others, [{ kind: 'transmit', mode: ReplyMode.EXTENDED }]);
});

t.test('LIST_META_CONTEXT answers all, a wildcard or a name', async (t) => {
  const yes = { option: 9, type: 4, data: '00000000' + '626173653a616c6c6f636174696f6e' };
  const ack = { option: 9, type: 1, data: '' };
  const cases: [string[], Reply[]][] = [
    [[], [yes, ack]],
    [['base:'], [yes, ack]],
    [
      ['base:allocation', 'base:'],
      [yes, ack],
    ],
    [['base:other', 'qemu:', 'x', ''], [ack]],
  ];
  for (const [queries, expected] of cases) {
    const { replies } = run(one, [option(8), option(9, metaData('disk', queries))]);
    t.same(replies.slice(1), expected, queries.join());
  }
  const unknown = run(one, [option(8), option(9, metaData('nope', []))]);
  t.same(types(unknown.replies), ['1', '80000006']);
});

t.test('SET_META_CONTEXT takes the exact name only', async (t) => {
  const yes = { option: 10, type: 4, data: '00000001' + '626173653a616c6c6f636174696f6e' };
  const ack = { option: 10, type: 1, data: '' };
  const cases: [string[], Reply[]][] = [
    [[], [ack]],
    [['base:'], [ack]],
    [['base:allocation'], [yes, ack]],
    [
      ['x:y', 'base:allocation', 'base:allocation'],
      [yes, ack],
    ],
  ];
  for (const [queries, expected] of cases) {
    const { replies } = run(one, [option(8), option(10, metaData('disk', queries))]);
    t.same(replies.slice(1), expected, queries.join());
  }
});

t.test('a context lives only for the export it was set for, until the next SET', async (t) => {
  const set = option(10, metaData('disk', ['base:allocation']));
  const go = option(7, infoData('disk'));
  const cases: [string, Uint8Array[], boolean][] = [
    ['set, go', [set, go], true],
    ['set, go elsewhere', [set, option(7, infoData('other'))], false],
    ['set, set nothing, go', [set, option(10, metaData('disk', [])), go], false],
    ['set, malformed set, go', [set, option(10, Buffer.alloc(3)), go], false],
    ['set, set for an unknown export, go', [set, option(10, metaData('no', [])), go], false],
    ['set, list, go', [set, option(9, metaData('disk', [])), go], true],
    ['set, failed go, go', [set, option(7, infoData('no')), go], true],
    ['no set', [go], false],
  ];
  for (const [what, options, expected] of cases) {
    const { others } = run(two, [option(8), ...options]);
    t.match(others, [{ kind: 'transmit', allocationContext: expected }], what);
  }
});

t.test('a server that requires TLS answers nothing else', async (t) => {
  for (const number of [3, 6, 7, 8, 9, 10, 11, 99]) {
    const { replies } = run(one, [option(number)], { tls: 'require' });
    t.same(types(replies), ['80000005'], `option ${number}`);
  }
  t.same(types(run(one, [option(2)], { tls: 'require' }).replies), ['1'], 'ABORT');
  const named = run(one, [option(1, Buffer.from('disk'))], { tls: 'require' });
  t.equal(named.others[0]?.kind, 'close', 'EXPORT_NAME');
  t.equal(named.raw.length, 0);
});

t.test('STARTTLS forgets what was negotiated in the clear', async (t) => {
  const machine = new Negotiation(one, 'allow');
  const clear = [u32(3), option(8), option(10, metaData('disk', ['base:allocation'])), option(5)];
  const before = run(one, clear, { machine });
  t.same(before.others, [{ kind: 'startTls' }]);
  machine.tlsStarted();
  const after = run(one, [option(5), option(7, infoData('disk'))], { machine });
  t.equal(types(after.replies)[0], '80000003', 'a second STARTTLS');
  t.match(after.others, [{ kind: 'transmit', mode: ReplyMode.SIMPLE, allocationContext: false }]);
});

t.test('bytes in the clear behind STARTTLS close the connection', async (t) => {
  const { others } = run(one, [option(5), option(3)], { tls: 'require' });
  t.same(
    others.map((action) => action.kind),
    ['startTls', 'close'],
  );
  const machine = new Negotiation(one, 'require');
  run(one, [u32(3), option(5)], { machine });
  t.match(run(one, [Buffer.from('x')], { machine }).others, [{ kind: 'close' }]);
});

t.test('a server that shuts down says so', async (t) => {
  const machine = new Negotiation(one, 'off');
  run(one, [u32(3), option(3)], { machine });
  machine.shutDown();
  t.same(types(run(one, [option(3), option(7, infoData(''))], { machine }).replies), [
    '80000007',
    '80000007',
  ]);
  t.same(types(run(one, [option(2)], { machine }).replies), ['1']);
});

/** Feeds bytes cut at the given places, offering again what was left, as the shell does. */
function feed(machine: Negotiation, bytes: Buffer, cuts: readonly number[]): string {
  let pending = Buffer.alloc(0);
  const said: unknown[] = [];
  const ends = [...cuts, bytes.length];
  let start = 0;
  for (const end of ends) {
    pending = Buffer.concat([pending, bytes.subarray(start, end)]);
    start = end;
    const { consumed, actions } = machine.receive(pending);
    pending = pending.subarray(consumed);
    for (const action of actions) {
      said.push(action.kind === 'send' ? Buffer.from(action.bytes).toString('hex') : action);
    }
  }
  return JSON.stringify(said);
}

t.test('however the bytes are cut, the answers are the same', async (t) => {
  const bytes = Buffer.concat([
    u32(3),
    option(3),
    option(99, Buffer.alloc(5)),
    option(8),
    option(6, Buffer.alloc(70_000)),
    option(10, metaData('disk', ['base:allocation'])),
    option(7, infoData('disk', [3])),
  ]);
  const whole = feed(new Negotiation(two, 'off'), bytes, []);
  for (let cut = 0; cut < bytes.length; cut += cut < 200 || cut > 70_100 ? 1 : 997) {
    if (feed(new Negotiation(two, 'off'), bytes, [cut]) !== whole) t.fail(`cut at ${cut}`);
  }
  const small = bytes.subarray(0, 100);
  const bytewise = Array.from(small.keys());
  t.equal(
    feed(new Negotiation(two, 'off'), small, bytewise),
    feed(new Negotiation(two, 'off'), small, []),
  );
});

t.test('any bytes give actions, no exception, and at most one ending', async () => {
  const anyOption = fc
    .tuple(fc.nat(13), fc.uint8Array({ maxLength: 40 }))
    .map(([number, data]) => option(number, data));
  const noise = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(
      fc.constantFrom<TlsPolicy>('off', 'allow', 'require'),
      fc.array(fc.oneof(anyOption, anyOption, noise), { maxLength: 40 }),
      (tls, parts) => {
        const machine = new Negotiation(two, tls);
        const { consumed, actions } = machine.receive(Buffer.concat([u32(3), ...parts]));
        const endings = actions.filter((a) => a.kind === 'close' || a.kind === 'transmit');
        const last = actions.at(-1);
        return (
          consumed >= 4 && endings.length <= 1 && (endings.length === 0 || endings[0] === last)
        );
      },
    ),
    { seed, numRuns: 3000 },
  );
});
