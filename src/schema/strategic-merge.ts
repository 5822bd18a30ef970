/**
 * Strategic merge patch (Kubernetes, "Strategic Merge Patch"): merge patch in which lists with a merge key are merged
 * by it. Directives:
 * `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/f`, `$setElementOrder/f`.
 */
import { ApiError } from '#base/errors.ts';
import { copyJson } from '#base/json.ts';
import { fieldOf, isObject, type JsonObject } from '#base/unknown.ts';

import type { ListNode, TypeNode } from './types.ts';

const setOrder = '$setElementOrder/';
const deletePrimitive = '$deleteFromPrimitiveList/';

function fieldNode(
  node: TypeNode | undefined,
  name: string,
): { type: TypeNode | undefined; strategies: readonly string[] } {
  if (node?.kind === 'map') return { type: node.item, strategies: [] };
  if (node?.kind !== 'object') return { type: undefined, strategies: [] };
  const field = node.fields.get(name);
  return { type: field?.type, strategies: field?.strategies ?? [] };
}

/** The target with the patch applied; neither is changed. */
export function strategicMergePatch(target: unknown, patch: unknown, node: TypeNode | undefined): unknown {
  if (!isObject(patch)) return copyJson(patch);
  const { $patch, ...fields } = patch;
  if ($patch === 'replace') return copyJson(fields);
  if ($patch === 'delete') return {};
  if ($patch !== undefined && $patch !== 'merge')
    throw new ApiError('BadRequest', `unknown patch type ${JSON.stringify($patch)} in map`);
  let out: JsonObject = isObject(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys)) {
    const kept = new Set(patch.$retainKeys);
    out = Object.fromEntries(Object.entries(out).filter(([key]) => kept.has(key)));
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$patch' || key === '$retainKeys' || key === '__proto__' || key.startsWith(setOrder)) continue;
    if (key.startsWith(deletePrimitive)) {
      removePrimitives(out, key.slice(deletePrimitive.length), value);
      continue;
    }
    if (value === null) {
      delete out[key];
      continue;
    }
    const { type, strategies } = fieldNode(node, key);
    if (Array.isArray(value))
      out[key] = mergeList(out[key], value, type?.kind === 'list' ? type : undefined, {
        order: patch[`${setOrder}${key}`],
        removed: patch[`${deletePrimitive}${key}`],
      });
    else if (typeof value === 'object')
      out[key] = strategies.includes('replace') ? copyJson(value) : strategicMergePatch(out[key], value, type);
    else out[key] = value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(setOrder) || patch[key.slice(setOrder.length)] !== undefined) continue;
    const name = key.slice(setOrder.length);
    const type = fieldNode(node, name).type;
    const list = out[name];
    if (!Array.isArray(list)) continue;
    if (!Array.isArray(order)) throw new ApiError('BadRequest', 'the order directive must be a list');
    const mergeKey = type?.kind === 'list' ? type.mergeKey : undefined;
    const idOf: IdOf = (item) => (mergeKey === undefined ? item : fieldOf(item, mergeKey));
    out[name] = inOrder(list, order.map(idOf), list, idOf);
  }
  return out;
}

function removePrimitives(out: JsonObject, name: string, values: unknown): void {
  if (!Array.isArray(values))
    throw new ApiError('BadRequest', `invalid value for ${deletePrimitive}${name}: expected a list`);
  const gone = new Set(values);
  const held = out[name];
  if (Array.isArray(held)) out[name] = held.filter((v) => !gone.has(v));
}

/** What an item is known by: itself, or its merge key. */
type IdOf = (item: unknown) => unknown;

/** What the directives beside a list say of it. */
interface ListDirectives {
  order: unknown;
  /** Of primitives. */
  removed: unknown;
}

