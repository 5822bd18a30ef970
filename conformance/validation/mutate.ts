/**
 * Mutants: an object of a base, changed in a few steps that a seed, a kind and an index decide. Half of the steps make
 * an object that may well be taken - fields filled, dropped, varied -, the others one that should not.
 */
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import { chanceOf } from './random.ts';
import type { Chance } from './random.ts';
import type { Schema, Schemas, ServedKind } from './schemas.ts';
import type { Values, Wanted } from './values.ts';

export type Operation = 'create' | 'apply' | 'update' | 'reapply' | 'status';
/** Of these the object is there before. */
export const onExisting: readonly Operation[] = ['update', 'reapply', 'status'];

export interface Mutant {
  index: number;
  operation: Operation;
  base: KubeObject;
  object: KubeObject;
  /** What was done to the base, in words. */
  steps: string[];
  strict: boolean;
  /** An update that says which version it changes. */
  isVersioned: boolean;
}

/** A value within an object. */
interface Place extends Wanted {
  path: string;
  container: Record<string | number, unknown>;
  key: string | number;
  isRequired: boolean;
}

const metadataSharePercent = 12;

export class Mutator {
  readonly #schemas: Schemas;
  readonly #values: Values;

  constructor(schemas: Schemas, values: Values) {
    this.#schemas = schemas;
    this.#values = values;
  }

