/**
 * Sets of fields of an object, as `metadata.managedFields` keeps them (Kubernetes, "Server-Side Apply"; `meta/v1
 * FieldsV1`). A set is a tree whose edges are
 * `f:name`, `k:{"key":value}` for an item of a keyed list, `v:value` for a member of a list that is a set; `.` marks
 * the place itself as a member.
 */
import { equalJson } from '#base/json.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { setPathsMax, shownValueCharsMax } from './limits.ts';
import { isSentEmpty } from './check.ts';
import type { Field, ListNode, TypeNode } from './types.ts';

export interface FieldSet {
  self: boolean;
  children: Map<string, FieldSet>;
}

export const emptySet = (): FieldSet => ({ self: false, children: new Map() });
const leaf = (): FieldSet => ({ self: true, children: new Map() });
export const isEmptySet = (set: FieldSet): boolean => !set.self && set.children.size === 0;

const anyNode: TypeNode = { kind: 'any' };

/** The node of a field; what no schema describes is taken as it looks: objects by field, lists as a whole. */
function childNode(node: TypeNode, name: string): TypeNode {
  if (node.kind === 'object') return node.fields.get(name)?.type ?? anyNode;
  return node.kind === 'map' ? node.item : anyNode;
}

function isAtomic(node: TypeNode, value: unknown): boolean {
  if (Array.isArray(value)) return listNode(node) === undefined;
  if (!isObject(value)) return true;
  return (node.kind === 'object' || node.kind === 'map' || node.kind === 'any') && node.atomic === true;
}

/** The node of a list whose items are told apart. */
function listNode(node: TypeNode): ListNode | undefined {
  return node.kind === 'list' && node.listType !== undefined && node.listType !== 'atomic' ? node : undefined;
}

/** A required key that lacks is the zero of its type, as the published schemas say. */
function requiredKey(field: Field | undefined): unknown {
  if (field === undefined || field.pointer || !(field.required || field.writesZero)) return undefined;
  return field.type.kind === 'string' ? '' : field.type.kind === 'int32' ? 0 : undefined;
}

/** The edge of a list's item. */
function itemKey(node: ListNode, item: unknown): string {
  if (node.listType === 'set') return `v:${JSON.stringify(item)}`;
  const key: JsonObject = {};
  for (const name of [...(node.keys ?? [])].sort()) {
    const given = isObject(item) && Object.hasOwn(item, name) ? item[name] : undefined;
    const field = node.item.kind === 'object' ? node.item.fields.get(name) : undefined;
    const value = given === undefined ? (field?.default ?? requiredKey(field)) : given;
    if (value !== undefined) key[name] = value;
  }
  return `k:${JSON.stringify(key)}`;
}

/**
 * Why a value's lists cannot be merged: an item without a key, or, with `repeats`, two of one key. Undefined where they
 * can.
 */
export function findListProblem(value: unknown, node: TypeNode, repeats: boolean, path = ''): string | undefined {
  if (Array.isArray(value)) {
    const list = listNode(node);
    if (list !== undefined) return findItemProblem(value, list, repeats, path);
    return repeats && node.kind === 'list' ? findAtomicProblem(value, node, path) : undefined;
  }
  if (!isObject(value) || (!repeats && isAtomic(node, value))) return undefined;
  for (const name of Object.keys(value)) {
    const below = findListProblem(value[name], childNode(node, name), repeats, `${path}.${name}`);
    if (below !== undefined) return below;
  }
  return undefined;
}

/** What is applied is right within lists, too, that are taken as a whole. */
function findAtomicProblem(items: readonly unknown[], node: ListNode, path: string): string | undefined {
  for (const [i, item] of items.entries()) {
    const below = findListProblem(item, node.item, true, `${path}[${i}]`);
    if (below !== undefined) return below;
  }
  return undefined;
}

