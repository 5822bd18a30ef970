/** Types that the checker knows (CEL, "Gradual Type Checking"), as plain data. */

export type Type =
  | { readonly kind: Simple }
  | { readonly kind: 'list'; readonly item: Type; readonly merge?: readonly string[] }
  | { readonly kind: 'map'; readonly key: Type; readonly value: Type }
  | { readonly kind: 'optional'; readonly of: Type }
  | { readonly kind: 'type'; readonly of: Type }
  | { readonly kind: 'object'; readonly name: string; readonly field: (name: string) => Type | undefined }
  | { readonly kind: 'opaque'; readonly name: string }
  | { readonly kind: 'param'; readonly name: string };

type Simple =
  | 'dyn'
  | 'error'
  | 'null'
  | 'bool'
  | 'int'
  | 'uint'
  | 'double'
  | 'string'
  | 'bytes'
  | 'timestamp'
  | 'duration';

const simple = (kind: Simple): Type => ({ kind });
export const types = {
  dyn: simple('dyn'),
  /** Of what is wrong already: it fits everywhere, so that one mistake is told once. */
  error: simple('error'),
  null: simple('null'),
  bool: simple('bool'),
  int: simple('int'),
  uint: simple('uint'),
  double: simple('double'),
  string: simple('string'),
  bytes: simple('bytes'),
  timestamp: simple('timestamp'),
  duration: simple('duration'),
} as const;
export const listType = (item: Type): Type => ({ kind: 'list', item });
export const mapType = (key: Type, value: Type): Type => ({ kind: 'map', key, value });
export const optionalType = (of: Type): Type => ({ kind: 'optional', of });
export const typeType = (of: Type): Type => ({ kind: 'type', of });
export const opaqueType = (name: string): Type => ({ kind: 'opaque', name });
export const param = (name: string): Type => ({ kind: 'param', name });

const wireNames: Partial<Record<Type['kind'], string>> = {
  null: 'null',
  timestamp: 'timestamp',
  duration: 'duration',
  error: '!error!',
};

/** A type as messages of cel-go show it. */
export function typeText(type: Type): string {
  switch (type.kind) {
    case 'list':
      return `list(${typeText(type.item)})`;
    case 'map':
      return `map(${typeText(type.key)}, ${typeText(type.value)})`;
    case 'optional':
      return `optional_type(${typeText(type.of)})`;
    case 'type':
      return `type(${typeText(type.of)})`;
    case 'object':
    case 'opaque':
    case 'param':
      return type.name;
    default:
      return wireNames[type.kind] ?? type.kind;
  }
}

/** Types that stand for the parameters of overloads, found while an expression is checked. */
export class Substitution {
  readonly #found: Map<string, Type>;

  constructor(found: Iterable<[string, Type]> = []) {
    this.#found = new Map(found);
  }

  copy(): Substitution {
    return new Substitution(this.#found);
  }

  /** What `other`, a copy, has found as well. */
  take(other: Substitution): void {
    for (const [name, type] of other.#found) this.#found.set(name, type);
  }

  resolve(type: Type): Type {
    switch (type.kind) {
      case 'param': {
        const found = this.#found.get(type.name);
        return found === undefined ? type : this.resolve(found);
      }
      case 'list':
        return { ...type, item: this.resolve(type.item) };
      case 'map':
        return mapType(this.resolve(type.key), this.resolve(type.value));
      case 'optional':
        return optionalType(this.resolve(type.of));
      case 'type':
        return typeType(this.resolve(type.of));
      default:
        return type;
    }
  }

  /** What is left open is anything. */
  settle(type: Type): Type {
    const found = this.resolve(type);
    switch (found.kind) {
      case 'param':
        return types.dyn;
      case 'list':
        return { ...found, item: this.settle(found.item) };
      case 'map':
        return mapType(this.settle(found.key), this.settle(found.value));
      case 'optional':
        return optionalType(this.settle(found.of));
      case 'type':
        return typeType(this.settle(found.of));
      default:
        return found;
    }
  }

  /** Whether a value of `from` may stand where `to` is asked for; remembers what that says of parameters. */
  assign(from: Type, to: Type): boolean {
    const [a, b] = [this.resolve(from), this.resolve(to)];
    if (b.kind === 'param') {
      if (a.kind === 'param' && a.name === b.name) return true;
      if (occurs(b.name, a)) return false;
      this.#found.set(b.name, a);
      return true;
    }
    if (a.kind === 'param') {
      if (occurs(a.name, b)) return false;
      this.#found.set(a.name, b);
      return true;
    }
    if (isOpen(a) || isOpen(b)) return true;
    if (a.kind === 'null') return isNullable(b);
    if (a.kind !== b.kind) return false;
    if (a.kind === 'list' && b.kind === 'list') return this.assign(a.item, b.item);
    if (a.kind === 'map' && b.kind === 'map') return this.assign(a.key, b.key) && this.assign(a.value, b.value);
    if (a.kind === 'optional' && b.kind === 'optional') return this.assign(a.of, b.of);
    if ('name' in a && 'name' in b) return a.name === b.name;
    return true;
  }
}

const isOpen = ({ kind }: Type): boolean => kind === 'dyn' || kind === 'error';
const isNullable = ({ kind }: Type): boolean =>
  ['null', 'object', 'timestamp', 'duration', 'optional', 'opaque'].includes(kind);

function occurs(name: string, type: Type): boolean {
  switch (type.kind) {
    case 'param':
      return type.name === name;
    case 'list':
      return occurs(name, type.item);
    case 'map':
      return occurs(name, type.key) || occurs(name, type.value);
    case 'optional':
    case 'type':
      return occurs(name, type.of);
    default:
      return false;
  }
}
