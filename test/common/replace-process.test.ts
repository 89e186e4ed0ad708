/** Another program in the place of this one (common/replace-process.ts). */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { runProgram } from '../helpers/lab-node.ts';

t.test('the same process goes on with other words, its output and its environment', async (t) => {
  const folder = t.testdir({});
  const module = path.join(import.meta.dirname, '../../common/replace-process.js');
  const after = path.join(folder, 'after.mjs');
  const before = path.join(folder, 'before.mjs');
  fs.writeFileSync(
    after,
    'console.log(JSON.stringify([process.pid, process.argv.slice(2), process.env.SAID]));',
  );
  fs.writeFileSync(
    before,
    `import { replaceProcess } from ${JSON.stringify(module)};
     console.log(process.pid);
     replaceProcess([${JSON.stringify(after)}, 'a b', '--c'], { SAID: 'yes' });
     console.log('refused');`,
  );
  const { code, stdout } = await runProgram([before]);
  const [pid = '', rest = ''] = stdout.split('\n');
  t.equal(code, 0);
  t.same(JSON.parse(rest), [Number(pid), ['a b', '--c'], 'yes']);
});
