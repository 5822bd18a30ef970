/**
 * Finds the type of each part of an expression and the functions that its calls may mean, and says what is wrong, in
 * the words of cel-go (CEL, "Gradual Type Checking").
 */
import { compilePattern, PatternError } from '#base/pattern.ts';
import type { Node, NodeOf, Problem } from './ast.ts';
import type { Environment, Overload, StructType } from './environment.ts';
import { Timestamp, Duration } from './time.ts';
import { listType, mapType, optionalType, param, Substitution, types, typeText, typeType, type Type } from './types.ts';
import { Uint, type Value } from './values.ts';

export interface Checked {
  type: Type;
  /** Of each call, by its node's id. */
  calls: ReadonlyMap<number, CheckedCall>;
  structs: ReadonlyMap<number, StructType>;
  /** Selections that are the name of a variable (`authorizer.requestResource`). */
  names: ReadonlyMap<number, string>;
}

export interface CheckedCall {
  overloads: readonly Overload[];
  /** Whether the target is part of the function's name. */
  isQualified: boolean;
}

export function check(node: Node, environment: Environment): Checked | { problems: Problem[] } {
  const checker = new Checker(environment);
  const type = checker.typeOf(node, undefined);
  return checker.problems.length > 0 ? { problems: checker.problems } : checker.settle(type);
}

/** Variables of loops, innermost first. */
interface Scope {
  name: string;
  type: Type;
  outer: Scope | undefined;
}

const typeNames: Readonly<Record<string, Type>> = {
  bool: types.bool,
  bytes: types.bytes,
  double: types.double,
  dyn: types.dyn,
  int: types.int,
  list: listType(types.dyn),
  map: mapType(types.dyn, types.dyn),
  null_type: types.null,
  string: types.string,
  type: typeType(types.dyn),
  uint: types.uint,
  'google.protobuf.Timestamp': types.timestamp,
  'google.protobuf.Duration': types.duration,
  optional_type: optionalType(types.dyn),
};

class Checker {
  readonly problems: Problem[] = [];
  readonly #environment: Environment;
  readonly #calls = new Map<number, CheckedCall>();
  readonly #structs = new Map<number, StructType>();
  readonly #names = new Map<number, string>();
  #found = new Substitution();
  #params = 0;
  /** Whether literals may mix types here. */
  #mixing = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  settle(type: Type): Checked {
    return { type: this.#found.settle(type), calls: this.#calls, structs: this.#structs, names: this.#names };
  }

