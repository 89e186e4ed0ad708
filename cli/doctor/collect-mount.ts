/** Collects what `memcloud mount` needs. Looks into no mount. */
import fs from 'node:fs';
import { MountRegister, mountRegisterFile } from '../../common/mount-register.ts';
import { readMountTable } from '../../common/mount-table.ts';
import { isServed, isStillMounted } from '../../common/stale-mounts.ts';
import { hasTool } from '../../common/tool.ts';
import type { SystemFiles } from '../system/system-files.ts';
import type { FuseFacts } from './facts.ts';

const DEVICE = '/dev/fuse';

function deviceState(): FuseFacts['device'] {
  if (!fs.existsSync(DEVICE)) return 'absent';
  try {
    fs.accessSync(DEVICE, fs.constants.R_OK | fs.constants.W_OK);
    return 'ready';
  } catch {
    return 'refused';
  }
}

/** @param socketPath - the RPC socket: beside it a memnode writes down what it mounted */
export function collectFuse(files: SystemFiles, socketPath: string): FuseFacts {
  const table = readMountTable();
  const entered = new MountRegister(mountRegisterFile(socketPath)).load();
  return {
    device: deviceState(),
    fusermount: hasTool('fusermount3'),
    userAllowOther: /^\s*user_allow_other\s*$/m.test(files.read('/etc/fuse.conf') ?? ''),
    staleMounts: entered
      .filter((mount) => !isServed(mount) && isStillMounted(mount, table))
      .map(({ directory }) => directory),
  };
}
