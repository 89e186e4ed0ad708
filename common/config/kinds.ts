/**
 * Kinds of values that an option may have: what may be written, what is meant, how it is shown. A flag
 * and an environment variable are text, which `fromText` turns into what a file would have said; from
 * there on all three go the same way. Every refusal is the end of a sentence, "expected ..., got ...",
 * whose beginning (the file and line, the flag) the caller knows.
 */
import path from 'node:path';
import { parseControlTarget } from '../control-target.ts';
import { MemcloudError, asMemcloudError } from '../errors.ts';
import { parseKeyPattern } from '../fingerprint.ts';
import { parseListenRange } from '../listen-range.ts';
import { checkSocketPath } from '../paths.ts';
import { parseSizeExpression } from '../size-expression.ts';
import { formatSize, parseAddress } from '../units.ts';

/** Where a value was written. */
export type ValueSource = 'flag' | 'env' | 'file';

/** What a value may depend on. */
export interface ValueContext {
  /** Bytes of this machine's RAM. */
  readonly ramBytes: number;
  /** Where it was written: a file has no working directory. */
  readonly source: ValueSource;
}

/** A kind of values. */
export interface ValueKind<T> {
  /** How the command line has it: `--key TEXT`, `--key`, or `--key TEXT` again and again. */
  readonly flag: 'text' | 'switch' | 'list';
  /** In one or two words, for the table in `docs/configuration.md`. */
  readonly name: string;
  /** What a file would have said instead of the text of a flag or variable. */
  fromText(text: string): unknown;
  /**
   * Checks what a file says.
   *
   * @throws MemcloudError `ERR_USAGE`, `ERR_USAGE_SIZE`, `ERR_USAGE_ADDRESS`: "expected ..., got ..."
   */
  check(raw: unknown, context: ValueContext): T;
  /** As people read it. */
  show(value: T): string;
}

const SHOWN_LENGTH_MAX = 60;
/** More peers than can be dialled at once are a mistake. */
const LIST_LENGTH_MAX = 256;
/** Each is compared with each stranger. */
const KEY_COUNT_MAX = 64;
const TRUE_WORDS = ['1', 'true', 'yes', 'on'];
const FALSE_WORDS = ['0', 'false', 'no', 'off'];

/** A value for a sentence. */
function shown(raw: unknown): string {
  if (typeof raw === 'bigint' || raw instanceof Date) return String(raw);
  return (JSON.stringify(raw) ?? String(raw)).slice(0, SHOWN_LENGTH_MAX);
}

function refuse(expected: string, raw: unknown): never {
  throw new MemcloudError('ERR_USAGE', `expected ${expected}, got ${shown(raw)}`);
}

const asItIs = (text: string): string => text;

/** Bytes: a whole number, or an expression in quotes. */
export function size(options: { readonly min?: number } = {}): ValueKind<number> {
  const { min = 0 } = options;
  return {
    flag: 'text',
    name: 'size',
    fromText: asItIs,
    check: (raw, { ramBytes }) => {
      if (typeof raw !== 'string' && !(Number.isSafeInteger(raw) && Number(raw) >= 0)) {
        return refuse('bytes, or a size in quotes such as "8G" or "50%"', raw);
      }
      const bytes = typeof raw === 'string' ? parseSizeExpression(raw, ramBytes) : Number(raw);
      return bytes < min ? refuse(`at least ${formatSize(min)}`, raw) : bytes;
    },
    show: formatSize,
  };
}

/** A number within bounds. */
export function number(options: {
  readonly min: number;
  readonly max: number;
  /** Said after the bounds, such as ` seconds`. */
  readonly unit?: string;
  readonly isWhole: boolean;
}): ValueKind<number> {
  const { min, max, unit = '', isWhole } = options;
  return {
    flag: 'text',
    name: isWhole ? 'whole number' : 'number',
    fromText: (text) => (text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text),
    check: (raw) => {
      const isOne = typeof raw === 'number' && (Number.isInteger(raw) || !isWhole);
      if (isOne && raw >= min && raw <= max) return raw;
      return refuse(`${min} to ${max}${unit}`, raw);
    },
    show: String,
  };
}

/** True or false. */
export function toggle(): ValueKind<boolean> {
  return {
    flag: 'switch',
    name: 'true or false',
    fromText: (text) => {
      const word = text.trim().toLowerCase();
      if (TRUE_WORDS.includes(word)) return true;
      return FALSE_WORDS.includes(word) ? false : text;
    },
    check: (raw) => (typeof raw === 'boolean' ? raw : refuse('true or false', raw)),
    show: String,
  };
}

/** One of a few words. */
export function choice<const W extends readonly string[]>(words: W): ValueKind<W[number]> {
  return {
    flag: 'text',
    name: words.join(', '),
    fromText: asItIs,
    check: (raw) => words.find((word) => word === raw) ?? refuse(`one of ${words.join(', ')}`, raw),
    show: asItIs,
  };
}

/** Text of a certain form. */
export function text(options: {
  readonly name: string;
  readonly pattern: RegExp;
  readonly expected: string;
}): ValueKind<string> {
  const { name, pattern, expected } = options;
  return {
    flag: 'text',
    name,
    fromText: asItIs,
    check: (raw) => (typeof raw === 'string' && pattern.test(raw) ? raw : refuse(expected, raw)),
    show: asItIs,
  };
}

