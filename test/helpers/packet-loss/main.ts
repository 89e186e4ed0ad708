/**
 * Loses packets: `main.js INTERFACE SHARE`, run in the network namespace of the interface. Of the
 * packets that come in there, the share (0 to 1) is dropped by the kernel, each by its own throw of the
 * dice, before anything else sees them. It prints `ready` and lasts until it is killed.
 *
 * Made for kernels without netem and without a packet filter: seven instructions of BPF on the XDP
 * hook (Linux `include/uapi/linux/bpf.h`; a link since 5.9), in generic mode, which every device has.
 */
import fs from 'node:fs';
import koffi from 'koffi';
import { errnoName } from '../../../common/libc.ts';

/** Linux x86-64 and arm64 (`asm/unistd.h`). */
const SYS_BPF = process.arch === 'arm64' ? 280 : 321;
const BPF_PROG_LOAD = 5;
const BPF_LINK_CREATE = 28;
const BPF_PROG_TYPE_XDP = 6;
const BPF_XDP = 37;
const XDP_FLAGS_SKB_MODE = 2;
const BPF_FUNC_GET_PRANDOM_U32 = 7;
const XDP_DROP = 1;
const XDP_PASS = 2;

const syscall = koffi
  .load(null)
  .func('long syscall(long number, long command, void *attributes, unsigned long size)');

/** One instruction: opcode, registers, jump, constant. */
function instruction(opcode: number, registers: number, jump: number, constant: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(opcode, 0);
  bytes.writeUInt8(registers, 1);
  bytes.writeInt16LE(jump, 2);
  bytes.writeInt32LE(constant | 0, 4);
  return bytes;
}

/** Drops when a random 32-bit number is at most `share` of all. */
function program(share: number): Buffer {
  return Buffer.concat([
    instruction(0x85, 0, 0, BPF_FUNC_GET_PRANDOM_U32), // r0 = random
    instruction(0xb4, 1, 0, Math.floor(share * (2 ** 32 - 1))), // w1 = limit
    instruction(0x2d, 0x10, 2, 0), // if r0 > r1 pass
    instruction(0xb7, 0, 0, XDP_DROP),
    instruction(0x95, 0, 0, 0),
    instruction(0xb7, 0, 0, XDP_PASS),
    instruction(0x95, 0, 0, 0),
  ]);
}

function bpf(command: number, attributes: Buffer): number {
  const fd = Number(syscall(SYS_BPF, command, attributes, attributes.length));
  if (fd < 0) throw new Error(`bpf command ${command}: ${errnoName(koffi.errno())}`);
  return fd;
}

const [device = '', share = ''] = process.argv.slice(2);
const code = program(Number(share));
const licence = Buffer.from('GPL\0');
const load = Buffer.alloc(128);
load.writeUInt32LE(BPF_PROG_TYPE_XDP, 0);
load.writeUInt32LE(code.length / 8, 4);
load.writeBigUInt64LE(BigInt(koffi.address(code)), 8);
load.writeBigUInt64LE(BigInt(koffi.address(licence)), 16);
const link = Buffer.alloc(64);
link.writeUInt32LE(bpf(BPF_PROG_LOAD, load), 0);
link.writeUInt32LE(Number(fs.readFileSync(`/sys/class/net/${device}/ifindex`, 'utf8')), 4);
link.writeUInt32LE(BPF_XDP, 8);
link.writeUInt32LE(XDP_FLAGS_SKB_MODE, 12);
bpf(BPF_LINK_CREATE, link);
process.stdout.write('ready\n');
// The link lives as long as its descriptor.
setInterval(() => undefined, 60_000);
