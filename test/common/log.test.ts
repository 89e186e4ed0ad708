/** The level of a logger and of all its children, changed while they live. */
import { execFileSync, spawnSync } from 'node:child_process';
import t from 'tap';
import { silentLogger } from '../../common/log.ts';

const MODULE = new URL('../../common/log.js', import.meta.url).href;

/** Runs statements with a `logger` of level `info`; what it wrote, line by line. */
function logged(program: string): Record<string, unknown>[] {
  const script = `import { createLogger } from ${JSON.stringify(MODULE)};
    const logger = createLogger('info'); ${program}`;
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  t.equal(status, 0, stderr.toString());
  const lines = stderr.toString().split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

t.test('a changed level counts for the logger and for children made before', async (t) => {
  const every = (name: string): string =>
    `for (const level of ['debug', 'info', 'warn', 'error']) ${name}[level]({}, level);`;
  const lines = logged(`
    const child = logger.child({ volume: 'v' }).child({ page: 1 });
    ${every('child')} logger.setLevel('error'); ${every('child')} ${every('logger')}
    logger.setLevel('silent'); ${every('child')}
    logger.setLevel('debug'); ${every('child')}`);
  t.same(
    lines.map(({ msg }) => msg),
    ['info', 'warn', 'error', 'error', 'error', 'debug', 'info', 'warn', 'error'],
  );
  t.match(lines[0], { level: 30, volume: 'v', page: 1, time: /^\d{4}-\d\d-\d\dT/ });
  t.same(Object.keys(lines[4] ?? {}), ['level', 'time', 'msg']);
});

t.test('a reader that is gone does not end the program', async (t) => {
  const script = `import { createLogger } from ${JSON.stringify(MODULE)};
    const logger = createLogger('info');
    for (let i = 0; i < 100; i += 1) { logger.info({}, 'x'.repeat(10000)); await new Promise(setImmediate); }
    console.log('lives');`;
  const shell = `"$0" --input-type=module -e "$1" 2>&1 >&3 3>&- | true`;
  const out = execFileSync('bash', ['-c', `{ ${shell}; } 3>&1`, process.execPath, script]);
  t.equal(out.toString().trim(), 'lives');
});

t.test('the silent logger has silent children', async (t) => {
  t.equal(silentLogger.child({}), silentLogger);
});
