/**
 * Turns what `bun test` left behind (JUnit XML, exit code) into one verdict. Pure.
 *
 * Why not the exit code or the counts alone (seen with Bun 1.4.5):
 * - Counts stand in the root element only; nested suites repeat them.
 * - A file that throws while it loads is absent from the XML, with failures="0" and exit code 1.
 * - A file without tests is absent too, with exit code 0.
 * - A failing `beforeAll` may drop the tests behind it.
 * So every file that was to run must have a suite, and an unhappy exit is at least one failure.
 */
import { err, ok, type Result } from "../../src/base/result.ts";

export interface TestName {
  readonly file: string;
  readonly name: string;
}

export interface JunitReport {
  readonly tests: number;
  readonly failures: number;
  readonly skipped: number;
  readonly files: readonly string[];
  readonly skippedTests: readonly TestName[];
}

export interface RunResult {
  /** Undefined when the runner left no report. */
  readonly xml: string | undefined;
  readonly exitCode: number;
  /** The test files that were to run, as paths from the top of the repository. */
  readonly expectedFiles: readonly string[];
}

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly skippedTests: readonly TestName[];
  /** Why `failed` is more than the failed tests of the report, a line each. */
  readonly problems: readonly string[];
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&apos;": "'",
  "&amp;": "&",
};

function unescapeXml(text: string): string {
  return text
    .replace(/&#(x?)([0-9a-fA-F]+);/g, (_, hex: string, digits: string) =>
      String.fromCodePoint(Number.parseInt(digits, hex === "x" ? 16 : 10)),
    )
    .replace(/&(?:lt|gt|quot|apos|amp);/g, (entity) => ENTITIES[entity] ?? entity);
}

/** Attributes of one opening tag. Values never hold a bare quote: the writer escapes them. */
function attributes(tag: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [, name, value] of tag.matchAll(/([\w-]+)="([^"]*)"/g)) {
    found.set(name!, unescapeXml(value!));
  }
  return found;
}

function count(root: ReadonlyMap<string, string>, name: string): number {
  const text = root.get(name) ?? "";
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

/** Reads the report of one run; the error says what is wrong with it. */
export function parseJunit(xml: string): Result<JunitReport, string> {
  const rootTag = /<testsuites\b[^>]*>/.exec(xml)?.[0];
  if (rootTag === undefined) return err("it has no <testsuites> element");
  if (!xml.trimEnd().endsWith("</testsuites>") && !rootTag.endsWith("/>")) {
    return err("it is cut off");
  }
  const root = attributes(rootTag);
  const tests = count(root, "tests");
  const failures = count(root, "failures");
  const skipped = count(root, "skipped");
  if (Number.isNaN(tests + failures + skipped)) return err("its root element has no counts");

  const files = new Set<string>();
  const skippedTests: TestName[] = [];
  const groups: string[] = [];
  for (const match of xml.matchAll(/<(\/?)(testsuite|testcase|skipped)\b([^>]*?)(\/?)>/g)) {
    const [, isClosing, element, inside, isEmpty] = match;
    if (isClosing !== "") {
      if (element === "testsuite" || element === "testcase") groups.pop();
      continue;
    }
    const tag = attributes(inside!);
    if (element === "skipped") {
      // Names of the file, the describe blocks and the test, in this order.
      const [file = "", ...names] = groups;
      skippedTests.push({ file, name: names.join(" > ") });
      continue;
    }
    if (element === "testsuite" && groups.length === 0) files.add(tag.get("file") ?? "");
    if (isEmpty === "") groups.push(tag.get("name") ?? "");
  }
  return ok({ tests, failures, skipped, files: [...files], skippedTests });
}

export interface FileTime {
  readonly file: string;
  readonly seconds: number;
}

/** The files that took longest, the longest first; of a report that may be none. */
export function slowestFiles(xml: string | undefined, count: number): FileTime[] {
  const times: FileTime[] = [];
  for (const [, inside] of (xml ?? "").matchAll(/<testsuite\b([^>]*)>/g)) {
    const tag = attributes(inside!);
    const file = tag.get("file") ?? "";
    // A suite within a file bears the name of its describe block.
    if (tag.get("name") === file) times.push({ file, seconds: Number(tag.get("time") ?? 0) });
  }
  return times.sort((one, other) => other.seconds - one.seconds).slice(0, count);
}

/** Judges one run of the test runner. */
export function judge({ xml, exitCode, expectedFiles }: RunResult): Verdict {
  const problems: string[] = [];
  if (expectedFiles.length === 0) {
    problems.push("there is no test file to run");
    return { passed: 0, failed: 1, skipped: 0, skippedTests: [], problems };
  }
  const parsed = xml === undefined ? err("there is none") : parseJunit(xml);
  if (!parsed.ok) {
    problems.push(`no usable report of the tests (exit code ${exitCode}): ${parsed.error}`);
    return { passed: 0, failed: problems.length, skipped: 0, skippedTests: [], problems };
  }
  const { tests, failures, skipped, files, skippedTests } = parsed.value;
  const reported = new Set(files);
  for (const file of expectedFiles) {
    if (!reported.has(file)) {
      problems.push(`${file}: no result (it failed to load, was stopped, or has no tests)`);
    }
  }
  if (tests === skipped) problems.push("no test ran");
  if (exitCode !== 0 && failures + problems.length === 0) {
    problems.push(`the test runner ended with exit code ${exitCode} and reported no failure`);
  }
  return {
    passed: Math.max(0, tests - failures - skipped),
    failed: failures + problems.length,
    skipped,
    skippedTests,
    problems,
  };
}

/** The verdict with further failures that are no tests: a build, a time budget. */
export function withProblems(verdict: Verdict, problems: readonly string[]): Verdict {
  return {
    ...verdict,
    failed: verdict.failed + problems.length,
    problems: [...verdict.problems, ...problems],
  };
}

export function countLine({ passed, failed, skipped }: Verdict): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** The needs that a test names: `reads back [needs mdadm, root]` gives both. */
export function namedNeeds(testName: string): string[] {
  return [...testName.matchAll(/\[needs ([^\]]+)\]/g)].flatMap(([, list]) =>
    list!.split(",").map((need) => need.trim()),
  );
}
