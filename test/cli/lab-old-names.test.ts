/** Every command of the earlier MemCloud's `memcli`, as its users typed it, on real daemons. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { CLEAN_ENV, LabNode, labFolder, memcloud, runProgram } from '../helpers/lab-node.ts';

const MAIN = path.join(import.meta.dirname, '../../cli/main.js');

/** A command line, its exit code and what it prints. `ID` stands for a block. */
type Row = readonly [line: string, code: number, stdout: RegExp];

t.test('data, peers, trust and numbers', async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
  const node = await LabNode.start(t, { name: 'node', folder, offer: '64M' });
  const file = path.join(folder, 'file');
  fs.writeFileSync(file, 'streamed');
  const address = alpha.peerAddress;
  const connected = await memcloud(node.socketPath, 'connect', address, '--quota', '64mb');
  t.equal(connected.code, 0, connected.stderr);
  await node.waitForPeers(1);
  const stored = await memcloud(node.socketPath, 'store', 'hello');
  const id = stored.stdout.trim();
  const rows: readonly Row[] = [
    ['store hello --mode pinned', 0, /^\d+\n$/],
    ['store hello --mode cache', 0, /^\d+\n$/],
    ['store hello --remote', 0, /^\d+\n$/],
    ['store hello -r', 0, /^\d+\n$/],
    ['store hello --peer alpha --mode cache', 0, /^\d+\n$/],
    [`load ${id}`, 0, /^hello$/],
    [`free ${id}`, 0, /Deleted block/],
    ['set k v', 0, /^Set k: 1 B on node, pinned\.\n$/],
    ['set k v2 --mode cache', 0, /cache/],
    ['set far v --peer alpha', 0, /on alpha/],
    ['get k', 0, /^v2$/],
    ['get far', 0, /^v$/],
    ['get far --peer alpha', 0, /^v$/],
    ['keys', 0, /^k\n$/],
    ['keys k* x*', 0, /^k\n$/],
    [`stream ${file}`, 0, /^\d+\n$/],
    [`stream ${file} --peer alpha`, 0, /^\d+\n$/],
    ['peers', 0, /alpha/],
    ['peer list', 0, /alpha/],
    ['peer update alpha --quota 32mb', 0, /./],
    ['peer update alpha -a 48mb', 0, /./],
    ['peer update alpha --allowed-storage 64mb', 0, /./],
    [`connect ${address} -o 64mb`, 0, /alpha/],
    [`connect ${address} --offer-storage 64mb`, 0, /alpha/],
    [`connect ${address}`, 0, /alpha/],
    ['stats', 0, /objects/],
    ['consent ls', 0, /./],
    ['trust list', 0, /alpha/],
    ['version', 0, /^memcloud \d/],
    ['node status', 0, /runs/],
    ['flush --force --peer alpha', 0, /alpha/],
    ['flush -f --all', 0, /done/],
    ['run -t 8 true', 2, /^$/],
    ['peer disconnect alpha', 0, /./],
    ['trust remove alpha', 0, /./],
    ['trust remove alpha', 6, /^$/],
  ];
  for (const [line, code, stdout] of rows) {
    const ended = await memcloud(node.socketPath, ...line.split(' '));
    t.equal(ended.code, code, `${line} ${ended.stderr}`);
    t.match(ended.stdout, stdout, line);
  }
  const short = await runProgram([MAIN, '-s', node.socketPath, 'keys']);
  t.equal(short.code, 0, '-s in front');
});

t.test('stats -f goes on until it is ended', async (t) => {
  const folder = labFolder(t);
  const node = await LabNode.start(t, { name: 'node', folder });
  const args = [MAIN, '--json', '-s', node.socketPath, 'stats', '-f', '--interval', '0.1'];
  const child = spawn(process.execPath, args, {
    env: CLEAN_ENV,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    if (text.split('\n').length > 3) child.kill('SIGINT');
  });
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 130);
  for (const line of text.trim().split('\n')) t.match(JSON.parse(line), { uptimeS: Number });
});
