/**
 * JSON Merge Patch (RFC 7386) and JSON Patch (RFC 6902). The strategic form needs a schema and lives in
 * `schema/strategic-merge.ts`.
 */
import { Pointer, applyPatch } from 'rfc6902';
import { ApiError } from './errors.ts';
import { copyJson, equalJson, jsonBytes } from './json.ts';
import { fieldOf, isObject, type JsonObject } from './unknown.ts';
import { patchCopyBytesMax, patchMovedItemsMax, patchOperationsMax } from './limits.ts';

/** The target with the patch applied; neither argument is changed. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return copyJson(patch);
  const out: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__') continue;
    if (value === null) delete out[key];
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

/**
 * The target with the operations applied to a copy. What `copy` adds and what insertions move aside is bounded, so that
 * a small patch stays small work. Throws what an API server answers: BadRequest for a malformed patch, Invalid for one
 * that does not apply or copies too much.
 */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch))
    throw new ApiError(
      'BadRequest',
      'error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch',
    );
  if (patch.length > patchOperationsMax)
    throw new ApiError(
      'RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${patchOperationsMax}, got ${patch.length}`,
    );
  for (const operation of patch) {
    if (typeof fieldOf(operation, 'path') !== 'string')
      throw new ApiError('BadRequest', 'error decoding patch: operation lacks a path');
    for (const path of [fieldOf(operation, 'path'), fieldOf(operation, 'from')]) {
      if (typeof path === 'string' && /(^|\/)(__proto__|constructor|prototype)(\/|$)/.test(path))
        throw new ApiError('BadRequest', `error decoding patch: path ${path} is not allowed`);
    }
  }
  const out = { root: copyJson(target) };
  const work = { copied: 0, moved: 0 };
  for (const operation of copyJson<Operation[]>(patch)) applyOne(out, operation, work);
  return out.root;
}

/** One operation, as far as it has been looked at: it is an object, and has a path. */
interface Operation {
  op: 'add' | 'remove' | 'replace' | 'move' | 'copy' | 'test';
  path: string;
  from: string;
  value: unknown;
}

function applyOne(out: { root: unknown }, operation: Operation, work: { copied: number; moved: number }): void {
  if (operation.op === 'copy') {
    work.copied += jsonBytes(at(out.root, operation.from));
    if (work.copied > patchCopyBytesMax)
      throw refused(
        `Unable to complete the copy, the accumulated size increase of copy is ${work.copied}, exceeding the limit ${patchCopyBytesMax}`,
      );
  }
  if (operation.op === 'test') {
    if (!equalJson(at(out.root, operation.path) ?? null, operation.value ?? null))
      throw refused(`testing value ${operation.path} failed: test failed`);
    return;
  }
  for (const path of [operation.path, operation.from]) work.moved += itemsBehind(out.root, path);
  if (work.moved > patchMovedItemsMax)
    throw refused(`the operations move more than ${patchMovedItemsMax} list items aside`);
  // The document itself may be the target: the pointer `` names what `root` holds.
  const [failed] = applyPatch(out, [
    {
      ...operation,
      path: `/root${operation.path}`,
      ...(typeof operation.from === 'string' ? { from: `/root${operation.from}` } : {}),
    },
  ]);
  if (failed !== null && failed !== undefined) throw patchError(operation);
}

/** The value at a pointer; undefined where there is none. */
function at(root: unknown, path: unknown): unknown {
  if (typeof path !== 'string') return undefined;
  try {
    return Pointer.fromJSON(path).get(root);
  } catch {
    return undefined;
  }
}

/** How many items an insertion or removal at the pointer moves. */
function itemsBehind(root: unknown, path: unknown): number {
  if (typeof path !== 'string') return 0;
  const cut = path.lastIndexOf('/');
  if (cut < 0) return 0;
  const list = at(root, path.slice(0, cut));
  const index = Number(path.slice(cut + 1));
  return Array.isArray(list) && Number.isInteger(index) ? Math.max(0, list.length - index) : 0;
}

function refused(text: string): ApiError {
  return new ApiError('Invalid', `the server rejected our request due to an error in our request: ${text}`);
}

function patchError(operation: Operation): ApiError {
  return refused(
    `${operation.op} operation does not apply: doc is missing ${operation.op === 'add' ? 'path' : 'key'}: ${operation.path}: missing value`,
  );
}
