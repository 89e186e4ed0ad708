/** memnode on a socket that systemd opened (systemd/memcloud.socket), by systemd's own program for that. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { StatusInfo } from '../../common/rpc-schema.ts';
import { requires } from '../helpers/judges.ts';
import { CLEAN_ENV, MEMNODE, eventually, labFolder, memcloudJson } from '../helpers/lab-node.ts';

const ACTIVATE = 'systemd-socket-activate';

t.test(
  'a caller starts memnode and waits for it; the file stays',
  requires(ACTIVATE),
  async (t) => {
    const folder = labFolder(t);
    const socketPath = path.join(folder, 'rpc.sock');
    const words = `--state ${folder}/state --socket ${socketPath} --listen 127.0.0.1:0 --offer 0 --kit off`;
    const child = spawn(
      ACTIVATE,
      [`--listen=${socketPath}`, '--fdname=rpc', process.execPath, MEMNODE, ...words.split(' ')],
      { env: CLEAN_ENV, stdio: 'ignore' },
    );
    t.teardown(() => child.kill('SIGKILL'));
    await eventually('it listens', () => fs.existsSync(socketPath));
    // Asked before there is anybody: the kernel keeps the call.
    t.equal((await memcloudJson<StatusInfo>(t, socketPath, 'status')).pid, child.pid);
    t.equal((await memcloudJson<StatusInfo>(t, socketPath, 'status')).pid, child.pid);
    child.kill('SIGTERM');
    const [code] = (await once(child, 'exit')) as [number | null];
    t.equal(code, 0);
    t.ok(fs.existsSync(socketPath), 'whoever made the file removes it');
  },
);
