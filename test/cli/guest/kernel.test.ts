import path from 'node:path';
import t, { type Test } from 'tap';
import {
  moduleClosure,
  moduleName,
  readModuleFacts,
  type GuestKernel,
} from '../../../cli/guest/kernel.ts';

/** A kernel whose module files hold only what is read of them. */
function kernel(t: Test, facts: Record<string, string[]>): GuestKernel {
  const files = Object.entries(facts).map(([name, strings]): [string, string] => [
    `${name}.ko`,
    `\u007fELF junk\0${strings.join('\0')}\0more`,
  ]);
  const folder = t.testdir(Object.fromEntries(files));
  return {
    release: '6.1.0-test',
    imageFile: path.join(folder, 'vmlinuz'),
    modules: new Map(
      Object.keys(facts).map((name) => [moduleName(name), path.join(folder, `${name}.ko`)]),
    ),
  };
}

t.test('a module’s needs and aliases are read from .modinfo', async (t) => {
  const made = kernel(t, {
    'dm-crypt': ['license=GPL', 'alias=dm-x', 'alias=dm-y', 'depends=dm-mod,xts', 'name=dm_crypt'],
    alone: ['depends=', 'notdepends=a'],
  });
  t.same(readModuleFacts(made.modules.get('dm_crypt')!), {
    needs: ['dm_mod', 'xts'],
    aliases: ['dm-x', 'dm-y'],
  });
  t.same(readModuleFacts(made.modules.get('alone')!), { needs: [], aliases: [] });
});

t.test('modules come after what they need, once each; unknown ones are left out', async (t) => {
  const made = kernel(t, {
    'virtio-net': ['depends=virtio,net-failover'],
    'net-failover': ['depends=failover'],
    failover: ['depends='],
    virtio: ['depends=virtio_ring'],
    virtio_ring: ['depends='],
  });
  t.same(moduleClosure(made, ['virtio_net', 'built_in', 'virtio']), [
    'virtio_ring',
    'virtio',
    'failover',
    'net_failover',
    'virtio_net',
  ]);
});
