/** Every script passes shellcheck and says its purpose and usage at its head. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { judge, requires } from '../helpers/judges.ts';

const FOLDER = path.resolve('kernel-scripts');
const scripts = fs.readdirSync(FOLDER).filter((name) => /\.sh$|^mount\./.test(name));

t.test('shellcheck has nothing to say', requires('shellcheck'), async (t) => {
  for (const script of scripts) {
    const { code, stdout } = await judge('shellcheck', [path.join(FOLDER, script)]);
    t.strictSame({ code, stdout }, { code: 0, stdout: '' }, script);
  }
});

t.test('every script has a purpose and a usage, and stops at the first failure', async (t) => {
  t.ok(scripts.length >= 5, 'the scripts were found');
  for (const script of scripts) {
    const lines = fs.readFileSync(path.join(FOLDER, script), 'utf8').split('\n');
    t.match(lines.slice(0, 6).join('\n'), /^# usage: /m, `${script}: usage`);
    t.match(lines.slice(0, 8).join('\n'), /privileges|root/, `${script}: privileges`);
    if (lines[0]?.startsWith('#!') !== true) continue; // sourced: its caller set the flags
    t.ok(lines.includes('set -euo pipefail'), `${script}: set -euo pipefail`);
    t.ok(fs.statSync(path.join(FOLDER, script)).mode & 0o100, `${script}: executable`);
  }
});
