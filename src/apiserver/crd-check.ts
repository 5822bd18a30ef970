/** What a custom resource definition must be, beyond its own schema. */
import type { Json, KubeObject } from '#base/objects.ts';
import { invalidError } from '#schema/field-errors.ts';
import type { RequestContext } from './context.ts';

/** What a definition must be, beyond its own schema. */
function checkDefinition(definition: KubeObject): void {
  const spec = definition.spec as Json;
  const causes: Json[] = [];
  const add = (reason: string, field: string, message: string): void => { causes.push({ reason, field, message }); };
  if (!spec.group) add('FieldValueRequired', 'spec.group', 'Required value');
  if (definition.metadata.name !== `${spec.names?.plural}.${spec.group}`) add('FieldValueInvalid', 'metadata.name', `Invalid value: ${JSON.stringify(definition.metadata.name)}: must be spec.names.plural+"."+spec.group`);
  if (!['Cluster', 'Namespaced'].includes(spec.scope)) add('FieldValueNotSupported', 'spec.scope', `Unsupported value: ${JSON.stringify(spec.scope ?? '')}: supported values: "Cluster", "Namespaced"`);
  const versions: Json[] = spec.versions ?? [];
  if (versions.filter((v) => v.storage === true).length !== 1) add('FieldValueInvalid', 'spec.versions', `Invalid value: ${JSON.stringify(versions.map((v) => v.name))}: must have exactly one version marked as storage version`);
  versions.forEach((v, i) => { if (v.schema?.openAPIV3Schema === undefined) add('FieldValueRequired', `spec.versions[${i}].schema.openAPIV3Schema`, 'Required value: schemas are required'); else if (v.schema.openAPIV3Schema.type !== 'object') add('FieldValueInvalid', `spec.versions[${i}].schema.openAPIV3Schema.type`, `Invalid value: ${JSON.stringify(v.schema.openAPIV3Schema.type ?? '')}: must be object at the root`); });
  if (causes.length > 0) throw invalidError('apiextensions.k8s.io', 'CustomResourceDefinition', definition.metadata.name ?? '', causes);
}

export function admitDefinition(context: RequestContext, attributes: { operation: string; object: KubeObject; subresource: string }): void {
  if (context.kind.kind === 'CustomResourceDefinition' && context.kind.group === 'apiextensions.k8s.io' && attributes.operation !== 'DELETE' && attributes.subresource === '') checkDefinition(attributes.object);
}
