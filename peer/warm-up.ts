/**
 * One handshake with nobody, so that the code of a real one is compiled and its tables are made. The
 * first costs three times as much as the next, and a daemon that takes another's place has clients
 * that wait for its sessions (docs/adr/0009-handover.md).
 */
import { randomBytes } from 'node:crypto';
import { HandshakeMachine } from './handshake-machine.ts';
import { Identity } from './identity.ts';

/** Runs both sides of a handshake between this node and one that exists nowhere else. */
export function warmUpHandshake(identity: Identity): void {
  const machine = (role: 'initiator' | 'responder', who: Identity): HandshakeMachine =>
    new HandshakeMachine({ role, identity: who, name: 'warm-up', secrets: randomBytes(64) });
  const ours = machine('initiator', identity);
  const theirs = machine('responder', Identity.ephemeral());
  const second = theirs.onMessage(ours.begin());
  if (second === undefined) return;
  ours.onMessage(second);
  theirs.onMessage(ours.proceed());
  for (const { send, receive } of [ours.takeKeys(), theirs.takeKeys()]) {
    send.fill(0);
    receive.fill(0);
  }
}
