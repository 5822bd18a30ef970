/**
 * Turns the nodes of a checked expression into functions. A part without loops is one plain function; a loop, and what
 * contains one, is a generator that stops after so many steps, and where something must be asked for elsewhere. Each
 * part is charged as the reference implementation charges it.
 */
import type { Fold, Node, NodeOf } from './ast.ts';
import type { Checked, CheckedCall } from './check.ts';
import type { Environment, Overload } from './environment.ts';
import { fitsAll } from './fits.ts';
import { sliceStepsMax } from './limits.ts';
import type { Type } from './types.ts';
import {
  CelError,
  isKind,
  itemsOf,
  listOf,
  MapOfValues,
  noOverload,
  OptionalValue,
  showKey,
  typeValue,
  type Value,
} from './values.ts';

/** The expression went over what it may cost. */
export class CostError extends CelError {
  constructor() {
    super('operation cancelled: actual cost limit exceeded');
  }
}

/** What one evaluation works with. */
export interface Activation {
  variables: Readonly<Record<string, Value>>;
  /** Variables that are expressions, by name, and what they were found to be; shared by expressions that see them. */
  lazy?: LazyVariables | undefined;
  /** What functions are given beside their arguments. */
  host?: unknown;
}

export interface LazyVariables {
  programs: ReadonlyMap<string, Part>;
  found: Map<string, { value: Value } | { error: unknown }>;
}

/** The name under which lazy variables are seen. */
const lazyName = 'variables';

export interface Frame extends Activation {
  /** Variables of loops; what a loop has collected may be an error that a later element outweighs. */
  slots: (Value | CelError)[];
  cost: number;
  costMax: number;
  steps: number;
}

type Wait = Promise<Value> | undefined;
export type Steps = Generator<Wait, Value, Value>;
/** One of the two. */
export interface Code {
  /** What it always is. */
  constant?: Value;
  plain?: (frame: Frame) => Value;
  steps: (frame: Frame) => Steps;
}

/** An expression that others see as a variable. */
export interface Part {
  readonly type: Type;
  within(outer: Frame): Steps;
}

/** Where variables of loops lie. */
interface Scope {
  name: string;
  slot: number;
  outer: Scope | undefined;
}

function charge(frame: Frame, cost: number): void {
  frame.cost += cost;
  if (frame.cost > frame.costMax) throw new CostError();
}

const plainly = (plain: (frame: Frame) => Value): Code => ({
  plain,
  // eslint-disable-next-line require-yield -- it never waits.
  *steps(frame) {
    return plain(frame);
  },
});

const always = (constant: Value): Code => ({ ...plainly(() => constant), constant });

/** Conversions of constants are done once, as cel-go does, and cost nothing. */
const conversions = new Set([
  'int',
  'uint',
  'double',
  'string',
  'bytes',
  'bool',
  'timestamp',
  'duration',
  'type',
  'dyn',
]);

/** The values of parts that are all constant; undefined where one is not. */
function constantsOf(codes: readonly Code[]): readonly Value[] | undefined {
  const found = codes.map(({ constant }) => constant).filter((constant) => constant !== undefined);
  return found.length === codes.length ? found : undefined;
}

export class Compiler {
  slots = 0;
  readonly #checked: Checked;
  readonly #environment: Environment;

  constructor(checked: Checked, environment: Environment) {
    this.#checked = checked;
    this.#environment = environment;
  }

