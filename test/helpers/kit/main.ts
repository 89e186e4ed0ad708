/**
 * A program under the kit, for tests: `kit PRIORITY [WORD]...` enters it, prints what it found as
 * one line of JSON, and how a child that it starts stands.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { enterKit, withoutIoFlusher } from '../../../common/kit.ts';

const kit = enterKit({
  memoryMinBytes: 32 * 2 ** 20,
  realtimePriority: Number(process.argv[2] ?? 0),
});
const childFlags = withoutIoFlusher(() =>
  execFileSync('/bin/sh', ['-c', 'cut -d" " -f9 /proc/self/stat'], { encoding: 'utf8' }),
);
process.stdout.write(
  `${JSON.stringify({
    pid: process.pid,
    argv: process.argv.slice(2),
    marker: process.env['KIT_OF_MEMCLOUD'] ?? null,
    stdin: fs.readFileSync(0, 'utf8'),
    passed: process.env['LISTEN_FDS'] === '1' ? fs.fstatSync(3).isFile() : null,
    childFlags: Number(childFlags),
    ...kit,
  })}\n`,
);
