/**
 * Which sources are git repositories, and each as an operation of the graph.
 * Source: BuildKit, "Build context": `URL#ref:directory`, and queries such as `?tag=v1&subdir=docs&keep-git-dir=true`.
 */
import { ApiError } from '#base/errors.ts';
import { quotedWordMax } from './limits.ts';
import type { SourceOp } from './llb/vertex.ts';

export function isGitUrl(text: string): boolean {
  return (
    /^(?:git|ssh):\/\//i.test(text) ||
    /^[\w.-]+@[\w.-]+:/.test(text) ||
    /^https?:\/\/[^#?]+\.git(?:[?#].*)?$/i.test(text)
  );
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message.slice(0, 4 * quotedWordMax));
}

interface GitPlace {
  ref: string;
  directory: string;
  attributes: Record<string, string>;
}

const switches: Readonly<Record<string, (isOn: boolean) => Record<string, string>>> = {
  'keep-git-dir': (isOn) => (isOn ? { 'git.keepgitdir': 'true' } : {}),
  submodules: (isOn) => (isOn ? {} : { 'git.skipsubmodules': 'true' }),
  // The commit that a query names is fetched by itself wherever the remote gives it.
  'fetch-by-commit': () => ({}),
};

function setOnce(what: string, before: string, value: string): string {
  if (before !== '' && before !== value)
    refuse(`${what} conflicts: ${JSON.stringify(before)} vs ${JSON.stringify(value)}`);
  return value;
}

function readQuery(place: GitPlace, query: string): void {
  const parameters = new URLSearchParams(query);
  const named = new Map<string, string>();
  for (const [name, value] of parameters) {
    if (named.has(name)) refuse(`query ${JSON.stringify(name)} has multiple values`);
    named.set(name, value);
  }
  for (const [name, value] of named) {
    const make = Object.hasOwn(switches, name) ? switches[name] : undefined;
    if (make !== undefined) {
      if (!/^(?:|1|t|true|0|f|false)$/i.test(value)) refuse(`invalid ${name} value: ${JSON.stringify(value)}`);
      Object.assign(place.attributes, make(!/^(?:0|f|false)$/i.test(value)));
      continue;
    }
    if (value === '') refuse(`query ${JSON.stringify(name)} has no value`);
    if (name === 'ref') place.ref = setOnce('ref', place.ref, value);
    else if (name === 'subdir') place.directory = setOnce('subdir', place.directory, value);
    else if (name === 'checksum' || name === 'commit') place.attributes['git.checksum'] = value;
    else if (name === 'mtime' && (value === 'checkout' || value === 'commit')) place.attributes['git.mtime'] = value;
    else if (name !== 'tag' && name !== 'branch') refuse(`unexpected query ${JSON.stringify(name)}`);
  }
  if (named.has('tag') && named.has('branch')) refuse('branch conflicts with tag');
  const whole = (name: string, start: string): void => {
    const value = named.get(name);
    if (value !== undefined) place.ref = setOnce('ref', place.ref, value.startsWith(start) ? value : start + value);
  };
  whole('tag', 'refs/tags/');
  whole('branch', 'refs/heads/');
}

/** `url`: a remote, behind `?` what is wanted of it, behind `#` a reference and a directory. Throws BadRequest. */
export function gitSource(url: string, more: Readonly<Record<string, string>> = {}): SourceOp {
  const [, remote = url, query = '', fragment = ''] = /^([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(url) ?? [];
  const colon = fragment.indexOf(':');
  const place: GitPlace = {
    ref: colon < 0 ? fragment : fragment.slice(0, colon),
    directory: colon < 0 ? '' : fragment.slice(colon + 1),
    attributes: {},
  };
  readQuery(place, query);
  const { ref, directory, attributes } = place;
  const end = `${ref}${directory === '' ? '' : `:${directory}`}`;
  return {
    kind: 'source',
    identifier: `git://${remote.replace(/^[a-z]+:\/\//i, '')}${end === '' ? '' : `#${end}`}`,
    attributes: { 'git.fullurl': remote, ...attributes, ...more },
  };
}
