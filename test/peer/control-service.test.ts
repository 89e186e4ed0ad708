import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  decodeControlReply,
  encodeControlRequest,
  type ControlRequest,
} from '../../peer/control.ts';
import { serveControl } from '../../peer/control-service.ts';
import { MemoryDirect } from '../helpers/memory-direct.ts';
import { MemorySlabs } from '../helpers/memory-slabs.ts';

const LEASE: ControlRequest = { method: 'lease', pageCount: 2, ttlMs: 1000 };

t.test('lease, renew, release and usage act on the leases of the holder alone', async (t) => {
  const slabs = new MemorySlabs(2 ** 20);
  const [mine, other] = [slabs.openAccess('mine'), slabs.openAccess('other')];
  const ask = (access: typeof mine, request: ControlRequest): Record<string, unknown> => {
    const reply = decodeControlReply(
      serveControl({ slabs: access, direct: undefined }, encodeControlRequest(request)),
    );
    return reply.ok ? { ok: true, ...reply.fields } : { ...reply };
  };
  const granted = ask(mine, LEASE);
  t.match(granted, { ok: true, leaseId: /^[0-9a-f]{16}$/, slabHandle: 1, ttlMs: 1000 });
  const leaseId = String(granted['leaseId']);
  t.same(ask(mine, { method: 'renew', leaseIds: [leaseId], ttlMs: 5 })['unknown'], []);
  t.same(ask(other, { method: 'renew', leaseIds: [leaseId], ttlMs: 5 })['unknown'], [leaseId]);
  t.match(ask(other, { method: 'release', leaseId }), { ok: false, code: 'ERR_LEASE_UNKNOWN' });
  t.match(ask(mine, { method: 'usage' }), { usage: { usedBytes: 8224, leaseCount: 1 } });
  t.match(ask(mine, { method: 'release', leaseId }), { ok: true });
  t.equal(slabs.book.slabs.size, 0);
  slabs.free();
});

t.test('refusals travel as their code, defects as ERR_INTERNAL', async (t) => {
  const codes: Record<string, unknown> = {
    ERR_LEASE_CAPACITY: new MemcloudError('ERR_LEASE_CAPACITY', 'full'),
    ERR_LEASE_INVALID: new MemcloudError('ERR_LEASE_INVALID', 'no'),
    ERR_INTERNAL: new TypeError('x is not a function'),
  };
  for (const [code, error] of Object.entries(codes)) {
    const access = new MemorySlabs(0).openAccess('x');
    access.lease = () => {
      throw error;
    };
    t.match(
      decodeControlReply(
        serveControl({ slabs: access, direct: undefined }, encodeControlRequest(LEASE)),
      ),
      {
        ok: false,
        code,
      },
    );
  }
  t.match(
    decodeControlReply(
      serveControl({ slabs: undefined, direct: undefined }, encodeControlRequest(LEASE)),
    ),
    {
      ok: false,
      code: 'ERR_LEASE_CAPACITY',
    },
  );
});

t.test('what is no request is thrown, not answered', async (t) => {
  t.throws(() => serveControl({ slabs: undefined, direct: undefined }, Buffer.from([0x80])), {
    code: 'ERR_PEER_PROTOCOL',
  });
});

