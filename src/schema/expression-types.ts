/** Types of objects as expressions see them, from the schemas of their kinds. */
import { listType, mapType, types, type Type } from '#cel/types.ts';
import { fieldName } from '#cel/json-values.ts';
import type { ListNode, ObjectNode, TypeNode } from './types.ts';

/** The same node is the same type. */
const known = new WeakMap<ObjectNode, Type>();

export function expressionType(node: TypeNode): Type {
  switch (node.kind) {
    case 'string':
    case 'double':
    case 'bytes':
    case 'duration':
      return node.kind === 'duration' ? types.string : types[node.kind];
    case 'boolean':
      return types.bool;
    case 'int32':
    case 'int64':
      return types.int;
    case 'time':
    case 'microtime':
      return types.timestamp;
    case 'list':
      return listOf(node);
    case 'map':
      return mapType(types.string, expressionType(node.item));
    case 'object':
      return objectOf(node);
    default:
      return types.dyn;
  }
}

function listOf({ item, listType: kind, keys }: ListNode): Type {
  const type = listType(expressionType(item));
  if (type.kind !== 'list' || (kind !== 'set' && kind !== 'map')) return type;
  return { ...type, merge: kind === 'set' ? [] : (keys ?? []) };
}

function objectOf(node: ObjectNode): Type {
  let type = known.get(node);
  if (type === undefined) {
    type = {
      kind: 'object',
      name: node.name ?? 'object',
      field(name) {
        const field = node.fields.get(fieldName(name));
        if (field !== undefined) return expressionType(field.type);
        return node.preserveUnknown === true ? types.dyn : undefined;
      },
    };
    known.set(node, type);
  }
  return type;
}
