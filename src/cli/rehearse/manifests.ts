/**
 * Reads manifests as `kubectl apply -f` does: files, directories (with `recursive` those below too), standard input.
 * Whatever is wrong names file and document.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isOf } from '#base/objects.ts';
import { fieldOf, isObject, textOf } from '#base/unknown.ts';
import { parseYamlDocuments } from '#base/yaml.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { kinds } from '#base/kinds.ts';
import { isNamed, type NamedObject } from '#sim/manifests.ts';
import type { Manifest, NamedNode } from '#sim/rehearse/types.ts';
import { UsageError } from '../output.ts';
import { cleaned, isFromServer, simulatedNode } from './clean.ts';

export interface ManifestSet {
  manifests: Manifest[];
  /** Node objects among them. */ nodes: NamedNode[];
  notes: string[];
}
export interface ReadOptions {
  recursive: boolean;
  /** For objects that name none. */ namespace: string | undefined;
  readInput: () => string;
}

const manifestName = /\.(ya?ml|json)$/;
const template = /\{\{.*\}\}|\{%.*%\}/;
const clusterKinds = new Set([
  'Namespace',
  'Node',
  'PersistentVolume',
  'StorageClass',
  'PriorityClass',
  'RuntimeClass',
  'IngressClass',
  'CSIDriver',
  'ClusterRole',
  'ClusterRoleBinding',
  'CustomResourceDefinition',
  'APIService',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'MutatingWebhookConfiguration',
  'ValidatingWebhookConfiguration',
  'FlowSchema',
  'PriorityLevelConfiguration',
  'VolumeAttributesClass',
]);

function filesOf(path: string, recursive: boolean): string[] {
  let stat;
  try {
    stat = statSync(path);
  } catch (error) {
    throw new UsageError(`${path}: ${codeOf(error) === 'ENOENT' ? 'no such file or directory' : messageOf(error)}`);
  }
  if (!stat.isDirectory()) return [path];
  const entries = readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  if (entries.some(({ name }) => name === 'Chart.yaml'))
    throw new UsageError(`${path} is a Helm chart: render it first, helm template ${path} | tiphys rehearse -f -`);
  const rendered = entries.find(({ name }) => /^kustomization\.ya?ml$|^Kustomization$/.test(name));
  if (rendered !== undefined)
    throw new UsageError(
      `${path} is a kustomization: render it first, kubectl kustomize ${path} | tiphys rehearse -f -`,
    );
  return entries.flatMap((entry) => {
    const at = join(path, entry.name);
    if (
      entry.isDirectory() ||
      (entry.isSymbolicLink() && statSync(at, { throwIfNoEntry: false })?.isDirectory() === true)
    )
      return recursive && entry.isDirectory() ? filesOf(at, true) : [];
    return manifestName.test(entry.name) ? [at] : [];
  });
}

function hintOf(text: string): string {
  const line = text.split('\n').findIndex((content) => template.test(content));
  return line < 0
    ? ''
    : ` (line ${line + 1} looks like a template's: render it first, with helm template or kubectl kustomize)`;
}

/**
 * `shop/web.yaml:12:3: bad indentation`, as editors find it: the reader ends its message's first line with `(12:3)`.
 */
function placed(path: string, message: string): string {
  const [first = ''] = message.split('\n');
  const match = /^(.*) \((\d+:\d+)\)$/.exec(first);
  return match === null ? `${path}: ${first}` : `${path}:${match[2]}: ${match[1]}`;
}

/** The objects of one text; lists are taken apart. */
function objectsOf(text: string, path: string): { object: NamedObject; origin: string }[] {
  let documents: unknown[];
  try {
    documents = parseYamlDocuments(text);
  } catch (error) {
    throw new UsageError(`${placed(path, messageOf(error))}${hintOf(text)}`);
  }
  return documents
    .flatMap((document, index) => {
      const origin = documents.length === 1 ? path : `${path}, document ${index + 1}`;
      const listed = fieldOf(document, 'items');
      const items: readonly unknown[] =
        textOf(document, 'kind')?.endsWith('List') === true && Array.isArray(listed) ? listed : [document];
      return items.map((object, at) => ({ object, origin: items.length === 1 ? origin : `${origin}, item ${at + 1}` }));
    })
    .map(({ object, origin }) => {
      if (!isObject(object))
        throw new UsageError(`${origin}: not an object but ${JSON.stringify(object)?.slice(0, 60)}${hintOf(text)}`);
      if (textOf(object, 'apiVersion')?.startsWith('kustomize.config.k8s.io/'))
        throw new UsageError(`${origin}: a kustomization: render it first with kubectl kustomize`);
      for (const field of ['apiVersion', 'kind'])
        if ((textOf(object, field) ?? '') === '') throw new UsageError(`${origin}: ${field} is missing${hintOf(text)}`);
      if (!isNamed(object))
        throw new UsageError(
          `${origin}: ${textOf(object, 'kind')}: metadata.name is missing${fieldOf(object, 'metadata', 'generateName') === undefined ? '' : ' (generateName makes a new object each time: give it a name)'}${hintOf(text)}`,
        );
      return { object, origin };
    });
}

/** Reads all paths; `-` is standard input. Throws `UsageError`. */
export function readManifests(paths: readonly string[], options: ReadOptions): ManifestSet {
  const set: ManifestSet = { manifests: [], nodes: [], notes: [] };
  for (const path of paths) {
    const sources =
      path === '-'
        ? [{ path: 'standard input', text: options.readInput() }]
        : filesOf(path, options.recursive).map((file) => ({ path: file, text: readText(file) }));
    const before = set.manifests.length + set.nodes.length;
    let found = 0;
    for (const source of sources)
      for (const { object, origin } of objectsOf(source.text, source.path)) {
        found += 1;
        add(set, object, origin, options);
      }
    if (found > 0) {
      if (set.manifests.length + set.nodes.length === before) set.notes.push(`${path}: nothing in it is to be applied`);
      continue;
    }
    const below =
      path !== '-' &&
      !options.recursive &&
      statSync(path).isDirectory() &&
      readdirSync(path, { recursive: true, encoding: 'utf8' }).some((name) => manifestName.test(basename(name)));
    throw new UsageError(
      `${path}: no manifests${below ? ' in it, only in directories below (-R reads them too)' : path === '-' || sources.length > 0 ? '' : ' (files that end in .yaml, .yml or .json)'}`,
    );
  }
  return set;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`${path}: ${messageOf(error)}`);
  }
}

function add(set: ManifestSet, object: NamedObject, origin: string, { namespace }: ReadOptions): void {
  if (isOf(kinds.Node, object)) {
    set.nodes.push(simulatedNode(object));
    return;
  }
  let manifest: NamedObject = object;
  if (isFromServer(object)) {
    const result = cleaned(object);
    if ('leftOut' in result) {
      if (result.leftOut !== undefined) set.notes.push(result.leftOut);
      return;
    }
    manifest = result.manifest;
  }
  if (namespace !== undefined && manifest.metadata.namespace === undefined && !clusterKinds.has(manifest.kind))
    manifest = { ...manifest, metadata: { ...manifest.metadata, namespace } };
  set.manifests.push({ object: manifest, origin, ...(isFromServer(object) ? { lenient: true } : {}) });
}
