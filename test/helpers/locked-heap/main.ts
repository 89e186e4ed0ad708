/**
 * A program whose heap grows and shrinks beside locked pools, for SECONDS, with a Worker that does
 * the same: what makes V8 give memory back to the kernel. With all of the process locked (mlockall)
 * that aborts, since the kernel refuses MADV_DONTNEED on locked memory and V8 takes that for fatal.
 * Prints one line of JSON; with `mlockall` as second word it locks everything, to show that the
 * check has teeth.
 */
import { readFileSync } from 'node:fs';
import { runInThisContext } from 'node:vm';
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { NativeMemory } from '../../../common/native-memory.ts';

const MIB = 2 ** 20;
const MCL_CURRENT = 1;
const MCL_FUTURE = 2;
const MCL_ONFAULT = 4;

/** Makes and drops objects of many sizes until the time is over; returns how many rounds. */
function churn(seconds: number, between: (round: number) => void): number {
  const endMs = performance.now() + seconds * 1000;
  let rounds = 0;
  for (; performance.now() < endMs; rounds += 1) {
    const kept: unknown[] = [];
    for (let index = 0; index < 40_000; index += 1) {
      kept.push({ index, text: `${index}`.repeat(8), list: new Array(index % 64).fill(index) });
    }
    kept.push(runInThisContext(`(() => ${rounds})()`), new Array(200_000).fill(rounds));
    between(rounds);
  }
  return rounds;
}

function main(seconds: number): void {
  const ring = new NativeMemory(16 * MIB, { lock: true });
  ring.bytes.fill(1);
  let pools = 1;
  const worker = new Worker(new URL(import.meta.url), { workerData: seconds / 2 });
  worker.on('error', (error) => {
    throw error;
  });
  const rounds = churn(seconds, (round) => {
    // Connections come and go: so do their pools.
    const pool = new NativeMemory(MIB, { lock: true });
    pool.bytes.fill(round);
    pools += 1;
    pool.free();
  });
  const status = readFileSync('/proc/self/status', 'utf8');
  const lockedKb = Number(/^VmLck:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  const locked = ring.locked;
  ring.free();
  process.stdout.write(`${JSON.stringify({ rounds, pools, locked, lockedKb })}\n`);
}

if (isMainThread) {
  if (process.argv[3] === 'mlockall') {
    const mlockall = koffi.load(null).func('int mlockall(int flags)');
    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
  }
  main(Number(process.argv[2] ?? 10));
} else {
  churn(Number(workerData), () => undefined);
}
