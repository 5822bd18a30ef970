/**
 * Configuration files of the API server: YAML or JSON, read strictly, as upstream reads its own. A field that is not
 * known, or not of its type, is named with its place; all that is wrong is told at once.
 */
import { parseDuration } from '#base/duration.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { FieldErrors } from '#schema/field-errors.ts';
import { configFileBytesMax } from './limits.ts';

export class ConfigReader {
  readonly root: JsonObject;
  readonly #file: string;
  readonly #errors = new FieldErrors();

  /** Throws BadRequest where it is no object of the kind. */
  constructor(text: string, file: string, wanted: { apiVersion: readonly string[]; kind: string }) {
    this.#file = file;
    if (text.length > configFileBytesMax) throw this.#failure(`it is longer than ${configFileBytesMax} bytes`);
    let value: unknown;
    try {
      value = parseYaml(text);
    } catch (error) {
      throw this.#failure(messageOf(error));
    }
    if (!isObject(value)) throw this.#failure(`it holds no ${wanted.kind}`);
    const { apiVersion, kind, ...rest } = value;
    if (kind !== wanted.kind || typeof apiVersion !== 'string' || !wanted.apiVersion.includes(apiVersion))
      throw this.#failure(
        `no kind ${JSON.stringify(kind ?? '')} is registered for version ${JSON.stringify(apiVersion ?? '')}: expected ${wanted.kind} of ${wanted.apiVersion.join(' or ')}`,
      );
    this.root = rest;
  }

  #failure(why: string): ApiError {
    return new ApiError('BadRequest', `${this.#file}: ${why}`);
  }

  required(at: string, detail = ''): void {
    this.#errors.required(at, detail);
  }

  invalid(at: string, value: unknown, detail: string): void {
    this.#errors.invalid(at, value, detail);
  }

  unsupported(at: string, value: unknown, supported: readonly string[]): void {
    this.#errors.unsupported(at, value, supported);
  }

  duplicate(at: string, value: unknown): void {
    this.#errors.duplicate(at, value);
  }

  forbidden(at: string, detail: string): void {
    this.#errors.forbidden(at, detail);
  }

  /** The fields of an object; others than those that are known are told. */
  fields(object: JsonObject, at: string, known: readonly string[]): ConfigFields {
    for (const name of Object.keys(object))
      if (!known.includes(name)) this.#errors.invalid(at, name, `unknown field ${JSON.stringify(name)}`);
    return new ConfigFields(this, object, at);
  }

  throwIfAny(): void {
    if (!this.#errors.any) return;
    const all = this.#errors.causes.map(({ field = '', message = '' }) =>
      field === '' ? message : `${field}: ${message}`,
    );
    throw this.#failure(all.join(', '));
  }
}

export class ConfigFields {
  readonly #reader: ConfigReader;
  readonly #object: JsonObject;
  readonly #at: string;

  constructor(reader: ConfigReader, object: JsonObject, at: string) {
    this.#reader = reader;
    this.#object = object;
    this.#at = at;
  }

  at(name: string): string {
    return this.#at === '' ? name : `${this.#at}.${name}`;
  }

  has(name: string): boolean {
    return this.#object[name] !== undefined && this.#object[name] !== null;
  }

  string(name: string): string {
    const value = this.#object[name] ?? '';
    return typeof value === 'string' ? value : (this.#wrongType(name, 'a string') ?? '');
  }

  number(name: string): number | undefined {
    const value = this.#object[name] ?? undefined;
    return value === undefined || typeof value === 'number' ? value : this.#wrongType(name, 'a number');
  }

  boolean(name: string): boolean | undefined {
    const value = this.#object[name] ?? undefined;
    return value === undefined || typeof value === 'boolean' ? value : this.#wrongType(name, 'a boolean');
  }

  strings(name: string): string[] {
    return this.#list(name).flatMap((value, i) => {
      if (typeof value === 'string') return [value];
      this.#reader.invalid(`${this.at(name)}[${i}]`, value, 'must be a string');
      return [];
    });
  }

  /** With the place of each. */
  objects(name: string): [object: JsonObject, at: string][] {
    return this.#list(name).flatMap((value, i): [JsonObject, string][] => {
      const at = `${this.at(name)}[${i}]`;
      if (isObject(value)) return [[value, at]];
      this.#reader.invalid(at, value, 'must be an object');
      return [];
    });
  }

  object(name: string): JsonObject | undefined {
    const value = this.#object[name];
    if (value === undefined || value === null || isObject(value)) return value ?? undefined;
    this.#reader.invalid(this.at(name), value, 'must be an object');
    return undefined;
  }

  /** Milliseconds of a Go duration. */
  duration(name: string): number | undefined {
    const text = this.string(name);
    if (text === '') return undefined;
    const nanoseconds = parseDuration(text);
    if (nanoseconds === undefined) this.#reader.invalid(this.at(name), text, 'must be a duration');
    return nanoseconds === undefined ? undefined : Number(nanoseconds) / 1e6;
  }

  #list(name: string): readonly unknown[] {
    const value = this.#object[name];
    if (value === undefined || value === null) return [];
    if (Array.isArray(value)) return value;
    this.#reader.invalid(this.at(name), value, 'must be a list');
    return [];
  }

  #wrongType(name: string, what: string): undefined {
    this.#reader.invalid(this.at(name), this.#object[name], `must be ${what}`);
  }
}
