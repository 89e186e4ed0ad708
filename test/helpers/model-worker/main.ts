/**
 * Random operations on two directories at once, in a process of its own:
 *
 *     main.js ORACLE JUDGED SEED SECONDS [COUNT [LEFT_OUT]]
 *
 * ends after the seconds, or after COUNT operations. It prints a line of JSON with what was done; with the
 * first difference it prints that to stderr and ends with status 1. Operation LEFT_OUT and the nine
 * behind it are not done on the judged side, which must be seen. `MODEL_ATTRIBUTES=0`: the judged file system has no extended attributes.
 */
import { RandomOperations } from '../../posix/random-operations.ts';

const [oracle = '', judged = '', ...numbers] = process.argv.slice(2);
const [seed = 1, seconds = 1, countMax = Infinity, leftOut = -1] = numbers.map(Number);

const attributes = process.env['MODEL_ATTRIBUTES'] !== '0';
const operations = new RandomOperations([oracle, judged], seed, attributes);
const end = Date.now() + seconds * 1000;
try {
  while (operations.count < countMax && Date.now() < end) {
    const { count } = operations;
    operations.step(leftOut >= 0 && count >= leftOut && count < leftOut + 10);
  }
  operations.finish();
  const report = { count: operations.count, tally: Object.fromEntries(operations.tally) };
  process.stdout.write(`${JSON.stringify(report)}\n`);
} catch (error) {
  process.stderr.write(
    `SEED=${seed}, operation ${operations.count}: ${(error as Error).message}\n`,
  );
  process.exitCode = 1;
}
