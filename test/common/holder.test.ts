import t from 'tap';
import { directHolder, holderParts, isLaneName, sessionHolder } from '../../common/holder.ts';

const NODE = '0123456789abcdef0123456789abcdef';

t.test(
  'a holder is a node, a lane of it or a direct export of it, and each comes apart',
  async (t) => {
    t.equal(sessionHolder(NODE, ''), NODE);
    t.equal(sessionHolder(NODE, 'm-1'), `${NODE}/m-1`);
    t.equal(directHolder(NODE, 'cafe'), `${NODE}/direct/cafe`);
    t.same(holderParts(NODE), { nodeId: NODE, lane: '', direct: false });
    t.same(holderParts(`${NODE}/m-1`), { nodeId: NODE, lane: 'm-1', direct: false });
    t.same(holderParts(`${NODE}/direct/cafe`), { nodeId: NODE, lane: '', direct: true });
  },
);

t.test('no lane passes for a direct export', async (t) => {
  t.same(holderParts(sessionHolder(NODE, 'direct')), {
    nodeId: NODE,
    lane: 'direct',
    direct: false,
  });
});

t.test('lanes are 1 to 32 of a-z, 0-9 and dashes', async (t) => {
  for (const good of ['a', '0', '-', 'a'.repeat(32)]) t.ok(isLaneName(good), good);
  const bad = ['', 'a'.repeat(33), 'A', 'a/b', 'a b', 'a\n', 'é', undefined, null, 1, ['a']];
  for (const each of bad) t.notOk(isLaneName(each), JSON.stringify(each));
});
