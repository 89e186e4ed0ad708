/**
 * The parent of a mount's process that a test may kill: starts it with the order of its first argument,
 * JSON, and prints each of its words on a line, the first of them `{"pid": ...}`.
 */
import { fork } from 'node:child_process';
import { MOUNT_MAIN } from '../mount-process.ts';

const child = fork(MOUNT_MAIN, [], {
  cwd: '/',
  execArgv: [],
  stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
});
const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
child.on('message', print);
child.send(JSON.parse(process.argv[2] ?? '{}') as object);
print({ pid: child.pid });
