import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { processStart } from '../../common/process-start.ts';

t.test('the same while a process lives, none when it is gone', async (t) => {
  const child = spawn('sleep', ['100']);
  const { pid = 0 } = child;
  const started = processStart(pid);
  t.match(started, /^\d+$/);
  t.equal(processStart(pid), started);
  t.not(started, processStart(1));
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.equal(processStart(pid), undefined);
  t.equal(processStart('nobody'), undefined);
});
