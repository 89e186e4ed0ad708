/** Files of /proc are read by their fields, whatever a process calls itself. */
import t from 'tap';
import {
  parseAvailableBytes,
  parseCpuTicks,
  parseProcessMemory,
  parseProcessTicks,
  parseSchedstat,
  parseUsedTicks,
} from '../../bench/proc-parse.ts';

t.test('ticks of the machine count guest time once', async (t) => {
  const text = 'cpu  100 5 20 800 30 1 2 4 50 6\ncpu0 1 2 3 4 5 6 7 8 9 10\n';
  t.same(parseCpuTicks(text), { total: 962, idle: 830 });
  t.throws(() => parseCpuTicks('intr 5'), RangeError);
});

t.test('ticks of a process', async (t) => {
  const rest = 'S 1 2 2 0 -1 4194304 5000 0 3 0 321 45 7 8 20 0 11 0 99 1000 200';
  t.equal(parseProcessTicks(`42 (node) ${rest}`), 366);
  t.equal(parseProcessTicks(`42 (a) R 9 (b) ${rest}`), 366, 'parentheses in the name');
  t.throws(() => parseProcessTicks('42 (node) S 1'), RangeError);
  t.same(parseUsedTicks(`42 (a) R 9 (b) ${rest}`), { user: 321, system: 45 });
});

t.test('time that a thread ran and waited', async (t) => {
  t.same(parseSchedstat('123456 789 12\n'), { runNs: 123456, waitNs: 789 });
  t.throws(() => parseSchedstat('1 2'), RangeError);
});

t.test('memory of a process', async (t) => {
  const rollup = [
    '5653faa84000-7fffc9a24000 ---p 00000000 00:00 0   [rollup]',
    'Rss:                1752 kB',
    'Pss:                 328 kB',
    'Pss_Dirty:           112 kB',
    'Pss_Anon:            112 kB',
    'Pss_File:            216 kB',
    'Pss_Shmem:             8 kB',
    '',
  ].join('\n');
  const status = 'Name:\tnode\nVmPTE:\t      44 kB\n';
  t.same(parseProcessMemory(rollup, status), {
    anonymousBytes: 112 * 1024,
    shmemBytes: 8 * 1024,
    pageTableBytes: 44 * 1024,
  });
  t.throws(() => parseProcessMemory('', status), /expected a line "Pss_Anon: N kB"/);
});

t.test('available memory', async (t) => {
  t.equal(parseAvailableBytes('MemTotal: 9 kB\nMemAvailable:    4 kB\n'), 4096);
});
