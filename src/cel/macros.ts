/**
 * Calls that are forms of the language: what they take is not evaluated but looped over (CEL, "Macros"; the extensions
 * that Kubernetes has: comprehensions of two variables, `sortBy`, `optMap`, `optFlatMap`).
 */
import type { Fold, Node } from './ast.ts';
import { SyntaxProblem } from './lexer.ts';
import type { Value } from './values.ts';

export interface NodeMaker {
  nextId(): number;
  call(at: number, name: string, args: Node[], target?: Node): Node;
  ident(at: number, name: string): Node;
}

export interface MacroCall {
  name: string;
  at: number;
  target: Node | undefined;
  args: Node[];
}

const accu = '@result';

/** What the call stands for; undefined where it is no macro. */
export function expandMacro(make: NodeMaker, call: MacroCall): Node | undefined {
  const { name, target, args } = call;
  if (target === undefined) return name === 'has' && args.length === 1 ? expandHas(make, call) : undefined;
  const expand = macros[`${name}/${args.length}`];
  return expand?.(new Builder(make, call), target, args);
}

function expandHas(make: NodeMaker, { at, args }: MacroCall): Node {
  const [tested] = args;
  if (tested?.op !== 'select' || tested.isTest)
    throw new SyntaxProblem(tested?.at ?? at, 'invalid argument to has() macro');
  return { ...tested, id: make.nextId(), at, isTest: true };
}

class Builder {
  readonly #make: NodeMaker;
  readonly #at: number;

  constructor(make: NodeMaker, { at }: MacroCall) {
    this.#make = make;
    this.#at = at;
  }

  constant(value: Value): Node {
    return { id: this.#make.nextId(), at: this.#at, op: 'const', value };
  }
  call(name: string, ...args: Node[]): Node {
    return this.#make.call(this.#at, name, args);
  }
  member(target: Node, name: string, ...args: Node[]): Node {
    return this.#make.call(this.#at, name, args, target);
  }
  accu(): Node {
    return this.#make.ident(this.#at, accu);
  }
  list(...values: Node[]): Node {
    const items = values.map((value) => ({ value, isOptional: false }));
    return { id: this.#make.nextId(), at: this.#at, op: 'list', items };
  }
  emptyMap(): Node {
    return { id: this.#make.nextId(), at: this.#at, op: 'map', entries: [] };
  }
  fold(range: Node, names: readonly string[], parts: Pick<Fold, 'init' | 'condition' | 'step' | 'result'>): Node {
    const [first = '', second] = names;
    return { id: this.#make.nextId(), at: this.#at, op: 'fold', range, first, second, accu, ...parts };
  }
  /** The names of variables. */
  names(nodes: readonly Node[]): string[] {
    const found = nodes.map((node) => {
      if (node.op !== 'ident') throw new SyntaxProblem(node.at, 'argument is not an identifier');
      if (node.name === accu || node.name === '__result__')
        throw new SyntaxProblem(node.at, `iteration variable overwrites accumulator variable`);
      return node.name;
    });
    if (found.length === 2 && found[0] === found[1])
      throw new SyntaxProblem(nodes[1]!.at, `duplicate variable name: ${found[1]}`);
    return found;
  }
}

type Expand = (b: Builder, target: Node, args: Node[]) => Node;

/** Whether all, or any, satisfy the last argument. */
const quantifier =
  (isAll: boolean): Expand =>
  (b, target, args) => {
    const predicate = args.at(-1)!;
    return b.fold(target, b.names(args.slice(0, -1)), {
      init: b.constant(isAll),
      condition: b.call('@not_strictly_false', isAll ? b.accu() : b.call('!_', b.accu())),
      step: b.call(isAll ? '_&&_' : '_||_', b.accu(), predicate),
      result: b.accu(),
    });
  };

const existsOne: Expand = (b, target, args) => {
  const plusOne = b.call('_+_', b.accu(), b.constant(1n));
  return b.fold(target, b.names(args.slice(0, -1)), {
    init: b.constant(0n),
    condition: b.constant(true),
    step: b.call('_?_:_', args.at(-1)!, plusOne, b.accu()),
    result: b.call('_==_', b.accu(), b.constant(1n)),
  });
};

/** A list of what the last argument makes of each element, of those that a filter before it takes. */
const transform =
  (variables: number): Expand =>
  (b, target, args) => {
    const [made, filter] = [args.at(-1)!, args.length > variables + 1 ? args[variables] : undefined];
    const added = b.call('_+_', b.accu(), b.list(made));
    return b.fold(target, b.names(args.slice(0, variables)), {
      init: b.list(),
      condition: b.constant(true),
      step: filter === undefined ? added : b.call('_?_:_', filter, added, b.accu()),
      result: b.accu(),
    });
  };

const filter: Expand = (b, target, [variable, predicate]) => {
  const [name = ''] = b.names([variable!]);
  const added = b.call('_+_', b.accu(), b.list({ ...variable!, op: 'ident', name }));
  return b.fold(target, [name], {
    init: b.list(),
    condition: b.constant(true),
    step: b.call('_?_:_', predicate!, added, b.accu()),
    result: b.accu(),
  });
};

/** A map of the same keys, or of the entries that the last argument is. */
const transformMap =
  (isEntry: boolean): Expand =>
  (b, target, args) => {
    const [made, chosen] = [args.at(-1)!, args.length > 3 ? args[2] : undefined];
    const inserted = isEntry
      ? b.call('cel.@mapInsert', b.accu(), made)
      : b.call('cel.@mapInsert', b.accu(), args[0]!, made);
    return b.fold(target, b.names(args.slice(0, 2)), {
      init: b.emptyMap(),
      condition: b.constant(true),
      step: chosen === undefined ? inserted : b.call('_?_:_', chosen, inserted, b.accu()),
      result: b.accu(),
    });
  };

/** What is in an optional, bound to a name: a loop over nothing whose result sees it. */
const optional =
  (isFlat: boolean): Expand =>
  (b, target, [variable, made]) => {
    const [name = ''] = b.names([variable!]);
    const inner: Node = {
      ...b.fold(b.list(), ['#unused'], {
        init: b.member(target, 'value'),
        condition: b.constant(false),
        step: { ...variable!, op: 'ident', name },
        result: made!,
      }),
    };
    const bound: Node = inner.op === 'fold' ? { ...inner, accu: name } : inner;
    const none = b.call('optional.none');
    return b.call('_?_:_', b.member(target, 'hasValue'), isFlat ? bound : b.call('optional.of', bound), none);
  };

/** Sorts by what the last argument makes of each element. */
const sortBy: Expand = (b, target, [variable, key]) => {
  const keys = transform(1)(b, target, [variable!, key!]);
  return b.member(target, '@sortByAssociatedKeys', keys);
};

const macros: Readonly<Record<string, Expand>> = {
  'all/2': quantifier(true),
  'all/3': quantifier(true),
  'exists/2': quantifier(false),
  'exists/3': quantifier(false),
  'exists_one/2': existsOne,
  'existsOne/3': existsOne,
  'map/2': transform(1),
  'map/3': transform(1),
  'filter/2': filter,
  'transformList/3': transform(2),
  'transformList/4': transform(2),
  'transformMap/3': transformMap(false),
  'transformMap/4': transformMap(false),
  'transformMapEntry/3': transformMap(true),
  'transformMapEntry/4': transformMap(true),
  'optMap/2': optional(false),
  'optFlatMap/2': optional(true),
  'sortBy/2': sortBy,
};
