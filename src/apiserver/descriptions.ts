/**
 * Descriptions for the OpenAPI documents, out of a package that ships them (`kubernetes-types`, TypeScript declarations
 * generated from Kubernetes' own document): Tiphys has none of its own. A file of it is read when a document is first
 * made that has types of it. What is newer than the package stays without; a type that it knows in another version of
 * its group is described as it is there.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { listDirectory, readIfExists } from '#os/files.ts';
import type { Describe, TypeDescription } from '#schema/descriptions.ts';

const packageName = 'kubernetes-types';
const comment = /\/\*\*([^]*?)\*\/\s*$/;
const typeLine = /^export interface (\w+)/;
const fieldLine = /^ {4}(?:readonly )?(?:"([^"]+)"|([\w$]+))\??:/;

/** The declarations of one file. A comment stands before what it is about. */
function parseDeclarations(text: string): Map<string, TypeDescription> {
  const types = new Map<string, TypeDescription>();
  let fields = new Map<string, string>();
  let said = '';
  for (const line of text.split('\n')) {
    const isComment = /^\s*(?:\/\*\*| \*)/.test(line);
    if (isComment) {
      said = line.includes('/**') ? line : `${said}\n${line}`;
      continue;
    }
    const type = typeLine.exec(line)?.[1];
    const [, quoted, plain] = fieldLine.exec(line) ?? [];
    const field = quoted ?? plain;
    if (type !== undefined) {
      fields = new Map();
      types.set(type, { text: textOf(said), fields });
    } else if (field !== undefined && said !== '') fields.set(field, textOf(said));
    said = '';
  }
  return types;
}

/** Without the marks of the comment. */
function textOf(written: string): string {
  return (comment.exec(written)?.[1] ?? '').replaceAll(/^[ \t]*\* ?/gm, '').trim();
}

function packageDirectory(): string | undefined {
  try {
    return dirname(fileURLToPath(import.meta.resolve(`${packageName}/package.json`)));
  } catch {
    // It was left out of the installation: documents do without.
    return undefined;
  }
}

/** Newest first: `v1`, `v1beta2`, `v1beta1`, `v1alpha3`. */
function byAge(a: string, b: string): number {
  const rank = (version: string): number => {
    const [, major = '0', stage = '', minor = '0'] = /^v(\d+)(?:(alpha|beta)(\d+))?/.exec(version) ?? [];
    return (stage === '' ? 2 : stage === 'beta' ? 1 : 0) * 1_000_000 + Number(major) * 1000 + Number(minor);
  };
  return rank(b) - rank(a);
}

class Descriptions {
  readonly #directory: string | undefined = packageDirectory();
  readonly #files = new Map<string, Map<string, TypeDescription>>();
  readonly #versions = new Map<string, string[]>();

  /** As `Describe`. */
  of(typeName: string): TypeDescription | undefined {
    const [, group, version, type] = /^([^./]+)\.([^./]+)\/(\w+)$/.exec(typeName) ?? [];
    if (this.#directory === undefined || group === undefined || version === undefined || type === undefined)
      return undefined;
    const others = this.#versionsOf(group).filter((other) => other !== version);
    for (const each of [version, ...others]) {
      const found = this.#file(`${group}/${each}.d.ts`).get(type);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #versionsOf(group: string): readonly string[] {
    let versions = this.#versions.get(group);
    if (versions === undefined) {
      versions = listDirectory(join(this.#directory ?? '', group))
        .flatMap((name) => (name.endsWith('.d.ts') ? [name.slice(0, -'.d.ts'.length)] : []))
        .sort(byAge);
      this.#versions.set(group, versions);
    }
    return versions;
  }

  #file(path: string): Map<string, TypeDescription> {
    let types = this.#files.get(path);
    if (types === undefined) {
      types = parseDeclarations(readIfExists(join(this.#directory ?? '', path)) ?? '');
      this.#files.set(path, types);
    }
    return types;
  }
}

/** Reads each file at most once; what it read goes with it. */
export function openDescriptions(): Describe {
  const descriptions = new Descriptions();
  return (typeName) => descriptions.of(typeName);
}
