/**
 * What an expression may cost at most, told from its types and the bounds of what it reads before it ever runs
 * (reference implementation, cost model). Sizes are looked up by path: `self`, a field, `@items`, `@keys`, `@values`.
 */
import type { Node, NodeOf } from './ast.ts';
import { qualifiedName, type Checked } from './check.ts';
import { callEstimates, sizeOfPart, type Sized } from './estimate-calls.ts';
import { add, boundless, fixed, multiply, none, sum, unite, unknown, type Range } from './ranges.ts';
import type { Type } from './types.ts';
import { isKind } from './values.ts';

type Path = readonly string[];
/** The most elements or characters of what lies at a path; undefined where nothing is there. */
export type SizeMaxAt = (path: Path) => number | undefined;

export function estimateCost(node: Node, checked: Checked, sizeMaxAt: SizeMaxAt): Range {
  return new Estimator(checked, sizeMaxAt).cost(node);
}

/** Sizes of what a list or a map holds. */
interface Entries {
  kind: 'list' | 'map';
  key: Range;
  value: Range;
}

interface Local {
  path: Path;
  size: Range | undefined;
  entries: Entries | undefined;
}

const one = fixed(1);
/** What nothing has been united with yet. */
const empty: Range = { min: boundless, max: 0 };
const accu = '@result';

class Estimator {
  readonly #checked: Checked;
  readonly #sizeMaxAt: SizeMaxAt;
  readonly #paths = new Map<number, Path>();
  readonly #sizes = new Map<number, Range>();
  readonly #entries = new Map<number, Entries>();
  readonly #locals = new Map<string, Local[]>();

  constructor(checked: Checked, sizeMaxAt: SizeMaxAt) {
    this.#checked = checked;
    this.#sizeMaxAt = sizeMaxAt;
  }

  cost(node: Node): Range {
    switch (node.op) {
      case 'const':
        return none;
      case 'ident':
        this.#paths.set(node.id, this.#local(node.name)?.path ?? [node.name]);
        return one;
      case 'select':
        return this.#select(node);
      case 'call':
        return this.#call(node);
      case 'list':
        return this.#list(node);
      case 'map':
        return this.#map(node);
      case 'struct':
        return add(sum(node.fields.map(({ value }) => this.cost(value))), fixed(40));
      case 'fold':
        return isBinding(node) ? this.#bind(node) : this.#fold(node);
    }
  }

