/** nft commands that turn the elements of one set or map into others, in commands of a bounded size. */
import { ruleCommandElementsMax } from './limits.ts';

/** `map`: family, table and name. */
export function diffMap(
  map: string,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): string[] {
  return changeElements(
    map,
    [...before].filter(([key, value]) => after.get(key) !== value).map(([key]) => key),
    [...after].filter(([key, value]) => before.get(key) !== value).map(([key, value]) => `${key} : ${value}`),
  );
}

/** `set`: family, table and name. */
export function diffSet(set: string, before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  if (before === after) return [];
  return changeElements(
    set,
    [...before].filter((key) => !after.has(key)),
    [...after].filter((key) => !before.has(key)),
  );
}

function changeElements(name: string, gone: readonly string[], fresh: readonly string[]): string[] {
  return [
    ...chunks(gone).map((some) => `delete element ${name} { ${some.join(', ')} }`),
    ...chunks(fresh).map((some) => `add element ${name} { ${some.join(', ')} }`),
  ];
}

function chunks(all: readonly string[]): string[][] {
  const out: string[][] = [];
  for (let at = 0; at < all.length; at += ruleCommandElementsMax) out.push(all.slice(at, at + ruleCommandElementsMax));
  return out;
}
