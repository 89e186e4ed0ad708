import t from 'tap';
import {
  ClientNegotiation,
  type NegotiationOutcome,
  type NegotiationRequest,
} from '../../../nbd-server/client/negotiation.ts';

const GREETING = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
const GREETING_WITH_ZEROES = Buffer.from('4e42444d4147494349484156454f50540001', 'hex');
const [ACK, SERVER, INFO, META] = [1, 2, 3, 4];
const [UNSUP, POLICY, UNKNOWN, TLS_REQD] = [0x8000_0001, 0x8000_0002, 0x8000_0006, 0x8000_0005];

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** An option reply. */
function reply(option: number, type: number, ...data: Buffer[]): Buffer {
  const body = Buffer.concat(data);
  const magic = Buffer.from('0003e889045565a9', 'hex');
  return Buffer.concat([magic, u32(option), u32(type), u32(body.length), body]);
}

const exportInfo = reply(7, INFO, u16(0), u64(65536), u16(0x105));

function request(change: Partial<NegotiationRequest> = {}): NegotiationRequest {
  return {
    goal: 'go',
    exportName: 'disk',
    headerStyle: 'simple',
    allocationContext: false,
    ...change,
  };
}

/** Plays the server's bytes; returns what the client sent, cut into options, and the outcome. */
function play(
  wanted: NegotiationRequest,
  ...script: Buffer[]
): { options: number[]; sent: Buffer; outcome: NegotiationOutcome | undefined; unread: number } {
  const negotiation = new ClientNegotiation(wanted);
  let bytes = Buffer.concat(script);
  const sent: Buffer[] = [];
  let outcome: NegotiationOutcome | undefined;
  while (negotiation.wantedBytes > 0 && bytes.length >= negotiation.wantedBytes) {
    const length = negotiation.wantedBytes;
    const step = negotiation.receive(bytes.subarray(0, length));
    bytes = bytes.subarray(length);
    sent.push(step.send);
    outcome ??= step.outcome;
  }
  const all = Buffer.concat(sent);
  const options: number[] = [];
  for (let at = 4; at < all.length; at += 16 + all.readUInt32BE(at + 12)) {
    options.push(all.readUInt32BE(at + 8));
  }
  return { options, sent: all, outcome, unread: bytes.length };
}

t.test('the kernel’s negotiation: simple replies, one GO, not a byte read beyond', async (t) => {
  const blockSize = reply(7, INFO, u16(3), u32(512), u32(4096), u32(2 ** 25));
  const transmission = Buffer.from('the first reply');
  const script = [GREETING, exportInfo, blockSize, reply(7, ACK), transmission];
  const { options, sent, outcome, unread } = play(request(), ...script);
  t.same(options, [7]);
  t.equal(sent.readUInt32BE(0), 3, 'fixed newstyle and no zeroes');
  t.equal(unread, 'the first reply'.length);
  t.same(outcome, {
    goal: 'go',
    export: {
      sizeBytes: 65536,
      transmissionFlags: 0x105,
      blockSize: { minimum: 512, preferred: 4096, maximumPayload: 2 ** 25 },
      description: '',
      headerStyle: 'simple',
      allocationContextId: undefined,
    },
  });
});

t.test('wishes are asked for in order and their refusal is lived with', async (t) => {
  const wishes = request({ headerStyle: 'extended', allocationContext: true });
  const go = [exportInfo, reply(7, ACK)];
  const context = reply(10, META, u32(5), Buffer.from('base:allocation'));
  const cases: [string, Buffer[], number[], string, number | undefined][] = [
    ['all granted', [reply(11, ACK), context, reply(10, ACK), ...go], [11, 10, 7], 'extended', 5],
    [
      'no extended headers',
      [reply(11, UNSUP), reply(8, ACK), context, reply(10, ACK), ...go],
      [11, 8, 10, 7],
      'structured',
      5,
    ],
    ['neither', [reply(11, UNSUP), reply(8, UNSUP), ...go], [11, 8, 7], 'simple', undefined],
    [
      'no such context',
      [reply(11, ACK), reply(10, ACK), ...go],
      [11, 10, 7],
      'extended',
      undefined,
    ],
    [
      'context refused after it was named',
      [reply(11, ACK), context, reply(10, POLICY), ...go],
      [11, 10, 7],
      'extended',
      undefined,
    ],
  ];
  for (const [name, script, options, headerStyle, allocationContextId] of cases) {
    const played = play(wishes, GREETING, ...script);
    t.same(played.options, options, name);
    t.match(played.outcome, { export: { headerStyle, allocationContextId } }, name);
  }
});

