/** Whether a value is of a type, as far as a choice between overloads needs. */
import { Duration, Timestamp } from './time.ts';
import type { Type } from './types.ts';
import { isKind, Uint, type Value } from './values.ts';

export function fitsAll(values: readonly Value[], wanted: readonly Type[]): boolean {
  for (let i = 0; i < values.length; i++) if (!fits(values[i]!, wanted[i]!)) return false;
  return true;
}

function fits(value: Value, type: Type): boolean {
  switch (type.kind) {
    case 'dyn':
    case 'param':
      return true;
    case 'error':
      return false;
    case 'null':
      return value === null;
    case 'bool':
      return typeof value === 'boolean';
    case 'int':
      return typeof value === 'bigint';
    case 'double':
      return typeof value === 'number';
    case 'string':
      return typeof value === 'string';
    case 'uint':
      return value instanceof Uint;
    case 'bytes':
      return value instanceof Uint8Array;
    case 'timestamp':
      return value instanceof Timestamp;
    case 'duration':
      return value instanceof Duration;
    case 'list':
    case 'map':
    case 'optional':
    case 'type':
      return isKind(value, type.kind);
    case 'object':
      return isKind(value, 'map') || isKind(value, 'struct');
    case 'opaque':
      return isKind(value, 'opaque') && value.type.kind === 'opaque' && value.type.name === type.name;
  }
}
