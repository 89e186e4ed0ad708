/** Access control lists as they stand in extended attributes, and what they and the mode say of each other. */
import t from 'tap';
import {
  applyModeToAcl,
  formatAcl,
  inheritAcl,
  isEquivalentToMode,
  modeOfAcl,
  parseAcl,
} from '../../fuse-fs/acl.ts';
import { Random } from '../helpers/fuzz.ts';
import { aclValue } from '../helpers/acl-value.ts';

const NONE = 0xffff_ffff;
const MINIMAL = aclValue([1, 7, NONE], [4, 5, NONE], [0x20, 0, NONE]);
const FULL = aclValue(
  [1, 7, NONE],
  [2, 6, 1000],
  [2, 4, 1001],
  [4, 5, NONE],
  [8, 7, 100],
  [0x10, 6, NONE],
  [0x20, 4, NONE],
);

t.test(
  'the bytes are version 2, then tag, permissions and id of each entry, little endian',
  (t) => {
    const value = aclValue([1, 7, NONE], [4, 5, NONE], [0x20, 1, NONE]);
    t.equal(
      Buffer.from(value, 'latin1').toString('hex'),
      '02000000' + '01000700ffffffff' + '04000500ffffffff' + '20000100ffffffff',
    );
    t.same(parseAcl(value), {
      tags: [1, 4, 32],
      permissions: [7, 5, 1],
      ids: [NONE, NONE, NONE],
    });
    t.end();
  },
);

t.test('a valid list is read and written back as it was', (t) => {
  for (const value of [MINIMAL, FULL, aclValue()]) {
    const acl = parseAcl(value);
    t.ok(acl);
    t.equal(acl && formatAcl(acl), value);
  }
  t.end();
});

t.test('malformed lists are none', (t) => {
  const cases: Record<string, string> = {
    'no header': '',
    'half a header': '\x02\0',
    'version 1': `\x01${MINIMAL.slice(1)}`,
    'half an entry': MINIMAL.slice(0, -4),
    'no owner': aclValue([4, 5, NONE], [0x20, 0, NONE]),
    'no group': aclValue([1, 5, NONE], [0x20, 0, NONE]),
    'no others': aclValue([1, 5, NONE], [4, 0, NONE]),
    'owner twice': aclValue([1, 5, NONE], [1, 5, NONE], [4, 0, NONE], [0x20, 0, NONE]),
    'others before the group': aclValue([1, 5, NONE], [0x20, 0, NONE], [4, 0, NONE]),
    'a user and no mask': aclValue([1, 7, NONE], [2, 7, 5], [4, 5, NONE], [0x20, 0, NONE]),
    'a group and no mask': aclValue([1, 7, NONE], [4, 5, NONE], [8, 7, 5], [0x20, 0, NONE]),
    'a user without an id': aclValue(
      [1, 7, NONE],
      [2, 7, NONE],
      [4, 5, NONE],
      [0x10, 7, NONE],
      [0x20, 0, NONE],
    ),
    'a permission that there is not': aclValue([1, 8, NONE], [4, 5, NONE], [0x20, 0, NONE]),
    'a tag that there is not': aclValue([1, 7, NONE], [4, 5, NONE], [0x20, 0, NONE], [0x40, 0, 0]),
  };
  for (const [name, value] of Object.entries(cases)) t.equal(parseAcl(value), undefined, name);
  t.end();
});

t.test('any bytes are a list or none', (t) => {
  const random = new Random(5);
  for (let round = 0; round < 20_000; round += 1) {
    const value = random.mutate(Buffer.from(FULL, 'latin1')).toString('latin1');
    const acl = parseAcl(value);
    if (acl !== undefined && formatAcl(acl) !== value) t.fail(Buffer.from(value).toString('hex'));
  }
  t.end();
});

t.test('the group bits of the mode are the mask if there is one', (t) => {
  const minimal = parseAcl(MINIMAL)!;
  const full = parseAcl(FULL)!;
  t.equal(isEquivalentToMode(minimal), true);
  t.equal(isEquivalentToMode(full), false);
  t.equal(modeOfAcl(minimal, 0o104777), 0o104750);
  t.equal(modeOfAcl(full, 0o100000), 0o100764);
  applyModeToAcl(full, 0o642);
  t.equal(
    formatAcl(full),
    aclValue(
      [1, 6, NONE],
      [2, 6, 1000],
      [2, 4, 1001],
      [4, 5, NONE],
      [8, 7, 100],
      [0x10, 4, NONE],
      [0x20, 2, NONE],
    ),
  );
  applyModeToAcl(minimal, 0o642);
  t.equal(formatAcl(minimal), aclValue([1, 6, NONE], [4, 4, NONE], [0x20, 2, NONE]));
  t.end();
});

t.test('a new file has what both the default list and its maker allow', (t) => {
  const full = parseAcl(FULL)!;
  t.equal(inheritAcl(full, 0o100640), 0o100640);
  t.equal(
    formatAcl(full),
    aclValue(
      [1, 6, NONE],
      [2, 6, 1000],
      [2, 4, 1001],
      [4, 5, NONE],
      [8, 7, 100],
      [0x10, 4, NONE],
      [0x20, 0, NONE],
    ),
  );
  const minimal = parseAcl(MINIMAL)!;
  t.equal(inheritAcl(minimal, 0o042777), 0o042750);
  t.end();
});
