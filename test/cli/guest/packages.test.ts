import t from 'tap';
import {
  ensureGuestPackages,
  guestUnsupportedReason,
  missingGuestTools,
} from '../../../cli/guest/packages.ts';
import { findProgram } from '../../../cli/guest/host-command.ts';

t.test('the reason names each missing program and one command that brings them', async (t) => {
  const missing = missingGuestTools();
  const reason = guestUnsupportedReason();
  if (missing.length === 0) {
    t.equal(reason, undefined);
    await ensureGuestPackages({ install: false });
    return;
  }
  for (const { program, debianPackage } of missing) {
    t.match(reason, program);
    t.match(reason, new RegExp(`apt-get install .*${debianPackage}`));
  }
  await t.rejects(ensureGuestPackages({ install: false }), {
    code: 'ERR_UNSUPPORTED',
    message: reason ?? '',
  });
});

t.test('programs are found in system folders that PATH lacks', async (t) => {
  const before = process.env['PATH'];
  t.teardown(() => {
    process.env['PATH'] = before;
  });
  process.env['PATH'] = '/nonexistent:relative';
  t.match(findProgram('sh'), /^\/(usr\/)?bin\/sh$/);
  t.equal(findProgram('no-such-program-here'), undefined);
});