function findItemProblem(
  items: readonly unknown[],
  list: ListNode,
  repeats: boolean,
  path: string,
): string | undefined {
  const seen = new Set<string>();
  for (const [i, item] of items.entries()) {
    if (repeats && item === null && list.listType === 'map')
      return `${path}: element ${i}: associative list with keys may not have a null element`;
    const key = itemKey(list, item);
    if (key === 'k:{}')
      return `${path}: element ${i}: associative list with keys has an element that omits all key fields ${JSON.stringify(list.keys)} (and doesn't have default values for any key fields)`;
    if (repeats && seen.has(key)) return `${path}: duplicate entries for key ${edgeText(key)}`;
    seen.add(key);
    const below =
      list.listType === 'set' ? undefined : findListProblem(item, list.item, repeats, `${path}${edgeText(key)}`);
    if (below !== undefined) return below;
  }
  return undefined;
}

/** All fields that a value sets. */
export function fieldsOf(value: unknown, node: TypeNode, marks = false, created = false): FieldSet {
  const list = listNode(node);
  const set = emptySet();
  if (Array.isArray(value) && list !== undefined) {
    if (marks && created) set.self = true;
    const repeated = new Set<string>();
    for (const item of value) {
      const child = list.listType === 'set' ? leaf() : fieldsOf(item, list.item, marks, true);
      child.self = true;
      const key = itemKey(list, item);
      if (set.children.has(key)) repeated.add(key);
      set.children.set(key, child);
    }
    // Items that cannot be told apart are managed as one.
    for (const key of repeated) set.children.set(key, leaf());
    // What is applied is managed item by item: none is nothing.
    if (value.length === 0 && marks) set.self = true;
    return set;
  }
  if (!isObject(value) || isAtomic(node, value)) return leaf();
  const names = Object.keys(value).filter((k) => value[k] !== undefined);
  if (names.length === 0) return leaf();
  if (marks && created) set.self = true;
  for (const name of names) {
    const below = fieldsOf(value[name], childNode(node, name), marks, marks);
    if (!isEmptySet(below)) set.children.set(`f:${name}`, below);
  }
  return set;
}

export interface Comparison {
  changed: FieldSet;
  removed: FieldSet;
}

/** Fields that were added or modified, and fields that went, from `old` to `value`. */
export function compareFields(old: object, value: object, node: TypeNode): Comparison {
  const out: Comparison = { changed: emptySet(), removed: emptySet() };
  compareInto(old, value, node, out);
  return out;
}

/** Both are lists whose items are told apart, or both objects. */
function compareInto(old: unknown, value: unknown, node: TypeNode, out: Comparison): void {
  const list = listNode(node);
  if (list !== undefined && Array.isArray(old) && Array.isArray(value)) compareLists(old, value, list, out);
  else if (isObject(old) && isObject(value)) compareObjects(old, value, node, out);
}

/** What is the same in both costs nothing but a look. */
function compareObjects(old: JsonObject, value: JsonObject, node: TypeNode, out: Comparison): void {
  for (const name of Object.keys(value)) {
    const [was, is] = [old[name], value[name]];
    if (is === undefined || is === was) continue;
    if (was === undefined) out.changed.children.set(`f:${name}`, fieldsOf(is, childNode(node, name), true, true));
    else note(`f:${name}`, differenceOf(was, is, childNode(node, name)), out);
  }
  for (const name of Object.keys(old)) {
    if (old[name] !== undefined && value[name] === undefined)
      setRemoved(`f:${name}`, old[name], childNode(node, name), out.removed);
  }
}

function compareLists(old: readonly unknown[], value: readonly unknown[], node: ListNode, out: Comparison): void {
  const byKey = (list: readonly unknown[]) => new Map(list.map((item) => [itemKey(node, item), item]));
  const [before, after] = [byKey(old), byKey(value)];
  for (const [key, is] of after) {
    const was = before.get(key);
    if (before.has(key)) {
      if (was !== is) note(key, differenceOf(was, is, node.item), out);
      continue;
    }
    const set = fieldsOf(is, node.item, true, true);
    set.self = true;
    out.changed.children.set(key, set);
  }
  for (const [key, was] of before) if (!after.has(key)) setRemoved(key, was, node.item, out.removed);
}

function setRemoved(key: string, was: unknown, node: TypeNode, removed: FieldSet): void {
  const set = fieldsOf(was, node, true, true);
  set.self = true;
  removed.children.set(key, set);
}

