/**
 * Field errors as an API server words them: `spec.containers[0].image: Required value`, collected into one Invalid
 * status with a cause each (API conventions, "Status"). Paths are plain text.
 */
import { ApiError } from '#base/errors.ts';
import { jsonBeginning } from '#base/json.ts';
import type { StatusCause } from '#base/objects.ts';
import { PatternBudget } from '#base/pattern.ts';
import { resourceNameOf } from '#base/objects.ts';
import { fieldErrorsCharsMax, fieldErrorsMax, schemaStepsMax, shownValueCharsMax } from './limits.ts';

/** What validating one object may cost altogether; alternatives that are tried share it. */
class ValidationWork {
  readonly patterns = new PatternBudget();
  stepsLeft = schemaStepsMax;
}

export class FieldErrors {
  readonly causes: StatusCause[] = [];
  readonly work: ValidationWork;
  /** What lists and objects were before, for whoever does not look at what was not changed. Forks have none. */
  readonly former: WeakMap<object, object> | undefined;
  #characters = 0;
  #full = false;

  constructor(work: ValidationWork = new ValidationWork(), former?: WeakMap<object, object>) {
    this.work = work;
    this.former = former;
  }

  /** Errors of an alternative that is only tried. */
  fork(): FieldErrors {
    return new FieldErrors(this.work);
  }

  /** The errors of a fork as one's own. */
  take(other: FieldErrors): void {
    for (const { reason = '', field = '', message = '' } of other.causes) this.#add(reason, field, () => message);
  }

  /** Whether there are as many errors as one answer names: whoever would find more may stop. */
  get full(): boolean {
    return this.#full;
  }

  /** `text` is made only where it will be shown. */
  #add(reason: string, field: string, text: () => string): void {
    if (this.#full) return;
    if (this.causes.length >= fieldErrorsMax || this.#characters >= fieldErrorsCharsMax) {
      this.#full = true;
      this.causes.push({
        reason: 'FieldValueInvalid',
        field: '',
        message: 'too many errors: the others are not shown',
      });
      return;
    }
    const cause = {
      reason,
      message: text(),
      field: field.length > shownValueCharsMax ? `${field.slice(0, shownValueCharsMax)}…` : field,
    };
    this.#characters += cause.message.length + cause.field.length;
    this.causes.push(cause);
  }

  required(field: string, detail = ''): void {
    this.#add('FieldValueRequired', field, () => (detail === '' ? 'Required value' : `Required value: ${detail}`));
  }
  /** With `omitted`, the message does not show the value. */
  invalid(field: string, value: unknown, detail: string): void {
    this.#add(
      'FieldValueInvalid',
      field,
      () => `Invalid value${shownAfter(value)}${detail === '' ? '' : `: ${detail}`}`,
    );
  }
  duplicate(field: string, value: unknown): void {
    this.#add('FieldValueDuplicate', field, () => `Duplicate value${shownAfter(value)}`);
  }
  notFound(field: string, value: unknown): void {
    this.#add('FieldValueNotFound', field, () => `Not found: ${show(value)}`);
  }
  forbidden(field: string, detail: string): void {
    this.#add('FieldValueForbidden', field, () => `Forbidden: ${detail}`);
  }
  tooLong(field: string, max: number): void {
    this.#add('FieldValueTooLong', field, () => `Too long: may not be more than ${max} bytes`);
  }
  tooMany(field: string, count: number, max: number): void {
    this.#add('FieldValueTooMany', field, () => `Too many: ${count}: must have at most ${max} items`);
  }
  typeInvalid(field: string, value: unknown, detail: string): void {
    this.#add('FieldValueTypeInvalid', field, () => `Invalid value: ${show(value)}: ${detail}`);
  }
  unsupported(field: string, value: unknown, supported: readonly string[]): void {
    this.#add(
      'FieldValueNotSupported',
      field,
      () =>
        `Unsupported value: ${show(value)}: supported values: ${supported.map((s) => JSON.stringify(s)).join(', ')}`,
    );
  }
  internal(field: string, detail: string): void {
    this.#add('InternalError', field, () => `Internal error: ${detail}`);
  }

  get any(): boolean {
    return this.causes.length > 0;
  }

  /** Throws Invalid for the object when there are errors. */
  throwIfAny(group: string, kind: string, name: string): void {
    if (!this.any) return;
    throw invalidError(group, kind, name, this.causes);
  }
}

export function invalidError(group: string, kind: string, name: string, causes: StatusCause[]): ApiError {
  const lines = causes.map((c) => `${c.field}: ${c.message}`);
  const unique = [...new Set(lines)].join(', ');
  const text = lines.length === 1 ? unique : `[${unique}]`;
  const qualified = resourceNameOf({ group, resource: kind });
  return new ApiError('Invalid', `${qualified} ${JSON.stringify(name)} is invalid: ${text}`, {
    name,
    ...(group === '' ? {} : { group }),
    kind,
    causes,
  });
}

/** In place of a value that messages leave out. */
export const omitted = Symbol('omitted');
const shownAfter = (value: unknown): string => (value === omitted ? '' : `: ${show(value)}`);

/** Go's JSON can stand within HTML. */
const htmlEscape = (char: string): string => `\\u00${char.charCodeAt(0).toString(16)}`;

/** A value as the messages quote it: Go's `%q` for text, JSON for the rest. */
function show(value: unknown): string {
  if (value === undefined || value === null) return 'null';
  const text = jsonBeginning(value, shownValueCharsMax);
  return typeof value === 'object' ? text.replace(/[<>&]/g, htmlEscape) : text;
}
