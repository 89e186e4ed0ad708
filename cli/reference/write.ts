/** `npm run man`: writes the documents that are made from the command tables. */
import fs from 'node:fs';
import path from 'node:path';
import { makeDocuments } from './documents.ts';

const ROOT = path.join(import.meta.dirname, '../../..');

const documents = await makeDocuments((name) => {
  const file = path.join(ROOT, name);
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
});
for (const [name, text] of documents) {
  const file = path.join(ROOT, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}