/** A value that `parse` takes, as it is written. */
function checkParsed(raw: unknown, expected: string, parse: (text: string) => unknown): string {
  if (typeof raw !== 'string') return refuse(expected, raw);
  try {
    parse(raw);
    return raw;
  } catch (cause) {
    const message = `expected ${expected}, got ${shown(raw)}`;
    throw new MemcloudError('ERR_USAGE_ADDRESS', message, { cause });
  }
}

function checkAddress(raw: unknown): string {
  return checkParsed(raw, 'HOST:PORT, such as 192.168.1.20:7070 or [::1]:7070', parseAddress);
}

/** `HOST:PORT`. */
export function address(): ValueKind<string> {
  return {
    flag: 'text',
    name: 'address',
    fromText: asItIs,
    check: checkAddress,
    show: asItIs,
  };
}

/** `ADDR:PORT` or `ADDR:PORT-PORT` (listen-range.ts). */
export function listenRange(): ValueKind<string> {
  const expected = 'ADDR:PORT or ADDR:PORT-PORT, such as 0.0.0.0:7070 or [::]:7070-7079';
  return {
    flag: 'text',
    name: 'address',
    fromText: asItIs,
    check: (raw) => checkParsed(raw, expected, parseListenRange),
    show: asItIs,
  };
}

function checkControlTarget(raw: unknown): string {
  if (typeof raw !== 'string') return refuse('HOST:PORT or KEY@HOST:PORT', raw);
  parseControlTarget(raw);
  return raw;
}

/** A list of `HOST:PORT`; with commas between them in an environment variable. */
export function addresses(): ValueKind<readonly string[]> {
  return addressList('list of addresses', checkAddress);
}

/** A list of `HOST:PORT` or `KEY@HOST:PORT` (control-target.ts). */
export function controlTargets(): ValueKind<readonly string[]> {
  return addressList('list of control nodes', checkControlTarget);
}

function addressList(name: string, check: (raw: unknown) => string): ValueKind<readonly string[]> {
  return {
    flag: 'list',
    name,
    fromText: (text) => text.split(/[\s,]+/).filter((part) => part !== ''),
    check: (raw) => {
      if (!Array.isArray(raw)) return refuse('a list such as ["192.168.1.20:7070"]', raw);
      if (raw.length > LIST_LENGTH_MAX) {
        return refuse(`at most ${LIST_LENGTH_MAX} addresses`, raw.length);
      }
      return raw.map(check);
    },
    show: (value) => (value.length === 0 ? '-' : value.join(', ')),
  };
}

function checkKey(raw: unknown): string {
  if (typeof raw !== 'string') return refuse('the words, node id or public key of a node', raw);
  try {
    parseKeyPattern(raw);
    return raw.trim();
  } catch (cause) {
    throw new MemcloudError('ERR_USAGE', asMemcloudError(cause).message, { cause });
  }
}

/** A list of keys of nodes, by words, id or in full; with commas between them in an environment variable. */
export function keys(): ValueKind<readonly string[]> {
  return {
    flag: 'list',
    name: 'list of keys',
    fromText: (text) => text.split(',').filter((part) => part.trim() !== ''),
    check: (raw) => {
      if (!Array.isArray(raw)) return refuse('a list such as ["legal-winner-..."]', raw);
      if (raw.length > KEY_COUNT_MAX) return refuse(`at most ${KEY_COUNT_MAX} keys`, raw.length);
      return raw.map(checkKey);
    },
    show: (value) => (value.length === 0 ? '-' : value.join(', ')),
  };
}

/** A list of words of a certain form; with commas between them in an environment variable. */
export function words(options: {
  readonly name: string;
  readonly pattern: RegExp;
  readonly expected: string;
}): ValueKind<readonly string[]> {
  const one = text(options);
  return {
    flag: 'list',
    name: options.name,
    fromText: (written) => written.split(/[\s,]+/).filter((part) => part !== ''),
    check: (raw, context) => {
      if (!Array.isArray(raw)) return refuse(`a list of ${options.expected}`, raw);
      if (raw.length > LIST_LENGTH_MAX) return refuse(`at most ${LIST_LENGTH_MAX}`, raw.length);
      return raw.map((each) => one.check(each, context));
    },
    show: (value) => (value.length === 0 ? '-' : value.join(', ')),
  };
}

/** A path; relative ones belong to the working directory, which a file does not have. */
export function filePath(options: { readonly isSocket?: boolean } = {}): ValueKind<string> {
  return {
    flag: 'text',
    name: 'path',
    fromText: asItIs,
    check: (raw, { source }) => {
      const isRight = typeof raw === 'string' && raw !== '' && !raw.includes('\0');
      if (!isRight || (source === 'file' && !path.isAbsolute(raw))) {
        return refuse(source === 'file' ? 'an absolute path' : 'a path', raw);
      }
      const resolved = path.resolve(raw);
      return options.isSocket === true ? checkSocketPath(resolved) : resolved;
    },
    show: asItIs,
  };
}

/** A kind that may also be unset, which it is unless somebody sets it. */
export function optional<T>(kind: ValueKind<T>): ValueKind<T | undefined> {
  return {
    ...kind,
    show: (value) => (value === undefined ? '-' : kind.show(value)),
  };
}