/** How one value differs from another: as a whole, in parts, or not at all. */
function differenceOf(was: unknown, is: unknown, node: TypeNode): 'whole' | Comparison | undefined {
  // Stored lists without items are Go's null: one that is sent is another.
  if (isSentEmpty(is) && equalJson(was, is)) return 'whole';
  if (isAtomic(node, is) || isAtomic(node, was) || Array.isArray(was) !== Array.isArray(is))
    return equalJson(was, is) ? undefined : 'whole';
  const parts: Comparison = { changed: emptySet(), removed: emptySet() };
  compareInto(was, is, node, parts);
  return parts;
}

function note(key: string, difference: 'whole' | Comparison | undefined, out: Comparison): void {
  if (difference === undefined) return;
  if (difference === 'whole') {
    out.changed.children.set(key, leaf());
    return;
  }
  if (!isEmptySet(difference.changed)) out.changed.children.set(key, difference.changed);
  if (!isEmptySet(difference.removed)) out.removed.children.set(key, difference.removed);
}

export function unionOf(a: FieldSet, b: FieldSet): FieldSet {
  const out: FieldSet = { self: a.self || b.self, children: new Map(a.children) };
  for (const [key, set] of b.children) {
    const mine = out.children.get(key);
    out.children.set(key, mine === undefined ? set : unionOf(mine, set));
  }
  return out;
}

/** `a` without `b` and without everything below `b`'s members. */
export function removeBelow(a: FieldSet, b: FieldSet): FieldSet {
  const out: FieldSet = { self: a.self && !b.self, children: new Map() };
  for (const [key, set] of a.children) {
    const other = b.children.get(key);
    if (other === undefined) {
      out.children.set(key, set);
      continue;
    }
    if (other.self) continue;
    const rest = removeBelow(set, other);
    if (!isEmptySet(rest)) out.children.set(key, rest);
  }
  return out;
}

export function intersectionOf(a: FieldSet, b: FieldSet): FieldSet {
  const out: FieldSet = { self: a.self && b.self, children: new Map() };
  for (const [key, set] of a.children) {
    const other = b.children.get(key);
    if (other === undefined) continue;
    const both = intersectionOf(set, other);
    if (!isEmptySet(both)) out.children.set(key, both);
  }
  return out;
}

const byEdge = ([a]: [string, FieldSet], [b]: [string, FieldSet]): number => (a < b ? -1 : 1);

export function toFieldsV1(set: FieldSet): JsonObject {
  const out: JsonObject = {};
  if (set.self && set.children.size > 0) out['.'] = {};
  for (const [key, child] of [...set.children].sort(byEdge)) out[key] = toFieldsV1(child);
  return out;
}

export function fromFieldsV1(fields: unknown): FieldSet {
  const set = emptySet();
  for (const [key, value] of isObject(fields) ? Object.entries(fields) : []) {
    if (key === '.') {
      set.self = true;
      continue;
    }
    const child = fromFieldsV1(value);
    if (isEmptySet(child)) child.self = true;
    set.children.set(key, child);
  }
  return set;
}

/** Whether a value is a set's JSON form: what a client sends may be anything. */
export function isFieldsV1(fields: unknown): boolean {
  if (!isObject(fields)) return false;
  for (const [key, value] of Object.entries(fields)) {
    if (key !== '.' && !isEdge(key)) return false;
    if (!isFieldsV1(value)) return false;
  }
  return true;
}

function isEdge(key: string): boolean {
  if (key.startsWith('f:')) return true;
  if (!key.startsWith('k:') && !key.startsWith('v:')) return key.startsWith('i:') && /^\d{1,9}$/.test(key.slice(2));
  try {
    const value: unknown = JSON.parse(key.slice(2));
    return key.startsWith('v:') || (typeof value === 'object' && value !== null && !Array.isArray(value));
  } catch {
    return false;
  }
}

/**
 * Members as messages name them: `.spec.containers[name="a"].image`. At most `setPathsMax`, since a path may be as long
 * as the set.
 */
export function pathsOfSet(set: FieldSet): string[] {
  const out: string[] = [];
  addPaths(set, '', out);
  return out;
}

function addPaths(set: FieldSet, prefix: string, out: string[]): void {
  if (out.length >= setPathsMax) return;
  if (set.self && set.children.size === 0) out.push(prefix);
  for (const [key, child] of set.children)
    addPaths(child, prefix.length > shownValueCharsMax ? prefix : prefix + edgeText(key), out);
}

