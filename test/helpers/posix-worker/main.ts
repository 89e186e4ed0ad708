/**
 * Tries POSIX cases in a directory, in a process of its own: a file system that hangs or kills hurts
 * this process and not the one that judges.
 *
 *     main.js suite DIRECTORY [large]   every case, a line of JSON before and after each
 *     main.js try-lock FILE TYPE START LENGTH   prints 0 or the errno of fcntl(F_SETLK)
 *     main.js touch-beyond FILE   maps the file, cuts it to nothing, touches a page (SIGBUS)
 */
import fs from 'node:fs';
import { MMAN, mmap, viewMemory } from '../../../common/libc.ts';
import { posixGroups } from '../../posix/all-groups.ts';
import { Room } from '../../posix/case.ts';
import * as sys from '../posix-calls.ts';

/** Lines go out at once: the next call may never come back. */
function say(line: object): void {
  fs.writeSync(1, `${JSON.stringify(line)}\n`);
}

function runSuite(directory: string, large: boolean): void {
  const root = process.getuid?.() === 0;
  sys.umask(0o022);
  let serial = 0;
  for (const group of posixGroups) {
    for (const { name, needs, run } of group.cases) {
      say({ group: group.name, name });
      if (needs === 'root' && !root) {
        say({ skip: 'needs root' });
        continue;
      }
      if (needs === 'large' && !large) {
        say({ skip: 'left out of the short form' });
        continue;
      }
      const path = `${directory}/case-${(serial += 1)}`;
      try {
        if (sys.mkdir(path) < 0) throw new Error(`no room for the case at ${path}`);
        sys.chmod(path, 0o755);
        run(new Room(path));
        say({ ok: true });
      } catch (error) {
        const { message, stack } = error as Error;
        const place = /cases\/[^)]*/.exec(stack ?? '')?.[0] ?? '';
        say({ ok: false, message: `${message.slice(0, 600)} (${place})` });
      }
      try {
        fs.rmSync(path, { recursive: true, force: true });
      } catch (error) {
        say({ untidy: (error as Error).message });
      }
    }
  }
}

/** The page stays mapped until the signal comes. */
function touchBeyond(file: string): void {
  const fd = sys.open(file, sys.O.RDWR);
  const address = mmap({
    length: 8192,
    protection: MMAN.PROT_READ | MMAN.PROT_WRITE,
    flags: MMAN.MAP_SHARED,
    fd,
    offset: 0,
  });
  const bytes = viewMemory(address, 8192);
  bytes.write('there');
  sys.ftruncate(fd, 0);
  process.stdout.write(`survived ${bytes.readUInt8(4096)}`);
}

const [command, target = '', ...rest] = process.argv.slice(2);
if (command === 'suite') runSuite(target, rest.includes('large'));
else if (command === 'touch-beyond') touchBeyond(target);
else if (command === 'try-lock') {
  const [type = 0, start = 0, length = 0] = rest.map(Number);
  const fd = sys.open(target, sys.O.RDWR);
  process.stdout.write(`${sys.outcome(sys.lockRange(fd, sys.F.SETLK, type, start, length))}\n`);
} else {
  process.stderr.write('usage: main.js suite | try-lock | touch-beyond\n');
  process.exitCode = 2;
}
