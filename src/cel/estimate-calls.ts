/**
 * What calls are estimated to cost and how large their results are, by function (reference implementation, cost model;
 * Kubernetes' functions as its own estimator has them). What is not here costs one step.
 */
import type { Node } from './ast.ts';
import type { Overload } from './environment.ts';
import { add, boundless, fixed, multiply, none, scale, unite, type Range } from './ranges.ts';
import type { Type } from './types.ts';

/** A part of an expression whose size is asked for; `size` is undefined where nothing is known. */
export interface Sized {
  node: Node;
  type: Type;
  size: Range | undefined;
  /** The size of the elements of a list, where a schema bounds it. */
  itemSize(): Range;
}

export interface EstimatedCall {
  target: Sized | undefined;
  args: readonly Sized[];
  overload: Overload;
}

export interface CallEstimate {
  cost: Range;
  size?: Range | undefined;
}
type Estimate = (call: EstimatedCall) => CallEstimate | undefined;

/** Characters cost a tenth of a step; each part of a pattern is guessed to have four of them. */
const perCharacter = 0.1;
const perPatternCharacter = 0.25;

export const sizeOfPart = (part: Sized | undefined): Range => part?.size ?? { min: 0, max: boundless };
const one = fixed(1);
const single: Estimate = () => ({ cost: one });

const traverse = (size: Range, times = 1): Range => scale(size, perCharacter * times);
const traverseArgument: Estimate = ({ args }) => ({ cost: traverse(sizeOfPart(args[0])) });
const keepSize: Estimate = ({ target }) => {
  const size = sizeOfPart(target);
  return { cost: traverse(size), size };
};

const matchPattern = (text: Sized | undefined, pattern: Sized | undefined): Range =>
  multiply(traverse(add(sizeOfPart(text), one)), scale(sizeOfPart(pattern), perPatternCharacter));

const isTextual = (type: Type | undefined): boolean => type?.kind === 'string' || type?.kind === 'bytes';

/** Each element is compared once; texts are gone through. */
const compareItems: Estimate = ({ target, overload }) => {
  if (target === undefined) return undefined;
  const size = sizeOfPart(target);
  if (target.type.kind === 'list') {
    const cost = isTextual(target.type.item) ? add(one, traverse(target.itemSize())) : one;
    return { cost: multiply(size, cost) };
  }
  return { cost: overload.args[0]?.kind === 'list' && target.type.kind === 'dyn' ? size : traverse(size) };
};

const replace: Estimate = ({ target, args }) => {
  if (args.length < 2) return undefined;
  const [size, old, made] = [sizeOfPart(target), sizeOfPart(args[0]), sizeOfPart(args[1])];
  const [counts, kept] = [
    { min: 0, max: 0 },
    { min: 0, max: 0 },
  ];
  if (old.min === 0) {
    counts.max = size.max + 1;
    kept.max = size.max;
  } else if (made.max <= old.min) kept.max = size.max;
  else counts.max = Math.ceil(size.max / old.min);
  if (old.max === 0) {
    counts.min = size.min + 1;
    kept.min = size.min;
  } else if (old.max <= made.min) kept.min = size.min;
  else counts.min = Math.ceil(size.min / old.max);
  return { cost: traverse(size, 2), size: add(multiply(counts, made), kept) };
};

/** A whole number that is written out. */
function literal(part: Sized | undefined): number | undefined {
  return part?.node.op === 'const' && typeof part.node.value === 'bigint' ? Number(part.node.value) : undefined;
}

const split: Estimate = ({ target, args }) => {
  const size = sizeOfPart(target);
  return { cost: traverse(size, 2), size: { min: 0, max: literal(args[1]) ?? size.max } };
};

const join: Estimate = ({ target, args }) => {
  const list = sizeOfPart(target);
  let size = target?.type.kind === 'list' ? multiply(list, target.itemSize()) : none;
  const separators = { min: Math.max(0, list.min - 1), max: Math.max(0, list.max - 1) };
  if (args.length > 0) size = add(size, multiply(sizeOfPart(args[0]), separators));
  return { cost: traverse(size), size };
};

const find: Estimate = ({ target, args }) => ({
  cost: matchPattern(target, args[0]),
  size: { min: 0, max: sizeOfPart(target).max },
});

/** Two addresses, of four to sixteen bytes each. */
const contained =
  (masks: boolean): Estimate =>
  ({ args, overload }) => {
    const address = { min: 4, max: 16 };
    let cost = traverse(add(address, address));
    if (masks) cost = add(add(cost, traverse(address)), one);
    return { cost: overload.args[1]?.kind === 'string' ? add(cost, traverse(sizeOfPart(args[0]))) : cost };
  };

/** Functions that make a list: a step an element, and what a call and a list cost. */
const makeList = (factor: number, size: Range): CallEstimate => ({ cost: add(scale(size, factor), fixed(11)), size });
const square = (size: Range): Range => multiply(size, size);
const sortFactor = (of: Type | undefined): number => (isTextual(of) ? 2.1 : 2);
const itemType = (type: Type | undefined): Type | undefined => (type?.kind === 'list' ? type.item : undefined);