function mergeList(
  target: unknown,
  patch: unknown[],
  node: ListNode | undefined,
  { order, removed }: ListDirectives,
): unknown[] {
  const replaces = patch.some((item) => fieldOf(item, '$patch') === 'replace');
  if (node === undefined || !(node.strategies ?? []).includes('merge') || replaces)
    return copyJson(patch.filter((item) => fieldOf(item, '$patch') !== 'replace'));
  const current: unknown[] = Array.isArray(target) ? target : [];
  const key = node.mergeKey;
  const idOf: IdOf = (item) => (key === undefined ? item : fieldOf(item, key));
  const merged = key === undefined ? mergePrimitives(current, patch, removed) : mergeByKey(current, patch, node, key);
  if (order === undefined) return merged;
  checkOrder(patch, order, idOf);
  return inOrder(merged, order.map(idOf), current, idOf);
}

/** The patch's own items must follow the order that it asks for. */
function checkOrder(patch: readonly unknown[], order: unknown, idOf: IdOf): asserts order is unknown[] {
  if (!Array.isArray(order)) throw new ApiError('BadRequest', 'the order directive must be a list');
  const ranks = new Map(order.map((item, i) => [idOf(item), i]));
  let last = -1;
  for (const item of patch) {
    if (fieldOf(item, '$patch') === 'delete') continue;
    const rank = ranks.get(idOf(item));
    if (rank === undefined || rank < last)
      throw new ApiError('BadRequest', "The order in patch list doesn't match $setElementOrder list");
    last = rank;
  }
}

function mergePrimitives(current: readonly unknown[], patch: readonly unknown[], removed: unknown): unknown[] {
  const gone = new Set(Array.isArray(removed) ? removed : []);
  const kept = current.filter((v) => !gone.has(v));
  return inOrder([...new Set([...kept, ...patch])], patch, kept, (item) => item);
}

function mergeByKey(current: readonly unknown[], patch: readonly unknown[], node: ListNode, key: string): unknown[] {
  const gone = new Set<unknown>();
  const wanted: JsonObject[] = [];
  for (const item of patch) {
    if (!isObject(item)) throw new ApiError('BadRequest', `expected objects in a list merged by ${key}`);
    if (item[key] === undefined)
      throw new ApiError(
        'BadRequest',
        `map: ${JSON.stringify(item).slice(0, 1000)} does not contain declared merge key: ${key}`,
      );
    if (item['$patch'] === 'delete') gone.add(item[key]);
    else wanted.push(item);
  }
  const kept = current.filter((v) => !gone.has(fieldOf(v, key)));
  const out = [...kept];
  const places = new Map<unknown, number>();
  out.forEach((item, i) => {
    if (!places.has(fieldOf(item, key))) places.set(fieldOf(item, key), i);
  });
  for (const item of wanted) {
    const at = places.get(item[key]);
    if (at !== undefined) {
      out[at] = strategicMergePatch(out[at], item, node.item);
      continue;
    }
    places.set(item[key], out.length);
    out.push(strategicMergePatch({}, item, node.item));
  }
  return inOrder(
    out,
    wanted.map((item) => item[key]),
    kept,
    (item) => fieldOf(item, key),
  );
}

/**
 * The list in a new order: items that `order` names follow it, the others keep the order they had. Where the live list
 * has both, it says who goes first; else the named one does. So what a patch adds goes to the front, unless it says
 * where else.
 */
function inOrder(list: readonly unknown[], order: readonly unknown[], live: readonly unknown[], idOf: IdOf): unknown[] {
  const rank = new Map(order.map((id, i) => [id, i]));
  const place = new Map(live.map((item, i) => [idOf(item), i]));
  const named = list
    .flatMap((item) => {
      const at = rank.get(idOf(item));
      return at === undefined ? [] : [{ item, at }];
    })
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
  const others = list.filter((item) => !rank.has(idOf(item)));
  const out: unknown[] = [];
  let next = 0;
  for (const item of named) {
    const at = place.get(idOf(item));
    if (at !== undefined)
      for (; next < others.length && (place.get(idOf(others[next])) ?? Infinity) < at; next++) out.push(others[next]);
    out.push(item);
  }
  for (; next < others.length; next++) out.push(others[next]);
  return out;
}
