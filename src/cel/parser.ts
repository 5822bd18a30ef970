/**
 * Reads expressions (Common Expression Language, "Syntax"), with optional selection (`a.?b`, `a[?0]`, `{?k: v}`) and
 * construction of objects (`Object{…}`). The parser is our own, because libraries that were weighed read either the one
 * or the other, and Kubernetes' policies use both; its messages are cel-go's.
 */
import type { Item, MapEntry, Node, Problem, StructField } from './ast.ts';
import { reserved, SyntaxProblem, tokensOf } from './lexer.ts';
import type { Token } from './lexer.ts';
import { expressionCharactersMax, expressionDepthMax } from './limits.ts';
import { expandMacro, type NodeMaker } from './macros.ts';

const operandNames =
  "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const comparisons: Readonly<Record<string, string>> = {
  '<': '_<_',
  '<=': '_<=_',
  '>': '_>_',
  '>=': '_>=_',
  '==': '_==_',
  '!=': '_!=_',
  in: '@in',
};
/** Operators of two operands, from those that bind least. */
const levels: readonly Readonly<Record<string, string>>[] = [
  comparisons,
  { '+': '_+_', '-': '_-_' },
  { '*': '_*_', '/': '_/_', '%': '_%_' },
];

/** The expression, or what is wrong with it. */
export function parse(source: string): { node: Node } | { problems: Problem[] } {
  const size = [...source].length;
  if (size > expressionCharactersMax)
    return {
      problems: [
        { at: 0, message: `expression code point size exceeds limit: size: ${size}, limit ${expressionCharactersMax}` },
      ],
    };
  try {
    return { node: new Parser(source).parse() };
  } catch (error) {
    if (!(error instanceof SyntaxProblem)) throw error;
    return { problems: [{ at: error.at, message: error.message }] };
  }
}

class Parser implements NodeMaker {
  readonly #tokens: Token[];
  #next = 0;
  #ids = 0;
  #depth = 0;

  constructor(source: string) {
    this.#tokens = tokensOf(source);
  }

