/**
 * Strategic merge patch (Kubernetes, "Strategic Merge Patch"): merge patch in which lists with a merge key are merged
 * by it. Directives:
 * `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/f`, `$setElementOrder/f`.
 */
import { ApiError } from '#base/errors.ts';
import { copyJson } from '#base/json.ts';
import type { Json } from '#base/objects.ts';
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
export function strategicMergePatch(target: Json, patch: Json, node: TypeNode | undefined): Json {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return copyJson(patch);
  if (patch.$patch === 'replace') return without(copyJson(patch), '$patch');
  if (patch.$patch === 'delete') return {};
  if (patch.$patch !== undefined && patch.$patch !== 'merge')
    throw new ApiError('BadRequest', `unknown patch type ${JSON.stringify(patch.$patch)} in map`);
  let out: Json = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
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
      out[key] = mergeList(
        out[key],
        value,
        type?.kind === 'list' ? type : undefined,
        patch[`${setOrder}${key}`],
        patch[`${deletePrimitive}${key}`],
      );
    else if (typeof value === 'object')
      out[key] = strategies.includes('replace') ? copyJson(value) : strategicMergePatch(out[key], value, type);
    else out[key] = value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(setOrder) || patch[key.slice(setOrder.length)] !== undefined) continue;
    const name = key.slice(setOrder.length);
    const type = fieldNode(node, name).type;
    if (!Array.isArray(out[name])) continue;
    if (!Array.isArray(order)) throw new ApiError('BadRequest', 'the order directive must be a list');
    const mergeKey = type?.kind === 'list' ? type.mergeKey : undefined;
    const idOf: IdOf = (item) => (mergeKey === undefined ? item : item?.[mergeKey]);
    out[name] = inOrder(out[name], order.map(idOf), out[name], idOf);
  }
  return out;
}

function without(object: Json, key: string): Json {
  delete object[key];
  return object;
}

function removePrimitives(out: Json, name: string, values: Json): void {
  if (!Array.isArray(values))
    throw new ApiError('BadRequest', `invalid value for ${deletePrimitive}${name}: expected a list`);
  const gone = new Set(values);
  if (Array.isArray(out[name])) out[name] = out[name].filter((v: Json) => !gone.has(v));
}

/** What an item is known by: itself, or its merge key. */
type IdOf = (item: Json) => Json;

function mergeList(target: Json, patch: Json[], node: ListNode | undefined, order: Json, removed: Json): Json[] {
  const replaces = patch.some((item) => item?.$patch === 'replace');
  if (node === undefined || !(node.strategies ?? []).includes('merge') || replaces)
    return copyJson(patch.filter((item) => item?.$patch !== 'replace'));
  const current: Json[] = Array.isArray(target) ? target : [];
  const key = node.mergeKey;
  const idOf: IdOf = (item) => (key === undefined ? item : item?.[key]);
  const merged = key === undefined ? mergePrimitives(current, patch, removed) : mergeByKey(current, patch, node, key);
  if (order === undefined) return merged;
  checkOrder(patch, order, idOf);
  return inOrder(merged, order.map(idOf), current, idOf);
}

/** The patch's own items must follow the order that it asks for. */
function checkOrder(patch: readonly Json[], order: Json, idOf: IdOf): asserts order is Json[] {
  if (!Array.isArray(order)) throw new ApiError('BadRequest', 'the order directive must be a list');
  const ranks = new Map(order.map((item, i) => [idOf(item), i]));
  let last = -1;
  for (const item of patch) {
    if (item?.$patch === 'delete') continue;
    const rank = ranks.get(idOf(item));
    if (rank === undefined || rank < last)
      throw new ApiError('BadRequest', "The order in patch list doesn't match $setElementOrder list");
    last = rank;
  }
}

function mergePrimitives(current: readonly Json[], patch: readonly Json[], removed: Json): Json[] {
  const gone = new Set(Array.isArray(removed) ? removed : []);
  const kept = current.filter((v) => !gone.has(v));
  return inOrder([...new Set([...kept, ...patch])], patch, kept, (item) => item);
}

function mergeByKey(current: readonly Json[], patch: readonly Json[], node: ListNode, key: string): Json[] {
  const gone = new Set<Json>();
  const wanted: Json[] = [];
  for (const item of patch) {
    if (typeof item !== 'object' || item === null)
      throw new ApiError('BadRequest', `expected objects in a list merged by ${key}`);
    if (item[key] === undefined)
      throw new ApiError(
        'BadRequest',
        `map: ${JSON.stringify(item).slice(0, 1000)} does not contain declared merge key: ${key}`,
      );
    if (item.$patch === 'delete') gone.add(item[key]);
    else wanted.push(item);
  }
  const kept = current.filter((v) => !gone.has(v?.[key]));
  const out = [...kept];
  const places = new Map<Json, number>();
  out.forEach((item, i) => {
    if (!places.has(item?.[key])) places.set(item?.[key], i);
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
    (item) => item?.[key],
  );
}

/**
 * The list in a new order: items that `order` names follow it, the others keep the order they had. Where the live list
 * has both, it says who goes first; else the named one does. So what a patch adds goes to the front, unless it says
 * where else.
 */
function inOrder(list: readonly Json[], order: readonly Json[], live: readonly Json[], idOf: IdOf): Json[] {
  const rank = new Map(order.map((id, i) => [id, i]));
  const place = new Map(live.map((item, i) => [idOf(item), i]));
  const named = list.filter((item) => rank.has(idOf(item))).sort((a, b) => rank.get(idOf(a))! - rank.get(idOf(b))!);
  const others = list.filter((item) => !rank.has(idOf(item)));
  const out: Json[] = [];
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