const product =
  (factor: number): Estimate =>
  ({ args }) => ({ cost: add(scale(multiply(sizeOfPart(args[0]), sizeOfPart(args[1])), factor), one) });

const sumOf: Estimate = ({ args, overload }) => {
  const kind = overload.args[0]?.kind;
  if (kind !== 'string' && kind !== 'bytes' && kind !== 'list') return undefined;
  const size = add(sizeOfPart(args[0]), sizeOfPart(args[1]));
  return { cost: kind === 'list' ? one : traverse(size), size };
};

/** As far as the shorter of the two goes. */
const compareParts: Estimate = ({ args }) => {
  const max = Math.min(sizeOfPart(args[0]).max, sizeOfPart(args[1]).max);
  return { cost: traverse({ min: max > 0 ? 1 : 0, max }) };
};
const order: Estimate = (call) => (isTextual(call.overload.args[0]) ? compareParts(call) : undefined);

const equal: Estimate = (call) => {
  const [left, right] = call.args;
  const type = left?.type;
  if (type?.kind !== 'opaque' || right?.type.kind !== 'opaque' || right.type.name !== type.name)
    return compareParts(call);
  return type.name === 'kubernetes.URL' ? { cost: traverse({ min: 1, max: right.size?.max ?? 1 }) } : { cost: one };
};

const convert: Estimate = ({ args, overload: { args: wanted, result } }) => {
  const size = sizeOfPart(args[0]);
  if (wanted[0]?.kind === 'string' && result.kind === 'bytes')
    return { cost: traverse(size), size: { min: size.min, max: size.max * 4 } };
  if (wanted[0]?.kind === 'bytes' && result.kind === 'string')
    return { cost: traverse(size), size: { min: Math.floor(size.min / 4), max: size.max } };
  return undefined;
};

const same = (estimate: Estimate, ...names: string[]): [string, Estimate][] => names.map((name) => [name, estimate]);

export const callEstimates: ReadonlyMap<string, Estimate> = new Map<string, Estimate>([
  ...same(() => ({ cost: fixed(350_000) }), 'check'),
  ...same(compareItems, 'isSorted', 'sum', 'max', 'min', 'indexOf', 'lastIndexOf', 'includes'),
  [
    'url',
    ({ args }) => {
      const size = sizeOfPart(args[0]);
      return { cost: traverse(size), size };
    },
  ],
  ...same(keepSize, 'lowerAscii', 'upperAscii', 'substring', 'trim'),
  ['replace', replace],
  ['split', split],
  ['join', join],
  ...same(find, 'find', 'findAll'),
  ...same(traverseArgument, 'cidr', 'isIP', 'isCIDR', 'quantity', 'isQuantity', 'semver', 'isSemver', 'startsWith'),
  ...same(traverseArgument, 'endsWith', 'fieldSelector', 'labelSelector'),
  ['ip', (call) => (call.target === undefined ? traverseArgument(call) : single(call))],
  ['ip.isCanonical', ({ args }) => ({ cost: traverse(sizeOfPart(args[0]), 2) })],
  ['containsIP', contained(false)],
  ['containsCIDR', contained(true)],
  ['validate', ({ args }) => ({ cost: scale(traverse(sizeOfPart(args[0])), 128 * perPatternCharacter) })],
  ['format', ({ target }) => (target === undefined ? undefined : { cost: traverse(sizeOfPart(target)) })],
  ['contains', ({ target, args }) => ({ cost: multiply(traverse(sizeOfPart(target)), traverse(sizeOfPart(args[0]))) })],
  ['matches', ({ target, args }) => ({ cost: matchPattern(target ?? args[0], args.at(-1)) })],
  ['@in', ({ args, overload }) => (overload.args[1]?.kind === 'list' ? { cost: sizeOfPart(args[1]) } : undefined)],
  ['_+_', sumOf],
  ...same(order, '_<_', '_<=_', '_>_', '_>=_'),
  ['_==_', equal],
  ['_!=_', compareParts],
  ...same(convert, 'string', 'bytes'),
  ...same(product(1), 'sets.contains', 'sets.intersects'),
  ['sets.equivalent', product(2)],
  [
    'slice',
    ({ target, args }) => {
      const end = literal(args[1]) ?? sizeOfPart(target).max;
      return makeList(1, fixed(Math.max(0, end - (literal(args[0]) ?? 0))));
    },
  ],
  ['lists.range', ({ args }) => makeList(1, fixed(literal(args[0]) ?? boundless))],
  ['reverse', ({ target }) => makeList(1, sizeOfPart(target))],
  [
    'flatten',
    ({ target, args }) => makeList(args.length === 0 ? 1 : (literal(args[0]) ?? boundless), sizeOfPart(target)),
  ],
  ['distinct', ({ target }) => makeList(2, square(sizeOfPart(target)))],
  ['sort', ({ target }) => makeList(sortFactor(itemType(target?.type)), square(sizeOfPart(target)))],
  ['@sortByAssociatedKeys', ({ args }) => makeList(sortFactor(itemType(args[0]?.type)), square(sizeOfPart(args[0])))],
  ['_?_:_', ({ args }) => ({ cost: none, size: unite(sizeOfPart(args[1]), sizeOfPart(args[2])) })],
]);
