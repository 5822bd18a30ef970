/**
 * Finds the route of a request: literal parts before parameters, in the order of the table. A `{name*}` takes slashes
 * too.
 */
import type { Route } from './route.ts';

export interface CompiledRoute {
  route: Route;
  pattern: RegExp;
  names: string[];
}

export function compileRoutes(routes: Route[]): CompiledRoute[] {
  const compiled = routes.map((route) => {
    const names: string[] = [];
    const pattern = route.path.replace(/[.+]/g, '\\$&').replace(/\{(\w+)(\*?)\}/g, (_, name: string, many: string) => {
      names.push(name);
      return many === '' ? '([^/]+)' : '(.+?)';
    });
    return { route, pattern: new RegExp(`^${pattern}/?$`), names };
  });
  // Fewer parameters first, so that `/containers/json` is not taken for a container of that name.
  return compiled.sort((a, b) => a.names.length - b.names.length);
}

export function matchRoute(
  routes: CompiledRoute[],
  method: string,
  path: string,
): { route: Route; params: Record<string, string> } | undefined {
  for (const { route, pattern, names } of routes) {
    if (route.method !== method && !(method === 'HEAD' && route.method === 'GET' && route.path === '/_ping')) continue;
    const match = pattern.exec(path);
    if (match === null) continue;
    return { route, params: Object.fromEntries(names.map((name, at) => [name, match[at + 1] ?? ''])) };
  }
  return undefined;
}
