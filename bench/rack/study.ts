/** One question about a rack, as a table for people and as data for programs. */
import { layOut } from '../table.ts';

/** The answer. */
export interface Study<Row extends object = object> {
  readonly title: string;
  readonly rows: readonly Row[];
  /** Header and cells. */
  readonly columns: Readonly<Record<string, (row: Row) => string>>;
}

/** The table under its title. */
export function renderStudy<Row extends object>({ title, rows, columns }: Study<Row>): string {
  const cells = rows.map((row) => Object.values(columns).map((cell) => cell(row)));
  return `${title}\n\n${layOut(Object.keys(columns), cells)}`;
}

/** `12.3 %` of a share. */
export function percent(share: number): string {
  return `${(100 * share).toPrecision(share > 0 && share < 0.0995 ? 2 : 3)} %`;
}

/** `1 in 3.2e+5` for small chances, a percentage for others. */
export function chance(share: number): string {
  if (share === 0) return '0';
  return share >= 0.001 ? percent(share) : share.toExponential(1);
}
