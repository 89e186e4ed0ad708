/**
 * The command line of QEMU. Chosen by measuring boots (two cores, no KVM): q35 without its unused
 * controllers comes up in 1.6 s, the default machine in 2.0 s; microvm in 1.3 s, but it has no timer
 * to calibrate the processor's clock against and hung in 1 of 25 boots on a busy host.
 *
 * The processor lacks what is slow to emulate: with `erms` Linux copies and clears pages by `rep movsb`, which TCG
 * does byte by byte (`dd` from /dev/zero: 0.33 GB/s, without 1.9); SMAP and SMEP, protection keys and a fifth level of
 * page tables are work at each entry and each miss. A guest that swaps is 10 to 16 % faster without them.
 */
import { GUEST_PORTS } from './init-script.ts';

/** A port of the host's loopback that leads into the guest. */
export interface PortForward {
  /** Port on 127.0.0.1 of the host. */
  readonly hostPort: number;
  /** Port in the guest. */
  readonly guestPort: number;
}

/** The descriptors of the initramfs and of the monitor: they follow three standard ones and three ports. */
const INITRAMFS_FD = 6;
const MONITOR_FD = 7;
/** The guest's network card, by the name that the monitor knows. */
export const NETWORK_CARD = 'net';

const KERNEL_ARGUMENTS = [
  ...['console=ttyS0', 'quiet', 'panic=-1', 'oops=panic', 'psi=1', 'mitigations=off'],
  ...['nokaslr', 'no_timer_check', 'cryptomgr.notests', 'audit=0', 'random.trust_cpu=on'],
  ...['rcupdate.rcu_expedited=1', '8250.nr_uarts=1', 'i8042.noaux', 'i8042.nokbd'],
];

const PROCESSOR = 'max,-erms,-smap,-smep,-pku,-la57';

/** The arguments for a guest whose ports are the descriptors 3 to 5, then the initramfs, then the monitor. */
export function qemuArguments(options: {
  kernelFile: string;
  imageFile: string;
  memoryMib: number;
  forwards: readonly PortForward[];
  kernelArguments: readonly string[];
}): string[] {
  const forwards = options.forwards.map(
    ({ hostPort, guestPort }) => `,hostfwd=tcp:127.0.0.1:${hostPort}-:${guestPort}`,
  );
  const ports = GUEST_PORTS.flatMap((name, index) => [
    ...['-chardev', `socket,id=${name},fd=${3 + index}`],
    ...['-device', `virtserialport,chardev=${name},name=${name}`],
  ]);
  const image = options.imageFile.replaceAll(',', ',,');
  return [
    ...['-machine', 'q35,smbus=off,sata=off,usb=off,vmport=off'],
    ...['-accel', 'tcg,thread=multi', '-cpu', PROCESSOR, '-smp', '2', '-m', `${options.memoryMib}`],
    ...['-nodefaults', '-display', 'none', '-no-user-config', '-no-reboot'],
    ...['-chardev', 'stdio,id=console,mux=on,signal=off', '-serial', 'chardev:console'],
    ...['-device', 'virtio-serial-pci', ...ports],
    ...['-drive', `file=${image},format=raw,if=none,id=root,snapshot=on,cache=unsafe`],
    ...['-device', 'virtio-blk-pci,drive=root'],
    ...['-chardev', `socket,id=monitor,fd=${MONITOR_FD}`, '-mon', 'chardev=monitor,mode=control'],
    ...['-netdev', `user,id=${NETWORK_CARD},ipv6=off${forwards.join('')}`],
    ...['-device', `virtio-net-pci,netdev=${NETWORK_CARD},romfile=`],
    ...['-kernel', options.kernelFile, '-initrd', `/dev/fd/${INITRAMFS_FD}`],
    ...['-append', [...KERNEL_ARGUMENTS, ...options.kernelArguments].join(' ')],
  ];
}
