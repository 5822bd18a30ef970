/**
 * Links of pages that come through `proxy`: a page's absolute paths are those of its own server, so they are led
 * through the API server too, by the path under which the page was asked for. Elements and attributes are HTML's that
 * hold a URL; comments and what is no markup (scripts, styles) stay as they are. What does not change is passed on byte
 * for byte, and no more is held back than one tag.
 * Rules: Kubernetes documentation, "Access Services Running on Clusters / Manually constructing apiserver proxy URLs".
 */
import { Transform } from 'node:stream';
import { proxiedTagBytesMax } from './limits.ts';

/** Attributes that hold one URL, by element (HTML 4.01, index of attributes; HTML, section 4). */
const linkAttributes: Readonly<Record<string, readonly string[]>> = {
  a: ['href'],
  applet: ['codebase'],
  area: ['href'],
  audio: ['src'],
  base: ['href'],
  blockquote: ['cite'],
  body: ['background'],
  button: ['formaction'],
  command: ['icon'],
  del: ['cite'],
  embed: ['src'],
  form: ['action'],
  frame: ['longdesc', 'src'],
  head: ['profile'],
  html: ['manifest'],
  iframe: ['longdesc', 'src'],
  img: ['longdesc', 'src', 'usemap'],
  input: ['src', 'usemap', 'formaction'],
  ins: ['cite'],
  link: ['href'],
  object: ['classid', 'codebase', 'data', 'usemap'],
  q: ['cite'],
  script: ['src'],
  source: ['src'],
  video: ['poster', 'src'],
};

/** Elements whose content is no markup. */
const rawElements = new Set(['script', 'style', 'textarea', 'title', 'xmp', 'iframe', 'noembed', 'noframes']);

/** Where a page came from. */
export interface ProxiedPage {
  /** Path through the API server that stands for the page's server: `/api/v1/…/proxy`. */
  prefix: string;
  /** Names of its server, with the port: a URL that names one of them is the server's own. */
  hosts: readonly string[];
}

/** The URL as a client of the API server has to ask for it; relative ones, and other servers', are as they were. */
export function proxiedUrl(url: string, { prefix, hosts }: ProxiedPage): string {
  const parts = /^(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?\/\/([^/?#]*)([^]*)$/.exec(url);
  const path = parts === null ? url : hosts.includes(parts[1] ?? '') ? (parts[2] ?? '') : undefined;
  if (path === undefined || !path.startsWith('/')) return url;
  return path.startsWith(prefix) ? path : `${prefix}${path}`;
}

const attribute = /([^\s"'>/=]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'=<>`]+)/g;

function rewriteTag(tag: string, name: string, page: ProxiedPage): string {
  const named = Object.hasOwn(linkAttributes, name) ? linkAttributes[name] : undefined;
  if (named === undefined) return tag;
  return tag.replace(attribute, (whole, key: string, equals: string, quoted: string) => {
    if (!named.includes(key.toLowerCase())) return whole;
    const quote = quoted.startsWith('"') || quoted.startsWith("'") ? quoted.slice(0, 1) : '';
    const url = quote === '' ? quoted : quoted.slice(1, -1);
    return `${key}${equals}${quote}${proxiedUrl(url, page)}${quote}`;
  });
}

/** Passes a page on; Latin-1 stands for bytes, whatever the page is encoded in: markup is ASCII in all that matter. */
export class LinkRewriter extends Transform {
  readonly #page: ProxiedPage;
  #held = '';
  /** What ends the part that is no markup. */
  #until: string | undefined;

  constructor(page: ProxiedPage) {
    super();
    this.#page = page;
  }

  override _transform(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#held += chunk.toString('latin1');
    this.#pass(false);
    done();
  }

  override _flush(done: () => void): void {
    this.#pass(true);
    done();
  }

  #pass(isEnd: boolean): void {
    let out = '';
    for (;;) {
      const step = this.#next();
      if (step === undefined) break;
      out += step;
    }
    // A tag that does not end is no tag.
    if (isEnd || this.#held.length > proxiedTagBytesMax) {
      out += this.#held;
      this.#held = '';
    }
    if (out !== '') this.push(Buffer.from(out, 'latin1'));
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }

  /** The next piece that is whole; undefined where more has to come. */
  #next(): string | undefined {
    if (this.#held === '') return undefined;
    if (this.#until !== undefined) {
      const at = this.#held.toLowerCase().indexOf(this.#until);
      if (at >= 0) {
        this.#until = undefined;
        return this.#take(at) + this.#take(1);
      }
      const sure = this.#held.length - this.#until.length;
      return sure > 0 ? this.#take(sure) : undefined;
    }
    const start = this.#held.indexOf('<');
    if (start !== 0) return this.#take(start < 0 ? this.#held.length : start);
    if ('<!--'.startsWith(this.#held.slice(0, 4))) {
      if (this.#held.length < 4) return undefined;
      this.#until = '-->';
      return this.#take(4);
    }
    const tag = /^<([a-zA-Z][^\s/>]*)(?:[^>"']|"[^"]*"|'[^']*')*>/.exec(this.#held);
    if (tag === null) return /^<(?:[a-zA-Z]|$)/.test(this.#held) ? undefined : this.#take(1);
    const name = (tag[1] ?? '').toLowerCase();
    if (rawElements.has(name)) this.#until = `</${name}`;
    return rewriteTag(this.#take(tag[0].length), name, this.#page);
  }
}
