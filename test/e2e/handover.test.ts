/**
 * memnode is replaced while the kernel swaps onto one of its volumes: a program in a guest walks a heap
 * that does not fit, its pages are with two providers outside, and `memcloud restart` comes in the
 * middle. Every word must be right and the kernel may not have seen an error, nor the end of a
 * connection. Then memnode is killed for good: a device of its volume gives errors, never old bytes.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { NodeProcess } from '../../cli/demo/node-process.ts';
import type { HandoverInfo } from '../../common/rpc-process.ts';
import type { VolumeDetails } from '../../common/rpc-schema.ts';
import { bootGuest, runOk, skipWithoutGuest } from '../helpers/guest.ts';

const MIB = 2 ** 20;
const HEAP_MIB = 96;
/** A pass takes one to two minutes there, and a handover one, of which clients wait a moment. */
const PASSES = 3;
const HANDOVERS = 1;
/** The goal is a second; an emulated processor is 20 to 50 times slower than a real one. */
const PAUSE_MAX_MS = 5000;

const PREAMBLE = `
  cd /opt/memcloud
  memcloud='node dist/cli/main.js --socket /tmp/m.sock --json'
`;

/** Starts memnode in the guest and waits for its peers. */
function startMemnode(connect: string): string {
  return `cd /opt/memcloud
    node dist/daemon/main.js --name guest --state /tmp/state --socket /tmp/m.sock \\
      --listen 127.0.0.1:0 --offer 0 --auto-trust ${connect} >>/tmp/ready 2>/tmp/log &
    for second in $(seq 170); do
      if [ "$(grep -c 'peer up' /tmp/log)" -ge 2 ]; then exit 0; fi
      sleep 1
    done
    cat /tmp/log >&2; exit 1`;
}

