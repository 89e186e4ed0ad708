/**
 * What a command loads before it does anything: its start is the time that this takes. Counted, because a
 * time would depend on the machine; docs/benchmarks.md has times.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { CLEAN_ENV } from '../helpers/lab-node.ts';

const ROOT = path.join(import.meta.dirname, '../../..');
const MAIN = path.join(ROOT, 'dist/cli/main.js');
const DIST = `${pathToFileURL(path.join(ROOT, 'dist')).href}/`;
const { dependencies } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
};
const PACKAGES = Object.keys(dependencies).map((name) => `/node_modules/${name}/`);
const LOADER =
  'data:text/javascript,export async function load(url, context, next) ' +
  '{ process._rawDebug(`LOADED ${url}`); return next(url, context); }';
/** Files of ours: each costs about a millisecond. */
const OWN_COUNT_MAX = 32;

/** The modules that a command loads, as addresses. */
function loadedBy(...args: string[]): Promise<string[]> {
  const flags = ['--no-warnings', '--experimental-loader', encodeURI(LOADER), MAIN];
  return new Promise((resolve) => {
    // It fails, as nobody listens there: by then it has loaded what it needs.
    execFile(
      process.execPath,
      [...flags, ...args],
      { env: CLEAN_ENV },
      (_error, _stdout, stderr) => {
        resolve([...stderr.matchAll(/^LOADED (.*)$/gm)].map(([, url = '']) => url));
      },
    );
  });
}

t.test('`memcloud status` loads no package, and few files', async (t) => {
  for (const command of [['status'], ['--json', 'status']]) {
    const loaded = await loadedBy('--socket', '/nonexistent/socket', ...command);
    // The test runner loads packages of its own into each process that it sees.
    const ours = (url: string): boolean => PACKAGES.some((name) => url.includes(name));
    const own = loaded.filter((url) => url.startsWith(DIST));
    t.ok(own.length > 5, 'the loader was asked');
    t.same(loaded.filter(ours), [], `${command.join(' ')}: no package`);
    t.ok(own.length <= OWN_COUNT_MAX, `${command.join(' ')}: ${own.length} files of ours`);
  }
});
