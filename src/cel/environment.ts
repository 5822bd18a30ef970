/** What an expression may name: variables, functions and the types of objects that it makes. */
import type { Type } from './types.ts';
import type { Value } from './values.ts';

export interface Overload {
  /** Of a member, the first is what it is called on. */
  args: readonly Type[];
  isMember: boolean;
  /** Whether the answer is waited for. */
  isAsync?: boolean;
  result: Type;
  /** Throws `CelError`. */
  run(args: readonly Value[], host: unknown): Value | Promise<Value>;
  /** What a call costs; 1 where absent (reference implementation, cost model). */
  cost?(args: readonly Value[], result: Value): number;
}

/** Of an object that an expression makes: the types of its fields. */
export interface StructType {
  type: Type;
  field(name: string): Type | undefined;
  make(fields: ReadonlyMap<string, Value>): Value;
}

export interface Environment {
  variables: ReadonlyMap<string, Type>;
  functions: ReadonlyMap<string, readonly Overload[]>;
  struct?(name: string): StructType | undefined;
}
