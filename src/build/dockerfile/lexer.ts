/**
 * Lines of a Dockerfile: parser directives, comments, continuation lines and here-documents. Meaning is BuildKit's:
 * comment lines inside a continued instruction vanish, an empty line inside one is taken (with BuildKit's warning left
 * out), directives count only at the top, and a here-document belongs to RUN, COPY and ADD alone.
 */
import { ApiError } from '#base/errors.ts';
import {
  dockerfileBytesMax,
  dockerfileLineBytesMax,
  heredocBytesMax,
  heredocNameMax,
  instructionsMax,
} from '../limits.ts';

export interface Heredoc {
  name: string;
  content: string;
  /** `<<"EOF"`: nothing in it is expanded. */ isQuoted: boolean;
  /** `<<-`: leading tabs are cut. */ chompsTabs: boolean;
  fileDescriptor: number;
}
export interface LogicalLine {
  /** The first is 1. */
  line: number;
  /** The last of them, continuation lines and here-documents included. */
  endLine: number;
  /** The last of the continued lines, where one of them is empty. */
  emptyLine?: number;
  text: string;
  heredocs: Heredoc[];
  /** Comments that stand before it, without their marks; an empty one ends those before it. */
  comments: string[];
}
export interface LexedFile {
  lines: LogicalLine[];
  escape: '\\' | '`';
  directives: Record<string, string>;
}

export function parseError(line: number, message: string): ApiError {
  return new ApiError('BadRequest', `dockerfile parse error on line ${line}: ${message}`);
}

const directivePattern = /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)$/;
const knownDirectives = ['syntax', 'escape', 'check'];

function readDirectives(lines: string[]): Record<string, string> {
  const directives: Record<string, string> = {};
  for (const [index, line] of lines.entries()) {
    const match = directivePattern.exec(line);
    const name = match?.[1]?.toLowerCase();
    if (match === null || name === undefined || !knownDirectives.includes(name)) break;
    if (directives[name] !== undefined) throw parseError(index + 1, `only one ${name} parser directive can be used`);
    directives[name] = match[2]!.trimEnd();
  }
  return directives;
}

const heredocMark = /^<<(-?)\s*(?:(["'])([^"'\s<]+)\2|([a-zA-Z_][a-zA-Z0-9_.-]*))/;

/** `<<EOF`, `<<-'EOF'`, `3<<EOF` as words of the line; not inside quotes. */
function findHeredocs(text: string): Heredoc[] {
  const out: Heredoc[] = [];
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (quote !== '') {
      if (char === '\\' && quote === '"') at++;
      else if (char === quote) quote = '';
      continue;
    }
    if (char === '\\') {
      at++;
      continue;
    }
    if (char === '"' || char === "'") {
      quote = char;
      continue;
    }
    if (char !== '<' || text[at + 1] !== '<' || text[at + 2] === '<') {
      if (char === '<' && text.startsWith('<<<', at)) at += 2;
      continue;
    }
    let digits = at;
    while (at - digits < 10 && /\d/.test(text[digits - 1] ?? '')) digits--;
    if (digits > 0 && !/\s/.test(text[digits - 1]!)) {
      at++;
      continue;
    }
    const match = heredocMark.exec(text.slice(at, at + heredocNameMax));
    if (match === null) {
      at++;
      continue;
    }
    out.push({
      name: match[3] ?? match[4]!,
      content: '',
      isQuoted: match[2] !== undefined,
      chompsTabs: match[1] === '-',
      fileDescriptor: digits === at ? 0 : Number(text.slice(digits, at)),
    });
    at += match[0].length - 1;
  }
  return out;
}

function takesHeredocs(text: string): boolean {
  return /^\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s/i.test(text);
}

class Lexer {
  readonly #lines: string[];
  readonly #continuation: RegExp;
  /** Lines at the top that are no comments. */
  readonly #directives: number;
  #at = 0;

  constructor(lines: string[], escape: string, directives: number) {
    this.#lines = lines;
    this.#directives = directives;
    const mark = escape === '\\' ? '\\\\' : '`';
    // Two of them are an escaped escape character, not a continuation.
    this.#continuation = new RegExp(`(^|[^${mark}])${mark}[ \\t]*$`);
  }

  *run(): Generator<LogicalLine> {
    let comments: string[] = [];
    while (this.#at < this.#lines.length) {
      const line = this.#at + 1;
      const first = this.#lines[this.#at++]!;
      const comment = /^\s*#(.*)$/.exec(first)?.[1]?.trim();
      if (comment !== undefined && line > this.#directives) comments = comment === '' ? [] : [...comments, comment];
      if (comment !== undefined || /^\s*$/.test(first)) continue;
      let { text, isContinued } = this.#trim(first);
      let emptyLine: number | undefined;
      while (isContinued && this.#at < this.#lines.length) {
        const next = this.#lines[this.#at++]!;
        if (/^\s*$/.test(next)) emptyLine ??= this.#at;
        if (/^\s*#/.test(next) || /^\s*$/.test(next)) continue;
        const part = this.#trim(next);
        text += part.text;
        ({ isContinued } = part);
        if (text.length > dockerfileLineBytesMax) throw parseError(line, 'line is too long');
      }
      if (emptyLine !== undefined) emptyLine = this.#at;
      text = text.trim();
      if (text === '') continue;
      const heredocs = takesHeredocs(text) ? findHeredocs(text) : [];
      for (const heredoc of heredocs) this.#readHeredoc(heredoc, line);
      yield { line, endLine: this.#at, ...(emptyLine === undefined ? {} : { emptyLine }), text, heredocs, comments };
      comments = [];
    }
  }

  #trim(line: string): { text: string; isContinued: boolean } {
    const isContinued = this.#continuation.test(line);
    return { text: isContinued ? line.replace(this.#continuation, '$1') : line, isContinued };
  }

  #readHeredoc(heredoc: Heredoc, line: number): void {
    const content: string[] = [];
    let length = 0;
    for (;;) {
      if (this.#at >= this.#lines.length) throw parseError(line, 'unterminated heredoc');
      const raw = this.#lines[this.#at++]!;
      const text = heredoc.chompsTabs ? raw.replace(/^\t+/, '') : raw;
      if (text === heredoc.name) break;
      length += text.length + 1;
      if (length > heredocBytesMax) throw parseError(line, 'heredoc is too long');
      content.push(`${text}\n`);
    }
    heredoc.content = content.join('');
  }
}

/** Lines at the top that steer the builder. Throws BadRequest. */
export function parseDirectives(source: string): Record<string, string> {
  return readDirectives(source.replace(/^\uFEFF/, '').split(/\r?\n/, 100));
}

export function lexDockerfile(source: string): LexedFile {
  if (source.length > dockerfileBytesMax)
    throw new ApiError('BadRequest', `Dockerfile is larger than ${dockerfileBytesMax} bytes`);
  const lines = source.replace(/^\uFEFF/, '').split(/\r?\n/);
  const directives = readDirectives(lines);
  const escape = directives['escape'] ?? '\\';
  if (escape !== '\\' && escape !== '`') throw parseError(1, `invalid ESCAPE '${escape}'. Must be ' or \\`);
  const out: LogicalLine[] = [];
  for (const line of new Lexer(lines, escape, Object.keys(directives).length).run()) {
    out.push(line);
    if (out.length > instructionsMax) throw parseError(line.line, 'too many instructions');
  }
  return { lines: out, escape, directives };
}