  compile(node: Node, scope: Scope | undefined): Code {
    switch (node.op) {
      case 'const': {
        return always(node.value);
      }
      case 'ident':
        return this.#ident(node.name, scope);
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

  #ident(name: string, scope: Scope | undefined): Code {
    for (let at = scope; at !== undefined; at = at.outer) {
      if (at.name !== name) continue;
      const { slot } = at;
      return plainly((frame) => {
        charge(frame, 1);
        const value = frame.slots[slot]!;
        if (value instanceof CelError) throw value;
        return value;
      });
    }
    if (!this.#environment.variables.has(name)) return plainly(() => typeValue(name));
    return plainly((frame) => {
      charge(frame, 1);
      const value = frame.variables[name];
      if (value === undefined) throw new CelError(`no such attribute(s): ${name}`);
      return value;
    });
  }

  #select(node: NodeOf<'select'>, scope: Scope | undefined): Code {
    const { operand, field, isTest, isOptional } = node;
    const name = this.#checked.names.get(node.id);
    if (name !== undefined) return this.#ident(name, undefined);
    if (operand.op === 'ident' && operand.name === lazyName && !isShadowed(lazyName, scope) && !isTest)
      return { steps: (frame) => lazyVariable(frame, field) };
    if (operand.op === 'ident' && operand.name === 'google') return plainly(() => typeValue(`google.${field}`));
    return strict([this.compile(operand, scope)], (frame, [value]) => {
      const selected = selectFrom(value!, field, { isTest, isOptional });
      // What may be absent, and is, has cost nothing.
      const isAbsent = isKind(selected, 'optional') && selected.value === undefined;
      if (!isTest && !isAbsent) charge(frame, 1);
      return selected;
    });
  }

  #call(node: NodeOf<'call'>, scope: Scope | undefined): Code {
    const { name, target, args, id } = node;
    const call = this.#checked.calls.get(id)!;
    const parts = [...(target === undefined || call.isQualified ? [] : [target]), ...args];
    const codes = parts.map((part) => this.compile(part, scope));
    if (name === '_&&_' || name === '_||_') return decide(codes, name === '_||_');
    if (name === '_?_:_') return choose(codes);
    if (name === '@not_strictly_false') return notStrictlyFalse(codes[0]!);
    if (call.overloads.some(({ isAsync }) => isAsync === true)) return waiting(codes, call);
    const { overloads } = call;
    const known = conversions.has(name) && target === undefined ? constantsOf(codes) : undefined;
    if (known !== undefined) return always(choiceOf(overloads, known).run(known, undefined) as Value);
    const isFree = name === '@in' && isKind(codes[1]?.constant ?? null, 'list');
    return strict(codes, (frame, values) => {
      const overload = choiceOf(overloads, values);
      const value = overload.run(values, frame.host) as Value;
      charge(frame, isFree ? 0 : (overload.cost?.(values, value) ?? 1));
      return value;
    });
  }

