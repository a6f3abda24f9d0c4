/** Prints each test and, last, `N passed, N failed`. */
export default async function* report(events) {
  let passed = 0;
  let failed = 0;
  for await (const { type, data } of events) {
    if (type === 'test:pass' && data.details.type !== 'suite') {
      const skipped = data.skip !== undefined;
      if (!skipped) passed++;
      yield `${skipped ? 'skipped' : 'ok'}  ${data.name}  (${Math.round(data.details.duration_ms)} ms)${note(data.skip)}\n`;
    } else if (type === 'test:fail' && data.details.type !== 'suite') {
      failed++;
      const { cause, message, stack } = data.details.error;
      yield `FAILED  ${data.name}\n${cause?.stack ?? stack ?? message}\n`;
    } else if (type === 'test:diagnostic' && data.nesting > 0) {
      yield `    ${data.message}\n`;
    } else if (type === 'test:stdout' || type === 'test:stderr') {
      yield data.message;
    }
  }
  yield `${passed} passed, ${failed} failed\n`;
}

function note(skip) {
  return typeof skip === 'string' && skip ? `: ${skip}` : '';
}
