/** What a row of the table of options says (options.ts), and the kinds of rows. */
import type { ValueKind } from './kinds.ts';

/** When a changed value counts: at a reload, at the next start, for the next `swap on` or `mount`. */
export type Change = 'live' | 'restart' | 'next swap on' | 'next mount';

/** One option. */
export interface Option<T, C extends Change = Change> {
  /** What may be written. */
  readonly kind: ValueKind<T>;
  /** One line of help, beginning in lower case, without a full stop. */
  readonly describe: string;
  /** The value that nobody has to write. */
  readonly fallback: (machine: { readonly ramBytes: number }) => T;
  /** That value in words. */
  readonly fallbackText: string;
  /** When a changed value counts. */
  readonly change: C;
  /** True when memnode takes it as `--key`. */
  readonly hasFlag: boolean;
  /** True when only `--show-hidden` shows it. */
  readonly isHidden: boolean;
}

/** A row of memnode's own, which is also a flag. */
export function option<T, const C extends Change>(
  row: Omit<Option<T, C>, 'hasFlag' | 'isHidden'> & { readonly isHidden?: boolean },
): Option<T, C> {
  return { hasFlag: true, isHidden: false, ...row };
}

/** A row of the table `[swap]`. */
export function swapOption<T>(
  row: Pick<Option<T>, 'kind' | 'describe' | 'fallback' | 'fallbackText'>,
): Option<T, 'next swap on'> {
  return { hasFlag: false, isHidden: false, change: 'next swap on', ...row };
}

/** A row of the table `[mount]`. */
export function mountOption<T>(
  row: Pick<Option<T>, 'kind' | 'describe' | 'fallback' | 'fallbackText'>,
): Option<T, 'next mount'> {
  return { hasFlag: false, isHidden: false, change: 'next mount', ...row };
}
