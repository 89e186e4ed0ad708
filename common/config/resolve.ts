/**
 * From what was written to what counts: flags over environment over files over defaults, each value
 * checked, also one that another overrides, and every problem kept, not only the first.
 *
 *   files, environment, flags -> assignments, least important first -> a setting for each option
 *
 * A list is replaced by a more important one, never joined to it.
 */
import os from 'node:os';
import { closestWord } from '../closest-word.ts';
import { MemcloudError, asMemcloudError, type ErrorCode } from '../errors.ts';
import { findConfigFiles, readConfigFile } from './files.ts';
import type { ValueSource } from './kinds.ts';
import {
  OPTION_KEYS,
  OPTION_TABLES,
  isOptionKey,
  optionOf,
  variableOf,
  type OptionKey,
  type OptionValues,
} from './options.ts';
import { parseStatements, type TomlStatement } from './toml-statements.ts';

/** Characters of a strange key that are shown. */
const KEY_LENGTH_MAX = 60;

/** Where a value came from. */
export interface Origin {
  /** Who wrote it. */
  readonly source: ValueSource | 'default';
  /** `--offer`, `MEMCLOUD_OFFER`, `/etc/memcloud/config.toml:3`; empty for a default. */
  readonly at: string;
}

/** Something wrong in what was written. */
export interface ConfigProblem {
  /** `ERR_CONFIG` in a file; else the code of the mistake. */
  readonly code: ErrorCode;
  /** The file; empty when it is not in one. */
  readonly file: string;
  /** Its line, from 1; 0 when it is about the whole file, or not in one. */
  readonly line: number;
  /** The key, flag or variable; empty when it is about the whole file. */
  readonly key: string;
  /** What was expected and what was found. */
  readonly message: string;
}

/** The options of a machine, worked out. */
export interface ResolvedConfig {
  /** The values. */
  readonly values: OptionValues;
  /** Where each came from. */
  readonly origins: Readonly<Record<OptionKey, Origin>>;
  /** The files that were read, the least important first. */
  readonly files: readonly string[];
  /** All that is wrong; values are those of the rest. */
  readonly problems: readonly ConfigProblem[];
}

/** What to work out. */
export interface ConfigInput {
  /** What flags said, by key: text, a boolean, or a list of texts. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** The environment. */
  readonly env: NodeJS.ProcessEnv;
  /** A file or folder instead of the usual ones; `MEMCLOUD_CONFIG` without. */
  readonly configPath?: string | undefined;
  /** Default: this machine's. */
  readonly ramBytes?: number;
}

interface Assignment {
  readonly key: OptionKey;
  readonly raw: unknown;
  readonly origin: Origin & { readonly source: ValueSource };
  /** For a problem. */
  readonly place: { readonly file: string; readonly line: number; readonly key: string };
}

/** The part of the configuration that `--config` or `MEMCLOUD_CONFIG` names. */
export function chosenConfigPath(input: ConfigInput): string | undefined {
  const { MEMCLOUD_CONFIG = '' } = input.env;
  return input.configPath ?? (MEMCLOUD_CONFIG === '' ? undefined : MEMCLOUD_CONFIG);
}

/** A problem as one line of text: `FILE:LINE: KEY: what`. */
export function describeProblem(problem: ConfigProblem): string {
  const { file, line, key, message } = problem;
  const place = file === '' ? '' : line === 0 ? `${file}: ` : `${file}:${line}: `;
  return `${place}${key === '' ? '' : `${key}: `}${message}`;
}

/** Nothing when there is no problem. @throws MemcloudError with the code of the first, telling all */
export function refuseProblems(problems: readonly ConfigProblem[]): void {
  const [first] = problems;
  if (first === undefined) return;
  throw new MemcloudError(first.code, problems.map(describeProblem).join('\n'));
}

/** What is wrong with the path of a statement; undefined when there is such an option or table. */
function pathProblem({ path, value }: TomlStatement): string | undefined {
  if (OPTION_TABLES.includes(path)) {
    const isTable = value === undefined || (typeof value === 'object' && !Array.isArray(value));
    return isTable ? undefined : `expected the table [${path}]`;
  }
  if (isOptionKey(path) && value !== undefined) return undefined;
  if (isOptionKey(path)) return `expected ${path} = ..., not a table`;
  const what = value === undefined ? 'table' : 'key';
  const words = value === undefined ? OPTION_TABLES : OPTION_KEYS;
  const meant = closestWord(path, words);
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
  return `no such ${what}${hint}`;
}

/** A key as it may be printed: any text can be one, in quotes. */
function printableKey(key: string): string {
  const short = key.slice(0, KEY_LENGTH_MAX);
  return /^[\w.-]+$/.test(short) ? short : JSON.stringify(short);
}

