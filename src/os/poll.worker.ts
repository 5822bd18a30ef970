/**
 * The epoll thread behind poll.linux.ts. It never returns to an event loop of its own: commands are taken from the port
 * when the eventfd wakes it. Everything a descriptor wants is in one `Entry`; packets beyond `packetBytesMax`
 * unacknowledged stop reading.
 */
import { unlinkSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { messageOf } from '#base/thrown.ts';
import { SystemError, call, errno, openPidfd, tryCall, withUnixAddress } from './libc.linux.ts';
import { addressOf } from './ffi.linux.ts';
import type { PollCommand, PollEvent } from './poll.linux.ts';

interface Entry {
  id: number;
  fd: number;
  kind: 'pid' | 'attach' | 'listener' | 'terminal';
  path?: string;
  unacknowledged: number;
  paused: boolean;
  queue: { bytes: Uint8Array; ticket: number }[];
  shutdownAfter: boolean;
}

const packetBytesMax = 1024 * 1024;
const packetSizeMax = 64 * 1024;
const epollIn = 1;
const epollOut = 4;
const eventsMax = 64;
/** struct epoll_event is packed on x86-64 alone. */
const eventSize = process.arch === 'x64' ? 12 : 16;
const dataOffset = eventSize - 8;

const wake = (workerData as { wake: number }).wake;
const epoll = call('epoll_create1', 'epoll', 0x80000);
const byId = new Map<number, Entry>();
const byFd = new Map<number, Entry>();
const buffer = Buffer.alloc(packetSizeMax);
let outbox: PollEvent[] = [];

function control(operation: 1 | 2 | 3, fd: number, events: number): void {
  const event = Buffer.alloc(eventSize);
  event.writeUInt32LE(events, 0);
  event.writeInt32LE(fd, dataOffset);
  tryCall('epoll_ctl', epoll, operation, fd, event);
}

function add(id: number, fd: number, kind: Entry['kind'], path?: string): Entry {
  const entry: Entry = {
    id,
    fd,
    kind,
    unacknowledged: 0,
    paused: false,
    queue: [],
    shutdownAfter: false,
    ...(path === undefined ? {} : { path }),
  };
  byId.set(id, entry);
  byFd.set(fd, entry);
  control(1, fd, epollIn);
  return entry;
}

function drop(entry: Entry): void {
  byId.delete(entry.id);
  byFd.delete(entry.fd);
  control(2, entry.fd, 0);
  tryCall('close', entry.fd);
  if (entry.path !== undefined)
    try {
      unlinkSync(entry.path);
    } catch {
      /* gone already */
    }
}

function rearm(entry: Entry): void {
  control(3, entry.fd, (entry.paused ? 0 : epollIn) | (entry.queue.length > 0 ? epollOut : 0));
}

function command(message: PollCommand): boolean {
  if (message.op === 'stop') return false;
  try {
    if (message.op === 'watch') {
      const fd = openPidfd(message.pid);
      if (fd === undefined) outbox.push({ kind: 'exit', id: message.id });
      else add(message.id, fd, 'pid');
    } else if (message.op === 'attach') {
      const fd = call('socket', 'attach', 1, 5 | 0x80800, 0);
      const result = withUnixAddress(message.path, (address) => tryCall('connect', fd, address, address.length));
      if (result < 0) {
        tryCall('close', fd);
        throw new SystemError('connect', -result, message.path);
      }
      add(message.id, fd, 'attach');
      outbox.push({ kind: 'ready', id: message.id });
    } else if (message.op === 'terminal') {
      const fd = call('socket', 'terminal', 1, 1 | 0x80800, 0);
      withUnixAddress(message.path, (address) => call('bind', message.path, fd, address, address.length));
      call('listen', message.path, fd, 1);
      add(message.id, fd, 'listener', message.path);
      outbox.push({ kind: 'ready', id: message.id });
    } else {
      const entry = byId.get(message.id);
      if (entry !== undefined) change(entry, message);
      else if (message.op === 'write')
        outbox.push({ kind: 'written', id: message.id, ticket: message.ticket, error: 'closed' });
    }
  } catch (error) {
    outbox.push({
      kind: 'error',
      id: message.id,
      code: (error as SystemError).code ?? 'EIO',
      message: messageOf(error),
    });
  }
  return true;
}

function change(
  entry: Entry,
  message: Extract<PollCommand, { op: 'write' | 'shutdown' | 'close' | 'finish' | 'ack' }>,
): void {
  if (message.op === 'close') drop(entry);
  else if (message.op === 'finish') finish(entry);
  else if (message.op === 'write') {
    entry.queue.push({ bytes: message.bytes, ticket: message.ticket });
    flush(entry);
  } else if (message.op === 'shutdown') {
    entry.shutdownAfter = true;
    flush(entry);
  } else {
    entry.unacknowledged -= message.bytes;
    if (entry.paused && entry.unacknowledged < packetBytesMax / 2) {
      entry.paused = false;
      rearm(entry);
    }
  }
}

const noSignal = 0x4000;
/** conmon reads packets into a buffer of this size; the rest of a longer one would be lost. */
const inputPacketMax = 8 * 1024;

function flush(entry: Entry): void {
  while (entry.queue.length > 0) {
    const first = entry.queue[0]!;
    const part = first.bytes.subarray(0, inputPacketMax);
    const sent = part.length === 0 ? 0 : tryCall('send', entry.fd, part, part.length, noSignal);
    if (sent === -errno.EAGAIN) {
      rearm(entry);
      return;
    }
    if (sent >= 0 && part.length < first.bytes.length) {
      first.bytes = first.bytes.subarray(part.length);
      continue;
    }
    entry.queue.shift();
    outbox.push({
      kind: 'written',
      id: entry.id,
      ticket: first.ticket,
      ...(sent < 0 ? { error: `errno ${-sent}` } : {}),
    });
  }
  rearm(entry);
  if (entry.shutdownAfter) {
    entry.shutdownAfter = false;
    tryCall('shutdown', entry.fd, 1);
  }
}

function ready(entry: Entry, events: number): void {
  if (entry.kind === 'pid') {
    drop(entry);
    outbox.push({ kind: 'exit', id: entry.id });
    return;
  }
  if (entry.kind === 'listener') return acceptTerminal(entry);
  if (entry.kind === 'terminal') return receiveDescriptor(entry);
  if ((events & epollOut) !== 0) flush(entry);
  if ((events & ~epollOut) === 0 || entry.paused) return;
  for (let i = 0; i < 32; i++) {
    const length = tryCall('recv', entry.fd, buffer, buffer.length, 0);
    if (length === -errno.EAGAIN) return;
    if (length <= 0) {
      drop(entry);
      outbox.push({ kind: 'end', id: entry.id });
      return;
    }
    outbox.push({ kind: 'packet', id: entry.id, bytes: new Uint8Array(buffer.subarray(0, length)) });
    entry.unacknowledged += length;
    if (entry.unacknowledged > packetBytesMax) {
      entry.paused = true;
      rearm(entry);
      return;
    }
  }
}

/** Nothing more will come: what has come already counts, though its event is still to be seen. */
function finish(entry: Entry): void {
  const { id } = entry;
  if (entry.kind === 'listener') acceptTerminal(entry);
  const accepted = byId.get(id);
  if (accepted?.kind === 'terminal') receiveDescriptor(accepted);
  const left = byId.get(id);
  if (left === undefined) return;
  drop(left);
  outbox.push({ kind: 'error', id, code: 'ENOENT', message: 'no terminal came' });
}

function acceptTerminal(entry: Entry): void {
  const fd = tryCall('accept4', entry.fd, 0n, 0n, 0x80800);
  if (fd < 0) return;
  drop(entry);
  add(entry.id, fd, 'terminal');
}

/** recvmsg(2) with one SCM_RIGHTS control message; the name of the terminal that comes as data is not needed. */
function receiveDescriptor(entry: Entry): void {
  const data = Buffer.alloc(256);
  const vector = Buffer.alloc(16);
  vector.writeBigUInt64LE(addressOf(data), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  const controlBytes = Buffer.alloc(64);
  const header = Buffer.alloc(56);
  header.writeBigUInt64LE(addressOf(vector), 16);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(addressOf(controlBytes), 32);
  header.writeBigUInt64LE(BigInt(controlBytes.length), 40);
  const result = tryCall('recvmsg', entry.fd, header, 0x40000000);
  if (result === -errno.EAGAIN) return;
  drop(entry);
  const hasRights =
    result >= 0 &&
    header.readBigUInt64LE(40) >= 20n &&
    controlBytes.readInt32LE(8) === 1 &&
    controlBytes.readInt32LE(12) === 1;
  if (hasRights) outbox.push({ kind: 'descriptor', id: entry.id, fd: controlBytes.readInt32LE(16) });
  else outbox.push({ kind: 'error', id: entry.id, code: 'EIO', message: 'no terminal was handed over' });
}

function run(): void {
  control(1, wake, epollIn);
  const events = Buffer.alloc(eventSize * eventsMax);
  const counter = Buffer.alloc(8);
  for (;;) {
    for (let next = receiveMessageOnPort(parentPort!); next !== undefined; next = receiveMessageOnPort(parentPort!)) {
      if (!command(next.message as PollCommand)) return;
    }
    if (outbox.length > 0) {
      parentPort!.postMessage(outbox);
      outbox = [];
    }
    const count = tryCall('epoll_wait', epoll, events, eventsMax, -1);
    for (let i = 0; i < count; i++) {
      const fd = events.readInt32LE(i * eventSize + dataOffset);
      if (fd === wake) tryCall('read', wake, counter, 8);
      else {
        const entry = byFd.get(fd);
        if (entry !== undefined) ready(entry, events.readUInt32LE(i * eventSize));
      }
    }
  }
}

run();
process.exit(0);