  make(kind: ServedKind, bases: readonly KubeObject[], { seed, index }: { seed: number; index: number }): Mutant {
    const chance = chanceOf(seed, kind.apiVersion, kind.kind, index);
    const base = chance.pick(bases);
    const object = structuredClone(base);
    const operation = this.#operation(kind, chance);
    if (operation === 'status') (object as KubeObject & { status?: unknown }).status ??= {};
    const isVersioned = (operation === 'update' || operation === 'status') && chance.percent(80);
    const steps: string[] = [];
    const gentle = chance.below(3);
    const harsh = chance.pick([0, 0, 0, 1, 1, 1, 2]);
    for (let i = 0; i < gentle; i++) steps.push(this.#gentle(this.#root(kind, object, operation), chance));
    for (let i = 0; i < harsh; i++) steps.push(this.#harsh(this.#root(kind, object, operation), chance));
    return { index, operation, base, object, steps, strict: chance.percent(60), isVersioned };
  }

  #operation(kind: ServedKind, chance: Chance): Operation {
    const draw = chance.below(100);
    if (draw < 45) return 'create';
    if (draw < 55) return 'apply';
    if (draw < 80) return 'update';
    if (draw < 90) return 'reapply';
    return kind.hasStatus ? 'status' : 'create';
  }

  /** What steps may change: of a write to the status subresource, the status. */
  #root(
    { schema }: ServedKind,
    object: KubeObject,
    operation: Operation,
  ): { schema: Schema; object: unknown; path: string } {
    if (operation !== 'status') return { schema, object, path: '' };
    const { status } = object as KubeObject & { status?: unknown };
    return { schema: this.#schemas.resolve(schema.properties?.status ?? {}), object: status, path: 'status' };
  }

  #places({ schema, object, path }: { schema: Schema; object: unknown; path: string }): Place[] {
    const places: Place[] = [];
    const visit = (value: unknown, type: Schema, at: string): void => {
      if (Array.isArray(value))
        value.forEach((item, key) => {
          const wanted = { schema: this.#schemas.resolve(type.items ?? {}), name: `${type.name ?? ''}[]` };
          places.push({
            ...wanted,
            path: `${at}[${key}]`,
            container: value as unknown as Place['container'],
            key,
            isRequired: false,
          });
          visit(item, wanted.schema, `${at}[${key}]`);
        });
      else if (isObject(value))
        for (const [key, inner] of Object.entries(value)) {
          if (at === '' && (key === 'apiVersion' || key === 'kind')) continue;
          const declared = type.properties?.[key] ?? type.additionalProperties;
          const wanted = { schema: this.#schemas.resolve(declared ?? {}), name: `${type.name}.${key}` };
          const inPath = at === '' ? key : `${at}.${key}`;
          places.push({
            ...wanted,
            path: inPath,
            container: value,
            key,
            isRequired: type.required?.includes(key) ?? false,
          });
          visit(inner, wanted.schema, inPath);
        }
    };
    visit(object, schema, path);
    return places;
  }

  #pick(places: readonly Place[], chance: Chance): Place | undefined {
    const inMetadata = chance.percent(metadataSharePercent);
    const chosen = places.filter(({ path }) => path.startsWith('metadata') === inMetadata);
    const list = chosen.length > 0 ? chosen : places;
    return list.length === 0 ? undefined : chance.pick(list);
  }

  #gentle(root: { schema: Schema; object: unknown; path: string }, chance: Chance): string {
    const places = this.#places(root);
    const draw = chance.below(100);
    if (draw < 45) return this.#fill(root, places, chance);
    if (draw < 60) {
      const place = this.#pick(
        places.filter(
          ({ isRequired, key }) => !isRequired && typeof key === 'string' && key !== 'metadata' && key !== 'name',
        ),
        chance,
      );
      if (place === undefined) return 'nothing';
      delete place.container[place.key];
      return `drop ${place.path}`;
    }
    if (draw < 90) {
      const place = this.#pick(places, chance);
      return place === undefined ? 'nothing' : this.#set(place, this.#values.good(place, chance), 'vary');
    }
    return this.#extend(places, chance);
  }

  #set(place: Place, value: unknown, verb: string): string {
    place.container[place.key] = value;
    return `${verb} ${place.path} = ${JSON.stringify(value)}`;
  }

  /** Sets a field that is absent. */
  #fill(root: { schema: Schema; object: unknown; path: string }, places: readonly Place[], chance: Chance): string {
    const inside = this.#pick(
      places.filter(({ schema, container, key }) => schema.properties !== undefined && isObject(container[key])),
      chance,
    );
    const useRoot = inside === undefined || chance.percent(10);
    const target = useRoot ? root.object : inside.container[inside.key];
    const schema = useRoot ? root.schema : inside.schema;
    if (!isObject(target)) return 'nothing';
    const absent = Object.keys(schema.properties ?? {}).filter((key) => !(key in target));
    if (absent.length === 0) return 'nothing';
    const key = chance.pick(absent);
    const wanted = { schema: schema.properties![key]!, name: `${schema.name}.${key}` };
    target[key] = this.#values.good(wanted, chance);
    return `fill ${useRoot ? root.path : inside.path}.${key} = ${JSON.stringify(target[key])}`;
  }

  /** Adds an item that is like another but for its names. */
  #extend(places: readonly Place[], chance: Chance): string {
    const list = this.#pick(
      places.filter(({ container, key }) => Array.isArray(container[key]) && (container[key] as unknown[]).length > 0),
      chance,
    );
    if (list === undefined) return 'nothing';
    const items = list.container[list.key] as unknown[];
    const item = structuredClone(chance.pick(items));
    if (isObject(item))
      for (const key of ['name', 'key', 'port', 'containerPort', 'mountPath', 'type'])
        if (key in item) item[key] = typeof item[key] === 'number' ? item[key] + 1 : `${String(item[key])}2`;
    items.push(typeof item === 'string' ? `${item}2` : item);
    return `extend ${list.path}`;
  }

  #harsh(root: { schema: Schema; object: unknown; path: string }, chance: Chance): string {
    const places = this.#places(root);
    const place = this.#pick(places, chance);
    if (place === undefined) return 'nothing';
    const draw = chance.below(100);
    if (draw < 45) return this.#set(place, this.#values.odd(place, chance), 'odd');
    if (draw < 55) return this.#set(place, this.#values.wrong(place, chance), 'wrong type');
    if (draw < 61) return this.#set(place, null, 'null');
    if (draw < 67) {
      const inside = this.#pick(
        places.filter(({ schema, container, key }) => schema.properties !== undefined && isObject(container[key])),
        chance,
      );
      (inside === undefined
        ? (root.object as Record<string, unknown>)
        : (inside.container[inside.key] as Record<string, unknown>)
      ).notAField = 'x';
      return `unknown ${inside?.path ?? root.path}.notAField`;
    }
    if (draw < 78) {
      const required =
        this.#pick(
          places.filter(({ isRequired }) => isRequired),
          chance,
        ) ?? place;
      delete required.container[required.key];
      return `unset ${required.path}`;
    }
    if (draw < 88) {
      const list = this.#pick(
        places.filter(
          ({ container, key }) => Array.isArray(container[key]) && (container[key] as unknown[]).length > 0,
        ),
        chance,
      );
      if (list === undefined) return this.#fill(root, places, chance);
      const items = list.container[list.key] as unknown[];
      items.push(structuredClone(chance.pick(items)));
      return `repeat ${list.path}`;
    }
    if (draw < 94) return this.#fill(root, places, chance);
    const map = this.#pick(
      places.filter(
        ({ schema, container, key }) => schema.additionalProperties !== undefined && isObject(container[key]),
      ),
      chance,
    );
    if (map === undefined) return this.#set(place, this.#values.odd(place, chance), 'odd');
    const key = String(this.#values.odd({ schema: { type: 'string' }, name: '' }, chance));
    (map.container[map.key] as Record<string, unknown>)[key] = this.#values.good(
      { schema: map.schema.additionalProperties!, name: '' },
      chance,
    );
    return `key ${map.path}[${JSON.stringify(key)}]`;
  }
}