/** What a file says. */
function readFile(file: string): { assignments: Assignment[]; problems: ConfigProblem[] } {
  const code: ErrorCode = 'ERR_CONFIG';
  const read = readConfigFile(file);
  if ('message' in read) {
    return {
      assignments: [],
      problems: [{ code, file, line: 0, key: '', message: read.message }],
    };
  }
  const { statements, problem } = parseStatements(read.text);
  const assignments: Assignment[] = [];
  const problems: ConfigProblem[] = [];
  const strange = new Set<string>();
  for (const statement of statements) {
    const { path: key, value: raw, line } = statement;
    // What lies in a table that does not exist has been told of with it.
    if (strange.has(key.slice(0, key.lastIndexOf('.')))) continue;
    const message = pathProblem(statement);
    if (message !== undefined) {
      problems.push({ code, file, line, key: printableKey(key), message });
      if (raw === undefined) strange.add(key);
    } else if (isOptionKey(key)) {
      const origin = { source: 'file' as const, at: `${file}:${line}` };
      assignments.push({ key, raw, origin, place: { file, line, key } });
    }
  }
  if (problem !== undefined) problems.push({ code, file, key: '', ...problem });
  return { assignments, problems };
}

function fromEnvironment(env: NodeJS.ProcessEnv): Assignment[] {
  return OPTION_KEYS.flatMap((key): Assignment[] => {
    const name = variableOf(key);
    const text = env[name];
    if (text === undefined || text === '') return [];
    const origin = { source: 'env' as const, at: name };
    const raw = optionOf(key).kind.fromText(text);
    return [{ key, raw, origin, place: { file: '', line: 0, key: name } }];
  });
}

function fromFlags(flags: Readonly<Record<string, unknown>>): Assignment[] {
  return OPTION_KEYS.flatMap((key): Assignment[] => {
    const given = flags[key];
    if (given === undefined || !optionOf(key).hasFlag) return [];
    const origin = { source: 'flag' as const, at: `--${key}` };
    const raw = typeof given === 'string' ? optionOf(key).kind.fromText(given) : given;
    return [{ key, raw, origin, place: { file: '', line: 0, key: origin.at } }];
  });
}

/** Works out a setting for each option from assignments, the least important first. */
function settle(
  assignments: readonly Assignment[],
  ramBytes: number,
): Pick<ResolvedConfig, 'values' | 'origins' | 'problems'> {
  const values: Partial<Record<OptionKey, unknown>> = {};
  const origins: Partial<Record<OptionKey, Origin>> = {};
  const problems: ConfigProblem[] = [];
  for (const key of OPTION_KEYS) {
    values[key] = optionOf(key).fallback({ ramBytes });
    origins[key] = { source: 'default', at: '' };
  }
  for (const { key, raw, origin, place } of assignments) {
    try {
      values[key] = optionOf(key).kind.check(raw, { ramBytes, source: origin.source });
      origins[key] = origin;
    } catch (thrown) {
      const error = asMemcloudError(thrown);
      const code: ErrorCode = origin.source === 'file' ? 'ERR_CONFIG' : error.code;
      problems.push({ code, ...place, message: error.message });
    }
  }
  return {
    values: values as OptionValues,
    origins: origins as Record<OptionKey, Origin>,
    problems,
  };
}

/** Problems as one reads: file by file, line by line, and then what is in no file. */
function inOrder(problems: ConfigProblem[], files: readonly string[]): ConfigProblem[] {
  const rank = ({ file }: ConfigProblem): number =>
    file === '' ? files.length : files.indexOf(file);
  return problems.sort((a, b) => rank(a) - rank(b) || a.line - b.line);
}

/** Reads everything and works it out. Never throws for what people wrote: see `problems`. */
export function resolveConfig(input: ConfigInput): ResolvedConfig {
  const { flags = {}, env, ramBytes = os.totalmem() } = input;
  const found = findConfigFiles(chosenConfigPath(input), env);
  const read = found.files.map(readFile);
  const assignments = [
    ...read.flatMap((file) => file.assignments),
    ...fromEnvironment(env),
    ...fromFlags(flags),
  ];
  const settled = settle(assignments, ramBytes);
  const problems: ConfigProblem[] = [
    ...found.problems.map(({ file, message }): ConfigProblem => {
      return { code: 'ERR_CONFIG', file, line: 0, key: '', message };
    }),
    ...inOrder([...read.flatMap((file) => file.problems), ...settled.problems], found.files),
  ];
  return { ...settled, files: found.files, problems };
}

/** Everything wrong in some files, whatever else is set. */
export function checkConfigFiles(
  files: readonly string[],
  ramBytes = os.totalmem(),
): ConfigProblem[] {
  const read = files.map(readFile);
  const assignments = read.flatMap((file) => file.assignments);
  const problems = read.flatMap((file) => file.problems);
  return inOrder([...problems, ...settle(assignments, ramBytes).problems], files);
}
