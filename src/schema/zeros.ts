/**
 * What a typed server writes though nobody set it: embedded structs, and scalars and lists whose JSON tag has no
 * `omitempty`. An object that passes Go's types comes out with them; so does one that is written here. (Where Go
 * writes null for a list without items, it is an empty one here, as the types say.)
 */
import { isObject, type JsonObject } from '#base/unknown.ts';
import type { Field, ObjectNode, TypeNode } from './types.ts';

/** The value of a field that is written where it is absent; undefined where nothing is. */
function zeroOf({ type, pointer, writesZero }: Field): unknown {
  if (pointer) return undefined;
  switch (type.kind) {
    case 'object':
      return {};
    case 'quantity':
      return '0';
    case 'intstr':
      return 0;
    case 'time':
    case 'microtime':
      return null;
    case 'any':
    case 'union':
      return undefined;
    default:
      return writesZero ? scalarZero(type.kind) : undefined;
  }
}

function scalarZero(kind: TypeNode['kind']): unknown {
  switch (kind) {
    case 'boolean':
      return false;
    case 'int32':
    case 'int64':
    case 'double':
      return 0;
    case 'list':
      return [];
    case 'map':
      return {};
    case 'bytes':
      return null;
    default:
      return '';
  }
}

/** Fields of a type that are always written; most types have none. */
const writtenFields = new WeakMap<ObjectNode, readonly Field[]>();

function writtenOf(node: ObjectNode): readonly Field[] {
  let fields = writtenFields.get(node);
  if (fields === undefined) {
    // Of metadata nothing is: its one struct says `omitzero`.
    fields =
      node.name === 'meta.v1/ObjectMeta'
        ? []
        : [...node.fields.values()].filter((field) => zeroOf(field) !== undefined);
    writtenFields.set(node, fields);
  }
  return fields;
}

/** Changes the object in place. What is frozen was stored, and has its zeros. */
export function fillZeros(object: object, node: ObjectNode): void {
  if (!isObject(object) || Object.isFrozen(object)) return;
  for (const field of writtenOf(node)) if (object[field.name] === undefined) object[field.name] = zeroOf(field);
  for (const name in object) {
    const type = node.fields.get(name)?.type;
    if (type !== undefined) fillValue(object[name], type);
  }
}

function fillValue(value: unknown, type: TypeNode): void {
  if (type.kind === 'object') {
    if (isObject(value)) fillZeros(value, type);
  } else if (type.kind === 'list') {
    if (Array.isArray(value) && holdsObjects(type.item)) for (const item of value) fillValue(item, type.item);
  } else if (type.kind === 'map' && isObject(value) && holdsObjects(type.item))
    for (const name in value) fillValue(value[name], type.item);
}

const holdsObjects = ({ kind }: TypeNode): boolean => kind === 'object' || kind === 'list' || kind === 'map';

/** An object of the type of which nothing is set. */
export function zeroObject(node: ObjectNode): JsonObject {
  const object: JsonObject = {};
  fillZeros(object, node);
  return object;
}
