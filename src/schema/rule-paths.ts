/** Paths of fields below a schema, as `fieldPath` of a rule and selectable fields write them: `.spec.ports['a.b']`. */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { letterEscapes } from '#cel/lexer.ts';

export interface FoundField {
  /** As field errors write it. */
  path: string;
  /** The first field's name. */
  root: string;
  schema: JSONSchemaProps;
}

const escapes: Readonly<Record<string, string>> = { ...letterEscapes, "'": "'", '\\': '\\' };

/** Splits at `.`, `[` and `]`; what is in single quotes stays together. */
function tokensOf(text: string): string[] {
  return text.match(/[.[\]]|'(?:[^'\\]|\\.)*'|'.*|[^.[\]']+(?:'[^.[\]]*)*/gs) ?? [];
}

/** The name in quotes. */
function unquoted(token: string | undefined): { name: string } | { problem: string } {
  if (token === undefined) return { problem: 'unexpected end of JSON path' };
  if (token.length < 2 || !token.startsWith("'") || !token.endsWith("'"))
    return { problem: `expected single quoted string but got ${token}` };
  let problem = '';
  const name = token.slice(1, -1).replace(/\\./g, (escape) => {
    const char = escapes[escape.charAt(1)];
    if (char === undefined) problem = `invalid string literal: invalid escape char ${escape}`;
    return char ?? '';
  });
  return problem === '' ? { name } : { problem };
}

/** Follows a path through a schema; says what is wrong with it where it leads nowhere. */
export function fieldPathOf(
  text: string,
  root: JSONSchemaProps,
  allowsBrackets = true,
): FoundField | { problem: string } {
  const tokens = tokensOf(text);
  const found: FoundField = { path: '', root: '', schema: root };
  for (let at = 0; at < tokens.length;) {
    const opening = tokens[at++];
    let name: string;
    if (opening === '[') {
      if (!allowsBrackets) return { problem: 'array notation is not allowed' };
      const quoted = unquoted(tokens[at++]);
      if ('problem' in quoted) return quoted;
      ({ name } = quoted);
    } else if (opening === '.') {
      const token = tokens[at++];
      if (token === undefined) return { problem: 'unexpected end of JSON path' };
      name = token;
    } else return { problem: `expected [ or . but got: ${opening}` };
    const problem = enter(found, name);
    if (problem !== undefined) return { problem };
    if (opening !== '[') continue;
    const closing = tokens[at++];
    if (closing === undefined) return { problem: 'unexpected end of JSON path' };
    if (closing !== ']') return { problem: `expected ] but got ${closing}` };
  }
  return found;
}

function enter(found: FoundField, name: string): string | undefined {
  const { properties, additionalProperties } = found.schema;
  if (properties !== undefined) {
    const next = Object.hasOwn(properties, name) ? properties[name] : undefined;
    if (next === undefined) return 'does not refer to a valid field';
    found.schema = next;
    found.path = found.path === '' ? name : `${found.path}.${name}`;
  } else if (typeof additionalProperties === 'object') {
    found.schema = additionalProperties;
    found.path = `${found.path}[${name}]`;
  } else return 'does not refer to a valid field';
  if (found.root === '') found.root = name;
  return undefined;
}
