/**
 * What a configuration file says, each key with its line. The TOML parser gives values without places,
 * so the text is read twice: as a whole, which finds every violation of TOML (a key given twice, too),
 * and then statement by statement, which tells where each key stands. A statement is the fewest lines
 * from its first on that are TOML by themselves; a string or list over several lines is one. Pure.
 */
import { TomlError, parse } from 'smol-toml';
import { CONFIG_FILE_LINE_COUNT_MAX, CONFIG_FILE_SIZE_MAX_BYTES } from './limits.ts';

const NESTING_MAX = 8;

/** `key = value`, or a `[table]`, as a file has it. */
export interface TomlStatement {
  /** The key with the tables around it, joined by dots: `swap.size`. */
  readonly path: string;
  /** The value, no table but an empty one; undefined for the head of a table. */
  readonly value: unknown;
  /** Its first line, from 1. */
  readonly line: number;
}

/** What is wrong with a text, and where. */
export interface TomlProblem {
  /** From 1. */
  readonly line: number;
  /** A sentence. */
  readonly message: string;
}

/** The statements before the first violation of TOML, and that. */
export interface TomlStatements {
  readonly statements: readonly TomlStatement[];
  readonly problem: TomlProblem | undefined;
}

const OPTIONS = { integersAsBigInt: 'asNeeded', maxDepth: NESTING_MAX } as const;

function isTable(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
  );
}

/** The keys and values in a table, tables within it opened up. */
function flatten(table: Record<string, unknown>, above: string): [string, unknown][] {
  return Object.entries(table).flatMap(([key, value]): [string, unknown][] => {
    const path = above === '' ? key : `${above}.${key}`;
    const isFull = isTable(value) && Object.keys(value).length > 0;
    return isFull ? flatten(value, path) : [[path, value]];
  });
}

/** The path of the one table that a head such as `[a.b]` opens. */
function headPath(table: Record<string, unknown>): string {
  const keys: string[] = [];
  for (let level: unknown = table; isTable(level); level = Object.values(level)[0]) {
    const [key] = Object.keys(level);
    if (key === undefined) break;
    keys.push(key);
  }
  return keys.join('.');
}

function tryParse(text: string): Record<string, unknown> | TomlError {
  try {
    return parse(text, OPTIONS);
  } catch (error) {
    if (error instanceof TomlError) return error;
    throw error;
  }
}

/** The parser's sentence without its picture of the place, and what people forget most. */
function describe(error: TomlError): string {
  const why = (error.message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '');
  const hint = /numeric literal|invalid value/.test(why) ? '; text stands in quotes: "8G"' : '';
  return `expected TOML, but found: ${why}${hint}`;
}

/**
 * Reads a file's text.
 *
 * @param text - at most 64 KiB and 2000 lines; more is a problem
 */
export function parseStatements(text: string): TomlStatements {
  const lines = text.split('\n');
  if (text.length > CONFIG_FILE_SIZE_MAX_BYTES || lines.length > CONFIG_FILE_LINE_COUNT_MAX) {
    const most = `${CONFIG_FILE_SIZE_MAX_BYTES / 1024} KiB and ${CONFIG_FILE_LINE_COUNT_MAX} lines`;
    return { statements: [], problem: { line: 1, message: `expected at most ${most}` } };
  }
  const whole = tryParse(text);
  const problem =
    whole instanceof TomlError ? { line: whole.line, message: describe(whole) } : undefined;
  const statements: TomlStatement[] = [];
  let table = '';
  let first = 0;
  for (let last = 0; last < lines.length; last += 1) {
    if (problem !== undefined && last + 1 >= problem.line) break;
    const part = tryParse(`${lines.slice(first, last + 1).join('\n')}\n`);
    if (part instanceof TomlError) continue;
    const line = first + 1;
    const head = /^\s*\[\[?/.exec(lines[first] ?? '')?.[0].trim();
    first = last + 1;
    if (head !== undefined) {
      table = headPath(part);
      statements.push({ path: table, value: head === '[[' ? [] : undefined, line });
    } else {
      for (const [path, value] of flatten(part, table)) statements.push({ path, value, line });
    }
  }
  return { statements, problem };
}
