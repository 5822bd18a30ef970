/**
 * The structure of types: what fields an object may have, their types, numbers, merge keys and list types. Built-in
 * types are read lazily, one package file at a time and one type at a time (`data/*.json`, made by `generate.ts`);
 * those of custom resources are made from their structural schemas by `crd-schema.ts` as the same nodes, so that
 * everything derived from a schema treats both alike.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isObject } from '#base/unknown.ts';
import { keptZeros, omittedZeros } from './kept-zeros.ts';

export type ScalarKind =
  | 'string'
  | 'boolean'
  | 'int32'
  | 'int64'
  | 'double'
  | 'bytes'
  | 'time'
  | 'microtime'
  | 'duration'
  | 'quantity'
  | 'intstr'
  | 'any';
export type TypeNode = ScalarNode | ObjectNode | ListNode | MapNode | UnionNode;

export interface ScalarNode {
  kind: ScalarKind;
  /** Of any value: server-side apply treats it as a whole. */
  atomic?: boolean;
}

export interface ObjectNode {
  kind: 'object';
  /** `apps.v1/Deployment`; absent for types of custom resources. */
  name?: string;
  fields: ReadonlyMap<string, Field>;
  /** Fields that are not declared are kept (`x-kubernetes-preserve-unknown-fields`). */
  preserveUnknown?: boolean;
  /** Server-side apply treats the whole as one value. */
  atomic?: boolean;
  /** An object embedded in a custom resource: it has `apiVersion`, `kind` and `metadata` as well. */
  embedded?: boolean;
}

export type ListType = 'atomic' | 'set' | 'map';
export interface ListNode {
  kind: 'list';
  item: TypeNode;
  listType?: ListType;
  keys?: readonly string[];
  mergeKey?: string;
  strategies?: readonly string[];
}
export interface MapNode {
  kind: 'map';
  item: TypeNode;
  atomic?: boolean;
}
/** One of several types, which its form tells: in protobuf a message whose field `n` is member `n`, from one. */
export interface UnionNode {
  kind: 'union';
  members: readonly TypeNode[];
}

export interface Field {
  name: string;
  type: TypeNode;
  required: boolean;
  /** Protobuf field numbers, from the outermost embedded message inwards. */
  number?: readonly number[];
  /** A pointer in the Go type: a zero value that is present means something. */
  pointer: boolean;
  /** Strategic merge patch directives of the field: `merge`, `replace`, `retainKeys`. */
  strategies?: readonly string[];
  default?: unknown;
  /** Written when it is zero: its JSON tag has no `omitempty`. */
  writesZero: boolean;
}

type PackageData = Record<string, Record<string, string>>;

const packages = new Map<string, PackageData>();
const types = new Map<string, ObjectNode>();
const scalarNodes = new Map<string, ScalarNode>();

function loadPackage(name: string): PackageData {
  let data = packages.get(name);
  if (data === undefined) {
    data = JSON.parse(readFileSync(join(import.meta.dirname, 'data', `${name}.json`), 'utf8')) as PackageData;
    packages.set(name, data);
  }
  return data;
}

/** The node of a built-in type by its name, `core.v1/Pod`. */
export function typeOf(name: string): ObjectNode {
  let node = types.get(name);
  if (node !== undefined) return node;
  const [pkg = '', type = ''] = name.split('/');
  const raw = loadPackage(pkg)[type];
  if (raw === undefined) throw new Error(`no type ${name}`);
  let fields: Map<string, Field> | undefined;
  node = {
    kind: 'object',
    name,
    get fields() {
      if (fields === undefined) {
        fields = new Map();
        for (const [field, text] of Object.entries(raw))
          if (field !== '$') fields.set(field, withZero(name, parseField(field, text)));
      }
      return fields;
    },
  };
  if (raw.$ === 'map=atomic') node.atomic = true;
  types.set(name, node);
  return node;
}

/** Which fields are written when they are zero: those that are required, and those that the lists say otherwise of. */
function withZero(type: string, field: Field): Field {
  if (keptZeros[type]?.includes(field.name) === true) return { ...field, writesZero: true };
  return omittedZeros[type]?.includes(field.name) === true ? { ...field, writesZero: false } : field;
}

export function scalarNode(kind: ScalarKind): ScalarNode {
  let node = scalarNodes.get(kind);
  if (node === undefined) scalarNodes.set(kind, (node = { kind }));
  return node;
}

/** The place of the member whose form a value has; -1 where none has it. */
export function memberOf({ members }: UnionNode, value: unknown): number {
  const form = Array.isArray(value) ? 'list' : isObject(value) ? 'object' : typeof value;
  return members.findIndex(({ kind }) => kind === form);
}

/** What built-in types hold of other kinds is nobody's in parts. */
const anyNode: ScalarNode = { kind: 'any', atomic: true };

function parseType(text: string, options: Record<string, string>): TypeNode {
  if (text.startsWith('{}'))
    return { kind: 'map', item: parseType(text.slice(2), {}), ...(options.map === 'atomic' ? { atomic: true } : {}) };
  if (text.includes('|')) return { kind: 'union', members: text.split('|').map((member) => parseType(member, {})) };
  if (text.startsWith('@')) return typeOf(text.slice(1));
  if (text === 'any') return anyNode;
  if (!text.startsWith('[]')) return scalarNode(text as ScalarKind);
  const node: ListNode = { kind: 'list', item: parseType(text.slice(2), {}) };
  if (options.list !== undefined) node.listType = options.list as ListType;
  if (options.keys !== undefined) node.keys = options.keys.split(',');
  if (options.merge !== undefined) node.mergeKey = options.merge;
  if (options.strategy !== undefined) node.strategies = options.strategy.split(',');
  return node;
}

/** The same type, its fields still read at first use. */
function withAtomic(node: ObjectNode, atomic: boolean): ObjectNode {
  return {
    kind: 'object',
    ...(node.name === undefined ? {} : { name: node.name }),
    atomic,
    get fields() {
      return node.fields;
    },
  };
}

function parseField(name: string, text: string): Field {
  const cut = text.indexOf(' default=');
  const [head = '', ...words] = (cut < 0 ? text : text.slice(0, cut)).split(' ');
  const options: Record<string, string> = {};
  let number: readonly number[] | undefined;
  let pointer = false;
  for (const word of words) {
    if (word.startsWith('#')) {
      number = word.slice(1).split('.').map(Number);
      continue;
    }
    if (word === '&') {
      pointer = true;
      continue;
    }
    const equals = word.indexOf('=');
    options[word.slice(0, equals)] = word.slice(equals + 1);
  }
  const required = head.endsWith('!');
  let type = parseType(required ? head.slice(0, -1) : head, options);
  // A type that is atomic elsewhere may be granular here, and the other way.
  if (type.kind === 'object' && options.map !== undefined) type = withAtomic(type, options.map === 'atomic');
  const field: Field = { name, type, required, pointer, writesZero: required };
  if (number !== undefined) field.number = number;
  if (options.strategy !== undefined) field.strategies = options.strategy.split(',');
  if (cut >= 0) field.default = JSON.parse(text.slice(cut + 9));
  return field;
}
