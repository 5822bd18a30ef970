/**
 * Checks what a client asks of a log (`PodLogOptions`), before the kubelet hears of it: numbers that are numbers, and
 * make sense.
 */
import { ApiError } from '#base/errors.ts';
import type { StatusCause } from '#base/objects.ts';
import { parseRfc3339 } from '#base/timestamp.ts';
import { invalidError } from '#schema/field-errors.ts';

const least: Readonly<Record<string, number>> = { tailLines: 0, limitBytes: 1, sinceSeconds: 1 };

export function checkLogOptions(podName: string, query: URLSearchParams): void {
  const causes: StatusCause[] = [];
  const refuse = (field: string, value: string | number, detail: string): void => {
    causes.push({
      reason: 'FieldValueInvalid',
      field,
      message: `Invalid value: ${typeof value === 'number' ? value : JSON.stringify(value)}: ${detail}`,
    });
  };
  for (const [field, minimum] of Object.entries(least)) {
    const text = query.get(field);
    if (text === null) continue;
    if (!/^[+-]?\d+$/.test(text))
      throw new ApiError('BadRequest', `strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
    if (Number(text) < minimum)
      refuse(field, Number(text), minimum === 0 ? 'must be greater than or equal to 0' : 'must be greater than 0');
  }
  const sinceTime = query.get('sinceTime');
  if (sinceTime !== null && parseRfc3339(sinceTime) === undefined)
    throw new ApiError(
      'BadRequest',
      `parsing time ${JSON.stringify(sinceTime)} as "2006-01-02T15:04:05Z07:00": cannot parse ${JSON.stringify(sinceTime)} as "2006"`,
    );
  if (sinceTime !== null && query.get('sinceSeconds') !== null)
    causes.push({
      reason: 'FieldValueForbidden',
      field: '',
      message: 'Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified',
    });
  const stream = query.get('stream');
  if (stream !== null && !['All', 'Stdout', 'Stderr'].includes(stream))
    causes.push({
      reason: 'FieldValueNotSupported',
      field: 'stream',
      message: `Unsupported value: ${JSON.stringify(stream)}: supported values: "All", "Stderr", "Stdout"`,
    });
  if (causes.length > 0) throw invalidError('', 'PodLogOptions', podName, causes);
}