  #wrong(at: number, message: string): Type {
    this.problems.push({ at, message });
    return types.error;
  }

  typeOf(node: Node, scope: Scope | undefined): Type {
    switch (node.op) {
      case 'const':
        return constantType(node.value);
      case 'ident':
        return this.#ident(node, scope);
      case 'select':
        return this.#select(node, scope);
      case 'call':
        return this.#call(node, scope);
      case 'list':
        return this.#list(node, scope);
      case 'map':
        return this.#map(node, scope);
      case 'struct':
        return this.#struct(node, scope);
      case 'fold':
        return this.#fold(node, scope);
    }
  }

  #lookUp(name: string, scope: Scope | undefined): Type | undefined {
    for (let at = scope; at !== undefined; at = at.outer) if (at.name === name) return at.type;
    const known = this.#environment.variables.get(name) ?? typeNames[name];
    return known !== undefined && !this.#environment.variables.has(name) ? typeType(known) : known;
  }

  #ident({ name, at }: NodeOf<'ident'>, scope: Scope | undefined): Type {
    return this.#lookUp(name, scope) ?? this.#wrong(at, `undeclared reference to '${name}' (in container '')`);
  }

  #select(node: NodeOf<'select'>, scope: Scope | undefined): Type {
    const { operand, field, isTest, isOptional, at } = node;
    const name = isTest || isOptional ? undefined : qualifiedName(node);
    const variable = name === undefined ? undefined : this.#environment.variables.get(name);
    if (name !== undefined && variable !== undefined) {
      this.#names.set(node.id, name);
      return variable;
    }
    if (
      name !== undefined &&
      typeNames[name] !== undefined &&
      this.#lookUp(name.split('.')[0] ?? '', scope) === undefined
    )
      return typeType(typeNames[name]);
    const whole = this.#found.resolve(this.typeOf(operand, scope));
    const wasOptional = whole.kind === 'optional';
    const type = this.#field(wasOptional ? this.#found.resolve(whole.of) : whole, field, at);
    if (isTest) return types.bool;
    return isOptional || wasOptional ? optionalType(type) : type;
  }

  #field(type: Type, name: string, at: number): Type {
    switch (type.kind) {
      case 'map':
        return type.value;
      case 'object':
        return type.field(name) ?? this.#wrong(at, `undefined field '${name}'`);
      case 'dyn':
      case 'error':
      case 'param':
        return type.kind === 'error' ? type : types.dyn;
      default:
        return this.#wrong(at, `type '${typeText(type)}' does not support field selection`);
    }
  }

  #call(node: NodeOf<'call'>, scope: Scope | undefined): Type {
    const { name, target, args, at, id } = node;
    const { functions } = this.#environment;
    const prefix = target === undefined ? undefined : qualifiedName(target);
    const qualified = prefix === undefined ? undefined : functions.get(`${prefix}.${name}`);
    const isQualified = qualified !== undefined && this.#lookUp(prefix?.split('.')[0] ?? '', scope) === undefined;
    const isMember = target !== undefined && !isQualified;
    // What is put into a text may be of any types.
    const takesAny = name === 'format' && isMember;
    if (takesAny) this.#mixing++;
    const given = [...(isMember ? [target] : []), ...args].map((arg) => this.typeOf(arg, scope));
    if (takesAny) this.#mixing--;
    this.#checkLiteral(node);
    const all = isQualified ? qualified : functions.get(name);
    const fullName = isQualified ? `${prefix}.${name}` : name;
    if (all === undefined) return this.#wrong(at, `undeclared reference to '${fullName}' (in container '')`);
    const fits: Overload[] = [];
    let result: Type | undefined;
    for (const overload of all) {
      if (overload.isMember !== isMember || overload.args.length !== given.length) continue;
      const attempt = this.#found.copy();
      const fresh = this.#instantiate(overload);
      if (!given.every((type, i) => attempt.assign(type, fresh.args[i]!))) continue;
      fits.push(overload);
      if (result === undefined) {
        this.#found = attempt;
        result = fresh.result;
      } else if (typeText(this.#found.settle(result)) !== typeText(attempt.settle(fresh.result))) result = types.dyn;
    }
    if (result === undefined) {
      if (given.some((type) => this.#found.resolve(type).kind === 'error')) return types.error;
      const texts = given.map((type) => typeText(this.#found.settle(type)));
      const shown = isMember ? `${texts[0]}.(${texts.slice(1).join(', ')})` : `(${texts.join(', ')})`;
      return this.#wrong(at, `found no matching overload for '${fullName}' applied to '${shown}'`);
    }
    this.#calls.set(id, { overloads: fits, isQualified });
    return this.#found.resolve(result);
  }

  /** A text that never is what the function takes. */
  #checkLiteral({ name, target, args }: NodeOf<'call'>): void {
    const last = args.at(-1);
    if (last?.op !== 'const' || typeof last.value !== 'string') return;
    const text = last.value;
    const isBad =
      (name === 'timestamp' && target === undefined && Timestamp.parse(text) === undefined) ||
      (name === 'duration' && target === undefined && Duration.parse(text) === undefined) ||
      (name === 'matches' && !isPattern(text));
    if (isBad) this.#wrong(last.at, `invalid ${name} argument`);
  }

  /** The overload with parameters that no other call has. */
  #instantiate({ args, result }: Overload): { args: Type[]; result: Type } {
    const names = new Map<string, Type>();
    const rename = (type: Type): Type => {
      switch (type.kind) {
        case 'param': {
          const known = names.get(type.name) ?? param(`_var${this.#params++}`);
          names.set(type.name, known);
          return known;
        }
        case 'list':
          return listType(rename(type.item));
        case 'map':
          return mapType(rename(type.key), rename(type.value));
        case 'optional':
          return optionalType(rename(type.of));
        case 'type':
          return typeType(rename(type.of));
        default:
          return type;
      }
    };
    return { args: args.map(rename), result: rename(result) };
  }

  /** The one type of the parts of a literal. */
  #join(before: Type | undefined, type: Type, at: number): Type {
    if (before === undefined) return type;
    const [a, b] = [this.#found.resolve(before), this.#found.resolve(type)];
    if (a.kind === 'dyn' || a.kind === 'error') return a;
    if (b.kind === 'dyn' || b.kind === 'error') return b;
    if (this.#found.assign(b, a)) return a.kind === 'null' ? b : a;
    if (this.#found.assign(a, b)) return b;
    if (this.#mixing > 0) return types.dyn;
    return this.#wrong(
      at,
      `expected type '${typeText(this.#found.settle(a))}' but found '${typeText(this.#found.settle(b))}'`,
    );
  }

  /** What an entry that may be absent holds. */
  #unwrap(type: Type, isOptional: boolean, at: number): Type {
    const found = this.#found.resolve(type);
    if (!isOptional || found.kind === 'dyn' || found.kind === 'error') return found;
    return found.kind === 'optional'
      ? found.of
      : this.#wrong(at, `expected type 'optional_type(${typeText(found)})' but found '${typeText(found)}'`);
  }

  #list({ items }: NodeOf<'list'>, scope: Scope | undefined): Type {
    let item: Type | undefined;
    for (const { value, isOptional } of items)
      item = this.#join(item, this.#unwrap(this.typeOf(value, scope), isOptional, value.at), value.at);
    return listType(item ?? param(`_var${this.#params++}`));
  }

  #map({ entries }: NodeOf<'map'>, scope: Scope | undefined): Type {
    let key: Type | undefined;
    let value: Type | undefined;
    for (const entry of entries) {
      key = this.#join(key, this.typeOf(entry.key, scope), entry.key.at);
      value = this.#join(
        value,
        this.#unwrap(this.typeOf(entry.value, scope), entry.isOptional, entry.value.at),
        entry.value.at,
      );
    }
    return mapType(key ?? param(`_var${this.#params++}`), value ?? param(`_var${this.#params++}`));
  }

  #struct({ name, fields, at, id }: NodeOf<'struct'>, scope: Scope | undefined): Type {
    const struct = this.#environment.struct?.(name);
    if (struct === undefined) {
      for (const { value } of fields) this.typeOf(value, scope);
      return this.#wrong(at, `undeclared reference to '${name}' (in container '')`);
    }
    this.#structs.set(id, struct);
    for (const field of fields) {
      const type = this.#unwrap(this.typeOf(field.value, scope), field.isOptional, field.at);
      const wanted = struct.field(field.name);
      if (wanted === undefined) this.#wrong(field.at, `undefined field '${field.name}'`);
      else if (!this.#found.assign(type, wanted))
        this.#wrong(
          field.at,
          `expected type of field '${field.name}' is '${typeText(wanted)}' but provided type is '${typeText(this.#found.settle(type))}'`,
        );
    }
    return struct.type;
  }

  #fold(node: NodeOf<'fold'>, scope: Scope | undefined): Type {
    const range = this.#found.resolve(this.typeOf(node.range, scope));
    const [first, second] = this.#elements(range, node);
    const inner = (name: string, type: Type, outer: Scope | undefined): Scope => ({ name, type, outer });
    const accu = inner(node.accu, this.typeOf(node.init, scope), scope);
    let loop = inner(node.first, node.second === undefined ? second : first, accu);
    if (node.second !== undefined) loop = inner(node.second, second, loop);
    if (node.second === undefined && range.kind === 'map') loop = inner(node.first, first, accu);
    this.#expect(this.typeOf(node.condition, loop), types.bool, node.condition.at);
    const step = this.typeOf(node.step, loop);
    this.#expect(step, accu.type, node.step.at);
    return this.#found.resolve(this.typeOf(node.result, accu));
  }

  #expect(type: Type, wanted: Type, at: number): void {
    if (this.#found.assign(type, wanted)) return;
    const [a, b] = [typeText(this.#found.settle(wanted)), typeText(this.#found.settle(type))];
    this.#wrong(at, `expected type '${a}' but found '${b}'`);
  }

  /** What a loop over the type goes through: key or index, and element. */
  #elements(range: Type, { range: { at } }: NodeOf<'fold'>): [Type, Type] {
    switch (range.kind) {
      case 'list':
        return [types.int, range.item];
      case 'map':
        return [range.key, range.value];
      case 'dyn':
      case 'error':
      case 'param':
        return [types.dyn, types.dyn];
      default: {
        const wrong = this.#wrong(
          at,
          `expression of type '${typeText(range)}' cannot be range of a comprehension (must be list, map, or dynamic)`,
        );
        return [wrong, wrong];
      }
    }
  }
}

function isPattern(text: string): boolean {
  try {
    compilePattern(text);
    return true;
  } catch (error) {
    if (error instanceof PatternError) return false;
    throw error;
  }
}

/** `a.b.c` of plain selections; undefined for what is none. */
function qualifiedName(node: Node): string | undefined {
  if (node.op === 'ident') return node.name;
  if (node.op !== 'select' || node.isTest || node.isOptional) return undefined;
  const before = qualifiedName(node.operand);
  return before === undefined ? undefined : `${before}.${node.field}`;
}

function constantType(value: Value): Type {
  if (value === null) return types.null;
  switch (typeof value) {
    case 'boolean':
      return types.bool;
    case 'bigint':
      return types.int;
    case 'number':
      return types.double;
    case 'string':
      return types.string;
    default:
      if (value instanceof Uint) return types.uint;
      if (value instanceof Uint8Array) return types.bytes;
      if (value instanceof Timestamp) return types.timestamp;
      return value instanceof Duration ? types.duration : types.dyn;
  }
}
