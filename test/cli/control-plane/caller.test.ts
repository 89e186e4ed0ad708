/** How admin commands name members and read listings (cli/control-plane/caller.ts). */
import t from 'tap';
import { ControlCaller } from '../../../cli/control-plane/caller.ts';
import { fingerprintOf } from '../../../common/fingerprint.ts';
import type { MemcloudClient } from '../../../sdk/client.ts';

function callerOf(answer: (call: string, params: object) => unknown): ControlCaller {
  const client = {
    call: async (_method: string, { call, params }: { call: string; params: object }) =>
      answer(call, params),
  };
  return new ControlCaller(client as unknown as MemcloudClient);
}

t.test('a key is taken as it is, a name is looked up, and has to be one', (t) => {
  const caller = callerOf(() => null);
  const [one, two, three] = ['11', '22', '33'].map((digits) => digits.repeat(16));
  const rows = [
    { nodeId: one ?? '', name: 'alpha' },
    { nodeId: two ?? '', name: 'twin' },
    { nodeId: three ?? '', name: 'Twin' },
    { nodeId: '', name: 'absent' },
  ];
  t.equal(caller.keyOf('ALPHA', rows), one);
  t.equal(caller.keyOf('44'.repeat(16), rows), '44'.repeat(16), 'the control plane knows best');
  const words = fingerprintOf('44'.repeat(16));
  t.equal(caller.keyOf(` ${words.toUpperCase()} `, rows), words);
  t.throws(() => caller.keyOf('twin', rows), { code: 'ERR_USAGE' });
  for (const nobody of ['beta', 'absent', '']) {
    t.throws(() => caller.keyOf(nobody, rows), { code: 'ERR_PEER_UNKNOWN' }, nobody);
  }
  t.end();
});

t.test('a listing is read page by page, and one without an end is given up', async (t) => {
  const asked: object[] = [];
  const caller = callerOf((call, params) => {
    asked.push({ call, ...params });
    const { cursor } = params as { cursor?: string };
    return cursor === undefined ? { rows: [1, 2], cursor: 'b' } : { rows: [3], cursor: null };
  });
  t.same(await caller.all('lease.list', { all: true }), [1, 2, 3]);
  t.same(asked, [
    { call: 'lease.list', all: true, countMax: 500 },
    { call: 'lease.list', all: true, cursor: 'b', countMax: 500 },
  ]);
  const endless = callerOf(() => ({ rows: [], cursor: 'x' }));
  await t.rejects(endless.all('admin.members'), { code: 'ERR_CONTROL_PROTOCOL' });
});
