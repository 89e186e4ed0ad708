/** `npm run deb`: writes a Debian package of this checkout into its folder, or the one that is named. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { runTool } from '../../common/tool.ts';
import { layOut, packageName } from './tree.ts';

const ROOT = path.join(import.meta.dirname, '../../..');

const folder = process.argv[2] ?? ROOT;
const { version, architecture } = packageName(ROOT);
const file = path.resolve(folder, `memcloud_${version}_${architecture}.deb`);
const tree = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-deb-'));
try {
  layOut(ROOT, tree);
  await runTool('dpkg-deb', ['--root-owner-group', '-Zgzip', '--build', tree, file]);
} finally {
  fs.rmSync(tree, { recursive: true });
}
process.stdout.write(`${file}\n`);
