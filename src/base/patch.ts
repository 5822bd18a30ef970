/** JSON Merge Patch (RFC 7386) and JSON Patch (RFC 6902). The strategic form needs a schema and lives in `schema/strategic-merge.ts`. */
import { applyPatch } from 'rfc6902';
import { ApiError } from './errors.ts';
import { copyJson } from './json.ts';

// eslint-disable-next-line -- JSON values
type Json = any;

/** The target with the patch applied; neither argument is changed. */
export function mergePatch(target: Json, patch: Json): Json {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return copyJson(patch);
  const out: Json = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__') continue;
    if (value === null) delete out[key]; else out[key] = mergePatch(out[key], value);
  }
  return out;
}

const operationsMax = 10_000;

/** The target with the operations applied to a copy. Throws what an API server answers: BadRequest for a malformed patch, Invalid for one that does not apply. */
export function jsonPatch(target: Json, patch: Json): Json {
  if (!Array.isArray(patch)) throw new ApiError('BadRequest', 'error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch');
  if (patch.length > operationsMax) throw new ApiError('RequestEntityTooLarge', `The allowed maximum operations in a JSON patch is ${operationsMax}, got ${patch.length}`);
  for (const operation of patch) {
    if (typeof operation !== 'object' || operation === null || typeof operation.path !== 'string') throw new ApiError('BadRequest', 'error decoding patch: operation lacks a path');
    if (/(^|\/)(__proto__|constructor|prototype)(\/|$)/.test(operation.path)) throw new ApiError('BadRequest', `error decoding patch: path ${operation.path} is not allowed`);
  }
  const out = copyJson(target);
  const results = applyPatch(out, copyJson(patch));
  const failed = results.findIndex((r) => r !== null);
  if (failed >= 0) throw patchError(patch[failed], results[failed]!);
  return out;
}

function patchError(operation: Json, error: Error): ApiError {
  const missing = { remove: 'remove', replace: 'replace', test: 'testing value', copy: 'copy', move: 'move', add: 'add' }[operation.op as string] ?? operation.op;
  const text = error.name === 'TestError' ? `testing value ${operation.path} failed: test failed` : `${missing} operation does not apply: doc is missing ${operation.op === 'add' ? 'path' : 'key'}: ${operation.path}: missing value`;
  return new ApiError('Invalid', `the server rejected our request due to an error in our request: ${text}`);
}
