/**
 * What independent NBD clients say of a server, written against a URI only, so that the same suite
 * judges the server alone and the daemon with everything behind it. The export is at least 64 MiB,
 * writable, and its contents are overwritten.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { judge, patternBytes, requires } from '../helpers/judges.ts';

const MIB = 2 ** 20;

/** The server under judgement. */
export interface NbdSubject {
  /** For libnbd and its tools. */
  uri: string;
  /** Bytes of the export, at least 64 MiB. */
  sizeBytes: number;
  /** Several connections at once are allowed; default true. */
  multiConnection?: boolean;
}

function scratch(t: Test): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-interop-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs every judge as subtests of `t`. */
export async function judgeNbd(t: Test, subject: NbdSubject): Promise<void> {
  await judgeNbdinfo(t, subject);
  await judgeNbdcopy(t, subject);
  await judgeQemuImg(t, subject);
  await judgeQemuIo(t, subject);
  await judgeNbdsh(t, subject);
  await judgeFio(t, subject);
}

interface NbdinfoExport {
  'export-size': number;
  contexts: string[];
  [key: string]: unknown;
}

async function judgeNbdinfo(
  t: Test,
  { uri, sizeBytes, multiConnection = true }: NbdSubject,
): Promise<void> {
  await t.test('nbdinfo', requires('nbdinfo'), async (t) => {
    const json = await judge('nbdinfo', ['--json', uri]);
    t.equal(json.code, 0, json.stderr);
    const info = JSON.parse(json.stdout) as {
      protocol: string;
      structured: boolean;
      exports: NbdinfoExport[];
    };
    t.match(info, { protocol: 'newstyle-fixed', structured: true });
    const [only] = info.exports;
    t.match(only, {
      'export-size': sizeBytes,
      contexts: ['base:allocation'],
      is_rotational: false,
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: multiConnection,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 33554432,
    });
    t.equal((await judge('nbdinfo', ['--list', uri])).code, 0, '--list');
    const size = await judge('nbdinfo', ['--size', uri]);
    t.equal(Number(size.stdout), sizeBytes, '--size');
    const can = 'flush fua trim zero fast-zero cache df structured-reply'.split(' ');
    for (const what of multiConnection ? [...can, 'multi-conn'] : can) {
      t.equal((await judge('nbdinfo', ['--can', what, uri])).code, 0, `--can ${what}`);
    }
    t.equal((await judge('nbdinfo', ['--is', 'read-only', uri])).code, 2, '--is read-only');
    t.equal((await judge('nbdinfo', ['--map', '--totals', uri])).code, 0, '--map --totals');
  });
}

async function judgeNbdcopy(t: Test, { uri }: NbdSubject): Promise<void> {
  await t.test('nbdcopy there and back', requires('nbdcopy', 'qemu-img'), async (t) => {
    const directory = scratch(t);
    const [there, back] = ['there', 'back'].map((name) => path.join(directory, name)) as [
      string,
      string,
    ];
    const ways: string[][] = [
      [],
      ['--connections=4', '--requests=64', '--request-size=4096'],
      ['--connections=1', '--requests=1', '--request-size=1048576'],
      ['--request-size=33554432', '--requests=4'],
      ['--synchronous'],
    ];
    for (const [index, way] of ways.entries()) {
      const bytes = patternBytes(48 * MIB, index + 1);
      fs.writeFileSync(there, bytes);
      const out = await judge('nbdcopy', [...way, '--flush', there, uri]);
      t.equal(out.code, 0, `out ${way.join(' ')} ${out.stderr}`);
      const home = await judge('nbdcopy', [...way, uri, back]);
      t.equal(home.code, 0, `back ${way.join(' ')} ${home.stderr}`);
      t.ok(fs.readFileSync(back).subarray(0, bytes.length).equals(bytes), 'equal bytes');
    }
    t.equal((await judge('nbdcopy', [uri, 'null:'])).code, 0, 'to null:');
  });
}