  #list({ items }: NodeOf<'list'>, scope: Scope | undefined): Code {
    const optional = items.map(({ isOptional }) => isOptional);
    const hasOptional = optional.includes(true);
    const codes = items.map(({ value }) => this.compile(value, scope));
    const known = hasOptional ? undefined : constantsOf(codes);
    if (known !== undefined) return always(listOf(known));
    return strict(codes, (frame, values) => {
      charge(frame, 10);
      return listOf(hasOptional ? values.flatMap((value, i) => present(value, optional[i]!)) : [...values]);
    });
  }

  #map({ entries }: NodeOf<'map'>, scope: Scope | undefined): Code {
    const codes = entries.flatMap(({ key, value }) => [this.compile(key, scope), this.compile(value, scope)]);
    const make = (values: readonly Value[]): Value => {
      const map = new MapOfValues();
      for (const [i, { isOptional }] of entries.entries())
        for (const value of present(values[2 * i + 1]!, isOptional)) map.add(values[2 * i]!, value);
      return map;
    };
    const known = entries.some(({ isOptional }) => isOptional) ? undefined : constantsOf(codes);
    // A loop that makes a map puts its entries into the one that it begins with.
    if (known !== undefined) return entries.length === 0 ? plainly(() => make([])) : always(make(known));
    return strict(codes, (frame, values) => {
      charge(frame, 30);
      return make(values);
    });
  }

  #struct({ fields, id }: NodeOf<'struct'>, scope: Scope | undefined): Code {
    const struct = this.#checked.structs.get(id)!;
    return strict(
      fields.map(({ value }) => this.compile(value, scope)),
      (frame, values) => {
        charge(frame, 40);
        const given = new Map<string, Value>();
        for (const [i, { name, isOptional }] of fields.entries())
          for (const value of present(values[i]!, isOptional)) given.set(name, value);
        return struct.make(given);
      },
    );
  }

  #fold(node: Fold & Node, scope: Scope | undefined): Code {
    const slot = (name: string, outer: Scope | undefined): Scope => ({ name, slot: this.slots++, outer });
    const accu = slot(node.accu, scope);
    const first = slot(node.first, accu);
    const second = node.second === undefined ? undefined : slot(node.second, first);
    const inner = second ?? first;
    const code = {
      range: this.compile(node.range, scope),
      init: this.compile(node.init, scope),
      condition: this.compile(node.condition, inner),
      step: this.compile(node.step, inner),
      result: this.compile(node.result, accu),
    };
    const [accuAt, firstAt, secondAt] = [accu.slot, first.slot, second?.slot];
    return {
      *steps(frame) {
        const range = yield* run(code.range, frame);
        frame.slots[accuAt] = yield* run(code.init, frame);
        for (const [key, item] of elementsOf(range, secondAt !== undefined)) {
          frame.slots[firstAt] = key;
          if (secondAt !== undefined) frame.slots[secondAt] = item;
          if (++frame.steps % sliceStepsMax === 0) yield undefined;
          const goesOn = yield* run(code.condition, frame);
          if (goesOn !== true) break;
          const { plain } = code.step;
          frame.slots[accuAt] = plain === undefined ? yield* attemptSteps(code.step, frame) : attempt(plain, frame);
        }
        return yield* run(code.result, frame);
      },
    };
  }
}

function* run(code: Code, frame: Frame): Steps {
  return code.plain === undefined ? yield* code.steps(frame) : code.plain(frame);
}

function isShadowed(name: string, scope: Scope | undefined): boolean {
  for (let at = scope; at !== undefined; at = at.outer) if (at.name === name) return true;
  return false;
}

function* lazyVariable(frame: Frame, name: string): Steps {
  charge(frame, 2);
  const { lazy } = frame;
  const program = lazy?.programs.get(name);
  if (lazy === undefined || program === undefined) throw new CelError(`no such key: ${name}`);
  const known = lazy.found.get(name);
  if (known !== undefined) {
    if ('error' in known) throw known.error;
    return known.value;
  }
  try {
    const value = yield* program.within(frame);
    lazy.found.set(name, { value });
    return value;
  } catch (error) {
    lazy.found.set(name, { error });
    throw error;
  }
}

/** A part whose value needs those of all its parts. */
function strict(codes: readonly Code[], finish: (frame: Frame, values: readonly Value[]) => Value): Code {
  const plains = codes.map(({ plain }) => plain).filter((plain) => plain !== undefined);
  if (plains.length === codes.length)
    return plainly((frame) => {
      const values: Value[] = [];
      for (const plain of plains) values.push(plain(frame));
      return finish(frame, values);
    });
  return {
    *steps(frame) {
      const values: Value[] = [];
      for (const code of codes) values.push(yield* run(code, frame));
      return finish(frame, values);
    },
  };
}

function waiting(codes: readonly Code[], { overloads }: CheckedCall): Code {
  return {
    *steps(frame) {
      const values: Value[] = [];
      for (const code of codes) values.push(yield* run(code, frame));
      const overload = choiceOf(overloads, values);
      const made = overload.run(values, frame.host);
      const value = made instanceof Promise ? yield made : made;
      charge(frame, overload.cost?.(values, value) ?? 1);
      return value;
    },
  };
}

