/** The scheduler's watch of the examples, on a real control plane. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { CLEAN_ENV, eventually, memcloud } from '../helpers/lab-node.ts';
import { MIB, ManagedLab } from '../helpers/managed-lab.ts';

const PROGRAM = path.join(import.meta.dirname, '../../examples/scheduler-watch.js');

t.test('free RAM by zone, as leases come and providers go', { timeout: 120_000 }, async (t) => {
  const lab = await ManagedLab.start(t, {
    node: (name) => (name === 'client' ? {} : { zone: name === 'alpha' ? 'north' : 'south' }),
  });
  const child = spawn(process.execPath, [PROGRAM], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...CLEAN_ENV, MEMCLOUD_SOCKET: lab.control.socketPath },
  });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  let complaint = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const free = (zone: string): number => {
    const lines = text.split('\n').filter((line) => line.includes(`zone="${zone}"`));
    return Number(lines.at(-1)?.split(' ')[1] ?? NaN);
  };
  const becomes = (zone: string, bytes: number): Promise<void> =>
    eventually(`${zone} has ${bytes} free: ${text} ${complaint}`, () => free(zone) === bytes);

  await becomes('north', 256 * MIB);
  await becomes('south', 256 * MIB);
  const { socketPath } = lab.node('client');
  const asked = await memcloud(socketPath, 'lease', 'request', '64M', '--zone', 'north');
  t.equal(asked.code, 0, asked.stderr);
  await becomes('north', 192 * MIB);
  t.equal(free('south'), 256 * MIB, 'the other zone is as it was');
  await lab.node('beta').end('SIGKILL');
  await becomes('south', 0);
  child.kill('SIGTERM');
});
