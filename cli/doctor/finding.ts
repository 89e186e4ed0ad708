/** What `memcloud doctor` says: findings, and the one command that mends each. */

/** How a check came out. */
export type CheckLevel = 'ok' | 'warning' | 'problem';

/** One finding; a line of the report, and an object of `--json` (docs/cli-json.md). */
export interface CheckResult {
  /** What was looked at. */
  readonly check: string;
  /** How it came out. */
  readonly level: CheckLevel;
  /** What was found and what it means. */
  readonly finding: string;
  /** The command that mends it; empty when there is nothing to mend. */
  readonly fix: string;
}

/** All is well. */
export function ok(check: string, finding: string): CheckResult {
  return { check, level: 'ok', finding, fix: '' };
}

/** Something is missing, and the rest works without. */
export function warning(check: string, finding: string, fix: string): CheckResult {
  return { check, level: 'warning', finding, fix };
}

/** Something that the main job needs is missing, or data is in danger. */
export function problem(check: string, finding: string, fix: string): CheckResult {
  return { check, level: 'problem', finding, fix };
}
