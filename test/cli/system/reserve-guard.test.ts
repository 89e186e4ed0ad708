/** The guard over files that look like a control group: what it writes, when it ends, what it costs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import t, { type Test } from 'tap';
import {
  ReserveGuard,
  defaultReserveBytes,
  groupMinimumBytes,
} from '../../../cli/system/reserve-guard.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

interface Group {
  directory: string;
  meminfo: string;
  set: (currentMib: number, freeMib: number) => void;
  high: () => number;
}

function group(t: Test): Group {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'guard-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  const meminfo = path.join(directory, 'meminfo');
  const set = (currentMib: number, freeMib: number): void => {
    fs.writeFileSync(path.join(directory, 'memory.current'), `${currentMib * MIB}\n`);
    const kilobytes = String(freeMib * 1024).padStart(8);
    fs.writeFileSync(meminfo, `MemFree: ${kilobytes} kB\nMemAvailable: ${kilobytes} kB\n`);
  };
  const high = (): number =>
    parseInt(fs.readFileSync(path.join(directory, 'memory.high'), 'utf8'), 10) / MIB;
  return { directory, meminfo, set, high };
}

function guardOf(t: Test, { directory, meminfo }: Group): ReserveGuard {
  const sizes = { reserveBytes: 48 * MIB, maximumBytes: 400 * MIB };
  const registerFolder = path.join(directory, 'guards');
  const guard = new ReserveGuard({ directory, meminfo, registerFolder, ...sizes });
  t.teardown(() => guard.stop());
  return guard;
}

t.test('the limit is there before the first program is', (t) => {
  const files = group(t);
  files.set(0, 1000);
  guardOf(t, files);
  t.equal(files.high(), 400, 'room for everything');
  files.set(0, 148);
  guardOf(t, files);
  t.equal(files.high(), 98.5, 'what is free, less the reserve and the band');
  t.end();
});

t.test('the limit follows what is free, and the report says what was seen', (t) => {
  const files = group(t);
  files.set(100, 1000);
  const guard = guardOf(t, files);
  files.set(100, 60);
  guard.tick();
  t.equal(files.high(), 110.5);
  files.set(110, 50);
  guard.tick();
  t.equal(files.high(), 110.5, 'within the band');
  files.set(110, 30);
  guard.tick();
  t.equal(files.high(), 102, 'a squeeze, a step at a time');
  files.set(16, 10);
  for (let tick = 0; tick < 20; tick += 1) guard.tick();
  t.equal(files.high(), 50, 'an eighth of its limit is left');
  const { ticks, starvedTicks, lowestMemFreeBytes, lowestFreeBytes } = guard.report;
  t.equal(ticks, 24);
  t.equal(starvedTicks, 20);
  t.equal(lowestMemFreeBytes, 10 * MIB);
  t.equal(lowestFreeBytes, 10 * MIB);
  t.end();
});

t.test('a group above its limit is asked again while the machine is short', (t) => {
  const files = group(t);
  files.set(100, 20);
  const guard = guardOf(t, files);
  const before = guard.report.adjustments;
  guard.tick();
  guard.tick();
  t.equal(guard.report.adjustments, before + 2);
  files.set(100, 49);
  guard.tick();
  t.equal(guard.report.adjustments, before + 2, 'not when it is not');
  t.end();
});

t.test('guards of other processes get their part', (t) => {
  const files = group(t);
  const others = path.join(files.directory, 'guards');
  fs.mkdirSync(others);
  fs.writeFileSync(path.join(others, String(process.ppid)), '');
  fs.writeFileSync(path.join(others, '999999999'), '');
  files.set(0, 248);
  const guard = guardOf(t, files);
  t.equal(files.high(), 99.25, 'half of the room');
  t.same(fs.readdirSync(others).sort(), [process.pid, process.ppid].map(String).sort());
  guard.stop();
  t.same(fs.readdirSync(others), [String(process.ppid)], 'the entry goes with the guard');
  t.end();
});

t.test('a group that disappears ends its guard, once and in silence', async (t) => {
  const files = group(t);
  files.set(100, 1000);
  // A file that reads as an error once its owner is gone, as those of control groups do.
  const owner = spawn('sleep', ['60']);
  fs.rmSync(path.join(files.directory, 'memory.current'));
  fs.symlinkSync(`/proc/${owner.pid}/oom_score`, path.join(files.directory, 'memory.current'));
  const guard = guardOf(t, files);
  let gone = 0;
  guard.onGone = () => (gone += 1);
  guard.tick();
  t.equal(gone, 0);
  owner.kill('SIGKILL');
  await once(owner, 'close');
  guard.tick();
  guard.tick();
  t.equal(gone, 1);
  t.throws(() => guardOf(t, files), { code: 'ERR_NATIVE' }, 'and it has none anew');
});

t.test('without its files there is no guard', (t) => {
  const files = group(t);
  t.throws(() => guardOf(t, files), { code: 'ERR_NATIVE', message: /cannot guard/ });
  t.end();
});

t.test('the timer looks by itself until it is stopped', async (t) => {
  const files = group(t);
  files.set(100, 1000);
  const guard = guardOf(t, files);
  guard.start();
  const endMs = performance.now() + 10_000;
  while (guard.report.ticks < 4 && performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.ok(guard.report.ticks >= 4);
  guard.stop();
  guard.stop();
  const { ticks } = guard.report;
  guard.tick();
  t.equal(guard.report.ticks, ticks, 'a stopped guard looks no more');
});

t.test('a tick makes next to nothing', async (t) => {
  const files = group(t);
  files.set(100, 1000);
  const guard = guardOf(t, files);
  let collections = 0;
  const observer = new PerformanceObserver((list) => (collections += list.getEntries().length));
  observer.observe({ entryTypes: ['gc'] });
  for (let tick = 0; tick < 20_000; tick += 1) guard.tick();
  await new Promise((resolve) => setTimeout(resolve, 50));
  collections = 0;
  for (let tick = 0; tick < 50_000; tick += 1) guard.tick();
  await new Promise((resolve) => setTimeout(resolve, 50));
  observer.disconnect();
  // An object of 100 bytes per tick would be 5 MB, which is several collections of the young heap.
  t.ok(collections <= 2, `${collections} collections in 50000 ticks, which are 20 minutes`);
});

t.test('the reserve and the minimum', (t) => {
  const cases: [number, number, number][] = [
    [512 * MIB, 0, 48 * MIB],
    [1600 * MIB, 0, 48 * MIB],
    [64 * GIB, 0, Math.floor(64 * GIB * 0.03)],
    [640 * MIB, 44 * MIB, 55 * MIB],
    [64 * GIB, 44 * MIB, Math.floor(64 * GIB * 0.03)],
  ];
  for (const [total, watermark, reserve] of cases) {
    t.equal(defaultReserveBytes(total, watermark), reserve);
  }
  t.ok(defaultReserveBytes() >= 48 * MIB);
  t.equal(groupMinimumBytes(8 * MIB), 8 * MIB);
  t.equal(groupMinimumBytes(64 * MIB), 16 * MIB);
  t.equal(groupMinimumBytes(800 * MIB), 100 * MIB);
  t.end();
});