async function judgeQemuImg(t: Test, { uri, sizeBytes }: NbdSubject): Promise<void> {
  await t.test('qemu-img convert, compare, map', requires('qemu-img'), async (t) => {
    const file = path.join(scratch(t), 'image');
    const bytes = Buffer.alloc(sizeBytes);
    patternBytes(3 * MIB, 7).copy(bytes, 5 * MIB);
    fs.writeFileSync(file, bytes);
    const raw = ['-f', 'raw', '-F', 'raw'];
    const convert = await judge('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, uri]);
    t.equal(convert.code, 0, convert.stderr);
    t.equal((await judge('qemu-img', ['compare', ...raw, file, uri])).code, 0, 'identical');
    bytes.writeUInt8(bytes.readUInt8(5 * MIB + 100) ^ 1, 5 * MIB + 100);
    fs.writeFileSync(file, bytes);
    t.equal((await judge('qemu-img', ['compare', ...raw, file, uri])).code, 1, 'one bit differs');
    const map = await judge('qemu-img', ['map', '--output=json', '-f', 'raw', uri]);
    const extents = JSON.parse(map.stdout) as { start: number; length: number; zero: boolean }[];
    t.equal(
      extents.reduce((sum, extent) => sum + extent.length, 0),
      sizeBytes,
      'the map covers the export',
    );
    const holding = extents.find((e) => e.start <= 5 * MIB && e.start + e.length > 5 * MIB);
    t.equal(holding?.zero, false, 'data is not called zero');
    for (const write of [[], ['-w']]) {
      const args = ['bench', '-f', 'raw', ...write, '-c', '2000', '-d', '32', '-s', '4096', uri];
      t.equal((await judge('qemu-img', args)).code, 0, args.join(' '));
    }
  });
}

async function judgeQemuIo(t: Test, { uri }: NbdSubject): Promise<void> {
  await t.test('qemu-io', requires('qemu-io'), async (t) => {
    const steps = [
      'write -P 0xab 0 4k',
      'read -P 0xab 0 4k',
      'write -P 0xcd 1 4095',
      'read -P 0xab 0 1',
      'read -P 0xcd 1 4095',
      'write -z -u 4k 64k',
      'read -P 0 4k 64k',
      'write -P 3 8k 1k',
      'write -z 8k 512',
      'read -P 0 8k 512',
      'read -P 3 8704 512',
      'discard 128k 64k',
      'write -f -P 1 1M 512',
      'read -P 1 1M 512',
      'write -P 7 3 3000000',
      'read -P 7 3 3000000',
      'write -P 9 4M 16M',
      'read -P 9 4M 16M',
      'flush',
    ];
    const args = ['-f', 'raw', ...steps.flatMap((step) => ['-c', step]), uri];
    const result = await judge('qemu-io', args);
    t.equal(result.code, 0, result.stdout + result.stderr);
    t.notMatch(result.stdout, /verification failed/);
  });
}

const EDGE_PROBES = `
import json
h.set_strict_mode(0)
h.connect_uri(URI)
S = h.get_size()
out = {}
def probe(name, call):
    try:
        r = call()
        out[name] = len(r) if isinstance(r, (bytes, bytearray)) else 0
    except nbd.Error as e:
        out[name] = e.errno
one = lambda *a: 0
probe('read past end', lambda: h.pread(4096, S - 100))
probe('write past end', lambda: h.pwrite(b'x' * 4096, S - 100))
probe('zero past end', lambda: h.zero(4096, S - 100))
probe('trim past end', lambda: h.trim(4096, S - 100))
probe('cache past end', lambda: h.cache(4096, S - 100))
probe('block status past end', lambda: h.block_status(4096, S - 100, one))
probe('read at 2^63', lambda: h.pread(512, 1 << 63))
probe('trim far away', lambda: h.trim(1 << 31, 1 << 62))
probe('read nothing', lambda: h.pread(0, 0))
probe('write nothing', lambda: h.pwrite(b'', 0))
probe('trim nothing', lambda: h.trim(0, 0))
probe('zero nothing', lambda: h.zero(0, 0))
probe('block status nothing', lambda: h.block_status(0, 0, one))
probe('read 64k DF', lambda: h.pread_structured(65536, 0, one, nbd.CMD_FLAG_DF))
probe('read 32M', lambda: h.pread(32 << 20, 0))
probe('read 33M', lambda: h.pread(33 << 20, 0))
probe('write 32M', lambda: h.pwrite(b'\\x55' * (32 << 20), 0))
probe('write 33M', lambda: h.pwrite(b'\\x55' * (33 << 20), 0))
probe('read afterwards', lambda: h.pread(4096, 0))
probe('write NO_HOLE', lambda: h.pwrite(b'x' * 512, 0, nbd.CMD_FLAG_NO_HOLE))
probe('read FUA', lambda: h.pread(512, 0, nbd.CMD_FLAG_FUA))
probe('write FUA', lambda: h.pwrite(b'x' * 512, 0, nbd.CMD_FLAG_FUA))
probe('trim FUA', lambda: h.trim(4096, 0, nbd.CMD_FLAG_FUA))
probe('cache FUA', lambda: h.cache(4096, 0, nbd.CMD_FLAG_FUA))
probe('zero with all flags', lambda: h.zero(4096, 0,
    nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO))
ones = []
def extents(context, offset, entries, err):
    ones.append(len(entries) // 2)
probe('block status REQ_ONE', lambda: h.block_status(1 << 20, 0, extents, nbd.CMD_FLAG_REQ_ONE))
out['extents of REQ_ONE'] = ones
probe('flush', lambda: h.flush())
h.shutdown()
print(json.dumps(out))
`;

async function judgeNbdsh(t: Test, { uri }: NbdSubject): Promise<void> {
  await t.test('nbdsh edge probes', requires('nbdsh'), async (t) => {
    const program = `URI = ${JSON.stringify(uri)}\n${EDGE_PROBES}`;
    const result = await judge('nbdsh', ['--base-allocation', '-c', '-'], { input: program });
    t.equal(result.code, 0, result.stderr);
    t.same(JSON.parse(result.stdout), {
      'read past end': 'EINVAL',
      'write past end': 'ENOSPC',
      'zero past end': 'ENOSPC',
      'trim past end': 'EINVAL',
      'cache past end': 'EINVAL',
      'block status past end': 'EINVAL',
      'read at 2^63': 'EINVAL',
      'trim far away': 'EINVAL',
      'read nothing': 0,
      'write nothing': 0,
      'trim nothing': 0,
      'zero nothing': 0,
      'block status nothing': 'EINVAL',
      'read 64k DF': 65536,
      'read 32M': 33554432,
      'read 33M': 'EINVAL',
      'write 32M': 0,
      'write 33M': 'EINVAL',
      'read afterwards': 4096,
      'write NO_HOLE': 'EINVAL',
      'read FUA': 512,
      'write FUA': 0,
      'trim FUA': 0,
      'cache FUA': 0,
      'zero with all flags': 0,
      'block status REQ_ONE': 0,
      'extents of REQ_ONE': [1],
      flush: 0,
    });
  });
}

async function judgeFio(t: Test, { uri }: NbdSubject): Promise<void> {
  const verify = ['--do_verify=1', '--verify_fatal=1', '--verify_state_save=0'];
  const jobs: [string, string[]][] = [
    ['4k QD1', ['--rw=randwrite', '--bs=4k', '--iodepth=1', '--size=8M', '--verify=crc32c']],
    ['4k QD16', ['--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=32M', '--verify=crc32c']],
    ['4k QD128', ['--rw=randwrite', '--bs=4k', '--iodepth=128', '--size=64M', '--verify=crc32c']],
    [
      'mixed sizes',
      [
        '--rw=randrw',
        '--bsrange=512-256k',
        '--blockalign=512',
        '--iodepth=64',
        '--size=64M',
      ].concat('--verify=md5'),
    ],
    ['128k swap-out', ['--rw=write', '--bs=128k', '--iodepth=32', '--size=64M', '--verify=crc32c']],
    ['trims', ['--rw=randtrim', '--bs=64k', '--iodepth=16', '--size=64M']],
  ];
  await t.test('fio', requires('fio'), async (t) => {
    const cwd = scratch(t);
    for (const [what, args] of jobs) {
      const common = ['--name=v', '--ioengine=nbd', `--uri=${uri}`, ...args, ...verify];
      const result = await judge('fio', common, { cwd });
      t.equal(result.code, 0, `${what}: ${result.stderr}`);
      t.match(result.stdout, /err= 0/, what);
    }
  });
}
