/** Time goes to the stage of the function that ran, or of who called it, within a window. */
import t from 'tap';
import {
  largest,
  parseCpuProfile,
  sumProfile,
  type CpuProfile,
} from '../../../bench/limits/cpu-profile.ts';
import { stageOf, STAGE_ROWS } from '../../../bench/limits/stages.ts';

const EVER = { startUs: 0, endUs: Infinity };
const frame = (functionName: string, url = '') => ({
  ...{ functionName, url },
  ...{ lineNumber: 0, columnNumber: 0 },
});

/** root -> (idle) | write -> native -> deeper; root -> read -> native */
const PROFILE: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 3, 6] },
    { id: 2, callFrame: frame('(idle)') },
    { id: 3, callFrame: frame('write', 'file:///x/dist/write.js'), children: [4] },
    { id: 4, callFrame: frame('native'), children: [5] },
    { id: 5, callFrame: frame('deeper') },
    { id: 6, callFrame: frame('read', 'file:///x/dist/read.js'), children: [7] },
    { id: 7, callFrame: frame('native') },
  ],
  startTime: 1000,
  endTime: 1100,
  samples: [2, 3, 4, 5, 7, 1],
  timeDeltas: [10, 10, 20, 30, 5, 7],
};

function stage({ functionName, url }: { functionName: string; url: string }): string | undefined {
  if (functionName === '(idle)') return 'idle';
  return url === '' ? undefined : functionName;
}

t.test('native time goes to the caller, through any number of them', async (t) => {
  const { stages, functions, sampleCount } = sumProfile(PROFILE, EVER, stage);
  // A sample lasts until the next one: idle 10, write 20, native 30, deeper 5, native under read 7.
  t.same(Object.fromEntries(stages), { idle: 10, write: 20 + 30 + 5, read: 7, other: 0 });
  t.equal(functions.get('native'), 37, 'of both callers');
  t.equal(functions.get('write write.js'), 20, 'named by its file of ours');
  t.equal(sampleCount, 6);
  t.same(largest(functions, 2), [
    ['native', 37],
    ['write write.js', 20],
  ]);
});

t.test('what is outside the window is not counted', async (t) => {
  const window = { startUs: 1020, endUs: 1070 };
  t.same(Object.fromEntries(sumProfile(PROFILE, window, stage).stages), { write: 50 });
});

t.test('a sample that came before the one before it takes nothing away', async (t) => {
  const profile = { ...PROFILE, timeDeltas: [10, 10, -5, 30, 5, 7] };
  t.equal(sumProfile(profile, EVER, stage).stages.get('write'), 0 + 30 + 5);
});

t.test('what is no profile is refused', async (t) => {
  t.throws(() => parseCpuProfile('{'), /expected JSON/);
  t.throws(() => parseCpuProfile('{"nodes":[],"startTime":1,"endTime":2}'), RangeError);
  const short = { ...PROFILE, timeDeltas: [1] };
  t.throws(() => parseCpuProfile(JSON.stringify(short)), /as many time deltas/);
  t.same(parseCpuProfile(JSON.stringify(PROFILE)), PROFILE);
});

t.test('files of ours, of Node and native functions have their stages', async (t) => {
  const ours = (file: string) => stageOf(frame('f', `file:///somewhere/dist/${file}`));
  t.equal(ours('nbd-server/session.js'), 'NBD request and reply');
  t.equal(ours('tier/seal.js'), 'page sealed or opened');
  t.equal(ours('tier/page-map.js'), 'volume: page map, ring, requests');
  t.equal(ours('tier/write-back.js'), 'calls to the provider');
  t.equal(ours('peer/record-cipher.js'), 'record sealed or opened');
  t.equal(ours('peer/session.js'), 'session: messages, records');
  t.equal(ours('provider/ram-store.js'), 'provider: lease, slab');
  t.equal(ours('common/byte-stream.js'), 'byte stream');
  t.equal(ours('common/aead.js'), undefined, 'the cipher belongs to who seals');
  t.equal(ours('common/libc.js'), undefined);
  t.equal(ours('daemon/wire.js'), 'other');
  t.equal(stageOf(frame('emit', 'node:events')), 'node: streams, ticks');
  const copy = frame('copyMemory', 'file:///x/dist/common/libc.js');
  t.equal(stageOf(copy), 'copy (memcpy)', 'a foreign function has no frame of its own');
  t.equal(stageOf(frame('writev')), 'socket write (system call)');
  t.equal(stageOf(frame('now')), undefined, 'a native function belongs to its caller');
  t.equal(stageOf(frame('(garbage collector)')), 'garbage collection');
});

t.test('each stage that a function can have has its row', async (t) => {
  const rows = STAGE_ROWS.map(({ stage: name }) => name);
  const files = ['nbd-server/a.js', 'tier/a.js', 'tier/fill.js', 'tier/seal.js', 'peer/a.js'];
  const more = ['tier/write-back.js', 'peer/record-cipher.js', 'provider/a.js', 'daemon/a.js'];
  const used = [...files, ...more, 'common/byte-stream.js', 'common/event-loop-spin.js'].map(
    (file) => stageOf(frame('f', `file:///x/dist/${file}`)),
  );
  const native = ['writev', '(garbage collector)'].map((name) => stageOf(frame(name)));
  for (const name of [...used, ...native]) t.ok(rows.includes(name ?? ''), `${name}`);
});
