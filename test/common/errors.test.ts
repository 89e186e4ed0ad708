/** The table of error codes, its documentation, and what errors carry. */
import fs from 'node:fs';
import t from 'tap';
import {
  ERROR_CODES,
  ExitCode,
  MemcloudError,
  asMemcloudError,
  isErrorCode,
  type ErrorCode,
} from '../../common/errors.ts';
import { IoStatus } from '../../common/ports.ts';

const text = fs.readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');

/** The rows of the table under a heading, as cells. */
function table(heading: string): string[][] {
  const section = text.split(/^## /m).find((part) => part.startsWith(heading));
  if (section === undefined) throw new Error(`docs/errors.md has no section ${heading}`);
  return section
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\| *-/.test(line))
    .slice(1)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('`', '')),
    );
}

t.test('docs/errors.md has a row for each code and no other, equal in every column', (t) => {
  const documented = table('Codes');
  const defined = Object.entries(ERROR_CODES).map(([code, { exitCode, fault, meaning }]) => [
    code,
    String(exitCode),
    fault,
    meaning,
  ]);
  t.same(documented, defined);
  t.end();
});

t.test('docs/errors.md has a row for each exit code', (t) => {
  t.same(
    table('Exit codes').map(([exitCode, name]) => [Number(exitCode), name]),
    Object.entries(ExitCode).map(([name, exitCode]) => [exitCode, name]),
  );
  t.end();
});

t.test('the exit codes are the documented numbers', (t) => {
  // Restated: scripts depend on them.
  t.same(ExitCode, {
    OK: 0,
    FAILURE: 1,
    USAGE: 2,
    DAEMON_NOT_RUNNING: 3,
    CONSENT_NEEDED: 4,
    RETRYABLE: 5,
    NOT_FOUND: 6,
    CAPACITY: 7,
    DATA_LOST: 8,
    DOCTOR_PROBLEMS: 9,
  });
  t.end();
});

t.test('docs/errors.md maps each status of a page call to the NBD errno of proto.md', (t) => {
  const rows = table('Page calls').map((cells) => cells.slice(0, 4));
  t.same(rows, [
    ['0', 'OK', '0', 'no error'],
    ['1', 'INVALID', '22', 'EINVAL'],
    ['2', 'NO_SPACE', '28', 'ENOSPC'],
    ['3', 'LOST', '5', 'EIO'],
    ['4', 'UNREACHABLE', '5', 'EIO'],
    ['5', 'SHUTDOWN', '108', 'ESHUTDOWN'],
    ['6', 'NO_LEASE', '5', 'EIO'],
  ]);
  t.same(
    rows.map(([status, name]) => [name, Number(status)]),
    Object.entries(IoStatus),
  );
  t.end();
});

t.test('every code is spelled ERR_ and an area, and no error is a success', (t) => {
  const areas =
    /^ERR_(USAGE|CONFIG|DAEMON|RPC|NATIVE|UNSUPPORTED|INTERNAL|TIMEOUT|CANCELLED|NBD|PEER|IDENTITY|GUEST|LEASE|VOLUME|DRAIN|DATA|HANDOVER|MOUNT|OBJECT|INVITE|SWAP|CONTROL|TOKEN)(_[A-Z]+)*$/;
  for (const [code, { exitCode, meaning }] of Object.entries(ERROR_CODES)) {
    t.match(code, areas);
    t.not(exitCode, 0, code);
    t.match(meaning, /^[a-zA-Z].*[^.]$/, `${code}: a phrase without a full stop`);
  }
  t.end();
});

t.test('an error carries its code, its class, its message and its cause', (t) => {
  const cause = new Error('below');
  const error = new MemcloudError('ERR_LEASE_CAPACITY', 'no room', { cause });
  t.ok(error instanceof Error);
  t.equal(error.name, 'MemcloudError');
  t.equal(error.code, 'ERR_LEASE_CAPACITY');
  t.equal(error.fault, 'remote');
  t.equal(error.exitCode, 7);
  t.equal(error.message, 'no room');
  t.equal(error.cause, cause);
  t.end();
});

t.test('codes from other processes are recognised, and nothing else', (t) => {
  for (const code of Object.keys(ERROR_CODES)) t.equal(isErrorCode(code), true);
  const others = ['', 'ERR_', 'err_usage', 'toString', '__proto__', 'constructor', 5, null, {}, []];
  for (const other of [...others, undefined]) {
    t.equal(isErrorCode(other), false, JSON.stringify(other));
  }
  t.end();
});

t.test('whatever was thrown becomes an error of the table', (t) => {
  const own = new MemcloudError('ERR_TIMEOUT', 'late');
  t.equal(asMemcloudError(own), own);
  const thrown = [new TypeError('x is not a function'), 'text', 5, null, undefined, { a: 1 }];
  for (const value of thrown) {
    const error = asMemcloudError(value);
    t.equal(error.code, 'ERR_INTERNAL' satisfies ErrorCode);
    t.equal(error.cause, value);
  }
  t.equal(asMemcloudError(new TypeError('boom')).message, 'boom');
  t.end();
});