t.test('a server without GO is asked by EXPORT_NAME', async (t) => {
  const size = Buffer.concat([u64(8192), u16(3)]);
  const short = play(request(), GREETING, reply(7, UNSUP), size, Buffer.alloc(4));
  t.same(short.options, [7, 1]);
  t.match(short.outcome, { export: { sizeBytes: 8192, transmissionFlags: 3 } });
  t.equal(short.unread, 4);
  const long = play(
    request(),
    GREETING_WITH_ZEROES,
    reply(7, UNSUP),
    size,
    Buffer.alloc(124),
    Buffer.alloc(4),
  );
  t.equal(long.sent.readUInt32BE(0), 1, 'no zeroes is not asked of a server that cannot');
  t.match(long.outcome, { export: { sizeBytes: 8192 } });
  t.equal(long.unread, 4, 'the 124 zero bytes belong to the negotiation');
});

t.test('LIST and INFO end with ABORT', async (t) => {
  const listed = play(
    request({ goal: 'list' }),
    GREETING,
    reply(3, SERVER, u32(1), Buffer.from('a')),
    reply(3, SERVER, u32(1), Buffer.from('b, said')),
    reply(3, ACK),
  );
  t.same(listed.options, [3, 2]);
  t.same(listed.outcome, {
    goal: 'list',
    exports: [
      { name: 'a', description: '' },
      { name: 'b', description: ', said' },
    ],
  });
  const info = reply(6, INFO, u16(0), u64(4096), u16(1));
  const text = reply(6, INFO, u16(2), Buffer.from('a disk\n'));
  const inspected = play(request({ goal: 'info' }), GREETING, info, text, reply(6, ACK));
  t.same(inspected.options, [6, 2]);
  t.match(inspected.outcome, { goal: 'info', export: { sizeBytes: 4096, description: 'a disk ' } });
});

t.test('refusals are typed and keep the server’s words', async (t) => {
  t.throws(() => play(request(), GREETING, reply(7, UNKNOWN, Buffer.from('no\nsuch'))), {
    code: 'ERR_NBD_EXPORT_UNKNOWN',
    message: /"disk"; it said: no such/,
  });
  t.throws(() => play(request(), GREETING, reply(7, TLS_REQD)), {
    code: 'ERR_NBD_OPTION',
    message: /NBD_OPT_GO with NBD_REP_ERR_TLS_REQD/,
  });
  t.throws(() => play(request({ goal: 'list' }), GREETING, reply(3, POLICY)), {
    code: 'ERR_NBD_OPTION',
    message: /NBD_OPT_LIST with NBD_REP_ERR_POLICY/,
  });
});

t.test('what no server may send is a protocol error', async (t) => {
  const structured = request({ headerStyle: 'structured', allocationContext: true });
  const cases: Record<string, () => unknown> = {
    'not fixed newstyle': () =>
      play(request(), Buffer.from('4e42444d4147494349484156454f50540000', 'hex')),
    'reply to another option': () => play(request(), GREETING, reply(6, ACK)),
    'ACK of GO without the size': () => play(request(), GREETING, reply(7, ACK)),
    'unknown reply type': () => play(request(), GREETING, reply(7, 9)),
    'LIST reply to GO': () => play(request(), GREETING, reply(7, SERVER, u32(0))),
    'INFO reply to STRUCTURED_REPLY': () =>
      play(structured, GREETING, reply(8, INFO, u16(0), u64(1), u16(1))),
    'a context that was not asked for': () =>
      play(structured, GREETING, reply(8, ACK), reply(10, META, u32(1), Buffer.from('qemu:x'))),
    'data of 16 KiB and one byte': () =>
      play(request(), GREETING, reply(7, UNSUP).fill(0, 16).fill(0x40, 18, 19).fill(1, 19)),
    '65 replies to GO': () => play(request(), GREETING, ...new Array<Buffer>(65).fill(exportInfo)),
    '4097 exports': () =>
      play(
        request({ goal: 'list' }),
        GREETING,
        ...new Array<Buffer>(4097).fill(reply(3, SERVER, u32(0))),
      ),
  };
  for (const [name, run] of Object.entries(cases)) {
    t.throws(run, { code: 'ERR_NBD_PROTOCOL' }, name);
  }
});

t.test('handing in other bytes than wanted is our own bug', async (t) => {
  const negotiation = new ClientNegotiation(request());
  t.throws(() => negotiation.receive(Buffer.alloc(17)), { code: 'ERR_INTERNAL' });
});
