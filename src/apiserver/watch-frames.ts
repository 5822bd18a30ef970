/**
 * What an event of a watch looks like: as an object, and as a frame of JSON. Both are made once and shared by all
 * watchers that want the same form, through a cache that is bounded in frames and in bytes. Older ones are made again
 * for the few watchers that are so far behind.
 *
 * An object that is deleted, or ceases to match a watcher's selector, is shown as it last was (as it last matched),
 * with the version of the event.
 */
import { joinOwn } from '#base/bytes.ts';
import { freezeJson } from '#base/json.ts';
import type { KubeObject } from '#base/objects.ts';
import type { StoreEvent, StoredValue } from '#store/store.ts';
import { watchFramesBytesMax, watchFramesMax } from './limits.ts';
import type { Objects } from './stored-objects.ts';

export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED';

interface Frames {
  ADDED?: Uint8Array;
  MODIFIED?: Uint8Array;
  DELETED?: Uint8Array;
  deleted?: KubeObject;
  bytes: number;
}

const frames = new Map<StoreEvent, Frames>();
let framesBytes = 0;

function framesOf(event: StoreEvent): Frames {
  let found = frames.get(event);
  if (found === undefined) frames.set(event, (found = { bytes: 0 }));
  return found;
}

function dropOldest(): void {
  for (const [oldest, { bytes }] of frames) {
    if (frames.size <= watchFramesMax && framesBytes <= watchFramesBytesMax) return;
    frames.delete(oldest);
    framesBytes -= bytes;
  }
}

/** Lets go of everything: what keeps pace has been sent by now. */
export function forgetFrames(): void {
  frames.clear();
  framesBytes = 0;
}

/** The stored value that an event of this type shows: of a deletion, the last one. */
export function storedOf(event: StoreEvent, type: EventType): StoredValue {
  const stored = type === 'DELETED' ? event.previous : event.value;
  if (stored === undefined) throw new Error(`an event of ${event.key} shows nothing`);
  return stored;
}

/** What an event of this type shows. */
export function eventObject(objects: Objects, event: StoreEvent, type: EventType): KubeObject {
  if (type !== 'DELETED') return objects.view(storedOf(event, type));
  const cached = framesOf(event);
  if (cached.deleted === undefined) {
    const last = objects.view(storedOf(event, type));
    cached.deleted = freezeJson({ ...last, metadata: { ...last.metadata, resourceVersion: String(event.revision) } });
    dropOldest();
  }
  return cached.deleted;
}

const endOfFrame = Buffer.from('}\n');
const starts = {
  ADDED: Buffer.from('{"type":"ADDED","object":'),
  MODIFIED: Buffer.from('{"type":"MODIFIED","object":'),
  DELETED: Buffer.from('{"type":"DELETED","object":'),
};

export function frameOf(objects: Objects, event: StoreEvent, type: EventType): Uint8Array {
  const cached = framesOf(event);
  const known = cached[type];
  if (known !== undefined) return known;
  const stored = storedOf(event, type);
  const body = type === 'DELETED' ? objects.bytes(stored, event.revision) : objects.bytes(stored);
  const frame = joinOwn([starts[type], body, endOfFrame]);
  cached[type] = frame;
  // An entry that was dropped meanwhile is held by nobody and counts nothing.
  if (frames.get(event) === cached) {
    cached.bytes += frame.length;
    framesBytes += frame.length;
    dropOldest();
  }
  return frame;
}
