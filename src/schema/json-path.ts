/**
 * The JSONPath of printer columns: `.a.b`, `.a[0]`, `.a[*]`, `['key']`, `[?(@.type=="Ready")]`, `..` not included
 * (Kubernetes, "JSONPath Support").
 */
import { fieldOf, isObject } from '#base/unknown.ts';

type Step = (values: readonly unknown[]) => unknown[];

const token =
  /^(?:\.([A-Za-z0-9_$\-\\/.]*?[^\\](?=[.[]|$)|\*)|\[\s*'([^']+)'\s*\]|\[\s*"([^"]+)"\s*\]|\[\s*(-?\d+)\s*\]|\[\s*\*\s*\]|\[\?\(\s*@\.?([\w.-]*)\s*(==|!=)?\s*(?:"([^"]*)"|'([^']*)'|([\w.]+))?\s*\)\])/;

function field(name: string): Step {
  if (name === '*')
    return (values) => values.flatMap((v) => (v !== null && typeof v === 'object' ? Object.values(v) : []));
  return (values) => values.flatMap((v) => (isObject(v) && v[name] !== undefined ? [v[name]] : []));
}

function filter(path: string, operator: string | undefined, wanted: string): Step {
  return (values) =>
    values
      .flatMap((v) => (Array.isArray(v) ? v : []))
      .filter((item) => {
        const value = fieldOf(item, ...path.split('.').filter((p) => p !== ''));
        if (operator === undefined) return value !== undefined;
        return (String(value) === wanted) === (operator === '==');
      });
}

/** A reader of the values that a path selects; a path that is not understood selects nothing. */
export function compileJsonPath(path: string): (object: unknown) => unknown[] {
  const steps: Step[] = [];
  let rest = path
    .trim()
    .replace(/^\{|\}$/g, '')
    .replace(/^\$/, '');
  while (rest !== '' && rest !== '.') {
    const match = token.exec(rest);
    if (match === null || match[0] === '') return () => [];
    const [all, name, single, double, index, filterPath, operator, a, b, c] = match;
    const quoted = single ?? double;
    if (name !== undefined) {
      if (name !== '') steps.push(field(name.replaceAll('\\.', '.')));
    } else if (quoted !== undefined) steps.push(field(quoted));
    else if (index !== undefined) {
      const n = Number(index);
      steps.push((values) => values.flatMap((v) => (Array.isArray(v) && v.at(n) !== undefined ? [v.at(n)] : [])));
    } else if (all.startsWith('[?')) steps.push(filter(filterPath ?? '', operator, a ?? b ?? c ?? ''));
    else steps.push((values) => values.flatMap((v) => (Array.isArray(v) ? v : [])));
    rest = rest.slice(all.length);
  }
  return (object) => steps.reduce<unknown[]>((values, step) => step(values), [object]);
}
