import t from 'tap';
import { describeMount, mountHealth, type MountFacts } from '../../../daemon/mounts/describe.ts';

const FACTS: MountFacts = {
  request: {
    ...{ directory: '/mnt/a', volumeName: 'a', sizeBytes: 2 ** 30, copies: 2 },
    ...{ ringSizeBytes: 1, providers: undefined, overcommit: false, keep: true },
    ...{ allowOther: true, profile: 'default', transport: 'kernel', uid: 0, gid: 0, mode: 0 },
  },
  state: 'mounted',
  status: {
    ...{ directory: '/mnt/a', volumeName: 'a', sizeBytes: 2 ** 30, copies: 2, pid: 7 },
    ...{ usedBytes: 5, inodeCount: 6, metadataBytes: 8, leasedBytes: 9, degradedSlabs: 0 },
    ...{ providers: [], damagedFiles: [], damagedFileCount: 0, requestCount: 3 },
    transport: 'kernel',
  },
  reason: '',
  pid: 7,
};

t.test('the row of each state', async (t) => {
  for (const [state, answered, row] of [
    ['mounted', true, { state: 'mounted', directory: '/mnt/a', reason: '', usedBytes: 5 }],
    ['mounted', false, { state: 'silent', reason: 'its process 7 does not answer (stopped?)' }],
    ['kept', true, { state: 'kept', directory: '' }],
    ['kept', false, { state: 'silent', directory: '' }],
    ['starting', false, { state: 'starting', reason: '' }],
    ['remounting', true, { state: 'starting' }],
  ] as const) {
    t.match(describeMount({ ...FACTS, state }, answered), row, state);
  }
  const dead = { ...FACTS, state: 'dead', reason: 'it died' } as const;
  t.match(describeMount(dead, true), { state: 'dead', reason: 'it died', usedBytes: 5 });
  const unknown = { ...FACTS, status: undefined };
  t.match(describeMount(unknown, true), { usedBytes: 0, providers: [], transport: 'kernel' });
});

t.test('what is not well, in sentences', async (t) => {
  const well = describeMount(FACTS, true);
  t.strictSame(mountHealth([well]), []);
  t.strictSame(mountHealth([{ ...well, state: 'dead', reason: 'it died' }]), [
    'mount /mnt/a: it died',
  ]);
  const damaged = { ...well, damagedFileCount: 1, damagedFiles: ['/mnt/a/x'] };
  t.match(mountHealth([damaged]), [/has lost bytes of a file, \/mnt\/a\/x among them/]);
  t.match(mountHealth([{ ...damaged, damagedFileCount: 7 }]), [/of 7 files/]);
  t.strictSame(mountHealth([{ ...well, directory: '', degradedSlabs: 2 }]), [
    'kept files a: at most 32 MiB have fewer copies than promised',
  ]);
});
