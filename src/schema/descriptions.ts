/** Descriptions of types and their fields, for documents that people read (`kubectl explain`). */

export interface TypeDescription {
  text: string;
  fields: ReadonlyMap<string, string>;
}

/** Of a type as `data/*.json` names it (`core.v1/Pod`); undefined where nobody describes it. */
export type Describe = (typeName: string) => TypeDescription | undefined;

export const describesNothing: Describe = () => undefined;

/** What every object says of itself is described where any kind is. */
export const describedKind = 'core.v1/Pod';