t.test(
  'direct exports are opened, shown, ticketed, renewed and closed for their holder',
  async (t) => {
    const provider = new MemoryDirect();
    const ask = (holder: string, request: ControlRequest): Record<string, unknown> => {
      const access = { slabs: undefined, direct: provider.openDirect(holder) };
      const reply = decodeControlReply(serveControl(access, encodeControlRequest(request)));
      return reply.ok ? { ok: true, ...reply.fields } : { ...reply };
    };
    const opened = ask('mine', { method: 'direct-open', sizeBytes: 8192, ttlMs: 5000 });
    const described = { sizeBytes: 8192, residentBytes: 0, connected: false, ttlMs: 5000 };
    t.match(opened, { ok: true, export: { exportId: /^[0-9a-f]{16}$/, ...described } });
    const { exportId } = opened['export'] as { exportId: string };
    t.match(ask('mine', { method: 'direct-list' }), { exports: [{ exportId, ...described }] });
    t.same(ask('other', { method: 'direct-list' })['exports'], []);
    const consumerNonce = '11'.repeat(32);
    t.match(ask('mine', { method: 'direct-ticket', exportId, consumerNonce }), {
      ok: true,
      ticketId: /^[0-9a-f]{32}$/,
      secret: /^[0-9a-f]{64}$/,
      port: 7070,
    });
    const unknown = { ok: false, code: 'ERR_LEASE_UNKNOWN' };
    t.match(ask('other', { method: 'direct-ticket', exportId, consumerNonce }), unknown);
    t.same(ask('mine', { method: 'direct-renew', exportIds: [exportId] })['unknown'], []);
    t.same(ask('other', { method: 'direct-renew', exportIds: [exportId] })['unknown'], [exportId]);
    t.match(ask('other', { method: 'direct-close', exportId }), unknown);
    t.match(ask('mine', { method: 'direct-close', exportId }), { ok: true });
    t.match(ask('mine', { method: 'direct-close', exportId }), unknown);
    t.match(ask('mine', { method: 'direct-open', sizeBytes: 4095, ttlMs: 5000 }), {
      ok: false,
      code: 'ERR_LEASE_INVALID',
    });
  },
);

t.test('a holder with more exports than a reply may carry is shown 64', async (t) => {
  const direct = new MemoryDirect().openDirect('mine');
  for (let count = 0; count < 65; count += 1) direct.open({ sizeBytes: 4096, ttlMs: 5000 });
  const body = encodeControlRequest({ method: 'direct-list' });
  const reply = decodeControlReply(serveControl({ slabs: undefined, direct }, body));
  t.equal(reply.ok && (reply.fields['exports'] as unknown[]).length, 64);
});

t.test('a node that serves no direct exports says so, whatever it lends', async (t) => {
  const slabs = new MemorySlabs(0).openAccess('x');
  const requests: ControlRequest[] = [
    { method: 'direct-open', sizeBytes: 8192, ttlMs: 5000 },
    { method: 'direct-ticket', exportId: '0'.repeat(16), consumerNonce: '0'.repeat(64) },
    { method: 'direct-renew', exportIds: [] },
    { method: 'direct-close', exportId: '0'.repeat(16) },
    { method: 'direct-list' },
  ];
  for (const request of requests) {
    const body = encodeControlRequest(request);
    const reply = decodeControlReply(serveControl({ slabs, direct: undefined }, body));
    t.match(reply, { ok: false, code: 'ERR_UNSUPPORTED' }, request.method);
  }
});

t.test(
  'the managed lease that a request names comes to the provider, and none is made up',
  async (t) => {
    const under = 'ab'.repeat(16);
    const asked: object[] = [];
    const slabs = new MemorySlabs(2 ** 20);
    const access = slabs.openAccess('holder');
    access.lease = (request) => {
      asked.push(request);
      return { leaseId: '0123456789abcdef', slabHandle: 1, ttlMs: request.ttlMs };
    };
    const direct = new MemoryDirect().openDirect('holder');
    direct.open = (request) => {
      asked.push(request);
      throw new MemcloudError('ERR_LEASE_UNKNOWN', 'no such managed lease');
    };
    const opening = { method: 'direct-open', sizeBytes: 4096, ttlMs: 1 } as const;
    const requests: ControlRequest[] = [{ ...LEASE, under }, LEASE, { ...opening, under }, opening];
    const replies = requests.map((request) =>
      decodeControlReply(serveControl({ slabs: access, direct }, encodeControlRequest(request))),
    );
    t.strictSame(asked, [
      { pageCount: 2, ttlMs: 1000, under },
      { pageCount: 2, ttlMs: 1000 },
      { sizeBytes: 4096, ttlMs: 1, under },
      { sizeBytes: 4096, ttlMs: 1 },
    ]);
    t.match(replies, [{ ok: true }, { ok: true }, { code: 'ERR_LEASE_UNKNOWN' }, { ok: false }]);
    slabs.free();
  },
);
