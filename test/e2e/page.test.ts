/**
 * Goal: who has only the page sees what happens to an array as it happens, and can do what is to be
 * done about it: with a keyboard, on a phone, in both themes, without a violation of axe-core's
 * rules or of the page's own policy.
 * Method: a headless Chromium on the executable, over TCP with its token. One story: an array is
 * created, exported, loses a member, gets another, is scrubbed with a mismatch in it; then every
 * view in each theme and size.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { MIB } from "../../src/base/units.ts";
import {
  freePort,
  openPage,
  picture,
  SIZES,
  type Size,
  THEMES,
  violationsOf,
  type Watched,
} from "../helpers/browser.ts";
import { binaryPath, Daemon, keepTrack, makeFiles, runVerb } from "../helpers/daemon.ts";
import { mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { readmePicture } from "../helpers/readme-picture.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 96 * MIB;
const SLOW = 4 * MIB;
const FAST = 2 ** 30;

/** Each view, and what stands in it once all of it has been asked for and drawn. */
const SHOWN: Readonly<Record<string, RegExp>> = {
  arrays: /^188\.0 MiB, 3 members, ppl$/,
  "arrays/tank": /^scrub\.finished$/,
  drives: /^tank, role 2$/,
  clients: /^nbd\+unix:/,
  jobs: /mismatchBytes 4\.0 KiB/,
  events: /^member\.failed$/,
  schedules: /^tank is scrubbed when somebody asks for it/,
  create: /^drive4/,
  "arrays/none": /^There is no such array/,
};

const TITLE = "tank: degraded – parityd";

let daemon: Daemon;
let url = "";
let token = "";
let watched: Watched;
let page: Page;

async function setSpeed(limit: number): Promise<void> {
  await daemon.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: limit, syncSpeedMax: limit });
}

async function enterToken(of: Page): Promise<void> {
  await of.getByLabel("Token").fill(token);
  await of.getByRole("button", { name: "Enter" }).click();
  await of.getByRole("heading", { level: 1, name: "Arrays" }).waitFor();
}

/** Fills and sends the dialog that is open. */
async function confirmDialog(typed: string | null, verb: string): Promise<void> {
  const dialog = page.getByRole("dialog");
  if (typed !== null) await dialog.getByLabel(/^Type/).fill(typed);
  await dialog.getByRole("button", { name: verb, exact: true }).click();
  await dialog.waitFor({ state: "detached" });
}

async function press(key: string, times = 1): Promise<void> {
  for (let count = 0; count < times; count += 1) await page.keyboard.press(key);
}

async function strips(): Promise<string[]> {
  const labels: string[] = [];
  for (const strip of await page.locator("svg.strip").all()) {
    labels.push((await strip.getAttribute("aria-label")) ?? "");
  }
  return labels;
}

