import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import {
  decodeControlReply,
  encodeControlRequest,
  type ControlRequest,
} from '../../peer/control.ts';
import { serveControl } from '../../peer/control-service.ts';
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
  t.equal(slabs.slabs.size, 0);
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
