/** The examples of docs/cli-json.md, and what two values have in common. */
import fs from 'node:fs';
import path from 'node:path';

const DOCUMENT = path.join(import.meta.dirname, '../../../docs/cli-json.md');

/** The commands of the document and what it says that they print. */
export function documentedExamples(): Map<string, unknown> {
  const text = fs.readFileSync(DOCUMENT, 'utf8');
  const found = new Map<string, unknown>();
  for (const [, words = '', json = ''] of text.matchAll(/^### `(.+)`\n\n```json\n([^`]+)```/gm)) {
    found.set(words, JSON.parse(json));
  }
  return found;
}

/** The paths and types in a value, `[]` for any index of an array. */
export function shapeOf(value: unknown, at = '$'): string[] {
  if (Array.isArray(value)) return [`${at}: array`, ...value.flatMap((v) => shapeOf(v, `${at}[]`))];
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).flatMap(([name, v]) => shapeOf(v, `${at}.${name}`));
  }
  return [`${at}: ${typeof value}`];
}
