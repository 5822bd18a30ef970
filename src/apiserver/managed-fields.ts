/**
 * Who set which field (Kubernetes, "Server-Side Apply", "Field management"). Every write is tracked: what changed
 * belongs to the manager that wrote it and to nobody else. `apply.ts` decides what an applied configuration takes over;
 * this file keeps the entries.
 */
import type { ManagedFieldsEntry } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { apiVersionOf } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { JsonObject } from '#base/unknown.ts';
import {
  compareFields,
  emptySet,
  findListProblem,
  fromFieldsV1,
  isEmptySet,
  isFieldsV1,
  removeBelow,
  toFieldsV1,
  unionOf,
} from '#schema/field-sets.ts';
import type { FieldSet } from '#schema/field-sets.ts';
import type { ObjectNode } from '#schema/types.ts';
import { zeroObject } from '#schema/zeros.ts';
import type { RequestContext } from './context.ts';
import { fromStored } from './stored-objects.ts';

export interface Manager {
  name: string;
  operation: 'Apply' | 'Update';
  apiVersion: string;
  subresource: string;
  time: string;
  set: FieldSet;
}

const updateManagersMax = 10;
const systemMeta = [
  'name',
  'namespace',
  'creationTimestamp',
  'selfLink',
  'uid',
  'generation',
  'managedFields',
  'resourceVersion',
];

const systemFields: FieldSet = {
  self: false,
  children: new Map<string, FieldSet>([
    ['f:apiVersion', leaf()],
    ['f:kind', leaf()],
    ['f:metadata', { self: false, children: new Map(systemMeta.map((name) => [`f:${name}`, leaf()])) }],
  ]),
};

function leaf(): FieldSet {
  return { self: true, children: new Map() };
}

/** A set without what the system itself writes. */
export function stripSystem(set: FieldSet): FieldSet {
  const out = removeBelow(set, systemFields);
  const meta = out.children.get('f:metadata');
  if (meta !== undefined) {
    const rest = { self: false, children: meta.children };
    if (isEmptySet(rest)) out.children.delete('f:metadata');
    else out.children.set('f:metadata', rest);
  }
  return out;
}

export function readManagers(entries: readonly ManagedFieldsEntry[] | undefined): Manager[] {
  return (entries ?? [])
    .filter((e) => e.fieldsV1 !== undefined)
    .map((e) => ({
      name: e.manager ?? '',
      operation: e.operation === 'Apply' ? 'Apply' : 'Update',
      apiVersion: e.apiVersion ?? '',
      subresource: e.subresource ?? '',
      time: e.time ?? '',
      set: fromFieldsV1(e.fieldsV1),
    }));
}

export function writeManagers(object: KubeObject, managers: readonly Manager[]): void {
  const entries = managers
    .filter((m) => !isEmptySet(m.set))
    .sort(byOperationAndTime)
    .map((m): ManagedFieldsEntry => ({
      manager: m.name,
      operation: m.operation,
      apiVersion: m.apiVersion,
      ...(m.time === '' ? {} : { time: m.time }),
      fieldsType: 'FieldsV1',
      fieldsV1: toFieldsV1(m.set),
      ...(m.subresource === '' ? {} : { subresource: m.subresource }),
    }));
  if (entries.length === 0) delete object.metadata.managedFields;
  else object.metadata.managedFields = entries;
}

/** Who applied comes first; then the older entry; then names decide. */
function byOperationAndTime(a: Manager, b: Manager): number {
  for (const field of ['operation', 'time', 'name', 'apiVersion', 'subresource'] as const)
    if (a[field] !== b[field]) return a[field] < b[field] ? -1 : 1;
  return 0;
}

function managerName(context: RequestContext): string {
  const asked = context.request.query.get('fieldManager');
  if (asked !== null && asked !== '') return asked;
  const agent = context.request.headers['user-agent'] ?? '';
  const [name = ''] = agent.split('/', 1);
  return agent === '' ? 'unknown' : name.slice(0, 128);
}

/**
 * Entries that a client sent: reset by `[{}]` (an empty list says nothing), its own where it changed them; those stored
 * where it sent none that can be read, as upstream decides.
 */
