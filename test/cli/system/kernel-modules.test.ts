import { gzipSync } from 'node:zlib';
import t from 'tap';
import { KernelModules } from '../../../cli/system/kernel-modules.ts';
import { SystemFiles } from '../../../cli/system/system-files.ts';

t.test('a part is there, to be loaded, or absent', async (t) => {
  const root = t.testdir({
    sys: { module: { dm_crypt: {} } },
    boot: {
      'config-6.1':
        'CONFIG_TLS=m\nCONFIG_CRYPTO_CHACHA20POLY1305=y\n# CONFIG_MD_RAID1 is not set\n',
    },
    lib: {
      modules: {
        '6.1': {
          'modules.builtin': 'kernel/crypto/xts.ko\n',
          'modules.dep': 'kernel/nbd.ko.xz:\nkernel/user.ko: kernel/md/raid1.ko\n',
        },
      },
    },
  });
  const modules = new KernelModules(new SystemFiles(root), '6.1');
  for (const [name, state] of [
    ['dm-crypt', 'ready'],
    ['xts', 'ready'],
    ['chacha20poly1305', 'ready'],
    ['nbd', 'loadable'],
    ['raid1', 'absent'],
    ['tls', 'absent'],
  ] as const) {
    t.equal(modules.state(name), state, name);
  }
});

t.test('a kernel that carries its configuration needs no files', async (t) => {
  const root = t.testdir({ proc: { 'config.gz': gzipSync('CONFIG_X=y\nCONFIG_BLK_DEV_NBD=y\n') } });
  t.equal(new KernelModules(new SystemFiles(root), '6.1').state('nbd'), 'ready');
  const broken = t.testdir({ proc: { 'config.gz': 'no gzip' } });
  t.equal(new KernelModules(new SystemFiles(broken), '6.1').state('nbd'), 'absent');
});