  parse(): Node {
    const node = this.#expression();
    if (this.#token.kind !== 'end') throw this.#unexpected('<EOF>');
    return node;
  }

  get #token(): Token {
    return this.#tokens[this.#next]!;
  }
  #is(text: string): boolean {
    const { kind, text: found } = this.#token;
    return found === text && (kind === 'mark' || (text === 'in' && kind === 'ident'));
  }
  #take(): Token {
    const token = this.#token;
    if (token.kind !== 'end') this.#next++;
    return token;
  }
  #accept(text: string): Token | undefined {
    return this.#is(text) ? this.#take() : undefined;
  }
  #expect(text: string): Token {
    return this.#accept(text) ?? this.#fail(`'${text}'`);
  }
  #unexpected(expected: string): SyntaxProblem {
    const { text, at } = this.#token;
    return new SyntaxProblem(at, `Syntax error: mismatched input '${text}' expecting ${expected}`);
  }
  #fail(expected: string): never {
    throw this.#unexpected(expected);
  }
  nextId(): number {
    return ++this.#ids;
  }
  call(at: number, name: string, args: Node[], target?: Node): Node {
    return { id: this.nextId(), at, op: 'call', name, target, args };
  }
  ident(at: number, name: string): Node {
    return { id: this.nextId(), at, op: 'ident', name };
  }

  #expression(): Node {
    if (++this.#depth > expressionDepthMax)
      throw new SyntaxProblem(this.#token.at, `expression recursion limit exceeded: ${expressionDepthMax}`);
    const condition = this.#chain('||', '_||_', () => this.#chain('&&', '_&&_', () => this.#binary(0)));
    let node = condition;
    const mark = this.#accept('?');
    if (mark !== undefined) {
      const then = this.#chain('||', '_||_', () => this.#chain('&&', '_&&_', () => this.#binary(0)));
      this.#expect(':');
      node = this.call(mark.at, '_?_:_', [condition, then, this.#expression()]);
    }
    this.#depth--;
    return node;
  }

  /** Terms joined by one operator, as a balanced tree: long ones stay shallow. */
  #chain(mark: string, name: string, term: () => Node): Node {
    const terms = [term()];
    const marks: Token[] = [];
    for (let token = this.#accept(mark); token !== undefined; token = this.#accept(mark)) {
      marks.push(token);
      terms.push(term());
    }
    const join = (from: number, to: number): Node => {
      if (from === to) return terms[from]!;
      const middle = (from + to) >> 1;
      return this.call(marks[middle]!.at, name, [join(from, middle), join(middle + 1, to)]);
    };
    return join(0, terms.length - 1);
  }

  #binary(level: number): Node {
    const operators = levels[level];
    if (operators === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    for (;;) {
      const { kind, text, at } = this.#token;
      const name = kind === 'mark' || text === 'in' ? operators[text] : undefined;
      if (name === undefined || (kind !== 'mark' && kind !== 'ident')) return left;
      this.#take();
      left = this.call(at, name, [left, this.#binary(level + 1)]);
    }
  }

  #unary(): Node {
    const { text, at } = this.#token;
    if (!this.#is('!') && !this.#is('-')) return this.#member();
    let count = 0;
    while (this.#accept(text) !== undefined) count++;
    const { kind, value } = this.#token;
    if (text === '-' && count === 1 && kind === 'const' && (typeof value === 'bigint' || typeof value === 'number')) {
      this.#token.value = -value;
      return this.#member();
    }
    const operand = this.#member();
    return count % 2 === 0 ? operand : this.call(at, text === '!' ? '!_' : '-_', [operand]);
  }

  #member(): Node {
    let node = this.#primary();
    for (;;) {
      const mark = this.#accept('.') ?? this.#accept('[');
      if (mark === undefined) {
        const name = this.#is('{') ? nameOf(node) : undefined;
        if (name === undefined) return node;
        node = this.#struct(name);
        continue;
      }
      const isOptional = this.#accept('?') !== undefined;
      if (mark.text === '[') {
        const index = this.#expression();
        this.#expect(']');
        node = this.call(mark.at, isOptional ? '_[?_]' : '_[_]', [node, index]);
        continue;
      }
      node = this.#select(node, mark.at, isOptional);
    }
  }

  #select(operand: Node, at: number, isOptional: boolean): Node {
    const name = this.#token;
    if ((name.kind !== 'ident' && name.kind !== 'quoted') || name.text === 'in')
      throw new SyntaxProblem(
        name.at,
        `Syntax error: no viable alternative at input '.${name.kind === 'end' ? '' : name.text}'`,
      );
    this.#take();
    const open = isOptional || name.kind === 'quoted' ? undefined : this.#accept('(');
    if (open === undefined)
      return { id: this.nextId(), at, op: 'select', operand, field: name.text, isTest: false, isOptional };
    const args = this.#arguments();
    return (
      expandMacro(this, { name: name.text, at: open.at, target: operand, args }) ??
      this.call(open.at, name.text, args, operand)
    );
  }

  #arguments(): Node[] {
    const args: Node[] = [];
    if (this.#accept(')') !== undefined) return args;
    do args.push(this.#expression());
    while (this.#accept(',') !== undefined);
    this.#expect(')');
    return args;
  }

  #primary(): Node {
    const dot = this.#accept('.');
    const token = this.#take();
    const { kind, text, at, value } = token;
    if (kind === 'ident') {
      if (reserved.has(text)) throw new SyntaxProblem(at, `reserved identifier: ${text}`);
      const open = this.#accept('(');
      if (open === undefined) return this.ident(at, text);
      const args = this.#arguments();
      return expandMacro(this, { name: text, at: open.at, target: undefined, args }) ?? this.call(open.at, text, args);
    }
    if (dot === undefined && kind === 'const' && value !== undefined) {
      if (typeof value === 'bigint' && value > 9_223_372_036_854_775_807n)
        throw new SyntaxProblem(at, 'invalid int literal');
      return { id: this.nextId(), at, op: 'const', value };
    }
    if (dot === undefined && kind === 'mark') {
      if (text === '(') {
        const node = this.#expression();
        this.#expect(')');
        return node;
      }
      if (text === '[') return this.#list(at);
      if (text === '{') return this.#map(at);
    }
    if (kind !== 'end') this.#next--;
    return this.#fail(dot === undefined ? operandNames : 'IDENTIFIER');
  }

  #list(at: number): Node {
    const items: Item[] = [];
    while (this.#accept(']') === undefined) {
      const isOptional = this.#accept('?') !== undefined;
      items.push({ value: this.#expression(), isOptional });
      if (this.#accept(',') === undefined) {
        this.#expect(']');
        break;
      }
    }
    return { id: this.nextId(), at, op: 'list', items };
  }

  #map(at: number): Node {
    const entries: MapEntry[] = [];
    while (this.#accept('}') === undefined) {
      const isOptional = this.#accept('?') !== undefined;
      const key = this.#expression();
      const colon = this.#expect(':');
      entries.push({ key, value: this.#expression(), isOptional, at: colon.at });
      if (this.#accept(',') === undefined) {
        this.#expect('}');
        break;
      }
    }
    return { id: this.nextId(), at, op: 'map', entries };
  }

  #struct(name: string): Node {
    const { at } = this.#expect('{');
    const fields: StructField[] = [];
    while (this.#accept('}') === undefined) {
      const isOptional = this.#accept('?') !== undefined;
      if (this.#token.kind !== 'ident' && this.#token.kind !== 'quoted') this.#fail('IDENTIFIER');
      const field = this.#take();
      const colon = this.#expect(':');
      fields.push({ name: field.text, value: this.#expression(), isOptional, at: colon.at });
      if (this.#accept(',') === undefined) {
        this.#expect('}');
        break;
      }
    }
    return { id: this.nextId(), at, op: 'struct', name, fields };
  }
}

/** `a.b.c` as the name of a type; undefined for what is none. */
function nameOf(node: Node): string | undefined {
  if (node.op === 'ident') return node.name;
  if (node.op !== 'select' || node.isTest || node.isOptional) return undefined;
  const before = nameOf(node.operand);
  return before === undefined ? undefined : `${before}.${node.field}`;
}