t.test(
  'memnode replaced under live swap',
  { skip: skipWithoutGuest(), timeout: 3_600_000 },
  async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memcloud-handover-'));
    const providers: NodeProcess[] = [];
    t.teardown(async () => {
      await Promise.all(providers.map((node) => node.stop()));
      fs.rmSync(folder, { recursive: true, force: true });
    });
    for (const name of ['provider-a', 'provider-b']) {
      providers.push(await NodeProcess.start({ name, folder, offer: '1G' }));
    }
    const guest = await bootGuest(t, {
      timeoutMs: 40 * 60_000,
      memoryMib: 768,
      modules: ['nbd nbds_max=4'],
    });
    const connect = providers
      .map(({ peerAddress }) => `--connect 10.0.2.2:${peerAddress.split(':').at(-1) ?? ''}`)
      .join(' ');
    await runOk(t, guest, startMemnode(connect), { timeoutMs: 180_000 });

    await t.test('a heap on swap is walked while memnode is replaced', async (t) => {
      const script = `${PREAMBLE}
      $memcloud run --memory 80M --swap 256M --copies 2 -- \\
        node dist/cli/demo/hog.js ${HEAP_MIB} ${PASSES} >/tmp/hog 2>/tmp/run &
      run=$!
      for second in $(seq 400); do
        grep -q filled /tmp/hog && break
        [ -d /proc/$run ] || break
        sleep 1
      done
      for round in $(seq ${HANDOVERS}); do
        out=$(awk '/^pswpout/{print $2}' /proc/vmstat)
        echo "handover $($memcloud restart)"
        in=$(awk '/^pswpin/{print $2}' /proc/vmstat)
        sleep 10
        echo "moved $(( $(awk '/^pswpin/{print $2}' /proc/vmstat) - in ))" \\
          "$(( $(awk '/^pswpout/{print $2}' /proc/vmstat) - out ))"
      done
      name=$(ls -d /sys/fs/cgroup/memcloud-run-* | sed 's/.*memcloud-//')
      echo "volume $($memcloud volume inspect $name)"
      wait $run
      echo "code $?"
      cat /tmp/hog /tmp/run
      grep -E 'took over|connected again|not handed|"level":[45]0' /tmp/log >&2`;
      const { stdout, stderr } = await runOk(t, guest, script, { timeoutMs: 25 * 60_000 });
      const handovers = [...stdout.matchAll(/^handover (\{.*\})$/gm)].map(
        ([, json = '']) => JSON.parse(json) as HandoverInfo,
      );
      t.equal(handovers.length, HANDOVERS, stdout.slice(-1500));
      for (const { pauseMs, bytes, connections } of handovers) {
        t.comment(`clients waited ${pauseMs} ms; ${bytes} bytes, ${connections} connections`);
        t.equal(connections, 1, 'the socket of the kernel');
        t.ok(pauseMs < PAUSE_MAX_MS, 'a moment, emulated as it is');
      }
      t.comment(stderr.trim());
      for (const [, pagesIn, pagesOut] of stdout.matchAll(/^moved (\d+) (\d+)$/gm)) {
        t.comment(`${pagesIn} pages in, ${pagesOut} out within ten seconds`);
        t.ok(Number(pagesIn) > 0, 'the kernel was swapping');
      }
      const volume = JSON.parse(/^volume (\{.*\})$/m.exec(stdout)?.[1] ?? '{}') as VolumeDetails;
      const { lostPages, forgedPages, failedRequests, droppedReplicas } = volume.counters;
      t.same([lostPages, forgedPages, failedRequests, droppedReplicas], [0, 0, 0, 0]);
      const line = stdout.split('\n').find((text) => text.includes('"wordsChecked"')) ?? '{}';
      const hog = JSON.parse(line) as { wordsChecked: number; wrongWords: number };
      t.equal(hog.wrongWords, 0, 'every word came back right');
      t.equal(hog.wordsChecked, (HEAP_MIB * MIB * PASSES) / 4);
      t.match(stdout, /^code 0$/m);
      t.notMatch(guest.kernelLog, /error|Out of memory|blocked for more than|Dead connection/i);
      // The swap goes off in order at the end, and the kernel tells of that too.
      const [whileOn = ''] = guest.kernelLog.split('NBD_DISCONNECT');
      t.notMatch(whileOn, /Receive control failed|shutting down sockets|Possible stuck/);
    });

    await t.test('killed for good: errors, not old bytes', async (t) => {
      const script = `${PREAMBLE}
      $memcloud volume create gone --size 16M >/dev/null
      $memcloud nbd attach gone >/tmp/attached || exit 1
      device=/dev/nbd0
      dd if=/dev/urandom of=/tmp/old bs=1M count=4 2>/dev/null
      dd if=/tmp/old of=$device bs=256k oflag=direct conv=fsync 2>/dev/null || exit 1
      kill -9 $($memcloud status | sed 's/.*"pid":\\([0-9]*\\).*/\\1/')
      dd if=$device of=/tmp/flying bs=64k count=1 iflag=direct 2>/tmp/flying.err &
      reader=$!
      ${startMemnode(connect)
        .replace(/exit 0/, 'break')
        .replace(/cat \/tmp\/log >&2; exit 1/, 'true')}
      wait $reader
      echo "flying $? $(stat -c %s /tmp/flying)"
      dd if=$device of=/tmp/later bs=64k count=1 iflag=direct 2>/tmp/later.err
      echo "later $? $(stat -c %s /tmp/later)"
      grep -c 'its pages are gone' /tmp/log
      echo "volumes $($memcloud volume ls)"
      cat /tmp/flying.err /tmp/later.err >&2`;
      const { stdout, stderr } = await runOk(t, guest, script, { timeoutMs: 6 * 60_000 });
      t.comment(stderr.trim());
      t.match(stdout, /^flying 1 0$/m, 'a read that was waiting failed, with nothing');
      t.match(stdout, /^later [01] 0$/m, 'and a later one has nothing: the device is detached');
      t.match(stdout, /^1$/m, 'the log says so');
      t.match(stdout, /^volumes \[\]$/m);
    });
  },
);