function startingManagers(old: KubeObject | undefined, object: KubeObject): Manager[] {
  const sent = object.metadata.managedFields ?? [];
  const [first] = sent;
  if (first !== undefined && sent.length === 1 && Object.keys(first).length === 0) return [];
  const managers = sent.every(isReadable) ? readManagers(sent) : [];
  return managers.length > 0 ? managers : readManagers(old?.metadata.managedFields);
}

const isReadable = ({ operation, fieldsType, fieldsV1 }: ManagedFieldsEntry): boolean =>
  (operation === 'Apply' || operation === 'Update') &&
  fieldsType === 'FieldsV1' &&
  (fieldsV1 === undefined || isFieldsV1(fieldsV1));

/** What of an object somebody manages. Its status is written through its subresource alone, where it has one. */
function asCompared(object: KubeObject, hidden: readonly string[]): JsonObject {
  const { apiVersion: _a, kind: _k, metadata, ...rest } = object;
  const { managedFields: _m, ...meta } = metadata;
  const compared: JsonObject = { ...rest, metadata: meta };
  for (const field of hidden) delete compared[field];
  return compared;
}

/**
 * After every write but apply: once defaults are set, and before admission, whose changes nobody manages. What a typed
 * server's new object has by itself is managed by nobody either.
 */
export function trackManagedFields(
  context: RequestContext,
  old: KubeObject | undefined,
  object: KubeObject,
  options: { manager?: string; apply?: boolean; subresource?: string },
): void {
  if (options.apply === true) return;
  const { kind } = context;
  // As upstream: who binds a Pod manages nothing of it.
  if (context.server.options.trackFields === false || options.subresource === 'binding') {
    if (old?.metadata.managedFields === undefined) delete object.metadata.managedFields;
    else object.metadata.managedFields = old.metadata.managedFields;
    return;
  }
  const node: ObjectNode = kind.type;
  const subresource = options.subresource ?? '';
  const withStatus = subresource !== '' || !('status' in kind.subresources);
  const hidden = withStatus ? kind.unmanaged : ['status', ...kind.unmanaged];
  const shown = (one: KubeObject): object => asCompared(fromStored(kind, one), hidden);
  const before = old === undefined ? (kind.custom === true ? {} : zeroObject(node)) : shown(old);
  const after = shown(object);
  // As upstream: of an object whose fields cannot be told apart nobody becomes a manager.
  if (findListProblem(after, node, false) !== undefined) {
    writeManagers(object, startingManagers(old, object));
    return;
  }
  const { changed, removed } = compareFields(before, after, node);
  const managers = startingManagers(old, object);
  const mine = stripSystem(changed);
  if (isEmptySet(mine) && isEmptySet(removed)) {
    writeManagers(object, managers);
    return;
  }
  const name = options.manager ?? managerName(context);
  const apiVersion = apiVersionOf(context.kind);
  // Of what nobody manages yet, nobody loses anything.
  const lost = managers.length === 0 ? mine : unionOf(mine, removed);
  let own: Manager | undefined;
  for (const manager of managers) {
    if (
      manager.name === name &&
      manager.operation === 'Update' &&
      manager.subresource === subresource &&
      manager.apiVersion === apiVersion
    ) {
      own = manager;
      manager.set = removeBelow(manager.set, removed);
    } else manager.set = removeBelow(manager.set, lost);
  }
  const time = timestamp(context.server.clock.now());
  if (own === undefined) managers.push({ name, operation: 'Update', apiVersion, subresource, time, set: mine });
  else {
    own.set = unionOf(own.set, mine);
    own.time = time;
  }
  writeManagers(object, capManagers(managers));
}

/** Only so many updaters are kept apart; the oldest are folded together. */
function capManagers(managers: Manager[]): Manager[] {
  const updaters = managers.filter((m) => m.operation === 'Update' && !isEmptySet(m.set));
  if (updaters.length <= updateManagersMax) return managers;
  updaters.sort((a, b) => (a.time < b.time ? -1 : 1));
  const fold = updaters.slice(0, updaters.length - updateManagersMax + 1);
  const [oldest] = fold;
  if (oldest === undefined) return managers;
  const ancient: Manager = {
    ...oldest,
    name: 'ancient-changes',
    set: fold.reduce((set, m) => unionOf(set, m.set), emptySet()),
  };
  return [...managers.filter((m) => !fold.includes(m)), ancient];
}
