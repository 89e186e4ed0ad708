/** The documents that are made from the command tables, by the path that each has in the repository. */
import { VERSION } from '../../common/version.ts';
import { GLOBAL_OPTIONS } from '../global-options.ts';
import { everyCommand } from '../modules.ts';
import { commandSections } from './markdown.ts';
import { daemonOptions } from './options-table.ts';
import { describeAll, entryOf, type OptionEntry } from './recorder.ts';
import { commandPage, daemonPage } from './roff.ts';

const BEGIN =
  '<!-- made by "npm run man" from the command tables; what is below is not written by hand -->';

/** The options that every command takes, and those that the parser adds. */
export function globalEntries(): OptionEntry[] {
  return [
    ...Object.entries(GLOBAL_OPTIONS).map(([name, row]) => entryOf(name, row)),
    entryOf('help', { alias: 'h', type: 'boolean', describe: 'show help' }),
    entryOf('version', { type: 'boolean', describe: 'show the version' }),
  ];
}

/** Puts the reference into the document, below the part that people write. */
function intoDocument(text: string, sections: string): string {
  const at = text.indexOf(BEGIN);
  const head = at < 0 ? `${text.trimEnd()}\n\n` : text.slice(0, at);
  return `${head}${BEGIN}\n\n${sections.trimEnd()}\n`;
}

/**
 * Makes every document.
 *
 * @param readFile - gives what is there now, or nothing
 */
export async function makeDocuments(
  readFile: (path: string) => string,
): Promise<ReadonlyMap<string, string>> {
  const entries = describeAll(await everyCommand());
  const globals = globalEntries();
  return new Map([
    ['man/memcloud.1', commandPage(entries, { version: VERSION, globals })],
    ['man/memnode.8', daemonPage(daemonOptions(), VERSION)],
    ['docs/cli.md', intoDocument(readFile('docs/cli.md'), commandSections(entries, globals))],
  ]);
}