describe.skipIf(!needs("libaio", "direct-io", "chromium"))("page", () => {
  const NEEDS = "[needs libaio, direct-io, chromium]";

  beforeAll(async () => {
    const folder = makeTempDir("page");
    const port = await freePort();
    const flags = ["--allow-fault-injection", "--api-tcp", `127.0.0.1:${port}`];
    daemon = await Daemon.start(folder, { flags });
    url = `http://127.0.0.1:${port}/`;
    const line = readFileSync(join(folder, "state", "api-token"), "utf8");
    token = line.trim().split(" ")[1] ?? "";
    const files = makeFiles(folder, 5, MEMBER_BYTES);
    for (const [index, path] of files.slice(1).entries()) {
      await daemon.must("POST", "/v1/drives", { name: `drive${index + 1}`, path });
    }
    watched = await openPage("light", "desktop");
    page = watched.page;
  });

  test(`page: over TCP: a token is asked for, and a wrong one is refused ${NEEDS}`, async () => {
    await page.goto(url);
    await page.getByLabel("Token").fill("not-the-token-at-all");
    await picture(page, "token");
    expect(await violationsOf(page)).toEqual([]);
    await page.getByRole("button", { name: "Enter" }).click();
    await page.getByRole("alert").waitFor();
    await enterToken(page);
    await page.reload();
    await page.getByText("There is no array yet.").waitFor();
    const { body } = await daemon.call("GET", "/v1/events?since=0");
    const failed = body.filter(({ kind }: { kind: string }) => kind === "api.login-failed");
    expect(failed).toHaveLength(1);
  });

  test(`page: the guided form, by keyboard alone: a drive and an array ${NEEDS}`, async () => {
    await page.getByRole("link", { name: "Create an array" }).focus();
    await press("Enter");
    await page.getByRole("heading", { name: "Create an array" }).waitFor();
    // The heading has the focus; then come four drives, and the button for another.
    await press("Tab", 5);
    await press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.type("drive0");
    await press("Tab");
    await page.keyboard.type(join(daemon.folder, "member0.img"));
    await press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByLabel(/^drive0/).waitFor();
    await page.locator("h1").focus();
    for (let drive = 0; drive < 3; drive += 1) {
      await press("Tab");
      await press("m");
    }
    // Past the other drives and their button.
    await press("Tab", 4);
    await page.keyboard.type("tank");
    await page.getByText(/^Usable size: 1\d\d\.\d MiB/).waitFor();
    const writes = await page.locator(".foretold li").allTextContents();
    expect(writes[0]).toBe(
      "Superblocks on drive0, drive1 and drive2: what these drives hold is lost.",
    );
    expect(await violationsOf(page)).toEqual([]);
    await picture(page, "create");
    const create = page.getByRole("button", { name: "Create the array" });
    expect(await create.isDisabled()).toBe(true);
    await press("Tab", 3);
    await page.keyboard.type("tank");
    await press("Enter");
    await page.getByRole("heading", { level: 1, name: "tank" }).waitFor();
    const { members } = await daemon.settle("tank");
    expect(members.map(({ drive }: { drive: string }) => drive)).toEqual([
      ...["drive0", "drive1", "drive2"],
    ]);
  });

  test(`page: export and a client: what it reads and writes is drawn ${NEEDS}`, async () => {
    await page.getByRole("button", { name: "Export: tank" }).click();
    await confirmDialog(null, "Export");
    const client = await daemon.connect("tank");
    await mustWrite(client, 0, randomBytes(1, MIB));
    await page
      .getByText(/write [\d.]+ [KM]iB\/s/)
      .first()
      .waitFor();
    await page.goto(`${url}#/clients`);
    await page.getByText("1 client is connected.").waitFor();
    await page.getByRole("row", { name: /tank write done/ }).waitFor();
    void client.disconnect();
    await page.getByText("0 clients are connected.").waitFor();
  });

  test(`page: a member fails: degraded, with the command line's own words ${NEEDS}`, async () => {
    await page.goto(`${url}#/arrays/tank`);
    await page.getByRole("button", { name: "Fail: drive1" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("tank would be degraded, 1 missing.").waitFor();
    const fail = dialog.getByRole("button", { name: "Fail", exact: true });
    expect(await fail.isDisabled()).toBe(true);
    expect(await violationsOf(page)).toEqual([]);
    await picture(page, "fail");
    await confirmDialog("tank", "Fail");
    await page.locator(".badge", { hasText: "degraded" }).waitFor();
    await until("the tab says so too", async () => (await page.title()) === TITLE);
    expect(await page.evaluate("document.activeElement.outerHTML")).toMatch(/^<h1.*>tank<\/h1>$/);
    const said = await page.locator(".findings dd").allTextContents();
    const { stdout } = await runVerb(["status", "--run-dir", join(daemon.folder, "run")]);
    const lines = [...stdout.matchAll(/^ (?:status|action): (.*)$/gm)].map((match) => match[1]!);
    expect(said).toEqual(lines);
    expect(said[0]).toBe("member drive1 (role 1) failed.");
    expect((await strips())[1]).toBe("role 1, drive1: missing");
    expect(await violationsOf(page)).toEqual([]);
  });

  test(`page: a drive is added: the rebuild is seen, then it is whole ${NEEDS}`, async () => {
    await setSpeed(SLOW);
    await page.getByRole("button", { name: "Add a drive: tank" }).click();
    await page.getByLabel("Drive", { exact: true }).selectOption("drive3");
    await confirmDialog(null, "Add");
    await page.getByText("rebuilding").first().waitFor();
    await until("the strip shows a part rebuilt", async () =>
      /rebuilt to [1-9]\d* %, behind that not in sync yet/.test((await strips())[1] ?? ""),
    );
    await page.getByText(/\d\.\d %.*MiB\/s.*left/).waitFor();
    await picture(page, "rebuild");
    expect(await violationsOf(page)).toEqual([]);
    await setSpeed(FAST);
    await page.locator(".badge.fine").waitFor();
    expect((await strips())[1]).toBe("role 1, drive3: in sync");
  });

  test(`page: a scrub is paused, goes on and is cancelled ${NEEDS}`, async () => {
    await daemon.calmDown("tank");
    await setSpeed(SLOW);
    await page.getByRole("button", { name: "Scrub: tank" }).click();
    await confirmDialog(null, "Scrub");
    await page.getByText(/^Scrub tank: job \d+ has begun$/).waitFor();
    await page.goto(`${url}#/jobs`);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByText(/job \d+, paused/).waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByText(/job \d+, running/).waitFor();
    expect(await violationsOf(page)).toEqual([]);
    await page.getByRole("button", { name: /^Cancel: job/ }).click();
    await confirmDialog(null, "Cancel the job");
    await page.getByText("No work is under way.").waitFor();
    await page.getByRole("row", { name: /check tank cancelled/ }).waitFor();
    await setSpeed(FAST);
  });

  test(`page: a scrub finds a mismatch: where it lies is seen ${NEEDS}`, async () => {
    await daemon.calmDown("tank");
    const file = openSync(join(daemon.folder, "member0.img"), "r+");
    writeSync(file, randomBytes(9, 4096), 0, 4096, MEMBER_BYTES / 2);
    fsyncSync(file);
    closeSync(file);
    await page.goto(`${url}#/arrays/tank`);
    await page.getByRole("button", { name: "Scrub: tank" }).click();
    await confirmDialog(null, "Scrub");
    await page.getByText(/the last scrub found 4.0 KiB whose parity does not match/).waitFor();
    await until("each strip has the mark", async () =>
      (await strips()).every((label) => /in sync; parity mismatch at 4\d %/.test(label)),
    );
    expect(await page.locator("rect.mark.mismatch").count()).toBeGreaterThanOrEqual(3);
    await page.setViewportSize({ width: 800, height: 460 });
    await readmePicture(page, "array");
    await page.goto(`${url}#/arrays`);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize({ width: 390, height: 560 });
    await page.getByRole("heading", { level: 1, name: "Arrays" }).waitFor();
    await readmePicture(page, "phone");
    await page.emulateMedia({ colorScheme: "light" });
    await page.goto(`${url}#/arrays/tank`);
  });

  test(`page: a sector takes no write: on its own member's strip ${NEEDS}`, async () => {
    const place = MEMBER_BYTES / 4;
    const fault = { drive: "drive2", op: "write", errno: "EIO", offset: place, bytes: 4096 };
    await daemon.must("POST", "/v1/faults", fault);
    const client = await daemon.connect("tank");
    await mustWrite(client, 2 * place - 4 * MIB, randomBytes(3, 4 * MIB));
    void client.disconnect();
    await until("one strip has the mark", async () => {
      const marked = (await strips()).filter((label) => /bad sectors at 2\d %/.test(label));
      return marked.length === 1 && /^role 2, drive2:/.test(marked[0] ?? "");
    });
    await picture(page, "bad-sectors");
    await daemon.must("DELETE", "/v1/faults");
  });

  test(`page: events: live, and found by a filter ${NEEDS}`, async () => {
    await page.goto(`${url}#/events`);
    await page.setViewportSize(SIZES.desktop);
    const rows = page.locator("table.events tbody tr");
    await page.getByLabel("Words").fill("member.failed drive1");
    await page
      .getByRole("status")
      .filter({ hasText: /^1 of \d+$/ })
      .waitFor();
    expect(await rows.first().textContent()).toContain("member.failed");
    await page.getByLabel("Words").fill("drive4");
    expect(await rows.count()).toBeLessThan(3);
    await daemon.must("PUT", "/v1/spares/drive4", {});
    await page.getByRole("row", { name: /PUT \/v1\/spares\/drive4/ }).waitFor();
    await page.getByLabel("Weight").selectOption("critical");
    await page.getByText("No event.").waitFor();
    await page.getByLabel("Words").fill("");
    expect(await rows.allTextContents()).not.toEqual([]);
    for (const text of await rows.allTextContents()) expect(text).toContain("critical");
  });

  test(`page: a schedule is set and changed ${NEEDS}`, async () => {
    await page.goto(`${url}#/schedules`);
    await page.getByRole("button", { name: "Schedule: tank" }).click();
    await confirmDialog(null, "Set");
    await page.getByRole("row", { name: /tank 0 1 \* \* \*/ }).waitFor();
    await page.getByRole("button", { name: "Change: tank" }).click();
    await page.getByLabel("Days a scrub is good for").fill("7");
    await confirmDialog(null, "Set");
    await page.getByRole("row", { name: /7 d/ }).waitFor();
  });

  test(`page: the daemon does not answer: it is said, and taken back ${NEEDS}`, async () => {
    daemon.child.kill("SIGSTOP");
    await page.getByRole("alert").filter({ hasText: "What is shown is old" }).waitFor();
    daemon.child.kill("SIGCONT");
    await page.getByRole("alert").waitFor({ state: "detached" });
    await page.getByText("live").waitFor();
    expect(watched.faults).toEqual([]);
  });

  test(`ui: a link that is good once, to the socket, until Ctrl-C ${NEEDS}`, async () => {
    const words = ["ui", "--run-dir", join(daemon.folder, "run")];
    const child = Bun.spawn([binaryPath(), ...words], { stdout: "pipe", stderr: "inherit" });
    keepTrack(child);
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const link = ((await reader.read()).value ?? "").trim();
    expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/#ticket=[\w-]{43}$/);
    const local = await openPage("dark", "desktop");
    await local.page.goto(link);
    await local.page.getByRole("heading", { name: "tank" }).waitFor();
    expect(local.page.url()).not.toContain("ticket");
    expect((await reader.read()).value).toMatch(/^for another tab: http:.*#ticket=/);
    await local.page.goto(`${local.page.url().split("#")[0]}#/events`);
    await daemon.must("DELETE", "/v1/schedules/tank");
    await local.page.getByRole("row", { name: /DELETE \/v1\/schedules/ }).waitFor();
    await local.page.reload();
    await local.page.getByRole("row", { name: /DELETE \/v1\/schedules/ }).waitFor();
    await local.page.goto(`${local.page.url().split("#")[0]}#/drives`);
    await local.page.getByRole("button", { name: "Withdraw: drive4" }).click();
    await local.page.getByRole("dialog").getByRole("button", { name: "Withdraw" }).click();
    await local.page.getByRole("button", { name: "Share as spare: drive4" }).waitFor();
    const second = await openPage("light", "desktop");
    await second.page.goto(link);
    await second.page.getByLabel("Token").waitFor();
    expect(local.faults).toEqual([]);
    await local.page.context().close();
    await second.page.context().close();
    child.kill("SIGINT");
    expect(await child.exited).toBe(0);
  });

  for (const theme of THEMES) {
    for (const size of Object.keys(SIZES) as Size[]) {
      test(`page: every view, ${theme}, ${size}: no violation ${NEEDS}`, async () => {
        const other = await openPage(theme, size);
        await other.page.goto(url);
        await enterToken(other.page);
        for (const [view, shown] of Object.entries(SHOWN)) {
          await other.page.goto(`${url}#/${view}`);
          await other.page.locator("main h1").waitFor();
          await other.page.locator("main").getByText(shown).first().waitFor();
          await picture(other.page, `${theme}-${size}-${view.replace("/", "-")}`);
          expect([view, await violationsOf(other.page)]).toEqual([view, []]);
          const overflow = await other.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth",
          );
          expect([view, overflow]).toEqual([view, 0]);
        }
        await other.page.goto(`${url}#/arrays/tank`);
        await other.page.getByRole("button", { name: "More members: tank" }).click();
        await other.page.getByRole("dialog").getByLabel(/^Type/).waitFor();
        await picture(other.page, `${theme}-${size}-dialog`);
        expect(await violationsOf(other.page)).toEqual([]);
        await other.page.keyboard.press("Escape");
        await other.page.getByRole("dialog").waitFor({ state: "detached" });
        expect(other.faults).toEqual([]);
        await other.page.context().close();
      });
    }
  }
});
