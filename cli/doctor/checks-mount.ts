/** Checks of what `memcloud mount` needs: FUSE in the kernel, rights of users, and mounts that nobody serves. */
import type { MachineFacts } from './facts.ts';
import { ok, problem, warning, type CheckResult } from './finding.ts';

/** Linux 6.1 brought O_TMPFILE to FUSE. */
const TMPFILE_RELEASE = [6, 1] as const;

function isBefore(release: string, [major, minor]: readonly [number, number]): boolean {
  const [haveMajor = 0, haveMinor = 0] = release.split(/[.-]/).map(Number);
  return haveMajor < major || (haveMajor === major && haveMinor < minor);
}

/** /dev/fuse, and what the kernel's FUSE can do. */
export function checkFuse({ kernel: { release }, fuse }: MachineFacts): CheckResult[] {
  const check = 'FUSE';
  switch (fuse.device) {
    case 'absent': {
      const finding = 'there is no /dev/fuse: memcloud mount does not work; swap and volumes do';
      return [warning(check, finding, 'modprobe fuse')];
    }
    case 'refused': {
      const finding = '/dev/fuse may not be opened by this user: memcloud mount does not work';
      return [warning(check, finding, 'chmod 666 /dev/fuse')];
    }
    case 'ready':
      break;
  }
  if (isBefore(release, TMPFILE_RELEASE)) {
    const finding =
      `FUSE of Linux ${release} has no O_TMPFILE: programs that want it on a mount make a named ` +
      'file instead';
    return [warning(check, finding, 'apt-get install linux-image-amd64')];
  }
  return [ok(check, `the kernel takes mounts (Linux ${release})`)];
}

/** Who is not root mounts with fusermount3, and shares a mount only if root allows it. */
export function checkUserMounts({ root, fuse }: MachineFacts): CheckResult[] {
  const check = 'mounts of users';
  if (!fuse.fusermount) {
    const finding = 'fusermount3 not found: only a memnode of root can mount';
    const fix = 'apt-get install fuse3';
    return [root ? ok(check, 'memnode of root mounts by itself') : warning(check, finding, fix)];
  }
  if (root || fuse.userAllowOther) return [ok(check, 'fusermount3 is there')];
  const finding =
    'fusermount3 is there; mount --allow-other is refused: /etc/fuse.conf has no user_allow_other';
  return [ok(check, finding)];
}

/** Mounts that memnode entered and that nobody serves any more. */
export function checkStaleMounts({ fuse: { staleMounts } }: MachineFacts): CheckResult[] {
  return staleMounts.map((directory) => {
    const finding = `${directory} is left of a memnode that was killed; whoever looks into it gets errors`;
    return problem('stale mount', finding, `umount -l ${directory}`);
  });
}