  #local(name: string): Local | undefined {
    return this.#locals.get(name)?.at(-1);
  }

  #push(name: string, local: Local): void {
    this.#locals.set(name, [...(this.#locals.get(name) ?? []), local]);
  }

  #pop(name: string): void {
    this.#locals.get(name)?.pop();
  }

  #path(node: Node): Path {
    return (node.op === 'ident' ? this.#local(node.name)?.path : undefined) ?? this.#paths.get(node.id) ?? [];
  }

  #select({ operand, field, isTest, isOptional, id }: NodeOf<'select'>): Range {
    const cost = this.cost(operand);
    if (isTest) return cost;
    if (isOptional) return add(cost, one);
    this.#paths.set(id, [...this.#path(operand), field]);
    const { kind } = this.#checked.typeAt(operand.id);
    return kind === 'map' || kind === 'object' || kind === 'param' ? add(cost, one) : cost;
  }

  #sized(node: Node): Sized {
    const path = this.#path(node);
    const known = path[0] === accu ? [] : path;
    const itemSize = (): Range => {
      const max = known.length === 0 ? undefined : this.#sizeMaxAt([...known, '@items']);
      return max === undefined ? unknown : { min: 0, max };
    };
    return { node, type: this.#checked.typeAt(node.id), size: this.#size(node), itemSize };
  }

  #call(node: NodeOf<'call'>): Range {
    const { name, target, args, id } = node;
    if (name === 'dyn' && target === undefined) return this.#unwrap(node);
    const { overloads = [], isQualified = false } = this.#checked.calls.get(id) ?? {};
    const argCosts = args.map((arg) => this.cost(arg));
    const parts = args.map((arg) => this.#sized(arg));
    const isMember = target !== undefined && !isQualified;
    const targetCost = isMember ? this.cost(target) : none;
    const whole = isMember ? this.#sized(target) : undefined;
    const fullName = isQualified && target !== undefined ? `${qualifiedName(target)}.${name}` : name;
    if (name === '_?_:_' || name === '_+_') this.#uniteEntries(node, name === '_+_' ? 0 : 1);
    const given = this.#argumentCost(name, argCosts);
    let cost = empty;
    let size: Range | undefined;
    for (const overload of overloads) {
      const found = callEstimates.get(fullName)?.({ target: whole, args: parts, overload });
      const own = found?.cost ?? (name === '_&&_' || name === '_||_' ? none : one);
      cost = unite(cost, add(own, given));
      if (found?.size !== undefined) size = size === undefined ? found.size : unite(size, found.size);
      const kind = overload.args[0]?.kind;
      const [indexed] = args;
      if (name === '_[_]' && indexed !== undefined && (kind === 'list' || kind === 'map')) {
        size = this.#entriesOf(indexed)?.value;
        this.#paths.set(id, [...this.#path(indexed), kind === 'list' ? '@items' : '@values']);
      }
      size ??= this.#size(node);
    }
    if (size !== undefined) this.#sizes.set(id, size);
    return add(targetCost, overloads.length === 0 ? none : cost);
  }

  /** Logic may end after its first part; of a choice one is taken. */
  #argumentCost(name: string, costs: readonly Range[]): Range {
    const [first = none, second = none, third = none] = costs;
    if (name === '_&&_' || name === '_||_') return { min: first.min, max: add(first, second).max };
    if (name === '_?_:_') return add(first, unite(second, third));
    return sum(costs);
  }

  #uniteEntries({ args, id }: NodeOf<'call'>, from: number): void {
    const [a, b] = args.slice(from, from + 2).map((arg) => this.#entriesOf(arg));
    if (a === undefined || b === undefined) return;
    this.#entries.set(id, { kind: a.kind, key: unite(a.key, b.key), value: unite(a.value, b.value) });
  }

  #unwrap({ args: [inner], id }: NodeOf<'call'>): Range {
    if (inner === undefined) return one;
    const cost = this.cost(inner);
    this.#copySizes(id, inner);
    return add(one, cost);
  }

  #copySizes(id: number, from: Node): void {
    const [size, entries] = [this.#size(from), this.#entriesOf(from)];
    if (size !== undefined) this.#sizes.set(id, size);
    if (entries !== undefined) this.#entries.set(id, entries);
  }

  #list({ items, id }: NodeOf<'list'>): Range {
    const costs = items.map(({ value }) => this.cost(value));
    const value = items.map((item) => this.#sizeOr(item.value)).reduce(unite, items.length === 0 ? none : empty);
    this.#entries.set(id, { kind: 'list', key: one, value });
    return add(sum(costs), fixed(10));
  }

  #map({ entries, id }: NodeOf<'map'>): Range {
    const costs = entries.map(({ key, value }) => add(this.cost(key), this.cost(value)));
    const start = entries.length === 0 ? none : empty;
    const key = entries.map((entry) => this.#sizeOr(entry.key)).reduce(unite, start);
    const value = entries.map((entry) => this.#sizeOr(entry.value)).reduce(unite, start);
    this.#entries.set(id, { kind: 'map', key, value });
    return add(sum(costs), fixed(30));
  }

  #bind({ range, init, accu: name, result, id }: NodeOf<'fold'>): Range {
    const before = add(this.cost(range), this.cost(init));
    this.#push(name, { path: this.#path(init), size: this.#size(init), entries: this.#entriesOf(init) });
    const cost = add(before, this.cost(result));
    this.#copySizes(id, result);
    this.#pop(name);
    return cost;
  }

  #fold(node: NodeOf<'fold'>): Range {
    const { range, init, first, second, condition, step, result, id } = node;
    const before = add(this.cost(range), this.cost(init));
    this.#push(node.accu, { path: this.#path(init), size: this.#size(init), entries: this.#entriesOf(init) });
    const entries = this.#entriesOf(range);
    const isList = (entries?.kind ?? this.#checked.typeAt(range.id).kind) === 'list';
    const part = (name: string, size: Range | undefined): Local => ({
      path: [...this.#path(range), name],
      size,
      entries: undefined,
    });
    const value = part(isList ? '@items' : '@values', entries?.value);
    if (second === undefined) this.#push(first, isList ? value : part('@keys', entries?.key));
    else {
      this.#push(first, part(isList ? '@indices' : '@keys', entries?.key));
      this.#push(second, value);
    }
    const each = add(this.cost(condition), this.cost(step));
    this.#pop(first);
    if (second !== undefined) this.#pop(second);
    const after = this.cost(result);
    this.#pop(node.accu);
    const count = this.#sizeOr(range);
    this.#keepFoldSize(id, node, count);
    return add(add(before, after), multiply(count, each));
  }

  #keepFoldSize(id: number, { init, step }: NodeOf<'fold'>, count: Range): void {
    if (init.op === 'const') {
      const size = this.#size(init);
      if (size !== undefined) this.#sizes.set(id, size);
    } else if (init.op === 'list' || init.op === 'map') {
      this.#sizes.set(id, count);
      const entries = this.#entriesOf(step);
      if (entries !== undefined) this.#entries.set(id, entries);
    }
  }

  #sizeOr(node: Node): Range {
    return sizeOfPart(this.#sized(node));
  }

  #entriesOf(node: Node): Entries | undefined {
    return this.#entries.get(node.id) ?? (node.op === 'ident' ? this.#local(node.name)?.entries : undefined);
  }

  #size(node: Node): Range | undefined {
    const known = this.#sizes.get(node.id) ?? literalSize(node);
    if (known !== undefined) return known;
    const path = this.#path(node);
    const max = path.length === 0 ? undefined : this.#sizeMaxAt(path);
    if (max !== undefined) {
      const size = { min: 0, max };
      this.#sizes.set(node.id, size);
      return size;
    }
    if (isScalar(this.#checked.typeAt(node.id))) return one;
    return node.op === 'ident' ? this.#local(node.name)?.size : undefined;
  }
}

/** A name for a value: a loop over nothing. */
function isBinding({ range, condition, accu: name }: NodeOf<'fold'>): boolean {
  return (
    range.op === 'list' &&
    range.items.length === 0 &&
    condition.op === 'const' &&
    condition.value === false &&
    name !== accu
  );
}

function literalSize(node: Node): Range | undefined {
  if (node.op === 'list') return fixed(node.items.length);
  if (node.op === 'map') return fixed(node.entries.length);
  if (node.op !== 'const') return undefined;
  const { value } = node;
  if (typeof value === 'string') return fixed([...value].length);
  if (value instanceof Uint8Array) return fixed(value.length);
  return isKind(value, 'list') || isKind(value, 'map') ? undefined : one;
}

function isScalar(type: Type): boolean {
  if (type.kind === 'optional') return isScalar(type.of);
  return ['bool', 'double', 'duration', 'int', 'timestamp', 'uint'].includes(type.kind);
}
