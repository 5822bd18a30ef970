/**
 * The kinds that are served now: built-in records and those of custom resource definitions. `generation` grows with
 * every change.
 */
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';

const groupOrder = (group: string): string => (group === '' ? '' : group);

const placeOf = ({ storage: { group, resource } }: KindRecord): string => `${group}/${resource}`;
const isSame = (a: KindRecord, b: KindRecord): boolean =>
  a.group === b.group && a.version === b.version && a.resource === b.resource;

export class KindTable {
  #byResource = new Map<string, KindRecord>();
  #byKind = new Map<string, KindRecord>();
  #byStorage = new Map<string, KindRecord[]>();
  generation = 0;

  constructor(kinds: readonly KindRecord[]) {
    for (const kind of kinds) this.add(kind);
  }

  add(kind: KindRecord): void {
    this.#byResource.set(`${kind.group}/${kind.version}/${kind.resource}`, kind);
    this.#byKind.set(`${kind.group}/${kind.version}/${kind.kind}`, kind);
    this.#byStorage.set(placeOf(kind), [...this.keptWith(kind).filter((other) => !isSame(other, kind)), kind]);
    this.generation++;
  }

  remove(kind: KindRecord): void {
    this.#byResource.delete(`${kind.group}/${kind.version}/${kind.resource}`);
    this.#byKind.delete(`${kind.group}/${kind.version}/${kind.kind}`);
    const left = this.keptWith(kind).filter((other) => !isSame(other, kind));
    if (left.length > 0) this.#byStorage.set(placeOf(kind), left);
    else this.#byStorage.delete(placeOf(kind));
    this.generation++;
  }

  find(group: string, version: string, resource: string): KindRecord | undefined {
    return this.#byResource.get(`${group}/${version}/${resource}`);
  }
  /** The record of a built-in kind: those are always served. */
  builtIn<T extends KubeObject>({ group, version, resource }: KindRef<T>): KindRecord<T> {
    const kind = this.find(group, version, resource);
    if (kind === undefined) throw new Error(`${resource} of ${group}/${version} are no built-in kind`);
    return kind;
  }
  findKind(group: string, version: string, kind: string): KindRecord | undefined {
    return this.#byKind.get(`${group}/${version}/${kind}`);
  }
  findAnyVersion(group: string, resource: string): KindRecord | undefined {
    for (const k of this.all()) if (k.group === group && k.resource === resource) return k;
    return undefined;
  }
  /** All versions, of whatever group, of the objects that this kind's are. */
  keptWith(kind: KindRecord): readonly KindRecord[] {
    return this.#byStorage.get(placeOf(kind)) ?? [];
  }
  hasGroupVersion(group: string, version: string): boolean {
    for (const k of this.all()) if (k.group === group && k.version === version) return true;
    return false;
  }
  all(): IterableIterator<KindRecord> {
    return this.#byResource.values();
  }

  /** Groups in the order of their first kind, with their versions in order of preference. */
  groups(): { group: string; versions: { version: string; kinds: KindRecord[] }[] }[] {
    const groups = new Map<string, Map<string, KindRecord[]>>();
    for (const kind of this.all()) {
      const versions = groups.get(groupOrder(kind.group)) ?? new Map<string, KindRecord[]>();
      groups.set(kind.group, versions);
      const list = versions.get(kind.version) ?? [];
      versions.set(kind.version, list);
      list.push(kind);
    }
    return [...groups].map(([group, versions]) => ({
      group,
      versions: [...versions]
        .map(([version, kinds]) => ({ version, kinds: [...kinds].sort((a, b) => (a.resource < b.resource ? -1 : 1)) }))
        .sort((a, b) => compareVersions(a.version, b.version)),
    }));
  }
}

/** `v2` before `v1` before `v1beta1` before `v1alpha1`. */
function compareVersions(a: string, b: string): number {
  const rank = (v: string): { stability: number; major: number; minor: number } => {
    const [, major, stability, minor = '0'] = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(v) ?? [];
    if (major === undefined) return { stability: 0, major: 0, minor: 0 };
    return {
      stability: stability === undefined ? 3 : stability === 'beta' ? 2 : 1,
      major: Number(major),
      minor: Number(minor),
    };
  };
  const [x, y] = [rank(a), rank(b)];
  return y.stability - x.stability || y.major - x.major || y.minor - x.minor || (a < b ? -1 : a > b ? 1 : 0);
}
