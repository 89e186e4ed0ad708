/**
 * What a terminal is for: `top` and `stats -f` at any size, the terminal as it was however they end; and the
 * question of `flush`.
 */
import path from 'node:path';
import t, { type Test } from 'tap';
import { requires } from '../helpers/judges.ts';
import { LabNode, labFolder, memcloud } from '../helpers/lab-node.ts';
import { ENTER, LEAVE, TestTerminal, type TerminalSize } from '../helpers/terminal.ts';

const MAIN = path.join(import.meta.dirname, '../../cli/main.js');
const SIZE: TerminalSize = { columns: 100, rows: 30 };

function watch(
  t: Test,
  { socketPath }: LabNode,
  words: readonly string[],
  size = SIZE,
): Promise<TestTerminal> {
  const command = [process.execPath, MAIN, '-s', socketPath, ...words, '--interval', '0.1'];
  return TestTerminal.start(t, command, size);
}

/** The lines of a picture are within the window. */
function isWithin(picture: string, { columns, rows }: TerminalSize): boolean {
  const lines = picture.split('\n');
  return lines.length <= rows && lines.every((line) => line.length <= columns);
}

t.test('on a terminal', requires('script', 'stty'), async (t) => {
  const folder = labFolder(t);
  const alpha = await LabNode.start(t, { name: 'alpha', folder, offer: '64M' });
  const connect = [alpha.peerAddress];
  const beta = await LabNode.start(t, { name: 'beta', folder, offer: '64M', connect });
  await beta.waitForPeers(1);

  await t.test('top shows node, peers and rates, and q leaves', async (t) => {
    const terminal = await watch(t, beta, ['top']);
    await terminal.draws(/^memnode beta \d/);
    await terminal.draws(/^lent +\[\.{20}\] 0 B of 64 MiB/m);
    await terminal.draws(/^alpha .* up /m);
    await beta.use((client) => client.call('object.put', { key: 'k', data: Buffer.from('v') }));
    await terminal.draws(/^objects +1, 1 B; .*writes \d/m);
    t.ok(isWithin(terminal.picture, SIZE), terminal.picture);
    terminal.type('x');
    terminal.type('q');
    t.same(await terminal.end(), { code: 0, isRestored: true });
    t.match(terminal.text, ENTER);
    t.equal(terminal.text.split(LEAVE).length, 2, 'given back, once');
    t.notMatch(terminal.text.slice(terminal.text.indexOf(LEAVE)), '\u001b[H', 'and not drawn on');
  });

  await t.test('another size is followed at once, down to next to nothing', async (t) => {
    const terminal = await watch(t, beta, ['top']);
    await terminal.draws(/q leaves$/);
    const small = { columns: 40, rows: 5 };
    terminal.resize(small);
    await terminal.draws(/^memnode beta(?![^]*q leaves)/);
    t.ok(isWithin(terminal.picture, small), terminal.picture);
    terminal.resize({ columns: 1, rows: 1 });
    await terminal.draws(/^m$/);
    terminal.resize(SIZE);
    await terminal.draws(/q leaves$/);
    terminal.type('Q');
    t.same(await terminal.end(), { code: 0, isRestored: true });
  });

  await t.test('a terminal that does not know its size is taken for a usual one', async (t) => {
    const terminal = await watch(t, beta, ['top'], { columns: 0, rows: 0 });
    await terminal.draws(/q leaves$/);
    t.ok(isWithin(terminal.picture, { columns: 80, rows: 24 }), terminal.picture);
    terminal.type('q');
    t.equal((await terminal.end()).code, 0);
  });

  await t.test('stats -f shows rates, and Ctrl-C leaves', async (t) => {
    const terminal = await watch(t, beta, ['stats', '-f']);
    await terminal.draws(/^rpc .* calls \(\d\S*\/s\)/m);
    await terminal.draws(/^lent +[0-9.]+ \S+ of 64 MiB/m);
    terminal.type('\u0003');
    t.same(await terminal.end(), { code: 0, isRestored: true });
  });

  await t.test('whatever signal ends it, the terminal is as it was', async (t) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      for (const words of [['top'], ['stats', '-f']]) {
        const terminal = await watch(t, beta, words);
        await terminal.draws(/objects/);
        terminal.signal(signal);
        const { code, isRestored } = await terminal.end();
        t.same([code, isRestored], [130, true], `${words.join(' ')} ${signal}`);
        t.match(terminal.text, LEAVE);
      }
    }
  });

  await t.test('a daemon that goes and comes back is waited for', async (t) => {
    const gone = await LabNode.start(t, { name: 'gamma', folder });
    const terminal = await watch(t, gone, ['top']);
    await terminal.draws(/^memnode gamma/);
    await gone.end('SIGTERM');
    await terminal.draws(/memnode|daemon/);
    await terminal.draws(/^(?!memnode gamma \d)/);
    await LabNode.start(t, { name: 'gamma', folder });
    await terminal.draws(/^memnode gamma \d/);
    terminal.type('q');
    t.same(await terminal.end(), { code: 0, isRestored: true });
  });

  await t.test('flush asks, and only yes is yes', async (t) => {
    const command = [process.execPath, MAIN, '-s', beta.socketPath, 'flush'];
    t.equal((await memcloud(beta.socketPath, 'set', 'kept', 'v')).code, 0);
    for (const [answer, code, left] of [
      ['n', 1, 0],
      ['', 1, 0],
      ['yeah', 1, 0],
      ['yes', 0, 6],
    ] as const) {
      const terminal = await TestTerminal.start(t, command, SIZE);
      await terminal.shows(/Delete every object that this node wrote, here\? \[y\/N\] /);
      terminal.type(`${answer}\r`);
      t.equal((await terminal.end()).code, code, `"${answer}"`);
      t.equal((await memcloud(beta.socketPath, 'get', 'kept')).code, left, `"${answer}"`);
    }
  });

  await t.test('where no daemon is, nothing is drawn', async (t) => {
    const nowhere = [process.execPath, MAIN, '-s', path.join(folder, 'absent'), 'top'];
    const terminal = await TestTerminal.start(t, nowhere, SIZE);
    t.same(await terminal.end(), { code: 3, isRestored: true });
    t.notMatch(terminal.text, '\u001b');
  });
});
