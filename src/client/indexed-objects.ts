/** Objects by key, and in the order they came by what index functions say of them. */
import type { KubeObject } from '#base/objects.ts';

export type IndexFunction<T extends KubeObject = KubeObject> = (object: T) => readonly string[] | string | undefined;

/** An object's place, which stays while its versions change: what finds it need not be told of each. */
interface Place<T> {
  key: string;
  object: T;
  /** What each index says of it. */ values: (readonly string[] | string | undefined)[];
}

interface Index<T extends KubeObject> {
  of(object: T): ReturnType<IndexFunction<T>>;
  buckets: Map<string, Map<string, Place<T>>>;
}

const nothing: ReadonlyMap<string, never> = new Map<string, never>();

export class IndexedObjects<T extends KubeObject> {
  readonly #places = new Map<string, Place<T>>();
  readonly #indexes: Index<T>[] = [];
  readonly #indexAt = new Map<string, number>();

  get size(): number {
    return this.#places.size;
  }
  get(key: string): T | undefined {
    return this.#places.get(key)?.object;
  }
  keys(): IterableIterator<string> {
    return this.#places.keys();
  }
  *values(): IterableIterator<T> {
    for (const place of this.#places.values()) yield place.object;
  }

  *by(index: string, value: string): Iterable<T> {
    for (const place of this.#bucket(index, value).values()) yield place.object;
  }

  countBy(index: string, value: string): number {
    return this.#bucket(index, value).size;
  }

  #bucket(index: string, value: string): ReadonlyMap<string, Place<T>> {
    const at = this.#indexAt.get(index);
    return (at === undefined ? undefined : this.#indexes[at]!.buckets.get(value)) ?? nothing;
  }

  /** The same name is added once. */
  addIndex(name: string, of: IndexFunction<T>): void {
    if (this.#indexAt.has(name)) return;
    const at = this.#indexes.push({ of, buckets: new Map() }) - 1;
    this.#indexAt.set(name, at);
    for (const place of this.#places.values()) this.#file(place, at, of(place.object));
  }

  /** Answers what was there. */
  set(key: string, object: T): T | undefined {
    let place = this.#places.get(key);
    const previous = place?.object;
    if (place === undefined) this.#places.set(key, (place = { key, object, values: [] }));
    place.object = object;
    for (let at = 0; at < this.#indexes.length; at++) this.#file(place, at, this.#indexes[at]!.of(object));
    return previous;
  }

  delete(key: string): T | undefined {
    const place = this.#places.get(key);
    if (place === undefined) return undefined;
    this.#places.delete(key);
    for (let at = 0; at < this.#indexes.length; at++) this.#file(place, at, undefined);
    return place.object;
  }

  #file(place: Place<T>, at: number, after: readonly string[] | string | undefined): void {
    const before = place.values[at];
    if (typeof before !== 'object' && before === after) return;
    place.values[at] = after;
    const { buckets } = this.#indexes[at]!;
    const [old, now] = [listOf(before), listOf(after)];
    for (const value of old) {
      const bucket = buckets.get(value);
      if (bucket === undefined || now.includes(value)) continue;
      bucket.delete(place.key);
      if (bucket.size === 0) buckets.delete(value);
    }
    for (const value of now) {
      let bucket = buckets.get(value);
      if (bucket === undefined) buckets.set(value, (bucket = new Map()));
      bucket.set(place.key, place);
    }
  }
}

function listOf(value: readonly string[] | string | undefined): readonly string[] {
  return value === undefined ? [] : typeof value === 'string' ? [value] : value;
}
