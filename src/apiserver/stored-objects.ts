/**
 * Objects as stored: bytes without resourceVersion, beginning `{"apiVersion":…,"kind":…,"metadata":{`, so that the
 * version is spliced in at an offset that the kind knows. Served as they are; parsed only when somebody must look
 * inside. Views are frozen and shared, kept in two generations of a weak cache. Secrets are sealed with AES-256-GCM:
 * first byte 1, then key id, nonce, ciphertext, tag; the store's key is authenticated with it.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { joinOwn, ownBytes, ownCopy } from '#base/bytes.ts';
import { freezeFresh, freezeJson, parseJson } from '#base/json.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import type { Random } from '#os/clock.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { LateBytes, StoredValue } from '#store/store.ts';
import { transactionBytesMax } from '#store/limits.ts';
import { encodingsBytesMax, viewsBytesMax, viewsMax } from './limits.ts';
import type { EncryptionKey } from './keys.ts';

/** Where and as what objects of a kind are kept. */
type StorageKind = Pick<KindRecord, 'storage'>;

export function storageKey(kind: KindRecord, namespace: string, name: string): string {
  return `${storagePrefix(kind, namespace)}${name}`;
}

export function storagePrefix(kind: KindRecord, namespace = ''): string {
  const { group, resource } = kind.storage;
  // The path of a Namespace names it twice: as object and as scope.
  return `/registry/${group === '' ? '' : `${group}/`}${resource}/${namespace === '' || !kind.namespaced ? '' : `${namespace}/`}`;
}

const metadataOpening = '"metadata":{';
/** For any bytes, though only a `Buffer` has it as its own. */
const { copy } = Buffer.alloc(0);

function encodePlain(kind: StorageKind, object: KubeObject): Buffer {
  const { apiVersion: _a, kind: _k, metadata, ...rest } = object;
  const { resourceVersion: _r, ...meta } = metadata;
  return ownBytes(
    JSON.stringify({ apiVersion: apiVersionOf(kind.storage), kind: kind.storage.kind, metadata: meta, ...rest }),
  );
}

export function isSealed(kind: StorageKind): boolean {
  return kind.storage.group === '' && kind.storage.resource === 'secrets';
}

/**
 * Freezes all of an object but itself and its metadata, which are still to get its version; answers as `freezeFresh`.
 */
function freezeParts(object: unknown): number {
  let sum = 2;
  if (!isObject(object)) return sum;
  for (const key in object)
    sum += 4 + 6 * key.length + (key === 'metadata' ? freezeParts(object[key]) : freezeFresh(object[key]));
  return sum;
}

/**
 * A stored object as the kind shows it: converted where that is in another version. It lies where the kind's objects
 * do, so it is one.
 */
export function fromStored<T extends KubeObject>(kind: KindRecord<T>, object: KubeObject): T {
  return (kind.fromStored === undefined ? object : kind.fromStored(object)) as T;
}

/** Whether the bytes that are stored are those that are shown. */
export const isShownAsStored = (kind: KindRecord): boolean =>
  kind.fromStored === undefined && kind.conversion === undefined;

/** The other way. */
export function toStored(kind: KindRecord, object: KubeObject): KubeObject {
  return kind.toStored === undefined ? object : kind.toStored(object);
}

/** An object that is its own view and becomes bytes when it must leave the process. */
class LateObject implements LateBytes {
  readonly lengthMax: number;
  readonly #kind: StorageKind;
  #object: KubeObject;
  #seen = false;
  #bytes: Buffer | undefined;

  /** What of `object` is frozen is part of `before` too. */
  constructor(kind: StorageKind, object: KubeObject, before: StoredValue | undefined) {
    this.#kind = kind;
    this.#object = object;
    const lengthMax =
      (before === undefined ? 0 : (before.late?.lengthMax ?? before.value.length)) + freezeParts(object);
    this.lengthMax = lengthMax < transactionBytesMax ? lengthMax : this.bytes().length;
  }

