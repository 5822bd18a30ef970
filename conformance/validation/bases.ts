/**
 * The objects that mutants are made from (`bases/*.yaml`), and what they say of each field: values of the same field of
 * the same type, wherever it is used, are good candidates for another object.
 */
import { loadAll } from 'js-yaml';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import type { Schema, Schemas, ServedKind } from './schemas.ts';

/** In this order: what others name comes before them. */
const files = ['access', 'storage', 'core', 'network', 'pods', 'workloads', 'extension'];

const basesDirectory = join(import.meta.dirname, 'bases');

export function loadBases(): KubeObject[] {
  return files.flatMap((file) => loadAll(readFileSync(join(basesDirectory, `${file}.yaml`), 'utf8')) as KubeObject[]);
}

export const namespaceOf = (base: KubeObject): string => base.metadata?.namespace ?? 'default';

/** Values seen of a field, by `type.field`. */
export type Corpus = Map<string, unknown[]>;

export function collectCorpus(bases: readonly KubeObject[], kinds: readonly ServedKind[], schemas: Schemas): Corpus {
  const corpus: Corpus = new Map();
  const visit = (value: unknown, schema: Schema): void => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item, schemas.resolve(schema.items ?? {}));
    } else if (isObject(value)) {
      for (const [key, inner] of Object.entries(value)) {
        const field = schemas.resolve(schema.properties?.[key] ?? schema.additionalProperties ?? {});
        const name = `${schema.name}.${key}`;
        if (schema.properties?.[key] !== undefined) corpus.set(name, [...(corpus.get(name) ?? []), inner]);
        visit(inner, field);
      }
    }
  };
  for (const base of bases) {
    const kind = kinds.find((one) => one.apiVersion === base.apiVersion && one.kind === base.kind);
    if (kind !== undefined) visit(base, kind.schema);
  }
  return corpus;
}
