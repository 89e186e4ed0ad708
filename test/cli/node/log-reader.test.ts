/** The log as people read it: the last lines, what comes, and nothing lost when it is put aside. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { renderLogLine } from '../../../cli/node/log-lines.ts';
import { follow, lastLines } from '../../../cli/node/log-reader.ts';

t.test('the last lines reach back into the older part', (t) => {
  const file = path.join(t.testdir({ log: 'c\nd\nhal', 'log.1': 'a\nb\n' }), 'log');
  t.same(lastLines(file, Infinity), { lines: ['a', 'b', 'c', 'd'], end: 4 });
  t.same(lastLines(file, 3).lines, ['b', 'c', 'd']);
  t.same(lastLines(file, 0).lines, []);
  t.same(lastLines(path.join(t.testdir(), 'absent'), 5), { lines: [], end: 0 });
  t.end();
});

/** As memnode does it. */
function putAside(file: string): void {
  fs.copyFileSync(file, `${file}.1.next`);
  fs.renameSync(`${file}.1.next`, `${file}.1`);
  fs.truncateSync(file);
}

t.test('lines come as they are written, through a log that is put aside twice', async (t) => {
  const file = path.join(t.testdir({ log: 'old\n' }), 'log');
  const controller = new AbortController();
  const seen: string[] = [];
  const wanted = ['one', 'two', 'three', 'four', 'five'];
  const steps: Readonly<Record<string, () => void>> = {
    one: () => {
      // What came before it was put aside was not read yet.
      fs.appendFileSync(file, 'two\nthr');
      putAside(file);
      fs.appendFileSync(file, 'ee\n');
    },
    three: () => {
      putAside(file);
      fs.appendFileSync(file, 'four\nfive\n');
    },
  };
  fs.appendFileSync(file, 'one\n');
  for await (const line of follow(file, 4, controller.signal)) {
    seen.push(line);
    // After the reader has looked, not within its look.
    setImmediate(() => steps[line]?.());
    if (seen.length === wanted.length) controller.abort();
  }
  t.same(seen, wanted);
});

t.test('a line is told in words, and what other machines wrote cannot move the cursor', (t) => {
  const line = JSON.stringify({
    level: 40,
    time: '2026-01-02T03:04:05.678Z',
    peer: 'a\u001b[2Jb c',
    bytes: 5,
    msg: 'refused',
  });
  t.match(
    renderLogLine(line),
    /^\d{4}-\d\d-\d\d \d\d:\d\d:05\.678 WARN {2}refused peer="a\\u001b\[2Jb c" bytes=5$/,
  );
  t.equal(renderLogLine('Error: \u001b[31mno'), 'Error: ?[31mno');
  t.equal(renderLogLine('{broken'), '{broken');
  t.end();
});
