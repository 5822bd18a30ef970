/**
 * Work on files as another owner than root, with all of root's rights: where a mount shows files with other owners,
 * root itself has no place in it and may make nothing. Of this thread and while the call lasts (setfsuid(2)).
 */
import { call } from './libc.linux.ts';

/** struct __user_cap_header_struct: version 3, this thread. */
const header = Buffer.alloc(8);
header.writeUInt32LE(0x20080522, 0);

/** `run` must not wait for anything. */
export function asFileOwner<T>({ uid, gid }: { uid: number; gid: number }, run: () => T): T {
  const held = Buffer.alloc(24);
  call('capget', '', header, held);
  call('setfsgid', '', gid);
  call('setfsuid', '', uid);
  try {
    // The kernel has taken the rights over files away.
    call('capset', '', header, held);
    return run();
  } finally {
    call('setfsuid', '', 0);
    call('setfsgid', '', 0);
    call('capset', '', header, held);
  }
}
