/** What the schemas of more than one protocol or file are made of. */
import * as v from 'valibot';

/** A whole number from `min` to `max`, both included. */
export function wholeNumber(max = Number.MAX_SAFE_INTEGER, min = 0): v.GenericSchema<number> {
  return v.pipe(
    v.number('expected a whole number'),
    v.safeInteger('expected a whole number'),
    v.minValue(min, `expected at least ${min}`),
    v.maxValue(max, `expected at most ${max}`),
  );
}

/** So many hex digits, lower case. */
export function hexDigits(count: number): v.GenericSchema<string> {
  const pattern = new RegExp(`^[0-9a-f]{${count}}$`);
  return v.pipe(v.string(), v.regex(pattern, `expected ${count} hex digits`));
}