/** `||` decides by true, `&&` by false: what decides on either side outweighs an error on the other. */
function decide([left, right]: readonly Code[], decisive: boolean): Code {
  const finish = (a: Value | CelError, b: Value | CelError): Value => {
    if (b === decisive) return decisive;
    for (const value of [a, b]) {
      if (value instanceof CelError) throw value;
      if (typeof value !== 'boolean') throw noOverload();
    }
    return !decisive;
  };
  const [first, second] = [left!.plain, right!.plain];
  if (first !== undefined && second !== undefined)
    return plainly((frame) => {
      const a = attempt(first, frame);
      return a === decisive ? decisive : finish(a, attempt(second, frame));
    });
  return {
    *steps(frame) {
      const a = yield* attemptSteps(left!, frame);
      return a === decisive ? decisive : finish(a, yield* attemptSteps(right!, frame));
    },
  };
}

function attempt(plain: (frame: Frame) => Value, frame: Frame): Value | CelError {
  try {
    return plain(frame);
  } catch (error) {
    return passable(error);
  }
}

function* attemptSteps(code: Code, frame: Frame): Generator<Wait, Value | CelError, Value> {
  try {
    return yield* run(code, frame);
  } catch (error) {
    return passable(error);
  }
}

function passable(error: unknown): CelError {
  if (!(error instanceof CelError) || error instanceof CostError) throw error;
  return error;
}

function choose([condition, yes, no]: readonly Code[]): Code {
  const pick = (value: Value): Code => {
    if (typeof value !== 'boolean') throw noOverload();
    return value ? yes! : no!;
  };
  const { plain } = condition!;
  if (plain !== undefined && yes!.plain !== undefined && no!.plain !== undefined)
    return plainly((frame) => pick(plain(frame)).plain!(frame));
  return {
    *steps(frame) {
      return yield* run(pick(yield* run(condition!, frame)), frame);
    },
  };
}

/** An error does not end a loop: a later element may decide. */
function notStrictlyFalse({ plain, steps }: Code): Code {
  if (plain !== undefined)
    return plainly((frame) => {
      charge(frame, 1);
      return attempt(plain, frame) !== false;
    });
  return {
    *steps(frame) {
      charge(frame, 1);
      return (yield* attemptSteps({ steps }, frame)) !== false;
    },
  };
}

function choiceOf(overloads: readonly Overload[], values: readonly Value[]): Overload {
  for (const overload of overloads) if (fitsAll(values, overload.args)) return overload;
  throw noOverload();
}

/** What an entry contributes: an optional one nothing where it is absent. */
function present(value: Value, isOptional: boolean): readonly Value[] {
  if (!isOptional) return [value];
  if (!isKind(value, 'optional')) throw noOverload();
  return value.value === undefined ? [] : [value.value];
}

function* elementsOf(range: Value, isPair: boolean): Generator<readonly [Value, Value]> {
  if (isKind(range, 'list')) {
    let index = 0n;
    for (const item of itemsOf(range)) yield isPair ? [index++, item] : [item, item];
    return;
  }
  if (!isKind(range, 'map')) throw new CelError(`got '${describe(range)}', expected iterable type`);
  for (const key of range.keys()) yield [key, isPair ? range.get(key)! : key];
}

const describe = (value: Value): string => (typeof value === 'object' ? 'object' : typeof value);

interface Selection {
  isTest: boolean;
  isOptional: boolean;
}

/** A field of a map or an object; of an optional, of what is in it. */
function selectFrom(whole: Value, field: string, { isTest, isOptional }: Selection): Value {
  if (isKind(whole, 'optional')) {
    if (whole.value === undefined) return isTest ? false : whole;
    return selectFrom(whole.value, field, { isTest, isOptional: true });
  }
  if (!isKind(whole, 'map') && !isKind(whole, 'struct')) throw noOverload();
  const value = whole.get(field);
  if (isTest) return value !== undefined;
  if (isOptional) return new OptionalValue(value);
  if (value === undefined) throw new CelError(`no such key: ${showKey(field)}`);
  return value;
}