  bytes(): Uint8Array {
    return (this.#bytes ??= encodePlain(this.#kind, this.#object));
  }

  view(revision: number): KubeObject {
    if (this.#seen) return this.#object;
    const { apiVersion: _a, kind: _k, metadata, ...rest } = this.#object;
    return this.become(
      freezeJson({
        apiVersion: apiVersionOf(this.#kind.storage),
        kind: this.#kind.storage.kind,
        metadata: { ...metadata, resourceVersion: String(revision) },
        ...rest,
      }),
    );
  }

  become(view: KubeObject): KubeObject {
    this.#seen = true;
    return (this.#object = view);
  }
}

/** The name of the key that sealed bytes begin with; '' where they are not sealed. */
function sealingKeyOf(bytes: Uint8Array): string {
  return bytes[0] === 1 ? Buffer.from(bytes.subarray(2, 2 + (bytes[1] ?? 0))).toString('latin1') : '';
}

export class Objects {
  #keys: readonly EncryptionKey[];
  #random: Random;
  #young = new WeakMap<StoredValue, KubeObject>();
  #old = new WeakMap<StoredValue, KubeObject>();
  #youngCount = 0;
  #youngBytes = 0;
  #plain = new WeakMap<StoredValue, Uint8Array>();
  #plainBytes = 0;
  #lastHead: Buffer = Buffer.alloc(0);

  constructor(keys: readonly EncryptionKey[], random: Random) {
    this.#keys = keys;
    this.#random = random;
  }

  /** Bytes to store. The object is in its stored version; its resourceVersion is left out. */
  encode(kind: StorageKind, key: string, object: KubeObject): Uint8Array {
    const plain = encodePlain(kind, object);
    return isSealed(kind) ? this.#seal(key, plain) : plain;
  }

  /**
   * As `encode`, when somebody asks for the bytes. The object is given away: nobody changes it, but for its
   * resourceVersion. It shares nothing frozen but with `before`, which it replaces.
   */
  encodeLate(kind: StorageKind, key: string, object: KubeObject, before?: StoredValue): Uint8Array | LateBytes {
    return isSealed(kind) ? this.encode(kind, key, object) : new LateObject(kind, object, before);
  }

  /** The first seals from now on. What was sealed with keys of before stays readable while this process lasts. */
  setKeys(keys: readonly EncryptionKey[]): void {
    this.#keys = [...keys, ...this.#keys.filter((old) => !keys.some(({ id }) => id === old.id))];
  }

  /** The same object sealed with the first key; undefined where it is already. */
  sealedAnew(kind: StorageKind, stored: StoredValue): Uint8Array | undefined {
    const [first] = this.#keys;
    if (first === undefined || !isSealed(kind) || sealingKeyOf(stored.value) === first.id) return undefined;
    return this.#seal(stored.key, this.#open(stored));
  }

  #seal(key: string, plain: Uint8Array): Uint8Array {
    const first = this.#keys[0];
    if (first === undefined) return plain;
    const nonce = this.#random.bytes(12);
    const cipher = createCipheriv('aes-256-gcm', Buffer.from(first.key, 'base64'), nonce);
    cipher.setAAD(Buffer.from(key));
    const id = Buffer.from(first.id);
    return joinOwn([Uint8Array.of(1, id.length), id, nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  #open(stored: StoredValue): Uint8Array {
    const bytes = stored.value;
    if (bytes[0] !== 1) return bytes;
    const known = this.#plain.get(stored);
    if (known !== undefined) return known;
    const id = sealingKeyOf(bytes);
    const idEnd = 2 + id.length;
    const key = this.#keys.find((k) => k.id === id);
    if (key === undefined) throw new Error(`no encryption key ${id} for ${stored.key}`);
    const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key.key, 'base64'), bytes.subarray(idEnd, idEnd + 12));
    decipher.setAAD(Buffer.from(stored.key));
    decipher.setAuthTag(bytes.subarray(bytes.length - 16));
    const plain = joinOwn([decipher.update(bytes.subarray(idEnd + 12, bytes.length - 16)), decipher.final()]);
    this.#plainBytes += plain.length;
    if (this.#plainBytes > encodingsBytesMax) {
      this.#plain = new WeakMap();
      this.#plainBytes = plain.length;
    }
    this.#plain.set(stored, plain);
    return plain;
  }

  /**
   * Where the resourceVersion goes: behind `"metadata":{`. Objects of one kind come in rows and begin alike, so the
   * last beginning is tried before searching.
   */
  #place(plain: Uint8Array): number {
    const known = this.#lastHead;
    if (known.length > 0 && plain.length > known.length && known.compare(plain, 0, known.length) === 0)
      return known.length;
    const head = Buffer.from(plain.buffer, plain.byteOffset, Math.min(plain.length, 400));
    const place = head.indexOf(metadataOpening) + metadataOpening.length;
    this.#lastHead = ownCopy(head.subarray(0, place));
    return place;
  }

  /**
   * JSON as served, in the stored version; with another resourceVersion where one is named, as the event of a deletion
   * has it.
   */
  bytes(stored: StoredValue, revision = stored.modRevision): Buffer {
    const out = Buffer.allocUnsafe(this.size(stored));
    return out.subarray(0, this.write(stored, out, 0, revision));
  }

  size(stored: StoredValue): number {
    return this.#sizeOpen(stored) + 24 + 16;
  }

  /** What is sealed is longer than what it holds by its key's name, nonce and tag, so nobody need open it to know. */
  #sizeOpen(stored: StoredValue): number {
    return stored.value.length;
  }

  /**
   * Writes the object at `offset` of `target`; answers the offset behind it. Copies without a view of either part: a
   * list does this for each object.
   */
  write(stored: StoredValue, target: Buffer, offset: number, revision = stored.modRevision): number {
    const plain = this.#open(stored);
    const at = this.#place(plain);
    copy.call(plain, target, offset, 0, at);
    const rest = offset + at + target.write(`"resourceVersion":"${revision}",`, offset + at, 'latin1');
    copy.call(plain, target, rest, at, plain.length);
    return rest + plain.length - at;
  }

  /** The frozen object in its stored version, with its resourceVersion. */
  view(stored: StoredValue): KubeObject {
    const { late } = stored;
    if (late instanceof LateObject) return late.view(stored.modRevision);
    const known = this.#young.get(stored) ?? this.#old.get(stored);
    if (known !== undefined) return known;
    const plain = this.#open(stored);
    const object = parseJson(Buffer.from(plain.buffer, plain.byteOffset, plain.length).toString()) as KubeObject;
    object.metadata.resourceVersion = String(stored.modRevision);
    return this.remember(stored, object);
  }

  /** Whether it is stored as it would be now: in the same version, sealed with the first key. */
  isCurrent(kind: StorageKind, stored: StoredValue): boolean {
    if (this.view(stored).apiVersion !== apiVersionOf(kind.storage)) return false;
    if (!isSealed(kind)) return true;
    const { value } = stored;
    const id = value[0] === 1 ? Buffer.from(value.subarray(2, 2 + (value[1] ?? 0))).toString() : undefined;
    return id === this.#keys[0]?.id;
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new WeakMap();
    this.#youngCount = 1;
    this.#youngBytes = 0;
  }

  /** Keeps an object that the caller gives away as the view of what was just stored. */
  remember(stored: StoredValue, object: KubeObject): KubeObject {
    freezeJson(object);
    if (stored.late instanceof LateObject) return stored.late.become(object);
    this.#youngCount++;
    this.#youngBytes += stored.value.length;
    if (this.#youngCount > viewsMax || this.#youngBytes > viewsBytesMax) this.#turn();
    this.#young.set(stored, object);
    return object;
  }
}
