import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { hasTool, runTool } from '../../common/tool.ts';

t.test('what a tool printed; or a sentence with what it complained', async (t) => {
  t.equal(await runTool('sh', ['-c', 'echo "$LC_ALL $1"', 'x', 'a b']), 'C a b\n');
  const failed = runTool('sh', ['-c', 'echo no room >&2; exit 3']);
  await t.rejects(failed, { code: 'ERR_NATIVE', message: /^sh -c .* failed: no room$/ });
  await t.rejects(runTool('sh', ['-c', 'exit 3']), { message: /failed: exit code 3$/ });
});

t.test('what a tool is to read', async (t) => {
  t.equal(await runTool('cat', [], { input: Buffer.from('a table') }), 'a table');
  const deaf = runTool('sh', ['-c', 'exit 3'], { input: Buffer.alloc(1024 * 1024) });
  await t.rejects(deaf, { message: /exit code 3$/ }, 'one that ends before it has read it');
});

t.test('a tool that is not installed', async (t) => {
  t.ok(hasTool('sh'));
  t.notOk(hasTool('memcloud-no-such-tool'));
  const missing = { code: 'ERR_UNSUPPORTED', message: 'memcloud-no-such-tool is not installed' };
  await t.rejects(runTool('memcloud-no-such-tool', []), missing);
});

t.test('nothing of a tool that was not found keeps the process', async (t) => {
  const file = path.resolve(import.meta.dirname, '../../common/tool.js');
  const script = `import(${JSON.stringify(file)}).then((m) => m.runTool('no-such-tool', [])).catch(() => {})`;
  const { status } = spawnSync(process.execPath, ['-e', script], { timeout: 15_000 });
  t.equal(status, 0, 'it ended by itself');
});
