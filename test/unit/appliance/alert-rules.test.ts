/**
 * Goal: which events go where, what an answer means, when it is tried again, what is dropped first,
 * and what a template makes of an alert, is as documented; what is no configuration is refused.
 * Method: enumerated; signatures are verified by openssl; the examples of the READMEs are taken.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { alertOf, isAtLeast, SEVERITIES } from "../../../src/appliance/alerts/alert.ts";
import { renderTemplate, templateProblem } from "../../../src/appliance/alerts/template.ts";
import {
  backOffMs,
  DAY_MS,
  judgeStatus,
  retryAfterMs,
  victimOf,
} from "../../../src/appliance/alerts/verdict.ts";
import { signatureOf, webhookKey } from "../../../src/appliance/alerts/webhook.ts";
import { parseConfig } from "../../../src/appliance/config.ts";

const ALERT = alertOf(
  {
    ...{ id: 7, kind: "array.degraded", severity: "critical", array: "tank", arrayUuid: null },
    ...{ drive: null, job: 3, atMs: 1_700_000_000_123, message: 'a "drive" \\ is\ngone' },
  },
  { host: "nas", version: "1.2" },
);

test("alerts: severity against least: as high or higher", () => {
  const passes = SEVERITIES.flatMap((severity) =>
    SEVERITIES.filter((least) => isAtLeast(severity, least)).map((least) => `${severity} ${least}`),
  );
  expect(passes).toEqual([
    ...["info info", "warning info", "warning warning"],
    ...["critical info", "critical warning", "critical critical"],
  ]);
});

test("alerts: every status: arrived, refused or tried again", () => {
  const by = { arrived: [] as number[], refused: [] as number[], failed: [] as number[] };
  for (let status = 100; status < 600; status += 1) by[judgeStatus(status)].push(status);
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => from + index);
  expect(by.arrived).toEqual(range(200, 300));
  const asksAgain = [408, 425, 429];
  expect(by.refused).toEqual(range(400, 500).filter((status) => !asksAgain.includes(status)));
  expect(by.failed).toEqual([
    ...range(100, 200),
    ...range(300, 400),
    ...asksAgain,
    ...range(500, 600),
  ]);
});

test("alerts: back-off: doubles from a second to a quarter of an hour, half of it by chance", () => {
  for (let failures = 1; failures <= 2_000; failures += 1) {
    const wholeMs = Math.min(900_000, 1_000 * 2 ** (failures - 1));
    expect(backOffMs(failures, 0)).toBe(wholeMs / 2);
    expect(backOffMs(failures, 0.999)).toBeGreaterThan(0.99 * wholeMs);
    expect(backOffMs(failures, 0.999)).toBeLessThan(wholeMs);
  }
});

test("alerts: Retry-After: seconds, dates, nonsense; never more than a day", () => {
  const wallMs = Date.parse("2026-11-22T13:00:00Z");
  for (const [header, expected] of [
    [null, null],
    ["0", 0],
    ["7", 7_000],
    ["999999999", DAY_MS],
    ["Sun, 22 Nov 2026 13:00:30 GMT", 30_000],
    ["Sun, 22 Nov 2026 12:00:00 GMT", 0],
    ["Sun, 22 Nov 2037 12:00:00 GMT", DAY_MS],
    ["soon", null],
    ["", null],
  ] as const) {
    expect([header, retryAfterMs(header, wallMs)]).toEqual([header, expected]);
  }
});

test("alerts: what is dropped: the oldest of the least severe, never what is on its way", () => {
  // All queues of up to five, of three severities.
  for (let length = 1; length <= 5; length += 1) {
    for (let code = 0; code < 3 ** length; code += 1) {
      const ranks = Array.from({ length }, (_, index) => Math.floor(code / 3 ** index) % 3);
      for (const from of length > 1 ? [0, 1] : [0]) {
        const free = ranks.slice(from);
        const expected = from + free.indexOf(Math.min(...free));
        expect([ranks, from, victimOf(ranks, from)]).toEqual([ranks, from, expected]);
      }
    }
  }
});

describe("templates", () => {
  test("templates: each field, null as nothing, blanks inside; in JSON escaped", () => {
    const all = "{{id}} {{kind}} {{severity}} {{array}} {{arrayUuid}}|{{ drive }}|{{job}} {{at}}";
    expect(renderTemplate(all, ALERT, false)).toBe(
      "7 array.degraded critical tank || |3 2023-11-14T22:13:20.123Z".replace("|| |", "||"),
    );
    expect(renderTemplate("{{host}} {{version}}: {{message}}", ALERT, false)).toBe(
      'nas 1.2: a "drive" \\ is\ngone',
    );
    const slack = '{"text": "{{host}}: {{message}}", "job": {{job}}}';
    expect(JSON.parse(renderTemplate(slack, ALERT, true))).toEqual({
      ...{ text: 'nas: a "drive" \\ is\ngone', job: 3 },
    });
  });

  test("templates: what a message says is not a template again", () => {
    const alert = { ...ALERT, message: "{{host}} $& {{nothing}}" };
    expect(renderTemplate("{{message}}", alert, false)).toBe("{{host}} $& {{nothing}}");
  });

  for (const [template, isJson, problem] of [
    ["{{message}}", false, null],
    ["no field at all }}", false, null],
    ["{{massage}}", false, /there is no \{\{massage\}\}: one of id, kind/],
    ["{{}}", false, /there is no/],
    ["{{a b}}", false, /there is no/],
    ["{{message", false, /without its/],
    ["{{atMs}} {{toString}}", false, /there is no/],
    ['{"text": "{{message}}"}', true, null],
    ['[{"labels": {"array": "{{array}}"}}]', true, null],
    ['{"text": {{message}}}', true, /makes no JSON/],
    // Null is nothing: a number that may be absent has to be quoted too.
    ['{"job": {{job}}}', true, /makes no JSON/],
    ['{"id": {{id}}}', true, null],
  ] as const) {
    test(`templates: ${template} ${isJson ? "as JSON" : "as text"}: ${problem ?? "is one"}`, () => {
      const found = templateProblem(template, isJson);
      if (problem === null) expect(found).toBeNull();
      else expect(found).toMatch(problem);
    });
  }
});

test("alerts: a signature: openssl comes to the same", () => {
  for (const [secret, body] of [
    ["0123456789abcdef", JSON.stringify(ALERT)],
    ["a b", ""],
    ["key", "Grüße\n"],
  ] as const) {
    const [, seconds, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(
      signatureOf({ secret, seconds: 1_700_000_000, body }),
    )!;
    const openssl = Bun.spawnSync(["openssl", "dgst", "-sha256", "-hmac", secret], {
      stdin: Buffer.from(`${seconds}.${body}`),
    });
    expect(openssl.stdout.toString().trim().split("= ")[1]).toBe(mac!);
  }
});

test("alerts: the key of a webhook: by URL and its turn, and tells nothing of it", () => {
  const url = "https://hooks.example/T0/SECRET";
  expect(webhookKey(url, 1)).toMatch(/^webhook-[0-9a-f]{16}-1$/);
  expect(new Set([webhookKey(url, 1), webhookKey(url, 2), webhookKey(`${url}x`, 1)]).size).toBe(3);
});

describe("the examples of the READMEs", () => {
  const TOP = resolve(import.meta.dir, "../../..");
  for (const path of ["README.md", "src/appliance/alerts/README.md"]) {
    const text = readFileSync(join(TOP, path), "utf8");
    const blocks = (language: string): string[] =>
      [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(
        ([, block]) => block!,
      );

    test(`examples of ${path}: each is a configuration; Alertmanager gets an array`, () => {
      const config = parseConfig(blocks("toml").join("\n"), {});
      if (!config.ok) throw new Error(config.error);
      expect(config.value.webhook).toHaveLength(3);
      const [, slack, alertmanager] = config.value.webhook;
      expect(JSON.parse(renderTemplate(slack!.template!, ALERT, true))).toEqual({
        text: '*critical* nas tank: a "drive" \\ is\ngone',
      });
      expect(JSON.parse(renderTemplate(alertmanager!.template!, ALERT, true))).toMatchObject([
        {
          labels: { alertname: "array.degraded", severity: "critical", instance: "nas" },
          startsAt: "2023-11-14T22:13:20.123Z",
        },
      ]);
    });

    test(`examples of ${path}: the program sends a mail with headers and the alert`, () => {
      const mail = blocks("sh").find((block) => block.includes("sendmail"))!;
      const script = mail.replace("/usr/sbin/sendmail -t -oi", "cat");
      const run = Bun.spawnSync(["sh", "-c", script], {
        stdin: Buffer.from(`${JSON.stringify(ALERT)}\n`),
        env: {
          PATH: "/usr/bin:/bin",
          PARITYD_EVENT_KIND: ALERT.kind,
          PARITYD_EVENT_ARRAY: ALERT.array,
        },
      });
      const [head, body] = run.stdout.toString().split("\n\n");
      expect(head).toMatch(/^To: root\nSubject: .*(array\.degraded tank|tank array\.degraded)/);
      expect(JSON.parse(body!)).toEqual(ALERT);
    });
  }
});

describe("configuration", () => {
  test("configuration: nothing: no way; everything: as it is written", () => {
    expect(parseConfig("", {})).toMatchObject({
      ok: true,
      value: { onEventLeast: "warning", onEventTimeoutSeconds: 30, webhook: [] },
    });
    const toml = `
      onEvent = "/usr/local/bin/tell"
      onEventLeast = "info"
      onEventTimeoutSeconds = 5
      [[webhook]]
      url = "https://ntfy.example/topic"
      [[webhook]]
      url = "http://[::1]:9093/api/v2/alerts"
      secretFile = "/etc/parityd/key"
      least = "critical"
      timeoutSeconds = 3
      template = '[{"labels": {"alertname": "{{kind}}"}}]'
      [webhook.headers]
      Content-Type = "application/json"
      Authorization = { file = "/etc/parityd/token" }
    `;
    const config = parseConfig(toml, {});
    if (!config.ok) throw new Error(config.error);
    expect(config.value.webhook as unknown[]).toEqual([
      ...[{ url: "https://ntfy.example/topic", least: "warning", headers: {}, timeoutSeconds: 10 }],
      {
        ...{ url: "http://[::1]:9093/api/v2/alerts", secretFile: "/etc/parityd/key" },
        ...{ least: "critical", timeoutSeconds: 3 },
        template: '[{"labels": {"alertname": "{{kind}}"}}]',
        headers: {
          "Content-Type": "application/json",
          Authorization: { file: "/etc/parityd/token" },
        },
      },
    ]);
  });

  const HOOK = 'url = "https://u.example/SECRET"';
  for (const [what, toml, says] of [
    ["a relative program", 'onEvent = "tell.sh"', "onEvent: the absolute path"],
    ["a severity that is none", 'onEventLeast = "loud"', "onEventLeast: "],
    ["a webhook without URL", "[[webhook]]", "webhook.1.url: "],
    ["an unknown key", `[[webhook]]\n${HOOK}\ncolour = 1`, 'webhook.1: unknown key "colour"'],
    ["no URL", '[[webhook]]\nurl = "SECRET"', "it is no URL"],
    ["another protocol", '[[webhook]]\nurl = "ftp://SECRET/x"', "no http:// or https://"],
    ["a user in the URL", '[[webhook]]\nurl = "https://u:SECRET@h/"', "use headers"],
    ["a severity of a hook", `[[webhook]]\n${HOOK}\nleast = "error"`, "webhook.1.least"],
    ["no time", `[[webhook]]\n${HOOK}\ntimeoutSeconds = 0`, "webhook.1.timeoutSeconds"],
    [
      "a placeholder",
      `[[webhook]]\n${HOOK}\ntemplate = "{{x}}"`,
      "webhook.1.template: there is no",
    ],
    [
      "a token in the clear",
      `[[webhook]]\n${HOOK}\nheaders = { authorization = "SECRET" }`,
      'write { file = "/path" }',
    ],
    [
      "a header of ours",
      `[[webhook]]\n${HOOK}\nheaders = { X-Parityd-Signature = "SECRET" }`,
      "not for the configuration",
    ],
    ["no header", `[[webhook]]\n${HOOK}\nheaders = { "a b" = "SECRET" }`, "no name of a header"],
    ["two lines", `[[webhook]]\n${HOOK}\nheaders = { a = "SECRET\\nx: y" }`, "printable ASCII"],
    [
      "a header twice",
      `[[webhook]]\n${HOOK}\nheaders = { Title = "SECRET", title = "b" }`,
      "named twice",
    ],
    [
      "JSON that is none",
      `[[webhook]]\n${HOOK}\ntemplate = "{{message}}"\nheaders = { content-type = "application/json" }`,
      "makes no JSON",
    ],
    ["too many", `[[webhook]]\n${HOOK}\n`.repeat(17), "webhook: "],
  ] as const) {
    test(`configuration: ${what}: refused, and nothing secret is said`, () => {
      const config = parseConfig(toml, {});
      if (config.ok) throw new Error("it is taken");
      expect(config.error).toContain(says);
      expect(config.error).not.toContain("SECRET");
    });
  }
});