function edgeText(key: string): string {
  const text = key.slice(2);
  if (key.startsWith('f:')) return `.${text}`;
  if (!key.startsWith('k:')) return `[=${text}]`;
  return `[${Object.entries(JSON.parse(text))
    .map(([k, v]) => `${k}=${JSON.stringify(v)}`)
    .join(',')}]`;
}

/** The live value with an applied configuration merged in; neither is changed. */
export function mergeApplied(live: unknown, applied: unknown, node: TypeNode): unknown {
  if (isAtomic(node, applied) || isAtomic(node, live)) return applied;
  const list = listNode(node);
  if (list !== undefined && Array.isArray(live) && Array.isArray(applied)) return mergeLists(live, applied, list);
  if (!isObject(live) || !isObject(applied)) return applied;
  const out: JsonObject = { ...live };
  for (const [name, value] of Object.entries(applied)) {
    // What is null is not applied where something can be kept in parts; elsewhere it is nothing.
    if (value === null) {
      if (isAtomic(childNode(node, name), out[name])) out[name] = null;
    } else out[name] = mergeApplied(out[name], value, childNode(node, name));
  }
  return out;
}

/**
 * Two cursors over the live and the applied list. What only the live list has goes out when the live cursor meets it;
 * what both have follows the applied order; what is new goes out behind the live items that were passed by then. So a
 * second manager's items come behind those that are there.
 */
function mergeLists(live: unknown[], applied: unknown[], node: ListNode): unknown[] {
  const liveKeys = live.map((item) => itemKey(node, item));
  const appliedKeys = applied.map((item) => itemKey(node, item));
  const places = new Map(liveKeys.map((key, i) => [key, i]));
  const wanted = new Set(appliedKeys);
  const shared = appliedKeys.filter((key) => places.has(key));
  const out: unknown[] = [];
  let [l, a, s] = [0, 0, 0];
  const taken = new Set<string>();
  const takeApplied = (key: string): void => {
    const at = places.get(key);
    out.push(at === undefined || node.listType === 'set' ? applied[a] : mergeApplied(live[at], applied[a], node.item));
    taken.add(key);
    if (shared[s] === key) s++;
    a++;
  };
  for (;;) {
    const [key, next] = [liveKeys[l], appliedKeys[a]];
    if (key === undefined && next === undefined) return out;
    if (key !== undefined && !wanted.has(key)) out.push(live[l++]);
    else if (next === undefined) l++;
    else if (key === undefined) takeApplied(next);
    else if (key === next) {
      takeApplied(next);
      l++;
    } else if (taken.has(key) || (shared[s] !== undefined && shared[s] !== key)) l++;
    else takeApplied(next);
  }
}

/**
 * Takes out of `value` what `gone` names and `kept` does not; the value is changed in place. Answers undefined where
 * nothing is left of it.
 */
export function pruneFields(value: unknown, node: TypeNode, gone: FieldSet, kept: FieldSet | undefined): unknown {
  const list = listNode(node);
  if (Array.isArray(value) && list !== undefined) {
    const out = value
      .filter((item) => {
        const key = itemKey(list, item);
        return gone.children.get(key)?.self !== true || kept?.children.get(key) !== undefined;
      })
      .map((item) => {
        const key = itemKey(list, item);
        const below = gone.children.get(key);
        return below === undefined ? item : pruneFields(item, list.item, below, kept?.children.get(key));
      });
    return out.length === 0 && kept === undefined ? undefined : out;
  }
  if (!isObject(value) || isAtomic(node, value)) return value;
  for (const [key, below] of gone.children) {
    const name = key.slice(2);
    if (value[name] === undefined) continue;
    const keep = kept?.children.get(key);
    const child = childNode(node, name);
    if (keep === undefined && (below.children.size === 0 || isAtomic(child, value[name]))) {
      delete value[name];
      continue;
    }
    const left = pruneFields(value[name], child, below, keep);
    if (
      left === undefined ||
      (keep === undefined &&
        typeof left === 'object' &&
        left !== null &&
        Object.keys(left).length === 0 &&
        child.kind !== 'object')
    )
      delete value[name];
    else value[name] = left;
  }
  return value;
}
