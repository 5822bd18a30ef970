/**
 * Strategic merge patch (Kubernetes, "Strategic Merge Patch"): merge patch in which lists with a merge key are merged by it. Directives:
 * `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/f`, `$setElementOrder/f`.
 */
import { ApiError } from '#base/errors.ts';
import { copyJson, equalJson } from '#base/json.ts';
import type { Json } from '#base/objects.ts';
import type { ListNode, TypeNode } from './types.ts';

const setOrder = '$setElementOrder/';
const deletePrimitive = '$deleteFromPrimitiveList/';

function fieldNode(node: TypeNode | undefined, name: string): { type: TypeNode | undefined; strategies: readonly string[] } {
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
  if (patch.$patch !== undefined && patch.$patch !== 'merge') throw new ApiError('BadRequest', `unknown patch type ${JSON.stringify(patch.$patch)} in map`);
  let out: Json = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys)) out = Object.fromEntries(Object.entries(out).filter(([key]) => patch.$retainKeys.includes(key)));
  for (const [key, value] of Object.entries(patch)) {
    if (key === '$patch' || key === '$retainKeys' || key === '__proto__' || key.startsWith(setOrder)) continue;
    if (key.startsWith(deletePrimitive)) { removePrimitives(out, key.slice(deletePrimitive.length), value); continue; }
    if (value === null) { delete out[key]; continue; }
    const { type, strategies } = fieldNode(node, key);
    if (Array.isArray(value)) out[key] = mergeList(out[key], value, type?.kind === 'list' ? type : undefined, patch[`${setOrder}${key}`], patch[`${deletePrimitive}${key}`]);
    else if (typeof value === 'object') out[key] = strategies.includes('replace') ? copyJson(value) : strategicMergePatch(out[key], value, type);
    else out[key] = value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(setOrder) || patch[key.slice(setOrder.length)] !== undefined) continue;
    const name = key.slice(setOrder.length);
    const type = fieldNode(node, name).type;
    if (Array.isArray(out[name])) out[name] = reorder(out[name], order as Json[], type?.kind === 'list' ? type.mergeKey : undefined);
  }
  return out;
}

function without(object: Json, key: string): Json {
  delete object[key];
  return object;
}

function removePrimitives(out: Json, name: string, values: Json): void {
  if (Array.isArray(out[name])) out[name] = out[name].filter((v: Json) => !(values as Json[]).includes(v));
}

function mergeList(target: Json, patch: Json[], node: ListNode | undefined, order: Json[] | undefined, removed: Json[] | undefined): Json[] {
  const replaces = patch.some((item) => item?.$patch === 'replace');
  if (node === undefined || !(node.strategies ?? []).includes('merge') || replaces) return copyJson(patch.filter((item) => item?.$patch !== 'replace'));
  const current: Json[] = Array.isArray(target) ? [...target] : [];
  const key = node.mergeKey;
  const merged = key === undefined ? mergePrimitives(current, patch, removed) : mergeByKey(current, patch, node, key);
  return order === undefined ? merged : reorder(merged, order, key);
}

function mergePrimitives(current: Json[], patch: Json[], removed: Json[] | undefined): Json[] {
  const out = current.filter((v) => !(removed ?? []).includes(v));
  for (const item of patch) if (!out.some((v) => equalJson(v, item))) out.push(copyJson(item));
  return out;
}

function mergeByKey(current: Json[], patch: Json[], node: ListNode, key: string): Json[] {
  let out = current;
  for (const item of patch) {
    if (typeof item !== 'object' || item === null) throw new ApiError('BadRequest', `expected objects in a list merged by ${key}`);
    const id = item[key];
    if (id === undefined) throw new ApiError('BadRequest', `map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    if (item.$patch === 'delete') { out = out.filter((v) => v?.[key] !== id); continue; }
    const at = out.findIndex((v) => v?.[key] === id);
    if (at < 0) out = [...out, strategicMergePatch({}, item, node.item)];
    else out = out.map((v, i) => (i === at ? strategicMergePatch(v, item, node.item) : v));
  }
  return out;
}

/** Items in the order given; those that it does not name keep their place relative to their neighbours. */
function reorder(list: Json[], order: Json[], key: string | undefined): Json[] {
  const idOf = (item: Json): Json => (key === undefined ? item : item?.[key]);
  const rank = new Map(order.map((item, i) => [idOf(item), i]));
  const named = list.filter((item) => rank.has(idOf(item))).sort((a, b) => rank.get(idOf(a))! - rank.get(idOf(b))!);
  const out: Json[] = [];
  let next = 0;
  for (const item of list) out.push(rank.has(idOf(item)) ? named[next++] : item);
  return out;
}
