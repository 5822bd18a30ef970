/** A mutant as a request. All are dry runs: they leave nothing behind, and answer the object that would be stored. */
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import { namespaceOf } from './bases.ts';
import type { Mutant } from './mutate.ts';
import type { ServedKind } from './schemas.ts';
import { pathOf } from './schemas.ts';
import type { Question } from './side.ts';

/** The table has the object in its row. */
const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';

/** `version`: of the object that is there on this side, where the mutant names it. */
export function questionOf(
  kind: ServedKind,
  { operation, base, object, strict, isVersioned }: Mutant,
  version?: string,
): Question {
  const all = pathOf(kind, namespaceOf(base));
  const one = `${all}/${base.metadata?.name ?? ''}`;
  const query = `dryRun=All&includeObject=Object&fieldValidation=${strict ? 'Strict' : 'Warn'}&fieldManager=mutants`;
  const { metadata } = object;
  const named = isVersioned && isObject(metadata) && metadata.resourceVersion === undefined && version !== undefined;
  const body = JSON.stringify(named ? { ...object, metadata: { ...metadata, resourceVersion: version } } : object);
  const json = { accept, 'content-type': 'application/json' };
  switch (operation) {
    case 'create':
      return { method: 'POST', path: `${all}?${query}`, body, headers: json };
    case 'update':
      return { method: 'PUT', path: `${one}?${query}`, body, headers: json };
    case 'status':
      return { method: 'PUT', path: `${one}/status?${query}`, body, headers: json };
    case 'apply':
    case 'reapply':
      return {
        method: 'PATCH',
        path: `${one}?${query}&force=true`,
        body,
        headers: { accept, 'content-type': 'application/apply-patch+yaml' },
      };
  }
}

export function creationOf(kind: ServedKind, base: KubeObject): Question {
  return {
    method: 'POST',
    path: `${pathOf(kind, namespaceOf(base))}?fieldManager=mutants`,
    body: JSON.stringify(base),
    headers: { accept: 'application/json', 'content-type': 'application/json' },
  };
}
