/**
 * Selectors of a request against objects. What they read of an object is kept as a small index record, so that a
 * selector does not parse an object twice.
 */
import { ApiError } from '#base/errors.ts';
import { fieldValueOf, matchesFields, matchesLabels, parseFieldSelector, parseLabelSelector } from '#base/selectors.ts';
import type { FieldSelector, LabelSelector } from '#base/selectors.ts';
import type { KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { StoredValue, WatchRoute } from '#store/store.ts';
import { shownOf } from './conversion.ts';
import type { Objects } from './stored-objects.ts';

interface IndexRecord {
  labels: Readonly<Record<string, string>> | undefined;
  fields: Map<string, string>;
}

const records = new WeakMap<StoredValue, IndexRecord>();

export class Selection {
  readonly kind: KindRecord;
  readonly #labels: LabelSelector;
  readonly #fields: FieldSelector;

  constructor(kind: KindRecord, query: URLSearchParams) {
    this.kind = kind;
    this.#labels = parseLabelSelector(query.get('labelSelector') ?? '');
    this.#fields = parseFieldSelector(query.get('fieldSelector') ?? '');
    for (const requirement of this.#fields) {
      if (
        requirement.field === 'metadata.name' ||
        requirement.field === 'metadata.namespace' ||
        Object.hasOwn(kind.selectableFields, requirement.field)
      )
        continue;
      const gv = `${kind.group === '' ? '' : kind.group}/${kind.version}, Resource=${kind.resource}`;
      throw new ApiError(
        'BadRequest',
        `Unable to find ${JSON.stringify(gv)} that match label selector ${JSON.stringify(query.get('labelSelector') ?? '')}, field selector ${JSON.stringify(query.get('fieldSelector') ?? '')}: field label not supported: ${requirement.field}`,
      );
    }
  }

  get isEmpty(): boolean {
    return this.#labels.length === 0 && this.#fields.length === 0;
  }
  /** The only name that can match. */
  get name(): string | undefined {
    return fieldValueOf(this.#fields, 'metadata.name');
  }
  get namespace(): string | undefined {
    return fieldValueOf(this.#fields, 'metadata.namespace');
  }

  /** Whether there is a `route`. */
  get isRouted(): boolean {
    return (
      fieldValueOf(this.#fields, 'spec.nodeName') !== undefined &&
      this.kind.selectableFields['spec.nodeName'] !== undefined
    );
  }

  /**
   * For a selector that pins `spec.nodeName`, as kubelets do: the store wakes this watcher for that node's events
   * alone.
   */
  route(objects: Objects): WatchRoute | undefined {
    const value = fieldValueOf(this.#fields, 'spec.nodeName');
    if (value === undefined || !this.isRouted) return undefined;
    const nodeOf = (stored: StoredValue | undefined): string[] =>
      stored === undefined ? [] : [this.#field(objects, stored, this.#record(objects, stored), 'spec.nodeName')];
    return { name: 'spec.nodeName', value, valuesOf: (event) => [...nodeOf(event.value), ...nodeOf(event.previous)] };
  }

  #record(objects: Objects, stored: StoredValue): IndexRecord {
    // What a webhook makes of an object is another one in each version.
    if (this.kind.conversion !== undefined)
      return { labels: shownOf(objects, this.kind, stored).metadata.labels, fields: new Map() };
    let record = records.get(stored);
    if (record === undefined)
      records.set(stored, (record = { labels: objects.view(stored).metadata.labels, fields: new Map() }));
    return record;
  }

  matches(objects: Objects, stored: StoredValue): boolean {
    if (this.isEmpty) return true;
    const record = this.#record(objects, stored);
    if (this.#labels.length > 0 && !matchesLabels(this.#labels, record.labels)) return false;
    return (
      this.#fields.length === 0 || matchesFields(this.#fields, (field) => this.#field(objects, stored, record, field))
    );
  }

  #shown(objects: Objects, stored: StoredValue): KubeObject {
    return this.kind.conversion === undefined ? objects.view(stored) : shownOf(objects, this.kind, stored);
  }

  #field(objects: Objects, stored: StoredValue, record: IndexRecord, field: string): string {
    if (field === 'metadata.name') return stored.key.slice(stored.key.lastIndexOf('/') + 1);
    if (field === 'metadata.namespace') return this.kind.namespaced ? (stored.key.split('/').at(-2) ?? '') : '';
    let value = record.fields.get(field);
    if (value === undefined)
      record.fields.set(field, (value = this.kind.selectableFields[field]!(this.#shown(objects, stored)) ?? ''));
    return value;
  }
}
